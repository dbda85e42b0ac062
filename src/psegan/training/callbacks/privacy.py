"""How well emotion is hidden and the speaker kept, measured by classifiers that were trained on original speech."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from psegan.common.errors import PseganError
from psegan.metrics import scores as metrics
from psegan.metrics.predictions import ClassPredictions
from psegan.plots import roc_figure, tsne_figure, tsne_points
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem
from psegan.systems.classifier import load_classifier
from psegan.systems.collector import PredictionCollector
from psegan.training.distributed import gather
from psegan.training.loggers import figures_due, log_figure, log_roc_table

_PAIR = ("original", "protected")


class PrivacyMetrics(L.Callback):
    """Logs emotion accuracy, UAR, EER and AUC, speaker EER, ROC curves and t-SNE on validation and test speech.

    This is the `ignorant` attacker on spectrograms, which is the article's setting. It shows how a training proceeds and is
    no evidence of privacy (docs/evaluation.md). The speaker classifier must not be the speaker matcher, whose loss the
    training minimises.

    The callback does nothing for classifiers and vocoders. Unless both classifiers are given it measures nothing, and a
    line says so.

    ``trade_off`` is one number of both, by which a sweep may choose (:func:`psegan.metrics.scores.trade_off`). It is not logged
    where it has no meaning, since the classifiers find neither emotion nor speaker in original speech.

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
        self.figures_every_n_validations, self.tsne_points, self.seed = figures_every_n_validations, tsne_points, seed
        self.collectors: dict[tuple[str, str], PredictionCollector] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the classifiers, and check that they were trained with the corpus's classes."""
        if self.collectors or stage == "predict" or not isinstance(pl_module, AdversarialSystem):
            return
        for attribute, path in self.paths.items():
            if path is None:
                rank_zero_info(f"No privacy metrics: give privacy.{attribute}_classifier to have them.")
                self.collectors.clear()
                return
            classifier = load_classifier(path, attribute)
            if not classifier.reads_spectrograms:
                raise PseganError(f"{path} reads waveforms; give privacy metrics a classifier that reads spectrograms")
            known, needed = classifier.n_classes[attribute], pl_module.n_classes[attribute]
            if known != needed:
                raise PseganError(
                    f"{path} knows {known} classes of {attribute}, the corpus has {needed}; "
                    "give a classifier that was trained on this corpus"
                )
            for speech in _PAIR:
                self.collectors[attribute, speech] = PredictionCollector(classifier)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        for (attribute, speech), collector in self.collectors.items():
            collector.classifier.to(outputs.original.device)
            collector.add(getattr(outputs, speech), outputs.lengths, batch.label(attribute))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log scalars, and figures where they are due."""
        if not self.collectors:
            return
        assert isinstance(pl_module, AdversarialSystem)
        stage = pl_module.stage
        found = {key: _of_all_processes(one.collected()) for key, one in self.collectors.items()}
        scalars: dict[str, float] = {}
        curves: dict[str, dict[str, tuple[Any, Any, float]]] = {"emotion": {}, "speaker": {}}
        for speech in _PAIR:
            suffix = "" if speech == "protected" else "_original"
            for name, value in found["emotion", speech].scores().items():
                scalars[f"{stage}/emotion_{name}{suffix}"] = value
            speaker = found["speaker", speech]
            if trainer.datamodule.shares_speakers:  # type: ignore[attr-defined]  # a classifier knows no other speakers
                scalars[f"{stage}/speaker_accuracy{suffix}"] = metrics.accuracy(speaker.probability, speaker.target)
            with suppress(ValueError):  # a limited validation may hold one utterance, or trials of one kind
                curves["emotion"][speech] = found["emotion", speech].roc()
            with suppress(ValueError):
                fpr, tpr, _ = curves["speaker"][speech] = speaker.roc(found["speaker", "original"])
                scalars[f"{stage}/speaker_eer{suffix}"] = float(metrics.eer_from_roc(fpr, tpr))
        with suppress(metrics.UndefinedMetricError):
            own = {name.removeprefix(f"{stage}/"): value for name, value in scalars.items()}
            scalars[f"{stage}/trade_off"] = trade_off(own, pl_module.n_emotions)
        pl_module.log_dict(scalars)
        if not figures_due(trainer, self.figures_every_n_validations):
            return
        for attribute, of_attribute in curves.items():
            if of_attribute:
                title = f"{attribute.capitalize()}: original and protected speech"
                log_figure(trainer, f"{stage}/roc_{attribute}", roc_figure(of_attribute, title))
                log_roc_table(trainer, f"{stage}/roc_{attribute}", of_attribute)
        original, protected = (found["emotion", speech] for speech in _PAIR)
        if len(original.target) >= 3 and trainer.is_global_zero:
            before, after, kept = tsne_points(original.embedding, protected.embedding, self.seed, self.tsne_points)
            figure = tsne_figure(before, after, original.target[kept], pl_module.emotions)
            log_figure(trainer, f"{stage}/tsne_emotion", figure)

    on_test_batch_end, on_test_epoch_end = on_validation_batch_end, on_validation_epoch_end


def trade_off(scores: Mapping[str, float], n_emotions: int) -> float:
    """The trade-off of a validation's scores, by the names under which they are logged, without the stage.

    Raises:
        UndefinedMetricError: the classifiers score no better than chance on original speech, or the speaker was not measured.
    """
    residual = metrics.residual(scores["emotion_uar"], scores["emotion_uar_original"], 1 / n_emotions)
    if "speaker_accuracy" in scores:
        kept, before = scores["speaker_accuracy"], scores["speaker_accuracy_original"]
    else:
        kept, before = (0.5 - scores.get(f"speaker_eer{suffix}", math.nan) for suffix in ("", "_original"))
    if not before > 0 or math.isnan(kept):
        raise metrics.UndefinedMetricError("no speaker is found in original speech: there is no utility")
    return metrics.trade_off(residual, kept / before)


def _of_all_processes(share: ClassPredictions) -> ClassPredictions:
    """The predictions of all processes, each of which has classified its own share of the utterances."""
    return ClassPredictions(*map(np.concatenate, zip(*map(astuple, gather(share)), strict=True)))
