"""``psegan protect``: recordings and folders of them, in; the same without their emotion, out."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from psegan.errors import PseganError

if TYPE_CHECKING:
    from torch import Tensor
    from tqdm import tqdm

    from psegan.protect import Protector, Recording

DEFAULT_MODEL = "psegan-ravdess"
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
    parser.add_argument("--target", metavar="EMOTION", help="instead of one drawn at random for every recording")
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

    def fail(self, job: Job, error: Exception) -> None:
        """Note a failure and say so at once, in one line that names the file."""
        reason = str(error)
        where = str(job.source)
        self.failed.append(reason if where in reason or str(job.out) in reason else f"{where}: {reason}")
        _say(f"psegan: error: {self.failed[-1]}")


def main(args: argparse.Namespace) -> int:
    """Protect everything; returns 1 if any recording failed.

    Raises:
        PseganError: nothing can be protected at all: no such model, device, source or folder.
    """
    import time

    from tqdm import tqdm

    if args.batch < 1:
        raise PseganError(f"--batch is {args.batch}, but must be at least 1")
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise PseganError(f"{out}: is a file, not a folder; name a folder with -o")
    jobs = list(plan([Path(source) for source in args.sources], out))
    protector = load(args.model, args.vocoder, args.device)
    if args.target is not None:  # before any recording fails for it
        import torch

        protector.draw(torch.Generator(), args.target)
    summary = Summary()
    started = time.perf_counter()
    with tqdm(total=sum(job.seconds for job in jobs), disable=None, bar_format=_BAR) as bar:
        for recording in protector.protect(_recordings(jobs, protector, args, summary, bar), args.batch):
            _finish(recording, summary)
    elapsed = time.perf_counter() - started
    print(_told(summary, len(jobs), elapsed))
    return 1 if summary.failed else 0


_BAR = "{desc}{percentage:3.0f}% of {total:.0f} s of speech |{bar}| {elapsed} elapsed, {remaining} to go"


def plan(sources: Sequence[Path], out: Path) -> Iterator[Job]:
    """What goes where: a file into the folder ``out`` itself, the recordings below a folder to the same places below it.

    Raises:
        PseganError: a source is missing or holds no recordings, lies inside ``out``, or two would go to one place.
    """
    taken: dict[Path, Path] = {}
    for source in sources:
        found: Iterable[tuple[Path, Path]]
        if source.is_dir():
            found = list(_below(source, out))
            if not found:
                raise PseganError(
                    f"{source}: holds no recordings ({', '.join(sorted(_suffixes()))}); name another folder"
                )
        elif source.exists():
            found = [(source, Path(source.name))]
        else:
            raise PseganError(f"{source}: no such file or folder")
        for path, place in found:
            if place in taken:
                raise PseganError(f"{path} and {taken[place]} would both become {out / place}; protect them separately")
            taken[place] = path
            yield Job(path, place, out / place, _seconds(path))


def _below(folder: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Recordings below a folder and their places; what is none, and what was protected before, is left out."""
    others = []
    for root, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if (Path(root) / name).resolve() != out.resolve())
        for name in sorted(names):
            path = Path(root) / name
            if name.startswith("."):
                continue
            if path.suffix.lower() in _suffixes():
                yield path, path.relative_to(folder)
            else:
                others.append(path)
    if others:
        _say(f"psegan: {len(others)} file(s) in {folder} are no recordings and were left out, {others[0]} first")


def _seconds(path: Path) -> float:
    import soundfile

    try:
        about = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError):
        return 0.0  # it will be told of when its turn comes
    return float(about.frames / about.samplerate) if about.samplerate else 0.0


def _raise(error: OSError) -> None:
    raise PseganError(f"{error.filename}: cannot be read ({error.strerror})")


def _suffixes() -> set[str]:
    """Endings of what soundfile reads and has an ending of its own."""
    import soundfile

    known = {f".{name.lower()}" for name in soundfile.available_formats() if name not in ("RAW", "PVF", "MAT4", "MAT5")}
    return known | {".aif", ".oga", ".opus"}


def load(model: str, vocoder: str | None, device: str) -> "Protector":
    """The protector, where it is to compute.

    Raises:
        PseganError: there is no such model, vocoder or device.
    """
    from psegan.export import load_protector_of

    protector = load_protector_of(model, vocoder)
    try:
        return protector.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PseganError(f"--device {device}: cannot be used ({reason}); leave it out for the processor") from None


