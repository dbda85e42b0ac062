"""Discriminators that classify emotion into K classes and "fake", the last."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.models.augmentation import SpectrogramAugmentation
from psegan.models.classifier import SpeechEncoder
from psegan.speech.audio import N_MELS
from psegan.speech.masking import MaskedBatchNorm2d, masked_statistics, strided_length


class StridedDiscriminator(nn.Module):
    """A small discriminator: strided convolutions with masked batch norm, then mean and deviation over time.

    Args:
        n_classes: outputs, "fake" included.
        widths: channels of its layers; each halves both axes.
        dropout: on the pooled statistics.
    """

    def __init__(self, n_classes: int, widths: Sequence[int] = (24, 48, 96, 128), dropout: float = 0.2) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 5 if i == 1 else 3, 2, 2 if i == 1 else 1)
            for i, o in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm2d(o) for o in widths)
        rows = N_MELS // 2 ** len(widths)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(2 * widths[-1] * rows, 128)
        self.output = nn.Linear(128, n_classes)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, 80, N)`` scaled log-mel and frames ``(B,)`` → logits ``(B, n_classes)``."""
        x = mel.unsqueeze(1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            lengths = strided_length(lengths, 2)
            x = F.leaky_relu(norm(conv(x), lengths), 0.2)
        pooled = torch.cat(masked_statistics(x.flatten(1, 2), lengths), 1)
        return self.output(F.leaky_relu(self.hidden(self.dropout(pooled)), 0.2))


class ClassifierDiscriminator(nn.Module):
    """The network of an emotion :class:`~psegan.systems.Classifier`, which can take over a trained classifier's weights.

    Args:
        n_classes: outputs, "fake" included.
        encoder: makes the network from spectrogram to embedding.
        augmentation: makes what changes its input in training, real and generated: a generator that has to convince it
            through masks learns less that only this one network is convinced by.

    Attributes:
        random: where the augmentation is drawn from; whoever trains it sets one for every batch. None augments nothing.
    """

    def __init__(
        self,
        n_classes: int,
        encoder: Callable[[], nn.Module] = SpeechEncoder,
        augmentation: Callable[[], nn.Module] = SpectrogramAugmentation,
    ) -> None:
        super().__init__()
        self.encoder, self.augmentation = encoder(), augmentation()
        self.random: torch.Generator | None = None
        self.output = nn.Linear(self.encoder.embedding_dim, n_classes)  # type: ignore[arg-type]

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, 80, N)`` scaled log-mel and frames ``(B,)`` → logits ``(B, n_classes)``."""
        if self.training and self.random is not None:
            mel, lengths = self.augmentation(mel, lengths, self.random)
        return self.output(F.relu(self.encoder(mel, lengths)))

    def begin_with(self, encoder: nn.Module, head: nn.Linear) -> None:
        """Take over a classifier's weights. The output "fake", which it lacks, begins with weights of zero.

        Raises:
            RuntimeError: the encoder is of another shape.
        """
        self.encoder.load_state_dict(encoder.state_dict())
        known = head.out_features
        with torch.no_grad():
            self.output.weight[:known], self.output.bias[:known] = head.weight, head.bias
            self.output.weight[known:], self.output.bias[known:] = 0.0, head.bias.mean()


class AlexNetDiscriminator(nn.Module):
    """AlexNet on one channel, as in the public GenGAN code: 12,945,097 parameters at 9 classes, "fake" included.

    After Krizhevsky (arXiv:1404.5997) with a first convolution of 5×5 and stride 1 and two hidden layers of 1024.
    Its adaptive pooling takes no lengths, so that it classifies an utterance together with its padding, as in the article.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 64, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.AdaptiveAvgPool2d((6, 6)),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(256 * 6 * 6, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(1024, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, n_classes),
        )

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, 80, N)`` scaled log-mel and frames ``(B,)``, which it ignores → logits ``(B, n_classes)``."""
        mel = F.pad(mel, (0, max(15 - mel.shape[-1], 0)))  # the three poolings need so many frames
        return self.classifier(self.features(mel.unsqueeze(1)).flatten(1))
