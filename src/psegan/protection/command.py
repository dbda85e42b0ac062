"""``psegan protect``: recordings and folders of them, in; the same without their emotion, out."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from psegan.common.ending import Ending
from psegan.common.errors import PseganError, printable
from psegan.common.files import FOLDER, LOOP, SPECIAL, not_a_file

if TYPE_CHECKING:
    from tqdm import tqdm

    from psegan.protection.protector import Protector
    from psegan.protection.speakers import Speakers

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
        "--voice", metavar="PROFILE",
        help="of a model that speaks with one: a file of psegan enrol; a folder of NAME.voice files or NAME/ folders of calm "
        "recordings, for recordings in folders called NAME; or self, each recording's own speech",
    )  # fmt: skip
    parser.add_argument(
        "--keep-timing", action="store_true",
        help="of such a model: what comes out is as long as the recording, and tells its tempo and pauses",
    )  # fmt: skip
    parser.add_argument(
        "--target", metavar="EMOTION",
        help="instead of one drawn at random for every recording; the model's card names them",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, help="for runs that can be repeated; whoever knows it knows the targets (default: secret)"
    )
    parser.add_argument("--keep-rate", action="store_true", help="write at the original sampling rate, not at 16 kHz")
    parser.add_argument(
        "--channels", choices=("mix", "apart"), default="mix",
        help="several channels: one file of one channel, or each channel protected by itself (default: mix)",
    )  # fmt: skip
    parser.add_argument(
        "--existing", choices=("refuse", "skip", "overwrite"), default="refuse",
        help="what becomes of files that are there already; skip goes on with an interrupted run (default: refuse)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: cpu)")


class RecordingTask(NamedTuple):
    """One recording to protect, and its place below the output folder."""

    source: Path
    place: Path
    seconds: float = 0.0
    """As its header has it; 0 if that cannot be read."""
    format: str = "WAV"
    subtype: str = "PCM_16"
    """What is written, as soundfile names it."""


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
    with Ending() as ending:
        summary, elapsed = protect_all(args, ending)
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


def protect_all(args: argparse.Namespace, ending: Ending) -> tuple[Summary, float]:
    """Protect everything, unless a signal ends it; what became of it, and the seconds that it took once the model was there."""
    import time

    import torch
    from tqdm import tqdm

    from psegan.protection.speakers import Speakers

    out = Path(args.out)
    if os.path.lexists(out) and not out.is_dir():
        raise PseganError(f"{out}: is a file, not a folder; name a folder with -o")
    summary = Summary()
    tasks = plan([Path(source) for source in args.sources], out, summary, args.keep_rate, args.channels == "apart")
    protector = _load(args.model, args.vocoder, args.device)
    speakers = Speakers(protector, args.model, args.voice, args.keep_timing)
    if protector.needs_voice and args.channels == "apart":
        raise PseganError(
            "--channels apart: a voice profile is of one person; give each channel a file and a --voice of its own"
        )
    if args.target is not None:  # before any recording fails for it
        protector.draw(torch.Generator(), args.target)
    started = time.perf_counter()
    with tqdm(total=sum(task.seconds for task in tasks), disable=None, bar_format=_BAR) as bar:
        for task in ending.between(tasks):
            end = bar.n + task.seconds
            try:
                _protect(task, speakers, args, summary, bar, ending)
            except PseganError as error:
                named = any(str(path) in str(error) for path in (task.source, out / task.place))
                if args.existing == "skip" and "exists already" in str(error):  # a run beside this one was faster
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


def plan(
    sources: Sequence[Path], out: Path, summary: Summary, keep_rate: bool = False, apart: bool = False
) -> list[RecordingTask]:
    """What goes where: a file into the folder ``out`` itself, the recordings below a folder to the same places below it,
    or, of several folders, below a folder of that name in it. What cannot be written as it is becomes a WAV file.

    What cannot be looked into is noted in ``summary``.

    Raises:
        PseganError: a source is missing or holds no recordings, two would go to one place, or one to the place of a
            recording that is to be protected.
    """
    for source in sources:
        if (problem := not_a_file(source)) not in ("", FOLDER):
            raise PseganError(f"{source}: {problem}; name a recording, or a folder of recordings")
    taken: dict[Path, RecordingTask] = {}
    several = sum(source.is_dir() for source in sources) > 1
    for source in sources:
        within = Path(source.resolve().name if several and source.is_dir() else "")
        before = len(taken) + len(summary.failed)
        for path, place in _recordings(source, out, summary):
            task = _task(path, within / place, keep_rate, apart)
            if (other := taken.get(task.place)) is not None:
                both = f"{path} and {other.source} would both become {out / task.place}"
                raise PseganError(f"{both}; protect them separately")
            taken[task.place] = task
        if before == len(taken) + len(summary.failed):
            raise PseganError(f"{source}: holds no recordings ({', '.join(sorted(suffixes()))}); name another folder")
    originals = {os.path.realpath(task.source): task.source for task in taken.values()}
    for place in taken:
        if (replaced := originals.get(os.path.realpath(out / place))) is not None:
            raise PseganError(f"{replaced}: would be replaced by a protected recording; name another folder with -o")
    return list(taken.values())


def _recordings(source: Path, out: Path, summary: Summary) -> Iterator[tuple[Path, Path]]:
    """A recording, or all below a folder, and their places; what is none, and what was protected before, is left out.

    A link that leads nowhere is a recording that is lost, and fails when its turn comes.
    """
    if not source.is_dir():
        if source.suffix.lower() in MEDIA:
            summary.fail(unread(source))
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
            elif ending not in suffixes() | MEDIA:
                left_out.setdefault("what is no recording", []).append(path)
            elif not_a_file(path) in (SPECIAL, LOOP):
                left_out.setdefault("pipes, devices and the like", []).append(path)
            elif ending in MEDIA:
                summary.fail(unread(path))
            else:
                yield path, path.relative_to(source)
    if left_out:
        counts = (f"{what} ({len(paths)}, {paths[0]} first)" for what, paths in left_out.items())
        _say(f"psegan: left out of {source}: {', '.join(counts)}")


def unread(path: Path) -> str:
    """Of one of :data:`MEDIA`: why it is a failure, and how it becomes a recording."""
    ending = path.suffix.lower()
    return f"{path}: soundfile doesn't read {ending}; convert it first, as with: ffmpeg -i {path.name} {path.stem}.wav"


def _task(source: Path, place: Path, keep_rate: bool, apart: bool) -> RecordingTask:
    from psegan.speech.audio import SAMPLE_RATE, AudioReader, can_write

    try:
        reader = AudioReader(source)
    except PseganError:
        return RecordingTask(source, place)  # an error when its turn comes
    rate, channels = reader.rate if keep_rate else SAMPLE_RATE, reader.channels if apart else 1
    if can_write(reader.format, reader.subtype, rate, channels):
        return RecordingTask(source, place, reader.seconds, reader.format, reader.subtype)
    named = place if place.suffix.lower() in (".wav", ".wave") else place.with_suffix(".wav")
    return RecordingTask(source, named, reader.seconds)


@cache
def suffixes() -> frozenset[str]:
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
    task: RecordingTask,
    speakers: "Speakers",
    args: argparse.Namespace,
    summary: Summary,
    bar: "tqdm[None]",
    ending: Ending,
) -> None:
    """Protect one recording, unless its file is there and stays; after an error nothing of it is left."""
    import torch

    from psegan.common.random import of_utterance, secret
    from psegan.speech.audio import SAMPLE_RATE, AudioReader, at_full_scale, audio_writer, resample_blocks

    out = Path(args.out) / task.place
    exists = os.path.lexists(out)
    if exists and args.existing == "skip":
        summary.skipped += 1
        return
    if exists and args.existing == "refuse":
        raise PseganError(f"{out}: exists already; name another folder, or say --existing skip or overwrite")
    readers = [reader := AudioReader(task.source)]
    if args.channels == "apart" and reader.channels > 1:
        readers = [AudioReader(task.source, channel) for channel in range(reader.channels)]
    reader, count = readers[0], len(readers)
    rate = reader.rate if args.keep_rate else SAMPLE_RATE
    id = task.place.with_suffix("").as_posix()  # as ids of corpora are
    parts = []
    protector = speakers.protector_of(task.source, task.place)
    for channel, one in enumerate(readers, 1):
        random = secret() if args.seed is None else of_utterance(args.seed, id if count == 1 else f"{id}/{channel}")
        blocks = ending.between(one.blocks())
        protected = protector.protect(blocks, protector.draw(random, args.target))
        parts.append(resample_blocks(protected, SAMPLE_RATE, rate))
    written = clipped = 0
    with audio_writer(out, rate, task.format, task.subtype, args.existing == "overwrite", count) as write:
        for pieces in ending.between(zip(*parts, strict=True)):
            samples = torch.stack(pieces, 1)
            if rate == reader.rate and protector.keeps_length:  # going to 16 kHz and back rounds up twice
                samples = samples[: reader.read - written]
            write(samples)
            written += len(samples)
            clipped += at_full_scale(samples)
            bar.update(len(samples) / rate)
    summary.done += 1
    summary.seconds += reader.read / reader.rate
    if (task.format, task.subtype) != (reader.format, reader.subtype):
        kind = f"{reader.subtype} in {reader.format} at {rate} Hz"
        _say(f"psegan: {task.source}: {kind} cannot be written, so {out} is a 16-bit WAV file")
    if reader.comparison and (lost := reader.comparison.loss("was protected")):
        _say(f"psegan: warning: {task.source}: {lost}; --channels apart protects them all")
    if reader.clipped > CLIPPED * reader.read:
        share = reader.clipped / reader.read
        _say(f"psegan: warning: {task.source}: clipped ({share:.1%} of its samples), and so was what is protected")
    if clipped > CLIPPED * written:
        _say(f"psegan: warning: {out}: came out clipped ({clipped / written:.1%} of its samples are at full scale)")


def _say(line: str) -> None:
    """A line on stderr, above the bar."""
    from tqdm import tqdm

    tqdm.write(printable(line), file=sys.stderr)