def _recordings(
    jobs: Sequence[Job], protector: "Protector", args: argparse.Namespace, summary: Summary, bar: "tqdm[None]"
) -> "Iterator[Recording]":
    """Every recording that can be begun, opened when its turn comes."""
    import secrets

    from psegan.protect import Recording
    from psegan.random import seeded

    seed = secrets.randbits(128) if args.seed is None else args.seed
    for job in jobs:
        try:
            if job.out.exists() and not _may_replace(job, args.existing):
                summary.skipped += 1
                bar.total -= job.seconds
                continue
            sink = Sink(job, args.keep_rate, bar)
            draws = protector.draw(seeded("protect", seed, job.place.as_posix()), args.target)
        except PseganError as error:
            summary.fail(job, error)
            bar.total -= job.seconds
            continue
        yield Recording(sink.reader.blocks(), draws, sink.write, name=sink)


def _may_replace(job: Job, existing: str) -> bool:
    """Whether to write over a file that is there; if not, it is left as it is.

    Raises:
        PseganError: nobody said what to do, or it is the recording itself.
    """
    if job.out.samefile(job.source):
        raise PseganError(f"{job.source}: would be overwritten by its protected copy; name another folder with -o")
    if existing == "refuse":
        raise PseganError(f"{job.out}: exists already; name another folder, or say --existing skip or overwrite")
    return existing == "overwrite"


class Sink:
    """Where one recording is read from, and where its protected samples go.

    Args:
        job: the recording.
        keep_rate: write at its own rate, not at 16 kHz.
        bar: counts the seconds that were read.

    Raises:
        PseganError: it cannot be read.
    """

    def __init__(self, job: Job, keep_rate: bool, bar: "tqdm[None]") -> None:
        from psegan.audio import SAMPLE_RATE, AudioReader, AudioWriter, Resampler

        self.job, self.bar = job, bar
        self.reader: AudioReader = AudioReader(job.source)
        self.rate = self.reader.rate if keep_rate else SAMPLE_RATE
        self.resampler = Resampler(SAMPLE_RATE, self.rate)
        self.writer = AudioWriter(job.out, self.rate, self.reader.format, self.reader.subtype)
        self._open: AudioWriter | None = None
        self._stack = ExitStack()
        self.seconds, self.written = 0.0, 0

    def write(self, waveform: "Tensor") -> None:
        """Take protected samples at 16 kHz."""
        self._append(self.resampler.push(waveform))
        from psegan.audio import SAMPLE_RATE

        self.seconds += len(waveform) / SAMPLE_RATE
        self.bar.update(len(waveform) / SAMPLE_RATE)

    def _append(self, samples: "Tensor") -> None:
        if self._open is None:
            self._open = self._stack.enter_context(self.writer)
        self._open.write(samples)
        self.written += len(samples)

    def close(self, error: Exception | None) -> None:
        """Let the file appear, or vanish if there was an error.

        Raises:
            PseganError: it cannot be written.
        """
        try:
            if error is None:
                rest = self.resampler.finish()
                # going to 16 kHz and back rounds up twice
                wanted = self.reader.read if self.rate == self.reader.rate else self.written + len(rest)
                self._append(rest[: wanted - self.written])
        except PseganError as failure:
            self._stack.__exit__(type(failure), failure, None)
            raise
        self._stack.__exit__(*((type(error), error, None) if error else (None, None, None)))


def _finish(recording: "Recording", summary: Summary) -> None:
    sink: Sink = recording.name
    error = recording.error
    try:
        sink.close(error)
    except PseganError as failure:
        error = error or failure
    if error is not None:
        summary.fail(sink.job, error)
        return
    summary.done += 1
    summary.seconds += sink.seconds
    if sink.reader.clipped > CLIPPED * sink.reader.read:
        share = sink.reader.clipped / sink.reader.read
        _say(f"psegan: warning: {sink.job.source}: clipped ({share:.1%} of its samples), and so was what is protected")


def _told(summary: Summary, jobs: int, elapsed: float) -> str:
    """The line at the end."""
    speed = f"{summary.seconds / elapsed:.0f} times real time" if summary.seconds else "no speech"
    told = (
        f"protected {summary.done} of {jobs} recordings: {summary.seconds:.1f} s of speech in {elapsed:.1f} s, {speed}"
    )
    if summary.skipped:
        told += f"; {summary.skipped} were there already"
    if summary.failed:
        told += f"; {len(summary.failed)} failed"
    return told


def _say(line: str) -> None:
    """A line on stderr, above the bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
