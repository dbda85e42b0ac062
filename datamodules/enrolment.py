"""Speech with enrolment speech of the same speakers, for systems that speak in somebody's calm voice."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import samples_of
from datamodules.dataset import SpeechDataset, SpeechLoader, Utterance, collate
from datamodules.joint import JointDataModule
from datamodules.manifest import UNKNOWN
from datamodules.sampling import EpochSampler
from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.speech.audio import SAMPLE_RATE
from psegan.speech.batch import EnrolmentBatch
from psegan.speech.edges import trimmed


class Piece(NamedTuple):
    """Samples ``start`` to ``end`` of an utterance, of ``corpus``; an ``end`` of None is that of the whole utterance."""

    corpus: str
    utterance: Utterance
    start: int
    end: int | None

    @property
    def whole(self) -> bool:
        """Whether its text is the utterance's."""
        return self.end is None

    @property
    def name(self) -> str:
        """Of the utterance, and where in it a part of it begins."""
        return self.utterance.id if self.whole else f"{self.utterance.id}@{self.start}"


class EnrolmentDataModule(JointDataModule):
    """Several corpora as one, in batches of a few speakers with several utterances each.

    An epoch has a fixed number of batches, each of which draws its speakers: a corpus by its weight, one of its speakers,
    utterances that are to come out and others for the profile. Recordings that are longer than ``piece_seconds`` are cut into
    pieces, so that a speaker of whom there is a single long recording has several; silence at their ends is cut off.
    Validation has the validation speakers' speech in the same way, always the same.

    Args:
        weights: corpus → how often its speakers are drawn, in proportion; those that are not named have 1.
        calm: names of emotions, as ``nemo/neutral``, that may come out and be enrolled; all speech of a corpus that doesn't
            know emotions may.
        speakers_in_batch: profiles in a batch.
        targets: utterances of each that come out, at most; one less than the speaker has, at most.
        profile_seconds: of enrolment speech, at most.
        piece_seconds: longest utterance.
        parallel: share of the targets, where others say the same sentence, that one of the others goes in for; six of ten of
            those are by the speaker.
        batches: in an epoch.
        validation_batches: at each validation.
        root, corpora, crop_seconds, kwargs: see :class:`~datamodules.joint.JointDataModule`.
    """

    def __init__(
        self,
        root: str,
        corpora: Sequence[str],
        weights: dict[str, float] | None = None,
        calm: Sequence[str] = (),
        speakers_in_batch: int = 4,
        targets: int = 3,
        profile_seconds: float = 12.0,
        piece_seconds: float = 5.0,
        parallel: float = 1.0,
        batches: int = 250,
        validation_batches: int = 12,
        crop_seconds: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, corpora, crop_seconds=crop_seconds, **kwargs)
        self.weights, self.calm = dict(weights or {}), tuple(calm)
        self.speakers_in_batch, self.targets, self.profile_seconds = speakers_in_batch, targets, profile_seconds
        self.piece_seconds, self.parallel = piece_seconds, parallel
        self.batches, self.validation_batches = batches, validation_batches
        numbers = {
            "speakers_in_batch": speakers_in_batch, "targets": targets, "batches": batches,
            "validation_batches": validation_batches,
        }  # fmt: skip
        for key, number in numbers.items():
            if number < 1:
                raise PseganError(f"{key} is {number}, but must be at least 1")
        for key, amount in {"profile_seconds": profile_seconds, "piece_seconds": piece_seconds}.items():
            if not amount > 0:
                raise PseganError(f"{key} is {amount:g}, but must be more than 0")
        if not 0 <= parallel <= 1:
            raise PseganError(f"parallel is {parallel:g}, but must be a share from 0 to 1")
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise PseganError(f"weights holds {name}: {weight:g}, but must not be negative")
            if name not in corpora:
                raise PseganError(f"weights names {name}, which is none of corpora ({', '.join(corpora)})")
        for name in self.calm:
            if name not in self.emotions:
                raise PseganError(f"calm names {name}, but there are {', '.join(self.emotions)}")

    def train_dataloader(self) -> SpeechLoader:
        return self._grouped("train", self.batches, shuffle=True)

    def val_dataloader(self) -> SpeechLoader:
        return self._grouped("validation", self.validation_batches, shuffle=False)

    def test_dataloader(self) -> SpeechLoader:
        return self._grouped("test", self.validation_batches, shuffle=False)

    def _grouped(self, subset: str, batches: int, shuffle: bool) -> SpeechLoader:
        dataset = EnrolmentDataset(self, self.dataset(self.split_utterances(subset)), subset, batches)
        return self.loader_of(dataset, EpochSampler(batches, self.seed, shuffle=shuffle), batch_size=None)

    def weight(self, corpus: str) -> float:
        """How often its speakers are drawn, in proportion."""
        return float(self.weights.get(corpus, 1.0))

    def knows_emotion(self, utterance: Utterance) -> bool:
        """Whether its corpus states emotions."""
        return not self.emotions[utterance.emotion].endswith(f"/{UNKNOWN}")

    def is_calm(self, utterance: Utterance) -> bool:
        """Whether it may come out and be enrolled."""
        return not self.knows_emotion(utterance) or self.emotions[utterance.emotion] in self.calm


