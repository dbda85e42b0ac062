"""Masks over time, so that a padded utterance in a batch gives the same result as the utterance alone.

All functions take ``lengths (B,)``: the number of valid positions on the last axis of the tensor that they are given.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Boolean ``(B, size)``, true at the positions inside of each utterance."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def mask_like(lengths: Tensor, x: Tensor) -> Tensor:
    """:func:`length_mask` for ``x (B, ..., T)``, in its dtype and with singleton axes in between."""
    mask = length_mask(lengths, x.shape[-1]).to(x.dtype)
    return mask.view(x.shape[0], *[1] * (x.dim() - 2), x.shape[-1])


def masked_mean(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean of ``x (B, ..., T)`` over all valid elements, a scalar."""
    x = x.float()  # sums of half-precision numbers overflow
    mask = mask_like(lengths, x)
    per_position = x.numel() // (x.shape[0] * x.shape[-1])
    return (x * mask).sum() / (mask.sum() * per_position)


def masked_statistics(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of ``x (B, C, T)`` over valid time, each ``(B, C)``, in float32."""
    x = x.float()
    mask = mask_like(lengths, x)
    count = mask.sum(-1).clamp(min=1)
    mean = (x * mask).sum(-1) / count
    variance = ((x - mean.unsqueeze(-1)).square() * mask).sum(-1) / count
    return mean, (variance + 1e-5).sqrt()  # the epsilon keeps the root's gradient finite for one frame


def strided_length(lengths: Tensor, stride: int) -> Tensor:
    """Lengths after pooling or a same-padded convolution with this stride, which round up."""
    return torch.div(lengths + stride - 1, stride, rounding_mode="floor")


def clear_padding_(x: Tensor, lengths: Tensor) -> Tensor:
    """Write zeros into ``x (B, ..., T)`` at and after ``lengths (B,)``, in place, and return it."""
    if x.device.type != "cpu":
        return x.masked_fill_(mask_like(lengths, x) == 0, 0)
    # most positions are valid, so on a CPU it is much faster to write the zeros than to multiply by a mask
    ends = lengths.tolist()
    if len(set(ends)) == 1:
        x[..., ends[0] :] = 0
    else:
        for row, end in zip(x, ends, strict=True):
            row[..., end:] = 0
    return x


class _ClearPadding(torch.autograd.Function):
    """:func:`clear_padding_` and its gradient, which autograd would copy once a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        ctx.save_for_backward(lengths)
        return clear_padding_(x, lengths)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return clear_padding_(gradient.clone(), *ctx.saved_tensors), None


class _MaskedNormalise(torch.autograd.Function):
    """Batch norm over valid time with torch's kernels, which have no masks, corrected for the padding that they count."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lengths: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``x (B, C, H, T)``, lengths ``(B,)`` up to T → normalised ``(B, C, H, T)``, mean and variance ``(C,)``, count."""
        x = clear_padding_(x.clone(), lengths)
        count = lengths.sum().to(weight.dtype) * x.shape[2]
        # torch's own statistics add float32 one by one in channels-last order, which is wrong from the fourth digit
        wide = x.to(weight.dtype)
        mean = wide.sum((0, 2, 3)) / count
        variance = (wide.square().sum((0, 2, 3)) / count - mean.square()).clamp(min=0)
        normalised = F.batch_norm(x, mean, variance, weight, bias, eps=eps)
        ctx.save_for_backward(x, lengths, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return clear_padding_(normalised, lengths), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of Ioffe and Szegedy (2015), with means over valid positions only."""
        x, lengths, weight, mean, variance, count = ctx.saved_tensors
        gradient = clear_padding_(gradient.clone(), lengths)
        inverse = (variance + ctx.eps).rsqrt()
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, inverse, True, ctx.eps, [True, True, True]
        )
        positions = x.numel() // x.shape[1]
        # the kernel's means are over all positions; the difference to valid ones is again a normalisation of x
        lack = -weight * inverse * (1 / count - 1 / positions)
        of_x += F.batch_norm(x, mean, variance, lack * of_weight, lack * of_bias, eps=ctx.eps)
        return clear_padding_(of_x, lengths), None, of_weight, of_bias, None


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of ``(B, C, H, T)`` whose statistics ignore padding; its output is zero in padding.

    Without padding it equals :class:`torch.nn.BatchNorm2d` (Ioffe and Szegedy, 2015). On a CPU it is fastest if ``x`` is
    in channels-last order.
    """

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            return _ClearPadding.apply(super().forward(x), lengths)
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        normalised, mean, variance, count = _MaskedNormalise.apply(x, lengths, self.weight, self.bias, self.eps)
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        return normalised


def embed_by_length(embed: Callable[[Tensor], Tensor], waveform: Tensor, lengths: Tensor) -> Tensor:
    """Embeddings ``(B, E)`` of padded utterances ``(B, T)`` from a network that has no masks.

    The network is given all utterances of one length at a time, without their padding.

    Args:
        embed: utterances of one length ``(b, t)`` → ``(b, E)``.
        waveform: samples ``(B, T)``, with any values in the padding.
        lengths: number of samples of each utterance ``(B,)``.
    """
    rows, embeddings = [], []
    for length in lengths.unique().tolist():
        chosen = (lengths == length).nonzero().squeeze(1)
        rows.append(chosen)
        embeddings.append(embed(waveform[chosen, :length]))
    return torch.cat(embeddings)[torch.cat(rows).argsort()]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the last axis of ``x`` on the right to the next multiple."""
    return F.pad(x, (0, -x.shape[-1] % multiple))
