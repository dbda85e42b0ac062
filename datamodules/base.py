"""What all corpora share: their splits and loaders, and how recordings are found in a folder."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.dataset import SpeechDataset, SpeechLoader, Utterance, collate, read_utterance
from datamodules.sampling import EpochSampler
from datamodules.splits import APART, SUBSETS, Role, even_split, fold_sentences, speaker_subsets
from psegan.common.errors import PseganError
from psegan.common.files import not_a_file
from psegan.speech.audio import AUDIO_SUFFIXES, SAMPLE_RATE, AudioReader


class CorpusDataModule(LightningDataModule):
    """A corpus, its split and its loaders. A subclass states the class names and finds the utterances.

    Training loaders shuffle and crop; all other loaders give whole utterances in the order of their ids. Every draw is a
    function of (seed, epoch, index), see :mod:`datamodules.sampling`. The sampler itself divides the utterances among
    the processes, so train with ``Trainer(use_distributed_sampler=False)``. If training has more than one batch, the last
    incomplete one is left out, so that batch norm never sees a batch of one utterance.

    Args:
        split: ``paper`` (all subsets share speakers and sentences), ``speaker-disjoint``, or
            ``sentence-and-speaker-disjoint``: there the test set is its speakers' speech of some sentences, and the other
            subsets are the other speakers' speech of the other sentences; all else is in no subset.
        fold: of a split with disjoint speakers, from 0.
        speakers: which speakers to train on, where the split has disjoint ones: ``all``, or those of the ``protector`` or
            of the ``attacker``, which are disjoint and have one test set; see
            :func:`datamodules.splits.speaker_subsets`.
        split_seed: of the split; separate from ``seed``, so that runs with several seeds have the same test set.
        seed: of the order and the crops; the command line sets it to ``seed_everything``.
        batch_size: utterances in a training batch (per process).
        eval_batch_size: utterances in any other batch.
        crop_seconds: longest training utterance, in seconds; None trains on whole utterances.
        crop_draws: number of random crops of which the one with the most energy is taken, because recordings begin and
            end in silence.
        alike: make training batches of utterances of about one length, which saves most of the padding where they are whole.
        pad_seconds: pad every utterance of every subset to this length, in seconds (16.7 in the article); crop_seconds
            must be None then.
        num_workers: processes that read; 0 reads in the main process.
        in_memory: keep decoded waveforms after the first read.

    Raises:
        PseganError: an argument is out of its range.
    """

    corpus: str
    """Name of the corpus on the command line and in results."""
    title: str
    """Name of the corpus in messages."""
    language: str | None = None
    """What is spoken, as a code of ISO 639-1 such as ``de``; None where that is unknown or not one language."""
    splits: ClassVar[tuple[str, ...]] = ("paper", *APART)
    """What the argument ``split`` may be."""
    emotions: tuple[str, ...]
    speakers: tuple[str, ...]
    genders: tuple[str, ...] = ("male", "female")
    contents: tuple[str, ...]
    paper_sizes: Mapping[str, int]
    """Subset → number of utterances in the split ``paper``, for two subsets; the third gets the rest."""
    locked: ClassVar[frozenset[str]] = frozenset()
    """Ids of byte-identical recordings, which the split ``paper`` keeps in one subset."""

    def __init__(
        self,
        split: Literal["paper", "speaker-disjoint", "sentence-and-speaker-disjoint"] = "paper",
        fold: int = 0,
        speakers: Role = "all",
        split_seed: int = 0,
        seed: int = 0,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        crop_seconds: float | None = 3.0,
        crop_draws: int = 1,
        alike: bool = False,
        pad_seconds: float | None = None,
        num_workers: int = 0,
        in_memory: bool = True,
    ) -> None:
        super().__init__()
        for key, value, known in (("split", split, self.splits), ("speakers", speakers, get_args(Role))):
            if value not in known:
                raise PseganError(f"{key} is {value!r}, but must be {' or '.join(map(repr, known))}")
        if speakers != "all" and split not in APART:
            raise PseganError(
                f"speakers is {speakers!r}, but split {split!r} gives protector and attacker no speakers of their own; "
                "use split 'speaker-disjoint', or set speakers to all"
            )
        for key, seconds in (("crop_seconds", crop_seconds), ("pad_seconds", pad_seconds)):
            if seconds is not None and not 0 < seconds < float("inf"):
                raise PseganError(f"{key} is {seconds}, but must be a positive number of seconds or null")
        if pad_seconds is not None and crop_seconds is not None:
            raise PseganError("pad_seconds pads whole utterances: set crop_seconds to null, or pad_seconds to null")
        self.split = split
        self.fold = fold
        self.role: Role = speakers  # the attribute `speakers` has the names of all
        self.split_seed = split_seed
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.crop_seconds = crop_seconds
        self.crop_draws, self.alike = crop_draws, alike
        self.pad_seconds = pad_seconds
        self.num_workers = num_workers
        self._cache: dict[str, Tensor] | None = {} if in_memory else None
        for key, least in (("batch_size", 1), ("eval_batch_size", 1), ("crop_draws", 1), ("num_workers", 0)):
            if getattr(self, key) < least:
                raise PseganError(f"{key} is {getattr(self, key)}, but must be at least {least}")

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
        """Number of folds of the chosen split; only one with disjoint speakers has more than one."""
        return len(self.folds()) if self.apart else 1

    @property
    def apart(self) -> tuple[str, ...]:
        """Attributes of which no class of the test set may occur in another subset, by the split; none in ``paper``."""
        return APART.get(self.split, ())

    @property
    def shares_speakers(self) -> bool:
        """Whether the test set's speakers are those of the training set, so that they can be classified."""
        return "speaker" not in self.apart

    @property
    def shares_contents(self) -> bool:
        """Whether the test set's sentences are those of the training set, so that they can be classified."""
        return "content" not in self.apart

    @property
    def members(self) -> "tuple[CorpusDataModule, ...]":
        """The corpora that a joint corpus consists of; any other corpus is its own only member."""
        return (self,)

    @property
    def training_speakers(self) -> tuple[str, ...]:
        """Names of the speakers of the training and the validation set."""
        known = {utterance.speaker for subset in ("train", "validation") for utterance in self._subsets[subset]}
        return tuple(self.speakers[speaker] for speaker in sorted(known))

    @cached_property
    def training_samples(self) -> int:
        """Samples of the longest training utterance, as it is cropped; padding doesn't count."""
        most = None if self.crop_seconds is None else round(self.crop_seconds * SAMPLE_RATE)
        longest, load = 0, self.loader()
        for utterance in self.split_utterances("train"):
            longest = max(longest, samples_of(utterance, load))
            if most is not None and longest >= most:
                return most
        return longest

    @property
    def where(self) -> str:
        """What error messages name: the corpus's folder, or the corpus itself where it has none."""
        return self.corpus

    @abstractmethod
    def find_utterances(self) -> list[Utterance]:
        """All utterances of the corpus, in any order."""

    @abstractmethod
    def folds(self) -> list[tuple[int, ...]]:
        """Speakers of each fold of the splits with disjoint speakers."""

    def loader(self) -> Callable[[Utterance], Tensor]:
        """A function from an utterance to its waveform ``(T,)``; worker processes receive a copy of it."""
        return read_utterance

    def utterances(self) -> list[Utterance]:
        """All utterances, sorted by id.

        Raises:
            PseganError: the folder is missing or holds no recordings, or a file name does not parse.
        """
        return list(self._utterances)

    @cached_property
    def _utterances(self) -> list[Utterance]:
        return sorted(self.find_utterances(), key=lambda utterance: utterance.id)

    def split_utterances(self, subset: str) -> list[Utterance]:
        """Utterances of ``train``, ``validation`` or ``test``, sorted by id.

        Raises:
            PseganError: the split cannot be formed from the recordings that there are, or leaves this subset empty or a
                class without training utterances.
        """
        if not self._subsets[subset]:
            raise self._unusable(subset, "is empty")
        return list(self._subsets[subset])

    def subsets(self) -> dict[str, list[Utterance]]:
        """Subset → its utterances, sorted by id. A subset may be empty where a manifest's column has no row of it.

        Raises:
            PseganError: see :meth:`split_utterances`.
        """
        return {subset: list(utterances) for subset, utterances in self._subsets.items()}

    @cached_property
    def _subsets(self) -> dict[str, list[Utterance]]:
        n_folds = self.n_folds
        if not 0 <= self.fold < n_folds:
            allowed = "0" if n_folds == 1 else f"0 to {n_folds - 1}"
            raise PseganError(f"fold is {self.fold}, but split '{self.split}' of {self.title} has fold {allowed} only")
        if self.apart and n_folds < 3:
            raise PseganError(
                f"{self.where}: split '{self.split}' needs 3 folds of speakers, here are {n_folds}; "
                f"use more speakers or split '{self.splits[0]}'"
            )
        if "content" in self.apart and len(self.contents) < 2:
            raise PseganError(
                f"{self.where}: split '{self.split}' needs 2 sentences, and no other than '{self.contents[0]}' is known "
                "here; give a corpus that says which sentence is spoken (content), or use split 'speaker-disjoint'"
            )
        subsets = self.form_subsets(self._utterances)
        self.check_subsets(subsets)
        present = {utterance.emotion for utterance in subsets["train"]}
        absent = [name for index, name in enumerate(self.emotions) if index not in present]
        if present and absent:
            raise self._unusable("train", f"has no utterance of emotion {', '.join(absent)}")
        return subsets

    def form_subsets(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        """Subset → utterances of the chosen split, in the order of ``utterances``, before :meth:`check_subsets`."""
        if self.split == "paper":
            counts = len(self.speakers), len(self.emotions)
            return even_split(utterances, self.paper_sizes, self.split_seed, *counts, locked=self.locked)
        name = self.speakers  # speakers are drawn by name, since their indices differ between corpora
        folds = [[name[speaker] for speaker in fold] for fold in self.folds()]
        genders = {name[utterance.speaker]: utterance.gender for utterance in utterances}
        speakers = speaker_subsets(folds, self.fold, self.role, genders, self.split_seed)
        subsets = {subset: [u for u in utterances if name[u.speaker] in speakers[subset]] for subset in SUBSETS}
        if "content" in self.apart:
            tested = fold_sentences(self.contents, self.fold, self.split_seed)
            for subset, own in subsets.items():
                subsets[subset] = [u for u in own if (self.contents[u.content] in tested) == (subset == "test")]
        return subsets

    def check_subsets(self, subsets: Mapping[str, Sequence[Utterance]]) -> None:
        """Raise :class:`PseganError` if nothing could be trained or tested on these subsets; here, if one is empty."""
        for subset, utterances in subsets.items():
            if not utterances:
                raise self._unusable(subset, "is empty")

    def _unusable(self, subset: str, problem: str) -> PseganError:
        name = f"the {'training' if subset == 'train' else subset} set of split '{self.split}'"
        if self.apart:
            name += f", fold {self.fold}" + (f", speakers of the {self.role}" if self.role != "all" else "") + ","
        return PseganError(f"{self.where}: {name} {problem}; complete the corpus or choose another split or fold")

    def setup(self, stage: str | None = None) -> None:
        """Form the split, so that errors in the corpus are reported before training starts.

        Args:
            stage: Lightning's ``fit``, ``validate``, ``test`` or ``predict``; the subsets it needs must not be empty.
        """
        _ = self._subsets  # forms them
        needed = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("test",)}
        for subset in needed.get(stage or "", ()):
            self.split_utterances(subset)

    def dataset(self, utterances: Sequence[Utterance], train: bool = False) -> SpeechDataset:
        """A dataset of these utterances, cropped as for training or whole."""
        crop = round(self.crop_seconds * SAMPLE_RATE) if train and self.crop_seconds is not None else None
        return SpeechDataset(utterances, self.loader(), crop, self.seed, self._cache, self.crop_draws)

    def train_dataloader(self) -> SpeechLoader:
        return self._dataloader(self.dataset(self.split_utterances("train"), train=True), self.batch_size, train=True)

    def training_speech(self) -> SpeechLoader:
        """The training set as whole utterances in the order of their ids, for what is computed once."""
        return self.eval_dataloader(self.split_utterances("train"))

    def val_dataloader(self) -> SpeechLoader:
        return self.eval_dataloader(self.split_utterances("validation"))

    def test_dataloader(self) -> SpeechLoader:
        return self.eval_dataloader(self.split_utterances("test"))

    def predict_dataloader(self) -> SpeechLoader:
        return self.test_dataloader()

    def eval_dataloader(self, utterances: Sequence[Utterance]) -> SpeechLoader:
        """Whole utterances in the given order; under DDP each is read by one process, see :class:`EpochSampler`."""
        return self._dataloader(self.dataset(utterances), self.eval_batch_size, train=False)

    def _dataloader(self, dataset: SpeechDataset, batch_size: int, train: bool) -> SpeechLoader:
        alike = None
        if train and self.alike:
            alike = ([samples_of(u, dataset.load) for u in dataset.utterances], batch_size)
        sampler = EpochSampler(len(dataset), self.seed, shuffle=train, alike=alike)
        samples = None if self.pad_seconds is None else round(self.pad_seconds * SAMPLE_RATE)
        return self.loader_of(
            dataset,
            sampler,
            batch_size=batch_size,
            drop_last=train and len(sampler) > batch_size,
            collate_fn=partial(collate, samples=samples),
        )

    def loader_of(self, dataset: Dataset[Any], sampler: EpochSampler, **batching: Any) -> SpeechLoader:
        """A loader with the corpus's workers; ``batching`` are :class:`torch.utils.data.DataLoader`'s arguments of batches."""
        return SpeechLoader(
            dataset,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,  # they keep the waveforms that they have read
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # keeps the loader off the global one
            **batching,
        )


