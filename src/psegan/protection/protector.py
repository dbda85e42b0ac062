"""The product: a recording goes in and comes out with another emotion, whatever its rate and length."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from psegan.common.errors import PseganError
from psegan.common.random import secret, seeded
from psegan.models.conversion import Conversion, Draws
from psegan.models.vocoder import Vocoder
from psegan.protection.streaming import Piece, Slicer, Stitcher, Window, batched, mel_blocks, windows
from psegan.speech.audio import HOP, SAMPLE_RATE, LogMel, UnitScaler, check_rate, resample
from psegan.weights import Shipped


@dataclass(eq=False)
class Recording:
    """A recording on its way through a :class:`Protector`.

    Attributes:
        blocks: its waveform in blocks ``(T,)`` of any length, at 16 kHz.
        draws: target and noise, the same for all of it; see :meth:`Protector.draw`.
        write: takes protected samples ``(T,)`` in order, together as many as ``blocks`` had.
        name: whatever the caller knows it by.
        error: why it failed, if it did.
        samples: how many were read so far.
    """

    blocks: Iterable[Tensor]
    draws: Draws
    write: Callable[[Tensor], None]
    name: Any = None
    error: Exception | None = None
    samples: int = 0
    written: int = field(default=0, repr=False)


class Protector(Shipped):
    """A conversion of spectrograms and the vocoder that it is heard through.

    Recordings longer than 16 s are converted in windows that overlap, all with the same target and noise; their spectrograms
    are joined before the vocoder speaks, so that there is nothing to be heard of it.

    Args:
        parts: ``conversion`` and ``vocoder``; see :class:`psegan.weights.Shipped`.
        about: ``emotions`` are names of the targets, in order.

    Raises:
        PseganError: see :class:`psegan.weights.Shipped`.
    """

    needs = "conversion"
    conversion: Conversion
    vocoder: Vocoder

    sample_rate = SAMPLE_RATE
    """Hz, of what comes out."""

    def __init__(self, parts: dict[str, Any], about: dict[str, Any]) -> None:
        if sorted(parts) != ["conversion", "vocoder"]:
            raise PseganError(
                f"a protector has a conversion and a vocoder, not {', '.join(sorted(parts)) or 'nothing'}"
            )
        super().__init__(parts, about)
        if not isinstance(self.conversion, Conversion) or not isinstance(self.vocoder, Vocoder):
            raise PseganError("a protector has a conversion and a vocoder, but these parts are others")
        self.front_end, self.scaler = LogMel(), UnitScaler()

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
    def forward(self, waveform: Tensor, sample_rate: int, seed: int | None = None, target: str | None = None) -> Tensor:
        """Protect one recording.

        Args:
            waveform: ``(T,)`` or ``(C, T)``, floating point in [-1, 1]; channels are averaged.
            sample_rate: in Hz.
            seed: of target and noise; drawn from the operating system's secure source by default, as it should be where
                privacy counts: whoever knows it knows the target.
            target: name of an emotion instead of a drawn one.

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
        mono = (waveform.mean(0) if waveform.dim() == 2 else waveform).float().cpu()
        if len(mono) == 0 or not torch.isfinite(mono).all():
            raise PseganError("the waveform must be (T,) or (C, T) samples, at least one, none of them NaN or infinite")
        random = secret() if seed is None else seeded("protect", seed)
        heard: list[Tensor] = []
        recording = Recording([resample(mono, int(sample_rate), SAMPLE_RATE)], self.draw(random, target), heard.append)
        for done in self.protect([recording]):
            if done.error is not None:
                raise done.error
        return torch.cat(heard)

    @torch.inference_mode()
    def protect(self, recordings: Iterable[Recording], batch_size: int = 1) -> Iterator[Recording]:
        """Protect recordings, several windows at a time, in memory that doesn't grow with their length.

        Args:
            recordings: they are begun in order, each when its turn comes.
            batch_size: windows that are converted or vocoded together, of one recording or several.

        Yields:
            Each when all of it is written, or its ``error`` is known. Only what a user can mend becomes an ``error``.
        """
        converted = batched(self._windows(recordings), batch_size, self._convert)
        yield from self._finished(batched(self._pieces(converted), batch_size, self._speak))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.front_end.window.device

    def _windows(self, recordings: Iterable[Recording]) -> Iterator[tuple[Recording, Window | None]]:
        """Every recording's windows; None in the place of what could not be read."""
        for recording in recordings:
            try:
                for window in windows(mel_blocks(_counted(recording), self.front_end)):
                    yield recording, window
                    if recording.error is not None and not window.last:
                        # it cannot be written: the rest need not be read
                        yield recording, None
                        break
            except PseganError as error:
                recording.error = error
                yield recording, None

    def _convert(self, batch: list[tuple[Recording, Window | None]]) -> Iterator[tuple[Recording, Window | None]]:
        ready = [(recording, window) for recording, window in batch if window is not None]
        mels: Iterator[Tensor] = iter(())
        if ready:
            mel, lengths = _pad([self.scaler(window.mel) for _, window in ready])
            names = ready[0][0].draws
            draws = {
                name: torch.cat([recording.draws[name] for recording, _ in ready]).to(self.device) for name in names
            }
            out = self.scaler.inverse(self.conversion(mel, lengths, draws))
            mels = (row[:, :n] for row, n in zip(out, lengths.tolist(), strict=True))
        for recording, window in batch:
            yield recording, window and Window(next(mels), window.last)

    def _pieces(self, converted: Iterable[tuple[Recording, Window | None]]) -> Iterator[tuple[Recording, Piece | None]]:
        current: Recording | None = None
        for recording, window in converted:
            if recording is not current:
                current, stitcher, slicer = recording, Stitcher(), Slicer(self.vocoder.context)
            if window is None:
                yield recording, None
                continue
            for piece in slicer.cut(stitcher.join(window), window.last):
                yield recording, piece

    def _speak(self, batch: list[tuple[Recording, Piece | None]]) -> Iterator[tuple[Recording, Tensor | None, bool]]:
        ready = [piece for _, piece in batch if piece is not None]
        waveforms: Iterator[Tensor] = iter(())
        if ready:
            mel, lengths = _pad([piece.mel for piece in ready])
            waveforms = iter(self.vocoder(mel, lengths).cpu())
        for recording, piece in batch:
            if piece is None:
                yield recording, None, True
                continue
            start = piece.start * HOP
            yield recording, next(waveforms)[start : start + piece.frames * HOP], piece.last

    def _finished(self, spoken: Iterable[tuple[Recording, Tensor | None, bool]]) -> Iterator[Recording]:
        for recording, waveform, last in spoken:
            if waveform is not None and recording.error is None:
                if last:  # a vocoder speaks in whole frames
                    waveform = waveform[: recording.samples - recording.written]
                try:
                    if not torch.isfinite(waveform).all():
                        raise PseganError("comes out with samples that are not finite; the weights are broken")
                    recording.write(waveform.float().clamp(-1, 1))
                    recording.written += len(waveform)
                except PseganError as error:
                    recording.error = error
            if last:
                yield recording


def _counted(recording: Recording) -> Iterator[Tensor]:
    for block in recording.blocks:
        recording.samples += len(block)
        yield block


def _pad(mels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Spectrograms ``(80, n)`` → ``(B, 80, N)`` with zeros, and their frames ``(B,)``."""
    lengths = torch.tensor([mel.shape[1] for mel in mels], device=mels[0].device)
    longest = int(lengths.max())
    return torch.stack([torch.nn.functional.pad(mel, (0, longest - mel.shape[1])) for mel in mels]), lengths
