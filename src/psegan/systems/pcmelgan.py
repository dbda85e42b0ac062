"""PCMelGAN for emotions: a filter removes the emotion and a generator adds another one (Ericsson et al., 2020)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from psegan.losses import certainty, pcgan_distortion, three_deviations
from psegan.models.conversion import FilterThenEmotion
from psegan.models.discriminator import StridedDiscriminator
from psegan.models.pcmelgan import PCMelGANFilter, PCMelGANGenerator
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem, PreparedBatch
from psegan.systems.gan import Phase


@dataclass(frozen=True)
class PCMelGANBatch(PreparedBatch):
    """A prepared batch.

    Attributes:
        fake: output of the generator, whose gradient does not reach the filter.
        filtered: output of the filter ``(B, 80, N)``, with its graph for the filter's loss.
        other: for each utterance an emotion that is not the true one, ``(B,)``.
    """

    target: Tensor
    filtered: Tensor
    other: Tensor


class PCMelGAN(AdversarialSystem):
    """A filter F hides the emotion from a discriminator D_F; then a generator G adds a drawn emotion, which D_G classifies.

    ``L_F = A(D_F(F(M))) + λ·max(0, d(F(M), M) - ε)²``, ``L_G = CE(D_G(G), y') + λ·max(0, d(G, M) - ε)²``, ``L_DF =
    CE(D_F(F(M)), y)``, ``L_DG = (CE(D_G(M), y) + CE(D_G(G), fake)) / 2``; spectrograms in units of three standard
    deviations; docs/paper.md names the source of each choice.

    Args:
        filter: makes F.
        generator: makes G from the number of emotions.
        filter_discriminator: makes D_F from the number of emotions.
        discriminator: makes D_G from the number of its outputs, emotions + 1.
        filter_optimizer, generator_optimizer: the public code's are Adam, 1e-4, betas (0.5, 0.9).
        filter_discriminator_optimizer, discriminator_optimizer: the public code's are Adam, 4e-4, betas (0.5, 0.9).
        filter_goal: the term A. With ``entropy`` the filter makes D_F undecided among all emotions; with ``other`` it
            makes D_F recognise another emotion, which with two classes is the flipped label of the public code.
        distortion_weight: λ.
        distortion_budget: ε.
        n_classes, **kwargs: see :class:`~psegan.systems.adversarial.AdversarialSystem`.
    """

    def __init__(
        self,
        n_classes: dict[str, int],
        filter: Callable[[], PCMelGANFilter] = PCMelGANFilter,
        generator: Callable[[int], PCMelGANGenerator] = PCMelGANGenerator,
        filter_discriminator: Callable[[int], nn.Module] = StridedDiscriminator,
        discriminator: Callable[[int], nn.Module] = StridedDiscriminator,
        filter_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.5, 0.9)),
        generator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.5, 0.9)),
        filter_discriminator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=4e-4, betas=(0.5, 0.9)),
        discriminator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=4e-4, betas=(0.5, 0.9)),
        filter_goal: Literal["entropy", "other"] = "entropy",
        distortion_weight: float = 100.0,
        distortion_budget: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(n_classes, **kwargs)
        self.filter, self.generator = filter(), generator(self.n_emotions)
        self.filter_discriminator = filter_discriminator(self.n_emotions)
        self.discriminator = discriminator(self.n_emotions + 1)
        self.filter_optimizer, self.generator_optimizer = filter_optimizer, generator_optimizer
        self.filter_discriminator_optimizer = filter_discriminator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.filter_goal = filter_goal
        self.distortion_weight, self.distortion_budget = distortion_weight, distortion_budget

    def phases(self) -> tuple[Phase, ...]:
        protecting = self.phase("filter"), self.phase("generator")  # in the order of the public code
        return (
            *protecting,
            self.phase("filter_discriminator", warms_up=True),
            self.phase("discriminator", warms_up=True),
        )

    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> PCMelGANBatch:
        real, lengths = self.originals(batch)
        step = torch.randint(1, self.n_emotions, (len(real),), generator=random).to(real.device)
        other = (batch.emotion + step) % self.n_emotions
        if self.warming_up:
            fake, filtered, target = real, real, batch.emotion
        else:
            conversion, draws = self.conversion, self.draws(real, random)
            filtered = conversion.hide(real, lengths, draws)
            fake, target = conversion.generate(filtered.detach(), real, lengths, draws), draws["target"]
        return PCMelGANBatch(
            real=real,
            fake=fake,
            lengths=lengths,
            emotion=batch.emotion,
            speaker=batch.speaker,
            target=target,
            filtered=filtered,
            other=other,
        )

    @property
    def conversion(self) -> FilterThenEmotion:
        return FilterThenEmotion(self.filter, self.generator, self.n_emotions, self.level)

    def filter_loss(self, batch: PCMelGANBatch) -> dict[str, Tensor]:
        """``L_F``: the distance from the original, and how well D_F still recognises the emotion."""
        logits = self.filter_discriminator(batch.filtered, batch.lengths)
        adversarial = certainty(logits) if self.filter_goal == "entropy" else F.cross_entropy(logits, batch.other)
        return self._with_distortion(adversarial, batch.filtered, batch)

    def generator_loss(self, batch: PCMelGANBatch) -> dict[str, Tensor]:
        """``L_G``: the distance from the original, and how far D_G is from recognising the target emotion."""
        adversarial = F.cross_entropy(self.discriminator(batch.fake, batch.lengths), batch.target)
        return self._with_distortion(adversarial, batch.fake, batch)

    def filter_discriminator_loss(self, batch: PCMelGANBatch) -> dict[str, Tensor]:
        """``L_DF``: true emotions on filtered speech."""
        logits = self.filter_discriminator(batch.filtered.detach(), batch.lengths)
        return {"total": F.cross_entropy(logits, batch.emotion)}

    def discriminator_loss(self, batch: PreparedBatch) -> dict[str, Tensor]:
        found = super().discriminator_loss(batch)
        return {**found, "total": found["total"] / 2}

    def _with_distortion(self, adversarial: Tensor, made: Tensor, batch: PCMelGANBatch) -> dict[str, Tensor]:
        unit = three_deviations(batch.real, batch.lengths)
        near = pcgan_distortion(made / unit, batch.real / unit, batch.lengths, self.distortion_budget)
        total = adversarial + self.distortion_weight * near
        return {"total": total, "distortion": near, "adversarial": adversarial}
