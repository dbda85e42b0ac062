"""The terms of the losses (article, section 4; docs/paper.md says which are stated and which are chosen)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from psegan.models.waveform_discriminator import DiscriminatorOutput
from psegan.speech.masking import mask_like, masked_mean

STFT_RESOLUTIONS = (512, 1024, 2048)
"""Windows of the multi-resolution STFT distance, in samples."""


def distortion(generated: Tensor, original: Tensor, lengths: Tensor) -> Tensor:
    """Mean absolute error of scaled log-mels ``(B, F, N)`` over valid frames, a scalar."""
    return masked_mean((generated - original).abs(), lengths)


def pcgan_distortion(generated: Tensor, original: Tensor, lengths: Tensor, epsilon: float) -> Tensor:
    """PCGAN's hinge ``max(0, d - epsilon)²`` on the mean absolute error: no cost within a budget, a scalar."""
    return (distortion(generated, original, lengths) - epsilon).clamp(min=0).square()


def fake_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of ``(B, K+1)`` logits with the last class, which is "fake"; a scalar."""
    return F.cross_entropy(logits, torch.full_like(logits[:, 0], logits.shape[1] - 1, dtype=torch.long))


def speaker_consistency(generated: Tensor, wanted: Tensor) -> Tensor:
    """Mean of 1 - cosine between embeddings ``(B, E)`` of generated speech and those that it shall have, a scalar in [0, 2]."""
    return (1 - F.cosine_similarity(generated.float(), wanted.float())).mean()


def content_consistency(generated: Tensor, original: Tensor, lengths: Tensor) -> Tensor:
    """Mean over frames of 1 - cosine between a content matcher's features ``(B, C, N)``, a scalar in [0, 2].

    The mean over the frames of the original is taken from both first: what all frames have in common is no sound of speech, and
    would make all cosines alike.

    Args:
        generated, original: features of generated and of original speech, zero in padding.
        lengths: frames ``(B,)`` of the features.
    """
    centre = original.float().sum(-1, keepdim=True) / lengths.view(-1, 1, 1)
    return masked_mean(1 - F.cosine_similarity(generated.float() - centre, original.float() - centre, dim=1), lengths)


def three_deviations(mel: Tensor, lengths: Tensor) -> Tensor:
    """Three standard deviations of each spectrogram ``(B, F, N)`` over its valid part, ``(B, 1, 1)``.

    The public GenGAN and PCMelGAN code divides each spectrogram by it, and chooses the weight of the distortion for that.
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
    """``log K`` minus the entropy of the classes in ``(B, K)`` logits, a scalar: 0 if all classes are equally likely."""
    log_probability = logits.float().log_softmax(-1)
    entropy = -(log_probability.exp() * log_probability).sum(-1)
    return (math.log(logits.shape[-1]) - entropy).mean()


def spectral_convergence(generated: Tensor, original: Tensor) -> Tensor:
    """Frobenius norm of the difference of magnitudes ``(B, F, N)`` over that of the original, mean over B, a scalar."""
    difference = (generated - original).flatten(1).norm(dim=1)
    return (difference / original.flatten(1).norm(dim=1).clamp(min=1e-3)).mean()


def multi_resolution_stft(generated: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-resolution STFT distance (Yamamoto, Song and Kim, Parallel WaveGAN, ICASSP 2020).

    The windows are Hann's and the hop is a quarter of them; magnitudes below 1e-3 of a unit are silence.

    Args:
        generated, original: waveforms ``(B, T)``, zero in padding.

    Returns:
        Means over resolutions of the spectral convergence and of the mean absolute difference of natural log-magnitudes.
    """
    convergence, log_distance = [], []
    both = torch.cat([generated, original]).float()
    for n_fft in STFT_RESOLUTIONS:
        window = torch.hann_window(n_fft, device=both.device)
        spectrum = torch.stft(both, n_fft, n_fft // 4, window=window, pad_mode="constant", return_complex=True)
        # the root of a sum, not abs(): its gradient is finite where the spectrum is zero
        magnitude = (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-6).sqrt()
        ours, theirs = magnitude.chunk(2)
        convergence.append(spectral_convergence(ours, theirs))
        log_distance.append((ours.log() - theirs.log()).abs().mean())
    return torch.stack(convergence).mean(), torch.stack(log_distance).mean()


def hinge_real(outputs: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean hinge loss of discriminators on real waveforms, a scalar (Lim and Ye, 2017)."""
    return torch.stack([F.relu(1 - output.score.float()).mean() for output in outputs]).mean()


def hinge_fake(outputs: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean hinge loss of discriminators on generated waveforms, a scalar."""
    return torch.stack([F.relu(1 + output.score.float()).mean() for output in outputs]).mean()


def be_taken_for_real(outputs: Sequence[DiscriminatorOutput]) -> Tensor:
    """The generator's hinge loss: minus the mean score of generated waveforms, a scalar (Lim and Ye, 2017)."""
    return -torch.stack([output.score.float().mean() for output in outputs]).mean()


def feature_matching(generated: Sequence[DiscriminatorOutput], original: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean absolute difference of discriminators' features, mean over layers and discriminators, a scalar (MelGAN)."""
    ours, theirs = ([feature for output in outputs for feature in output.features] for outputs in (generated, original))
    pairs = zip(ours, theirs, strict=True)
    return torch.stack([F.l1_loss(one.float(), other.detach().float()) for one, other in pairs]).mean()
