"""Metrics against scikit-learn and against direct counts of errors."""

import doctest
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from psegan.metrics import scores as metrics
from psegan.metrics.scores import UndefinedMetricError


def direct_eer(scores: list[float], is_target: list[bool]) -> float:
    """Count errors at every threshold and intersect each segment of the curve with FAR = FRR."""
    targets = [s for s, t in zip(scores, is_target, strict=True) if t]
    others = [s for s, t in zip(scores, is_target, strict=True) if not t]
    thresholds = [float("inf"), *sorted(set(scores), reverse=True)]
    far = [sum(s >= x for s in others) / len(others) for x in thresholds]
    frr = [sum(s < x for s in targets) / len(targets) for x in thresholds]
    for i in range(1, len(thresholds)):
        if far[i] >= frr[i]:
            before, after = frr[i - 1] - far[i - 1], far[i] - frr[i]
            share = before / (before + after)
            return far[i - 1] + share * (far[i] - far[i - 1])
    raise AssertionError("the curves cross")


def direct_min_dcf(scores: list[float], is_target: list[bool], p: float) -> float:
    """The cost at every threshold, above all scores and below all too."""
    targets = [s for s, t in zip(scores, is_target, strict=True) if t]
    others = [s for s, t in zip(scores, is_target, strict=True) if not t]
    costs = [
        p * sum(s < x for s in targets) / len(targets) + (1 - p) * sum(s >= x for s in others) / len(others)
        for x in [float("inf"), float("-inf"), *scores]
    ]
    return min(costs) / min(p, 1 - p)


def direct_auc(scores: list[float], is_target: list[bool]) -> float:
    """How often a target outscores another trial, a tie being half."""
    pairs = [
        (a > b) + (a == b) / 2
        for a, t in zip(scores, is_target, strict=True)
        for b, u in zip(scores, is_target, strict=True)
        if t and not u
    ]
    return sum(pairs) / len(pairs)


numbers = st.one_of(
    st.integers(-3, 3).map(float),  # ties
    st.floats(-1e6, 1e6),
    st.sampled_from([1e300, -1e300, 1e-300, -1e-300, 5e-324, 1 + 2**-52, 1 - 2**-53]),  # huge, tiny, hardly apart
)
trials = st.lists(st.tuples(numbers, st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({target for _, target in pairs}) == 2
)


def test_the_examples_in_docstrings_are_right() -> None:
    assert doctest.testmod(metrics) == (0, 6)


@settings(deadline=None, max_examples=100)
@given(trials)
def test_eer_equals_direct_count(pairs: list[tuple[float, bool]]) -> None:
    scores, is_target = [s for s, _ in pairs], [t for _, t in pairs]
    expected = direct_eer(scores, is_target)
    assert metrics.eer(np.array(scores), np.array(is_target)) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(trials)
def test_eer_of_negated_scores_is_the_complement(pairs: list[tuple[float, bool]]) -> None:
    scores, is_target = np.array([s for s, _ in pairs]), np.array([t for _, t in pairs])
    assert metrics.eer(-scores, is_target) == pytest.approx(1 - metrics.eer(scores, is_target), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(trials)
def test_eer_only_depends_on_the_order_of_scores(pairs: list[tuple[float, bool]]) -> None:
    scores, is_target = np.array([s for s, _ in pairs]), np.array([t for _, t in pairs])
    rank = np.unique(scores, return_inverse=True)[1].astype(float)
    assert metrics.eer(rank, is_target) == pytest.approx(metrics.eer(scores, is_target), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "is_target", "expected"),
    [
        ([3, 2, 1, 0], [1, 1, 0, 0], 0.0),
        ([0, 1, 2, 3], [1, 1, 0, 0], 1.0),
        ([5.0] * 6, [1, 0, 0, 0, 0, 1], 0.5),
        ([30.0, 20.0, 20.0, 10.0], [1, 1, 0, 0], 0.25),  # half of each kind is decided, half is tied
        ([40.0, 39.0, 38.0], [1, 0, 1], 0.5),  # a sigmoid would make all of these 1
    ],
)
def test_eer_by_hand(scores: list[float], is_target: list[int], expected: float) -> None:
    assert metrics.eer(scores, np.array(is_target, bool)) == pytest.approx(expected)
    as_tensor = metrics.eer(torch.tensor(scores, dtype=torch.float32), torch.tensor(is_target, dtype=torch.bool))
    assert as_tensor == pytest.approx(expected)


@settings(deadline=None, max_examples=100)
@given(trials, st.floats(0.001, 0.999))
def test_min_dcf_equals_direct_count(pairs: list[tuple[float, bool]], p: float) -> None:
    scores, is_target = [s for s, _ in pairs], [t for _, t in pairs]
    found = metrics.min_dcf(np.array(scores), np.array(is_target), p)
    assert found == pytest.approx(direct_min_dcf(scores, is_target, p), abs=1e-9)
    assert 0 <= found <= 1 + 1e-9


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3, 2, 1, 0], 0.0),
        ([0, 1, 2, 3], 1.0),  # upside down: rejecting all is best
        ([7, 7, 7, 7], 1.0),
        ([3, 1, 2, 0], 0.5),  # accept the first alone: half of the targets are missed
    ],
)
def test_min_dcf_by_hand(scores: list[float], expected: float) -> None:
    assert metrics.min_dcf(scores, [True, True, False, False]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (0.5, 1 / 2),  # miss one target of two
        (0.9, 2 / 3),  # accept two impostors of three instead
    ],
)
def test_min_dcf_weighs_errors_by_the_prior(prior: float, expected: float) -> None:
    scores, is_target = [5.0, 4.0, 3.0, 2.0, 1.0], [True, False, False, True, False]
    assert metrics.min_dcf(scores, is_target, prior) == pytest.approx(expected)


