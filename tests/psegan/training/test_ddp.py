"""Two CPU processes (gloo) train one system: it runs, and their weights stay the same."""

import csv
import os
import subprocess
import sys

import torch

from psegan.training import command as training


def test_two_processes_train_psegan(psegan_arguments, trained, from_repository, tmp_path):
    command = [
        sys.executable, "-m", "psegan.cli", *psegan_arguments, "--trainer.accelerator=cpu", "--trainer.devices=2",
        "--trainer.strategy=ddp_find_unused_parameters_true", "--trainer.limit_val_batches=2",
        "--trainer.check_val_every_n_epoch=1", "--run.loggers=[csv]", f"--run.dir={tmp_path / 'run'}",
        f"--privacy.emotion_classifier={trained('emotion')}", f"--privacy.speaker_classifier={trained('speaker')}",
        "--trainer.callbacks+=witness.Witness", f"--trainer.callbacks.folder={tmp_path}",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(from_repository / "tests" / "support"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert seen[0]["ids"] and seen[1]["ids"]
    assert not set(seen[0]["ids"]) & set(seen[1]["ids"]), "each process has its own share"
    assert not torch.equal(seen[0]["noise"], seen[1]["noise"]), "and its own noise"
    for name, value in seen[0]["state"].items():
        if "running" not in name and "num_batches" not in name:  # batch statistics are each process's own
            assert torch.equal(value, seen[1]["state"][name]), name
    assert not torch.equal(seen[0]["before"], seen[0]["state"]["generator.unet.output.weight"]), "nothing was learnt"
    # every utterance of the validation set is judged once, by one process or the other
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        judged = [float(row["val/emotion_accuracy_original"]) for row in csv.DictReader(file)
                  if row["val/emotion_accuracy_original"]]  # fmt: skip
    alone = [*command[3:-2], "--trainer.devices=1", "--trainer.strategy=auto", f"--run.dir={tmp_path / 'alone'}"]
    expected = training.main(alone).trainer.callback_metrics["val/emotion_accuracy_original"]
    assert judged == [float(expected)]


def test_two_processes_lose_what_one_does_on_the_same_batches(psegan_arguments, from_repository, tmp_path):
    """Noise, targets and batch statistics are each process's own, so losses agree as far as these allow."""
    losses = {}
    for name, devices, batch in (("one", 1, 8), ("two", 2, 4)):
        options = [
            "--trainer.accelerator=cpu", f"--trainer.devices={devices}", f"--data.init_args.batch_size={batch}",
            "--trainer.limit_train_batches=6", "--trainer.log_every_n_steps=1", "--trainer.max_epochs=2",
            "--run.loggers=[csv]", f"--run.dir={tmp_path / name}",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "psegan.cli", *psegan_arguments, *options],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["train/generator/total"]]
        assert len(rows) == 12
        losses[name] = {
            key: [float(row[f"train/{key}"]) for row in rows]
            for key in ("generator/total", "discriminator/real", "discriminator/fake", "generator/adversarial")
        }
    for key, alone in losses["one"].items():
        together = torch.tensor(losses["two"][key])
        torch.testing.assert_close(together.mean(), torch.tensor(alone).mean(), rtol=0.1, atol=0.05, msg=key)
        torch.testing.assert_close(together, torch.tensor(alone), rtol=0.3, atol=0.1, msg=key)
