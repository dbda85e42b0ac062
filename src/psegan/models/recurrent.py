"""A recurrent encoder: an attacker of another kind than the residual CNN."""

from torch import Tensor, nn
from torch.nn import functional as F

from psegan.audio import N_MELS
from psegan.masking import MaskedBatchNorm2d, mask_like, strided_length
from psegan.models.classifier import AttentiveStatisticsPooling


class RecurrentEncoder(nn.Module):
    """Two strided convolutions, a bidirectional GRU and attentive statistics pooling, after Mirsamadi, Barsoum and Zhang.

    ("Automatic speech emotion recognition using recurrent neural networks with local attention", ICASSP 2017.)

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
        self.gru = nn.GRU(
            hidden, hidden, n_layers, batch_first=True, dropout=dropout if n_layers > 1 else 0.0, bidirectional=True
        )
        self.pooling = AttentiveStatisticsPooling(2 * hidden)
        self.embedding = nn.Linear(4 * hidden, embedding_dim)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, n_bands, N)`` and frames ``(B,)`` → embedding ``(B, embedding_dim)``."""
        x = mel.unsqueeze(1)
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            lengths = strided_length(lengths, 2)
            x = F.relu(norm(conv(x), lengths))
            x = x * mask_like(lengths, x)
        sequence = F.relu(self.projection(x.flatten(1, 2).transpose(1, 2)))
        # packed, or the backward direction would begin in the padding
        packed = nn.utils.rnn.pack_padded_sequence(sequence, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[-1])
        return self.embedding(self.pooling(states.transpose(1, 2), lengths))
