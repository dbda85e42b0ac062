"""Two corpora as one: splits of each, ids and classes apart, loaders of each."""

from collections import Counter

import pytest
import soundfile
import torch

from datamodules import EmoDBDataModule, JointDataModule, RAVDESSDataModule, SpeechDataset
from datamodules.splits import SUBSETS
from psegan.common.errors import PseganError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Both corpora, complete in name, a tenth of a second each."""
    root = tmp_path_factory.mktemp("both")
    for name, corpus in (("ravdess", RAVDESSDataModule), ("emodb", EmoDBDataModule)):
        for i, id in enumerate(corpus.complete_ids()):
            path = root / name / f"{id}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, torch.full((1_600,), (i + 1) / 2_000).numpy(), 16_000)
    return str(root)


def test_parts_are_those_of_both(root):
    joint = JointDataModule(root=root)
    assert joint.corpus == "ravdess+emodb"
    for subset in SUBSETS:
        members = [member.split_utterances(subset) for member in joint.members]
        found = joint.split_utterances(subset)
        assert len(found) == sum(map(len, members))
        assert {u.id for u in found} == {
            f"{m.corpus}/{u.id}" for m, part in zip(joint.members, members, strict=True) for u in part
        }
    assert joint.language is None and {member.language for member in joint.members} == {"en", "de"}
    assert joint.n_classes == {"emotion": 15, "speaker": 34, "gender": 2, "content": 12}


def test_labels_and_recordings_are_those_of_the_corpus(root):
    joint = JointDataModule(root=root, batch_size=7, crop_seconds=0.05)
    for utterance in joint.utterances()[::400]:
        member = {m.corpus: m for m in joint.members}[utterance.id.partition("/")[0]]
        (own,) = [u for u in member.utterances() if f"{member.corpus}/{u.id}" == utterance.id]
        for attribute in ("emotion", "speaker", "content"):
            name = member.classes[attribute][own.label(attribute)]
            assert joint.classes[attribute][utterance.label(attribute)] == f"{member.corpus}/{name}"
        assert joint.genders[utterance.gender] == member.genders[own.gender]
        assert torch.equal(joint.loader()(utterance), member.loader()(own))
    batch = next(iter(joint.train_dataloader()))
    assert batch.waveform.shape == (7, 800)


def test_speakers_can_be_kept_apart(root):
    joint = JointDataModule(root=root, split="speaker-disjoint", fold=2)
    speakers = [{u.speaker for u in joint.split_utterances(subset)} for subset in SUBSETS]
    assert not speakers[0] & speakers[2] and not speakers[1] & speakers[2]
    assert joint.n_folds == 6
    with pytest.raises(PseganError, match="fold 0 to 5 only"):
        JointDataModule(root=root, split="speaker-disjoint", fold=6).setup()


def test_a_small_corpus_is_repeated_in_training_alone(root):
    once, often = JointDataModule(root=root), JointDataModule(root=root, repeats={"emodb": 4}, crop_seconds=0.05)
    expected = {"ravdess": 1_200, "emodb": 400}
    dataset = often.train_dataloader().dataset
    assert Counter(u.id.partition("/")[0] for u in dataset.utterances) == expected
    assert often.split_utterances("train") == once.split_utterances("train")
    assert len(often.val_dataloader().dataset) == len(once.val_dataloader().dataset)


@pytest.mark.parametrize("repeats", [{"emodb": 0}, {"timit": 2}])
def test_repeats_that_mean_nothing(repeats):
    with pytest.raises(PseganError, match="repeats holds"):
        JointDataModule(root="nowhere", repeats=repeats)


@pytest.mark.parametrize(
    ("corpora", "message"),
    [([], "each once"), (["ravdess", "ravdess"], "each once"), (["ravdess", "timit"], "no nowhere/timit/manifest.csv")],
)
def test_what_is_no_joint_corpus(corpora, message):
    with pytest.raises(PseganError, match=message):
        JointDataModule(root="nowhere", corpora=corpora)


@pytest.fixture
def with_manifests(root, tmp_path):
    """RAVDESS beside a corpus whose manifest names a split without a validation set, and one that knows speakers alone."""
    (tmp_path / "ravdess").symlink_to(f"{root}/ravdess")
    for name, header in (("read", "path,speaker,gender,split"), ("books", "path,speaker")):
        lines = [header]
        for i in range(10):
            path = tmp_path / name / f"{i}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, torch.full((1_600,), (i + 1) / 50 + len(name) / 500).numpy(), 16_000)
            subset = "train" if i < 6 else "test"
            lines.append(f"{i}.wav,s{i},male,{subset}" if name == "read" else f"{i}.wav,s{i}")
        (tmp_path / name / "manifest.csv").write_text("\n".join(lines))
    return str(tmp_path)


def test_corpora_with_a_manifest_join_by_the_name_of_their_folder(with_manifests):
    joint = JointDataModule(
        root=with_manifests,
        corpora=["ravdess", "read", "books"],
        split_of={"books": "speaker-disjoint"},
        crop_seconds=0.05,
    )
    joint.setup("fit")
    assert joint.corpus == "ravdess+read+books"
    assert joint.genders == ("male", "female", "unknown")
    assert joint.n_classes["speaker"] == 24 + 10 + 10
    counts = {s: Counter(u.id.partition("/")[0] for u in joint.split_utterances(s)) for s in SUBSETS}
    assert counts["train"] == {"ravdess": 1_200, "read": 6, "books": 6}
    assert counts["validation"] == {"ravdess": 120, "books": 2}  # the other manifest names no validation set
    assert counts["test"] == {"ravdess": 120, "read": 4, "books": 2}
    (unknown,) = [u for u in joint.utterances() if u.id == "books/3"]
    assert joint.genders[unknown.gender] == "unknown" and joint.emotions[unknown.emotion] == "books/unknown"
    batch = next(iter(joint.train_dataloader()))
    assert batch.waveform.shape == (16, 800)


def test_a_split_of_no_corpus(with_manifests):
    with pytest.raises(PseganError, match="split_of names books"):
        JointDataModule(root=with_manifests, corpora=["ravdess", "read"], split_of={"books": "speaker-disjoint"})


def test_whose_speakers_are_trained_on(with_manifests):
    def speakers(**kwargs) -> Counter[str]:
        joint = JointDataModule(
            root=with_manifests, corpora=["ravdess", "read", "books"], split="speaker-disjoint",
            split_of={"read": "manifest"}, **kwargs,
        )  # fmt: skip
        known = {u.speaker for subset in ("train", "validation") for u in joint.subsets()[subset]}
        return Counter(joint.speakers[speaker].partition("/")[0] for speaker in known)

    every, protectors = speakers(), speakers(speakers="protector", speakers_of={"books": "all"})
    assert every["ravdess"] == 20 and protectors["ravdess"] == 8
    assert protectors["read"] == every["read"] and protectors["books"] == every["books"]
    with pytest.raises(PseganError, match="speakers_of names emodb"):
        speakers(speakers_of={"emodb": "all"})


def test_the_loudest_of_several_crops_is_taken(root):
    waveform = torch.cat([torch.zeros(8_000), torch.ones(2_000), torch.zeros(8_000)])
    utterances = JointDataModule(root=root).utterances()[:1]

    def loudness(draws: int) -> float:
        dataset = SpeechDataset(utterances, lambda _: waveform, 2_000, crop_draws=draws)
        return sum(float(dataset[epoch, 0][0].sum()) for epoch in range(50))

    assert loudness(4) > 2 * loudness(1) > 0