def samples_of(utterance: Utterance, load: Callable[[Utterance], Tensor]) -> int:
    """Length of an utterance at 16 kHz, by its file's header where it has a file."""
    if utterance.path is None:
        return len(load(utterance))
    return math.ceil(AudioReader(utterance.path).seconds * SAMPLE_RATE) or len(load(utterance))


class FolderDataModule(CorpusDataModule):
    """A corpus in the folder ``root``, as published or as a copy in 16 kHz FLAC or Opus; see :class:`CorpusDataModule`."""

    download: ClassVar[str]
    """The archive and where it is published, for messages."""
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
        """Read the labels from an id.

        Raises:
            PseganError: the corpus has no such name; the message names the file and the form that is expected.
        """

    @classmethod
    @abstractmethod
    def complete_ids(cls) -> list[str]:
        """Ids of all recordings of the published corpus, sorted."""

    @classmethod
    def remedy(cls, root: Path) -> str:
        """What messages tell a user to do who has no corpus in ``root``."""
        return f"download {cls.download} with `psegan data download {cls.corpus} --root {root}`"

    @classmethod
    def candidate_roots(cls, root: Path) -> list[Path]:
        """Folders that may hold the published tree when the user names ``root``; the first that does is taken."""
        return [root]

    @classmethod
    def files(cls, root: str | Path) -> list[tuple[str, Path]]:
        """Ids and audio files below ``root``, in the order of their ids, whether or not their names can be parsed.

        Raises:
            PseganError: there is no such folder, or it holds no recordings where the corpus has them.
        """
        root = Path(root)
        if not root.exists():
            raise PseganError(f"{root}: no such folder; {cls.remedy(root)}")
        for start in cls.candidate_roots(root):
            found = sorted(
                (path.relative_to(start).with_suffix("").as_posix(), path)
                for path in start.glob(cls.pattern)
                if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")
            )
            if found:
                return found
        raise PseganError(
            f"{root}: holds no recordings of {cls.title} ({cls.layout}); name another folder or {cls.remedy(root)}"
        )

    @classmethod
    def scan(cls, root: str | Path) -> tuple[list[Utterance], list[PseganError]]:
        """All utterances below ``root``, sorted by id, and one error for every other audio file.

        A recording that is there twice, as WAV and as FLAC, is an error, because either could be the right one, and so is what
        is called as a recording but is no file.
        """
        utterances: dict[str, Utterance] = {}
        problems = []
        for id, path in cls.files(root):
            try:
                if problem := not_a_file(path):
                    raise PseganError(f"{path}: {problem}; remove it, or put the recording there")
                utterance = cls.parse(id, path)
                if (first := utterances.setdefault(utterance.id, utterance)) is not utterance:
                    raise PseganError(f"{path}: is there twice, also as {first.path}; remove one of the two")
            except PseganError as error:
                problems.append(error)
        return sorted(utterances.values(), key=lambda utterance: utterance.id), problems

    def form_subsets(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        published, present = self.complete_ids(), {utterance.id for utterance in utterances}
        missing = [name for name in published if name not in present]
        extra = sorted(present.difference(published))
        if self.split == "paper" and (missing or extra):
            what = f"{len(missing)} are missing ({missing[0]} first)" if missing else f"{extra[0]} is not one of them"
            raise PseganError(
                f"{self.where}: split 'paper' needs exactly the {len(published)} published recordings of {self.title}, "
                f"but {what}; see `psegan data check {self.corpus} --root ...`, or use split 'speaker-disjoint'"
            )
        return super().form_subsets(utterances)

    def find_utterances(self) -> list[Utterance]:
        utterances, problems = self.scan(self.root)
        if problems:
            raise problems[0]
        return utterances
