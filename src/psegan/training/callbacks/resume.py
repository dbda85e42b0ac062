"""What a continued run needs beyond Lightning's checkpoint: random states, and a log without the lost epoch."""

import random
from typing import Any

import lightning as L
import numpy
import torch
from lightning.pytorch.trainer.states import TrainerFn

from psegan.training.loggers import ContinuedCSVLogger


class ExactResume(L.Callback):
    """Saves the global random states (Python, NumPy, torch, CUDA) with a checkpoint and restores them on resuming.

    It also drops the rows of metrics.csv that the interrupted run wrote after the checkpoint, since the continued one
    writes them again.

    Under DDP the states are those of the first process; only dropout and the augmentation of what a discriminator hears
    depend on them. TensorBoard and W&B keep the points of the lost epoch beside the new ones.

    Targets, noise, crops and the order of batches need no state (:mod:`psegan.common.random`); dropout does. The state
    is put back when training starts, after everything that draws while the run is being set up.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """All states, in types that ``weights_only`` can load."""
        name, keys, position, has_gauss, gauss = numpy.random.get_state(legacy=True)
        assert isinstance(keys, numpy.ndarray)
        return {
            "python": random.getstate(),
            "numpy": (name, keys.tolist(), position, has_gauss, gauss),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states for :meth:`on_train_start`."""
        self._restored = state_dict

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Rewind metrics.csv to the checkpoint's epoch, where training goes on from it."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._rewind(trainer, checkpoint["epoch"])

    def _rewind(self, trainer: L.Trainer, epoch: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, ContinuedCSVLogger):
                logger.rewind(epoch)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """A judgement's log replaces the last one's."""
        if stage != "fit":
            self._rewind(trainer, -1)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where nothing is continued, drop what a run that died before its first checkpoint has logged."""
        if trainer.ckpt_path is None:
            self._rewind(trainer, -1)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the states back."""
        if self._restored is None:
            return
        version, internal, gauss = self._restored["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, position, has_gauss, cached = self._restored["numpy"]
        numpy.random.set_state((name, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, cached))
        torch.set_rng_state(self._restored["torch"].cpu())
        if torch.cuda.is_available() and len(self._restored["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in self._restored["cuda"]])
        self._restored = None
