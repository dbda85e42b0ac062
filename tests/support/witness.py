"""A callback for test_ddp: what each process saw, and what it ended with."""

from functools import partial
from pathlib import Path

import lightning as L
import torch

from psegan.common.random import seeded


class Witness(L.Callback):
    """Write ``rank<i>.pt``: ids of the training batches, first noise, weights before and after, losses, collectives.

    ``collectives`` are the calls of torch.distributed in training steps and between them; DDP's own run below it, in C++.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.ids: list[str] = []
        self.losses: list[dict[str, torch.Tensor]] = []
        self.collectives: dict[str, list[str]] = {"in steps": [], "between steps": []}
        self.place = "between steps"
        for name in ("all_reduce", "all_gather", "all_gather_object", "broadcast", "barrier"):
            setattr(torch.distributed, name, partial(self._call, name, getattr(torch.distributed, name)))

    def _call(self, name, function, *args, **kwargs):
        self.collectives[self.place].append(name)
        return function(*args, **kwargs)

    def on_train_start(self, trainer, pl_module):
        self.before = pl_module.state_dict()["generator.unet.output.weight"].clone()
        self.noise = torch.randn(4, generator=seeded(*pl_module.occasion))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.ids += batch.id
        self.place = "in steps"

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.place = "between steps"
        self.losses.append({name: value for name, value in trainer.callback_metrics.items() if "train/" in name})

    def on_train_end(self, trainer, pl_module):
        content = {
            "ids": self.ids, "state": pl_module.state_dict(), "before": self.before, "noise": self.noise,
            "losses": self.losses, "collectives": self.collectives,
        }  # fmt: skip
        torch.save(content, self.folder / f"rank{trainer.global_rank}.pt")
