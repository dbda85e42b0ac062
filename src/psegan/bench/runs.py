"""Trainings as users have them: one with all that is measured and drawn, and one that is killed and continued."""

import csv
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from psegan.bench.fit import SYNTHETIC, Figure, Setting, is_loss
from psegan.common.errors import PseganError
from psegan.jobs.training_process import start_training
from psegan.training import command as training

RESUME_BOUND = 0.02
"""Largest difference of a loss or score between a continued run and a whole one, where two whole runs differ at all."""


def everything(setting: Setting) -> Iterator[Figure]:
    """``psegan fit`` in mixed precision with loggers, privacy metrics, figures and samples.

    Raises:
        PseganError: a score is not finite, or there are no samples.
    """
    precision = f"--trainer.precision={setting.precisions[-1]}"
    options = [precision, "--run.loggers=[csv,tensorboard]", "--samples.n_utterances=1"]
    for attribute in ("emotion", "speaker"):
        configs = ["experiments/classifier.yaml", SYNTHETIC]
        training.main(setting.words(attribute, configs, precision, f"--model.init_args.attribute={attribute}"))
        checkpoint = setting.folder / attribute / "checkpoints" / "last.ckpt"
        options.append(f"--privacy.{attribute}_classifier={checkpoint}")
    words = setting.psegan("fit", [SYNTHETIC], *options)
    started = time.perf_counter()
    cli = training.main(words)
    yield "fit/epoch", (time.perf_counter() - started, "s, with start, validation and samples")
    yield from setting.memory("fit")
    for name in ("val/distortion", "val/emotion_uar", "val/speaker_eer"):
        score = float(cli.trainer.callback_metrics[name])
        if not math.isfinite(score):
            raise PseganError(f"{name} is {score}")
        yield f"fit/{name}", (score, "")
    if not list((setting.folder / "fit" / "audio").rglob("*-protected-*.wav")):
        raise PseganError("psegan fit has written no samples")


def killed_and_continued(setting: Setting) -> Iterator[Figure]:
    """Three epochs of ``psegan fit`` in a process, beside three in one that is killed after the first and continued.

    Raises:
        PseganError: what they log differs: at all, or by more than :data:`RESUME_BOUND` where two whole runs differ too.
    """
    words = [
        f"--trainer.precision={setting.precisions[-1]}", "--run.loggers=[csv]", "--trainer.max_epochs=3",
        "--trainer.log_every_n_steps=1", "--trainer.check_val_every_n_epoch=1", "--trainer.deterministic=warn",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}

    def run(name: str, *more: str, kill: bool = False) -> Path:
        folder, log = setting.folder / name, setting.folder / f"{name}.log"
        process = start_training(setting.psegan(name, [SYNTHETIC], *words, *more), log, environment)
        while kill and process.is_alive():
            if (folder / "checkpoints" / "last.ckpt").is_file():
                process.kill()
            time.sleep(0.01)
        process.join()
        if process.exitcode != (-signal.SIGKILL if kill else 0):
            said = (log.read_text().splitlines() or ["nothing"])[-1]
            raise PseganError(f"the run '{name}' ended with exit status {process.exitcode} and said: {said}")
        return folder

    whole = run("whole")
    repeated = 0.0
    if setting.device == "cuda":  # a CPU computes the same again
        repeated = difference(whole, run("again"))
        yield "resume/repeated", (repeated, "the largest difference of two whole runs")
    run("killed", kill=True)
    continued = difference(whole, run("killed", "--ckpt_path=last"))
    bound = RESUME_BOUND if repeated else 0.0
    yield "resume/continued", (continued, f"the largest difference from a whole run; bound {bound:g}")
    if not continued <= bound:
        raise PseganError(f"a continued run's losses or scores differ by {continued:.3g} from those of a whole one")


def difference(run: Path, other: Path) -> float:
    """The largest of a loss or score between two logs; infinite where one has values that the other lacks."""
    logs = []
    for folder in (run, other):
        with (folder / "metrics.csv").open(newline="") as file:
            rows = csv.DictReader(file)
            logs.append([{name: row[name] for name in row if row[name] and is_loss(name)} for row in rows])
    if [row.keys() for row in logs[0]] != [row.keys() for row in logs[1]]:
        return math.inf
    pairs = [(float(ours[name]), float(theirs[name])) for ours, theirs in zip(*logs, strict=True) for name in ours]
    return float(np.max([abs(ours - theirs) for ours, theirs in pairs]))  # NaN if one is
