"""PSEGAN: a conditional generator, a K+1-class discriminator and a frozen speaker matcher (article, section 4)."""

from collections.abc import Callable
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
from psegan.systems.adversarial import AdversarialSystem, PreparedBatch
from psegan.systems.base import check_argument
from psegan.systems.gan import Phase
from psegan.weights import load_parts


class PSEGAN(AdversarialSystem):
    """Changes the emotion to a random target, and keeps the speaker by comparing embeddings of a frozen speaker matcher.

    ``L_G = distortion_weight · d(M', M) + adversarial_weight · CE(D(M'), y') + speaker_weight · (1 - cos(SM(M'), SM(M)))``
    and ``L_D = CE(D(M), y) + fake_weight · CE(D(M'), fake)``; docs/paper.md names the source of each choice.

    Args:
        generator: makes the generator from the number of emotions.
        discriminator: makes the discriminator from the number of its outputs, emotions + 1.
        speaker_matcher: makes an encoder of the checkpoint's shape.
        speaker_matcher_checkpoint: a speaker :class:`~psegan.systems.Classifier`, whose encoder becomes the frozen
            matcher, or the name or folder of shipped weights (``speaker-matcher-ravdess``). With a list of them, all of one
            shape, their losses are averaged; several matchers are harder to deceive than one. A training with
            ``speaker_weight`` above 0 needs it to begin; afterwards the matcher is part of the checkpoint.
        generator_optimizer, discriminator_optimizer: the article's are Adam, 1e-4 and 2e-4, betas (0.5, 0.9).
        distortion_form: ``l1``, or ``pcgan`` for ``max(0, l1 - distortion_budget)²``.
        distortion_budget: epsilon of the PCGAN form, on the [0, 1] scale.
        distortion_weight, adversarial_weight, speaker_weight: of the terms; a ``speaker_weight`` of 0 is the ablation
            without the matcher.
        target: ``uniform`` draws the target from all emotions; the name of an emotion makes it the target of all speech
            (an ablation, and the conversion of everything to neutral).
        n_classes, **kwargs: see :class:`~psegan.systems.adversarial.AdversarialSystem`.

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
        target: str = "uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(n_classes, **kwargs)
        wanted = f"must be uniform or an emotion of the corpus ({', '.join(self.emotions)})"
        check_argument(target in ("uniform", *self.emotions), "target", target, wanted)
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

    def phases(self) -> tuple[Phase, ...]:
        return self.phase("discriminator", warms_up=True), self.phase("generator")

    @property
    def conversion(self) -> ToEmotion:
        target = None if self.target == "uniform" else self.emotions.index(self.target)
        return ToEmotion(self.generator, self.n_emotions, target)

    def generator_loss(self, batch: PreparedBatch) -> dict[str, Tensor]:
        """``L_G``: distances from the original, from the target emotion and from the speaker."""
        if self.distortion_form == "l1":
            near = distortion(batch.fake, batch.real, batch.lengths)
        else:
            near = pcgan_distortion(batch.fake, batch.real, batch.lengths, self.distortion_budget)
        assert batch.target is not None
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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        weights, alone = checkpoint["state_dict"], "speaker_matcher."
        for name in [name for name in weights if name.startswith(alone) and not name.startswith(f"{alone}encoders.")]:
            # older checkpoints hold a single matcher
            weights[f"{alone}encoders.0.{name.removeprefix(alone)}"] = weights.pop(name)
        super().on_load_checkpoint(checkpoint)

    def check_ready(self) -> None:
        super().check_ready()
        if self.speaker_matcher is not None and not self.speaker_matcher_checkpoints:
            raise PseganError(
                "PSEGAN needs a trained speaker matcher: give model.init_args.speaker_matcher_checkpoint, "
                "or set model.init_args.speaker_weight to 0 (the no-SM ablation)"
            )

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.speaker_matcher is not None:
            self.speaker_matcher.eval()
