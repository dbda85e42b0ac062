"""The synthetic corpus: deterministic, speech-like in level and length, and learnable."""

import time

import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from datamodules import SyntheticDataModule
from psegan.common.errors import PseganError
from psegan.speech.audio import SAMPLE_RATE, LogMel


@pytest.fixture(scope="module")
def corpus() -> SyntheticDataModule:
    return SyntheticDataModule()


def features(corpus: SyntheticDataModule, subset: str) -> torch.Tensor:
    """Mean and deviation over time of each mel band, ``(N, 160)``."""
    rows = []
    for batch in corpus.eval_dataloader(corpus.split_utterances(subset)):
        mel, frames = LogMel()(batch.waveform, batch.length)
        rows += [torch.cat([m[:, :n].mean(1), m[:, :n].std(1)]) for m, n in zip(mel, frames, strict=True)]
    return torch.stack(rows)


def test_whole_corpus_in_seconds(corpus):
    assert corpus.n_classes == {"emotion": 5, "speaker": 8, "gender": 2, "content": 4}
    start = time.perf_counter()
    waveforms = [waveform for waveform, _ in map(corpus.dataset(corpus.utterances()).__getitem__, range(480))]
    assert time.perf_counter() - start < 60
    lengths = torch.tensor([len(waveform) for waveform in waveforms]) / SAMPLE_RATE
    assert 0.8 < lengths.min() and lengths.max() < 2.2 and 1.0 < lengths.mean() < 1.8
    peaks = torch.tensor([float(waveform.abs().max()) for waveform in waveforms])
    assert 0.02 < peaks.min() and peaks.max() < 1
    assert all(torch.isfinite(waveform).all() for waveform in waveforms)


def test_waveforms_depend_on_corpus_seed_and_utterance_alone(corpus):
    utterance = corpus.utterances()[137]
    waveform = corpus.dataset([utterance])[0][0]
    assert torch.equal(SyntheticDataModule(seed=5, n_takes=4).dataset([utterance])[0][0], waveform)
    assert not torch.equal(SyntheticDataModule(corpus_seed=1).dataset([utterance])[0][0][:1000], waveform[:1000])


def test_every_attribute_can_be_learnt(corpus):
    train, test = features(corpus, "train"), features(corpus, "test")
    for attribute in ("emotion", "speaker", "gender", "content"):
        known = [utterance.label(attribute) for utterance in corpus.split_utterances("train")]
        asked = [utterance.label(attribute) for utterance in corpus.split_utterances("test")]
        model = make_pipeline(StandardScaler(), SVC(C=10)).fit(train, known)
        assert model.score(test, asked) >= 0.9, attribute


def test_sizes():
    tiny = SyntheticDataModule(n_speakers=2, n_contents=1, n_takes=4)
    assert tiny.n_classes == {"emotion": 5, "speaker": 2, "gender": 2, "content": 1}
    assert [len(tiny.split_utterances(subset)) for subset in ("train", "validation", "test")] == [30, 5, 5]
    assert {u.gender for u in tiny.utterances()} == {0, 1}
    assert tiny.speakers == ("m01", "f02")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_speakers": 3}, "n_speakers is 3"),
        ({"n_speakers": 0}, "n_speakers is 0"),
        ({"n_contents": 7}, "n_contents is 7"),
        ({"n_takes": 0}, "n_takes is 0"),
    ],
)
def test_sizes_out_of_range(kwargs, message):
    with pytest.raises(PseganError, match=message):
        SyntheticDataModule(**kwargs)
