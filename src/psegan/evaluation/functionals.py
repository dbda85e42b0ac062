"""The classical attacker on emotion: functionals of acoustic descriptors and a support vector machine.

The method of the Interspeech challenges (Schuller, Steidl and Batliner, 2009; Schuller et al., "ComParE", 2013): curves
of cepstrum, pitch, energy and spectral shape over time, each summed up by statistics, so that an utterance of any
length is one vector. A smaller set than openSMILE's ComParE, without its 65 descriptors and hundreds of functionals.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion, median_filter
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor
from torchaudio import functional as AF

from psegan.common.errors import PseganError
from psegan.metrics import scores as metrics
from psegan.speech.audio import HOP, MFCC, SAMPLE_RATE
from psegan.speech.pitch import FRAME, VOICED, pitch_of_frames

N_MFCC = 20
ACTIVE_DB = 25.0
"""Frames this far below the loudest one are silence: corpora differ in what they leave around an utterance."""

TIMBRE = (*(f"mfcc{i}" for i in range(N_MFCC)), "energy", "centroid", "flux", "slope0-500", "slope500-1500")
"""Descriptors of every frame; energy and slopes in dB (per kHz), the centroid in Hz."""
VOICE = ("f0", "hnr")
"""Descriptors of voiced frames: fundamental in semitones above 27.5 Hz, a median over five frames, and
harmonics-to-noise ratio in dB."""
STATISTICS = (
    *("mean", "deviation", "p1", "p5", "p25", "p50", "p75", "p95", "p99", "p75-p25", "p95-p5"),
    *("skewness", "kurtosis", "slope", "curvature", "linear-error"),
)
"""Functionals of a curve."""
RHYTHM = (
    "seconds",
    "active",
    "voiced",
    "voiced-rate",
    "voiced-mean",
    "voiced-deviation",
    "jitter-mean",
    "jitter-median",
)
"""Of the utterance: its length between the outer silences, fractions of active and voiced frames in it, voiced stretches
per second and their length in seconds, and steps of the pitch from frame to frame in semitones."""
FEATURES = (
    *(f"{curve}.{statistic}" for curve in TIMBRE for statistic in STATISTICS),
    *(f"delta-{curve}.{statistic}" for curve in TIMBRE for statistic in STATISTICS),
    *(f"{curve}.{statistic}" for curve in VOICE for statistic in STATISTICS),
    *(f"delta-{curve}.{statistic}" for curve in VOICE for statistic in STATISTICS),
    *RHYTHM,
)
"""Names of the features, in their order."""

Floats = NDArray[np.float64]


@torch.no_grad()
def functionals(waveform: Tensor) -> Floats:
    """The features of an utterance.

    Statistics are taken over active frames, those of the voice over voiced ones, those of its deltas over voiced ones
    with two such neighbours on either side; without any they are 0.

    Args:
        waveform: ``(T,)`` at 16 kHz, at least one sample.

    Returns:
        ``(F,)``, named by :data:`FEATURES`; finite for silence too.

    Raises:
        ValueError: not one utterance.
    """
    if waveform.dim() != 1 or len(waveform) == 0:
        raise ValueError(f"waveform must have shape (T,) with T >= 1, not {tuple(waveform.shape)}")
    waveform = waveform.detach().cpu().float()
    frames = torch.nn.functional.pad(waveform, (FRAME // 2, FRAME // 2)).unfold(0, FRAME, HOP)
    timbre, energy = _timbre(waveform, frames)
    pitch, correlation = _pitch(frames)
    active = energy > energy.max() - ACTIVE_DB
    voiced = (correlation > VOICED) & active
    harmonic = correlation.clip(1e-3, 1 - 1e-4)
    voice = np.stack([median_filter(pitch, 5), 10 * np.log10(harmonic / (1 - harmonic))])
    steady = binary_erosion(voiced, np.ones(5))  # frames whose delta sees voiced ones only
    return np.concatenate(
        [
            _statistics(timbre[:, active]),
            _statistics(_deltas(timbre)[:, active]),
            _statistics(voice[:, voiced]),
            _statistics(_deltas(voice)[:, steady]),
            _rhythm(pitch, active, voiced),
        ]
    )


@cache
def _front_end() -> tuple[MFCC, Tensor, Tensor]:
    """MFCC; window ``(FRAME,)`` and frequencies in Hz."""
    return MFCC(N_MFCC), torch.hann_window(FRAME), torch.linspace(0, SAMPLE_RATE / 2, FRAME // 2 + 1)


def _timbre(waveform: Tensor, frames: Tensor) -> tuple[Floats, Floats]:
    """Descriptors ``(len(TIMBRE), N)`` and energy ``(N,)`` in dB of frames ``(N, FRAME)``."""
    mfcc, window, frequency = _front_end()
    cepstrum = mfcc(waveform.unsqueeze(0), torch.tensor([len(waveform)]))[0][0]
    frames = frames * window
    magnitude = torch.fft.rfft(frames).abs()
    power = magnitude.square() + 1e-10
    energy = 10 * torch.log10(frames.square().sum(1) / window.square().sum() + 1e-10)
    centroid = (power * frequency).sum(1) / power.sum(1)
    shape = magnitude / (magnitude.norm(dim=1, keepdim=True) + 1e-5)
    flux = torch.nn.functional.pad((shape[1:] - shape[:-1]).norm(dim=1), (1, 0))
    level = 10 * torch.log10(power + 1e-8)
    slopes = []
    for low, high in ((0, 500), (500, 1500)):
        band = (frequency >= low) & (frequency < high)
        x = (frequency[band] - frequency[band].mean()) / 1000
        slopes.append((level[:, band] * x).sum(1) / x.square().sum())
    timbre = torch.cat([cepstrum, torch.stack([energy, centroid, flux, *slopes])])
    return timbre.double().numpy(), energy.double().numpy()


def _pitch(frames: Tensor) -> tuple[Floats, Floats]:
    """Fundamental in semitones above 27.5 Hz and the autocorrelation in [0, 1] at its period, each ``(N,)``."""
    found = pitch_of_frames(frames)
    return (12 * torch.log2(found.frequency / 27.5)).double().numpy(), found.periodicity.double().numpy()


def _deltas(curves: Floats) -> Floats:
    """Regression slopes ``(D, N)`` of curves ``(D, N)`` over five frames."""
    return AF.compute_deltas(torch.from_numpy(curves)).numpy()


def _statistics(curves: Floats) -> Floats:
    """:data:`STATISTICS` of curves ``(D, N)``, curve by curve; 0 where there is no frame."""
    n = curves.shape[1]
    if n == 0:
        return np.zeros(len(curves) * len(STATISTICS))
    mean, deviation = curves.mean(1), curves.std(1)
    p1, p5, p25, p50, p75, p95, p99 = np.percentile(curves, [1, 5, 25, 50, 75, 95, 99], axis=1)
    centred = curves - mean[:, None]
    standard = centred / (deviation[:, None] + 1e-5)
    time = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    bow = time**2 - (time**2).mean()
    slope = (centred * time).mean(1) / ((time**2).mean() + 1e-9)
    curvature = (centred * bow).mean(1) / ((bow**2).mean() + 1e-9)
    error = np.abs(centred - slope[:, None] * time).mean(1)
    # heavy tails are cut, or a single click would outweigh all else
    skewness, kurtosis = (standard**3).mean(1).clip(-10, 10), (standard**4).mean(1).clip(0, 50)
    found = [mean, deviation, p1, p5, p25, p50, p75, p95, p99, p75 - p25, p95 - p5, skewness, kurtosis]
    return np.stack([*found, slope, curvature, error], 1).ravel()


def _rhythm(pitch: Floats, active: NDArray[np.bool_], voiced: NDArray[np.bool_]) -> Floats:
    """:data:`RHYTHM` of an utterance of N frames; arguments each ``(N,)``."""
    first, *_, last = np.flatnonzero(active).repeat(2)
    inside = slice(first, last + 1)
    seconds = (last + 1 - first) * HOP / SAMPLE_RATE
    edges = np.flatnonzero(np.diff(voiced[inside].astype(int), prepend=0, append=0))
    stretches = (edges[1::2] - edges[::2]) * HOP / SAMPLE_RATE
    steps = np.abs(np.diff(pitch))[voiced[1:] & voiced[:-1]]
    return np.array(
        [
            seconds,
            active[inside].mean(),
            voiced[inside].mean(),
            len(stretches) / seconds,
            stretches.mean() if len(stretches) else 0.0,
            stretches.std() if len(stretches) else 0.0,
            steps.mean() if len(steps) else 0.0,
            np.median(steps) if len(steps) else 0.0,
        ]
    )


class FunctionalsSVM:
    """Support vector machines with radial kernels on standardised functionals, one for each class against the rest.

    C is the one of :attr:`grid` with the highest UAR on the validation set; both sides of each machine weigh the same
    however many utterances they have. Posteriors are the softmax of the decision values at the temperature of the
    highest likelihood on the validation set (Guo et al., ICML 2017). Machines of pairs of classes, scikit-learn's
    default, rank utterances worse: they vote. All machines share one matrix of kernels, N² numbers of 8 bytes, which takes a
    twelfth of the time that each one's own takes.

    Args:
        seed: as every attacker has one; the solution does not depend on it.
        n_classes: K; None takes one more than the highest class that it is fitted on.
    """

    grid = (1.0, 4.0, 16.0)
    """Values of C."""

    def __init__(self, seed: int = 0, n_classes: int | None = None) -> None:
        self.seed, self.n_classes = seed, n_classes
        self.machines: OneVsRestClassifier | None = None
        self.temperature = 1.0

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        validation_features: ArrayLike,
        validation_targets: ArrayLike,
    ) -> "FunctionalsSVM":
        """Learn features ``(N, F)`` and classes ``(N,)``; choose C and the temperature on others of the same shape.

        Raises:
            PseganError: the training set holds a single class, or the validation set none that occurs in training.
            ValueError: shapes that don't fit together, classes that are no indices below K, or values not finite.
        """
        x, y = metrics.as_scores(features, 2, "features"), metrics.as_targets(targets)
        x_val, y_val = metrics.as_scores(validation_features, 2, "features"), metrics.as_targets(validation_targets)
        highest = int(max(y.max(), y_val.max()))
        if self.n_classes is not None and highest >= self.n_classes:
            raise ValueError(f"a class is {highest}, but there are {self.n_classes} classes")
        if len(np.unique(y)) < 2:
            raise PseganError("the attacker's training set has a single class; give it utterances of two or more")
        known = np.isin(y_val, y)
        if not known.any():
            raise PseganError("the attacker's validation set has no class of its training set; choose another split")
        self._size = self.n_classes or highest + 1
        if x_val.shape[1] != x.shape[1]:
            raise ValueError(f"features are of {x.shape[1]} dimensions in training, of {x_val.shape[1]} in validation")
        self._scaler = StandardScaler().fit(x)
        self._support = self._scaler.transform(x)
        kernel, kernel_val = self._kernel(x), self._kernel(x_val)
        best = -1.0
        for c in self.grid:
            svm = SVC(C=c, kernel="precomputed", class_weight="balanced")
            machines = OneVsRestClassifier(svm).fit(kernel, y)
            reached = metrics.uar(self._decision(machines, kernel_val).argmax(1), y_val)
            if reached > best:  # of several, the smoothest
                best, self.machines = reached, machines
        self.temperature = 1.0
        decision = self._decision(self.machines, kernel_val)[known]

        def surprise(log_temperature: float) -> float:
            likelihood = log_softmax(decision / np.exp(log_temperature), 1)
            return -float(likelihood[np.arange(len(decision)), y_val[known]].mean())

        self.temperature = float(np.exp(minimize_scalar(surprise, bounds=(-3, 3), method="bounded").x))
        return self

    def predict_proba(self, features: ArrayLike) -> Floats:
        """Posteriors ``(N, K)`` of features ``(N, F)``, by class index; 0 for a class that training did not have."""
        if self.machines is None:
            raise RuntimeError("fit it first")
        decision = self._decision(self.machines, self._kernel(metrics.as_scores(features, 2, "features")))
        return softmax(decision / self.temperature, 1)

    def _kernel(self, x: Floats) -> Floats:
        """Kernels of features ``(N, F)`` with those of the training set, ``(N, N_train)``."""
        # half of scikit-learn's "auto", which is one over the number of features
        return rbf_kernel(self._scaler.transform(x), self._support, gamma=0.5 / x.shape[1])

    def _decision(self, machines: OneVsRestClassifier, kernel: Floats) -> Floats:
        """Decision values ``(N, K)``, minus infinity for a class that training did not have."""
        values = machines.decision_function(kernel)
        if values.ndim == 1:  # of two classes scikit-learn gives the second one's only
            values = np.stack([-values, values], 1)
        decision = np.full((len(kernel), self._size), -np.inf)
        decision[:, machines.classes_] = values
        return decision
