"""Scores of classifiers and verifiers: accuracy, UAR, AUC, EER, minimum detection cost, residual leakage.

Everything takes numpy arrays and torch tensors alike (any device, any float type) and computes in float64. Shapes: N
utterances, K classes, T trials, E embedding dimensions. Scores are used as they are: torchmetrics puts those outside
[0, 1] through a sigmoid, which saturates to ties, and its EER doesn't interpolate; scikit-learn's one-vs-rest AUC
insists on rows that sum to one. So the curves come from scikit-learn, one binary problem at a time, and the crossing is
ours.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

Array: TypeAlias = NDArray[Any] | torch.Tensor | ArrayLike
"""What the functions accept: a numpy array, a torch tensor or a (nested) list of numbers."""


class UndefinedMetricError(ValueError):
    """The metric has no value for these targets, as an EER where every trial is a target trial.

    The bootstrap leaves out resamples that raise it; any other ValueError is a defect of the input.
    """


def to_numpy(array: Array) -> NDArray[Any]:
    """The array in host memory as numpy, floating-point numbers as float64 (numpy knows no bfloat16)."""
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = array.double() if array.is_floating_point() else array
        return array.numpy()
    result = np.asarray(array)
    return result.astype(np.float64) if np.issubdtype(result.dtype, np.floating) else result


def as_targets(targets: Array, name: str = "targets") -> NDArray[np.int64]:
    """Class indices ``(N,)`` as int64, at least one.

    Raises:
        ValueError: another number of axes, none, or not non-negative integers.
    """
    result = to_numpy(targets)
    if result.ndim != 1 or len(result) == 0:
        raise ValueError(f"{name} must have shape (N,) with N >= 1, not {result.shape}")
    if result.dtype.kind not in "iub" or result.min() < 0:
        raise ValueError(f"{name} must be non-negative class indices, not {result.dtype}, minimum {result.min()}")
    return result.astype(np.int64)


def as_scores(scores: Array, axes: int, name: str = "scores") -> NDArray[np.float64]:
    """Scores with that number of axes as float64, all finite.

    Raises:
        ValueError: another number of axes, none, NaN or infinite scores.
    """
    result = to_numpy(scores).astype(np.float64)
    if result.ndim != axes or result.size == 0:
        raise ValueError(f"{name} must have {axes} non-empty axes, not shape {result.shape}")
    if not np.isfinite(result).all():
        raise ValueError(f"{name} hold NaN or infinite values, first in row {np.argwhere(~np.isfinite(result))[0][0]}")
    return result


def as_predictions(predicted: Array, targets: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicted and true class indices, each ``(N,)``; predicted ones also as the arg max of scores ``(N, K)``.

    Raises:
        ValueError: the shapes don't fit together, or scores are not finite.
    """
    values, wanted = to_numpy(predicted), as_targets(targets)
    if values.ndim == 2:
        chosen = as_scores(values, 2, "scores").argmax(1)
    else:
        chosen = as_targets(values, "predicted")
    if len(chosen) != len(wanted):
        raise ValueError(f"{len(chosen)} predictions for {len(wanted)} targets")
    return chosen, wanted


def accuracy(predicted: Array, targets: Array) -> float:
    """Fraction of utterances classified correctly.

    Args:
        predicted: class indices ``(N,)``, or scores ``(N, K)`` of which the largest is taken.
        targets: class indices ``(N,)``.
    """
    return float(sk.accuracy_score(*reversed(as_predictions(predicted, targets))))


def uar(predicted: Array, targets: Array) -> float:
    """Unweighted average recall: the mean over classes of the fraction of their utterances classified correctly.

    Chance is 1 / K however uneven the classes are (Schuller et al., Interspeech 2009). Classes that don't occur in
    ``targets`` have no recall and don't count.

    Args:
        predicted: class indices ``(N,)``, or scores ``(N, K)`` of which the largest is taken.
        targets: class indices ``(N,)``.
    """
    chosen, wanted = as_predictions(predicted, targets)
    return float(sk.recall_score(wanted, chosen, labels=np.unique(wanted), average="macro"))


