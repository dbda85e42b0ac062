"""A results table as large and as various as a real evaluation's, made of invented numbers."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from psegan.plots import confusion_figure, roc_figure, save_figure, speech_figure
from psegan.report.page import AudioExample, Page, read_page, write_page
from psegan.report.results import Results, Row
from psegan.speech.audio import write_audio

ATTACKERS = {"ignorant": 0.0, "vocoder-aware": 0.1, "informed": 0.35, "strongest": 0.42}
"""How much of what a system hides an attacker gets back."""
SYSTEMS = {
    "original": (0.0, 0.0), "copy-synthesis": (0.1, 0.02), "noise-20db": (0.15, 0.05), "noise-10db": (0.3, 0.15),
    "mcadams": (0.35, 0.5), "pitch": (0.3, 0.4), "neutral": (0.7, 0.4), "psegan": (0.97, 0.05),
    "gengan": (0.85, 0.2), "pcmelgan": (0.6, 0.1), "psegan-no-sm": (0.98, 0.5), "psegan-no-grn": (0.75, 0.08),
}  # fmt: skip
"""Invented: the share of emotion and of the speaker that each takes away."""
CORPORA = {"ravdess": (8, 24, 1440, 0.92), "emodb": (7, 10, 535, 0.93)}
"""Emotions, speakers, utterances, accuracy on original speech."""


def _rows(seed: int) -> Iterator[Row]:
    random = np.random.default_rng(seed)
    for corpus, (k, _, total, ceiling) in CORPORA.items():
        for split in ("paper", "speaker-disjoint"):
            n = total if split == "speaker-disjoint" else total // 12
            top = ceiling if split == "paper" else ceiling - 0.15

            def row(
                system: str, attribute: str, metric: str, value: float, width: float, attacker: str | None = None,
                seed: int | None = None, judge: str | None = None, corpus: str = corpus, split: str = split, n: int = n,
            ) -> Row:  # fmt: skip
                value = float(value + random.normal(0, width / 6))
                return Row(
                    system=system, corpus=corpus, split=split, attacker=attacker, attribute=attribute, metric=metric,
                    value=value, low=value - width, high=value + width, n=n, seed=seed, judge=judge,
                )  # fmt: skip

            yield row("original", "emotion", "uar", 1 / k, 0.03, "shuffled-labels")
            for system, (hidden, lost) in SYSTEMS.items():
                for attacker, regained in ATTACKERS.items():
                    left = 1 - hidden * (1 - regained)
                    uar = 1 / k + (top - 1 / k) * left
                    yield row(system, "emotion", "accuracy", uar + 0.01, 0.04, attacker)
                    yield row(system, "emotion", "uar", uar, 0.04, attacker)
                    yield row(system, "emotion", "auc", 0.5 + 0.48 * left, 0.02, attacker)
                    yield row(system, "emotion", "eer", 0.5 - 0.45 * left, 0.02, attacker)
                    yield row(system, "emotion", "residual", left, 0.05, attacker)
                    yield row(system, "emotion", "bits", 2.5 * left**2, 0.1, attacker)
                    yield row(system, "emotion", "worst_class", min(uar + 0.2, 0.99), 0.06, attacker)
                    yield row(system, "emotion", "most_predicted", 1 / k + 0.1, 0.02, attacker)
                    yield row(system, "emotion", "tpr_at_1", 0.01 + 0.6 * left, 0.04, attacker)
                    if system != "original":
                        yield row(system, "emotion", "uar-minus-original", uar - top, 0.05, attacker)
                for kind in ("cnn", "gru", "svm"):
                    for member in (0, 1):
                        yield row(system, "emotion", "uar", uar - 0.05, 0.05, f"informed/{kind}-{member}", member)
                if split == "paper":
                    yield row(system, "speaker", "accuracy", 0.97 - 0.8 * lost, 0.03)
                yield row(system, "speaker", "eer", 0.02 + 0.4 * lost, 0.01)
                yield row(system, "speaker", "eer_protected", 0.03 + 0.3 * lost, 0.01)
                yield row(system, "speaker", "min_dcf", 0.15 + lost, 0.03)
                yield row(system, "speaker", "min_dcf_protected", 0.2 + lost, 0.03)
                yield row(system, "gender", "accuracy", 0.99 - 0.2 * lost, 0.01)
                yield row(system, "content", "accuracy", 0.99 - 0.4 * lost, 0.02)
                if corpus == "ravdess":  # the recogniser knows English alone
                    yield row(system, "words", "wer", 0.05 + 0.6 * hidden, 0.04, judge="moonshine")
                yield row(system, "speaker", "eer", 0.19 + 0.2 * hidden, 0.02, judge="resemblyzer")
                yield row(system, "speaker", "eer_neutral", 0.2 + 0.2 * hidden, 0.02, judge="resemblyzer")
                yield row(system, "speech", "overall", 3 - hidden, 0.1, judge="dnsmos")
                yield row(system, "speech", "loudest_p95", 25 * hidden, 1.0, judge="level")
                yield row(system, "speech", "mcd", 8 * hidden**0.5, 0.2)
                yield row(system, "speech", "stoi", 1 - 0.4 * hidden, 0.02)


def invented_results(seed: int = 0) -> Results:
    """Twelve systems, four attackers, two splits, two corpora; other numbers for another seed."""
    chance = {
        corpus: {"emotion": 1 / k, "speaker": 1 / speakers, "gender": 0.5, "content": 0.5 if k == 8 else 0.1}
        for corpus, (k, speakers, _, _) in CORPORA.items()
    }
    roles = dict.fromkeys(SYSTEMS, "system") | dict.fromkeys(list(SYSTEMS)[:6], "control")
    roles |= dict.fromkeys(("psegan-no-sm", "psegan-no-grn"), "ablation of psegan")
    return Results({"seed": seed, "chance": chance, "roles": roles, "commit": "abc</pre>def"}, list(_rows(seed)))


def write_run(
    folder: Path, results: Results, systems: tuple[str, ...] = ("original", "copy-synthesis", "psegan")
) -> Path:
    """A run's folder as ``psegan evaluate`` leaves it: results.json, figures/, audio/ and page.json."""
    folder.mkdir(parents=True, exist_ok=True)
    results.to_json(folder / "results.json")
    time = torch.arange(16000) / 16000
    waveforms = {name: 0.3 * torch.sin(2 * torch.pi * (110 + 40 * i) * time) for i, name in enumerate(systems)}
    mels = {name: torch.randn(80, 63, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(systems)}
    curves = {name: ([0, 0.2, 1], [0, 0.9 - 0.1 * i, 1], 0.85 - 0.1 * i) for i, name in enumerate(systems)}
    figures = {
        "Emotion ROC & more": save_figure(roc_figure(curves, "Emotion"), folder / "figures/roc_emotion.png", 80),
        "Speaker ROC": save_figure(roc_figure(curves, "Speaker"), folder / "figures/roc_speaker.png", 80),
        "An utterance": save_figure(speech_figure(waveforms, mels), folder / "figures/speech_psegan.png", 80),
        "Confusion": save_figure(confusion_figure(torch.eye(8), list("abcdefgh")), folder / "figures/confusion.png", 80),
    }  # fmt: skip
    audio = []
    for number in (1, 2):
        clips = {}
        for i, (name, waveform) in enumerate(waveforms.items()):
            # both formats that the page plays
            clips[name] = folder / f"audio/{number}-{name}{'.flac' if i else '.wav'}"
            clips[name].parent.mkdir(exist_ok=True)
            write_audio(clips[name], waveform)
        audio.append(AudioExample(f"Actor_0{number}/03", f"speaker {number:02}, <sad>", clips))
    write_page(folder, Page(f"Evaluation <{folder.name}>", figures, audio))
    return folder


@pytest.fixture(scope="session")
def invented() -> Callable[[int], Results]:
    """Gives :func:`invented_results` of a seed."""
    return invented_results


@pytest.fixture(scope="session")
def run_writer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, Results], Path]:
    """Gives a function that makes a folder a run as ``psegan evaluate`` leaves it; the figures are drawn once."""
    drawn = write_run(tmp_path_factory.mktemp("drawn"), Results())

    def write(folder: Path, results: Results) -> Path:
        shutil.copytree(drawn, folder)
        results.to_json(folder / "results.json")
        write_page(folder, replace(read_page(folder), title=f"Evaluation <{folder.name}>"))
        return folder

    return write
