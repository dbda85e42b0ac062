"""Read and write files; a file that is being written appears under its name only when it is complete."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from psegan.common.errors import PseganError

MOST_NODES = 100_000
"""Values in a YAML file; a few lines of aliases of aliases would fill any memory."""
_PREFIX = f".psegan-{zlib.crc32(os.fsencode(os.uname().nodename)):08x}-"
"""Of this machine's temporary files: locks may say nothing of another machine that writes into the same folder."""
_WITHOUT_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""What file systems such as FAT answer to a hard link."""


@contextmanager
def atomic_path(path: str | os.PathLike[str], replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path, whose file is renamed to ``path`` if the block succeeds and removed if it fails.

    The temporary file has the ending of ``path``, because matplotlib and soundfile choose the format by it, and lies in
    the same folder, because only a rename within one file system is atomic. It is locked until it is renamed. So one that
    nobody holds was left by a process that was killed, and is removed by the next that writes into the folder.

    Raises:
        FileExistsError: ``replace`` is false and ``path`` exists after the block.
        OSError: the disk is full, for example; it names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(path.parent.absolute())
    temporary, lock = _begin(path)
    try:
        yield temporary
        if replace:
            os.replace(temporary, path)
        else:
            _rename_to_free(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary), temporary):  # an error of writing names no file
            error.filename = path
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(lock)


def _begin(path: Path) -> tuple[Path, int]:
    """A temporary file for ``path``, and the handle that holds its lock for as long as this process lives."""
    ending = path.suffix if len(os.fsencode(path.suffix)) < 100 else ""  # of no format, and the name would be too long
    while True:
        temporary = path.parent / f"{_PREFIX}{secrets.token_hex(8)}{ending}"
        try:
            lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            error.filename = path
            raise
        with suppress(OSError):  # a file system without locks, where nobody can take it for one that was left
            fcntl.flock(lock, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, lock
        os.close(lock)  # another process has removed it, before it was locked


@cache
def _tidy(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder, once in the life of this process."""
    with suppress(OSError):
        for left in folder.glob(f"{_PREFIX}*"):
            with suppress(OSError):  # it is being written, has got its name, or is somebody else's
                lock = os.open(left, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
                finally:
                    os.close(lock)


def _rename_to_free(temporary: Path, path: Path) -> None:
    """Rename a file, unless the new name is taken: that is a FileExistsError."""
    try:
        os.link(temporary, path)  # unlike a rename, it replaces nothing; the old name goes with the temporary file
        return
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # takes the name; a kill here would leave an empty file
    try:
        os.replace(temporary, path)
    except OSError:
        path.unlink()
        raise


MISSING, FOLDER, SPECIAL = "no such file", "is a folder", "is a pipe or a device, not a file"
LOOP = f"cannot be read ({os.strerror(errno.ELOOP)})"
"""Of the answers of :func:`not_a_file`."""


def not_a_file(path: str | os.PathLike[str]) -> str:
    """Why there is no file to read at a path; empty for a regular file and for a link to one.

    Whoever opens a pipe or a device may wait or read for ever.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return MISSING
    except (OSError, ValueError) as error:
        # of a link to itself, a name that is too long or holds a null byte, a folder that may not be entered
        return f"cannot be read ({getattr(error, 'strerror', error)})"
    return "" if stat.S_ISREG(mode) else FOLDER if stat.S_ISDIR(mode) else SPECIAL


def short_name(text: str, most: int = 120) -> str:
    """A name for a file from any text: its slashes become underscores, and what is too long ends in a hash instead."""
    name = text.replace("/", "_")
    if len(os.fsencode(name)) <= most:
        return name
    kept = os.fsencode(name)[: most - 17].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8; what of a file's name is no text is escaped."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def append(path: str | os.PathLike[str], text: str) -> None:
    """Append ``text`` to a file, as UTF-8; after an error the file is as it was before.

    Raises:
        OSError: the disk is full, for example; it names ``path``.
    """
    with Path(path).open("ab", buffering=0) as file:
        before = file.tell()
        try:
            data = memoryview(text.encode("utf-8"))
            while data:  # a disk that is almost full takes a part
                data = data[file.write(data) :]
        except OSError as error:
            file.truncate(before)
            error.filename = path
            raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON; NaN, which JSON lacks, is a ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def file_hash(path: str | os.PathLike[str]) -> str:
    """First 16 hexadecimal digits of a file's SHA-256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class _StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, of which YAML's own would keep the last without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the mapping in a YAML file; an empty file gives an empty mapping.

    Raises:
        PseganError: the file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        remedy = "correct the name, or run psegan from the project's folder"
        raise PseganError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError:
        raise PseganError(
            f"{path}: is not YAML, since it is no text in UTF-8; convert it, or name another file"
        ) from None
    try:
        loader = _StrictLoader(text)
        document = loader.get_single_node()
        if _nodes(document, {}) > MOST_NODES:
            raise PseganError(f"{path}: its aliases multiply to over {MOST_NODES:,} values; write fewer")
        content = None if document is None else loader.construct_document(document)
    except PseganError:
        raise
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise PseganError(f"{path}: is not YAML ({line}{error.problem}); correct it") from None
    except RecursionError:
        raise PseganError(f"{path}: is not YAML (it is nested too deeply, or holds itself); correct it") from None
    except Exception as error:  # PyYAML lets through whatever a value such as the day 2026-02-31 gives
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise PseganError(f"{path}: is not YAML ({reason}); correct it") from None
    if not isinstance(content, dict | None):
        raise PseganError(f"{path}: holds no mapping of keys to values, as an experiment file does")
    return content or {}


def _nodes(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values a document has when each alias is written out."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
        known[id(node)] = 1 + sum(_nodes(child, known) for child in children)
    return known[id(node)]


def commit() -> str | None:
    """The commit of this checkout, with a + if files differ from it; None if the code is in no checkout."""
    git = ["git", "--no-optional-locks"]  # a killed process would leave its lock in the checkout
    here = Path(__file__).parent
    try:
        name, changes = (
            subprocess.check_output([*git, *words], cwd=here, stderr=subprocess.DEVNULL, text=True).strip()
            for words in (["describe", "--always", "--abbrev=12"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):  # no git on this machine, or no checkout
        return None
    return f"{name}+" if changes else name
