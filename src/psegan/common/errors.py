"""The exception that users see as a single line."""

import textwrap

# lines of jsonargparse's messages that don't help: on other members of a union, and on the value that the user gave
_UNHELPFUL = ("Does not validate against any", "Subtypes:", "Errors", "Expected a <class 'NoneType'>", "Given value")


class PseganError(Exception):
    """A user's error: one line that names the file or key at fault, and the remedy.

    The command line prints it without a traceback and exits with status 1. Any other exception is a defect of this
    package and keeps its traceback.
    """


def readable(message: str) -> str:
    """The helpful lines of jsonargparse's long error message, as one line."""
    lines = [line.strip(" -:") for line in message.splitlines()]
    helpful = [line for line in lines if line and not line.startswith(_UNHELPFUL)]
    return textwrap.shorten(": ".join(helpful), 300)
