"""``psegan protect`` as a user meets it: trees, formats, long recordings, and everything that can be wrong with a file."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from psegan import cli
from psegan.common.errors import PseganError
from psegan.speech.audio import AudioReader, audio_writer, read_audio
from tests.support.mpeg import mp3, naked, wave
from tests.support.protectors import small_protector, speech


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "small"
    small_protector().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def protect(model, tmp_path):
    """Run the command into ``tmp_path / "out"``; gives its exit status."""

    def run(*words: object) -> int:
        return cli.run(["protect", *map(str, words), "-o", str(tmp_path / "out"), "--model", model])

    return run


def write(path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1, **kwargs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = speech(seconds, rate=rate).numpy()
    format = {"format": "OGG"} if path.suffix == ".opus" else {}  # which soundfile has no name for
    soundfile.write(path, np.stack([waveform] * channels, 1), rate, **format, **kwargs)
    return path


def test_a_tree_is_kept(protect, tmp_path, capsys):
    source = tmp_path / "in"
    for name in ("a.wav", "deep/er/b.flac", "deep/c.ogg"):
        write(source / name)
    (source / "notes.txt").write_text("who said what")
    write(source / ".hidden.wav")
    write(source / ".hidden" / "more.wav")
    assert protect(source) == 0
    out = tmp_path / "out"
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == ["a.wav", "deep/c.ogg", "deep/er/b.flac"]
    printed = capsys.readouterr()
    assert printed.out.startswith(f"protected 3 of 3 recordings into {out}: 1.5 s of speech in ")
    assert "times real time" in printed.out
    assert printed.err.splitlines() == [
        f"psegan: left out of {source}: what is hidden (2, {source / '.hidden'} first), "
        f"what is no recording (1, {source / 'notes.txt'} first)"
    ]


def special_files(folder: Path) -> list[Path]:
    """A link to itself, a pipe, a socket and a device, all called as recordings are."""
    names = [folder / f"{kind}.wav" for kind in ("device", "loop", "pipe", "socket")]
    names[0].symlink_to("/dev/zero")
    names[1].symlink_to("loop.wav")
    os.mkfifo(names[2])
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(names[3]))  # whose path may have a hundred bytes only
    return names


def test_what_is_no_regular_file_is_left_out(protect, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "in"
    write(source / "a.wav")
    (source / "linked.wav").symlink_to("a.wav")
    first, *_ = special = special_files(source)
    assert protect(source) == 0
    assert capsys.readouterr().err == f"psegan: left out of {source}: pipes, devices and the like (4, {first} first)\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "linked.wav"]
    for path in special:
        with pytest.raises(PseganError, match=rf"{path.name}: (is a pipe or a device|cannot be read)"):
            protect(path)
    (source / "lost.wav").symlink_to("nowhere.wav")
    assert protect(source, "--existing", "overwrite") == 1
    assert f"psegan: error: {source / 'lost.wav'}: no such file" in capsys.readouterr().err


def test_names_of_any_length_and_with_any_characters(protect, tmp_path, capsys):
    source = tmp_path / "in"
    names = ["n" * 251 + ".wav", "two\nlines.wav", "a\tb.wav"]
    for name in names:
        write(source / name)
    bad = source / "no\n\x1b[31mspeech.wav"
    bad.write_text("none")
    assert protect(source) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"psegan: error: {source}/no\\n\\x1b[31mspeech.wav: cannot be read as audio")


def test_what_a_run_beside_this_one_has_finished_is_there_already(protect, tmp_path, capsys, monkeypatch):
    from psegan.protection.conversion import ConversionProtector

    source, out = write(tmp_path / "a.wav"), tmp_path / "out" / "a.wav"
    own = ConversionProtector.protect

    def protect_beside(self, blocks, draws):
        out.write_bytes(b"the other's")
        yield from own(self, blocks, draws)

    monkeypatch.setattr(ConversionProtector, "protect", protect_beside)
    assert protect(source, "--existing", "skip") == 0
    printed = capsys.readouterr()
    assert printed.out == f"protected 0 of 1 recordings into {out.parent}; there already: 1\n" and printed.err == ""
    assert [(path.name, path.read_bytes()) for path in out.parent.iterdir()] == [("a.wav", b"the other's")]
    out.unlink()
    assert protect(source) == 1
    assert f"psegan: error: {out}: exists already" in capsys.readouterr().err


def test_several_folders_keep_their_names(protect, tmp_path, capsys):
    for name in ("calls/2019/001.wav", "calls/2020/001.wav", "more/001.wav"):
        write(tmp_path / name)
    (tmp_path / "more" / "phone.M4A").write_bytes(b"any")
    assert protect(tmp_path / "calls" / "2019", tmp_path / "calls" / "2020", tmp_path / "more") == 1
    out = tmp_path / "out"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.wav")) == [
        "2019/001.wav", "2020/001.wav", "more/001.wav",
    ]  # fmt: skip
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"psegan: error: {tmp_path}/more/phone.M4A: soundfile doesn't read .m4a; convert it first")


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.wav", 8_000, 1, "PCM_16"), ("b.wav", 48_000, 2, "PCM_24"), ("c.wav", 192_000, 1, "FLOAT"),
        ("d.flac", 44_100, 7, "PCM_16"), ("e.ogg", 22_050, 1, "VORBIS"), ("f.aiff", 11_025, 1, "PCM_16"),
        ("g.mp3", 32_000, 2, "MPEG_LAYER_III"), ("h.wav", 8_000, 1, "ULAW"), ("i.opus", 24_000, 1, "OPUS"),
        ("j.ogg", 48_000, 2, "OPUS"),
    ],
)  # fmt: skip
def test_formats_rates_and_channels(protect, tmp_path, name, rate, channels, subtype):
    source = write(tmp_path / name, 0.7, rate, channels, subtype=subtype)
    out = tmp_path / "out" / name
    before = soundfile.info(str(source))
    for words, wanted in (((), 16_000), (("--keep-rate", "--existing", "overwrite"), rate)):
        assert protect(source, *words) == 0
        about = soundfile.info(str(out))
        assert (about.samplerate, about.channels) == (wanted, 1)
        assert (about.format, about.subtype) == (before.format, before.subtype)
        lossy = subtype == "MPEG_LAYER_III"  # its frames have a length of their own
        assert abs(about.frames - before.frames * wanted / rate) <= (3_000 if lossy else 1)
        if wanted == rate and not lossy:
            assert about.frames == before.frames


def test_a_long_recording_is_protected_as_it_would_be_in_one_piece(protect, model, tmp_path):
    source = write(tmp_path / "long.wav", 70.0, 22_050, subtype="FLOAT")
    assert protect(source, "--seed", 5) == 0
    from psegan.common.random import seeded
    from psegan.protection.protector import Protector

    protector = Protector.from_pretrained(model)
    draws = protector.draw(seeded(5, "protect", "long"))
    waveform = read_audio(source)
    mel, frames = protector.front_end(waveform[None], torch.tensor([len(waveform)]))
    with torch.inference_mode():
        converted = protector.scaler.inverse(protector.conversion(protector.scaler(mel), frames, draws))
        whole = protector.vocoder(converted, frames)[0, : len(waveform)].clamp(-1, 1)
    torch.testing.assert_close(read_audio(tmp_path / "out" / "long.wav"), whole, rtol=0, atol=1e-4)


def test_a_seed_repeats_whatever_else_is_protected(protect, tmp_path):
    source = tmp_path / "in"
    files = [write(source / f"{i}.wav", 0.3 + i / 5) for i in range(4)]
    written = []
    for words in ((source, "--seed", 1), (*files[::-1], "--seed", 1), (source, "--seed", 2), (source,), (source,)):
        assert protect(*words, "--existing", "overwrite") == 0
        written.append([read_audio(tmp_path / "out" / f"{i}.wav") for i in range(4)])
    assert all(torch.equal(one, other) for one, other in zip(written[0], written[1], strict=True))
    assert not torch.equal(torch.cat(written[0]), torch.cat(written[2]))
    assert not torch.equal(torch.cat(written[3]), torch.cat(written[4])), "targets and noise are secret by default"


def test_files_that_are_there_stay_by_default(protect, tmp_path, capsys):
    source = write(tmp_path / "a.wav")
    write(tmp_path / "b.wav")
    assert protect(source) == 0
    out = tmp_path / "out" / "a.wav"
    before = out.read_bytes()
    assert protect(source, tmp_path / "b.wav") == 1
    printed = capsys.readouterr()
    assert f"psegan: error: {out}: exists already" in printed.err
    assert "protected 1 of 2 recordings" in printed.out and "; failed: 1" in printed.out
    assert out.read_bytes() == before
    assert protect(source, tmp_path / "b.wav", "--existing", "skip") == 0
    assert "; there already: 2" in capsys.readouterr().out
    assert out.read_bytes() == before
    assert protect(source, "--existing", "overwrite") == 0
    assert out.read_bytes() != before


def test_a_recording_is_never_replaced(model, tmp_path):
    """Neither by its own protected copy nor by another's."""
    own = write(tmp_path / "a" / "x.wav")
    other = write(tmp_path / "b" / "x.wav")
    before = own.read_bytes(), other.read_bytes()
    for words in (
        [own, "-o", own.parent],
        [tmp_path / "a", other, "-o", tmp_path / "b"],
        [own.parent, "-o", own.parent],
    ):
        with pytest.raises(PseganError, match="would be replaced by a protected recording|would both become"):
            cli.run(["protect", *map(str, words), "--model", model, "--existing", "overwrite"])
    nested = tmp_path / "b" / "sub" / "x.wav"
    write(nested)
    with pytest.raises(PseganError, match="would"):
        words = [str(tmp_path / "a"), str(nested.parent), "-o", str(tmp_path / "b")]
        cli.run(["protect", *words, "--model", model, "--existing", "overwrite"])
    assert (own.read_bytes(), other.read_bytes()) == before


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "x.wav"
    with pytest.raises(PseganError, match="exists already"), audio_writer(path, replace=False) as append:
        append(torch.zeros(100))
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"
    assert [found.name for found in tmp_path.iterdir()] == ["x.wav"]


