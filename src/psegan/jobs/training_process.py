"""Trainings in processes of their own."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from psegan.common.processes import enter, forkserver


def start_training(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> BaseProcess:
    """Begin ``psegan`` with these words in a process that ends when this one does, even if this one is killed.

    What it prints is added to the log. Its number of threads is OMP_NUM_THREADS of its environment, of which OpenMP
    knows lists: the first number counts.
    """
    log.touch()
    process = forkserver().Process(target=_train, args=(list(words), log.resolve(), dict(environment), Path.cwd()))
    process.start()
    return process


def _train(words: list[str], log: Path, environment: dict[str, str], folder: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    enter(folder)
    sys.argv = ["psegan", *words]

    import torch  # read the environment when it was imported, before this process was forked

    threads = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if threads.isdecimal() and int(threads):  # anything else OpenMP ignores as well
        torch.set_num_threads(int(threads))
    sys.exit(importlib.import_module("psegan.cli").main())  # as `python -m psegan.cli`
