"""Reading, resampling, spectrograms and scaling: the one file that knows torchaudio and soundfile."""

import math
import os
from pathlib import Path

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
AUDIO_SUFFIXES = (".wav", ".flac")
"""Endings that the corpora come in."""


def read_audio(path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Read a recording as mono float32 at ``sample_rate``.

    Channels are averaged; other rates are brought to ``sample_rate`` by Kaiser-windowed sinc interpolation.

    Returns:
        Waveform ``(T,)`` in [-1, 1], at least one sample.

    Raises:
        PseganError: the file is missing, unreadable, empty, of an unusual rate, or holds samples that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise PseganError(f"{path}: no such file")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise PseganError(
            f"{path}: cannot be read as audio ({error}); replace it by an intact WAV or FLAC file"
        ) from None
    if len(samples) == 0:
        raise PseganError(f"{path}: holds no samples; remove it or replace it by an intact copy")
    if not 4_000 <= rate <= 384_000 or rate // math.gcd(rate, sample_rate) > 1_000:
        # an exact filter for 44101 Hz would have as many phases, gigabytes of them
        raise PseganError(
            f"{path}: has a rate of {rate} Hz, which is none of speech; convert it to {sample_rate} Hz first"
        )
    waveform = torch.from_numpy(samples).mean(1)
    if not torch.isfinite(waveform).all():
        raise PseganError(f"{path}: holds samples that are NaN or infinite; replace it by an intact copy")
    return resample(waveform, rate, sample_rate)


def write_audio(path: str | os.PathLike[str], waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a mono waveform ``(T,)`` atomically, as 16-bit PCM in the format that the ending names."""
    with atomic_path(path) as temporary:
        soundfile.write(temporary, waveform.detach().cpu().float().clamp(-1, 1).numpy(), sample_rate, subtype="PCM_16")


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
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )


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
        with torch.autocast(waveform.device.type, enabled=False):  # a half-precision logarithm loses quiet frames
            spectrum = torch.stft(
                waveform.float(), 1024, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
            )
            log_mel = torch.log((self.bank @ spectrum.abs()).clamp(min=LOG_FLOOR))
        frames = frame_lengths(lengths)
        inside = mask_like(frames, log_mel)
        return log_mel * inside + math.log(LOG_FLOOR) * (1 - inside), frames


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
