"""Atomic writes."""

import pytest

from psegan.common.files import atomic_path, write_json, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_the_ending_is_kept(tmp_path):
    with atomic_path(tmp_path / "a" / "x.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path / "a"
        temporary.write_text("whole")
    assert (tmp_path / "a" / "x.png").read_text() == "whole"
    assert (tmp_path / "a" / "x.png").stat().st_mode & 0o444 == 0o444


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not (tmp_path / "x.json").exists()
