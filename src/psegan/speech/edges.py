"""Where speech begins and ends in a recording."""

from torch import Tensor

from psegan.speech.audio import SAMPLE_RATE

STEP = SAMPLE_RATE // 100
"""Samples of a step, 10 ms."""
QUIET_DB = 40.0
"""Steps that are this far below the loudest one are silence."""
MARGIN = 10
"""Steps that are kept on either side, so that soft onsets and endings stay."""


def trimmed(waveform: Tensor) -> Tensor:
    """The recording ``(T,)`` at 16 kHz without the silence at its ends; digital silence, and what is too short, as it is."""
    if len(waveform) < STEP or not waveform.any():
        return waveform
    power = waveform[: len(waveform) // STEP * STEP].unflatten(0, (-1, STEP)).square().mean(1)
    loud = (power > power.max() * 10 ** (-QUIET_DB / 10)).nonzero().squeeze(1)
    first, last = int(loud[0]) - MARGIN, int(loud[-1]) + 1 + MARGIN
    return waveform[max(first, 0) * STEP : last * STEP]
