"""Calibration against scikit-learn's cross-entropy and a search over temperatures."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sk

from psegan.metrics.calibration import (
    FLOOR,
    LEAST_BETA,
    base_rates,
    calibrate,
    gains,
    gains_if_renamed,
    posteriors_of,
)


def said(
    n: int = 200, k: int = 4, skill: float = 1, sharpness: float = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors of an attacker, and the truth; of four classes the first is the most frequent."""
    generator = np.random.default_rng(seed)
    targets = generator.choice(k, n, p=np.arange(k, 0, -1) / (k * (k + 1) / 2))
    logits = generator.normal(size=(n, k)) + skill * np.eye(k)[targets]
    return softmax(sharpness * logits, 1), targets


def surprise(posteriors: np.ndarray, targets: np.ndarray) -> float:
    return float(sk.log_loss(targets, posteriors, labels=np.arange(posteriors.shape[1])))


@pytest.mark.parametrize("sharpness", [0.2, 1, 8])
def test_the_temperature_is_the_best_of_a_grid(sharpness: float) -> None:
    posteriors, targets = said(n=2000, sharpness=sharpness)
    found = calibrate(posteriors, targets)
    np.testing.assert_allclose(found.prior, (np.bincount(targets) + 1) / 2004)
    least = surprise(found.posteriors(posteriors), targets)
    for beta in found.beta * np.array([0.8, 0.9, 1.1, 1.25]):
        assert surprise(found._replace(beta=beta).posteriors(posteriors), targets) > least
    assert found.beta == pytest.approx(calibrate(torch.tensor(posteriors), torch.tensor(targets)).beta)


def test_how_sure_an_attacker_was_of_itself_makes_no_difference() -> None:
    """Where classes are even, sharper posteriors get a higher temperature and become the same."""
    targets = np.arange(120) % 4
    logits = np.random.default_rng(0).normal(size=(120, 4)) + np.eye(4)[targets]
    each = [calibrate(softmax(s * logits, 1), targets).posteriors(softmax(s * logits, 1)) for s in (0.5, 1, 2)]
    np.testing.assert_allclose(each[0], each[1], atol=1e-6)
    np.testing.assert_allclose(each[2], each[1], atol=1e-6)


def test_what_is_calibrated_stays_as_it_is() -> None:
    posteriors, targets = said()
    once = calibrate(posteriors, targets)
    again = calibrate(once.posteriors(posteriors), targets)
    assert again.beta == pytest.approx(1, abs=1e-4)


def test_who_is_wrong_more_often_than_a_guess_is_not_believed() -> None:
    posteriors, targets = said(skill=-2)
    found = calibrate(posteriors, targets)
    assert found.beta == LEAST_BETA
    np.testing.assert_allclose(found.posteriors(posteriors), np.tile(found.prior, (200, 1)), atol=0.01)
    decided = (found.evidence(posteriors) + found.beta * np.log(found.prior)).argmax(1)
    np.testing.assert_array_equal(decided, posteriors.argmax(1))  # but what it names is still known


def test_one_error_on_other_speech_costs_no_more_than_few_utterances_can_rule_out() -> None:
    """All right on validation speech, posteriors of 0 and 1: the temperature stays finite, and so do bits."""
    targets = np.arange(40) % 4
    found = calibrate(np.eye(4)[targets], targets)
    wrong = found.evidence(np.eye(4)[(targets + (targets == 0)) % 4])
    assert FLOOR < found.posteriors(np.eye(4)).min() < 0.02
    assert -8 < gains(wrong, targets).min() < -3


def test_several_attackers_share_a_temperature() -> None:
    (first, targets), (second, _) = said(skill=2, seed=0), said(skill=2, seed=0, sharpness=3)
    together = calibrate(np.stack([first, second]), targets).beta
    assert calibrate(second, targets).beta < together < calibrate(first, targets).beta


def test_shapes_are_checked() -> None:
    posteriors, targets = said()
    with pytest.raises(ValueError, match="posteriors of shape"):
        calibrate(posteriors[:-1], targets)
    with pytest.raises(ValueError, match="posteriors of shape"):
        calibrate(posteriors[:, :3], targets)


rows = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=n, max_size=n),
        st.lists(st.integers(0, 2), min_size=n, max_size=n),
    )
)


@settings(deadline=None, max_examples=60)
@given(rows)
def test_gains_are_entropy_less_cross_entropy(case: tuple[list[list[float]], list[int]]) -> None:
    evidence, targets = np.array(case[0]), np.array(case[1])
    base = base_rates(targets, 3)
    entropy = -sum(p * np.log2(p) for p in base if p > 0)
    posteriors = posteriors_of(evidence, base)
    cross = -np.mean([np.log2(posteriors[i, k]) for i, k in enumerate(targets)])
    assert gains(evidence, targets).mean() == pytest.approx(entropy - cross, abs=1e-9)
    if len(np.unique(targets)) > 1:
        assert cross == pytest.approx(surprise(posteriors, targets) / np.log(2), abs=1e-6)
    np.testing.assert_allclose(gains(0 * evidence, targets), 0, atol=1e-12)


@pytest.mark.parametrize("shares", [[7, 2, 1], [4, 4, 4], [8, 4, 0]])
def test_gains_if_renamed_equal_those_of_every_naming(shares: list[int]) -> None:
    """Where classes are uneven, another naming changes the base rate of what an attacker names as well."""
    targets = np.repeat(np.arange(3), shares)
    evidence = np.random.default_rng(0).normal(size=(len(targets), 3)) + 2 * np.eye(3)[targets]
    namings = np.array(list(itertools.permutations(range(3))))
    found = gains_if_renamed(evidence, targets, base_rates(targets, 3), namings)
    assert found == pytest.approx([gains(evidence[:, naming], targets).sum() for naming in namings])


def test_gains_if_renamed_are_finite_for_who_is_sure_of_a_class_that_does_not_occur() -> None:
    targets, evidence = np.array([0, 1, 0]), np.tile([0.0, 0.0, 2000.0], (3, 1))
    found = gains_if_renamed(evidence, targets, base_rates(targets, 3), np.array([[0, 1, 2]]))
    assert found == pytest.approx(0)
