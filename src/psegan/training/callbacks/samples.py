"""Waveform and spectrogram of a few utterances, original beside protected (the article's Figure 4)."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from psegan.common.errors import PseganError
from psegan.common.files import short_name
from psegan.models.vocoder import Vocoder
from psegan.plots import speech_figure
from psegan.speech.audio import UnitScaler, write_audio
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem
from psegan.training.callbacks.prediction import protect_row, protector_of
from psegan.training.loggers import figures_due, log_audio, log_figure


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
        self.n_utterances, self.every_n_validations, self.vocoder = n_utterances, every_n_validations, vocoder
        self.scaler = UnitScaler()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find out at the beginning whether samples can be made."""
        if self.n_utterances and stage != "predict" and isinstance(pl_module, AdversarialSystem):
            try:
                protector_of(pl_module, self.vocoder)
            except PseganError as error:
                raise PseganError(f"no samples of speech can be made ({error}); set --samples.n_utterances 0") from None

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Draw utterances of the first batch where figures are due."""
        due = batch_idx == 0 and trainer.is_global_zero and figures_due(trainer, self.every_n_validations)
        if not (due and self.n_utterances and isinstance(pl_module, AdversarialSystem)):
            return
        protector = protector_of(pl_module, self.vocoder)
        mels_of = {"original": outputs.original, "protected": outputs.protected}
        for i in range(min(self.n_utterances, len(batch))):
            samples, frames = int(batch.length[i]), int(outputs.lengths[i])
            protected = protect_row(protector, batch, i, pl_module.seed).waveform
            waveforms = {"original": batch.waveform[i, :samples].cpu(), "protected": protected}
            figure = speech_figure(
                {name: value.numpy() for name, value in waveforms.items()},
                {name: self.scaler.inverse(mel[i, :, :frames].float()).cpu().numpy() for name, mel in mels_of.items()},
            )
            name = f"{pl_module.stage}/speech_{short_name(batch.id[i])}"
            log_figure(trainer, name, figure)
            for speech, clip in waveforms.items():
                path = Path(trainer.default_root_dir) / "audio" / f"{name}-{speech}-{trainer.current_epoch:04d}.wav"
                write_audio(path, clip)
                log_audio(trainer, f"{name}_{speech}", path)

    on_test_batch_end = on_validation_batch_end
