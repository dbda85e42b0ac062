"""``make bench``: measure training, evaluation and protection, print the results and write them to runs/bench.json.

Training runs the experiment files through ``psegan fit``. All recordings are noise, as long as those of RAVDESS.
"""

import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from datamodules.base import Utterance
from datamodules.ravdess import RAVDESSDataModule
from psegan.bench.speech import speech_out
from psegan.common.files import write_json
from psegan.common.random import seeded
from psegan.evaluation.functionals import functionals
from psegan.metrics.bootstrap import Bootstrap
from psegan.metrics.quality import measures
from psegan.models.vocoder import GriffinLim
from psegan.protection.controls import AdditiveNoise, CopySynthesis, McAdams, PitchShift
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
    """Seconds of each training batch, reading and logging included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.ends.append(time.perf_counter())

    def utterances_per_second(self, batch_size: int) -> float:
        """Utterances per second, from the median time of all batches but the first."""
        return batch_size / statistics.median(b - a for a, b in zip(self.ends, self.ends[1:], strict=False))


def training_throughput(folder: Path, configs: list[str], batches: int) -> float:
    """Utterances per second of ``psegan fit`` with these configuration files.

    Args:
        folder: for the run; its folder ``matcher`` is the run of a speaker matcher.
        configs: paths of the configuration files.
        batches: number of batches to time.
    """
    matcher = folder / "matcher" / "checkpoints" / "last.ckpt"
    words = _words(folder / "run", configs, batches + 1)
    words += [f"--model.init_args.speaker_matcher_checkpoint={matcher}", "--model.init_args.discriminator_warmup=0"]
    cli = training.main([*words, "--trainer.callbacks+=psegan.bench.training.Stopwatch"])
    (stopwatch,) = [one for one in cli.trainer.callbacks if isinstance(one, Stopwatch)]  # type: ignore[attr-defined]
    return stopwatch.utterances_per_second(cli.datamodule.batch_size)


def _words(run: Path, configs: list[str], batches: int) -> list[str]:
    return [
        "fit", *(f"--config={config}" for config in configs), f"--run.dir={run}", "--run.loggers=[]",
        f"--trainer.limit_train_batches={batches}", "--trainer.limit_val_batches=0", "--trainer.max_epochs=1",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu",
    ]  # fmt: skip


def seconds_per_1000(work: Callable[[Utterance], object], n: int) -> float:
    """Seconds for 1000 utterances, estimated from ``n``, after one that is not counted."""
    utterances = NoiseDataModule().utterances()[: n + 1]
    work(utterances[0])
    started = time.perf_counter()
    for utterance in utterances[1:]:
        work(utterance)
    return (time.perf_counter() - started) / n * 1000


def evaluation_times() -> dict[str, tuple[float, str]]:
    """Controls, classifier, features, quality and bootstrap: name → value and unit."""
    classifier = Classifier(NoiseDataModule().n_classes).eval()
    rates = {
        f"control/{type(one).__name__}": seconds_per_1000(lambda u, p=one: p.transform(noise(u), seeded(u.id)), 12)  # type: ignore[misc]
        for one in (AdditiveNoise(5.0), McAdams(), PitchShift(), CopySynthesis(GriffinLim()))
    }

    @torch.no_grad()
    def classify(utterance: Utterance) -> None:
        waveform = noise(utterance).unsqueeze(0)
        classifier(*classifier.front_end(waveform, torch.tensor([waveform.shape[1]])))

    rates["score/classifier"] = seconds_per_1000(classify, 50)
    rates["score/functionals"] = seconds_per_1000(lambda u: functionals(noise(u)), 50)
    rates["score/signal"] = seconds_per_1000(lambda u: measures(noise(u), noise(u) / 2), 20)
    found = {name: (value, "s/1000 utterances") for name, value in rates.items()}
    found["bootstrap"] = bootstrap_time(), "s for 10,000 resamples of a table of RAVDESS's size"
    return found


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
    presets: dict[str, tuple[list[str], int]] = {
        "train/default": ([], 12),
        "train/paper": (["experiments/presets/paper.yaml"], 3),
    }
    values: dict[str, dict[str, object]] = {}
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    for name, (overlays, batches) in presets.items():
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus.yaml"
            corpus.write_text("data: {class_path: psegan.bench.training.NoiseDataModule}\n")
            training.main(_words(Path(folder) / "matcher", ["experiments/speaker_matcher.yaml", str(corpus)], 2))
            value = training_throughput(Path(folder), ["experiments/psegan.yaml", str(corpus), *overlays], batches)
        values[name] = {"value": round(value, 3), "unit": "utterances/s", "machine": machine}
        print(f"{name:24} {value:8.2f} utterances/s", flush=True)
    for name, (value, unit) in itertools.chain(evaluation_times().items(), speech_out()):
        values[name] = {"value": round(value, 3), "unit": unit, "machine": machine}
        print(f"{name:24} {value:8.2f} {unit}", flush=True)
    write_json(OUT, values)
    print(f"{machine}\nwritten to {OUT}")


def processor() -> str:
    """The processor's name, or its architecture where the system doesn't give the name."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in path.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
