"""Figures: ROC curves, t-SNE maps, waveforms with spectrograms, and confusion matrices.

Each function returns a :class:`matplotlib.figure.Figure` with its own Agg canvas, so that it needs neither pyplot's global
state nor a display. Colours are Paul Tol's "muted" scheme for colour-blind readers; curves and classes also differ in line
style or marker.
"""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from psegan.common.files import atomic_path
from psegan.metrics.scores import Array, as_scores, to_numpy
from psegan.speech.audio import HOP, SAMPLE_RATE

COLOURS = (
    "#332288", "#CC6677", "#117733", "#DDAA33", "#88CCEE", "#882255", "#44AA99", "#777777", "#AA4499", "#999933",
)  # fmt: skip
"""One colour per class or curve; the scheme's pale grey and sand are darkened, because the background is white."""
_MARKERS = "osD^vP*X<>"
_DASHES = ("-", "--", "-.", ":")
_GREY = "#666666"


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> Path:
    """Write the figure atomically as PNG, and return the path."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
    return Path(path)


def roc_figure(curves: Mapping[str, tuple[Array, Array, float]], title: str) -> Figure:
    """Receiver operating characteristics with their areas, the chance line and the line of equal errors.

    Args:
        curves: name → false positive rate ``(P,)``, true positive rate ``(P,)`` and area.
        title: of the figure.
    """
    figure = _figure(5.6, 5.6)
    axes = figure.add_subplot()
    for i, (name, (fpr, tpr, area)) in enumerate(curves.items()):
        style = _DASHES[(i + i // len(COLOURS)) % len(_DASHES)]  # the second curve of a colour has another dash
        colour, label = COLOURS[i % len(COLOURS)], f"{name} (AUC {float(area):.3f})"
        axes.plot(to_numpy(fpr), to_numpy(tpr), style, color=colour, linewidth=2, label=label, clip_on=False)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=(0, (6, 4)), label="chance (AUC 0.500)", zorder=1)
    axes.plot([0, 1], [1, 0], color="#BBBBBB", linewidth=0.8, linestyle=":", label="equal errors (EER)", zorder=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="False positive rate", ylabel="True positive rate")
    axes.set_title(textwrap.fill(title, 48))
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    # below the axes, since a legend inside would hide curves or the chance line
    figure.legend(loc="outside lower center", ncols=2 if len(curves) > 2 else 1, frameon=False, fontsize=9)
    return figure


def tsne_points(
    original: Array, protected: Array, seed: int, max_points: int = 500
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Two-dimensional t-SNE map (van der Maaten and Hinton, 2008), fitted to original and protected speech together.

    So positions of both can be compared. The map is an illustration; don't take it as evidence.

    Args:
        original, protected: features ``(N, E)`` of the same utterances in the same order.
        seed: seed of the map and of the choice of utterances.
        max_points: maximum number of utterances; if there are more, so many are drawn without replacement.

    Returns:
        Points ``(M, 2)`` of original and of protected speech, and the rising indices ``(M,)`` of the utterances.

    Raises:
        ValueError: features are not finite.
    """
    first, second = as_scores(original, 2, "original"), as_scores(protected, 2, "protected")
    kept = np.arange(len(first))
    if len(first) > max_points:
        kept = np.sort(np.random.default_rng(seed).choice(len(first), max_points, replace=False))
    joint = np.concatenate([first[kept], second[kept]])
    # the usual perplexity, or the largest one that so few points allow; without any spread the map cannot start from PCA
    perplexity = min(30.0, (len(joint) - 1) / 3)
    init = "pca" if joint.shape[1] >= 2 and np.ptp(joint, axis=0).max() > 0 else "random"
    points = TSNE(2, perplexity=perplexity, init=init, random_state=seed).fit_transform(joint).astype(np.float64)
    return points[: len(kept)], points[len(kept) :], kept


