"""What is published under docs/results/ and in the README is what the committed results.json say."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from psegan import cli
from psegan.report.results import Results, Row
from psegan.report.tables import MEASURES
from psegan.report.typeset import summary_table

RESULTS = Path("docs/results")
REPRODUCED = sorted(path.parent for path in RESULTS.glob("*/*/results.json"))
"""What ``psegan reproduce`` left, which one page shows together."""
RUNS = sorted([*REPRODUCED, *(path.parent for path in RESULTS.glob("*/results.json"))])
RUNGS = {"ignorant", "vocoder-aware", "informed", "strongest"}


def published(run: Path) -> Results:
    return Results.from_json(run / "results.json")


def test_something_is_published(from_repository):
    assert Path("docs/results/ravdess/paper") in REPRODUCED
    assert Path("docs/results/released-ravdess") in RUNS


def test_tables_are_printed_again(from_repository, tmp_path):
    page, tables = tmp_path / "report.html", tmp_path / "tables.md"
    assert cli.run(["report", *map(str, REPRODUCED), "-o", str(page), "--markdown", str(tables)]) == 0
    assert tables.read_text() == (RESULTS / "tables.md").read_text()


@pytest.mark.parametrize("run", REPRODUCED, ids=str)
def test_findings_show_what_the_command_printed(from_repository, run):
    assert _indented(summary_table(published(run))) in (RESULTS / "README.md").read_text()


SECTIONS = {
    "The released weights": ("released-ravdess", "released-emodb", "released-nemo", "ablations-ravdess"),
    "RAVDESS, in plain words": ("ravdess/paper",),
    "RAVDESS, split `paper`": ("ravdess/paper",),
    "RAVDESS, split `speaker-disjoint`": ("ravdess/speaker-disjoint",),
    "Emo-DB, split `paper`": ("emodb/paper",),
    "Emo-DB, split `speaker-disjoint`": ("emodb/speaker-disjoint",),
}
"""How a section of the findings begins → the runs whose intervals it may quote."""


def test_every_interval_in_the_findings_is_in_the_results_of_its_run(from_repository):
    number = r"([+−]?[\d.]+)"
    for section in re.split(r"^## ", (RESULTS / "README.md").read_text(), flags=re.MULTILINE):
        text = re.sub(r"\s+", " ", section)
        found = re.findall(rf"{number} \({number}(?:–| to ){number}\)", text)
        runs = [run for start, members in SECTIONS.items() if section.startswith(start) for run in members]
        assert (len(found) > 7) is bool(runs), section[:40]
        known = {
            tuple(shown(row)(value).replace("−", "-").lstrip("+") for value in (row.value, row.low, row.high))
            for run in runs
            for row in published(RESULTS / run).rows
            if None not in (row.low, row.high)
        }
        for interval in found:
            assert tuple(value.replace("−", "-").lstrip("+") for value in interval) in known, (section[:40], interval)


def shown(row: Row) -> Callable[[float], str]:
    measure = MEASURES.get((row.attribute, row.metric.partition("-minus-")[0], True)) if row.judge else None
    return measure.format if measure else lambda value: f"{100 * value:.1f}"


def test_the_front_page_quotes_the_disjoint_split(from_repository):
    (quoted,) = re.findall(
        r"finds (\d+) %\s+in\s+PSEGAN's\s+speech\s+and\s+(\d+) %\s+in\s+original", Path("README.md").read_text()
    )
    results = published(RESULTS / "ravdess" / "speaker-disjoint")
    found = [results.select(system=s, attacker="strongest", metric="uar")[0].value for s in ("psegan", "original")]
    assert [f"{100 * value:.0f}" for value in found] == list(quoted)


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_every_rung_is_there_and_shuffled_labels_are_at_chance(from_repository, run):
    results = published(run)
    header = results.header
    assert "shortened" not in header and not str(header["evaluation"]["out"]).startswith("/")
    evaluation = header["evaluation"]
    # its name in results of before; and not every system shows what it lets through
    attackers = set(evaluation.get("ladder", evaluation["attackers"])) - {"cut"}
    assert attackers == RUNGS if run in REPRODUCED else attackers <= RUNGS
    assert attackers == {row.attacker for row in results.select(attribute="emotion", metric="uar")} & RUNGS
    if not attackers:  # judges alone listened
        return
    found = results.select(system="original", attacker="shuffled-labels", metric="uar")
    (deal,) = [row for row in found if row.fold is None] or found  # of one disjoint fold there are no rows over folds
    chance = header["chance"][deal.corpus]["emotion"]
    assert deal.low <= chance <= deal.high


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