def test_links_are_followed_once(protect, tmp_path):
    source = tmp_path / "in"
    write(tmp_path / "elsewhere" / "a.wav")
    write(source / "own.wav")
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(source)
    assert protect(source) == 0
    found = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.wav")]
    assert sorted(found) == ["link/a.wav", "own.wav"]


def test_a_folder_that_may_not_be_looked_into(protect, tmp_path, capsys, monkeypatch):
    """As root everything may be, so the refusal is the system's call's."""
    source = tmp_path / "in"
    write(source / "a.wav")
    closed = source / "closed"
    closed.mkdir()
    scan = os.scandir

    def refusing(path):
        if Path(os.fsdecode(path)) == closed:
            raise PermissionError(13, "Permission denied", str(closed))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert protect(source) == 1
    assert f"psegan: error: {closed}: cannot be read (Permission denied)" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.wav").exists()


def test_odd_names_and_odd_formats(protect, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    soundfile.write(os.fsencode(odd), speech(0.5).numpy(), 16_000)
    gsm = write(tmp_path / "gsm.wav", 0.5, 8_000, subtype="GSM610")
    raw = tmp_path / "x.raw"
    raw.write_bytes(bytes(100))
    assert protect(odd, gsm) == 0
    assert protect(raw) == 1
    assert sorted(os.fsencode(path.name) for path in (tmp_path / "out").iterdir()) == [b"caf\xe9.wav", b"gsm.wav"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_run_leaves_nothing_half_written(model, tmp_path, end):
    write(tmp_path / "long.wav", 600.0)
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "psegan.cli",
        "protect",
        str(tmp_path / "long.wav"),
        "-o",
        str(out),
        "--model",
        model,
    ]
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    deadline = time.monotonic() + 60
    # in the moment between the making of a file and its first byte, nobody tidies up but the next run
    while (
        not any(path.stat().st_size for path in out.glob("*"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(end)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + end, stderr
    assert "Traceback" not in stderr
    assert list(out.iterdir()) == []


def test_what_was_protected_before_is_not_protected_again(model, tmp_path):
    """The output folder may lie in the folder of the recordings."""
    write(tmp_path / "a.wav")
    for _ in range(2):
        words = ["protect", str(tmp_path), "-o", str(tmp_path / "safe"), "--model", model, "--existing", "overwrite"]
        assert cli.run(words) == 0
    assert [path.name for path in (tmp_path / "safe").rglob("*.wav")] == ["a.wav"]


def bad(name: str, folder: Path) -> Path:
    """A file that is no good, made under a name that says why."""
    path = folder / f"{name}.wav"
    if name == "text":
        path.write_text("this is not a recording\n" * 100)
    elif name == "video":
        path = folder / "video.mp4"
        path.write_bytes(b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(2_000))
    elif name == "empty":
        soundfile.write(path, np.zeros((0, 1)), 16_000)
    elif name == "nothing":
        path.touch()
    elif name == "nan":
        soundfile.write(path, np.array([0.0, np.nan] * 8_000, dtype=np.float32), 16_000, subtype="FLOAT")
    elif name == "late nan":  # in the second half minute, when the first has been written
        samples = speech(40.0).numpy()
        samples[-1] = np.inf
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    elif name == "rate":
        soundfile.write(path, np.zeros(1_000), 500)
    elif name == "cut":  # its header still has the whole length
        path = write(folder / "cut.mp3", 5.0, 32_000)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif name == "short":
        write(path, 2.0)
        path.write_bytes(path.read_bytes()[: 44 + 20_000])
    elif name == "torn":
        write(path, 2.0)
        path.write_bytes(path.read_bytes()[:30])
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text", "cannot be read as audio"), ("video", "soundfile doesn't read .mp4"), ("empty", "holds no samples"),
        ("nothing", "cannot be read as audio"), ("nan", "NaN or infinite"), ("late nan", "NaN or infinite"),
        ("rate", "of 500 Hz"), ("torn", "cannot be read as audio"), ("cut", "is cut short"),
        ("short", "is cut short (10000 of 32000 samples are there)"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line_and_the_rest_is_protected(protect, tmp_path, capsys, name, reason):
    good = [write(tmp_path / f"{i}.wav") for i in range(2)]
    path = bad(name, tmp_path)
    assert protect(good[0], path, good[1]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"psegan: error: {path}: ") and reason in line
    assert sorted(found.name for found in (tmp_path / "out").iterdir()) == ["0.wav", "1.wav"]


def test_short_and_clipped_recordings_are_protected(protect, tmp_path, capsys):
    short = write(tmp_path / "short.wav", 0.03)
    clipped = tmp_path / "clipped.wav"
    soundfile.write(clipped, (20 * speech(1.0)).clamp(-1, 1).numpy(), 16_000)
    beyond = tmp_path / "beyond.wav"
    soundfile.write(beyond, (20 * speech(1.0)).numpy(), 16_000, subtype="FLOAT")
    assert protect(short, clipped, beyond) == 0
    lines = capsys.readouterr().err.splitlines()
    for path in (clipped, beyond):
        assert sum(line.startswith(f"psegan: warning: {path}: clipped (") for line in lines) == 1
    assert soundfile.info(str(tmp_path / "out" / "short.wav")).frames == 480


def test_what_comes_out_clipped_is_said(tmp_path, capsys):
    small_protector(level=6.0).save_pretrained(tmp_path / "loud")  # twice full scale
    source = write(tmp_path / "a.wav", 2.0)
    assert cli.run(["protect", str(source), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "loud")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    samples, _ = soundfile.read(tmp_path / "out" / "a.wav")
    share = (abs(samples) >= 32767 / 32768).mean()
    assert share > 0.001
    named = f"psegan: warning: {tmp_path}/out/a.wav: came out clipped"
    assert line == f"{named} ({share:.1%} of its samples are at full scale)"


def test_what_cannot_be_written_becomes_a_wav_file(protect, tmp_path, capsys):
    """MP3 within WAV keeps its name; a format that has no rate of 16 kHz has another ending."""
    wrapped, psion = tmp_path / "call.WAV", tmp_path / "memo.wve"
    wrapped.write_bytes(wave(naked(mp3())))
    soundfile.write(psion, speech(1.0, rate=8_000).numpy(), 8_000, "ALAW", format="WVE")
    assert protect(wrapped, psion) == 0
    out = tmp_path / "out"
    assert capsys.readouterr().err.splitlines() == [
        f"psegan: {wrapped}: MPEG_LAYER_III in WAV at 16000 Hz cannot be written, so {out}/call.WAV is a 16-bit WAV file",
        f"psegan: {psion}: ALAW in WVE at 16000 Hz cannot be written, so {out}/memo.wav is a 16-bit WAV file",
    ]
    for name, frames in (("call.WAV", len(read_audio(wrapped))), ("memo.wav", 16_000)):
        about = soundfile.info(out / name)
        assert (about.format, about.subtype, about.samplerate, about.frames) == ("WAV", "PCM_16", 16_000, frames)
    assert protect(wrapped, psion, "--existing", "skip") == 0
    printed = capsys.readouterr()
    assert "; there already: 2" in printed.out and printed.err == ""
    assert protect(psion, "--keep-rate") == 0
    about = soundfile.info(out / "memo.wve")
    assert (about.format, about.frames) == ("WVE", 8_000)
    with pytest.raises(PseganError, match=r"memo.wve and .*memo.wav would both become .*memo.wav"):
        protect(write(tmp_path / "memo.wav"), psion)


def test_channels_that_cancel_are_said_and_the_louder_is_protected(protect, tmp_path, capsys):
    waveform = speech(2.0)
    for name, channels in (("a", [-0.9 * waveform, waveform]), ("b", [waveform, waveform]), ("c", [waveform])):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "x.wav", torch.stack(channels, 1).numpy(), 16_000, "FLOAT")
    written = []
    for name in "abc":
        assert protect(tmp_path / name / "x.wav", "--seed", 1, "--existing", "overwrite") == 0
        written.append(read_audio(tmp_path / "out" / "x.wav"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"psegan: warning: {tmp_path}/a/x.wav: channels cancel one another, so that only channel 2")
    assert torch.equal(written[0], written[2]) and torch.equal(written[1], written[2])


def test_channels_apart(protect, model, tmp_path):
    """Each party of a call stays in a channel of its own, protected by draws of its own."""
    from psegan.common.random import of_utterance
    from psegan.protection.protector import Protector

    source = tmp_path / "x.wav"
    one = speech(20.0)
    soundfile.write(source, torch.stack([one, speech(20.0, seed=1), one], 1).numpy(), 16_000, "FLOAT")
    assert protect(source, "--channels", "apart", "--seed", 3) == 0
    apart, _ = soundfile.read(tmp_path / "out" / "x.wav", dtype="float32")
    assert apart.shape == (320_000, 3)
    protector = Protector.from_pretrained(model)
    targets = set()
    for channel in range(3):
        draws = protector.draw(of_utterance(3, f"x/{channel + 1}"))
        targets.add(int(draws["target"]))
        alone = torch.cat(list(protector.protect(AudioReader(source, channel).blocks(), draws)))
        torch.testing.assert_close(torch.from_numpy(apart[:, channel]), alone, rtol=0, atol=1e-6)
    assert len(targets) > 1
    assert abs(apart[:, 0] - apart[:, 2]).max() > 0, "two channels have the same draws"


@pytest.mark.parametrize("name", ["x.flac", "x.mp3", "x.ogg"])
def test_channels_apart_in_every_format(protect, tmp_path, name):
    source = write(tmp_path / name, 0.7, 22_050, 2)
    before = soundfile.info(source)
    for words, rate in (((), 16_000), (("--keep-rate", "--existing", "overwrite"), 22_050)):
        assert protect(source, "--channels", "apart", *words) == 0
        about = soundfile.info(tmp_path / "out" / name)
        assert (about.format, about.subtype) == (before.format, before.subtype)
        assert (about.channels, about.samplerate) == (2, rate)
        assert name == "x.mp3" or abs(about.frames - before.frames * rate / 22_050) <= 1


def test_a_single_channel_apart_is_as_ever(protect, tmp_path):
    source = write(tmp_path / "a.wav", 1.0)
    written = []
    for channels in ("mix", "apart"):
        assert protect(source, "--seed", 1, "--channels", channels, "--existing", "overwrite") == 0
        written.append((tmp_path / "out" / "a.wav").read_bytes())
    assert written[0] == written[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(protect, tmp_path, capsys):
    path = write(tmp_path / "secret.wav")
    path.chmod(0)
    assert protect(path, write(tmp_path / "open.wav")) == 1
    assert f"{path}: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "seconds"), [("long.wav", 60.0), ("a.flac", 1.0), ("a.ogg", 2.0), ("a.mp3", 3.0)])
def test_a_disk_that_is_full(model, tmp_path, name, seconds):
    """A file may not grow beyond a few kilobytes here: one fails and leaves nothing, the short one is protected."""
    write(tmp_path / "in" / name, seconds)
    write(tmp_path / "in" / "z.wav", 0.05)
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000)); "
    code = f"import sys; {limit} from psegan.cli import main; sys.exit(main())"
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", code, "protect", str(tmp_path / "in"), "-o", str(out), "--model", model],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"psegan: error: {out / name}: cannot be written")
    assert [path.name for path in out.iterdir()] == ["z.wav"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.wav"], "missing.wav: no such file"),
        (["n" * 300], "cannot be read (File name too long)"),
        (["empty"], "empty: holds no recordings"),
        (["a.wav", "other/a.wav"], "would both become"),
        (["a.wav", "--target", "bored"], "target emotion 'bored' is not known; there are neutral, happy, sad"),
        (["a.wav", "--device", "abacus"], "--device abacus: cannot be used"),
        (["a.wav", "--vocoder", "abacus"], "vocoder 'abacus' is not known"),
        (["a.wav", "--device", "meta"], "--device meta: cannot be used"),
        (
            ["a.wav", "--model", "no-such/model"],
            "no-such/model: cannot be loaded (there is no such folder, and the hub",
        ),
        (["a.wav", "--model", "./no-such"], "./no-such: is no folder; released here are"),
        (["a.wav", "--model", "n" * 300], "is no folder; released here are"),
        (["a.wav", "--model", ""], "'': is no folder"),
    ],
)
def test_what_cannot_be_begun(protect, tmp_path, monkeypatch, words, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.wav")
    write(tmp_path / "other" / "a.wav")
    (tmp_path / "empty").mkdir()
    model = ["--model", words[words.index("--model") + 1]] if "--model" in words else []
    with pytest.raises(PseganError) as caught:
        protect(*words) if not model else cli.run(["protect", *words, "-o", "out"])
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_output_folder(model, tmp_path):
    source = write(tmp_path / "a.wav")
    with pytest.raises(PseganError, match="is a file, not a folder"):
        cli.run(["protect", str(source), "-o", str(source), "--model", model])


def test_an_interrupted_run_goes_on(protect, tmp_path):
    source = tmp_path / "in"
    for i in range(3):
        write(source / f"{i}.wav")
    out = tmp_path / "out"
    assert protect(source) == 0
    (out / "1.wav").unlink()
    shutil.copy(source / "2.wav", out / ".2.half.wav")  # what a kill leaves behind is not taken for anything
    before = (out / "0.wav").read_bytes()
    assert protect(source, "--existing", "skip") == 0
    assert (out / "0.wav").read_bytes() == before and (out / "1.wav").exists()
