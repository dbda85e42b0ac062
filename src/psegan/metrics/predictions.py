"""The predictions of one classifier for a set of utterances, and the scores that follow from them."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psegan.metrics import scores as metrics

_METRICS: dict[str, Callable[..., float]] = {
    "accuracy": metrics.accuracy, "uar": metrics.uar, "auc": metrics.macro_auc, "eer": metrics.one_vs_rest_eer
}  # fmt: skip


@dataclass
class ClassPredictions:
    """Posteriors ``(N, K)``, embeddings ``(N, E)`` and true classes ``(N,)``."""

    probability: NDArray[np.float64]
    embedding: NDArray[np.float64]
    target: NDArray[np.int64]

    def scores(self) -> dict[str, float]:
        """Accuracy, UAR, macro AUC and one-vs-rest EER as fractions, without those that are not defined."""
        found = {}
        for name, metric in _METRICS.items():
            with suppress(metrics.UndefinedMetricError):  # a shortened validation may hold a single class
                found[name] = metric(self.probability, self.target)
        return found

    def roc(
        self, enrolment: "ClassPredictions | None" = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """False and true positive rates ``(P,)``, and the area under their curve.

        With predictions for original speech of the same utterances as ``enrolment``, the trials are those of
        :func:`psegan.metrics.scores.verification_trials`; without, of :func:`psegan.metrics.scores.one_vs_rest_trials`.

        Raises:
            UndefinedMetricError: all trials are of one kind, or there are none.
        """
        if enrolment is None:
            trials = metrics.one_vs_rest_trials(self.probability, self.target)
        else:
            trials = metrics.verification_trials(enrolment.embedding, self.embedding, self.target)
        fpr, tpr, _ = metrics.roc_points(*trials)
        return fpr, tpr, metrics.auc(*trials)
