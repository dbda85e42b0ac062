"""Signals are heeded between pieces of work, and lost nowhere."""

import os
import signal

import pytest

from psegan.common.ending import Ending


@pytest.fixture(autouse=True)
def as_in_the_foreground():
    """Ctrl-C is ignored in what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_it_ends_between_two_pieces(number, raised):
    before, done = signal.getsignal(number), []
    with pytest.raises(raised) as caught, Ending() as ending:
        for piece in ending.between(range(5)):
            if piece == 2:
                os.kill(os.getpid(), number)
            done.append(piece)
    assert done == [0, 1, 2] and signal.getsignal(number) is before
    assert raised is KeyboardInterrupt or caught.value.code == 128 + number


def test_a_second_signal_ends_it_at_once():
    with pytest.raises(KeyboardInterrupt), Ending():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it goes on")


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Ending() as ending:
            os.kill(os.getpid(), signal.SIGINT)
            ending.heed()
    finally:
        signal.signal(signal.SIGINT, before)
