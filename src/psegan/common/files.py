"""Writing files so that a half-written one is never taken for whole."""

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


@contextmanager
def atomic_path(path: str | os.PathLike[str], replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it replaces ``path`` if the block succeeds and vanishes otherwise.

    Without ``replace`` a file that is there by then stays, and :class:`FileExistsError` is raised.

    The temporary file keeps the suffix, since writers such as matplotlib and soundfile choose the format by it,
    and lies in the same folder, since a rename is only atomic within one file system.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
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
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def file_hash(path: str | os.PathLike[str]) -> str:
    """First 16 hexadecimal digits of a file's SHA-256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty one.

    Raises:
        PseganError: the file is missing, not YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        remedy = "correct the name, or run psegan from the project's folder"
        raise PseganError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PseganError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict | None):
        raise PseganError(f"{path}: holds no mapping of keys to values, as an experiment file does")
    return content or {}


def commit() -> str | None:
    """The checkout's commit, with a + where files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        described = subprocess.run(command, cwd=here, capture_output=True, text=True)
    except OSError:  # no git on this machine
        return None
    return described.stdout.strip() if described.returncode == 0 else None
