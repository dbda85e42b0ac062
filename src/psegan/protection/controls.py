"""The controls that every table of results needs beside trained systems (docs/evaluation.md), and transforms by name."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio import functional as AF

from psegan.common.errors import PseganError
from psegan.common.files import read_yaml
from psegan.common.instantiate import find_class, instantiate
from psegan.models.state import weights_hash
from psegan.models.vocoder import Vocoder
from psegan.protection.protector import Protector
from psegan.protection.transform import Transform, Transformed
from psegan.speech.audio import LogMel, resample
from psegan.weights import is_checkpoint, is_exported, load_vocoder

Range = tuple[float, float]


class Identity(Transform):
    """Original speech."""

    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        return Transformed(waveform)


class CopySynthesis(Transform):
    """What the vocoder alone does to speech: the control that separates privacy from damage.

    Args:
        vocoder: turns log-mels into waveforms, or its name; see :func:`psegan.weights.load_vocoder`.
    """

    def __init__(self, vocoder: Vocoder | str | None = None) -> None:
        self.vocoder = load_vocoder(vocoder)
        self.weights = weights_hash(self.vocoder)
        self._front_end = LogMel()

    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        log_mel, frames = self._front_end(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
        return Transformed(self.vocoder(log_mel, frames)[0, : len(waveform)])  # which speaks in whole frames


class AdditiveNoise(Transform):
    """White Gaussian noise. Digital silence stays silent.

    Args:
        snr_db: ratio of the utterance's mean power to the noise's, in dB; exact before samples are clamped.
    """

    def __init__(self, snr_db: float) -> None:
        if not math.isfinite(snr_db):
            raise PseganError(f"snr_db is {snr_db}, but must be a finite number of dB")
        self.snr_db = snr_db

    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        noise = torch.randn(waveform.shape, generator=random)
        scale = 10 ** (-self.snr_db / 20) * _rms(waveform) / _rms(noise).clamp(min=1e-12)
        return Transformed(waveform + scale * noise)


class McAdams(Transform):
    """McAdams coefficient: formants move, pitch and timing stay (Patino et al., Interspeech 2021).

    The baseline B2 of the VoicePrivacy challenges. See :func:`mcadams`.

    Args:
        alpha: the coefficient, or the range that it is drawn from uniformly for every utterance.
    """

    def __init__(self, alpha: float | Range = (0.5, 0.9)) -> None:
        low, high = _ends(alpha)
        if not 0 < low <= high <= 2:
            raise PseganError(
                f"alpha is {alpha}, but must lie above 0 and not above 2, or be a range [low, high] there"
            )
        self.alpha = alpha

    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        return Transformed(mcadams(waveform, _draw(self.alpha, random)))


class PitchShift(Transform):
    """Pitch and formants move together, as on a tape played faster; timing stays. See :func:`shift_pitch`.

    Args:
        semitones: the shift, or the range that it is drawn from uniformly for every utterance.
    """

    def __init__(self, semitones: float | Range = (-4.0, 4.0)) -> None:
        low, high = _ends(semitones)
        if not -12 <= low <= high <= 12:
            raise PseganError(
                f"semitones is {semitones}, but must lie within an octave, or be a range [low, high] there"
            )
        self.semitones = semitones

    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        return Transformed(shift_pitch(waveform, _draw(self.semitones, random)))


def load_protector(spec: dict[str, Any] | str) -> Transform:
    """The transform that a word or a mapping describes.

    Args:
        spec: ``{"class_path": ..., "init_args": {...}}`` of plain values; a YAML file of the same; a checkpoint, or name or
            folder of weights that ship; or a class. A class without a dot is one of this module, ``Protector`` included,
            whose arguments are those of :meth:`psegan.protection.protector.Protector.load`.

    Raises:
        PseganError: no such file or class, or arguments that the class does not take.
    """
    where = spec if isinstance(spec, str) else "protector"
    spec = spelt_out(spec)
    if not (isinstance(spec.get("class_path"), str) and is_trained(spec)):
        return instantiate(Transform, spec, where, package=__name__)  # type: ignore[type-abstract]
    init_args = spec.get("init_args") or {}
    if not {"checkpoint"} <= init_args.keys() <= {"checkpoint", "vocoder"}:
        raise PseganError(f"{where}: init_args of a trained system are checkpoint and, if you like, vocoder")
    return Protector.load(**init_args)


def spelt_out(spec: dict[str, Any] | str) -> dict[str, Any]:
    """A transform's specification as a mapping; see :func:`load_protector`."""
    if isinstance(spec, dict):
        return spec
    if Path(spec).suffix in (".yaml", ".yml"):
        return read_yaml(spec)
    if is_checkpoint(spec) or is_exported(spec):
        return {"class_path": f"{Protector.__module__}.{Protector.__name__}", "init_args": {"checkpoint": spec}}
    return {"class_path": spec}


