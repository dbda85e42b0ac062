"""Verdicts: what every classifier and verifier says of one system's speech, kept on disk between judging and counting."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from datamodules.base import Utterance
from datamodules.manifest import ManifestDataModule
from psegan.common.files import atomic_path
from psegan.common.processes import one_thread, unordered, worth_starting
from psegan.evaluation.verifiers import Verifier
from psegan.metrics.quality import measures
from psegan.speech.batch import ATTRIBUTES
from psegan.systems.classifier import Classifier
from psegan.systems.judgement import Judge, Judgement


@dataclass
class Verdicts:
    """What was said of one set of utterances under one system.

    Attributes:
        id: ``(N,)`` names.
        target: attribute → true classes ``(N,)``.
        probability: name of a classifier → posteriors ``(N, K)``.
        embedding: name of a classifier or verifier → ``(N, E)``.
        measure: name of a signal measure → its values ``(N,)``, NaN where an utterance has none.
    """

    id: NDArray[np.str_]
    target: dict[str, NDArray[np.int64]]
    probability: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    embedding: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    measure: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.id)

    def judgement(self, name: str, attribute: str) -> Judgement:
        """One classifier's verdict, with its embeddings where they are kept."""
        embedding = self.embedding.get(name, np.empty((len(self), 0)))
        return Judgement(self.probability[name], embedding, self.target[attribute])

    def save(self, path: Path) -> None:
        """Write everything atomically as NumPy's ``.npz``, without pickles."""
        arrays: dict[str, NDArray[Any]] = {"id": self.id}
        for group in ("target", "probability", "embedding", "measure"):
            arrays |= {f"{group}:{name}": array for name, array in getattr(self, group).items()}
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Verdicts":
        """Read what :meth:`save` wrote."""
        groups: dict[str, dict[str, NDArray[Any]]] = {"target": {}, "probability": {}, "embedding": {}, "measure": {}}
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                group, _, name = key.partition(":")
                if name:
                    groups[group][name] = arrays[key]
            return cls(arrays["id"], **groups)


@torch.no_grad()
def listen(
    corpus: ManifestDataModule,
    stage: str,
    classifiers: Mapping[str, Classifier],
    verifier: Verifier | None = None,
    original: ManifestDataModule | None = None,
    label: str = "",
    workers: int = 1,
) -> Verdicts:
    """Let every classifier and the verifier judge one part of a corpus.

    Args:
        corpus: of protected speech.
        stage: ``test`` or ``validation``.
        classifiers: name → frozen classifier; embeddings of all of them are kept.
        verifier: gives the embeddings called ``verifier``.
        original: the same utterances as they were; with it, distortion and intelligibility are measured.
        label: of the progress bar.
        workers: processes that measure.

    Raises:
        PseganError: a recording is missing or unreadable.
    """
    utterances = corpus.split_utterances(stage)
    judges = {name: Judge(classifier) for name, classifier in classifiers.items()}
    voices: list[NDArray[np.float64]] = []
    for batch in tqdm(corpus.eval_dataloader(utterances), desc=label, unit="batch", leave=False):
        for judge in judges.values():
            judge.hear(*judge.classifier.features(batch), batch.label(judge.classifier.attribute))
        if verifier is not None:
            voices.append(np.asarray(verifier.embed(batch.waveform, batch.length), dtype=np.float64))
    judged = {name: judge.conclude() for name, judge in judges.items()}
    found = Verdicts(
        id=np.array([utterance.id for utterance in utterances]),
        target={a: np.array([utterance.label(a) for utterance in utterances]) for a in ATTRIBUTES},
        probability={name: judgement.probability for name, judgement in judged.items()},
        embedding={name: judgement.embedding for name, judgement in judged.items()},
    )
    if verifier is not None:
        found.embedding["verifier"] = np.concatenate(voices)
    if original is not None:
        found.measure = _measures(corpus, original, stage, label, workers)
    for name, probability in found.probability.items():
        assert len(probability) == len(found), f"{name} judged {len(probability)} of {len(found)} utterances"
    return found


def _measures(
    corpus: ManifestDataModule, original: ManifestDataModule, stage: str, label: str, workers: int
) -> dict[str, NDArray[np.float64]]:
    before = {utterance.id: utterance for utterance in original.split_utterances(stage)}
    after = corpus.split_utterances(stage)
    pairs = [_Pair(before[utterance.id], utterance, original.loader(), corpus.loader()) for utterance in after]
    workers = worth_starting(workers, len(pairs))
    with one_thread():
        found = unordered(_measure, pairs, workers) if workers > 1 else map(_measure, pairs)
        of = dict(tqdm(found, total=len(pairs), desc=f"{label}, signal", unit="utterance", leave=False))
    return {name: np.array([of[utterance.id][name] for utterance in after]) for name in of[after[0].id]}


class _Pair(NamedTuple):
    before: Utterance
    after: Utterance
    load_before: Callable[[Utterance], Tensor]
    load_after: Callable[[Utterance], Tensor]


def _measure(pair: _Pair) -> tuple[str, dict[str, float]]:
    return pair.after.id, measures(pair.load_before(pair.before), pair.load_after(pair.after))
