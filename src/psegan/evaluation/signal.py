"""What a protector does to the signal: distances between an utterance and what became of it, sample by sample.

Both take waveforms at 16 kHz of one utterance, of equal length and aligned in time, as numpy arrays, torch tensors or
lists. They measure how much was changed, not whether that was needed: hiding an emotion changes the signal too.
"""

import math
import warnings
from functools import cache

import numpy as np
import pystoi
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from psegan.audio import HOP, MFCC, SAMPLE_RATE
from psegan.evaluation.metrics import Array, as_scores

N_CEPSTRA = 24
"""Mel-cepstral coefficients 1 to this one are compared."""
SPEECH_RANGE = 40
"""dB below the loudest frame of the original that still count as speech, as in STOI."""
_FRAME = 1024  # samples, of MFCC


def mel_cepstral_distortion(original: Array, processed: Array) -> float:
    """Mel-cepstral distortion in dB (Kubichek, Mel-cepstral distance measure for objective speech quality, 1993).

    The mean over frames of 10 / ln 10 times the root of 2 Σ (c_d - c'_d)², d from 1 to 24, without dynamic time
    warping. The cepstrum is that of :class:`psegan.audio.MFCC` (32 mel filters), scaled to the convention that the log
    magnitude spectrum is Σ c_d cos dω, so that the distortion is the root mean square difference of two smoothed log-spectra
    along the mel axis. c_0, the level, is left out: a gain costs nothing. Figures of tools that take the cepstrum from
    other analyses (SPTK, WORLD) are not comparable.

    Only frames within 40 dB of the loudest frame of the original count, voiced or not: in a pause the logarithm turns
    inaudible noise into large distances.

    Args:
        original, processed: waveforms ``(T,)`` at 16 kHz.

    Returns:
        Decibels, 0 for equal waveforms; NaN if the original is silent.

    Raises:
        ValueError: shapes differ, or a sample is not finite.
    """
    first, second = _pair(original, processed)
    waveforms = torch.from_numpy(np.stack([first, second])).float()
    cepstra, _ = _mfcc()(waveforms, torch.full((2,), len(first)))
    frames = F.pad(waveforms[0], (_FRAME // 2, _FRAME // 2)).unfold(0, _FRAME, HOP)
    energy = (frames * torch.hann_window(_FRAME)).square().sum(1)
    if energy.max() == 0:
        return math.nan
    speech = energy >= energy.max() * 10 ** (-SPEECH_RANGE / 10)
    difference = (cepstra[0] - cepstra[1])[1:, speech].double()
    # the orthonormal DCT of a log power spectrum gives sqrt(2 * filters) times the convention's c_d
    distance = (2 * difference.square().sum(0) / (2 * MFCC.n_filters)).sqrt()
    return float(10 / math.log(10) * distance.mean())


def stoi(original: Array, processed: Array) -> float:
    """Short-time objective intelligibility (Taal et al., IEEE TASLP 19, 2011), by pystoi.

    Frames in which the original is 40 dB below its loudest don't count.

    Args:
        original, processed: waveforms ``(T,)`` at 16 kHz.

    Returns:
        1 for equal waveforms, around 0 for unrelated ones. NaN where less than 0.4 s of speech is left, for which STOI
        is not defined.

    Raises:
        ValueError: shapes differ, or a sample is not finite.
    """
    first, second = _pair(original, processed)
    if len(first) < 0.4 * SAMPLE_RATE or not first.any():
        return math.nan
    with warnings.catch_warnings():
        # pystoi returns a made-up score where too few frames remain, and says so by a warning only
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(pystoi.stoi(first, second, SAMPLE_RATE))
        except RuntimeWarning:
            return math.nan


@cache
def _mfcc() -> MFCC:
    return MFCC(N_CEPSTRA + 1)


def _pair(original: Array, processed: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = as_scores(original, 1, "original"), as_scores(processed, 1, "processed")
    if first.shape != second.shape:
        raise ValueError(f"original has {len(first)} samples, processed {len(second)}: they must be aligned")
    return first, second
