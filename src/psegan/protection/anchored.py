"""Protection by saying everything again in the speaker's own calm voice: Anchored."""

import copy
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from psegan.common.errors import PseganError
from psegan.models.anchored import CodeEncoder, Profile, ProfileDecoder, enrolled
from psegan.models.content import STRIDE
from psegan.models.conversion import Draws
from psegan.models.vocoder import Vocoder
from psegan.protection.protector import Counted, Protector
from psegan.protection.segments import segments
from psegan.protection.transform import Transformed
from psegan.protection.voice import Voice
from psegan.speech.audio import HOP, N_MELS, SAMPLE_RATE
from psegan.speech.edges import trimmed
from psegan.speech.masking import strided_length

FASTEST, SLOWEST = 0.87, 1.15
"""Bounds of the drawn duration, of the original's: a listener takes either for the speaker's own tempo."""
SILENCE = 1e-3
"""Peak, of full scale (-60 dB), below which a segment holds nothing that is said."""
PAUSE = SAMPLE_RATE // 5
"""Samples that stand for a segment in which nothing is said."""


class AnchoredProtector(Protector):
    """Speech is cut down to codes, and said again by a decoder in the voice of a profile; see :mod:`psegan.models.anchored`.

    Recordings are taken in segments, cut where it is quiet, each encoded by itself; the vocoder speaks over the cuts. Level
    and pitch are the profile's. The tempo is drawn for each recording, and of silence at the ends of segments a tenth of a
    second is left, so that what comes out has another length. Kept timing has the recording's length, and lets through its
    tempo and pauses.

    Args:
        parts: ``encoder``, ``decoder`` and ``vocoder``; see :class:`psegan.weights.PretrainedModel`.
        about: see there.

    Attributes:
        voice: with whose profile it speaks; see :meth:`speaking_as`.
        keeps_length: whether timing is kept.

    Raises:
        PseganError: see :class:`psegan.weights.PretrainedModel`.
    """

    encoder: CodeEncoder
    decoder: ProfileDecoder
    KINDS: ClassVar[dict[str, type[nn.Module]]] = {
        "encoder": CodeEncoder,
        "decoder": ProfileDecoder,
        "vocoder": Vocoder,
    }
    needs_voice, cuts = True, True

    def __init__(self, parts: dict[str, Any], about: dict[str, Any]) -> None:
        super().__init__(parts, about)
        self.voice: Voice | None = None
        self.keeps_length = False
        self._profile: Profile | None = None

    def speaking_as(self, voice: Voice, keep_timing: bool = False) -> Self:
        """One that shares these networks and protects the speaker of a profile.

        Args:
            voice: calm speech of the speaker who is to be protected.
            keep_timing: gives speech that is as long as the recording, for dubbing.
        """
        one = copy.copy(self)
        one.voice, one.keeps_length, one._profile = voice, keep_timing, None
        return one

    def draw(self, random: torch.Generator, target: str | None = None) -> Draws:
        """The tempo of one recording, as ``duration`` ``(1,)``: uniform on a logarithmic scale; see the base class."""
        if target is not None:
            raise PseganError(f"target emotion {target!r} is not known; there are none: this system has no targets")
        low, high = torch.tensor([FASTEST, SLOWEST]).log()
        return {"duration": (low + (high - low) * torch.rand(1, generator=random)).exp()}

    @torch.inference_mode()
    def protect(self, blocks: Iterable[Tensor], draws: Draws, passed: list[Tensor] | None = None) -> Iterator[Tensor]:
        """See the base class; ``passed`` gets what is let through of each segment, ``(dims, N')``.

        Raises:
            PseganError: it speaks as nobody yet, the recording is too quiet, or see there.
        """
        if self.voice is None:
            raise PseganError("Anchored speaks with a voice profile: give it one by speaking_as(Voice.load(...))")
        counted = Counted(blocks)
        said = self._said(counted, float(draws["duration"]), [] if passed is None else passed)
        if (first := next(said, None)) is None:
            yield torch.zeros(0)
            return
        yield from self.spoken(chain([first], said), counted if self.keeps_length else None)

    def describe(self) -> dict[str, Any]:
        """See the base class; with whose profile, and in what timing, it speaks."""
        described = super().describe()
        if self.voice is not None:
            described["init_args"] |= {"voice": self.voice.hash, "keep_timing": self.keeps_length}
        return described

    def _transform(self, waveform: Tensor, random: torch.Generator) -> Transformed:
        passed: list[Tensor] = []
        made = torch.cat(list(self.protect([waveform], self.draw(random), passed)))
        return Transformed(made, None, torch.cat(passed, 1).cpu() if passed else torch.zeros(self.encoder.dims, 0))

    def _said(self, blocks: Iterable[Tensor], duration: float, passed: list[Tensor]) -> Iterator[Tensor]:
        """What is said, segment by segment, as log-mels ``(80, n)``; ``passed`` gets the codes that it is said by."""
        anything, loudest = False, 0.0
        for segment in segments(blocks):
            peak = float(segment.abs().max())
            loudest, spoken = max(loudest, peak), peak >= SILENCE
            anything = anything or spoken
            if spoken:
                codes, frames = self._heard(segment, duration)
                passed.append(codes[0])
                yield self._say(codes, frames)
            else:
                pause = self._pause(segment)
                passed.append(torch.zeros(self.encoder.dims, -(-pause.shape[1] // STRIDE), device=self.device))
                yield pause
        if loudest > 0 and not anything:
            raise PseganError(
                f"too quiet: its loudest sample is at {loudest:.1g} of full scale, and below {SILENCE:g} is taken for silence; "
                "amplify it first"
            )

    def _pause(self, segment: Tensor) -> Tensor:
        """Silence, as a log-mel ``(80, n)``, for a segment ``(T,)`` in which nothing is said."""
        samples = len(segment) if self.keeps_length else PAUSE
        return torch.full((N_MELS, -(-samples // HOP)), self.scaler.low, device=self.device)

    def _heard(self, segment: Tensor, duration: float) -> tuple[Tensor, Tensor]:
        """Codes of a segment ``(T,)``, ``(1, dims, N')``, and how many frames to say them in, ``(1,)``.

        That is ``duration`` times as many as there were, unless timing is kept.
        """
        if not self.keeps_length:
            segment = trimmed(segment)
        mel, lengths = self.front_end(segment[None].to(self.device), torch.tensor([len(segment)], device=self.device))
        codes, lengths = self.encoder(self.scaler(mel), lengths)
        frames = lengths.new_tensor([-(-len(segment) // HOP)])  # the front-end's last frame may lie behind the end
        if not self.keeps_length:
            frames = (frames * duration).round().long().clamp(min=1)
        n = strided_length(frames, STRIDE)
        places = torch.arange(int(n), device=self.device) * int(lengths) // int(n)
        return codes[..., places], frames

    def _say(self, codes: Tensor, frames: Tensor) -> Tensor:
        """Log-mel ``(80, n)`` of what :meth:`_heard` gives."""
        n = strided_length(frames, STRIDE)
        embedded = self.decoder.embed(codes, n)
        retrieved = self.decoder.retrieve(embedded, self._enrolled(), torch.zeros_like(n))
        pitch = self.decoder.intone(embedded, retrieved, n)[..., : int(frames)]
        return self.decoder(embedded, retrieved, pitch, frames)[0] + self._voice.level

    @property
    def _voice(self) -> Voice:
        assert self.voice is not None
        return self.voice

    def _enrolled(self) -> Profile:
        """The profile, where the networks are."""
        if self._profile is None or self._profile.keys.device != self.device:
            speech = self._voice.analysed().to(self.device)
            codes, _ = self.encoder(speech.mel, speech.frames)
            self._profile = enrolled(self.decoder, speech, codes, torch.zeros_like(speech.frames))
        return self._profile
