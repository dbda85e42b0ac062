"""What psegan makes of malformed inputs: each command in a process of its own, with a time limit, and what is wrong with that.

A part of the campaign yields the name of each case, and its fault, or None: a traceback, a crash, no answer in time, a failure
without a line that says so, speech that was lost without a word, or harm to what lay beside it.
"""

import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import soundfile
import yaml

from psegan.common.errors import PseganError, printable
from psegan.report.results import Results, Row
from psegan.speech.audio import SAMPLE_RATE, read_audio
from tests.robustness import malformed
from tests.robustness.malformed import Malformed
from tests.robustness.place import PATIENCE, REPOSITORY, Place

LOSSY = 4_096 / malformed.RATE
"""Seconds that formats with padding may be shorter by."""
LISTED = 18
"""Files that `psegan data check` lists in full, and says no more of than that there are others."""
Faults = Iterator[tuple[str, str | None]]


def sampled(cases: Sequence[Malformed], count: int | None) -> list[Malformed]:
    """So many of the cases, spread over them; None for all."""
    if count is None or count >= len(cases):
        return list(cases)
    return [cases[i * len(cases) // count] for i in range(count)]


def write(folder: Path, cases: Sequence[Malformed]) -> None:
    """Write the cases' files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        (folder / case.name).write_bytes(case.content)


def recordings_are_protected(place: Place, seed: int, count: int | None) -> Faults:
    """All in one folder, beside good ones: each is protected whole or fails, and the good ones are as if alone."""
    cases = sampled(malformed.recordings(seed), count)
    good = [Malformed(f"neighbour-{n}.wav", malformed.good_recording(), malformed.SECONDS) for n in range(3)]
    write(place.folder / "in", cases)
    for name in ("in", "alone"):
        write(place.folder / name, good)
    odd = _odd_files(place.folder / "in")
    command = ["--model", "psegan-ravdess", "--seed", "0"]
    alone = place.run("protect", "alone", "-o", "alone-out", *command)
    assert alone.status == 0, alone.said
    outcome = place.run("protect", "in", "-o", "out", *command, patience=PATIENCE + len(cases))
    yield "the command", outcome.fault
    for case in cases:
        yield case.name, _protected(place.folder, case, outcome.said)
    for case in good:
        ours, theirs = (place.folder / name / case.name for name in ("out", "alone-out"))
        same = ours.is_file() and ours.read_bytes() == theirs.read_bytes()
        yield case.name, None if same else "differs from what it is alone"
    for name in odd:
        yield name, "was written" if (place.folder / "out" / name).exists() else None
    left = [path.name for path in (place.folder / "out").glob(".*")]
    yield "the folder", f"holds {left}" if left else None


def _protected(folder: Path, case: Malformed, said: str) -> str | None:
    """What is wrong with what became of one recording."""
    place = folder / "out" / case.name
    made = [path for path in (place, place.with_suffix(".wav")) if path.is_file()]
    told = [line for line in said.splitlines() if line.startswith(f"psegan: error: in/{printable(case.name)}:")]
    if not made:
        return None if told else "neither protected nor named in an error"
    if told:
        return f"was written in spite of: {told[0]}"
    samples, rate = soundfile.read(os.fsencode(made[0]))
    seconds = len(samples) / rate
    if case.seconds is not None and seconds < case.seconds - _padding(case):
        return f"{seconds:.3f} of {case.seconds:.3f} s are left, and nothing says so"
    if case.seconds == malformed.SECONDS and case.name not in malformed.SILENT and abs(samples).max() < 1e-3:
        return "came out silent, and nothing says so"
    return None


def _odd_files(folder: Path) -> list[str]:
    """Put things into a folder that are named like recordings and are none."""
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "nowhere.wav").symlink_to("none/nowhere.wav")
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    here = Path.cwd()
    os.chdir(folder)  # a socket's path may have no more than 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("socket.wav")
    finally:
        os.chdir(here)
    return ["loop.wav", "nowhere.wav", "folder.wav", "pipe.wav", "socket.wav"]


def recordings_are_checked(place: Place, seed: int, count: int | None) -> Faults:
    """As files of RAVDESS: ``psegan data check`` names each that has lost speech."""
    cases = [case for case in malformed.recordings(seed) if case.name.endswith((".wav", ".flac"))]
    cases = [case for case in sampled(cases, count) if case.name not in malformed.NAMES]
    for first in range(0, len(cases), LISTED):
        yield from _checked(place, cases[first : first + LISTED], f"ravdess-{first}")


def _checked(place: Place, cases: Sequence[Malformed], root: str) -> Faults:
    names = {}
    for n, case in enumerate(cases):
        names[case.name] = (
            f"Actor_01/03-01-{1 + n % 8:02d}-01-{1 + n // 8 % 2:02d}-{1 + n // 16:02d}-01.{case.name[-4:].strip('.')}"
        )
        path = place.folder / root / names[case.name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.content)
    outcome = place.run("data", "check", "ravdess", "--root", root)
    yield (
        root,
        None if outcome.status == 1 and "problems, see above" in outcome.said else outcome.fault or "finds all well",
    )
    for case in cases:
        whole = _read(case, place.folder) == "whole"
        named = any(names[case.name] in line for line in outcome.said.splitlines())
        yield case.name, None if whole or named else "is not whole, and is not listed"


def _read(case: Malformed, folder: Path) -> str:
    """What reading a recording gives: ``whole``, ``shorter``, or ``nothing``, since it is refused."""
    path = folder / f"read-{case.name}"
    path.write_bytes(case.content)
    try:
        seconds = len(read_audio(path)) / SAMPLE_RATE
    except PseganError:
        return "nothing"
    return "shorter" if case.seconds is not None and seconds < case.seconds - _padding(case) else "whole"


def _padding(case: Malformed) -> float:
    """Seconds by which what comes of a recording may be shorter."""
    return LOSSY if case.content[:4] == b"OggS" or "mp3" in case.name.lower() else 0.001


def recordings_are_trained_on(place: Place, seed: int, count: int | None) -> Faults:
    """One among good ones: a training uses it whole or ends with a line."""
    cases = [case for case in malformed.recordings(seed) if case.name not in malformed.NAMES]
    for n, case in enumerate(sampled(cases, count)):
        folder = place.folder / f"corpus-{n}"
        _corpus(folder, {1: case})
        outcome = place.run(*_fit(folder / "manifest.csv", f"run-{n}"))
        read = _read(case, place.folder)
        silent = f"was trained on, though {read} of it can be read" if outcome.status == 0 and read != "whole" else None
        yield case.name, outcome.fault or silent
        shutil.rmtree(folder)
        shutil.rmtree(place.folder / f"run-{n}", ignore_errors=True)


def _corpus(
    folder: Path,
    others: dict[int, Malformed],
    manifest: bytes = malformed.MANIFEST.encode(),
    name: str = "manifest.csv",
) -> None:
    """Eight recordings and their manifest, some of the recordings replaced."""
    write(folder, [Malformed(f"{n}.wav", malformed.good_recording()) for n in range(8) if n not in others])
    for n, case in others.items():
        (folder / f"{n}.wav").unlink(missing_ok=True)
        shown = f"{n}.{case.name.rpartition('.')[2]}"
        (folder / shown).write_bytes(case.content)
        manifest = manifest.replace(f"{n}.wav".encode(), shown.encode())
    (folder / name).write_bytes(manifest)


def _fit(manifest: Path, run: str) -> list[str]:
    """A short training on a manifest."""
    return [
        "fit", "--config=experiments/classifier.yaml", "--config=experiments/corpora/manifest.yaml",
        f"--data.init_args.manifest={manifest}", "--data.init_args.batch_size=2", "--trainer.max_epochs=1",
        "--trainer.enable_progress_bar=false", "--run.loggers=[csv]", f"--run.dir={run}",
    ]  # fmt: skip


def manifests_are_read(place: Place, seed: int, count: int | None) -> Faults:
    """``psegan data protect`` of a corpus with a malformed manifest."""
    for n, case in enumerate(sampled(malformed.manifests(seed), count)):
        folder = place.folder / f"corpus-{n}"
        _corpus(folder, {}, case.content, case.name)
        corpus = {
            "data": {"class_path": "datamodules.ManifestDataModule", "init_args": {"manifest": str(folder / case.name)}}
        }
        (folder / "corpus.yaml").write_text(yaml.safe_dump(corpus))
        words = [
            "--corpus",
            str(folder / "corpus.yaml"),
            "--protector",
            "Identity",
            "--out",
            str(folder / "out"),
            "--workers",
            "1",
        ]
        yield case.name, place.run("data", "protect", *words).fault


SYNTHETIC = "--config=experiments/corpora/synthetic.yaml"
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "fit": ("psegan", ["fit", "--config={file}", SYNTHETIC, "--print_config"]),
    "corpus": ("corpora/ravdess", ["data", "protect", "--corpus={file}", "--protector=Identity", "--out=out"]),
    "evaluate": ("evaluate/ravdess", ["evaluate", "--config={file}", "--data-root=nowhere"]),
    "reproduce": ("reproduce/ravdess", ["reproduce", "--config={file}", "--data-root=nowhere"]),
    "sweep": ("sweeps/ablations", ["sweep", "{file}", "--dry-run"]),
}
"""Command → the experiment that it reads, and its words; with these no command does any work."""


def configurations_are_read(place: Place, seed: int, count: int | None) -> Faults:
    """Every command that reads YAML, with malformed files."""
    for name, (good, words) in COMMANDS.items():
        cases = malformed.configurations((REPOSITORY / "experiments" / f"{good}.yaml").read_text(), seed, 30)
        folder = place.folder / name
        write(folder, cases)
        for case in sampled(cases, count):
            outcome = place.run(*(word.replace("{file}", str(folder / case.name)) for word in words))
            yield f"{name}: {case.name}", outcome.fault
    yield "code", "was run" if (place.folder / "executed").exists() else None


def checkpoints_are_read(place: Place, seed: int, count: int | None) -> Faults:
    """``psegan protect``, ``export`` and ``fit`` with malformed checkpoints."""
    _corpus(place.folder / "corpus", {})
    trained = place.run(*_fit(place.folder / "corpus" / "manifest.csv", "trained"))
    assert trained.status == 0, trained.said
    good = (place.folder / "trained" / "checkpoints" / "last.ckpt").read_bytes()
    cases = sampled(malformed.checkpoints(good, seed), count)
    write(place.folder / "checkpoints", cases)
    for n, case in enumerate(cases):
        path = str(place.folder / "checkpoints" / case.name)
        for words in (
            ["protect", "corpus/1.wav", "-o", f"out-{n}", "--model", path], ["export", path, "-o", f"weights-{n}"],
            [*_fit(place.folder / "corpus" / "manifest.csv", f"run-{n}"), f"--ckpt_path={path}"],
        ):  # fmt: skip
            yield f"{words[0]}: {case.name}", place.run(*words).fault
    yield "code", "was run" if (place.folder / "executed").exists() else None


def weights_are_read(place: Place, seed: int, count: int | None) -> Faults:
    """``psegan protect`` with folders of malformed weights."""
    write(place.folder, [Malformed("a.wav", malformed.good_recording())])
    released = REPOSITORY / "checkpoints" / "released" / "psegan-ravdess"
    parts = (released / "config.json").read_text(), (released / "model.safetensors").read_bytes()
    cases = list(malformed.weights(*parts, seed))
    for name, config, tensors in cases if count is None else cases[:: max(len(cases) // count, 1)]:
        write(place.folder / name, [Malformed("config.json", config), Malformed("model.safetensors", tensors)])
        yield name, place.run("protect", "a.wav", "-o", "out", "--existing=overwrite", "--model", f"./{name}").fault
        shutil.rmtree(place.folder / name)


def results_are_reported(place: Place, seed: int, count: int | None) -> Faults:
    """``psegan report`` on malformed results."""
    of = {"system": "original", "corpus": "a", "split": "paper", "attribute": "emotion", "attacker": "ignorant"}
    rows = [Row(**of, metric=metric, value=0.5, n=9) for metric in ("accuracy", "uar")]
    Results({"chance": {"a": {"emotion": 0.5}}}, rows).to_json(place.folder / "good" / "results.json")
    good = (place.folder / "good" / "results.json").read_text()
    fine = place.run("report", "good", "-o", "good.html")
    assert fine.status == 0, fine.said
    for n, case in enumerate(sampled(malformed.results(good, seed, 30), count)):
        write(place.folder / f"run-{n}", [Malformed("results.json", case.content)])
        yield case.name, place.run("report", f"run-{n}", "-o", f"page-{n}.html").fault


PARTS: tuple[Callable[[Place, int, int | None], Faults], ...] = (
    recordings_are_protected, recordings_are_checked, recordings_are_trained_on, manifests_are_read, configurations_are_read,
    checkpoints_are_read, weights_are_read, results_are_reported,
)  # fmt: skip
