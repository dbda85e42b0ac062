"""The results for people: one self-contained HTML page, and a small table for the terminal."""

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from psegan.errors import PseganError
from psegan.evaluation.results import Results, Row
from psegan.files import write_text


class Column(NamedTuple):
    """A column of the tables; ``better`` says which way the score goes when the protection works."""

    attribute: str
    metric: str
    label: str
    better: str


COLUMNS = (
    Column("emotion", "accuracy", "acc", "↓"),
    Column("emotion", "uar", "UAR", "↓"),
    Column("emotion", "eer", "EER", "↑"),
    Column("emotion", "auc", "AUC", "↓"),
    Column("speaker", "accuracy", "acc", "↑"),
    Column("speaker", "eer", "EER", "↓"),
    Column("gender", "accuracy", "acc", "↑"),
    Column("content", "accuracy", "acc", "↑"),
)
"""What the tables show of an attacker; every other row is in ``results.json`` only."""

ATTACKERS = {
    "ignorant": (
        "The attacker learned from original speech only and never heard protected speech. A low score here is no "
        "evidence of privacy: artifacts of the vocoder alone lower it, and an attacker who adapts may undo it. "
        "Printed for comparison with the article."
    ),
    "vocoder-aware": (
        "The attacker learned from original and copy-synthesised speech, so damage by the vocoder no longer counts as "
        "privacy. It has not heard protected speech: an attacker who adapts may do better."
    ),
    "informed": (
        "The attacker learned from protected speech of its own speakers with true labels. This is what a real "
        "adversary can do, and the number to judge privacy by."
    ),
    "strongest": (
        "The best of several informed attackers, over architectures and seeds. This is the headline: the number to "
        "judge privacy by."
    ),
}
"""What a score of each attacker is worth."""

SPLITS = {
    "paper": "speakers and sentences are shared between training and test, as in the article",
    "speaker-disjoint": "no speaker is in more than one of protector training, attacker training and test",
}
"""What each split means."""

AUDIO_TYPES = {".wav": "audio/wav", ".flac": "audio/flac"}


@dataclass(frozen=True)
class AudioExample:
    """An utterance to listen to.

    Attributes:
        id: of the utterance.
        label: text beside it, as "actor 07, sad".
        clips: WAV or FLAC files by name, as ``{"original": ..., "psegan": ...}``.
    """

    id: str
    label: str
    clips: Mapping[str, Path]


@dataclass(frozen=True)
class Cell:
    """What a table shows of a system in one column: fractions of 1."""

    value: float
    low: float | None
    high: float | None
    n: int
    runs: int

    @property
    def text(self) -> str:
        """The value in percent."""
        return _percent(self.value)

    @property
    def interval(self) -> str:
        """The interval in percent, or empty."""
        return "" if self.low is None or self.high is None else f"{_percent(self.low)}–{_percent(self.high)}"

    @property
    def count(self) -> str:
        """What the value rests on."""
        return f"n = {self.n}" + (f", mean of {self.runs}" if self.runs > 1 else "")


@dataclass(frozen=True)
class Table:
    """One table: the systems of a (corpus, split, attacker).

    Attributes:
        corpus, split, attacker: which; ``attacker`` is none for a corpus and split where nobody attacks.
        rows: by system, a cell for each of :data:`COLUMNS`, none where there is no score.
        chance: of each column as a fraction, none where it isn't known.
    """

    corpus: str
    split: str
    attacker: str | None
    rows: dict[str, list[Cell | None]]
    chance: list[float | None]

    @property
    def classes(self) -> int | None:
        """How many emotions there are if chance is an even guess among them."""
        if not self.chance[0]:
            return None
        inverse = 1 / self.chance[0]
        return round(inverse) if abs(inverse - round(inverse)) < 1e-3 else None


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _cell(rows: Sequence[Row]) -> Cell | None:
    """One cell of all rows of a system and metric.

    A row over all folds and seeds is taken as it is; of several folds or seeds the plain mean is shown, without an
    interval, since their spread is not one.
    """
    if not rows:
        return None
    pooled = [row for row in rows if row.fold is None and row.seed is None]
    pooled = pooled or [row for row in rows if row.fold is None] or list(rows)
    if len(pooled) == 1:
        row = pooled[0]
        return Cell(row.value, row.low, row.high, row.n, 1)
    per_fold: dict[int | None, int] = {}
    for row in pooled:  # seeds score the same utterances again, folds score others
        per_fold[row.fold] = max(per_fold.get(row.fold, 0), row.n)
    return Cell(sum(row.value for row in pooled) / len(pooled), None, None, sum(per_fold.values()), len(pooled))


def _chance(results: Results, corpus: str, column: Column) -> float | None:
    if column.metric in ("eer", "auc"):
        return 0.5
    levels = results.header.get("chance", {}).get(corpus, {})
    level = levels.get(column.attribute)
    return None if level is None else float(level)


