"""``psegan enrol`` and ``psegan protect --voice``: whose voice a recording gets, and who is refused."""

import stat

import pytest
import soundfile

from psegan import Voice, cli
from psegan.common.errors import PseganError
from tests.support.protectors import small_anchored, small_protector, speech


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "small"
    small_anchored().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def protect(model, tmp_path):
    def run(*words: object) -> int:
        return cli.run(["protect", *map(str, words), "-o", str(tmp_path / "out"), "--model", model, "--seed", "1"])

    return run


def write(path, seconds=2.0, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech(seconds, seed).numpy(), 16_000)
    return path


def enrol(*words):
    return cli.run(["enrol", *map(str, words)])


def test_enrol_then_protect(protect, tmp_path, capsys):
    calm = [write(tmp_path / "calm" / f"{i}.wav", 6, i) for i in range(3)]
    profile = tmp_path / "me.voice"
    assert enrol(*calm, "-o", profile) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{profile}: ") and "s of speech of 3 recordings; keep it to yourself" in printed.out
    assert f"psegan: warning: {profile}: " in printed.err  # under 20 s of speech
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    assert Voice.load(profile).name == "me"
    source = write(tmp_path / "talk.wav", 3)
    assert protect(source, "--voice", profile) == 0
    drawn = soundfile.info(tmp_path / "out" / "talk.wav").frames
    assert drawn != 48_000
    assert protect(source, "--voice", profile, "--keep-timing", "--existing", "overwrite") == 0
    assert soundfile.info(tmp_path / "out" / "talk.wav").frames == 48_000


def test_a_profile_is_not_replaced_unasked(tmp_path):
    folder = write(tmp_path / "calm" / "a.wav", 14).parent
    profile = tmp_path / "me.voice"
    assert enrol(folder, "-o", profile, "--name", "Ada") == 0 and Voice.load(profile).name == "Ada"
    with pytest.raises(PseganError, match="exists already; choose another name, or say --replace"):
        enrol(folder, "-o", profile)
    assert enrol(folder, "-o", profile, "--replace") == 0 and Voice.load(profile).name == "me"


def test_what_cannot_be_enrolled(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PseganError, match="empty: holds no recordings"):
        enrol(tmp_path / "empty", "-o", tmp_path / "me.voice")
    with pytest.raises(PseganError, match=r"only 1.0 s of speech; a voice profile needs 5 s"):
        enrol(write(tmp_path / "a.wav", 1), "-o", tmp_path / "me.voice")
    with pytest.raises(PseganError, match=r"is a folder; name a file, as .*me\.voice"):
        enrol(tmp_path / "a.wav", "-o", tmp_path)
    folder = write(tmp_path / "mixed" / "._hidden.wav", 1).parent
    (folder / "a.m4a").touch()
    with pytest.raises(PseganError, match=r"a\.m4a: soundfile doesn't read .m4a; convert it first"):
        enrol(folder, "-o", tmp_path / "me.voice")
    with pytest.raises(PseganError, match="no such file"):
        enrol(tmp_path / "none.wav", "-o", tmp_path / "me.voice")
    assert not (tmp_path / "me.voice").exists()


def test_folders_name_speakers(protect, tmp_path, capsys):
    voices = tmp_path / "voices"
    write(voices / "ben" / "calm.wav", 14, 5)
    assert enrol(write(tmp_path / "calm.wav", 14), "-o", tmp_path / "voices" / "ada.voice") == 0
    for name in ("ada/1.wav", "ben/deep/2.wav", "eve/3.wav", "4.wav"):
        write(tmp_path / "in" / name)
    assert protect(tmp_path / "in", "--voice", voices) == 1
    printed = capsys.readouterr()
    made = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.wav"))
    assert made == ["ada/1.wav", "ben/deep/2.wav"]
    whose = f"whose voice it is cannot be told; {voices} has voices of ada, ben: put it into a folder of that name"
    for lost in ("4.wav", "eve/3.wav"):
        assert f"psegan: error: {tmp_path / 'in' / lost}: {whose}" in printed.err
    assert f"psegan: warning: {voices / 'ben'}: " in printed.err


def test_a_recording_in_a_speakers_own_folder(protect, tmp_path, capsys):
    """Named itself, or its folder; and calm recordings that make the profile are not protected with it."""
    calm = write(tmp_path / "voices" / "ada" / "calm.wav", 14)
    source = write(tmp_path / "in" / "ada" / "1.wav")
    assert protect(source, "--voice", tmp_path / "voices") == 0
    assert protect(source.parent, "--voice", tmp_path / "voices", "--existing", "overwrite") == 0
    assert protect(calm, "--voice", tmp_path / "voices") == 1
    assert f"psegan: error: {calm}: is one of the calm recordings in {tmp_path / 'voices'}" in capsys.readouterr().err
    write(tmp_path / "voices" / "ben" / "calm.wav", 1)
    several = [write(tmp_path / "in" / "ben" / f"b{i}.wav") for i in range(2)]
    assert protect(*several, "--voice", tmp_path / "voices") == 1
    assert capsys.readouterr().err.count(f"{tmp_path / 'voices' / 'ben'}: only 1.0 s of speech") == 2


def test_a_recording_is_its_own_profile_if_it_is_long_enough(protect, tmp_path, capsys):
    long, short, shorter = (write(tmp_path / f"{seconds}.wav", seconds) for seconds in (50, 14, 2))
    assert protect(long, short, shorter, "--voice", "self") == 1
    assert (tmp_path / "out" / "50.wav").is_file()
    printed = capsys.readouterr()
    assert printed.out.startswith("protected 1 of 3 recordings")
    remedy = "--voice self needs 20 s of speech: make a profile of calm recordings with psegan enrol"
    assert all(f"psegan: error: {one}: " in printed.err for one in (short, shorter)) and printed.err.count(remedy) == 2


def test_options_that_do_not_fit(protect, tmp_path):
    source = write(tmp_path / "a.wav")
    with pytest.raises(
        PseganError, match="speaks with a voice profile: make one by psegan enrol CALM_RECORDINGS -o me.voice"
    ):
        protect(source)
    with pytest.raises(PseganError, match=r"none.voice: no such file; make one with psegan enrol"):
        protect(source, "--voice", tmp_path / "none.voice")
    with pytest.raises(PseganError, match="--channels apart: a voice profile is of one person"):
        protect(source, "--voice", "self", "--channels", "apart")
    small_protector().save_pretrained(tmp_path / "other")
    for option in (["--voice", "self"], ["--keep-timing"]):
        with pytest.raises(PseganError, match=f"{option[0]}: .* speaks with no voice profile; leave {option[0]} out"):
            cli.run(["protect", str(source), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "other"), *option])
