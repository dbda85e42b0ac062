"""What ``psegan predict`` leaves behind: protected recordings, or a classifier's verdicts."""

import csv
from typing import Any

import lightning as L
import torch

from psegan.common.files import atomic_path
from psegan.models.vocoder import GriffinLim, Vocoder
from psegan.speech.audio import UnitScaler, write_audio
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import Protected
from psegan.training.loggers import run_dir


class PredictionWriter(L.Callback):
    """Writes into the run's folder: ``protected/<id>.flac`` (16 kHz), or ``predictions.csv`` of a classifier.

    Args:
        vocoder: turns spectrograms into waveforms; Griffin-Lim by default.
    """

    def __init__(self, vocoder: Vocoder | None = None) -> None:
        self.vocoder = vocoder or GriffinLim()
        self.scaler = UnitScaler()
        self._rows: list[list[str | float]] = []

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write a batch's recordings, or keep its verdicts."""
        if isinstance(outputs, Protected):
            self._write(trainer, outputs, batch)
        else:
            for name, probability in zip(outputs["id"], outputs["probability"].tolist(), strict=True):
                self._rows.append([name, *probability])

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the verdicts of this process, one line an utterance, one column a class."""
        if not self._rows:
            return
        part = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        names = trainer.datamodule.classes[pl_module.attribute]  # type: ignore[attr-defined]
        with atomic_path(run_dir(trainer) / f"predictions{part}.csv") as path, path.open("w", newline="") as file:
            csv.writer(file).writerows([["id", *names], *self._rows])
        self._rows.clear()

    @torch.no_grad()
    def _write(self, trainer: L.Trainer, outputs: Protected, batch: SpeechBatch) -> None:
        self.vocoder.to(outputs.protected.device)
        waveform = self.vocoder(self.scaler.inverse(outputs.protected.float()), outputs.lengths).cpu()
        for name, row, samples in zip(batch.id, waveform, batch.length.tolist(), strict=True):
            write_audio(run_dir(trainer) / "protected" / f"{name}.flac", row[:samples])
