"""What a protector does to the signal: distances between an utterance and what became of it, sample by sample.

All take waveforms at 16 kHz of one utterance, of equal length and aligned in time, as numpy arrays, torch tensors or
lists. They measure how much was changed, not whether that was needed: hiding an emotion changes the signal too.
"""

import importlib.util
import math
import warnings
from functools import cache

import numpy as np
import pystoi
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from psegan.losses import multi_resolution_stft
from psegan.metrics.scores import Array, as_scores
from psegan.speech.audio import HOP, MFCC, SAMPLE_RATE
from psegan.speech.pitch import VOICED, track_pitch

N_CEPSTRA = 24
"""Mel-cepstral coefficients 1 to this one are compared."""
SPEECH_RANGE = 40
"""dB below the loudest frame of the original that still count as speech, as in STOI."""
_FRAME = 1024  # samples, of MFCC


def measures(original: Array, processed: Array) -> dict[str, float]:
    """All distances of this module by their names in results, NaN where one is not defined.

    ``mcd`` in dB; ``stft_convergence`` and ``log_stft``, see :func:`stft_distance`; ``stoi``; ``pesq``, where the package of
    that name is installed; ``f0_correlation`` and ``voicing_error``, see :func:`pitch_agreement`.
    """
    convergence, log_distance = stft_distance(original, processed)
    correlation, voicing_error = pitch_agreement(original, processed)
    found = {
        "mcd": mel_cepstral_distortion(original, processed),
        "stft_convergence": convergence,
        "log_stft": log_distance,
        "stoi": stoi(original, processed),
        "f0_correlation": correlation,
        "voicing_error": voicing_error,
    }
    if importlib.util.find_spec("pesq") is not None:
        found["pesq"] = pesq(original, processed)
    return found


def stft_distance(original: Array, processed: Array) -> tuple[float, float]:
    """Multi-resolution STFT distance (Yamamoto et al., 2020), see :func:`psegan.losses.multi_resolution_stft`.

    Args:
        original, processed: waveforms ``(T,)`` at 16 kHz.

    Returns:
        Spectral convergence, and mean absolute difference of natural log-magnitudes; 0 and 0 for equal waveforms, NaN if
        the original is silent.

    Raises:
        ValueError: shapes differ, or a sample is not finite.
    """
    first, second = _pair(original, processed)
    if not first.any():
        return math.nan, math.nan
    ours, theirs = (torch.from_numpy(waveform).float().unsqueeze(0) for waveform in (second, first))
    convergence, log_distance = multi_resolution_stft(ours, theirs)
    return float(convergence), float(log_distance)


def pesq(original: Array, processed: Array) -> float:
    """Wide-band PESQ (ITU-T P.862.2), the mean opinion score that listeners would give, by the package pesq.

    Args:
        original, processed: waveforms ``(T,)`` at 16 kHz.

    Returns:
        1 to 4.64; NaN where there is less than a quarter of a second, or no speech is found.

    Raises:
        ValueError: shapes differ, or a sample is not finite.
    """
    import pesq as package  # optional: it is compiled where it is installed

    first, second = _pair(original, processed)
    if len(first) < SAMPLE_RATE // 4 or not second.any():
        return math.nan
    try:
        return float(package.pesq(SAMPLE_RATE, first.astype(np.float32), second.astype(np.float32), "wb"))
    except package.NoUtterancesError:
        return math.nan


def pitch_agreement(original: Array, processed: Array) -> tuple[float, float]:
    """How well the pitch was kept, by :func:`psegan.speech.pitch.track_pitch`.

    A frame is voiced where it is periodic and within 40 dB of the loudest.

    Args:
        original, processed: waveforms ``(T,)`` at 16 kHz.

    Returns:
        Correlation of the fundamentals in Hz over frames that are voiced in both, NaN for fewer than three or where one of
        them stands still; and the share of frames that are voiced in one only.

    Raises:
        ValueError: shapes differ, or a sample is not finite.
    """
    pitch, voiced = zip(*map(_pitch, _pair(original, processed)), strict=True)
    both = voiced[0] & voiced[1]
    error = float((voiced[0] != voiced[1]).mean())
    if both.sum() < 3 or min(curve[both].std() for curve in pitch) < 1e-3:
        return math.nan, error
    return float(np.corrcoef(pitch[0][both], pitch[1][both])[0, 1]), error


def _pitch(waveform: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    signal = torch.from_numpy(waveform).float()
    found = track_pitch(signal)
    energy = _frames(signal).square().sum(1)
    voiced = (found.periodicity > VOICED) & (energy > energy.max() * 10 ** (-SPEECH_RANGE / 10))
    return found.frequency.double().numpy(), voiced.numpy()


def mel_cepstral_distortion(original: Array, processed: Array) -> float:
    """Mel-cepstral distortion in dB (Kubichek, Mel-cepstral distance measure for objective speech quality, 1993).

    The mean over frames of 10 / ln 10 times the root of 2 Σ (c_d - c'_d)², d from 1 to 24, without dynamic time
    warping. The cepstrum is that of :class:`psegan.speech.audio.MFCC` (32 mel filters), scaled to the convention that the log
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
    energy = _frames(waveforms[0]).square().sum(1)
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


def _frames(waveform: torch.Tensor) -> torch.Tensor:
    """Windowed frames ``(N, 1024)``, centred as those of MFCC and pitch."""
    return F.pad(waveform, (_FRAME // 2, _FRAME // 2)).unfold(0, _FRAME, HOP) * torch.hann_window(_FRAME)


@cache
def _mfcc() -> MFCC:
    return MFCC(N_CEPSTRA + 1)


def _pair(original: Array, processed: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = as_scores(original, 1, "original"), as_scores(processed, 1, "processed")
    if first.shape != second.shape:
        raise ValueError(f"original has {len(first)} samples, processed {len(second)}: they must be aligned")
    return first, second
