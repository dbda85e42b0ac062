"""The product: a recording goes in and comes out without its emotion, whatever its rate and length."""

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from psegan.common.errors import PseganError
from psegan.common.instantiate import describe
from psegan.common.random import of_utterance, secret
from psegan.lineage import crop_frames
from psegan.models.conversion import Draws
from psegan.models.state import weights_hash
from psegan.models.vocoder import Vocoder
from psegan.protection.streaming import pieces
from psegan.protection.transform import Transform, Transformed
from psegan.speech.audio import HOP, SAMPLE_RATE, LogMel, UnitScaler, check_rate, resample
from psegan.speech.channels import compare_channels
from psegan.weights import PretrainedModel, is_checkpoint, load_parts, load_vocoder


class Protector(PretrainedModel, Transform):
    """Trained networks, a vocoder the last of them, that protect recordings.

    :meth:`load` and :meth:`from_pretrained` give what the weights are of, a
    :class:`~psegan.protection.conversion.ConversionProtector` or an :class:`~psegan.protection.anchored.AnchoredProtector`.

    Args:
        parts: see :class:`psegan.weights.PretrainedModel`.
        about: ``emotions`` are names of the targets, in order.

    Raises:
        PseganError: the parts are others, or see there.
    """

    vocoder: Vocoder
    KINDS: ClassVar[dict[str, type[nn.Module]]] = {}
    """Name of each of its networks → what that must be."""

    def __init__(self, parts: dict[str, Any], about: dict[str, Any]) -> None:
        super().__init__(parts, about)
        made = dict(self.named_children())
        if made.keys() != self.KINDS.keys() or not all(
            isinstance(made[name], kind) for name, kind in self.KINDS.items()
        ):
            found = ", ".join(f"{name} ({type(part).__name__})" for name, part in made.items())
            raise PseganError(
                f"there is {found}, which protects nothing; a protector has conversion and vocoder, or encoder, decoder and "
                "vocoder"
            )
        self.front_end, self.scaler = LogMel(), UnitScaler()

    @staticmethod
    def is_of(parts: Collection[str]) -> bool:
        """Whether networks of these names, but for a vocoder, protect."""
        return "conversion" in parts or "decoder" in parts

    @classmethod
    def kind_of(cls, parts: Mapping[str, Any]) -> type[Self]:
        """See the base class."""
        from psegan.protection.anchored import AnchoredProtector
        from psegan.protection.conversion import ConversionProtector

        kind: type[Protector] = AnchoredProtector if "decoder" in parts else ConversionProtector
        return kind if issubclass(kind, cls) else cls

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """See the base class."""
        protector = super().from_pretrained(name, **kwargs)
        protector.say_concerns(name)
        return protector

    @classmethod
    def load(cls, checkpoint: str | Path, vocoder: Vocoder | str | dict[str, Any] | None = None) -> Self:
        """The protector of a checkpoint of ``psegan fit``, or of weights that ship, perhaps with another vocoder.

        Args:
            checkpoint: the file; or name, folder or hub repository of weights that ship.
            vocoder: see :func:`psegan.weights.load_vocoder`; by default the one that was shipped with the weights, or
                :data:`psegan.weights.DEFAULT_VOCODER` for a checkpoint.

        Raises:
            PseganError: the weights are missing, damaged, or hold no protecting system.
        """
        if not is_checkpoint(checkpoint):
            protector = cls.from_pretrained(checkpoint)
            return protector if vocoder is None else cls.of(dict(protector.named_children()), vocoder, protector.about)
        parts, about = load_parts(checkpoint)
        if not cls.is_of(parts):
            raise PseganError(
                f"{checkpoint} holds {about['system']}; give a checkpoint of a protecting system that psegan fit wrote"
            )
        if about.get("training_frames") is None and (frames := crop_frames(checkpoint)) is not None:
            about["training_frames"] = frames  # checkpoints of before don't say it
        protector = cls.of(parts, vocoder, about)
        protector.say_concerns(checkpoint)
        return protector

    @classmethod
    def of(
        cls, parts: Mapping[str, nn.Module], vocoder: Vocoder | str | dict[str, Any] | None, about: dict[str, Any]
    ) -> Self:
        """A protector of networks as they are now, whose weights are copied; see :meth:`load`."""
        kind = cls.kind_of(parts)
        own = {name: module for name, module in parts.items() if name in kind.KINDS}
        return kind.assemble({**own, "vocoder": load_vocoder(vocoder)}, dict(about))

    def say_concerns(self, source: str | Path) -> None:
        """Say on stderr what whoever uses these weights should know; by default there is nothing."""

    @property
    def emotions(self) -> tuple[str, ...]:
        """Names of the emotions that speech is moved to, in the order of the targets' indices."""
        return tuple(self.about.get("emotions", ()))

    def draw(self, random: torch.Generator, target: str | None = None) -> Draws:
        """What is drawn for one recording.

        Args:
            random: where it is drawn from.
            target: name of an emotion instead of a drawn one.

        Raises:
            PseganError: there is no such emotion.
        """
        raise NotImplementedError

    def protect(self, blocks: Iterable[Tensor], draws: Draws) -> Iterator[Tensor]:
        """Protect one recording block by block, in memory that doesn't grow with its length.

        Args:
            blocks: its waveform in blocks ``(T,)`` of any length, at 16 kHz; where they end changes nothing.
            draws: the same for all of it; see :meth:`draw`.

        Yields:
            Protected samples ``(T,)`` in [-1, 1] on the CPU, in order.

        Raises:
            PseganError: the result is not finite; or whatever reading the blocks raises.
        """
        raise NotImplementedError

    @torch.inference_mode()
    def forward(
        self, waveform: Tensor, sample_rate: int, seed: int | None = None, target: str | None = None, id: str = ""
    ) -> Tensor:
        """Protect one recording.

        Args:
            waveform: ``(T,)`` or ``(C, T)``, floating point in [-1, 1]; channels are averaged, or the loudest is taken, with
                a warning, where they would cancel one another.
            sample_rate: in Hz.
            seed: of all that is drawn; drawn from the operating system's secure source by default, as it should be where
                privacy counts: whoever knows it knows the target.
            target: name of an emotion instead of a drawn one.
            id: name of the recording, by which the seed gives every one its own draws; ``psegan protect`` takes the path
                below its output folder, without the ending.

        Returns:
            ``(T',)`` at 16 kHz in [-1, 1], on the CPU; as long as the recording, if the protector :attr:`keeps_length`.

        Raises:
            PseganError: there are no samples, some are not finite or no floats, the rate is none of speech, or the emotion is
                unknown.
        """
        if not isinstance(waveform, Tensor) or not waveform.is_floating_point() or waveform.dim() not in (1, 2):
            raise PseganError("the waveform must be a tensor, (T,) or (C, T), of floating point samples in [-1, 1]")
        if waveform.dim() == 2 and waveform.shape[0] > max(waveform.shape[1], 1):
            raise PseganError(f"the waveform is {tuple(waveform.shape)}, but must be (C, T): transpose it")
        check_rate(sample_rate, "the waveform has")
        mono = _mix(waveform.float().cpu(), int(sample_rate)) if waveform.dim() == 2 else waveform.float().cpu()
        if len(mono) == 0 or not torch.isfinite(mono).all():
            raise PseganError("the waveform must be (T,) or (C, T) samples, at least one, none of them NaN or infinite")
        draws = self.draw(secret() if seed is None else of_utterance(seed, id), target)
        return torch.cat(list(self.protect([resample(mono, int(sample_rate), SAMPLE_RATE)], draws)))

    def spoken(self, mels: Iterable[Tensor], read: "Counted | None" = None) -> Iterator[Tensor]:
        """What the vocoder makes of a log-mel that comes in parts ``(80, n)``, without seams: samples on the CPU, in [-1, 1].

        Args:
            mels: the parts.
            read: what they are made of, where no more samples may come out, for a vocoder speaks in whole frames.

        Raises:
            PseganError: they are not finite.
        """
        written = 0
        for mel, first, end in pieces(mels, self.vocoder.context):
            frames = torch.tensor([mel.shape[1]], device=mel.device)
            waveform = self.vocoder(mel[None], frames)[0, first * HOP : end * HOP].float().cpu()
            if read is not None:
                waveform = waveform[: read.samples - written]
            if not torch.isfinite(waveform).all():
                raise PseganError("comes out with samples that are not finite; the weights are broken")
            written += len(waveform)
            yield waveform.clamp(-1, 1)

    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        draws = self.draw(random)
        target = draws.get("target")
        made = torch.cat(list(self.protect([waveform], draws)))
        return Transformed(made, None if target is None else int(target[0]))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.front_end.window.device

    @cached_property
    def weights(self) -> str | None:  # type: ignore[override]
        """See the base class."""
        return weights_hash(self)

    @property
    def learnt_from(self) -> tuple[str, ...]:  # type: ignore[override]
        """See the base class; a trained system says it when it is exported or saved."""
        return tuple(self.about.get("learnt_from", ()))

    def describe(self) -> dict[str, Any]:
        """See the base class; weights are known by their contents, wherever they lie."""
        return self._with_teachers({
            "class_path": f"{Protector.__module__}.{Protector.__name__}",
            "init_args": {"system": self.about.get("system"), "vocoder": describe(self.vocoder)},
            "weights": self.weights,
        })  # fmt: skip


class Counted:
    """Blocks ``(T,)`` as they are read.

    Attributes:
        samples: that were read so far.
    """

    def __init__(self, blocks: Iterable[Tensor]) -> None:
        self.blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[Tensor]:
        for block in self.blocks:
            self.samples += len(block)
            yield block


def _mix(waveform: Tensor, sample_rate: int) -> Tensor:
    """Channels ``(C, T)`` as one ``(T,)``."""
    comparison = compare_channels([waveform.T], sample_rate)
    if lost := comparison.loss("is protected"):
        warnings.warn(lost, stacklevel=3)
    return comparison.mix(waveform.T)
