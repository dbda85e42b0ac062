"""Masks over padded time: the one place that knows what is padding.

Everything here takes ``lengths (B,)`` in units of the last axis of the tensor at hand, so that a padded utterance
gives the same result as the same utterance alone.
"""

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
        x32, mask32 = x.float(), mask.float()
        count = mask32.sum() * x.shape[2]
        mean = (x32 * mask32).sum((0, 2, 3)) / count
        centred = x32 - mean.view(1, -1, 1, 1)
        variance = (centred.square() * mask32).sum((0, 2, 3)) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        scale = (variance + self.eps).rsqrt() * self.weight
        return ((centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)) * mask32).to(x.dtype)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the last axis of ``x`` on the right to the next multiple."""
    return F.pad(x, (0, -x.shape[-1] % multiple))
