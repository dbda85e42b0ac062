"""What Anchored hears of speech and keeps of calm speech: spectrogram, level, voicing and pitch, frame by frame."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.models.level import DECIBEL, Level
from psegan.speech.audio import LogMel, UnitScaler
from psegan.speech.masking import length_mask, mask_like
from psegan.speech.pitch import VOICED, track_pitch

ACTIVE_DB = 25.0
"""Frames that are this far below an utterance's loudest one don't count for its level."""
QUIET_DB = 43.0
"""Nor, this far below the level, for its pitch."""
WIDEST = 1.0
"""Log pitch is kept within this of the median: more is an octave too high or too low."""


class Analysed(NamedTuple):
    """Speech, frame by frame; ``(B, ..., N)``, zero in padding.

    Attributes:
        mel: scaled log-mel ``(B, 80, N)``.
        frames: lengths ``(B,)``.
        relative: log-mel less the level, in nepers, ``(B, 80, N)``.
        level: ``(B,)``, see :func:`active_level`.
        energy: log energy against the level, in nepers, ``(B, N)``.
        voiced: boolean ``(B, N)``.
        log_pitch: natural logarithm of the pitch in Hz, ``(B, N)``; 0 where nothing is voiced.
    """

    mel: Tensor
    frames: Tensor
    relative: Tensor
    level: Tensor
    energy: Tensor
    voiced: Tensor
    log_pitch: Tensor

    def take(self, rows: Tensor) -> "Analysed":
        """Some of the utterances, in another order, with as much padding as they need."""
        size = int(self.frames[rows].max()) if len(rows) else 0
        return Analysed(*(value[rows] if value.dim() == 1 else value[rows][..., :size] for value in self))

    def to(self, device: torch.device | str) -> "Analysed":
        """On another device."""
        return Analysed(*(value.to(device) for value in self))

    @staticmethod
    def together(several: Sequence["Analysed"]) -> "Analysed":
        """Several, one after the other, padded to the longest, in float32."""
        size = max(one.mel.shape[2] for one in several)

        def joined(values: Sequence[Tensor]) -> Tensor:
            wide = [v.float() if v.is_floating_point() else v for v in values]
            return torch.cat([v if v.dim() == 1 else F.pad(v, (0, size - v.shape[-1])) for v in wide])

        return Analysed(*(joined(values) for values in zip(*several, strict=True)))

    def median_pitch(self) -> Tensor:
        """Median log pitch over all utterances, ``()``; of nobody who is voiced, that of 150 Hz."""
        pitches = self.log_pitch[self.voiced]
        return pitches.median() if len(pitches) else torch.tensor(150.0, device=self.mel.device).log()

    def intonation(self, median: Tensor) -> Tensor:
        """Log pitch ``(B, 1, N)``, not far from the speakers' ``median`` ``(B,)``, with a line through what is not voiced."""
        centre = median.unsqueeze(1)
        pitch = (centre + (self.log_pitch - centre).clamp(-WIDEST, WIDEST)).float().cpu().numpy()
        drawn = centre.float().cpu().numpy().repeat(pitch.shape[1], 1)
        for row, (voiced, frames) in enumerate(zip(self.voiced.cpu().numpy(), self.frames.tolist(), strict=True)):
            if len(known := np.flatnonzero(voiced[:frames])):
                drawn[row, :frames] = np.interp(np.arange(frames), known, pitch[row, known])
        return torch.from_numpy(drawn).unsqueeze(1).to(self.mel)

    def prosody(self, median: Tensor) -> Tensor:
        """``(B, PROSODY, N)``, see :data:`psegan.models.anchored.PROSODY`; ``median`` log pitch ``(B,)`` of the speakers."""
        voiced = self.voiced.float()
        pitch = (self.log_pitch - median.unsqueeze(1)).clamp(-WIDEST, WIDEST) * voiced
        return torch.stack([voiced, pitch, self.energy], 1)


class Analysis(nn.Module):
    """Waveforms → :class:`Analysed`."""

    def __init__(self) -> None:
        super().__init__()
        self.log_mel, self.scaler, self.levels = LogMel(), UnitScaler(), Level()

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> Analysed:
        """``(B, T)`` samples at 16 kHz and ``(B,)`` lengths → their frames."""
        log_mel, frames = self.log_mel(waveform, lengths)
        mel = self.scaler(log_mel)
        power = self.levels.of_frames(mel, frames)
        level = active_level(power, frames)
        inside = length_mask(frames, mel.shape[2])
        energy = (power / 2 - level.unsqueeze(1)).clamp(-8.0, 2.0) * inside
        found = track_pitch(waveform)
        size = mel.shape[2]
        loud = inside & (energy > -QUIET_DB * DECIBEL)
        voiced = (found.periodicity[:, :size] > VOICED) & loud
        log_pitch = found.frequency[:, :size].log() * voiced
        relative = (log_mel - level[:, None, None]) * mask_like(frames, mel)
        return Analysed(mel, frames, relative, level, energy, voiced, log_pitch)


def active_level(power: Tensor, lengths: Tensor) -> Tensor:
    """Level of speech: half the logarithm of the mean power of active frames, in nepers, ``(B,)``.

    Args:
        power: natural logarithm of the frames' energy ``(B, N)``, as :meth:`psegan.models.level.Level.of_frames` has it.
        lengths: frames ``(B,)``.
    """
    loudest = power.amax(1, keepdim=True)
    active = length_mask(lengths, power.shape[1]) & (power > loudest - 2 * DECIBEL * ACTIVE_DB)
    mean = power.masked_fill(~active, -torch.inf).logsumexp(1) - active.sum(1).log()
    return mean / 2
