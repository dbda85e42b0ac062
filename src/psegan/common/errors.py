"""The exception that users see as a single line."""

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
