"""What headers promise against what files hold, in every container that says; files are made by hand from good ones."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from psegan.common.errors import PseganError
from psegan.speech.audio import AudioReader, read_audio
from psegan.speech.containers import Spliced

SAMPLES = np.random.default_rng(0).integers(-16_000, 16_000, 24_000, dtype=np.int16)


def made(format: str, subtype: str = "PCM_16", samples: np.ndarray = SAMPLES, **kwargs) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, subtype, format=format, **kwargs)
    return file.getvalue()


def put(folder: Path, content: bytes) -> Path:
    path = folder / "x.bin"
    path.write_bytes(content)
    return path


def replaced(content: bytes, at: int, value: int, width: int, order: str) -> bytes:
    return content[:at] + value.to_bytes(width, order) + content[at + width :]  # type: ignore[arg-type]


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


SIZES = {  # where the size of the samples stands, how wide it is, and what it counts beside the samples
    "WAV": lambda content: (content.index(b"data") + 4, 4, "little", 0),
    "WAVEX": lambda content: (content.index(b"data") + 4, 4, "little", 0),
    "RIFX": lambda content: (content.index(b"data") + 4, 4, "big", 0),
    "RF64": lambda content: (28, 8, "little", 0),
    "W64": lambda content: (content.index(b"data") + 16, 8, "little", 24),
    "AIFF": lambda content: (content.index(b"SSND") + 4, 4, "big", 8),
    "CAF": lambda content: (content.index(b"data") + 4, 8, "big", 4),
    "AU": lambda content: (8, 4, "big", 0),
    "SVX": lambda content: (content.index(b"BODY") + 4, 4, "big", 0),
}


def of(container: str) -> bytes:
    return made("WAV", endian="BIG") if container == "RIFX" else made(container)


@pytest.mark.parametrize("container", SIZES)
def test_a_recording_that_is_cut_short_is_refused(tmp_path, container):
    content = of(container)
    assert len(read_audio(put(tmp_path, content))) == 24_000
    at, width, order, extra = SIZES[container](content)
    size = int.from_bytes(content[at : at + width], order)
    assert size == 48_000 + extra, "the table above is wrong"
    begin = content.index(SAMPLES[:4].astype(">i2" if order == "big" else "<i2").tobytes())
    with pytest.raises(PseganError, match=r"x.bin: is cut short \(10000 of 24000 samples are there\); replace it"):
        AudioReader(put(tmp_path, content[: begin + 20_000]))
    with pytest.raises(PseganError, match=r"is cut short \(23999 of 24000 samples are there\)"):
        AudioReader(put(tmp_path, content[: begin + 47_999]))


@pytest.mark.parametrize("container", SIZES)
@pytest.mark.parametrize("marker", ["0", "7FFFF000", "7FFFFFFF", "FFFFFFFF"])
def test_a_size_that_means_to_the_end(tmp_path, container, marker):
    content = of(container)
    at, width, order, _ = SIZES[container](content)
    value = int(marker, 16) if width == 4 or marker == "0" else (1 << 64) - 1
    if container != "RF64":
        content = replaced(content, at, value, width, order)
    else:
        content = replaced(replaced(content, at, value, width, order), 36, 0, 8, order)
    expected = read_audio(put(tmp_path, of(container)))
    waveform = read_audio(put(tmp_path, content))
    # what follows the samples cannot be told from them: W64 and CAF files of libsndfile have nothing there, others may
    torch.testing.assert_close(waveform[:24_000], expected, rtol=0, atol=0)
    assert len(waveform) - 24_000 <= 16


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_every_codec_of_wav_files(tmp_path, subtype):
    content = made("WAV", subtype)
    frames = len(read_audio(put(tmp_path, content)))
    assert frames >= 24_000
    with pytest.raises(PseganError, match="is cut short"):
        AudioReader(put(tmp_path, content[: len(content) * 3 // 4]))
    with pytest.raises(PseganError, match="is cut short"):
        AudioReader(put(tmp_path, content[:-400]))


@pytest.mark.parametrize(
    "tail",
    [
        b"x", bytes(5_000), b"\0" + b"TAG" + b"title".ljust(125), chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"Lavf59.27")),
        chunk(b"cue ", bytes(3)) + chunk(b"bext", b"A" * 2_000), b"\xf0\x9f" * 200,
    ],
    ids=["odd byte", "zeros", "tag", "list", "chunks", "few bytes"],
)  # fmt: skip
def test_what_follows_the_samples_is_no_fault(tmp_path, tail):
    assert len(read_audio(put(tmp_path, of("WAV") + tail))) == 24_000


def test_chunks_before_the_samples(tmp_path):
    content = of("WAV")
    content = content[:36] + chunk(b"odd_", b"abc") + chunk(b"LIST", b"INFO") + content[36:]
    assert len(read_audio(put(tmp_path, content))) == 24_000
    with pytest.raises(PseganError, match="cut short"):
        read_audio(put(tmp_path, content[:-2_000]))


def test_an_odd_size_whose_padding_is_missing(tmp_path):
    content = made("WAV", "PCM_U8", SAMPLES[:20_001])
    assert len(content) % 2 == 0, "libsndfile writes the padding"
    assert len(read_audio(put(tmp_path, content[:-1]))) == 20_001
    assert len(read_audio(put(tmp_path, content[:-1] + chunk(b"LIST", bytes(2_000))))) == 20_001
    wide = of("WAV")
    odd = replaced(wide, wide.index(b"data") + 4, 48_001, 4, "little")
    assert len(read_audio(put(tmp_path, odd))) == 24_000, "half a sample is no loss"


@pytest.mark.parametrize("container", ["WAV", "RIFX", "RF64", "AIFF", "CAF", "AU"])
def test_a_header_that_promises_less_than_there_is(tmp_path, container):
    """As of a recorder that was switched off: what it had not yet noted would be lost without a word."""
    content = of(container)
    at, width, order, extra = SIZES[container](content)
    with pytest.raises(PseganError, match=r"x.bin: goes on for \d+ bytes after what its header speaks of"):
        AudioReader(put(tmp_path, replaced(content, at, 12_000 + extra, width, order)))


def test_more_samples_in_another_chunk(tmp_path):
    content = of("WAV")
    with pytest.raises(PseganError, match="goes on for 48008 bytes"):
        AudioReader(put(tmp_path, content + content[content.index(b"data") :]))


def test_nist_files_count_samples(tmp_path):
    content = made("NIST")
    assert b"sample_count -i 24000" in content
    assert len(read_audio(put(tmp_path, content))) == 24_000
    with pytest.raises(PseganError, match=r"is cut short \(10000 of 24000 samples are there\)"):
        AudioReader(put(tmp_path, content[: 1_024 + 20_000]))


@pytest.mark.parametrize(("stated", "result"), [(0, 24_000), (6_000, 24_000), (48_000, "24000 of 48000")])
def test_flac_files_are_read_to_their_end(tmp_path, stated, result):
    content = made("FLAC")
    packed = int.from_bytes(content[18:26], "big")
    assert packed & (1 << 36) - 1 == 24_000
    path = put(tmp_path, replaced(content, 18, packed - 24_000 + stated, 8, "big"))
    if isinstance(result, int):
        torch.testing.assert_close(read_audio(path), read_audio(put(tmp_path / "..", content)), rtol=0, atol=0)
    else:
        with pytest.raises(PseganError, match=result):
            read_audio(path)
    with pytest.raises(PseganError, match=r"x.bin: cannot be read as audio|is cut short"):
        read_audio(put(tmp_path, path.read_bytes()[: len(content) // 2]))


def test_ogg_files_that_are_not_whole(tmp_path):
    content = made("OGG", "VORBIS", np.tile(SAMPLES, 4))
    assert len(read_audio(put(tmp_path, content))) == 96_000
    for length in (len(content) // 2, len(content) - 1):
        with pytest.raises(PseganError, match="is cut short"):
            AudioReader(put(tmp_path, content[:length]))
    with pytest.raises(PseganError, match="holds several recordings one after another"):
        AudioReader(put(tmp_path, content + content))
    damaged = bytearray(content)
    damaged[-200] ^= 1  # libsndfile leaves out the whole page
    with pytest.raises(PseganError, match="is damaged, so that part of it would not be read"):
        AudioReader(put(tmp_path, bytes(damaged)))


def test_spliced_pieces_are_one_file(tmp_path):
    path = put(tmp_path, bytes(range(100)))
    whole = bytes(range(10)) + b"abc" + bytes(range(50, 60))
    with Spliced(path, [range(10), b"abc", range(50, 60)]) as file:
        assert file.read() == whole
        for begin in range(len(whole) + 2):
            for size in (1, 4, 30):
                file.seek(begin)
                assert file.read(size) == whole[begin : begin + size]
        assert file.seek(-2, 2) == len(whole) - 2 and file.read() == whole[-2:]


@pytest.mark.parametrize(
    "tail", [b"TAG" + b"title".ljust(125), bytes(5_000), bytes(40)], ids=["tag", "zeros", "few zeros"]
)
def test_what_follows_flac_is_no_fault(tmp_path, tail):
    content = of("FLAC")
    assert torch.equal(read_audio(put(tmp_path, content + tail)), read_audio(put(tmp_path, content)))
    ape = b"APETAGEX" + struct.pack("<IIII", 2_000, 40, 0, 1 << 31) + bytes(8)
    assert len(read_audio(put(tmp_path, content + ape + b"item" * 2 + ape))) == 24_000


@pytest.mark.parametrize("more", [0, -8])
def test_the_size_of_the_file_in_place_of_the_samples(tmp_path, more):
    content = of("WAV")
    assert len(read_audio(put(tmp_path, replaced(content, 40, len(content) + more, 4, "little")))) == 24_000
    with pytest.raises(PseganError, match="is cut short"):
        read_audio(put(tmp_path, replaced(content, 40, len(content) + more + 2, 4, "little")))


def test_an_ogg_stream_whose_last_page_is_missing(tmp_path):
    content = made("OGG", "VORBIS")
    assert len(read_audio(put(tmp_path, content))) == 24_000
    with pytest.raises(PseganError, match="its last page is missing"):
        read_audio(put(tmp_path, content[: content.rindex(b"OggS")]))


def test_mp3_that_begins_within_a_frame(tmp_path):
    """As a part of a longer recording does."""
    content = made("MP3", "MPEG_LAYER_III")
    path = tmp_path / "x.mp3"
    for before in (content[200:700], b"\0" * 300):
        path.write_bytes(before + content)
        assert len(read_audio(path)) >= 24_000
    path.write_bytes(content[300:])
    assert len(read_audio(path)) >= 24_000 - 2 * 576
