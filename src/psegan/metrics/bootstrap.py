"""Percentile bootstrap over speakers (Efron and Tibshirani, 1993, chapters 8 and 13), for all resamples at once.

Utterances of one speaker resemble each other, so they are not independent. A resample therefore draws speakers with
replacement, and counts each utterance as often as its speaker was drawn. With fewer than three speakers there are too few
different resamples; then utterances are drawn, and the interval says nothing about other speakers.

A verification trial involves one or two speakers. A target trial counts as often as its speaker was drawn, an impostor trial
counts as the product of both speakers' draws (Bolle, Ratha and Pankanti, Error analysis of pattern recognition systems, CVIU
93, 2004; Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007). Two draws of one speaker are not
compared with each other.

The score of an attacker that was trained with several seeds is the mean over the seeds. The seeds are drawn too, independently
of the speakers (Owen, 2007; on why seeds matter: Bouthillier et al., Accounting for variance in machine learning benchmarks,
MLSys 2021). With S seeds the bootstrap shows (S - 1) / S of the variance between seeds: an interval from two or three
seeds is somewhat too narrow, and one from a single seed contains none of this variance.

All scores of one :class:`Bootstrap` use the same resamples, so differences between them are paired::

    resamples = Bootstrap(speaker, n_resamples=10_000)
    (resamples.uar(ours, emotion) - resamples.uar(theirs, emotion)).interval()

Every resample gets exactly the value that :mod:`psegan.metrics.scores` would give for it. Resamples for which a score is not
defined, because a class is missing for example, are left out. SciPy's ``bootstrap`` has no clusters.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from psegan.common.random import seeded
from psegan.metrics import scores as metrics
from psegan.metrics.calibration import base_rates, gains_if_renamed
from psegan.metrics.scores import Array, to_numpy
from psegan.metrics.weighted_trials import WeightedTrials

_Measure = Callable[[WeightedTrials, NDArray[np.float64]], NDArray[np.float64]]
_CHUNK = 1_000_000  # elements of the largest temporary arrays, of which there are a few: 8 MB each


class Interval(NamedTuple):
    """A score and the ends of its interval, which are NaN if the score is defined for no resample."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resampled:
    """A score of the test set, and its ``samples (R,)``, those of the resamples; NaN where it is not defined."""

    value: float
    samples: NDArray[np.float64] = field(repr=False)
    bootstrap: "Bootstrap" = field(repr=False)

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The paired difference, taken within each resample."""
        if self.bootstrap is not other.bootstrap:
            raise ValueError("a paired difference needs two scores of the same Bootstrap")
        return Resampled(self.value - other.value, self.samples - other.samples, self.bootstrap)

    def interval(self, level: float = 0.95) -> Interval:
        """The value with its percentile interval, which covers the true value with probability ``level``."""
        defined = self.samples[~np.isnan(self.samples)]
        if len(defined) == 0:
            return Interval(self.value, float("nan"), float("nan"))
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        return Interval(self.value, float(low), float(high))


class Bootstrap:
    """Resamples of one test set, and scores of them.

    Classifiers' scores have the shape ``(N, K)``, or ``(S, N, K)`` with S seeds; accuracy and UAR also take predicted
    classes ``(N,)``. All methods raise a ValueError if an array doesn't have one entry per utterance.

    Args:
        clusters: speaker of each utterance ``(N,)``, numbers or names.
        n_resamples: number R of resamples.
        seed: seed of the draws. Equal seeds and clusters give equal draws.
    """

    def __init__(self, clusters: Array, n_resamples: int = 1000, seed: int = 0) -> None:
        unique, index = np.unique(to_numpy(clusters), return_inverse=True)
        enough = len(unique) >= 3
        self.units: NDArray[np.intp] = index if enough else np.arange(len(index))
        """Index ``(N,)`` of the unit that an utterance is drawn with: its speaker, or itself if there are too few speakers."""
        self.n_units = int(self.units.max()) + 1
        self.drawn_from = f"{self.n_units} {'speakers' if enough else 'utterances, since speakers are too few'}"
        """What is drawn, as text for a table's header."""
        self.n_resamples, self.seed = n_resamples, seed
        self.draws = self._draw("units", self.n_units)
        """How often each unit is drawn in each resample, ``(R, units)``."""

    def __len__(self) -> int:
        return len(self.units)

    def mean(self, values: Array) -> Resampled:
        """Mean of ``values (N,)``; those that are NaN are left out."""
        self._check(values)
        numbers = to_numpy(values).astype(np.float64)
        known = ~np.isnan(numbers)
        return self.ratio_of_sums(np.where(known, numbers, 0), known)

    def ratio_of_sums(self, numerators: Array, denominators: Array) -> Resampled:
        """Sum of the numerators ``(N,)`` over the sum of the denominators ``(N,)``, such as word errors over words."""
        self._check(numerators)
        self._check(denominators)
        above, below = (to_numpy(array).astype(np.float64) for array in (numerators, denominators))
        top, bottom = (np.bincount(self.units, array, self.n_units) for array in (above, below))
        samples = self._chunked(lambda draws: ratio(draws @ top, draws @ bottom), self.n_units)
        return Resampled(float(ratio(above.sum(), below.sum())), samples, self)

    def quantile(self, values: Array, q: float) -> Resampled:
        """The least of ``values (N,)`` that a share q of them does not exceed; those that are NaN are left out.

        It is the inverse of the distribution function (NumPy's ``inverted_cdf``), and so one of the values, in resamples too.
        """
        self._check(values)
        numbers = to_numpy(values).astype(np.float64)
        known = np.flatnonzero(~np.isnan(numbers))
        order = known[np.argsort(numbers[known], kind="stable")]
        if len(order) == 0:
            return Resampled(float("nan"), np.full(self.n_resamples, np.nan), self)

        def samples(draws: NDArray[np.float64]) -> NDArray[np.float64]:
            counts = np.cumsum(draws[:, self.units[order]], 1)
            reached = counts >= q * counts[:, -1:] - 1e-9  # products such as 0.95 * 20 are rounded
            found = numbers[order][reached.argmax(1)]
            return np.where(counts[:, -1] > 0, found, np.nan)

        value = float(np.quantile(numbers[order], q, method="inverted_cdf"))
        return Resampled(value, self._chunked(samples, len(order)), self)

    def of_sums(
        self, sums: NDArray[np.float64], score: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> Resampled:
        """A score that is a function of sums over utterances, from ``(r, M)`` to ``(r,)``; ``sums (units, M)`` are by unit."""
        value = float(score(sums.sum(0, keepdims=True))[0])
        return Resampled(value, self._chunked(lambda draws: score(draws @ sums), max(sums.shape)), self)

    def accuracy(self, predicted: Array, targets: Array) -> Resampled:
        """:func:`psegan.metrics.scores.accuracy`."""
        return self.over_seeds(
            predicted, targets, lambda run: self.mean(np.equal(*metrics.as_predictions(run, targets)))
        )

    def uar(self, predicted: Array, targets: Array) -> Resampled:
        """:func:`psegan.metrics.scores.uar`; in a resample it is the mean over the classes that occur there."""

        def of_seed(run: Array) -> Resampled:
            chosen, wanted = metrics.as_predictions(run, targets)
            correct, total = np.zeros((2, self.n_units, wanted.max() + 1))
            np.add.at(correct, (self.units, wanted), chosen == wanted)
            np.add.at(total, (self.units, wanted), 1)

            def samples(draws: NDArray[np.float64]) -> NDArray[np.float64]:
                return np.asarray(np.nanmean(ratio(draws @ correct, draws @ total), 1))

            return Resampled(metrics.uar(chosen, wanted), self._chunked(samples, max(correct.shape)), self)

        return self.over_seeds(predicted, targets, of_seed)

    def permuted(
        self,
        predicted: Array,
        targets: Array,
        n_classes: int,
        group: Array | None = None,
        evidence: Array | None = None,
    ) -> dict[str, Resampled]:
        """Accuracy, UAR and bits of attackers trained on permuted labels, with intervals over namings of the classes.

        Which class such an attacker calls "sad" was decided by the permutation of its training labels, so its answers
        would have been as likely with any other naming of the classes. A resample renames the answers of every attacker
        and fold at random. The samples are the value minus the deviations of the resamples' scores from their mean. If
        the interval does not contain chance, the attacker knows something that its permuted labels cannot have taught it.

        Args:
            predicted: posteriors ``(N, K)``, or ``(S, N, K)`` of S permutations.
            targets: true classes ``(N,)``.
            n_classes: K.
            group: fold of each utterance ``(N,)``; every fold has its own attackers.
            evidence: of the shape of ``predicted``; adds :func:`psegan.metrics.leakage.bits`. The evidence is renamed as the
                answers are, and the base rates are not (:func:`psegan.metrics.calibration.gains_if_renamed`).
        """
        runs, wanted = to_numpy(predicted), to_numpy(targets)
        runs = runs[None] if runs.ndim == 2 else runs
        folds = metrics.group_indices(len(wanted), group)
        of_class = np.bincount(wanted, minlength=n_classes)[:, None]
        weights = {"accuracy": of_class.sum(), "uar": of_class * (of_class > 0).sum()}
        renamed = {metric: np.zeros(self.n_resamples + 1) for metric in weights}
        if evidence is not None:
            heard, base = to_numpy(evidence), base_rates(wanted, n_classes)
            heard = heard[None] if heard.ndim == 2 else heard
            renamed["bits"] = np.zeros(self.n_resamples + 1)
        generator, in_order = np.random.default_rng(self.seed), np.arange(n_classes)
        for number, own in itertools.product(range(len(runs)), folds):
            # drawn here, since the namings of all attackers together may be a gigabyte
            drawn = generator.random((self.n_resamples, n_classes)).argsort(1)
            namings = np.concatenate([in_order[None], drawn])  # the first leaves the names as they are
            confusion = metrics.confusion_matrix(runs[number][own], wanted[own], n_classes)  # rows are true classes
            for metric, weight in weights.items():
                share = np.nan_to_num(ratio(confusion.astype(np.float64), np.broadcast_to(weight, confusion.shape)))
                renamed[metric] += share[in_order, namings].sum(1) / len(runs)
            if evidence is not None:
                gained = gains_if_renamed(heard[number][own], wanted[own], base, namings)
                renamed["bits"] += gained / len(wanted) / len(runs)
        return {
            metric: Resampled(float(scores[0]), scores[0] - (scores[1:] - scores[1:].mean()), self)
            for metric, scores in renamed.items()
        }

    def residual(self, predicted: Array, original: Array, targets: Array, chance: float) -> Resampled:
        """:func:`psegan.metrics.scores.residual` of the UAR on protected and on original speech.

        Resamples in which the UAR on original speech is at or below ``chance``, 1 / K, are left out. The utterances must be
        the same.
        """
        protected, unprotected = self.uar(predicted, targets), self.uar(original, targets)
        samples = ratio(protected.samples - chance, unprotected.samples - chance)
        return Resampled(metrics.residual(protected.value, unprotected.value, chance), samples, self)

    def macro_auc(self, scores: Array, targets: Array, group: Array | None = None) -> Resampled:
        """:func:`psegan.metrics.scores.macro_auc`; in a resample it is the mean over the classes that occur there."""
        groups = metrics.group_indices(len(self), group)

        def of_seed(run: Array) -> Resampled:
            value = metrics.macro_auc(run, targets, group)
            columns, wanted = to_numpy(run), metrics.as_targets(targets)
            classes = [
                [self._wins(columns[own, k], wanted[own] == k, self.units[own]) for own in groups]
                for k in np.unique(wanted)
            ]

            def samples(draws: NDArray[np.float64]) -> NDArray[np.float64]:
                won = [sum(((draws @ wins) * draws).sum(1) for wins, _, _ in of_class) for of_class in classes]
                pairs = [sum((draws @ own) * (draws @ others) for _, own, others in of_class) for of_class in classes]
                areas = ratio(np.stack(won), np.stack(pairs))
                return ratio(np.nansum(areas, 0), (~np.isnan(areas)).sum(0))

            return Resampled(value, self._chunked(samples, self.n_units), self)

        return self.over_seeds(scores, targets, of_seed)

    def one_vs_rest_eer(self, scores: Array, targets: Array, group: Array | None = None) -> Resampled:
        """:func:`psegan.metrics.scores.one_vs_rest_eer`."""
        return self._one_vs_rest(scores, targets, group, WeightedTrials.eer)

    def one_vs_rest_tpr(self, scores: Array, targets: Array, fpr: float, group: Array | None = None) -> Resampled:
        """:func:`psegan.metrics.scores.one_vs_rest_tpr`."""
        return self._one_vs_rest(scores, targets, group, lambda trials, weights: trials.tpr(weights, fpr))

    def _one_vs_rest(self, scores: Array, targets: Array, group: Array | None, measure: _Measure) -> Resampled:
        """A measure of the pooled trials of every group, weighted by utterances."""
        groups, cells = metrics.group_indices(len(self), group), np.arange(self.n_units)

        def of_seed(run: Array) -> Resampled:
            pooled, is_target = metrics.one_vs_rest_trials(run, targets)
            utterance = np.repeat(np.arange(len(self)), len(pooled) // len(self))
            found = []
            for own in groups:
                there = np.isin(utterance, own)
                trials = WeightedTrials(pooled[there], is_target[there], self.units[utterance[there]], self.n_units)
                found.append(self._error_rate(trials, cells, cells, measure))
            return self._over_groups(groups, found)

        return self.over_seeds(scores, targets, of_seed)

    def verification(
        self,
        enrol: Array,
        test: Array,
        speaker: Array,
        group: Array | None = None,
        content: Array | None = None,
        enrolling: Array | None = None,
        outside: Array | None = None,
        measures: Sequence[str] = ("eer", "min_dcf"),
    ) -> dict[str, Resampled]:
        """Equal error rate ``eer`` and minimum detection cost ``min_dcf`` of speaker verification, or one of them.

        The other arguments are those of :func:`psegan.metrics.scores.verification_trials`. Each group has its own threshold,
        and the result is the mean over groups, weighted by utterances.
        """
        scores, is_target = metrics.verification_trials(enrol, test, speaker, group, content, enrolling, outside)
        self._check(speaker)
        enrolled, tested = metrics.trial_pairs(len(self), group, content, enrolling, outside)
        rows, columns = self.units[enrolled], self.units[tested]
        # the order within a pair of units makes no difference, so there are half as many cells
        pairs = np.minimum(rows, columns) * self.n_units + np.maximum(rows, columns)
        groups = metrics.group_indices(len(self), group)
        known: dict[str, _Measure] = {"eer": WeightedTrials.eer, "min_dcf": WeightedTrials.min_dcf}
        found: dict[str, list[Resampled]] = {name: [] for name in measures}
        for own in groups:
            there = np.isin(enrolled, own)
            pair = pairs[there]
            present = np.flatnonzero(np.bincount(pair))
            trials = WeightedTrials(scores[there], is_target[there], np.searchsorted(present, pair), len(present))
            for name in measures:
                found[name].append(self._error_rate(trials, *np.divmod(present, self.n_units), known[name]))
        return {name: self._over_groups(groups, of_groups) for name, of_groups in found.items()}

    def _over_groups(self, groups: Sequence[NDArray[np.intp]], scores: Sequence[Resampled]) -> Resampled:
        """Mean of a score over groups, weighted by utterances; in a resample, over the groups in which it is defined."""
        value, weighted, drawn = 0.0, np.zeros(self.n_resamples), np.zeros(self.n_resamples)
        for own, found in zip(groups, scores, strict=True):
            n = self.draws @ np.bincount(self.units[own], minlength=self.n_units) * ~np.isnan(found.samples)
            value += found.value * len(own) / len(self)
            weighted += np.where(n > 0, found.samples, 0) * n
            drawn += n
        return Resampled(value, ratio(weighted, drawn), self)

    def _error_rate(
        self, trials: WeightedTrials, first: NDArray[np.intp], second: NDArray[np.intp], measure: _Measure
    ) -> Resampled:
        """A measure of trials; the trials of cell c are between the units ``first[c]`` and ``second[c]``."""
        same = (first == second)[:, None]  # two draws of one speaker are not compared

        def samples(draws: NDArray[np.float64]) -> NDArray[np.float64]:
            weights = np.ascontiguousarray(draws.T)
            return measure(trials, np.where(same, weights[first], weights[first] * weights[second]))

        value = samples(np.ones((1, self.n_units)))  # in the test set itself every unit counts once
        return Resampled(float(value[0]), self._chunked(samples, max(len(trials.grid), trials.n_cells)), self)

    def over_seeds(self, predicted: Array, targets: Array, of_seed: Callable[[Array], Resampled]) -> Resampled:
        """Mean over seeds of ``of_seed``, a score of one; they are drawn too, and equal numbers of seeds get equal draws.

        Args:
            predicted: what ``of_seed`` gets, of one seed; with an axis more than two, the first one is over seeds.
            targets: classes ``(N,)``.
            of_seed: the score.
        """
        self._check(targets)
        values = to_numpy(predicted)
        runs = [of_seed(run) for run in (values if values.ndim > 2 else values[None])]
        return self.mean_of(runs)

    def mean_of(self, runs: Sequence[Resampled], what: str = "seeds") -> Resampled:
        """Mean score of several trainings; each resample draws among them, too, alike for all scores of one ``what``."""
        draws = self._draw(what, len(runs))
        samples = sum(draws[:, i] * run.samples for i, run in enumerate(runs)) / len(runs)
        return Resampled(float(np.mean([run.value for run in runs])), np.asarray(samples), self)

    def _wins(
        self, scores: NDArray[np.float64], is_target: NDArray[np.bool_], units: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
        """Comparisons of target with other trials, counted by unit.

        ``(units, units)``: how often a target trial of one unit (row) has a higher score than another trial of a unit (column),
        where a tie counts half; and the numbers of target and of other trials of each unit, ``(units,)``. The sum over drawn
        units is the Mann-Whitney statistic, which is the area under the ROC times the number of pairs.
        """
        positive, negative = units[is_target], units[~is_target]
        higher, lower = scores[is_target, None], scores[~is_target]
        margin = (higher > lower) + 0.5 * (higher == lower)
        rows, columns = (
            sparse.csr_array((np.ones(len(of)), (of, np.arange(len(of)))), shape=(self.n_units, len(of)))
            for of in (positive, negative)
        )
        wins = rows @ margin @ columns.T
        return wins, np.bincount(positive, minlength=self.n_units), np.bincount(negative, minlength=self.n_units)

    def _draw(self, what: str, n: int) -> NDArray[np.int32]:
        """Draw n of n things with replacement for each resample; how often each was drawn, ``(R, n)``."""
        generator = seeded(self.seed, "bootstrap", what, n)
        counts = torch.zeros(self.n_resamples, n, dtype=torch.int32)
        for part in counts.split(max(1, _CHUNK // n)):
            drawn = torch.randint(n, part.shape, generator=generator)
            part.scatter_add_(1, drawn, torch.ones(part.shape, dtype=torch.int32))
        return counts.numpy()

    def _chunked(
        self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]], width: int
    ) -> NDArray[np.float64]:
        """Apply ``function`` to draws ``(r, units)``, for so few resamples at a time that arrays ``(r, width)`` fit memory."""
        rows = max(1, _CHUNK // max(width, self.n_units))
        parts = [self.draws[i : i + rows].astype(np.float64) for i in range(0, self.n_resamples, rows)]
        return np.concatenate([function(part) for part in parts])

    def _check(self, array: Array) -> None:
        if (shape := to_numpy(array).shape) != (len(self),):
            raise ValueError(
                f"clusters name the speakers of {len(self)} utterances, but an array has the shape {shape}"
            )


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient, NaN where the denominator isn't positive."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
