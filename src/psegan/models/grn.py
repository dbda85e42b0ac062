"""Gated residual network over time (Tan, Chen and Wang, IEEE/ACM TASLP 27(1), 2019)."""

from torch import Tensor, nn
from torch.nn import functional as F

from psegan.speech.masking import mask_like


class GatedResidualBlock(nn.Module):
    """1×1 convolution → dilated temporal convolution with a gate → 1×1 convolutions to the residual and the skip."""

    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.reduce = nn.Conv1d(channels, hidden, 1)
        self.gated = nn.Conv1d(hidden, 2 * hidden, 7, padding=3 * dilation, dilation=dilation)
        self.residual = nn.Conv1d(hidden, channels, 1)
        self.skip = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``x (B, C, T)`` and its mask ``(B, 1, T)`` → next ``x`` and this block's skip, both ``(B, C, T)``."""
        h = F.elu(self.reduce(x)) * mask
        h = F.glu(self.gated(h), dim=1)
        return F.elu(x + self.residual(h)), self.skip(h)


class GatedResidualStack(nn.Module):
    """Blocks of growing dilation at a U-Net's bottleneck, which work on frequency as channels and whose skips are summed.

    The stack adds to its input, and begins by adding zero, so that a network with the stack begins as the same function as
    the ablation without it.

    Args:
        channels: channels of the bottleneck's maps.
        height: their mel rows.
        repeats: how often the dilations 1 2 4 8 16 32 are repeated.
        width: residual width of the blocks.
        hidden: width of their gated convolutions.
    """

    def __init__(self, channels: int, height: int, repeats: int, width: int = 256, hidden: int = 64) -> None:
        super().__init__()
        self.fold = nn.Conv1d(channels * height, width, 1)
        self.blocks = nn.ModuleList(
            GatedResidualBlock(width, hidden, dilation) for _ in range(repeats) for dilation in (1, 2, 4, 8, 16, 32)
        )
        self.unfold = nn.Conv1d(width, channels * height, 1)
        nn.init.zeros_(self.unfold.weight)
        nn.init.zeros_(self.unfold.bias)  # type: ignore[arg-type]

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
