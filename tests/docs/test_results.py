"""What is published under docs/results/ and in the README is what the committed results.json say."""

import re
from pathlib import Path

import pytest

from psegan import cli
from psegan.evaluation.results import Results
from psegan.evaluation.typeset import summary_table

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


def test_the_headline_is_the_first_table(from_repository):
    assert _indented(summary_table(published(RESULTS / "ravdess" / "paper"))) in Path("README.md").read_text()


def test_every_interval_in_the_findings_is_in_the_results(from_repository):
    rows = [row for run in RUNS for row in published(run).rows]
    known = {tuple(f"{100 * value:.1f}" for value in (row.value, row.low, row.high)) for row in rows}
    number = r"([+−]?[\d.]+)"
    text = re.sub(r"\s+", " ", (RESULTS / "README.md").read_text())
    found = re.findall(rf"{number} \({number}(?:–| to ){number}\)", text)
    assert len(found) > 20
    for interval in found:
        assert tuple(value.replace("−", "-").lstrip("+") for value in interval) in known, interval


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
