"""Figures: their files, their texts, and the reproducibility of t-SNE."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from psegan import plots

NAMES = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised", "bored", "tired"]


def texts(figure: Figure) -> str:
    """All text of a figure."""
    return "\n".join(item.get_text() for item in figure.findobj(Text) if isinstance(item, Text))


def check_png(figure: Figure, path: Path) -> None:
    """The figure is written as a PNG file that isn't one colour."""
    assert plots.save_figure(figure, path, dpi=50) == path
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    image = imread(path)
    assert image.std() > 0.01
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_roc(tmp_path: Path) -> None:
    curves: dict[str, Any] = {
        "original": (np.array([0, 0.1, 1]), np.array([0, 0.9, 1]), 0.9),
        "psegan": (torch.tensor([0, 0.5, 1]), torch.tensor([0, 0.6, 1]), torch.tensor(0.55)),
    }
    figure = plots.roc_figure(curves, "Emotion")
    shown = texts(figure)
    for part in ("original (AUC 0.900)", "psegan (AUC 0.550)", "chance", "False positive rate", "Emotion"):
        assert part in shown
    check_png(figure, tmp_path / "roc.png")


@pytest.mark.parametrize("n", [1, 2, 30])
def test_tsne_points_of_few_utterances(n: int) -> None:
    generator = np.random.default_rng(0)
    original, protected = generator.normal(size=(2, n, 6))
    first, second, kept = plots.tsne_points(original, torch.tensor(protected), seed=1)
    assert first.shape == second.shape == (n, 2)
    assert np.isfinite(first).all() and np.isfinite(second).all()
    np.testing.assert_array_equal(kept, np.arange(n))
    again = plots.tsne_points(original, protected, seed=1)
    np.testing.assert_array_equal(again[0], first)
    np.testing.assert_array_equal(again[1], second)


def test_tsne_points_are_capped_and_aligned() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    original = generator.normal(size=(60, 5)) + 40 * labels[:, None]
    first, second, kept = plots.tsne_points(original, original, seed=0, max_points=20)
    assert len(first) == len(second) == 20
    assert len(set(kept)) == 20 and (np.diff(kept) > 0).all()
    # equal features lie together, in both panels: the map is common
    assert np.abs(first - second).max() < np.ptp(first)
    one, two = first[labels[kept] == 0], first[labels[kept] == 1]
    assert np.linalg.norm(one.mean(0) - two.mean(0)) > np.linalg.norm(one - one.mean(0), axis=1).mean()
    other = plots.tsne_points(original, original, seed=1, max_points=20)[2]
    assert not np.array_equal(kept, other)


@pytest.mark.parametrize("features", [np.zeros((5, 4)), np.arange(5.0)[:, None]])
def test_tsne_points_of_degenerate_features(features: np.ndarray) -> None:
    first, second, _ = plots.tsne_points(features, features, seed=0)
    assert np.isfinite(first).all() and np.isfinite(second).all()


def test_tsne_points_refuse_bad_features() -> None:
    with pytest.raises(ValueError, match="NaN"):
        plots.tsne_points(np.full((3, 2), np.nan), np.zeros((3, 2)), seed=0)


def test_tsne_figure(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(2, 40, 2))
    figure = plots.tsne_figure(points[0], points[1], np.arange(40) % 9, NAMES)
    shown = texts(figure)
    assert "original speech" in shown and "protected speech" in shown
    assert all(name in shown for name in NAMES[:9]) and NAMES[9] not in shown
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    check_png(figure, tmp_path / "tsne.png")
    figure = plots.tsne_figure(points[0], points[1], np.arange(40) % 11, [*NAMES, "eleventh"])
    assert "eleventh" in texts(figure), "the eleventh class gets the first one's colour"


