"""The checkpoints of a run: of its last complete epoch, and of its best validation; and what W&B gets of them."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from psegan.common.errors import PseganError
from psegan.training.loggers import OneLineWandbLogger

_WITHIN = ("every_n_train_steps", "train_time_interval", "save_on_exception")
"""Arguments of Lightning's that save within an epoch."""


class _RunCheckpoint(ModelCheckpoint):
    """Remembers which files it has kept, wherever the run's folder lies by now, and none of another run's.

    Lightning forgets the best score where the folder has another name, and would then replace ``best.ckpt`` by a worse one.
    """

    _loaded_from: Path | None = None

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded_from = Path(trainer.ckpt_path or "").resolve().parent

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.dirpath is not None and self._loaded_from == Path(self.dirpath).resolve():
            super().load_state_dict(_moved(state_dict, str(state_dict["dirpath"]), str(self.dirpath)))


def _moved(value: Any, before: str, after: str) -> Any:
    """The value with the folder ``after`` for ``before`` in all paths that it holds."""
    if isinstance(value, dict):
        return {_moved(key, before, after): _moved(one, before, after) for key, one in value.items()}
    if isinstance(value, str) and Path(value).is_relative_to(before):
        return str(after / Path(value).relative_to(before))
    return value


class EpochCheckpoint(_RunCheckpoint):
    """Keeps complete epochs alone, because a training goes on from the beginning of an epoch.

    Lightning would also save an epoch within which the training was stopped, as if it were complete, and the continued run
    would lack its other batches.

    Args:
        kwargs: of :class:`lightning.pytorch.callbacks.ModelCheckpoint`.

    Raises:
        PseganError: they would save within an epoch.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in _WITHIN:
            if kwargs.get(name):
                raise PseganError(
                    f"checkpoint.{name} would save within an epoch, from where no training goes on; set "
                    "checkpoint.every_n_epochs instead, or save weights by a ModelCheckpoint of your own in trainer.callbacks"
                )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_last_batch:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_last_batch:
            super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_last_batch:
            super().on_train_end(trainer, pl_module)


class BestCheckpoint(_RunCheckpoint):
    """Keeps ``best.ckpt``, the checkpoint with the best value of ``monitor`` in validation.

    It takes the place of early stopping, which would cut a one-cycle schedule short. A training goes on from it if the
    validation was at an epoch's end, as all are unless ``trainer.val_check_interval`` is set.

    Args:
        monitor: name of a logged value, for example ``val/uar``; None keeps nothing.
        mode: whether the ``max`` or the ``min`` is best.
        dirpath: the run's folder of checkpoints.
    """

    def __init__(self, monitor: str | None = None, mode: str = "max", dirpath: str | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=0 if monitor is None else 1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )


class CheckpointArtifact(L.Callback):
    """Gives W&B the checkpoint that a training keeps, when it has ended: the best one, where there is one, or else the last.

    Args:
        how: ``auto``, ``upload``, ``reference`` or ``none``; see :class:`psegan.training.loggers.RunSettings`.
    """

    def __init__(self, how: str) -> None:
        self.how = how

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        kept = {type(one): one for one in trainer.checkpoint_callbacks if isinstance(one, _RunCheckpoint)}
        best, last = kept.get(BestCheckpoint), kept.get(EpochCheckpoint)
        if self.how == "none" or best is None or last is None:
            return
        path = Path(str(last.dirpath)) / ("last.ckpt" if best.monitor is None else "best.ckpt")
        for logger in trainer.loggers:
            if isinstance(logger, OneLineWandbLogger) and path.is_file():
                logger.log_checkpoint(path, self.how)


def refuse_rivals(trainer: L.Trainer) -> None:
    """Refuse another callback that would write the run's ``last.ckpt``.

    Raises:
        PseganError: there is one.
    """
    own = next((one for one in trainer.checkpoint_callbacks if isinstance(one, EpochCheckpoint)), None)
    for other in trainer.checkpoint_callbacks:
        if own is None or isinstance(other, _RunCheckpoint) or not isinstance(other, ModelCheckpoint):
            continue
        if other.save_last and other.dirpath in (None, own.dirpath):
            raise PseganError(
                "a ModelCheckpoint in trainer.callbacks would write last.ckpt, which the run keeps itself; "
                "give it no save_last, or a dirpath of its own"
            )
