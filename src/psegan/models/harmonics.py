"""How a pitch shows in a log-mel: the harmonics that bands of low frequencies resolve."""

import math
from functools import cache

import torch
from torch import Tensor, nn

from psegan.speech.audio import SAMPLE_RATE, LogMel

LOWEST, HIGHEST = 50.0, 600.0
"""Hz; pitches beyond are drawn as these."""
STEPS = 400
"""Pitches that are drawn beforehand, 0.6 % apart."""
DEEPEST = -2.5
"""Nepers; between the harmonics of speech there is noise."""


class Harmonics(nn.Module):
    """Log-mels of pulse trains, one for each pitch, less their mean over all pitches: where harmonics are, and are not.

    A network that makes log-mels of voiced speech from a pitch alone has to find out how that looks in eighty bands, and what
    it makes has no clear harmonics.
    """

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", _table().clone(), persistent=False)

    def forward(self, log_pitch: Tensor) -> Tensor:
        """Natural logarithm of the pitch in Hz ``(B, 1, N)`` → nepers ``(B, 80, N)``."""
        low, high = math.log(LOWEST), math.log(HIGHEST)
        place = (log_pitch.float().squeeze(1).clamp(low, high) - low) / (high - low) * (STEPS - 1)
        before = place.long().clamp(max=STEPS - 2)
        share = (place - before).unsqueeze(-1)
        return torch.lerp(self.table[before], self.table[before + 1], share).transpose(1, 2)


@cache
@torch.no_grad()
def _table() -> Tensor:
    """Of :data:`STEPS` pitches, ``(STEPS, 80)``."""
    pitches = torch.linspace(math.log(LOWEST), math.log(HIGHEST), STEPS).exp()
    seconds = torch.arange(2560) / SAMPLE_RATE
    trains = []
    for pitch in pitches.tolist():
        phase = 2 * math.pi * pitch * seconds
        n = int(SAMPLE_RATE / 2 / pitch)
        # Dirichlet's kernel: the sum of n cosines
        half = (phase / 2).sin()
        total = torch.where(half.abs() < 1e-4, float(n), ((n + 0.5) * phase).sin() / (2 * half) - 0.5)
        trains.append(total / n)
    mel, _ = LogMel()(torch.stack(trains) * 0.1, torch.full((STEPS,), len(seconds)))
    middle = mel[..., 3:8].mean(2)
    return (middle - middle.mean(0)).clamp(min=DEEPEST)
