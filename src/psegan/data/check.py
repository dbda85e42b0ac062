"""``psegan data check``: what a corpus holds, and what is wrong with it."""

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from tqdm import tqdm

if TYPE_CHECKING:
    from datamodules.base import FolderDataModule, Utterance

SILENT = 1e-3
"""A recording that never exceeds this amplitude (-60 dB of full scale) is silent; the quietest published one peaks at
0.0045."""
RATES = {"ravdess": (48_000, 16_000), "emodb": (16_000,)}
"""Hz, as published and in the FLAC copies."""
FORMATS = ("WAV", "WAVEX", "FLAC")
SHOWN = 20
"""Entries of a list that are printed."""


@dataclass
class Findings:
    """What a check found: for each kind of problem the files, and notes that are no problem."""

    seconds: float = 0.0
    problems: dict[str, list[str]] = field(
        default_factory=lambda: {
            kind: []
            for kind in (
                "missing",
                "unexpected",
                "unparsable",
                "unreadable",
                "empty",
                "not finite",
                "silent",
                "duplicated",
                "odd format",
            )
        }
    )
    notes: list[str] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)


def check_corpus(module: "type[FolderDataModule]", root: Path) -> int:
    """Read every recording below ``root`` and print what there is; progress goes to stderr.

    Args:
        module: the class that describes the corpus.
        root: its folder.

    Returns:
        0, or 1 where something is missing or wrong.

    Raises:
        PseganError: there is no such folder, or it is another corpus.
    """
    utterances, unparsable = module.scan(root)
    findings = Findings()
    findings.problems["unparsable"] = [str(error) for error in unparsable]
    present = {utterance.id for utterance in utterances}
    complete = module.complete_ids()
    findings.problems["missing"] = [id for id in complete if id not in present]
    findings.problems["unexpected"] = sorted(present.difference(complete))
    same: dict[str, list[str]] = {}
    for utterance in tqdm(utterances, desc=f"reading {module.title}", unit="file", file=sys.stderr, leave=False):
        digest = _check_file(utterance, RATES[module.corpus], findings)
        if digest is not None:
            same.setdefault(digest, []).append(utterance.id)
    for ids in same.values():
        if len(ids) > 1:
            if module.locked.issuperset(ids):
                findings.notes.append(f"{' and '.join(ids)} are identical, as published; splits keep them on one side")
            else:
                findings.problems["duplicated"].append(" = ".join(ids))
    _print_findings(module, root, utterances, findings)
    return int(any(findings.problems.values()))


def _check_file(utterance: "Utterance", rates: Sequence[int], findings: Findings) -> str | None:
    """Note what is wrong with one recording; returns a digest of its samples if it could be read."""
    problems = findings.problems
    path = utterance.path
    assert path is not None
    try:
        info = soundfile.info(path)
        samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        problems["unreadable"].append(f"{path} ({error})" if str(path) not in str(error) else str(error))
        return None
    channels = samples.shape[1]
    findings.seconds += len(samples) / rate
    findings.formats[f"{info.format} {rate} Hz {info.subtype}"] += 1
    if len(samples) == 0:
        problems["empty"].append(str(path))
        return None
    if not np.isfinite(samples).all():
        problems["not finite"].append(str(path))
        return None
    if np.abs(samples).max() < SILENT:
        problems["silent"].append(str(path))
        return None
    odd = []
    if rate not in rates:
        odd.append(f"{rate} Hz instead of {' or '.join(map(str, rates))}")
    if info.format not in FORMATS or info.subtype != "PCM_16":
        odd.append(f"{info.format} {info.subtype} instead of 16-bit WAV or FLAC")
    if channels > 1:
        if channels == 2 and rate == 48_000 and np.array_equal(samples[:, 0], samples[:, 1]):
            findings.notes.append(f"{utterance.id} is stereo with equal channels; they are averaged when read")
        else:
            odd.append(f"{channels} channels that differ" if channels == 2 else f"{channels} channels instead of 1")
    if odd:
        problems["odd format"].append(f"{path}: {', '.join(odd)}")
    return hashlib.sha256(samples.tobytes()).hexdigest()


def _print_findings(
    module: "type[FolderDataModule]", root: Path, utterances: Sequence["Utterance"], findings: Findings
) -> None:
    total = len(module.complete_ids())
    print(f"{module.title} in {root}: {len(utterances)} of {total} recordings, {findings.seconds / 3600:.2f} h")
    for name, count in sorted(findings.formats.items()):
        print(f"  {count} × {name}")
    print()
    print_counts(module, utterances)
    print()
    for kind, entries in findings.problems.items():
        print(f"{kind + ':':<12}{len(entries) or 'none'}")
        for entry in entries[:SHOWN]:
            print(f"  {entry}")
        if len(entries) > SHOWN:
            print(f"  … and {len(entries) - SHOWN} more")
    for note in findings.notes:
        print(f"note: {note}")
    count = sum(map(len, findings.problems.values()))
    print()
    print("All is well." if count == 0 else f"{count} {'problem' if count == 1 else 'problems'}, see above.")
    sys.stdout.flush()


def print_counts(module: "type[FolderDataModule]", utterances: Sequence["Utterance"]) -> None:
    """Print a table of utterances per speaker × emotion, with totals."""
    cells = Counter((utterance.speaker, utterance.emotion) for utterance in utterances)
    widths = [max(len(name), 4) for name in module.emotions]

    def row(name: str, counts: Sequence[int]) -> str:
        body = "  ".join(f"{count or '·':>{width}}" for count, width in zip(counts, widths, strict=True))
        return f"{name:<8}{body}  {sum(counts):>5}"

    columns = "  ".join(f"{name:>{width}}" for name, width in zip(module.emotions, widths, strict=True))
    print(f"{'speaker':<8}{columns}  {'all':>5}")
    emotions = range(len(module.emotions))
    for speaker, name in enumerate(module.speakers):
        print(row(name, [cells[speaker, emotion] for emotion in emotions]))
    print(row("all", [sum(cells[s, e] for s in range(len(module.speakers))) for e in emotions]))
