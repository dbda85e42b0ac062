"""GenGAN for emotions: a generator that leaves its discriminator undecided (Stoidis and Cavallaro, 2022)."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from psegan.losses import ambiguity, three_deviations
from psegan.models.conversion import ToAmbiguity
from psegan.models.discriminator import StridedDiscriminator
from psegan.models.gengan import GenGANGenerator
from psegan.speech.masking import masked_mean
from psegan.systems.adversarial import AdversarialSystem, PreparedBatch
from psegan.systems.gan import Phase


class GenGAN(AdversarialSystem):
    """Makes emotion ambiguous: the discriminator shall find every emotion equally likely.

    ``L_G = distortion_weight · MSE(M', M) + adversarial_weight · CE(D(M'), uniform)`` and ``L_D = CE(D(M), y) +
    CE(D(M'), fake)``, spectrograms in units of three standard deviations; docs/paper.md names the source of each choice.

    Args:
        generator: makes the generator.
        discriminator: makes the discriminator from the number of its outputs, emotions + 1.
        generator_optimizer, discriminator_optimizer: the public code's are Adam, 3e-4, betas (0.5, 0.99).
        distortion_weight, adversarial_weight: of the terms.
        n_classes, **kwargs: see :class:`~psegan.systems.adversarial.AdversarialSystem`.
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
        return self.phase("generator"), self.phase("discriminator", warms_up=True)  # in the order of the public code

    @property
    def conversion(self) -> ToAmbiguity:
        return ToAmbiguity(self.generator, self.level)

    def generator_loss(self, batch: PreparedBatch) -> dict[str, Tensor]:
        """``L_G``: the distance from the original, and the discriminator's distance from indecision."""
        unit = three_deviations(batch.real, batch.lengths)
        near = masked_mean((batch.fake / unit - batch.real / unit).square(), batch.lengths)
        adversarial = ambiguity(self.discriminator(batch.fake, batch.lengths), self.n_emotions)
        total = self.distortion_weight * near + self.adversarial_weight * adversarial
        return {"total": total, "distortion": near, "adversarial": adversarial}
