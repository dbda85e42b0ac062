"""Random states and the log of a continued run."""

import random
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch

from psegan.training.callbacks import ExactResume
from psegan.training.loggers import ContinuedCSVLogger


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize("old", [False, True], ids=["all processes", "the first process, as before"])
def test_states_survive_weights_only(tmp_path, old):
    callback, trainer = ExactResume(), L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    state = callback.state_dict()
    torch.save(state["processes"][0] if old else state, tmp_path / "state.pt")
    expected = draws()
    draws()
    restored = ExactResume()
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    restored.on_train_start(trainer, None)
    assert draws() == expected
    restored.on_train_start(trainer, None)  # only once
    assert draws() != expected


def test_processes_without_a_saved_state_seed_their_own(caplog):
    state, found, first = ExactResume().state_dict(), {}, draws()
    for rank, epoch in ((0, 1), (1, 1), (1, 1), (2, 1), (1, 2)):
        trainer = SimpleNamespace(world_size=3, global_rank=rank, current_epoch=epoch, ckpt_path="last.ckpt")
        callback = ExactResume()
        callback.load_state_dict(state)
        with caplog.at_level("INFO"):
            callback.on_train_start(trainer, SimpleNamespace(seed=0))
        drawn = draws()
        assert found.setdefault((rank, epoch), drawn) == drawn, "the same in every try"
    assert found[0, 1] == first, "the first process has its saved state"
    assert len(set(found.values())) == 4
    assert "random states of 1 process(es), and 3 train now" in caplog.text


def test_the_log_goes_on_and_is_rewound(tmp_path):
    first = ContinuedCSVLogger(tmp_path, name="", version="")
    for epoch in range(3):
        first.log_metrics({"epoch": epoch, "loss": 1.0 / (epoch + 1)}, step=epoch)
    first.save()
    second = ContinuedCSVLogger(tmp_path, name="", version="")
    second.rewind(1)
    second.log_metrics({"epoch": 2, "loss": 0.5, "accuracy": 0.7}, step=2)
    second.save()
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["accuracy,epoch,loss,step", ",0,1.0,0", ",1,0.5,1", "0.7,2,0.5,2"]
