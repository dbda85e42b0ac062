"""A killed run, continued, ends where an uninterrupted one does: weights, optimisers, counters and log."""

import csv
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from tests.support.compare import same


@pytest.fixture
def fit(psegan_arguments, from_repository, tmp_path):
    """Run ``psegan fit`` for four epochs of crops, in a process of its own."""
    arguments = [a for a in psegan_arguments if "limit_train_batches" not in a and "--run." not in a]

    def run(folder: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable, "-m", "psegan.cli", *arguments, f"--run.dir={tmp_path / folder}", "--run.loggers=[csv]",
            "--trainer.max_epochs=4", "--data.init_args.crop_seconds=0.5", "--model.init_args.discriminator_warmup=0.25",
            "--trainer.log_every_n_steps=1", "--trainer.check_val_every_n_epoch=1", *options,
        ]  # fmt: skip
        path = os.pathsep.join([str(from_repository / "tests" / "support"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


def checkpoint(tmp_path, folder):
    return torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_run_continues_bit_identically(fit, tmp_path):
    whole = fit("whole")
    assert whole.returncode == 0, whole.stderr
    for epoch, batch in ((0, 5), (2, 3)):  # the first time there is no checkpoint yet, so it begins anew
        killed = fit(
            "killed", "--trainer.callbacks+=killer.KillAt", f"--trainer.callbacks.epoch={epoch}",
            f"--trainer.callbacks.batch={batch}",
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint(tmp_path, "killed")["epoch"] == 1, "the state of the last completed epoch"
    continued = fit("killed", "--ckpt_path=last")
    assert continued.returncode == 0, continued.stderr

    expected, found = checkpoint(tmp_path, "whole"), checkpoint(tmp_path, "killed")
    for key in ("state_dict", "optimizer_states", "psegan", "epoch", "global_step"):
        same(expected[key], found[key], key)
    random = next(key for key in expected["callbacks"] if "ExactResume" in key)
    same(expected["callbacks"][random], found["callbacks"][random], "random states")
    assert expected["psegan"]["batches_seen"] == 4 * 7
    assert rows(tmp_path / "whole" / "metrics.csv") == rows(tmp_path / "killed" / "metrics.csv")


def test_a_finished_run_says_so_and_does_nothing(fit, tmp_path):
    """One command, from the beginning on."""
    first = fit("run", "--trainer.max_epochs=1", "--ckpt_path=auto")
    assert first.returncode == 0, first.stderr
    assert "nothing to do" not in first.stdout
    before = checkpoint(tmp_path, "run")
    again = fit("run", "--trainer.max_epochs=1", "--ckpt_path=auto")
    assert again.returncode == 0, again.stderr
    assert "complete, trained for 1 epoch(s): nothing to do" in again.stdout
    config = (tmp_path / "run" / "config.yaml").read_bytes()
    other = fit("run", "--trainer.max_epochs=2", "--ckpt_path=auto", "--model.init_args.distortion_weight=9")
    assert other.returncode == 1
    assert "was trained with other settings (model.init_args.distortion_weight was 5.0, now 9.0)" in other.stderr
    assert (tmp_path / "run" / "config.yaml").read_bytes() == config, "and left as it is"
    same(before["state_dict"], checkpoint(tmp_path, "run")["state_dict"], "weights")


def test_a_trained_run_is_not_overwritten(fit, tmp_path):
    """Neither by a run from the beginning nor by one that goes on from another run's checkpoint."""
    assert fit("run", "--trainer.max_epochs=1").returncode == 0
    other = shutil.copy(tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "other.ckpt")
    for options in ((), (f"--ckpt_path={other}",)):
        again = fit("run", "--trainer.max_epochs=1", *options)
        assert again.returncode == 1
        assert "--ckpt_path last" in again.stderr
        assert "Traceback" not in again.stderr
