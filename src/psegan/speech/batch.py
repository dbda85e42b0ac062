"""The batches of utterances that corpora give to systems."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

ATTRIBUTES = ("emotion", "speaker", "gender", "content")
"""Labels of an utterance. Protection hides the emotion and keeps the others."""


@dataclass(frozen=True)
class TensorRecord:
    """Base of frozen dataclasses with tensors, which Lightning and data loaders can move between devices."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy with its tensors on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """A copy with its tensors in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        mapped = {name: function(v) for name, v in values.items() if isinstance(v, Tensor)}
        records = {name: v._map(function) for name, v in values.items() if isinstance(v, TensorRecord)}
        return replace(self, **mapped, **records)


@dataclass(frozen=True)
class SpeechBatch(TensorRecord):
    """A batch of utterances at 16 kHz, padded with zeros to a common length.

    Attributes:
        waveform: ``(B, T)`` float32 in [-1, 1]; samples at and after ``length`` are zero.
        length: ``(B,)`` int64, true lengths in samples, each in ``1..T``.
        emotion, speaker, gender, content: ``(B,)`` int64 class indices in the corpus's own order.
        id: ``B`` names, unique within a corpus (path below its root, without the ending).
        text: what is said in each of the ``B``, None where that is not known.
    """

    waveform: Tensor
    length: Tensor
    emotion: Tensor
    speaker: Tensor
    gender: Tensor
    content: Tensor
    id: tuple[str, ...]
    text: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.id)

    def label(self, attribute: str) -> Tensor:
        """Class indices ``(B,)`` of one of :data:`ATTRIBUTES`."""
        return getattr(self, attribute)


@dataclass(frozen=True)
class EnrolmentBatch(TensorRecord):
    """Utterances that are to be said in calm voices, and calm speech of the same speakers, by which those are known.

    Attributes:
        speech: all utterances, B of them; a part of a longer recording is named ``ID@START``.
        target: ``(M,)`` rows that are to come out: calm speech.
        source: ``(M,)`` rows that go in: the same ones, or somebody else or another emotion saying the same.
        group: ``(M,)`` the speaker of each target, counted within the batch.
        enrolled: ``(B,)`` the speaker whose profile a row is part of, -1 for rows of none.
        emotional: ``(M,)`` whether the emotion of what goes in is known.
    """

    speech: SpeechBatch
    target: Tensor
    source: Tensor
    group: Tensor
    enrolled: Tensor
    emotional: Tensor

    def __len__(self) -> int:
        return len(self.target)


def pad_waveforms(waveforms: Sequence[Tensor], minimum: int = 0) -> tuple[Tensor, Tensor]:
    """Stack waveforms ``(T_i,)`` with zeros to their longest, at least ``minimum`` samples.

    Returns:
        waveform ``(B, T)`` and length ``(B,)`` int64 in samples.
    """
    length = torch.tensor([len(waveform) for waveform in waveforms])
    padded = pad_sequence(list(waveforms), batch_first=True)
    padded = nn.functional.pad(padded, (0, max(minimum - padded.shape[1], 0)))
    return padded, length
