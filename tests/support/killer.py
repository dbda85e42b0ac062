"""A callback for test_resume: the machine dies in the middle of an epoch."""

import os
import signal

import lightning as L


class KillAt(L.Callback):
    """Kill this process, without any clean-up, after a batch of an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch = epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.kill(os.getpid(), signal.SIGKILL)
