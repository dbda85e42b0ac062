"""What all corpora share: utterances, datasets, splits and loaders."""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from datamodules.sampling import EpochSampler
from datamodules.splits import SUBSETS, Role, even_split, speaker_subsets
from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.speech.audio import AUDIO_SUFFIXES, SAMPLE_RATE, read_audio
from psegan.speech.batch import ATTRIBUTES, SpeechBatch, pad_waveforms

NAME_PATTERNS = {
    "RAVDESS": re.compile(r"\d\d(-\d\d){6}"),
    "Emo-DB": re.compile(r"\d\d[ab]\d\d[A-Z][a-z]"),
    "CREMA-D": re.compile(r"\d{4}_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}"),
}
"""File names (without ending) by which a folder of another corpus is recognised."""


NEEDED = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("test",)}
"""Subsets of a split that each of Lightning's stages reads."""


@dataclass(frozen=True)
class Utterance:
    """One recording and what its name says of it.

    Attributes:
        id: path below the corpus's root without the ending, with ``/``; unique in the corpus.
        path: the file; None where the waveform is generated.
        emotion, speaker, gender, content: class indices in the corpus's own order.
        details: what else the name says (intensity, repetition, take).
    """

    id: str
    path: Path | None
    emotion: int
    speaker: int
    gender: int
    content: int
    details: Mapping[str, str | int] = field(default_factory=dict)

    def label(self, attribute: str) -> int:
        """Class index of one of :data:`psegan.speech.batch.ATTRIBUTES`."""
        if attribute not in ATTRIBUTES:
            raise ValueError(f"unknown attribute {attribute!r}: one of {', '.join(ATTRIBUTES)}")
        return int(getattr(self, attribute))


def read_utterance(utterance: Utterance) -> Tensor:
    """The recording as mono float32 ``(T,)`` at 16 kHz; see :func:`psegan.speech.audio.read_audio` for its errors."""
    assert utterance.path is not None, "a generated utterance has no file"
    return read_audio(utterance.path)


class SpeechDataset(Dataset[tuple[Tensor, Utterance]]):
    """Waveforms of a list of utterances, whole or as a random crop.

    Args:
        utterances: which, in this order.
        load: gives an utterance's waveform ``(T,)`` at 16 kHz.
        crop_samples: longest waveform; a longer one is cropped at a place drawn from (seed, epoch, index).
        crop_draws: places that are drawn; the one with the most energy is taken.
        seed: of the crops.
        cache: holds decoded waveforms by id after the first read; None reads every time.

    Items are keyed by ``(epoch, index)``, as :class:`datamodules.sampling.EpochSampler` yields them, or by a plain
    index, which means epoch 0.
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
        waveform = self.waveform(utterance)
        room = len(waveform) - (self.crop_samples or len(waveform))
        if room > 0:
            generator = seeded("crop", self.seed, epoch, index)
            starts = torch.randint(room + 1, (self.crop_draws,), generator=generator).tolist()
            crops = [waveform[start : start + len(waveform) - room] for start in starts]
            waveform = max(crops, key=lambda crop: float(crop.square().sum())) if len(crops) > 1 else crops[0]
        return waveform, utterance

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> list[Any]:
        """Several items; in a worker process, an error of the user's comes as an item, see :class:`SpeechLoader`."""
        try:
            return [self[key] for key in keys]
        except PseganError as error:
            if get_worker_info() is None:
                raise
            return [error]

    def waveform(self, utterance: Utterance) -> Tensor:
        """The whole waveform ``(T,)``."""
        if self.cache is None:
            return self.load(utterance)
        if utterance.id not in self.cache:
            self.cache[utterance.id] = self.load(utterance)
        return self.cache[utterance.id]


@dataclass(frozen=True)
class Collate:
    """Makes a :class:`psegan.speech.batch.SpeechBatch` of a dataset's items.

    Attributes:
        samples: pad every batch to exactly this length; None pads to the longest of the batch.
    """

    samples: int | None = None

    def __call__(self, items: Sequence[Any]) -> "SpeechBatch | PseganError":
        """The batch; in a worker process, an error of the user's instead, see :class:`SpeechLoader`."""
        if isinstance(items[0], PseganError):
            return items[0]
        try:
            return self.collate(items)
        except PseganError as error:
            if get_worker_info() is None:
                raise
            return error

    def collate(self, items: Sequence[tuple[Tensor, Utterance]]) -> SpeechBatch:
        """Waveforms and utterances → batch."""
        waveforms, utterances = zip(*items, strict=True)
        for waveform, utterance in items:
            if self.samples is not None and len(waveform) > self.samples:
                raise PseganError(
                    f"{utterance.path or utterance.id}: lasts {len(waveform) / SAMPLE_RATE:.2f} s, more than "
                    f"pad_seconds ({self.samples / SAMPLE_RATE:g}); raise pad_seconds or set it to null"
                )
        padded, length = pad_waveforms(waveforms, self.samples or 0)
        labels = {name: torch.tensor([u.label(name) for u in utterances]) for name in ATTRIBUTES}
        return SpeechBatch(padded, length, **labels, id=tuple(u.id for u in utterances))


