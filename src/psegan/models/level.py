"""The level of a spectrogram: how loud its frames are, and giving one the level of another."""

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.speech.audio import LogMel, UnitScaler
from psegan.speech.masking import length_mask

DECIBEL = math.log(10) / 20
"""In units of a log-mel."""
SILENCE = -1e4
"""Stands for the logarithm of no energy."""
FULL_SCALE = math.log(512 * 384)
"""Logarithm of a frame's energy at a root mean square of 1, by Parseval: half of the FFT's bins, the squared window's sum."""
PASSES = 4
"""Of raising all frames and lowering the loudest; speech needs one or two."""
MOST_RAISED = 30.0
"""By :meth:`Level.at`, in dB."""


class Level(nn.Module):
    """Gives a converted spectrogram the level of the original, because energy is not what distances of log-mels compare.

    All frames are shifted by one number, after which the utterance has the original's energy. Then every frame that is louder
    than the loudest of the original by more than ``headroom`` is lowered to that, and the others are raised by what that took.

    The energy of a frame is estimated from its mel bands: a band is the mean magnitude of its bins, as many as its filter is
    wide. On speech that is within about a decibel of the waveform's.

    Args:
        headroom: in dB, 0 or above.
    """

    def __init__(self, headroom: float = 1.0) -> None:
        super().__init__()
        self.headroom = headroom
        self.scale = UnitScaler.high - UnitScaler.low

    def of_frames(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Scaled log-mel ``(B, 80, N)`` → natural logarithm of each frame's energy ``(B, N)``; :data:`SILENCE` in padding."""
        log_mel = mel.float() * self.scale + UnitScaler.low
        energy = torch.logsumexp(2 * log_mel + _log_width(mel.device), 1)
        return energy.masked_fill(~length_mask(lengths, mel.shape[-1]), SILENCE)

    def forward(self, mel: Tensor, original: Tensor, lengths: Tensor) -> Tensor:
        """Scaled log-mels ``(B, 80, N)``, converted and original, and frames ``(B,)`` → the former at the latter's level."""
        ours, theirs = self.of_frames(mel, lengths), self.of_frames(original, lengths)
        wanted, most = theirs.logsumexp(1, keepdim=True), theirs.amax(1, keepdim=True) + 2 * DECIBEL * self.headroom
        change = torch.zeros_like(ours)
        for _ in range(PASSES):
            change = change + (wanted - (ours + 2 * change).logsumexp(1, keepdim=True)) / 2
            change = change - F.relu(ours + 2 * change - most) / 2
        return self._shifted(mel, change, lengths)

    def at(self, decibels: float, mel: Tensor, lengths: Tensor) -> Tensor:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → the same at a level, whatever its own was.

        All frames are shifted by one number, which raises them by :data:`MOST_RAISED` at most, for silence has a level too.

        Args:
            decibels: root mean square of the utterance, in dB of full scale.
            mel, lengths: the utterances.
        """
        energy = self.of_frames(mel, lengths).logsumexp(1, keepdim=True)
        wanted = (2 * DECIBEL * decibels + FULL_SCALE + lengths.log()).unsqueeze(1)
        change = (wanted - energy).clamp(max=2 * DECIBEL * MOST_RAISED) / 2
        return self._shifted(mel, change.expand(-1, mel.shape[-1]), lengths)

    def _shifted(self, mel: Tensor, change: Tensor, lengths: Tensor) -> Tensor:
        """The frames shifted by ``change (B, N)`` nepers; padding stays zero."""
        change = (change / self.scale).masked_fill(~length_mask(lengths, mel.shape[-1]), 0.0)
        return mel + change.unsqueeze(1).to(mel.dtype)


@cache
def _log_width(device: torch.device) -> Tensor:
    """What the square of a mel band is multiplied by to estimate the energy of its bins, as a logarithm ``(80, 1)``.

    That is the mean power ``(mel / mass)²`` times the filter's width in bins, ``mass² / (sum of its squares)``.
    """
    with torch.inference_mode(False):
        return -LogMel().bank.square().sum(1, keepdim=True).log().to(device)
