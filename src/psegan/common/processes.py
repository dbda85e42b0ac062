"""Worker processes: as many at a time as one asks for, one thread each, gone when their parent is.

joblib's workers wait for five more minutes when their parent is killed, so it does not serve here.
"""

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

import torch

from psegan.common.errors import PseganError

Item = TypeVar("Item")
Result = TypeVar("Result")
WORTH_A_PROCESS = 25
"""Recordings: as long as a process takes to start, Griffin-Lim makes about so many."""


def worth_starting(workers: int, n_recordings: int) -> int:
    """How many of ``workers`` processes are worth starting for so many recordings; 1 means none beside this one."""
    return max(1, min(workers, math.ceil(n_recordings / WORTH_A_PROCESS)))


def unordered(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    begin: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """``work`` of every item, by ``workers`` processes, in the order in which they finish.

    Args:
        work: a function of a module, as ``begin``, so that it can be pickled.
        items: its arguments.
        workers: processes.
        begin: called in every process first.
        arguments: of ``begin``.

    Raises:
        PseganError: a process died, or what ``work`` raises.
    """
    # forks of a process that has imported torch once; a fork of this one, with threads, may hang
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(Path.cwd(), begin, arguments))
    try:
        for done in as_completed([pool.submit(work, item) for item in items]):
            yield done.result()
    except BrokenProcessPool:
        raise PseganError(
            "a worker process died, perhaps for want of memory; run the same command again to go on, with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute as a worker does: more threads would add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _begin(here: Path, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    os.chdir(here)  # multiprocessing goes back to where the program was started
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the parent answers for all
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    if begin is not None:
        begin(*arguments)


def _end_with_parent() -> None:
    """Workers of a killed process would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
