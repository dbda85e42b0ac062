"""What all classifiers and the verifier predict for one system's speech, and the measures and level of its signal.

Predictions are kept on disk, so that scores can be computed again without the networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from datamodules.base import Utterance
from datamodules.dataset import read_utterance
from datamodules.manifest import ManifestDataModule
from psegan.common.processes import unordered
from psegan.evaluation.arrays import read_arrays, write_arrays
from psegan.evaluation.verifiers import Verifier
from psegan.metrics.level import levels
from psegan.metrics.quality import measures
from psegan.speech.batch import ATTRIBUTES
from psegan.systems.classifier import Classifier
from psegan.systems.collector import PredictionCollector

GROUPS = ("target", "probability", "embedding", "measure", "level")
"""The fields of :class:`SystemPredictions` that are arrays by name; predictions of other groups are out of date."""


@dataclass
class SystemPredictions:
    """Predictions for one set of utterances of one system.

    Attributes:
        id: names of the utterances ``(N,)``.
        target: attribute → true classes ``(N,)``.
        probability: name of a classifier → posteriors ``(N, K)``.
        embedding: name of a classifier or verifier → embeddings ``(N, E)``.
        measure: name of a measure of the signal → values ``(N,)``, NaN where it is not defined.
        level: name of a level (:func:`psegan.metrics.level.levels`) → values ``(N,)``.
    """

    id: NDArray[np.str_]
    target: dict[str, NDArray[np.int64]]
    probability: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    embedding: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    measure: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    level: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write everything atomically as NumPy's ``.npz``, without pickles."""
        arrays: dict[str, NDArray[Any]] = {"id": self.id}
        for group in GROUPS:
            arrays |= {f"{group}:{name}": array for name, array in getattr(self, group).items()}
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> "SystemPredictions":
        """Read what :meth:`save` wrote; a damaged file is a PseganError."""
        arrays = read_arrays(path)
        found = cls(arrays["id"], {})
        for key, array in arrays.items():
            group, _, name = key.partition(":")
            if name:
                getattr(found, group)[name] = array
        return found


@torch.no_grad()
def predict(
    corpus: ManifestDataModule,
    subset: str,
    classifiers: Mapping[str, Classifier],
    verifier: Verifier | None = None,
    original: ManifestDataModule | None = None,
    label: str = "",
    workers: int = 1,
) -> SystemPredictions:
    """Predictions of all classifiers and embeddings of the verifier for one subset of a corpus of protected speech.

    Args:
        corpus, subset: which.
        classifiers: name → classifier in evaluation mode; its embeddings are kept too.
        verifier: gives the embeddings called ``verifier``.
        original: the corpus of original speech, which may be ``corpus``; if given, :func:`psegan.metrics.level.levels` compares
            both and, of another corpus, :func:`psegan.metrics.quality.measures` as well.
        label: of the progress bar.
        workers: processes that compute measures and levels.

    Raises:
        PseganError: a recording is missing or unreadable.
    """
    utterances = corpus.split_utterances(subset)
    collectors = {name: PredictionCollector(classifier) for name, classifier in classifiers.items()}
    voices: list[NDArray[np.float64]] = []
    for batch in tqdm(corpus.eval_dataloader(utterances), desc=label, unit="batch", leave=False):
        for collector in collectors.values():
            classifier = collector.classifier
            collector.add(*classifier.features(batch), batch.label(classifier.attribute))
        if verifier is not None:
            voices.append(np.asarray(verifier.embed(batch.waveform, batch.length), dtype=np.float64))
    found = SystemPredictions(
        id=np.array([utterance.id for utterance in utterances]),
        target={a: np.array([utterance.label(a) for utterance in utterances]) for a in ATTRIBUTES},
    )
    for name, collector in collectors.items():
        collected = collector.collected()
        found.probability[name], found.embedding[name] = collected.probability, collected.embedding
    if verifier is not None:
        found.embedding["verifier"] = np.concatenate(voices)
    if original is not None:
        found.measure, found.level = _signal(corpus, original, subset, label, workers)
    return found


def _signal(
    corpus: ManifestDataModule, original: ManifestDataModule, subset: str, label: str, workers: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Measures, of which an original has none, and levels: by name, ``(N,)``.

    Where an utterance is not as long as the original, what is said is said at another time: of such a system there are no
    measures, which compare sample by sample.
    """
    before = {utterance.id: utterance for utterance in original.split_utterances(subset)}
    pairs = [(before[utterance.id], utterance) for utterance in corpus.split_utterances(subset)]
    found = unordered(_level if corpus is original else _measure_and_level, pairs, workers)
    of = dict(tqdm(found, total=len(pairs), desc=f"{label}, signal", unit="utterance", leave=False))
    measure, level = zip(*(of[after.id] for _, after in pairs), strict=True)
    return _by_name(measure if all(measure) else [{}]), _by_name(level)


def _by_name(values: Sequence[dict[str, float]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array([of_utterance[name] for of_utterance in values]) for name in values[0]}


def _measure_and_level(pair: tuple[Utterance, Utterance]) -> tuple[str, tuple[dict[str, float], dict[str, float]]]:
    waveforms = tuple(map(read_utterance, pair))
    before, after = waveforms
    return pair[1].id, (measures(before, after) if len(before) == len(after) else {}, levels(before, after))


def _level(pair: tuple[Utterance, Utterance]) -> tuple[str, tuple[dict[str, float], dict[str, float]]]:
    return pair[1].id, ({}, levels(*map(read_utterance, pair)))
