"""Voice profiles in evaluations: of the speaker's own calm speech, never of what is protected."""

import pytest
import soundfile

from datamodules import SyntheticDataModule
from datamodules.manifest import ManifestDataModule, read_manifest, write_manifest
from psegan.common.errors import PseganError
from psegan.evaluation.corpora import _sources, parts_of, protect_corpus, speaks_with_profiles
from psegan.evaluation.enrolment import Enroller
from psegan.evaluation.specification import Enrolment
from psegan.speech.audio import read_audio
from tests.support.protectors import small_anchored, small_protector, speech


@pytest.fixture
def data():
    return SyntheticDataModule(n_speakers=2, n_contents=4, n_takes=3)


@pytest.mark.parametrize("sentences", ["other", "any"])
def test_profiles(data, sentences):
    enroller = Enroller(data, Enrolment(sentences=sentences))
    neutral = data.emotions.index("neutral")
    for utterance in data.utterances():
        profile = enroller.profile(utterance)
        assert profile and {(u.speaker, u.emotion) for u in profile} == {(utterance.speaker, neutral)}
        assert utterance.id not in {u.id for u in profile}
        same = [u for u in profile if u.content == utterance.content]
        assert bool(same) == (sentences == "any")


def test_no_longer_than_wanted(data):
    utterance = data.utterances()[0]
    lengths = [len(Enroller(data, Enrolment(seconds=s)).profile(utterance)) for s in (0.1, 3, 60)]
    assert lengths[0] == 1 and lengths == sorted(lengths) and lengths[2] == 9


def test_what_is_not_there(data):
    with pytest.raises(PseganError, match=r"enrolment.calm holds 'calm', but .* has .*neutral"):
        Enroller(data, Enrolment(calm=["calm"]))
    with pytest.raises(PseganError, match="1 recording.s., only .* s of speech.*; name more emotions as calm"):
        Enroller(data, Enrolment(seconds=0.1)).speaking_as(small_anchored(), data.utterances()[0])
    alone = SyntheticDataModule(n_speakers=2, n_contents=1, n_takes=1)
    with pytest.raises(PseganError, match="no recording; name more emotions as calm .*or let sentences be any"):
        Enroller(alone, Enrolment()).profile(alone.utterances()[0])


def test_a_corpus_is_protected_speaker_by_speaker(data, tmp_path):
    small_anchored().save_pretrained(tmp_path / "anchored")
    small_protector().save_pretrained(tmp_path / "other")
    parts = parts_of(data, ["test"])
    manifest = protect_corpus(data, parts, str(tmp_path / "anchored"), tmp_path / "made", enrolment=Enrolment())
    rows = read_manifest(manifest)
    load = data.loader()
    lengths = [
        (len(read_audio(manifest.parent / row["path"])), len(load(u))) for row, (_, u) in zip(rows, parts, strict=True)
    ]
    assert len(rows) == len(parts) and any(made != heard for made, heard in lengths)
    assert speaks_with_profiles(tmp_path / "made")
    protect_corpus(data, parts[:2], str(tmp_path / "other"), tmp_path / "without")
    assert not speaks_with_profiles(tmp_path / "without")
    with pytest.raises(PseganError, match="was made with other settings .*sentences"):
        protect_corpus(data, parts, str(tmp_path / "anchored"), tmp_path / "made", enrolment=Enrolment(sentences="any"))


def test_another_calm_recording_makes_another_source(tmp_path):
    """A run that goes on after a recording was replaced must not mix profiles."""
    rows = [
        {"path": f"{i}.wav", "speaker": "ada", "emotion": emotion, "content": content, "split": "test"}
        for i, (emotion, content) in enumerate([("neutral", "a"), ("neutral", "b"), ("angry", "a"), ("angry", "b")])
    ]

    def sources():
        data = ManifestDataModule(str(tmp_path / "list.csv"))
        found = _sources(data, parts_of(data, ["test"]), Enroller(data, Enrolment()))
        return [found[str(i)] for i in range(4)]

    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", speech(0.5, i).numpy(), 16_000)
    write_manifest(tmp_path / "list.csv", rows)
    before = sources()
    soundfile.write(tmp_path / "0.wav", speech(0.5, 9).numpy(), 16_000)
    assert [a == b for a, b in zip(before, sources(), strict=True)] == [False, False, True, False]