class EnrolmentDataset(Dataset[EnrolmentBatch]):
    """Batches, each drawn from (seed, subset, epoch, number).

    Args:
        data: whose settings they follow.
        speech: the utterances.
        subset: whose draws they have.
        batches: how many there are in an epoch.

    Raises:
        PseganError: no speaker has two pieces of calm speech.
    """

    def __init__(self, data: EnrolmentDataModule, speech: SpeechDataset, subset: str, batches: int) -> None:
        self.data, self.speech, self.subset, self.batches = data, speech, subset, batches
        calm: dict[str, dict[int, list[Piece]]] = {}
        self.saying: dict[int, list[Piece]] = {}
        for piece in (piece for utterance in speech.utterances for piece in self._pieces(utterance)):
            if data.is_calm(piece.utterance) and data.weight(piece.corpus) > 0:
                calm.setdefault(piece.corpus, {}).setdefault(piece.utterance.speaker, []).append(piece)
            if piece.whole and not data.contents[piece.utterance.content].endswith(f"/{UNKNOWN}"):
                self.saying.setdefault(piece.utterance.content, []).append(piece)
        several = {
            corpus: {speaker: own for speaker, own in speakers.items() if len(own) > 1}
            for corpus, speakers in calm.items()
        }
        self.calm = {corpus: speakers for corpus, speakers in several.items() if speakers}
        if not self.calm:
            raise PseganError(
                f"{data.where}: the {subset} set has no speaker with two recordings of calm speech; say in calm which emotions "
                "are, or add corpora"
            )
        self.index = {utterance.id: index for index, utterance in enumerate(speech.utterances)}

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, key: int | tuple[int, int]) -> EnrolmentBatch:
        epoch, number = key if isinstance(key, tuple) else (0, key)
        if self.subset != "train":
            epoch = 0
        random = seeded("enrolment", self.data.seed, self.subset, epoch, number)
        rows: list[Piece] = []
        waveforms: list[Tensor] = []
        target, source, group, enrolled = [], [], [], []

        def add(piece: Piece, profile: int) -> int:
            rows.append(piece)
            waveforms.append(self._waveform(piece))
            enrolled.append(profile)
            return len(rows) - 1

        for speaker in range(self.data.speakers_in_batch):
            own = self._speaker(random)
            n = min(self.data.targets, len(own) - 1)
            profile, seconds = set(), 0.0
            for piece in own[n:]:
                seconds += len(waveforms[add(piece, speaker)]) / SAMPLE_RATE
                profile.add(piece.utterance.id)
                if seconds >= self.data.profile_seconds:
                    break
            for piece in own[:n]:
                target.append(add(piece, -1))
                other = self._other(piece, profile, random)
                source.append(target[-1] if other is None else add(other, -1))
                group.append(speaker)
        speech = collate([(one, piece.utterance) for one, piece in zip(waveforms, rows, strict=True)])
        texts = tuple(p.utterance.text if p.whole else None for p in rows)
        speech = replace(speech, id=tuple(p.name for p in rows), text=texts)
        emotional = [self.data.knows_emotion(rows[row].utterance) for row in source]
        return EnrolmentBatch(speech, *(torch.tensor(x) for x in (target, source, group, enrolled, emotional)))

    def _pieces(self, utterance: Utterance) -> list[Piece]:
        corpus = utterance.id.partition("/")[0]
        samples, most = samples_of(utterance, self.speech.load), round(self.data.piece_seconds * SAMPLE_RATE)
        if samples <= most:
            return [Piece(corpus, utterance, 0, None)]
        parts = -(-samples // most)
        edges = [round(part * samples / parts) for part in range(parts + 1)]
        return [Piece(corpus, utterance, start, end) for start, end in pairwise(edges)]

    def _speaker(self, random: torch.Generator) -> list[Piece]:
        """Calm speech of a drawn speaker, in a drawn order."""
        corpora = sorted(self.calm)
        weights = torch.tensor([self.data.weight(name) for name in corpora])
        speakers = self.calm[corpora[int(torch.multinomial(weights, 1, generator=random))]]
        own = speakers[sorted(speakers)[_draw(len(speakers), random)]]
        return [own[i] for i in torch.randperm(len(own), generator=random).tolist()]

    def _other(self, piece: Piece, profile: set[str], random: torch.Generator) -> Piece | None:
        """Another recording of what is said in a piece, none of the profile's; None for the piece itself."""
        share, whose = torch.rand(2, generator=random).tolist()
        out = {piece.utterance.id, *profile}
        say = [one for one in self.saying.get(piece.utterance.content, ()) if one.utterance.id not in out]
        if not say or not piece.whole or share >= self.data.parallel:
            return None
        own = [other for other in say if other.utterance.speaker == piece.utterance.speaker]
        say = own if own and whose < 0.6 else say
        return say[_draw(len(say), random)]

    def _waveform(self, piece: Piece) -> Tensor:
        waveform, _ = self.speech[self.index[piece.utterance.id]]
        return trimmed(waveform[piece.start : piece.end])


def _draw(n: int, random: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=random))
