"""Ctrl-C and SIGTERM, heeded between two pieces of work."""

import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Ending:
    """Notes Ctrl-C and SIGTERM when they come, so that they are heeded where it suits; a second one ends the process at once.

    An exception that a signal's handler raises is lost if it comes while a C library calls back into Python, as libsndfile
    does for every read: then the work would go on.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as of a job in the background
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def heed(self) -> None:
        """Raise what a signal that came asks for: KeyboardInterrupt, or SystemExit with 128 and its number."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number:
            sys.exit(128 + self.number)

    def between(self, pieces: Iterable[T]) -> Iterator[T]:
        """The pieces of some work; see :meth:`heed` before each."""
        for piece in pieces:
            self.heed()
            yield piece

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
