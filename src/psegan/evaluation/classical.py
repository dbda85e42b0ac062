"""Classical attackers of one fold: fitted in seconds on functionals of whole utterances, and not kept on disk."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.manifest import ManifestDataModule
from psegan.common.instantiate import find_class
from psegan.evaluation.feature_tables import functional_table

Scores = NDArray[np.float64]


class ClassicalAttackers:
    """What classical attackers say; each is fitted once, each recording analysed once.

    Args:
        opened: name of what is heard → its corpus.
        corpora: folder of the protected corpora, which gets their functionals.
        workers: processes.
    """

    def __init__(self, opened: Callable[[str], ManifestDataModule], corpora: Path, workers: int) -> None:
        self._opened = cache(opened)
        self._table = cache(lambda corpus: functional_table(corpora / corpus, workers))
        self._features = cache(self._read)
        self._fitted = cache(self._fit)

    def posteriors(self, estimator: str, seed: int, heard: tuple[str, ...], system: str, stage: str) -> Scores:
        """Posteriors ``(N, K)`` for one part of a system's speech.

        Args:
            estimator: import path, as of :class:`psegan.evaluation.functionals.FunctionalsSVM`.
            seed: of the estimator.
            heard: the systems that it learns from.
            system: whose speech is judged.
            stage: ``validation`` or ``test``.

        Raises:
            PseganError: a recording is missing or unreadable, or the training speech has a single class.
        """
        features, _ = self._features((system,), stage)
        return np.asarray(self._fitted(estimator, seed, heard).predict_proba(features), dtype=np.float64)

    def _fit(self, estimator: str, seed: int, heard: tuple[str, ...]) -> Any:
        made: Any = find_class(object, estimator, "attackers")(seed=seed)  # type: ignore[call-arg]
        return made.fit(*self._features(heard, "train"), *self._features(heard, "validation"))

    def _read(self, heard: tuple[str, ...], stage: str) -> tuple[Scores, NDArray[np.int64]]:
        """Functionals ``(N, F)`` and emotions ``(N,)``."""
        utterances = [u for system in heard for u in self._opened(system).split_utterances(stage)]
        rows = [self._table(str(u.details["corpus"]))[str(u.details["source"])] for u in utterances]
        return np.stack(rows), np.array([u.emotion for u in utterances])
