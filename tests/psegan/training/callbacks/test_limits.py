"""A training that is stopped within an epoch loses that epoch, and goes on as if it had never been stopped."""

import csv
import itertools
import signal
from types import SimpleNamespace

import pytest

from psegan.common.errors import PseganError
from psegan.training import command as training
from psegan.training.callbacks import Limits
from psegan.weights import read_checkpoint
from tests.conftest import SHORT_CROPS
from tests.support.compare import same


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("limits")


@pytest.fixture
def fit(psegan_options, tiny, from_repository, runs):
    """Train a system for three epochs of three batches, with a validation after each, into a folder of ``runs``."""
    classifier = ["fit", "--config", "experiments/classifier.yaml", *tiny, "--data.init_args.batch_size=8"]
    begins = {
        "psegan": [*psegan_options, *SHORT_CROPS],
        "classifier": [*classifier, "--model.init_args.attribute=emotion"],
    }

    def run(system, folder, *options):
        return training.main([
            *begins[system], "--data.init_args.crop_seconds=0.8", "--trainer.max_epochs=3", "--run.loggers=[csv]",
            "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2", "--trainer.check_val_every_n_epoch=1",
            "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false", "--data.init_args.eval_batch_size=2",
            "--trainer.enable_model_summary=false", f"--run.dir={runs / folder}",
            "--ckpt_path=auto", *options,
        ])  # fmt: skip

    return run


@pytest.fixture
def whole(fit, runs):
    """Gives the folder of a system's uninterrupted training."""

    def folder(system, *options):
        if not (runs / f"whole-{system}").exists():
            fit(system, f"whole-{system}", *options)
        return runs / f"whole-{system}"

    return folder


def assert_same_training(expected, found, names=("last",)):
    for name in names:
        ours, theirs = (read_checkpoint(run / "checkpoints" / f"{name}.ckpt") for run in (found, expected))
        for key in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "psegan"):
            same(theirs[key], ours[key], key)
    assert (found / "metrics.csv").read_text() == (expected / "metrics.csv").read_text(), "the same validations"


def validated(run):
    """The epochs of which metrics.csv holds a validation."""
    with (run / "metrics.csv").open(newline="") as file:
        return {int(row["epoch"]) for row in csv.DictReader(file) if any(row[k] for k in row if k.startswith("val/"))}


BEST = {"psegan": "--best.monitor=val/distortion", "classifier": "--best.monitor=val/loss"}


@pytest.mark.parametrize(
    ("system", "limits"), [("psegan", {11: 2}), ("classifier", {2: 0, 6: 2, 8: 2})], ids=["psegan", "classifier"]
)
def test_a_training_stopped_by_steps_goes_on_as_if_it_had_not_been(system, limits, fit, whole, runs, caplog):
    """Steps → complete epochs: within the first epoch, at the end of one, within the last. A GAN's warm-up is of one phase."""
    options = BEST[system], *(["--model.init_args.discriminator_warmup=0.25"] if system == "psegan" else [])
    expected = whole(system, *options)
    for steps, complete in limits.items():
        with caplog.at_level("INFO"):
            fit(system, system, *options, f"--trainer.max_steps={steps}", "--checkpoint.save_last=true")
        assert caplog.text.count("Stopped by trainer.max_steps") == 1
        assert f"{complete} of 3 epoch(s) are complete" in caplog.text
        assert ("nothing was saved" in caplog.text) == (not complete) == (not (runs / system / "checkpoints").exists())
        caplog.clear()
    fit(system, system, *options)
    assert_same_training(expected, runs / system, ("last", "best"))


@pytest.fixture
def set_clock(monkeypatch):
    """Start a clock that goes a minute further whenever it is asked: at a start, after each batch and each epoch."""

    def start():
        clock = SimpleNamespace(monotonic=itertools.count(step=60).__next__)
        monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", clock)

    return start


def test_time_is_of_each_start(fit, whole, runs, set_clock, caplog):
    def start(minutes):
        set_clock()
        caplog.clear()
        with caplog.at_level("INFO"):
            fit("classifier", "timed", BEST["classifier"], f"--trainer.max_time=00:00:{minutes:02}:00")
        return caplog.text

    with pytest.raises(PseganError, match="ended within the first epoch of this start, which is not kept"):
        start(3)
    for complete in (1, 2):
        said = start(7)
        assert f"Stopped by trainer.max_time within an epoch, which is not kept: {complete} of 3" in said
        assert validated(runs / "timed") == set(range(complete)), "no part of an epoch is validated"
    assert "Stopped" not in start(7)
    assert_same_training(whole("classifier", BEST["classifier"]), runs / "timed", ("last", "best"))


def test_a_stop_at_the_end_of_an_epoch_is_none_within_it(fit, runs, set_clock, caplog):
    set_clock()
    with caplog.at_level("INFO"):
        fit("classifier", "even", "--trainer.max_time=00:00:05:00")
    assert "Stopped by trainer.max_time: 1 of 3 epoch(s) are complete; continue with --ckpt_path auto." in caplog.text
    assert read_checkpoint(runs / "even" / "checkpoints" / "last.ckpt")["epoch"] == 0


def test_a_signal_says_what_is_complete(fit, whole, runs, caplog):
    killer = ["--trainer.callbacks+=tests.support.killer.KillAt", "--trainer.callbacks.epoch=1"]
    killer += ["--trainer.callbacks.batch=1", f"--trainer.callbacks.signal={int(signal.SIGTERM)}"]
    with caplog.at_level("INFO"), pytest.raises(SystemExit) as caught:
        fit("classifier", "ended", BEST["classifier"], *killer)
    assert caught.value.code == 128 + signal.SIGTERM
    assert "Stopped by a signal within an epoch, which is not kept: 1 of 3 epoch(s) are complete" in caplog.text
    fit("classifier", "ended", BEST["classifier"])
    assert_same_training(whole("classifier", BEST["classifier"]), runs / "ended", ("last", "best"))


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"max_steps": -2}, "max_steps is -2"), ({"max_time": "10m"}, "DD:HH"), ({"max_time": {"second": 1}}, "DD:HH")],
)
def test_limits_that_are_none(limits, message):
    with pytest.raises(PseganError, match=message):
        Limits(**limits)
