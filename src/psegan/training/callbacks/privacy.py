"""How well emotion is hidden and the speaker kept, judged by classifiers trained on original speech."""

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info

from psegan.common.errors import PseganError
from psegan.metrics import scores as metrics
from psegan.plots import roc_figure, tsne_figure, tsne_points
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem, ConvertedBatch
from psegan.systems.classifier import load_classifier
from psegan.systems.judgement import Judge, Judgement, roc
from psegan.training.loggers import figures_due, log_figure, log_roc_table

_PAIR = ("original", "protected")


class PrivacyMetrics(L.Callback):
    """Logs emotion accuracy, UAR, EER and AUC, speaker EER, ROC curves and t-SNE on validation and test speech.

    This is the `ignorant` attacker on spectrograms, the article's setting: good for watching a training, no evidence of
    privacy (docs/evaluation.md). The speaker classifier judges; it is not the speaker matcher, which training optimises.

    Systems that protect nothing (classifiers) are left alone. Without both classifiers nothing is judged, and a line says so.

    Args:
        emotion_classifier: checkpoint of an emotion :class:`~psegan.systems.Classifier`.
        speaker_classifier: checkpoint of a speaker :class:`~psegan.systems.Classifier`.
        figures_every_n_validations: validations between ROC and t-SNE figures; scalars come with each.
        tsne_points: utterances in the t-SNE figure at most.
        seed: of the t-SNE.
    """

    def __init__(
        self,
        emotion_classifier: str | None = None,
        speaker_classifier: str | None = None,
        figures_every_n_validations: int = 5,
        tsne_points: int = 500,
        seed: int = 0,
    ) -> None:
        self.paths = {"emotion": emotion_classifier, "speaker": speaker_classifier}
        self.figures_every_n_validations = figures_every_n_validations
        self.tsne_points = tsne_points
        self.seed = seed
        self.judges: dict[tuple[str, str], Judge] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the classifiers, and make sure that they know the corpus's classes."""
        if self.judges or stage == "predict" or not isinstance(pl_module, AdversarialSystem):
            return
        for attribute, path in self.paths.items():
            if path is None:
                rank_zero_info(f"No privacy metrics: give privacy.{attribute}_classifier to have them.")
                self.judges.clear()
                return
            classifier = load_classifier(path, attribute)
            if not classifier.reads_spectrograms:
                raise PseganError(
                    f"{path} reads waveforms, but training is judged on spectrograms; give another classifier"
                )
            known, needed = classifier.n_classes[attribute], pl_module.n_classes[attribute]
            if known != needed:
                raise PseganError(
                    f"{path} knows {known} classes of {attribute}, the corpus has {needed}; "
                    "give a classifier that was trained on this corpus"
                )
            for speech in _PAIR:
                self.judges[attribute, speech] = Judge(classifier)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Judge a batch."""
        self._hear(outputs, batch)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Judge a batch."""
        self._hear(outputs, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log scalars, and figures where they are due."""
        self._conclude(trainer, pl_module, "val", figures=figures_due(trainer, self.figures_every_n_validations))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log scalars and figures."""
        self._conclude(trainer, pl_module, "test", figures=True)

    def _hear(self, outputs: ConvertedBatch, batch: SpeechBatch) -> None:
        for (attribute, speech), judge in self.judges.items():
            judge.classifier.to(outputs.original.device)
            judge.hear(getattr(outputs, speech), outputs.lengths, batch.label(attribute))

    def _conclude(self, trainer: L.Trainer, module: L.LightningModule, stage: str, figures: bool) -> None:
        if not self.judges:
            return
        found = {key: _gathered(judge.conclude(), module) for key, judge in self.judges.items()}
        data = getattr(trainer, "datamodule", None)
        scalars: dict[str, float] = {}
        curves: dict[str, dict[str, tuple[Any, Any, float]]] = {"emotion": {}, "speaker": {}}
        for speech in _PAIR:
            suffix = "" if speech == "protected" else "_original"
            for name, value in found["emotion", speech].scores().items():
                scalars[f"{stage}/emotion_{name}{suffix}"] = value
            speaker = found["speaker", speech]
            if data is None or data.shares_speakers:  # a classifier knows no other speakers
                scalars[f"{stage}/speaker_accuracy{suffix}"] = metrics.accuracy(speaker.probability, speaker.target)
            for attribute in curves:
                try:
                    fpr, tpr, area = roc(attribute, found[attribute, "original"], found[attribute, speech])
                except ValueError:  # a limited validation may hold one utterance, or trials of one kind
                    continue
                curves[attribute][speech] = (fpr, tpr, area)
                if attribute == "speaker":
                    scalars[f"{stage}/speaker_eer{suffix}"] = float(metrics.eer_from_roc(fpr, tpr))
        module.log_dict(scalars)
        if not figures:
            return
        for attribute, of_attribute in curves.items():
            if of_attribute:
                title = f"{attribute.capitalize()}: original and protected speech"
                log_figure(trainer, f"{stage}/roc_{attribute}", roc_figure(of_attribute, title))
                log_roc_table(trainer, f"{stage}/roc_{attribute}", of_attribute)
        self._draw_tsne(trainer, module, stage, found["emotion", "original"], found["emotion", "protected"])

    def _draw_tsne(
        self, trainer: L.Trainer, module: L.LightningModule, stage: str, original: Judgement, protected: Judgement
    ) -> None:
        if len(original.target) < 3 or not trainer.is_global_zero:
            return
        before, after, kept = tsne_points(original.embedding, protected.embedding, self.seed, self.tsne_points)
        data = getattr(trainer, "datamodule", None)
        names = data.classes["emotion"] if data else tuple(str(i) for i in range(module.n_classes["emotion"]))  # type: ignore[index]
        log_figure(trainer, f"{stage}/tsne_emotion", tsne_figure(before, after, original.target[kept], names))


def _gathered(judgement: Judgement, module: L.LightningModule) -> Judgement:
    """The verdicts of all processes; each judged its own share of the utterances."""
    if module.trainer.world_size == 1:
        return judgement
    shares: list[Judgement | None] = [None] * module.trainer.world_size
    torch.distributed.all_gather_object(shares, judgement)
    columns = [
        np.concatenate([getattr(share, name) for share in shares]) for name in ("probability", "embedding", "target")
    ]
    return Judgement(*columns)
