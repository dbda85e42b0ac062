"""Waveform in, waveform out: the interface that trained protectors and the controls share."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor

from psegan.common.errors import PseganError
from psegan.common.instantiate import describe

if TYPE_CHECKING:
    from psegan.protection.voice import Voice


class Transformed(NamedTuple):
    """What a transform made of an utterance.

    Attributes:
        waveform: ``(T,)`` float32 in [-1, 1] at 16 kHz.
        target: class index of the emotion that speech was moved to; None where there is no such thing.
        passed: all that was let through of the utterance, ``(C, N)``, where the transform :attr:`~Transform.cuts`.
    """

    waveform: Tensor
    target: int | None = None
    passed: Tensor | None = None


class Transform(ABC):
    """Waveform to waveform. A subclass keeps every argument of its constructor as an attribute of the same name.

    What is drawn is drawn from the generator that :meth:`transform` is given and from nothing else, so that an utterance
    comes out the same in whatever order or process it is protected.
    """

    weights: str | None = None
    """Hash of the trained weights; None where nothing is trained."""
    n_targets: int | None = None
    """Number of emotions that targets are drawn from; None where there are no targets."""
    keeps_length: bool = True
    """Whether what comes out is as long as what goes in, sample by sample."""
    needs_voice: bool = False
    """Whether it speaks with a voice profile (:class:`psegan.protection.voice.Voice`), without which it protects nobody."""
    cuts: bool = False
    """Whether it lets through little of an utterance, which it can show, and makes everything else anew."""
    learnt_from: tuple[str, ...] = ()
    """Class paths of judges (:mod:`psegan.evaluation.judges`) whose networks are a part of it or taught it. They are no judges
    of its speech, and their columns stay empty."""

    @torch.no_grad()
    def transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        """Transform one utterance.

        Args:
            waveform: ``(T,)`` float32 in [-1, 1] at 16 kHz.
            random: where everything that is drawn is drawn from.

        Returns:
            The new waveform ``(T',)``, finite, clamped to [-1, 1] (what a file can hold), and the target.

        Raises:
            PseganError: the result is not finite.
        """
        made, target, passed = self._transform(waveform, random)
        if self.keeps_length:
            assert made.shape == waveform.shape, f"{self} turned {tuple(waveform.shape)} into {tuple(made.shape)}"
        if not torch.isfinite(made).all():
            raise PseganError(f"{self} gives samples that are not finite; its weights or settings are broken")
        return Transformed(made.float().clamp(-1, 1), target, passed)

    def speaking_as(self, voice: "Voice", keep_timing: bool = False) -> Self:
        """One that protects the speaker of a voice profile, perhaps in the original's timing; where none is needed, itself."""
        return self

    @abstractmethod
    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        """What :meth:`transform` does, before the result is checked and clamped."""

    def describe(self) -> dict[str, Any]:
        """Identity in plain values: class, settings and the hash of the weights. Equal ones give equal speech."""
        return self._with_teachers({**describe(self), "weights": self.weights})

    def _with_teachers(self, described: dict[str, Any]) -> dict[str, Any]:
        return described | ({"learnt_from": list(self.learnt_from)} if self.learnt_from else {})

    def __str__(self) -> str:
        return _spell(self.describe())


def _spell(about: dict[str, Any]) -> str:
    """A description as its constructor's call, with class names alone."""
    arguments = {
        name: _spell(value) if isinstance(value, dict) and "class_path" in value else value
        for name, value in about["init_args"].items()
    }
    return f"{about['class_path'].rpartition('.')[2]}({', '.join(f'{k}={v}' for k, v in arguments.items())})"
