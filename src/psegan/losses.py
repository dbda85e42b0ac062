"""The terms of the losses (article, section 4; docs/paper.md says which are stated and which are chosen)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from psegan.masking import mask_like, masked_mean


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


def squared_distortion(generated: Tensor, original: Tensor, lengths: Tensor) -> Tensor:
    """Mean squared error of log-mels ``(B, F, N)`` over valid frames, a scalar (GenGAN)."""
    return masked_mean((generated - original).square(), lengths)


def three_deviations(mel: Tensor, lengths: Tensor) -> Tensor:
    """Three standard deviations of each spectrogram ``(B, F, N)`` over its valid part, ``(B, 1, 1)``.

    The public GenGAN and PCMelGAN code divides each spectrogram by it, so that their weights of the distortion are for
    spectrograms in this unit.
    """
    mask = mask_like(lengths, mel)
    count = lengths.view(-1, 1, 1) * mel.shape[1]
    mean = (mel * mask).sum((1, 2), keepdim=True) / count
    variance = ((mel - mean).square() * mask).sum((1, 2), keepdim=True) / count
    return 3 * (variance + 1e-8).sqrt()


def ambiguity(logits: Tensor, n_emotions: int) -> Tensor:
    """Cross-entropy of ``(B, K+1)`` logits with the uniform distribution over the K emotions, a scalar (GenGAN)."""
    return -logits.float().log_softmax(-1)[:, :n_emotions].mean()


def certainty(logits: Tensor) -> Tensor:
    """``log K`` minus the entropy of the verdicts in ``(B, K)`` logits, a scalar: 0 where all classes are as likely."""
    log_probability = logits.float().log_softmax(-1)
    entropy = -(log_probability.exp() * log_probability).sum(-1)
    return (math.log(logits.shape[-1]) - entropy).mean()
