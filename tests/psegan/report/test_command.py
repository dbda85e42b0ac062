"""``psegan report``: any set of runs becomes one page, and nobody's file is lost."""

import argparse
import os
from pathlib import Path

import pytest

from psegan.common.errors import PseganError
from psegan.report import command as reporting
from psegan.report.page import Page, write_page
from psegan.report.results import Results, Row


def report(*words: object) -> int:
    parser = argparse.ArgumentParser()
    reporting.add_arguments(parser)
    return reporting.main(parser.parse_args([str(word) for word in words]))


def run(folder: Path, seed: int = 0, value: float = 0.3, system: str = "psegan") -> Path:
    folder.mkdir()
    row = Row(
        system=system, corpus="c", split="s", attacker="informed", attribute="emotion", metric="uar", value=value, n=9
    )
    Results({"seed": seed}, [row]).to_json(folder / "results.json")
    write_page(folder, Page(f"Title of {folder.name}"))
    return folder


def test_all_outputs_are_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = run(tmp_path / "a"), run(tmp_path / "b", system="gengan", value=0.4)
    outputs = [tmp_path / "out" / name for name in ("page.html", "tables.md", "tables.tex")]
    assert report(a, b, "-o", outputs[0], "--markdown", outputs[1], "--latex", outputs[2]) == 0
    assert capsys.readouterr().out.split() == [str(path) for path in outputs]
    for path in outputs:
        text = path.read_text()
        assert "30.0" in text and "40.0" in text and "gengan" in text


def test_title_is_the_run_s_where_there_is_one(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a"), run(tmp_path / "b", seed=1)
    out = tmp_path / "page.html"
    report(a, "-o", out)
    assert "<title>Title of a</title>" in out.read_text()
    report(a, b, "-o", out)
    assert "<title>Speech attribute privacy</title>" in out.read_text()


def test_a_run_named_twice_is_one_run(tmp_path: Path) -> None:
    a = run(tmp_path / "a")
    report(a, a / ".", tmp_path / "a/../a", "-o", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("configuration, versions, commit") == 1
    report(a, a / "results.json", "-o", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("configuration, versions, commit") == 1


def test_own_reports_are_overwritten_and_other_files_are_not(tmp_path: Path) -> None:
    a = run(tmp_path / "a")
    page, tables, floats = (tmp_path / name for name in ("page.html", "tables.md", "tables.tex"))
    for _ in range(2):
        report(a, "-o", page, "--markdown", tables, "--latex", floats)
    for other, option in ((a / "results.json", "-o"), (page, "--markdown"), (tables, "--latex")):
        before = other.read_bytes()
        words = [a, option, other, *(() if option == "-o" else ("-o", tmp_path / "new.html"))]
        with pytest.raises(PseganError, match=f"{other.name}: exists and is no report of psegan"):
            report(*words)
        assert other.read_bytes() == before and not (tmp_path / "new.html").exists()
    (tmp_path / "notes.html").write_text("mine")
    report(a, "-o", tmp_path / "notes.html", "--force")
    assert "Title of a" in (tmp_path / "notes.html").read_text()


def test_outputs_must_be_different_files(tmp_path: Path) -> None:
    a = run(tmp_path / "a")
    with pytest.raises(PseganError, match="same name"):
        report(a, "-o", tmp_path / "x", "--markdown", tmp_path / "x")
    with pytest.raises(PseganError, match="is a folder"):
        report(a, "-o", tmp_path)


def test_pipes_devices_and_links_to_themselves_are_neither_read_nor_replaced(tmp_path: Path) -> None:
    a, pipe, loop = run(tmp_path / "a"), tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to("loop")
    for path, reason in (
        (pipe, "is a pipe or a device"),
        (loop, "cannot be read"),
        ("/dev/null", "is a pipe or a device"),
    ):
        with pytest.raises(PseganError, match=f"{path}: {reason}"):
            report(a, "-o", path, "--force")
        with pytest.raises(PseganError, match=f"{path}: {reason}"):
            report(path, "-o", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_run_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    a, page = run(tmp_path / os.fsdecode(b"caf\xe9")), tmp_path / "page.html"
    assert report(a, run(tmp_path / "b", seed=1), "-o", page) == 0
    assert f"{tmp_path}/caf\\udce9" in page.read_text()


def test_runs_that_contradict_each_other_write_nothing(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a"), run(tmp_path / "b", value=0.4)
    with pytest.raises(PseganError, match=r"/a and .*/b differ in emotion uar of psegan"):
        report(a, b, "-o", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
