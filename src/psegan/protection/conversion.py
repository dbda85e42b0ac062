"""Protection by converting spectrograms: PSEGAN, GenGAN and PCMelGAN."""

import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from psegan.common.errors import PseganError
from psegan.lineage import crop_frames
from psegan.models.conversion import Conversion, Draws
from psegan.models.vocoder import Vocoder
from psegan.protection.protector import Counted, Protector
from psegan.protection.streaming import mel_blocks, stitch, windows
from psegan.speech.audio import HOP, SAMPLE_RATE


class ConversionProtector(Protector):
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
    KINDS: ClassVar[dict[str, type[nn.Module]]] = {"conversion": Conversion, "vocoder": Vocoder}

    def check(self) -> None:
        """Refuse weights that no training utterance reached, as far as it is known how long those were."""
        if (frames := self._training_frames) is not None:
            self.conversion.check_reach(frames)

    @property
    def _training_frames(self) -> int | None:
        """Spectrogram frames of the longest training utterance or, where no more is known, of the longest crop."""
        frames = self.about.get("training_frames")
        return crop_frames(self.about) if frames is None else int(frames)

    def say_concerns(self, source: str | Path) -> None:
        """Say that nobody knows how long the training speech was, if that counts."""
        least = self.conversion.least_frames
        if least > 1 and self._training_frames is None:
            _say_unknown(str(source), (least - 1) * HOP / SAMPLE_RATE)

    def draw(self, random: torch.Generator, target: str | None = None) -> Draws:
        """Target and noise for one recording; see the base class."""
        draws = self.conversion.draw(1, random)
        if target is not None:
            if target not in self.emotions or "target" not in draws:
                known = ", ".join(self.emotions) if "target" in draws else "none: this system has no targets"
                raise PseganError(f"target emotion {target!r} is not known; there are {known}")
            draws["target"] = torch.tensor([self.emotions.index(target)])
        return draws

    @torch.inference_mode()
    def protect(self, blocks: Iterable[Tensor], draws: Draws) -> Iterator[Tensor]:
        """See the base class; together as many samples as ``blocks`` had."""
        draws = {name: drawn.to(self.device) for name, drawn in draws.items()}
        counted = Counted(blocks)
        converted = (self._convert(mel, draws) for mel in windows(mel_blocks(counted, self.front_end)))
        yield from self.spoken(stitch(converted), counted)

    def _convert(self, mel: Tensor, draws: Draws) -> Tensor:
        """Log-mel ``(80, n)`` → the same converted."""
        frames = torch.tensor([mel.shape[1]], device=mel.device)
        return self.scaler.inverse(self.conversion(self.scaler(mel[None]), frames, draws))[0]

    @property
    def n_targets(self) -> int | None:  # type: ignore[override]
        """See the base class."""
        return getattr(self.conversion, "n_emotions", None)


@cache
def _say_unknown(source: str, seconds: float) -> None:
    """Say once that weights may be untrained."""
    print(
        f"psegan: warning: {source}: nobody says how long its training speech was; some of its weights act only on recordings "
        f"of more than {seconds:.1f} s, and at random if no training utterance was that long",
        file=sys.stderr,
    )
