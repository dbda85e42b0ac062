"""MelGAN: transposed convolutions from frames to samples, and discriminators at three rates (Kumar et al., NeurIPS 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from psegan.common.errors import PseganError
from psegan.models.vocoder import Vocoder
from psegan.models.waveform_discriminator import ConvolutionalDiscriminator, DiscriminatorOutput
from psegan.speech.audio import HOP, N_MELS
from psegan.speech.masking import mask_like

SLOPE = 0.2
"""Of the leaky ReLUs."""


class ResidualLayer(nn.Module):
    """Dilated convolution of kernel 3 and a pointwise one, beside a pointwise shortcut."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilated = weight_norm(nn.Conv1d(channels, channels, 3, dilation=dilation, padding=dilation))
        self.pointwise = weight_norm(nn.Conv1d(channels, channels, 1))
        self.shortcut = weight_norm(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x (B, C, T)`` and mask ``(B, 1, T)``, None without padding → ``(B, C, T)``, zero in the padding."""
        h = F.leaky_relu(self.dilated(F.leaky_relu(x, SLOPE)), SLOPE, inplace=True)
        return _masked(self.shortcut(x).add_(self.pointwise(h)), mask)


class MelGAN(Vocoder):
    """The article's vocoder, in the mel convention of this project.

    Edges are padded with zeros where the paper reflects, so that an utterance gives the same waveform in a padded batch.

    Args:
        ratios: upsampling factors, one after the other; their product is the hop, 256.
        width: channels after the last upsampling; before each of them there are twice as many.
        dilations: of the residual layers after each upsampling.
    """

    def __init__(
        self, ratios: Sequence[int] = (8, 8, 2, 2), width: int = 32, dilations: Sequence[int] = (1, 3, 9)
    ) -> None:
        super().__init__()
        if torch.tensor(ratios).prod() != HOP:
            raise PseganError(f"MelGAN's ratios are {list(ratios)}, but their product must be the hop, {HOP}")
        self.ratios, self.width, self.dilations = tuple(ratios), width, tuple(dilations)
        channels = width * 2 ** len(ratios)
        self.embed = weight_norm(nn.Conv1d(N_MELS, channels, 7, padding=3))
        self.upsample, self.residual = nn.ModuleList(), nn.ModuleList()
        for ratio in ratios:
            self.upsample.append(weight_norm(nn.ConvTranspose1d(channels, channels // 2, 2 * ratio, ratio, ratio // 2)))
            channels //= 2
            self.residual.append(nn.ModuleList(ResidualLayer(channels, dilation) for dilation in dilations))
        self.output = weight_norm(nn.Conv1d(channels, 1, 7, padding=3))
        reach, step = 3.0, 1.0  # in frames, and frames a position
        for ratio in ratios:
            reach += step
            step /= ratio
            reach += sum(dilations) * step
        self.context = int(reach + 3 * step) + 1

    def forward(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        padded = bool((lengths < log_mel.shape[-1]).any())  # masks cost a quarter of the time
        mask = mask_like(lengths, log_mel) if padded else None
        x = _masked(self.embed(_masked(log_mel, mask)), mask)
        for upsample, layers, ratio in zip(self.upsample, self.residual, self.ratios, strict=True):
            x = upsample(F.leaky_relu(x, SLOPE, inplace=True))
            lengths = lengths * ratio
            mask = mask_like(lengths, x) if padded else None
            x = _masked(x, mask)
            for layer in layers:  # type: ignore[attr-defined]
                x = layer(x, mask)
        return _masked(torch.tanh(self.output(F.leaky_relu(x, SLOPE, inplace=True))).float(), mask).squeeze(1)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


class ScaleDiscriminator(ConvolutionalDiscriminator):
    """Strided, grouped convolutions over samples: ``(B, 1, T)`` → scores and features."""

    def __init__(self, width: int) -> None:
        layers = [nn.Conv1d(1, width, 15, padding=7)]
        channels = width
        for _ in range(4):
            wider = min(channels * 4, 64 * width)
            layers.append(nn.Conv1d(channels, wider, 41, 4, 20, groups=channels // 4))
            channels = wider
        layers.append(nn.Conv1d(channels, channels, 5, padding=2))
        super().__init__(layers, nn.Conv1d(channels, 1, 3, padding=1), SLOPE)


class MultiScaleDiscriminator(nn.Module):
    """Three discriminators on the waveform and on its averages at a half and a quarter of the rate.

    Args:
        width: channels of the first layer, four times as many after each of the next, up to 64 times; 16 is the paper's.
        scales: discriminators.
    """

    def __init__(self, width: int = 16, scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(ScaleDiscriminator(width) for _ in range(scales))

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """``(B, T)`` → the output of each."""
        x = waveform.unsqueeze(1)
        outputs = []
        for index, discriminator in enumerate(self.scales):
            if index:
                x = F.avg_pool1d(x, 4, 2, 1, count_include_pad=False)
            outputs.append(discriminator(x))
        return outputs
