"""What the commands' parsers have in common."""

import argparse

from psegan.common.errors import PseganError


def require_positive(arguments: argparse.Namespace, *names: str) -> None:
    """Check that whole numbers, where given, are at least 1.

    Raises:
        PseganError: one is not.
    """
    for name in names:
        number = getattr(arguments, name)
        if number is not None and number < 1:
            raise PseganError(f"--{name.replace('_', '-')} is {number}, but must be at least 1")
