"""How fast PSEGAN and the vocoders train in each precision, and what the time goes into. All recordings are noise."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import torch

from psegan.bench.fit import NOISE, Figure, Setting
from psegan.speech.batch import SpeechBatch
from psegan.training import command as training


def psegan_speeds(setting: Setting) -> Iterator[Figure]:
    """``experiments/psegan.yaml``, both phases."""
    for precision in setting.precisions:
        name = f"psegan/{precision}"
        words = setting.psegan(name, [], NOISE, f"--trainer.precision={precision}")
        yield from training_speed(setting, name, words, setting.seconds / len(setting.precisions))


def vocoder_speeds(setting: Setting) -> Iterator[Figure]:
    """``experiments/vocos.yaml`` and, on a GPU, ``melgan.yaml``, with their discriminators from the first epoch on."""
    vocoders = ("vocos", "melgan") if setting.device == "cuda" else ("vocos",)  # MelGAN takes minutes a batch on a CPU
    for vocoder in vocoders:
        for precision in setting.precisions:
            name = f"{vocoder}/{precision}"
            options = NOISE, "--model.init_args.spectral_share=0", f"--trainer.precision={precision}"
            words = setting.words(name, [f"experiments/{vocoder}.yaml"], *options)
            yield from training_speed(setting, name, words, setting.seconds / len(vocoders) / len(setting.precisions))


def training_speed(setting: Setting, name: str, words: Sequence[str], seconds: float) -> Iterator[Figure]:
    """Train for an epoch of warm-up, and then until ``seconds`` have been measured."""
    meter = [f"--trainer.callbacks+={__name__}.Meter", f"--trainer.callbacks.seconds={seconds}"]
    cli = training.main([*words, *meter, "--trainer.max_epochs=10000", "--trainer.limit_val_batches=0"])
    (found,) = (one for one in cli.trainer.callbacks if isinstance(one, Meter))  # type: ignore[attr-defined]
    for figure, value in found.figures():
        yield f"{name}/{figure}", value
    yield from setting.memory(name)


class Meter(L.Callback):
    """Measures a training's speed from its second epoch on; the first reads the recordings and warms the device up.

    What happens between epochs, such as writing checkpoints, is not counted. "Loading" is the time from a batch's end to
    the next one's start, as the host sees it: reading, padding, and the way to the device. The utilisation is the share
    of the time in which the GPU executes anything, as ``nvidia-smi`` knows it.

    Args:
        seconds: after which it stops the training.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.batches = self.utterances = 0
        self.elapsed = self.loading = 0.0
        self.utilisation: list[int] = []
        self.unknown = "there is no GPU"
        self._started = self._last = self._sampled = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = self._last = self._sampled = _now(pl_module.device)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if trainer.current_epoch > 0:
            self.loading += time.perf_counter() - self._last

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int
    ) -> None:
        """Count the batch, ask for the utilisation twice a second, and stop when there is enough."""
        self._last = time.perf_counter()
        if trainer.current_epoch == 0:
            return
        self.batches += 1
        self.utterances += len(batch)
        if pl_module.device.type == "cuda" and self._last - self._sampled > 0.5:
            self._sampled = self._last
            try:
                self.utilisation.append(torch.cuda.utilization(pl_module.device))
            except Exception as error:  # whatever NVML says: the figure is missing then, and the table says why
                self.unknown = " ".join(str(error).split())
        trainer.should_stop = self.elapsed + self._last - self._started >= self.seconds

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch > 0:
            self.elapsed += _now(pl_module.device) - self._started

    def figures(self) -> Iterator[Figure]:
        """Speed, and shares of the time."""
        yield "utterances", (self.utterances / self.elapsed, "utterances/s")
        yield "steps", (self.batches / self.elapsed, "steps/s")
        yield "loading", (100 * self.loading / self.elapsed, "% of the time")
        busy = self.utilisation
        yield "utilisation", (sum(busy) / len(busy), "% of the time") if busy else (None, f"unknown: {self.unknown}")


def _now(device: torch.device) -> float:
    """The time when the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
