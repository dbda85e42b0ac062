"""The bootstrap against a loop over resamples; seeds, paired differences, coverage and determinism."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import torch

from psegan.metrics import bootstrap
from psegan.metrics import scores as metrics
from psegan.metrics.bootstrap import Bootstrap, Resampled
from psegan.metrics.calibration import gains
from psegan.metrics.scores import UndefinedMetricError


def tpr_at_5(resamples: Bootstrap, *arrays: np.ndarray) -> Resampled:
    return resamples.one_vs_rest_tpr(*arrays[:2], 0.05, *arrays[2:])


def one_vs_rest_tpr_at_5(*arrays: np.ndarray) -> float:
    return metrics.one_vs_rest_tpr(*arrays[:2], 0.05, *arrays[2:])


FAST = {
    Bootstrap.accuracy: metrics.accuracy,
    Bootstrap.uar: metrics.uar,
    Bootstrap.macro_auc: metrics.macro_auc,
    Bootstrap.one_vs_rest_eer: metrics.one_vs_rest_eer,
    tpr_at_5: one_vs_rest_tpr_at_5,
}
every_metric = pytest.mark.parametrize(("fast", "metric"), FAST.items(), ids=lambda f: f.__name__)


def sample(
    n: int = 96, k: int = 4, speakers: int = 8, seed: int = 0, skill: float = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posteriors with many ties, targets and speakers; targets are the same for every seed."""
    targets = np.random.default_rng(0).integers(0, k, n)
    logits = np.random.default_rng(seed).integers(-2, 3, size=(n, k)).astype(float)
    logits[np.arange(n), targets] += skill
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), targets, np.arange(n) % speakers


def embeddings(n: int = 24, speakers: int = 6, seed: int = 0, noise: float = 1) -> tuple[np.ndarray, ...]:
    """Enrolment and test embeddings, and speakers."""
    generator = np.random.default_rng(seed)
    speaker = np.arange(n) % speakers
    enrol = generator.normal(size=(speakers, 3))[speaker] + generator.normal(size=(n, 3))
    return enrol, enrol + noise * generator.normal(size=(n, 3)), speaker


def by_loop(resamples: Bootstrap, metric: Callable[..., float], *arrays: np.ndarray) -> Resampled:
    """The metric of each resample's utterances, one resample after the other."""
    samples = np.full(resamples.n_resamples, np.nan)
    for i, drawn in enumerate(resamples.draws):
        index = np.repeat(np.arange(len(resamples)), drawn[resamples.units])
        with suppress(UndefinedMetricError):
            samples[i] = metric(*(array[index] for array in arrays))
    return Resampled(float(metric(*arrays)), samples, resamples)


def assert_same(found: Resampled, expected: Resampled) -> None:
    assert found.value == pytest.approx(expected.value)
    np.testing.assert_allclose(found.samples, expected.samples, atol=1e-12)
    assert np.nanstd(expected.samples) > 0


@pytest.mark.parametrize("speakers", [8, 2])  # two are too few: utterances are drawn
@every_metric
def test_every_resample_equals_the_loop(fast: Callable[..., Resampled], metric: Callable, speakers: int) -> None:
    scores, targets, clusters = sample(speakers=speakers)
    resamples = Bootstrap(clusters, n_resamples=60, seed=3)
    expected = by_loop(resamples, metric, scores, targets)
    assert_same(fast(resamples, scores, targets), expected)
    in_torch = Bootstrap(torch.tensor(clusters), n_resamples=60, seed=3)
    assert_same(fast(in_torch, torch.tensor(scores), torch.tensor(targets)), expected)
    value, low, high = expected.interval()
    assert low < value < high


@every_metric
def test_resamples_that_lack_a_class_equal_the_loop(fast: Callable[..., Resampled], metric: Callable) -> None:
    scores, _, clusters = sample(n=12, k=3, speakers=12)
    targets = np.array([0] * 10 + [1] + [2])  # one resample in seven lacks both
    resamples = Bootstrap(clusters, n_resamples=200, seed=1)
    expected = by_loop(resamples, metric, scores, targets)
    assert_same(fast(resamples, scores, targets), expected)
    assert np.isnan(expected.samples).any() == (metric is metrics.macro_auc)
    assert np.isfinite(expected.interval()).all()


