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
RUNS = sorted(path.parent for path in RESULTS.glob("*/*/results.json"))


def published(run: Path) -> Results:
    return Results.from_json(run / "results.json")


def test_something_is_published(from_repository):
    assert Path("docs/results/ravdess/paper") in RUNS


def test_tables_are_printed_again(from_repository, tmp_path):
    page, tables = tmp_path / "report.html", tmp_path / "tables.md"
    assert cli.run(["report", *map(str, RUNS), "-o", str(page), "--markdown", str(tables)]) == 0
    assert tables.read_text() == (RESULTS / "tables.md").read_text()


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_findings_show_what_the_command_printed(from_repository, run):
    assert _indented(summary_table(published(run))) in (RESULTS / "README.md").read_text()


JUDGED = sorted(path.parent for path in RESULTS.glob("judged-*/results.json"))
"""What public judges say of the released weights, whose attackers are not the published tables'."""
BY_JUDGES = (
    ("words", "moonshine", "wer"), ("speaker", "resemblyzer", "eer"), ("speech", "dnsmos", "overall"),
    ("speech", "level", "loudest_p95"),
)  # fmt: skip
"""Attribute, judge and metric of the columns behind the attackers' in the README's table, and in cards."""


def judged(run: Path, system: str, intervals: bool = False) -> list[str]:
    results, found = published(run), []
    for attribute, judge, metric in BY_JUDGES:
        shown = MEASURES[attribute, metric, True].format
        for row in results.select(system=system, attribute=attribute, judge=judge, metric=metric):
            found.append(shown(row.value) + (f" ({shown(row.low)}–{shown(row.high)})" if intervals else ""))
    return found


def test_the_headline_shows_what_was_published(from_repository):
    attacked = published(RESULTS / "ravdess" / "paper")
    rows = re.findall(r"^\| `([\w-]+)`[^|]*((?:\| +[−+\d.]+ )+)\|$", Path("README.md").read_text(), flags=re.MULTILINE)
    assert len(rows) == 4
    for system, cells in rows:
        found = [
            attacked.select(system=system, attribute="emotion", attacker=attacker, metric="uar")[0].value
            for attacker in ("strongest", "ignorant")
        ]
        shown = [f"{100 * value:.1f}" for value in found] + judged(RESULTS / "judged-ravdess", system)
        assert shown == cells.strip("| ").replace(" ", "").split("|"), system


@pytest.mark.parametrize("run", JUDGED, ids=str)
def test_cards_and_findings_show_what_judges_said(from_repository, run):
    assert _indented(summary_table(published(run)).split("\n\n")[-1]) in (RESULTS / "README.md").read_text()
    card = Path(f"checkpoints/released/psegan-{run.name.removeprefix('judged-')}/README.md").read_text()
    for system in ("original", "copy-synthesis", "psegan"):
        assert f"| {system} | " + " | ".join(judged(run, system, intervals=True)) + " |" in card


SECTIONS = {
    "The released weights, by judges": "judged-ravdess",
    "RAVDESS, in plain words": "ravdess/paper",
    "RAVDESS, split `paper`": "ravdess/paper",
    "RAVDESS, split `speaker-disjoint`": "ravdess/speaker-disjoint",
    "Emo-DB, split `paper`": "emodb/paper",
    "Emo-DB, split `speaker-disjoint`": "emodb/speaker-disjoint",
}
"""How a section of the findings begins → the run whose intervals it may quote."""


def test_every_interval_in_the_findings_is_in_the_results_of_its_run(from_repository):
    number = r"([+−]?[\d.]+)"
    for section in re.split(r"^## ", (RESULTS / "README.md").read_text(), flags=re.MULTILINE):
        text = re.sub(r"\s+", " ", section)
        found = re.findall(rf"{number} \({number}(?:–| to ){number}\)", text)
        runs = [run for start, run in SECTIONS.items() if section.startswith(start)]
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
    measure = MEASURES.get((row.attribute, row.metric, True)) if row.judge else None
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
    found = results.select(system="original", attacker="shuffled-labels", metric="uar")
    (deal,) = [row for row in found if row.fold is None] or found  # of one disjoint fold there are no rows over folds
    chance = header["chance"][deal.corpus]["emotion"]
    assert deal.low <= chance <= deal.high
    assert set(header["evaluation"]["ladder"]) == {"ignorant", "vocoder-aware", "informed", "strongest"}


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
