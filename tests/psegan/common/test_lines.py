"""Files of JSON lines survive a kill at any byte."""

import json
from pathlib import Path

import pytest

from psegan.common.lines import Lines

HEADER = {"of": "a test"}


def made(path: Path, *numbers: int) -> Lines:
    lines = Lines(path, HEADER)
    lines.begin()
    for number in numbers:
        lines.add({"number": number})
    return lines


def test_entries_are_added_behind_those_of_before(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert Lines(path, HEADER).found == []
    made(path, 1, 2)
    made(path, 3)
    header, *entries = map(json.loads, Lines(path, HEADER).found)
    assert header == HEADER
    assert [entry["number"] for entry in entries] == [1, 2, 3]


@pytest.mark.parametrize("kept", range(40))
def test_a_torn_line_is_as_good_as_not_written(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "lines.jsonl"
    made(path, 1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    before = Lines(path, HEADER).found
    assert before == whole[:kept].splitlines()[: whole[:kept].count(b"\n")]
    made(path, 3)
    found = Lines(path, HEADER).found
    assert json.loads(found[0]) == HEADER
    assert found[1:] == [*before[1:], b'{"number": 3}']


def test_another_file_can_take_its_place(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    made(path, 1)
    lines = Lines(path, {"of": "another"})
    lines.forget()
    lines.begin()
    assert path.read_text() == '{"of": "another"}\n'
