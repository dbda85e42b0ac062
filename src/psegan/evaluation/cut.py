"""What a classical attacker reads of the cut itself: statistics of what a protector lets through.

All that comes out is made from that and from what has nothing to do with the utterance, so nobody can read more emotion in what
comes out than is in the cut (the data-processing inequality). Who reads the cut has it without the damage that decoder and
vocoder do to it.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psegan.evaluation.functionals import deltas, statistics

LAGS = (0, 1, 2, 4, 8)
"""Frames between the values whose products are averaged."""


def cut_statistics(passed: ArrayLike) -> NDArray[np.float64]:
    """Features of what was let through of an utterance, ``(C, N)``, whatever N is.

    Returns:
        ``(F,)``: the statistics of each curve and of its slope (:data:`psegan.evaluation.functionals.STATISTICS`), mean
        products of all curves with all others, at :data:`LAGS`, and the logarithm of the length. They are finite, also where
        N is 0.
    """
    curves = np.asarray(passed, dtype=np.float64)
    size = curves.shape[1]
    moving = deltas(curves) if size else curves
    centred = curves - (curves.mean(1, keepdims=True) if size else 0.0)
    products = [centred[:, : size - lag] @ centred[:, lag:].T / max(size - lag, 1) for lag in LAGS if lag < size]
    products += [np.zeros((len(curves), len(curves)))] * (len(LAGS) - len(products))
    return np.concatenate([statistics(curves), statistics(moving), np.stack(products).ravel(), [np.log1p(size)]])
