"""Read, write and resample recordings, and compute spectrograms; only this file uses torchaudio and soundfile."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torchaudio import functional as AF

from psegan.common.errors import PseganError
from psegan.common.files import atomic_path, not_a_file
from psegan.speech.channels import Comparison, compare_channels
from psegan.speech.containers import Spliced, cut_short, examine
from psegan.speech.masking import mask_like

SAMPLE_RATE = 16_000
"""Hz. The article brings every recording to 16 kHz."""
HOP = 256
"""Samples between frames."""
N_MELS = 80
"""Mel bands."""
LOG_FLOOR = 1e-5
"""Magnitudes below this are raised to it before the logarithm."""
FILTER_WIDTH = 64
"""Zero crossings of the resampling filter on each side."""
ROLLOFF = 0.9475937167399596
"""Cutoff of the resampling filter, as a fraction of the Nyquist frequency."""
AUDIO_SUFFIXES = (".wav", ".flac", ".opus", ".ogg")
"""Endings of the corpora's recordings."""
UNKNOWN_LENGTH = 1 << 60
"""A header with at least this many samples doesn't know the length, as that of a FLAC file written to a pipe."""
LOSSY_FRAMES = 4_096
"""The largest number of samples of padding that the headers of compressed formats may count."""
BLOCK_SECONDS = 30
"""Recordings are read and resampled in blocks of this length, so that one of several hours fits into memory."""
UNREADABLE = "cannot be read as audio", "replace it by an intact recording, such as a WAV or FLAC file"
UNWRITABLE = "cannot be written", "make room, or choose another folder or format"


@contextmanager
def _one_line(path: Path, problem: str, remedy: str) -> Iterator[None]:
    """Raise an error of soundfile or of the file system as a PseganError."""
    try:
        yield
    except FileExistsError:
        raise PseganError(f"{path}: exists already; name another folder, or allow it to be replaced") from None
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, soundfile.LibsndfileError):
            reason = str(error.error_string).strip().rstrip(".")
        raise PseganError(f"{path}: {problem} ({reason}); {remedy}") from None


class _Forward(soundfile.SoundFile):
    """A file that is read from its beginning to its end.

    soundfile otherwise seeks after every block, at which MP3 decoders lose what a frame has in the one before, and which
    FLAC files of unknown length refuse at their end.
    """

    def seekable(self) -> bool:
        return False


class AudioReader:
    """A recording, read block by block as mono float32 at 16 kHz.

    Channels are averaged, or the loudest is taken where they would cancel one another;
    see :func:`psegan.speech.channels.compare_channels`.

    Args:
        path: of a file in any format that soundfile reads.
        channel: the one that is read, from 0; None reads them all as one.

    Attributes:
        rate, format, subtype, channels: of the file, as soundfile names them.
        seconds: length of the recording according to the file's header; 0 where the header doesn't know it.
        read: number of samples that have been read, at the file's rate.
        clipped: number of these samples that are at or beyond full scale in any channel.
        comparison: of the channels, where there are several to be read as one; known as soon as blocks are read.

    Raises:
        PseganError: the file is missing, unreadable, empty, shorter or longer than its header says, or its rate is not one
            of speech. Reading raises it as well, where that shows only then, or samples are not finite.
    """

    def __init__(self, path: str | os.PathLike[str], channel: int | None = None) -> None:
        self.path, self.channel = Path(path), channel
        if problem := not_a_file(self.path):
            raise PseganError(f"{self.path}: {problem}; give a recording")
        with _one_line(self.path, *UNREADABLE):
            contents = examine(self.path)
            self._pieces = contents.pieces
            with self._open() as file:
                self.rate, self.subtype, self.channels = file.samplerate, file.subtype, file.channels
                self.format: str = contents.container or file.format
                frames: int = file.frames
        self.read = self.clipped = 0
        self.comparison: Comparison | None = None
        if frames == 0:
            raise PseganError(f"{self.path}: holds no samples; remove it or replace it by an intact copy")
        check_rate(self.rate, f"{self.path}: has")
        self._frames = contents.samples(frames if frames < UNKNOWN_LENGTH else None)
        if contents.held is not None and self._frames is not None and frames < self._frames:
            raise cut_short(self.path, f"{frames} of {self._frames} samples are there")
        self.seconds = (self._frames or 0) / self.rate

    def blocks(self) -> Iterator[Tensor]:
        """The recording in blocks ``(T,)`` of up to half a minute, whose samples are those of the recording as a whole."""
        return resample_blocks(self._read(), self.rate, SAMPLE_RATE)

    def _read(self) -> Iterator[Tensor]:
        if self.channel is None and self.channels > 1:
            self.comparison = compare_channels(self._samples(), self.rate)
        for samples in self._samples():
            self.read += len(samples)
            self.clipped += at_full_scale(samples)
            yield samples[:, self.channel or 0] if self.comparison is None else self.comparison.mix(samples)
        tolerance = LOSSY_FRAMES if self.format == "OGG" or self.subtype.startswith("MPEG") else 0
        if self._frames is not None and self.read < self._frames - tolerance:
            raise cut_short(self.path, f"{self.read} of {self._frames} samples are there")
        if self.read == 0:
            raise PseganError(f"{self.path}: holds no samples; remove it or replace it by an intact copy")

    def _samples(self) -> Iterator[Tensor]:
        """Blocks ``(T, C)`` as they are in the file."""
        with _one_line(self.path, *UNREADABLE), self._open() as file:
            # not file.blocks(), which fills up a file that is cut short with whatever memory holds
            while len(samples := file.read(BLOCK_SECONDS * self.rate, "float32", always_2d=True)):
                if not np.isfinite(samples).all():
                    raise PseganError(
                        f"{self.path}: holds samples that are NaN or infinite; replace it by an intact copy"
                    )
                yield torch.from_numpy(samples)

    @contextmanager
    def _open(self) -> Iterator[soundfile.SoundFile]:
        with ExitStack() as stack:
            source: Any = os.fsencode(self.path)
            if self._pieces:
                source = stack.enter_context(Spliced(self.path, self._pieces))
            yield stack.enter_context(_Forward(source))


