"""Training of one encoder along one cycle, which classifiers and the content matcher share."""

from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import Optimizer

from psegan.common.errors import PseganError
from psegan.systems.base import System
from psegan.weights import load_part, load_parts


class OneCycleSystem(System):
    """A system of one encoder, trained by AdamW along a one-cycle schedule (Smith and Topin, 2018) over the whole training.

    Args:
        learning_rate: peak of the schedule.
        weight_decay: of AdamW.
        encoder_checkpoint: another training, of any corpus, or shipped weights, whose encoder training begins with.
        n_classes, seed: see :class:`~psegan.systems.base.System`.
    """

    encoder: nn.Module

    def __init__(
        self,
        n_classes: dict[str, int],
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        encoder_checkpoint: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, seed)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.encoder_checkpoint = encoder_checkpoint
        self._planned_steps: int | None = None

    def setup(self, stage: str) -> None:
        path = self.encoder_checkpoint
        if stage == "fit" and not self.begun and path is not None:
            take_over(self.encoder, load_part(path, "encoder"), path, "encoder")

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.log_dict(self.pace(optimizer, ""))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another number of epochs, which the schedule is planned for; :meth:`configure_optimizers` that of steps."""
        super().on_load_checkpoint(checkpoint)
        planned = checkpoint["psegan"]["max_epochs"]
        if self._trainer is not None and self.trainer.training and self.trainer.max_epochs != planned:
            raise PseganError(
                f"the run was planned for {planned} epoch(s) and its learning rate falls until then, but trainer.max_epochs "
                f"is {self.trainer.max_epochs}; continue with {planned}, or start anew in another run.dir"
            )
        if checkpoint.get("lr_schedulers"):
            self._planned_steps = checkpoint["lr_schedulers"][0]["total_steps"]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        if (self.trainer.max_epochs or 0) < 1:
            raise PseganError("its learning rate falls along its epochs: set trainer.max_epochs to 1 or more")
        # with fewer than ten steps the schedule would have none on which the learning rate rises
        steps = max(int(self.trainer.estimated_stepping_batches), 10)
        if self._planned_steps not in (None, steps):
            raise PseganError(
                f"the run was planned for {self._planned_steps} steps and its learning rate falls until then, but now it would "
                f"take {steps}; give it the same data.init_args.batch_size, trainer.devices and trainer.limit_train_batches"
            )
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, steps, pct_start=0.2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def take_over(encoder: nn.Module, trained: nn.Module, path: str, argument: str) -> None:
    """Give ``encoder``, which ``model.init_args.argument`` makes, the weights of a ``trained`` one from ``path``.

    Raises:
        PseganError: it is of another shape.
    """
    try:
        encoder.load_state_dict(trained.state_dict())
    except RuntimeError:
        raise PseganError(
            f"{path} has another encoder than model.init_args.{argument}; give them the same settings"
        ) from None


def encoder_of(path: str, attribute: str, name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The trained encoder of what recognises ``attribute``, which messages call ``name``, and what is known of it.

    Raises:
        PseganError: it recognises something else, or see :func:`~psegan.weights.load_parts`.
    """
    parts, about = load_parts(path)
    if about.get("attribute") != attribute or "encoder" not in parts:
        raise PseganError(f"{path} does not recognise {attribute}; give a checkpoint of the {name}")
    return parts["encoder"], about
