"""The scores of one classifier's predictions."""

import numpy as np
import pytest

from psegan.metrics import scores as metrics
from psegan.metrics.predictions import ClassPredictions


def predictions(target: list[int], seed: int = 0) -> ClassPredictions:
    generator = np.random.default_rng(seed)
    probability = generator.dirichlet([1, 1, 1], len(target))
    return ClassPredictions(probability, generator.normal(size=(len(target), 4)), np.array(target))


def test_scores_are_those_of_the_metrics() -> None:
    found = predictions([0, 1, 2, 0, 1, 2])
    assert found.scores() == {
        "accuracy": metrics.accuracy(found.probability, found.target),
        "uar": metrics.uar(found.probability, found.target),
        "auc": metrics.macro_auc(found.probability, found.target),
        "eer": metrics.one_vs_rest_eer(found.probability, found.target),
    }
    assert predictions([1, 1]).scores().keys() == {"accuracy", "uar", "eer"}  # a single class has no AUC


def test_roc_of_classes_and_of_verification() -> None:
    original, protected = predictions([0, 1, 0, 1]), predictions([0, 1, 0, 1], seed=1)
    for roc, trials in (
        (protected.roc(), metrics.one_vs_rest_trials(protected.probability, protected.target)),
        (
            protected.roc(original),
            metrics.verification_trials(original.embedding, protected.embedding, protected.target),
        ),
    ):
        for one, expected in zip(roc[:2], metrics.roc_points(*trials)[:2], strict=True):
            np.testing.assert_array_equal(one, expected)
        assert roc[2] == metrics.auc(*trials)
    with pytest.raises(metrics.UndefinedMetricError):
        predictions([1, 1]).roc(predictions([1, 1]))
