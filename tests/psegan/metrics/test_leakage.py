"""Bits, the worst class and speaker, and pooled attackers against scikit-learn and loops over resamples."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sk

from psegan.metrics import leakage
from psegan.metrics import scores as metrics
from psegan.metrics.bootstrap import Bootstrap
from psegan.metrics.calibration import calibrate, gains


def sample(n: int = 96, k: int = 4, speakers: int = 8, seed: int = 0, skill: float = 1) -> tuple[np.ndarray, ...]:
    """Evidence, targets and speakers; targets are the same for every seed."""
    targets = np.random.default_rng(0).integers(0, k, n)
    evidence = np.random.default_rng(seed).normal(size=(n, k)) + skill * np.eye(k)[targets]
    return evidence, targets, np.arange(n) % speakers


def looped(resamples: Bootstrap, metric: Callable[[np.ndarray], float]) -> list[float]:
    """The metric of the indices that each resample repeats."""
    repeated = [np.repeat(np.arange(len(resamples)), drawn[resamples.units]) for drawn in resamples.draws]
    return [metric(index) for index in repeated]


def recalls(chosen: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return sk.recall_score(targets, chosen, labels=np.unique(targets), average=None)


def share(chosen: np.ndarray, group: np.ndarray) -> float:
    return sum(np.bincount(chosen[group == g]).max() for g in np.unique(group)) / len(chosen)


@pytest.mark.parametrize("speakers", [8, 2])  # two are too few: utterances are drawn
def test_every_resample_equals_the_loop(speakers: int) -> None:
    evidence, targets, speaker = sample(speakers=speakers)
    resamples, chosen, group = Bootstrap(speaker, 60, seed=3), evidence.argmax(1), np.arange(96) % speakers % 3
    gained = gains(evidence, targets)

    def best(index: np.ndarray) -> float:
        right = chosen[index] == targets[index]
        return max(right[speaker[index] == one].mean() for one in np.unique(speaker[index]))

    found = {
        leakage.bits(resamples, evidence, targets): lambda i: gained[i].mean(),
        leakage.worst_class(resamples, evidence, targets): lambda i: recalls(chosen[i], targets[i]).max(),
        leakage.worst_speaker(resamples, evidence, targets, speaker): best,
        leakage.most_predicted(resamples, evidence, targets): lambda i: share(chosen[i], 0 * i),
        leakage.most_predicted(resamples, evidence, targets, group): lambda i: share(chosen[i], group[i]),
    }
    for score, metric in found.items():
        assert score.value == pytest.approx(metric(np.arange(96)))
        np.testing.assert_allclose(score.samples, looped(resamples, metric), atol=1e-12)
        assert score.samples.std() > 0


cases = st.integers(3, 30).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.integers(0, most), min_size=n, max_size=n) for most in (3, 3, 4)),
    )
)


@settings(deadline=None, max_examples=60)
@given(cases)
def test_worst_and_most_predicted_equal_scikit_learn(case: tuple[list[int], ...]) -> None:
    chosen, targets, speaker = map(np.array, case)
    resamples = Bootstrap(speaker, 2)
    assert leakage.worst_class(resamples, chosen, targets).value == pytest.approx(recalls(chosen, targets).max())
    each = [sk.accuracy_score(targets[speaker == s], chosen[speaker == s]) for s in np.unique(speaker)]
    assert leakage.worst_speaker(resamples, chosen, targets, speaker).value == pytest.approx(max(each))
    expected = sk.confusion_matrix(targets, chosen, labels=np.arange(4)).sum(0).max() / len(targets)
    assert leakage.most_predicted(resamples, chosen, targets).value == pytest.approx(expected)


def test_seeds_are_averaged() -> None:
    _, targets, speaker = sample()
    runs, resamples = np.stack([sample(seed=seed, skill=seed)[0] for seed in range(3)]), Bootstrap(speaker, 20)
    sets = leakage.utterance_sets(speaker * 4 + targets, 2)
    for score in (
        lambda run: leakage.bits(resamples, run, targets),
        lambda run: leakage.worst_class(resamples, run, targets),
        lambda run: leakage.worst_speaker(resamples, run, targets, speaker),
        lambda run: leakage.most_predicted(resamples, run, targets),
        lambda run: leakage.uar_of_sets(resamples, run, 0 * run, targets, sets),
    ):
        assert score(runs).value == pytest.approx(np.mean([score(run).value for run in runs]))


def test_bits_are_all_that_there_is_to_know_or_nothing() -> None:
    targets, speaker = np.arange(96) % 8, np.arange(96) // 12
    resamples = Bootstrap(speaker, 100)
    assert leakage.bits(resamples, 50 * np.eye(8)[targets], targets).interval() == pytest.approx((3, 3, 3))
    assert leakage.bits(resamples, np.zeros((96, 8)), targets).interval() == (0, 0, 0)


@pytest.mark.parametrize("sharpness", [0.3, 1, 5])
def test_who_knows_nothing_reads_no_bits(sharpness: float) -> None:
    """Calibrated on other speech, the interval holds zero in about nineteen of twenty corpora, however sure the attacker."""
    generator, held, near = np.random.default_rng(0), 0, 0
    for _ in range(40):
        (known, known_targets), (said, targets) = (
            (softmax(sharpness * generator.normal(size=(240, 8)), 1), generator.integers(0, 8, 240)) for _ in range(2)
        )
        evidence = calibrate(known, known_targets).evidence(said)
        _, low, high = leakage.bits(Bootstrap(np.arange(240) % 24, 200), evidence, targets).interval()
        held += low <= 0 <= high
        near += abs(low) < 0.1 and abs(high) < 0.1
    assert held >= 33 and near >= 38


def test_attackers_of_permuted_labels_read_no_bits() -> None:
    """Over ways of renaming their answers, which are those of attackers who hear all but know no names."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(40):
        targets, known_targets = generator.integers(0, 8, 120), generator.integers(0, 8, 120)
        names = np.stack([generator.permutation(8) for _ in range(20)])

        def said(of: np.ndarray, names: np.ndarray = names) -> np.ndarray:
            return softmax(2 * np.eye(8)[names[:, of]] + generator.normal(size=(20, len(of), 8)), -1)

        evidence = calibrate(said(known_targets), known_targets).evidence(said(targets))
        found = Bootstrap(np.arange(120) % 24, 200).permuted(evidence, targets, 8, evidence=evidence)
        assert found["bits"].value == pytest.approx(np.mean([gains(run, targets).mean() for run in evidence]))
        _, low, high = found["bits"].interval()
        held += low <= 0 <= high
        assert high - low < 0.2
    assert held >= 34