def residual(uar: float, uar_original: float, chance: float) -> float:
    """Residual leakage: which share of what an attacker knows of original speech it still knows of protected speech.

    (uar - chance) / (uar_original - chance): 1 is no protection, 0 is chance; below 0, or above 1, where the attacker
    does worse than chance, or better than on original speech.

    Args:
        uar, uar_original: unweighted average recall of the attacker on protected and on original speech.
        chance: of guessing, 1 / K.

    Raises:
        UndefinedMetricError: the attacker is no better than chance on original speech, so that there is nothing to hide.
    """
    if not uar_original > chance:
        raise UndefinedMetricError(
            f"UAR on original speech is {uar_original:.3f}, at or below chance ({chance:.3f}): there is no residual"
        )
    return (uar - chance) / (uar_original - chance)


def confusion_matrix(predicted: Array, targets: Array, n_classes: int) -> NDArray[np.int64]:
    """Counts ``(n_classes, n_classes)``: rows are true classes, columns predicted ones.

    Args:
        predicted: class indices ``(N,)``, or scores ``(N, n_classes)`` of which the largest is taken.
        targets: class indices ``(N,)``.
    """
    chosen, wanted = as_predictions(predicted, targets)
    if max(chosen.max(), wanted.max()) >= n_classes:
        raise ValueError(f"class index {max(chosen.max(), wanted.max())} with only {n_classes} classes")
    return np.asarray(sk.confusion_matrix(wanted, chosen, labels=np.arange(n_classes)), dtype=np.int64)


