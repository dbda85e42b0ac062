"""The Berlin Database of Emotional Speech (Emo-DB): Burkhardt et al., Interspeech 2005."""

import re
from pathlib import Path
from types import MappingProxyType

from datamodules.base import FolderDataModule, Utterance
from psegan.common.errors import PseganError

EMOTION_LETTERS = "WLEAFTN"
MALE = ("03", "10", "11", "12", "15")
EXPECTED = "speaker, text, emotion, take, e.g. 03a01Fa"
TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
"""The texts as published (emodb.bilderbar.info, 'Used texts')."""


class EmoDBDataModule(FolderDataModule):
    """Ten actors speak ten German sentences in seven emotions: 535 recordings, 16 kHz WAV (or copies as FLAC).

    The root holds the folder ``wav``, or is that folder. Split ``paper``: 100 utterances to train (10 of each speaker,
    14 or 15 of each emotion), 35 for validation (5 of each emotion) and 400 to test. Split ``speaker-disjoint``: one
    fold a speaker; in fold k the k-th speaker is the test set and the next one the validation set. Speaker 08 never
    speaks with disgust, so the test set of fold 1 lacks it. Arguments: see
    :class:`datamodules.base.FolderDataModule`.
    """

    corpus = "emodb"
    title = "Emo-DB"
    language = "de"
    download = "download.zip of http://emodb.bilderbar.info"
    layout = "wav/ with .wav or .flac files"
    pattern = "wav/*"
    emotions = ("anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral")
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    contents = tuple(TEXTS)
    paper_sizes = MappingProxyType({"train": 100, "validation": 35})

    @classmethod
    def candidate_roots(cls, root: Path) -> list[Path]:
        return [root, root.absolute().parent] if root.absolute().name == "wav" else [root]

    @classmethod
    def parse(cls, id: str, path: Path | None = None) -> Utterance:
        match = re.fullmatch(rf"(\d\d)([ab]\d\d)([{EMOTION_LETTERS}])([a-z])", id.rpartition("/")[2])
        if match is None or match[1] not in cls.speakers or match[2] not in cls.contents:
            raise PseganError(f"{path or id}: not an Emo-DB name ({EXPECTED}); remove or rename the file")
        speaker, text, emotion, take = match.groups()
        return Utterance(
            id=id,
            path=path,
            emotion=EMOTION_LETTERS.index(emotion),
            speaker=cls.speakers.index(speaker),
            gender=0 if speaker in MALE else 1,
            content=cls.contents.index(text),
            details={"take": take},
            text=TEXTS[text],
        )

    @classmethod
    def complete_ids(cls) -> list[str]:
        return [f"wav/{name}" for name in Path(__file__).with_name("emodb_names.txt").read_text().split()]

    def folds(self) -> list[tuple[int, ...]]:
        return [(speaker,) for speaker in range(len(self.speakers))]
