"""What the header of a recording promises, and what the file holds: libsndfile reads what is there and says nothing."""

import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from psegan.common.errors import PseganError
from psegan.speech.mpeg import at_offset, count_frames

_STREAMED = (0x7F00_0000, 0x7FFF_0000, 0x7FFF_F000, 0x7FFF_FFFF, 0xFFFF_FFFF)
"""Sizes of 32 bits that programs write who don't know the size (SoX, GStreamer, arecord, FFmpeg), and which mean "to the
end", up to the length of a header. So do 0, and sizes of 64 bits that no file has."""
_HEADER = 256
_PADDING = 512
"""Bytes after everything that the header speaks of that are nobody's concern, as what fills up a sector of a disk."""
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
"""How tags begin that players append to any file."""
_NAME = re.compile(rb"[ -~]{4}")
"""How a chunk's name begins."""
_MPEG = (0x50, 0x55)
"""Codecs of WAV files: MPEG layers I and II, and layer III."""
_MPEG_SUFFIXES = (".mp1", ".mp2", ".mp3", ".mpa", ".mpga")
"""Endings by which libsndfile knows a stream that begins within a frame, or after anything else."""
Order = Literal["little", "big"]


class Contents(NamedTuple):
    """What a header says of the samples, and what of them is there."""

    promised: int | None = None
    """How much there should be; None if the header doesn't say."""
    held: int | None = None
    """How much is there, in the same unit; None if only decoding tells, and the unit is samples then."""
    pieces: tuple[bytes | range, ...] = ()
    """Bytes, and parts of the file, that have to be read in its place so that all of it is read; empty if it is itself."""
    container: str | None = None
    """What is around a stream of another format, as soundfile names it."""

    def samples(self, read: int | None) -> int | None:
        """How many samples there should be, if libsndfile finds ``read``, at least one; None if that isn't known."""
        if self.promised is None:
            return read
        if self.held is None or read is None:
            return self.promised
        width = max(self.held // read, 1)
        if self.held // width == read:  # all are equally wide, and part of one more doesn't count
            return self.promised // width
        return read if self.promised == self.held else max(read * self.promised // self.held, read + 1)


def examine(path: Path) -> Contents:
    """Compare what the header of a recording promises with what the file holds; of some rare formats nothing is known.

    Raises:
        PseganError: the file ends within a frame or page, or goes on after what can be read of it.
        OSError: it cannot be read at all.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        start = _after_id3(file)
        magic = at_offset(file, start, 4)
        if magic == b"fLaC":
            return _examine_flac(file, start, end)
        if start:  # behind a tag stands nothing else but MPEG
            return _examine_mpeg(path, file, start, end)
        if magic in _LAYOUTS:
            return _examine_chunks(path, file, end, _LAYOUTS[magic])
        if magic in _AU:
            field = _Field(8, 4, _AU[magic])
            return _compare(path, file, end, int.from_bytes(at_offset(file, 4, 4), field.order), field)
        if magic == b"NIST":
            return _examine_nist(file, end)
        if magic == b"OggS":
            return _examine_ogg(path, file, end)
        if magic[:1] == b"\xff" or path.suffix.lower() in _MPEG_SUFFIXES:
            return _examine_mpeg(path, file, start, end)
    return Contents()


def cut_short(path: Path, reason: str) -> PseganError:
    """The error of a recording that isn't all there."""
    return PseganError(f"{path}: is cut short ({reason}); replace it by an intact copy")


class Spliced(io.RawIOBase):
    """Bytes and parts of a file, one after another, to be read as a file.

    Args:
        path: of the file.
        pieces: the bytes, and ranges of offsets in the file.
    """

    def __init__(self, path: Path, pieces: Sequence[bytes | range]) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._pieces = pieces
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: sum(map(len, self._pieces))}
        self._place = begin[whence] + offset
        return self._place

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        view, done, begin = memoryview(buffer).cast("B"), 0, 0
        for piece in self._pieces:
            offset = self._place - begin
            begin += len(piece)
            if 0 <= offset < len(piece):
                part = piece[offset : offset + len(view) - done]
                found = part if isinstance(part, bytes) else at_offset(self._file, part.start, len(part))
                view[done : done + len(found)] = found
                done += len(found)
                self._place += len(found)
        return done

    def close(self) -> None:
        self._file.close()
        super().close()


class _Layout(NamedTuple):
    """How chunks lie in a container."""

    order: Order
    data: dict[bytes, int]
    """Names of chunks with samples, and the bytes before the samples in them."""
    first: int = 12
    """Where the first chunk begins."""
    name: int = 4
    """Bytes of a chunk's name, of which the first four matter."""
    size: int = 4
    """Bytes of a chunk's size."""
    align: int = 2
    """Chunks begin at multiples of this."""
    counted: int = 0
    """Bytes of name and size that the size counts as well."""


_LAYOUTS = {
    b"RIFF": _Layout("little", {b"data": 0}),
    b"RIFX": _Layout("big", {b"data": 0}),
    b"RF64": _Layout("little", {b"data": 0}),
    b"riff": _Layout("little", {b"data": 0}, first=40, name=16, size=8, align=8, counted=24),
    b"FORM": _Layout("big", {b"SSND": 8, b"BODY": 0}),
    b"caff": _Layout("big", {b"data": 4}, first=8, size=8, align=1),
}
"""How files begin that consist of chunks: WAV, WAV of the other byte order, RF64, W64, AIFF or 8SVX, and CAF."""
_AU: dict[bytes, Order] = {b".snd": "big", b"dns.": "little"}


class _Field(NamedTuple):
    """Where the size of the samples stands."""

    at: int
    width: int
    order: Order
    extra: int = 0
    """Bytes that it counts beside the samples."""

    def read(self, file: BinaryIO) -> int | None:
        """The size of the samples in bytes; None if it means "to the end"."""
        size = int.from_bytes(at_offset(file, self.at, self.width), self.order)
        streamed = size >= 1 << 62 if self.width == 8 else any(abs(size - other) <= _HEADER for other in _STREAMED)
        return None if size <= self.extra or streamed else size - self.extra

    def replaced(self, size: int, end: int) -> tuple[bytes | range, ...]:
        """The pieces of a file whose field has another size."""
        return range(self.at), (size + self.extra).to_bytes(self.width, self.order), range(self.at + self.width, end)


class _Chunk(NamedTuple):
    name: bytes
    begin: int
    """Where its contents begin."""
    field: _Field


def _after_id3(file: BinaryIO) -> int:
    """Where the file begins behind a tag that stands before it."""
    tag = at_offset(file, 0, 10)
    if tag[:3] != b"ID3" or len(tag) < 10:
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)) + 10 * (tag[5] >> 4 & 1)


