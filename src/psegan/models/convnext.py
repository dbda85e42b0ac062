"""Convolutions over time that vocoders, the content matcher and Anchored share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TimeConv(nn.Conv1d):
    """Convolution of ``(B, C, N)`` over time that keeps N, or N over the stride, rounded up.

    Args:
        inputs, outputs: channels.
        kernel_size: taps, odd.
        stride: frames to a frame of the output.
        groups: as of :class:`torch.nn.Conv1d`.
        lookahead: taps that see ahead, fewer than there are; the others see the frame itself and what was before. None for
            half of them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        lookahead: int | None = None,
    ) -> None:
        half = kernel_size // 2
        super().__init__(inputs, outputs, kernel_size, stride, half if lookahead in (None, half) else 0, groups=groups)
        ahead = half if lookahead is None else lookahead
        self.around = None if ahead == half else (kernel_size - 1 - ahead, ahead)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.around is None else F.pad(x, self.around))


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then two pointwise layers (Liu et al., CVPR 2022), scaled and residual.

    Args:
        width: channels.
        hidden: channels between the pointwise layers.
        kernel_size: taps of the depthwise convolution, odd.
        scale: that the residual is multiplied by when training begins; it is learnt, for each channel.
        dropout: on the residual.
        lookahead: see :class:`TimeConv`.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        kernel_size: int,
        scale: float,
        dropout: float = 0.0,
        lookahead: int | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = TimeConv(width, width, kernel_size, groups=width, lookahead=lookahead)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x (B, C, N)`` and mask ``(B, 1, N)`` → ``(B, C, N)``, zero in the padding."""
        h = self.norm(self.depthwise(x).transpose(1, 2))
        h = self.dropout(self.narrow(F.gelu(self.widen(h), approximate="tanh")) * self.scale)
        return (x + h.transpose(1, 2)) * mask


class ConvNeXtStack(nn.ModuleList):
    """Blocks one after another.

    Args:
        width, hidden, kernel_size, dropout, lookahead: see :class:`ConvNeXtBlock`.
        depth: number of blocks, each scaled by its inverse at the beginning.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        kernel_size: int,
        depth: int,
        dropout: float = 0.0,
        lookahead: int | None = None,
    ) -> None:
        super().__init__(ConvNeXtBlock(width, hidden, kernel_size, 1 / depth, dropout, lookahead) for _ in range(depth))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """See :class:`ConvNeXtBlock`."""
        for block in self:
            x = block(x, mask)
        return x
