"""Attackers without a network: estimators that are fitted in seconds on features of whole utterances.

Features are functionals of recordings, or statistics of what a protector let through. They are kept beside the recordings; the
fitted estimators are not kept.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datamodules.manifest import ManifestDataModule, read_manifest
from psegan import __version__
from psegan.common.errors import PseganError
from psegan.common.files import file_hash
from psegan.common.instantiate import find_class
from psegan.common.processes import unordered
from psegan.common.record import Record
from psegan.evaluation.arrays import read_arrays, write_arrays
from psegan.evaluation.corpora import audio_path, passed_path
from psegan.evaluation.cut import cut_statistics
from psegan.evaluation.functionals import functionals
from psegan.report.tables import CUT
from psegan.speech.audio import read_audio

Floats = NDArray[np.float64]


class ClassicalAttackers:
    """The classical attackers of one fold. Each is fitted once, and each recording is analysed once.

    Those named in :data:`FEATURES` differ in what they hear.

    Args:
        opened: function from the name of a corpus to the corpus.
        corpora: folder of the protected corpora, in which their features are kept.
        workers: processes.
    """

    def __init__(self, opened: Callable[[str], ManifestDataModule], corpora: Path, workers: int) -> None:
        self._opened = cache(opened)
        self._table = cache(lambda corpus, features: feature_table(corpora / corpus, features, workers))
        self._features = cache(self._read)
        self._fitted = cache(self._fit)

    def posteriors(
        self,
        estimator: str,
        seed: int,
        trained_on: tuple[str, ...],
        system: str,
        subset: str,
        features: str = "functionals",
    ) -> Floats:
        """Posteriors ``(N, K)`` for the subset of a system's speech, of the estimator of that class path.

        Raises:
            PseganError: a recording is missing or unreadable, or the training speech has a single class.
        """
        values, _ = self._features((system,), subset, features)
        fitted = self._fitted(estimator, seed, trained_on, features)
        return np.asarray(fitted.predict_proba(values), dtype=np.float64)

    def _fit(self, estimator: str, seed: int, trained_on: tuple[str, ...], features: str) -> Any:
        made: Any = find_class(object, estimator, "attackers")(seed=seed)  # type: ignore[call-arg]
        learnt, checked = (self._features(trained_on, subset, features) for subset in ("train", "validation"))
        return made.fit(*learnt, *checked)

    def _read(self, corpora: tuple[str, ...], subset: str, features: str) -> tuple[Floats, NDArray[np.int64]]:
        utterances = [u for corpus in corpora for u in self._opened(corpus).split_utterances(subset)]
        rows = [self._table(str(u.details["corpus"]), features)[str(u.details["source"])] for u in utterances]
        return np.stack(rows), np.array([u.emotion for u in utterances])


def feature_table(corpus: Path, features: str, workers: int) -> dict[str, Floats]:
    """Id → features ``(F,)`` of every utterance of a corpus's folder, computed once and kept there.

    Args:
        corpus: the folder.
        features: one of :data:`FEATURES`.
        workers: processes.

    Raises:
        PseganError: a recording, or what was let through of it, is missing or unreadable.
    """
    manifest, path = corpus / "manifest.csv", corpus / f"{features}.npz"
    record = Record(path.with_suffix(".json"), {"manifest": file_hash(manifest), "version": __version__})
    if not (record.valid and path.is_file()):
        record.begin()
        rows = read_manifest(manifest)
        ids = [row["id"] for row in rows]
        found = unordered(FEATURES[features], [(corpus, id) for id in ids], workers)
        vectors = dict(tqdm(found, total=len(ids), desc=f"{features}: {corpus.name}", leave=False))
        write_arrays(path, {"id": np.array(ids), features: np.stack([vectors[id] for id in ids])})
        record.finish()
    arrays = read_arrays(path)
    return dict(zip(arrays["id"].tolist(), arrays[features], strict=True))


def _functionals(utterance: tuple[Path, str]) -> tuple[str, Floats]:
    folder, id = utterance
    return id, functionals(read_audio(audio_path(folder, id)))


def _cut(utterance: tuple[Path, str]) -> tuple[str, Floats]:
    folder, id = utterance
    path = passed_path(folder, id)
    if not path.is_file():
        raise PseganError(f"{path}: is missing; {folder} was made before that was kept: remove it, and run again")
    return id, cut_statistics(read_arrays(path)["passed"])


FEATURES: dict[str, Callable[[tuple[Path, str]], tuple[str, Floats]]] = {"functionals": _functionals, CUT: _cut}
"""Name → id and features of an utterance of a protected corpus's folder."""
