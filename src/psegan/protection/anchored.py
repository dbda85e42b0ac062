"""Protection by saying everything again in the speaker's own calm voice: Anchored."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, Self

import torch
from torch import Tensor

from psegan.common.errors import PseganError
from psegan.models.analysis import Analysis
from psegan.models.anchored import CodeEncoder, Profile, ProfileDecoder, enrolled
from psegan.models.content import STRIDE
from psegan.models.conversion import Draws
from psegan.models.vocoder import Vocoder
from psegan.protection.protector import Protector
from psegan.protection.segments import segments
from psegan.protection.streaming import pieces
from psegan.protection.voice import Voice
from psegan.speech.audio import HOP, SAMPLE_RATE, UnitScaler
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

    Recordings are taken in segments, cut where it is quiet, each analysed by itself; the vocoder speaks over the cuts. Level
    and pitch are the profile's. The tempo is drawn for each recording, and silence at the ends of segments is cut to a tenth
    of a second, so that what comes out has another length. Kept timing has the recording's length, and lets through its tempo
    and pauses.

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
    PARTS = ("encoder", "decoder", "vocoder")
    needs_voice = True

    def __init__(self, parts: dict[str, Any], about: dict[str, Any]) -> None:
        super().__init__(parts, about)
        made = dict(self.named_children())
        kinds = {"encoder": CodeEncoder, "decoder": ProfileDecoder, "vocoder": Vocoder}
        if made.keys() != kinds.keys() or not all(isinstance(made[name], kind) for name, kind in kinds.items()):
            raise PseganError("Anchored has an encoder, a decoder and a vocoder, but these parts are others")
        self.analysis, self.scaler = Analysis(), UnitScaler()
        self.voice: Voice | None = None
        self.keeps_length = False
        self._profile: Profile | None = None

    @torch.inference_mode()
    def speaking_as(self, voice: Voice, keep_timing: bool = False) -> Self:
        """One that shares these networks and protects the speaker of a profile.

        Args:
            voice: calm speech of the speaker who is to be protected.
            keep_timing: gives speech that is as long as the recording, for dubbing.
        """
        one = copy.copy(self)
        one.voice, one.keeps_length = voice, keep_timing
        speech = voice.analysed().to(self.device)
        one._profile, _ = enrolled(self.encoder, self.decoder, speech, torch.zeros_like(speech.frames))
        return one

    def draw(self, random: torch.Generator, target: str | None = None) -> Draws:
        """The tempo of one recording, as ``duration`` ``(1,)``: uniform on a logarithmic scale; see the base class."""
        if target is not None:
            raise PseganError(f"target emotion {target!r} is not known; there are none: this system has no targets")
        low, high = torch.tensor([FASTEST, SLOWEST]).log()
        return {"duration": (low + (high - low) * torch.rand(1, generator=random)).exp()}

    @torch.inference_mode()
    def protect(self, blocks: Iterable[Tensor], draws: Draws) -> Iterator[Tensor]:
        """See the base class.

        Raises:
            PseganError: it speaks as nobody yet; or see there.
        """
        if self.voice is None:
            raise PseganError("Anchored speaks with a voice profile: give it one by speaking_as(Voice.load(...))")
        read = written = 0

        def counted() -> Iterator[Tensor]:
            nonlocal read
            for block in blocks:
                read += len(block)
                yield block

        said = (self._said(segment, float(draws["duration"])) for segment in segments(counted()))
        for mel, first, end in pieces(said, self.vocoder.context):
            waveform = self.speak(mel)[first * HOP : end * HOP]
            if self.keeps_length:
                waveform = waveform[: read - written]  # a vocoder speaks in whole frames
            written += len(waveform)
            yield waveform.clamp(-1, 1)

    def _said(self, segment: Tensor, duration: float) -> Tensor:
        """What is said in a segment ``(T,)``, as a log-mel ``(80, n)``, ``duration`` times as long unless timing is kept."""
        assert self.voice is not None and self._profile is not None
        spoken = bool(segment.abs().max() >= SILENCE)
        if not self.keeps_length:
            segment = trimmed(segment) if spoken else segment[:PAUSE]
        speech = self.analysis(segment[None].to(self.device), torch.tensor([len(segment)], device=self.device))
        if not spoken:
            return torch.full_like(speech.mel[0], self.scaler.low)[:, : -(-len(segment) // HOP)]
        codes, lengths = self.encoder(speech.mel, speech.frames)
        own = speech.frames.new_tensor([-(-len(segment) // HOP)])  # the last frame may lie behind the segment's end
        frames = own if self.keeps_length else (own * duration).round().long().clamp(min=1)
        n = strided_length(frames, STRIDE)
        places = torch.arange(int(n), device=self.device) * int(lengths) // int(n)
        embedded = self.decoder.embed(codes[..., places], n)
        retrieved = self.decoder.retrieve(embedded, self._profile, torch.zeros_like(n))
        prosody = self.decoder.intone(embedded, retrieved, n)[..., : int(frames)]
        return self.decoder(embedded, retrieved, prosody, frames)[0] + self.voice.level
