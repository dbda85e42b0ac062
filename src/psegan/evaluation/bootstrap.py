"""95 % intervals by percentile bootstrap over speakers (Efron and Tibshirani, 1993, chapters 8 and 13).

Utterances of one speaker are alike, so they are no independent draws: a resample draws speakers with replacement and
keeps all utterances of each as often as it was drawn. With fewer than three speakers there are too few different
resamples, and utterances are drawn instead; such an interval says nothing about other speakers.

:func:`bootstrap_interval` takes any statistic and loops. The metrics that every table needs have functions of their
own that compute all resamples at once, from per-speaker counts (accuracy, UAR) or from how often each trial was drawn
(AUC, EER): the same resamples, the same result, without the loop. A comparison of two systems is paired when the
statistic takes both systems' scores of the same utterances and returns the difference.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psegan.evaluation import metrics
from psegan.evaluation.metrics import Array, UndefinedMetricError, to_numpy

MIN_CLUSTERS = 3
"""Fewer speakers than this, and utterances are resampled instead."""
_CHUNK = 4_000_000  # elements of the largest temporary array, 32 MB: fits a small machine at no loss of speed


class Interval(NamedTuple):
    """A statistic of the sample itself and the ends of its interval; these are NaN if no resample had a value."""

    value: float
    low: float
    high: float


def _units(clusters: Array, n: int) -> NDArray[np.int64]:
    """Index ``(N,)`` of what is drawn together: the speaker, or the utterance where speakers are too few."""
    labels = np.asarray(clusters) if not hasattr(clusters, "detach") else to_numpy(clusters)
    if labels.shape != (n,):
        raise ValueError(f"clusters must name one speaker for each of {n} utterances, not have shape {labels.shape}")
    unique, index = np.unique(labels, return_inverse=True)
    return index if len(unique) >= MIN_CLUSTERS else np.arange(n)


def _draws(n_units: int, n_resamples: int, seed: int) -> NDArray[np.int32]:
    """How often each unit is drawn in each resample, ``(n_resamples, n_units)``."""
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, not {n_resamples}")
    generator = np.random.default_rng(seed)
    return generator.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples).astype(np.int32)


def _chunks(draws: NDArray[np.int32], width: int) -> Iterator[NDArray[np.float64]]:
    """Rows of ``draws`` as float64, as many at a time as keep a temporary ``(rows, width)`` small."""
    rows = max(1, _CHUNK // max(width, draws.shape[1]))
    for start in range(0, len(draws), rows):
        yield draws[start : start + rows].astype(np.float64)


def _interval(value: float, resampled: NDArray[np.float64], level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    defined = resampled[~np.isnan(resampled)]
    if len(defined) == 0:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def bootstrap_interval(
    statistic: Callable[..., float],
    arrays: Sequence[Array],
    clusters: Array,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of any statistic, clustered by speaker.

    Don't form verification trials inside the statistic: an utterance drawn twice would meet itself.
    :func:`verification_eer_interval` takes care of that.

    Args:
        statistic: takes the arrays, each reduced to the utterances drawn, and returns a number; NaN or
            :class:`UndefinedMetricError` where a resample has none, which leaves that resample out.
        arrays: each with N utterances along its first axis; handed to the statistic as numpy arrays.
        clusters: speaker of each utterance ``(N,)``, numbers or names. Fewer than three: utterances are drawn.
        n_resamples: how many resamples.
        seed: of the draws; equal seeds give equal draws in every function of this module.
        level: probability that the interval covers.

    Raises:
        ValueError: no arrays, or their lengths differ.
    """
    data: list[NDArray[Any]] = [to_numpy(array) for array in arrays]
    if not data or len({len(array) for array in data}) != 1 or len(data[0]) == 0:
        raise ValueError(f"arrays must share N >= 1 utterances, not {[len(array) for array in data]}")
    n = len(data[0])
    units = _units(clusters, n)
    resampled = np.full(n_resamples, np.nan)
    for i, drawn in enumerate(_draws(units.max() + 1, n_resamples, seed)):
        index = np.repeat(np.arange(n), drawn[units])
        try:
            resampled[i] = statistic(*(array[index] for array in data))
        except UndefinedMetricError:
            continue
    return _interval(float(statistic(*data)), resampled, level)


