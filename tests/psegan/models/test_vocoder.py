"""Vocoders: the interface, and that Griffin-Lim gives back what it was given."""

import torch
from torch.nn import functional as F

from psegan.audio import LogMel, UnitScaler
from psegan.models.vocoder import GriffinLim


def voice(samples: int, pitch: float = 150.0) -> torch.Tensor:
    time = torch.arange(samples) / 16000
    return sum(torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 20)) * 0.1


def test_copy_synthesis_keeps_the_spectrogram():
    waveform = voice(16000)
    front_end, lengths = LogMel(), torch.tensor([16000])
    mel, frames = front_end(waveform.unsqueeze(0), lengths)
    copy = GriffinLim()(mel, frames)
    assert copy.shape == (1, mel.shape[-1] * 256)
    again, _ = front_end(copy[:, :16000], lengths)
    scale = UnitScaler()
    assert (scale(again) - scale(mel)).abs().mean() < 0.03


def test_padding_changes_nothing_and_stays_silent():
    front_end, vocoder = LogMel(), GriffinLim(4)
    batch = torch.stack([F.pad(voice(6000), (0, 4000)), voice(10000, 210.0)])
    together = vocoder(*front_end(batch, torch.tensor([6000, 10000])))
    alone = vocoder(*front_end(voice(6000).unsqueeze(0), torch.tensor([6000])))
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone)
    assert (together[0, alone.shape[1] :] == 0).all()


def test_very_short_utterances():
    for samples in (1, 100, 257, 1000):
        mel, frames = LogMel()(voice(samples).unsqueeze(0), torch.tensor([samples]))
        waveform = GriffinLim(2)(mel, frames)
        assert waveform.shape == (1, int(frames) * 256)
        assert torch.isfinite(waveform).all()
