"""What is said, frame by frame, whoever says it and however loud: the content matcher, and Anchored's encoder."""

import torch
from torch import Tensor, nn

from psegan.models.convnext import ConvNeXtStack, TimeConv
from psegan.speech.audio import N_MELS
from psegan.speech.masking import mask_like, masked_statistics, strided_length

STRIDE = 2
"""Spectrogram frames to a frame of features."""
FLOOR = 0.01
"""Added to a band's deviation, 0.15 nepers: a band of silence stays small."""


def normalised_bands(mel: Tensor, lengths: Tensor) -> Tensor:
    """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → every band less its mean, over its deviation; zero in padding."""
    mean, deviation = masked_statistics(mel, lengths)
    return (mel - mean.unsqueeze(-1)) / (deviation.unsqueeze(-1) + FLOOR) * mask_like(lengths, mel)


class FrameEncoder(nn.Module):
    """Strided convolution and ConvNeXt blocks over time: features of what is said, 31 a second.

    Every band is normalised by its mean and deviation over the utterance, so that neither the level nor the room counts.
    Beyond those, a feature depends on ``STRIDE · depth · (kernel_size // 2) + 2`` frames of 16 ms on either side, the two by
    the first convolution; ahead, where there is a ``lookahead``, on ``STRIDE · depth · lookahead + 2``.

    Args:
        width: size of the features.
        hidden: channels inside the blocks.
        depth: blocks.
        kernel_size: taps of a block, in frames of 32 ms, odd.
        dropout: in the blocks, in training.
        lookahead: of each block, see :class:`~psegan.models.convnext.TimeConv`.
    """

    def __init__(
        self, width: int, hidden: int, depth: int, kernel_size: int, dropout: float, lookahead: int | None = None
    ) -> None:
        super().__init__()
        self.width, self.hidden, self.depth = width, hidden, depth
        self.kernel_size, self.dropout, self.lookahead = kernel_size, dropout, lookahead
        self.stem = TimeConv(N_MELS, width, 5, STRIDE)
        self.stem_norm = nn.LayerNorm(width)
        self.blocks = ConvNeXtStack(width, hidden, kernel_size, depth, dropout, lookahead)
        self.last_norm = nn.LayerNorm(width)

    def features(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled log-mel ``(B, 80, N)``, zero in padding, and frames ``(B,)`` → features ``(B, width, N')`` and their lengths.

        N' is N / 2, rounded up. Features are normalised over channels, and zero in padding.
        """
        x = normalised_bands(mel, lengths)
        lengths = strided_length(lengths, STRIDE)
        x = self.stem(x)
        mask = mask_like(lengths, x)
        x = self.stem_norm(x.transpose(1, 2)).transpose(1, 2) * mask
        x = self.blocks(x, mask)
        return self.last_norm(x.transpose(1, 2)).transpose(1, 2) * mask, lengths


class ContentEncoder(FrameEncoder):
    """A content matcher that spells: a :class:`FrameEncoder`, then the logits of characters.

    It is trained by connectionist temporal classification (Graves et al., ICML 2006), so that the features before the logits
    tell sounds apart.

    Args:
        alphabet: the characters that it knows; the class after the last one is CTC's blank.
        width, hidden, depth, kernel_size, dropout: see :class:`FrameEncoder`.
    """

    def __init__(
        self,
        alphabet: str = " 'abcdefghijklmnopqrstuvwxyz",
        width: int = 192,
        hidden: int = 576,
        depth: int = 6,
        kernel_size: int = 11,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(width, hidden, depth, kernel_size, dropout)
        self.alphabet = alphabet
        self.head = nn.Linear(width, len(alphabet) + 1)

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`features`."""
        return self.features(mel, lengths)

    def classify(self, features: Tensor) -> Tensor:
        """Features ``(B, width, N')`` → logits ``(B, N', len(alphabet) + 1)``."""
        return self.head(features.transpose(1, 2))

    def spell(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """The likeliest class of each frame of ``(B, N', len(alphabet) + 1)``, repetitions and blanks left out, as texts."""
        found = []
        for row, n in zip(logits.argmax(-1), lengths.tolist(), strict=True):
            best = torch.unique_consecutive(row[:n]).tolist()
            found.append("".join(self.alphabet[k] for k in best if k < len(self.alphabet)))
        return found


class FeatureEncoder(FrameEncoder):
    """A content matcher that was taught by a recogniser: a :class:`FrameEncoder`, then what the recogniser hears.

    It is trained by :class:`psegan.systems.ContentDistillation`.

    Args:
        outputs: values of a frame of the recogniser's.
        width, hidden, depth, kernel_size, dropout: see :class:`FrameEncoder`.
    """

    def __init__(
        self,
        outputs: int = 288,
        width: int = 192,
        hidden: int = 576,
        depth: int = 10,
        kernel_size: int = 11,
        dropout: float = 0.05,
    ) -> None:
        super().__init__(width, hidden, depth, kernel_size, dropout)
        self.outputs = outputs
        self.head = nn.Linear(width, outputs)

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → ``(B, outputs, N')`` and their lengths; see :meth:`features`."""
        features, lengths = self.features(mel, lengths)
        heard = self.head(features.transpose(1, 2)).transpose(1, 2)
        return heard * mask_like(lengths, heard), lengths