@pytest.mark.parametrize(
    ("fast", "metric"),
    [
        (Bootstrap.macro_auc, metrics.macro_auc),
        (Bootstrap.one_vs_rest_eer, metrics.one_vs_rest_eer),
        (tpr_at_5, one_vs_rest_tpr_at_5),
    ],
)
@pytest.mark.parametrize("speakers", [8, 3, 2])
def test_folds_have_scales_of_their_own(fast: Callable[..., Resampled], metric: Callable, speakers: int) -> None:
    """Each fold was scored by another network, so the scale of one fold's scores changes nothing."""
    scores, targets, clusters = sample(speakers=speakers)
    group = clusters % min(speakers, 3)  # of three speakers, most resamples lack a group
    resamples = Bootstrap(clusters, n_resamples=60, seed=3)
    expected = by_loop(resamples, metric, scores, targets, group)
    assert_same(fast(resamples, scores, targets, group), expected)
    assert_same(fast(resamples, np.stack([scores] * 2), targets, group), expected)
    rescaled = np.where(group[:, None] == 1, 0.125 * scores, scores)
    assert_same(fast(resamples, rescaled, targets, group), expected)
    assert fast(resamples, rescaled, targets).value != pytest.approx(expected.value)
    assert metric(scores, targets, np.zeros(96)) == metric(scores, targets)


@every_metric
def test_seeds_are_averaged_and_drawn(fast: Callable[..., Resampled], metric: Callable) -> None:
    _, targets, clusters = sample()
    runs = np.stack([sample(seed=seed, skill=skill)[0] for seed, skill in enumerate((0.2, 1, 3))])
    resamples = Bootstrap(clusters, n_resamples=400)
    found = fast(resamples, runs, targets)
    assert found.value == pytest.approx(np.mean([metric(run, targets) for run in runs]))
    each = np.stack([fast(resamples, run, targets).samples for run in runs])
    # every resample is the mean of three runs drawn with replacement: one of ten combinations
    combinations = np.array([(a, b, 3 - a - b) for a in range(4) for b in range(4 - a)]) / 3
    distance = np.abs(combinations @ each - found.samples)
    assert (distance.min(0) < 1e-12).all()
    assert len(np.unique(distance.argmin(0))) == 10
    # runs differ more than speakers do, so leaving out the draws of seeds would narrow the interval
    assert found.samples.std() > 1.5 * each.mean(0).std()


def test_equal_runs_are_one_run() -> None:
    scores, targets, clusters = sample()
    resamples = Bootstrap(clusters, n_resamples=50)
    once, thrice = resamples.uar(scores, targets), resamples.uar(np.stack([scores] * 3), targets)
    np.testing.assert_allclose(thrice.samples, once.samples)
    np.testing.assert_allclose(resamples.uar(scores[None], targets).samples, once.samples)


def test_predicted_classes_stand_for_scores() -> None:
    scores, targets, clusters = sample()
    resamples = Bootstrap(clusters, n_resamples=50)
    for fast in (resamples.accuracy, resamples.uar):
        np.testing.assert_array_equal(fast(scores.argmax(1), targets).samples, fast(scores, targets).samples)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("speakers", [6, 2])
