"""How loud a protected recording is, beside its original, and whether it is clipped.

All functions take waveforms ``(T,)`` at 16 kHz and raise a ValueError if a sample is not finite.
"""

import numpy as np
from numpy.typing import NDArray

from psegan.metrics.scores import Array, as_scores
from psegan.speech.audio import SAMPLE_RATE

WINDOW = SAMPLE_RATE // 50
"""Samples of the loudest stretch, 20 ms, of which every tenth of a window begins one."""
FULL_SCALE = 32767 / 32768
"""Magnitude of a clipped sample: the greatest of both signs that 16 bits can hold."""
LOUDEST = "loudest"
"""The level of which quantiles are given, and not the mean."""
_FLOOR = 1e-5  # -100 dB of full scale, the noise of 16 bits: silence has a level too


def levels(original: Array, processed: Array) -> dict[str, float]:
    """How loud the processed waveform is beside the original.

    ``loudest`` compares the loudest 20 ms of each, ``mean_level`` their root mean squares, both in dB; ``clipped`` is the
    share of the processed samples at full scale.
    """
    before, after = as_scores(original, 1, "original"), as_scores(processed, 1, "processed")
    return {
        LOUDEST: _db(_loudest(after)) - _db(_loudest(before)),
        "mean_level": _db(_rms(after)) - _db(_rms(before)),
        "clipped": float((np.abs(after) >= FULL_SCALE).mean()),
    }


def _loudest(waveform: NDArray[np.float64]) -> float:
    """Root mean square of the loudest window; a shorter waveform is one."""
    if len(waveform) <= WINDOW:
        return _rms(waveform)
    energy = np.concatenate([[0.0], np.cumsum(waveform**2)])
    return float(np.sqrt((energy[WINDOW:] - energy[:-WINDOW])[:: WINDOW // 10].max() / WINDOW))


def _rms(waveform: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(waveform**2)))


def _db(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, _FLOOR)))
