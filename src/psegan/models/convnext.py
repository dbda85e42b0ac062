"""A convolutional block over time that vocoders and the content matcher share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then two pointwise layers (Liu et al., CVPR 2022), scaled and residual.

    Args:
        width: channels.
        hidden: channels between the pointwise layers.
        kernel_size: taps of the depthwise convolution, odd.
        scale: that the residual is multiplied by when training begins; it is learnt, for each channel.
        dropout: on the residual.
    """

    def __init__(self, width: int, hidden: int, kernel_size: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
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
