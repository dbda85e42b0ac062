"""nEMO, acted Polish: Christop, nEMO: Dataset of Emotional Speech in Polish, LREC-COLING 2024."""

import re
from functools import cache
from pathlib import Path
from types import MappingProxyType

from datamodules.base import FolderDataModule, Utterance
from datamodules.splits import balanced_folds
from psegan.common.errors import PseganError

EXPECTED = "speaker_emotion_sentence, e.g. EB0_anger_17"
MALE = ("KS0", "MP0", "SM0", "TP0", "WR0")
N_SENTENCES = 90
N_FOLDS = 4


class NEMODataModule(FolderDataModule):
    """Nine actors speak 90 sentences in six emotions: 4481 recordings, 24 kHz WAV (or copies as 16 kHz Opus).

    The root holds the folder ``samples``, as published, or a folder for each speaker; the labels are in the files' names.
    Actor MK0 has no surprise, and MP0 about two fifths of the others' recordings. Split ``paper``, which is ours, since the
    article does not have this corpus: 3581 utterances to train, 450 for validation and 450 to test, even over speaker ×
    emotion. The splits with disjoint speakers have four folds of one actress and one or two actors.
    Arguments: see :class:`datamodules.base.FolderDataModule`.
    """

    corpus = "nemo"
    title = "nEMO"
    language = "pl"
    download = "https://github.com/amu-cai/nEMO"
    layout = "samples/ or a folder a speaker, with .wav, .flac or .opus files"
    pattern = "*/??0_*_*"
    emotions = ("anger", "fear", "happiness", "sadness", "surprised", "neutral")
    speakers = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0")
    contents = tuple(f"s{rank:02d}" for rank in range(N_SENTENCES))
    paper_sizes = MappingProxyType({"test": 450, "validation": 450})

    @classmethod
    def candidate_roots(cls, root: Path) -> list[Path]:
        inside = [root.absolute().parent] if root.absolute().name == "samples" else []
        return [*inside, root, *sorted(root.glob("nEMO*"))]  # a clone, or what an archive of it unpacks to

    @classmethod
    def remedy(cls, root: Path) -> str:
        return f"get it with `git clone {cls.download} {root}`"

    @classmethod
    def parse(cls, id: str, path: Path | None = None) -> Utterance:
        match = re.fullmatch(r"([A-Z]{2}0)_([a-z]+)_([1-9]\d?)", id.rpartition("/")[2])
        known = match is not None and match[1] in cls.speakers and match[2] in cls.emotions
        if match is None or not known or int(match[3]) > N_SENTENCES:
            raise PseganError(f"{path or id}: not an nEMO name ({EXPECTED}); remove or rename the file")
        speaker, emotion, sentence = match.groups()
        text, content = _sentences()[int(sentence) - 1]
        return Utterance(
            id=f"{speaker}/{match[0]}",  # in whatever folder it lies
            path=path,
            emotion=cls.emotions.index(emotion),
            speaker=cls.speakers.index(speaker),
            gender=0 if speaker in MALE else 1,
            content=content,
            text=text,
        )

    @classmethod
    def complete_ids(cls) -> list[str]:
        lines = map(str.split, Path(__file__).with_name("nemo_absent.txt").read_text().splitlines())
        absent = {f"{name}_{sentence}" for name, *sentences in lines for sentence in sentences}
        return sorted(
            f"{speaker}/{name}"
            for speaker in cls.speakers
            for emotion in cls.emotions
            for sentence in range(1, N_SENTENCES + 1)
            if (name := f"{speaker}_{emotion}_{sentence}") not in absent
        )

    def folds(self) -> list[tuple[int, ...]]:
        genders = {speaker: self.genders[0 if speaker in MALE else 1] for speaker in self.speakers}
        folds = balanced_folds(genders, N_FOLDS, self.split_seed)
        return [tuple(self.speakers.index(speaker) for speaker in fold) for fold in folds]


@cache
def _sentences() -> list[tuple[str, int]]:
    """Text and class of each sentence, in the order of the numbers in the files' names. Classes are in the texts' order."""
    texts = Path(__file__).with_name("nemo_sentences.txt").read_text(encoding="utf-8").splitlines()
    ranks = {text: rank for rank, text in enumerate(sorted(texts))}
    return [(text, ranks[text]) for text in texts]
