"""A vocoder that works frame by frame and leaves the samples to an inverse STFT (Siuzdak, Vocos, ICLR 2024)."""

import torch
from torch import Tensor, nn

from psegan.models.convnext import ConvNeXtStack
from psegan.models.vocoder import Vocoder, overlap_add
from psegan.speech.audio import HOP, N_MELS, LogMel
from psegan.speech.masking import mask_like

FFT = 1024


class Vocos(Vocoder):
    """ConvNeXt blocks at the frame rate predict magnitude and phase of an STFT; its inverse is the waveform.

    It is fast because the network computes 62.5 frames a second instead of 16,000 samples. Two things are added to the paper:
    the magnitude is predicted as a correction, in log units, of the pseudo-inverse of the mel filters, so that training
    begins near the right spectrum and mostly learns the phase; and a few steps of Griffin and Lim follow, in training too.
    Each of those computes the spectrum of the waveform, and moves its magnitudes halfway, in log units, to the mel's. The
    sizes are smaller than the paper's.

    Args:
        width: channels of the residual path.
        hidden: channels inside the blocks.
        depth: blocks.
        kernel_size: taps of a block, in frames, odd.
        consistency: number of steps of Griffin and Lim.
    """

    window: Tensor
    inverse_bank: Tensor

    def __init__(
        self, width: int = 256, hidden: int = 768, depth: int = 8, kernel_size: int = 7, consistency: int = 2
    ) -> None:
        super().__init__()
        self.width, self.hidden, self.depth, self.kernel_size = width, hidden, depth, kernel_size
        self.consistency = consistency
        self.context = (kernel_size // 2) * (depth + 1) + FFT // HOP // 2 + consistency * FFT // HOP
        front_end = LogMel()
        self.register_buffer("window", front_end.window, persistent=False)
        self.register_buffer("inverse_bank", torch.linalg.pinv(front_end.bank), persistent=False)
        self.embed = nn.Conv1d(N_MELS, width, kernel_size, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(width)
        self.blocks = ConvNeXtStack(width, hidden, kernel_size, depth)
        self.last_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2 * (FFT // 2 + 1))
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        mask = mask_like(lengths, log_mel)
        x = self.embed(log_mel * mask)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2) * mask
        x = self.blocks(x, mask)
        correction, phase = self.head(self.last_norm(x.transpose(1, 2))).float().transpose(1, 2).chunk(2, dim=1)
        with torch.autocast(log_mel.device.type, enabled=False):  # half-precision phases are audible
            prior = (self.inverse_bank @ log_mel.float().clamp(max=10.0).exp()).clamp(min=1e-5)
            spectrum = torch.polar(prior * correction.clamp(max=10.0).exp(), phase)
            waveform = self._inverse(spectrum, lengths)
            for _ in range(self.consistency):
                spectrum = torch.stft(waveform, FFT, HOP, window=self.window, pad_mode="constant", return_complex=True)
                spectrum = spectrum[..., : prior.shape[2]]
                magnitude = spectrum.abs().clamp(min=1e-8)
                waveform = self._inverse(spectrum * (prior / magnitude).sqrt(), lengths)
            return waveform

    def _inverse(self, spectrum: Tensor, lengths: Tensor) -> Tensor:
        frames = torch.fft.irfft(spectrum, FFT, dim=1) * self.window.unsqueeze(1)
        return overlap_add(frames, self.window, lengths)
