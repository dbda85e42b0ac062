"""Several corpora as one, for what wants speech rather than labels: a vocoder."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.base import CorpusDataModule, FolderDataModule, SpeechLoader, Utterance
from datamodules.emodb import EmoDBDataModule
from datamodules.ravdess import RAVDESSDataModule
from datamodules.splits import SUBSETS
from psegan.common.errors import PseganError

PUBLISHED: dict[str, type[FolderDataModule]] = {"ravdess": RAVDESSDataModule, "emodb": EmoDBDataModule}
"""Name → corpus."""


class JointDataModule(CorpusDataModule):
    """Published corpora side by side, each in its own split of the same kind; ids and classes begin with a corpus's name.

    Training parts are joined to one training part, and so on. A class of one corpus is none of another's, even where
    both are called "angry"; gender alone is common.

    Args:
        root: folder that holds the corpora in folders of their names.
        corpora: two or more of ``ravdess`` and ``emodb``.
        repeats: corpus → how often an epoch of training goes through it, 1 where none is given; a small corpus is
            otherwise hardly heard beside a large one.
        kwargs: see :class:`CorpusDataModule`.

    Raises:
        PseganError: fewer than two corpora, one of them twice, an unknown one, or no positive number of repeats.
    """

    title = "the joint corpus"

    def __init__(
        self,
        root: str,
        corpora: Sequence[str] = tuple(PUBLISHED),
        repeats: dict[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if unknown := sorted(set(corpora) - set(PUBLISHED)):
            raise PseganError(f"corpora holds {unknown[0]!r}; there are {', '.join(PUBLISHED)}")
        if len(corpora) < 2 or len(set(corpora)) < len(corpora):
            raise PseganError(f"corpora are {', '.join(corpora) or 'none'}, but must be two or more different ones")
        self.repeats = dict(repeats or {})
        for name, times in self.repeats.items():
            if name not in corpora or times < 1:
                raise PseganError(
                    f"repeats holds {name}: {times}, but must give corpora of this one a number from 1 up"
                )
        self.root, self.names = root, tuple(corpora)
        of_split = {key: kwargs[key] for key in ("split", "fold", "speakers", "split_seed") if key in kwargs}
        self.corpora = [PUBLISHED[name](root=str(Path(root) / name), **of_split) for name in corpora]
        self.corpus = "+".join(corpora)
        self.emotions = self._joined("emotion")
        self.speakers = self._joined("speaker")
        self.contents = self._joined("content")

    @property
    def members(self) -> tuple[CorpusDataModule, ...]:
        return tuple(self.corpora)

    @property
    def shares_speakers(self) -> bool:
        return all(member.shares_speakers for member in self.corpora)

    def find_utterances(self) -> list[Utterance]:
        return [self._own(member, utterance) for member in self.corpora for utterance in member.utterances()]

    def form_subsets(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        parts: dict[str, list[Utterance]] = {subset: [] for subset in SUBSETS}
        for member in self.corpora:
            for subset, part in parts.items():
                part += [self._own(member, utterance) for utterance in member.split_utterances(subset)]
        return {subset: sorted(part, key=lambda utterance: utterance.id) for subset, part in parts.items()}

    def train_dataloader(self) -> SpeechLoader:
        """Shuffled crops of the training set, other crops in each repeat."""
        utterances = self.split_utterances("train")
        often = [u for u in utterances for _ in range(self.repeats.get(u.id.partition("/")[0], 1))]
        return self._dataloader(self.dataset(often, train=True), self.batch_size, train=True)

    @property
    def n_folds(self) -> int:
        return min(member.n_folds for member in self.corpora)

    def folds(self) -> list[tuple[int, ...]]:
        raise NotImplementedError("each corpus has folds of its own")

    def loader(self) -> Callable[[Utterance], Tensor]:
        return Load({member.corpus: member.loader() for member in self.corpora})

    def _joined(self, attribute: str) -> tuple[str, ...]:
        return tuple(f"{member.corpus}/{name}" for member in self.corpora for name in member.classes[attribute])

    def _own(self, member: CorpusDataModule, utterance: Utterance) -> Utterance:
        def index(attribute: str) -> int:
            name = member.classes[attribute][utterance.label(attribute)]
            return self.classes[attribute].index(f"{member.corpus}/{name}")

        return replace(
            utterance,
            id=f"{member.corpus}/{utterance.id}",
            emotion=index("emotion"),
            speaker=index("speaker"),
            gender=self.genders.index(member.genders[utterance.gender]),
            content=index("content"),
        )


class Load:
    """Gives an utterance's waveform by the loader of its corpus; travels to worker processes.

    Args:
        loaders: name of a corpus → its loader.
    """

    def __init__(self, loaders: dict[str, Callable[[Utterance], Tensor]]) -> None:
        self.loaders = loaders

    def __call__(self, utterance: Utterance) -> Tensor:
        corpus, _, id = utterance.id.partition("/")
        return self.loaders[corpus](replace(utterance, id=id))
