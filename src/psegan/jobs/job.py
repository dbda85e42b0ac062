"""Jobs: trainings in folders of their own, begun when what they need is complete, and continued when interrupted."""

import contextlib
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tqdm import tqdm

from psegan.common.errors import PseganError
from psegan.common.files import file_hash, read_yaml
from psegan.common.machine import cores, gpu_names
from psegan.common.record import Record
from psegan.jobs.training_process import start_training

RECORD, LOG = "job.json", "log.txt"


@dataclass(frozen=True, eq=False)
class Job:
    """One ``psegan fit`` in a folder of its own.

    Attributes:
        name: in messages.
        folder: of the run.
        configs: overlays, in order.
        values: dotted key → value, laid over them; ``{name}`` in a value stands for what is needed under that name.
        needs: name → a job whose checkpoint the training reads, or a file; other contents make it another training.
        run: settings of ``run`` that make no other training of it, such as W&B's group
            (:class:`psegan.training.loggers.RunSettings`).
        minutes: that it takes one core of the reference machine (:data:`psegan.jobs.estimate.REFERENCE`), if known.

    Raises:
        PseganError: the settings may stop the training before its last epoch, which would count as complete.
    """

    name: str
    folder: Path
    configs: tuple[str, ...]
    values: dict[str, Any]
    needs: dict[str, "Job | Path"] = field(default_factory=dict)
    run: dict[str, str] = field(default_factory=dict)
    minutes: float | None = None

    def __post_init__(self) -> None:
        for key in ("trainer.max_steps", "trainer.max_time"):
            limit = planned(self.configs, self.values, key)
            if str(limit) not in ("None", "null", "-1"):
                raise PseganError(
                    f"{self.name}: {key} is {limit!r}, but a training here ends with its epochs; remove it, and set "
                    "trainer.max_epochs"
                )

    @cached_property
    def checkpoint(self) -> Path:
        """What counts of the training: the best validation's weights where they are kept, or else the last ones."""
        best = planned(self.configs, self.values, "best.monitor") is not None
        return self.folder / "checkpoints" / ("best.ckpt" if best else "last.ckpt")

    @property
    def jobs(self) -> list["Job"]:
        """Those that it needs."""
        return [need for need in self.needs.values() if isinstance(need, Job)]

    @property
    def inputs(self) -> dict[str, Path]:
        """Name → file that the training reads."""
        return {name: need.checkpoint if isinstance(need, Job) else need for name, need in self.needs.items()}

    @cached_property
    def record(self) -> Record:
        """Of the folder, as it was found; what the job needs must be complete.

        Raises:
            PseganError: it holds a training with other settings.
        """
        # contents and not paths, which may be spelt in several ways
        values = dict(self.values)
        if (root := values.get("data.init_args.root")) is not None:
            values["data.init_args.root"] = str(Path(root).resolve())
        overlays = [read_yaml(config) for config in self.configs]
        inputs = {name: file_hash(path) for name, path in self.inputs.items()}
        record = Record(self.folder / RECORD, {"overlays": overlays, "set": values, "inputs": inputs})
        record.refuse_another("training")
        return record

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        ready = all(need.complete if isinstance(need, Job) else need.is_file() for need in self.needs.values())
        return ready and self.record.complete and self.checkpoint.is_file()

    def words(self) -> list[str]:
        """The command behind ``psegan``; run again, it continues what was interrupted."""
        words = ["fit", *(word for config in self.configs for word in ("--config", config))]
        for key, value in self.values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            for name, path in self.inputs.items():
                text = text.replace(f"{{{name}}}", str(path))
            words.append(f"--{key}={text}")
        words.append(f"--run.dir={self.folder}")
        words += [f"--run.{key}={value}" for key, value in self.run.items()]
        return [*words, "--ckpt_path=auto"]

    def start(self, environment: Mapping[str, str]) -> BaseProcess:
        """Begin, or go on, in a process of its own."""
        self.record.begin()
        return start_training(self.words(), self.folder / LOG, environment)

    def failure(self, status: int) -> str:
        """What went wrong when the process ended with an exit status; empty, and noted as complete, if nothing did."""
        log = self.folder / LOG
        if status:
            lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").split("\n")]
            last = next(filter(None, reversed(lines)), "nothing").removeprefix("psegan: error: ")
            killed = f"killed by signal {-status} after " if status < 0 else ""
            return f"{killed}{last} (its log: {log})"
        if not self.checkpoint.is_file():
            return f"{self.name} ended without writing {self.checkpoint}: its configuration saves no such checkpoint"
        self.record.finish()
        return ""


