"""A recurrent encoder, for attackers whose architecture is not the residual CNN's."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.models.classifier import AttentiveStatisticsPooling
from psegan.speech.audio import N_MELS
from psegan.speech.masking import MaskedBatchNorm2d, strided_length


class RecurrentEncoder(nn.Module):
    """Two strided convolutions, a bidirectional GRU and attentive statistics pooling (after Mirsamadi et al., ICASSP 2017).

    Args:
        embedding_dim: size of the vector it returns.
        channels: of the convolutions.
        hidden: of the GRU, each direction.
        n_layers: of the GRU.
        dropout: between the layers.
        n_bands: rows of the spectrogram.
    """

    def __init__(
        self,
        embedding_dim: int = 128,
        channels: int = 24,
        hidden: int = 128,
        n_layers: int = 2,
        dropout: float = 0.2,
        n_bands: int = N_MELS,
    ) -> None:
        super().__init__()
        self.embedding_dim, self.channels, self.hidden = embedding_dim, channels, hidden
        self.n_layers, self.dropout, self.n_bands = n_layers, dropout, n_bands
        self.conv1 = nn.Conv2d(1, channels, 3, 2, 1, bias=False)
        self.norm1 = MaskedBatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 2, 1, bias=False)
        self.norm2 = MaskedBatchNorm2d(channels)
        rows = (n_bands + 3) // 4
        self.projection = nn.Linear(channels * rows, hidden)
        sizes = [2 * hidden if layer else hidden for layer in range(n_layers)]
        self.onward = nn.ModuleList(nn.GRU(size, hidden, batch_first=True) for size in sizes)
        self.returning = nn.ModuleList(nn.GRU(size, hidden, batch_first=True) for size in sizes)
        self.pooling = AttentiveStatisticsPooling(2 * hidden)
        self.embedding = nn.Linear(4 * hidden, embedding_dim)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, n_bands, N)`` and frames ``(B,)`` → embedding ``(B, embedding_dim)``."""
        x = mel.unsqueeze(1)
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            lengths = strided_length(lengths, 2)
            x = F.relu(norm(conv(x), lengths))
        sequence = self.both_ways(F.relu(self.projection(x.flatten(1, 2).transpose(1, 2))), lengths)
        return self.embedding(self.pooling(sequence.transpose(1, 2), lengths))

    def both_ways(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """``(B, T, hidden)`` and frames ``(B,)`` → states ``(B, T, 2 * hidden)``, undefined in the padding."""
        # the second direction reads each utterance from its true end; torch's packed sequences take half as long again
        time = torch.arange(sequence.shape[1], device=sequence.device)
        backwards = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
        rows = torch.arange(len(sequence), device=sequence.device)[:, None]
        for index, (onward, returning) in enumerate(zip(self.onward, self.returning, strict=True)):
            sequence = F.dropout(sequence, self.dropout, self.training) if index else sequence
            returned = returning(sequence[rows, backwards])[0][rows, backwards]
            sequence = torch.cat([onward(sequence)[0], returned], -1)
        return sequence
