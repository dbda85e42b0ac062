"""Harmonics are drawn where a pitch has them."""

import math

import pytest
import torch

from psegan.models.harmonics import HIGHEST, LOWEST, STEPS, Harmonics
from psegan.speech.audio import SAMPLE_RATE, LogMel


@pytest.mark.parametrize("pitch", [110.0, 203.0, 317.0])
def test_they_are_where_speech_of_that_pitch_has_them(pitch):
    """A voice with formants and noise, whose envelope is taken away."""
    t = torch.arange(8000) / SAMPLE_RATE
    voice = sum(math.exp(-k / 9) * torch.cos(2 * math.pi * pitch * k * t + k) for k in range(1, int(8000 / pitch)))
    voice = 0.1 * voice + 1e-3 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    mel, _ = LogMel()(voice[None], torch.tensor([8000]))
    found = mel[0, :35, 10]
    kernel = torch.ones(1, 1, 7) / 7
    detail = found - torch.nn.functional.conv1d(found[None, None], kernel, padding=3)[0, 0]
    drawn = Harmonics()(torch.full((1, 1, 1), pitch).log())[0, :35, 0]
    drawn = drawn - torch.nn.functional.conv1d(drawn[None, None], kernel, padding=3)[0, 0]
    likeness = torch.corrcoef(torch.stack([detail[4:-4], drawn[4:-4]]))[0, 1]
    assert likeness > 0.7


def test_any_pitch_is_drawn_and_gradients_pass():
    network = Harmonics()
    pitch = torch.tensor([1.0, LOWEST, 200.0, HIGHEST, 5000.0]).log().view(1, 1, 5).requires_grad_()
    drawn = network(pitch)
    assert drawn.shape == (1, 80, 5) and torch.isfinite(drawn).all()
    assert torch.equal(drawn[..., 0], drawn[..., 1]) and torch.equal(drawn[..., 3], drawn[..., 4])
    assert torch.allclose(drawn[0, :, 3], network.table[STEPS - 1], atol=1e-4)
    drawn.square().sum().backward()
    assert pitch.grad[0, 0, 2] != 0


def test_it_adds_nothing_to_what_is_saved():
    assert not Harmonics().state_dict()
