"""The bootstrap: vectorised against looped, coverage, determinism, speed."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from psegan.evaluation import bootstrap, metrics
from psegan.evaluation.bootstrap import Interval, bootstrap_interval


def sample(n: int = 96, k: int = 4, speakers: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posteriors with many ties, targets and speakers."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, k, n)
    logits = generator.integers(-2, 3, size=(n, k)).astype(float)
    logits[np.arange(n), targets] += 1
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), targets, np.arange(n) % speakers


@pytest.mark.parametrize("speakers", [8, 2])  # two are too few: utterances are drawn
@pytest.mark.parametrize(
    ("fast", "statistic"),
    [
        (bootstrap.accuracy_interval, metrics.accuracy),
        (bootstrap.uar_interval, metrics.uar),
        (bootstrap.macro_auc_interval, metrics.macro_auc),
        (bootstrap.one_vs_rest_eer_interval, metrics.one_vs_rest_eer),
    ],
)
def test_vectorised_equals_looped(
    fast: Callable[..., Interval], statistic: Callable[..., float], speakers: int
) -> None:
    scores, targets, clusters = sample(speakers=speakers)
    expected = bootstrap_interval(statistic, (scores, targets), clusters, n_resamples=60, seed=3)
    assert fast(scores, targets, clusters, n_resamples=60, seed=3) == pytest.approx(expected)
    in_torch = fast(torch.tensor(scores), torch.tensor(targets), torch.tensor(clusters), n_resamples=60, seed=3)
    assert in_torch == pytest.approx(expected)
    assert expected.low < expected.value < expected.high


def test_vectorised_eer_equals_looped_and_leaves_out_undefined_resamples() -> None:
    generator = np.random.default_rng(0)
    is_target = np.arange(40) < 3  # resamples without a target trial occur
    scores = generator.integers(0, 6, 40).astype(float) + is_target
    clusters = np.arange(40)
    expected = bootstrap_interval(metrics.eer, (scores, is_target), clusters, n_resamples=200, seed=1)
    assert bootstrap.eer_interval(scores, is_target, clusters, n_resamples=200, seed=1) == pytest.approx(expected)
    assert np.isfinite(expected).all()


def test_auc_where_a_class_is_lost_equals_looped() -> None:
    scores, _, clusters = sample(n=12, k=3, speakers=12)
    targets = np.array([0] * 6 + [1] * 5 + [2])
    expected = bootstrap_interval(metrics.macro_auc, (scores, targets), clusters, n_resamples=200, seed=1)
    fast = bootstrap.macro_auc_interval(scores, targets, clusters, n_resamples=200, seed=1)
    assert fast == pytest.approx(expected)


def test_verification_resamples_never_pair_an_utterance_with_itself() -> None:
    generator = np.random.default_rng(0)
    speaker = np.arange(18) % 6
    enrol = generator.normal(size=(6, 3))[speaker] + generator.normal(size=(18, 3))
    test = enrol + generator.normal(size=(18, 3))
    fast = bootstrap.verification_eer_interval(enrol, test, speaker, n_resamples=80, seed=5)

    cosine = (enrol / np.linalg.norm(enrol, axis=1)[:, None]) @ (test / np.linalg.norm(test, axis=1)[:, None]).T
    original_index = np.arange(18.0)

    def slow(index: np.ndarray) -> float:
        pairs = [(int(i), int(j)) for i in index for j in index if i != j]  # by original identity, not by position
        return metrics.eer([cosine[p] for p in pairs], [speaker[i] == speaker[j] for i, j in pairs])

    assert fast == pytest.approx(bootstrap_interval(slow, (original_index,), speaker, n_resamples=80, seed=5))


def test_speakers_are_drawn_whole() -> None:
    speakers = np.repeat(["a", "b", "c", "d"], 5)
    seen = []

    def statistic(utterance: np.ndarray) -> float:
        seen.append(np.bincount(utterance.astype(int), minlength=20).reshape(4, 5))
        return 0.0

    bootstrap_interval(statistic, (np.arange(20),), speakers, n_resamples=50)
    assert all((counts == counts[:, :1]).all() and counts[:, 0].sum() == 4 for counts in seen)
    assert any(counts.max() > 1 for counts in seen)


def test_too_few_speakers_draw_utterances() -> None:
    sizes = set()

    def statistic(utterance: np.ndarray) -> float:
        sizes.add(tuple(utterance))
        return float(utterance.mean())

    bootstrap_interval(statistic, (np.arange(10.0),), [0] * 5 + [1] * 5, n_resamples=50)
    assert len(sizes) > 10  # two speakers would give three different resamples


def test_a_cluster_interval_covers_and_a_naive_one_does_not() -> None:
    """Speakers differ: intervals that ignore it are too narrow, those over speakers cover about as promised."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(20), 20)
    covered = {"speakers": 0, "utterances": 0}
    repetitions = 150
    for i in range(repetitions):
        skill = generator.beta(4, 4, size=20)  # mean 0.5
        correct = generator.random(400) < skill[speakers]
        targets = np.zeros(400, int)
        for name, clusters in (("speakers", speakers), ("utterances", np.arange(400))):
            interval = bootstrap.accuracy_interval(1 - correct.astype(int), targets, clusters, n_resamples=300, seed=i)
            covered[name] += interval.low <= 0.5 <= interval.high
    assert 0.86 <= covered["speakers"] / repetitions <= 0.99
    assert covered["utterances"] / repetitions < 0.85


def test_seed_decides() -> None:
    scores, targets, clusters = sample()
    first = bootstrap.uar_interval(scores, targets, clusters, seed=1)
    assert first == bootstrap.uar_interval(scores, targets, clusters, seed=1)
    assert first != bootstrap.uar_interval(scores, targets, clusters, seed=2)
    wide = bootstrap.uar_interval(scores, targets, clusters, seed=1, level=0.99)
    assert wide.low <= first.low and first.high <= wide.high


def test_a_paired_difference_is_a_statistic_like_any_other() -> None:
    scores, targets, clusters = sample()

    def difference(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> float:
        return metrics.accuracy(a, y) - metrics.accuracy(b, y)

    assert bootstrap_interval(difference, (scores, scores, targets), clusters, n_resamples=20) == (0, 0, 0)


def test_nothing_defined_gives_nan() -> None:
    value, low, high = bootstrap_interval(lambda x: float("nan"), (np.arange(4),), np.arange(4), n_resamples=5)
    assert np.isnan([value, low, high]).all()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="share N >= 1"):
        bootstrap_interval(metrics.accuracy, (np.zeros(3), np.zeros(4)), np.zeros(3))
    with pytest.raises(ValueError, match="one speaker for each of 3"):
        bootstrap.accuracy_interval([0, 1, 2], [0, 1, 2], [0, 1])
    with pytest.raises(ValueError, match="n_resamples"):
        bootstrap.accuracy_interval([0, 1, 2], [0, 1, 2], [0, 1, 2], n_resamples=0)
    with pytest.raises(ValueError, match="level"):
        bootstrap.accuracy_interval([0, 1, 2], [0, 1, 2], [0, 1, 2], level=95)


@pytest.mark.parametrize("speakers", [24, 1])
def test_ten_thousand_resamples_are_quick(speakers: int) -> None:
    scores, targets, clusters = sample(n=1440, k=8, speakers=speakers)
    begin = time.process_time()
    bootstrap.accuracy_interval(scores, targets, clusters, n_resamples=10_000)
    bootstrap.uar_interval(scores, targets, clusters, n_resamples=10_000)
    assert time.process_time() - begin < 5
