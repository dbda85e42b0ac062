"""Exact error rates of the same trials under many weights at once, as the bootstrap needs them."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from psegan.metrics import scores as metrics

_QUANTILES = 1024  # per kind of trial; with millions of trials, both steps of the search then take about as long
_DENSE = 0.2  # trials per entry of a tally, above which a dense product is faster than a sparse one

_Pair: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]  # of non-target and of target trials
_Tally: TypeAlias = NDArray[np.float64] | sparse.csr_array


class WeightedTrials:
    """Trials that are grouped into cells; a resample counts all trials of a cell equally often, which is their weight.

    The number of accepted trials at a threshold is the product of the weights and of the number of trials that the threshold
    accepts in each cell. There may be millions of thresholds. So the rates are first computed on a grid of quantiles, and
    then at all thresholds between those two points of the grid between which the result must lie. This is exact, because
    both rates can only rise as the threshold falls, and because weights are whole numbers.

    Args:
        scores, is_target: trials ``(T,)``; errors as in :func:`psegan.metrics.scores.roc_points`.
        cells: index of each trial's cell, ``(T,)``.
        n_cells: number C of cells.
    """

    def __init__(
        self, scores: NDArray[np.float64], is_target: NDArray[np.bool_], cells: NDArray[np.intp], n_cells: int
    ) -> None:
        scores, is_target = metrics.check_trials(scores, is_target)
        order = np.argsort(scores)[::-1]
        ranked = scores[order]
        self.is_target, self.cells, self.n_cells = is_target[order], cells[order], n_cells
        # the first operating point that accepts each trial, counted from the highest threshold; equal scores share one
        self.point = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])])
        quantiles = [
            of_kind[np.linspace(0, len(of_kind) - 1, _QUANTILES).astype(int)]
            for of_kind in (self.point[self.is_target], self.point[~self.is_target])
        ]
        chosen = np.unique(np.append(np.concatenate(quantiles), self.point[-1]))
        self._tallies = self._tally(slice(None), chosen)
        # the curves start where nothing is accepted
        self.grid = np.append(-1, chosen)
        self._tallies_before: dict[int, tuple[_Tally, _Tally]] = {}

    def eer(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Equal error rates ``(R,)`` under weights ``(C, R)``; NaN where a resample has trials of one kind only."""
        accepted = self._accepted(self._tallies, weights)
        total = accepted[0][-1], accepted[1][-1]
        far, hit = _rates(accepted, total)
        result = np.asarray(metrics.eer_from_roc(far.T, hit.T))
        crossing = np.maximum((far + hit >= 1).argmax(0), 1)
        for i in np.unique(crossing[~np.isnan(result)]).tolist():
            if self._has_points_before(i):
                there = np.flatnonzero(crossing == i)
                far_there, hit_there = self._rates_before(i, weights, accepted, there)
                result[there] = metrics.eer_from_roc(far_there.T, hit_there.T)
        return result

    def min_dcf(self, weights: NDArray[np.float64], p_target: float = 0.05) -> NDArray[np.float64]:
        """:func:`psegan.metrics.scores.min_dcf` ``(R,)`` under weights ``(C, R)``; NaN as for :meth:`eer`."""
        p_other = 1 - p_target
        accepted = self._accepted(self._tallies, weights)
        total = accepted[0][-1], accepted[1][-1]
        far, hit = _rates(accepted, total)
        result = np.asarray((p_target * (1 - hit) + p_other * far).min(0))
        least = p_target * (1 - hit[1:]) + p_other * far[:-1]  # lower bound between two points of the grid
        for i in (np.flatnonzero((least < result).any(1)) + 1).tolist():
            there = np.flatnonzero(least[i - 1] < result)
            if len(there) and self._has_points_before(i):
                far_there, hit_there = self._rates_before(i, weights, accepted, there)
                cost = p_target * (1 - hit_there) + p_other * far_there
                result[there] = np.minimum(result[there], cost.min(0))
        return result / min(p_target, p_other)

    def tpr(self, weights: NDArray[np.float64], fpr: float) -> NDArray[np.float64]:
        """:func:`psegan.metrics.scores.tpr` ``(R,)`` under weights ``(C, R)``; NaN as for :meth:`eer`."""
        accepted = self._accepted(self._tallies, weights)
        total = accepted[0][-1], accepted[1][-1]
        far, hit = _rates(accepted, total)
        allowed = (far <= fpr).sum(0)  # points of the grid, of which the last one allowed has the highest rate
        result = np.take_along_axis(hit, np.maximum(allowed - 1, 0)[None], 0)[0]
        result[np.isnan(far[-1])] = np.nan
        for i in np.unique(allowed[(allowed < len(far)) & ~np.isnan(result)]).tolist():
            if self._has_points_before(i):
                there = np.flatnonzero(allowed == i)
                far_there, hit_there = self._rates_before(i, weights, accepted, there)
                result[there] = np.where(far_there <= fpr, hit_there, 0).max(0)
        return result

    def _has_points_before(self, i: int) -> bool:
        """Whether operating points lie between points ``i - 1`` and ``i`` of the grid."""
        return bool(self.grid[i] - self.grid[i - 1] > 1)

    def _rates_before(self, i: int, weights: NDArray[np.float64], accepted: _Pair, there: NDArray[np.intp]) -> _Pair:
        """Rates ``(P, len(there))`` at all operating points from ``i - 1`` to ``i`` of the grid, both included."""
        start, total = ((accepted[0][row, there], accepted[1][row, there]) for row in (i - 1, -1))
        if i not in self._tallies_before:  # kept for the next resamples
            points = np.arange(self.grid[i - 1] + 1, self.grid[i] + 1)
            first, last = np.searchsorted(self.point, [points[0], points[-1] + 1])
            self._tallies_before[i] = self._tally(slice(first, last), points)
        return _rates(self._accepted(self._tallies_before[i], weights[:, there], start), total)

    def _tally(self, trials: slice, points: NDArray[np.intp]) -> tuple[_Tally, _Tally]:
        """For each point and cell, the numbers of non-target and target trials that it is the first to accept."""
        row, column, kind = np.searchsorted(points, self.point[trials]), self.cells[trials], self.is_target[trials]
        shape = len(points), self.n_cells

        def count(chosen: NDArray[np.bool_]) -> _Tally:
            n = np.count_nonzero(chosen)
            if n > _DENSE * len(points) * self.n_cells:
                entry = row[chosen] * self.n_cells + column[chosen]
                return np.bincount(entry, minlength=len(points) * self.n_cells).reshape(shape).astype(np.float64)
            return sparse.coo_array((np.ones(n), (row[chosen], column[chosen])), shape=shape).tocsr()

        return count(~kind), count(kind)

    def _accepted(
        self, tallies: tuple[_Tally, _Tally], weights: NDArray[np.float64], start: _Pair | tuple[float, float] = (0, 0)
    ) -> _Pair:
        """Numbers of accepted non-target and target trials ``(points + 1, R)``; the first row is ``start``."""

        def cumulate(tally: _Tally, before: NDArray[np.float64] | float) -> NDArray[np.float64]:
            counts = np.empty((tally.shape[0] + 1, weights.shape[1]))
            counts[0], counts[1:] = before, tally @ weights
            return np.cumsum(counts, 0, out=counts)

        return cumulate(tallies[0], start[0]), cumulate(tallies[1], start[1])


def _rates(accepted: _Pair, total: _Pair) -> _Pair:
    """Fraction of accepted trials ``(P, R)`` of all trials ``(R,)``; NaN where there is no trial of that kind."""

    def rate(counts: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(counts, of, out=np.full_like(counts, np.nan), where=of > 0)

    return rate(accepted[0], total[0]), rate(accepted[1], total[1])
