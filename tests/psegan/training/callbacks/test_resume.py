"""Random states and the log of a continued run."""

import random

import numpy as np
import torch

from psegan.training.callbacks import ExactResume
from psegan.training.loggers import ContinuedCSVLogger


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_states_survive_weights_only(tmp_path):
    callback = ExactResume()
    torch.save(callback.state_dict(), tmp_path / "state.pt")
    expected = draws()
    draws()
    restored = ExactResume()
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    restored.on_train_start(None, None)
    assert draws() == expected
    restored.on_train_start(None, None)  # only once
    assert draws() != expected


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
