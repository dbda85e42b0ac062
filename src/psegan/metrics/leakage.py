"""What an attacker learns beyond how often it is right: bits, who is protected worst, and what several utterances tell.

All scores are of one :class:`~psegan.metrics.bootstrap.Bootstrap`, so they can be compared within its resamples. Shapes: N
utterances, K classes, S seeds, M sets of utterances. Decisions are classes ``(N,)``, or scores ``(N, K)`` or ``(S, N, K)``,
of which the largest counts.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from psegan.common.random import seeded
from psegan.metrics import scores as metrics
from psegan.metrics.bootstrap import Bootstrap, Resampled, ratio
from psegan.metrics.calibration import gains
from psegan.metrics.scores import Array, to_numpy

Floats = NDArray[np.float64]


def bits(resamples: Bootstrap, evidence: Array, targets: Array) -> Resampled:
    """Bits of the class that an attacker reads from an utterance: :func:`psegan.metrics.calibration.gains`, on average.

    On the test set this is the entropy of the labels minus the cross-entropy of the calibrated posteriors, which is a lower
    bound of the mutual information of speech and class (Barber and Agakov, The IM algorithm, NeurIPS 2003; Poole et al., On
    variational bounds of mutual information, ICML 2019): what this attacker proves, and another may prove more. It is
    negative where calibrated posteriors mislead. A resample has the mean of its utterances' gains at the test set's base
    rates: a resample's own entropy is too small by chance (Miller, 1955), and who knows nothing would seem to lose bits.

    Args:
        resamples: of the test set.
        evidence: of :meth:`psegan.metrics.calibration.Calibration.evidence`, ``(N, K)`` or ``(S, N, K)``.
        targets: classes ``(N,)``.
    """
    return resamples.over_seeds(evidence, targets, lambda run: resamples.mean(gains(run, targets)))


def worst_class(resamples: Bootstrap, decisions: Array, targets: Array) -> Resampled:
    """The highest recall of a class, which is the one that is protected worst; in a resample, of those that occur there.

    A maximum over classes of few utterances is high by chance alone: compare it with that of another system, not with 1/K.
    """
    return resamples.over_seeds(decisions, targets, lambda run: _highest(resamples, run, targets, targets))


def worst_speaker(resamples: Bootstrap, decisions: Array, targets: Array, speaker: Array) -> Resampled:
    """The highest accuracy among speakers ``(N,)``, whose emotions are protected worst; see :func:`worst_class`.

    Where speakers are drawn, no resample has a worse one, so the interval ends at the value.
    """
    return resamples.over_seeds(decisions, targets, lambda run: _highest(resamples, run, targets, speaker))


def most_predicted(resamples: Bootstrap, decisions: Array, targets: Array, group: Array | None = None) -> Resampled:
    """Share of the class that is named most often. Near 1, the attacker has collapsed and its score says nothing.

    Each ``group (N,)``, such as a fold, has networks and a most frequent answer of its own; the result is the share of
    all utterances.
    """
    groups = metrics.group_indices(len(resamples), group)
    place = np.empty(len(resamples), dtype=np.intp)
    for number, own in enumerate(groups):
        place[own] = number

    def of_seed(run: Array) -> Resampled:
        chosen, _ = metrics.as_predictions(run, targets)
        n_classes = int(chosen.max()) + 1
        counts = _by_unit(resamples.units, place * n_classes + chosen, np.ones(len(chosen)), resamples.n_units)
        counts = np.pad(counts, ((0, 0), (0, len(groups) * n_classes - counts.shape[1])))

        def share(sums: Floats) -> Floats:
            of_group = sums.reshape(len(sums), len(groups), n_classes)
            return ratio(of_group.max(2).sum(1), of_group.sum((1, 2)))

        return resamples.of_sums(counts, share)

    return resamples.over_seeds(decisions, targets, of_seed)


def utterance_sets(cells: Array, n: int, shuffles: int = 10) -> sparse.csr_array | None:
    """Sets of n different utterances of one cell; None if at most half of the cells have n.

    A cell is cut into sets of n in a drawn order, again for each shuffle, so that the chance of one cut averages out. What is
    left over is left out, but a cell with fewer than n utterances is one set: an attacker hears what there is.

    Args:
        cells: number or name of each utterance's cell ``(N,)``: one speaker, one emotion, one fold.
        n: utterances of a set.
        shuffles: cuts.

    Returns:
        ``(M, N)``, 1 where an utterance (column) is in a set (row), of all shuffles.
    """
    _, cell, size = np.unique(to_numpy(cells), return_inverse=True, return_counts=True)
    if 2 * (size >= n).sum() <= len(size):
        return None
    first, members = np.concatenate([[0], np.cumsum(size)[:-1]]), []
    for shuffle in range(shuffles):
        order = torch.randperm(len(cell), generator=seeded(0, "utterance sets", shuffle)).numpy()
        order = order[np.argsort(cell[order], kind="stable")]
        number, place = np.divmod(np.arange(len(cell)) - first[cell[order]], n)
        of_set = np.arange(len(cell)) - place  # where the set begins
        whole = (number + 1) * n <= size[cell[order]]
        kept = whole | (number == 0)
        members.append((of_set[kept] + shuffle * len(cell), order[kept]))
    rows, columns = np.concatenate(members, 1)
    rows = np.unique(rows, return_inverse=True)[1]
    return sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(rows.max() + 1, len(cell))).tocsr()


def uar_of_sets(
    resamples: Bootstrap, evidence: Array, offset: Array, targets: Array, sets: sparse.csr_array
) -> Resampled:
    """UAR of an attacker who hears a set of utterances of one speaker and emotion before it names the emotion.

    Evidence of several utterances is added up, as if they were independent given the emotion (naive Bayes). A set counts in
    a resample as often as its speaker was drawn; where utterances are drawn, there is no interval.

    Args:
        resamples: of the test set.
        evidence: of each utterance, ``(N, K)`` or ``(S, N, K)``.
        offset: of the decision, once for each set, of the same shape.
        targets: classes ``(N,)``, the same within a set.
        sets: of :func:`utterance_sets`.
    """
    size, wanted = sets.sum(1), metrics.as_targets(targets)

    first = sets.indices[sets.indptr[:-1]]  # of each set
    units, classes = resamples.units[first], wanted[first]
    drawn_whole = np.array_equal(np.repeat(units, np.diff(sets.indptr)), resamples.units[sets.indices])

    def of_seed(run: Array) -> Resampled:
        heard, before = to_numpy(run)
        chosen = (sets @ heard + sets @ before / size[:, None]).argmax(1)
        found = _of_recalls(resamples, units, chosen == classes, classes, lambda recalls: np.nanmean(recalls, 1))
        return found if drawn_whole else Resampled(found.value, np.full_like(found.samples, np.nan), resamples)

    values, before = (one if one.ndim == 3 else one[None] for one in map(to_numpy, (evidence, offset)))
    return resamples.over_seeds(np.stack([values, before], 1), targets, of_seed)


def _highest(resamples: Bootstrap, decisions: Array, targets: Array, labels: Array) -> Resampled:
    correct = np.equal(*metrics.as_predictions(decisions, targets))
    index = np.unique(to_numpy(labels), return_inverse=True)[1]
    return _of_recalls(resamples, resamples.units, correct, index, lambda recalls: np.nanmax(recalls, 1))


def _of_recalls(
    resamples: Bootstrap, units: NDArray[np.intp], correct: NDArray[np.bool_], labels: NDArray[np.intp],
    score: Callable[[Floats], Floats],
) -> Resampled:  # fmt: skip
    """A score of the share of ``correct`` for each label; NaN where a label doesn't occur in a resample."""
    total = _by_unit(units, labels, np.ones(len(labels)), resamples.n_units)
    right = _by_unit(units, labels, correct.astype(float), resamples.n_units)

    def of_sums(sums: Floats) -> Floats:
        right, total = np.split(sums, 2, axis=1)
        return score(ratio(right, total))

    return resamples.of_sums(np.concatenate([right, total], 1), of_sums)


def _by_unit(units: NDArray[np.intp], labels: NDArray[np.intp], values: Floats, n_units: int) -> Floats:
    """Sums ``(units, labels)`` of values."""
    sums = np.zeros((n_units, int(labels.max()) + 1))
    np.add.at(sums, (units, labels), values)
    return sums
