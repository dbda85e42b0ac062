"""What an attacker's posteriors are worth as evidence: one temperature, fitted on speech with known labels.

A network says "99 %" where it is right three times in four, and says so of protected speech as well. Bits, error rates of
pooled trials and sums over utterances need numbers that mean what they say.

Shapes: S attackers, N utterances, K classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp, softmax

from psegan.metrics import scores as metrics
from psegan.metrics.scores import Array, to_numpy

Floats = NDArray[np.float64]
FLOOR = 2.0**-23
"""Least posterior: what float32 resolves next to 1. Most posteriors are softmaxes in that precision, so less means nothing."""
LEAST_BETA = 1e-3
"""Not 0: nearly all that an attacker says is taken back then, worth up to about 0.02 bits, but not which class it names."""
MOST_BETA = 1e3
_LEAST_EXPONENT = -700.0  # exp is above 0
_CHUNK = 1_000_000  # elements of the largest temporary arrays


class Calibration(NamedTuple):
    """How evidence is made of posteriors.

    Attributes:
        beta: 1 / temperature.
        prior: share of each class, ``(K,)``, where the temperature was fitted.
    """

    beta: float
    prior: Floats

    def evidence(self, posteriors: Array) -> Floats:
        """What speech adds to what is known without it, β (log p − log prior) in nats, of posteriors ``(..., K)``."""
        return self.beta * _log_ratio(posteriors, self.prior)

    def posteriors(self, posteriors: Array) -> Floats:
        """Calibrated posteriors ``(..., K)``, where classes are as frequent as ``prior`` says."""
        return np.asarray(softmax(np.log(self.prior) + self.evidence(posteriors), -1))


def calibrate(posteriors: Array, targets: Array) -> Calibration:
    """The temperature that makes posteriors explain known labels best.

    The calibrated posterior is q ∝ prior^(1−β) p^β, where β is 1 / temperature: temperature scaling (Guo et al., On calibration
    of modern neural networks, ICML 2017), which moves towards the prior and not towards equal shares, so that who knows
    nothing ends with no bits even where classes are uneven. β minimises the cross-entropy, which is convex in it. Labels count
    as if one utterance more had been heard, of which nothing is known but the prior (after Platt, 1999): where all answers are
    right, β would be infinite otherwise. The prior is the share of each class, with one utterance of each added.

    Args:
        posteriors: ``(N, K)``, or ``(S, N, K)`` of S attackers who get one temperature together.
        targets: classes ``(N,)``.

    Raises:
        ValueError: shapes don't fit or values are not finite.
    """
    wanted, values = metrics.as_targets(targets), to_numpy(posteriors)
    runs = values if values.ndim == 3 else values[None]
    metrics.as_scores(runs, 3, "posteriors")
    n_classes = runs.shape[-1]
    if runs.shape[1] != len(wanted) or wanted.max() >= n_classes:
        raise ValueError(f"posteriors of shape {values.shape} for {len(wanted)} targets up to class {wanted.max()}")
    prior = (np.bincount(wanted, minlength=n_classes) + 1) / (len(wanted) + n_classes)
    ratio = _log_ratio(runs, prior)
    one_more = 1 / (len(wanted) + 1)
    heard = (1 - one_more) * ratio[:, np.arange(len(wanted)), wanted] + one_more * (ratio @ prior)

    def slope(beta: float) -> float:
        """Derivative of the cross-entropy, which rises with ``beta``."""
        return float(((softmax(np.log(prior) + beta * ratio, -1) * ratio).sum(-1) - heard).mean())

    if slope(LEAST_BETA) >= 0:
        return Calibration(LEAST_BETA, prior)
    if slope(MOST_BETA) <= 0:
        return Calibration(MOST_BETA, prior)
    return Calibration(float(brentq(slope, LEAST_BETA, MOST_BETA, xtol=1e-9)), prior)


def gains(evidence: Array, targets: Array) -> Floats:
    """Bits by which evidence ``(N, K)`` makes the true class of each utterance likelier, ``(N,)``; negative where it misleads.

    log2 of the posterior over the base rate, where classes are as frequent as in ``targets (N,)``: base rates are no secret,
    and who has no evidence gains exactly nothing. The mean of the gains is the entropy of the targets minus the cross-entropy
    of the posteriors.
    """
    values, wanted = metrics.as_scores(evidence, 2, "evidence"), metrics.as_targets(targets)
    known = logsumexp(values, axis=-1, b=base_rates(wanted, values.shape[-1]))
    return np.asarray((values[np.arange(len(wanted)), wanted] - known) / np.log(2))


def gains_if_renamed(evidence: Floats, targets: NDArray[np.int64], base: Floats, namings: NDArray[np.intp]) -> Floats:
    """Sum of :func:`gains` for every naming of the classes, ``(R,)``.

    An attacker who calls class c what it called ``namings[r, c]`` has the evidence ``evidence[:, namings[r]]``. Base rates stay
    with their classes, so where these are uneven, what the evidence is weighed against changes as well.

    Args:
        evidence: ``(N, K)``.
        targets: classes ``(N,)``.
        base: share of each class, ``(K,)``, which need not be that in ``targets``.
        namings: permutations of the classes, ``(R, K)``.
    """
    n_classes = len(base)
    # exp is neither infinite nor 0, of which the logarithm would be, where the greatest is of a class that has no share
    values = np.maximum(evidence - evidence.max(-1, keepdims=True), _LEAST_EXPONENT)
    of_class = np.equal.outer(np.arange(n_classes), targets).astype(np.float64) @ values
    found = of_class[np.arange(n_classes), namings].sum(1)
    weights = base[namings.argsort(1)].T  # of what the attacker called k, the base rate of the class that it now means
    rows = max(1, _CHUNK // len(namings))
    for part in (values[i : i + rows] for i in range(0, len(values), rows)):
        found -= np.log(np.exp(part) @ weights).sum(0)
    return np.asarray(found / np.log(2))


def base_rates(targets: Array, n_classes: int) -> Floats:
    """Share of each class in ``targets (N,)``, ``(n_classes,)``."""
    wanted = metrics.as_targets(targets)
    return np.bincount(wanted, minlength=n_classes) / len(wanted)


def posteriors_of(evidence: Floats, base: Floats) -> Floats:
    """Posteriors ``(..., K)`` of evidence ``(..., K)`` where classes have the shares ``base (K,)``."""
    with np.errstate(divide="ignore"):  # a class that doesn't occur has no share
        return np.asarray(softmax(np.log(base) + evidence, -1))


def _log_ratio(posteriors: Array, prior: Floats) -> Floats:
    """The ratio log p − log prior of posteriors that are at least :data:`FLOOR`."""
    values = to_numpy(posteriors).astype(np.float64)
    return np.asarray(log_softmax(np.log(np.maximum(values, FLOOR)), -1) - np.log(prior))
