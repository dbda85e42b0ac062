"""A killed run, continued, ends where an uninterrupted one does: weights, optimisers, counters and log."""

import csv
import os
import shutil
import signal

import pytest
import torch

from psegan.jobs.training_process import start_training
from tests.conftest import SHORT_CROPS
from tests.support.compare import same


@pytest.fixture
def fit(psegan_arguments, from_repository, tmp_path):
    """Run ``psegan fit`` for four epochs of crops, in a process of its own; gives its exit status and what it printed."""
    arguments = [a for a in psegan_arguments if "limit_train_batches" not in a and "--run." not in a]

    def run(folder: str, *options: str) -> tuple[int | None, str]:
        words = [
            *arguments, f"--run.dir={tmp_path / folder}", "--run.loggers=[csv]", "--trainer.max_epochs=4",
            *SHORT_CROPS, "--model.init_args.discriminator_warmup=0.25",
            "--trainer.log_every_n_steps=1", "--trainer.check_val_every_n_epoch=1", *options,
        ]  # fmt: skip
        log = tmp_path / "log.txt"
        log.unlink(missing_ok=True)
        process = start_training(words, log, {**os.environ, "OMP_NUM_THREADS": "1"})
        process.join()
        return process.exitcode, log.read_text()

    return run


def checkpoint(tmp_path, folder):
    return torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_run_continues_bit_identically(fit, tmp_path):
    status, said = fit("whole")
    assert status == 0, said
    for epoch, batch in ((0, 5), (2, 3)):  # the first time there is no checkpoint yet, so it begins anew
        status, said = fit(
            "killed", "--trainer.callbacks+=tests.support.killer.KillAt", f"--trainer.callbacks.epoch={epoch}",
            f"--trainer.callbacks.batch={batch}",
        )  # fmt: skip
        assert status == -signal.SIGKILL, said
    assert checkpoint(tmp_path, "killed")["epoch"] == 1, "the state of the last completed epoch"
    status, said = fit("killed", "--ckpt_path=last")
    assert status == 0, said

    expected, found = checkpoint(tmp_path, "whole"), checkpoint(tmp_path, "killed")
    for key in ("state_dict", "optimizer_states", "psegan", "epoch", "global_step"):
        same(expected[key], found[key], key)
    random = next(key for key in expected["callbacks"] if "ExactResume" in key)
    same(expected["callbacks"][random], found["callbacks"][random], "random states")
    assert expected["psegan"]["batches_seen"] == 4 * 7
    assert rows(tmp_path / "whole" / "metrics.csv") == rows(tmp_path / "killed" / "metrics.csv")


def test_a_finished_run_says_so_and_does_nothing(fit, tmp_path):
    """One command, from the beginning on."""
    status, said = fit("run", "--trainer.max_epochs=1", "--ckpt_path=auto")
    assert status == 0, said
    assert "nothing to do" not in said
    before = checkpoint(tmp_path, "run")
    status, said = fit("run", "--trainer.max_epochs=1", "--ckpt_path=auto")
    assert status == 0, said
    assert "complete, trained for 1 epoch(s): nothing to do" in said
    config = (tmp_path / "run" / "config.yaml").read_bytes()
    status, said = fit("run", "--trainer.max_epochs=2", "--ckpt_path=auto", "--model.init_args.distortion_weight=9")
    assert status == 1
    assert "was trained with other settings (model.init_args.distortion_weight was 5.0, now 9.0)" in said
    assert (tmp_path / "run" / "config.yaml").read_bytes() == config, "and left as it is"
    same(before["state_dict"], checkpoint(tmp_path, "run")["state_dict"], "weights")


def test_a_trained_run_is_not_overwritten(fit, tmp_path):
    """Neither by a run from the beginning nor by one that goes on from another run's checkpoint."""
    status, said = fit("run", "--trainer.max_epochs=1")
    assert status == 0, said
    other = shutil.copy(tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "other.ckpt")
    for options in ((), (f"--ckpt_path={other}",)):
        status, said = fit("run", "--trainer.max_epochs=1", *options)
        assert status == 1
        assert "--ckpt_path last" in said
        assert "Traceback" not in said
