"""``make gpu`` on the CPU: its parts, tiny, and what it says of those that fail."""

import json
import shutil

import pytest
import torch

from psegan.bench import gpu
from psegan.bench.fit import Setting
from psegan.bench.precision import Trace
from psegan.bench.runs import difference, killed_and_continued

TRAINING = (
    "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2", "--data.init_args.batch_size=4",
    "--data.init_args.eval_batch_size=8", "--data.init_args.crop_seconds=1.6",
)  # fmt: skip
TINY = [
    "--device", "cpu", "--seconds-per-part", "0", "--minutes", "0.1", "--precisions", "bf16-mixed", "--", *TRAINING
]  # fmt: skip


def test_parts(from_repository, tmp_path, capfd):
    out, parts = tmp_path / "gpu.json", [part for part in gpu.PARTS if part != "resume"]
    assert gpu.main(["--parts", *parts, "--out", str(out), "--commit", "abc", *TINY]) == 0
    found = json.loads(out.read_text())
    assert found["torch"] == torch.__version__ and found["commit"] == "abc" and found["device"]
    assert list(found["parts"]) == parts
    figures = {name: one["value"] for part in found["parts"].values() for name, one in part["figures"].items()}
    for name in ("psegan/bf16-mixed", "vocos/bf16-mixed"):
        assert figures[f"{name}/utterances"] == pytest.approx(4 * figures[f"{name}/steps"])
        assert figures[f"{name}/steps"] > 0 and 0 < figures[f"{name}/loading"] < 100
        assert figures[f"{name}/utilisation"] is None, "there is no GPU"
    assert 0 < figures["precision/bf16-mixed/losses"] < 0.05
    assert 0 < figures["precision/bf16-mixed/released"] < 0.25 < figures["precision/released"]
    assert figures["precision/bf16-mixed/skipped"] == 0
    assert figures["protect/recording/cpu"] > 0 and figures["protect/difference"] == 0
    assert 0 <= figures["fit/val/emotion_uar"] <= 1
    table = capfd.readouterr().out
    assert all(name in table for name in figures) and table.count("s: done") == len(parts)


def test_a_killed_training_is_continued(from_repository, trained, tmp_path):
    """The part ``resume``, whose trainings are processes anyway."""
    matcher = tmp_path / "matcher" / "checkpoints"
    matcher.mkdir(parents=True)
    shutil.copy(trained("speaker_matcher"), matcher / "last.ckpt")
    setting = Setting("cpu", tmp_path, ("bf16-mixed",), options=TRAINING)
    ((name, (value, _)),) = killed_and_continued(setting)
    assert (name, value) == ("resume/continued", 0)


def test_a_part_that_fails_leaves_the_others_alone(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)  # there are no experiment files
    assert gpu.main(["--parts", "psegan", "protect", "--out", "gpu.json", *TINY]) == 1
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert "experiments/speaker_matcher.yaml" in parts["psegan"]["failure"] and "\n" not in parts["psegan"]["failure"]
    assert parts["protect"]["failure"] is None and parts["protect"]["figures"]
    said = capfd.readouterr()
    assert parts["psegan"]["failure"] in said.out and "Traceback" not in said.err


def test_a_part_that_takes_too_long_is_stopped(from_repository, tmp_path):
    out = tmp_path / "gpu.json"
    assert gpu.main(["--parts", "protect", "--limit", "0.3", "--out", str(out), *TINY]) == 1
    assert json.loads(out.read_text())["parts"]["protect"]["failure"] == "was stopped after 0 s"


def test_without_a_gpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("psegan: error: torch finds no GPU here") and "--device cpu" in line
    assert not (tmp_path / "gpu.json").exists()


class Plugin:
    """What Lightning has of a scaler."""

    def __init__(self) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        self.precision_plugin = self


def test_skipped_steps_are_counted():
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer, trainer, trace = torch.optim.SGD([weight], lr=0.1), Plugin(), Trace()
    for factor in (1.0, float("inf"), 1.0, float("inf")):
        optimizer.zero_grad()
        trainer.scaler.scale(weight * factor).backward()
        trace.on_before_optimizer_step(trainer, None, optimizer)
        trainer.scaler.step(optimizer)
        trainer.scaler.update()
    trace.on_train_end(trainer, None)
    assert (trace.skipped, trace.steps) == (2, 4)
    assert weight.item() == pytest.approx(0.8), "two steps of 0.1"


def test_logs_of_two_runs(tmp_path):
    logs = {
        "a": "epoch,train/total,train/gradient_norm,val/distortion\n0,1.5,3,\n0,,,0.25\n",
        "b": "epoch,train/total,train/gradient_norm,val/distortion\n0,1.25,4,\n0,,,0.25\n",
        "short": "epoch,train/total,train/gradient_norm,val/distortion\n0,1.5,3,\n",
        "broken": "epoch,train/total,train/gradient_norm,val/distortion\n0,nan,3,\n0,,,0.25\n",
    }
    for name, text in logs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(text)
    against = {name: difference(tmp_path / "a", tmp_path / name) for name in logs}
    assert (against["a"], against["b"], against["short"]) == (0, 0.25, float("inf"))
    assert against["broken"] != against["broken"], "not a number, which is below no bound"
