"""Voice profiles in evaluations: whose calm recordings an utterance is protected with."""

from collections import OrderedDict
from dataclasses import asdict
from typing import Any

from datamodules.base import CorpusDataModule, Utterance, samples_of
from psegan.common.errors import PseganError
from psegan.common.random import stable_hash
from psegan.evaluation.specification import Enrolment
from psegan.protection.transform import Transform
from psegan.protection.voice import Voice
from psegan.speech.audio import SAMPLE_RATE

KEPT = 64
"""Protectors that a process keeps, each with a profile."""


class Enroller:
    """Gives every utterance a protector that speaks in its speaker's calm voice.

    Args:
        data: the corpus; all its utterances may be enrolled, each for its speaker.
        enrolment: which are.

    Raises:
        PseganError: the corpus has no such emotion.
    """

    def __init__(self, data: CorpusDataModule, enrolment: Enrolment) -> None:
        if unknown := [name for name in enrolment.calm if name not in data.emotions]:
            raise PseganError(
                f"enrolment.calm holds {unknown[0]!r}, but {data.where} has {', '.join(data.emotions)}; name calm ones of these"
            )
        self.enrolment, self.load, self.where = enrolment, data.loader(), data.where
        self.speakers = data.speakers
        self.calm: dict[int, list[Utterance]] = {}
        for utterance in sorted(data.utterances(), key=lambda u: stable_hash("enrolment", u.id)):
            if data.emotions[utterance.emotion] in enrolment.calm:
                self.calm.setdefault(utterance.speaker, []).append(utterance)
        self._profiles: dict[tuple[int, int | str], list[Utterance]] = {}
        self._kept: OrderedDict[tuple[str, ...], Transform] = OrderedDict()

    def describe(self) -> dict[str, Any]:
        """The enrolment in plain values."""
        return asdict(self.enrolment)

    def profile(self, utterance: Utterance) -> list[Utterance]:
        """The recordings of the profile that an utterance is protected with.

        Raises:
            PseganError: there are none.
        """
        key = utterance.speaker, self._left_out(utterance)
        if key not in self._profiles:  # asked for twice for each utterance, and reads the headers of files
            found, seconds = [], 0.0
            for one in self.calm.get(utterance.speaker, ()):
                if self._left_out(one) != key[1] and seconds < self.enrolment.seconds:
                    found.append(one)
                    seconds += samples_of(one, self.load) / SAMPLE_RATE
            self._profiles[key] = found
        if not self._profiles[key]:
            raise self._too_little(utterance, "no recording")
        return self._profiles[key]

    def _left_out(self, utterance: Utterance) -> int | str:
        """What no recording of its profile has: its sentence, or its id."""
        return utterance.content if self.enrolment.sentences == "other" else utterance.id

    def speaking_as(self, protector: Transform, utterance: Utterance) -> Transform:
        """The protector with the profile for an utterance."""
        profile = self.profile(utterance)
        key = tuple(one.id for one in profile)
        if key not in self._kept:
            name = self.speakers[utterance.speaker]
            try:
                voice = Voice.enrol(map(self.load, profile), name)
            except PseganError as error:
                raise self._too_little(utterance, f"{len(profile)} recording(s), {error}") from None
            self._kept[key] = protector.speaking_as(voice)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def _too_little(self, utterance: Utterance, found: str) -> PseganError:
        return PseganError(
            f"{utterance.id}: no voice profile of its speaker; {self.where} has, of {', '.join(self.enrolment.calm)} and "
            f"{self.enrolment.sentences} sentences: {found}; name more emotions as calm (enrolment.calm; --calm of psegan data "
            "protect), or let sentences be any"
        )
