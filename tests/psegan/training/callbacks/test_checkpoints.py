"""Checkpoints of complete epochs, from which alone a training goes on."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from psegan.common.errors import PseganError
from psegan.systems.classifier import load_classifier
from psegan.training import command as training
from psegan.training.callbacks import BestCheckpoint, EpochCheckpoint
from psegan.training.callbacks.checkpoints import refuse_rivals
from psegan.training.checkpointing import complete_epochs


@pytest.mark.parametrize("option", ["every_n_train_steps", "save_on_exception"])
def test_nothing_saves_last_within_an_epoch(option):
    with pytest.raises(PseganError, match=rf"checkpoint\.{option} would save within an epoch"):
        EpochCheckpoint(**{option: True})


def test_nobody_else_writes_last(tmp_path):
    own = EpochCheckpoint(dirpath=tmp_path, filename="last")
    for other in (
        ModelCheckpoint(save_last=True, dirpath=tmp_path / "elsewhere"),
        ModelCheckpoint(every_n_train_steps=5),
        BestCheckpoint("val/uar"),
    ):
        refuse_rivals(SimpleNamespace(checkpoint_callbacks=[own, other]))
    for other in (ModelCheckpoint(save_last=True), ModelCheckpoint(save_last=True, dirpath=tmp_path)):
        with pytest.raises(PseganError, match=r"would write last\.ckpt"):
            refuse_rivals(SimpleNamespace(checkpoint_callbacks=[own, other]))


def test_a_checkpoint_of_ones_own_within_an_epoch_holds_weights_but_no_training_goes_on(
    tiny, from_repository, tmp_path
):
    command = [
        "fit", "--config", "experiments/classifier.yaml", *tiny, "--model.init_args.attribute=gender",
        "--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2", "--run.loggers=[]",
        "--data.init_args.crop_seconds=0.5", "--trainer.enable_progress_bar=false", f"--run.dir={tmp_path}",
        "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint", "--trainer.callbacks.save_top_k=-1",
        "--trainer.callbacks.every_n_train_steps=1", "--trainer.callbacks.filename={step}",
        f"--trainer.callbacks.dirpath={tmp_path / 'own'}",
    ]  # fmt: skip
    training.main(command)
    for step in (2, 3):  # with the third the epoch's batches are complete, but not its validation
        path = tmp_path / "own" / f"step={step}.ckpt"
        assert load_classifier(path, "gender").attribute == "gender"
        with pytest.raises(PseganError, match=rf"step={step}\.ckpt: was saved within an epoch"):
            training.main([*command, f"--run.dir={tmp_path / 'other'}", f"--ckpt_path={path}"])
    assert not (tmp_path / "other").exists()
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert complete_epochs(last, "last.ckpt") == 1
    with pytest.raises(PseganError, match="holds weights alone"):
        complete_epochs({"state_dict": last["state_dict"]}, "weights.ckpt")


def test_the_best_score_stays_known_where_the_folder_was_moved(tmp_path):
    """And that of another run, from whose checkpoint this one goes on, is not this run's."""
    before = BestCheckpoint("val/uar", dirpath=str(tmp_path / "old" / "checkpoints"))
    kept = f"{before.dirpath}/best.ckpt"
    before.best_model_path, before.best_k_models = kept, {kept: torch.tensor(0.8)}
    before.kth_best_model_path, before.best_model_score = kept, torch.tensor(0.8)
    for folder, known in (("new", True), ("old", True), ("another", False)):
        now = BestCheckpoint("val/uar", dirpath=str(tmp_path / folder / "checkpoints"))
        source = tmp_path / ("third" if folder == "another" else folder) / "checkpoints" / "last.ckpt"
        now.on_load_checkpoint(SimpleNamespace(ckpt_path=str(source)), None, {})
        now.load_state_dict(before.state_dict())
        assert now.best_k_models == ({f"{now.dirpath}/best.ckpt": torch.tensor(0.8)} if known else {})
        assert now.best_model_path == now.kth_best_model_path == (f"{now.dirpath}/best.ckpt" if known else "")
