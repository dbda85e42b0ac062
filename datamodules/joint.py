"""Several corpora as one, for networks that need speech rather than labels, such as a vocoder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.base import CorpusDataModule, FolderDataModule, SpeechLoader, Utterance
from datamodules.emodb import EmoDBDataModule
from datamodules.manifest import ManifestDataModule
from datamodules.nemo import NEMODataModule
from datamodules.ravdess import RAVDESSDataModule
from datamodules.splits import APART, SUBSETS, Role
from psegan.common.errors import PseganError

PUBLISHED: dict[str, type[FolderDataModule]] = {
    corpus.corpus: corpus for corpus in (RAVDESSDataModule, EmoDBDataModule, NEMODataModule)
}
"""Name → corpus."""
MANIFEST = "manifest.csv"
"""What lists the recordings of any other corpus, in its folder."""


class JointDataModule(CorpusDataModule):
    """Several corpora as one. Ids and class names begin with the name of their corpus.

    Each corpus is split by itself, and its training set becomes part of the common training set, and so on; a corpus whose
    manifest names no validation set adds nothing to the common one. Classes are kept apart, even where both corpora call
    them "angry"; only the genders are common.

    Args:
        root: folder that holds the corpora in folders of their names.
        corpora: one or more of ``ravdess``, ``emodb`` and ``nemo``, and of folders with a ``manifest.csv`` (docs/corpora.md).
        split_of: corpus → split of it, where it is not ``split``; a manifest that doesn't have the split ``split`` is split by
            its column.
        speakers_of: corpus → whose speakers of it are trained on (``speakers`` of :class:`CorpusDataModule`), where it is not
            ``speakers``; of a corpus whose split shares speakers, everybody is.
        repeats: corpus → number of times that a training epoch goes through it, by default 1; with more, a small corpus
            has more weight beside a large one.
        kwargs: see :class:`CorpusDataModule`.

    Raises:
        PseganError: there is no corpus, one is named twice, a manifest is missing or wrong, or ``split_of``,
            ``speakers_of`` or ``repeats`` names no corpus or a number below 1.
    """

    title = "the joint corpus"

    def __init__(
        self,
        root: str,
        corpora: Sequence[str] = ("ravdess", "emodb"),
        split_of: dict[str, str] | None = None,
        speakers_of: dict[str, Role] | None = None,
        repeats: dict[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not corpora or len(set(corpora)) < len(corpora):
            raise PseganError(f"corpora is {list(corpora)}, but must be one or more names, each once")
        self.split_of, self.speakers_of = dict(split_of or {}), dict(speakers_of or {})
        self.repeats = dict(repeats or {})
        for key, named in (("split_of", [*self.split_of]), ("speakers_of", [*self.speakers_of])):
            for name in named:
                if name not in corpora:
                    raise PseganError(f"{key} names {name}, which is none of corpora ({', '.join(corpora)})")
        for name, times in self.repeats.items():
            if name not in corpora or times < 1:
                raise PseganError(f"repeats holds {name}: {times}, but must give one of corpora a number from 1 up")
        self.corpora = [self._member(name, Path(root) / name, kwargs) for name in corpora]
        self.corpus = "+".join(corpora)
        languages = {member.language for member in self.corpora}
        self.language = languages.pop() if len(languages) == 1 else None
        self.genders = tuple(dict.fromkeys([*self.genders, *(name for m in self.corpora for name in m.genders)]))
        self.emotions, self.speakers, self.contents = (
            tuple(f"{member.corpus}/{name}" for member in self.corpora for name in member.classes[attribute])
            for attribute in ("emotion", "speaker", "content")
        )

    def _member(self, name: str, folder: Path, kwargs: dict[str, Any]) -> CorpusDataModule:
        published = PUBLISHED.get(name)
        known = (published or ManifestDataModule).splits
        split = self.split_of.get(name, self.split if self.split in known else "manifest")
        role = self.speakers_of.get(name, self.role if split in APART else "all")
        own = {**kwargs, "split": split, "speakers": role, "fold": self.fold if split in APART else 0}
        if published is not None:
            return published(root=str(folder), **own)
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise PseganError(
                f"corpora names {name}, but there is no {manifest}; one of {', '.join(PUBLISHED)}, or a folder with a manifest "
                "(docs/corpora.md)"
            )
        return ManifestDataModule(manifest=str(manifest), name=name, **own)

    @property
    def members(self) -> tuple[CorpusDataModule, ...]:
        return tuple(self.corpora)

    def find_utterances(self) -> list[Utterance]:
        return [self._own(member, utterance) for member in self.corpora for utterance in member.utterances()]

    def form_subsets(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        parts = {s: {f"{m.corpus}/{u.id}" for m in self.corpora for u in m.subsets()[s]} for s in SUBSETS}
        return {subset: [u for u in utterances if u.id in ids] for subset, ids in parts.items()}

    def train_dataloader(self) -> SpeechLoader:
        utterances = self.split_utterances("train")
        often = [u for u in utterances for _ in range(self.repeats.get(u.id.partition("/")[0], 1))]
        return self._dataloader(self.dataset(often, train=True), self.batch_size, train=True)

    @property
    def n_folds(self) -> int:
        return min((member.n_folds for member in self.corpora if member.apart or not self.apart), default=1)

    def folds(self) -> list[tuple[int, ...]]:
        raise NotImplementedError("each corpus has folds of its own")

    def _own(self, member: CorpusDataModule, utterance: Utterance) -> Utterance:
        """The utterance with the id and the class indices of the joint corpus."""
        labels: dict[str, Any] = {}
        for attribute, names in self.classes.items():
            name = member.classes[attribute][utterance.label(attribute)]
            labels[attribute] = names.index(name if attribute == "gender" else f"{member.corpus}/{name}")
        return replace(utterance, id=f"{member.corpus}/{utterance.id}", **labels)
