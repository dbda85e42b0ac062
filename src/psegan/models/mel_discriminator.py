"""A discriminator of log-mels that judges them patch by patch, for decoders that would otherwise average."""

import itertools

from torch import Tensor, nn

from psegan.models.waveform_discriminator import ConvolutionalDiscriminator, DiscriminatorOutput

SLOPE = 0.2
"""Of the leaky ReLUs."""


class MelDiscriminator(ConvolutionalDiscriminator):
    """Strided convolutions over bands and time (PatchGAN, Isola et al., CVPR 2017): a score for every patch of 45 frames.

    Args:
        width: channels of the first layer; the others have two and four times as many.
    """

    def __init__(self, width: int = 24) -> None:
        widths = [1, width, 2 * width, 4 * width]
        layers = [nn.Conv2d(i, o, 5, 2, padding=2) for i, o in itertools.pairwise(widths)]
        super().__init__(layers, nn.Conv2d(widths[-1], 1, 3, padding=1), SLOPE)

    def forward(self, mel: Tensor) -> DiscriminatorOutput:
        """``(B, 80, N)`` → scores ``(B, 1, 10, N / 8)`` and features."""
        return super().forward(mel.unsqueeze(1))
