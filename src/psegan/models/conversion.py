"""The conversion of spectrograms that a system trains; protection needs it alone, without the system."""

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from psegan.common.errors import PseganError
from psegan.models.conditional import ConditionalUNet
from psegan.models.gengan import GenGANGenerator
from psegan.models.level import Level
from psegan.models.pcmelgan import PCMelGANFilter, PCMelGANGenerator
from psegan.speech.audio import HOP, SAMPLE_RATE

Draws = dict[str, Tensor]
"""Random draws of a batch, first axis B; ``target``, if there is one, is the index of the target emotion."""


class Conversion(nn.Module):
    """The interface: scaled log-mel, frames and draws → protected scaled log-mel, at the original's level.

    The level (:class:`psegan.models.level.Level`) belongs to the conversion, so that discriminators see what listeners hear.

    Args:
        level: ``kept``, or the level in dB of full scale that all speech gets, for privacy: how loud somebody speaks says
            something of the emotion. Speech gets it before the networks hear it, so that they cannot pass the original's on.
            A long recording is converted in windows of 16 s, each of which gets the level.
    """

    def __init__(self, level: Literal["kept"] | float = "kept") -> None:
        super().__init__()
        self.level = level
        self.fixed = None if level == "kept" else float(level)
        self.levelling = Level()

    @property
    def least_frames(self) -> int:
        """Frames that the longest training utterance must have, so that all weights are trained.

        A network says it by an attribute of this name; one that has none is taken to be trained by any utterance.
        """
        return max(int(getattr(part, "least_frames", 1)) for part in self.children())

    def check_reach(self, frames: int) -> None:
        """Raise :class:`PseganError` if training utterances of ``frames`` frames leave weights untrained."""
        if self.least_frames > frames:
            seconds = math.ceil(10 * self.least_frames * HOP / SAMPLE_RATE) / 10
            raise PseganError(
                f"some weights of the generator act only on recordings of {self.least_frames} frames or more, but the longest "
                f"training utterance has {frames}: they stay untrained; train on {seconds:g} s or more "
                "(data.init_args.crop_seconds), or lower PSEGAN's grn_dilations or GenGAN's noise_dim in "
                "model.init_args.generator.init_args"
            )

    @abstractmethod
    def draw(self, n: int, random: torch.Generator) -> Draws:
        """Targets and noise of ``n`` utterances, on the CPU."""

    def forward(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        """``(B, 80, N)`` scaled log-mel and ``(B,)`` frames → ``(B, 80, N)`` on the same scale, zero in padding."""
        mel = self.levelled(mel, lengths)
        return self.levelling(self.convert(mel, lengths, draws), mel, lengths)

    def levelled(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """``(B, 80, N)`` scaled log-mel and ``(B,)`` frames → the same at the fixed level; where it is kept, as it is."""
        return mel if self.fixed is None else self.levelling.at(self.fixed, mel, lengths)

    @abstractmethod
    def convert(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        """What the networks make of speech that is :meth:`levelled`; its own level is anything."""


class ToEmotion(Conversion):
    """PSEGAN's conversion to a drawn emotion, uniform over all including the true one, or to a fixed emotion.

    Args:
        generator: the network.
        n_emotions: number of emotions that targets are drawn from.
        target: index of the fixed emotion; None draws.
        level: see :class:`Conversion`.

    Raises:
        PseganError: there is no such emotion.
    """

    def __init__(
        self,
        generator: ConditionalUNet,
        n_emotions: int,
        target: int | None = None,
        level: Literal["kept"] | float = "kept",
    ) -> None:
        super().__init__(level)
        if target is not None and not 0 <= target < n_emotions:
            raise PseganError(f"target is {target!r}, but must be the index of one of {n_emotions} emotions")
        self.generator, self.n_emotions, self.target = generator, n_emotions, target

    def draw(self, n: int, random: torch.Generator) -> Draws:
        target = torch.randint(self.n_emotions, (n,), generator=random)
        if self.target is not None:
            target = torch.full_like(target, self.target)
        return {"target": target, "noise": torch.randn(n, self.generator.noise_dim, generator=random)}

    def convert(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        return self.generator(mel, lengths, draws["target"], draws["noise"])


class ToAmbiguity(Conversion):
    """GenGAN's conversion to ambiguous emotion.

    Args:
        generator: the network.
        level: see :class:`Conversion`.
    """

    def __init__(self, generator: GenGANGenerator, level: Literal["kept"] | float = "kept") -> None:
        super().__init__(level)
        self.generator = generator

    def draw(self, n: int, random: torch.Generator) -> Draws:
        return {"noise": torch.randn(n, self.generator.rows, self.generator.noise_dim, generator=random)}

    def convert(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        return self.generator(mel, lengths, draws["noise"])


class FilterThenEmotion(Conversion):
    """PCMelGAN's conversion: a filter removes the emotion, and a generator adds one that is drawn from ``n_emotions``.

    Args:
        filter, generator: the networks.
        n_emotions: number of emotions that targets are drawn from.
        level: see :class:`Conversion`; both networks' output has it.
    """

    def __init__(
        self,
        filter: PCMelGANFilter,
        generator: PCMelGANGenerator,
        n_emotions: int,
        level: Literal["kept"] | float = "kept",
    ) -> None:
        super().__init__(level)
        self.filter, self.generator, self.n_emotions = filter, generator, n_emotions

    def draw(self, n: int, random: torch.Generator) -> Draws:
        filter_noise = torch.randn(n, self.filter.noise_dim, generator=random)
        target = torch.randint(self.n_emotions, (n,), generator=random)
        return {
            "filter_noise": filter_noise,
            "target": target,
            "noise": torch.randn(n, self.generator.noise_dim, generator=random),
        }

    def convert(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        return self._generated(self.hide(mel, lengths, draws), lengths, draws)

    def hide(self, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        """The filter's output, at its input's level."""
        return self.levelling(self.filter(mel, lengths, None, draws["filter_noise"]), mel, lengths)

    def generate(self, filtered: Tensor, mel: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        """The generator's output for the filter's, at the level of the original ``mel``."""
        return self.levelling(self._generated(filtered, lengths, draws), mel, lengths)

    def _generated(self, filtered: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        return self.generator(filtered, lengths, draws["target"], draws["noise"])
