"""Masks over padded time: the one place that knows what is padding.

Everything here takes ``lengths (B,)`` in units of the last axis of the tensor at hand, so that a padded utterance
gives the same result as the same utterance alone.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Boolean ``(B, size)``, true where a position lies inside its utterance."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def mask_like(lengths: Tensor, x: Tensor) -> Tensor:
    """:func:`length_mask` for ``x (B, ..., T)``, in its dtype and with singleton axes in between."""
    mask = length_mask(lengths, x.shape[-1]).to(x.dtype)
    return mask.view(x.shape[0], *[1] * (x.dim() - 2), x.shape[-1])


def masked_mean(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean of ``x (B, ..., T)`` over all its valid elements, a scalar."""
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
    """Lengths after a pooling or a same-padded convolution of this stride: rounded up."""
    return torch.div(lengths + stride - 1, stride, rounding_mode="floor")


class _MaskedNormalise(torch.autograd.Function):
    """Batch norm over valid time with its gradient written out: half the time of what autograd derives."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``x (B, C, H, T)``, mask ``(B, 1, 1, T)`` → normalised ``(B, C, H, T)``, mean and variance ``(C,)``, count."""
        count = mask.sum() * x.shape[2]
        column = (1, -1, 1, 1)
        mean = (x * mask).sum((0, 2, 3)) / count
        centred = (x - mean.view(column)).mul_(mask)
        variance = centred.square().sum((0, 2, 3)) / count
        inverse = (variance + eps).rsqrt()
        unit = centred.mul_(inverse.view(column))
        ctx.save_for_backward(unit, mask, weight, inverse, count)
        normalised = torch.addcmul(bias.view(column) * mask, unit, weight.view(column))
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Ioffe and Szegedy's, with sums over valid positions alone."""
        unit, mask, weight, inverse, count = ctx.saved_tensors
        column = (1, -1, 1, 1)
        gradient = gradient * mask
        of_bias = gradient.sum((0, 2, 3))
        of_weight = (gradient * unit).sum((0, 2, 3))
        of_x = gradient.sub_((of_bias / count).view(column)).addcmul_(unit, (of_weight / count).view(column), value=-1)
        return of_x.mul_(mask).mul_((weight * inverse).view(column)), None, of_weight, of_bias, None


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of ``(B, C, H, T)`` whose statistics ignore padded time; its output is zero there.

    With no padding in the batch it is :class:`torch.nn.BatchNorm2d` (Ioffe and Szegedy, 2015).
    """

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        mask = mask_like(lengths, x)
        if not self.training:
            return super().forward(x) * mask
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        with torch.autocast(x.device.type, enabled=False):
            normalised, mean, variance, count = _MaskedNormalise.apply(
                x.float(), mask.float(), self.weight, self.bias, self.eps
            )
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        return normalised.to(x.dtype)


def embed_by_length(embed: Callable[[Tensor], Tensor], waveform: Tensor, lengths: Tensor) -> Tensor:
    """Embeddings ``(B, E)`` of padded utterances ``(B, T)``, by a network that cannot tell padding from speech.

    Args:
        embed: utterances of one length ``(b, t)`` → ``(b, E)``.
        waveform: samples, anything in the padding.
        lengths: samples of each ``(B,)``.
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
