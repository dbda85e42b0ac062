"""Networks that read codes in training: what is to be readable, and adversaries for what is not."""

import torch
from torch import Tensor, nn

from psegan.models.convnext import ConvNeXtStack, TimeConv
from psegan.speech.masking import mask_like, masked_statistics


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return -ctx.weight * gradient, None


def reverse_gradient(x: Tensor, weight: float) -> Tensor:
    """``x``, whose gradient is turned round and multiplied by ``weight`` (Ganin and Lempitsky, ICML 2015)."""
    return _Reversal.apply(x, weight)


class FrameReader(nn.Module):
    """Reads something of every frame.

    Args:
        dims: values of a frame.
        outputs: values that are read.
        width: channels.
        depth: blocks.
    """

    def __init__(self, dims: int, outputs: int, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.input = TimeConv(dims, width, 3)
        self.stack = ConvNeXtStack(width, 3 * width, 7, depth)
        self.output = nn.Linear(width, outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, dims, N)`` of ``(B,)`` lengths → ``(B, N, outputs)`` in float32."""
        mask = mask_like(lengths, x)
        return self.output(self.stack(self.input(x) * mask, mask).transpose(1, 2)).float()


class UtteranceReader(nn.Module):
    """Reads something of the whole utterance, from the mean and deviation of its features over time.

    Args:
        dims: values of a frame.
        outputs: values that are read.
        width: channels.
        depth: blocks.
    """

    def __init__(self, dims: int, outputs: int, width: int = 96, depth: int = 2) -> None:
        super().__init__()
        self.input = TimeConv(dims, width, 5)
        self.stack = ConvNeXtStack(width, 2 * width, 7, depth)
        self.output = nn.Linear(2 * width, outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, dims, N)`` of ``(B,)`` lengths → ``(B, outputs)`` in float32."""
        mask = mask_like(lengths, x)
        features = self.stack(self.input(x) * mask, mask)
        return self.output(torch.cat(masked_statistics(features, lengths), 1)).float()
