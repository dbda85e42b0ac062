"""From several channels to one, without losing speech that two channels have with opposite signs."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

COARSE_RATE = 8_000
"""Hz, about: enough to compare channels."""
SPAN = 4_000
"""Samples at that rate, half a second, that are compared at a time: speakers take turns."""
KEPT = 0.25
"""Share of a channel's own amplitude that must be in the sum, or the other channels have cancelled it."""
LOST = 0.1
"""Share of the energy of all channels that has to be cancelled somewhere, or the mean is good enough."""


class Comparison(NamedTuple):
    """What the channels of a recording are to one another."""

    equal: bool
    """Whether they are all the same."""
    loudest_of_cancelling: int | None
    """The channel with the most energy, from 0, if their mean would lose speech; None if it doesn't."""

    def mix(self, samples: Tensor) -> Tensor:
        """Samples ``(T, C)`` as one channel ``(T,)``: the mean, or the loudest where that would lose speech."""
        taken = self.loudest_of_cancelling
        return samples.mean(1) if taken is None else samples[:, taken]

    def loss(self, done: str) -> str:
        """What to tell of the other channels, as ``loss("is read")``; empty if nothing is lost."""
        taken = self.loudest_of_cancelling
        return (
            ""
            if taken is None
            else f"channels cancel one another, so that only channel {taken + 1}, the loudest, {done}"
        )


def compare_channels(blocks: Iterable[Tensor], rate: int) -> Comparison:
    """Compare the channels of a recording with their sum, in constant memory.

    Signals that have nothing to do with one another, as the two parties of a call, are all in the sum. What two channels
    have with opposite signs isn't. The inner product of a channel and the sum is the channel's energy plus what it has
    in common with the others, so it is small where the others have cancelled it. It is taken of differences of
    neighbouring samples, in which hum and an offset hardly count.

    Args:
        blocks: the recording, in parts ``(T, C)``.
        rate: in Hz.
    """
    step = max(rate // COARSE_RATE, 1)
    energy = lost = torch.zeros((), dtype=torch.float64)
    equal = True
    for samples in blocks:
        equal = equal and bool((samples == samples[:, :1]).all())
        coarse = samples[: len(samples) // step * step].unflatten(0, (-1, step)).mean(1).double()
        change = coarse.diff(dim=0)
        spans = F.pad(change, (0, 0, 0, -len(change) % SPAN)).unflatten(0, (-1, SPAN))
        products = spans.mT @ spans
        own = products.diagonal(dim1=1, dim2=2)
        cancelled = products.sum(2).abs() < KEPT * own
        energy = energy + own.sum(0)
        lost = lost + (own * cancelled).sum(0)
    return Comparison(equal, int(energy.argmax()) if lost.sum() > LOST * energy.sum() else None)
