"""``psegan protect``: recordings and folders of them, in; the same without their emotion, out."""

import argparse
import errno
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from psegan.common.errors import PseganError, printable
from psegan.common.files import FOLDER, not_a_file

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


class RecordingTask(NamedTuple):
    """One recording to protect, and its place below the output folder."""

    source: Path
    place: Path
    seconds: float
    """As its header has it; 0 if that cannot be read."""


@dataclass
class Summary:
    """What became of the recordings: how many were protected or skipped, why others failed, and seconds of speech."""

    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, reason: str) -> None:
        """Note a failure and print it at once."""
        self.failed.append(reason)
        _say(f"psegan: error: {reason}")


def main(args: argparse.Namespace) -> int:
    """Protect everything; returns 1 if any recording failed.

    Raises:
        PseganError: nothing can be protected at all: no such model, device, source or folder.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # as Ctrl-C, which cleans up
    summary, elapsed = protect_all(args)
    there = summary.done + summary.skipped
    line = f"protected {summary.done} of {there + len(summary.failed)} recordings"
    if there:
        line += f" into {args.out}"
    if summary.done:
        speed = f"{summary.seconds / elapsed:.0f} times real time"
        line += f": {summary.seconds:.1f} s of speech in {elapsed:.1f} s, {speed}"
    if summary.skipped:
        line += f"; there already: {summary.skipped}"
    if summary.failed:
        line += f"; failed: {len(summary.failed)}"
    print(printable(line))
    return 1 if summary.failed else 0


def protect_all(args: argparse.Namespace) -> tuple[Summary, float]:
    """Protect everything; what became of it, and the seconds that it took once the model was there."""
    import time

    import torch
    from tqdm import tqdm

    out = Path(args.out)
    if os.path.lexists(out) and not out.is_dir():
        raise PseganError(f"{out}: is a file, not a folder; name a folder with -o")
    summary = Summary()
    tasks = plan([Path(source) for source in args.sources], out, summary)
    protector = _load(args.model, args.vocoder, args.device)
    if args.target is not None:  # before any recording fails for it
        protector.draw(torch.Generator(), args.target)
    started = time.perf_counter()
    with tqdm(total=sum(task.seconds for task in tasks), disable=None, bar_format=_BAR) as bar:
        for task in tasks:
            end = bar.n + task.seconds
            try:
                _protect(task, protector, args, summary, bar)
            except PseganError as error:
                named = any(str(path) in str(error) for path in (task.source, out / task.place))
                if args.existing == "skip" and os.path.lexists(out / task.place):  # a run beside this one was faster
                    summary.skipped += 1
                else:
                    summary.fail(str(error) if named else f"{task.source}: {error}")
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
                raise PseganError(
                    f"out of memory ({reason}); go on with --existing skip, perhaps on another --device"
                ) from None
            bar.update(end - bar.n)
    return summary, time.perf_counter() - started


_BAR = "{desc}{percentage:3.0f}% of {total_fmt} s of speech |{bar}| {elapsed} elapsed, {remaining} to go"


def plan(sources: Sequence[Path], out: Path, summary: Summary) -> list[RecordingTask]:
    """What goes where: a file into the folder ``out`` itself, the recordings below a folder to the same places below it,
    or, of several folders, below a folder of that name in it.

    What cannot be looked into is noted in ``summary``.

    Raises:
        PseganError: a source is missing or holds no recordings, two would go to one place, or one to the place of a
            recording that is to be protected.
    """
    for source in sources:
        if (problem := not_a_file(source)) not in ("", FOLDER):
            raise PseganError(f"{source}: {problem}; name a recording, or a folder of recordings")
    taken: dict[Path, Path] = {}
    several = sum(source.is_dir() for source in sources) > 1
    for source in sources:
        within = Path(source.resolve().name if several and source.is_dir() else "")
        before = len(taken) + len(summary.failed)
        for path, place in _recordings(source, out, summary):
            place = within / place
            if place in taken:
                raise PseganError(f"{path} and {taken[place]} would both become {out / place}; protect them separately")
            taken[place] = path
        if before == len(taken) + len(summary.failed):
            raise PseganError(f"{source}: holds no recordings ({', '.join(sorted(_suffixes()))}); name another folder")
    originals = {os.path.realpath(path): path for path in taken.values()}
    for place in taken:
        if (replaced := originals.get(os.path.realpath(out / place))) is not None:
            raise PseganError(f"{replaced}: would be replaced by a protected recording; name another folder with -o")
    return [RecordingTask(path, place, _seconds(path)) for place, path in taken.items()]


def _recordings(source: Path, out: Path, summary: Summary) -> Iterator[tuple[Path, Path]]:
    """A recording, or all below a folder, and their places; what is none, and what was protected before, is left out.

    A link that leads nowhere is a recording that is lost, and fails when its turn comes.
    """
    if not source.is_dir():
        if source.suffix.lower() in MEDIA:
            summary.fail(_unread(source))
        else:
            yield source, Path(source.name)
        return
    left_out: dict[str, list[Path]] = {}
    seen = {Path(os.path.realpath(folder)) for folder in (out, source)}  # links may lead around in circles

    def failed(error: OSError) -> None:
        summary.fail(f"{error.filename}: cannot be read ({error.strerror}); allow it, or leave it out")

    for root, folders, names in os.walk(source, onerror=failed, followlinks=True):
        hidden = [name for name in folders if name.startswith(".")]
        fresh = {(Path(root) / name).resolve(): name for name in sorted(folders, reverse=True) if name[0] != "."}
        folders[:] = sorted(name for place, name in fresh.items() if place not in seen)
        seen.update(fresh)
        for path in sorted(Path(root) / name for name in (*names, *hidden)):
            ending = path.suffix.lower()
            if path.name.startswith("."):
                left_out.setdefault("what is hidden", []).append(path)
            elif ending not in _suffixes() | MEDIA:
                left_out.setdefault("what is no recording", []).append(path)
            elif _is_special(path):
                left_out.setdefault("pipes, devices and the like", []).append(path)
            elif ending in MEDIA:
                summary.fail(_unread(path))
            else:
                yield path, path.relative_to(source)
    if left_out:
        counts = (f"{what} ({len(paths)}, {paths[0]} first)" for what, paths in left_out.items())
        _say(f"psegan: left out of {source}: {', '.join(counts)}")


def _is_special(path: Path) -> bool:
    """Whether this is a pipe, a socket or a device, which may be read for ever, or a link that leads back to itself."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        return error.errno == errno.ELOOP


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


