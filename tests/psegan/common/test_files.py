"""Atomic writes."""

import pytest

from psegan.common.errors import PseganError
from psegan.common.files import atomic_path, read_yaml, write_json, write_text


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 3_000, "is nested too deeply, or holds itself"),
        ("a: &a [*a]", "is nested too deeply, or holds itself"),
        ("a: &a [1]\n" + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
         "its aliases multiply to over 100,000 values"),
        ("a: [", "is not YAML"),
    ],
)  # fmt: skip
def test_yaml_that_would_take_all_memory_is_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(PseganError, match=message):
        read_yaml(tmp_path / "a.yaml")


def test_aliases_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: 2}")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}], "c": {"x": 1, "y": 2}}