def _before_tags(file: BinaryIO, end: int) -> int:
    """Where the file ends but for the tags that players append (ID3v1, APE), and zeros that fill it up."""
    while True:
        footer = at_offset(file, max(end - 32, 0), 32)
        if at_offset(file, max(end - 128, 0), 3) == b"TAG":
            end -= 128
        elif footer.startswith(b"APETAGEX"):
            end -= int.from_bytes(footer[12:16], "little") + 32 * (footer[23] >> 7)
        elif footer == bytes(32):
            while end > 32 and at_offset(file, end - 32, 32) == bytes(32):
                end -= 32
            end -= len(last := at_offset(file, end - 32, 32)) - len(last.rstrip(b"\0"))
        else:
            return end


def _chunks(file: BinaryIO, place: int, end: int, layout: _Layout) -> Iterator[tuple[_Chunk, int]]:
    """The chunks from an offset on, as far as there are any, and where each ends."""
    head = layout.name + layout.size
    while place + head <= end:
        padding = -place % layout.align
        if padding and not _NAME.match(at_offset(file, place, 4)):  # some programs forget it
            place += padding
        found = at_offset(file, place, head)
        if not _NAME.match(found) or len(found) < head:
            return
        size = int.from_bytes(found[layout.name :], layout.order) - layout.counted
        field = _Field(place + layout.name, layout.size, layout.order, layout.counted)
        chunk = _Chunk(found[:4], place + head, field)
        place = chunk.begin + max(size, 0)
        yield chunk, place


def _examine_chunks(path: Path, file: BinaryIO, end: int, layout: _Layout) -> Contents:
    codec, long_size = 0, None
    for chunk, _ in _chunks(file, layout.first, end, layout):
        if chunk.name == b"fmt ":
            codec = int.from_bytes(at_offset(file, chunk.begin, 2), layout.order)
        elif chunk.name == b"ds64":  # has the sizes of RF64
            long_size = _Field(chunk.begin + 8, 8, layout.order)
        elif chunk.name in layout.data:
            break
    else:
        return Contents()
    before = layout.data[chunk.name]
    field = chunk.field._replace(extra=layout.counted + before)
    if long_size is not None and field.read(file) is None:
        field = long_size

    def after(place: int) -> int:
        for following, stop in _chunks(file, place, end, layout):
            if following.name in layout.data or following.name in _LAYOUTS:  # a second recording
                break
            place = stop
        return place

    contents = _compare(path, file, end, chunk.begin + before, field, after)
    if codec not in _MPEG or contents.held != contents.promised:
        return contents
    begin, held = chunk.begin + before, contents.held or 0
    return _examine_mpeg(path, file, begin, begin + held)._replace(container="WAV")