def test_permuted_labels_that_leaked_are_seen() -> None:
    targets = np.arange(120) % 8
    evidence = np.stack([2 * np.eye(8)[targets] + np.random.default_rng(s).normal(size=(120, 8)) for s in range(10)])
    assert (
        Bootstrap(np.arange(120) % 24, 200).permuted(evidence, targets, 8, evidence=evidence)["bits"].interval().low > 0
    )


def members(sets) -> list[list[int]]:
    return [sets.indices[a:b].tolist() for a, b in zip(sets.indptr[:-1], sets.indptr[1:], strict=True)]


def test_sets_hold_different_utterances_of_one_cell() -> None:
    cells = np.repeat(np.arange(4), [5, 4, 4, 1])
    sets = leakage.utterance_sets(cells, 2, shuffles=6)
    found = members(sets)
    assert all(len(set(cells[one])) == 1 and len(set(one)) == len(one) for one in found)
    # of five, one is left over; a single one is heard alone
    counts = [sum(cells[one[0]] == cell for one in found) for cell in range(4)]
    assert counts == [12, 12, 12, 6] and {len(one) for one in found if cells[one[0]] < 3} == {2}
    assert len({tuple(sorted(one)) for one in found if cells[one[0]] == 0}) > 5
    assert members(leakage.utterance_sets(cells, 2, shuffles=6)) == found
    np.testing.assert_array_equal(leakage.utterance_sets(cells, 1, 1).sum(1), 1)


def test_sets_need_enough_utterances() -> None:
    assert leakage.utterance_sets(np.repeat(np.arange(4), [2, 2, 1, 1]), 2) is None
    assert leakage.utterance_sets(np.repeat(np.arange(4), [2, 2, 2, 1]), 2) is not None
    assert leakage.utterance_sets(np.arange(10), 2) is None


@pytest.mark.parametrize("n", [1, 2, 4])
def test_pooled_attackers_equal_a_loop(n: int) -> None:
    """Naive Bayes set by set, and every resample with the sets of its speakers repeated."""
    evidence, targets, speaker = sample(n=192)
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    resamples = Bootstrap(speaker, 40, seed=3)
    found = members(sets := leakage.utterance_sets(speaker * 4 + targets, n))
    posteriors = softmax(evidence + np.log(prior), 1)
    chosen = np.array([(np.log(posteriors[one]).sum(0) - (len(one) - 1) * np.log(prior)).argmax() for one in found])
    wanted, heard = targets[[one[0] for one in found]], speaker[[one[0] for one in found]]
    score = leakage.uar_of_sets(resamples, evidence, np.tile(np.log(prior), (192, 1)), targets, sets)
    assert score.value == pytest.approx(sk.balanced_accuracy_score(wanted, chosen))
    for sampled, drawn in zip(score.samples, resamples.draws, strict=True):
        index = np.repeat(np.arange(len(found)), drawn[heard])
        assert sampled == pytest.approx(metrics.uar(chosen[index], wanted[index]))
    if n == 1:
        assert score.value == pytest.approx(metrics.uar(posteriors, targets))


def test_more_utterances_tell_more_and_nothing_stays_nothing() -> None:
    speaker, targets = np.divmod(np.arange(1536), 64)
    targets = targets % 8
    resamples = Bootstrap(speaker, 200)
    for skill, rises in ((0.7, True), (0, False)):
        evidence = np.random.default_rng(0).normal(size=(1536, 8)) + skill * np.eye(8)[targets]
        sets = {n: leakage.utterance_sets(speaker * 8 + targets, n) for n in (1, 2, 4, 8)}
        found = {n: leakage.uar_of_sets(resamples, evidence, 0 * evidence, targets, s) for n, s in sets.items()}
        values = [score.value for score in found.values()]
        assert (
            (np.diff(values) > 0.05).all()
            if rises
            else all(score.interval().low <= 1 / 8 <= score.interval().high for score in found.values())
        )


def test_sets_have_no_interval_where_utterances_are_drawn() -> None:
    evidence, targets, speaker = sample(speakers=2)
    sets = leakage.utterance_sets(speaker * 4 + targets, 2)
    value, low, high = leakage.uar_of_sets(Bootstrap(speaker, 20), evidence, 0 * evidence, targets, sets).interval()
    assert 0 < value < 1 and np.isnan([low, high]).all()