def test_verification_equals_a_loop_over_pairs(speakers: int, grouped: bool) -> None:
    enrol, test, speaker = embeddings(speakers=speakers)
    group = np.where(np.arange(24) < 12, "a", "b") if grouped else np.zeros(24)
    resamples = Bootstrap(speaker, n_resamples=60, seed=5)
    cosine = (enrol / np.linalg.norm(enrol, axis=1)[:, None]) @ (test / np.linalg.norm(test, axis=1)[:, None]).T

    def looped(metric: Callable[..., float]) -> Resampled:
        def statistic(index: np.ndarray) -> float:
            # an utterance drawn twice doesn't meet itself, nor a speaker drawn twice its other draw
            drawn = [(i, int((index[:n] == i).sum())) for n, i in enumerate(index)]
            rates = []
            for own in np.unique(group):  # another network embedded each
                there = [(i, copy) for i, copy in drawn if group[i] == own]
                pairs = [
                    (i, j)
                    for i, a in there
                    for j, b in there
                    if i != j and (resamples.units[i] != resamples.units[j] or a == b)
                ]
                scores, is_target = [cosine[p] for p in pairs], [speaker[i] == speaker[j] for i, j in pairs]
                if any(is_target) and not all(is_target):
                    rates.append((metric(np.array(scores), np.array(is_target)), len(there)))
            return sum(rate * n for rate, n in rates) / sum(n for _, n in rates) if rates else np.nan

        return by_loop(resamples, statistic, np.arange(24))

    found = resamples.verification(enrol, test, speaker, group)
    assert_same(found["eer"], looped(metrics.eer))
    assert_same(found["min_dcf"], looped(metrics.min_dcf))


def test_verification_without_impostors_has_no_value() -> None:
    enrol, test, speaker = embeddings(speakers=4)
    with pytest.raises(UndefinedMetricError, match="both kinds"):
        Bootstrap(speaker).verification(enrol, test, speaker, group=speaker)


def test_a_paired_difference_is_of_the_same_draws() -> None:
    ours, targets, clusters = sample(seed=1, skill=0.5)
    theirs, _, _ = sample(seed=2)
    resamples = Bootstrap(clusters, n_resamples=100, seed=4)
    expected = by_loop(resamples, lambda a, b, y: metrics.uar(a, y) - metrics.uar(b, y), ours, theirs, targets)
    assert_same(resamples.uar(ours, targets) - resamples.uar(theirs, targets), expected)
    nothing = resamples.uar(ours, targets) - resamples.uar(ours, targets)
    assert nothing.interval() == (0, 0, 0)
    with pytest.raises(ValueError, match="same Bootstrap"):
        resamples.uar(ours, targets) - Bootstrap(clusters, n_resamples=100, seed=5).uar(theirs, targets)


def test_a_paired_difference_is_narrower_than_the_scores() -> None:
    """Speakers that are hard for both systems cancel."""
    clusters = np.repeat(np.arange(10), 20)
    generator = np.random.default_rng(0)
    hard = generator.random(10)[clusters]
    first = (generator.random(200) < hard).astype(int)
    second = np.where(generator.random(200) < 0.1, 1 - first, first)
    resamples = Bootstrap(clusters, n_resamples=500)
    ours, theirs = (resamples.accuracy(predicted, np.zeros(200, int)) for predicted in (first, second))
    assert (ours - theirs).samples.std() < 0.5 * ours.samples.std()


def test_a_paired_difference_of_verification() -> None:
    enrol, clear, speaker = embeddings(n=60, speakers=10, noise=0.1)
    _, blurred, _ = embeddings(n=60, speakers=10, noise=10)
    resamples = Bootstrap(speaker, n_resamples=200)
    worse = (
        resamples.verification(enrol, blurred, speaker)["eer"] - resamples.verification(enrol, clear, speaker)["eer"]
    )
    assert worse.interval().low > 0


def test_residual_equals_the_loop() -> None:
    protected, targets, clusters = sample(seed=1, skill=0.5)
    original, _, _ = sample(seed=2, skill=1)
    resamples = Bootstrap(clusters, n_resamples=100)
    expected = by_loop(
        resamples,
        lambda a, b, y: metrics.residual(metrics.uar(a, y), metrics.uar(b, y), 0.25),
        protected,
        original,
        targets,
    )
    assert_same(resamples.residual(protected, original, targets, 0.25), expected)
    itself = resamples.residual(original, original, targets, 0.25)
    assert itself.interval() == pytest.approx((1, 1, 1))
    runs = np.stack([original, original])
    np.testing.assert_allclose(resamples.residual(runs, original, targets, 0.25).samples, itself.samples)


