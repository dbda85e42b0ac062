"""Fundamental frequency and periodicity of each frame, for the vocoder's source, for features and for figures."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from psegan.speech.audio import HOP, SAMPLE_RATE

FRAME = 1024
"""Samples in a frame: 64 ms, three periods of the lowest pitch."""
PITCH_RANGE = (60.0, 500.0)
"""Lowest and highest fundamental frequency, in Hz."""
VOICED = 0.5
"""Periodicity from which a frame counts as voiced."""


class Pitch(NamedTuple):
    """Pitch of each frame; both tensors are ``(..., N)``.

    Attributes:
        frequency: fundamental frequency in Hz, within :data:`PITCH_RANGE`; meaningless where nothing is periodic.
        periodicity: normalised autocorrelation at the period of that frequency, 0 to 1.
    """

    frequency: Tensor
    periodicity: Tensor


def track_pitch(waveform: Tensor) -> Pitch:
    """Pitch in Hz and periodicity in [0, 1], each ``(..., N)``, of waveforms ``(..., T)`` at 16 kHz.

    The frames are those of :class:`psegan.speech.audio.LogMel`. Unvoiced frames have a pitch too, with a low periodicity.
    """
    return pitch_of_frames(F.pad(waveform, (FRAME // 2, FRAME // 2)).unfold(-1, FRAME, HOP))


def pitch_of_frames(frames: Tensor) -> Pitch:
    """Pitch of frames ``(..., N, FRAME)``.

    The autocorrelation of the windowed frame is divided by that of the window (Boersma, 1993), and its highest peak is
    taken, after a small penalty on long periods. torchaudio's detect_pitch_frequency doesn't give the periodicity.
    """
    window, window_correlation = (constant.to(frames.device) for constant in _window())
    frames = frames * window
    frames = frames - frames.sum(-1, keepdim=True) / window.sum() * window
    spectrum = torch.fft.rfft(frames, 2 * FRAME).abs().square()
    correlation = torch.fft.irfft(spectrum)[..., :FRAME]
    correlation = correlation / (correlation[..., :1] + 1e-8) / window_correlation
    shortest, longest = int(SAMPLE_RATE / PITCH_RANGE[1]), int(SAMPLE_RATE / PITCH_RANGE[0])
    near = correlation[..., shortest - 1 : longest + 2]
    left, centre, right = near[..., :-2], near[..., 1:-1], near[..., 2:]
    period = torch.arange(shortest, longest + 1, device=frames.device)
    merit = centre - 0.02 * torch.log2(period / shortest)
    merit = merit.masked_fill((centre < left) | (centre <= right), -torch.inf)
    best = merit.argmax(-1, keepdim=True)
    before, peak, after = (curve.gather(-1, best).squeeze(-1) for curve in (left, centre, right))
    bend = before - 2 * peak + after  # a parabola through three samples finds the peak between them
    offset = torch.where(bend < -1e-6, 0.5 * (before - after) / bend, 0.0).clamp(-0.5, 0.5)
    return Pitch(SAMPLE_RATE / (period[best.squeeze(-1)] + offset), peak.clamp(0, 1))


@cache
def _window() -> tuple[Tensor, Tensor]:
    """Window ``(FRAME,)`` and its normalised autocorrelation ``(FRAME,)``."""
    window = torch.hann_window(FRAME)
    correlation = torch.fft.irfft(torch.fft.rfft(window, 2 * FRAME).abs().square())[:FRAME]
    return window, correlation / correlation[0]
