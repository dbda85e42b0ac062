"""An evaluation's judges: whom they hear, and what they say of all systems' test speech."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.base import CorpusDataModule
from datamodules.manifest import read_manifest
from psegan.common.random import stable_hash
from psegan.evaluation.judges import Judge, make_judges, tell
from psegan.evaluation.judging import Recording, Specs, independent, judge_recordings
from psegan.evaluation.utility import Listening


class Hearing:
    """What judges say of the test speech of an evaluation's systems; each recording is heard once.

    Args:
        specs: name → specification of a judge.
        corpora: fold → original speech.
        manifest: from fold and system to the manifest of the system's speech in the fold.
        folder: of the protected corpora, where results are kept.
        workers: processes at most.
    """

    def __init__(
        self,
        specs: Specs,
        corpora: Mapping[int, CorpusDataModule],
        manifest: Callable[[int, str], Path],
        folder: Path,
        workers: int,
    ) -> None:
        self.specs, self.corpora, self.manifest, self.folder, self.workers = specs, corpora, manifest, folder, workers
        self.language = next(iter(corpora.values())).language
        self.says = cache(self._says)

    @cached_property
    def judges(self) -> dict[str, Judge]:
        """Name → judge of all that are installed and know the language; a line names the others.

        Raises:
            PseganError: a judge's specification is wrong.
        """
        made = make_judges(self.specs)
        deaf = [name for name, judge in made.items() if not judge.knows(self.language)]
        spoken = f"they don't know {self.language}" if self.language else "the corpus doesn't state its language"
        tell(dict.fromkeys(deaf, spoken))
        return {name: judge for name, judge in made.items() if name not in deaf}

    def describe(self) -> dict[str, dict[str, str]]:
        """Name → what a judge is."""
        return {name: judge.describe() for name, judge in self.judges.items()}

    @property
    def known(self) -> dict[str, Any]:
        """What scores depend on beside recordings: the judges, the language, and a hash of the texts of the test sets."""
        tested = [u for corpus in self.corpora.values() for u in corpus.split_utterances("test")]
        texts = stable_hash("texts", *(f"{utterance.id}: {utterance.text}" for utterance in tested))
        return {"judges": self.describe(), "language": self.language, "texts": f"{texts:x}"}

    def _says(self, system: str) -> dict[str, dict[tuple[int, str], Any]]:
        """Name of a judge → fold and id → what it says of a system's test speech; one who is not to be asked is absent.

        Raises:
            PseganError: see :func:`psegan.evaluation.judging.judge_recordings`.
        """
        tested: dict[Path, dict[tuple[int, str], Recording]] = {}
        for fold in self.corpora:
            manifest = self.manifest(fold, system)
            for row in read_manifest(manifest):
                if row["split"] == "test":
                    recording = Recording(row["source"], manifest.parent / row["path"], row["sha256"])
                    tested.setdefault(self.folder / row["corpus"], {})[fold, row["id"]] = recording
        found: dict[str, dict[tuple[int, str], Any]] = {}
        for corpus, recordings in tested.items():
            asked, heard = independent(self.judges, corpus, self.language), list(recordings.values())
            for name, says in judge_recordings(corpus, heard, asked, self.specs, self.language, self.workers).items():
                found.setdefault(name, {}).update(zip(recordings, says, strict=True))
        return found

    def listening(self, folds: Sequence[int], systems: Iterable[str], enrolled: Collection[str] = ()) -> Listening:
        """What the judges say of systems' test speech in some folds.

        Args:
            folds, systems: which.
            enrolled: emotions of the recordings that voice profiles are made of.
        """
        heard = [(fold, u) for fold in folds for u in self.corpora[fold].split_utterances("test")]
        corpus, utterances = self.corpora[folds[0]], [utterance for _, utterance in heard]
        neutral = [corpus.emotions[utterance.emotion] == "neutral" for utterance in utterances]
        return Listening(
            judges=self.judges,
            says={
                system: {
                    name: [says[fold, u.id] for fold, u in heard]
                    for name, says in self.says(system).items()
                    if all((fold, u.id) in says for fold, u in heard)  # a judge may have taught one fold's protector
                }
                for system in systems
            },
            text=[utterance.text for utterance in utterances],
            content=np.array([u.content for u in utterances]) if corpus.n_classes["content"] > 1 else None,
            speaker=np.array([utterance.speaker for utterance in utterances]),
            neutral=np.array(neutral) if "neutral" in corpus.emotions else None,
            enrolled=np.array([corpus.emotions[u.emotion] in enrolled for u in utterances]) if enrolled else None,
        )