def test_resamples_with_nothing_to_hide_have_no_residual() -> None:
    protected, targets, clusters = sample(seed=1)
    original, _, _ = sample(seed=2, skill=0)
    chance = metrics.uar(original, targets) - 0.01  # many a resample is below
    resamples = Bootstrap(clusters, n_resamples=100)
    undefined = np.isnan(resamples.residual(protected, original, targets, chance).samples)
    np.testing.assert_array_equal(undefined, resamples.uar(original, targets).samples <= chance)
    assert 0 < undefined.sum() < 100
    with pytest.raises(UndefinedMetricError, match="at or below chance"):
        resamples.residual(protected, original, targets, chance + 0.02)


def test_mean_leaves_out_what_has_no_value() -> None:
    values = np.random.default_rng(0).normal(size=30)
    values[[3, 17]] = np.nan
    resamples = Bootstrap(np.arange(30) % 6, n_resamples=50)
    assert_same(resamples.mean(values), by_loop(resamples, np.nanmean, values))
    nothing = resamples.mean(np.full(30, np.nan))
    assert np.isnan(nothing.interval()).all()


def test_speakers_are_drawn_whole() -> None:
    seen = []

    def statistic(utterance: np.ndarray) -> float:
        seen.append(np.bincount(utterance, minlength=20).reshape(4, 5))
        return 0.0

    by_loop(Bootstrap(np.repeat(["a", "b", "c", "d"], 5), n_resamples=50), statistic, np.arange(20))
    assert all((counts == counts[:, :1]).all() and counts[:, 0].sum() == 4 for counts in seen)
    assert any(counts.max() > 1 for counts in seen)


def test_draws_are_uniform() -> None:
    draws = Bootstrap(np.arange(5), n_resamples=4000).draws
    np.testing.assert_array_equal(draws.sum(1), 5)
    np.testing.assert_allclose(draws.mean(0), 1, atol=0.06)  # four standard errors
    np.testing.assert_allclose(draws.var(0), 0.8, atol=0.1)


def test_too_few_speakers_draw_utterances() -> None:
    resamples = Bootstrap([0] * 5 + [1] * 5, n_resamples=50)
    assert len(np.unique(resamples.draws, axis=0)) > 10  # two speakers would give three different resamples
    assert resamples.drawn_from == "10 utterances, since speakers are too few"
    assert Bootstrap([0, 1, 2, 2]).drawn_from == "3 speakers"


