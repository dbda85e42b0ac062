"""What all protecting systems share: discriminators that warm up, and protection."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.common.random import of_utterance, seeded
from psegan.losses import distortion, fake_loss
from psegan.models.conversion import Conversion, Draws
from psegan.models.discriminator import ClassifierDiscriminator
from psegan.models.level import DECIBEL
from psegan.speech.audio import frame_lengths
from psegan.speech.batch import SpeechBatch, TensorRecord
from psegan.speech.masking import MaskedBatchNorm2d
from psegan.systems.base import TrainingSpeech, check_argument
from psegan.systems.classifier import load_classifier
from psegan.systems.gan import GANSystem, first_epochs


@dataclass(frozen=True)
class ConvertedBatch(TensorRecord):
    """Speech before and after protection: scaled log-mels ``(B, 80, N)``, names, frames and target emotions ``(B,)``.

    Where the system has a fixed level, the original has it too.
    """

    id: tuple[str, ...]
    original: Tensor
    protected: Tensor
    lengths: Tensor
    target: Tensor | None


@dataclass(frozen=True)
class PreparedBatch:
    """Speech in training: scaled log-mels ``(B, 80, N)`` before and after protection, frames, labels and targets ``(B,)``."""

    real: Tensor
    fake: Tensor
    lengths: Tensor
    emotion: Tensor
    speaker: Tensor
    target: Tensor | None


class AdversarialSystem(GANSystem):
    """Protects spectrograms with networks that are trained against discriminators of emotion.

    Args:
        emotions: their names, in order; the command line fills them in from the corpus.
        discriminator_warmup: share of the epochs, from 0 to below 1, in which only the discriminators are trained, on emotion
            alone. Afterwards their batch norm is frozen. Without a warm-up a light discriminator learns to recognise
            generated speech first, and never learns emotion (docs/paper.md).
        discriminator_checkpoint: an emotion :class:`~psegan.systems.Classifier` of the same training speech, whose weights
            every discriminator begins with; this replaces the warm-up. The discriminators must be
            :class:`~psegan.models.discriminator.ClassifierDiscriminator`. Only the beginning of a training needs it.
        fake_weight: weight of the class "fake" in the loss of a K+1-class discriminator. One that begins with an emotion
            classifier forgets emotion at a weight of 1, because well protected speech is hard to tell from real speech
            and that part of the loss stays large.
        level: that protected speech has, see :class:`~psegan.models.conversion.Conversion`.
        n_classes, gradient_clip, seed: see :class:`~psegan.systems.gan.GANSystem`.

    Raises:
        PseganError: there is a single emotion, the warm-up is not a share, both a warm-up and a checkpoint are given, or a
            weight is negative.
    """

    discriminator: nn.Module
    training_frames: int | None
    """Spectrogram frames of the longest utterance that the networks were trained on; None where that is unknown."""

    def __init__(
        self,
        n_classes: dict[str, int],
        emotions: Sequence[str] = (),
        discriminator_warmup: float = 0.0,
        discriminator_checkpoint: str | None = None,
        fake_weight: float = 1.0,
        level: Literal["kept"] | float = "kept",
        gradient_clip: float | None = 5.0,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, gradient_clip, seed)
        self.n_emotions, self.emotions = n_classes["emotion"], tuple(emotions)
        if self.n_emotions < 2:
            raise PseganError("the corpus has a single emotion, or doesn't know it; to hide emotion takes two or more")
        check_argument(0 <= discriminator_warmup < 1, "discriminator_warmup", discriminator_warmup, "must be in [0, 1)")
        check_argument(fake_weight >= 0, "fake_weight", fake_weight, "must be 0 or above")
        if discriminator_warmup and discriminator_checkpoint is not None:
            raise PseganError(
                "model.init_args: discriminators that begin with a classifier (discriminator_checkpoint) know emotion; "
                "set discriminator_warmup to 0"
            )
        self.discriminator_warmup, self.discriminator_checkpoint = discriminator_warmup, discriminator_checkpoint
        self.fake_weight, self.level = fake_weight, level
        self.training_frames: int | None = None
        self._planned_warmup: int | None = None

    def setup(self, stage: str) -> None:
        """Give the discriminators the weights of ``discriminator_checkpoint`` when a training begins."""
        path = self.discriminator_checkpoint
        if stage != "fit" or self.begun or path is None:
            return
        classifier = load_classifier(path, "emotion")
        for name, discriminator in self._discriminators().items():
            if not isinstance(discriminator, ClassifierDiscriminator):
                raise PseganError(
                    f"model.init_args.discriminator_checkpoint: {name} is a {type(discriminator).__name__}, which cannot "
                    "begin with a classifier; make it a psegan.models.discriminator.ClassifierDiscriminator"
                )
            try:
                if classifier.n_classes["emotion"] != self.n_emotions:
                    raise RuntimeError
                discriminator.begin_with(classifier.encoder, classifier.head)
            except RuntimeError:
                raise PseganError(
                    f"{path} has another encoder than model.init_args.{name}, or other emotions; give them the same"
                ) from None

    def check_ready(self) -> None:
        """Refuse a :class:`ClassifierDiscriminator` that neither begins with a classifier's weights nor warms up."""
        kinds = map(type, self._discriminators().values())
        if ClassifierDiscriminator in kinds and self.discriminator_checkpoint is None and not self.discriminator_warmup:
            raise PseganError(
                "a ClassifierDiscriminator begins with an emotion classifier: give model.init_args.discriminator_checkpoint, "
                "or a model.init_args.discriminator_warmup in which it learns emotion"
            )

    def check_speech(self, data: TrainingSpeech) -> None:
        """Refuse weights that no training utterance reaches, and that would speak untrained in a longer recording."""
        self.conversion.check_reach(_longest(data))

    def on_fit_start(self) -> None:
        """Note how long the training speech is, which goes with the weights.

        Raises:
            PseganError: the trainer has no datamodule to say it, and the networks have weights that short speech cannot train.
        """
        super().on_fit_start()
        if self.corpus is not None:
            self.training_frames = _longest(self.corpus)
        elif (least := self.conversion.least_frames) > 1:
            raise PseganError(
                f"some weights of the generator act only on recordings of {least} frames or more, and it is not known whether "
                "any training utterance is that long: give Trainer.fit a corpus as its datamodule"
            )

    def _discriminators(self) -> dict[str, nn.Module]:
        return {name: self.get_submodule(name) for phase in self.phases() if phase.warms_up for name in phase.networks}

    def parts(self) -> dict[str, nn.Module]:
        return {"conversion": self.conversion}

    def about(self) -> dict[str, Any]:
        about = {**super().about(), "emotions": list(self.emotions)}
        return about if self.training_frames is None else {**about, "training_frames": self.training_frames}

    @property
    @abstractmethod
    def conversion(self) -> Conversion:
        """The conversion of spectrograms that the system trains, with its networks as they are now."""

    def protect(self, mel: Tensor, lengths: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """``(B, 80, N)`` scaled log-mel and ``(B,)`` frames → protected on the same scale, target emotions ``(B,)`` or None."""
        draws = self.draws(mel, random)
        return self.conversion(mel, lengths, draws), draws.get("target")

    def draws(self, mel: Tensor, random: torch.Generator) -> Draws:
        """What protecting a batch ``(B, 80, N)`` draws, where the batch is."""
        return {name: drawn.to(mel.device) for name, drawn in self.conversion.draw(len(mel), random).items()}

    def active_phases(self) -> tuple[str, ...]:
        return tuple(phase.name for phase in self.phases() if phase.warms_up or not self.warming_up)

    @property
    def warming_up(self) -> bool:
        return self.current_epoch < self.warmup_epochs

    @property
    def warmup_epochs(self) -> int:
        """Number of epochs in which only discriminators learn; a continued run keeps the number it began with."""
        if self._planned_warmup is None:
            self._planned_warmup = first_epochs(self.discriminator_warmup, self.trainer.max_epochs or 0)
        return self._planned_warmup

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["psegan"] |= {"warmup_epochs": self.warmup_epochs, "training_frames": self.training_frames}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._planned_warmup = checkpoint["psegan"]["warmup_epochs"]
        self.training_frames = checkpoint["psegan"].get("training_frames")

    def on_train_epoch_start(self) -> None:
        """Freeze the batch statistics of discriminators that have learnt emotion."""
        if self.discriminator_checkpoint is not None or 0 < self.warmup_epochs <= self.current_epoch:
            for discriminator in self._discriminators().values():
                for module in discriminator.modules():
                    if isinstance(module, MaskedBatchNorm2d):
                        module.eval()

    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> PreparedBatch:
        """Protect the batch; during the warm-up real speech takes the place of generated speech."""
        mel, lengths = self.features(batch)
        real = self.conversion.levelled(mel, lengths)
        fake, target = (real, batch.emotion) if self.warming_up else self.protect(mel, lengths, random)
        return PreparedBatch(real, fake, lengths, batch.emotion, batch.speaker, target)

    def originals(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """:meth:`features` at the level that protected speech has: nothing that compares the two must go by the level."""
        mel, lengths = self.features(batch)
        return self.conversion.levelled(mel, lengths), lengths

    def discriminator_loss(self, batch: PreparedBatch) -> dict[str, Tensor]:
        """:meth:`emotion_or_fake` of the network ``discriminator``."""
        return self.emotion_or_fake(self.discriminator, batch.real, batch.fake, batch.lengths, batch.emotion)

    def emotion_or_fake(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, lengths: Tensor, emotion: Tensor
    ) -> dict[str, Tensor]:
        """Loss of a K+1-class discriminator: cross-entropy with the true emotion on real speech and with "fake" on generated.

        During the warm-up there is no generated speech, and only the first term counts. The accuracy is of real speech.

        Args:
            discriminator: maps scaled log-mels and frames to logits ``(B, K+1)``.
            real, fake: ``(B, 80, N)``; no gradient flows to them.
            lengths, emotion: frames and labels ``(B,)``.
        """
        logits = discriminator(real, lengths)
        of_real = F.cross_entropy(logits, emotion)
        accuracy = (logits.argmax(1) == emotion).float().mean()
        if self.warming_up:
            return {"total": of_real, "real": of_real, "accuracy": accuracy}
        of_fake = fake_loss(discriminator(fake.detach(), lengths))
        return {"total": of_real + self.fake_weight * of_fake, "real": of_real, "fake": of_fake, "accuracy": accuracy}

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        random = seeded(*self.occasion, "augmentation")
        augmenting = [d for d in self._discriminators().values() if isinstance(d, ClassifierDiscriminator)]
        for discriminator in augmenting:
            discriminator.random = random
        super().training_step(batch, batch_idx)
        for discriminator in augmenting:
            discriminator.random = None

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> ConvertedBatch:  # type: ignore[override]
        """Convert the batch for the callbacks, and log what happened to the signal.

        That is the mean distortion of all frames, however batches share them, and by how many dB the loudest frame is louder
        than the original's.
        """
        converted = self.convert(batch)
        error = distortion(converted.protected, converted.original, converted.lengths)
        self.log(f"{self.stage}/distortion", error, batch_size=int(converted.lengths.sum()), sync_dist=True)
        level = self.conversion.levelling
        after, before = (
            level.of_frames(mel, converted.lengths).amax(1) for mel in (converted.protected, converted.original)
        )
        louder = (after - before).mean() / (2 * DECIBEL)
        self.log(f"{self.stage}/loudest", louder, batch_size=len(batch), sync_dist=True)
        return converted

    test_step = validation_step  # type: ignore[assignment]

    def predict_step(self, batch: SpeechBatch, batch_idx: int) -> tuple[str, ...]:
        """Names alone: :class:`~psegan.training.callbacks.PredictionWriter` protects waveforms, as ``psegan protect`` does."""
        return batch.id

    def convert(self, batch: SpeechBatch) -> ConvertedBatch:
        """Protect the spectrograms of a batch, with the draws of each utterance's own name."""
        mel, lengths = self.features(batch)
        conversion = self.conversion
        each = [conversion.draw(1, of_utterance(self.seed, id)) for id in batch.id]
        draws = {name: torch.cat([one[name] for one in each]).to(mel.device) for name in each[0]}
        original, protected = conversion.levelled(mel, lengths), conversion(mel, lengths, draws)
        return ConvertedBatch(batch.id, original, protected, lengths, draws.get("target"))


def _longest(data: TrainingSpeech) -> int:
    """Spectrogram frames of the longest training utterance."""
    return int(frame_lengths(torch.tensor(data.training_samples)))
