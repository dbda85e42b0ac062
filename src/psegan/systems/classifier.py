"""Classifiers of one attribute: evaluators, attackers, and the speaker matcher before it is frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.models.augmentation import SpectrogramAugmentation, mixed
from psegan.models.classifier import SpeechEncoder
from psegan.speech.batch import SpeechBatch
from psegan.systems.one_cycle import OneCycleSystem
from psegan.weights import load_system


class Classifier(OneCycleSystem):
    """An encoder and a linear layer, trained by cross-entropy on one attribute.

    Spectrograms are augmented and, with ``mixup``, mixed.

    Args:
        attribute: emotion, speaker, gender or content.
        encoder: makes the network from spectrogram to embedding. An encoder may bring a ``front_end`` of its own, which
            maps waveforms and lengths to features and lengths; these features are neither augmented nor mixed.
        augmentation: makes what changes training spectrograms.
        mixup: alpha of the Beta distribution of mixing weights; 0 mixes nothing.
        encoder_checkpoint, learning_rate, weight_decay: see :class:`~psegan.systems.one_cycle.OneCycleSystem`.
        label_smoothing: of the cross-entropy.
        n_classes, seed: see :class:`~psegan.systems.base.System`.

    Raises:
        PseganError: no such attribute, or one of a single class.
    """

    def __init__(
        self,
        n_classes: dict[str, int],
        attribute: str = "emotion",
        encoder: Callable[[], nn.Module] = SpeechEncoder,
        augmentation: Callable[[], nn.Module] = SpectrogramAugmentation,
        mixup: float = 0.0,
        encoder_checkpoint: str | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        label_smoothing: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, learning_rate, weight_decay, encoder_checkpoint, seed)
        if attribute not in n_classes:
            raise PseganError(f"model.init_args.attribute is {attribute!r}: one of {', '.join(n_classes)}")
        if n_classes[attribute] < 2:
            raise PseganError(
                f"the corpus has a single class of {attribute}, or doesn't know it; a classifier needs two or more"
            )
        self.attribute = attribute
        self.encoder = encoder()
        self.reads_spectrograms = not hasattr(self.encoder, "front_end")
        if not self.reads_spectrograms:
            self.front_end = self.encoder.front_end  # type: ignore[assignment]
        self.augmentation, self.mixup = augmentation(), mixup
        self.head = nn.Linear(self.encoder.embedding_dim, n_classes[attribute])  # type: ignore[arg-type]
        self.label_smoothing = label_smoothing
        self.confusion = MulticlassConfusionMatrix(n_classes[attribute])

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def about(self) -> dict[str, Any]:
        return {**super().about(), "attribute": self.attribute}

    def embed(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → embedding ``(B, E)``."""
        return self.encoder(mel, lengths)

    def classify(self, embedding: Tensor) -> Tensor:
        """Embedding ``(B, E)`` → logits ``(B, n_classes)``."""
        return self.head(F.relu(embedding))

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → logits ``(B, n_classes)``."""
        return self.classify(self.embed(mel, lengths))

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        features, frames = self.features(batch)
        labels = batch.label(self.attribute)
        random = seeded(*self.occasion)
        if self.reads_spectrograms:
            features, frames = self.augmentation(features, frames, random)
        if self.reads_spectrograms and self.mixup:
            features, frames, partner, weight = mixed(features, frames, self.mixup, random)
            logits = self(features, frames)
            own, other = (
                F.cross_entropy(logits, target, label_smoothing=self.label_smoothing, reduction="none")
                for target in (labels, labels[partner])
            )
            loss = (weight * own + (1 - weight) * other).mean()  # of the losses with both labels
        else:
            loss = F.cross_entropy(self(features, frames), labels, label_smoothing=self.label_smoothing)
        self.log("train/loss", loss, batch_size=len(batch))  # of this process: averaging would cost a wait a step
        return loss

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        mel, frames = self.features(batch)
        logits, labels = self(mel, frames), batch.label(self.attribute)
        self.confusion(logits, labels)
        self.log(f"{self.stage}/loss", F.cross_entropy(logits, labels), batch_size=len(batch), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log accuracy and UAR over the classes that occur, as :func:`psegan.metrics.scores.uar` defines it."""
        counts = self.confusion.compute().double()
        self.confusion.reset()
        occurring = counts.sum(1) > 0
        recall = counts.diagonal()[occurring] / counts.sum(1)[occurring]
        self.log(f"{self.stage}/accuracy", counts.diagonal().sum().float() / counts.sum().float(), prog_bar=True)
        self.log(f"{self.stage}/uar", recall.mean().float())

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end

    def predict_step(self, batch: SpeechBatch, batch_idx: int) -> dict[str, Tensor | tuple[str, ...]]:
        """Names, class probabilities ``(B, K)`` and embeddings ``(B, E)``."""
        mel, frames = self.features(batch)
        embedding = self.embed(mel, frames)
        return {"id": batch.id, "probability": self.classify(embedding).softmax(-1), "embedding": embedding}


def load_classifier(path: str | Path, attribute: str) -> Classifier:
    """Load a trained classifier of ``attribute``, in evaluation mode and frozen.

    Raises:
        PseganError: the file is missing, is no checkpoint, or holds something else.
    """
    classifier = load_system(path)
    if not isinstance(classifier, Classifier):
        raise PseganError(f"{path} holds {type(classifier).__name__}, not Classifier; give a checkpoint of Classifier")
    if classifier.attribute != attribute:
        raise PseganError(
            f"{path} classifies {classifier.attribute}, not {attribute}; give a checkpoint of the {attribute} classifier"
        )
    return classifier
