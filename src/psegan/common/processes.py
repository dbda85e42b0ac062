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
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, TypeVar

from psegan.common.errors import PseganError

Item = TypeVar("Item")
Result = TypeVar("Result")
WORTH_A_PROCESS = 25
"""Recordings: as long as a process takes to start, Griffin-Lim makes about so many."""


def forkserver() -> ForkServerContext:
    """Of processes that fork from one which has imported PyTorch and Lightning, once, and which touches no GPU.

    A fork of this process, with its threads, may hang. This program has one such server, and what it imports is settled
    when the first process starts.
    """
    os.environ.setdefault("TQDM_MININTERVAL", "30")  # seconds; tqdm reads it when imported, and processes write to logs
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["psegan.training.command", "psegan.evaluation.corpora"])
    return context


def unordered(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    begin: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """``work`` of every recording by processes, in the order in which they finish; of a few, in this process.

    Args:
        work: a function of a module, as ``begin``, so that it can be pickled.
        items: its arguments, one a recording.
        workers: processes at most.
        begin: called in every process first.
        arguments: of ``begin``.

    Raises:
        PseganError: a process died, or what ``work`` raises.
    """
    workers = min(workers, math.ceil(len(items) / WORTH_A_PROCESS))
    if workers <= 1:
        with one_thread():
            if begin is not None:
                begin(*arguments)
            yield from map(work, items)
        return
    pool = ProcessPoolExecutor(workers, forkserver(), initializer=_begin, initargs=(Path.cwd(), begin, arguments))
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
    import torch  # takes seconds to import

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _begin(here: Path, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the parent answers for all
    enter(here)
    torch.set_num_threads(1)
    if begin is not None:
        begin(*arguments)


def enter(folder: Path) -> None:
    """Begin a process of :func:`forkserver` in ``folder``, and let it end when its parent does, even a killed one."""
    os.chdir(folder)  # multiprocessing goes back to where the program was started
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers of a killed process would wait for work for ever, and trainings keep their folders."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # files are written whole or not at all
