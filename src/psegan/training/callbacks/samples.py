"""Waveform and spectrogram of a few utterances, original beside protected (the article's Figure 4)."""

from typing import Any

import lightning as L
import torch

from psegan.models.vocoder import Vocoder
from psegan.plots import speech_figure
from psegan.speech.audio import UnitScaler, write_audio
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem, ConvertedBatch
from psegan.training.callbacks.prediction import protect_row, protector_of
from psegan.training.loggers import figures_due, log_audio, log_figure, run_dir


class SpeechSamples(L.Callback):
    """Draws, writes and logs the first utterances of the validation or test set.

    Args:
        n_utterances: how many.
        every_n_validations: validations between figures.
        vocoder: turns spectrograms into waveforms, or its name; see :func:`psegan.weights.load_vocoder`.
    """

    def __init__(
        self, n_utterances: int = 2, every_n_validations: int = 5, vocoder: Vocoder | str | None = None
    ) -> None:
        self.n_utterances = n_utterances
        self.every_n_validations = every_n_validations
        self.vocoder = vocoder
        self.scaler = UnitScaler()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Draw the first batch where it is due."""
        first = isinstance(outputs, ConvertedBatch) and batch_idx == 0 and trainer.is_global_zero
        if first and figures_due(trainer, self.every_n_validations):
            self._draw(trainer, pl_module, outputs, batch, "val")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Draw the first batch."""
        if isinstance(outputs, ConvertedBatch) and batch_idx == 0 and trainer.is_global_zero:
            self._draw(trainer, pl_module, outputs, batch, "test")

    @torch.no_grad()
    def _draw(
        self, trainer: L.Trainer, system: L.LightningModule, outputs: ConvertedBatch, batch: SpeechBatch, stage: str
    ) -> None:
        assert isinstance(system, AdversarialSystem)
        n = min(self.n_utterances, len(batch))
        protector = protector_of(system, self.vocoder)
        mels_of = {"original": outputs.original, "protected": outputs.protected}
        for i in range(n):
            samples, frames = int(batch.length[i]), int(outputs.lengths[i])
            protected = protect_row(protector, batch, i, system.seed).waveform
            waveforms = {"original": batch.waveform[i, :samples].cpu(), "protected": protected}
            mels = {name: self.scaler.inverse(mel[i, :, :frames].float()).cpu() for name, mel in mels_of.items()}
            figure = speech_figure(
                {name: value.numpy() for name, value in waveforms.items()},
                {name: value.numpy() for name, value in mels.items()},
            )
            name = f"{stage}/speech_{batch.id[i].replace('/', '_')}"
            log_figure(trainer, name, figure)
            for speech, clip in waveforms.items():
                path = run_dir(trainer) / "audio" / f"{name}-{speech}-{trainer.current_epoch:04d}.wav"
                write_audio(path, clip)
                log_audio(trainer, f"{name}_{speech}", path)
