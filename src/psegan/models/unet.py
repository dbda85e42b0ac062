"""U-Net on mel spectrograms: the skeleton that PSEGAN, GenGAN and PCMelGAN share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from psegan.speech.masking import MaskedBatchNorm2d, mask_like, pad_to_multiple, strided_length


class DoubleConv(nn.Module):
    """Two 3×3 convolutions, each with weight norm, masked batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = weight_norm(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.norm1 = MaskedBatchNorm2d(out_channels)
        self.conv2 = weight_norm(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.norm2 = MaskedBatchNorm2d(out_channels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, C_in, H, T)`` → ``(B, C_out, H, T)``, zero at and after ``lengths (B,)``."""
        x = self.conv1(x).contiguous(memory_format=torch.channels_last)  # a third faster on CPUs
        x = F.relu(self.norm1(x, lengths))
        return F.relu(self.norm2(self.conv2(x), lengths))


class UNet(nn.Module):
    """Encoder and decoder over frequency and time, with skips, and a condition that joins at the bottleneck.

    Widths 8-16-32-64-128, 2×2 max pooling, nearest-neighbour upsampling and a 1×1 output are those of the public
    GenGAN and PCMelGAN code (after Ronneberger et al., 2015). Inputs of any length are padded to the stride and
    cropped back; padding is masked at every level, so it never leaks into the utterance.

    Args:
        condition_maps: channels of the condition, concatenated at the bottleneck.
        widths: channels of each level; the stride is ``2 ** (len(widths) - 1)``.
        bottleneck: a module ``(x (B, C, H, T), lengths (B,)) -> (B, C, H, T)`` applied at the bottleneck before the
            condition joins, or None. Its attribute ``reach``, if it has one, says how many frames of the bottleneck its
            furthest weight looks away.
        smooth: average the output over three bands and five frames, with triangular weights. The spectrogram of a signal
            cannot differ faster, because frames overlap fourfold and low bands share the window's main lobe; a vocoder
            would undo faster differences together with their effect.
        residual: predict the difference from the input instead of the output. The last convolution then starts at zero,
            so that an untrained network returns its input.
    """

    kernel: Tensor

    def __init__(
        self,
        condition_maps: int = 0,
        widths: Sequence[int] = (8, 16, 32, 64, 128),
        bottleneck: nn.Module | None = None,
        smooth: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.smooth, self.residual = smooth, residual
        bands, frames = torch.tensor([1.0, 2.0, 1.0]) / 4, torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0]) / 9
        self.register_buffer("kernel", torch.outer(bands, frames)[None, None], persistent=False)
        self.stride = 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(DoubleConv(i, o) for i, o in zip([1, *widths[:-1]], widths, strict=True))
        self.bottleneck = bottleneck
        below = [widths[-1] + condition_maps, *reversed(widths[1:-1])]
        beside = list(reversed(widths[:-1]))
        self.decoder = nn.ModuleList(DoubleConv(b + s, s) for b, s in zip(below, beside, strict=True))
        self.output = nn.Conv2d(widths[0], 1, 1)
        if residual:
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    @property
    def least_frames(self) -> int:
        """Frames that the longest training utterance must have, so that every weight of the bottleneck is trained."""
        reach = getattr(self.bottleneck, "reach", 0)
        return reach * self.stride + 1

    def forward(self, mel: Tensor, lengths: Tensor, condition: Tensor | None = None) -> Tensor:
        """Scaled log-mel ``(B, F, N)``, zero at and after ``lengths (B,)`` → the same shape, zero there, of any range.

        F is a multiple of the stride. The condition is ``(B, condition_maps, F / stride)``, constant over time, or has a last
        axis of ``N / stride`` frames, rounded up; None if there is no map.
        """
        x = pad_to_multiple(mel, self.stride).unsqueeze(1)
        skips: list[tuple[Tensor, Tensor]] = []
        level = lengths
        for index, block in enumerate(self.encoder):
            if index:
                skips.append((x, level))
                x, level = F.max_pool2d(x, 2), strided_length(level, 2)
            x = block(x, level)
        if self.bottleneck is not None:
            x = self.bottleneck(x, level)
        if condition is not None:
            condition = condition.unsqueeze(-1) if condition.dim() == 3 else condition
            x = torch.cat([x, condition * mask_like(level, x)], 1)
        for block, (skip, level) in zip(self.decoder, reversed(skips), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([skip, x], 1), level)
        x = self.output(x)[..., : mel.shape[-1]]
        mask = mask_like(lengths, x)
        if self.smooth:
            x = F.conv2d(x * mask, self.kernel.to(x.dtype), padding="same")
        x = (x * mask).squeeze(1)
        return mel + x if self.residual else x
