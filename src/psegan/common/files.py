"""Read and write files; a file that is being written appears under its name only when it is complete."""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from psegan.common.errors import PseganError

MOST_NODES = 100_000
"""Values in a YAML file; a few lines of aliases of aliases would fill any memory."""


@contextmanager
def atomic_path(path: str | os.PathLike[str], replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path, whose file is renamed to ``path`` if the block succeeds and removed if it fails.

    The temporary file has the ending of ``path``, because matplotlib and soundfile choose the format by it, and lies in
    the same folder, because only a rename within one file system is atomic.

    Raises:
        FileExistsError: ``replace`` is false and ``path`` exists after the block.
        OSError: the disk is full, for example; it names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = path
        raise
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        if not replace:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # takes the name, or fails if somebody has it
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, name, temporary):  # an error of writing names no file
            error.filename = path
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the mapping in a YAML file; an empty file gives an empty mapping.

    Raises:
        PseganError: the file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        document = loader.get_single_node()
        if _nodes(document, {}) > MOST_NODES:
            raise PseganError(f"{path}: its aliases multiply to over {MOST_NODES:,} values; write fewer")
        content = None if document is None else loader.construct_document(document)
    except OSError as error:
        remedy = "correct the name, or run psegan from the project's folder"
        raise PseganError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PseganError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise PseganError(f"{path}: is nested too deeply, or holds itself; correct it") from None
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
