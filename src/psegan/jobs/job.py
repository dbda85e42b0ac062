"""Trainings as stages: each in a folder of its own, skipped when complete, continued when interrupted."""

import contextlib
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tqdm import tqdm

from psegan.common.errors import PseganError
from psegan.common.files import file_hash, read_yaml
from psegan.common.machine import cores, devices, gpu_names
from psegan.common.record import Record
from psegan.jobs.training_process import start_training


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        PseganError: another process holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PseganError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from None
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PseganError(f"{folder}: another psegan is at work there; wait until it has ended") from None
        yield


@dataclass(frozen=True, eq=False)
class Fit:
    """One ``psegan fit`` in a folder of its own.

    Attributes:
        name: in messages.
        run: its folder.
        configs: overlays, in order.
        values: dotted key → value, laid over them; ``{name}`` in a value stands for one of the files.
        files: name → what the training reads of earlier stages; a change of the contents makes it another training.
        group: of W&B.
        result: the checkpoint that counts, ``last.ckpt`` or, where the overlays keep it, ``best.ckpt``.
    """

    name: str
    run: Path
    configs: tuple[str, ...]
    values: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)
    group: str | None = None
    result: str = "last.ckpt"

    @property
    def checkpoint(self) -> Path:
        """What the training leaves."""
        return self.run / "checkpoints" / self.result

    @cached_property
    def record(self) -> Record:
        """What the folder was made from, as it was found.

        Raises:
            PseganError: it holds a training with other settings.
        """
        # contents and not paths, which may be spelt in several ways
        root = self.values.get("data.init_args.root")
        resolved = {} if root is None else {"data.init_args.root": str(Path(root).resolve())}
        overlays = [read_yaml(config) for config in self.configs]
        inputs = {name: file_hash(path) for name, path in self.files.items()}
        settings = {"overlays": overlays, "set": self.values | resolved, "inputs": inputs}
        record = Record(self.run / "stage.json", settings)
        if record.difference:
            raise PseganError(
                f"{self.run} was made with other settings ({record.difference}); remove it, or choose another folder "
                "with --out"
            )
        return record

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.record.complete and self.checkpoint.is_file()

    def words(self) -> list[str]:
        """The command behind ``psegan``; run again, it continues what was interrupted."""
        words = ["fit", *(word for config in self.configs for word in ("--config", config))]
        for key, value in self.values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            for name, path in self.files.items():
                text = text.replace(f"{{{name}}}", str(path))
            words.append(f"--{key}={text}")
        words.append(f"--run.dir={self.run}")
        if self.group is not None:
            words.append(f"--run.group={self.group}")
        return [*words, "--ckpt_path=auto"]

    def finish(self) -> None:
        """Note that the training is complete.

        Raises:
            PseganError: it left no checkpoint.
        """
        if not self.checkpoint.is_file():
            raise PseganError(
                f"stage {self.name} ended without writing {self.checkpoint}: its configuration saves no such checkpoint"
            )
        self.record.finish()


def planned(configs: Sequence[str], values: dict[str, Any], key: str, default: Any) -> Any:
    """What overlays, and values laid over them, say of a dotted key.

    Args:
        configs: overlays, later ones over earlier ones.
        values: dotted key → value.
        key: dotted.
        default: where none of them names it.
    """
    if key in values:
        return values[key]
    *parents, last = key.split(".")
    for config in reversed(configs):
        found: Any = read_yaml(config)
        for part in parents:
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, dict) and last in found:
            return found[last]
    return default


def prolonged(configs: Sequence[str], values: dict[str, Any], factor: float) -> dict[str, Any]:
    """Epochs, and epochs between validations, that overlays and values plan, times a factor; empty for a factor of 1.

    Each is rounded, so that the last epochs may come after the last validation.
    """
    keys = ("trainer.max_epochs", "trainer.check_val_every_n_epoch")
    own = {key: planned(configs, values, key, None) for key in keys if factor != 1}
    return {key: max(round(epochs * factor), 1) for key, epochs in own.items() if epochs is not None}


def train_all(fits: Sequence[Fit], workers: int, label: str) -> None:
    """Run trainings in processes of their own, ``workers`` at a time, each with its share of the cores and its log.

    Complete ones are left alone. One that fails doesn't stop the others.

    Args:
        fits: in the order in which to begin.
        workers: trainings at a time.
        label: of the progress bar.

    Raises:
        PseganError: a training failed; the message names it, its log and the log's last line.
    """
    waiting = [fit for fit in fits if not fit.complete]
    bar = tqdm(total=len(fits), initial=len(fits) - len(waiting), desc=label, unit="training")
    running: dict[Fit, BaseProcess] = {}
    place: dict[Fit, str] = {}
    shown = ""
    failures: dict[Fit, str] = {}
    threads = str(max(cores() // max(min(workers, len(waiting)), 1), 1))
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    gpus = gpu_names(devices())
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                fit = waiting.pop(0)
                fit.record.begin()
                if len(gpus) > 1:
                    taken = Counter(place.values())
                    place[fit] = environment["CUDA_VISIBLE_DEVICES"] = min(gpus, key=lambda gpu: taken[gpu])
                running[fit] = start_training(fit.words(), log_path(fit), environment)
            names = ", ".join(fit.name for fit in running)
            if names != shown:  # or a log would get a line at every look
                bar.set_postfix_str(names)
                shown = names
            for fit in [fit for fit, process in running.items() if process.exitcode is not None]:
                place.pop(fit, None)
                try:
                    if running.pop(fit).exitcode == 0:
                        fit.finish()
                    else:
                        failures[fit] = f"{_last_line(log_path(fit))} (its log: {log_path(fit)})"
                except PseganError as error:
                    failures[fit] = str(error)
                bar.update()
            time.sleep(0.05)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
        bar.close()
    if failures:
        fit, said = next(iter(failures.items()))
        raise PseganError(f"{len(failures)} of {len(fits)} trainings failed, {fit.name} first: {said}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return said.removeprefix("psegan: error: ")


def log_path(fit: Fit) -> Path:
    """What a training in a process of its own says."""
    fit.run.mkdir(parents=True, exist_ok=True)
    return fit.run / "log.txt"