def at_full_scale(samples: Tensor) -> int:
    """Number of samples, of ``(T, C)``, that are at or beyond full scale of 16 bits in any channel."""
    return int((samples.abs() >= 32767 / 32768).any(1).sum())


@contextmanager
def audio_writer(
    path: str | os.PathLike[str],
    sample_rate: int = SAMPLE_RATE,
    format: str | None = None,
    subtype: str | None = "PCM_16",
    replace: bool = True,
    channels: int = 1,
) -> Iterator[Callable[[Tensor], None]]:
    """Write a recording block by block; the file appears only when it is complete and has been checked.

    Args:
        path: of the file.
        sample_rate: in Hz.
        format, subtype: as soundfile names them; by default 16-bit PCM in the format of the path's ending.
        replace: whether to replace a file that exists when this one is complete.
        channels: how many.

    Yields:
        A function that appends samples ``(T,)``, or ``(T, C)`` of several channels, which are clamped to [-1, 1].

    Raises:
        PseganError: the file cannot be written, the format has no such rate or subtype, or the file exists.
    """
    path, written = Path(path), 0

    def write(waveform: Tensor) -> None:
        nonlocal written
        samples = waveform.detach().cpu().float().clamp(-1, 1)
        if subtype == "PCM_16":  # libsndfile rounds for FLAC and cuts off for WAV
            samples = (samples * 32768).round().clamp(max=32767).to(torch.int16)
        with _one_line(path, *UNWRITABLE):
            for part in samples.split(1 << 16):  # libsndfile crashes on more in OGG
                file.write(part.numpy())
        written += len(waveform)

    with ExitStack() as stack:
        with _one_line(path, *UNWRITABLE):
            temporary = stack.enter_context(atomic_path(path, replace))
            file = soundfile.SoundFile(os.fsencode(temporary), "w", sample_rate, channels, subtype, format=format)
        try:
            yield write
        finally:
            with _one_line(path, *UNWRITABLE):
                file.close()
        with _one_line(path, *UNWRITABLE):
            _check_written(temporary, sample_rate, written)
            stack.close()  # gives the file its name


