"""What the repaired PSEGAN was to reach, beside what its released weights come to: a table of docs/results/README.md."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from tables import published

from psegan.common.errors import PseganError
from psegan.report.results import Results

COPY = "minus-copy-synthesis"


class Bar(NamedTuple):
    """One line of the table.

    Attributes:
        article, before, bar: of RAVDESS, as they are printed: the article's score, that of the weights before the repairs, and
            what was to be reached.
        row: columns of the row of the results that says what was reached.
        shown: the format of its value and interval.
        scale: of them, 100 for percent.
    """

    article: str
    before: str
    bar: str
    row: Mapping[str, Any]
    shown: str = "+.1f"
    scale: float = 100.0


BARS = {
    "emotion accuracy, original, best attacker (today: `strongest`)": Bar(
        "94.9", "89.2", "≥ 92", {"system": "original", "attacker": "strongest", "metric": "accuracy"}, ".1f"
    ),
    "emotion accuracy, PSEGAN, `ignorant`": Bar(
        "14.2", "19.6", "≤ 14.2", {"system": "psegan", "attacker": "ignorant", "metric": "accuracy"}, ".1f"
    ),
    "speaker accuracy, points above the original": Bar(
        "−1.1", "−1.7", "≥ −1.1", {"system": "psegan", "attribute": "speaker", "metric": "accuracy-minus-original"}
    ),
    "WER (Moonshine), points above copy-synthesis": Bar(
        "–", "+59.0", "≤ +10", {"system": "psegan", "judge": "moonshine", "metric": f"wer-{COPY}"}
    ),
    "EER original to protected (Resemblyzer), points above copy-synthesis": Bar(
        "–", "+14.7", "≤ +5", {"system": "psegan", "judge": "resemblyzer", "metric": f"eer-{COPY}"}
    ),
    "DNSMOS, above copy-synthesis": Bar(
        "–", "−0.99", "≥ −0.4", {"system": "psegan", "judge": "dnsmos", "metric": f"overall-{COPY}"}, "+.2f", 1.0
    ),
    "loudest 20 ms, 95th percentile (dB)": Bar(
        "–", "+22.5", "≤ +3", {"system": "psegan", "judge": "level", "metric": "loudest_p95"}, "+.1f", 1.0
    ),
}


def table(runs: Mapping[str, str], unheard: Mapping[str, str] | None = None) -> None:
    """Print the bars, and with intervals what evaluations reached.

    Args:
        runs: corpus → folder of the results of its released weights.
        unheard: corpus → judge that doesn't know its language, whose score is "–".

    Raises:
        PseganError: an evaluation lacks a score, or has several.
    """
    columns = {corpus: published(run) for corpus, run in runs.items()}
    lines = {}
    for text, bar in BARS.items():
        lines[text] = {"article": bar.article, "before": bar.before, "bar": bar.bar}
        for corpus, results in columns.items():
            known = bar.row.get("judge") is None or (unheard or {}).get(corpus) != bar.row["judge"]
            lines[text][corpus] = _reached(results, bar, f"{corpus}: {text}") if known else "–"
    print(pd.DataFrame.from_dict(lines, orient="index").to_markdown(tablefmt="pipe", disable_numparse=True))


def _reached(results: Results, bar: Bar, where: str) -> str:
    rows = results.select(**bar.row)
    if len(rows) != 1:
        raise PseganError(f"{where}: {len(rows)} rows of the results are {dict(bar.row)}, but it must be one")
    value, low, high = (f"{bar.scale * number:{bar.shown}}" for number in (rows[0].value, rows[0].low, rows[0].high))
    return f"{value} ({low}–{high})".replace("-", "−")
