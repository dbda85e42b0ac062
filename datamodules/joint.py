"""Several corpora as one, for networks that need speech rather than labels, such as a vocoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
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
    """Several published corpora as one. Ids and class names begin with the name of their corpus.

    Each corpus is split by itself, and its training set becomes part of the common training set, and so on. Classes are
    kept apart, even where both corpora call them "angry"; only the genders are common.

    Args:
        root: folder that holds the corpora in folders of their names.
        corpora: two or more of ``ravdess`` and ``emodb``.
        repeats: corpus → number of times that a training epoch goes through it, by default 1; with more, a small corpus
            has more weight beside a large one.
        kwargs: see :class:`CorpusDataModule`.

    Raises:
        PseganError: there are fewer than two corpora, one is named twice or unknown, or a number of repeats is below 1.
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
        return {
            subset: sorted(
                (
                    self._own(member, utterance)
                    for member in self.corpora
                    for utterance in member.split_utterances(subset)
                ),
                key=lambda utterance: utterance.id,
            )
            for subset in SUBSETS
        }

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
        return partial(_load, {member.corpus: member.loader() for member in self.corpora})

    def _joined(self, attribute: str) -> tuple[str, ...]:
        return tuple(f"{member.corpus}/{name}" for member in self.corpora for name in member.classes[attribute])

    def _own(self, member: CorpusDataModule, utterance: Utterance) -> Utterance:
        """The utterance with the id and the class indices of the joint corpus."""
        labels: dict[str, Any] = {}
        for attribute, names in self.classes.items():
            name = member.classes[attribute][utterance.label(attribute)]
            labels[attribute] = names.index(name if attribute == "gender" else f"{member.corpus}/{name}")
        return replace(utterance, id=f"{member.corpus}/{utterance.id}", **labels)


def _load(loaders: Mapping[str, Callable[[Utterance], Tensor]], utterance: Utterance) -> Tensor:
    """The waveform, from the loader of the utterance's corpus."""
    corpus, _, id = utterance.id.partition("/")
    return loaders[corpus](replace(utterance, id=id))
