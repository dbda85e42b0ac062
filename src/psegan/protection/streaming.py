"""Long recordings in constant memory: exact spectrograms of blocks, overlapped windows, and one signal of their pieces."""

from collections.abc import Iterable, Iterator

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
    yield front_end.of_padded(F.pad(waiting, (0, EDGE))[None])[0]


def windows(mels: Iterable[Tensor]) -> Iterator[Tensor]:
    """Overlapped windows ``(80, n)`` of a spectrogram that comes in parts; all but the last have :data:`WINDOW` frames."""
    waiting = torch.zeros(0)
    for mel in mels:
        waiting = torch.cat([waiting, mel], 1) if len(waiting) else mel
        while waiting.shape[1] > WINDOW:  # more follows, so this one is not the last
            yield waiting[:, :WINDOW]
            waiting = waiting[:, WINDOW - OVERLAP :]
    yield waiting


def stitch(converted: Iterable[Tensor], fade: int = FADE) -> Iterator[Tensor]:
    """Join converted windows ``(80, n)``: each fades into the next, over ``fade`` frames in the middle of what they share.

    Yields:
        The spectrogram in parts ``(80, n)``.
    """
    tail = None
    for mel in converted:
        if tail is not None:
            rise = (torch.arange(OVERLAP, device=mel.device) - (OVERLAP - fade) / 2 + 0.5) / fade
            rise = rise.clamp(0, 1)
            mixed = tail * (1 - rise) + mel[:, :OVERLAP] * rise
            mel = torch.cat([mixed, mel[:, OVERLAP:]], 1)
        yield mel[:, :-OVERLAP]
        tail = mel[:, -OVERLAP:]
    if tail is not None:
        yield tail


def pieces(mels: Iterable[Tensor], context: int | None, size: int = WINDOW) -> Iterator[tuple[Tensor, int, int]]:
    """Cut a spectrogram that comes in parts ``(80, n)`` into pieces that are vocoded one by one.

    Args:
        mels: the parts.
        context: frames of its surroundings that a piece has on either side; None gives one piece, however long.
        size: frames that count in each piece but the last.

    Yields:
        The piece ``(80, n)``, and the first frame that counts in it and the first after these.
    """
    waiting, start = torch.zeros(0), 0
    for mel in mels:
        waiting = torch.cat([waiting, mel], 1) if len(waiting) else mel
        while context is not None and waiting.shape[1] > start + size + context:
            end = start + size
            yield waiting[:, : end + context], start, end
            drop = max(end - context, 0)
            waiting, start = waiting[:, drop:], end - drop
    yield waiting, start, waiting.shape[1]
