"""Protected corpora: layout, bits, labels, independence of order and processes, resuming, refusals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from datamodules import RAVDESSDataModule, SyntheticDataModule
from datamodules.manifest import ManifestDataModule, read_manifest, write_manifest
from psegan.common import files
from psegan.common.errors import PseganError
from psegan.common.processes import WORTH_A_PROCESS
from psegan.common.random import seeded
from psegan.evaluation import corpora
from psegan.evaluation.corpora import load_corpus, parts_of, protect_corpus
from psegan.speech.audio import read_audio

NOISE = {"class_path": "AdditiveNoise", "init_args": {"snr_db": 10}}


@pytest.fixture
def synthetic():
    """60 utterances to train on, 10 each to validate and test."""
    return SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=2)


def corpus_of(folder: Path, n: int) -> ManifestDataModule:
    """A corpus of ``n`` recordings of 16-bit noise at 16 kHz, all for testing."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        samples = rng.integers(-32768, 32768, 700 + i, dtype=np.int16)
        samples[:2] = -32768, 32767
        soundfile.write(folder / f"{i:02d}.{'flac' if i % 2 else 'wav'}", samples, 16_000, subtype="PCM_16")
    rows = [
        {
            "path": f"{i:02d}.{'flac' if i % 2 else 'wav'}",
            "emotion": "ab"[i % 2],
            "speaker": f"s{i % 3}",
            "split": "test",
        }
        for i in range(n)
    ]
    write_manifest(folder / "list.csv", rows)
    return ManifestDataModule(str(folder / "list.csv"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the journal, whose lines come in the order of the work."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != corpora.JOURNAL)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_layout_lengths_and_manifest(synthetic, tmp_path):
    parts = parts_of(synthetic, ("validation", "test"))
    manifest = protect_corpus(synthetic, parts, NOISE, tmp_path / "out", seed=3)
    assert manifest == tmp_path / "out" / "manifest.csv"
    rows = read_manifest(manifest)
    assert len(rows) == 20
    for row, (stage, utterance) in zip(rows, parts, strict=True):
        assert row["id"] == utterance.id and row["path"] == f"{utterance.id}.flac" and row["split"] == stage
        assert row["emotion"] == synthetic.emotions[utterance.emotion]
        assert row["speaker"] == synthetic.speakers[utterance.speaker]
        assert row["gender"] == synthetic.genders[utterance.gender]
        assert row["content"] == synthetic.contents[utterance.content]
        assert row["protector"] == "AdditiveNoise(snr_db=10.0)" and row["weights"] == row["target"] == ""
        assert row["seed"] == "3"
        about = soundfile.info(tmp_path / "out" / row["path"])
        assert (about.samplerate, about.channels, about.subtype) == (16_000, 1, "PCM_16")
        assert about.frames == len(synthetic.loader()(utterance))
    again = ManifestDataModule(str(manifest))
    assert [u.id for u in again.split_utterances("test")] == [u.id for stage, u in parts if stage == "test"]
    assert sorted(contents(tmp_path / "out")) == sorted([row["path"] for row in rows] + ["manifest.csv"])


def test_identity_reproduces_16_bit_recordings(tmp_path):
    data = corpus_of(tmp_path / "source", 4)
    protect_corpus(data, parts_of(data, ("test",)), "Identity", tmp_path / "out")
    for utterance in data.utterances():
        source, _ = soundfile.read(utterance.path, dtype="int16")
        copy, _ = soundfile.read(tmp_path / "out" / f"{utterance.id}.flac", dtype="int16")
        assert np.array_equal(source, copy)


def test_identity_reproduces_real_recordings(corpora_root, tmp_path):
    data = RAVDESSDataModule(root=str(corpora_root / "ravdess"))
    parts = parts_of(data, ("test",))[::40]
    protect_corpus(data, parts, "Identity", tmp_path)
    for _, utterance in parts:
        assert torch.equal(read_audio(tmp_path / f"{utterance.id}.flac"), read_audio(utterance.path))


def test_processes_order_and_company_change_nothing(synthetic, tmp_path):
    parts = parts_of(synthetic, ("train",))
    assert len(parts) > 2 * WORTH_A_PROCESS
    protect_corpus(synthetic, parts, NOISE, tmp_path / "one")
    threads = torch.get_num_threads()
    protect_corpus(synthetic, parts, NOISE, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    protect_corpus(synthetic, parts[7:3:-1], NOISE, tmp_path / "few")
    whole, few = contents(tmp_path / "one"), contents(tmp_path / "few")
    assert len(few) == 5 and all(few[name] == whole[name] for name in few if name != "manifest.csv")
    assert torch.get_num_threads() == threads


def test_the_seed_changes_the_draws(synthetic, tmp_path):
    parts = parts_of(synthetic, ("test",))
    for seed in (0, 1):
        protect_corpus(synthetic, parts, NOISE, tmp_path / str(seed), seed=seed)
    zero, one = contents(tmp_path / "0"), contents(tmp_path / "1")
    assert zero.keys() == one.keys() and all(zero[name] != one[name] for name in zero)


KILLED = """
import os, signal, sys
from datamodules import SyntheticDataModule
from psegan.evaluation import corpora

def note(self, id, target, source, note=corpora.Journal.note):
    if len(self.targets) == 13:
        with self.path.open("a") as file:
            file.write('{"id": "torn')
        os.kill(os.getpid(), signal.SIGKILL)
    note(self, id, target, source)

if __name__ == "__main__":
    corpora.Journal.note = note
    data = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=2)
    spec = {"class_path": "AdditiveNoise", "init_args": {"snr_db": 10}}
    corpora.protect_corpus(data, corpora.parts_of(data, ["train"]), spec, sys.argv[1], workers=2)
"""


def test_a_killed_run_goes_on(synthetic, tmp_path):
    out = tmp_path / "out"
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    # its workers hold the other end of the pipe: this returns when they have ended as well
    killed = subprocess.run([sys.executable, script, out], capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (out / "manifest.csv").exists(), "the manifest comes last"
    (out / f"{files._PREFIX}0123456789abcdef.flac").write_bytes(b"torn")
    noted = [json.loads(line)["id"] for line in (out / corpora.JOURNAL).read_text().splitlines()[1:-1]]
    assert len(noted) == 13
    before = {id: (out / f"{id}.flac").stat().st_mtime_ns for id in noted}

    parts = parts_of(synthetic, ("train",))
    protect_corpus(synthetic, parts, NOISE, out)
    assert {id: (out / f"{id}.flac").stat().st_mtime_ns for id in noted} == before, "what is done is not made again"
    protect_corpus(synthetic, parts, NOISE, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")
    lines = (out / corpora.JOURNAL).read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines[1:]) == sorted(utterance.id for _, utterance in parts)


def test_a_torn_header_is_begun_anew(synthetic, tmp_path):
    parts = parts_of(synthetic, ("test",))
    (tmp_path / corpora.JOURNAL).write_text('{"psegan": "prot')
    protect_corpus(synthetic, parts, NOISE, tmp_path)
    assert json.loads((tmp_path / corpora.JOURNAL).read_text().splitlines()[0])["seed"] == 0


def test_a_complete_folder_is_left_alone_and_a_lost_file_made_again(synthetic, tmp_path, capsys):
    parts = parts_of(synthetic, ("test",))
    protect_corpus(synthetic, parts, NOISE, tmp_path, label="making noise")
    assert "making noise: 100%" in capsys.readouterr().err
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    protect_corpus(synthetic, parts, NOISE, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == made
    assert capsys.readouterr().err == ""

    before = contents(tmp_path)
    lost = tmp_path / f"{parts[3][1].id}.flac"
    lost.unlink()
    protect_corpus(synthetic, parts, NOISE, tmp_path)
    assert contents(tmp_path) == before
    assert [path for path, at in made.items() if path.stat().st_mtime_ns != at and path.suffix == ".flac"] == [lost]


def test_a_folder_of_other_settings_is_refused(synthetic, tmp_path):
    parts, out = parts_of(synthetic, ("test",)), tmp_path / "out"
    protect_corpus(synthetic, parts, NOISE, out)
    before = contents(out)
    louder = {"class_path": "AdditiveNoise", "init_args": {"snr_db": 0}}
    for changed, *arguments in (
        ("seed was 0, now 1", synthetic, parts, NOISE, out, 1),
        ("protector.init_args.snr_db was 10.0, now 0.0", synthetic, parts, louder, out),
    ):
        with pytest.raises(PseganError, match=f"was made with other settings .{changed}.*remove it") as caught:
            protect_corpus(*arguments)
        assert "\n" not in str(caught.value)
    others = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=2, corpus_seed=1)
    with pytest.raises(PseganError, match="was made from another recording of that name; remove the folder"):
        protect_corpus(others, parts, NOISE, out)
    assert contents(out) == before


def test_a_folder_of_before_the_modules_moved_goes_on(synthetic, tmp_path):
    parts = parts_of(synthetic, ("test",))
    protect_corpus(synthetic, parts, NOISE, tmp_path)
    journal = tmp_path / corpora.JOURNAL
    journal.write_text(journal.read_text().replace("psegan.protection.controls.", "psegan.protectors."))
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    protect_corpus(synthetic, parts, NOISE, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_utterances_may_join_later(synthetic, tmp_path):
    tested, trained = parts_of(synthetic, ("test",)), parts_of(synthetic, ("train",))
    protect_corpus(synthetic, tested, NOISE, tmp_path / "out")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.flac")}
    protect_corpus(synthetic, [*tested, *trained], NOISE, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in made} == made
    protect_corpus(synthetic, [*tested, *trained], NOISE, tmp_path / "at once")
    assert contents(tmp_path / "out") == contents(tmp_path / "at once")
    rows = read_manifest(protect_corpus(synthetic, tested[:2], NOISE, tmp_path / "out"))
    assert len(rows) == len(tested) + len(trained), "none is forgotten"


def test_a_changed_recording_is_found_wherever_it_stands(tmp_path):
    data = corpus_of(tmp_path / "source", 5)
    manifest = protect_corpus(data, parts_of(data, ("test",)), "Identity", tmp_path / "out")
    before = {row["id"]: row["sha256"] for row in read_manifest(manifest)}
    assert len(set(before.values())) == 5
    path = parts_of(data, ("test",))[3][1].path
    soundfile.write(path, np.full(1000, 0.25), 16_000)
    with pytest.raises(PseganError, match="was made from another recording of that name"):
        protect_corpus(data, parts_of(data, ("test",)), "Identity", tmp_path / "out")


def test_folders_of_something_else_are_refused(synthetic, tmp_path):
    parts = parts_of(synthetic, ("test",))
    (tmp_path / "mine.txt").touch()
    with pytest.raises(PseganError, match="holds files that are no protected corpus; choose another folder"):
        protect_corpus(synthetic, parts, NOISE, tmp_path)
    with pytest.raises(PseganError, match=r"mine.txt: cannot be made .File exists"):
        protect_corpus(synthetic, parts, NOISE, tmp_path / "mine.txt")
    with pytest.raises(PseganError, match="mine.txt/out: cannot be made"):
        protect_corpus(synthetic, parts, NOISE, tmp_path / "mine.txt" / "out")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / corpora.JOURNAL).write_text("no JSON\n")
    with pytest.raises(PseganError, match="journal.jsonl: is damaged"):
        protect_corpus(synthetic, parts, NOISE, tmp_path / "x")
    with pytest.raises(PseganError, match="number of workers is 0"):
        protect_corpus(synthetic, parts, NOISE, tmp_path / "y", workers=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_recording_is_named(tmp_path, workers):
    data = corpus_of(tmp_path / "source", 2 * WORTH_A_PROCESS)
    broken = tmp_path / "source" / "30.wav"
    broken.write_bytes(b"RIFF no audio")
    parts = parts_of(data, ("test",))
    with pytest.raises(PseganError, match=r"source/30\.wav: cannot be read as audio") as caught:
        protect_corpus(data, parts, "Identity", tmp_path / "out", workers=workers)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.csv").exists()
    soundfile.write(broken, np.zeros(100), 16_000)
    protect_corpus(data, parts, "Identity", tmp_path / "out")
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == len(parts)


def test_a_defect_names_the_file_as_well(tmp_path):
    data = corpus_of(tmp_path / "source", 2)
    data.loader = lambda: lambda utterance: torch.zeros(2, 3) if utterance.id == "01" else torch.zeros(3)
    with pytest.raises(RuntimeError, match=r"source/01\.flac: cannot be protected .RuntimeError: stft"):
        protect_corpus(data, parts_of(data, ("test",)), "CopySynthesis", tmp_path / "out")


def test_targets_are_named(synthetic, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "support")
    spec, parts = {"class_path": "draws.Draws"}, parts_of(synthetic, ("test",))
    rows = read_manifest(protect_corpus(synthetic, parts, spec, tmp_path / "out"))
    drawn = [seeded(0, "protect", u.id) for _, u in parts]
    assert [row["target"] for row in rows] == [
        synthetic.emotions[int(torch.randint(5, (), generator=g))] for g in drawn
    ]
    assert {row["weights"] for row in rows} == {"0123456789abcdef"}
    (tmp_path / "out" / parts[0][1].id).with_suffix(".flac").unlink()
    again = read_manifest(protect_corpus(synthetic, parts, spec, tmp_path / "out"))
    assert again == rows, "targets of what is not made again are kept"
    other = corpus_of(tmp_path / "source", 3)  # two emotions, which are none of the protector's
    rows = read_manifest(protect_corpus(other, parts_of(other, ("test",)), spec, tmp_path / "other"))
    assert all(row["target"].startswith("class ") for row in rows)


def test_a_corpus_from_a_file(tmp_path):
    path = tmp_path / "corpus.yaml"
    path.write_text("data: {class_path: datamodules.EmoDBDataModule, init_args: {root: here, fold: 2}}\nmodel: {}\n")
    assert load_corpus(path).root == "here"
    data = load_corpus(path, "there")
    assert data.root == "there" and data.fold == 2
    for text, message in (
        ("model: {}", "names no corpus under 'data'"),
        ("data: {class_path: datamodules.Nothing}", "datamodules.Nothing is no CorpusDataModule"),
        ("data: {class_path: datamodules.EmoDBDataModule}", "EmoDBDataModule: .*required: init_args.root"),
        ("data: {class_path: datamodules.SyntheticDataModule, init_args: {n_takes: 0}}", "n_takes is 0"),
    ):
        path.write_text(text)
        with pytest.raises(PseganError, match=message) as caught:
            load_corpus(path)
        assert "\n" not in str(caught.value)


def test_a_protector_that_changes_under_way_is_refused(synthetic, monkeypatch, tmp_path):
    protector = corpora.load_protector(NOISE)
    monkeypatch.setattr(corpora, "load_protector", lambda spec: protector)  # of this process; others load it anew
    protector.snr_db = 20.0
    with pytest.raises(PseganError, match="the protector changed while it was loaded .*snr_db was 20.0, now 10.0"):
        protect_corpus(synthetic, parts_of(synthetic, ("train",)), NOISE, tmp_path, workers=2)
