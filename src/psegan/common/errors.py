"""The one exception that users see as a single line."""

import re
import textwrap

# what jsonargparse says of a union's other members, and of a value that the user knows
_UNTELLING = ("Does not validate against any", "Subtypes:", "Errors", "Expected a <class 'NoneType'>", "Given value")


class PseganError(Exception):
    """A user's error: one line that names the file or key and the remedy.

    The command line prints it without a traceback and exits with status 1; everything else that is raised
    is a defect of ours and keeps its traceback.
    """


def readable(message: str) -> str:
    """One line of a complaint of jsonargparse's, which takes many."""
    lines = [line.strip(" -:") for line in message.splitlines()]
    telling = [line for line in lines if line and not line.startswith(_UNTELLING)]
    return textwrap.shorten(re.sub(r"\s+", " ", ": ".join(telling)), 300)
