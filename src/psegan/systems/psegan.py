"""PSEGAN: a conditional generator, a K+1-class discriminator and a frozen speaker matcher (article, section 4)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.batch import SpeechBatch
from psegan.errors import PseganError
from psegan.losses import distortion, fake_loss, pcgan_distortion, speaker_consistency
from psegan.masking import MaskedBatchNorm2d
from psegan.models.classifier import SpeechEncoder
from psegan.models.discriminator import StridedDiscriminator
from psegan.models.psegan import PSEGANGenerator
from psegan.systems.adversarial import AdversarialSystem, Phase
from psegan.systems.base import load_checkpoint


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
            matcher. Needed to begin a training with ``speaker_weight`` above 0; afterwards it is part of the checkpoint.
        generator_optimizer: of the generator; the article's is Adam, 1e-4, betas (0.5, 0.9).
        discriminator_optimizer: of the discriminator; the article's is Adam, 2e-4, betas (0.5, 0.9).
        distortion_weight: weight of the distortion.
        distortion_form: ``l1``, or ``pcgan`` for ``max(0, l1 - distortion_budget)²``.
        distortion_budget: epsilon of the PCGAN form, on the [0, 1] scale.
        adversarial_weight: weight of the discriminator's verdict.
        speaker_weight: weight of the speaker consistency; 0 is the ablation without the matcher.
        discriminator_warmup: share of the epochs, 0 to below 1, in which only the discriminator learns, to recognise
            emotion; afterwards its batch norm keeps the statistics of real speech. Without it a light discriminator
            learns to spot fakes first and never what emotion is (docs/paper.md).
        gradient_clip: largest gradient norm of each network, or None.
        seed: of targets and noise.

    Raises:
        PseganError: an unknown choice, or a speaker matcher that is missing or does not fit.
    """

    def __init__(
        self,
        n_classes: dict[str, int],
        generator: Callable[[int], nn.Module] = PSEGANGenerator,
        discriminator: Callable[[int], nn.Module] = StridedDiscriminator,
        speaker_matcher: Callable[[], nn.Module] = SpeechEncoder,
        speaker_matcher_checkpoint: str | None = None,
        generator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.5, 0.9)),
        discriminator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.9)),
        distortion_weight: float = 5.0,
        distortion_form: Literal["l1", "pcgan"] = "l1",
        distortion_budget: float = 1e-3,
        adversarial_weight: float = 1.0,
        speaker_weight: float = 3.0,
        discriminator_warmup: float = 0.0,
        gradient_clip: float | None = 5.0,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, gradient_clip, seed)
        self.save_hyperparameters(logger=False)
        self.n_emotions = n_classes["emotion"]
        self.generator = generator(self.n_emotions)
        self.discriminator = discriminator(self.n_emotions + 1)
        self.speaker_matcher = speaker_matcher().requires_grad_(False) if speaker_weight else None
        self.speaker_matcher_checkpoint = speaker_matcher_checkpoint
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.distortion_form, self.distortion_budget = distortion_form, distortion_budget
        self.distortion_weight = distortion_weight
        self.adversarial_weight = adversarial_weight
        self.speaker_weight = speaker_weight
        if not 0 <= discriminator_warmup < 1:
            raise PseganError(
                f"model.init_args.discriminator_warmup is {discriminator_warmup}, but is a share of the epochs: 0 to below 1"
            )
        if distortion_form not in ("l1", "pcgan"):
            raise PseganError(f"model.init_args.distortion_form is {distortion_form!r}, but must be l1 or pcgan")
        self.discriminator_warmup = discriminator_warmup
        self._speaker_matcher_is_trained = not speaker_weight
        self._planned_warmup: int | None = None

    def phases(self) -> tuple[Phase, ...]:
        """Discriminator, then generator."""
        return (
            Phase("discriminator", ("discriminator",), self.discriminator_optimizer, self.discriminator_loss),
            Phase("generator", ("generator",), self.generator_optimizer, self.generator_loss),
        )

    def active_phases(self) -> tuple[str, ...]:
        """The discriminator alone while it warms up."""
        return ("discriminator",) if self.warming_up else ("discriminator", "generator")

    @property
    def warming_up(self) -> bool:
        """Whether only the discriminator learns in this epoch."""
        return self.current_epoch < self.warmup_epochs

    @property
    def warmup_epochs(self) -> int:
        """Epochs in which only the discriminator learns; a continued run keeps those of its beginning."""
        if self._planned_warmup is None:
            epochs = max(self.trainer.max_epochs or 0, 0)
            # rounded up, so that a short run has all parts of a long one, but never all of it
            self._planned_warmup = max(min(math.ceil(self.discriminator_warmup * epochs), epochs - 1), 0)
        return self._planned_warmup

    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> Context:
        """Features, targets, noise and generated speech."""
        real, lengths = self.features(batch)
        if self.warming_up:
            return Context(real, real, lengths, batch.emotion, batch.emotion)
        fake, target = self.protect(real, lengths, random)
        return Context(real, fake, lengths, batch.emotion, target)

    def protect(self, mel: Tensor, lengths: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Move to emotions drawn uniformly from all classes, the true one included; see the base class."""
        target = torch.randint(self.n_emotions, (len(mel),), generator=random).to(mel.device)
        noise = torch.randn(len(mel), self.generator.noise_dim, generator=random).to(mel.device)  # type: ignore[call-overload]
        return self.generator(mel, lengths, target, noise), target

    def discriminator_loss(self, context: Context) -> dict[str, Tensor]:
        """``L_D``: true emotions on real speech, "fake" on generated speech."""
        logits = self.discriminator(context.real, context.lengths)
        real = F.cross_entropy(logits, context.emotion)
        accuracy = (logits.argmax(1) == context.emotion).float().mean()
        if self.warming_up:
            return {"total": real, "real": real, "accuracy": accuracy}
        fake = fake_loss(self.discriminator(context.fake.detach(), context.lengths))
        return {"total": real + fake, "real": real, "fake": fake, "accuracy": accuracy}

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
        """Read the speaker matcher, where a training begins."""
        if stage != "fit" or self._speaker_matcher_is_trained or self.speaker_matcher_checkpoint is None:
            return
        assert self.speaker_matcher is not None
        path = self.speaker_matcher_checkpoint
        checkpoint = load_checkpoint(path, "Classifier")
        if checkpoint["hyper_parameters"]["attribute"] != "speaker":
            raise PseganError(f"{path} does not classify speakers; give a checkpoint of the speaker matcher")
        prefix = "encoder."
        weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        try:
            self.speaker_matcher.load_state_dict(weights)
        except RuntimeError:
            raise PseganError(
                f"{path} has another encoder than model.init_args.speaker_matcher; give them the same settings"
            ) from None
        self._speaker_matcher_is_trained = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See the base class; the length of the warm-up is kept, should a continued run have more epochs."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["psegan"]["warmup_epochs"] = self.warmup_epochs

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See the base class; the matcher comes with the checkpoint."""
        super().on_load_checkpoint(checkpoint)
        self._planned_warmup = checkpoint["psegan"]["warmup_epochs"]
        self._speaker_matcher_is_trained = True

    def on_train_start(self) -> None:
        """See :meth:`check_ready`."""
        self.check_ready()

    def check_ready(self) -> None:
        """Refuse to train against a speaker matcher that knows no speakers."""
        if not self._speaker_matcher_is_trained:
            raise PseganError(
                "PSEGAN needs a trained speaker matcher: give model.init_args.speaker_matcher_checkpoint, "
                "or set model.init_args.speaker_weight to 0 (the no-SM ablation)"
            )

    def on_train_epoch_start(self) -> None:
        """The matcher is frozen; after the warm-up, so are the discriminator's batch statistics."""
        if self.speaker_matcher is not None:
            self.speaker_matcher.eval()
        if 0 < self.warmup_epochs <= self.current_epoch:
            for module in self.discriminator.modules():
                if isinstance(module, MaskedBatchNorm2d):
                    module.eval()
