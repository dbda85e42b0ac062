"""What a continued run needs beyond Lightning's checkpoint: random states, and a log without the lost epoch."""

import random
from typing import Any

import lightning as L
import numpy
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from psegan.common.random import stable_hash
from psegan.training.checkpointing import complete_epochs
from psegan.training.distributed import gather
from psegan.training.loggers import ContinuedCSVLogger


class ExactResume(L.Callback):
    """Saves the random states of every process with a checkpoint and restores them when a run is continued.

    These are the global states of Python, NumPy, torch and the process's own CUDA device, on which dropout depends.
    Targets, noise, crops and the order of batches need no state (:mod:`psegan.common.random`). The states are restored
    when training starts, after everything that draws while the run is being set up.

    A process without a saved state seeds its own from the system's seed, its rank and the epoch; but the first process of
    a new run keeps the states of ``seed_everything``.

    The callback also drops the rows of metrics.csv that the interrupted run wrote after the checkpoint, because the
    continued run writes them again. TensorBoard and W&B keep the points of the lost epoch beside the new ones.
    """

    def __init__(self) -> None:
        self._device = torch.device("cpu")
        self._saved: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """The states of all processes by rank, in types that ``weights_only`` can load."""
        name, keys, position, has_gauss, gauss = numpy.random.get_state(legacy=True)
        assert isinstance(keys, numpy.ndarray)
        state = {
            "python": random.getstate(),
            "numpy": (name, keys.tolist(), position, has_gauss, gauss),
            "torch": torch.get_rng_state(),
            "cuda": [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else [],
        }
        return {"processes": gather(state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states for :meth:`on_train_start`; older checkpoints hold those of the first process alone."""
        self._saved = state_dict.get("processes", [state_dict])

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Drop the rows of metrics.csv after the checkpoint's epoch, where training goes on from it."""
        if trainer.state.fn == TrainerFn.FITTING:
            _rewind(trainer, complete_epochs(checkpoint, trainer.ckpt_path or "") - 1)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Note the process's device; the log of an evaluation replaces that of the last one."""
        self._device = trainer.strategy.root_device
        if stage != "fit":
            _rewind(trainer, -1)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore this process's states, or seed those of a process that has none."""
        if trainer.ckpt_path is None:  # a run that died before its first checkpoint may have logged something
            _rewind(trainer, -1)
        if self._saved and len(self._saved) != trainer.world_size:
            rank_zero_info(
                f"The checkpoint holds random states of {len(self._saved)} process(es), and {trainer.world_size} train now: "
                "processes without a saved state seed their own, so that the run differs from an uninterrupted one."
            )
        if trainer.global_rank < len(self._saved):
            self._restore(self._saved[trainer.global_rank])
        elif trainer.global_rank > 0:
            seed = stable_hash(pl_module.seed, "process", trainer.global_rank, trainer.current_epoch)
            random.seed(seed)
            numpy.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all devices
            if self._device.type == "cuda":
                torch.cuda.manual_seed(seed)
        self._saved = []

    def _restore(self, state: dict[str, Any]) -> None:
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, position, has_gauss, cached = state["numpy"]
        numpy.random.set_state((name, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, cached))
        torch.set_rng_state(state["torch"].cpu())
        if self._device.type == "cuda" and state["cuda"]:
            torch.cuda.set_rng_state(state["cuda"][0].cpu(), self._device)


def _rewind(trainer: L.Trainer, epoch: int) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, ContinuedCSVLogger):
            logger.rewind(epoch)
