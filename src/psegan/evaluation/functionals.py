"""The classical attacker on emotion: functionals of acoustic descriptors and a support vector machine.

The method of the Interspeech challenges (Schuller, Steidl and Batliner, 2009; Schuller et al., "ComParE", 2013): curves of
cepstrum, pitch, energy and spectral shape over time are summarised by statistics, so that an utterance of any length becomes
one vector. The set is much smaller than openSMILE's ComParE, which has 65 descriptors and hundreds of functionals.
"""

from functools import cache
from itertools import product

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
"""Frames that are this many dB below the loudest one count as silence. Corpora differ in the silence around utterances."""

TIMBRE = (*(f"mfcc{i}" for i in range(N_MFCC)), "energy", "centroid", "flux", "slope0-500", "slope500-1500")
"""Descriptors of every frame: energy in dB, spectral slopes in dB per kHz, the centroid in Hz."""
VOICE = ("f0", "hnr")
"""Descriptors of voiced frames: fundamental in semitones above 27.5 Hz (median over five frames), and harmonics-to-noise
ratio in dB."""
STATISTICS = (
    *("mean", "deviation", "p1", "p5", "p25", "p50", "p75", "p95", "p99", "p75-p25", "p95-p5"),
    *("skewness", "kurtosis", "slope", "curvature", "linear-error"),
)
"""Functionals of a curve."""
RHYTHM = (
    *("seconds", "active", "voiced", "voiced-rate", "voiced-mean", "voiced-deviation"),
    *("jitter-mean", "jitter-median"),
)
"""Of an utterance without the silence around it: its length, the fractions of active and of voiced frames, the number of voiced
stretches per second, mean and deviation of their length in seconds, and the steps of the pitch between frames in semitones."""
FEATURES = (
    *(".".join(name) for name in product([*TIMBRE, *(f"delta-{curve}" for curve in TIMBRE)], STATISTICS)),
    *(".".join(name) for name in product([*VOICE, *(f"delta-{curve}" for curve in VOICE)], STATISTICS)),
    *RHYTHM,
)
"""Names of the features, in their order."""

Floats = NDArray[np.float64]


