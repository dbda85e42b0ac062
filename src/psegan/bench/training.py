"""``make bench``: measure training, evaluation and protection, print the results and write them to runs/bench.json.

Training runs the experiment files through ``psegan fit``. All recordings are noise, as long as those of RAVDESS.
"""

import itertools
import platform
import re
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import numpy as np
import torch
from torch import Tensor

from datamodules.base import Utterance
from datamodules.ravdess import RAVDESSDataModule
from psegan.bench.fit import NOISE, SYNTHETIC, Setting
from psegan.bench.speech import Value, speech_out
from psegan.common.files import write_json
from psegan.common.random import seeded
from psegan.evaluation.functionals import functionals
from psegan.metrics.bootstrap import Bootstrap
from psegan.metrics.quality import measures
from psegan.models.vocoder import GriffinLim
from psegan.protection.controls import AdditiveNoise, CopySynthesis, McAdams, PitchShift
from psegan.systems.base import System
from psegan.systems.classifier import Classifier
from psegan.training import command as training

OUT = Path("runs/bench.json")


class NoiseDataModule(RAVDESSDataModule):
    """RAVDESS without its recordings: its names and classes, with noise of 2.9 to 5.3 s."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(root="", **kwargs)

    def find_utterances(self) -> list[Utterance]:
        return [self.parse(id) for id in self.complete_ids()]

    def loader(self) -> Callable[[Utterance], Tensor]:
        return noise


def noise(utterance: Utterance) -> Tensor:
    """A waveform ``(T,)`` that depends only on the id."""
    random = seeded("bench", utterance.id)
    samples = int(16_000 * (2.9 + 2.4 * torch.rand((), generator=random)))
    return torch.rand(samples, generator=random) * 0.2 - 0.1


class Stopwatch(L.Callback):
    """When each training batch ended, so that the time between two ends includes reading and logging.

    ``worked`` is the time that the process has computed for by then, of which other processes take none.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.worked: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.ends.append(time.perf_counter())
        self.worked.append(time.process_time())


def training_speeds() -> Iterator[tuple[str, Value]]:
    """Name and utterances/s (batch size over the median batch time) of the default and the article's configuration."""
    for name, overlays, batches in (("default", [], 12), ("paper", ["experiments/presets/paper.yaml"], 3)):
        with tempfile.TemporaryDirectory() as folder:
            limits = f"--trainer.limit_train_batches={batches + 1}", "--trainer.limit_val_batches=0"
            setting = Setting("cpu", Path(folder), options=limits)
            cli = training.main(setting.psegan("run", overlays, NOISE, f"--trainer.callbacks+={__name__}.Stopwatch"))
        (stopwatch,) = [one for one in cli.trainer.callbacks if isinstance(one, Stopwatch)]  # type: ignore[attr-defined]
        yield f"train/{name}", (float(cli.datamodule.batch_size / np.median(np.diff(stopwatch.ends))), "utterances/s")


def cost_of_pace(rounds: int = 4, steps: int = 30) -> None:
    """Print how long a step of PSEGAN on synthetic speech computes with and without :meth:`~psegan.systems.System.pace`.

    Trainings with and without it take turns, ``rounds`` of each, so that what else the machine does falls on both alike.
    """
    options = (
        "--data.init_args.batch_size=8", f"--trainer.limit_train_batches={steps + 1}", "--trainer.limit_val_batches=0",
        f"--trainer.callbacks+={__name__}.Stopwatch",
    )  # fmt: skip
    taken: dict[str, list[float]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting("cpu", Path(folder))
        for number in range(rounds):
            for kind, times in taken.items():
                words = setting.psegan(f"{kind}-{number}", [SYNTHETIC], *options)
                with patch.object(System, "pace", lambda *args: {}) if kind == "without" else nullcontext():
                    cli = training.main(words)
                (stopwatch,) = [one for one in cli.trainer.callbacks if isinstance(one, Stopwatch)]  # type: ignore[attr-defined]
                times.extend(1000 * np.diff(stopwatch.worked))
    for kind, times in taken.items():
        low, middle, high = np.quantile(times, (0.25, 0.5, 0.75))
        print(f"{kind}: {middle:.0f} ms a step, the middle half {low:.0f} to {high:.0f}, of {len(times)} steps")


def seconds_per_1000(work: Callable[[Utterance], object], n: int) -> float:
    """Seconds for 1000 utterances, estimated from ``n``, after one that is not counted."""
    first, *utterances = NoiseDataModule().utterances()[: n + 1]
    work(first)
    return timeit.timeit(lambda: [work(utterance) for utterance in utterances], number=1) / n * 1000


def evaluation_times() -> Iterator[tuple[str, Value]]:
    """Controls, classifier, features, quality and bootstrap: name, and value with its unit."""
    classifier = Classifier(NoiseDataModule().n_classes).eval()

    @torch.no_grad()
    def classify(utterance: Utterance) -> None:
        waveform = noise(utterance).unsqueeze(0)
        classifier(*classifier.front_end(waveform, torch.tensor([waveform.shape[1]])))

    works: dict[str, tuple[Callable[[Utterance], object], int]] = {
        f"control/{type(one).__name__}": (lambda u, p=one: p.transform(noise(u), seeded(u.id)), 12)  # type: ignore[misc]
        for one in (AdditiveNoise(5.0), McAdams(), PitchShift(), CopySynthesis(GriffinLim()))
    }
    works["score/classifier"] = classify, 50
    works["score/functionals"] = lambda u: functionals(noise(u)), 50
    works["score/signal"] = lambda u: measures(noise(u), noise(u) / 2), 20
    for name, (work, n) in works.items():
        yield name, (seconds_per_1000(work, n), "s/1000 utterances")
    yield "bootstrap", (bootstrap_time(), "s for 10,000 resamples of a table of RAVDESS's size")


def bootstrap_time(n: int = 1440, n_speakers: int = 24, n_emotions: int = 8) -> float:
    """Seconds for 10,000 resamples of accuracy, UAR, AUC and EER of emotion, and the EER of all verification trials."""
    random = np.random.default_rng(0)
    emotion, speaker = np.arange(n) % n_emotions, np.arange(n) % n_speakers
    scores = random.dirichlet(np.ones(n_emotions), n)
    voices = random.normal(size=(2, n, 64)) + 0.3 * random.normal(size=(n_speakers, 64))[speaker]
    started = time.perf_counter()
    resamples = Bootstrap(speaker, 10_000)
    for metric in (resamples.accuracy, resamples.uar, resamples.macro_auc, resamples.one_vs_rest_eer):
        metric(scores, emotion).interval()
    resamples.verification(voices[0], voices[1], speaker)["eer"].interval()
    return time.perf_counter() - started


def main() -> None:
    """Run all measurements."""
    values: dict[str, dict[str, object]] = {}
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    for name, (value, unit) in itertools.chain(training_speeds(), evaluation_times(), speech_out()):
        values[name] = {"value": round(value, 3), "unit": unit, "machine": machine}
        print(f"{name:24} {value:8.2f} {unit}", flush=True)
    write_json(OUT, values)
    print(f"{machine}\nwritten to {OUT}")


def processor() -> str:
    """The processor's name, or its architecture where the system doesn't give the name."""
    path = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", path.read_text() if path.exists() else "")
    return name[1] if name else platform.processor() or platform.machine()
