"""Every table that a page takes from the results is what ``make tables`` would write."""

from pathlib import Path

import pytest
from cogapp import Cog

PAGES = sorted(
    page
    for page in (Path("README.md"), *Path("docs").rglob("*.md"), *Path("checkpoints").rglob("*.md"))
    if "[[[cog" in page.read_text()
)


def test_the_front_page_and_the_cards_have_such_tables(from_repository):
    cards = Path("checkpoints/released").glob("psegan-*/README.md")
    findings, vocoder = Path("docs/results/README.md"), Path("checkpoints/released/vocos/README.md")
    assert {Path("README.md"), findings, vocoder, *cards} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_tables_are_those_of_the_results(page, from_repository):
    assert Cog().main(["cog", "--check", "-P", "-I", "docs", str(page)]) == 0, "run make tables"
