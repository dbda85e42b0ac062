"""Silence at the ends of recordings is cut; soft beginnings and pauses stay."""

import torch

from psegan.speech.edges import MARGIN, STEP, trimmed


def test_silence_at_the_ends_is_cut_and_pauses_stay():
    random = torch.Generator().manual_seed(0)
    noise = 1e-4 * torch.randn(48_000, generator=random)
    speech = torch.randn(8000, generator=random)
    waveform = noise.clone()
    waveform[16_000:24_000] += speech
    waveform[28_800:32_000] += speech[:3200]
    kept = trimmed(waveform)
    assert torch.equal(kept, waveform[16_000 - MARGIN * STEP : 32_000 + MARGIN * STEP])


def test_what_has_no_edges_stays():
    for waveform in (
        torch.zeros(5000),
        torch.ones(STEP - 1),
        torch.randn(4000, generator=torch.Generator().manual_seed(1)),
    ):
        assert torch.equal(trimmed(waveform), waveform)