def tables(results: Results) -> list[Table]:
    """The tables of the results, in the order in which corpora, splits, attackers and systems occur.

    A score without an attacker (what of the speech survives) is shown beside every attacker of its corpus and split.
    Scores outside :data:`COLUMNS` are left out.
    """
    shown = {(column.attribute, column.metric) for column in COLUMNS}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in results.rows:
        if (row.attribute, row.metric) in shown:
            groups.setdefault((row.corpus, row.split), []).append(row)
    made = []
    for (corpus, split), rows in groups.items():
        attackers: list[str | None] = [name for name in dict.fromkeys(row.attacker for row in rows) if name is not None]
        for attacker in attackers or [None]:
            visible = [row for row in rows if row.attacker in (attacker, None)]
            table: dict[str, list[Cell | None]] = {}
            for system in dict.fromkeys(row.system for row in visible):
                cells = []
                for column in COLUMNS:
                    own = [
                        row
                        for row in visible
                        if (row.system, row.attribute, row.metric) == (system, column.attribute, column.metric)
                    ]
                    # the attacker's own score goes before one that nobody in particular measured
                    cells.append(_cell([row for row in own if row.attacker == attacker] or own))
                table[system] = cells
            chance = [_chance(results, corpus, column) for column in COLUMNS]
            made.append(Table(corpus, split, attacker, table, chance))
    return made


def summary_table(results: Results) -> str:
    """The tables as aligned plain text for the terminal, in percent, without intervals."""
    heads = [f"{column.attribute} {column.label}{column.better}".split(" ") for column in COLUMNS]
    blocks = ["Arrows show which way a score should go under protection."]
    for table in tables(results):
        lines = [["", *(head[0] for head in heads)], ["system", *(head[1] for head in heads)]]
        for system, cells in table.rows.items():
            lines.append([system, *("–" if cell is None else cell.text for cell in cells)])
        lines.append(["chance", *("–" if level is None else _percent(level) for level in table.chance)])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = [
            "  ".join([line[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        text.insert(2, "-" * len(text[0]))
        text.insert(-1, "-" * len(text[0]))
        title = f"{table.corpus}, split {table.split}, attacker {table.attacker or 'none'} (percent)"
        if table.attacker == "ignorant":
            text.append("An ignorant attacker's low emotion score is not evidence of privacy.")
        blocks.append("\n".join([title, *(line.rstrip() for line in text)]))
    return "\n\n".join(blocks) if len(blocks) > 1 else "no scores"


def _data_uri(path: Path, kind: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PseganError(f"{path}: cannot be read ({error.strerror}); the report needs it, so write it anew") from None
    if not content:
        raise PseganError(f"{path}: is empty; the report needs it, so write it anew")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


class _Image(NamedTuple):
    uri: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Two panels side by side would be too small to read in half the page."""
        return self.width > 1.5 * self.height

    @classmethod
    def read(cls, path: Path) -> "_Image":
        uri = _data_uri(path, "image/png")
        start = path.read_bytes()[:24]
        if not start.startswith(b"\x89PNG\r\n\x1a\n") or len(start) < 24:
            raise PseganError(f"{path}: is not a PNG image; the report needs it, so write it anew")
        return cls(uri, *struct.unpack(">II", start[16:24]))


def _audio_uri(path: Path) -> str:
    kind = AUDIO_TYPES.get(path.suffix.lower())
    if kind is None:
        raise PseganError(f"{path}: the report plays {' and '.join(AUDIO_TYPES)} files; convert it to one of them")
    return _data_uri(path, kind)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names come from files, and a page must not run them
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    return environment.get_template("report.html.jinja")


def render_report(
    results: Results,
    figures: Mapping[str, Path],
    audio: Sequence[AudioExample],
    out: Path,
    title: str = "Speech attribute privacy",
) -> None:
    """Write the results as one HTML page that needs no network and no other file.

    Figures and recordings are embedded byte for byte.

    Args:
        results: scores; the header is shown as it is, and ``header["chance"][corpus][attribute]`` gives the chance
            level of accuracies.
        figures: PNG files by title.
        audio: utterances to listen to.
        out: the page, written atomically.
        title: of the page.

    Raises:
        PseganError: a figure or recording cannot be read, or has a format that browsers don't show.
    """
    images = {}
    for name, path in figures.items():
        if Path(path).suffix.lower() != ".png":
            raise PseganError(f"{path}: the report shows .png figures; write it as one of them")
        images[name] = _Image.read(Path(path))
    examples = [
        {
            "id": example.id,
            "label": example.label,
            "clips": {name: _audio_uri(Path(path)) for name, path in example.clips.items()},
        }
        for example in audio
    ]
    page = _template().render(
        title=title,
        tables=tables(results),
        columns=COLUMNS,
        attackers=ATTACKERS,
        splits=SPLITS,
        figures=images,
        examples=examples,
        header=json.dumps(results.header, indent=2, ensure_ascii=False, default=str),
    )
    write_text(out, page)
