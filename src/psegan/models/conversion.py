"""What a trained system does to speech: draw, then turn a spectrogram into another. All that is left of it after training."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from psegan.models.conditional import ConditionalUNet
from psegan.models.gengan import GenGANGenerator
from psegan.models.pcmelgan import PCMelGANFilter, PCMelGANGenerator

Draws = dict[str, Tensor]
"""What was drawn for each utterance, first axis B; ``target``, where there is one, is its emotion's index."""


class Conversion(nn.Module):
    """The interface: scaled log-mel, frames and draws → protected scaled log-mel."""

    @abstractmethod
    def draw(self, n: int, random: torch.Generator) -> Draws:
        """Targets and noise of ``n`` utterances, on the CPU."""

    @abstractmethod
    def forward(self, mel: Tensor, lengths: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """``(B, 80, N)`` scaled log-mel and ``(B,)`` frames → ``(B, 80, N)`` on the same scale, zero in padding."""


class ToEmotion(Conversion):
    """PSEGAN's: to an emotion that is drawn uniformly from all, the true one included, or to a fixed one.

    Args:
        generator: spectrogram, frames, target and noise → spectrogram.
        n_emotions: that targets are drawn from.
        target: index of the fixed one.
    """

    def __init__(self, generator: ConditionalUNet, n_emotions: int, target: int | None = None) -> None:
        super().__init__()
        self.generator, self.n_emotions, self.target = generator, n_emotions, target

    def draw(self, n: int, random: torch.Generator) -> Draws:
        target = torch.randint(self.n_emotions, (n,), generator=random)
        if self.target is not None:
            target = torch.full_like(target, self.target)
        return {"target": target, "noise": torch.randn(n, self.generator.noise_dim, generator=random)}

    def forward(self, mel: Tensor, lengths: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = self.generator(mel, lengths, draws["target"], draws["noise"])
        return out


class ToAmbiguity(Conversion):
    """GenGAN's: to no emotion in particular.

    Args:
        generator: spectrogram, frames and noise → spectrogram.
    """

    def __init__(self, generator: GenGANGenerator) -> None:
        super().__init__()
        self.generator = generator

    def draw(self, n: int, random: torch.Generator) -> Draws:
        return {"noise": torch.randn(n, self.generator.rows, self.generator.noise_dim, generator=random)}

    def forward(self, mel: Tensor, lengths: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = self.generator(mel, lengths, draws["noise"])
        return out


class FilterThenEmotion(Conversion):
    """PCMelGAN's: a filter takes the emotion out, a generator puts a drawn one in.

    Args:
        filter: spectrogram, frames, nothing and noise → spectrogram.
        generator: spectrogram, frames, target and noise → spectrogram.
        n_emotions: that targets are drawn from.
    """

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

    def forward(self, mel: Tensor, lengths: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        return self.generate(self.hide(mel, lengths, draws), lengths, draws)

    def hide(self, mel: Tensor, lengths: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """The filter's output."""
        out: Tensor = self.filter(mel, lengths, None, draws["filter_noise"])
        return out

    def generate(self, filtered: Tensor, lengths: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """The generator's."""
        out: Tensor = self.generator(filtered, lengths, draws["target"], draws["noise"])
        return out
