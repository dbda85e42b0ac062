"""The terms of the losses (article, section 4; docs/paper.md says which are stated and which are chosen)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from psegan.masking import masked_mean


def distortion(generated: Tensor, original: Tensor, lengths: Tensor) -> Tensor:
    """Mean absolute error of scaled log-mels ``(B, F, N)`` over valid frames, a scalar."""
    return masked_mean((generated - original).abs(), lengths)


def pcgan_distortion(generated: Tensor, original: Tensor, lengths: Tensor, epsilon: float) -> Tensor:
    """PCGAN's hinge ``max(0, d - epsilon)²`` on the mean absolute error: no cost within a budget, a scalar."""
    return (distortion(generated, original, lengths) - epsilon).clamp(min=0).square()


def fake_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of ``(B, K+1)`` logits with the last class, "fake", a scalar."""
    return F.cross_entropy(logits, torch.full_like(logits[:, 0], logits.shape[1] - 1, dtype=torch.long))


def speaker_consistency(generated: Tensor, original: Tensor) -> Tensor:
    """Mean of 1 - cosine between embeddings ``(B, E)`` of generated and original speech, a scalar in [0, 2]."""
    return (1 - F.cosine_similarity(generated.float(), original.float())).mean()
