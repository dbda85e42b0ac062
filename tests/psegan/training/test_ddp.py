"""Two CPU processes (gloo) train one system: their weights stay the same, and a run can be continued exactly."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from psegan.training import command as training
from psegan.weights import read_checkpoint
from tests.conftest import SHORT_CROPS
from tests.support.compare import same

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def fit(psegan_options, trained, tmp_path_factory):
    """Train PSEGAN for two epochs of six batches; gives the run's folder and what each process has witnessed."""

    def run(name: str, devices: int, *options: str) -> tuple[Path, list[dict]]:
        folder = tmp_path_factory.mktemp(name)
        command = [
            sys.executable, "-m", "psegan.cli", *psegan_options, "--trainer.accelerator=cpu",
            f"--trainer.devices={devices}", f"--data.init_args.batch_size={8 // devices}",
            *SHORT_CROPS, "--trainer.limit_train_batches=6", "--trainer.max_epochs=2",
            "--trainer.check_val_every_n_epoch=1",
            f"--privacy.emotion_classifier={trained('emotion')}", f"--privacy.speaker_classifier={trained('speaker')}",
            "--checkpoint.filename={epoch}", "--checkpoint.save_top_k=-1", "--run.loggers=[csv]",
            "--trainer.callbacks+=witness.Witness", f"--trainer.callbacks.folder={folder}", f"--run.dir={folder}",
            *options,
        ]  # fmt: skip
        path = os.pathsep.join([str(REPOSITORY / "tests" / "support"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        return folder, [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(devices)]

    return run


@pytest.fixture(scope="module")
def one(fit):
    return fit("one", 1)


@pytest.fixture(scope="module")
def two(fit):
    return fit("two", 2)


def column(folder, name):
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_two_processes_train_one_system(one, two):
    _, seen = two
    assert seen[0]["ids"] and seen[1]["ids"]
    assert not set(seen[0]["ids"][:24]) & set(seen[1]["ids"][:24]), "each process has its own share of an epoch"
    assert not torch.equal(seen[0]["noise"], seen[1]["noise"]), "and its own noise"
    same(*(process["state"] for process in seen), "weights and batch statistics")
    assert not torch.equal(seen[0]["before"], seen[0]["state"]["generator.unet.output.weight"]), "nothing was learnt"
    # every utterance of the validation set is classified once, by one process or the other
    name = "val/emotion_accuracy_original"
    assert column(two[0], name) == column(one[0], name)


def test_two_processes_lose_what_one_does_on_the_same_batches(one, two):
    """Noise, targets and batch statistics are each process's own, so losses agree as far as these allow."""
    for name in ("generator/total", "discriminator/real", "discriminator/fake", "generator/adversarial"):
        alone, *shares = (
            torch.stack([step[f"train/{name}"] for step in process["losses"]]) for process in (*one[1], *two[1])
        )
        together = torch.stack(shares).mean(0)
        assert len(together) == len(alone) == 12
        torch.testing.assert_close(together.mean(), alone.mean(), rtol=0.1, atol=0.05, msg=name)
        torch.testing.assert_close(together, alone, rtol=0.3, atol=0.1, msg=name)


def test_no_process_waits_for_another_to_log_a_step(two):
    for process in two[1]:
        assert process["collectives"]["in steps"] == []
        assert "all_reduce" in process["collectives"]["between steps"], "the count sees none at all"


def test_a_continued_run_of_two_processes_ends_where_an_uninterrupted_one_does(two, fit):
    whole, seen = two
    continued, again = fit("continued", 2, f"--ckpt_path={whole / 'checkpoints' / 'epoch=0.ckpt'}")
    expected, found = (
        torch.load(folder / "checkpoints" / "epoch=1.ckpt", weights_only=True) for folder in (whole, continued)
    )
    first, second = expected["callbacks"]["ExactResume"]["processes"]
    assert not torch.equal(first["torch"], second["torch"]), "dropout is each process's own"
    for key in ("state_dict", "optimizer_states", "psegan", "epoch", "global_step"):
        same(expected[key], found[key], key)
    same(*(content["callbacks"]["ExactResume"] for content in (expected, found)), "random states")
    for rank in (0, 1):
        same(seen[rank]["state"], again[rank]["state"], f"rank {rank}")
        same(seen[rank]["losses"][6:], again[rank]["losses"], f"losses of rank {rank}")


def test_one_process_goes_on_from_two_with_other_batches_in_another_precision(
    two, psegan_options, from_repository, tmp_path, caplog
):
    """As where a cluster grants fewer devices, or other ones: eight utterances a step as before."""
    folder = shutil.copytree(two[0], tmp_path / "run")
    (folder / "checkpoints" / "epoch=0.ckpt").rename(folder / "checkpoints" / "last.ckpt")
    with caplog.at_level("INFO"):
        cli = training.main([
            *psegan_options, "--trainer.accelerator=cpu", *SHORT_CROPS,
            "--trainer.limit_train_batches=6", "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1",
            "--trainer.precision=bf16-mixed", "--run.loggers=[csv]",
            "--ckpt_path=last", f"--run.dir={folder}",
        ])  # fmt: skip
    assert "data.init_args.batch_size was 4, now 8, so that the run differs" in caplog.text
    assert "random states of 2 process(es), and 1 train now" in caplog.text
    assert cli.trainer.precision == "bf16-mixed"
    before, after = (
        read_checkpoint(run / "checkpoints" / name) for run, name in ((two[0], "epoch=0.ckpt"), (folder, "last.ckpt"))
    )
    assert (after["epoch"], after["psegan"]["batches_seen"]) == (1, 12)
    for name, weights in after["state_dict"].items():
        assert weights.isfinite().all() and weights.dtype == before["state_dict"][name].dtype, name
    trained = "generator.unet.output.weight"
    assert not torch.equal(before["state_dict"][trained], after["state_dict"][trained])
    assert len(column(folder, "val/distortion")) == 2
