"""What survives, by judges that nobody here trained: scores of words, voices, quality and level for one system's speech."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psegan.evaluation.judges import Judge
from psegan.evaluation.naturalness import QualityJudge
from psegan.evaluation.recognisers import Recogniser
from psegan.evaluation.verifiers import Verifier
from psegan.metrics.bootstrap import Bootstrap, Resampled
from psegan.metrics.level import LOUDEST
from psegan.metrics.scores import UndefinedMetricError
from psegan.metrics.words import word_errors

LEVEL = "level"
"""Stands where the judge's name does for scores of the level, which no judge is needed for."""


class Utility(NamedTuple):
    """One score of what survives: attribute, name of the judge, metric, and the number of utterances behind it."""

    attribute: str
    judge: str
    metric: str
    score: Resampled
    n: int


@dataclass(frozen=True)
class Listening:
    """What is known of the test utterances, and who has listened to them.

    Attributes:
        judges: name → judge.
        says: system → name of a judge → what it says of each utterance ``(N)``; a judge who was not asked is absent.
        text: what is said in each utterance, where the corpus knows it, ``(N)``.
        content: which sentence it is ``(N,)``; None where sentences are not labelled.
        speaker: who speaks ``(N,)``.
        neutral: whether the original is neutral ``(N,)``; None where no emotion is called that.
        enrolled: whether a voice profile may hold the original, so that it is in no trial of voices ``(N,)``; None where
            nobody speaks with a profile.
    """

    judges: Mapping[str, Judge] = field(default_factory=dict)
    says: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    text: Sequence[str | None] = ()
    content: NDArray[np.int64] | None = None
    speaker: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    neutral: NDArray[np.bool_] | None = None
    enrolled: NDArray[np.bool_] | None = None

    @property
    def left_out(self) -> int:
        """Number of utterances that are in no trial of voices."""
        return 0 if self.enrolled is None else int(self.enrolled.sum())

    def scores(self, system: str, original: str, bootstrap: Bootstrap) -> Iterator[Utility]:
        """All scores of a system's speech by all who have heard it and the original."""
        for name, judge in self.judges.items():
            after, before = (self.says.get(one, {}).get(name) for one in (system, original))
            if after is None or before is None:
                continue
            if isinstance(judge, Recogniser):
                yield from self._words(name, before, after, bootstrap)
            elif isinstance(judge, Verifier):
                yield from self._voices(name, np.array(before), np.array(after), bootstrap)
            elif isinstance(judge, QualityJudge):
                for rating in after[0]:
                    values = np.array([says[rating] for says in after], dtype=np.float64)
                    yield Utility("speech", name, rating, bootstrap.mean(values), int(np.isfinite(values).sum()))

    def _words(self, name: str, before: Sequence[str], after: Sequence[str], bootstrap: Bootstrap) -> Iterator[Utility]:
        """Word error rates where the text is known, and elsewhere against what the judge hears in the original."""
        known = np.array([text is not None for text in self.text])
        references = [heard if text is None else text for text, heard in zip(self.text, before, strict=True)]
        errors, words = np.array([word_errors(*pair) for pair in zip(references, after, strict=True)]).T
        for metric, which in (("wer", known), ("wer_to_original", ~known)):
            counted = np.where(which, words, 0)
            if counted.any():  # the judge may have heard nothing in any original
                rate = bootstrap.ratio_of_sums(np.where(which, errors, 0), counted)
                yield Utility("words", name, metric, rate, int(np.count_nonzero(counted)))

    def _voices(
        self, name: str, before: NDArray[np.float64], after: NDArray[np.float64], bootstrap: Bootstrap
    ) -> Iterator[Utility]:
        """Equal error rates of trials of different sentences, by three enrolments: original, neutral original, protected."""
        trials: list[tuple[str, NDArray[np.float64], NDArray[np.bool_] | None]]
        trials = [("eer", before, None), ("eer_protected", after, None)]
        if self.neutral is not None:
            trials.append(("eer_neutral", before, self.neutral))
        for metric, enrol, enrolling in trials:
            with suppress(UndefinedMetricError):  # a fold may hold a single speaker or sentence, or nothing neutral
                found = bootstrap.verification(
                    enrol, after, self.speaker, content=self.content, enrolling=enrolling, outside=self.enrolled,
                    measures=["eer"],
                )  # fmt: skip
                yield Utility("speaker", name, metric, found["eer"], len(after) - self.left_out)


def level_scores(level: Mapping[str, NDArray[np.float64]], bootstrap: Bootstrap) -> Iterator[Utility]:
    """Scores of the level out of :func:`psegan.metrics.level.levels` of all utterances, by name ``(N,)``."""
    for name, values in level.items():
        if name == LOUDEST:
            found = {f"{name}_{of}": bootstrap.quantile(values, q) for of, q in (("median", 0.5), ("p95", 0.95))}
        else:
            found = {name: bootstrap.mean(values)}
        for metric, score in found.items():
            yield Utility("speech", LEVEL, metric, score, len(bootstrap))
