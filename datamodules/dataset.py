"""From a list of utterances to padded batches: what all corpora and their loaders share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.speech.audio import SAMPLE_RATE, read_audio
from psegan.speech.batch import ATTRIBUTES, SpeechBatch, pad_waveforms


@dataclass(frozen=True)
class Utterance:
    """One recording and its labels.

    Attributes:
        id: path below the corpus's root without the ending, with ``/``; unique in the corpus.
        path: the file; None where the waveform is generated.
        emotion, speaker, gender, content: class indices in the corpus's own order.
        details: what else the file's name says (intensity, repetition, take).
        text: the words that are spoken, as published, where the corpus knows them.
    """

    id: str
    path: Path | None
    emotion: int
    speaker: int
    gender: int
    content: int
    details: Mapping[str, str | int] = field(default_factory=dict)
    text: str | None = None

    def label(self, attribute: str) -> int:
        """Class index of one of :data:`psegan.speech.batch.ATTRIBUTES`."""
        return int(getattr(self, attribute))


def read_utterance(utterance: Utterance) -> Tensor:
    """The recording as mono float32 ``(T,)`` at 16 kHz; see :func:`psegan.speech.audio.read_audio` for its errors."""
    assert utterance.path is not None, "a generated utterance has no file"
    return read_audio(utterance.path)


class SpeechDataset(Dataset[tuple[Tensor, Utterance]]):
    """Waveforms of a list of utterances, whole or as a random crop.

    Items are keyed by ``(epoch, index)``, as :class:`datamodules.sampling.EpochSampler` yields them, or by a plain
    index, which means epoch 0.

    Args:
        utterances: the items, in this order.
        load: gives an utterance's waveform ``(T,)`` at 16 kHz.
        crop_samples: longest waveform; a longer one is cropped at a place that is drawn from (seed, epoch, index).
        seed: of the crops.
        cache: keeps decoded waveforms by id after the first read; None reads the file every time.
        crop_draws: number of places that are drawn; the crop with the most energy is taken.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        load: Callable[[Utterance], Tensor] = read_utterance,
        crop_samples: int | None = None,
        seed: int = 0,
        cache: dict[str, Tensor] | None = None,
        crop_draws: int = 1,
    ) -> None:
        self.utterances = list(utterances)
        self.load = load
        self.crop_samples = crop_samples
        self.crop_draws = crop_draws
        self.seed = seed
        self.cache = cache

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Utterance]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        utterance = self.utterances[index]
        cache = {} if self.cache is None else self.cache
        if utterance.id not in cache:
            cache[utterance.id] = self.load(utterance)
        waveform = cache[utterance.id]
        size = self.crop_samples or len(waveform)
        if len(waveform) > size:
            generator = seeded("crop", self.seed, epoch, index)
            starts = torch.randint(len(waveform) - size + 1, (self.crop_draws,), generator=generator).tolist()
            crops = [waveform[start : start + size] for start in starts]
            waveform = max(crops, key=lambda crop: float(crop.square().sum()))
        return waveform, utterance


def collate(items: Sequence[tuple[Tensor, Utterance]], samples: int | None = None) -> SpeechBatch:
    """Make a batch of a dataset's items.

    Args:
        items: waveforms ``(T_i,)`` and their utterances.
        samples: pad every batch to exactly this length; None pads to the longest waveform of the batch.

    Raises:
        PseganError: a waveform is longer than ``samples``.
    """
    waveforms, utterances = zip(*items, strict=True)
    for waveform, utterance in items:
        if samples is not None and len(waveform) > samples:
            raise PseganError(
                f"{utterance.path or utterance.id}: lasts {len(waveform) / SAMPLE_RATE:.2f} s, more than "
                f"pad_seconds ({samples / SAMPLE_RATE:g}); raise pad_seconds or set it to null"
            )
    padded, length = pad_waveforms(waveforms, samples or 0)
    labels = {name: torch.tensor([u.label(name) for u in utterances]) for name in ATTRIBUTES}
    ids, texts = tuple(u.id for u in utterances), tuple(u.text for u in utterances)
    return SpeechBatch(padded, length, **labels, id=ids, text=texts)


class SpeechLoader(DataLoader[Any]):
    """A DataLoader that raises a worker's PseganError with its own line, without the worker's traceback."""

    def __iter__(self) -> Iterator[SpeechBatch]:  # type: ignore[override]
        try:
            yield from super().__iter__()
            return
        except PseganError as error:
            if self.num_workers == 0:
                raise
            message = str(error)
        # outside of the except clause, whose traceback would keep the workers alive
        self._iterator = None
        raise PseganError(message.rpartition("PseganError: ")[2].strip())
