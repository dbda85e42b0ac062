"""Links and paths in the documentation lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "checkpoints/README.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_and_paths_exist(page, from_repository):
    text = page.read_text()
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    for path in re.findall(r"`((?:datamodules|experiments|tests|docs|src)/[\w./-]+)`", text):
        assert Path(path).exists(), path


def test_the_front_page_is_one_page():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 100
