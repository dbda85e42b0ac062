"""Reading, resampling, spectrograms and scaling: the one file that knows torchaudio and soundfile."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor, nn
from torchaudio import functional as AF

from psegan.errors import PseganError
from psegan.files import atomic_path
from psegan.masking import mask_like

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


BLOCK_SECONDS = 30
"""Recordings are read and resampled in pieces of this length, so that hours fit into memory."""


class AudioReader:
    """A recording, read block by block as mono float32 at one rate.

    Channels are averaged; other rates are brought to ``sample_rate`` by Kaiser-windowed sinc interpolation.

    Args:
        path: of a file in any format that soundfile reads.
        sample_rate: of the blocks, in Hz.

    Attributes:
        rate, format, subtype: of the file, as soundfile names them.
        seconds: its length, as its header has it.
        read: samples so far, at the file's rate.
        clipped: how many of them were at or beyond full scale.

    Raises:
        PseganError: the file is missing, unreadable, empty, or of an unusual rate; reading also raises it where
            samples are not finite.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> None:
        self.path, self.sample_rate = Path(path), sample_rate
        if not self.path.exists():
            raise PseganError(f"{self.path}: no such file")
        if self.path.is_dir():
            raise PseganError(f"{self.path}: is a folder, not a recording")
        with self._telling():
            about = soundfile.info(str(self.path))
        self.rate, self.format, self.subtype = about.samplerate, about.format, about.subtype
        self.seconds = about.frames / self.rate
        self.read = self.clipped = 0
        if about.frames == 0:
            raise PseganError(f"{self.path}: holds no samples; remove it or replace it by an intact copy")
        if not 4_000 <= self.rate <= 384_000 or self.rate // math.gcd(self.rate, sample_rate) > 1_000:
            # an exact filter for 44101 Hz would have as many phases, gigabytes of them
            raise PseganError(
                f"{self.path}: has a rate of {self.rate} Hz, which is none of speech; convert it to {sample_rate} Hz first"
            )

    def blocks(self) -> Iterator[Tensor]:
        """The recording in blocks ``(T,)`` of up to half a minute; their samples don't depend on where blocks end."""
        return (block for block in resample_blocks(self._read(), self.rate, self.sample_rate) if len(block))

    def _read(self) -> Iterator[Tensor]:
        with self._telling(), soundfile.SoundFile(str(self.path)) as file:
            for samples in file.blocks(BLOCK_SECONDS * self.rate, dtype="float32", always_2d=True):
                waveform = torch.from_numpy(samples).mean(1)
                if not torch.isfinite(waveform).all():
                    raise PseganError(
                        f"{self.path}: holds samples that are NaN or infinite; replace it by an intact copy"
                    )
                self.read += len(waveform)
                self.clipped += int((abs(samples) >= 32767 / 32768).any(1).sum())
                yield waveform

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors of soundfile as one line."""
        try:
            yield
        except (soundfile.LibsndfileError, OSError) as error:
            raise PseganError(
                f"{self.path}: cannot be read as audio ({_reason(error)}); replace it by an intact recording, "
                "such as a WAV or FLAC file"
            ) from None


class AudioWriter:
    """A mono recording, written block by block; it appears only when it is whole.

    Args:
        path: of the file.
        sample_rate: in Hz.
        format, subtype: as soundfile names them; by default 16-bit PCM in the format that the ending names.

    Raises:
        PseganError: the format cannot be written like this, or the file cannot be written at all.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int = SAMPLE_RATE,
        format: str | None = None,
        subtype: str | None = "PCM_16",
    ) -> None:
        self.path, self.sample_rate, self.format, self.subtype = Path(path), sample_rate, format, subtype
        self._stack = ExitStack()

    def __enter__(self) -> "AudioWriter":
        try:
            with self._telling():
                temporary = self._stack.enter_context(atomic_path(self.path))
                self._file = self._stack.enter_context(
                    soundfile.SoundFile(str(temporary), "w", self.sample_rate, 1, self.subtype, format=self.format)
                )
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, *raised: Any) -> None:
        with self._telling():
            self._stack.__exit__(*raised)

    def write(self, waveform: Tensor) -> None:
        """Append samples ``(T,)``, clamped to [-1, 1]."""
        with self._telling():
            self._file.write(waveform.detach().cpu().float().clamp(-1, 1).numpy())

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            raise PseganError(f"{self.path}: cannot be written ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string).strip().rstrip(".")
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


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

    Raises:
        PseganError: a rate is not positive.
    """
    if rate <= 0 or new_rate <= 0:
        raise PseganError(f"sampling rates are positive numbers of Hz: cannot resample from {rate} to {new_rate}")
    if rate == new_rate:
        return waveform
    return AF.resample(
        waveform,
        rate,
        new_rate,
        lowpass_filter_width=FILTER_WIDTH,
        rolloff=ROLLOFF,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )


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
        common = math.gcd(rate, new_rate)
        self._period, self._new_period = rate // common, new_rate // common
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
        done = resample(self._waiting, self.rate, self.new_rate)
        done = done[self._behind * self._new_period : end * self._new_period]
        keep = min(self._reach, end)
        self._waiting, self._behind = self._waiting[(end - keep) * self._period :], keep
        return done

    def finish(self) -> Tensor:
        """What is left, ``(T',)``."""
        if len(self._waiting) <= self._behind * self._period:
            return self._waiting[:0]
        return resample(self._waiting, self.rate, self.new_rate)[self._behind * self._new_period :]


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
            return torch.log((self.bank @ spectrum.abs()).clamp(min=LOG_FLOOR))


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
