"""Count the frames of an MPEG stream (MP3), whose number its header may lack or have wrong."""

from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""MPEG version (2 is also 2.5) and layer → kbit/s of the bit rate's index, from 1 (ISO 11172-3 and 13818-3)."""
_RATES = (44_100, 48_000, 32_000)
_CHAIN = 3
"""Frames in a row that are taken for speech after bytes that are none: a picture in a tag may look like one or two."""
_SCAN = 1 << 16
"""Bytes that are searched at once."""


class Frame(NamedTuple):
    """What the four bytes at a frame's beginning say."""

    kind: tuple[int, int, int, bool]
    """Version times 10, layer, rate in Hz, and whether it is mono: all of a stream's frames share these."""
    length: int
    """Bytes, with these four."""
    checked: bool
    """Whether two bytes of a check sum follow."""

    @property
    def samples(self) -> int:
        """Samples of each channel."""
        version, layer = self.kind[:2]
        return {1: 384, 2: 1_152, 3: 1_152 if version == 10 else 576}[layer]

    @property
    def side(self) -> int:
        """Bytes of header and side information, after which layer III has its main data."""
        version, mono = self.kind[0], self.kind[3]
        return 4 + 2 * self.checked + ((17 if mono else 32) if version == 10 else (9 if mono else 17))


class Stream(NamedTuple):
    """The frames of a stream, but for a first one that only describes it."""

    frames: int
    promised: int | None
    """Number of frames that the stream itself states."""
    samples: int
    """Samples of each channel in a frame."""
    end: int
    """Where its last whole frame ends."""
    torn: bool
    """Whether it ends within a frame."""
    mixed: bool
    """Whether frames of another kind follow, which no decoder would join to the others."""
    pieces: tuple[bytes | range, ...]
    """The same stream with the true number, as bytes and parts of the file."""


@lru_cache(256)
def parse_header(word: bytes) -> Frame | None:
    """A frame's header of four bytes; None if these are none, or of a free bit rate, which has no length."""
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE0 != 0xE0:
        return None
    version = {0: 25, 2: 20, 3: 10}.get(word[1] >> 3 & 3)
    layer, bitrate, rate = 4 - (word[1] >> 1 & 3), word[2] >> 4, word[2] >> 2 & 3
    if version is None or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    hertz = _RATES[rate] // {10: 1, 20: 2, 25: 4}[version]
    bits = 1_000 * _BITRATES[1 if version == 10 else 2, layer][bitrate - 1]
    slots = (12 if layer == 1 else 72 if layer == 3 and version != 10 else 144) * bits // hertz + (word[2] >> 1 & 1)
    return Frame((version, layer, hertz, word[3] >> 6 == 3), slots * (4 if layer == 1 else 1), not word[1] & 1)


def count_frames(file: BinaryIO, start: int, end: int) -> Stream | None:
    """Count the frames between two offsets of a file, in constant memory; None if no frames of known length are there."""
    places = _frames(file, start, end)
    found = next(places, None)
    if found is None:
        return None
    begin, first = found
    promised, head = _description(at_offset(file, begin, first.length), first)
    frames, stop, torn, mixed = int(promised is None), begin + first.length, False, False
    for place, frame in places:
        if frame.kind != first.kind:
            mixed = True
        elif place + frame.length > end:
            torn = True
        else:
            frames, stop = frames + 1, place + frame.length
    pieces: tuple[bytes | range, ...] = (range(begin, stop),)
    if frames != promised and first.kind[1] == 3:
        audio = range(begin + (0 if promised is None else first.length), stop)
        pieces = _describe(first, head, frames, len(audio)), audio
    return Stream(frames, promised, first.samples, stop, torn, mixed, pieces)


def at_offset(file: BinaryIO, place: int, size: int) -> bytes:
    """Bytes of a file from an offset on, fewer at its end."""
    file.seek(place)
    return file.read(size)


def _frames(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, Frame]]:
    """Offsets and headers of all frames, of which the last may reach beyond the end; what lies between is left out."""
    place, first, expected = start, None, start
    while place < end:
        frame = parse_header(at_offset(file, place, 4))
        follows = first is not None and frame is not None and frame.kind == first.kind and place == expected
        if frame is not None and (follows or _chain(file, place, end, first is None)):
            yield place, frame
            first = first or frame
            expected = place = place + frame.length
        else:
            scanned = at_offset(file, place + 1, min(_SCAN, end - place - 1))
            found = scanned.find(b"\xff")
            place += 1 + (found if found >= 0 else len(scanned))


def _chain(file: BinaryIO, place: int, end: int, few: bool) -> bool:
    """Whether several frames of one kind follow one another here, or perhaps only few if there are no more."""
    kinds = set()
    for _ in range(_CHAIN):
        frame = parse_header(at_offset(file, place, 4))
        if frame is None or (place + frame.length > end and not few):
            return False
        kinds.add(frame.kind)
        place += frame.length
        if few and place >= end:
            break
    return len(kinds) == 1


def _description(frame: bytes, about: Frame) -> tuple[int | None, bytes]:
    """The number of frames that a first frame states (0 if it only says other things), and that frame.

    It is one of Xing's, which LAME has made everybody's, or of Fraunhofer's (VBRI).
    """
    xing = frame[about.side : about.side + 12]
    if len(xing) == 12 and xing[:4] in (b"Xing", b"Info"):
        return int.from_bytes(xing[8:12], "big") if xing[7] & 1 else 0, frame if xing[7] & 1 else b""
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big"), b""
    return None, b""


def _describe(first: Frame, head: bytes, frames: int, size: int) -> bytes:
    """A first frame that states the number of frames and of bytes: ``head`` corrected, or a new one."""
    if not head:
        version, _, hertz, mono = first.kind
        rate = _RATES.index(hertz * {10: 1, 20: 2, 25: 4}[version])
        second = 0xE3 | {25: 0, 20: 2, 10: 3}[version] << 3
        head = bytes([0xFF, second, (5 if version == 10 else 8) << 4 | rate << 2, 0xC0 if mono else 0])  # 64 kbit/s
    about = parse_header(head[:4])
    assert about is not None
    made = bytearray(head.ljust(about.length, b"\0"))
    if len(head) == 4:
        made[about.side : about.side + 8] = b"Info" + (3).to_bytes(4, "big")
    made[about.side + 8 : about.side + 12] = frames.to_bytes(4, "big")
    if made[about.side + 7] & 2:  # where it is wrong, mpg123 says so on stderr
        made[about.side + 12 : about.side + 16] = (len(made) + size).to_bytes(4, "big")
    return bytes(made)