def _check_written(path: Path, sample_rate: int, samples: int) -> None:
    """Check that all samples are in the file: libsndfile reports no error if the disk is full when it closes one."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    about = soundfile.info(os.fsencode(path))
    if about.samplerate != sample_rate:
        raise ValueError(f"{about.format} {about.subtype} has no rate of {sample_rate} Hz")
    if about.frames < samples:  # compressed formats may pad
        raise ValueError(f"{about.frames} of {samples} samples arrived")


@cache
def can_write(format: str, subtype: str, sample_rate: int, channels: int) -> bool:
    """Whether soundfile writes what it reads: not MPEG layer II, for example, nor a rate that a format doesn't have."""
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(file, "w", sample_rate, channels, subtype, format=format) as written:
            written.write(np.zeros((sample_rate // 10, channels), np.float32))
        file.seek(0)
        return bool(soundfile.info(file).samplerate == sample_rate)
    except (soundfile.SoundFileError, ValueError):
        return False


def check_rate(rate: float, what: str) -> None:
    """Refuse a sampling rate that is not a whole number of Hz, or is too low or too high for speech.

    Raises:
        PseganError: the rate is refused; the message begins with ``what``.
    """
    if rate != int(rate) or not 4_000 <= rate <= 384_000:
        raise PseganError(f"{what} a rate of {rate} Hz, which is none of speech; convert it to {SAMPLE_RATE} Hz first")


def read_audio(path: str | os.PathLike[str]) -> Tensor:
    """Read a recording as mono float32 ``(T,)`` at 16 kHz, at least one sample; see :class:`AudioReader` for its errors."""
    reader = AudioReader(path)
    waveform = torch.cat(list(reader.blocks()))
    if reader.comparison and (lost := reader.comparison.loss("is read")):
        warnings.warn(f"{path}: {lost}", stacklevel=2)
    return waveform


def write_audio(path: str | os.PathLike[str], waveform: Tensor) -> None:
    """Write a mono waveform ``(T,)`` at 16 kHz as 16-bit PCM in the format of the path's ending; see :func:`audio_writer`."""
    with audio_writer(path) as write:
        write(waveform)


def resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample ``(..., T)`` from ``rate`` to ``new_rate`` Hz by Kaiser-windowed sinc interpolation.

    Where the ratio of the rates takes numbers above 1000, as from 44101 Hz, the nearest simpler ratio replaces it; the
    error is less than 1 in 30,000.
    """
    return AF.resample(
        waveform,
        *_ratio(rate, new_rate),
        lowpass_filter_width=FILTER_WIDTH,
        rolloff=ROLLOFF,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )


def _ratio(rate: int, new_rate: int) -> tuple[int, int]:
    """The ratio of the rates, or one close to it whose smaller number is at most 1000: exact filters may take gigabytes."""
    ratio = Fraction(rate, new_rate)
    if max(ratio.numerator, ratio.denominator) > 1_000:
        ratio = ratio.limit_denominator(1_000) if rate > new_rate else 1 / (1 / ratio).limit_denominator(1_000)
    return ratio.numerator, ratio.denominator


def resample_blocks(blocks: Iterable[Tensor], rate: int, new_rate: int) -> Iterator[Tensor]:
    """Resample a recording that comes in blocks ``(T,)``; the blocks together are what :func:`resample` gives.

    The filter needs samples after a block, so the end of a block is resampled only with the next one.
    """
    if rate == new_rate:
        yield from blocks
        return
    period, new_period = _ratio(rate, new_rate)
    # reach of the filter in periods; a period is the time between two samples that both rates have in common
    reach = math.ceil(FILTER_WIDTH / (min(period, new_period) * ROLLOFF)) + 1
    waiting = torch.zeros(0)
    behind = 0  # periods at the beginning of what waits that are done, and are kept as the filter's context
    for block in blocks:
        waiting = torch.cat([waiting, block])
        end = len(waiting) // period - reach
        if end > behind:
            yield resample(waiting, period, new_period)[behind * new_period : end * new_period]
            keep = min(reach, end)
            waiting, behind = waiting[(end - keep) * period :], keep
    if len(waiting) > behind * period:
        yield resample(waiting, period, new_period)[behind * new_period :]


def frame_lengths(lengths: Tensor) -> Tensor:
    """Number of frames ``(B,)`` of utterances of ``lengths (B,)`` samples; a frame is centred on every 256th sample."""
    return torch.div(lengths, HOP, rounding_mode="floor") + 1


class LogMel(nn.Module):
    """Log-mel spectrogram of the article, computed as for the public 16 kHz HiFi-GAN.

    Hann window and FFT of 1024 samples, hop 256, centred frames, magnitude, 80 Slaney bands (Slaney norm) from 0 to
    8000 Hz, natural logarithm, floor 1e-5. HiFi-GAN pads the edges by reflection. Here they are padded with zeros, so
    that an utterance has the same frames alone and in a padded batch; only the two outermost frames differ from
    HiFi-GAN's.
    """

    window: Tensor
    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(1024), persistent=False)
        bank = AF.melscale_fbanks(513, 0.0, 8000.0, N_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T)`` samples and ``(B,)`` lengths → log-mel ``(B, 80, N)``, at the floor in padding, and frames ``(B,)``."""
        log_mel = self.of_padded(nn.functional.pad(waveform, (512, 512)))
        frames = frame_lengths(lengths)
        inside = mask_like(frames, log_mel)
        return log_mel * inside + math.log(LOG_FLOOR) * (1 - inside), frames

    def of_padded(self, waveform: Tensor) -> Tensor:
        """``(B, T)`` samples, from 512 before the first frame's centre to 512 after the last one's → ``(B, 80, N)``."""
        with torch.autocast(waveform.device.type, enabled=False):  # a half-precision logarithm loses quiet frames
            spectrum = torch.stft(waveform.float(), 1024, HOP, window=self.window, center=False, return_complex=True)
            spectrum = spectrum.transpose(1, 2)  # as it lies in memory
            # takes a third of the time of abs() on CPUs; the bound keeps the root's gradient finite at zero
            power = spectrum.real.square().addcmul(spectrum.imag, spectrum.imag).clamp(min=1e-20)
            mel = nn.functional.linear(power.sqrt(), self.bank).transpose(1, 2)
            return torch.log(mel.clamp(min=LOG_FLOOR)).contiguous()


class UnitScaler(nn.Module):
    """The article's normalisation to [0, 1]: an affine map of the log-mel with constant bounds, which inverts exactly.

    The lower bound is the logarithm's floor. The upper bound is the largest value that a waveform in [-1, 1] can reach:
    a spectral magnitude of at most the window's sum (512), times the heaviest filter. Since the bounds are constants,
    they reveal nothing about the utterance and don't depend on padding.
    """

    low: float = math.log(LOG_FLOOR)
    high: float = 3.6

    def forward(self, log_mel: Tensor) -> Tensor:
        """Log-mel, any shape → [0, 1]."""
        return (log_mel - self.low) / (self.high - self.low)

    def inverse(self, scaled: Tensor) -> Tensor:
        """[0, 1] → log-mel; values outside of [0, 1] are not clipped."""
        return scaled * (self.high - self.low) + self.low


class MFCC(nn.Module):
    """The article's MFCC path: pre-emphasis, framing, window, FFT, 32 mel filters, logarithm, DCT.

    Pre-emphasis 0.97, Hann window and FFT of 1024 samples, hop 256, power, HTK mel scale, orthonormal DCT-II
    (Davis and Mermelstein, 1980).

    Args:
        n_mfcc: coefficients kept, at most the 32 filters.
    """

    n_filters = 32
    window: Tensor
    bank: Tensor
    dct: Tensor

    def __init__(self, n_mfcc: int = 32) -> None:
        super().__init__()
        self.n_mfcc = n_mfcc
        self.register_buffer("window", torch.hann_window(1024), persistent=False)
        bank = AF.melscale_fbanks(513, 0.0, 8000.0, self.n_filters, SAMPLE_RATE)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)
        dct = AF.create_dct(n_mfcc, self.n_filters, norm="ortho")
        self.register_buffer("dct", dct.T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T)`` samples and ``(B,)`` lengths → coefficients ``(B, n_mfcc, N)`` and frames; padding is zero."""
        with torch.autocast(waveform.device.type, enabled=False):
            # the filter reaches one sample past the end, where a mask keeps padding out of the last frames
            emphasised = AF.preemphasis(waveform.float(), 0.97) * mask_like(lengths, waveform)
            spectrum = torch.stft(
                emphasised, 1024, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
            )
            log_energy = torch.log((self.bank @ spectrum.abs().square()).clamp(min=LOG_FLOOR**2))
            coefficients = self.dct @ log_energy
        frames = frame_lengths(lengths)
        return coefficients * mask_like(frames, coefficients), frames