def tsne_figure(
    points_original: Array,
    points_protected: Array,
    labels: Array,
    class_names: Sequence[str],
    names: tuple[str, str] = ("original", "protected"),
) -> Figure:
    """Maps of original and protected speech side by side on the same axes, coloured by class (article, Figure 5).

    Args:
        points_original, points_protected: ``(N, 2)``.
        labels: class indices ``(N,)``.
        class_names: K names; classes that don't occur are left out of the legend.
        names: names of the two kinds of speech.
    """
    panels = {names[0]: to_numpy(points_original), names[1]: to_numpy(points_protected)}
    wanted = to_numpy(labels)
    figure = _figure(9.6, 5.4)
    figure.suptitle("t-SNE of emotion features")
    grid = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (name, points) in zip(grid, panels.items(), strict=True):
        for k in np.unique(wanted):
            number = k % len(COLOURS)
            style = {"color": COLOURS[number], "marker": _MARKERS[number], "label": class_names[k]}
            axes.scatter(*points[wanted == k].T, s=22, alpha=0.8, linewidths=0.3, edgecolors="white", **style)
        axes.set(title=f"{name} speech", xlabel="t-SNE dimension 1")
        axes.grid(alpha=0.2)
    grid[0].set_ylabel("t-SNE dimension 2")
    handles = grid[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False)
    return figure


