"""The page holds every score, everything it shows, and nothing from elsewhere."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from psegan.audio import write_audio
from psegan.errors import PseganError
from psegan.evaluation.report import COLUMNS, AudioExample, render_report, summary_table, tables
from psegan.evaluation.results import Results, Row
from psegan.plots import roc_figure, save_figure

SYSTEMS = ("original", "copy-synthesis", "psegan")


def results() -> Results:
    """Different numbers in every cell, for two attackers; utility without an attacker, one of it over folds."""
    rows = []
    number = 0
    for system in SYSTEMS:
        for attacker in ("ignorant", "informed"):
            for metric in ("accuracy", "uar", "eer", "auc"):
                number += 1
                value = 0.1 + number / 1000
                rows.append(
                    Row(
                        system=system, corpus="ravdess", split="paper", attacker=attacker, attribute="emotion",
                        metric=metric, value=value, low=value - 0.05, high=value + 0.05, n=100 + number,
                    )
                )  # fmt: skip
        for fold in (0, 1):
            number += 1
            rows.append(
                Row(
                    system=system, corpus="ravdess", split="paper", fold=fold, attribute="speaker",
                    metric="accuracy", value=0.5 + number / 1000, n=60,
                )
            )  # fmt: skip
    return Results({"chance": {"ravdess": {"emotion": 0.125, "speaker": 1 / 24}}, "commit": "abc</pre>def"}, rows)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, bytes]:
    folder = tmp_path_factory.mktemp("report")
    figure = save_figure(roc_figure({"a": ([0, 1], [0, 1], 0.5)}, "t"), folder / "roc.png")
    write_audio(folder / "a.wav", torch.zeros(800))
    write_audio(folder / "b.flac", torch.zeros(800))
    example = AudioExample(
        "Actor_07/03", "actor 07, <sad>", {"original": folder / "a.wav", "psegan": folder / "b.flac"}
    )
    render_report(results(), {"ROC & more": figure}, [example], folder / "report.html", "Demo <1>")
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, figure.read_bytes(), (folder / "b.flac").read_bytes()


def test_every_cell_is_there(page: tuple[str, bytes, bytes]) -> None:
    text = page[0]
    for row in results().select(attribute="emotion"):
        assert row.low is not None and row.high is not None
        interval = f"{100 * row.low:.1f}–{100 * row.high:.1f}"
        assert f"{100 * row.value:.1f}<small>{interval}</small><small>n = {row.n}</small>" in text
    assert all(f'<th scope="row">{system}</th>' in text for system in SYSTEMS)


def test_folds_are_averaged_and_said_to_be(page: tuple[str, bytes, bytes]) -> None:
    pair = results().select(system="psegan", attribute="speaker")
    mean = sum(row.value for row in pair) / 2
    assert f"{100 * mean:.1f}<small>n = 120, mean of 2</small>" in page[0]


def test_page_says_what_the_numbers_are_worth(page: tuple[str, bytes, bytes]) -> None:
    text = page[0]
    assert text.count("attacker ignorant</h3>") == 1 and text.count("attacker informed</h3>") == 1
    assert "evidence of privacy" in text
    assert "speakers and sentences are shared" in text
    assert "<b>12.5&nbsp;%</b> (a guess among 8 classes)" in text
    assert "never evidence" in text  # of t-SNE


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_page_needs_nothing_from_elsewhere(page: tuple[str, bytes, bytes]) -> None:
    text, png, flac = page
    parser = _Sources()
    parser.feed(text)
    assert parser.links and all(link.startswith("data:") for link in parser.links)
    assert not {"script", "iframe", "object"} & set(parser.tags)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert f"data:image/png;base64,{base64.b64encode(png).decode()}" in parser.links
    assert f"data:audio/flac;base64,{base64.b64encode(flac).decode()}" in parser.links
    assert parser.tags.count("audio") == 2 and parser.tags.count("img") == 1


def test_names_are_escaped(page: tuple[str, bytes, bytes]) -> None:
    text = page[0]
    assert "Demo &lt;1&gt;" in text and "actor 07, &lt;sad&gt;" in text and "ROC &amp; more" in text
    assert "abc&lt;/pre&gt;def" in text and "abc</pre>" not in text
    assert "<details>" in text


def test_tables_prefer_pooled_rows_and_the_attackers_own() -> None:
    common: dict[str, Any] = {
        "system": "psegan",
        "corpus": "emodb",
        "split": "paper",
        "attribute": "gender",
        "metric": "accuracy",
    }
    rows = [
        Row(**common, value=0.1, n=10, fold=0),
        Row(**common, value=0.2, n=20),
        Row(**common, value=0.9, n=30, attacker="informed", seed=1),
        Row(**common, value=0.7, n=30, attacker="informed", seed=2),
        Row(**common, value=0.3, n=40, attacker="ignorant"),
    ]
    gender = [column.attribute for column in COLUMNS].index("gender")
    first, second = tables(Results({}, rows))
    assert (first.attacker, second.attacker) == ("informed", "ignorant")
    cell = first.rows["psegan"][gender]
    assert cell is not None
    assert (cell.text, cell.count, cell.interval) == ("80.0", "n = 30, mean of 2", "")
    cell = second.rows["psegan"][gender]
    assert cell is not None and (cell.text, cell.runs) == ("30.0", 1)
    alone = tables(Results({}, rows[:2]))
    assert [table.attacker for table in alone] == [None]
    cell = alone[0].rows["psegan"][gender]
    assert cell is not None and cell.text == "20.0"


def test_summary_is_aligned() -> None:
    text = summary_table(results())
    blocks = text.split("\n\n")[1:]
    assert len(blocks) == 2 and "ignorant" in blocks[0] and "informed" in blocks[1]
    for block in blocks:
        body = [line for line in block.splitlines() if line.split(" ")[0] in (*SYSTEMS, "chance")]
        assert len(body) == 4 and len({len(line) for line in body}) == 1
        assert len({tuple(m.end() for m in re.finditer(r"\S+", line))[1:] for line in body}) == 1
        assert "12.5" in body[-1] and "50.0" in body[-1] and "4.2" in body[-1]
    assert "not evidence of privacy" in blocks[0] and "not evidence" not in blocks[1]
    assert max(map(len, text.splitlines())) <= 100


def test_no_scores(tmp_path: Path) -> None:
    assert summary_table(Results()) == "no scores"
    render_report(Results(), {}, [], tmp_path / "report.html")
    assert "No scores." in (tmp_path / "report.html").read_text()


def test_bad_files_are_named(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(PseganError, match=r"absent\.png: cannot be read"):
        render_report(Results(), {"a": tmp_path / "absent.png"}, [], out)
    with pytest.raises(PseganError, match=r"a\.svg: the report shows \.png"):
        render_report(Results(), {"a": tmp_path / "a.svg"}, [], out)
    with pytest.raises(PseganError, match=r"a\.mp3: the report plays \.wav and \.flac"):
        render_report(Results(), {}, [AudioExample("i", "l", {"x": tmp_path / "a.mp3"})], out)
    (tmp_path / "empty.png").touch()
    with pytest.raises(PseganError, match=r"empty\.png: is empty"):
        render_report(Results(), {"a": tmp_path / "empty.png"}, [], out)
    (tmp_path / "text.png").write_text("no image at all, only text")
    with pytest.raises(PseganError, match=r"text\.png: is not a PNG"):
        render_report(Results(), {"a": tmp_path / "text.png"}, [], out)
    assert not out.exists()
