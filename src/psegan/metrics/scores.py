"""Scores of classifiers and verifiers: accuracy, UAR, AUC, EER, minimum detection cost, residual leakage.

All functions take numpy arrays, torch tensors (on any device) or lists, and compute in float64. Shapes: N utterances, K
classes, T trials, E embedding dimensions.

ROC curves and areas come from scikit-learn, one binary problem at a time; only the interpolated equal error rate is computed
here. torchmetrics is not used, because it passes scores outside [0, 1] through a sigmoid, which makes large scores equal, and
does not interpolate. scikit-learn's multi-class AUC is not used, because it requires rows that sum to one.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

Array: TypeAlias = NDArray[Any] | torch.Tensor | ArrayLike
"""A numpy array, a torch tensor or a (nested) list of numbers."""


class UndefinedMetricError(ValueError):
    """The metric is not defined for these targets: for example, there is no EER if all trials are target trials."""


def to_numpy(array: Array) -> NDArray[Any]:
    """Convert to a numpy array in host memory; floating-point numbers become float64, since numpy has no bfloat16."""
    if isinstance(array, torch.Tensor):
        array = (array.double() if array.is_floating_point() else array).detach().cpu().numpy()
    result = np.asarray(array)
    return result.astype(np.float64) if np.issubdtype(result.dtype, np.floating) else result


def as_targets(targets: Array, name: str = "targets") -> NDArray[np.int64]:
    """Class indices ``(N,)`` as int64; a ValueError if they are not a non-empty vector of non-negative integers."""
    result = to_numpy(targets)
    if result.ndim != 1 or len(result) == 0:
        raise ValueError(f"{name} must have shape (N,) with N >= 1, not {result.shape}")
    if result.dtype.kind not in "iub" or result.min() < 0:
        raise ValueError(f"{name} must be non-negative class indices, not {result.dtype}, minimum {result.min()}")
    return result.astype(np.int64)


def as_scores(scores: Array, axes: int, name: str = "scores") -> NDArray[np.float64]:
    """Scores as float64; a ValueError if they have not ``axes`` axes, are empty, or hold NaN or infinite values."""
    result = to_numpy(scores).astype(np.float64)
    if result.ndim != axes or result.size == 0:
        raise ValueError(f"{name} must have {axes} non-empty axes, not shape {result.shape}")
    if not np.isfinite(result).all():
        raise ValueError(f"{name} hold NaN or infinite values, first in row {np.argwhere(~np.isfinite(result))[0][0]}")
    return result


def as_predictions(predicted: Array, targets: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicted and true class indices, each ``(N,)``; a ValueError if the shapes don't fit or scores are not finite.

    Args:
        predicted: class indices ``(N,)``, or scores ``(N, K)``, of which the largest counts.
        targets: class indices ``(N,)``.
    """
    values, wanted = to_numpy(predicted), as_targets(targets)
    chosen = as_scores(values, 2).argmax(1) if values.ndim == 2 else as_targets(values, "predicted")
    if len(chosen) != len(wanted):
        raise ValueError(f"{len(chosen)} predictions for {len(wanted)} targets")
    return chosen, wanted


def accuracy(predicted: Array, targets: Array) -> float:
    """Fraction of utterances that are classified correctly; arguments and errors as in :func:`as_predictions`.

    Example:
        >>> accuracy(predicted=[1, 1, 1, 1], targets=[0, 1, 1, 1])
        0.75
    """
    return float(sk.accuracy_score(*reversed(as_predictions(predicted, targets))))


def uar(predicted: Array, targets: Array) -> float:
    """Unweighted average recall (Schuller et al., Interspeech 2009); arguments and errors as in :func:`as_predictions`.

    The recall of a class is the fraction of its utterances that are classified correctly. The result is the mean over the
    classes that occur in ``targets``. Guessing reaches 1 / K, even if some classes are more frequent than others.

    Example:
        >>> uar(predicted=[1, 1, 1, 1], targets=[0, 1, 1, 1])
        0.5
    """
    chosen, wanted = as_predictions(predicted, targets)
    return float(sk.recall_score(wanted, chosen, labels=np.unique(wanted), average="macro"))


