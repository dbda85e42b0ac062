"""The order of training. Every draw, here and of the crops, is a function of (seed, epoch, index) and has no state.

A run that is resumed therefore gets the batches of an uninterrupted one, with any number of workers.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import distributed
from torch.utils.data import Sampler

from psegan.common.random import seeded

POOL = 32
"""Batches among which utterances are sorted by length: enough for alike ones, few enough for fresh batches in each epoch."""


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes; ``(0, 1)`` outside distributed training."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys ``(epoch, index)`` of one epoch, so that a dataset can draw per epoch even in a worker process.

    Before each training epoch Lightning calls :meth:`set_epoch` with the number of epochs that are complete, which a
    checkpoint restores. It also calls it for evaluation loaders, where it changes nothing.

    Under ``torch.distributed`` (with ``Trainer(use_distributed_sampler=False)``) the ranks divide one common order:

    * shuffled (training): every rank gets the same number of utterances, or gradient averaging would wait forever. The
      remainder of the division is left out, different utterances in each epoch; if there are fewer utterances than
      ranks, some are repeated.
    * unshuffled (evaluation): every utterance is read exactly once. The numbers may differ by one between ranks, so
      metrics must be gathered at the end of the epoch, not per batch. With fewer utterances than ranks, the last ranks
      get none.

    Args:
        n: number of utterances.
        seed: of the order.
        shuffle: whether to draw a new order in each epoch; otherwise the given order stays.
        alike: length of each utterance and the batch size: batches then have utterances of about one length, so that little is
            padded. The drawn order is sorted within every :data:`POOL` batches, and the order of batches is drawn.
    """

    def __init__(
        self, n: int, seed: int = 0, shuffle: bool = True, alike: tuple[Sequence[int], int] | None = None
    ) -> None:
        self.n, self.alike = n, alike
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        rank, world = rank_and_world()
        if self.shuffle:
            return max(self.n // world, min(self.n, 1))
        return len(range(rank, self.n, world))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank, world = rank_and_world()
        if self.shuffle:
            random = seeded("order", self.seed, self.epoch)
            order = torch.randperm(self.n, generator=random).tolist()
            if self.alike is not None:
                order = _by_length(order, *self.alike, world, random)
        else:
            order = list(range(self.n))
        return iter([(self.epoch, order[(rank + world * step) % self.n]) for step in range(len(self))])


def _by_length(order: list[int], lengths: Sequence[int], batch: int, world: int, random: torch.Generator) -> list[int]:
    """The order with batches of alike lengths, each as many as all processes take at a time; what is left over stays last."""
    size = batch * world
    whole = len(order) // size * size
    batches: list[list[int]] = []
    for start in range(0, whole, POOL * size):
        pool = sorted(order[start : min(start + POOL * size, whole)], key=lambda index: (lengths[index], index))
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    drawn = torch.randperm(len(batches), generator=random).tolist()
    return [index for number in drawn for index in batches[number]] + order[whole:]
