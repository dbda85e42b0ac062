"""``psegan data``: downloads from a local server, and checks of small broken trees."""

import argparse
import hashlib
import io
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datamodules import EmoDBDataModule, NEMODataModule, read_manifest
from psegan.common.errors import PseganError
from psegan.data.command import add_arguments, main

RATE = 16_000


def run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args([str(word) for word in words]))


def audio(seconds: float = 0.1, seed: int = 0, rate: int = RATE, channels: int = 1, **kwargs) -> bytes:
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, (round(seconds * rate), channels))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **({"format": "WAV", "subtype": "PCM_16"} | kwargs))
    return file.getvalue()


def zipped(members: dict[str, bytes], **attributes: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes.get("external_attr", 0o644 << 16)
            archive.writestr(info, content)
    return file.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one file with Range; may drop the connection after some bytes, refuse Range, or answer an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.drop_after: int | None = None
        self.ranges = True
        self.status: int | None = None
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/corpus.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.status is not None:
            self.send_error(server.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        total = len(server.content)
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked and server.ranges else 200)
        if asked and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        end = total if server.drop_after is None else min(total, start + server.drop_after)
        self.wfile.write(server.content[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


EMODB = {"erkennung.txt": b"x", "wav/03a01Fa.wav": audio(seed=1), "wav/03a01Nc.wav": audio(1.0, seed=2)}


def test_download_verifies_and_unpacks(server, tmp_path, capsys):
    server.content = zipped(EMODB)
    digest = hashlib.md5(server.content).hexdigest()
    root = tmp_path / "data" / "emodb"
    assert run("download", "emodb", "--root", root, "--url", server.url, "--checksum", f"md5:{digest}") == 0
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*")) == sorted(EMODB)
    assert (root / "wav/03a01Fa.wav").read_bytes() == EMODB["wav/03a01Fa.wav"]
    assert [path.name for path in root.parent.iterdir()] == ["emodb"]
    out = capsys.readouterr().out
    assert f"2 recordings in {root}" in out and "sha256" not in out


def test_download_without_published_checksum_prints_what_it_got(server, tmp_path, capsys):
    server.content = zipped(EMODB)
    (tmp_path / "emodb").mkdir()  # an empty folder is no obstacle
    assert run("download", "emodb", "--root", tmp_path / "emodb", "--url", server.url) == 0
    assert f"sha256:{hashlib.sha256(server.content).hexdigest()}" in capsys.readouterr().out


def test_download_in_a_folder_of_the_archive(server, tmp_path):
    name = "Audio_Speech_Actors_01-24/Actor_01/03-01-01-01-01-01-01.wav"
    server.content = zipped({name: audio()})
    root = tmp_path / "ravdess"
    assert run("download", "ravdess", "--root", root, "--url", server.url, "--checksum", "none") == 0
    assert (root / "Actor_01/03-01-01-01-01-01-01.wav").is_file()


@pytest.mark.parametrize("ranges", [True, False])
def test_download_resumes(server, tmp_path, ranges):
    server.content = zipped(EMODB)
    server.drop_after = 16_384
    words = ("download", "emodb", "--root", tmp_path / "emodb", "--url", server.url)
    with pytest.raises(PseganError, match="16384 bytes are kept; run the same command again to resume") as caught:
        run(*words)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "emodb").exists()
    server.drop_after, server.ranges = None, ranges
    assert run(*words) == 0
    assert server.asked == [None, "bytes=16384-"]
    assert (tmp_path / "emodb/wav/03a01Nc.wav").read_bytes() == EMODB["wav/03a01Nc.wav"]


def test_download_resumes_what_is_complete_or_too_long(server, tmp_path):
    server.content = zipped(EMODB)
    for number, partial in enumerate((server.content, server.content + b"more")):
        root = tmp_path / str(number)
        store = root.with_name(f"{number}.download")
        store.mkdir()
        (store / "corpus.zip.part").write_bytes(partial)
        assert run("download", "emodb", "--root", root, "--url", server.url) == 0


def test_wrong_checksum_starts_afresh(server, tmp_path):
    server.content = zipped(EMODB)
    words = ("download", "emodb", "--root", tmp_path / "emodb", "--url", server.url)
    with pytest.raises(PseganError, match="checksum is not md5:0{32}, so it was removed"):
        run(*words, "--checksum", "md5:" + "0" * 32)
    assert not (tmp_path / "emodb").exists()
    assert list((tmp_path / "emodb.download").iterdir()) == []
    assert run(*words) == 0
    assert server.asked == [None, None]


def test_ravdess_checksum_holds_for_mirrors(server, tmp_path):
    server.content = zipped({"Actor_01/03-01-01-01-01-01-01.wav": audio()})
    with pytest.raises(PseganError, match="checksum is not md5:bc696df654c87fed845eb13823edef8a"):
        run("download", "ravdess", "--root", tmp_path / "r", "--url", server.url)


def test_damaged_archive_is_fetched_anew(server, tmp_path):
    whole = zipped(EMODB)
    server.content = whole.replace(EMODB["wav/03a01Fa.wav"][100:200], b"\0" * 100)
    words = ("download", "emodb", "--root", tmp_path / "emodb", "--url", server.url)
    with pytest.raises(PseganError, match="is damaged and was removed"):
        run(*words)
    server.content = b"<html>not found</html>"
    with pytest.raises(PseganError, match="is damaged"):
        run(*words)
    server.content = whole
    assert run(*words) == 0


@pytest.mark.parametrize("name", ["../evil.wav", "/tmp/evil.wav", "wav/../../evil.wav", "C:/evil.wav", "..\\evil.wav"])
def test_nothing_is_written_outside_of_the_folder(server, tmp_path, name):
    server.content = zipped(EMODB | {name: b"x"})
    root = tmp_path / "a" / "b" / "emodb"
    assert run("download", "emodb", "--root", root, "--url", server.url) == 0
    (evil,) = tmp_path.rglob("*evil*")
    assert evil.is_relative_to(root)


def test_links_are_files_and_sizes_are_refused(server, tmp_path):
    server.content = zipped({"wav/03a01Fa.wav": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    assert run("download", "emodb", "--root", tmp_path / "emodb", "--url", server.url) == 0
    link = tmp_path / "emodb" / "wav" / "03a01Fa.wav"
    assert not link.is_symlink() and link.read_bytes() == b"/etc/passwd"
    from psegan.data.fetch import unpack

    (tmp_path / "big.zip").write_bytes(zipped(EMODB))
    with pytest.raises(PseganError, match="would unpack to .* more than 1000"):
        unpack(tmp_path / "big.zip", tmp_path / "unpacked", 1000)


def test_archive_of_something_else(server, tmp_path):
    server.content = zipped({"Actor_01/03-01-01-01-01-01-01.wav": audio()})
    with pytest.raises(PseganError, match="does not hold Emo-DB"):
        run("download", "emodb", "--root", tmp_path / "emodb", "--url", server.url)
    assert list(tmp_path.iterdir()) == []


def test_download_refusals(server, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(PseganError, match="already holds files and is left as it is"):
        run("download", "emodb", "--root", tmp_path / "full", "--url", server.url)
    with pytest.raises(PseganError, match="full/x: is a file"):
        run("download", "emodb", "--root", tmp_path / "full" / "x", "--url", server.url)
    with pytest.raises(PseganError, match="not an http or https address"):
        run("download", "emodb", "--root", tmp_path / "e", "--url", "ftp://example.org/x.zip")
    for address in ("http://[::1/x.zip", "http:///x.zip", f"http://{'a' * 99}/x.zip"):
        with pytest.raises(PseganError, match="not an http or https address"):
            run("download", "emodb", "--root", tmp_path / "e", "--url", address)
    with pytest.raises(PseganError, match="must be ALGORITHM:HEX"):
        run("download", "emodb", "--root", tmp_path / "e", "--url", server.url, "--checksum", "123")
    assert server.asked == []


def test_network_failures(server, tmp_path):
    server.status = 404
    with pytest.raises(PseganError, match="the server answers 404"):
        run("download", "emodb", "--root", tmp_path / "e", "--url", server.url)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(
        PseganError, match=r"download failed \(Connection refused\).*; run the same command again"
    ) as caught:
        run("download", "emodb", "--root", tmp_path / "e", "--url", f"http://127.0.0.1:{port}/x.zip")
    assert "\n" not in str(caught.value)


@pytest.fixture
def emodb(tmp_path) -> Path:
    """All 535 names with short noise."""
    (tmp_path / "wav").mkdir()
    for number, id in enumerate(EmoDBDataModule.complete_ids()):
        (tmp_path / f"{id}.wav").write_bytes(audio(0.01, seed=number))
    return tmp_path


def test_check_of_a_complete_corpus(emodb, capsys):
    assert run("check", "emodb", "--root", emodb) == 0
    out = capsys.readouterr().out
    assert "535 of 535 recordings" in out and "All is well." in out
    table = [line.split() for line in out.splitlines()]
    assert ["08", "12", "10", "·", "6", "11", "9", "10", "58"] in table
    assert ["all", "127", "81", "46", "69", "71", "62", "79", "535"] in table


def test_check_lists_everything_that_is_wrong(emodb, capsys):
    wav = emodb / "wav"
    (wav / "03a01Fa.wav").unlink()
    (wav / "03a01Nc.wav").write_bytes(b"RIFF no audio")
    (wav / "03a01Wa.wav").write_bytes(audio(0.0))
    soundfile.write(wav / "03a02Fc.wav", np.zeros(100), RATE)
    soundfile.write(wav / "03a02Nc.wav", np.array([0.1, np.nan, 0.1]), RATE, subtype="FLOAT")
    (wav / "03a02Ta.wav").write_bytes((wav / "03a02Wb.wav").read_bytes())
    (wav / "03a02Wc.wav").write_bytes(audio(0.01, rate=8000))
    (wav / "03a04Ad.wav").write_bytes(audio(0.01, channels=2))
    (wav / "03a04Fd.wav").write_bytes(audio(0.01, subtype="PCM_24"))
    (wav / "03a04Wz.wav").write_bytes(audio(0.01, seed=9999))
    opposite = np.array([[1, -1]]) * np.random.default_rng(1).uniform(-0.3, 0.3, (1_000, 1))
    soundfile.write(wav / "03a05Nd.wav", opposite, RATE, subtype="PCM_16")
    cut = wav / "03a05Aa.wav"
    cut.write_bytes(cut.read_bytes()[: 44 + 200])
    (wav / "strange.wav").write_bytes(audio(0.01))
    soundfile.write(wav / "16a01Fc.flac", np.ones(10), RATE)
    assert run("check", "emodb", "--root", emodb) == 1
    out = capsys.readouterr().out
    kinds, kind = {}, ""
    for line in out[out.index("missing:") :].splitlines():
        if line.startswith("  "):
            kinds[kind].append(line)
        else:
            kind = line.partition(":")[0]
            kinds[kind] = []
    for kind, names in {
        "missing": ["03a01Fa"],
        "unexpected": ["03a04Wz"],
        "unparsable": ["16a01Fc", "strange"],
        "unreadable": [
            "03a01Nc.wav: cannot be read as audio",
            "03a01Wa.wav: holds no samples",
            "03a02Nc.wav: holds samples that",
            "03a05Aa.wav: is cut short (100 of 160 samples are there); replace it by an intact copy",
        ],
        "silent": ["03a02Fc"],
        "duplicated": ["wav/03a02Ta = wav/03a02Wb"],
        "odd format": [
            "03a02Wc.wav: 8000 Hz",
            "03a04Ad.wav: 2 channels that differ",
            "03a04Fd.wav: WAV PCM_24",
            "03a05Nd.wav: 2 channels that differ, they cancel one another, so that only channel 1 is read",
        ],
    }.items():
        assert len(kinds[kind]) == len(names), kind
        assert all(name in line for name, line in zip(names, kinds[kind], strict=True)), kind
    assert "14 problems, see above." in out


def test_check_knows_the_oddities_of_ravdess(tmp_path, capsys):
    folder = tmp_path / "Actor_07"
    folder.mkdir()
    for name in ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"):
        (folder / f"{name}.wav").write_bytes(audio(0.1, rate=48_000))
    noise = np.random.default_rng(3).uniform(-0.3, 0.3, (100, 1))
    soundfile.write(folder / "03-01-01-01-01-01-07.wav", np.repeat(noise, 2, axis=1), 48_000, subtype="PCM_16")
    assert run("check", "ravdess", "--root", tmp_path) == 1
    out = capsys.readouterr().out
    assert "missing:    1437" in out and "duplicated: none" in out and "odd format: none" in out
    assert "note: Actor_07/03-01-03-01-02-01-07 and Actor_07/03-01-03-01-02-02-07 are identical, as published" in out
    assert "note: Actor_07/03-01-01-01-01-01-07 is stereo with equal channels" in out


def test_check_of_copies_in_opus(tmp_path, capsys):
    for seed, name in enumerate(("anger_1", "fear_2")):
        content = audio(0.1, seed, rate=(24_000, 16_000)[seed], format="OGG", subtype="OPUS")
        path = tmp_path / "EB0" / f"EB0_{name}.opus"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "manifest.csv").write_text("no recording")
    assert run("check", "nemo", "--root", tmp_path) == 1
    out = capsys.readouterr().out
    assert "nEMO in" in out and "missing:    4479" in out and "odd format: none" in out and "unreadable: none" in out
    assert "1 × OGG 16000 Hz OPUS" in out and "1 × OGG 24000 Hz OPUS" in out
    assert "note: 2 are Opus: copies, nearly the published recordings, not exactly" in out
    data = NEMODataModule(str(tmp_path))
    assert [len(data.loader()(utterance)) for utterance in data.utterances()] == [1_600, 1_600]


def test_what_is_no_zip_file_is_got_otherwise(tmp_path):
    with pytest.raises(PseganError, match=r"nEMO is published as no zip file; get it with `git clone https://.*/nEMO "):
        run("download", "nemo", "--root", tmp_path / "nemo")


def test_check_of_a_missing_folder(tmp_path):
    with pytest.raises(PseganError, match="no such folder; download"):
        run("check", "emodb", "--root", tmp_path / "nowhere")


@pytest.mark.parametrize("corpus", ["ravdess", "emodb"])  # nEMO takes a minute
def test_real_corpora_are_whole(corpora_root, corpus, capsys):
    assert run("check", corpus, "--root", corpora_root / corpus) == 0
    assert "All is well." in capsys.readouterr().out


@pytest.fixture
def overlay(tmp_path) -> Path:
    """A corpus file: 10 utterances each to validate and test."""
    path = tmp_path / "corpus.yaml"
    init_args = "{n_speakers: 4, n_contents: 2, n_takes: 2}"
    path.write_text(f"data: {{class_path: datamodules.SyntheticDataModule, init_args: {init_args}}}\n")
    return path


def test_protect_writes_a_corpus(overlay, tmp_path, capsys):
    spec = tmp_path / "noise.yaml"
    spec.write_text("class_path: psegan.protection.controls.AdditiveNoise\ninit_args: {snr_db: 20}\n")
    out = tmp_path / "out"
    words = ("protect", "--corpus", overlay, "--protector", spec, "--out", out, "--split", "validation", "--seed", 4)
    assert run(*words) == 0
    assert capsys.readouterr().out.strip() == str(out / "manifest.csv")
    rows = read_manifest(out / "manifest.csv")
    assert {(row["split"], row["seed"], row["protector"]) for row in rows} == {
        ("validation", "4", "AdditiveNoise(snr_db=20.0)")
    }
    assert len(list(out.rglob("*.flac"))) == len(rows) == 10
    assert run(*words) == 0, "complete"


def test_protect_takes_all_parts_by_default(overlay, tmp_path):
    run("protect", "--corpus", overlay, "--protector", "Identity", "--out", tmp_path / "out", "--workers", 1)
    splits = [row["split"] for row in read_manifest(tmp_path / "out" / "manifest.csv")]
    assert splits == ["train"] * 60 + ["validation"] * 10 + ["test"] * 10


def test_protect_reads_the_corpus_in_data_root(emodb, tmp_path):
    overlay = tmp_path / "emodb.yaml"
    overlay.write_text("data: {class_path: datamodules.EmoDBDataModule, init_args: {root: nowhere}}\n")
    words = ("protect", "--corpus", overlay, "--protector", "Identity", "--split", "validation", "--workers", 1)
    assert run(*words, "--data-root", emodb, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out" / "wav").glob("*.flac"))) == 35
    with pytest.raises(PseganError, match="nowhere: no such folder"):
        run(*words, "--out", tmp_path / "other")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protector", "Identitty"), "Identitty is no Transform"),
        (("--protector", "Identity", "--corpus", "missing.yaml"), "missing.yaml: cannot be read"),
        (("--protector", "Identity", "--data-root", "here"), "SyntheticDataModule: does not accept option 'root'"),
        (("--protector", "Identity", "--workers", "0"), "the number of workers is 0"),
    ],
)
def test_protect_refusals(overlay, tmp_path, words, message):
    with pytest.raises(PseganError, match=message) as caught:
        run("protect", "--corpus", overlay, "--out", tmp_path / "out", *words)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
