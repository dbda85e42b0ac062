"""PSEGAN: a conditional generator, a K+1-class discriminator and a frozen speaker matcher (article, section 4)."""

from collections.abc import Callable, Sequence
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
from psegan.systems.gan import Phase
from psegan.weights import load_parts

UNIFORM = "uniform"


@dataclass(frozen=True)
class Context:
    """A prepared batch: scaled log-mels ``(B, 80, N)``, frames, labels and targets ``(B,)``."""

    real: Tensor
    fake: Tensor
    lengths: Tensor
    emotion: Tensor
    target: Tensor


class PSEGAN(AdversarialSystem):
    """Moves the emotion to a random target while a frozen speaker matcher holds the speaker.

    ``L_G = distortion_weight · d(M', M) + adversarial_weight · CE(D(M'), y') + speaker_weight · (1 - cos(SM(M'), SM(M)))``
    and ``L_D = CE(D(M), y) + CE(D(M'), fake)``; docs/paper.md names the source of each choice.

    Args:
        n_classes: number of classes of each attribute; the command line fills it in from the corpus.
        generator: makes the generator from the number of emotions.
        discriminator: makes the discriminator from the number of its outputs, emotions + 1.
        speaker_matcher: makes an encoder of the shape of the checkpoint's.
        speaker_matcher_checkpoint: a speaker :class:`~psegan.systems.Classifier`, whose encoder becomes the frozen
            matcher, or name or folder of shipped weights (``speaker-matcher-ravdess``); or several, all of one shape,
            whose losses are averaged: what convinces all of them is rarer than what convinces one. Needed to begin a
            training with ``speaker_weight`` above 0; afterwards it is part of the checkpoint.
        generator_optimizer: of the generator; the article's is Adam, 1e-4, betas (0.5, 0.9).
        discriminator_optimizer: of the discriminator; the article's is Adam, 2e-4, betas (0.5, 0.9).
        distortion_weight: weight of the distortion.
        distortion_form: ``l1``, or ``pcgan`` for ``max(0, l1 - distortion_budget)²``.
        distortion_budget: epsilon of the PCGAN form, on the [0, 1] scale.
        adversarial_weight: weight of the discriminator's verdict.
        speaker_weight: weight of the speaker consistency; 0 is the ablation without the matcher.
        target: ``uniform`` draws emotions to move to from all classes; the name of one fixes it (the ablation, and the
            conversion of every emotion to neutral).
        emotions, discriminator_warmup, discriminator_checkpoint, fake_weight, gradient_clip, seed: see
            :class:`AdversarialSystem`.

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
        emotions: Sequence[str] = (),
        discriminator_warmup: float = 0.0,
        discriminator_checkpoint: str | None = None,
        fake_weight: float = 1.0,
        gradient_clip: float | None = 5.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_classes, emotions, discriminator_warmup, discriminator_checkpoint, fake_weight, gradient_clip, seed
        )
        self.save_hyperparameters(logger=False)
        if target != UNIFORM and target not in self.emotions:
            raise PseganError(
                f"model.init_args.target is {target!r}, but must be {UNIFORM} or an emotion of the corpus "
                f"({', '.join(self.emotions) or 'whose names are not known'})"
            )
        self.target = target
        self.generator = generator(self.n_emotions)
        self.discriminator = discriminator(self.n_emotions + 1)
        given = speaker_matcher_checkpoint
        self.speaker_matcher_checkpoints = [given] if isinstance(given, str) else list(given or ())
        ensemble = EncoderEnsemble(speaker_matcher() for _ in range(max(len(self.speaker_matcher_checkpoints), 1)))
        self.speaker_matcher = ensemble.requires_grad_(False) if speaker_weight else None
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.distortion_form, self.distortion_budget = distortion_form, distortion_budget
        self.distortion_weight = distortion_weight
        self.adversarial_weight = adversarial_weight
        self.speaker_weight = speaker_weight
        if distortion_form not in ("l1", "pcgan"):
            raise PseganError(f"model.init_args.distortion_form is {distortion_form!r}, but must be l1 or pcgan")
        self._speaker_matcher_is_trained = not speaker_weight

    def phases(self) -> tuple[Phase, ...]:
        """Discriminator, then generator."""
        return (
            Phase("discriminator", ("discriminator",), self.discriminator_optimizer, self.discriminator_loss, True),
            Phase("generator", ("generator",), self.generator_optimizer, self.generator_loss),
        )

    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> Context:
        """Features, targets, noise and generated speech."""
        real, lengths = self.features(batch)
        if self.warming_up:
            return Context(real, real, lengths, batch.emotion, batch.emotion)
        fake, target = self.protect(real, lengths, random)
        assert target is not None
        return Context(real, fake, lengths, batch.emotion, target)

    @property
    def conversion(self) -> ToEmotion:
        """See the base class."""
        target = None if self.target == UNIFORM else self.emotions.index(self.target)
        return ToEmotion(self.generator, self.n_emotions, target)

    def discriminator_loss(self, context: Context) -> dict[str, Tensor]:
        """``L_D``: true emotions on real speech, "fake" on generated speech."""
        return self.emotion_or_fake(self.discriminator, context.real, context.fake, context.lengths, context.emotion)

    def generator_loss(self, context: Context) -> dict[str, Tensor]:
        """``L_G``: stay near, be taken for the target emotion, stay the speaker."""
        if self.distortion_form == "l1":
            near = distortion(context.fake, context.real, context.lengths)
        else:
            near = pcgan_distortion(context.fake, context.real, context.lengths, self.distortion_budget)
        adversarial = F.cross_entropy(self.discriminator(context.fake, context.lengths), context.target)
        losses = {"distortion": near, "adversarial": adversarial}
        total = self.distortion_weight * near + self.adversarial_weight * adversarial
        if self.speaker_matcher is not None:
            with torch.no_grad():
                original = self.speaker_matcher(context.real, context.lengths)
            speaker = speaker_consistency(self.speaker_matcher(context.fake, context.lengths), original)
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
            # of when there was one matcher
            weights[f"{alone}encoders.0.{name.removeprefix(alone)}"] = weights.pop(name)
        super().on_load_checkpoint(checkpoint)
        self._speaker_matcher_is_trained = True

    def on_train_start(self) -> None:
        """See :meth:`check_ready`."""
        self.check_ready()

    def check_ready(self) -> None:
        """See the base class; and refuse to train against a speaker matcher that knows no speakers."""
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