def _compare(
    path: Path, file: BinaryIO, end: int, begin: int, field: _Field, after: Callable[[int], int] = int
) -> Contents:
    """Compare a size with the samples from ``begin`` on; ``after`` says where what follows a place and is known ends."""
    held, promised = max(end - begin, 0), field.read(file)
    if promised is None:
        promised = held
    elif promised <= held:
        _refuse_more(path, file, after(begin + promised), end)
        return Contents(promised, promised)
    elif promised in (end, end - 8):  # some programs write the file's size, or RIFF's, and mean the samples
        promised = held
    # libsndfile takes some sizes that the file doesn't hold for the file's, some for none, and some for a fault
    return Contents(promised, held, field.replaced(held, end))


def _refuse_more(path: Path, file: BinaryIO, place: int, end: int) -> None:
    """Refuse a file that goes on after everything that its header speaks of, unless nobody could miss that."""
    if (
        end - place <= _PADDING
        or at_offset(file, place, 16).startswith(_TAGS)
        or b"APETAGEX" in at_offset(file, end - 160, 160)
    ):
        return
    file.seek(place)
    if any(block.strip(b"\0") for block in iter(lambda: file.read(1 << 16), b"")):
        raise PseganError(
            f"{path}: goes on for {end - place} bytes after what its header speaks of, which may be speech; "
            "repair the header, or replace it by an intact copy"
        )


def _examine_nist(file: BinaryIO, end: int) -> Contents:
    """A header of text, whose length is in its second line; libsndfile reads to the end, whatever it says."""
    head = at_offset(file, 0, 1024)
    numbers = {name: int(value) for name, value in re.findall(rb"(\w+) -\w+ (\d+)", head)}
    length = re.match(rb"NIST_1A\n *(\d+)\n", head)
    count, channels, width = (numbers.get(name) for name in (b"sample_count", b"channel_count", b"sample_n_bytes"))
    if not (count and channels and width and length):
        return Contents()
    return Contents(count * channels * width, min(end - int(length[1]), count * channels * width))


def _examine_flac(file: BinaryIO, start: int, end: int) -> Contents:
    """Of FLAC, libsndfile reads as many samples as 36 bits of the header say, or all where they are 0."""
    end = _before_tags(file, end)  # without seeking, libsndfile takes tags for a frame
    packed = int.from_bytes(at_offset(file, start + 18, 8), "big")
    promised = packed & (1 << 36) - 1
    if promised == 0:
        return Contents()
    unknown = (packed - promised).to_bytes(8, "big")
    return Contents(promised, pieces=(range(start, start + 18), unknown, range(start + 26, end)))


def _examine_ogg(path: Path, file: BinaryIO, end: int) -> Contents:
    """Pages are 27 bytes, the sizes of up to 255 parts, and these; a stream's first page has the second flag set."""
    place, spoken, ended = 0, False, True
    while (head := at_offset(file, place, 27)).startswith(b"OggS"):
        sizes = at_offset(file, place + 27, head[-1]) if len(head) == 27 else b""
        size = 27 + len(sizes) + sum(sizes)
        page = at_offset(file, place, size)
        if len(head) < 27 or len(sizes) < head[-1] or len(page) < size:
            raise cut_short(path, "it ends in the middle of a page")
        if spoken and page[5] & 2:
            raise PseganError(
                f"{path}: holds several recordings one after another, of which only the first would be read; "
                f"join them first, as with: ffmpeg -i {path.name} whole.wav"
            )
        if _ogg_checksum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
            raise PseganError(f"{path}: is damaged, so that part of it would not be read; replace it by an intact copy")
        spoken, ended = spoken or not page[5] & 2, bool(page[5] & 4)
        place += size
    if not ended:
        raise cut_short(path, f"its last page is missing; if there is no more of it, ffmpeg -i {path.name} whole.wav")
    _refuse_more(path, file, place, end)
    return Contents()


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 with the usual polynomial, but of bits in the other order and without inversion."""
    checksum = zlib.crc32(page.translate(_MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{checksum:032b}"[::-1], 2)


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _examine_mpeg(path: Path, file: BinaryIO, start: int, end: int) -> Contents:
    """Of MP3, libsndfile reads as many frames as the first one says there are, or guesses where it says nothing."""
    stream = count_frames(file, start, end)
    if stream is None:
        return Contents()
    if stream.mixed:
        raise PseganError(
            f"{path}: changes its rate or its channels midway, and what follows would not be read; convert it first, "
            f"as with: ffmpeg -i {path.name} whole.wav"
        )
    if (stream.promised or 0) > stream.frames + 1:  # some count the frame that says so
        held, promised = (frames * stream.samples for frames in (stream.frames, stream.promised or 0))
        raise cut_short(path, f"{held} of {promised} samples are there")
    if stream.torn and stream.frames < (stream.promised or stream.frames + 1):
        raise cut_short(path, "it ends in the middle of a frame")
    _refuse_more(path, file, stream.end, end)
    return Contents(stream.frames * stream.samples, pieces=stream.pieces)
