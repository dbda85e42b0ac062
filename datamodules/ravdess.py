"""RAVDESS, the audio speech part: Livingstone and Russo, PLoS ONE 13(5), 2018."""

import re
from pathlib import Path
from types import MappingProxyType

from datamodules.base import FolderDataModule, Utterance
from datamodules.splits import paired_folds
from psegan.common.errors import PseganError

EXPECTED = "modality-channel-emotion-intensity-statement-repetition-actor, e.g. 03-01-05-02-01-01-12"
TEXTS = {"kids": "Kids are talking by the door", "dogs": "Dogs are sitting by the door"}


class RAVDESSDataModule(FolderDataModule):
    """24 actors speak two statements in eight emotions: 1440 recordings, 48 kHz WAV (or copies as FLAC).

    The root holds ``Actor_01`` to ``Actor_24``, or one folder ``Audio_Speech_Actors_01-24`` that holds them.
    Split ``paper``: 1200 utterances to train, 120 for validation and 120 to test; the validation and the test set have 5
    utterances of each actor and 15 of each emotion. Split ``speaker-disjoint``: 6 folds of two male and two female
    actors. Arguments: see :class:`datamodules.base.FolderDataModule`.
    """

    corpus = "ravdess"
    title = "RAVDESS"
    language = "en"
    download = "Audio_Speech_Actors_01-24.zip of https://zenodo.org/records/1188976"
    layout = "Actor_01 to Actor_24 with .wav or .flac files"
    pattern = "Actor_*/*"
    emotions = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    speakers = tuple(f"{actor:02d}" for actor in range(1, 25))
    contents = tuple(TEXTS)
    paper_sizes = MappingProxyType({"test": 120, "validation": 120})
    locked = frozenset({"Actor_07/03-01-03-01-02-01-07", "Actor_07/03-01-03-01-02-02-07"})  # published byte-identical

    @classmethod
    def candidate_roots(cls, root: Path) -> list[Path]:
        return [root, root / "Audio_Speech_Actors_01-24"]

    @classmethod
    def parse(cls, id: str, path: Path | None = None) -> Utterance:
        folder, _, name = id.rpartition("/")
        where = path or id
        if not re.fullmatch(r"03-01-(01-01|0[2-8]-0[12])-0[12]-0[12]-(0[1-9]|1\d|2[0-4])", name):
            raise PseganError(
                f"{where}: not a RAVDESS name ({EXPECTED}), or song (03-02) or of a video (01, 02); remove or rename the file"
            )
        emotion, intensity, statement, repetition, actor = map(int, name.split("-")[2:])
        if folder.rpartition("/")[2] != f"Actor_{actor:02d}":
            raise PseganError(f"{where}: is of actor {actor:02d}, but lies in {folder}; move it to Actor_{actor:02d}")
        return Utterance(
            id=id,
            path=path,
            emotion=emotion - 1,
            speaker=actor - 1,
            gender=(actor + 1) % 2,  # odd actors are male
            content=statement - 1,
            details={"intensity": ("normal", "strong")[intensity - 1], "repetition": repetition},
            text=tuple(TEXTS.values())[statement - 1],
        )

    @classmethod
    def complete_ids(cls) -> list[str]:
        return [
            f"Actor_{actor:02d}/03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
            for actor in range(1, 25)
            for emotion in range(1, 9)
            for intensity in (1, 2)
            for statement in (1, 2)
            for repetition in (1, 2)
            if (emotion, intensity) != (1, 2)
        ]

    def folds(self) -> list[tuple[int, ...]]:
        return paired_folds(range(0, 24, 2), range(1, 24, 2), 2, self.split_seed)
