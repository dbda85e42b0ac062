"""Atomic writes."""

import errno
import os

import pytest

from psegan.common.errors import PseganError, of_disk
from psegan.common.files import append, atomic_path, read_yaml, write_json, write_text


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


def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, full_disk):
    path = tmp_path / "x.txt"
    write_text(path, "old\n")
    with full_disk(1_000):
        for write in (write_text, append):
            with pytest.raises(OSError, match="File too large") as caught:
                write(path, 400 * "new\n")
            assert str(of_disk(caught.value)) == (
                f"{path}: cannot be written (File too large); make room, and run the same command again"
            )
            assert path.read_text() == "old\n"
            assert list(tmp_path.iterdir()) == [path]
        append(path, "new\n")
    assert path.read_text() == "old\nnew\n"


def test_what_the_disk_says_is_the_users_and_what_is_missing_is_ours():
    for number, message in {
        errno.ENOSPC: "x: cannot be written (No space left on device); make room",
        errno.EROFS: "x: cannot be read or written (Read-only file system); allow it, or choose another folder",
        errno.EACCES: "x: cannot be read or written (Permission denied)",
        errno.ENOTDIR: "x: is a file where a folder is needed",
    }.items():
        assert str(of_disk(OSError(number, os.strerror(number), "x"))).startswith(message)
    assert str(of_disk(OSError(errno.ENOSPC, "full"))).startswith("a file or the output: cannot be written (full)")
    assert of_disk(FileNotFoundError(errno.ENOENT, "no such file", "x")) is None
