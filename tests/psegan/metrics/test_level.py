"""Levels of tones whose level is known."""

import math

import numpy as np
import pytest

from psegan.metrics.level import levels

RATE = 16_000


def tone(amplitude: float, seconds: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 400 * np.arange(round(seconds * RATE)) / RATE)


def test_a_recording_is_as_loud_as_itself() -> None:
    assert levels(tone(0.5), tone(0.5)) == {"loudest": 0, "mean_level": 0, "clipped": 0}


def test_a_gain_is_found_in_both_levels() -> None:
    found = levels(tone(0.1), tone(0.2))
    assert found["loudest"] == pytest.approx(20 * math.log10(2))
    assert found["mean_level"] == pytest.approx(20 * math.log10(2))


def test_a_burst_is_louder_than_the_mean_tells() -> None:
    burst = tone(0.1)
    burst[4000:4480] *= 8
    found = levels(tone(0.1), burst)
    assert found["loudest"] == pytest.approx(20 * math.log10(8), abs=0.05)
    assert 0 < found["mean_level"] < 6


def test_only_samples_at_full_scale_are_clipped() -> None:
    # what 16 bits make of 1 and -1
    assert levels(tone(1), np.array([32767 / 32768, -1, 0.99, 0]))["clipped"] == 0.5


@pytest.mark.parametrize("n", [1, 319, 320, 321])
def test_short_and_silent_recordings_have_levels(n: int) -> None:
    found = levels(np.zeros(n), np.full(n, 0.1))
    assert [found["loudest"], found["mean_level"]] == pytest.approx([80, 80])  # silence counts as -100 dB
    assert levels(np.zeros(n), np.zeros(n))["loudest"] == 0


def test_samples_must_be_finite() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        levels(tone(0.5), np.full(RATE, np.nan))
