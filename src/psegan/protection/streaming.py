"""Long recordings in constant memory: exact spectrograms of blocks, overlapped windows, and one signal of their pieces."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from psegan.speech.audio import HOP, LogMel

WINDOW = 1024
"""Frames that a conversion sees at once, 16 s; shorter recordings are seen whole. A multiple of the U-Net's stride."""
OVERLAP = 256
"""Frames that neighbouring windows share, 4 s, so that both know what lies around the place where one replaces the other."""
FADE = 32
"""Frames in the middle of the overlap over which they do."""
EDGE = 512
"""Samples of the front-end's window on either side of a frame's centre."""


def mel_blocks(blocks: Iterable[Tensor], front_end: LogMel) -> Iterator[Tensor]:
    """Log-mel ``(80, n)`` of a recording that comes in blocks ``(T,)``, the same frames as of the whole.

    Frames are computed :data:`WINDOW` at a time, so that they are the same to the bit however long the blocks are.
    """
    device = front_end.window.device
    waiting = torch.zeros(EDGE, device=device)
    step = WINDOW * HOP
    for block in blocks:
        waiting = torch.cat([waiting, block.to(device)])
        while len(waiting) >= 2 * EDGE + step:
            yield front_end.of_padded(waiting[None, : 2 * EDGE + step - HOP])[0]
            waiting = waiting[step:]
    waiting = F.pad(waiting, (0, EDGE))
    if len(waiting) >= 2 * EDGE:
        yield front_end.of_padded(waiting[None])[0]


class Window(NamedTuple):
    """Frames ``mel (80, n)`` that are converted together; ``last`` of its recording or not."""

    mel: Tensor
    last: bool


def windows(mels: Iterable[Tensor]) -> Iterator[Window]:
    """Overlapped windows of a spectrogram that comes in pieces ``(80, n)``."""
    hop, waiting = WINDOW - OVERLAP, None
    for mel in mels:
        waiting = mel if waiting is None else torch.cat([waiting, mel], 1)
        while waiting.shape[1] > WINDOW:  # more follows, so this one is not the last
            yield Window(waiting[:, :WINDOW], False)
            waiting = waiting[:, hop:]
    if waiting is not None:
        yield Window(waiting, True)


class Stitcher:
    """Joins the converted windows of one recording: each fades into the next in the middle of what they share.

    Args:
        fade: frames that it takes.
    """

    def __init__(self, fade: int = FADE) -> None:
        self.fade = fade
        self._tail: Tensor | None = None

    def join(self, window: Window) -> Tensor:
        """Frames ``(80, n)`` that the window completes; they follow those of the window before."""
        mel = window.mel
        if self._tail is not None:
            rise = (torch.arange(OVERLAP, device=mel.device) - (OVERLAP - self.fade) / 2 + 0.5) / self.fade
            rise = rise.clamp(0, 1)
            mixed = self._tail * (1 - rise) + mel[:, :OVERLAP] * rise
            mel = torch.cat([mixed, mel[:, OVERLAP:]], 1)
        if window.last:
            return mel
        self._tail = mel[:, -OVERLAP:]
        return mel[:, :-OVERLAP]


class Piece(NamedTuple):
    """Frames ``mel (80, n)`` that are vocoded together, and which of them count: from ``start``, ``frames`` many."""

    mel: Tensor
    start: int
    frames: int
    last: bool


class Slicer:
    """Cuts the frames of one recording into pieces that know as much of their surroundings as the vocoder needs.

    Args:
        context: frames on either side; None vocodes every recording whole, however long.
        size: frames of a piece that count.
    """

    def __init__(self, context: int | None, size: int = WINDOW) -> None:
        self.context, self.size = context, size
        self._waiting: Tensor | None = None
        self._before = 0  # frames at the beginning of what waits that have been given out and are context now

    def cut(self, mel: Tensor, last: bool) -> Iterator[Piece]:
        """Pieces that are complete when ``mel (80, n)`` follows what came before."""
        waiting = mel if self._waiting is None else torch.cat([self._waiting, mel], 1)
        if self.context is not None:
            while waiting.shape[1] > self._before + self.size + self.context:
                end = self._before + self.size
                yield Piece(waiting[:, : end + self.context], self._before, self.size, False)
                drop = max(end - self.context, 0)
                waiting, self._before = waiting[:, drop:], end - drop
        if last:
            yield Piece(waiting, self._before, waiting.shape[1] - self._before, True)
        self._waiting = waiting
