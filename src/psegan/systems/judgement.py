"""What classifiers say of speech: the raw material of every metric, in training's callbacks and in the tables."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psegan.metrics import scores as metrics
from psegan.systems.classifier import Classifier


@dataclass
class Judgement:
    """One classifier's verdict on one set of utterances.

    Attributes:
        probability: ``(N, K)`` class posteriors.
        embedding: ``(N, E)``.
        target: ``(N,)`` true classes.
    """

    probability: NDArray[np.float64]
    embedding: NDArray[np.float64]
    target: NDArray[np.int64]

    def scores(self) -> dict[str, float]:
        """Accuracy, UAR, macro AUC and pooled one-vs-rest EER, as fractions; those without a value are left out."""
        found = {
            "accuracy": metrics.accuracy(self.probability, self.target),
            "uar": metrics.uar(self.probability, self.target),
        }
        for name, metric in (("auc", metrics.macro_auc), ("eer", metrics.one_vs_rest_eer)):
            try:
                found[name] = metric(self.probability, self.target)
            except metrics.UndefinedMetricError:  # a limited validation may hold a single class
                continue
        return found


@dataclass
class Judge:
    """Collects one classifier's verdicts batch by batch.

    Args:
        classifier: frozen and in evaluation mode.
    """

    classifier: Classifier
    _parts: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @torch.no_grad()
    def hear(self, mel: Tensor, lengths: Tensor, target: Tensor) -> None:
        """Judge scaled log-mels ``(B, 80, N)`` with frames ``(B,)`` whose true classes are ``target (B,)``."""
        with torch.autocast(mel.device.type, enabled=False):  # the verdict must not depend on training's precision
            embedding = self.classifier.embed(mel.float(), lengths)
            probability = self.classifier.classify(embedding).softmax(-1)
        self._parts.append((probability.cpu(), embedding.cpu(), target.cpu()))

    def __len__(self) -> int:
        return sum(len(target) for _, _, target in self._parts)

    def conclude(self) -> Judgement:
        """All verdicts since the last call."""
        if not self._parts:  # a process of several may have had no utterance
            size, width = self.classifier.head.out_features, self.classifier.head.in_features
            return Judgement(np.empty((0, size)), np.empty((0, width)), np.empty(0, dtype=np.int64))
        columns = [torch.cat(column) for column in zip(*self._parts, strict=True)]
        self._parts.clear()
        return Judgement(columns[0].double().numpy(), columns[1].double().numpy(), columns[2].numpy())


def roc(
    attribute: str, original: Judgement, system: Judgement
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """False and true positive rates ``(P,)`` of :func:`trials`, and the area under their curve.

    Raises:
        UndefinedMetricError: all trials are of one kind.
    """
    scores, is_target = trials(attribute, original, system)
    fpr, tpr, _ = metrics.roc_points(scores, is_target)
    return fpr, tpr, metrics.auc(scores, is_target)


def trials(attribute: str, original: Judgement, system: Judgement) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and targets of the trials behind an ROC: verification for speaker, pooled one-vs-rest otherwise.

    Verification enrols original speech and tests the system's; see :mod:`psegan.metrics.scores`.
    """
    if attribute == "speaker":
        return metrics.verification_trials(original.embedding, system.embedding, original.target, system.target)
    return metrics.one_vs_rest_trials(system.probability, system.target)
