"""Trainings in processes of their own, forked from one that has imported PyTorch and Lightning, which takes seconds, once."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path


def start_training(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> BaseProcess:
    """Begin ``psegan`` with these words in a process that ends when this one does, even if this one is killed.

    Importing touches no GPU, so that each process may have another one.

    Args:
        words: of the command line, behind ``psegan``.
        log: gets what the process says, behind what it holds already.
        environment: of the process; its OMP_NUM_THREADS is the number of threads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["psegan.training.command", "psegan.evaluation.corpora"])
    process = context.Process(target=_train, args=(list(words), log.resolve(), dict(environment), Path.cwd()))
    process.start()
    return process


def _train(words: list[str], log: Path, environment: dict[str, str], folder: Path) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)  # multiprocessing goes back to where the program was started
    sys.argv = ["psegan", *words]

    import torch  # read the environment when it was imported, before this process was forked

    from psegan import cli

    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.exit(cli.main())


def _end_with_parent() -> None:
    """End a training whose parent was killed, so that a second start finds its folder free."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # a checkpoint is whole or not there
