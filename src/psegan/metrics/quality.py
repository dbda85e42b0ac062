"""Distances between an utterance and its protected version.

All functions take two waveforms ``(T,)`` at 16 kHz, aligned in time, and raise a ValueError if their shapes differ or a sample
is not finite. They measure how much the signal was changed, not whether the change was necessary: hiding an emotion changes
the signal too.
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
"""Highest mel-cepstral coefficient that is compared; the first one is 1."""
SPEECH_RANGE = 40
"""Frames of the original count as speech down to this many dB below the loudest one, as in STOI."""
_FRAME = 1024  # samples, of MFCC


def measures(original: Array, processed: Array) -> dict[str, float]:
    """All distances of this module by their names in results.json; NaN if one is not defined.

    ``mcd`` (in dB), ``stft_convergence`` and ``log_stft`` (:func:`stft_distance`), ``stoi``, ``f0_correlation`` and
    ``voicing_error`` (:func:`pitch_agreement`), and ``pesq`` if the optional package of that name is installed.
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
    """Spectral convergence and mean difference of log-magnitudes of :func:`psegan.losses.multi_resolution_stft`.

    Both are 0 for equal waveforms and NaN if the original is silent.
    """
    first, second = _pair(original, processed)
    if not first.any():
        return math.nan, math.nan
    ours, theirs = (torch.from_numpy(waveform).float().unsqueeze(0) for waveform in (second, first))
    convergence, log_distance = multi_resolution_stft(ours, theirs)
    return float(convergence), float(log_distance)


def pesq(original: Array, processed: Array) -> float:
    """Wide-band PESQ (ITU-T P.862.2), an estimate of the mean opinion score of listeners, by the package pesq.

    1 to 4.64; NaN if the waveforms are shorter than a quarter of a second or hold no speech.
    """
    import pesq as package  # optional, since its installation needs a C compiler

    first, second = _pair(original, processed)
    if len(first) < SAMPLE_RATE // 4 or not second.any():
        return math.nan
    try:
        return float(package.pesq(SAMPLE_RATE, first.astype(np.float32), second.astype(np.float32), "wb"))
    except package.NoUtterancesError:
        return math.nan


def pitch_agreement(original: Array, processed: Array) -> tuple[float, float]:
    """Agreement of the pitch curves of :func:`psegan.speech.pitch.track_pitch`.

    A frame is voiced if it is periodic and at most 40 dB below the loudest one.

    Returns:
        Correlation of the fundamental frequencies over the frames that are voiced in both waveforms, NaN if there are fewer
        than three or one pitch is constant; and the fraction of frames that are voiced in only one of the waveforms.
    """
    pitch, voiced = zip(*map(_pitch, _pair(original, processed)), strict=True)
    both = voiced[0] & voiced[1]
    error = float((voiced[0] != voiced[1]).mean())
    if both.sum() < 3 or min(curve[both].std() for curve in pitch) < 1e-3:
        return math.nan, error
    return float(np.corrcoef(pitch[0][both], pitch[1][both])[0, 1]), error


def _pitch(waveform: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fundamental in Hz and voicing, each ``(N,)``."""
    signal = torch.from_numpy(waveform).float()
    found = track_pitch(signal)
    energy = _frames(signal).square().sum(1)
    voiced = (found.periodicity > VOICED) & (energy > energy.max() * 10 ** (-SPEECH_RANGE / 10))
    return found.frequency.double().numpy(), voiced.numpy()


def mel_cepstral_distortion(original: Array, processed: Array) -> float:
    """Mel-cepstral distortion in dB (Kubichek, Mel-cepstral distance measure for objective speech quality, 1993).

    The mean over frames of (10 / ln 10) √(2 Σ (c_d - c'_d)²), d from 1 to 24, without dynamic time warping. The cepstrum is
    that of :class:`psegan.speech.audio.MFCC` (32 mel filters), scaled so that the log-magnitude spectrum is Σ c_d cos dω. The
    distortion is then the root mean square difference of two smoothed log-spectra along the mel axis. The level c_0 is left
    out, so a gain costs nothing. Tools that compute the cepstrum in another way (SPTK, WORLD) give other values.

    Only frames at most 40 dB below the loudest frame of the original count, because the logarithm would turn inaudible noise
    in pauses into large distances. NaN if the original is silent.
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

    1 for equal waveforms, around 0 for unrelated ones, NaN if there are less than 0.4 s of speech. Frames in which the
    original is 40 dB or more below its loudest frame don't count.
    """
    first, second = _pair(original, processed)
    if len(first) < 0.4 * SAMPLE_RATE or not first.any():
        return math.nan
    with warnings.catch_warnings():
        # if too few frames remain, pystoi warns and returns a constant
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(pystoi.stoi(first, second, SAMPLE_RATE))
        except RuntimeWarning:
            return math.nan


def _frames(waveform: torch.Tensor) -> torch.Tensor:
    """Windowed frames ``(N, 1024)``, centred like the frames of MFCC and of the pitch."""
    return F.pad(waveform, (_FRAME // 2, _FRAME // 2)).unfold(0, _FRAME, HOP) * torch.hann_window(_FRAME)


@cache
def _mfcc() -> MFCC:
    return MFCC(N_CEPSTRA + 1)


def _pair(original: Array, processed: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = as_scores(original, 1, "original"), as_scores(processed, 1, "processed")
    if first.shape != second.shape:
        raise ValueError(f"original has {len(first)} samples, processed {len(second)}: they must be aligned")
    return first, second
