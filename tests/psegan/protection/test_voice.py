"""Voice profiles: what is kept of recordings, what is warned of, and what is no profile."""

import json
import stat
from dataclasses import replace

import pytest
import soundfile
import torch
from safetensors.torch import save_file

from datamodules import SyntheticDataModule
from psegan.common.errors import PseganError
from psegan.protection import voice as module
from psegan.protection.voice import Voice


@pytest.fixture(scope="module")
def speech():
    """Calm recordings of one synthetic speaker, and such of an angry one."""
    data = SyntheticDataModule(n_speakers=2, n_contents=4, n_takes=2)
    load = data.loader()

    def of(emotion: str) -> list[torch.Tensor]:
        wanted = data.emotions.index(emotion)
        return [load(u) for u in data.utterances() if u.speaker == 0 and u.emotion == wanted]

    return {emotion: of(emotion) for emotion in ("neutral", "angry")}


@pytest.fixture(scope="module")
def enrolled(speech):
    return Voice.enrol(speech["neutral"], "Ada")


def test_what_is_kept(enrolled, speech):
    assert enrolled.name == "Ada" and len(enrolled.lengths) == len(speech["neutral"])
    assert enrolled.mel.shape == (80, int(enrolled.lengths.sum())) == (80, len(enrolled.energy))
    assert 5 < enrolled.seconds < sum(len(one) for one in speech["neutral"]) / 16_000
    voiced = enrolled.log_pitch > 0
    assert 0.2 < voiced.float().mean() < 1 and 60 < enrolled.log_pitch[voiced].exp().median() < 500


def test_recordings_are_brought_to_one_level_and_silence_around_them_is_cut(speech):
    padded = [
        torch.cat([torch.zeros(16_000), one * (1.0, 0.25)[i % 2], torch.zeros(8000)])
        for i, one in enumerate(speech["neutral"])
    ]
    made, plain = Voice.enrol(padded), Voice.enrol(speech["neutral"])
    assert (made.lengths - plain.lengths).abs().max() <= 21 and made.seconds == pytest.approx(plain.seconds, rel=0.15)
    loudest = [voice.energy.quantile(0.9).item() for voice in (made, plain)]
    assert loudest[0] == pytest.approx(loudest[1], abs=0.05) and made.level == pytest.approx(
        plain.level - 0.69, abs=0.02
    )


def test_a_silent_recording_changes_nothing(enrolled, speech):
    with_silence = Voice.enrol([*speech["neutral"], torch.zeros(16_000)])
    assert torch.equal(with_silence.mel, enrolled.mel) and with_silence.measured == enrolled.measured


def test_a_profile_comes_back_and_is_its_owners_alone(enrolled, tmp_path):
    path = tmp_path / "ada.voice"
    enrolled.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read = Voice.load(path)
    for name in module.TENSORS:
        assert torch.allclose(getattr(read, name), getattr(enrolled, name), atol=1e-2)
    for name in ("level", "name", "enrolled", "measured"):
        assert getattr(read, name) == getattr(enrolled, name)
    with pytest.raises(PseganError, match="exists already; choose another name"):
        enrolled.save(path)
    replace(enrolled, name="Eve").save(path, replace=True)
    assert Voice.load(path).name == "Eve"


def test_files_are_as_good_as_waveforms(enrolled, speech, tmp_path):
    for i, one in enumerate(speech["neutral"]):
        soundfile.write(tmp_path / f"{i}.wav", one.numpy(), 16_000, "FLOAT")
    assert torch.equal(Voice.enrol(sorted(tmp_path.iterdir())).mel, enrolled.mel)


def test_concerns_say_what_was_measured(enrolled, speech):
    noisy = Voice.enrol(
        [one + 0.05 * torch.randn(len(one), generator=torch.Generator().manual_seed(0)) for one in speech["neutral"]]
    )
    assert any("dB below the speech" in one for one in noisy.concerns())
    clipped = Voice.enrol([(20 * one).clamp(-1, 1) for one in speech["neutral"]])
    assert any(one.startswith("clipped (") for one in clipped.concerns())
    assert any("sounds may be missing" in one for one in enrolled.concerns())
    wide = replace(enrolled, measured={**enrolled.measured, "pitch_semitones": 14.0})
    assert any("over 14 semitones" in one for one in wide.concerns())
    calm = replace(enrolled, measured={"speech_seconds": 30.0, "snr_db": 40.0, "pitch_semitones": 5.0})
    assert calm.concerns() == []


@pytest.mark.parametrize("recordings", [[], [torch.zeros(160_000)], [torch.randn(8000)]])
def test_too_little_speech_is_refused(recordings):
    with pytest.raises(PseganError, match="a voice profile needs"):
        Voice.enrol(recordings)


def test_what_is_no_profile(enrolled, tmp_path):
    path = tmp_path / "x.voice"
    with pytest.raises(PseganError, match="psegan enrol"):
        Voice.load(path)
    path.write_bytes(b"no profile")
    with pytest.raises(PseganError, match="is no voice profile, or is damaged; make one with psegan enrol"):
        Voice.load(path)
    save_file({"mel": torch.zeros(80, 4)}, path)
    with pytest.raises(PseganError, match="is no voice profile"):
        Voice.load(path)
    about = {"version": 1, "level": 0.0, "name": "", "enrolled": "", "measured": {}}
    tensors = {name: getattr(enrolled, name) for name in module.TENSORS}
    for broken in ({**about, "measured": [1]}, {"version": 1}):
        save_file(tensors, path, {"psegan voice": json.dumps(broken)})
        with pytest.raises(PseganError, match="is no voice profile"):
            Voice.load(path)
    for damaged in (
        {"energy": enrolled.energy[:-1]},
        {"lengths": enrolled.lengths[:-1]},
        {"mel": enrolled.mel * torch.inf},
    ):
        replace(enrolled, **damaged).save(path, replace=True)
        with pytest.raises(PseganError, match="is damaged; make one with psegan enrol again"):
            Voice.load(path)


def test_another_version_is_refused_whatever_it_holds(tmp_path):
    save_file({"codes": torch.zeros(4)}, tmp_path / "new.voice", {"psegan voice": json.dumps({"version": 2})})
    with pytest.raises(
        PseganError, match="is a voice profile of version 2, but 1 is needed; make one with psegan enrol again"
    ):
        Voice.load(tmp_path / "new.voice")
