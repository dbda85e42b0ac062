"""The interface of vocoders, from log-mel to waveform, and Griffin-Lim."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio import functional as AF

from psegan.speech.audio import HOP, LogMel
from psegan.speech.masking import mask_like


class Vocoder(nn.Module):
    """The interface: ``log_mel (B, 80, N)`` and frames ``(B,)`` → waveform ``(B, N · 256)`` at 16 kHz, zero in padding.

    An utterance gives the same waveform alone and in a padded batch.
    """

    context: int | None = None
    """Frames on either side that a sample depends on; None if it depends on the whole utterance."""

    def forward(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        raise NotImplementedError


class GriffinLim(Vocoder):
    """Phase reconstruction without training (Griffin and Lim, 1984; fast variant of Perraudin et al., 2013).

    Magnitudes come from the pseudo-inverse of the mel filters. Phases start at zero, so the result is deterministic.
    Every utterance is inverted at its true length, so a padded one gives the same result as alone.

    Args:
        n_iter: iterations; more than 32 make no audible difference.
    """

    window: Tensor
    inverse_bank: Tensor

    def __init__(self, n_iter: int = 32) -> None:
        super().__init__()
        self.n_iter = n_iter
        front_end = LogMel()
        self.register_buffer("window", front_end.window, persistent=False)
        self.register_buffer("inverse_bank", torch.linalg.pinv(front_end.bank), persistent=False)

    @torch.no_grad()
    def forward(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        magnitude = (self.inverse_bank @ log_mel.float().exp()).clamp(min=1e-8)
        waveform = log_mel.new_zeros(len(log_mel), log_mel.shape[-1] * HOP, dtype=torch.float32)
        for row, utterance, frames in zip(waveform, magnitude, lengths.tolist(), strict=True):
            padded = F.pad(utterance[:, :frames], (0, max(4 - frames, 0)))  # the FFT's edges need over 512 samples
            samples = (padded.shape[1] - 1) * HOP
            inverted = AF.griffinlim(
                padded, self.window, 1024, HOP, 1024, 1.0, self.n_iter, 0.99, samples, rand_init=False
            )[: frames * HOP]
            row[: len(inverted)] = inverted
        return waveform


def overlap_add(frames: Tensor, window: Tensor, lengths: Tensor) -> Tensor:
    """The inverse of the STFT of :class:`psegan.speech.audio.LogMel`, its windows divided out.

    Frames ``(B, 1024, N)``, of which number ``n`` is centred on sample ``256 n``, that were windowed with ``(1024,)`` →
    ``(B, N · 256)``, zero from ``lengths · 256`` on.
    """
    pieces = window.numel() // HOP
    mask = mask_like(lengths, frames)

    def add(windows: Tensor) -> Tensor:  # (B, pieces * HOP, N) → (B, (N + pieces - 1) * HOP)
        rows = windows.unflatten(1, (pieces, HOP))
        summed = rows.new_zeros(len(rows), HOP, windows.shape[2] + pieces - 1)
        for piece in range(pieces):
            summed[..., piece : piece + windows.shape[2]] += rows[:, piece]
        return summed.transpose(1, 2).flatten(1)

    start, samples = window.numel() // 2, frames.shape[2] * HOP
    signal = add(frames * mask)[:, start : start + samples]
    envelope = add(window.square().unsqueeze(1) * mask)[:, start : start + samples]
    return signal / envelope.clamp(min=1e-3) * mask_like(lengths * HOP, signal)