def _load(model: str, vocoder: str | None, device: str) -> "Protector":
    from psegan.common.instantiate import search_here
    from psegan.protection.protector import Protector
    from psegan.weights import is_checkpoint

    if not re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", device):
        raise PseganError(f"--device {device}: cannot be used; there are cpu, cuda (or cuda:1, ...) and mps")
    if any(is_checkpoint(name) for name in (model, vocoder) if name):  # it may name a class of the user's own
        search_here()
    protector = Protector.load(model, vocoder)
    try:
        return protector.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PseganError(f"--device {device}: cannot be used ({reason}); leave it out for the processor") from None


def _protect(
    task: RecordingTask, protector: "Protector", args: argparse.Namespace, summary: Summary, bar: "tqdm[None]"
) -> None:
    """Protect one recording, unless its file is there and stays; after an error nothing of it is left."""
    from psegan.common.random import of_utterance, secret
    from psegan.speech.audio import SAMPLE_RATE, AudioReader, audio_writer, resample_blocks

    out = Path(args.out) / task.place
    exists = os.path.lexists(out)
    if exists and args.existing == "skip":
        summary.skipped += 1
        return
    if exists and args.existing == "refuse":
        raise PseganError(f"{out}: exists already; name another folder, or say --existing skip or overwrite")
    reader = AudioReader(task.source)
    rate = reader.rate if args.keep_rate else SAMPLE_RATE
    id = task.place.with_suffix("").as_posix()  # as ids of corpora are
    draws = protector.draw(secret() if args.seed is None else of_utterance(args.seed, id), args.target)
    written = 0
    with audio_writer(out, rate, reader.format, reader.subtype, args.existing == "overwrite") as write:
        for waveform in resample_blocks(protector.protect(reader.blocks(), draws), SAMPLE_RATE, rate):
            if rate == reader.rate:  # going to 16 kHz and back rounds up twice
                waveform = waveform[: reader.read - written]
            write(waveform)
            written += len(waveform)
            bar.update(len(waveform) / rate)
    summary.done += 1
    summary.seconds += written / rate
    if reader.clipped > CLIPPED * reader.read:
        share = reader.clipped / reader.read
        _say(f"psegan: warning: {task.source}: clipped ({share:.1%} of its samples), and so was what is protected")


def _say(line: str) -> None:
    """A line on stderr, above the bar."""
    from tqdm import tqdm

    tqdm.write(printable(line), file=sys.stderr)