def check_trials(scores: Array, is_target: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and targets ``(T,)`` of trials of both kinds, as float64 and boolean.

    Raises:
        UndefinedMetricError: all trials are of one kind.
        ValueError: shapes differ, a score is not finite, or ``is_target`` isn't boolean.
    """
    values, wanted = as_scores(scores, 1), to_numpy(is_target)
    if wanted.shape != values.shape:
        raise ValueError(f"scores have shape {values.shape}, but is_target has {wanted.shape}")
    if wanted.dtype != bool and not np.isin(wanted, (0, 1)).all():
        raise ValueError("is_target must be boolean: true for target trials")
    wanted = wanted.astype(bool)
    if wanted.all() or not wanted.any():
        kind = "non-target" if wanted.all() else "target"
        raise UndefinedMetricError(f"no {kind} trial among {len(values)}: an ROC needs trials of both kinds")
    return values, wanted


def roc_points(scores: Array, is_target: Array) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Operating points of the receiver operating characteristic, from (0, 0) to (1, 1).

    Trials of equal score are accepted or rejected together. Points on a straight line between their neighbours are
    left out.

    Args:
        scores: ``(T,)``, higher means more likely a target; used raw.
        is_target: ``(T,)`` boolean.

    Returns:
        False positive rate, true positive rate and threshold (accepted: score >= threshold), each ``(P,)``; the first
        threshold is infinite.

    Raises:
        UndefinedMetricError: all trials are of one kind.
        ValueError: shapes differ or a score is not finite.
    """
    values, wanted = check_trials(scores, is_target)
    fpr, tpr, thresholds = sk.roc_curve(wanted, values)
    return fpr, tpr, thresholds


def eer_from_roc(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where false acceptance equals false rejection, by linear interpolation between operating points.

    Args:
        fpr, tpr: ``(..., P)``, both rising from 0 to 1 along the last axis.

    Returns:
        Equal error rates ``(...)``.
    """
    difference = fpr + tpr - 1  # FAR - FRR rises from -1 to 1
    after = np.maximum((difference >= 0).argmax(-1), 1)[..., None]
    low, high = (np.take_along_axis(difference, i, -1)[..., 0] for i in (after - 1, after))
    fpr_low, fpr_high = (np.take_along_axis(fpr, i, -1)[..., 0] for i in (after - 1, after))
    return fpr_low - low / (high - low) * (fpr_high - fpr_low)


def eer(scores: Array, is_target: Array) -> float:
    """Equal error rate: the error where false acceptance and false rejection are equally frequent.

    Scores are used as they are. Between operating points the ROC is a straight line; tied scores are one operating
    point, so constant scores give 0.5. A score that is inverted gives more than 0.5.

    Args:
        scores: ``(T,)``, higher means more likely a target.
        is_target: ``(T,)`` boolean.

    Raises:
        UndefinedMetricError: all trials are of one kind.
        ValueError: shapes differ or a score is not finite.
    """
    fpr, tpr, _ = roc_points(scores, is_target)
    return float(eer_from_roc(fpr, tpr))


def check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    """See that these are parameters of a detection cost.

    Raises:
        ValueError: the prior is not between 0 and 1, or a cost is not positive.
    """
    if not 0 < p_target < 1 or not c_miss > 0 or not c_fa > 0:
        raise ValueError(
            f"p_target must lie between 0 and 1, c_miss and c_fa above 0, not {p_target}, {c_miss} and {c_fa}"
        )


def min_dcf(scores: Array, is_target: Array, p_target: float = 0.05, c_miss: float = 1, c_fa: float = 1) -> float:
    """Normalised minimum detection cost: the least cost of errors that any one threshold gives.

    The cost c_miss p_target FRR + c_fa (1 - p_target) FAR is divided by that of the better of the two systems that
    hear nothing, which accept all or reject all; so it lies between 0 and 1. Accepting or rejecting all are thresholds
    too, and nothing is interpolated. Doddington et al., The NIST speaker recognition evaluation, Speech Communication
    31 (2000); the default parameters are those of the VoxSRC challenges (Nagrani et al., 2020).

    Args:
        scores: ``(T,)``, higher means more likely a target; used raw.
        is_target: ``(T,)`` boolean.
        p_target: prior probability of a target trial.
        c_miss, c_fa: cost of a false rejection and of a false acceptance.

    Raises:
        UndefinedMetricError: all trials are of one kind.
        ValueError: shapes differ, a score is not finite, or a parameter is out of range.
    """
    check_costs(p_target, c_miss, c_fa)
    far, hit, _ = roc_points(scores, is_target)
    miss_cost, fa_cost = c_miss * p_target, c_fa * (1 - p_target)
    return float((miss_cost * (1 - hit) + fa_cost * far).min() / min(miss_cost, fa_cost))


def auc(scores: Array, is_target: Array) -> float:
    """Area under the ROC of ``scores (T,)`` and ``is_target (T,)``; raises as :func:`eer` does."""
    values, wanted = check_trials(scores, is_target)
    return float(sk.roc_auc_score(wanted, values))


def _check_class_scores(scores: Array, targets: Array) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values, wanted = as_scores(scores, 2), as_targets(targets)
    if len(values) != len(wanted):
        raise ValueError(f"{len(values)} rows of scores for {len(wanted)} targets")
    if wanted.max() >= values.shape[1]:
        raise ValueError(f"target {wanted.max()} with scores of only {values.shape[1]} classes")
    return values, wanted


def members(n: int, group: Array | None) -> list[NDArray[np.intp]]:
    """Indices of each group of n utterances; of all of them without groups.

    Raises:
        ValueError: ``group`` has not one entry for each utterance.
    """
    if group is None:
        return [np.arange(n)]
    labels = to_numpy(group)
    if labels.shape != (n,):
        raise ValueError(f"group must have one entry for each of {n} utterances, not shape {labels.shape}")
    return [np.flatnonzero(labels == one) for one in np.unique(labels)]


def macro_auc(scores: Array, targets: Array, group: Array | None = None) -> float:
    """Mean over classes of the area under the one-vs-rest ROC.

    Over the classes that occur in ``targets``, since the others have no ROC.

    Args:
        scores: ``(N, K)``, one column a class; rows need not sum to one.
        targets: class indices ``(N,)``.
        group: ``(N,)`` numbers or names, such as folds, each of which another network scored: the area is the share of
            pairs within a group in which the class outscores another.

    Raises:
        UndefinedMetricError: only one class occurs, or no group has two.
    """
    values, wanted = _check_class_scores(scores, targets)
    classes = np.unique(wanted)
    of_group = members(len(wanted), group)
    areas = []
    for k in classes:
        won, pairs = 0.0, 0
        for own in of_group:
            is_target = wanted[own] == k
            if n := int(is_target.sum()) * int((~is_target).sum()):
                won += n * sk.roc_auc_score(is_target, values[own, k])
                pairs += n
        if pairs:
            areas.append(won / pairs)
    if not areas:
        where = f"all {len(wanted)} utterances are" if len(classes) == 1 else "every group is"
        raise UndefinedMetricError(f"{where} of one class, as class {classes[0]}: an AUC needs two classes")
    return float(np.mean(areas))


def one_vs_rest_trials(scores: Array, targets: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Every (utterance, class) pair as one trial, the utterance's own class being the target.

    Args:
        scores: posteriors ``(N, K)``; pooling needs columns on one scale, so not logits.
        targets: class indices ``(N,)``.

    Returns:
        Scores and is_target, each ``(N * K,)``, utterance by utterance.
    """
    values, wanted = _check_class_scores(scores, targets)
    return values.ravel(), (wanted[:, None] == np.arange(values.shape[1])).ravel()


def one_vs_rest_eer(scores: Array, targets: Array, group: Array | None = None) -> float:
    """Equal error rate of a classifier over pooled one-vs-rest trials (:func:`one_vs_rest_trials`).

    Each (utterance, class) pair is a trial scored by the posterior of the class; all K classes are hypotheses, whether
    they occur in ``targets`` or not. One threshold serves all classes, unlike a mean of EERs per class. Chance is 0.5.

    Args:
        scores: posteriors ``(N, K)``, K >= 2.
        targets: class indices ``(N,)``.
        group: ``(N,)`` numbers or names, such as folds, each of which another network scored: each has a threshold of its
            own, and the rate is their mean, weighted by utterances.
    """
    values, wanted = _check_class_scores(scores, targets)
    of_group = members(len(wanted), group)
    rates = [eer(*one_vs_rest_trials(values[own], wanted[own])) for own in of_group]
    return float(np.average(rates, weights=[len(own) for own in of_group]))


def trial_pairs(n: int, group: Array | None = None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns ``(T,)`` of the verification trials of n utterances, in the order of rows, then columns.

    The pair (i, i) is no trial, since sharing the sentence and the take would make it easier than any real one.

    Args:
        n: utterances.
        group: ``(n,)`` numbers or names; pairs across groups are no trials.
    """
    allowed = np.zeros((n, n), dtype=bool)
    for own in members(n, group):
        allowed[np.ix_(own, own)] = True
    np.fill_diagonal(allowed, False)
    rows, columns = np.nonzero(allowed)
    return rows, columns


def verification_trials(
    enrol: Array, test: Array, enrol_speaker: Array, test_speaker: Array, group: Array | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Speaker verification trials of all pairs of an enrolment and another test utterance, scored by the cosine.

    Row i of ``enrol`` and of ``test`` are the same utterance (original and protected, or twice protected).

    Args:
        enrol, test: embeddings ``(N, E)``, N >= 2; an embedding of zeros scores 0 against all.
        enrol_speaker, test_speaker: speaker indices ``(N,)``.
        group: ``(N,)`` numbers or names, such as folds; only utterances of one group meet. Each fold has a network of
            its own, whose embeddings mean nothing to another's.

    Returns:
        Scores in [-1, 1] and is_target, each ``(T,)`` in the order of :func:`trial_pairs`.

    Raises:
        UndefinedMetricError: no two utterances share a group.
    """
    first, second = as_scores(enrol, 2, "enrol"), as_scores(test, 2, "test")
    first_speaker, second_speaker = as_targets(enrol_speaker, "enrol_speaker"), as_targets(test_speaker, "test_speaker")
    if first.shape != second.shape or not len(first) == len(first_speaker) == len(second_speaker):
        shapes = ", ".join(str(x.shape) for x in (first, second, first_speaker, second_speaker))
        raise ValueError(f"enrol, test, enrol_speaker and test_speaker must share their N utterances, not {shapes}")
    if len(first) < 2:
        raise ValueError("verification trials need at least two utterances")
    rows, columns = trial_pairs(len(first), group)
    if len(rows) == 0:
        raise UndefinedMetricError("no two utterances share a group, so there are no verification trials")

    def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)

    cosine = (unit(first) @ unit(second).T).clip(-1, 1)
    return cosine[rows, columns], first_speaker[rows] == second_speaker[columns]
