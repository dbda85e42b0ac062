"""The batch that travels from the corpora to the systems."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

ATTRIBUTES = ("emotion", "speaker", "gender", "content")
"""What is known of an utterance: emotion is to be hidden, the others are to survive."""


@dataclass(frozen=True)
class SpeechBatch:
    """A batch of utterances at 16 kHz, padded with zeros to a common length.

    Attributes:
        waveform: ``(B, T)`` float32 in [-1, 1]; samples at and after ``length`` are zero.
        length: ``(B,)`` int64, true lengths in samples, each in ``1..T``.
        emotion, speaker, gender, content: ``(B,)`` int64 class indices in the corpus's own order.
        id: ``B`` names, unique within a corpus (path below its root, without the ending).
    """

    waveform: Tensor
    length: Tensor
    emotion: Tensor
    speaker: Tensor
    gender: Tensor
    content: Tensor
    id: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.id)

    def label(self, attribute: str) -> Tensor:
        """Class indices ``(B,)`` of one of :data:`ATTRIBUTES`."""
        if attribute not in ATTRIBUTES:
            raise ValueError(f"unknown attribute {attribute!r}: one of {', '.join(ATTRIBUTES)}")
        return getattr(self, attribute)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "SpeechBatch":
        """The same batch on another device (what Lightning calls to move it)."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "SpeechBatch":
        """The same batch in page-locked memory (what a DataLoader calls when asked to pin)."""
        return self._map(Tensor.pin_memory)

    def _map(self, function) -> "SpeechBatch":  # type: ignore[no-untyped-def]
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "id"}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items()})


def pad_waveforms(waveforms: Sequence[Tensor], minimum: int = 0) -> tuple[Tensor, Tensor]:
    """Stack waveforms ``(T_i,)`` with zeros to their longest, at least ``minimum`` samples.

    Returns:
        waveform ``(B, T)`` and length ``(B,)`` int64 in samples.
    """
    length = torch.tensor([len(waveform) for waveform in waveforms])
    padded = torch.zeros(len(waveforms), max(int(length.max()), minimum))
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return padded, length
