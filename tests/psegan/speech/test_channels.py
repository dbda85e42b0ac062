"""Channels that cancel are found, whatever else is in them, and all others are averaged."""

import pytest
import soundfile
import torch

from psegan.speech.audio import AudioReader, read_audio
from psegan.speech.channels import compare_channels

RATE = 16_000


def voice(seconds: float = 4.0, seed: int = 0, rate: int = RATE, pitch: float = 120.0) -> torch.Tensor:
    """Harmonics and some noise, in syllables."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * rate)) / rate
    harmonics = torch.arange(1, 20)
    phases = torch.rand(19, generator=generator) * 6.28
    voiced = (torch.sin(6.2832 * pitch * harmonics * time[:, None] + phases) / harmonics).sum(1)
    syllables = torch.sin(6.2832 * 2 * time + seed).clamp(min=0)
    return 0.1 * (voiced + 0.1 * torch.randn(len(time), generator=generator)) * syllables


def hiss(like: torch.Tensor, level: float, seed: int) -> torch.Tensor:
    return level * torch.randn(len(like), generator=torch.Generator().manual_seed(seed))


def taken(*channels: torch.Tensor, rate: int = RATE) -> int | None:
    return compare_channels(torch.stack(channels, 1).split(30 * rate), rate).loudest_of_cancelling


ONE, OTHER = voice(), voice(seed=1, pitch=210.0)
HALF = torch.cat([torch.ones(len(ONE) // 2), torch.zeros(len(ONE) // 2)])


@pytest.mark.parametrize(
    ("channels", "loudest"),
    [
        ((ONE, -ONE), 0), ((-0.9 * ONE, ONE), 1), ((0.8 * ONE, -ONE), 1),
        ((ONE + hiss(ONE, 0.003, 2), -0.9 * ONE + hiss(ONE, 0.003, 3)), 0),
        ((ONE + 0.3, -0.9 * ONE + 0.3), 0),
        ((0.2 * OTHER + ONE, 0.2 * OTHER - 0.9 * ONE), 0),
        ((ONE, 0.9 * torch.where(HALF > 0, ONE, -ONE)), 0),
        ((ONE, -0.9 * ONE, 0.3 * OTHER, 0.2 * OTHER), 0),
        ((torch.zeros_like(ONE), ONE, -0.9 * ONE), 1),
    ],
    ids=["exactly", "weaker", "even weaker", "noise", "offset", "common", "half of the time", "two of four", "two of three"],
)  # fmt: skip
def test_channels_that_cancel(channels, loudest):
    assert taken(*channels) == loudest


@pytest.mark.parametrize(
    "channels",
    [
        (ONE, ONE), (ONE, OTHER), (ONE, 0.5 * ONE), (ONE, torch.zeros_like(ONE)), (ONE * HALF, OTHER * (1 - HALF)),
        (ONE + 0.3, ONE - 0.3), (ONE, -0.3 * ONE), (ONE, OTHER - 0.03 * ONE), (ONE, ONE.roll(11)),
        (torch.zeros_like(ONE), torch.zeros_like(ONE)), (ONE, OTHER, ONE, ONE + OTHER, OTHER), (ONE[:1], -ONE[:1]),
        (hiss(ONE, 0.1, 1), hiss(ONE, 0.1, 2)),
    ],
    ids=[
        "the same", "two voices", "quieter", "an empty one", "turns", "offsets", "a weak inverse", "cross-talk", "late",
        "silence", "five", "one sample", "noise",
    ],
)  # fmt: skip
def test_channels_whose_mean_holds_everything(channels):
    assert taken(*channels) is None


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 192_000])
def test_every_rate(rate):
    speech = voice(2.0, rate=rate)
    assert taken(speech, -speech, rate=rate) == 0
    assert taken(speech, speech, rate=rate) is None


def test_equal_channels_are_told():
    assert compare_channels([torch.stack([ONE, ONE], 1)], RATE).equal
    later = torch.cat([ONE[:-1], ONE[-1:] + 1e-4])
    assert not compare_channels(torch.stack([ONE, later], 1).split(9_000), RATE).equal


def test_long_recordings_are_compared_as_a_whole(tmp_path, monkeypatch):
    """Their first part may be fine."""
    speech = voice(8.0)
    sign = torch.where(torch.arange(len(speech)) < 4 * RATE, 1.0, -1.0)
    soundfile.write(tmp_path / "x.wav", torch.stack([0.5 * speech, sign * 0.5 * speech], 1).numpy(), RATE, "FLOAT")
    monkeypatch.setattr("psegan.speech.audio.BLOCK_SECONDS", 1)
    with pytest.warns(UserWarning, match=r"x.wav: channels cancel one another, so that only channel \d, the loudest"):
        waveform = read_audio(tmp_path / "x.wav")
    assert torch.equal(waveform, 0.5 * speech) or torch.equal(waveform, sign * 0.5 * speech)


def test_one_channel_of_several(tmp_path):
    soundfile.write(tmp_path / "x.wav", torch.stack([ONE, OTHER], 1).numpy(), RATE, "FLOAT")
    for channel, expected in enumerate((ONE, OTHER)):
        reader = AudioReader(tmp_path / "x.wav", channel)
        assert reader.channels == 2
        assert torch.equal(torch.cat(list(reader.blocks())), expected)
    torch.testing.assert_close(read_audio(tmp_path / "x.wav"), (ONE + OTHER) / 2)
