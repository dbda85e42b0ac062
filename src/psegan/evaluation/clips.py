"""Which utterances a page plays."""

from collections.abc import Sequence

from datamodules.base import Utterance
from psegan.speech.batch import ATTRIBUTES


def various(utterances: Sequence[Utterance], n: int) -> list[str]:
    """Ids of ``n`` utterances, each unlike those before in as much of speaker, emotion, gender and content as can be."""
    chosen: list[Utterance] = []
    while len(chosen) < min(n, len(utterances)):
        fresh = [u for u in utterances if u not in chosen]
        chosen.append(max(fresh, key=lambda u: sum(u.label(a) != c.label(a) for c in chosen for a in ATTRIBUTES)))
    return [utterance.id for utterance in chosen]
