"""Augmentation: what it changes by how much, and that it repeats itself."""

import math

import pytest
import torch

from psegan.common.random import seeded
from psegan.models.augmentation import SpectrogramAugmentation, mixed
from psegan.speech.audio import N_MELS, UnitScaler
from psegan.systems.base import ScaledLogMel

PLAIN = {"n_masks": 0}


def spectrograms(frequency: float = 1500.0):
    """Two tones, the second shorter and padded."""
    time = torch.arange(32_000) / 16_000
    waveform = 0.3 * torch.sin(2 * math.pi * frequency * time).repeat(2, 1)
    lengths = torch.tensor([32_000, 20_000])
    waveform[1, 20_000:] = 0
    return ScaledLogMel()(waveform, lengths)


def test_nothing_asked_for_is_nothing_changed():
    mel, lengths = spectrograms()
    same, frames = SpectrogramAugmentation(**PLAIN)(mel, lengths, seeded(0))
    assert torch.equal(same, mel)
    assert torch.equal(frames, lengths)


def test_a_warp_by_nothing_is_nothing():
    mel, lengths = spectrograms()
    same, frames = SpectrogramAugmentation._warped(mel, lengths, torch.ones(2), torch.zeros(2))
    assert torch.equal(frames, lengths)
    torch.testing.assert_close(same, mel, atol=1e-5, rtol=0)


def test_tempo_changes_the_length_and_keeps_padding_silent():
    mel, lengths = spectrograms()
    changed, frames = SpectrogramAugmentation(max_tempo=0.3, **PLAIN)(mel, lengths, seeded(1))
    ratio = frames / lengths
    assert ((ratio > 1 / 1.31) & (ratio < 1 / 0.69)).all()
    assert not torch.allclose(ratio, torch.ones(2), atol=0.02)
    assert changed.shape[2] == frames.max()
    for row, n in zip(changed, frames, strict=True):
        assert (row[:, n:] == 0).all()


@pytest.mark.parametrize("semitones", [-3.0, 2.0])
@pytest.mark.parametrize("frequency", [500.0, 2000.0])
def test_pitch_moves_a_tone_to_where_that_tone_would_be(frequency, semitones):
    mel, lengths = spectrograms(frequency)
    there, _ = spectrograms(frequency * 2 ** (semitones / 12))
    moved, _ = SpectrogramAugmentation._warped(mel, lengths, torch.ones(2), torch.full((2,), semitones))
    assert abs(int(moved[0, :, 40].argmax()) - int(there[0, :, 40].argmax())) <= 1


def test_gain_is_that_of_the_waveform():
    mel, lengths = spectrograms()
    louder, _ = SpectrogramAugmentation(max_gain=6.0, **PLAIN)(mel, lengths, seeded(2))
    band = int(mel[0, :, 40].argmax())
    decibels = (louder - mel)[:, band, 40] * (UnitScaler.high - UnitScaler.low) * 20 / math.log(10)
    assert (decibels.abs() < 6.001).all()
    assert (decibels.abs() > 0.1).all()
    assert decibels[0] != decibels[1]
    assert (louder[1, :, lengths[1] :] == 0).all()


def test_masks_hide_bands_and_time_of_the_widths_allowed():
    mel, lengths = torch.ones(64, N_MELS, 100), torch.full((64,), 100)
    masked, _ = SpectrogramAugmentation(n_masks=1, max_masked_bands=10, max_masked_fraction=0.2)(
        mel, lengths, seeded(3)
    )
    bands = (masked == 0).all(2).sum(1)
    times = (masked == 0).all(1).sum(1)
    assert 5 < bands.max() <= 10
    assert 10 < times.max() <= 20


def test_equal_generators_give_equal_draws():
    mel, lengths = spectrograms()
    augment = SpectrogramAugmentation(0.1, 1.0, 3.0)
    first, second = (augment(mel, lengths, seeded(4))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(mel, lengths, seeded(5))[0])


def test_mixtures_are_weighted_means_of_pairs():
    x, lengths = torch.randn(32, 3, 7), torch.randint(1, 8, (32,))
    mixture, frames, partner, weight = mixed(x, lengths, 0.3, seeded(6))
    assert sorted(partner.tolist()) == list(range(32))
    assert ((weight >= 0.5) & (weight <= 1)).all(), "the label of an utterance must weigh at least half"
    assert 0.5 < weight.mean() < 0.99
    w = weight[:, None, None]
    torch.testing.assert_close(mixture, w * x + (1 - w) * x[partner])
    assert torch.equal(frames, torch.maximum(lengths, lengths[partner]))
