"""The x-vector network of the speaker verifier, whose architecture differs from the speaker matcher's."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.models.classifier import AttentiveStatisticsPooling
from psegan.speech.audio import N_MELS
from psegan.speech.masking import MaskedBatchNorm2d, mask_like, masked_statistics


class TDNNLayer(nn.Module):
    """A dilated convolution over time, a rectifier and masked batch norm; the number of frames stays."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel, dilation=dilation, padding="same")
        self.norm = MaskedBatchNorm2d(out_channels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, C_in, N)``, zero in the padding, and frames ``(B,)`` → ``(B, C_out, N)``, zero in the padding."""
        x = F.relu(self.convolution(x))
        return self.norm(x.unsqueeze(2), lengths).squeeze(2)


class TDNNEncoder(nn.Module):
    """Time-delay neural network with statistics pooling (x-vector; Snyder et al., ICASSP 2018).

    Five layers over time with the paper's contexts and an eighth to a quarter of its widths are followed by pooling and one
    linear layer, whose output is the paper's embedding ``a``. Two things differ from the paper: the mean that is subtracted
    from every frame is of the whole utterance instead of three seconds, and frames beyond the ends count as that mean
    instead of being left out.

    Args:
        embedding_dim: size of the vector it returns.
        layer_widths: channels of the five layers.
        attentive: weight the frames that are pooled by attention (Okabe, Koshinaka and Shinoda, Interspeech 2018)
            instead of alike.
        n_bands: rows of the spectrogram.

    Raises:
        PseganError: not five widths.
    """

    contexts = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
    """Kernel and dilation of each layer, in frames."""

    def __init__(
        self,
        embedding_dim: int = 128,
        layer_widths: Sequence[int] = (160, 160, 160, 160, 480),
        attentive: bool = True,
        n_bands: int = N_MELS,
    ) -> None:
        super().__init__()
        if len(layer_widths) != len(self.contexts):
            raise PseganError(f"layer_widths has {len(layer_widths)} numbers, but must have {len(self.contexts)}")
        self.embedding_dim, self.layer_widths = embedding_dim, tuple(layer_widths)
        self.attentive, self.n_bands = attentive, n_bands
        sizes = pairwise((n_bands, *layer_widths))
        self.layers = nn.ModuleList(
            TDNNLayer(i, o, *context) for (i, o), context in zip(sizes, self.contexts, strict=True)
        )
        self.pooling = AttentiveStatisticsPooling(layer_widths[-1]) if attentive else None
        self.embedding = nn.Linear(2 * layer_widths[-1], embedding_dim)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, n_bands, N)`` and frames ``(B,)`` → embedding ``(B, embedding_dim)``."""
        mean, _ = masked_statistics(mel, lengths)
        x = (mel - mean.unsqueeze(-1).to(mel.dtype)) * mask_like(lengths, mel)
        for layer in self.layers:
            x = layer(x, lengths)
        pooled = torch.cat(masked_statistics(x, lengths), 1) if self.pooling is None else self.pooling(x, lengths)
        return self.embedding(pooled)
