"""Jobs: side by side, apart from each other, after those that they need, and with their failures named."""

import re

import pytest
import torch

from psegan.common.errors import PseganError
from psegan.common.files import file_hash
from psegan.common.machine import gpu_names
from psegan.jobs.job import Job, only_one, planned_epochs, run_jobs

VALUES = {
    "model.init_args.attribute": "gender", "trainer.max_epochs": 1, "trainer.limit_train_batches": 2,
    "trainer.limit_val_batches": 2, "trainer.enable_progress_bar": False, "run.loggers": ["csv"],
    "data.init_args.n_speakers": 4, "data.init_args.n_contents": 2, "data.init_args.n_takes": 2,
}  # fmt: skip
CONFIGS = ("experiments/classifier.yaml", "experiments/corpora/synthetic.yaml")


def test_trainings_side_by_side_fail_apart(from_repository, tmp_path):
    jobs = [
        Job("good", tmp_path / "good", CONFIGS, VALUES),
        Job("bad", tmp_path / "bad", CONFIGS, {**VALUES, "model.init_args.attribute": "mood"}),
    ]
    with pytest.raises(PseganError, match=r"1 of 2 trainings failed, bad first: .*mood.* \(its log: .*log\.txt\)"):
        run_jobs(jobs, 2, "training")
    assert Job("good", tmp_path / "good", CONFIGS, VALUES).complete
    assert not Job("bad", tmp_path / "bad", CONFIGS, jobs[1].values).complete
    assert "fit:" in (jobs[0].folder / "log.txt").read_text()


def test_a_job_waits_for_what_it_needs(from_repository, tmp_path):
    """What is needed comes along, and is run first; what needs a failed job does not begin."""
    first = Job("first", tmp_path / "first", CONFIGS, VALUES)
    encoder = {**VALUES, "model.init_args.encoder_checkpoint": "{start}"}
    second = Job("second", tmp_path / "second", CONFIGS, encoder, {"start": first})
    assert not second.complete
    run_jobs([second], 2, "training")
    assert first.complete and second.complete
    assert second.record.settings["inputs"] == {"start": file_hash(first.checkpoint)}
    bad = Job("bad", tmp_path / "bad", CONFIGS, {**VALUES, "model.init_args.attribute": "mood"})
    third = Job("third", tmp_path / "third", CONFIGS, encoder, {"start": bad})
    with pytest.raises(
        PseganError, match=r"1 of 2 trainings failed \(and 1 that need them have not begun\), bad first"
    ):
        run_jobs([third], 2, "training")
    assert not third.folder.exists()


def test_epochs_have_one_factor_and_one_bound(from_repository):
    configs = ["experiments/attackers/cnn.yaml"]
    epochs, between = "trainer.max_epochs", "trainer.check_val_every_n_epoch"
    own = {epochs: 50, between: 5}
    assert planned_epochs(configs, own) == {}
    assert planned_epochs(configs, own, 2.2) == {epochs: 110, between: 11}
    assert planned_epochs(configs, own, 2.2, 3) == {epochs: 3, between: 11}
    assert planned_epochs([], {epochs: "2"}, most=3) == {epochs: 2}
    assert planned_epochs([], {}, most=3) == {epochs: 3}


def test_a_complete_training_is_left_alone_and_another_refused(from_repository, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a")

    def job(**more: object) -> Job:
        return Job("gender", tmp_path / "run", CONFIGS, {**VALUES, **more}, {"labels": labels})

    run_jobs([job()], 1, "training")
    stamp = job().checkpoint.stat().st_mtime_ns
    assert job().complete
    run_jobs([job()], 1, "training")
    assert job().checkpoint.stat().st_mtime_ns == stamp
    message = r"run holds another training \(set\.seed_everything was None, now 3\)"
    with pytest.raises(PseganError, match=message):
        run_jobs([job(seed_everything=3)], 1, "training")
    labels.write_text("b")
    with pytest.raises(PseganError, match=r"inputs\.labels was"):
        run_jobs([job()], 1, "training")


@pytest.mark.parametrize(("limit", "value"), [("max_time", "00:01:00:00"), ("max_steps", 100), ("max_steps", "100")])
def test_a_training_that_may_stop_before_its_last_epoch_is_none(limit, value, from_repository, tmp_path):
    """It would end well, and count as complete."""
    overlay = tmp_path / "limits.yaml"
    overlay.write_text(f"trainer: {{{limit}: '{value}'}}")
    for configs, values in ((CONFIGS, {**VALUES, f"trainer.{limit}": value}), ((*CONFIGS, str(overlay)), VALUES)):
        with pytest.raises(PseganError, match=f"gender: trainer.{limit} is .* set trainer.max_epochs"):
            Job("gender", tmp_path, configs, values)
    Job("gender", tmp_path, (*CONFIGS, str(overlay)), {**VALUES, "trainer.max_steps": -1, "trainer.max_time": None})


def test_gpus_are_those_that_a_scheduler_left(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpu_names() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert gpu_names() == ["2", "5"]


def test_references_become_paths(from_repository, tmp_path):
    job = Job("x", tmp_path, CONFIGS, {"a.b": ["{one}", "{two}"]}, {"one": tmp_path / "1", "two": tmp_path / "2"})
    assert f'--a.b=["{tmp_path}/1", "{tmp_path}/2"]' in job.words()
    assert not any(re.search(r"\{\w+\}", word) for word in job.words())


def test_a_training_without_the_promised_checkpoint_is_named(from_repository, tmp_path):
    job = Job("gender", tmp_path / "run", CONFIGS, {**VALUES, "best.monitor": "val/uar"})
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    assert re.search(r"ended without writing .*best\.ckpt", job.failure(0))


def test_a_killed_training_is_named_as_such(from_repository, tmp_path):
    """As by the system, for want of memory: its log does not say so."""
    (tmp_path / "log.txt").write_text("Epoch 3\n\n")
    failure = Job("x", tmp_path, CONFIGS, VALUES).failure(-9)
    assert failure == f"killed by signal 9 after Epoch 3 (its log: {tmp_path}/log.txt)"


def test_a_folder_has_one_master(tmp_path):
    refused = pytest.raises(PseganError, match="another psegan is at work there")
    with only_one(tmp_path / "out"), refused, only_one(tmp_path / "out"):
        pass
    with only_one(tmp_path / "out"):
        pass
