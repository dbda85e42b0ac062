"""Gated residual network over time (Tan, Chen and Wang, IEEE/ACM TASLP 27(1), 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.speech.masking import mask_like

KERNEL = 7
"""Taps of the dilated convolutions."""
DILATIONS = (1, 2, 4, 8, 16, 32)
"""Of the paper, once each."""


class GatedResidualBlock(nn.Module):
    """1×1 convolution → dilated temporal convolution with a gate → 1×1 convolutions to the residual and the skip."""

    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.reduce = nn.Conv1d(channels, hidden, 1)
        self.dilation = dilation
        self.gated = nn.Conv1d(hidden, 2 * hidden, KERNEL, padding=KERNEL // 2 * dilation, dilation=dilation)
        self.residual = nn.Conv1d(hidden, channels, 1)
        self.skip = nn.Conv1d(hidden, channels, 1)

    @property
    def reach(self) -> int:
        """Frames to the furthest tap that isn't zero."""
        live = self.gated.weight.detach().abs().amax((0, 1)).cpu() > 0
        return int(((torch.arange(KERNEL) - KERNEL // 2).abs() * self.dilation * live).max())

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``x (B, C, T)`` and its mask ``(B, 1, T)`` → next ``x`` and this block's skip, both ``(B, C, T)``."""
        h = F.elu(self.reduce(x)) * mask
        h = F.glu(self.gated(h), dim=1)
        return F.elu(x + self.residual(h)), self.skip(h)


class GatedResidualStack(nn.Module):
    """Blocks of growing dilation at a U-Net's bottleneck, which work on frequency as channels and whose skips are summed.

    The stack adds to its input, and begins by adding zero, so that a network with the stack begins as the same function as
    the ablation without it.

    A block reads ``3 · dilation`` frames of the bottleneck on either side, the stack ``3 · repeats · sum(dilations)``; a
    frame of a bottleneck of stride 16 is 0.256 s. A tap that reads further away than a training utterance lasts sees nothing
    but padding there, so that it stays at random as it began, and speaks when a longer recording comes: dilations must fit
    the training, see :attr:`reach`.

    Args:
        channels: channels of the bottleneck's maps.
        height: their mel rows.
        repeats: how often the dilations are repeated.
        dilations: of the blocks, in frames of the bottleneck; the paper's are 1 2 4 8 16 32.
        width: residual width of the blocks.
        hidden: width of their gated convolutions.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        repeats: int,
        dilations: Sequence[int] = DILATIONS,
        width: int = 256,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.fold = nn.Conv1d(channels * height, width, 1)
        self.blocks = nn.ModuleList(
            GatedResidualBlock(width, hidden, dilation) for _ in range(repeats) for dilation in dilations
        )
        self.unfold = nn.Conv1d(width, channels * height, 1)
        nn.init.zeros_(self.unfold.weight)
        nn.init.zeros_(self.unfold.bias)  # type: ignore[arg-type]

    @property
    def reach(self) -> int:
        """Frames of the bottleneck to the furthest tap of a block that isn't zero; 0 if all are."""
        return max(block.reach for block in self.blocks)  # type: ignore[return-value, type-var]

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, C, H, T)`` → ``(B, C, H, T)``, zero at and after ``lengths (B,)``."""
        folded = x.flatten(1, 2)
        mask = mask_like(lengths, folded)
        h = F.elu(self.fold(folded))
        total = h.new_zeros(h.shape)
        for block in self.blocks:
            h, skip = block(h, mask)
            total = total + skip
        return (folded + self.unfold(F.elu(total))).mul(mask).view_as(x)