def residual(uar: float, uar_original: float, chance: float) -> float:
    """Residual leakage: how much of an attacker's advantage over chance on original speech remains on protected speech.

    (uar - chance) / (uar_original - chance). 1 means no protection, 0 means that the attacker is at chance. It is negative if
    the attacker is worse than chance, and above 1 if protected speech is easier for it than original speech.

    Args:
        uar, uar_original: unweighted average recall of the attacker on protected and on original speech.
        chance: UAR of guessing, 1 / K.

    Raises:
        UndefinedMetricError: the attacker is no better than chance on original speech.
    """
    if not uar_original > chance:
        raise UndefinedMetricError(
            f"UAR on original speech is {uar_original:.3f}, at or below chance ({chance:.3f}): there is no residual"
        )
    return (uar - chance) / (uar_original - chance)


def trade_off(residual: float, utility: float) -> float:
    """The lesser of privacy (1 - ``residual``) and ``utility``, each clipped to [0, 1]; more is better.

    A system that hides nothing scores 0 however well it keeps the speaker, and so does one that loses the speaker, such as
    silence, however well that hides the emotion.

    Args:
        residual: see :func:`residual`; below 0 is no better than 0.
        utility: the share of the speaker that is left: accuracy over that on original speech or, where classifiers don't
            know the speakers, (0.5 - EER) over that on original speech.
    """
    return min(max(1 - residual, 0.0), max(utility, 0.0), 1.0)


def confusion_matrix(predicted: Array, targets: Array, n_classes: int) -> NDArray[np.int64]:
    """Counts ``(n_classes, n_classes)``, rows are true classes, columns predicted ones; else as :func:`as_predictions`."""
    chosen, wanted = as_predictions(predicted, targets)
    if max(chosen.max(), wanted.max()) >= n_classes:
        raise ValueError(f"class index {max(chosen.max(), wanted.max())} with only {n_classes} classes")
    return np.asarray(sk.confusion_matrix(wanted, chosen, labels=np.arange(n_classes)), dtype=np.int64)


