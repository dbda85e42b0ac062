"""MP3 files whose header is absent or wrong, made of good ones."""

import io
import struct
from functools import cache

import numpy as np
import soundfile

from psegan.speech.mpeg import parse_header

FRAMES, FRAME = 58, 576
SAMPLES = 32_000


@cache
def mp3(rate: int = 16_000, channels: int = 1) -> bytes:
    """Two seconds (at 16 kHz) of variable bit rate, loud at the beginning, so that later frames are shorter."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLES) * np.repeat([1, 1e-4, 0.1, 1e-4], SAMPLES // 4)
    file = io.BytesIO()
    kwargs = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
    soundfile.write(file, np.stack([noise] * channels, 1), rate, "MPEG_LAYER_III", format="MP3", **kwargs)
    return file.getvalue()


def naked(content: bytes) -> bytes:
    """Without the first frame, which describes the others."""
    first = parse_header(content[:4])
    assert first is not None and b"Xing" in content[: first.length]
    return content[first.length :]


def counting(content: bytes, frames: int) -> bytes:
    at = content.index(b"Xing") + 8
    return content[:at] + frames.to_bytes(4, "big") + content[at + 4 :]


def wave(stream: bytes, rate: int = 16_000, channels: int = 1, size: int | None = None) -> bytes:
    """A WAV file with an MPEG stream, as FFmpeg writes it."""
    about = struct.pack("<HHIIHHHHIHHH", 0x55, channels, rate, 4_000, FRAME, 0, 12, 1, 2, FRAME, 1, 1_105)
    body = b"WAVEfmt " + struct.pack("<I", len(about)) + about + b"fact" + struct.pack("<II", 4, 33_333)
    body += b"data" + struct.pack("<I", len(stream) if size is None else size) + stream
    return b"RIFF" + struct.pack("<I", len(body)) + body
