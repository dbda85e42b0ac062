"""The level of spectrograms: an estimate of the waveform's, given back to what was converted, and bounded."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from psegan.models.conversion import Conversion, ToEmotion
from psegan.models.level import DECIBEL, FULL_SCALE, MOST_RAISED, Level
from psegan.models.psegan import PSEGANGenerator
from psegan.speech.audio import LogMel, UnitScaler
from psegan.speech.masking import mask_like
from tests.support.protectors import speech

STEP = DECIBEL / (UnitScaler.high - UnitScaler.low)
"""A decibel on the scale of [0, 1]."""


def spectrogram(seconds: float = 2.0, gain: float = 1.0) -> tuple[Tensor, Tensor]:
    waveform = gain * speech(seconds)[None]
    mel, frames = LogMel()(waveform, torch.tensor([waveform.shape[1]]))
    return UnitScaler()(mel), frames


def energy(mel: Tensor, frames: Tensor) -> Tensor:
    """Of utterances, in dB."""
    return Level().of_frames(mel, frames).logsumexp(1) / (2 * DECIBEL)


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_the_energy_of_frames_is_that_of_the_waveform(gain):
    mel, frames = spectrogram(gain=gain)
    rms = 20 * math.log10(float((gain * speech(2.0)).square().mean().sqrt()))
    found = energy(mel, frames) - (FULL_SCALE + frames.log()) / (2 * DECIBEL)
    assert float(found) == pytest.approx(rms, abs=0.7)


@pytest.mark.parametrize("decibels", [-20.0, 12.0])
def test_a_change_of_the_level_alone_is_undone(decibels):
    mel, frames = spectrogram()
    torch.testing.assert_close(Level()(mel + decibels * STEP, mel, frames), mel, atol=1e-5, rtol=0)


def test_the_energy_is_given_back_and_no_frame_is_much_louder_than_the_loudest():
    mel, frames = spectrogram()
    torch.manual_seed(0)
    made = mel + 0.05 * torch.randn_like(mel)
    level = Level(headroom=1.0)
    loudest = level.of_frames(mel, frames).amax()
    assert (level.of_frames(made, frames).amax() - loudest) / (2 * DECIBEL) > 2
    levelled = level(made, mel, frames)
    assert float((level.of_frames(levelled, frames).amax() - loudest) / (2 * DECIBEL)) <= 1.0 + 1e-3
    assert float(energy(levelled, frames)) == pytest.approx(float(energy(mel, frames)), abs=0.5)
    # frames keep their shape: all bands of one are moved alike
    moved = (levelled - made)[0]
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), atol=1e-5, rtol=0)


def test_padding_stays_zero_and_changes_nothing():
    mel, frames = spectrogram()
    other, fewer = spectrogram(1.0)
    together = torch.zeros(2, 80, int(frames))
    together[0], together[1, :, : int(fewer)] = mel[0], other[0]
    lengths = torch.cat([frames, fewer])
    made = (together + 0.1 * torch.rand_like(together)) * mask_like(lengths, together)
    level = Level()
    both = level(made, together, lengths)
    assert not both[1, :, int(fewer) :].any()
    torch.testing.assert_close(both[1:, :, : int(fewer)], level(made[1:, :, : int(fewer)], other, fewer))


def test_a_fixed_level_is_the_same_for_all_but_for_silence():
    level = Level()
    for gain in (1.0, 0.1):
        mel, frames = spectrogram(gain=gain)
        found = energy(level.at(-26.0, mel, frames), frames) - (FULL_SCALE + frames.log()) / (2 * DECIBEL)
        assert float(found) == pytest.approx(-26.0, abs=0.01)
    silence, frames = torch.zeros(1, 80, 40), torch.tensor([40])
    raised = level.at(-26.0, silence, frames)
    assert float(energy(raised, frames) - energy(silence, frames)) == pytest.approx(MOST_RAISED, abs=1e-3)


def test_gradients_reach_the_generator_through_the_level():
    mel, frames = spectrogram()
    made = (mel + 0.05 * torch.rand_like(mel)).requires_grad_()
    # what raises the energy of the loudest frames must lower the others
    Level()(made, mel, frames)[..., :60].sum().backward()
    assert torch.isfinite(made.grad).all()
    assert made.grad[..., 60:].abs().sum() > 0, "nothing but the level joins these frames to the others"


def loud(level: Literal["kept"] | float) -> Conversion:
    """A conversion whose network changes the level by itself."""
    torch.manual_seed(0)
    network = PSEGANGenerator(4, noise_dim=4, grn_repeats=0).eval()
    torch.nn.init.normal_(network.unet.output.weight, std=3.0)
    return ToEmotion(network, 4, level=level)


def test_a_fixed_level_leaves_nothing_of_the_originals():
    """The networks hear speech at that level, whatever its own was; where it is kept they hear the level."""
    mel, frames = spectrogram()
    draws = loud("kept").draw(1, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        fixed, kept = (
            conversion(mel - 15 * STEP, frames, draws) - conversion(mel, frames, draws)
            for conversion in (loud(-26.0), loud("kept"))
        )
    assert fixed.abs().max() < 1e-4
    assert (kept + 15 * STEP).abs().max() > 0.01


@pytest.mark.parametrize("level", ["kept", -30.0])
def test_every_conversion_has_its_level(level):
    conversion = loud(level)
    mel, frames = spectrogram()
    draws = conversion.draw(1, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert abs(float(energy(conversion.convert(mel, frames, draws), frames) - energy(mel, frames))) > 3
        found = float(energy(conversion(mel, frames, draws), frames))
    wanted = (
        float(energy(mel, frames)) if level == "kept" else level + float((FULL_SCALE + frames.log()) / (2 * DECIBEL))
    )
    assert found == pytest.approx(wanted, abs=1.5)
