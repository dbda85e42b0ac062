"""Encoders from a spectrogram to one vector, for classifiers, attackers and the speaker matcher."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.speech.audio import N_MELS
from psegan.speech.masking import MaskedBatchNorm2d, length_mask, strided_length


class AttentiveStatisticsPooling(nn.Module):
    """Attention-weighted mean and standard deviation over time (Okabe, Koshinaka and Shinoda, Interspeech 2018)."""

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.Tanh(), nn.Conv1d(hidden, channels, 1))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, C, T)`` and valid frames ``(B,)`` → ``(B, 2C)``."""
        logits = self.attention(x).float()
        weights = logits.masked_fill(~length_mask(lengths, x.shape[-1]).unsqueeze(1), -torch.inf).softmax(-1)
        x = x.float()
        mean = (weights * x).sum(-1)
        variance = (weights * (x - mean.unsqueeze(-1)).square()).sum(-1)
        return torch.cat([mean, (variance + 1e-5).sqrt()], 1)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with masked batch norm around a shortcut (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = MaskedBatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = MaskedBatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C_in, H, T)`` → ``(B, C_out, H / stride, T / stride)`` and its lengths."""
        lengths = strided_length(lengths, self.stride)
        h = F.relu(self.norm1(self.conv1(x), lengths))
        h = self.norm2(self.conv2(h), lengths)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(h + shortcut), lengths  # padding is zero: it was in x, and no convolution has a bias


class SpeechEncoder(nn.Module):
    """Residual CNN on a spectrogram with attentive statistics pooling.

    Args:
        embedding_dim: size of the vector it returns.
        widths: channels of the blocks; each but the first halves both axes.
        n_bands: rows of the spectrogram.
    """

    def __init__(
        self, embedding_dim: int = 128, widths: Sequence[int] = (16, 32, 64, 96), n_bands: int = N_MELS
    ) -> None:
        super().__init__()
        self.embedding_dim, self.widths, self.n_bands = embedding_dim, tuple(widths), n_bands
        self.stem = nn.Conv2d(1, widths[0], 5, (2, 2), 2, bias=False)
        self.stem_norm = MaskedBatchNorm2d(widths[0])
        self.blocks = nn.ModuleList()
        rows = n_bands
        for index, (i, o) in enumerate(zip([widths[0], *widths[:-1]], widths, strict=True)):
            self.blocks.append(ResidualBlock(i, o, 2 if index else 1))
            rows = (rows + 1) // 2
        self.pooling = AttentiveStatisticsPooling(widths[-1] * rows)
        self.embedding = nn.Linear(2 * widths[-1] * rows, embedding_dim)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, n_bands, N)`` and frames ``(B,)`` → embedding ``(B, embedding_dim)``."""
        lengths = strided_length(lengths, 2)
        x = self.stem(mel.unsqueeze(1)).contiguous(memory_format=torch.channels_last)  # a quarter faster on CPUs
        x = F.relu(self.stem_norm(x, lengths))
        for block in self.blocks:
            x, lengths = block(x, lengths)
        return self.embedding(self.pooling(x.flatten(1, 2), lengths))


class EncoderEnsemble(nn.Module):
    """Several encoders as one; the cosine of two of its embeddings is the mean of the encoders' cosines.

    Embeddings are taken after the ReLU, as the classifiers' heads were trained on them.
    """

    def __init__(self, encoders: Iterable[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, n_bands, N)`` and frames ``(B,)`` → the encoders' embeddings concatenated, each of norm 1."""
        embeddings = [F.relu(encoder(mel, lengths).float()) for encoder in self.encoders]
        return torch.cat([F.normalize(embedding, dim=-1) for embedding in embeddings], -1)
