"""Long recordings in segments that are cut where it is quiet."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from psegan.speech.audio import HOP

LEAST, MOST = 188 * HOP, 376 * HOP
"""Samples of a segment, 3 to 6 s; shorter recordings are one."""


def segments(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """A recording that comes in blocks ``(T,)`` at 16 kHz, cut where it is quietest between 3 s and 6 s of a segment.

    Yields:
        Segments ``(T,)``, together all samples; all but the last have whole hops of :data:`~psegan.speech.audio.HOP` samples.
        Of a recording without samples there are none.
    """
    waiting = torch.zeros(0)
    for block in blocks:
        waiting = torch.cat([waiting, block])
        while len(waiting) > MOST:
            hops = waiting[LEAST - HOP : MOST].unflatten(0, (-1, HOP)).square().sum(1)
            cut = LEAST + int((hops[:-1] + hops[1:]).argmin()) * HOP
            yield waiting[:cut]
            waiting = waiting[cut:]
    if len(waiting):
        yield waiting
