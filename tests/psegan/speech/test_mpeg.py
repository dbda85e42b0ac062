"""MP3 files whose number of frames is absent or wrong, alone and within WAV files."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from psegan.common.errors import PseganError
from psegan.speech.audio import AudioReader, read_audio
from psegan.speech.mpeg import count_frames
from tests.support.mpeg import FRAME, FRAMES, SAMPLES, counting, mp3, naked, wave


def put(folder: Path, content: bytes, name: str = "x.mp3") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 12_000, 16_000, 22_050, 32_000, 44_100, 48_000])
def test_frames_are_counted(rate, channels):
    content = mp3(rate, channels)
    stream = count_frames(io.BytesIO(content), 0, len(content))
    assert stream is not None and stream.frames == stream.promised
    assert stream.samples == (FRAME if rate < 32_000 else 2 * FRAME)
    assert stream.frames * stream.samples - SAMPLES in range(4_096)
    without = naked(content)
    stream = count_frames(io.BytesIO(without), 0, len(without))
    assert stream is not None and stream.promised is None


@pytest.mark.parametrize("count", [0, FRAMES // 4, FRAMES - 1, FRAMES, FRAMES + 1])
def test_a_wrong_count_loses_nothing(tmp_path, count, capfd):
    expected = read_audio(put(tmp_path, mp3()))
    assert len(expected) == SAMPLES
    torch.testing.assert_close(read_audio(put(tmp_path, counting(mp3(), count))), expected, rtol=0, atol=0)
    assert capfd.readouterr().err == "", "mpg123 complains"


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [11_025, 16_000, 44_100])
def test_no_count_loses_nothing(tmp_path, rate, channels, capfd):
    """The decoder would guess from the first frame's length, and stop there."""
    content = naked(mp3(rate, channels))
    assert soundfile.info(put(tmp_path, content)).frames < 0.9 * SAMPLES, "the guess is right, so this tests nothing"
    reader = AudioReader(put(tmp_path, content))
    assert len(torch.cat(list(reader.blocks()))) * rate // 16_000 - SAMPLES in range(4_096)
    assert capfd.readouterr().err == "", "mpg123 complains"


def test_what_lies_around_the_frames(tmp_path):
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + b"\xff\xfb\x90\x64" * 64
    picture = np.random.default_rng(1).bytes(100_000)
    expected = read_audio(put(tmp_path, mp3()))
    footer = b"APETAGEX".ljust(32, b"\0") + b"TAG".ljust(128)
    for content in (tag + mp3(), mp3() + b"TAG".ljust(128), tag + counting(mp3(), 5) + picture + footer):
        torch.testing.assert_close(read_audio(put(tmp_path, content)), expected, rtol=0, atol=0)
    with pytest.raises(PseganError, match="goes on for 100000 bytes"):
        AudioReader(put(tmp_path, mp3() + picture))


def test_two_files_one_after_the_other(tmp_path):
    twice = read_audio(put(tmp_path, mp3() + mp3()))
    assert len(twice) - 2 * SAMPLES in range(4_096)
    assert twice[SAMPLES + 2_000 :][:6_000].std() > 0.1, "the second is there"
    for other in (mp3(44_100), mp3(16_000, 2)):
        with pytest.raises(PseganError, match="changes its rate or its channels midway"):
            AudioReader(put(tmp_path, mp3() + other))


def test_a_file_that_is_cut_short(tmp_path):
    half = mp3()[: len(mp3()) // 2]
    with pytest.raises(PseganError, match=rf"is cut short \(\d+ of {FRAMES * FRAME} samples are there\)"):
        AudioReader(put(tmp_path, half))
    with pytest.raises(PseganError, match=r"is cut short \(it ends in the middle of a frame\)"):
        AudioReader(put(tmp_path, naked(mp3())[:-20]))
    with pytest.raises(PseganError, match="samples are there"):
        AudioReader(put(tmp_path, counting(mp3(), 2 * FRAMES)))


def test_a_stream_within_a_wav_file(tmp_path):
    expected = read_audio(put(tmp_path, naked(mp3())))
    for content in (wave(naked(mp3())), wave(naked(mp3()), size=0), wave(naked(mp3())) + b"LIST\4\0\0\0INFO"):
        reader = AudioReader(put(tmp_path, content, "x.wav"))
        assert (reader.format, reader.subtype, reader.rate) == ("WAV", "MPEG_LAYER_III", 16_000)
        torch.testing.assert_close(torch.cat(list(reader.blocks())), expected, rtol=0, atol=0)
    with pytest.raises(PseganError, match="is cut short"):
        AudioReader(put(tmp_path, wave(naked(mp3()))[:-2_000], "x.wav"))


def test_blocks_of_a_stream_are_the_whole(tmp_path, monkeypatch):
    """A frame needs what is in the ones before it, which a decoder that seeks between blocks has lost."""
    path = put(tmp_path, mp3())
    with soundfile.SoundFile(path) as file:
        expected = torch.from_numpy(file.read(dtype="float32"))
    monkeypatch.setattr("psegan.speech.audio.BLOCK_SECONDS", 1)
    torch.testing.assert_close(read_audio(path), expected, rtol=0, atol=0)
