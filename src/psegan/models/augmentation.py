"""Random changes to training spectrograms that keep their label."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.speech.audio import N_MELS, UnitScaler
from psegan.speech.masking import mask_like

_HERTZ_PER_MEL = 200 / 3  # Slaney's scale: linear up to 1000 Hz, 15 mel, logarithmic with 27 mel a factor of 6.4 above
_KNEE = 15.0
_LOG_STEP = math.log(6.4) / 27


def _to_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < _KNEE, mel * _HERTZ_PER_MEL, 1000 * torch.exp(_LOG_STEP * (mel.clamp(min=_KNEE) - _KNEE)))


def _to_mel(hertz: Tensor) -> Tensor:
    high = _KNEE + torch.log(hertz.clamp(min=1000) / 1000) / _LOG_STEP
    return torch.where(hertz < 1000, hertz / _HERTZ_PER_MEL, high)


class SpectrogramAugmentation(nn.Module):
    """Tempo, pitch, gain, and masks of bands and time, each drawn per utterance.

    Works on scaled log-mels, on the device: tempo resamples the frames (speed perturbation without its pitch, Ko et
    al., Interspeech 2015), pitch moves all frequencies by one factor (vocal tract length perturbation, Jaitly and
    Hinton, 2013), gain adds to the logarithm, and masks are SpecAugment's (Park et al., Interspeech 2019).

    Args:
        max_tempo: largest relative change of the duration, either way.
        max_pitch: largest shift of all frequencies, in semitones, either way.
        max_gain: largest change of the level, in dB, either way.
        n_masks: number of masks along each axis.
        max_masked_bands: widest band that one mask hides, in mel bands.
        max_masked_fraction: longest stretch of time that one mask hides, as a fraction of the utterance.
    """

    def __init__(
        self,
        max_tempo: float = 0.0,
        max_pitch: float = 0.0,
        max_gain: float = 0.0,
        n_masks: int = 1,
        max_masked_bands: int = 12,
        max_masked_fraction: float = 0.15,
    ) -> None:
        super().__init__()
        self.max_tempo, self.max_pitch, self.max_gain = max_tempo, max_pitch, max_gain
        self.n_masks, self.max_masked_bands, self.max_masked_fraction = n_masks, max_masked_bands, max_masked_fraction

    def forward(self, mel: Tensor, lengths: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Scaled log-mel ``(B, 80, N)``, zero in padding, and frames ``(B,)`` → the same, of another number of frames.

        All draws come from ``random``, on the CPU, so that every device draws the same.
        """
        draw = torch.rand(3, len(mel), generator=random).to(mel.device) * 2 - 1
        if self.max_tempo or self.max_pitch:
            mel, lengths = self._warped(mel, lengths, 1 + self.max_tempo * draw[0], self.max_pitch * draw[1])
        if self.max_gain:
            # one dB in units of the [0, 1] scale; what falls below the floor is silence
            step = math.log(10) / 20 / (UnitScaler.high - UnitScaler.low)
            louder = (mel + (self.max_gain * step * draw[2])[:, None, None]).clamp(min=0)
            mel = torch.where(mel > 0, louder, mel)
        for _ in range(self.n_masks):
            mel = self._masked(mel, lengths, random)
        return mel, lengths

    @staticmethod
    def _warped(mel: Tensor, lengths: Tensor, tempo: Tensor, semitones: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate between frames for the tempo ``(B,)``, and between bands for the shift ``(B,)``."""
        new_lengths = (lengths / tempo).round().long().clamp(min=1)
        frames = torch.arange(int(new_lengths.max()), device=mel.device)
        top = _to_mel(torch.tensor(8000.0, device=mel.device))
        centres = torch.arange(1, N_MELS + 1, device=mel.device) * top / (N_MELS + 1)
        shifted = _to_hertz(centres) * torch.exp2(-semitones / 12).unsqueeze(1)
        bands = _to_mel(shifted) * (N_MELS + 1) / top - 1  # (B, 80), where each band reads from
        # grid_sample wants places in [-1, 1] from the first to the last row and column
        x = frames * tempo.unsqueeze(1) * 2 / max(mel.shape[2] - 1, 1) - 1
        y = bands * 2 / (N_MELS - 1) - 1
        grid = torch.stack(torch.broadcast_tensors(x[:, None], y[:, :, None]), -1).to(mel.dtype)
        warped = F.grid_sample(mel.unsqueeze(1), grid, padding_mode="border", align_corners=True).squeeze(1)
        return warped * mask_like(new_lengths, warped), new_lengths

    def _masked(self, mel: Tensor, lengths: Tensor, random: torch.Generator) -> Tensor:
        draw = torch.rand(4, len(mel), 1, generator=random).to(mel.device)
        bands, times = torch.arange(mel.shape[1], device=mel.device), torch.arange(mel.shape[2], device=mel.device)
        width = draw[0] * self.max_masked_bands
        low = draw[1] * (mel.shape[1] - width)
        length = draw[2] * self.max_masked_fraction * lengths.unsqueeze(1)
        start = draw[3] * (lengths.unsqueeze(1) - length)
        band_kept = (bands < low) | (bands >= low + width)
        time_kept = (times < start) | (times >= start + length)
        return mel * band_kept.unsqueeze(2) * time_kept.unsqueeze(1)


def mixed(x: Tensor, lengths: Tensor, alpha: float, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mix every utterance of a batch ``x (B, C, N)`` with another one (mixup, Zhang et al., ICLR 2018).

    Returns:
        The mixture ``(B, C, N)``; its frames ``(B,)``, those of the longer utterance; the partners' indices ``(B,)``; and
        the weights of the utterances themselves ``(B,)``, at least 0.5, from Beta(alpha, alpha); a partner's weight is 1
        minus that.
    """
    # Dirichlet of two parts is Beta, and the only one of the two that torch samples with a generator
    parts = torch._sample_dirichlet(torch.full((len(x), 2), alpha), random)
    weight = parts.amax(1).to(x.device)
    partner = torch.randperm(len(x), generator=random).to(x.device)
    w = weight[:, None, None].to(x.dtype)
    return w * x + (1 - w) * x[partner], torch.maximum(lengths, lengths[partner]), partner, weight
