"""An evaluation's judges: whom they hear, and what they say of all systems' test speech."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.base import CorpusDataModule
from datamodules.manifest import read_manifest
from psegan.evaluation.judges import Judge, make_judges
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
        self._says: dict[tuple[int, str], dict[str, list[Any]]] = {}

    @cached_property
    def judges(self) -> dict[str, Judge]:
        """Name → judge of all that are installed; a line names the others.

        Raises:
            PseganError: a judge's specification is wrong.
        """
        return make_judges(self.specs)

    def describe(self) -> dict[str, dict[str, str]]:
        """Name → what a judge is."""
        return {name: judge.describe() for name, judge in self.judges.items()}

    def says(self, fold: int, system: str) -> dict[str, list[Any]]:
        """What each judge says of a system's test speech, in the order of ids; one who is not to be asked is absent.

        Raises:
            PseganError: see :func:`psegan.evaluation.judging.judge_recordings`.
        """
        if (fold, system) not in self._says:
            manifest, language = self.manifest(fold, system), self.corpora[fold].language
            rows = sorted((row for row in read_manifest(manifest) if row["split"] == "test"), key=lambda row: row["id"])
            corpus = self.folder / rows[0]["corpus"]
            recordings = [Recording(row["id"], manifest.parent / row["path"], row["sha256"]) for row in rows]
            judges = independent(self.judges, corpus, language)
            found = judge_recordings(corpus, recordings, judges, self.specs, language, self.workers)
            self._says[fold, system] = found
        return self._says[fold, system]

    def listening(self, folds: Sequence[int], systems: Iterable[str]) -> Listening:
        """What the judges say of systems' test speech in some folds."""
        heard = [u for fold in folds for u in self.corpora[fold].split_utterances("test")]
        says = {}
        for system in systems:
            parts = [self.says(fold, system) for fold in folds]
            says[system] = {name: [one for part in parts for one in part[name]] for name in parts[0]}
        corpus = self.corpora[folds[0]]
        neutral = [corpus.emotions[utterance.emotion] == "neutral" for utterance in heard]
        return Listening(
            judges=self.judges,
            says=says,
            text=[utterance.text for utterance in heard],
            content=np.array([u.content for u in heard]) if corpus.n_classes["content"] > 1 else None,
            speaker=np.array([utterance.speaker for utterance in heard]),
            neutral=np.array(neutral) if "neutral" in corpus.emotions else None,
        )
