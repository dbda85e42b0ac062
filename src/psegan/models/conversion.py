"""The conversion of spectrograms that a system trains; protection needs it alone, without the system."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from psegan.common.errors import PseganError
from psegan.models.conditional import ConditionalUNet
from psegan.models.gengan import GenGANGenerator
from psegan.models.pcmelgan import PCMelGANFilter, PCMelGANGenerator

Draws = dict[str, Tensor]
"""Random draws of a batch, first axis B; ``target``, if there is one, is the index of the target emotion."""


class Conversion(nn.Module):
    """The interface: scaled log-mel, frames and draws → protected scaled log-mel."""

    @abstractmethod
    def draw(self, n: int, random: torch.Generator) -> Draws:
        """Targets and noise of ``n`` utterances, on the CPU."""

    @abstractmethod
    def forward(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        """``(B, 80, N)`` scaled log-mel and ``(B,)`` frames → ``(B, 80, N)`` on the same scale, zero in padding."""


class ToEmotion(Conversion):
    """PSEGAN's conversion to a drawn emotion, uniform over all including the true one, or to a fixed emotion.

    Args:
        generator: the network.
        n_emotions: number of emotions that targets are drawn from.
        target: index of the fixed emotion; None draws.

    Raises:
        PseganError: there is no such emotion.
    """

    def __init__(self, generator: ConditionalUNet, n_emotions: int, target: int | None = None) -> None:
        super().__init__()
        if target is not None and not 0 <= target < n_emotions:
            raise PseganError(f"target is {target!r}, but must be the index of one of {n_emotions} emotions")
        self.generator, self.n_emotions, self.target = generator, n_emotions, target

    def draw(self, n: int, random: torch.Generator) -> Draws:
        target = torch.randint(self.n_emotions, (n,), generator=random)
        if self.target is not None:
            target = torch.full_like(target, self.target)
        return {"target": target, "noise": torch.randn(n, self.generator.noise_dim, generator=random)}

    def forward(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        return self.generator(mel, lengths, draws["target"], draws["noise"])


class ToAmbiguity(Conversion):
    """GenGAN's conversion to ambiguous emotion."""

    def __init__(self, generator: GenGANGenerator) -> None:
        super().__init__()
        self.generator = generator

    def draw(self, n: int, random: torch.Generator) -> Draws:
        return {"noise": torch.randn(n, self.generator.rows, self.generator.noise_dim, generator=random)}

    def forward(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        return self.generator(mel, lengths, draws["noise"])


class FilterThenEmotion(Conversion):
    """PCMelGAN's conversion: a filter removes the emotion, and a generator adds one that is drawn from ``n_emotions``."""

    def __init__(self, filter: PCMelGANFilter, generator: PCMelGANGenerator, n_emotions: int) -> None:
        super().__init__()
        self.filter, self.generator, self.n_emotions = filter, generator, n_emotions

    def draw(self, n: int, random: torch.Generator) -> Draws:
        filter_noise = torch.randn(n, self.filter.noise_dim, generator=random)
        target = torch.randint(self.n_emotions, (n,), generator=random)
        return {
            "filter_noise": filter_noise,
            "target": target,
            "noise": torch.randn(n, self.generator.noise_dim, generator=random),
        }

    def forward(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        return self.generate(self.hide(mel, lengths, draws), lengths, draws)

    def hide(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        """The filter's output."""
        return self.filter(mel, lengths, None, draws["filter_noise"])

    def generate(self, filtered: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        """The generator's output."""
        return self.generator(filtered, lengths, draws["target"], draws["noise"])
