"""Atomic writes, what is a file to read, and YAML."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from psegan.common import files
from psegan.common.errors import PseganError
from psegan.common.files import atomic_path, not_a_file, read_yaml, short_name, write_json, write_text


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


@pytest.mark.parametrize("replace", [True, False])
def test_the_longest_name_is_written(tmp_path, replace):
    path = tmp_path / f"{'é' * 125}.flac"
    assert len(os.fsencode(path.name)) == 255
    with atomic_path(path, replace) as temporary:
        temporary.write_text("whole")
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [(path.name, "whole")]
    write_text(tmp_path / f"a.{'n' * 253}", "an ending that is none")
    assert len(list(tmp_path.iterdir())) == 2


def test_permissions_are_those_of_the_process_which_keeps_its_umask(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.delattr(os, "umask")  # which is of all threads
            write_text(tmp_path / "x", "")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_name_that_is_taken_is_left_alone(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(FileExistsError), atomic_path(path, replace=False) as temporary:
        temporary.write_text("ours")
        path.write_text("theirs")
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("x", "theirs")]


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for name in ("x", "y"):
        with atomic_path(tmp_path / name, replace=False) as temporary:
            temporary.write_text(name)
    test_a_name_that_is_taken_is_left_alone(tmp_path / "taken")
    with monkeypatch.context() as patched, pytest.raises(PermissionError):
        patched.setattr(os, "replace", refuse)
        with atomic_path(tmp_path / "z", replace=False) as temporary:
            temporary.write_text("z")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "x", "y"]
    assert (tmp_path / "x").read_text() == "x"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    script = (
        "import os, signal, sys; from psegan.common.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path:\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "x.wav"
    killed = subprocess.run([sys.executable, "-c", script, str(path)])
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".wav" and left.read_text() == "half"
    (tmp_path / ".psegan-folder").mkdir()  # nobody's temporary file: it stays
    with atomic_path(path) as temporary:
        files._tidy.cache_clear()  # as in another process
        write_text(tmp_path / "y", "y")
        temporary.write_text("whole")  # is still there, for it is being written
    assert sorted(found.name for found in tmp_path.iterdir()) == [".psegan-folder", "x.wav", "y"]
    assert path.read_text() == "whole"


def test_only_regular_files_are_files(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    wanted = {
        "file": "", "link": "", "loop": "cannot be read (Too many levels of symbolic links)", "lost": "no such file",
        "none": "no such file", "pipe": "is a pipe or a device, not a file", ".": "is a folder",
        "file/x": "cannot be read (Not a directory)", "n" * 300: "cannot be read (File name too long)",
        "a\0b": "cannot be read (embedded null byte)",
    }  # fmt: skip
    assert {name: not_a_file(tmp_path / name) for name in wanted} == wanted
    assert not_a_file("/dev/zero") == "is a pipe or a device, not a file"


def test_names_that_are_too_long_are_cut_and_differ():
    assert short_name("a/b") == "a_b"
    names = {short_name(f"{'é' * 200}{number}") for number in range(3)}
    assert len(names) == 3 and all(len(os.fsencode(name)) <= 120 for name in names)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "line 1: expected the node content"), ("a: 1\nb: 2\na: 3\n", "line 3: a is there twice"),
        ("a: {b: 1, b: 1}", "line 1: b is there twice"), ("a: 2026-02-31", "day is out of range"),
        ("a: !!python/name:os.system", "could not determine a constructor"), ("[" * 5_000, "nested too deeply"),
        ("a: \x01", "unacceptable character"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_is_one_line(tmp_path, text, reason):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(PseganError, match=reason) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: is not YAML (") and "\n" not in str(caught.value)


def test_keys_that_are_merged_may_be_replaced(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a {x: 1, y: 1}\nb: {<<: *a, x: 2}\n1: one\n'1': text\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": {"x": 1, "y": 1}, "b": {"x": 2, "y": 1}, 1: "one", "1": "text"}
    (tmp_path / "x.yaml").write_bytes(b"\xff")
    with pytest.raises(PseganError, match="no text in UTF-8"):
        read_yaml(tmp_path / "x.yaml")
