"""The page holds every score, everything it shows, and nothing from elsewhere."""

import base64
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from psegan.common.errors import PseganError
from psegan.report.page import (
    GENERATOR,
    AudioExample,
    Page,
    PublishedRun,
    read_page,
    read_run,
    render_runs,
    write_page,
)
from psegan.report.results import Results, Row, merge
from psegan.report.tables import sections

Writer = Callable[[Path, Results], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, invented: Callable[[int], Results], run_writer: Writer) -> Path:
    return run_writer(tmp_path_factory.mktemp("report") / "run", invented(0))


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    render_runs([read_run(run)], run.parent / "report.html", "Demo <1>")
    return (run.parent / "report.html").read_text(encoding="utf-8")


def minimal() -> Results:
    row = Row(
        system="psegan", corpus="c", split="s", attacker="ignorant", attribute="emotion", metric="uar", value=0.3, n=9
    )
    return Results({"seed": 0}, [row])


def test_every_cell_is_there(page: str, invented: Callable[[int], Results]) -> None:
    shown = set(re.findall(r"<td class=\"[^\"]*\" *>(.*?)</td>", page))
    for table in (t for section in sections(merge({"run": invented(0)})) for t in section.tables):
        assert f'aria-label="{table.name}, {table.title}, {table.corpus}, split {table.split}"' in page
        for cell in table.frame.to_numpy().ravel():
            value = f"<b>{cell.text}</b>" if cell.marked else cell.text
            assert (f"{value}<small>{cell.interval}</small>" if cell.interval else value) in shown
    assert all(
        re.search(rf'<th class="row_heading[^>]*>{s}</th>', page) for s in ("original", "psegan", "psegan-no-sm")
    )


def test_page_says_what_the_numbers_are_worth(page: str) -> None:
    assert "Speakers shared: training and test share speakers" in page
    assert "This is the headline" in page and "intervals overlap have not been shown to differ" in page
    assert "Emotion accuracy of the attackers on original speech: strongest" in page
    assert "Chance check, shuffled-labels" in page
    assert "n = 1440 utterances; seed 0; chance accuracy: emotion 12.5, speaker 4.2" in page
    assert "No attacker here heard protected speech" not in page


def test_page_warns_where_no_attacker_heard_protected_speech(tmp_path: Path) -> None:
    render_runs([PublishedRun("run", minimal(), Page("t", {}, []))], tmp_path / "report.html")
    assert "No attacker here heard protected speech" in (tmp_path / "report.html").read_text()