def test_speech_figure(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    waveforms: dict[str, Any] = {"original": generator.normal(size=16000) * 0.1, "protected": torch.zeros(8000)}
    log_mels: dict[str, Any] = {
        "original": generator.normal(size=(80, 63)) - 5,
        "protected": torch.full((80, 32), -11.5),
    }
    figure = plots.speech_figure(waveforms, log_mels, title="actor 07, sad")
    shown = texts(figure)
    for part in ("original", "protected", "Time (s)", "Amplitude", "kHz", "actor 07, sad"):
        assert part in shown
    top, bottom = figure.axes[:2], figure.axes[2:4]
    assert {axes.get_xlim() for axes in figure.axes[:4]} == {(0.0, 1.0)}
    assert len({axes.get_ylim() for axes in top}) == len({axes.get_ylim() for axes in bottom}) == 1
    assert len({axes.images[0].get_clim() for axes in bottom}) == 1
    check_png(figure, tmp_path / "speech.png")


def test_speech_figure_of_silence(tmp_path: Path) -> None:
    check_png(plots.speech_figure({"a": np.zeros(100)}, {"a": np.full((80, 1), -11.5)}), tmp_path / "silence.png")


def test_frequencies_lie_where_the_filters_do() -> None:
    """The label of 1 kHz is at the band that a tone of 1 kHz excites most, and so on."""
    from psegan.speech.audio import LogMel

    figure = plots.speech_figure({"a": np.zeros(16000)}, {"a": np.zeros((80, 63))})
    axes = figure.axes[1]
    ticks = dict(zip((t.get_text() for t in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    for label in ("0.5", "1", "2", "4"):
        tone = torch.sin(2 * torch.pi * float(label) * 1000 * torch.arange(16000) / 16000)
        band = LogMel()(tone[None], torch.tensor([16000]))[0][0, :, 30].argmax()
        assert abs(ticks[label] - float(band)) <= 1


def test_confusion(tmp_path: Path) -> None:
    figure = plots.confusion_figure(torch.tensor([[3, 1], [0, 0]]), ["sad", "happy"], "Emotion")
    shown = texts(figure)
    for part in ("sad (4)", "happy (0)", "75", "25", "Predicted class", "Emotion"):
        assert part in shown
    check_png(figure, tmp_path / "confusion.png")


def whiskers(axes: Axes) -> list[Any]:
    """The ends of each interval, (x, y) and (x, y), in the order in which they were drawn."""
    lines = [item for item in axes.collections if isinstance(item, LineCollection)]
    return [segment.tolist() for line in lines for segment in line.get_segments()]


def test_frontier_has_every_system_in_every_panel_that_knows_it(tmp_path: Path) -> None:
    nan = float("nan")
    words = {"original": ((91.0, 85.0, 96.0), (5.0, 3.0, 8.0)), "psegan": ((73.0, 65.0, 81.0), (64.0, 66.0, 71.0))}
    panels = {"WER (%) ↓": words, "DNSMOS ↑": {"psegan": ((73.0, 65.0, 81.0), (1.8, nan, nan))}}
    figure = plots.frontier_figure(panels, "UAR (%)", "title")
    left, right = figure.axes
    assert (left.get_xlabel(), left.get_ylabel()) == ("UAR (%)", "WER (%) ↓")
    points = {line.get_label(): (*line.get_xdata(), *line.get_ydata()) for line in left.lines}
    assert points == {"original": (91.0, 5.0), "psegan": (73.0, 64.0)}
    # the score of the words lies outside of its interval
    assert whiskers(left)[2:] == [[[65.0, 64.0], [81.0, 64.0]], [[73.0, 66.0], [73.0, 71.0]]]
    assert whiskers(right) == [[[65.0, 1.8], [81.0, 1.8]]]
    assert [line.get_label() for line in right.lines] == ["psegan"]
    assert left.lines[1].get_color() == right.lines[0].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["original", "psegan"]
    plots.save_figure(figure, tmp_path / "frontier.png")


def test_every_marker_of_a_frontier_is_seen() -> None:
    point = (0.5, 0.4, 0.6)
    figure = plots.frontier_figure({"WER (%)": {str(i): (point, point) for i in range(10)}}, "UAR (%)", "title")
    sizes = {str(line.get_marker()): line.get_markersize() for line in figure.axes[0].lines}
    assert len(sizes) == 10 and sizes.pop("*") > 1.5 * max(sizes.values())


def test_pyplot_is_not_imported() -> None:
    """Its global state leaks figures in long runs and asks for a display."""
    command = "import sys, psegan.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