def _slaney_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale (Auditory Toolbox, 1998): linear to 1 kHz, logarithmic above."""
    return np.where(hertz < 1000, 3 * hertz / 200, 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4))


def _kilohertz_axis(axes: Axes, n_mels: int) -> None:
    """Label the axis of mel bands with their centre frequencies."""
    marks = np.array([0.0, 500, 1000, 2000, 4000, SAMPLE_RATE / 2])
    # the centre of band i is point i + 1 of n_mels + 2 equally spaced points from 0 to the top
    positions = _slaney_mel(marks) / _slaney_mel(marks[-1:]) * (n_mels + 1) - 1
    axes.set_yticks(positions.clip(-0.5, n_mels - 0.5), [f"{f / 1000:g}" for f in marks])


def speech_figure(waveforms: Mapping[str, Array], log_mels: Mapping[str, Array], title: str = "") -> Figure:
    """Waveforms above their log-mel spectrograms, with one column per version of the utterance (article, Figure 4).

    All columns share the scales of time, amplitude and level.

    Args:
        waveforms: name → samples ``(T,)`` at 16 kHz in [-1, 1].
        log_mels: name → natural logarithm of mel magnitudes ``(bands, N)``, in Slaney bands from 0 to 8 kHz, with one
            frame every :data:`psegan.speech.audio.HOP` samples.
        title: title above all panels.
    """
    signals = {name: to_numpy(x) for name, x in waveforms.items()}
    spectra = {name: to_numpy(log_mels[name]) for name in waveforms}
    figure = _figure(1.0 + 4.2 * len(signals), 5.2)
    if title:
        figure.suptitle(title)
    grid = figure.subplots(2, len(signals), sharex=True, sharey="row", squeeze=False, height_ratios=[1, 1.6])
    seconds = max(len(x) for x in signals.values()) / SAMPLE_RATE
    peak = max(1e-3, *(np.abs(x).max() for x in signals.values())) * 1.05
    levels = np.concatenate([x.ravel() for x in spectra.values()])
    high = levels.max()
    # the scale is limited to 9 nepers (78 dB), because digital silence would take half of it
    low = max(np.percentile(levels, 1), high - 9)
    low = low if low < high else high - 1
    for (top, bottom), (name, samples) in zip(grid.T, signals.items(), strict=True):
        top.plot(np.arange(len(samples)) / SAMPLE_RATE, samples, color=COLOURS[0], linewidth=0.5)
        top.set(title=name, ylim=(-peak, peak))
        top.grid(alpha=0.2)
        bands, frames = spectra[name].shape
        end = (frames - 0.5) * HOP / SAMPLE_RATE  # frame i is centred at i * HOP
        extent = (-0.5 * HOP / SAMPLE_RATE, end, -0.5, bands - 0.5)
        shown = {"origin": "lower", "aspect": "auto", "vmin": low, "vmax": high, "cmap": "magma"}
        image = bottom.imshow(spectra[name], extent=extent, **shown)
        bottom.set(xlabel="Time (s)", xlim=(0, seconds), ylim=(-0.5, bands - 0.5))
        _kilohertz_axis(bottom, bands)
    grid[0, 0].set_ylabel("Amplitude")
    grid[1, 0].set_ylabel("Frequency (kHz, mel scale)")
    figure.colorbar(image, ax=grid[1, :].tolist(), label="Log-mel magnitude (ln)", pad=0.01, aspect=15)
    return figure


Point = tuple[float, float, float]
"""A score and the ends of its interval; NaN where it has none."""


def frontier_figure(panels: Mapping[str, Mapping[str, tuple[Point, Point]]], across: str, title: str) -> Figure:
    """What is hidden against what survives: a panel for each measure of what survives, in which every system is a point.

    Intervals are drawn as crosses, from one end to the other, wherever the score lies. A system has one marker and colour in
    all panels.

    Args:
        panels: name of the measure, with its unit, that goes upwards → system → score across and score upwards.
        across: name of the measure, with its unit, that goes across.
        title: above all panels.
    """
    systems = list(dict.fromkeys(name for points in panels.values() for name in points))
    figure = _figure(1.0 + 4.0 * len(panels), 4.6)
    figure.suptitle(textwrap.fill(title, 40 * len(panels)))
    grid = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
    for axes, (name, points) in zip(grid, panels.items(), strict=True):
        for system, scores in points.items():
            i = systems.index(system)
            (x, *across_ends), (y, *upward_ends) = scores
            colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[(i + i // len(COLOURS)) % len(_MARKERS)]
            if np.isfinite(across_ends).all():
                axes.hlines(y, *across_ends, color=colour, linewidth=0.9)
            if np.isfinite(upward_ends).all():
                axes.vlines(x, *upward_ends, color=colour, linewidth=0.9)
            style = {"color": colour, "marker": marker, "markeredgecolor": "white", "label": system}
            # a star of equal width has less area than other markers
            axes.plot(x, y, linestyle="none", markersize=11 if marker == "*" else 7, **style)
        axes.set(xlabel=across, ylabel=name)
        axes.grid(alpha=0.25)
    handles = {text: mark for axes in grid for mark, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def confusion_figure(matrix: Array, class_names: Sequence[str], title: str = "") -> Figure:
    """Confusion matrix in percent of each true class, with the number of utterances in the labels of the rows.

    Args:
        matrix: counts ``(K, K)``; rows are true classes, columns predicted ones.
        class_names: K names.
        title: of the figure.
    """
    counts, k = to_numpy(matrix).astype(np.float64), len(class_names)
    total = counts.sum(1, keepdims=True)
    percent = 100 * np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    side = 2.4 + 0.52 * max(k, 3)
    figure = _figure(side + 1.6, side)
    figure.set_layout_engine("compressed")  # without blank bands above and below the square axes
    axes = figure.add_subplot()
    image = axes.imshow(percent, vmin=0, vmax=100, cmap="Blues")
    axes.set_xticks(range(k), list(class_names), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(k), [f"{name} ({n:.0f})" for name, n in zip(class_names, total[:, 0], strict=True)])
    axes.set(xlabel="Predicted class", ylabel="True class (utterances)", title=textwrap.fill(title, 48))
    if k <= 12:  # with more classes the numbers would overlap
        for i, j in np.ndindex(k, k):
            colour = "white" if percent[i, j] > 55 else "black"
            axes.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axes, label="Percent of the true class", shrink=0.9)
    return figure
