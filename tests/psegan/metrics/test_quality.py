"""Distances between waveforms, for changes whose effect is known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal as dsp

from psegan.metrics import quality
from psegan.speech.audio import SAMPLE_RATE, read_audio


def speechlike(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """Noise in syllables with a falling spectrum, and a pause of digital silence in the middle."""
    generator = np.random.default_rng(seed)
    noise = dsp.lfilter([1], [1, -0.9], generator.normal(size=int(seconds * SAMPLE_RATE)))
    time = np.arange(len(noise)) / SAMPLE_RATE
    waveform = 0.05 * noise * (0.3 + np.sin(2 * np.pi * 2 * time) ** 2)
    waveform[len(noise) // 2 :][:3200] = 0
    return waveform


def noisy(waveform: np.ndarray, snr: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=len(waveform))
    return waveform + noise * np.linalg.norm(waveform) / np.linalg.norm(noise) * 10 ** (-snr / 20)


def test_nothing_changed_is_no_distortion() -> None:
    waveform = speechlike()
    assert quality.mel_cepstral_distortion(waveform, waveform) == 0
    assert quality.stoi(waveform, waveform) == pytest.approx(1)
    tensor = torch.tensor(waveform, dtype=torch.float32)
    assert quality.mel_cepstral_distortion(tensor, waveform) == pytest.approx(0, abs=1e-3)
    assert quality.stoi(tensor, waveform) == pytest.approx(1)


def test_a_gain_costs_nothing() -> None:
    waveform = speechlike()
    assert quality.mel_cepstral_distortion(waveform, 0.5 * waveform) < 0.02
    assert quality.stoi(waveform, 0.5 * waveform) == pytest.approx(1)


def test_more_noise_is_more_distortion_and_less_intelligibility() -> None:
    waveform = speechlike()
    levels = [noisy(waveform, snr) for snr in (40, 20, 10, 0, -10)]
    distortion = [quality.mel_cepstral_distortion(waveform, level) for level in levels]
    intelligibility = [quality.stoi(waveform, level) for level in levels]
    assert distortion == sorted(distortion) and distortion[-1] > distortion[0] + 5
    assert intelligibility == sorted(intelligibility, reverse=True) and intelligibility[-1] < intelligibility[0] - 0.2


def test_distortion_is_the_spectral_difference_in_decibels() -> None:
    """A smooth filter changes each mel band by its own gain; the distortion is their standard deviation in dB."""
    waveform = np.random.default_rng(0).normal(size=2 * SAMPLE_RATE) * 0.1
    taps = [1.0, -0.6]
    top = 2595 * math.log10(1 + 8000 / 700)  # HTK mel
    centres = 700 * (10 ** (np.linspace(0, top, 34)[1:-1] / 2595) - 1)
    gain = 20 * np.log10(np.abs(dsp.freqz(taps, worN=centres, fs=SAMPLE_RATE)[1]))
    found = quality.mel_cepstral_distortion(waveform, dsp.lfilter(taps, [1], waveform))
    assert found == pytest.approx(gain.std(), rel=0.03)


def test_pauses_of_the_original_do_not_count() -> None:
    waveform = speechlike()
    faint = waveform.copy()
    middle = slice(len(waveform) // 2 + 1024, len(waveform) // 2 + 3200 - 1024)  # a frame away from sound
    faint[middle] += 1e-3 * np.random.default_rng(0).normal(size=3200 - 2048)
    assert quality.mel_cepstral_distortion(waveform, faint) == 0
    assert quality.mel_cepstral_distortion(faint, waveform) == 0  # 40 dB below the loudest as well


def test_silence_and_short_speech_have_no_value() -> None:
    waveform = speechlike()
    assert math.isnan(quality.mel_cepstral_distortion(np.zeros(8000), waveform[:8000]))
    assert math.isnan(quality.stoi(np.zeros(8000), waveform[:8000]))
    assert math.isnan(quality.stoi(waveform[:1], waveform[:1]))
    assert math.isnan(quality.stoi(waveform[:4000], waveform[:4000]))
    short = np.concatenate([waveform[:4000], np.zeros(8000)])  # long enough with its silence only
    assert math.isnan(quality.stoi(short, short))
    assert quality.stoi(waveform[:8000], waveform[:8000]) == pytest.approx(1)
    assert quality.mel_cepstral_distortion(waveform[:1], waveform[:1]) == 0


def test_agreement_of_equal_and_of_different_pitch():
    buzz, other = (_buzz(pitch) for pitch in (lambda t: 120 + 40 * np.sin(3 * t), lambda t: 120 - 40 * np.sin(3 * t)))
    assert quality.pitch_agreement(buzz, 0.3 * buzz) == pytest.approx((1, 0), abs=1e-6)
    correlation, error = quality.pitch_agreement(buzz, other)
    assert correlation == pytest.approx(-1, abs=0.05) and error < 0.05
    whisper = np.random.default_rng(0).normal(scale=0.1, size=len(buzz))
    correlation, error = quality.pitch_agreement(buzz, whisper)
    assert math.isnan(correlation) and error > 0.9
    assert quality.pitch_agreement(whisper, whisper)[1] == 0


def _buzz(pitch) -> np.ndarray:
    time = np.arange(32_000) / 16_000
    phase = 2 * np.pi * np.cumsum(pitch(time)) / 16_000
    return sum(np.sin(k * phase) / k for k in range(1, 15)) * 0.1


def test_distance_of_spectra_at_several_resolutions():
    waveform = _buzz(lambda t: 120 + 0 * t)
    assert quality.stft_distance(waveform, waveform) == (0, 0)
    near, far = (quality.stft_distance(waveform, waveform + _noise(level)) for level in (1e-3, 1e-1))
    assert near[0] < far[0] and near[1] < far[1]
    assert all(math.isnan(value) for value in quality.stft_distance(np.zeros(8_000), waveform[:8_000]))


def _noise(level: float) -> np.ndarray:
    return np.random.default_rng(1).normal(scale=level, size=32_000)


def test_all_measures_are_best_for_equal_waveforms():
    waveform = _buzz(lambda t: 150 + 30 * np.sin(5 * t)) * (np.sin(np.arange(32_000) / 1_500) > 0)
    found = quality.measures(waveform, waveform)
    best = {"mcd": 0, "stft_convergence": 0, "log_stft": 0, "stoi": 1, "f0_correlation": 1, "voicing_error": 0}
    assert {name: found[name] for name in best} == pytest.approx(best, abs=1e-6)
    assert set(found) - set(best) <= {"pesq"}


def test_pesq():
    pytest.importorskip("pesq")
    waveform = _buzz(lambda t: 150 + 30 * np.sin(5 * t)) * (np.sin(np.arange(32_000) / 1_500) > 0)
    assert quality.pesq(waveform, waveform) == pytest.approx(4.64, abs=0.01)
    assert quality.pesq(waveform, waveform + _noise(0.05)) < 3
    assert math.isnan(quality.pesq(waveform[:2_000], waveform[:2_000]))
    assert math.isnan(quality.pesq(waveform, np.zeros(32_000)))


@pytest.mark.parametrize("distance", [quality.mel_cepstral_distortion, quality.stoi])
def test_waveforms_that_do_not_match_are_refused(distance) -> None:
    waveform = speechlike()
    with pytest.raises(ValueError, match="8000 samples, processed 7999"):
        distance(waveform[:8000], waveform[:7999])
    with pytest.raises(ValueError, match="processed hold NaN"):
        distance(waveform, waveform * np.nan)
    with pytest.raises(ValueError, match="non-empty"):
        distance([], [])


def test_scores_of_real_speech_are_of_the_usual_size(corpora_root: Path) -> None:
    waveform = read_audio(sorted((corpora_root / "ravdess").rglob("*.flac"))[0]).numpy()
    assert 3 < quality.mel_cepstral_distortion(waveform, noisy(waveform, 20)) < 7
    assert quality.stoi(waveform, noisy(waveform, 20)) > 0.98
    assert quality.stoi(waveform, noisy(waveform, -10)) < 0.7