@torch.no_grad()
def functionals(waveform: Tensor) -> Floats:
    """The features of an utterance.

    Statistics of timbre are taken over active frames, those of the voice over voiced frames, and those of the deltas of
    the voice over voiced frames whose two neighbours on either side are voiced too. Without such frames they are 0.

    Args:
        waveform: ``(T,)`` at 16 kHz, at least one sample.

    Returns:
        ``(F,)``, named by :data:`FEATURES`; they are finite, also for silence.
    """
    waveform = waveform.detach().cpu().float()
    frames = torch.nn.functional.pad(waveform, (FRAME // 2, FRAME // 2)).unfold(0, FRAME, HOP)
    timbre, energy = _timbre(waveform, frames)
    found = pitch_of_frames(frames)
    pitch, correlation = (12 * torch.log2(found.frequency / 27.5)).double().numpy(), found.periodicity.double().numpy()
    active = energy > energy.max() - ACTIVE_DB
    voiced = (correlation > VOICED) & active
    harmonic = correlation.clip(1e-3, 1 - 1e-4)
    voice = np.stack([median_filter(pitch, 5), 10 * np.log10(harmonic / (1 - harmonic))])
    steady = binary_erosion(voiced, np.ones(5))  # frames whose delta depends on voiced frames only
    return np.concatenate(
        [
            statistics(timbre[:, active]),
            statistics(deltas(timbre)[:, active]),
            statistics(voice[:, voiced]),
            statistics(deltas(voice)[:, steady]),
            _rhythm(pitch, active, voiced),
        ]
    )


@cache
def _front_end() -> tuple[MFCC, Tensor, Tensor]:
    """MFCC, window ``(FRAME,)`` and frequencies ``(FRAME // 2 + 1,)`` in Hz."""
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


def deltas(curves: Floats) -> Floats:
    """Slopes of curves ``(D, N)`` over five frames, of the same shape."""
    return AF.compute_deltas(torch.from_numpy(curves)).numpy()


def statistics(curves: Floats) -> Floats:
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
    # limited, because a single click would give values that outweigh all other features
    skewness, kurtosis = (standard**3).mean(1).clip(-10, 10), (standard**4).mean(1).clip(0, 50)
    found = [mean, deviation, p1, p5, p25, p50, p75, p95, p99, p75 - p25, p95 - p5, skewness, kurtosis]
    return np.stack([*found, slope, curvature, error], 1).ravel()


def _rhythm(pitch: Floats, active: NDArray[np.bool_], voiced: NDArray[np.bool_]) -> Floats:
    """:data:`RHYTHM` of an utterance of N frames; arguments each ``(N,)``."""
    first, last = np.flatnonzero(active)[[0, -1]]
    inside = slice(first, last + 1)
    seconds = (last + 1 - first) * HOP / SAMPLE_RATE
    edges = np.flatnonzero(np.diff(voiced[inside].astype(int), prepend=0, append=0))
    stretches = (edges[1::2] - edges[::2]) * HOP / SAMPLE_RATE
    steps = np.abs(np.diff(pitch))[voiced[1:] & voiced[:-1]]
    lengths = (stretches.mean(), stretches.std()) if len(stretches) else (0.0, 0.0)
    jitter = (steps.mean(), np.median(steps)) if len(steps) else (0.0, 0.0)
    fractions = active[inside].mean(), voiced[inside].mean()
    return np.array([seconds, *fractions, len(stretches) / seconds, *lengths, *jitter])


class FunctionalsSVM:
    """Support vector machines with radial kernels on standardised functionals, one for each class against all others.

    C is the value of :attr:`grid` with the highest UAR on the validation set. Both sides of a machine have the same weight,
    however many utterances they have. Posteriors are the softmax of the decision values at a temperature that maximises the
    likelihood of the validation set (Guo et al., ICML 2017). One machine for each pair of classes, as scikit-learn trains them
    by default, would rank utterances less well, since such machines vote. All machines share one kernel matrix of N² numbers
    of 8 bytes, which takes a twelfth of the time that a matrix for each of them takes.

    Args:
        seed: not used, since the solution is unique; every attacker has this argument.
    """

    grid = (1.0, 4.0, 16.0)

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.machines: OneVsRestClassifier

    def fit(
        self, features: ArrayLike, targets: ArrayLike, validation_features: ArrayLike, validation_targets: ArrayLike
    ) -> "FunctionalsSVM":
        """Learn from features ``(N, F)`` and classes ``(N,)``, and choose C and the temperature on the validation set.

        Raises:
            PseganError: the training set has a single class, or the validation set has no class of the training set.
            ValueError: features are not finite.
        """
        x, y = metrics.as_scores(features, 2, "features"), metrics.as_targets(targets)
        x_val, y_val = metrics.as_scores(validation_features, 2, "features"), metrics.as_targets(validation_targets)
        if len(np.unique(y)) < 2:
            raise PseganError("the attacker's training set has a single class; give it utterances of two or more")
        known = np.isin(y_val, y)
        if not known.any():
            raise PseganError("the attacker's validation set has no class of its training set; choose another split")
        self._n_classes = int(max(y.max(), y_val.max())) + 1
        self._scaler = StandardScaler().fit(x)
        self._support = self._scaler.transform(x)
        kernel, kernel_val = self._kernel(x), self._kernel(x_val)
        best = -1.0
        for c in self.grid:
            machines = OneVsRestClassifier(SVC(C=c, kernel="precomputed", class_weight="balanced")).fit(kernel, y)
            reached = metrics.uar(self._decision(machines, kernel_val).argmax(1), y_val)
            if reached > best:  # if several are equal, the smallest C, which is the smoothest
                best, self.machines = reached, machines
        decision = self._decision(self.machines, kernel_val)[known]

        def surprise(log_temperature: float) -> float:
            likelihood = log_softmax(decision / np.exp(log_temperature), 1)
            return -float(likelihood[np.arange(len(decision)), y_val[known]].mean())

        self.temperature = float(np.exp(minimize_scalar(surprise, bounds=(-3, 3), method="bounded").x))
        return self

    def predict_proba(self, features: ArrayLike) -> Floats:
        """Posteriors ``(N, K)`` of features ``(N, F)``; 0 for a class that the training set lacks."""
        decision = self._decision(self.machines, self._kernel(metrics.as_scores(features, 2, "features")))
        return softmax(decision / self.temperature, 1)

    def _kernel(self, x: Floats) -> Floats:
        """Kernel matrix ``(N, N_train)`` of features ``(N, F)`` and the training set."""
        # half of scikit-learn's "auto", which is 1 / F
        return rbf_kernel(self._scaler.transform(x), self._support, gamma=0.5 / x.shape[1])

    def _decision(self, machines: OneVsRestClassifier, kernel: Floats) -> Floats:
        """Decision values ``(N, K)``; minus infinity for a class that the training set lacks."""
        values = machines.decision_function(kernel)
        if values.ndim == 1:  # of two classes, scikit-learn returns only the second one's
            values = np.stack([-values, values], 1)
        decision = np.full((len(kernel), self._n_classes), -np.inf)
        decision[:, machines.classes_] = values
        return decision
