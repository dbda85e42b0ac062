"""Percentile bootstrap over speakers (Efron and Tibshirani, 1993, chapters 8 and 13), for many resamples at once.

Utterances of one speaker are alike, so they are no independent draws: a resample draws speakers with replacement and
keeps all utterances of each as often as it was drawn. With fewer than three speakers there are too few different
resamples, and utterances are drawn instead; such an interval says nothing about other speakers.

A verification trial has two speakers. A target trial is drawn as often as its one speaker, the trial of an impostor as often
as the product of both draws (the subsets bootstrap of Bolle, Ratha and Pankanti, Error analysis of pattern recognition
systems, CVIU 93, 2004; Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007): a speaker drawn twice is two
draws of one person, who never meet, and no utterance meets itself.

An attacker that was trained with several seeds is worth the mean of its scores over them, and its seeds are drawn too,
independently of the speakers (Owen, 2007; on why seeds count: Bouthillier et al., Accounting for variance in machine
learning benchmarks, MLSys 2021). Draws of S seeds show only (S - 1) / S of the variance between seeds, so with two or
three seeds an interval is still somewhat too narrow; with one it holds nothing of them.

All scores of one :class:`Bootstrap` are of the same resamples. So differences are paired::

    resamples = Bootstrap(speaker, n_resamples=10_000)
    (resamples.uar(ours, emotion) - resamples.uar(theirs, emotion)).interval()

Nothing is approximated: every resample has the value that the functions of :mod:`psegan.metrics.scores` give for
it. Resamples without a value (a class is missing, say) are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from psegan.common.random import seeded
from psegan.metrics import scores as metrics
from psegan.metrics.scores import Array, UndefinedMetricError, to_numpy
from psegan.metrics.weighted_trials import WeightedTrials

MIN_CLUSTERS = 3
"""Fewer speakers than this, and utterances are resampled instead."""
_Weigh = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_Measure = Callable[[WeightedTrials, NDArray[np.float64]], NDArray[np.float64]]
_CHUNK = 1_000_000  # elements of the largest temporary arrays, of which there are a few: 8 MB each


class Interval(NamedTuple):
    """A score of the sample itself and the ends of its interval; these are NaN if no resample had a value."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resampled:
    """A score of the sample and of every resample.

    Attributes:
        value: of the sample itself.
        samples: ``(R,)`` of the resamples, NaN where one has no value.
        bootstrap: whose resamples they are.
    """

    value: float
    samples: NDArray[np.float64] = field(repr=False)
    bootstrap: "Bootstrap" = field(repr=False)

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The paired difference: both scores of each resample.

        Raises:
            ValueError: the scores are of different resamples.
        """
        if self.bootstrap is not other.bootstrap:
            raise ValueError("a paired difference needs two scores of the same Bootstrap")
        return Resampled(self.value - other.value, self.samples - other.samples, self.bootstrap)

    def interval(self, level: float = 0.95) -> Interval:
        """The value and the percentile interval that covers with probability ``level``."""
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {level}")
        defined = self.samples[~np.isnan(self.samples)]
        if len(defined) == 0:
            return Interval(self.value, float("nan"), float("nan"))
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        return Interval(self.value, float(low), float(high))


class Bootstrap:
    """Resamples of one test set, and any score of them.

    Scores of classifiers are ``(N, K)``, or ``(S, N, K)`` of S seeds; predicted classes may stand for them, ``(N,)``,
    where only the largest score counts. Arrays may be numpy arrays, torch tensors or lists.

    Args:
        clusters: speaker of each utterance ``(N,)``, numbers or names. Fewer than three: utterances are drawn.
        n_resamples: how many resamples R.
        seed: of the draws. Equal seeds and clusters give equal draws.

    Raises:
        ValueError: ``clusters`` is empty or has more axes, or there are no resamples.
    """

    def __init__(self, clusters: Array, n_resamples: int = 1000, seed: int = 0) -> None:
        labels = to_numpy(clusters)
        if labels.ndim != 1 or len(labels) == 0:
            raise ValueError(f"clusters must name the speaker of each of N >= 1 utterances, not have {labels.shape}")
        if n_resamples < 1:
            raise ValueError(f"n_resamples must be at least 1, not {n_resamples}")
        unique, index = np.unique(labels, return_inverse=True)
        enough = len(unique) >= MIN_CLUSTERS
        self.units: NDArray[np.intp] = index if enough else np.arange(len(labels))
        """Index ``(N,)`` of what is drawn together: the speaker, or the utterance where speakers are too few."""
        self.n_units = int(self.units.max()) + 1
        self.drawn_from = f"{self.n_units} {'speakers' if enough else 'utterances, since speakers are too few'}"
        """What is drawn, for people."""
        self.n_resamples, self.seed = n_resamples, seed
        self.draws = self._draw("units", self.n_units)
        """How often each unit is drawn in each resample, ``(R, units)``."""

    def __len__(self) -> int:
        return len(self.units)

    def statistic(self, function: Callable[..., float], *arrays: Array) -> Resampled:
        """Any statistic of utterances, by a loop over resamples.

        Don't form verification trials inside: an utterance drawn twice would meet itself.

        Args:
            function: takes the arrays as numpy arrays, each reduced to the utterances drawn, and returns a number; NaN
                or :class:`UndefinedMetricError` where a resample has none.
            arrays: each with the N utterances along its first axis.
        """
        data = [to_numpy(array) for array in arrays]
        for array in data:
            self._check(len(array))
        samples = np.full(self.n_resamples, np.nan)
        for i, drawn in enumerate(self.draws):
            index = np.repeat(np.arange(len(self)), drawn[self.units])
            try:
                samples[i] = function(*(array[index] for array in data))
            except UndefinedMetricError:
                continue
        return Resampled(float(function(*data)), samples, self)

    def mean(self, values: Array) -> Resampled:
        """Mean of ``values (N,)``, over the utterances that have one: NaN is left out."""
        numbers = to_numpy(values).astype(np.float64)
        if numbers.ndim != 1:
            raise ValueError(f"values must have shape (N,), not {numbers.shape}")
        self._check(len(numbers))
        known = ~np.isnan(numbers)
        total = np.bincount(self.units, np.where(known, numbers, 0), self.n_units)
        count = np.bincount(self.units, known, self.n_units)
        samples = self._chunked(lambda draws: _ratio(draws @ total, draws @ count), self.n_units)
        return Resampled(float(numbers[known].mean()) if known.any() else float("nan"), samples, self)

    def accuracy(self, predicted: Array, targets: Array) -> Resampled:
        """:func:`psegan.metrics.scores.accuracy`."""

        def of_run(run: Array) -> Resampled:
            chosen, wanted = metrics.as_predictions(run, targets)
            return self.mean(chosen == wanted)

        return self._over_seeds(predicted, of_run)

    def uar(self, predicted: Array, targets: Array) -> Resampled:
        """:func:`psegan.metrics.scores.uar`; a class that a resample lacks doesn't count in that resample."""

        def of_run(run: Array) -> Resampled:
            chosen, wanted = metrics.as_predictions(run, targets)
            self._check(len(wanted))
            correct, total = np.zeros((2, self.n_units, wanted.max() + 1))
            np.add.at(correct, (self.units, wanted), chosen == wanted)
            np.add.at(total, (self.units, wanted), 1)

            def samples(draws: NDArray[np.float64]) -> NDArray[np.float64]:
                return np.asarray(np.nanmean(_ratio(draws @ correct, draws @ total), 1))

            return Resampled(metrics.uar(chosen, wanted), self._chunked(samples, max(correct.shape)), self)

        return self._over_seeds(predicted, of_run)

    def dealt(
        self, predicted: Array, targets: Array, n_classes: int, group: Array | None = None
    ) -> dict[str, Resampled]:
        """Accuracy and UAR of attackers whose training labels were dealt at random, with the deal's own uncertainty.

        What such an attacker calls an emotion was the deal's choice, so its answers under any other naming of the classes
        were as likely: all that varies is the naming, and speakers don't tell how far. The samples are the value minus
        what drawn namings, one for each attacker and fold, differ from their mean by; where the interval leaves out
        chance, the attacker knows what no deal told it.

        Args:
            predicted: verdicts, ``(N, K)`` or ``(S, N, K)``.
            targets: true classes ``(N,)``.
            n_classes: K.
            group: fold of each utterance ``(N,)``, whose attackers are others; None for one fold.
        """
        runs, wanted = to_numpy(predicted), to_numpy(targets)
        runs = runs[None] if runs.ndim == 2 else runs
        fold = np.zeros(len(wanted), dtype=np.int64) if group is None else to_numpy(group)
        confusion = np.stack(  # attacker and fold, truth, answer
            [
                metrics.confusion_matrix(run[fold == k], wanted[fold == k], n_classes)
                for run in runs
                for k in np.unique(fold)
            ]
        ).astype(np.float64)
        of_class = np.bincount(wanted, minlength=n_classes)[:, None] * len(runs)
        namings = np.random.default_rng(self.seed).random((self.n_resamples, len(confusion), n_classes)).argsort(2)
        found = {}
        for metric, weight in (("accuracy", of_class.sum()), ("uar", of_class * (of_class > 0).sum())):
            share = np.nan_to_num(_ratio(confusion, np.broadcast_to(weight, confusion.shape)))
            null = np.zeros(self.n_resamples)
            for one, naming in zip(share, namings.transpose(1, 0, 2), strict=True):
                null += one[np.arange(n_classes), naming].sum(1)
            value = float(np.trace(share, axis1=1, axis2=2).sum())
            found[metric] = Resampled(value, value - (null - null.mean()), self)
        return found

    def residual(self, predicted: Array, original: Array, targets: Array, chance: float) -> Resampled:
        """:func:`psegan.metrics.scores.residual` of the UAR on protected and on original speech.

        Resamples in which the UAR on original speech is at or below chance are left out. Where there are many of them
        the attacker is hardly one.

        Args:
            predicted, original: verdicts on protected speech and on original speech, of the same utterances.
            targets: ``(N,)``.
            chance: 1 / K.
        """
        protected, unprotected = self.uar(predicted, targets), self.uar(original, targets)
        samples = _ratio(protected.samples - chance, unprotected.samples - chance)
        return Resampled(metrics.residual(protected.value, unprotected.value, chance), samples, self)

    def macro_auc(self, scores: Array, targets: Array, group: Array | None = None) -> Resampled:
        """:func:`psegan.metrics.scores.macro_auc`; a class that a resample lacks doesn't count in that resample."""
        of_group = metrics.members(len(self), group)

        def of_run(run: Array) -> Resampled:
            value = metrics.macro_auc(run, targets, group)
            columns, wanted = to_numpy(run), metrics.as_targets(targets)
            self._check(len(wanted))
            classes = [
                [self._wins(columns[own, k], wanted[own] == k, self.units[own]) for own in of_group]
                for k in np.unique(wanted)
            ]

            def samples(draws: NDArray[np.float64]) -> NDArray[np.float64]:
                won = [[((draws @ wins) * draws).sum(1) for wins, _, _ in groups] for groups in classes]
                pairs = [[(draws @ own) * (draws @ others) for _, own, others in groups] for groups in classes]
                areas = [_ratio(np.sum(a, 0), np.sum(b, 0)) for a, b in zip(won, pairs, strict=True)]
                defined = ~np.isnan(areas)
                return _ratio(np.where(defined, areas, 0).sum(0), defined.sum(0))

            return Resampled(value, self._chunked(samples, self.n_units), self)

        return self._over_seeds(scores, of_run)

    def one_vs_rest_eer(self, scores: Array, targets: Array, group: Array | None = None) -> Resampled:
        """:func:`psegan.metrics.scores.one_vs_rest_eer`."""
        of_group = metrics.members(len(self), group)

        def of_run(run: Array) -> Resampled:
            pooled, is_target = metrics.one_vs_rest_trials(run, targets)
            self._check(len(to_numpy(targets)))
            utterance = np.repeat(np.arange(len(self)), len(pooled) // len(self))

            def of_members(own: NDArray[np.intp]) -> Resampled:
                there = np.isin(utterance, own)
                trials = WeightedTrials(pooled[there], is_target[there], self.units[utterance[there]], self.n_units)
                return self._error_rate(trials, lambda draws: draws, WeightedTrials.eer)

            return self._over_groups(of_group, of_members)

        return self._over_seeds(scores, of_run)

    def verification_eer(self, enrol: Array, test: Array, speaker: Array, group: Array | None = None) -> Resampled:
        """Equal error rate of :func:`psegan.metrics.scores.verification_trials`.

        Args:
            enrol, test: embeddings ``(N, E)``, row by row the same utterance.
            speaker: speaker indices ``(N,)`` of both.
            group: ``(N,)``, such as folds, each of which another network embedded: only utterances of one group meet, each
                group has a threshold of its own, and the rate is their mean, weighted by utterances.
        """
        return self._verification(enrol, test, speaker, group, WeightedTrials.eer)

    def verification_min_dcf(
        self, enrol: Array, test: Array, speaker: Array, group: Array | None = None,
        p_target: float = 0.05, c_miss: float = 1, c_fa: float = 1,
    ) -> Resampled:  # fmt: skip
        """:func:`psegan.metrics.scores.min_dcf` of the trials of :meth:`verification_eer`."""
        measure = partial(WeightedTrials.min_dcf, p_target=p_target, c_miss=c_miss, c_fa=c_fa)
        return self._verification(enrol, test, speaker, group, measure)

    def _verification(
        self, enrol: Array, test: Array, speaker: Array, group: Array | None, measure: _Measure
    ) -> Resampled:
        scores, is_target = metrics.verification_trials(enrol, test, speaker, speaker, group)
        self._check(len(to_numpy(speaker)))
        enrolled, tested = metrics.trial_pairs(len(self), group)
        rows, columns = self.units[enrolled], self.units[tested]
        # a pair of units counts alike whichever of them enrols, which halves the cells
        pairs = np.minimum(rows, columns) * self.n_units + np.maximum(rows, columns)

        def of_members(own: NDArray[np.intp]) -> Resampled:
            there = np.isin(enrolled, own)
            pair = pairs[there]
            present = np.flatnonzero(np.bincount(pair))
            first, second = np.divmod(present, self.n_units)
            trials = WeightedTrials(scores[there], is_target[there], np.searchsorted(present, pair), len(present))
            # with utterances as units, none meets itself
            one = (first == second)[:, None]

            def weigh(draws: NDArray[np.float64]) -> NDArray[np.float64]:
                return np.where(one, draws[first], draws[first] * draws[second])

            return self._error_rate(trials, weigh, measure)

        return self._over_groups(metrics.members(len(self), group), of_members)

    def _over_groups(
        self, of_group: Sequence[NDArray[np.intp]], of_members: Callable[[NDArray[np.intp]], Resampled]
    ) -> Resampled:
        """The mean over groups of a score, weighted by utterances; in a resample, over the groups that have one."""
        value, weighted, drawn = 0.0, np.zeros(self.n_resamples), np.zeros(self.n_resamples)
        for own in of_group:
            found = of_members(own)
            n = self.draws @ np.bincount(self.units[own], minlength=self.n_units) * ~np.isnan(found.samples)
            value += found.value * len(own) / len(self)
            weighted += np.where(n > 0, found.samples, 0) * n
            drawn += n
        return Resampled(value, _ratio(weighted, drawn), self)

    def _error_rate(self, trials: WeightedTrials, weigh: _Weigh, measure: _Measure) -> Resampled:
        """A measure of trials, whose cells ``weigh`` gives weights ``(C, R)`` for draws ``(units, R)``."""

        def samples(draws: NDArray[np.float64]) -> NDArray[np.float64]:
            return measure(trials, weigh(np.ascontiguousarray(draws.T)))

        value = samples(np.ones((1, self.n_units)))  # the sample itself draws every unit once
        return Resampled(float(value[0]), self._chunked(samples, trials.width), self)

    def _over_seeds(self, predicted: Array, of_run: Callable[[Array], Resampled]) -> Resampled:
        """The mean over seeds of a score, with seeds drawn too, the same ones for every score of as many seeds."""
        values = to_numpy(predicted)
        runs = [of_run(run) for run in (values if values.ndim == 3 else values[None])]
        if not runs:
            raise ValueError("scores of no seed")
        draws = self._draw("seeds", len(runs))
        samples = sum(draws[:, i] * run.samples for i, run in enumerate(runs)) / len(runs)
        return Resampled(float(np.mean([run.value for run in runs])), np.asarray(samples), self)

    def _wins(
        self, scores: NDArray[np.float64], is_target: NDArray[np.bool_], units: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
        """How often a target of one unit outscores another trial of another, a tie being half ``(units, units)``.

        Summed over units that are drawn it is the Mann-Whitney statistic, the area under the ROC times the number of
        pairs. With it the numbers of targets and of other trials of each unit, ``(units,)``.
        """
        positive, negative = (units[kind] for kind in (is_target, ~is_target))
        higher, lower = scores[is_target, None], scores[~is_target]
        margin = (higher > lower) + 0.5 * (higher == lower)
        wins = self._sum_by_unit(positive) @ margin @ self._sum_by_unit(negative).T
        return wins, np.bincount(positive, minlength=self.n_units), np.bincount(negative, minlength=self.n_units)

    def _sum_by_unit(self, units: NDArray[np.intp]) -> sparse.csr_array:
        """Matrix ``(units, M)`` that adds up what belongs to M members of units."""
        members = np.arange(len(units))
        return sparse.csr_array((np.ones(len(units)), (units, members)), shape=(self.n_units, len(units)))

    def _draw(self, what: str, n: int) -> NDArray[np.int32]:
        """How often each of n things is drawn by each resample, which draws n of them, ``(R, n)``."""
        generator = seeded(self.seed, "bootstrap", what, n)
        counts = torch.zeros(self.n_resamples, n, dtype=torch.int32)
        for part in counts.split(max(1, _CHUNK // n)):
            drawn = torch.randint(n, part.shape, generator=generator)
            part.scatter_add_(1, drawn, torch.ones(part.shape, dtype=torch.int32))
        return counts.numpy()

    def _chunked(
        self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]], width: int
    ) -> NDArray[np.float64]:
        """``function`` of draws ``(r, units)``, a few resamples at a time if it makes arrays ``(r, width)``."""
        rows = max(1, _CHUNK // max(width, self.n_units))
        parts = [self.draws[i : i + rows].astype(np.float64) for i in range(0, self.n_resamples, rows)]
        return np.concatenate([function(part) for part in parts])

    def _check(self, n: int) -> None:
        if n != len(self):
            raise ValueError(f"clusters name the speakers of {len(self)} utterances, but {n} were given")


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient, NaN where the denominator isn't positive."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