def check_trials(scores: Array, is_target: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and targets ``(T,)`` of trials as float64 and boolean; errors as in :func:`roc_points`."""
    values, wanted = as_scores(scores, 1), to_numpy(is_target).astype(bool)
    if wanted.shape != values.shape:
        raise ValueError(f"scores have shape {values.shape}, but is_target has {wanted.shape}")
    if wanted.all() or not wanted.any():
        kind = "non-target" if wanted.all() else "target"
        raise UndefinedMetricError(f"no {kind} trial among {len(values)}: an ROC needs trials of both kinds")
    return values, wanted


def roc_points(scores: Array, is_target: Array) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Operating points of the receiver operating characteristic, from (0, 0) to (1, 1).

    Trials of equal score are accepted or rejected together. Points on a straight line between their neighbours are left out.

    Args:
        scores: ``(T,)``; a higher score means that a target is more likely. They may have any range.
        is_target: ``(T,)`` boolean.

    Returns:
        False positive rate, true positive rate and threshold, each ``(P,)``. A trial is accepted if its score is at least
        the threshold; the first threshold is infinite.

    Raises:
        UndefinedMetricError: all trials are of one kind.
        ValueError: shapes differ or a score is not finite.
    """
    return sk.roc_curve(*reversed(check_trials(scores, is_target)))


def eer_from_roc(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Error rate at which false acceptance equals false rejection, by linear interpolation between operating points.

    The rates ``(..., P)`` rise from 0 to 1 along the last axis; the result has the shape ``(...)``.
    """
    difference = fpr + tpr - 1  # FAR - FRR rises from -1 to 1
    after = np.maximum((difference >= 0).argmax(-1), 1)[..., None]
    low, high = (np.take_along_axis(difference, i, -1)[..., 0] for i in (after - 1, after))
    fpr_low, fpr_high = (np.take_along_axis(fpr, i, -1)[..., 0] for i in (after - 1, after))
    return fpr_low - low / (high - low) * (fpr_high - fpr_low)


def eer(scores: Array, is_target: Array) -> float:
    """Equal error rate: the error rate at the threshold where false acceptance and false rejection are equally frequent.

    The ROC is a straight line between operating points. Tied scores are one operating point, so constant scores give 0.5;
    inverted scores give more than 0.5. Arguments and errors as in :func:`roc_points`.

    Example:
        >>> eer(scores=[9, 8, 7, 6, 5, 4, 3, 2], is_target=[True, True, True, False, True, False, False, False])
        0.25
    """
    fpr, tpr, _ = roc_points(scores, is_target)
    return float(eer_from_roc(fpr, tpr))


def min_dcf(scores: Array, is_target: Array, p_target: float = 0.05) -> float:
    """Normalised minimum detection cost: the lowest cost of errors that a single threshold can reach.

    The cost is p FRR + (1 - p) FAR, where p is ``p_target``, the prior probability of a target trial. It is divided by the
    cost of accepting all trials or of rejecting all trials, whichever is lower, so the result lies between 0 and 1. Nothing is
    interpolated. Source: Doddington et al., The NIST speaker recognition evaluation, Speech Communication 31 (2000). The
    default is that of the VoxSRC challenges (Nagrani et al., 2020). Other arguments and errors as in :func:`roc_points`.

    Example:
        >>> min_dcf(scores=[0.9, 0.8, 0.7, 0.2, 0.1], is_target=[True, False, True, False, False])
        0.5
    """
    far, hit, _ = roc_points(scores, is_target)
    return float((p_target * (1 - hit) + (1 - p_target) * far).min() / min(p_target, 1 - p_target))


def tpr(scores: Array, is_target: Array, fpr: float) -> float:
    """Highest true positive rate of a threshold whose false positive rate is at most ``fpr``; nothing is interpolated.

    A mean over all utterances hides an attacker who is sure of few. Source: Carlini et al., Membership inference attacks from
    first principles, IEEE S&P 2022. Other arguments and errors as in :func:`roc_points`.

    Example:
        >>> tpr(scores=[9, 8, 7, 6, 5, 4], is_target=[True, True, False, True, False, False], fpr=0.3)
        0.6666666666666666
    """
    far, hit, _ = sk.roc_curve(*reversed(check_trials(scores, is_target)), drop_intermediate=False)
    return float(hit[far <= fpr].max())


def auc(scores: Array, is_target: Array) -> float:
    """Area under the ROC; arguments and errors as in :func:`roc_points`."""
    return float(sk.roc_auc_score(*reversed(check_trials(scores, is_target))))


def _check_class_scores(scores: Array, targets: Array) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values, wanted = as_scores(scores, 2), as_targets(targets)
    if len(values) != len(wanted):
        raise ValueError(f"{len(values)} rows of scores for {len(wanted)} targets")
    if wanted.max() >= values.shape[1]:
        raise ValueError(f"target {wanted.max()} with scores of only {values.shape[1]} classes")
    return values, wanted


def group_indices(n: int, group: Array | None) -> list[NDArray[np.intp]]:
    """For each group, the indices of its utterances among n; without ``group`` they are all in one."""
    if group is None:
        return [np.arange(n)]
    labels = to_numpy(group)
    if labels.shape != (n,):
        raise ValueError(f"group must have one entry for each of {n} utterances, not shape {labels.shape}")
    return [np.flatnonzero(labels == one) for one in np.unique(labels)]


def macro_auc(scores: Array, targets: Array, group: Array | None = None) -> float:
    """Mean area under the one-vs-rest ROC over the classes that occur in ``targets``.

    Args:
        scores: ``(N, K)``, one column per class; rows need not sum to one.
        targets: class indices ``(N,)``.
        group: ``(N,)`` numbers or names, such as folds. Scores of different groups come from different networks and are not
            compared: the area is the share of correctly ordered pairs among the pairs within groups.

    Raises:
        UndefinedMetricError: only one class occurs, or no group has two.

    Example:
        >>> macro_auc([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.45, 0.55]], targets=[0, 0, 1, 1])
        0.75
    """
    values, wanted = _check_class_scores(scores, targets)
    groups, areas = group_indices(len(wanted), group), []
    for k in np.unique(wanted):
        is_target = wanted == k
        mixed = [own for own in groups if 0 < is_target[own].sum() < len(own)]
        if mixed:
            pairs = [is_target[own].sum() * (~is_target[own]).sum() for own in mixed]
            areas.append(np.average([sk.roc_auc_score(is_target[own], values[own, k]) for own in mixed], weights=pairs))
    if not areas:
        raise UndefinedMetricError("an AUC needs a group with utterances of two classes")
    return float(np.mean(areas))


def one_vs_rest_trials(scores: Array, targets: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One trial for every pair of an utterance and a class; it is a target trial if the utterance is of that class.

    Args:
        scores: posteriors ``(N, K)``. Logits won't do, since trials of different classes are pooled and need a common scale.
        targets: class indices ``(N,)``.

    Returns:
        Scores and is_target, each ``(N * K,)``, utterance by utterance.
    """
    values, wanted = _check_class_scores(scores, targets)
    return values.ravel(), (wanted[:, None] == np.arange(values.shape[1])).ravel()


def one_vs_rest_eer(scores: Array, targets: Array, group: Array | None = None) -> float:
    """Equal error rate of a classifier over the pooled trials of :func:`one_vs_rest_trials`; chance is 0.5.

    One threshold serves all K classes, also those that don't occur in ``targets``; a mean of one EER per class is another
    measure. Each ``group``, see :func:`macro_auc`, has its own threshold; the result is the mean of their rates, weighted by
    utterances.
    """
    values, wanted = _check_class_scores(scores, targets)
    groups = group_indices(len(wanted), group)
    rates = [eer(*one_vs_rest_trials(values[own], wanted[own])) for own in groups]
    return float(np.average(rates, weights=[len(own) for own in groups]))


def one_vs_rest_tpr(scores: Array, targets: Array, fpr: float, group: Array | None = None) -> float:
    """:func:`tpr` over the same trials, with one threshold and one mean as in :func:`one_vs_rest_eer`; chance is ``fpr``."""
    values, wanted = _check_class_scores(scores, targets)
    groups = group_indices(len(wanted), group)
    rates = [tpr(*one_vs_rest_trials(values[own], wanted[own]), fpr) for own in groups]
    return float(np.average(rates, weights=[len(own) for own in groups]))


def trial_pairs(
    n: int,
    group: Array | None = None,
    content: Array | None = None,
    enrolling: Array | None = None,
    outside: Array | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices ``(T,)`` of the enrolment and of the test utterance of each verification trial, among n utterances.

    An utterance is not compared with itself: the same recording would be easier to recognise than any other of the speaker.
    Pairs across groups, ``(n,)`` numbers or names, are no trials, and pairs of one ``content (n,)`` neither, where it is given:
    a sentence said again sounds alike for more reasons than the voice. Where ``enrolling (n,)`` booleans are given, only those
    utterances enrol; those that are ``outside (n,)`` are on no side of any trial.
    """
    allowed = np.zeros((n, n), dtype=bool)
    for own in group_indices(n, group):
        allowed[np.ix_(own, own)] = True
    for said in group_indices(n, content) if content is not None else ():
        allowed[np.ix_(said, said)] = False
    if enrolling is not None:
        allowed[~to_numpy(enrolling).astype(bool)] = False
    if outside is not None:
        out = to_numpy(outside).astype(bool)
        allowed[out] = allowed[:, out] = False
    np.fill_diagonal(allowed, False)
    enrolled, tested = np.nonzero(allowed)
    return enrolled, tested


def verification_trials(
    enrol: Array,
    test: Array,
    speaker: Array,
    group: Array | None = None,
    content: Array | None = None,
    enrolling: Array | None = None,
    outside: Array | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Speaker verification trials: every utterance enrols and is tested against every other, and the cosine is the score.

    Args:
        enrol, test: embeddings ``(N, E)`` of the same utterances in the same order: original and protected, or protected in
            both. An embedding of zeros has the score 0 with all others.
        speaker: speaker indices ``(N,)``.
        group: ``(N,)`` numbers or names, such as folds. Embeddings of different groups come from different networks and are
            not compared.
        content, enrolling, outside: which other pairs are no trials; see :func:`trial_pairs`.

    Returns:
        Scores in [-1, 1] and is_target, each ``(T,)`` in the order of :func:`trial_pairs`.

    Raises:
        UndefinedMetricError: no pair is left.
        ValueError: shapes differ.
    """
    first, second, wanted = as_scores(enrol, 2, "enrol"), as_scores(test, 2, "test"), as_targets(speaker, "speaker")
    if first.shape != second.shape or len(first) != len(wanted):
        shapes = f"{first.shape}, {second.shape} and {wanted.shape}"
        raise ValueError(f"enrol, test and speaker must share their N utterances, not have shapes {shapes}")
    rows, columns = trial_pairs(len(first), group, content, enrolling, outside)
    if len(rows) == 0:
        raise UndefinedMetricError("no two utterances may be compared, so there are no verification trials")

    def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)

    cosine = (unit(first) @ unit(second).T).clip(-1, 1)
    return cosine[rows, columns], wanted[rows] == wanted[columns]
