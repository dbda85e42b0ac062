"""Classifiers of one attribute: evaluators, attackers, and the speaker matcher before it is frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix

from psegan.batch import SpeechBatch
from psegan.errors import PseganError
from psegan.models.classifier import SpeechEncoder
from psegan.random import seeded
from psegan.systems.base import System, load_checkpoint


class Classifier(System):
    """An encoder and a linear layer, trained by cross-entropy on one attribute.

    Training uses AdamW under a one-cycle schedule (Smith and Topin, 2018), which ends when training does, and masks a
    band of frequencies and a stretch of time of every utterance (SpecAugment, Park et al., 2019).

    Args:
        n_classes: number of classes of each attribute; the command line fills it in from the corpus.
        attribute: emotion, speaker, gender or content.
        encoder: makes the network from spectrogram to embedding.
        learning_rate: peak of the schedule.
        weight_decay: of AdamW.
        label_smoothing: of the cross-entropy.
        max_masked_bands: widest band that is masked, in mel bands.
        max_masked_fraction: longest stretch of time that is masked, as a fraction of the utterance.
        seed: of the masks.
    """

    def __init__(
        self,
        n_classes: dict[str, int],
        attribute: str = "emotion",
        encoder: Callable[[], nn.Module] = SpeechEncoder,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        label_smoothing: float = 0.1,
        max_masked_bands: int = 12,
        max_masked_fraction: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, seed)
        self.save_hyperparameters(logger=False)
        if attribute not in n_classes:
            raise PseganError(f"model.init_args.attribute is {attribute!r}: one of {', '.join(n_classes)}")
        if n_classes[attribute] < 2:
            raise PseganError(f"the corpus has a single class of {attribute}; a classifier needs two or more")
        self.attribute = attribute
        self.encoder = encoder()
        self.head = nn.Linear(self.encoder.embedding_dim, n_classes[attribute])  # type: ignore[arg-type]
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.label_smoothing = label_smoothing
        self.max_masked_bands, self.max_masked_fraction = max_masked_bands, max_masked_fraction
        self.confusion = MulticlassConfusionMatrix(n_classes[attribute])

    def embed(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → embedding ``(B, E)``."""
        return self.encoder(mel, lengths)

    def verdict(self, embedding: Tensor) -> Tensor:
        """Embedding ``(B, E)`` → logits ``(B, n_classes)``."""
        return self.head(F.relu(embedding))

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → logits ``(B, n_classes)``."""
        return self.verdict(self.embed(mel, lengths))

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of a masked batch."""
        mel, frames = self.features(batch)
        logits = self(self._masked(mel, frames), frames)
        loss = F.cross_entropy(logits, batch.label(self.attribute), label_smoothing=self.label_smoothing)
        self.log("train/loss", loss, batch_size=len(batch))
        return loss

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Judge a batch."""
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Accuracy and UAR."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Accuracy and UAR."""
        self._conclude("test")

    def test_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Judge a batch."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: SpeechBatch, batch_idx: int) -> dict[str, Tensor | tuple[str, ...]]:
        """Names, class probabilities ``(B, K)`` and embeddings ``(B, E)``."""
        mel, frames = self.features(batch)
        embedding = self.embed(mel, frames)
        return {"id": batch.id, "probability": self.verdict(embedding).softmax(-1), "embedding": embedding}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See the base class; a one-cycle schedule cannot be continued at another length."""
        super().on_load_checkpoint(checkpoint)
        planned = checkpoint["psegan"]["max_epochs"]
        if self._trainer is not None and self.trainer.training and self.trainer.max_epochs != planned:
            raise PseganError(
                f"the run was planned for {planned} epoch(s) and its learning rate falls until then, but trainer.max_epochs "
                f"is {self.trainer.max_epochs}; continue with {planned}, or start anew in another run.dir"
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; one cycle over all steps of the training."""
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)  # a handful would leave the rise no step at all
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, max(steps, 10), pct_start=0.2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _evaluate(self, batch: SpeechBatch, stage: str) -> None:
        mel, frames = self.features(batch)
        logits, labels = self(mel, frames), batch.label(self.attribute)
        self.confusion(logits, labels)
        self.log(f"{stage}/loss", F.cross_entropy(logits, labels), batch_size=len(batch), sync_dist=True)

    def _conclude(self, stage: str) -> None:
        """Log accuracy and UAR over the classes that occur, as :func:`psegan.evaluation.metrics.uar` defines it."""
        counts = self.confusion.compute().double()
        self.confusion.reset()
        occurring = counts.sum(1) > 0
        recall = counts.diagonal()[occurring] / counts.sum(1)[occurring]
        self.log(f"{stage}/accuracy", counts.diagonal().sum().float() / counts.sum().float(), prog_bar=True)
        self.log(f"{stage}/uar", recall.mean().float())

    def _masked(self, mel: Tensor, frames: Tensor) -> Tensor:
        draw = torch.rand(4, len(mel), 1, generator=seeded(*self.occasion)).to(mel.device)
        bands, times = torch.arange(mel.shape[1], device=mel.device), torch.arange(mel.shape[2], device=mel.device)
        width = draw[0] * self.max_masked_bands
        low = draw[1] * (mel.shape[1] - width)
        length = draw[2] * self.max_masked_fraction * frames.unsqueeze(1)
        start = draw[3] * (frames.unsqueeze(1) - length)
        band_kept = (bands < low) | (bands >= low + width)
        time_kept = (times < start) | (times >= start + length)
        return mel * band_kept.unsqueeze(2) * time_kept.unsqueeze(1)


def load_classifier(path: str | Path, attribute: str) -> Classifier:
    """Load a trained classifier of ``attribute``, in evaluation mode and frozen.

    Raises:
        PseganError: the file is missing, is no checkpoint, or holds something else.
    """
    checkpoint = load_checkpoint(str(path), Classifier.__name__)
    found = checkpoint["hyper_parameters"]["attribute"]
    if found != attribute:
        raise PseganError(
            f"{path} classifies {found}, not {attribute}; give a checkpoint of the {attribute} classifier"
        )
    classifier = Classifier.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    classifier.freeze()
    return classifier
