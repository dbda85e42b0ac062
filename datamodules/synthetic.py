"""A corpus of synthetic voices for demos and tests, which needs no files and no download."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.base import CorpusDataModule, Utterance
from datamodules.splits import paired_folds
from datamodules.voices import MANNERS, SENTENCES, make_voice, synthesise
from psegan.common.errors import PseganError
from psegan.common.random import stable_hash


@dataclass(frozen=True)
class Synthesiser:
    """Makes an utterance's waveform ``(T,)``, which depends only on the corpus's seed and the utterance.

    The ``n_speakers`` voices are spread over the pitch range of their gender.
    """

    seed: int
    n_speakers: int

    def __call__(self, utterance: Utterance) -> Tensor:
        return self._made(utterance.id, utterance.speaker, utterance.gender, utterance.emotion, utterance.content)

    @lru_cache(maxsize=1000)  # noqa: B019, since trainings that follow one another in a process read the same corpus
    def _made(self, id: str, speaker: int, gender: int, emotion: int, content: int) -> Tensor:
        place = speaker // 2 / max(self.n_speakers // 2 - 1, 1)
        voice = make_voice(gender == 1, place, self._rng("voice", speaker))
        manner, sentence = list(MANNERS.values())[emotion], list(SENTENCES.values())[content]
        wave = synthesise(voice, manner, sentence, self._rng("take", id))
        return torch.from_numpy(wave.astype(np.float32))

    def _rng(self, *key: object) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(stable_hash("synthetic", self.seed, *key)))


class SyntheticDataModule(CorpusDataModule):
    """Utterances of a source-filter synthesiser (:mod:`datamodules.voices`), made when they are first read.

    Speakers differ in formants and fundamental frequency; emotions in pitch level, pitch range, energy, rate and
    spectral tilt; contents in their vowels and consonants; takes by a little chance in all of these. Split ``paper``:
    one eighth each for validation and test, even over speaker × emotion. Split ``speaker-disjoint``: folds of one male
    and one female voice.

    Args:
        n_speakers: number of voices, even, 2 to 24; the first, third, ... are male.
        n_contents: number of sentences, 1 to 6.
        n_takes: number of utterances of each speaker, emotion and sentence.
        corpus_seed: of the voices and takes; separate from ``seed``, so that runs with several seeds have one corpus.
        kwargs: see :class:`datamodules.base.CorpusDataModule`.
    """

    corpus = "synthetic"
    title = "the synthetic corpus"
    emotions = tuple(MANNERS)

    def __init__(
        self, n_speakers: int = 8, n_contents: int = 4, n_takes: int = 3, corpus_seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if n_speakers % 2 or not 2 <= n_speakers <= 24:
            raise PseganError(f"n_speakers is {n_speakers}, but must be an even number from 2 to 24")
        if not 1 <= n_contents <= len(SENTENCES):
            raise PseganError(f"n_contents is {n_contents}, but must lie between 1 and {len(SENTENCES)}")
        if n_takes < 1:
            raise PseganError(f"n_takes is {n_takes}, but must be at least 1")
        self.n_takes = n_takes
        self.corpus_seed = corpus_seed
        self.speakers = tuple(f"{'fm'[number % 2]}{number:02d}" for number in range(1, n_speakers + 1))
        self.contents = tuple(SENTENCES)[:n_contents]
        held_out = n_speakers * len(self.emotions) * n_contents * n_takes // 8
        self.paper_sizes = {"test": held_out, "validation": held_out}

    def find_utterances(self) -> list[Utterance]:
        return [
            Utterance(
                id=f"{name}/{manner}-{sentence}-{take}",
                path=None,
                emotion=emotion,
                speaker=speaker,
                gender=speaker % 2,
                content=content,
                details={"take": take},
            )
            for speaker, name in enumerate(self.speakers)
            for emotion, manner in enumerate(self.emotions)
            for content, sentence in enumerate(self.contents)
            for take in range(1, self.n_takes + 1)
        ]

    def loader(self) -> Callable[[Utterance], Tensor]:
        return Synthesiser(self.corpus_seed, len(self.speakers))

    def folds(self) -> list[tuple[int, ...]]:
        speakers = range(len(self.speakers))
        return paired_folds(speakers[::2], speakers[1::2], 1, self.split_seed)
