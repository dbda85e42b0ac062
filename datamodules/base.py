"""What all corpora share: their splits and loaders, and how recordings are found in a folder."""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from datamodules.dataset import SpeechDataset, SpeechLoader, Utterance, collate, read_utterance
from datamodules.sampling import EpochSampler
from datamodules.splits import SUBSETS, Role, even_split, speaker_subsets
from psegan.common.errors import PseganError
from psegan.speech.audio import AUDIO_SUFFIXES, SAMPLE_RATE

NAME_PATTERNS = {
    "RAVDESS": re.compile(r"\d\d(-\d\d){6}"),
    "Emo-DB": re.compile(r"\d\d[ab]\d\d[A-Z][a-z]"),
    "CREMA-D": re.compile(r"\d{4}_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}"),
}
"""File names, without their ending, by which a message says that a folder holds another corpus."""

NEEDED = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("test",)}
"""Lightning's stage → subsets that it reads."""


class CorpusDataModule(LightningDataModule):
    """A corpus, its split and its loaders. A subclass states the class names and finds the utterances.

    Training loaders shuffle and crop; all other loaders give whole utterances in the order of their ids. Every draw is a
    function of (seed, epoch, index), see :mod:`datamodules.sampling`. The sampler itself divides the utterances among
    the processes, so train with ``Trainer(use_distributed_sampler=False)``. If training has more than one batch, the last
    incomplete one is left out, so that batch norm never sees a batch of one utterance.

    Args:
        split: ``paper`` (all subsets share their speakers) or ``speaker-disjoint``.
        fold: of ``speaker-disjoint``, from 0.
        speakers: which speakers to train on, in ``speaker-disjoint`` only: ``all``, or those of the ``protector`` or of
            the ``attacker``, which are disjoint and have one test set; see :func:`datamodules.splits.speaker_subsets`.
        split_seed: of the split; separate from ``seed``, so that runs with several seeds have the same test set.
        seed: of the order and the crops; the command line sets it to ``seed_everything``.
        batch_size: utterances in a training batch (per process).
        eval_batch_size: utterances in any other batch.
        crop_seconds: longest training utterance, in seconds; None trains on whole utterances.
        crop_draws: number of random crops of which the one with the most energy is taken, because recordings begin and
            end in silence.
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
    splits: ClassVar[tuple[str, ...]] = ("paper", "speaker-disjoint")
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
        self._subsets: dict[str, list[Utterance]] | None = None

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
        """The corpora that a joint corpus consists of; any other corpus is its own only member."""
        return (self,)

    @property
    def training_speakers(self) -> tuple[str, ...]:
        """Names of the speakers of the training and the validation set."""
        subsets = self._all_subsets()
        known = {utterance.speaker for utterance in (*subsets["train"], *subsets["validation"])}
        return tuple(self.speakers[speaker] for speaker in sorted(known))

    @property
    def where(self) -> str:
        """What error messages name: the corpus's folder, or the corpus itself where it has none."""
        return self.corpus

    @abstractmethod
    def find_utterances(self) -> list[Utterance]:
        """All utterances of the corpus, in any order."""

    @abstractmethod
    def folds(self) -> list[tuple[int, ...]]:
        """Speakers of each fold of ``speaker-disjoint``."""

    def loader(self) -> Callable[[Utterance], Tensor]:
        """A function from an utterance to its waveform ``(T,)``; worker processes receive a copy of it."""
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
            PseganError: the split cannot be formed from the recordings that there are, or leaves this subset empty or a
                class without training utterances.
        """
        if subset not in SUBSETS:
            raise ValueError(f"unknown subset {subset!r}: one of {', '.join(SUBSETS)}")
        found = self._all_subsets()[subset]
        if not found:
            raise self._unusable(subset, "is empty")
        return list(found)

    def _all_subsets(self) -> dict[str, list[Utterance]]:
        """Subset → utterances, sorted by id; formed once."""
        if self._subsets is None:
            self._require_fold()
            subsets = self.form_subsets(self.utterances())
            self.check_subsets(subsets)
            self._subsets = subsets
        return self._subsets

    def form_subsets(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        """Subset → utterances of the chosen split, in the order of ``utterances``, before :meth:`check_subsets`."""
        if self.split == "paper":
            counts = len(self.speakers), len(self.emotions)
            return even_split(utterances, self.paper_sizes, self.split_seed, *counts, locked=self.locked)
        name = self.speakers  # speakers are drawn by name, since their indices differ between corpora
        folds = [[name[speaker] for speaker in fold] for fold in self.folds()]
        genders = {name[utterance.speaker]: utterance.gender for utterance in utterances}
        speakers = speaker_subsets(folds, self.fold, self.role, genders, self.split_seed)
        return {subset: [u for u in utterances if name[u.speaker] in speakers[subset]] for subset in SUBSETS}

    def check_subsets(self, subsets: Mapping[str, Sequence[Utterance]]) -> None:
        """Raise :class:`PseganError` if nothing could be trained or tested on these subsets."""
        self._require_emotions(subsets["train"])
        for subset, utterances in subsets.items():
            if not utterances:
                raise self._unusable(subset, "is empty")

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
        """The error of a subset that nothing can be trained or tested on."""
        name = f"the {'training' if subset == 'train' else subset} set of split '{self.split}'"
        if self.split == "speaker-disjoint":
            name += f", fold {self.fold}" + (f", speakers of the {self.role}" if self.role != "all" else "") + ","
        return PseganError(f"{self.where}: {name} {problem}; complete the corpus or choose another split or fold")

    def setup(self, stage: str | None = None) -> None:
        """Form the split, so that errors in the corpus are reported before training starts.

        Args:
            stage: Lightning's ``fit``, ``validate``, ``test`` or ``predict``; the subsets it needs must not be empty.
        """
        self._all_subsets()
        for subset in NEEDED.get(stage or "", ()):
            self.split_utterances(subset)

    def dataset(self, utterances: Sequence[Utterance], train: bool = False) -> SpeechDataset:
        """A dataset of these utterances, cropped as for training or whole."""
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
        """Whole utterances in the given order; under DDP each is read by one process, see :class:`EpochSampler`."""
        return self._dataloader(self.dataset(utterances), self.eval_batch_size, train=False)

    def _dataloader(self, dataset: SpeechDataset, batch_size: int, train: bool) -> SpeechLoader:
        sampler = EpochSampler(len(dataset), self.seed, shuffle=train)
        samples = None if self.pad_seconds is None else round(self.pad_seconds * SAMPLE_RATE)
        return SpeechLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=train and len(sampler) > batch_size,
            collate_fn=partial(collate, samples=samples),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,  # they keep the waveforms that they have read
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # keeps the loader off the global one
        )


class FolderDataModule(CorpusDataModule):
    """A corpus in a folder, as published or as a copy in 16 kHz FLAC.

    Args:
        root: the folder.
        kwargs: see :class:`CorpusDataModule`.
    """

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
    def candidate_roots(cls, root: Path) -> list[Path]:
        """Folders that may hold the published tree when the user names ``root``; the first that does is taken."""
        return [root]

    @classmethod
    def files(cls, root: str | Path) -> list[tuple[str, Path]]:
        """Ids and audio files below ``root``, in the order of their ids, whether or not their names can be parsed.

        Raises:
            PseganError: there is no such folder, or it holds no recordings or another corpus.
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
        """All utterances below ``root``, sorted by id, and one error for every other audio file.

        A recording that is there both as WAV and as FLAC is an error, because either could be the right one.
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

    def form_subsets(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        if self.split == "paper":
            self._require_complete(utterances)
        return super().form_subsets(utterances)

    def _require_complete(self, utterances: Sequence[Utterance]) -> None:
        published, present = self.complete_ids(), {utterance.id for utterance in utterances}
        missing = [name for name in published if name not in present]
        extra = sorted(present.difference(published))
        if missing or extra:
            what = f"{len(missing)} are missing ({missing[0]} first)" if missing else f"{extra[0]} is not one of them"
            raise PseganError(
                f"{self.where}: split 'paper' needs exactly the {len(published)} published recordings of {self.title}, "
                f"but {what}; see `psegan data check {self.corpus} --root ...`, or use split 'speaker-disjoint'"
            )

    def find_utterances(self) -> list[Utterance]:
        utterances, problems = self.scan(self.root)
        if problems:
            raise problems[0]
        return utterances


def _looks_like(root: Path, most: int = 5000) -> str | None:
    """The corpus whose file names occur among the first ``most`` files below ``root``, if any."""
    names = [path.stem for path in islice(root.rglob("*"), most) if path.suffix.lower() in AUDIO_SUFFIXES]
    return next((corpus for name in names for corpus, p in NAME_PATTERNS.items() if p.fullmatch(name)), None)


def _alternatives(names: Sequence[str]) -> str:
    """``'a', 'b' or 'c'``."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}"
