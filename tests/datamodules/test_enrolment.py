"""Batches with enrolment speech: whose speech comes out, what goes in, and that draws depend on nothing but their number."""

import pytest
import soundfile
import torch

from datamodules import EnrolmentDataModule, SyntheticDataModule, write_manifest
from psegan.common.errors import PseganError
from tests.support.corpora import write_corpus


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """``acted`` with emotions and sentences, ``read`` with one long recording each of three speakers; synthetic voices."""
    root = tmp_path_factory.mktemp("voices")
    data = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=3)
    load = data.loader()

    def columns(u):
        return {
            "speaker": data.speakers[u.speaker], "emotion": data.emotions[u.emotion],
            "content": data.contents[u.content], "gender": "female", "text": data.contents[u.content],
            "split": ("train", "validation", "test")[int(u.id[-1]) % 3],
        }  # fmt: skip

    write_corpus(root / "acted", data, columns)
    long = [torch.cat([load(u) for u in data.utterances()[i : i + 9]]) for i in (0, 20, 40)]
    (root / "read").mkdir()
    for i, one in enumerate(long):
        soundfile.write(root / "read" / f"{i}.wav", one.numpy(), 16_000)
    rows = [{"path": f"{i}.wav", "speaker": str(i), "split": "train"} for i in range(len(long))]
    write_manifest(root / "read" / "manifest.csv", rows)
    return str(root)


def corpus(root, **kwargs):
    return EnrolmentDataModule(
        root, ["acted", "read"], calm=["acted/neutral"], speakers_in_batch=3, targets=1, batches=6, validation_batches=2,
        profile_seconds=2.0, piece_seconds=3.0, split_of={"acted": "manifest", "read": "manifest"}, **kwargs,
    )  # fmt: skip


def test_calm_speech_comes_out_and_others_are_enrolled(root):
    data = corpus(root)
    parallel = 0
    for batch in data.train_dataloader():
        speech, calm = batch.speech, {data.emotions.index("acted/neutral"), data.emotions.index("read/unknown")}
        assert {int(speech.emotion[row]) for row in batch.target} <= calm
        for target, source, group, emotional in zip(
            batch.target, batch.source, batch.group, batch.emotional, strict=True
        ):
            enrolled = (batch.enrolled == group).nonzero().squeeze(1)
            assert len(enrolled) and {int(e) for e in speech.emotion[enrolled]} <= calm
            assert (speech.speaker[enrolled] == speech.speaker[target]).all() and target not in enrolled
            if emotional:  # nobody enrols what they protect
                assert speech.id[source] not in {speech.id[row] for row in enrolled}
            assert emotional == speech.id[source].startswith("acted/")
            if target != source:
                parallel += 1
                assert speech.content[target] == speech.content[source] and speech.id[target] != speech.id[source]
    assert parallel > 3


def test_a_long_recording_is_cut_into_pieces_without_a_text(root):
    data = corpus(root, weights={"acted": 0.0})
    batch = next(iter(data.train_dataloader()))
    assert all(id.startswith("read/") for id in batch.speech.id) and set(batch.speech.text) == {None}
    assert int(batch.speech.length.max()) <= 3 * 16_000 and (batch.source == batch.target).all()
    rows = [batch.speech.waveform[i, :n] for i, n in enumerate(batch.speech.length.tolist())]
    for first in batch.target.tolist():
        assert not any(
            torch.equal(rows[first], rows[i]) for i in range(len(rows)) if i != first and batch.enrolled[i] >= 0
        )


def test_draws_depend_on_the_epoch_and_validation_is_always_the_same(root):
    data = corpus(root)
    loader = data.train_dataloader()
    first, again = (sorted(batch.speech.id for batch in loader) for _ in range(2))
    assert first == again
    loader.sampler.set_epoch(1)
    assert sorted(batch.speech.id for batch in loader) != first
    validation = data.val_dataloader()
    heard = [batch.speech.id for batch in validation]
    validation.sampler.set_epoch(5)
    assert [batch.speech.id for batch in validation] == heard
    assert all(id.startswith("acted/") for ids in heard for id in ids)
    assert len(list(data.test_dataloader())) == 2


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"calm": ["acted/serene"]}, "calm names acted/serene, but there are acted/angry, .*"),
        ({"targets": 0}, "targets is 0, but must be at least 1"),
        ({"piece_seconds": 0.0}, "piece_seconds is 0, but must be more than 0"),
        ({"parallel": 1.5}, "parallel is 1.5, but must be a share from 0 to 1"),
        ({"weights": {"read": -1.0}}, "weights holds read: -1, but must not be negative"),
        ({"weights": {"sung": 1.0}}, r"weights names sung, which is none of corpora \(acted, read\)"),
    ],
)
def test_what_cannot_be(root, kwargs, reason):
    with pytest.raises(PseganError, match=f"^{reason}$"):
        EnrolmentDataModule(root, ["acted", "read"], **kwargs)


def test_a_corpus_without_calm_speech_is_refused(root):
    data = EnrolmentDataModule(root, ["acted"], split_of={"acted": "manifest"})
    with pytest.raises(
        PseganError, match="the train set has no speaker with two recordings of calm speech; say in calm"
    ):
        data.train_dataloader()