@settings(deadline=None, max_examples=100)
@given(trials, st.sampled_from([0.0, 0.01, 0.05, 0.25, 1 / 3, 1.0]))
def test_tpr_equals_direct_count(pairs: list[tuple[float, bool]], fpr: float) -> None:
    targets, others = ([s for s, t in pairs if t is kind] for kind in (True, False))
    allowed = [x for x in [float("inf"), *(s for s, _ in pairs)] if sum(s >= x for s in others) / len(others) <= fpr]
    expected = max(sum(s >= x for s in targets) / len(targets) for x in allowed)
    assert metrics.tpr([s for s, _ in pairs], [t for _, t in pairs], fpr) == expected


@settings(deadline=None, max_examples=100)
@given(trials)
def test_auc_equals_direct_count(pairs: list[tuple[float, bool]]) -> None:
    scores, is_target = [s for s, _ in pairs], [t for _, t in pairs]
    found = metrics.auc(np.array(scores), np.array(is_target))
    assert found == pytest.approx(direct_auc(scores, is_target), abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_accuracy_and_uar_equal_direct_counts(pairs: list[tuple[int, int]]) -> None:
    predicted, targets = [p for p, _ in pairs], [t for _, t in pairs]
    recalls = [sum(p == t == k for p, t in pairs) / targets.count(k) for k in set(targets)]
    assert metrics.accuracy(predicted, targets) == pytest.approx(sum(p == t for p, t in pairs) / len(pairs))
    assert metrics.uar(predicted, targets) == pytest.approx(sum(recalls) / len(recalls))


@settings(deadline=None, max_examples=100)
@given(trials)
def test_roc_is_that_of_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    scores, is_target = np.array([s for s, _ in pairs]), np.array([t for _, t in pairs])
    fpr, tpr, thresholds = metrics.roc_points(scores, is_target)
    assert np.trapezoid(tpr, fpr) == pytest.approx(sk.roc_auc_score(is_target, scores), abs=1e-9)
    for false, true, threshold in zip(fpr, tpr, thresholds, strict=True):
        assert (false, true) == (np.mean(scores[~is_target] >= threshold), np.mean(scores[is_target] >= threshold))


def test_residual_is_the_share_above_chance() -> None:
    assert metrics.residual(0.5, 0.75, 0.25) == pytest.approx(0.5)
    assert metrics.residual(0.25, 0.75, 0.25) == 0
    assert metrics.residual(0.8, 0.8, 0.25) == 1
    assert metrics.residual(0.2, 0.75, 0.25) < 0


@pytest.mark.parametrize(
    ("residual", "utility", "expected"),
    [(0.0, 1.0, 1), (1.0, 1.0, 0), (0.0, 0.0, 0), (-0.2, 1.1, 1), (1.3, 1.0, 0), (0.25, 0.9, 0.75), (0.1, 0.5, 0.5)],
)
def test_the_trade_off_is_the_lesser_of_privacy_and_utility(residual: float, utility: float, expected: float) -> None:
    assert metrics.trade_off(residual, utility) == pytest.approx(expected)


@pytest.mark.parametrize("original", [0.25, 0.2, float("nan")])
def test_an_attacker_at_chance_on_original_speech_has_no_residual(original: float) -> None:
    with pytest.raises(UndefinedMetricError, match="at or below chance"):
        metrics.residual(0.5, original, 0.25)


@pytest.mark.parametrize("metric", [metrics.eer, metrics.min_dcf, metrics.auc, metrics.roc_points])
@pytest.mark.parametrize("is_target", [[True] * 3, [False] * 3])
def test_one_kind_of_trial_has_no_roc(metric: Callable[..., float], is_target: list[bool]) -> None:
    with pytest.raises(UndefinedMetricError, match="trials of both kinds"):
        metric([1.0, 2.0, 3.0], is_target)


@pytest.mark.parametrize(
    ("scores", "is_target", "message"),
    [
        ([1.0, float("nan")], [True, False], "NaN or infinite values, first in row 1"),
        ([1.0, float("inf")], [True, False], "NaN or infinite"),
        ([1.0, 2.0, 3.0], [True, False], "is_target has"),
        ([], [], "non-empty"),
        ([[1.0], [2.0]], [True, False], "1 non-empty axes"),
    ],
)
def test_bad_trials_are_refused(scores: list[float], is_target: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.eer(scores, is_target)


def test_roc_points_run_from_corner_to_corner() -> None:
    fpr, tpr, thresholds = metrics.roc_points([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    assert (fpr[0], tpr[0], thresholds[0]) == (0, 0, np.inf)
    assert (fpr[-1], tpr[-1]) == (1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all() and (np.diff(thresholds) < 0).all()


def classification(seed: int, n: int = 90, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, k, n)
    logits = generator.normal(size=(n, k))
    logits[np.arange(n), targets] += 1
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), targets


@pytest.mark.parametrize("seed", range(3))
def test_classification_metrics_equal_scikit_learn(seed: int) -> None:
    scores, targets = classification(seed)
    predicted = scores.argmax(1)
    for given_scores, given_targets in ((scores, targets), (torch.tensor(scores), torch.tensor(targets))):
        assert metrics.accuracy(given_scores, given_targets) == pytest.approx(sk.accuracy_score(targets, predicted))
        assert metrics.uar(given_scores, given_targets) == pytest.approx(sk.balanced_accuracy_score(targets, predicted))
        assert metrics.macro_auc(given_scores, given_targets) == pytest.approx(
            sk.roc_auc_score(targets, scores, multi_class="ovr", average="macro")
        )
    assert metrics.accuracy(predicted, targets) == metrics.accuracy(scores, targets)
    assert metrics.uar(predicted, targets) == metrics.uar(scores, targets)
    matrix = metrics.confusion_matrix(scores, targets, 7)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(targets, predicted, labels=range(7)))
    assert matrix.sum() == len(targets)


def test_bfloat16_tensors_are_accepted() -> None:
    scores, targets = classification(0)
    low = torch.tensor(scores).bfloat16()
    assert metrics.one_vs_rest_eer(low, targets) == pytest.approx(metrics.one_vs_rest_eer(scores, targets), abs=0.02)


def test_classes_without_utterances_do_not_count() -> None:
    targets = np.array([0, 0, 2, 2])
    scores = np.array([[0.5, 0.4, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.3, 0.1, 0.6]])
    assert metrics.uar(scores, targets) == pytest.approx((0.5 + 1) / 2)
    expected = np.mean([sk.roc_auc_score(targets == k, scores[:, k]) for k in (0, 2)])
    assert metrics.macro_auc(scores, targets) == pytest.approx(expected)


def test_one_class_has_no_auc() -> None:
    with pytest.raises(UndefinedMetricError, match="two classes"):
        metrics.macro_auc(np.eye(3), [1, 1, 1])


def test_one_vs_rest_eer_pools_all_pairs() -> None:
    scores, targets = classification(1, n=20)
    pooled = [(scores[i, k], k == targets[i]) for i in range(20) for k in range(5)]
    expected = direct_eer([s for s, _ in pooled], [bool(t) for _, t in pooled])
    assert metrics.one_vs_rest_eer(scores, targets) == pytest.approx(expected)
    assert metrics.one_vs_rest_eer(np.full((6, 3), 1 / 3), [0, 1, 2, 0, 1, 2]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.eye(3), [0, 1], "3 rows of scores for 2 targets"),
        (np.eye(3), [0, 1, 3], "target 3"),
        (np.eye(3), [0, 1, -1], "non-negative"),
        (np.eye(3), [0.0, 1.0, 2.0], "class indices"),
        (np.full((3, 3), np.nan), [0, 1, 2], "NaN"),
        (np.eye(3), [], "N >= 1"),
    ],
)
def test_bad_class_scores_are_refused(scores: np.ndarray, targets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.macro_auc(scores, targets)


def test_bad_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="2 predictions for 3 targets"):
        metrics.accuracy([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="only 2 classes"):
        metrics.confusion_matrix([0, 2], [0, 1], 2)


def test_verification_never_compares_an_utterance_with_itself() -> None:
    generator = np.random.default_rng(0)
    enrol, test = generator.normal(size=(6, 4)), generator.normal(size=(6, 4))
    speaker = np.array([0, 0, 1, 1, 2, 2])
    scores, is_target = metrics.verification_trials(torch.tensor(enrol), test, torch.tensor(speaker))
    expected = [
        (enrol[i] @ test[j] / np.linalg.norm(enrol[i]) / np.linalg.norm(test[j]), speaker[i] == speaker[j])
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    np.testing.assert_allclose(scores, [s for s, _ in expected])
    np.testing.assert_array_equal(is_target, [t for _, t in expected])


def test_verification_stays_within_groups() -> None:
    generator = np.random.default_rng(0)
    enrol, test = generator.normal(size=(2, 7, 4))
    speaker, fold = np.array([0, 0, 1, 0, 1, 1, 2]), np.array(["a", "a", "a", "b", "b", "b", "alone"])
    scores, is_target = metrics.verification_trials(enrol, test, speaker, fold)
    parts = [
        metrics.verification_trials(enrol[chosen], test[chosen], speaker[chosen])
        for chosen in (fold == "a", fold == "b")
    ]
    np.testing.assert_allclose(scores, np.concatenate([part[0] for part in parts]))
    np.testing.assert_array_equal(is_target, np.concatenate([part[1] for part in parts]))
    with pytest.raises(UndefinedMetricError, match="no two utterances"):
        metrics.verification_trials(enrol, test, speaker, np.arange(7))
    with pytest.raises(ValueError, match="one entry for each of 7"):
        metrics.verification_trials(enrol, test, speaker, fold[:3])


def test_verification_of_zero_and_of_bad_embeddings() -> None:
    scores, _ = metrics.verification_trials(np.zeros((2, 3)), np.ones((2, 3)), [0, 1])
    np.testing.assert_array_equal(scores, 0)
    with pytest.raises(UndefinedMetricError, match="no two utterances"):
        metrics.verification_trials(np.ones((1, 3)), np.ones((1, 3)), [0])
    with pytest.raises(ValueError, match="share their N utterances"):
        metrics.verification_trials(np.ones((3, 3)), np.ones((2, 3)), [0, 1, 1])


def test_trials_of_other_sentences_and_chosen_enrolments() -> None:
    content, enrolling = np.array([0, 0, 1, 1]), np.array([True, False, True, False])
    rows, columns = metrics.trial_pairs(4, content=content, enrolling=enrolling)
    assert list(zip(rows, columns, strict=True)) == [(0, 2), (0, 3), (2, 0), (2, 1)]
    outside = np.array([False, False, False, True])
    rows, columns = metrics.trial_pairs(4, content=content, enrolling=enrolling, outside=outside)
    assert list(zip(rows, columns, strict=True)) == [(0, 2), (2, 0), (2, 1)]
    assert len(metrics.verification_trials(np.eye(4), np.eye(4), [0, 1, 0, 1], outside=outside)[0]) == 6
    with pytest.raises(UndefinedMetricError, match="no two utterances"):
        metrics.verification_trials(np.eye(3), np.eye(3), [0, 1, 2], content=[0, 0, 0])
