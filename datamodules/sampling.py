"""Random order and random crops without state: every draw is a function of (seed, epoch, index).

A resumed run therefore sees what an uninterrupted one would have seen, whatever the number of workers.
"""

from collections.abc import Iterator

import torch
from torch import distributed
from torch.utils.data import Sampler

from psegan.common.random import seeded


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes; ``(0, 1)`` outside distributed training."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys ``(epoch, index)`` of one epoch, so that a dataset can draw per epoch even in a worker process.

    Lightning calls :meth:`set_epoch` on a loader's sampler before each training epoch, with the number of training
    epochs already completed; after a resume from a checkpoint of a completed epoch that number goes on where it was.
    It calls it for evaluation loaders too, to no effect: they don't shuffle and don't crop.

    Under ``torch.distributed`` (with ``Trainer(use_distributed_sampler=False)``) each rank gets its share, taken from
    one common order:

    * shuffled (training): equal counts on every rank, or gradient averaging would hang; the remainder of the division
      is left out, other utterances each epoch, and if there are fewer utterances than ranks, some are repeated;
    * unshuffled (evaluation): every utterance exactly once, so counts may differ by one between ranks and metrics must
      be gathered at the end of the epoch, not per batch. With fewer utterances than ranks, the last ranks get none.

    Args:
        n: utterances.
        seed: of the order.
        shuffle: a new order each epoch, or the given one.
    """

    def __init__(self, n: int, seed: int = 0, shuffle: bool = True) -> None:
        self.n = n
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        rank, world = rank_and_world()
        if self.shuffle:
            return max(self.n // world, min(self.n, 1))
        return len(range(rank, self.n, world))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank, world = rank_and_world()
        if self.shuffle:
            order = torch.randperm(self.n, generator=seeded("order", self.seed, self.epoch)).tolist()
            positions = [(rank + world * step) % self.n for step in range(len(self))]
        else:
            order = list(range(self.n))
            positions = list(range(rank, self.n, world))
        epoch = self.epoch
        return iter([(epoch, order[position]) for position in positions])