def planned(configs: Sequence[str], values: dict[str, Any], key: str, default: Any = None) -> Any:
    """What the values, or else the overlays, later ones first, say of a dotted key; ``default`` where none names it."""
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


def planned_epochs(
    configs: Sequence[str], values: dict[str, Any], factor: float = 1.0, most: int | None = None
) -> dict[str, int]:
    """What must be laid over a training's settings, so that it takes ``factor`` times its epochs and ``most`` at most.

    Epochs between validations are multiplied as well. Each is rounded, so that the last epochs may come after the last
    validation.
    """
    epochs, between = "trainer.max_epochs", "trainer.check_val_every_n_epoch"
    own = {key: planned(configs, values, key) for key in (epochs, between)}
    found = {key: max(round(one * factor), 1) for key, one in own.items() if one is not None and factor != 1}
    if most is not None:
        wanted = found.get(epochs, own[epochs])
        found[epochs] = most if wanted is None else min(most, int(wanted))
    return found


def run_jobs(jobs: Iterable[Job], workers: int, label: str, watch: Callable[[Job], None] = lambda job: None) -> None:
    """Run jobs and those that they need, each in a process with its share of the cores and its log.

    Complete ones are left alone. One that fails stops those alone that need it. Where there are several GPUs, each job
    gets the one with the fewest.

    Args:
        jobs: in the order in which to begin.
        workers: processes at a time.
        label: of the progress bar.
        watch: called with each job again and again while it runs, and once when it is complete; an error ends all jobs.

    Raises:
        PseganError: a folder holds another training; or a job failed, whose name, log and log's last line are given.
    """
    jobs = _with_needs(jobs)
    done = {job for job in jobs if job.complete}
    waiting = [job for job in jobs if job not in done]
    running: dict[Job, BaseProcess] = {}
    failures: dict[Job, str] = {}
    place: dict[Job, str] = {}
    environment = dict(os.environ)
    gpus = gpu_names()
    bar = tqdm(total=len(jobs), initial=len(done), desc=label, unit="training")
    try:
        while running or any(done.issuperset(job.jobs) for job in waiting):
            ready = [job for job in waiting if done.issuperset(job.jobs)]
            threads = max(cores() // max(min(workers, len(ready) + len(running)), 1), 1)  # a job alone has all cores
            environment["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(threads))
            for job in ready[: workers - len(running)]:
                waiting.remove(job)
                if len(gpus) > 1:
                    taken = Counter(place[one] for one in running)
                    place[job] = environment["CUDA_VISIBLE_DEVICES"] = min(gpus, key=lambda gpu: taken[gpu])
                try:
                    if job.complete:  # what it needs was made again, and came out as before
                        done.add(job)
                    else:
                        running[job] = job.start(environment)
                        bar.set_postfix_str(", ".join(one.name for one in running))
                except PseganError as error:  # its folder holds another training
                    failures[job] = str(error)
            for job in [job for job, process in running.items() if process.exitcode is not None]:
                if failure := job.failure(running.pop(job).exitcode or 0):
                    failures[job] = failure
                else:
                    done.add(job)
                    watch(job)
            for job in running:
                watch(job)
            if ended := len(done) + len(failures) - bar.n:
                bar.update(ended)
            time.sleep(0.05)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
        bar.close()
    if failures:
        first, said = next(iter(failures.items()))
        blocked = f" (and {len(waiting)} that need them have not begun)" if waiting else ""
        raise PseganError(f"{len(failures)} of {len(jobs)} trainings failed{blocked}, {first.name} first: {said}")


def _with_needs(jobs: Iterable[Job]) -> list[Job]:
    """Jobs, each after those that it needs."""
    found: dict[Job, None] = {}  # a set that keeps its order
    for job in jobs:
        found |= dict.fromkeys([*_with_needs(job.jobs), job])
    return list(found)


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
