"""What ``psegan predict`` leaves behind: protected recordings, or a classifier's predictions."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
import torch

from psegan.common.files import atomic_path
from psegan.common.processes import one_thread
from psegan.common.random import of_utterance
from psegan.models.vocoder import Vocoder
from psegan.protection.protector import Protector
from psegan.protection.transform import Transformed
from psegan.speech.audio import write_audio
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem


class PredictionWriter(L.Callback):
    """Writes into the run's folder: ``protected/<id>.flac`` (16 kHz), or ``predictions.csv`` of a classifier.

    Args:
        vocoder: turns spectrograms into waveforms, or its name; see :func:`psegan.weights.load_vocoder`.
    """

    def __init__(self, vocoder: Vocoder | str | None = None) -> None:
        self.vocoder = vocoder
        self._protector: Protector | None = None
        self._rows: list[list[str | float]] = []

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if isinstance(pl_module, AdversarialSystem):
            self._protector = protector_of(pl_module, self.vocoder)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        if self._protector is not None:
            for place, id in enumerate(batch.id):
                protected = protect_row(self._protector, batch, place, int(pl_module.seed))  # type: ignore[arg-type]
                write_audio(Path(trainer.default_root_dir) / "protected" / f"{id}.flac", protected.waveform)
        else:
            for name, probability in zip(outputs["id"], outputs["probability"].tolist(), strict=True):
                self._rows.append([name, *probability])

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the predictions of this process, one line an utterance, one column a class."""
        if not self._rows:
            return
        part = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        names = trainer.datamodule.classes[pl_module.attribute]  # type: ignore[attr-defined]
        with (
            atomic_path(Path(trainer.default_root_dir) / f"predictions{part}.csv") as path,
            path.open("w", newline="") as file,
        ):
            csv.writer(file).writerows([["id", *names], *self._rows])
        self._rows.clear()


def protector_of(system: AdversarialSystem, vocoder: Vocoder | str | None) -> Protector:
    """A protector of a system as it is now, where the system computes."""
    return Protector.of(system.parts(), vocoder, system.about()).to(system.device)


def protect_row(protector: Protector, batch: SpeechBatch, place: int, seed: int) -> Transformed:
    """One utterance of a batch, protected as ``psegan protect`` and evaluations do it."""
    waveform = batch.waveform[place, : int(batch.length[place])]
    with one_thread(), torch.autocast(waveform.device.type, enabled=False):
        return protector.transform(waveform, of_utterance(seed, batch.id[place]))
