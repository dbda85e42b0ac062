"""Attackers without a network: estimators that are fitted in seconds on functionals of whole utterances.

Functionals are kept beside the recordings; the fitted estimators are not kept.
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
from psegan.common.files import file_hash
from psegan.common.instantiate import find_class
from psegan.common.processes import unordered
from psegan.common.record import Record
from psegan.evaluation.arrays import read_arrays, write_arrays
from psegan.evaluation.functionals import functionals
from psegan.speech.audio import read_audio

Floats = NDArray[np.float64]


class ClassicalAttackers:
    """The classical attackers of one fold. Each is fitted once, and each recording is analysed once.

    Args:
        opened: function from the name of a corpus to the corpus.
        corpora: folder of the protected corpora, in which their functionals are kept.
        workers: processes.
    """

    def __init__(self, opened: Callable[[str], ManifestDataModule], corpora: Path, workers: int) -> None:
        self._opened = cache(opened)
        self._table = cache(lambda corpus: functional_table(corpora / corpus, workers))
        self._features = cache(self._read)
        self._fitted = cache(self._fit)

    def posteriors(self, estimator: str, seed: int, trained_on: tuple[str, ...], system: str, subset: str) -> Floats:
        """Posteriors ``(N, K)`` for the subset of a system's speech, of the estimator of that class path.

        Raises:
            PseganError: a recording is missing or unreadable, or the training speech has a single class.
        """
        features, _ = self._features((system,), subset)
        return np.asarray(self._fitted(estimator, seed, trained_on).predict_proba(features), dtype=np.float64)

    def _fit(self, estimator: str, seed: int, trained_on: tuple[str, ...]) -> Any:
        made: Any = find_class(object, estimator, "attackers")(seed=seed)  # type: ignore[call-arg]
        return made.fit(*self._features(trained_on, "train"), *self._features(trained_on, "validation"))

    def _read(self, corpora: tuple[str, ...], subset: str) -> tuple[Floats, NDArray[np.int64]]:
        utterances = [u for corpus in corpora for u in self._opened(corpus).split_utterances(subset)]
        rows = [self._table(str(u.details["corpus"]))[str(u.details["source"])] for u in utterances]
        return np.stack(rows), np.array([u.emotion for u in utterances])


def functional_table(corpus: Path, workers: int) -> dict[str, Floats]:
    """Id → functionals ``(F,)`` of every recording of a corpus's folder, computed once and kept there.

    Raises:
        PseganError: a recording is missing or unreadable.
    """
    manifest, path = corpus / "manifest.csv", corpus / "functionals.npz"
    record = Record(path.with_suffix(".json"), {"manifest": file_hash(manifest), "version": __version__})
    if not (record.valid and path.is_file()):
        record.begin()
        rows = read_manifest(manifest)
        files = [corpus / row["path"] for row in rows]
        found = unordered(_functionals, files, workers)
        vectors = dict(tqdm(found, total=len(files), desc=f"functionals: {corpus.name}", leave=False))
        ids, table = np.array([row["id"] for row in rows]), np.stack([vectors[file] for file in files])
        write_arrays(path, {"id": ids, "functionals": table})
        record.finish()
    arrays = read_arrays(path)
    return dict(zip(arrays["id"].tolist(), arrays["functionals"], strict=True))


def _functionals(file: Path) -> tuple[Path, Floats]:
    return file, functionals(read_audio(file))
