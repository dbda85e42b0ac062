"""``make bench``: how fast training is, printed and written to runs/bench.json.

Measured on the experiment files themselves, through the command that users run, on noise of RAVDESS-like lengths.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from datamodules.base import Utterance
from datamodules.ravdess import RAVDESSDataModule
from psegan import training
from psegan.files import write_json
from psegan.random import seeded

OUT = Path("runs/bench.json")


class NoiseDataModule(RAVDESSDataModule):
    """RAVDESS without its recordings: its names and classes, and noise of 2.9 to 5.3 s."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(root="", **kwargs)

    def find_utterances(self) -> list[Utterance]:
        return [self.parse(id) for id in self.complete_ids()]

    def loader(self) -> Callable[[Utterance], Tensor]:
        return noise


def noise(utterance: Utterance) -> Tensor:
    """A waveform ``(T,)`` that is a function of the id."""
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
        """Median over all batches but the first."""
        return batch_size / statistics.median(b - a for a, b in zip(self.ends, self.ends[1:], strict=False))


def training_throughput(folder: Path, configs: list[str], batches: int) -> float:
    """Utterances a second of ``psegan fit`` with these overlays.

    Args:
        folder: for the run; holds ``matcher``, a speaker matcher.
        configs: overlays.
        batches: timed batches.
    """
    matcher = folder / "matcher" / "checkpoints" / "last.ckpt"
    words = _words(folder / "run", configs, batches + 1)
    words += [f"--model.init_args.speaker_matcher_checkpoint={matcher}", "--model.init_args.discriminator_warmup=0"]
    cli = training.main([*words, "--trainer.callbacks+=psegan.bench.Stopwatch"])
    (watch,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, Stopwatch)]  # type: ignore[attr-defined]
    return watch.utterances_per_second(cli.datamodule.batch_size)


def _words(run: Path, configs: list[str], batches: int) -> list[str]:
    return [
        "fit", *(f"--config={config}" for config in configs), f"--run.dir={run}", "--run.loggers=[]",
        f"--trainer.limit_train_batches={batches}", "--trainer.limit_val_batches=0", "--trainer.max_epochs=1",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu",
    ]  # fmt: skip


def main() -> None:
    """Run every measurement."""
    presets: dict[str, tuple[list[str], int]] = {
        "train/default": ([], 12),
        "train/paper": (["experiments/presets/paper.yaml"], 3),
    }
    values: dict[str, dict[str, object]] = {}
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    for name, (overlays, batches) in presets.items():
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus.yaml"
            corpus.write_text("data: {class_path: psegan.bench.NoiseDataModule}\n")
            training.main(_words(Path(folder) / "matcher", ["experiments/speaker_matcher.yaml", str(corpus)], 2))
            value = training_throughput(Path(folder), ["experiments/psegan.yaml", str(corpus), *overlays], batches)
        values[name] = {"value": round(value, 3), "unit": "utterances/s", "machine": machine}
        print(f"{name:16} {value:8.2f} utterances/s", flush=True)
    write_json(OUT, values)
    print(f"{machine}\nwritten to {OUT}")


def processor() -> str:
    """The processor's name, where the system tells."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in path.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
