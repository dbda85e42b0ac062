"""``psegan protect``: recordings and folders of them, in; the same without their emotion, out."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from psegan.common.errors import PseganError

if TYPE_CHECKING:
    from tqdm import tqdm

    from psegan.protection.protector import Protector

DEFAULT_MODEL = "psegan-ravdess"
MEDIA = frozenset({
    ".3gp", ".aac", ".ac3", ".amr", ".avi", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".webm", ".wma", ".wmv",
})  # fmt: skip
"""Endings of recordings that soundfile doesn't read; in a folder they are failures, and not what was left out knowingly."""
CLIPPED = 1e-3
"""Share of samples at full scale from which a recording is called clipped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``psegan protect``."""
    parser.add_argument("sources", nargs="+", metavar="SRC", help="recording, or folder of recordings at any depth")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder for the protected recordings")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME",
        help=f"released weights, a folder or hub repository of such, or a checkpoint (default: {DEFAULT_MODEL})",
    )  # fmt: skip
    parser.add_argument("--vocoder", metavar="NAME", help="another vocoder than the model's own")
    parser.add_argument(
        "--target", metavar="EMOTION",
        help="instead of one drawn at random for every recording; the model's card names them",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, help="for runs that can be repeated; whoever knows it knows the targets (default: secret)"
    )
    parser.add_argument("--keep-rate", action="store_true", help="write at the original sampling rate, not at 16 kHz")
    parser.add_argument(
        "--existing", choices=("refuse", "skip", "overwrite"), default="refuse",
        help="what becomes of files that are there already; skip goes on with an interrupted run (default: refuse)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: cpu)")


@dataclass
class RecordingTask:
    """One recording to protect.

    Attributes:
        source: the file.
        place: where it goes, below the output folder.
        out: the same, whole.
        seconds: as its header has it; 0 if that cannot be read.
        id: by which a seed draws: the place without its ending, as ids of corpora are.
    """

    source: Path
    place: Path
    out: Path
    seconds: float

    @property
    def id(self) -> str:
        return self.place.with_suffix("").as_posix()


@dataclass
class Summary:
    """What became of the recordings."""

    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, reason: str, task: RecordingTask | None = None) -> None:
        """Note a failure and say so at once, in one line that names the file."""
        if task is not None and str(task.source) not in reason and str(task.out) not in reason:
            reason = f"{task.source}: {reason}"
        self.failed.append(reason)
        _say(f"psegan: error: {reason}")


def main(args: argparse.Namespace) -> int:
    """Protect everything; returns 1 if any recording failed.

    Raises:
        PseganError: nothing can be protected at all: no such model, device, source or folder.
    """
    summary, elapsed = protect_all(args)
    print(_report_line(summary, elapsed))
    return 1 if summary.failed else 0


def protect_all(args: argparse.Namespace) -> tuple[Summary, float]:
    """Protect everything; what became of it, and the seconds that it took once the model was there.

    Raises:
        PseganError: see :func:`main`.
    """
    import time

    import torch
    from tqdm import tqdm

    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise PseganError(f"{out}: is a file, not a folder; name a folder with -o")
    summary = Summary()
    tasks = plan([Path(source) for source in args.sources], out, summary)
    protector = load(args.model, args.vocoder, args.device)
    if args.target is not None:  # before any recording fails for it
        protector.draw(torch.Generator(), args.target)
    started = time.perf_counter()
    with (
        _ending_like_an_interrupt(),
        tqdm(total=sum(task.seconds for task in tasks), disable=None, bar_format=_BAR) as bar,
    ):
        for task in tasks:
            try:
                _protect(task, protector, args, summary, bar)
            except PseganError as error:
                summary.fail(str(error), task)
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
                raise PseganError(
                    f"out of memory ({reason}); go on with --existing skip, perhaps on another --device"
                ) from None
    return summary, time.perf_counter() - started


_BAR = "{desc}{percentage:3.0f}% of {total_fmt} s of speech |{bar}| {elapsed} elapsed, {remaining} to go"


@contextmanager
def _ending_like_an_interrupt() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does, cleaning up."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def plan(sources: Sequence[Path], out: Path, summary: Summary) -> list[RecordingTask]:
    """What goes where: a file into the folder ``out`` itself, the recordings below a folder to the same places below it,
    or, of several folders, below a folder of that name in it.

    What cannot be looked into is noted in ``summary``.

    Raises:
        PseganError: a source is missing or holds no recordings, two would go to one place, or one to the place of a
            recording that is to be protected.
    """
    taken: dict[Path, Path] = {}
    several = sum(source.is_dir() for source in sources) > 1
    for source in sources:
        found: Sequence[tuple[Path, Path]]
        if source.is_dir():
            known = len(summary.failed)
            within = Path(source.resolve().name if several else "")
            found = [(path, within / place) for path, place in _below(source, out, summary)]
            if not found and len(summary.failed) == known:
                raise PseganError(
                    f"{source}: holds no recordings ({', '.join(sorted(_suffixes()))}); name another folder"
                )
        elif source.suffix.lower() in MEDIA and source.exists():
            summary.fail(_unread(source))
            found = []
        elif source.exists():
            found = [(source, Path(source.name))]
        else:
            raise PseganError(
                f"{source}: no such file or folder; correct the path (recordings are read from files alone)"
            )
        for path, place in found:
            if place in taken:
                raise PseganError(f"{path} and {taken[place]} would both become {out / place}; protect them separately")
            taken[place] = path
    originals = {path.resolve(): path for path in taken.values()}
    for place in taken:
        if (replaced := originals.get((out / place).resolve())) is not None:
            raise PseganError(f"{replaced}: would be replaced by a protected recording; name another folder with -o")
    return [RecordingTask(path, place, out / place, _seconds(path)) for place, path in taken.items()]


