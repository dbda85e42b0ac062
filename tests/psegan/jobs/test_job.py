"""Trainings as stages: side by side, apart from each other, and with their failures named."""

import re

import pytest

from psegan.common.errors import PseganError
from psegan.common.machine import gpu_names
from psegan.jobs.job import Fit, log_path, only_one, train_all

VALUES = {
    "model.init_args.attribute": "gender", "trainer.max_epochs": 1, "trainer.limit_train_batches": 2,
    "trainer.limit_val_batches": 2, "trainer.enable_progress_bar": False, "run.loggers": ["csv"],
    "data.init_args.n_speakers": 4, "data.init_args.n_contents": 2, "data.init_args.n_takes": 2,
}  # fmt: skip
CONFIGS = ("experiments/classifier.yaml", "experiments/corpora/synthetic.yaml")


def test_trainings_side_by_side_fail_apart(from_repository, tmp_path):
    fits = [
        Fit("good", tmp_path / "good", CONFIGS, VALUES),
        Fit("bad", tmp_path / "bad", CONFIGS, {**VALUES, "model.init_args.attribute": "mood"}),
    ]
    with pytest.raises(PseganError, match=r"1 of 2 trainings failed, bad first: .*mood.* \(its log: .*log\.txt\)"):
        train_all(fits, 2, "training")
    assert Fit("good", tmp_path / "good", CONFIGS, VALUES).complete
    assert not Fit("bad", tmp_path / "bad", CONFIGS, fits[1].values).complete
    assert "fit:" in log_path(fits[0]).read_text()


def test_a_complete_training_is_left_alone_and_another_refused(from_repository, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a")

    def fit(**more: object) -> Fit:
        return Fit("gender", tmp_path / "run", CONFIGS, {**VALUES, **more}, {"labels": labels})

    train_all([fit()], 1, "training")
    stamp = fit().checkpoint.stat().st_mtime_ns
    assert fit().complete
    train_all([fit()], 1, "training")
    assert fit().checkpoint.stat().st_mtime_ns == stamp
    message = r"run was made with other settings \(set\.seed_everything was None, now 3\)"
    with pytest.raises(PseganError, match=message):
        train_all([fit(seed_everything=3)], 1, "training")
    labels.write_text("b")
    with pytest.raises(PseganError, match=r"inputs\.labels was"):
        train_all([fit()], 1, "training")


def test_gpus_are_those_that_a_scheduler_left(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_names(3) == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert gpu_names(2) == ["2", "5"]


def test_references_become_paths(from_repository, tmp_path):
    fit = Fit("x", tmp_path, CONFIGS, {"a.b": ["{one}", "{two}"]}, {"one": tmp_path / "1", "two": tmp_path / "2"})
    assert f'--a.b=["{tmp_path}/1", "{tmp_path}/2"]' in fit.words()
    assert not any(re.search(r"\{\w+\}", word) for word in fit.words())


def test_a_training_without_the_promised_checkpoint_is_named(from_repository, tmp_path):
    fit = Fit("gender", tmp_path / "run", CONFIGS, VALUES, result="best.ckpt")
    with pytest.raises(PseganError, match=r"ended without writing .*best\.ckpt"):
        train_all([fit], 1, "training")


def test_a_folder_has_one_master(tmp_path):
    refused = pytest.raises(PseganError, match="another psegan is at work there")
    with only_one(tmp_path / "out"), refused, only_one(tmp_path / "out"):
        pass
    with only_one(tmp_path / "out"):
        pass