class SpeechLoader(DataLoader[Any]):
    """A DataLoader whose workers' PseganErrors arrive as they are, not wrapped in the worker's traceback."""

    def __iter__(self) -> Iterator[SpeechBatch]:  # type: ignore[override]
        batches = super().__iter__()
        for batch in batches:
            if isinstance(batch, PseganError):
                if self.num_workers:  # the traceback would keep them waiting for work
                    batches._shutdown_workers()  # type: ignore[attr-defined]
                    self._iterator = None
                raise batch
            yield batch


class CorpusDataModule(LightningDataModule):
    """A corpus, its split and its loaders. Subclasses state the class-level facts and how ids are read.

    Training loaders shuffle and crop; all other loaders give whole utterances in the order of their ids. Draws are
    functions of (seed, epoch, index), see :mod:`datamodules.sampling`; train with
    ``Trainer(use_distributed_sampler=False)``, since the sampler shares the utterances out itself. Where training has
    more than one batch, the last incomplete one is left out, so that batch norm never sees a batch of one.

    Args:
        split: ``paper`` (speakers shared) or ``speaker-disjoint``.
        fold: of ``speaker-disjoint``, from 0.
        speakers: whose speakers to learn from, of ``speaker-disjoint`` only: ``protector`` and ``attacker`` are disjoint
            and share one test set, ``all`` is everybody outside of that, see
            :func:`datamodules.splits.speaker_subsets`.
        split_seed: of the split; apart from ``seed``, so that runs of several seeds share their test set.
        seed: of the order and the crops; the command line sets it to ``seed_everything``.
        batch_size: utterances in a training batch (per process).
        eval_batch_size: utterances in any other batch.
        crop_seconds: longest training utterance, in seconds; None trains on whole utterances.
        crop_draws: random places of a crop, of which the loudest is taken: recordings begin and end in silence.
        pad_seconds: pad every utterance of every subset to this length, in seconds (the article's 16.7);
            crop_seconds must be None then.
        num_workers: processes that read; 0 reads in the main process.
        in_memory: keep decoded waveforms after the first read.

    Raises:
        PseganError: an argument is out of its range.
    """

    corpus: str
    """Name of the corpus on the command line and in results."""
    title: str
    """Name of the corpus in messages."""
    splits: ClassVar[tuple[str, ...]] = ("paper", "speaker-disjoint")
    """What the argument ``split`` may be."""
    emotions: tuple[str, ...]
    speakers: tuple[str, ...]
    genders: tuple[str, ...] = ("male", "female")
    contents: tuple[str, ...]
    paper_sizes: Mapping[str, int]
    """Utterances of two subsets of the split ``paper``; the third gets the rest."""
    locked: ClassVar[frozenset[str]] = frozenset()
    """Ids of byte-identical recordings, kept together by the split ``paper``."""

    def __init__(
        self,
        split: Literal["paper", "speaker-disjoint"] = "paper",
        fold: int = 0,
        speakers: Role = "all",
        split_seed: int = 0,
        seed: int = 0,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        crop_seconds: float | None = 3.0,
        crop_draws: int = 1,
        pad_seconds: float | None = None,
        num_workers: int = 0,
        in_memory: bool = True,
    ) -> None:
        super().__init__()
        if split not in self.splits:
            raise PseganError(f"split is {split!r}, but must be {_alternatives(self.splits)}")
        if speakers not in get_args(Role):
            raise PseganError(f"speakers is {speakers!r}, but must be {_alternatives(get_args(Role))}")
        if speakers != "all" and split != "speaker-disjoint":
            raise PseganError(
                f"speakers is {speakers!r}, but split {split!r} gives protector and attacker no speakers of their own; "
                "use split 'speaker-disjoint', or set speakers to all"
            )
        for key, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size), ("crop_draws", crop_draws)):
            if size < 1:
                raise PseganError(f"{key} is {size}, but must be at least 1")
        for key, seconds in (("crop_seconds", crop_seconds), ("pad_seconds", pad_seconds)):
            if seconds is not None and not 0 < seconds < float("inf"):
                raise PseganError(f"{key} is {seconds}, but must be a positive number of seconds or null")
        if pad_seconds is not None and crop_seconds is not None:
            raise PseganError("pad_seconds pads whole utterances: set crop_seconds to null, or pad_seconds to null")
        if num_workers < 0:
            raise PseganError(f"num_workers is {num_workers}, but must be 0 or more")
        self.split = split
        self.fold = fold
        self.role: Role = speakers  # the attribute `speakers` has the names of all
        self.split_seed = split_seed
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.crop_seconds = crop_seconds
        self.crop_draws = crop_draws
        self.pad_seconds = pad_seconds
        self.num_workers = num_workers
        self._cache: dict[str, Tensor] | None = {} if in_memory else None
        self._utterances: list[Utterance] | None = None
        self._parts: dict[str, list[Utterance]] | None = None

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of each attribute, in the order of their indices."""
        return {"emotion": self.emotions, "speaker": self.speakers, "gender": self.genders, "content": self.contents}

    @property
    def n_classes(self) -> dict[str, int]:
        """Number of classes of each attribute, known without reading a file."""
        return {attribute: len(names) for attribute, names in self.classes.items()}

    @property
    def n_folds(self) -> int:
        """Number of folds of the chosen split; only ``speaker-disjoint`` has more than one."""
        return len(self.folds()) if self.split == "speaker-disjoint" else 1

    @property
    def shares_speakers(self) -> bool:
        """Whether the test set's speakers are those of the training set, so that they can be classified."""
        return self.split == "paper"

    @property
    def members(self) -> "tuple[CorpusDataModule, ...]":
        """The corpora that this one consists of: itself, but for a joint one."""
        return (self,)

    @property
    def training_speakers(self) -> tuple[str, ...]:
        """Names of the speakers of the training and the validation set: what a run of this split has learnt from."""
        parts = self._all_parts()
        known = {utterance.speaker for subset in ("train", "validation") for utterance in parts[subset]}
        return tuple(self.speakers[speaker] for speaker in sorted(known))

    @property
    def where(self) -> str:
        """What error messages call the corpus: its folder, where it has one."""
        return self.corpus

    @abstractmethod
    def find_utterances(self) -> list[Utterance]:
        """All utterances of the corpus, in any order."""

    @abstractmethod
    def folds(self) -> list[tuple[int, ...]]:
        """Speakers of each fold of ``speaker-disjoint``."""

    def published_ids(self) -> list[str]:
        """Ids of the complete corpus, which the split ``paper`` needs; by default what is there."""
        return [utterance.id for utterance in self.utterances()]

    def loader(self) -> Callable[[Utterance], Tensor]:
        """What gives an utterance's waveform; it travels to worker processes."""
        return read_utterance

    def utterances(self) -> list[Utterance]:
        """All utterances, sorted by id.

        Raises:
            PseganError: the folder is missing or another corpus, or a file name does not parse.
        """
        if self._utterances is None:
            self._utterances = sorted(self.find_utterances(), key=lambda utterance: utterance.id)
        return list(self._utterances)

    def split_utterances(self, subset: str) -> list[Utterance]:
        """Utterances of ``train``, ``validation`` or ``test``, sorted by id.

        Raises:
            PseganError: the split cannot be formed from what is there, or leaves a class or a part empty.
        """
        if subset not in SUBSETS:
            raise ValueError(f"unknown subset {subset!r}: one of {', '.join(SUBSETS)}")
        part = self._all_parts()[subset]
        if not part:
            raise self._unusable(subset, "is empty")
        return list(part)

    def _all_parts(self) -> dict[str, list[Utterance]]:
        """Subset → utterances, sorted by id; formed once."""
        if self._parts is None:
            self._require_fold()
            parts = self.share_out(self.utterances())
            self.check_parts(parts)
            self._parts = parts
        return self._parts

    def share_out(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        """Subset → utterances of the chosen split, in the order of ``utterances``, before :meth:`check_parts`."""
        if self.split == "speaker-disjoint":
            return self._share_out_speakers(utterances)
        self._require_complete(utterances)
        counts = len(self.speakers), len(self.emotions)
        return even_split(utterances, self.paper_sizes, self.split_seed, *counts, locked=self.locked)

    def check_parts(self, parts: Mapping[str, Sequence[Utterance]]) -> None:
        """Raise :class:`PseganError` if something could not be trained or tested on these parts."""
        self._require_emotions(parts["train"])
        for subset, part in parts.items():
            if not part:
                raise self._unusable(subset, "is empty")

    def _share_out_speakers(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        """Split ``speaker-disjoint``. Speakers are drawn by name: an index means another one in another corpus."""
        name = self.speakers
        folds = [[name[speaker] for speaker in fold] for fold in self.folds()]
        genders = {name[utterance.speaker]: utterance.gender for utterance in utterances}
        speakers = speaker_subsets(folds, self.fold, self.role, genders, self.split_seed)
        return {subset: [u for u in utterances if name[u.speaker] in speakers[subset]] for subset in SUBSETS}

    def _require_fold(self) -> None:
        n_folds = self.n_folds
        if not 0 <= self.fold < n_folds:
            allowed = "0" if n_folds == 1 else f"0 to {n_folds - 1}"
            raise PseganError(f"fold is {self.fold}, but split '{self.split}' of {self.title} has fold {allowed} only")
        if self.split == "speaker-disjoint" and n_folds < 3:
            raise PseganError(
                f"{self.where}: split 'speaker-disjoint' needs 3 folds of speakers, here are {n_folds}; "
                f"use more speakers or split '{self.splits[0]}'"
            )

    def _require_emotions(self, train: Sequence[Utterance]) -> None:
        present = {utterance.emotion for utterance in train}
        absent = [name for index, name in enumerate(self.emotions) if index not in present]
        if train and absent:
            raise self._unusable("train", f"has no utterance of emotion {', '.join(absent)}")

    def _unusable(self, subset: str, problem: str) -> PseganError:
        """The error of a part of the split that cannot be used."""
        part = "training" if subset == "train" else subset
        fold = f", fold {self.fold}" if self.split == "speaker-disjoint" else ""
        whose = "" if self.role == "all" else f", speakers of the {self.role}"
        closing = "," if fold else ""
        return PseganError(
            f"{self.where}: the {part} set of split '{self.split}'{fold}{whose}{closing} {problem}; "
            "complete the corpus or choose another split or fold"
        )

    def _require_complete(self, utterances: Sequence[Utterance]) -> None:
        published, present = self.published_ids(), {utterance.id for utterance in utterances}
        missing = [name for name in published if name not in present]
        extra = sorted(present.difference(published))
        if missing or extra:
            what = f"{len(missing)} are missing ({missing[0]} first)" if missing else f"{extra[0]} is not one of them"
            raise PseganError(
                f"{self.where}: split 'paper' needs exactly the {len(published)} published recordings of {self.title}, "
                f"but {what}; see `psegan data check {self.corpus} --root ...`, or use split 'speaker-disjoint'"
            )

    def setup(self, stage: str | None = None) -> None:
        """Form the split, so that a wrong corpus is told of before training starts.

        Args:
            stage: Lightning's ``fit``, ``validate``, ``test`` or ``predict``; the parts it needs must not be empty.
        """
        self._all_parts()
        for part in NEEDED.get(stage or "", ()):
            self.split_utterances(part)

    def dataset(self, utterances: Sequence[Utterance], train: bool = False) -> SpeechDataset:
        """A dataset of these utterances: cropped as in training, or whole."""
        crop = round(self.crop_seconds * SAMPLE_RATE) if train and self.crop_seconds is not None else None
        return SpeechDataset(utterances, self.loader(), crop, self.seed, self._cache, self.crop_draws)

    def train_dataloader(self) -> SpeechLoader:
        """Shuffled crops of the training set."""
        return self._dataloader(self.dataset(self.split_utterances("train"), train=True), self.batch_size, train=True)

    def val_dataloader(self) -> SpeechLoader:
        """The validation set, whole utterances in the order of their ids."""
        return self.eval_dataloader(self.split_utterances("validation"))

    def test_dataloader(self) -> SpeechLoader:
        """The test set, whole utterances in the order of their ids."""
        return self.eval_dataloader(self.split_utterances("test"))

    def predict_dataloader(self) -> SpeechLoader:
        """The test set again."""
        return self.test_dataloader()

    def eval_dataloader(self, utterances: Sequence[Utterance]) -> SpeechLoader:
        """Whole utterances of any list, in its order; under DDP each once, see :class:`EpochSampler`."""
        return self._dataloader(self.dataset(utterances), self.eval_batch_size, train=False)

    def _dataloader(self, dataset: SpeechDataset, batch_size: int, train: bool) -> SpeechLoader:
        sampler = EpochSampler(len(dataset), self.seed, shuffle=train)
        samples = None if self.pad_seconds is None else round(self.pad_seconds * SAMPLE_RATE)
        return SpeechLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=train and len(sampler) > batch_size,
            collate_fn=Collate(samples),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,  # or each epoch would read all files again
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # or a loader would draw from the global generator
        )


class FolderDataModule(CorpusDataModule):
    """A corpus in a folder, as published or as a copy in 16 kHz FLAC.

    Args:
        root: the folder.
        kwargs: see :class:`CorpusDataModule`.
    """

    download: ClassVar[str]
    """What to download, for messages."""
    layout: ClassVar[str]
    """Where recordings lie below the root, for messages."""
    pattern: ClassVar[str]
    """Where recordings lie below the root, as a glob without the ending."""

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root

    @property
    def where(self) -> str:
        return str(self.root)

    @classmethod
    @abstractmethod
    def parse(cls, id: str, path: Path | None = None) -> Utterance:
        """Labels from an id.

        Raises:
            PseganError: the name is not of the corpus; the message names the file and what is expected.
        """

    @classmethod
    @abstractmethod
    def complete_ids(cls) -> list[str]:
        """Ids of all recordings of the published corpus, sorted."""

    @classmethod
    def candidate_roots(cls, root: Path) -> list[Path]:
        """Where the published tree may start, seen from the folder that the user named; first match wins."""
        return [root]

    @classmethod
    def files(cls, root: str | Path) -> list[tuple[str, Path]]:
        """Ids and audio files below ``root``, in the order of their ids; names are not looked into.

        Raises:
            PseganError: there is no such folder, or it holds none or another corpus.
        """
        root = Path(root)
        get = f"download {cls.download} with `psegan data download {cls.corpus} --root {root}`"
        if not root.exists():
            raise PseganError(f"{root}: no such folder; {get}")
        if not root.is_dir():
            raise PseganError(
                f"{root}: is a file, not the folder of {cls.title}; name the folder that holds {cls.layout}"
            )
        for start in cls.candidate_roots(root):
            found = sorted(
                (path.relative_to(start).with_suffix("").as_posix(), path)
                for path in start.glob(cls.pattern)
                if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()
            )
            if any(NAME_PATTERNS[cls.title].match(path.stem) for _, path in found):
                return found
        other = _looks_like(root)
        if other == cls.title:
            raise PseganError(f"{root}: holds recordings of {cls.title}, but not as {cls.layout}; restore that layout")
        if other is not None:
            raise PseganError(f"{root}: looks like {other}, not {cls.title}; name the folder of {cls.title} instead")
        raise PseganError(f"{root}: holds no recordings of {cls.title} ({cls.layout}); name another folder or {get}")

    @classmethod
    def scan(cls, root: str | Path) -> tuple[list[Utterance], list[PseganError]]:
        """All utterances below ``root``, sorted by id, and one error for each file that cannot be one.

        A recording present both as WAV and as FLAC is an error: nothing says which is meant.
        """
        utterances: dict[str, Utterance] = {}
        problems = []
        for id, path in cls.files(root):
            try:
                utterance = cls.parse(id, path)
                if id in utterances:
                    raise PseganError(f"{path}: is there twice, also as {utterances[id].path}; remove one of the two")
                utterances[id] = utterance
            except PseganError as error:
                problems.append(error)
        return list(utterances.values()), problems

    def published_ids(self) -> list[str]:
        return self.complete_ids()

    def find_utterances(self) -> list[Utterance]:
        utterances, problems = self.scan(self.root)
        if problems:
            raise problems[0]
        return utterances


def _looks_like(root: Path, most: int = 5000) -> str | None:
    """The corpus whose file names occur below ``root``, if any."""
    names: Iterable[Path] = root.rglob("*")
    for _, path in zip(range(most), names, strict=False):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            for corpus, pattern in NAME_PATTERNS.items():
                if pattern.fullmatch(path.stem):
                    return corpus
    return None


def _alternatives(names: Sequence[str]) -> str:
    """``'a', 'b' or 'c'``."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}"