def _recall_counts(
    predicted: Array, targets: Array, clusters: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Diagonal and row sums of each unit's confusion matrix, both ``(units, K)``."""
    chosen, wanted = metrics.as_predictions(predicted, targets)
    units = _units(clusters, len(wanted))
    correct, total = np.zeros((2, units.max() + 1, wanted.max() + 1))
    np.add.at(correct, (units, wanted), chosen == wanted)
    np.add.at(total, (units, wanted), 1)
    return correct, total


def accuracy_interval(
    predicted: Array, targets: Array, clusters: Array, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """:func:`bootstrap_interval` of :func:`psegan.evaluation.metrics.accuracy`, all resamples at once."""
    correct, total = (counts.sum(1) for counts in _recall_counts(predicted, targets, clusters))
    draws = _draws(len(total), n_resamples, seed)
    return _interval(metrics.accuracy(predicted, targets), (draws @ correct) / (draws @ total), level)


def uar_interval(
    predicted: Array, targets: Array, clusters: Array, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """:func:`bootstrap_interval` of :func:`psegan.evaluation.metrics.uar`, all resamples at once.

    A class that a resample lacks doesn't count in that resample.
    """
    correct, total = _recall_counts(predicted, targets, clusters)
    resampled = []
    for draws in _chunks(_draws(len(total), n_resamples, seed), total.shape[1]):
        hits, occurs = draws @ correct, draws @ total
        recall = np.divide(hits, occurs, out=np.zeros_like(hits), where=occurs > 0)
        resampled.append(recall.sum(1) / (occurs > 0).sum(1))
    return _interval(metrics.uar(predicted, targets), np.concatenate(resampled), level)


class _Trials:
    """Trials sorted by score once, so that each resample only needs cumulative sums of how often trials were drawn.

    Args:
        scores, is_target: ``(T,)``.
        units: ``(T,)`` unit of each trial, or several such arrays: a trial is drawn as often as the product says.
    """

    def __init__(self, scores: NDArray[np.float64], is_target: NDArray[np.bool_], *units: NDArray[np.int64]) -> None:
        order = np.argsort(-scores, kind="stable")
        self.is_target = is_target[order]
        self.units = [unit[order] for unit in units]
        ordered = scores[order]
        self.ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)  # last trial of each tie

    def __len__(self) -> int:
        return len(self.is_target)

    def roc(self, draws: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draws ``(R, units)`` → false and true positive rates ``(R, P)``; NaN where a resample has no such trial."""
        weight = draws[:, self.units[0]]
        for unit in self.units[1:]:
            weight *= draws[:, unit]
        rates = []
        for kind in (~self.is_target, self.is_target):
            accepted = np.cumsum(weight * kind, 1)[:, self.ends]
            total = accepted[:, -1:]
            rate = np.divide(accepted, total, out=np.full_like(accepted, np.nan), where=total > 0)
            start = np.where(total > 0, 0.0, np.nan)
            rates.append(np.concatenate([start, rate], 1))
        return rates[0], rates[1]

    def eer(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Equal error rates ``(R,)``."""
        return metrics.eer_from_roc(*self.roc(draws))

    def auc(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Areas under the ROC ``(R,)``."""
        fpr, tpr = self.roc(draws)
        return np.asarray(np.trapezoid(tpr, fpr, axis=1))


def _eer_resampled(trials: _Trials, n_units: int, n_resamples: int, seed: int) -> NDArray[np.float64]:
    return np.concatenate([trials.eer(d) for d in _chunks(_draws(n_units, n_resamples, seed), len(trials))])


def eer_interval(
    scores: Array, is_target: Array, clusters: Array, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """:func:`bootstrap_interval` of :func:`psegan.evaluation.metrics.eer`, all resamples at once.

    Args:
        scores, is_target, clusters: ``(T,)``; trials of one cluster are drawn together.
    """
    value = metrics.eer(scores, is_target)
    units = _units(clusters, len(to_numpy(scores)))
    trials = _Trials(metrics.as_scores(scores, 1), to_numpy(is_target).astype(bool), units)
    return _interval(value, _eer_resampled(trials, units.max() + 1, n_resamples, seed), level)


def one_vs_rest_eer_interval(
    scores: Array, targets: Array, clusters: Array, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """:func:`bootstrap_interval` of :func:`psegan.evaluation.metrics.one_vs_rest_eer`, all resamples at once.

    Args:
        scores: posteriors ``(N, K)``.
        targets, clusters: ``(N,)``.
    """
    value = metrics.one_vs_rest_eer(scores, targets)
    pooled, is_target = metrics.one_vs_rest_trials(scores, targets)
    n = len(to_numpy(targets))
    units = _units(clusters, n)
    trials = _Trials(pooled, is_target, np.repeat(units, len(pooled) // n))
    return _interval(value, _eer_resampled(trials, units.max() + 1, n_resamples, seed), level)


def macro_auc_interval(
    scores: Array, targets: Array, clusters: Array, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """:func:`bootstrap_interval` of :func:`psegan.evaluation.metrics.macro_auc`, all resamples at once.

    Args:
        scores: ``(N, K)``.
        targets, clusters: ``(N,)``.
    """
    value = metrics.macro_auc(scores, targets)
    values, wanted = metrics.as_scores(scores, 2), metrics.as_targets(targets)
    units = _units(clusters, len(wanted))
    classes = [_Trials(values[:, k], wanted == k, units) for k in np.unique(wanted)]
    resampled = []
    for draws in _chunks(_draws(units.max() + 1, n_resamples, seed), len(wanted)):
        areas = np.stack([trials.auc(draws) for trials in classes])
        defined = ~np.isnan(areas)
        count = defined.sum(0)
        total = np.where(defined, areas, 0).sum(0)
        resampled.append(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
    return _interval(value, np.concatenate(resampled), level)


def verification_eer_interval(
    enrol: Array, test: Array, speaker: Array, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Equal error rate of :func:`psegan.evaluation.metrics.verification_trials` and its interval over speakers.

    A trial is drawn as often as its two speakers' draws multiply (a speaker drawn twice stays one speaker), so an
    utterance never meets itself. Time and memory grow with N² trials: one or two seconds for 240
    utterances, about a minute for 1440.

    Args:
        enrol, test: embeddings ``(N, E)``, row by row the same utterance.
        speaker: speaker indices ``(N,)`` of both.
    """
    scores, is_target = metrics.verification_trials(enrol, test, speaker, speaker)
    n = len(to_numpy(speaker))
    units = _units(speaker, n)
    rows, columns = np.nonzero(~np.eye(n, dtype=bool))
    trials = _Trials(scores, is_target, units[rows], units[columns])
    return _interval(metrics.eer(scores, is_target), _eer_resampled(trials, units.max() + 1, n_resamples, seed), level)