def test_a_cluster_interval_covers_and_a_naive_one_does_not() -> None:
    """Speakers differ: intervals that ignore it are too narrow, those over speakers cover about as promised."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(20), 20)
    resamples = {"speakers": Bootstrap(speakers, 300), "utterances": Bootstrap(np.arange(400), 300)}
    covered = dict.fromkeys(resamples, 0)
    repetitions = 150
    for _ in range(repetitions):
        skill = generator.beta(4, 4, size=20)  # mean 0.5
        correct = generator.random(400) < skill[speakers]
        for name, of_name in resamples.items():
            _, low, high = of_name.accuracy(1 - correct.astype(int), np.zeros(400, int)).interval()
            covered[name] += low <= 0.5 <= high
    assert 0.86 <= covered["speakers"] / repetitions <= 0.99
    assert covered["utterances"] / repetitions < 0.85


def test_an_interval_of_verification_is_as_wide_as_speakers_differ() -> None:
    """Where the threshold stands still, a miss rate is the mean over speakers: its error that of a mean."""
    generator = np.random.default_rng(0)
    speaker = np.repeat(np.arange(24), 10)
    centre = np.eye(24)[speaker]
    missed = generator.random(24)[speaker, None] < np.linspace(0, 1, 240)[generator.permutation(240), None]
    test = np.where(missed, centre, -centre)
    resamples = Bootstrap(speaker, n_resamples=2000)
    found = resamples.verification(centre, test, speaker)["min_dcf"].samples
    hits = resamples.mean(missed[:, 0].astype(float)).samples
    assert np.std(found) == pytest.approx(np.std(hits), rel=0.02)


def test_seed_decides() -> None:
    scores, targets, clusters = sample()
    first = Bootstrap(clusters, seed=1).uar(scores, targets).interval()
    assert first == Bootstrap(clusters, seed=1).uar(scores, targets).interval()
    assert first != Bootstrap(clusters, seed=2).uar(scores, targets).interval()


def test_a_higher_level_is_wider() -> None:
    scores, targets, clusters = sample()
    found = Bootstrap(clusters).uar(scores, targets)
    narrow, wide = found.interval(0.5), found.interval(0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_memory_does_not_decide_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets, clusters = sample()
    enrol, test, speaker = embeddings()
    whole = [fast(Bootstrap(clusters, 40), scores, targets) for fast in FAST]
    whole.append(Bootstrap(speaker, 40).verification(enrol, test, speaker)["eer"])
    monkeypatch.setattr(bootstrap, "_CHUNK", 1)
    assert_same(Bootstrap(speaker, 40).verification(enrol, test, speaker)["eer"], whole.pop())
    for fast, expected in zip(FAST, whole, strict=True):
        assert_same(fast(Bootstrap(clusters, 40), scores, targets), expected)


@pytest.mark.parametrize("fast", [*FAST, Bootstrap.mean], ids=lambda f: f.__name__)
def test_scores_of_other_utterances_are_refused(fast: Callable[..., Resampled]) -> None:
    scores, targets, clusters = sample()
    arguments = (targets,) if fast is Bootstrap.mean else (scores, targets)
    with pytest.raises(ValueError, match=r"95 utterances, but .* shape \(96,\)"):
        fast(Bootstrap(clusters[:95]), *arguments)


def test_bad_arguments_are_refused() -> None:
    resamples = Bootstrap([0, 1, 2])
    with pytest.raises(ValueError, match=r"3 utterances, but .* shape \(4,\)"):
        resamples.verification(np.ones((4, 2)), np.ones((4, 2)), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="share their N"):
        resamples.verification(np.ones((4, 2)), np.ones((4, 2)), [0, 0, 1])
    with pytest.raises(ValueError, match="4 rows of scores for 3 targets"):
        resamples.one_vs_rest_eer(np.ones((4, 2)), [0, 0, 1])
    with pytest.raises(ValueError, match="shape"):
        resamples.mean(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="Quantiles"):
        resamples.accuracy([0, 1, 2], [0, 1, 2]).interval(95)


def test_permuted_labels_are_at_chance_as_often_as_their_interval_says():
    """Attackers that name emotions at random: the interval contains chance in 19 of 20 cases."""
    generator = np.random.default_rng(0)
    targets = np.repeat(np.arange(8), 15)
    resamples = Bootstrap(np.tile(np.arange(24), 5), n_resamples=500)
    held = 0
    for _ in range(200):
        answers = generator.permutation(8)[
            np.where(generator.random(120) < 0.7, targets, generator.integers(0, 8, 120))
        ]
        interval = resamples.permuted(np.eye(8)[answers], targets, 8)["uar"].interval()
        held += interval.low <= 1 / 8 <= interval.high
    assert 180 <= held <= 200


def test_namings_of_several_folds_are_drawn_independently():
    """Five folds, each with its own naming: the interval is narrower than with a single naming, and contains chance."""
    generator = np.random.default_rng(1)
    targets, fold = np.tile(np.arange(8), 25), np.repeat(np.arange(5), 40)
    resamples = Bootstrap(np.arange(200) % 20, n_resamples=500)
    held, width = 0, []
    for _ in range(100):
        names = np.stack([generator.permutation(8) for _ in range(5)])
        found = np.where(generator.random(200) < 0.7, names[fold, targets], generator.integers(0, 8, 200))
        apart = resamples.permuted(np.eye(8)[found], targets, 8, fold)["uar"].interval()
        held += apart.low <= 1 / 8 <= apart.high
        width.append(
            (apart.high - apart.low)
            / np.ptp(resamples.permuted(np.eye(8)[names[0, targets]], targets, 8)["uar"].samples)
        )
    assert 88 <= held <= 100
    assert np.mean(width) < 0.8
    alone = resamples.permuted(np.eye(8)[found], targets, 8, fold)["accuracy"].value
    assert np.isclose(alone, (found == targets).mean())


def test_permuted_labels_of_uneven_classes_equal_a_loop_over_namings():
    """Neutral at seven tenths, as no corpus has it; a naming renames evidence and leaves the base rates."""
    generator = np.random.default_rng(2)
    targets, fold = generator.permutation(np.repeat(np.arange(3), [42, 12, 6])), np.arange(60) % 2
    evidence = generator.normal(size=(2, 60, 3)) + 2 * np.eye(3)[targets]
    resamples = Bootstrap(np.arange(60) % 6, n_resamples=40, seed=5)
    found = resamples.permuted(evidence, targets, 3, fold, evidence)
    draws = np.random.default_rng(5)
    renamed = np.empty((40, *evidence.shape))
    for number in range(2):
        for own in (fold == 0, fold == 1):
            for resample, naming in enumerate(draws.random((40, 3)).argsort(1)):
                renamed[resample, number, own] = evidence[number][own][:, naming]
    for metric, score in (
        ("accuracy", lambda run: (run.argmax(1) == targets).mean()), ("uar", lambda run: metrics.uar(run, targets)),
        ("bits", lambda run: gains(run, targets).mean()),
    ):  # fmt: skip
        value = np.mean([score(run) for run in evidence])
        expected = np.array([np.mean([score(run) for run in runs]) for runs in renamed])
        assert found[metric].value == pytest.approx(value)
        np.testing.assert_allclose(found[metric].samples, value - (expected - expected.mean()), atol=1e-12)


def test_a_leak_is_not_at_chance():
    targets = np.repeat(np.arange(8), 15)
    resamples = Bootstrap(np.tile(np.arange(24), 5), n_resamples=500)
    found = resamples.permuted(np.stack([np.eye(8)[targets]] * 2), targets, 8)
    assert found["uar"].value == found["accuracy"].value == 1
    assert found["uar"].interval().low > 0.5


@pytest.mark.parametrize("speakers", [8, 2])
def test_ratios_and_quantiles_of_every_resample_equal_the_loop(speakers: int) -> None:
    generator = np.random.default_rng(0)
    resamples = Bootstrap(np.arange(60) % speakers, n_resamples=50)
    errors, words = generator.integers(0, 5, 60), generator.integers(5, 9, 60)
    assert_same(
        resamples.ratio_of_sums(errors, words), by_loop(resamples, lambda e, w: float(e.sum() / w.sum()), errors, words)
    )
    values = generator.normal(size=60).round(1)  # with ties
    for q in (0.5, 0.95):
        expected = by_loop(resamples, lambda v, q=q: float(np.quantile(v, q, method="inverted_cdf")), values)
        assert_same(resamples.quantile(values, q), expected)


def test_quantiles_leave_out_what_is_not_defined() -> None:
    values = np.array([np.nan, 3.0, 1.0, 2.0])
    assert Bootstrap(np.arange(4), 10).quantile(values, 0.5).value == 2
    assert np.isnan(Bootstrap(np.arange(4), 10).quantile(np.full(4, np.nan), 0.5).value)


def test_verification_of_some_trials_equals_the_loop() -> None:
    enrol, test, speaker = embeddings(24, 6)
    content, enrolling = np.arange(24) // 6 % 3, np.arange(24) % 4 != 0
    resamples = Bootstrap(speaker, n_resamples=20)
    found = resamples.verification(enrol, test, speaker, content=content, enrolling=enrolling, measures=["eer"])
    assert found.keys() == {"eer"}
    scores, is_target = metrics.verification_trials(enrol, test, speaker, content=content, enrolling=enrolling)
    rows, columns = metrics.trial_pairs(24, content=content, enrolling=enrolling)
    assert found["eer"].value == pytest.approx(metrics.eer(scores, is_target))
    for draws, sample in zip(resamples.draws, found["eer"].samples, strict=True):
        times = draws[speaker]
        weights = np.where(speaker[rows] == speaker[columns], times[rows], times[rows] * times[columns])
        assert sample == pytest.approx(metrics.eer(np.repeat(scores, weights), np.repeat(is_target, weights)))
