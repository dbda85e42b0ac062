"""The front-end: reading, resampling, log-mel, MFCC and the scaler."""

import math

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.speech.audio import (
    MFCC,
    LogMel,
    UnitScaler,
    audio_writer,
    frame_lengths,
    read_audio,
    resample,
    resample_blocks,
    write_audio,
)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(samples, generator=torch.Generator().manual_seed(seed)) * 1.8 - 0.9


def tone(frequency: float, rate: int, seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate  # the phase of float32 is noise of -60 dB
    return (0.5 * torch.sin(2 * math.pi * frequency * time)).float()


def test_log_mel_is_the_public_hifigan_convention():
    waveform = noise(16000)
    reference = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=1024, win_length=1024, hop_length=256, n_mels=80, f_min=0.0, f_max=8000.0, power=1.0,
        norm="slaney", mel_scale="slaney",
    )(waveform).clamp(min=1e-5).log()  # fmt: skip
    ours, frames = LogMel()(waveform.unsqueeze(0), torch.tensor([16000]))
    assert ours.shape == (1, 80, 63)
    assert frames.tolist() == [63]
    # the edges differ: zeros instead of a reflection
    torch.testing.assert_close(ours[0, :, 2:-2], reference[:, 2:-2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("front_end", [LogMel(), MFCC(), MFCC(13)])
def test_padding_changes_nothing(front_end):
    short, long = noise(5003), noise(9000, seed=1)
    batch = torch.stack([F.pad(short, (0, 9000 - 5003)), long])
    together, frames = front_end(batch, torch.tensor([5003, 9000]))
    alone, alone_frames = front_end(short.unsqueeze(0), torch.tensor([5003]))
    assert frames[0] == alone_frames[0] == alone.shape[-1]
    torch.testing.assert_close(together[:1, :, : frames[0]], alone)


def test_log_mel_padding_is_the_floor():
    mel, frames = LogMel()(torch.zeros(1, 4000), torch.tensor([1000]))
    assert frames.tolist() == [4]
    torch.testing.assert_close(mel, torch.full_like(mel, math.log(1e-5)))


def test_frame_lengths_are_those_of_the_transform():
    for samples in (1, 255, 256, 257, 16000):
        mel, frames = LogMel()(torch.zeros(1, samples), torch.tensor([samples]))
        assert mel.shape[-1] == int(frames) == int(frame_lengths(torch.tensor(samples)))


def test_mfcc_is_torchaudios_after_pre_emphasis():
    waveform = noise(8000)
    reference = torchaudio.transforms.MFCC(
        16000, n_mfcc=20, log_mels=True,
        melkwargs={"n_fft": 1024, "hop_length": 256, "n_mels": 32, "f_min": 0.0, "f_max": 8000.0},
    )(torchaudio.functional.preemphasis(waveform, 0.97))  # fmt: skip
    ours, _ = MFCC(20)(waveform.unsqueeze(0), torch.tensor([8000]))
    torch.testing.assert_close(ours[0, :, 2:-2], reference[:, 2:-2], rtol=1e-3, atol=1e-3)


def test_scaler_inverts_exactly_and_full_scale_fits():
    scaler = UnitScaler()
    loudest = torch.stack([torch.ones(16000), tone(440, 16000), tone(1000, 16000).sign(), noise(16000).sign()])
    mel, _ = LogMel()(loudest, torch.full((4,), 16000))
    scaled = scaler(mel)
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    torch.testing.assert_close(scaler.inverse(scaled), mel, rtol=0, atol=1e-5)
    assert scaler(torch.tensor(math.log(1e-5))) == 0


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(rate):
    resampled = resample(tone(1000, rate), rate, 16000)
    expected = tone(1000, 16000)
    assert len(resampled) == len(expected)
    torch.testing.assert_close(resampled[500:-500], expected[500:-500], rtol=0, atol=2e-3)


def test_resampling_rejects_what_would_alias():
    assert resample(tone(11000, 48000), 48000, 16000)[500:-500].abs().max() < 1e-5


def test_reading_mixes_down_and_resamples(tmp_path):
    left, right = tone(500, 48000), tone(1500, 48000)
    soundfile.write(tmp_path / "x.wav", torch.stack([left, right], 1).numpy(), 48000)
    waveform = read_audio(tmp_path / "x.wav")
    expected = (tone(500, 16000) + tone(1500, 16000)) / 2
    assert waveform.dtype == torch.float32
    torch.testing.assert_close(waveform[500:-500], expected[500:-500], rtol=0, atol=2e-3)


def test_writing_and_reading_back(tmp_path):
    for ending in ("wav", "flac"):
        write_audio(tmp_path / "sub" / f"x.{ending}", noise(1000))
        torch.testing.assert_close(read_audio(tmp_path / "sub" / f"x.{ending}"), noise(1000), rtol=0, atol=1e-4)
    assert len(list((tmp_path / "sub").iterdir())) == 2, "temporary files are left"


def test_bad_recordings_are_named(tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), 16000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "odd.wav", np.zeros(10), 500)
    reasons = {"text": "cannot be read", "empty": "no samples", "nan": "NaN", "none": "no such", "odd": "500 Hz"}
    for name, reason in reasons.items():
        with pytest.raises(PseganError, match=reason) as caught:
            read_audio(tmp_path / f"{name}.wav")
        assert f"{name}.wav" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_published_format_and_the_copies_agree(corpora_root):
    published = sorted((corpora_root / "ravdess_48k").rglob("*.wav"))
    assert len(published) == 5
    for path in published:
        copy = read_audio((corpora_root / "ravdess" / path.parent.name / path.stem).with_suffix(".flac"))
        torch.testing.assert_close(read_audio(path), copy, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "rates", [(8_000, 16_000), (44_100, 16_000), (16_000, 44_100), (48_000, 16_000), (11_127, 16_000)]
)
@pytest.mark.parametrize("block", [37, 1_000, 30_000])
def test_resampling_in_blocks_is_resampling(rates, block):
    rate, new_rate = rates
    waveform = torch.randn(2 * rate + 17, generator=torch.Generator().manual_seed(0)) * 0.1
    whole = resample(waveform, rate, new_rate)
    pieces = torch.cat(list(resample_blocks(waveform.split(block), rate, new_rate)))
    assert pieces.shape == whole.shape
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-6)


def test_a_rate_without_a_simple_ratio_is_taken_for_a_near_one():
    assert abs(len(resample(torch.zeros(441_010), 44_101, 16_000)) - 160_000) <= 5


def test_a_format_that_has_no_such_rate_is_refused(tmp_path):
    with (
        pytest.raises(PseganError, match="cannot be written .*no rate of 16000 Hz"),
        audio_writer(tmp_path / "x.wve", 16_000, "WVE", "ALAW") as write,
    ):
        write(torch.zeros(16_000))
    assert list(tmp_path.iterdir()) == []
