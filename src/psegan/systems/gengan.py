"""GenGAN for emotions: a generator that leaves its discriminator undecided (Stoidis and Cavallaro, 2022)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from psegan.losses import ambiguity, squared_distortion, three_deviations
from psegan.models.conversion import ToAmbiguity
from psegan.models.discriminator import StridedDiscriminator
from psegan.models.gengan import GenGANGenerator
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem
from psegan.systems.gan import Phase


@dataclass(frozen=True)
class GenGANBatch:
    """A prepared batch: scaled log-mels ``(B, 80, N)``, frames and labels ``(B,)``."""

    real: Tensor
    fake: Tensor
    lengths: Tensor
    emotion: Tensor


class GenGAN(AdversarialSystem):
    """Makes emotion ambiguous: the discriminator shall find every emotion equally likely.

    ``L_G = distortion_weight · MSE(M', M) + adversarial_weight · CE(D(M'), uniform)`` and ``L_D = CE(D(M), y) +
    CE(D(M'), fake)``, spectrograms in units of three standard deviations; docs/paper.md names the source of each choice.

    Args:
        n_classes: number of classes of each attribute; the command line fills it in from the corpus.
        generator: makes the generator.
        discriminator: makes the discriminator from the number of its outputs, emotions + 1.
        generator_optimizer, discriminator_optimizer: the public code's are Adam, 3e-4, betas (0.5, 0.99).
        distortion_weight: weight of the distortion.
        adversarial_weight: weight of the ambiguity.
        **kwargs: see :class:`AdversarialSystem`.
    """

    def __init__(
        self,
        n_classes: dict[str, int],
        generator: Callable[[], GenGANGenerator] = GenGANGenerator,
        discriminator: Callable[[int], nn.Module] = StridedDiscriminator,
        generator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=3e-4, betas=(0.5, 0.99)),
        discriminator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=3e-4, betas=(0.5, 0.99)),
        distortion_weight: float = 1.0,
        adversarial_weight: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(n_classes, **kwargs)
        self.generator = generator()
        self.discriminator = discriminator(self.n_emotions + 1)
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.distortion_weight, self.adversarial_weight = distortion_weight, adversarial_weight

    def phases(self) -> tuple[Phase, ...]:
        """Generator, then discriminator, as in the public code."""
        return (
            Phase("generator", ("generator",), self.generator_optimizer, self.generator_loss),
            Phase("discriminator", ("discriminator",), self.discriminator_optimizer, self.discriminator_loss, True),
        )

    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> GenGANBatch:
        """Features, noise and generated speech."""
        real, lengths = self.features(batch)
        fake = real if self.warming_up else self.protect(real, lengths, random)[0]
        return GenGANBatch(real, fake, lengths, batch.emotion)

    @property
    def conversion(self) -> ToAmbiguity:
        return ToAmbiguity(self.generator)

    def generator_loss(self, batch: GenGANBatch) -> dict[str, Tensor]:
        """``L_G``: the distance from the original, and the discriminator's distance from indecision."""
        unit = three_deviations(batch.real, batch.lengths)
        near = squared_distortion(batch.fake / unit, batch.real / unit, batch.lengths)
        adversarial = ambiguity(self.discriminator(batch.fake, batch.lengths), self.n_emotions)
        total = self.distortion_weight * near + self.adversarial_weight * adversarial
        return {"total": total, "distortion": near, "adversarial": adversarial}

    def discriminator_loss(self, batch: GenGANBatch) -> dict[str, Tensor]:
        """``L_D``: true emotions on real speech, "fake" on generated speech."""
        return self.emotion_or_fake(self.discriminator, batch.real, batch.fake, batch.lengths, batch.emotion)
