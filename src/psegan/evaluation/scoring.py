"""Scoring on waveforms: protect the test set, send it through the vocoder, and ask every classifier."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from datamodules.base import CorpusDataModule, Utterance
from psegan.audio import LogMel
from psegan.batch import ATTRIBUTES, SpeechBatch
from psegan.evaluation import bootstrap, metrics
from psegan.evaluation.judgement import Judge, Judgement, roc
from psegan.evaluation.metrics import Array
from psegan.evaluation.results import Row
from psegan.masking import mask_like
from psegan.models.vocoder import Vocoder
from psegan.random import seeded
from psegan.systems.adversarial import AdversarialSystem
from psegan.systems.classifier import Classifier

Protector = Callable[[SpeechBatch, int], Tensor]
"""A batch and its number → protected waveforms ``(B, T)``, zero at and after the true lengths."""


def identity(batch: SpeechBatch, number: int) -> Tensor:
    """Original speech."""
    return batch.waveform


def copy_synthesis(vocoder: Vocoder) -> Protector:
    """What the vocoder alone does to speech: the control that separates privacy from damage."""
    front_end = LogMel()

    def protect(batch: SpeechBatch, number: int) -> Tensor:
        log_mel, frames = front_end(batch.waveform, batch.length)
        return _speak(vocoder, log_mel, frames, batch)

    return protect


def protection(system: AdversarialSystem, vocoder: Vocoder, seed: int) -> Protector:
    """A trained system, with targets and noise drawn from ``seed``."""

    def protect(batch: SpeechBatch, number: int) -> Tensor:
        mel, frames = system.features(batch)
        protected, _ = system.protect(mel, frames, seeded(seed, "score", number))
        return _speak(vocoder, system.front_end.scaler.inverse(protected), frames, batch)

    return protect


def _speak(vocoder: Vocoder, log_mel: Tensor, frames: Tensor, batch: SpeechBatch) -> Tensor:
    waveform = vocoder(log_mel, frames)[:, : batch.waveform.shape[1]].clamp(-1, 1)  # what a file can hold
    return waveform * mask_like(batch.length, waveform)


@dataclass
class Hearing:
    """What was heard of one system.

    Attributes:
        judgements: attribute → verdicts on all test utterances.
        clips: name → waveform ``(T,)`` of the first few utterances.
    """

    judgements: dict[str, Judgement]
    clips: dict[str, Tensor]


@torch.no_grad()
def hear(
    data: CorpusDataModule,
    protectors: Mapping[str, Protector],
    classifiers: Mapping[str, Classifier],
    n_clips: int = 3,
) -> dict[str, Hearing]:
    """Judge the test set under every protector.

    Args:
        data: set up for testing.
        protectors: system's name → what it does to a batch.
        classifiers: attribute → classifier trained on original speech.
        n_clips: utterances whose waveforms are kept, as various as can be.
    """
    heard = {}
    shown = _various(data.split_utterances("test"), n_clips)
    for name, protector in protectors.items():
        judges = {attribute: Judge(classifier) for attribute, classifier in classifiers.items()}
        clips: dict[str, Tensor] = {}
        for number, batch in enumerate(tqdm(data.test_dataloader(), desc=f"scoring {name}", unit="batch")):
            spoken = replace(batch, waveform=protector(batch, number))
            for attribute, judge in judges.items():
                judge.hear(*judge.classifier.features(spoken), batch.label(attribute))
            for i in range(len(batch)):
                if batch.id[i] in shown:
                    clips[batch.id[i]] = spoken.waveform[i, : int(batch.length[i])]
        judged = len(next(iter(judges.values())))
        assert judged == len(data.split_utterances("test")), f"{judged} utterances judged: not the whole test set"
        heard[name] = Hearing({attribute: judge.conclude() for attribute, judge in judges.items()}, clips)
    return heard


def _various(utterances: Sequence[Utterance], n: int) -> set[str]:
    """Ids of ``n`` utterances, each unlike those before in as much of speaker, emotion, gender and content as can be."""
    chosen: list[Utterance] = []
    while len(chosen) < min(n, len(utterances)):
        fresh = [u for u in utterances if u not in chosen]
        chosen.append(max(fresh, key=lambda u: sum(u.label(a) != c.label(a) for c in chosen for a in ATTRIBUTES)))
    return {utterance.id for utterance in chosen}


def rows(
    heard: Mapping[str, Hearing],
    *,
    corpus: str,
    split: str,
    fold: int | None,
    seed: int,
    shares_speakers: bool,
    n_resamples: int = 1000,
) -> Iterable[Row]:
    """The tidy scores of what was heard, with 95 % intervals over speakers.

    Emotion and the other attributes: accuracy and UAR of a classifier that was trained on original speech. Emotion
    besides: macro AUC and the EER of pooled one-vs-rest trials. Speaker besides: the verification EER of trials that
    enrol original speech and test the system's; accuracy and UAR only where the test set's speakers were trained on.
    """
    original = heard["original"].judgements["speaker"]
    for system, hearing in heard.items():
        for attribute in ATTRIBUTES:
            verdict = hearing.judgements[attribute]
            arguments = verdict.probability, verdict.target, original.target, n_resamples
            measures: dict[str, Callable[[], bootstrap.Interval]] = {
                "accuracy": partial(bootstrap.accuracy_interval, *arguments),
                "uar": partial(bootstrap.uar_interval, *arguments),
            }
            if attribute == "speaker" and not shares_speakers:
                measures.clear()  # a classifier knows no other speakers than those that it learnt from
            if attribute == "emotion":
                measures["auc"] = partial(bootstrap.macro_auc_interval, *arguments)
                measures["eer"] = partial(bootstrap.one_vs_rest_eer_interval, *arguments)
            if attribute == "speaker":
                measures["eer"] = partial(
                    bootstrap.verification_eer_interval,
                    original.embedding,
                    verdict.embedding,
                    verdict.target,
                    n_resamples,
                )
            for metric, measure in measures.items():
                try:
                    interval = measure()
                except metrics.UndefinedMetricError:  # a fold of one speaker has no impostors, so no such score
                    continue
                yield Row(
                    system=system, corpus=corpus, split=split, fold=fold, attacker="ignorant", attribute=attribute,
                    metric=metric, value=interval.value, low=interval.low, high=interval.high,
                    n=len(verdict.target), seed=seed,
                )  # fmt: skip


def roc_curves(heard: Mapping[str, Hearing], attribute: str) -> dict[str, tuple[Array, Array, float]]:
    """Every system's ROC for emotion (pooled one-vs-rest) or speaker (verification): rates and area (Figure 6)."""
    curves: dict[str, tuple[Array, Array, float]] = {}
    original = heard["original"].judgements[attribute]
    for system, hearing in heard.items():
        try:
            curves[system] = roc(attribute, original, hearing.judgements[attribute])
        except metrics.UndefinedMetricError:  # a fold of one speaker has no impostors
            continue
    return curves
