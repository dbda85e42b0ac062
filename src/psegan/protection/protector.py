"""The product: a recording goes in and comes out with another emotion, whatever its rate and length."""

import sys
import warnings
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from psegan.common.errors import PseganError
from psegan.common.instantiate import describe
from psegan.common.random import of_utterance, secret
from psegan.lineage import crop_frames
from psegan.models.conversion import Conversion, Draws
from psegan.models.state import weights_hash
from psegan.models.vocoder import Vocoder
from psegan.protection.streaming import mel_blocks, pieces, stitch, windows
from psegan.protection.transform import Transform, Transformed
from psegan.speech.audio import HOP, SAMPLE_RATE, LogMel, UnitScaler, check_rate, resample
from psegan.speech.channels import compare_channels
from psegan.weights import PretrainedModel, is_checkpoint, load_parts, load_vocoder


class Protector(PretrainedModel, Transform):
    """A conversion of spectrograms and the vocoder that turns them into speech.

    Recordings longer than 16 s are converted in windows that overlap, all with the same target and noise; their spectrograms
    are joined before the vocoder speaks, so the waveform has no seams. Every window is computed alone, so a
    recording comes out the same, bit by bit on one thread of a processor, whatever is protected beside it.

    Args:
        parts: ``conversion`` and ``vocoder``; see :class:`psegan.weights.PretrainedModel`.
        about: ``emotions`` are names of the targets, in order.

    Raises:
        PseganError: see :class:`psegan.weights.PretrainedModel`.
    """

    conversion: Conversion
    vocoder: Vocoder

    def __init__(self, parts: dict[str, Any], about: dict[str, Any]) -> None:
        super().__init__(parts, about)
        made, kinds = dict(self.named_children()), {"conversion": Conversion, "vocoder": Vocoder}
        if made.keys() != kinds.keys() or not all(isinstance(made[name], kind) for name, kind in kinds.items()):
            raise PseganError("a protector has a conversion and a vocoder, but these parts are others")
        self.front_end, self.scaler = LogMel(), UnitScaler()

    def check(self) -> None:
        """Refuse weights that no training utterance reached, as far as it is known how long those were."""
        if (frames := self._training_frames) is not None:
            self.conversion.check_reach(frames)

    @property
    def _training_frames(self) -> int | None:
        """Spectrogram frames of the longest training utterance or, where no more is known, of the longest crop."""
        frames = self.about.get("training_frames")
        return crop_frames(self.about) if frames is None else int(frames)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """See the base class; where nobody says how long the training speech was, one line on stderr does."""
        protector = super().from_pretrained(name, **kwargs)
        protector._say_if_unknown(name)
        return protector

    def _say_if_unknown(self, source: str | Path) -> None:
        least = self.conversion.least_frames
        if least > 1 and self._training_frames is None:
            _say_unknown(str(source), (least - 1) * HOP / SAMPLE_RATE)

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
            if vocoder is None:
                return protector
            return cls.of(protector.conversion, vocoder, protector.about)
        parts, about = load_parts(checkpoint)
        if "conversion" not in parts:
            raise PseganError(
                f"{checkpoint} holds {about['system']}; give a checkpoint of a protecting system that psegan fit wrote"
            )
        if about.get("training_frames") is None and (frames := crop_frames(checkpoint)) is not None:
            about["training_frames"] = frames  # checkpoints of before don't say it
        protector = cls.of(parts["conversion"], vocoder, about)
        protector._say_if_unknown(checkpoint)
        return protector

    @classmethod
    def of(cls, conversion: nn.Module, vocoder: Vocoder | str | dict[str, Any] | None, about: dict[str, Any]) -> Self:
        """A protector of a conversion as it is now, whose weights are copied; see :meth:`load`."""
        return cls.assemble({"conversion": conversion, "vocoder": load_vocoder(vocoder)}, dict(about))

    @property
    def emotions(self) -> tuple[str, ...]:
        """Names of the emotions that speech is moved to, in the order of the targets' indices."""
        return tuple(self.about.get("emotions", ()))

    def draw(self, random: torch.Generator, target: str | None = None) -> Draws:
        """Target and noise for one recording.

        Args:
            random: where they are drawn from.
            target: name of an emotion instead of a drawn one.

        Raises:
            PseganError: there is no such emotion.
        """
        draws = self.conversion.draw(1, random)
        if target is not None:
            if target not in self.emotions or "target" not in draws:
                known = ", ".join(self.emotions) if "target" in draws else "none: this system has no targets"
                raise PseganError(f"target emotion {target!r} is not known; there are {known}")
            draws["target"] = torch.tensor([self.emotions.index(target)])
        return draws

    @torch.inference_mode()
    def forward(
        self, waveform: Tensor, sample_rate: int, seed: int | None = None, target: str | None = None, id: str = ""
    ) -> Tensor:
        """Protect one recording.

        Args:
            waveform: ``(T,)`` or ``(C, T)``, floating point in [-1, 1]; channels are averaged, or the loudest is taken, with
                a warning, where they would cancel one another.
            sample_rate: in Hz.
            seed: of target and noise; drawn from the operating system's secure source by default, as it should be where
                privacy counts: whoever knows it knows the target.
            target: name of an emotion instead of a drawn one.
            id: name of the recording, by which the seed gives every one its own draws; ``psegan protect`` takes the path
                below its output folder, without the ending.

        Returns:
            ``(T',)`` at 16 kHz, as long as the recording, in [-1, 1], on the CPU.

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

    @torch.inference_mode()
    def protect(self, blocks: Iterable[Tensor], draws: Draws) -> Iterator[Tensor]:
        """Protect one recording block by block, in memory that doesn't grow with its length.

        Args:
            blocks: its waveform in blocks ``(T,)`` of any length, at 16 kHz; where they end changes nothing.
            draws: target and noise, the same for all of it; see :meth:`draw`.

        Yields:
            Protected samples ``(T,)`` in [-1, 1] on the CPU, in order, together as many as ``blocks`` had.

        Raises:
            PseganError: the result is not finite; or whatever reading the blocks raises.
        """
        read = written = 0

        def counted() -> Iterator[Tensor]:
            nonlocal read
            for block in blocks:
                read += len(block)
                yield block

        draws = {name: drawn.to(self.device) for name, drawn in draws.items()}
        converted = (self._convert(mel, draws) for mel in windows(mel_blocks(counted(), self.front_end)))
        for mel, first, end in pieces(stitch(converted), self.vocoder.context):
            spoken = self.vocoder(mel[None], torch.tensor([mel.shape[1]], device=mel.device))[0].float().cpu()
            waveform = spoken[first * HOP : end * HOP][: read - written]  # a vocoder speaks in whole frames
            if not torch.isfinite(waveform).all():
                raise PseganError("comes out with samples that are not finite; the weights are broken")
            written += len(waveform)
            yield waveform.clamp(-1, 1)

    def _convert(self, mel: Tensor, draws: Draws) -> Tensor:
        """Log-mel ``(80, n)`` → the same converted."""
        frames = torch.tensor([mel.shape[1]], device=mel.device)
        return self.scaler.inverse(self.conversion(self.scaler(mel[None]), frames, draws))[0]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.front_end.window.device

    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        draws = self.draw(random)
        target = draws.get("target")
        made = torch.cat(list(self.protect([waveform], draws)))
        return Transformed(made, None if target is None else int(target[0]))

    @cached_property
    def weights(self) -> str | None:  # type: ignore[override]
        """See the base class."""
        return weights_hash(self)

    @property
    def n_targets(self) -> int | None:  # type: ignore[override]
        """See the base class."""
        return getattr(self.conversion, "n_emotions", None)

    @property
    def learnt_from(self) -> tuple[str, ...]:  # type: ignore[override]
        """See the base class; a trained system says it when it is exported or saved."""
        return tuple(self.about.get("learnt_from", ()))

    def describe(self) -> dict[str, Any]:
        """See the base class; weights are known by their contents, wherever they lie."""
        return self._with_teachers({
            "class_path": f"{__name__}.{type(self).__name__}",
            "init_args": {"system": self.about.get("system"), "vocoder": describe(self.vocoder)},
            "weights": self.weights,
        })  # fmt: skip


@cache
def _say_unknown(source: str, seconds: float) -> None:
    """Say once that weights may be untrained."""
    print(
        f"psegan: warning: {source}: nobody says how long its training speech was; some of its weights act only on recordings "
        f"of more than {seconds:.1f} s, and at random if no training utterance was that long",
        file=sys.stderr,
    )


def _mix(waveform: Tensor, sample_rate: int) -> Tensor:
    """Channels ``(C, T)`` as one ``(T,)``."""
    comparison = compare_channels([waveform.T], sample_rate)
    if lost := comparison.loss("is protected"):
        warnings.warn(lost, stacklevel=3)
    return comparison.mix(waveform.T)