def test_page_says_which_part_of_the_folds_a_table_is(tmp_path: Path) -> None:
    common = {
        "corpus": "c",
        "split": "speaker-disjoint",
        "attribute": "emotion",
        "metric": "uar",
        "attacker": "informed",
    }
    rows = [Row(system=name, value=0.3, n=9, fold=0, **common) for name in ("psegan", "psegan-no-sm")]
    render_runs([PublishedRun("run", Results({"folds": {"c": 6}}, rows), Page("t", {}, []))], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("<table") == text.count('<span class="soft">1 of 6 folds, n = 9</span>') > 0


def test_scores_that_no_table_shows_leave_none(tmp_path: Path) -> None:
    row = Row(system="psegan", corpus="c", split="s", attribute="speech", metric="warmth", value=0.3, n=9)
    render_runs([PublishedRun("run", Results({}, [row]), Page("t", {}, []))], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "No scores." in text and "<table" not in text


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_page_needs_nothing_from_elsewhere(page: str, run: Path) -> None:
    parser = _Sources()
    parser.feed(page)
    assert all(link.startswith("data:") or link.removeprefix("#") in parser.ids for link in parser.links)
    assert not {"script", "iframe", "object"} & set(parser.tags)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert parser.tags.count("audio") == 6 and parser.tags.count("img") == 4
    for path, kind in {"figures/roc_emotion.png": "image/png", "audio/1-psegan.flac": "audio/flac"}.items():
        assert f"data:{kind};base64,{base64.b64encode((run / path).read_bytes()).decode()}" in parser.links


def test_figures_stand_under_the_article_s_numbers(page: str) -> None:
    parts = re.split(r"<h3>(.*?)</h3>", page)
    under = {heading: re.findall(r'alt="(.*?)"', body) for heading, body in zip(parts[1::2], parts[2::2], strict=True)}
    assert under["Figure 4: waveform and spectrogram"] == ["An utterance"]
    assert under["Figure 6: receiver operating characteristics"] == ["Emotion ROC &amp; more", "Speaker ROC"]
    assert under["More figures"] == ["Confusion"]


def test_names_are_escaped(page: str) -> None:
    assert "<title>Demo &lt;1&gt;</title>" in page and "speaker 01, &lt;sad&gt;" in page
    assert "abc&lt;/pre&gt;def" in page and "abc</pre>" not in page
    assert GENERATOR in page


def test_several_runs_stand_on_one_page(
    run: Path, tmp_path: Path, invented: Callable[[int], Results], run_writer: Writer
) -> None:
    results = invented(1)
    results.header["shortened"] = "no training was longer than 1 epoch(s)"
    other = run_writer(tmp_path / "other", results)
    render_runs([read_run(run), read_run(other)], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("<audio") == 12 and text.count("<img") == 8
    assert "Evaluation &lt;run&gt;" in text and "Evaluation &lt;other&gt;" in text
    assert f"<b>{other}</b>: no training was longer than 1 epoch(s)." in text
    assert "2 seeds: " in text and "Where several seeds ran" in text
    assert text.count('aria-label="Table 1,') == 4  # merged: one a split and corpus


def test_a_page_survives_the_move_of_its_folder(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    page = read_page(moved)
    assert page.title == "Evaluation <run>"
    assert page.figures["Confusion"] == moved / "figures/confusion.png"
    assert page.audio[1] == AudioExample(
        "Actor_02/03",
        "speaker 02, <sad>",
        {
            "original": moved / "audio/2-original.wav",
            "copy-synthesis": moved / "audio/2-copy-synthesis.flac",
            "psegan": moved / "audio/2-psegan.flac",
        },
    )


def test_a_run_that_lacks_figures_and_recordings_is_reported_without_them(run: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(run, tmp_path / "bare")
    shutil.rmtree(bare / "audio")
    (bare / "figures/confusion.png").unlink()
    render_runs([read_run(bare)], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("<img") == 3 and "<audio" not in text and ">Listen<" not in text
    assert "Not shown, since the run's folder lacks them: figures/confusion.png, audio/1-original.wav" in text.replace(
        "&#39;", "'"
    )
    (bare / "page.json").unlink()
    assert read_run(bare).page == Page("bare")


def test_page_files_must_lie_in_the_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=r"secret\.png"):
        write_page(tmp_path / "run", Page("t", {"x": tmp_path / "secret.png"}))
    (tmp_path / "run/page.json").write_text('{"title": "t", "figures": {"x": "../secret.png"}, "audio": []}')
    with pytest.raises(PseganError, match=r"page\.json: names \.\./secret\.png, which lies outside"):
        read_page(tmp_path / "run")


def test_a_figure_that_is_cut_short_is_named(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "figures/roc_speaker.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(PseganError, match=r"figures/roc_speaker\.png: is cut short"):
        render_runs([read_run(broken)], tmp_path / "page.html")


@pytest.mark.parametrize(
    "content", ["{", "[]", "[" * 100_000, '{"title": "t"}', '{"title": "t", "figures": [], "audio": []}',
                '{"title": "t", "figures": {"x": "x.txt"}, "audio": []}',
                '{"title": "t", "figures": {}, "audio": [{"id": "x"}]}', '{"title": "t", "figures": {"x": 3}, "audio": []}'],
)  # fmt: skip
def test_malformed_page_files_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "page.json").write_text(content)
    with pytest.raises(PseganError, match=r"page\.json: is malformed") as caught:
        read_page(tmp_path)
    assert "\n" not in str(caught.value)


def test_runs_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(PseganError, match=r"absent: no such file"):
        read_run(tmp_path / "absent")
    with pytest.raises(PseganError, match=r"results\.json: no such file"):
        read_run(tmp_path)


def test_a_run_may_be_named_by_its_file(run: Path) -> None:
    assert read_run(run / "results.json").results.rows == read_run(run).results.rows
    assert read_run(run / "results.json").page == read_run(run).page


def test_results_of_another_schema_are_named(run: Path, tmp_path: Path) -> None:
    content = json.loads((run / "results.json").read_text())
    content["header"]["schema"] = 0
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(PseganError, match=rf"{tmp_path.name}/results\.json: has schema 0"):
        read_run(tmp_path)