def _below(folder: Path, out: Path, summary: Summary) -> Iterator[tuple[Path, Path]]:
    """Recordings below a folder and their places; what is none, and what was protected before, is left out."""
    others: list[Path] = []
    seen = {out.resolve()}  # links may lead around in circles

    def failed(error: OSError) -> None:
        summary.fail(f"{error.filename}: cannot be read ({error.strerror}); allow it, or leave it out")

    for root, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        fresh = {}
        for name in sorted(folders):
            place = (Path(root) / name).resolve()
            if place not in seen and not name.startswith("."):
                seen.add(place)
                fresh[name] = place
        folders[:] = list(fresh)
        for name in sorted(names):
            path = Path(root) / name
            if name.startswith("."):
                continue
            if path.suffix.lower() in _suffixes():
                yield path, path.relative_to(folder)
            elif path.suffix.lower() in MEDIA:
                summary.fail(_unread(path))
            else:
                others.append(path)
    if others:
        _say(f"psegan: {len(others)} file(s) in {folder} are no recordings and were left out, {others[0]} first")


def _unread(path: Path) -> str:
    ending = path.suffix.lower()
    return f"{path}: soundfile doesn't read {ending}; convert it first, as with: ffmpeg -i {path.name} {path.stem}.wav"


def _seconds(path: Path) -> float:
    from psegan.speech.audio import AudioReader

    try:
        return AudioReader(path).seconds
    except PseganError:
        return 0.0  # an error when its turn comes


@cache
def _suffixes() -> frozenset[str]:
    """Endings of what soundfile reads and has an ending of its own."""
    import soundfile

    known = {f".{name.lower()}" for name in soundfile.available_formats() if name not in ("RAW", "PVF", "MAT4", "MAT5")}
    return frozenset(known | {".aif", ".aifc", ".oga", ".opus", ".sph", ".snd", ".wave"})


def load(model: str, vocoder: str | None, device: str) -> "Protector":
    """The protector, where it is to compute.

    Raises:
        PseganError: there is no such model, vocoder or device.
    """
    from psegan.protection.protector import Protector

    protector = Protector.load(model, vocoder)
    try:
        return protector.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PseganError(f"--device {device}: cannot be used ({reason}); leave it out for the processor") from None


def _protect(
    task: RecordingTask, protector: "Protector", args: argparse.Namespace, summary: Summary, bar: "tqdm[None]"
) -> None:
    """Protect one recording, unless its file is there and stays.

    Raises:
        PseganError: it cannot be read, protected or written; then nothing of it is left.
    """
    from psegan.common.random import of_utterance, secret
    from psegan.speech.audio import SAMPLE_RATE, AudioReader, AudioWriter, Resampler

    try:
        if task.out.exists() and args.existing != "overwrite":
            if args.existing == "refuse":
                raise PseganError(
                    f"{task.out}: exists already; name another folder, or say --existing skip or overwrite"
                )
            summary.skipped += 1
            bar.total -= task.seconds
            return
        reader = AudioReader(task.source)
    except PseganError:
        bar.total -= task.seconds
        raise
    rate = reader.rate if args.keep_rate else SAMPLE_RATE
    resampler = Resampler(SAMPLE_RATE, rate)
    draws = protector.draw(secret() if args.seed is None else of_utterance(args.seed, task.id), args.target)
    samples = written = 0
    with AudioWriter(task.out, rate, reader.format, reader.subtype, args.existing == "overwrite") as writer:
        for waveform in protector.protect(reader.blocks(), draws):
            resampled = resampler.push(waveform)
            writer.write(resampled)
            samples, written = samples + len(waveform), written + len(resampled)
            bar.update(len(waveform) / SAMPLE_RATE)
        rest = resampler.finish()
        # going to 16 kHz and back rounds up twice
        writer.write(rest[: reader.read - written] if rate == reader.rate else rest)
    summary.done += 1
    summary.seconds += samples / SAMPLE_RATE
    if reader.clipped > CLIPPED * reader.read:
        share = reader.clipped / reader.read
        _say(f"psegan: warning: {task.source}: clipped ({share:.1%} of its samples), and so was what is protected")


def _report_line(summary: Summary, elapsed: float) -> str:
    """The line at the end."""
    recordings = summary.done + summary.skipped + len(summary.failed)
    line = f"protected {summary.done} of {recordings} recordings"
    if summary.done:
        speed = f"{summary.seconds / elapsed:.0f} times real time"
        line += f": {summary.seconds:.1f} s of speech in {elapsed:.1f} s, {speed}"
    if summary.skipped:
        line += f"; there already: {summary.skipped}"
    if summary.failed:
        line += f"; failed: {len(summary.failed)}"
    return line


def _say(line: str) -> None:
    """A line on stderr, above the bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
