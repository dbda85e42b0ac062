"""PSEGAN: a conditional generator, a K+1-class discriminator and a frozen speaker matcher (article, section 4)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.losses import distortion, pcgan_distortion, speaker_consistency
from psegan.models.classifier import EncoderEnsemble, SpeechEncoder
from psegan.models.conditional import ConditionalUNet
from psegan.models.conversion import ToEmotion
from psegan.models.discriminator import StridedDiscriminator
from psegan.models.psegan import PSEGANGenerator
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem
from psegan.systems.base import check_argument
from psegan.systems.gan import Phase
from psegan.weights import load_parts

UNIFORM = "uniform"


@dataclass(frozen=True)
class PSEGANBatch:
    """A prepared batch: scaled log-mels ``(B, 80, N)``, frames, labels and targets ``(B,)``."""

    real: Tensor
    fake: Tensor
    lengths: Tensor
    emotion: Tensor
    target: Tensor


class PSEGAN(AdversarialSystem):
    """Changes the emotion to a random target, and keeps the speaker by comparing embeddings of a frozen speaker matcher.

    ``L_G = distortion_weight · d(M', M) + adversarial_weight · CE(D(M'), y') + speaker_weight · (1 - cos(SM(M'), SM(M)))``
    and ``L_D = CE(D(M), y) + CE(D(M'), fake)``; docs/paper.md names the source of each choice.

    Args:
        n_classes: number of classes of each attribute; the command line fills it in from the corpus.
        generator: makes the generator from the number of emotions.
        discriminator: makes the discriminator from the number of its outputs, emotions + 1.
        speaker_matcher: makes an encoder of the checkpoint's shape.
        speaker_matcher_checkpoint: a speaker :class:`~psegan.systems.Classifier`, whose encoder becomes the frozen
            matcher, or the name or folder of shipped weights (``speaker-matcher-ravdess``). With a list of them, all of one
            shape, their losses are averaged; several matchers are harder to deceive than one. A training with
            ``speaker_weight`` above 0 needs it to begin; afterwards the matcher is part of the checkpoint.
        generator_optimizer: of the generator; the article's is Adam, 1e-4, betas (0.5, 0.9).
        discriminator_optimizer: of the discriminator; the article's is Adam, 2e-4, betas (0.5, 0.9).
        distortion_weight: weight of the distortion.
        distortion_form: ``l1``, or ``pcgan`` for ``max(0, l1 - distortion_budget)²``.
        distortion_budget: epsilon of the PCGAN form, on the [0, 1] scale.
        adversarial_weight: weight of the cross-entropy of the discriminator with the target emotion.
        speaker_weight: weight of the speaker consistency; 0 is the ablation without the matcher.
        target: ``uniform`` draws the target from all emotions; the name of an emotion makes it the target of all speech
            (an ablation, and the conversion of everything to neutral).
        **kwargs: see :class:`AdversarialSystem`.

    Raises:
        PseganError: an unknown choice, or a speaker matcher that is missing or does not fit.
    """

    def __init__(
        self,
        n_classes: dict[str, int],
        generator: Callable[[int], ConditionalUNet] = PSEGANGenerator,
        discriminator: Callable[[int], nn.Module] = StridedDiscriminator,
        speaker_matcher: Callable[[], nn.Module] = SpeechEncoder,
        speaker_matcher_checkpoint: str | list[str] | None = None,
        generator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.5, 0.9)),
        discriminator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.9)),
        distortion_weight: float = 5.0,
        distortion_form: Literal["l1", "pcgan"] = "l1",
        distortion_budget: float = 1e-3,
        adversarial_weight: float = 1.0,
        speaker_weight: float = 3.0,
        target: str = UNIFORM,
        **kwargs: Any,
    ) -> None:
        super().__init__(n_classes, **kwargs)
        known = ", ".join(self.emotions) or "whose names are not known"
        wanted = f"must be {UNIFORM} or an emotion of the corpus ({known})"
        check_argument(target in (UNIFORM, *self.emotions), "target", target, wanted)
        check_argument(distortion_form in ("l1", "pcgan"), "distortion_form", distortion_form, "must be l1 or pcgan")
        self.target = target
        self.generator = generator(self.n_emotions)
        self.discriminator = discriminator(self.n_emotions + 1)
        given = speaker_matcher_checkpoint
        self.speaker_matcher_checkpoints = [given] if isinstance(given, str) else list(given or ())
        ensemble = EncoderEnsemble(speaker_matcher() for _ in range(max(len(self.speaker_matcher_checkpoints), 1)))
        self.speaker_matcher = ensemble.requires_grad_(False) if speaker_weight else None
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.distortion_form, self.distortion_budget = distortion_form, distortion_budget
        self.distortion_weight, self.adversarial_weight = distortion_weight, adversarial_weight
        self.speaker_weight = speaker_weight
        self._speaker_matcher_is_trained = not speaker_weight

    def phases(self) -> tuple[Phase, ...]:
        """Discriminator, then generator."""
        return (
            Phase("discriminator", ("discriminator",), self.discriminator_optimizer, self.discriminator_loss, True),
            Phase("generator", ("generator",), self.generator_optimizer, self.generator_loss),
        )

    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> PSEGANBatch:
        """Features, targets, noise and generated speech."""
        real, lengths = self.features(batch)
        if self.warming_up:
            return PSEGANBatch(real, real, lengths, batch.emotion, batch.emotion)
        fake, target = self.protect(real, lengths, random)
        assert target is not None
        return PSEGANBatch(real, fake, lengths, batch.emotion, target)

    @property
    def conversion(self) -> ToEmotion:
        target = None if self.target == UNIFORM else self.emotions.index(self.target)
        return ToEmotion(self.generator, self.n_emotions, target)

    def discriminator_loss(self, batch: PSEGANBatch) -> dict[str, Tensor]:
        """``L_D``: true emotions on real speech, "fake" on generated speech."""
        return self.emotion_or_fake(self.discriminator, batch.real, batch.fake, batch.lengths, batch.emotion)

    def generator_loss(self, batch: PSEGANBatch) -> dict[str, Tensor]:
        """``L_G``: distances from the original, from the target emotion and from the speaker."""
        if self.distortion_form == "l1":
            near = distortion(batch.fake, batch.real, batch.lengths)
        else:
            near = pcgan_distortion(batch.fake, batch.real, batch.lengths, self.distortion_budget)
        adversarial = F.cross_entropy(self.discriminator(batch.fake, batch.lengths), batch.target)
        losses = {"distortion": near, "adversarial": adversarial}
        total = self.distortion_weight * near + self.adversarial_weight * adversarial
        if self.speaker_matcher is not None:
            with torch.no_grad():
                original = self.speaker_matcher(batch.real, batch.lengths)
            speaker = speaker_consistency(self.speaker_matcher(batch.fake, batch.lengths), original)
            losses["speaker"] = speaker
            total = total + self.speaker_weight * speaker
        return {"total": total, **losses}

    def setup(self, stage: str) -> None:
        """See the base class; and read the speaker matcher."""
        super().setup(stage)
        if stage != "fit" or self.begun or not self.speaker_matcher_checkpoints or self.speaker_matcher is None:
            return
        for encoder, path in zip(self.speaker_matcher.encoders, self.speaker_matcher_checkpoints, strict=True):
            parts, about = load_parts(path)
            if about.get("attribute") != "speaker":
                raise PseganError(f"{path} does not classify speakers; give a checkpoint of the speaker matcher")
            try:
                encoder.load_state_dict(parts["encoder"].state_dict())
            except RuntimeError:
                raise PseganError(
                    f"{path} has another encoder than model.init_args.speaker_matcher; give them the same settings"
                ) from None
        self._speaker_matcher_is_trained = True

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See the base class; the matcher comes with the checkpoint."""
        weights, alone = checkpoint["state_dict"], "speaker_matcher."
        for name in [name for name in weights if name.startswith(alone) and not name.startswith(f"{alone}encoders.")]:
            # older checkpoints hold a single matcher
            weights[f"{alone}encoders.0.{name.removeprefix(alone)}"] = weights.pop(name)
        super().on_load_checkpoint(checkpoint)
        self._speaker_matcher_is_trained = True

    def check_ready(self) -> None:
        """See the base class; and refuse to train with a speaker matcher that has not been trained."""
        super().check_ready()
        if not self._speaker_matcher_is_trained:
            raise PseganError(
                "PSEGAN needs a trained speaker matcher: give model.init_args.speaker_matcher_checkpoint, "
                "or set model.init_args.speaker_weight to 0 (the no-SM ablation)"
            )

    def on_train_epoch_start(self) -> None:
        """See the base class; the matcher is frozen throughout."""
        super().on_train_epoch_start()
        if self.speaker_matcher is not None:
            self.speaker_matcher.eval()
