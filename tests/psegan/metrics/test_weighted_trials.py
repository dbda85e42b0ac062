"""Weighted trials against the metrics of trials that are repeated as often as their weights say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psegan.metrics import scores as metrics
from psegan.metrics.scores import UndefinedMetricError
from psegan.metrics.weighted_trials import WeightedTrials


def repeated(
    metric, scores: np.ndarray, is_target: np.ndarray, cells: np.ndarray, weights: np.ndarray, **options: float
) -> list[float]:
    """The metric of every resample, with each trial repeated as often as the weight of its cell says."""
    found = []
    for weight in weights.T.astype(int):
        index = np.repeat(np.arange(len(scores)), weight[cells])
        try:
            found.append(metric(scores[index], is_target[index], **options) if len(index) else np.nan)
        except UndefinedMetricError:
            found.append(np.nan)
    return found


cases = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        st.lists(
            st.one_of(st.integers(-2, 2).map(float), st.floats(-9, 9), st.sampled_from([1e300, -1e300, 5e-324])),
            min_size=n,
            max_size=n,
        ),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda kinds: len(set(kinds)) == 2),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=4, max_size=4),
    )
)


@settings(deadline=None, max_examples=100)
@given(cases)
def test_weights_are_repetitions(case: tuple[list[float], list[bool], list[int], list[list[int]]]) -> None:
    scores, is_target, cells, weights = (np.array(part) for part in case)
    trials = WeightedTrials(scores, is_target, cells, 4)
    found = trials.eer(weights.astype(float))
    np.testing.assert_allclose(found, repeated(metrics.eer, scores, is_target, cells, weights), atol=1e-12)
    found = trials.min_dcf(weights.astype(float), 0.6)
    expected = repeated(metrics.min_dcf, scores, is_target, cells, weights, p_target=0.6)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    for fpr in (0.01, 0.3):
        expected = repeated(metrics.tpr, scores, is_target, cells, weights, fpr=fpr)
        np.testing.assert_array_equal(trials.tpr(weights.astype(float), fpr), expected)


def many(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """More thresholds than the grid holds: 30,000 trials in 40 cells, every tenth a target."""
    generator = np.random.default_rng(0)
    is_target = np.arange(30_000) % 10 == 0
    scores = generator.normal(size=30_000) + 1.5 * is_target
    if kind == "tied in part":  # half of all trials share one score, amid others
        scores[generator.random(30_000) < 0.5] = 0.8
    elif kind == "separated":
        scores += 20 * is_target
    elif kind == "inverted":
        scores = -scores
    elif kind == "constant":
        scores[:] = 0.1
    elif kind == "one apart":  # all but one score alike
        scores[:] = 0.1
        scores[7] = 0.2
    return scores, is_target, generator.integers(0, 40, 30_000)


@pytest.mark.parametrize("kind", ["overlapping", "tied in part", "separated", "inverted", "constant", "one apart"])
def test_results_between_points_of_the_grid_are_exact(kind: str) -> None:
    scores, is_target, cells = many(kind)
    weights = np.random.default_rng(1).poisson(1, size=(40, 12)).astype(float)
    trials = WeightedTrials(scores, is_target, cells, 40)
    assert kind in ("constant", "one apart") or len(trials.grid) < len(np.unique(scores)) / 2  # the grid is coarse
    found = trials.eer(weights)
    np.testing.assert_allclose(found, repeated(metrics.eer, scores, is_target, cells, weights), atol=1e-12)
    for p in (0.05, 0.5):
        expected = repeated(metrics.min_dcf, scores, is_target, cells, weights, p_target=p)
        np.testing.assert_allclose(trials.min_dcf(weights, p), expected, atol=1e-12)
    for fpr in (0.01, 0.05):
        expected = repeated(metrics.tpr, scores, is_target, cells, weights, fpr=fpr)
        np.testing.assert_array_equal(trials.tpr(weights, fpr), expected)


def test_resamples_without_a_kind_have_no_value() -> None:
    trials = WeightedTrials(np.array([1.0, 2.0, 3.0]), np.array([True, False, False]), np.arange(3), 3)
    weights = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]], dtype=float)
    np.testing.assert_array_equal(np.isnan(trials.eer(weights)), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(trials.min_dcf(weights)), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(trials.tpr(weights, 0.01)), [False, True, True, True])


def test_trials_of_one_kind_are_refused() -> None:
    with pytest.raises(UndefinedMetricError, match="trials of both kinds"):
        WeightedTrials(np.zeros(3), np.ones(3, bool), np.arange(3), 3)
