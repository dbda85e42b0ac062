"""Light discriminators of waveforms: by period (Kong et al., HiFi-GAN, 2020) and by resolution (Jang et al., UnivNet, 2021)."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from psegan.models.waveform_discriminator import ConvolutionalDiscriminator, DiscriminatorOutput
from psegan.speech.masking import pad_to_multiple

SLOPE = 0.1
"""Of the leaky ReLUs."""


class PeriodDiscriminator(ConvolutionalDiscriminator):
    """Convolutions along every ``period``-th sample (HiFi-GAN): ``(B, T)`` → scores and features."""

    def __init__(self, period: int, width: int) -> None:
        widths = [1, width, 2 * width, 4 * width, 8 * width]
        layers = [nn.Conv2d(i, o, (5, 1), (3, 1), padding=(2, 0)) for i, o in itertools.pairwise(widths)]
        super().__init__(layers, nn.Conv2d(widths[-1], 1, 3, padding=1), SLOPE)
        self.period = period

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        return super().forward(pad_to_multiple(waveform, self.period).unflatten(1, (-1, self.period)).unsqueeze(1))


class ResolutionDiscriminator(ConvolutionalDiscriminator):
    """Convolutions on a compressed magnitude spectrogram (UnivNet): ``(B, T)`` → scores and features."""

    window: Tensor

    def __init__(self, n_fft: int, width: int) -> None:
        widths = [1, width, 2 * width, 4 * width]
        layers = [
            nn.Conv2d(i, o, (7, 3), (2, 1 if i == 1 else 2), padding=(3, 1)) for i, o in itertools.pairwise(widths)
        ]
        layers.append(nn.Conv2d(widths[-1], widths[-1], 3, padding=1))
        super().__init__(layers, nn.Conv2d(widths[-1], 1, 3, padding=1), SLOPE)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        n_fft = len(self.window)
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform.float(), n_fft, n_fft // 4, window=self.window, pad_mode="constant", return_complex=True
            )
            # the power law approximates loudness, and the epsilon keeps its gradient finite in silence
            magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-6).pow(0.15)
        return super().forward(magnitude.unsqueeze(1))


class SpectralDiscriminator(nn.Module):
    """Period and resolution discriminators together, small enough to be trained on a CPU.

    Args:
        periods: samples, primes, one discriminator each.
        resolutions: windows in samples, one discriminator each.
        width: channels of their first layers; HiFi-GAN's and UnivNet's is 32.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        resolutions: Sequence[int] = (512, 1024, 256),
        width: int = 8,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, width) for period in periods),
                *(ResolutionDiscriminator(n_fft, width) for n_fft in resolutions),
            ]
        )

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """``(B, T)`` → the output of each."""
        return [member(waveform) for member in self.members]
