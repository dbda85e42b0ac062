"""A callback for test_ddp: what each process saw and ended with."""

from pathlib import Path

import lightning as L
import torch

from psegan.common.random import seeded


class Witness(L.Callback):
    """Write ``rank<i>.pt``: ids of the training batches, first noise, weights before and after."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.ids: list[str] = []

    def on_train_start(self, trainer, pl_module):
        self.before = pl_module.state_dict()["generator.unet.output.weight"].clone()
        self.noise = torch.randn(4, generator=seeded(*pl_module.occasion))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.ids += batch.id

    def on_train_end(self, trainer, pl_module):
        content = {"ids": self.ids, "state": pl_module.state_dict(), "before": self.before, "noise": self.noise}
        torch.save(content, self.folder / f"rank{trainer.global_rank}.pt")
