"""The end of a training before its last epoch: by a number of steps, by time or by a signal."""

from datetime import timedelta

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from psegan.common.errors import PseganError


class Limits(L.Callback):
    """Stops a training at ``trainer.max_steps`` and ``trainer.max_time``, and says which epochs are complete.

    It takes the place of Lightning's own limits: those validate an epoch within which they stop, count the time of earlier
    starts too, and number the batches of a continued training wrongly where the limit is one of steps.

    Args:
        max_steps: steps of all optimisers since the training first began; -1 is no limit.
        max_time: of this start, as ``DD:HH:MM:SS`` or as arguments of timedelta; None is no limit.

    Raises:
        PseganError: a limit is none; or, by :meth:`on_train_end`, the time was too short for a single epoch.
    """

    def __init__(self, max_steps: int = -1, max_time: str | timedelta | dict[str, int] | None = None) -> None:
        if max_steps < -1:
            raise PseganError(f"trainer.max_steps is {max_steps}; give a number of steps, or -1 for no limit")
        self.max_steps = max_steps
        try:
            self.timer = Timer(max_time)
        except (MisconfigurationException, TypeError):
            raise PseganError(
                f"trainer.max_time is {max_time!r}; give it as DD:HH:MM:SS, for example 00:01:30:00 for an hour and a half"
            ) from None
        self._reached = ""
        self._complete_before: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.timer.on_train_start(trainer, pl_module)
        self._complete_before = trainer.current_epoch
        self._stop_if_due(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: object) -> None:
        self._stop_if_due(trainer)
        if trainer.should_stop and trainer.fit_loop._can_stop_early and not trainer.is_last_batch:
            trainer.limit_val_batches = 0  # Lightning would validate the part of an epoch that is not kept

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_due(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        begun = trainer.current_epoch
        within = begun > 0 and not trainer.is_last_batch
        complete = begun - within
        if within and self._reached == "trainer.max_time" and complete == self._complete_before:
            raise PseganError(
                "trainer.max_time ended within the first epoch of this start, which is not kept, so that nothing was gained; "
                "give it more time than an epoch takes"
            )
        if within or (self._reached and complete != trainer.max_epochs):
            _say(trainer, self._reached or "a callback", complete, within)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say which epochs are complete when a signal ends the training."""
        if isinstance(exception, SIGTERMException | KeyboardInterrupt) and self._complete_before is not None:
            progress = trainer.fit_loop.epoch_progress.current
            _say(trainer, "a signal", progress.completed, within=progress.ready > progress.completed)

    def _stop_if_due(self, trainer: L.Trainer) -> None:
        left = self.timer.time_remaining()
        if left is not None and trainer.strategy.broadcast(left <= 0):  # all processes stop at the same batch
            self._reached = "trainer.max_time"
        if -1 < self.max_steps <= trainer.global_step:
            self._reached = "trainer.max_steps"
        trainer.should_stop = trainer.should_stop or bool(self._reached)


def _say(trainer: L.Trainer, what: str, complete: int, within: bool) -> None:
    planned = f" of {trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
    more = " and a higher trainer.max_steps" if what == "trainer.max_steps" else ""
    where = " within an epoch, which is not kept" if within else ""
    then = f"continue with --ckpt_path auto{more}" if complete else "nothing was saved"
    rank_zero_info(f"Stopped by {what}{where}: {complete}{planned} epoch(s) are complete; {then}.")
