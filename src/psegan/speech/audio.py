"""Read, write and resample recordings, and compute spectrograms; only this file uses torchaudio and soundfile."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor, nn
from torchaudio import functional as AF

from psegan.common.errors import PseganError
from psegan.common.files import atomic_path
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
AUDIO_SUFFIXES = (".wav", ".flac")
"""Endings of the corpora's recordings."""
UNKNOWN_LENGTH = 1 << 60
"""A header with at least this many samples doesn't know the length, as that of a FLAC file written to a pipe."""
LOSSY, LOSSY_FRAMES = ("MPEG", "MP3", "OGG"), 4_096
"""Formats whose headers may count padding, and the largest number of samples of padding."""
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


class AudioReader:
    """A recording, read block by block as mono float32 at one rate.

    Channels are averaged; other rates are brought to ``sample_rate`` by :class:`Resampler`.

    Args:
        path: of a file in any format that soundfile reads.
        sample_rate: of the blocks, in Hz.

    Attributes:
        rate, format, subtype: of the file, as soundfile names them.
        seconds: length of the recording according to the file's header; 0 where the header doesn't know it.
        read: number of samples that have been read, at the file's rate.
        clipped: number of these samples that are at or beyond full scale.

    Raises:
        PseganError: the file is missing, unreadable or empty, or its rate is not one of speech. Reading raises it as
            well, where the file is cut short or holds samples that are not finite.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> None:
        self.path, self.sample_rate = Path(path), sample_rate
        if not self.path.exists():
            raise PseganError(f"{self.path}: no such file")
        if self.path.is_dir():
            raise PseganError(f"{self.path}: is a folder, not a recording")
        with _one_line(self.path, *UNREADABLE):
            about = soundfile.info(os.fsencode(self.path))
        self.rate, self.format, self.subtype = about.samplerate, about.format, about.subtype
        self._frames = about.frames if about.frames < UNKNOWN_LENGTH else None
        self.seconds = (self._frames or 0) / self.rate
        self.read = self.clipped = 0
        if self._frames == 0:
            raise PseganError(f"{self.path}: holds no samples; remove it or replace it by an intact copy")
        check_rate(self.rate, f"{self.path}: has")

    def blocks(self) -> Iterator[Tensor]:
        """The recording in blocks ``(T,)`` of up to half a minute, whose samples are those of the recording as a whole."""
        return (block for block in resample_blocks(self._read(), self.rate, self.sample_rate) if len(block))

    def _read(self) -> Iterator[Tensor]:
        with _one_line(self.path, *UNREADABLE), soundfile.SoundFile(os.fsencode(self.path)) as file:
            # not file.blocks(), which fills up a file that is cut short with whatever memory holds
            while len(samples := file.read(BLOCK_SECONDS * self.rate, "float32", always_2d=True)):
                waveform = torch.from_numpy(samples).mean(1)
                if not torch.isfinite(waveform).all():
                    raise PseganError(
                        f"{self.path}: holds samples that are NaN or infinite; replace it by an intact copy"
                    )
                self.read += len(waveform)
                self.clipped += int((abs(samples) >= 32767 / 32768).any(1).sum())
                yield waveform
        if self._frames is not None and self.read < self._frames - LOSSY_FRAMES * (self.format in LOSSY):
            raise PseganError(
                f"{self.path}: is cut short ({self.read} of {self._frames} samples are there); replace it by an intact copy"
            )
        if self.read == 0:
            raise PseganError(f"{self.path}: holds no samples; remove it or replace it by an intact copy")


class AudioWriter:
    """Writes a mono recording block by block; the file appears only when it is complete and has been checked.

    Args:
        path: of the file.
        sample_rate: in Hz.
        format, subtype: as soundfile names them; by default 16-bit PCM in the format of the path's ending.
        replace: whether to replace a file that exists when this one is complete.

    Raises:
        PseganError: the file cannot be written, the format has no such rate or subtype, or the file exists.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int = SAMPLE_RATE,
        format: str | None = None,
        subtype: str | None = "PCM_16",
        replace: bool = True,
    ) -> None:
        self.path, self.sample_rate, self.format, self.subtype = Path(path), sample_rate, format, subtype
        self.replace = replace
        self._stack = ExitStack()
        self._written = 0

    def __enter__(self) -> "AudioWriter":
        with _one_line(self.path, *UNWRITABLE), ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_path(self.path, self.replace))
            self._file = soundfile.SoundFile(
                os.fsencode(self._temporary), "w", self.sample_rate, 1, self.subtype, format=self.format
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        with _one_line(self.path, *UNWRITABLE):
            try:
                self._file.close()
                if kind is None:
                    self._read_back()
            except BaseException as error:
                self._stack.__exit__(type(error), error, error.__traceback__)
                raise
            self._stack.__exit__(kind, *raised)

    def write(self, waveform: Tensor) -> None:
        """Append samples ``(T,)``, which are clamped to [-1, 1]."""
        with _one_line(self.path, *UNWRITABLE):
            samples = waveform.detach().cpu().float().clamp(-1, 1)
            if self.subtype == "PCM_16":  # libsndfile rounds for FLAC and cuts off for WAV
                samples = (samples * 32768).round().clamp(max=32767).to(torch.int16)
            for part in samples.split(1 << 16):  # libsndfile crashes on more in OGG
                self._file.write(part.numpy())
        self._written += len(waveform)

    def _read_back(self) -> None:
        """Check that all samples are in the file: libsndfile reports no error if the disk is full when it closes one."""
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        about = soundfile.info(os.fsencode(self._temporary))
        if about.samplerate != self.sample_rate:
            raise ValueError(f"{about.format} {about.subtype} has no rate of {self.sample_rate} Hz")
        if about.frames < self._written:  # compressed formats may pad
            raise ValueError(f"{about.frames} of {self._written} samples arrived")


def check_rate(rate: float, what: str) -> None:
    """Refuse a sampling rate that is not a whole number of Hz, or is too low or too high for speech.

    Raises:
        PseganError: the rate is refused; the message begins with ``what``.
    """
    if rate != int(rate) or not 4_000 <= rate <= 384_000:
        raise PseganError(f"{what} a rate of {rate} Hz, which is none of speech; convert it to {SAMPLE_RATE} Hz first")


def read_audio(path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Read a recording as mono float32 at ``sample_rate``; see :class:`AudioReader`.

    Returns:
        Waveform ``(T,)``, at least one sample.

    Raises:
        PseganError: the file is missing, unreadable, empty or cut short, its rate is not one of speech, or it holds
            samples that are not finite.
    """
    return torch.cat(list(AudioReader(path, sample_rate).blocks()))


def write_audio(path: str | os.PathLike[str], waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a mono waveform ``(T,)`` atomically, as 16-bit PCM in the format of the path's ending.

    Raises:
        PseganError: the file cannot be written.
    """
    with AudioWriter(path, sample_rate) as file:
        file.write(waveform)


def resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample ``(..., T)`` from ``rate`` to ``new_rate`` Hz by Kaiser-windowed sinc interpolation.

    Where the ratio of the rates takes numbers above 1000, as from 44101 Hz, the nearest simpler ratio replaces it; the
    error is less than 1 in 30,000.

    Raises:
        PseganError: a rate is not positive.
    """
    if rate <= 0 or new_rate <= 0:
        raise PseganError(f"sampling rates are positive numbers of Hz: cannot resample from {rate} to {new_rate}")
    if rate == new_rate:
        return waveform
    return _resample(waveform, *_ratio(rate, new_rate))


def _resample(waveform: Tensor, period: int, new_period: int) -> Tensor:
    return AF.resample(
        waveform,
        period,
        new_period,
        lowpass_filter_width=FILTER_WIDTH,
        rolloff=ROLLOFF,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )


def _ratio(rate: int, new_rate: int) -> tuple[int, int]:
    """Two numbers up to 1000 in the ratio of the rates, or close to it: an exact filter for 44101 Hz takes gigabytes."""
    ratio = Fraction(rate, new_rate)
    if max(ratio.numerator, ratio.denominator) > 1_000:
        ratio = ratio.limit_denominator(1_000) if rate > new_rate else 1 / (1 / ratio).limit_denominator(1_000)
    return ratio.numerator, ratio.denominator


def resample_blocks(blocks: Iterable[Tensor], rate: int, new_rate: int) -> Iterator[Tensor]:
    """Resample a recording that comes in blocks ``(T,)``; the blocks together are what :func:`resample` gives."""
    resampler = Resampler(rate, new_rate)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.finish()


class Resampler:
    """Resamples a recording that comes in blocks, as :func:`resample` would resample the whole.

    The filter needs samples after a block, so the end of a block is resampled only with the next one.

    Args:
        rate, new_rate: in Hz.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        self.rate, self.new_rate = rate, new_rate
        self._period, self._new_period = _ratio(rate, new_rate) if rate != new_rate else (1, 1)
        # reach of the filter in periods; a period is the time between two samples that both rates have in common
        self._reach = math.ceil(FILTER_WIDTH / (min(self._period, self._new_period) * ROLLOFF)) + 1
        self._waiting = torch.zeros(0)
        self._behind = 0  # periods at the beginning of _waiting that are done, and are kept as the filter's context

    def push(self, block: Tensor) -> Tensor:
        """Take a block ``(T,)`` and return the samples ``(T',)`` that are complete, which may be none."""
        if self.rate == self.new_rate:
            return block
        self._waiting = torch.cat([self._waiting, block])
        end = len(self._waiting) // self._period - self._reach
        if end <= self._behind:
            return block[:0]
        done = _resample(self._waiting, self._period, self._new_period)
        done = done[self._behind * self._new_period : end * self._new_period]
        keep = min(self._reach, end)
        self._waiting, self._behind = self._waiting[(end - keep) * self._period :], keep
        return done

    def finish(self) -> Tensor:
        """The samples ``(T',)`` that remain after the last block."""
        if len(self._waiting) <= self._behind * self._period:
            return self._waiting[:0]
        return _resample(self._waiting, self._period, self._new_period)[self._behind * self._new_period :]


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
        if not 1 <= n_mfcc <= self.n_filters:
            raise PseganError(f"n_mfcc is {n_mfcc}, but must lie between 1 and the {self.n_filters} mel filters")
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
