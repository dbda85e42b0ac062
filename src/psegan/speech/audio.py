"""Reading, resampling, spectrograms and scaling: the one file that knows torchaudio and soundfile."""

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
"""Magnitudes below this are taken for silence before the logarithm."""
FILTER_WIDTH = 64
"""Zero crossings of the resampling filter on either side."""
ROLLOFF = 0.9475937167399596
"""Its cutoff, relative to the Nyquist frequency."""
AUDIO_SUFFIXES = (".wav", ".flac")
"""Endings that the corpora come in."""


SOUNDFILE_ERRORS = (soundfile.SoundFileError, OSError, TypeError, ValueError)
"""What soundfile raises for files that it cannot read or write."""
UNKNOWN_LENGTH = 1 << 60
"""Samples from which a header is taken to say nothing of the length, as of FLAC from a pipe."""
LOSSY, LOSSY_FRAMES = ("MPEG", "MP3", "OGG"), 4_096
"""Formats whose headers may count padding as well, and how many samples of it."""
BLOCK_SECONDS = 30
"""Recordings are read and resampled in pieces of this length, so that hours fit into memory."""


class AudioReader:
    """A recording, read block by block as mono float32 at one rate.

    Channels are averaged; other rates are brought to ``sample_rate`` by :class:`Resampler`.

    Args:
        path: of a file in any format that soundfile reads.
        sample_rate: of the blocks, in Hz.

    Attributes:
        rate, format, subtype: of the file, as soundfile names them.
        seconds: its length, as its header has it; 0 where it has none.
        read: samples so far, at the file's rate.
        clipped: how many of them were at or beyond full scale.

    Raises:
        PseganError: the file is missing, unreadable, empty, or of a rate that is none of speech; reading also raises it
            where it is cut short or samples are not finite.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> None:
        self.path, self.sample_rate = Path(path), sample_rate
        if not self.path.exists():
            raise PseganError(f"{self.path}: no such file")
        if self.path.is_dir():
            raise PseganError(f"{self.path}: is a folder, not a recording")
        with self._telling():
            about = soundfile.info(os.fsencode(self.path))
        self.rate, self.format, self.subtype = about.samplerate, about.format, about.subtype
        self._frames = about.frames if about.frames < UNKNOWN_LENGTH else None
        self.seconds = (self._frames or 0) / self.rate
        self.read = self.clipped = 0
        if self._frames == 0:
            raise PseganError(f"{self.path}: holds no samples; remove it or replace it by an intact copy")
        check_rate(self.rate, f"{self.path}: has")

    def blocks(self) -> Iterator[Tensor]:
        """The recording in blocks ``(T,)`` of up to half a minute; their samples don't depend on where blocks end."""
        return (block for block in resample_blocks(self._read(), self.rate, self.sample_rate) if len(block))

    def _read(self) -> Iterator[Tensor]:
        with self._telling(), soundfile.SoundFile(os.fsencode(self.path)) as file:
            # not file.blocks(), which takes whatever memory holds for samples that a torn file lacks
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

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors of soundfile as one line."""
        try:
            yield
        except SOUNDFILE_ERRORS as error:
            raise PseganError(
                f"{self.path}: cannot be read as audio ({_reason(error)}); replace it by an intact recording, "
                "such as a WAV or FLAC file"
            ) from None


class AudioWriter:
    """A mono recording, written block by block; it appears only when it is whole and has been read back.

    Args:
        path: of the file.
        sample_rate: in Hz.
        format, subtype: as soundfile names them; by default 16-bit PCM in the format that the ending names.
        replace: whether it may take the place of a file that is there by then.

    Raises:
        PseganError: the format cannot be written like this, the file cannot be written at all, or one is there.
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
        with self._telling(), ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_path(self.path, self.replace))
            self._file = soundfile.SoundFile(
                os.fsencode(self._temporary), "w", self.sample_rate, 1, self.subtype, format=self.format
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        with self._telling():
            try:
                self._file.close()
                if kind is None:
                    self._read_back()
            except BaseException as error:
                self._stack.__exit__(type(error), error, error.__traceback__)
                raise
            self._stack.__exit__(kind, *raised)

    def write(self, waveform: Tensor) -> None:
        """Append samples ``(T,)``, clamped to [-1, 1]."""
        with self._telling():
            samples = waveform.detach().cpu().float().clamp(-1, 1)
            if self.subtype == "PCM_16":  # libsndfile rounds for FLAC and cuts off for WAV
                samples = (samples * 32768).round().clamp(max=32767).to(torch.int16)
            for part in samples.split(1 << 16):  # libsndfile's OGG dies of more
                self._file.write(part.numpy())
        self._written += len(waveform)

    def _read_back(self) -> None:
        """Make sure that the file is what was written: libsndfile says nothing of a disk that is full as it closes."""
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        about = soundfile.info(os.fsencode(self._temporary))
        if about.samplerate != self.sample_rate:
            raise ValueError(f"{about.format} {about.subtype} has no rate of {self.sample_rate} Hz")
        if about.frames < self._written:  # compressed formats may pad
            raise ValueError(f"{about.frames} of {self._written} samples arrived")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise PseganError(f"{self.path}: exists already; name another folder, or allow it to be replaced") from None
        except SOUNDFILE_ERRORS as error:
            raise PseganError(
                f"{self.path}: cannot be written ({_reason(error)}); make room, or choose another folder or format"
            ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string).strip().rstrip(".")
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def check_rate(rate: float, what: str) -> None:
    """Refuse a sampling rate that is no whole number of Hz, or none of speech.

    Raises:
        PseganError: it is one; the message begins with ``what``.
    """
    if rate != int(rate) or not 4_000 <= rate <= 384_000:
        raise PseganError(f"{what} a rate of {rate} Hz, which is none of speech; convert it to {SAMPLE_RATE} Hz first")


def read_audio(path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Read a recording as mono float32 at ``sample_rate``; see :class:`AudioReader`.

    Returns:
        Waveform ``(T,)``, at least one sample.

    Raises:
        PseganError: the file is missing, unreadable, empty, of an unusual rate, or holds samples that are not finite.
    """
    return torch.cat(list(AudioReader(path, sample_rate).blocks()))


def write_audio(path: str | os.PathLike[str], waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a mono waveform ``(T,)`` atomically, as 16-bit PCM in the format that the ending names.

    Raises:
        PseganError: the file cannot be written.
    """
    with AudioWriter(path, sample_rate) as file:
        file.write(waveform)


def resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample ``(..., T)`` from ``rate`` to ``new_rate`` Hz by Kaiser-windowed sinc interpolation.

    A ratio of numbers above 1000, as of 44101 Hz, is replaced by the nearest simpler one, off by less than 1 in 30,000.

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
    """Two numbers in the ratio of the rates, or one close to it: an exact filter for 44101 Hz would take gigabytes."""
    ratio = Fraction(rate, new_rate)
    if max(ratio.numerator, ratio.denominator) > 1_000:
        ratio = ratio.limit_denominator(1_000) if rate > new_rate else 1 / (1 / ratio).limit_denominator(1_000)
    return ratio.numerator, ratio.denominator


def resample_blocks(blocks: Iterable[Tensor], rate: int, new_rate: int) -> Iterator[Tensor]:
    """:func:`resample` of a recording that comes in blocks ``(T,)``, as if it were one."""
    resampler = Resampler(rate, new_rate)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.finish()


class Resampler:
    """:func:`resample` of a recording that comes in blocks: each is resampled when what follows it is known.

    Args:
        rate, new_rate: in Hz.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        self.rate, self.new_rate = rate, new_rate
        self._period, self._new_period = _ratio(rate, new_rate) if rate != new_rate else (1, 1)
        # the filter's reach, in periods, at whose ends both rates have a sample in one place
        self._reach = math.ceil(FILTER_WIDTH / (min(self._period, self._new_period) * ROLLOFF)) + 1
        self._waiting = torch.zeros(0)
        self._behind = 0  # periods at the beginning of what waits that are done, and kept as context

    def push(self, block: Tensor) -> Tensor:
        """Take a block ``(T,)``; return what is complete, ``(T',)``, perhaps nothing."""
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
        """What is left, ``(T',)``."""
        if len(self._waiting) <= self._behind * self._period:
            return self._waiting[:0]
        return _resample(self._waiting, self._period, self._new_period)[self._behind * self._new_period :]


def frame_lengths(lengths: Tensor) -> Tensor:
    """Frames ``(B,)`` of utterances of ``lengths (B,)`` samples: one is centred on every 256th sample."""
    return torch.div(lengths, HOP, rounding_mode="floor") + 1


class LogMel(nn.Module):
    """Log-mel spectrogram of the article, in the convention of the public 16 kHz HiFi-GAN.

    Hann window and FFT of 1024 samples, hop 256, centred frames, magnitude, 80 Slaney bands (Slaney norm) from 0 to
    8000 Hz, natural logarithm, floor 1e-5. Edges are padded with zeros rather than by reflection, so that an
    utterance gives the same frames alone and in a padded batch; only the outermost two frames differ.
    """

    window: Tensor
    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(1024), persistent=False)
        bank = AF.melscale_fbanks(513, 0.0, 8000.0, N_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T)`` samples and ``(B,)`` lengths → log-mel ``(B, 80, N)`` and frames ``(B,)``; padding is the floor."""
        log_mel = self.of_padded(nn.functional.pad(waveform, (512, 512)))
        frames = frame_lengths(lengths)
        inside = mask_like(frames, log_mel)
        return log_mel * inside + math.log(LOG_FLOOR) * (1 - inside), frames

    def of_padded(self, waveform: Tensor) -> Tensor:
        """``(B, T)`` samples, 512 before the centre of the first frame and 512 after that of the last → ``(B, 80, N)``."""
        with torch.autocast(waveform.device.type, enabled=False):  # a half-precision logarithm loses quiet frames
            spectrum = torch.stft(waveform.float(), 1024, HOP, window=self.window, center=False, return_complex=True)
            spectrum = spectrum.transpose(1, 2)  # as it lies in memory
            # a third of the time of torch's abs on CPUs; bounded, for the root's gradient at zero
            power = spectrum.real.square().addcmul(spectrum.imag, spectrum.imag).clamp(min=1e-20)
            mel = nn.functional.linear(power.sqrt(), self.bank).transpose(1, 2)
            return torch.log(mel.clamp(min=LOG_FLOOR)).contiguous()


class UnitScaler(nn.Module):
    """The article's normalisation to [0, 1], as a fixed affine map of the log-mel that inverts exactly.

    The lower end is the logarithm's floor. The upper end is the largest value that a waveform in [-1, 1] can reach:
    a spectral magnitude of at most the window's sum (512) times the heaviest filter. Being constants, the
    bounds tell a listener nothing about the utterance, and padding has no part in them.
    """

    low: float = math.log(LOG_FLOOR)
    high: float = 3.6

    def forward(self, log_mel: Tensor) -> Tensor:
        """Log-mel, any shape → [0, 1]."""
        return (log_mel - self.low) / (self.high - self.low)

    def inverse(self, scaled: Tensor) -> Tensor:
        """[0, 1] → log-mel; values outside are mapped on the same line, not clipped."""
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
            # the filter's one-sample tail past an utterance's end is cut, or padding would change the last frames
            emphasised = AF.preemphasis(waveform.float(), 0.97) * mask_like(lengths, waveform)
            spectrum = torch.stft(
                emphasised, 1024, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
            )
            log_energy = torch.log((self.bank @ spectrum.abs().square()).clamp(min=LOG_FLOOR**2))
            coefficients = self.dct @ log_energy
        frames = frame_lengths(lengths)
        return coefficients * mask_like(frames, coefficients), frames
