"""Every table that a page takes from the results is what ``make tables`` would write, and its numbers are those of the rows."""

from pathlib import Path

import pytest
from cogapp import Cog

from psegan.common.errors import PseganError
from psegan.report.results import Results, Row

PAGES = sorted(
    page
    for page in (Path("README.md"), *Path("docs").rglob("*.md"), *Path("checkpoints").rglob("*.md"))
    if "[[[cog" in page.read_text()
)
CARD = Path("checkpoints/released/psegan-ravdess/README.md")


def test_the_front_page_and_the_cards_have_such_tables(from_repository):
    cards = Path("checkpoints/released").glob("psegan-*/README.md")
    findings, vocoder = Path("docs/results/README.md"), Path("checkpoints/released/vocos/README.md")
    assert {Path("README.md"), findings, vocoder, *cards} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_tables_are_those_of_the_results(page, from_repository):
    assert Cog().main(["cog", "--check", "-P", "-I", "docs", str(page)]) == 0, "run make tables"


def printed(page: Path, run: str, line: str, heading: str) -> str:
    """A cell of the table that a page takes from a run, the first with such a heading."""
    for block in page.read_text().split("[[[cog")[1:]:
        call, _, rest = block.partition("]]] -->")
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rest.splitlines() if row.startswith("|")]
        if f'"{run}"' in call and rows and heading in rows[0]:
            (found,) = [row for row in rows if row[0] == line]
            return found[rows[0].index(heading)]
    raise AssertionError(f"{page} has no table of {run} with {heading}")


FRONT, RAVDESS, LIBRISPEECH = Path("README.md"), "released-ravdess", "released-librispeech"
STRONGEST = {"attribute": "emotion", "attacker": "strongest"}


@pytest.mark.parametrize(
    ("page", "run", "line", "heading", "system", "row", "scale", "digits"),
    [
        (FRONT, RAVDESS, "`psegan` (released weights)", "emotion: `strongest`", "psegan",
         {**STRONGEST, "metric": "uar"}, 100, 1),
        (FRONT, RAVDESS, "`psegan` (released weights)", "emotion: `ignorant`", "psegan",
         {"attribute": "emotion", "attacker": "ignorant", "metric": "uar"}, 100, 1),
        (FRONT, RAVDESS, "`original`", "words, WER ↓", "original", {"judge": "moonshine", "metric": "wer"}, 100, 1),
        (FRONT, RAVDESS, "`copy-synthesis` (vocoder alone)", "voice, EER ↓", "copy-synthesis",
         {"judge": "resemblyzer", "metric": "eer"}, 100, 1),
        (FRONT, RAVDESS, "`psegan` (released weights)", "DNSMOS ↑", "psegan", {"judge": "dnsmos", "metric": "overall"}, 1, 2),
        (CARD, RAVDESS, "original", "strongest", "original", {**STRONGEST, "metric": "uar"}, 100, 1),
        (CARD, RAVDESS, "psegan", "residual (strongest)", "psegan", {**STRONGEST, "metric": "residual"}, 100, 1),
        (CARD, RAVDESS, "psegan", "words, WER ↓", "psegan", {"judge": "moonshine", "metric": "wer"}, 100, 1),
        (CARD, RAVDESS, "psegan", "voice, EER ↓", "psegan", {"judge": "resemblyzer", "metric": "eer"}, 100, 1),
        (CARD, LIBRISPEECH, "psegan", "words, WER to what it hears in the original ↓", "psegan",
         {"judge": "moonshine", "metric": "wer_to_original"}, 100, 1),
        (CARD, LIBRISPEECH, "psegan", "DNSMOS ↑", "psegan", {"judge": "dnsmos", "metric": "overall"}, 1, 2),
    ],
)  # fmt: skip
def test_numbers_are_those_of_the_rows(from_repository, page, run, line, heading, system, row, scale, digits):
    """Whatever docs/tables.py makes of them."""
    (found,) = Results.from_json(Path("docs/results") / run / "results.json").select(system=system, **row)
    value, low, high = (f"{scale * number:.{digits}f}" for number in (found.value, found.low, found.high))
    assert printed(page, run, line, heading) == (value if page == FRONT else f"{value} ({low}–{high})")


@pytest.fixture
def tables(from_repository, monkeypatch, tmp_path):
    """docs/tables.py, with the results of two systems in ``made``: one of two folds, an attacker who names one class."""
    monkeypatch.syspath_prepend("docs")
    import tables

    def row(system: str, value: float, attribute: str = "words", metric: str = "wer", **more: object) -> Row:
        of = {"corpus": "made", "split": "speaker-disjoint", "fold": 0, "low": value, "high": value, "n": 9}
        return Row(system=system, attribute=attribute, metric=metric, value=value, **{**of, **more})

    attack = {"attribute": "emotion", "attacker": "strongest"}
    rows = [
        row("original", 0.1, judge="moonshine"), row("psegan", 0.2, judge="moonshine", n=8),
        row("psegan", 0.25, metric="uar", **attack), row("psegan", 1.0, metric="most_predicted", **attack),
        row("psegan", 0.5, attribute="speech", metric="stoi", n=7),
        row("original", 0.5, metric="uar", **attack), row("psegan", -0.25, metric="uar-minus-original", **attack),
        row("other", 0.3, metric="eer", attribute="speaker", judge="resemblyzer"),
    ]  # fmt: skip
    results = Results({"chance": {"made": {"emotion": 0.25}}, "folds": {"made": 2}}, rows)
    (tmp_path / "made").mkdir()
    results.to_json(tmp_path / "made" / "results.json")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    for one in (tables.published, tables._tables):
        one.cache_clear()
    yield tables
    for one in (tables.published, tables._tables):
        one.cache_clear()


def test_a_table_says_what_there_is_to_say_of_its_scores(tables, capsys):
    tables.kept("made", "original", "psegan", columns=tables.WORDS)
    assert "20.0 (20.0–20.0); n = 8" in (said := capsys.readouterr().out)
    assert said.endswith("|\n\nAll scores: 1 of 2 folds.\n")
    tables._print("made", {"ours": "psegan"}, {"found": ("strongest", "UAR ↓")}, intervals=False)
    assert "| 25.0; collapsed: one class in 100 % |" in " ".join(capsys.readouterr().out.split())


def test_differences_are_those_of_pairs(tables, capsys):
    tables.differences("made", "original", "psegan", columns={"found": ("strongest", "UAR ↓")})
    assert "| psegan − original | **−25.0** (−25.0 to −25.0) |" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(PseganError, match="no system original − psegan"):
        tables.differences("made", "psegan", "original", columns={"found": ("strongest", "UAR ↓")})


@pytest.mark.parametrize(
    ("systems", "column", "reason"),
    [
        (("original", "pseagn"), ("moonshine", "WER ↓"), "no system pseagn; there are original, psegan, other"),
        (("original",), ("moonshine", "WER"), "no moonshine: WER; ask for columns that they have"),
        (("original", "psegan"), ("resemblyzer", "EER ↓"), "no asked of original, psegan; leave it out"),
    ],
)
def test_a_table_is_whole_or_an_error(tables, systems, column, reason):
    with pytest.raises(PseganError, match=f"^made: its results have {reason}"):
        tables.kept("made", *systems, columns={"asked": column})


def test_columns_of_other_utterances_are_no_table(tables):
    with pytest.raises(PseganError, match="rest on different utterances"):
        tables.kept("made", "psegan", columns={**tables.WORDS, "STOI ↑": ("speech", "STOI ↑")})
