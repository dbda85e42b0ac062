"""A callback for tests of resuming: a signal in the middle of an epoch."""

import os
import signal

import lightning as L


class KillAt(L.Callback):
    """Send this process a signal after a batch of an epoch; by default it dies at once, without any clean-up."""

    def __init__(self, epoch: int, batch: int, signal: int = int(signal.SIGKILL)) -> None:
        self.epoch, self.batch, self.signal = epoch, batch, signal

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.kill(os.getpid(), self.signal)
