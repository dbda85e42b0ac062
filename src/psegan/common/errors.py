"""The exception that users see as a single line."""

import errno
import os
import re
import textwrap
import unicodedata
from collections.abc import Iterator

# lines of jsonargparse's messages that don't help: on other members of a union, and on the value that the user gave
_UNHELPFUL = ("Does not validate against any", "Subtypes:", "Errors", "Expected a <class 'NoneType'>", "Given value")


class PseganError(Exception):
    """A user's error: one line that names the file or key at fault, and the remedy.

    The command line prints it without a traceback and exits with status 1. Any other exception is a defect of this
    package and keeps its traceback.
    """


def printable(text: str) -> str:
    """Text on one line: line breaks and control characters, which names of files may hold, are escaped as Python does."""
    return "".join(one if one.isprintable() or unicodedata.category(one) == "Zs" else repr(one)[1:-1] for one in text)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, then the one that caused it, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def readable(message: str) -> str:
    """The helpful lines of jsonargparse's long error message, as one line."""
    lines = [line.strip(" -:") for line in message.splitlines()]
    helpful = [line for line in lines if line and not line.startswith(_UNHELPFUL)]
    return textwrap.shorten(re.sub("<class '(.*?)'>", r"\1", ": ".join(helpful)), 300)


_FULL = "cannot be written ({}); make room, and run the same command again"
_REFUSED = "cannot be read or written ({}); allow it, or choose another folder"
_NO_FOLDER = "is a file where a folder is needed; choose another folder"
_NAME = "cannot be used ({}); choose another name"
_MANY = "cannot be opened ({}); allow more files (ulimit -n), or ask for fewer --workers"
_BROKEN = "cannot be read or written ({}); check the disk, and run the same command again"
_OF_DISK = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: _FULL, errno.EACCES: _REFUSED, errno.EPERM: _REFUSED,
    errno.EROFS: _REFUSED, errno.EEXIST: _NO_FOLDER, errno.ENOTDIR: _NO_FOLDER, errno.EIO: _BROKEN, errno.ESTALE: _BROKEN,
    errno.ENAMETOOLONG: _NAME, errno.ELOOP: _NAME, errno.EMFILE: _MANY, errno.ENFILE: _MANY,
}  # fmt: skip
"""Errors of the file system that no program can mend."""


def of_disk(error: OSError, otherwise: str = "a file or the output") -> PseganError | None:
    """The user's error that one of the file system stands for; None if it is a defect of this package.

    Args:
        error: as it was raised.
        otherwise: where it happened, if the error itself does not know.
    """
    said = _OF_DISK.get(error.errno or 0)
    where = otherwise if error.filename is None else os.fsdecode(error.filename)
    return None if said is None else PseganError(f"{where}: {said.format(error.strerror)}")