def is_trained(spec: dict[str, Any] | str) -> bool:
    """Whether a specification describes a trained system (a Protector) and not a control.

    Raises:
        PseganError: it describes no transform.
    """
    class_path = spelt_out(spec).get("class_path")
    if not isinstance(class_path, str):
        raise PseganError(f"protector {spec}: has no class_path; give one, or a checkpoint that ends in .ckpt")
    return issubclass(find_class(Transform, class_path, "protector", __name__), Protector)  # type: ignore[type-abstract]


def checkpoint_of(spec: dict[str, Any]) -> str:
    """The checkpoint, or name or folder of weights that ship, of a trained system's specification."""
    return str((spec.get("init_args") or {}).get("checkpoint"))


def mcadams(waveform: Tensor, alpha: float) -> Tensor:
    """Raise the angles of the complex poles of linear prediction to the power ``alpha`` (McAdams, 1984).

    Patino, Tomashenko, Todisco, Nautsch and Evans, "Speaker anonymisation using the McAdams coefficient", Interspeech
    2021: windows of 20 ms every 10 ms, linear prediction of order 20, the residual filtered by the moved poles,
    overlap-add. Angles are in radians, so that poles above 2546 Hz move down and those below move up where
    ``alpha < 1``. Prediction is by autocorrelation (Makhoul, 1975), which keeps every pole inside the unit circle. The
    utterance's mean power is kept as far as peaks fit into [-1, 1]; the challenge's scripts bring every peak to full
    scale instead, which would hide loudness as well.

    Args:
        waveform: ``(T,)`` at 16 kHz.
        alpha: above 0; 1 changes nothing.

    Returns:
        ``(T,)`` float32.
    """
    order, window = 20, 320
    hop = window // 2
    taper = torch.hann_window(window, dtype=torch.float64).sqrt()  # once before and once after: its square sums to one
    blocks = -(-len(waveform) // hop)
    frames = F.pad(waveform.double(), (hop, (blocks + 1) * hop - len(waveform))).unfold(0, window, hop) * taper
    predictor = _linear_prediction(frames, order)
    poles = _roots(predictor)
    angle = poles.angle()
    moved = (angle.abs() ** alpha).clamp(max=math.pi) * angle.sign()
    moved = torch.where(poles.imag == 0, angle, moved)  # a real pole belongs to the tilt, not to a formant
    synthesis = _polynomial(torch.polar(poles.abs(), moved))
    frames = AF.lfilter(frames, synthesis, predictor, clamp=False, batching=True) * taper
    spoken = (F.pad(frames[:, :hop], (0, 0, 0, 1)) + F.pad(frames[:, hop:], (0, 0, 1, 0))).flatten()
    spoken = spoken[hop : hop + len(waveform)]
    gain = _rms(waveform.double()) / _rms(spoken).clamp(min=1e-12)
    return (spoken * gain.clamp(max=1 / spoken.abs().max().clamp(min=1e-12))).float()


def shift_pitch(waveform: Tensor, semitones: float) -> Tensor:
    """Shift pitch and formants of ``(T,)`` float32: stretched in time by :func:`stretch`, then resampled.

    The ratio is rounded to a fraction of numbers up to 1000, an error below 0.01 semitones.
    """
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(1000)
    if ratio == 1:
        return waveform
    stretched = stretch(waveform, float(ratio))
    shifted = resample(stretched, ratio.numerator, ratio.denominator)[: len(waveform)]
    return F.pad(shifted, (0, len(waveform) - len(shifted)))


def stretch(waveform: Tensor, ratio: float) -> Tensor:
    """Change the duration and neither pitch nor formants, by WSOLA (Verhelst and Roelands, ICASSP 1993).

    Windows of 32 ms are taken from where they go on most like the one before, within 10 ms of where they belong. A phase
    vocoder smears speech and takes 2 to 5 dB of its level; this keeps both.

    Args:
        waveform: ``(T,)`` at 16 kHz.
        ratio: of the new duration to the old.

    Returns:
        ``(ceil(T · ratio),)`` float32.
    """
    window, tolerance = 512, 160
    hop, samples = window // 2, math.ceil(len(waveform) * ratio)
    blocks = -(-samples // hop) + 1
    signal = np.pad(waveform.double().numpy(), (hop + tolerance, 2 * window + 2 * tolerance))
    energy = np.concatenate([[0.0], np.cumsum(signal**2)])
    taper = torch.hann_window(window, dtype=torch.float64).numpy()  # neighbours add up to one
    stretched = np.zeros((blocks + 1) * hop)
    place = tolerance
    for block in range(blocks):
        if block:
            continuation = signal[place + hop : place + hop + window]
            first = round(block * hop / ratio)
            around = signal[first : first + window + 2 * tolerance]
            likeness = np.correlate(around, continuation, "valid")
            loudness = energy[first + window : first + len(around) + 1] - energy[first : first + 2 * tolerance + 1]
            place = first + int(np.argmax(likeness / np.sqrt(loudness.clip(min=0) + 1e-9)))
        stretched[block * hop : block * hop + window] += taper * signal[place : place + window]
    return torch.from_numpy(stretched[hop : hop + samples]).float()


def _linear_prediction(frames: Tensor, order: int) -> Tensor:
    """Prediction filters ``(N, order + 1)``, beginning with 1, of windowed frames ``(N, W)``."""
    power = torch.fft.rfft(frames, 2 * frames.shape[1]).abs().square()
    correlation = torch.fft.irfft(power)[:, : order + 1]
    lag = torch.arange(order)
    matrix = correlation[:, (lag.unsqueeze(0) - lag.unsqueeze(1)).abs()]
    # a noise floor of -90 dB: frames that are predicted perfectly, and silent ones, stay solvable
    floor = 1e-9 * correlation[:, 0] + 1e-12
    matrix = matrix + floor[:, None, None] * torch.eye(order, dtype=matrix.dtype)
    coefficients = -torch.linalg.solve(matrix, correlation[:, 1:])
    return F.pad(coefficients, (1, 0), value=1.0)


def _roots(polynomials: Tensor) -> Tensor:
    """Roots ``(N, K)``, complex, of polynomials ``(N, K + 1)`` that begin with 1: their companions' eigenvalues."""
    order = polynomials.shape[1] - 1
    companion = torch.zeros(len(polynomials), order, order, dtype=polynomials.dtype)
    companion[:, 0] = -polynomials[:, 1:]
    companion[:, 1:, :-1] = torch.eye(order - 1, dtype=polynomials.dtype)
    return torch.linalg.eigvals(companion)


def _polynomial(roots: Tensor) -> Tensor:
    """Polynomials ``(N, K + 1)``, real and beginning with 1, of roots ``(N, K)`` that come in conjugate pairs."""
    product = torch.ones(len(roots), 1, dtype=roots.dtype)
    for root in roots.unbind(1):
        product = F.pad(product, (0, 1)) - root.unsqueeze(1) * F.pad(product, (1, 0))
    return product.real.contiguous()


def _rms(waveform: Tensor) -> Tensor:
    return waveform.square().mean().sqrt()


def _ends(value: float | Range) -> Range:
    return (value, value) if isinstance(value, int | float) else value


def _draw(value: float | Range, random: torch.Generator) -> float:
    low, high = _ends(value)
    return low if low == high else low + (high - low) * float(torch.rand((), generator=random, dtype=torch.float64))
