"""``psegan protect``: recordings and folders of them, in; the same without their emotion, out."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from psegan.common.errors import PseganError

if TYPE_CHECKING:
    from torch import Tensor
    from tqdm import tqdm

    from psegan.protection.protector import Protector, Recording

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
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="16 s windows at a time (default: 4)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: cpu)")


@dataclass
class Job:
    """One recording to protect.

    Attributes:
        source: the file.
        place: where it goes, below the output folder.
        out: the same, whole.
        seconds: as its header has it; 0 if that cannot be read.
    """

    source: Path
    place: Path
    out: Path
    seconds: float


@dataclass
class Summary:
    """What became of the recordings."""

    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, reason: str, job: Job | None = None) -> None:
        """Note a failure and say so at once, in one line that names the file."""
        if job is not None and str(job.source) not in reason and str(job.out) not in reason:
            reason = f"{job.source}: {reason}"
        self.failed.append(reason)
        _say(f"psegan: error: {reason}")


def main(args: argparse.Namespace) -> int:
    """Protect everything; returns 1 if any recording failed.

    Raises:
        PseganError: nothing can be protected at all: no such model, device, source or folder.
    """
    summary, elapsed = protect_all(args)
    print(_told(summary, elapsed))
    return 1 if summary.failed else 0


def protect_all(args: argparse.Namespace) -> tuple[Summary, float]:
    """Protect everything; what became of it, and the seconds that it took once the model was there.

    Raises:
        PseganError: see :func:`main`.
    """
    import time

    import torch
    from tqdm import tqdm

    if args.batch < 1:
        raise PseganError(f"--batch is {args.batch}, but must be at least 1")
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise PseganError(f"{out}: is a file, not a folder; name a folder with -o")
    summary = Summary()
    jobs = plan([Path(source) for source in args.sources], out, summary)
    protector = load(args.model, args.vocoder, args.device)
    if args.target is not None:  # before any recording fails for it
        protector.draw(torch.Generator(), args.target)
    started = time.perf_counter()
    sinks: list[Sink] = []
    with (
        _ending_like_an_interrupt(),
        tqdm(total=sum(job.seconds for job in jobs), disable=None, bar_format=_BAR) as bar,
    ):
        try:
            for recording in protector.protect(_recordings(jobs, protector, args, summary, bar, sinks), args.batch):
                _finish(recording, summary)
                sinks.remove(recording.name)
        except torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0]
            raise PseganError(f"out of memory ({reason}); lower --batch, then go on with --existing skip") from None
        finally:
            for sink in sinks:  # an interrupt leaves nothing half written
                sink.abandon()
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


def plan(sources: Sequence[Path], out: Path, summary: Summary) -> list[Job]:
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
    return [Job(path, place, out / place, _seconds(path)) for place, path in taken.items()]


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
        return 0.0  # it will be told of when its turn comes


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
    from psegan.protection.export import DEFAULT_VOCODER, load_protector_of

    # weights that ship have a vocoder of their own
    protector = load_protector_of(model, vocoder or (DEFAULT_VOCODER if model.endswith(".ckpt") else None))
    try:
        return protector.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PseganError(f"--device {device}: cannot be used ({reason}); leave it out for the processor") from None


def _recordings(
    jobs: Sequence[Job], protector: "Protector", args: argparse.Namespace, summary: Summary, bar: "tqdm[None]",
    sinks: "list[Sink]",
) -> "Iterator[Recording]":  # fmt: skip
    """Every recording that can be begun, opened when its turn comes; ``sinks`` are those that are under way."""
    from psegan.common.random import secret, seeded
    from psegan.protection.protector import Recording

    for job in jobs:
        try:
            if job.out.exists() and args.existing != "overwrite":
                if args.existing == "refuse":
                    raise PseganError(
                        f"{job.out}: exists already; name another folder, or say --existing skip or overwrite"
                    )
                summary.skipped += 1
                bar.total -= job.seconds
                continue
            sink = Sink(job, args.keep_rate, args.existing == "overwrite", bar)
        except PseganError as error:
            summary.fail(str(error), job)
            bar.total -= job.seconds
            continue
        random = secret() if args.seed is None else seeded("protect", args.seed, job.place.as_posix())
        sinks.append(sink)
        yield Recording(sink.reader.blocks(), protector.draw(random, args.target), sink.write, name=sink)


class Sink:
    """Where one recording is read from, and where its protected samples go.

    Args:
        job: the recording.
        keep_rate: write at its own rate, not at 16 kHz.
        replace: whether a file that is there is to be replaced.
        bar: counts the seconds that were read.

    Raises:
        PseganError: it cannot be read.
    """

    def __init__(self, job: Job, keep_rate: bool, replace: bool, bar: "tqdm[None]") -> None:
        from psegan.speech.audio import SAMPLE_RATE, AudioReader, AudioWriter, Resampler

        self.job, self.bar = job, bar
        self.reader: AudioReader = AudioReader(job.source)
        self.rate = self.reader.rate if keep_rate else SAMPLE_RATE
        self.resampler = Resampler(SAMPLE_RATE, self.rate)
        self.writer = AudioWriter(job.out, self.rate, self.reader.format, self.reader.subtype, replace)
        self._open: AudioWriter | None = None
        self._stack = ExitStack()
        self.seconds, self.written = 0.0, 0

    def write(self, waveform: "Tensor") -> None:
        """Take protected samples at 16 kHz."""
        from psegan.speech.audio import SAMPLE_RATE

        self._append(self.resampler.push(waveform))
        self.seconds += len(waveform) / SAMPLE_RATE
        self.bar.update(len(waveform) / SAMPLE_RATE)

    def _append(self, samples: "Tensor") -> None:
        if self._open is None:
            self._open = self._stack.enter_context(self.writer)
        self._open.write(samples)
        self.written += len(samples)

    def close(self) -> None:
        """Let the file appear.

        Raises:
            PseganError: it cannot be written.
        """
        rest = self.resampler.finish()
        # going to 16 kHz and back rounds up twice
        wanted = self.reader.read if self.rate == self.reader.rate else self.written + len(rest)
        try:
            self._append(rest[: wanted - self.written])
        except PseganError:
            self.abandon()
            raise
        self._stack.close()

    def abandon(self) -> None:
        """Let nothing appear."""
        given_up = PseganError("given up")
        with suppress(PseganError):
            self._stack.__exit__(PseganError, given_up, None)


def _finish(recording: "Recording", summary: Summary) -> None:
    sink: Sink = recording.name
    error = recording.error
    if error is None:
        try:
            sink.close()
        except PseganError as failure:
            error = failure
    else:
        sink.abandon()
    if error is not None:
        summary.fail(str(error), sink.job)
        return
    summary.done += 1
    summary.seconds += sink.seconds
    if sink.reader.clipped > CLIPPED * sink.reader.read:
        share = sink.reader.clipped / sink.reader.read
        _say(f"psegan: warning: {sink.job.source}: clipped ({share:.1%} of its samples), and so was what is protected")


def _told(summary: Summary, elapsed: float) -> str:
    """The line at the end."""
    jobs = summary.done + summary.skipped + len(summary.failed)
    told = f"protected {summary.done} of {jobs} recordings"
    if summary.done:
        speed = f"{summary.seconds / elapsed:.0f} times real time"
        told += f": {summary.seconds:.1f} s of speech in {elapsed:.1f} s, {speed}"
    if summary.skipped:
        told += f"; there already: {summary.skipped}"
    if summary.failed:
        told += f"; failed: {len(summary.failed)}"
    return told


def _say(line: str) -> None:
    """A line on stderr, above the bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
