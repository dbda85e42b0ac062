"""``psegan data check``: count the recordings of a corpus and list what is wrong with them."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from psegan.common.errors import printable

if TYPE_CHECKING:
    from datamodules.base import FolderDataModule, Utterance

SILENT = 1e-3
"""Peak amplitude below which a recording is silent (-60 dB of full scale); the quietest published one has 0.0045."""
RATES = {"ravdess": (48_000, 16_000), "emodb": (16_000,)}
"""Sampling rates in Hz, as published and of the FLAC copies."""
FORMATS = ("WAV", "WAVEX", "FLAC")
KINDS = (
    "missing", "unexpected", "unparsable", "unreadable", "empty", "not finite", "silent", "duplicated", "odd format",
)  # fmt: skip
SHOWN = 20
"""Entries of a list that are printed."""


@dataclass
class Findings:
    """What a check found: kind of problem → files, notes on what is no problem, and the formats."""

    seconds: float = 0.0
    problems: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    notes: list[str] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)


def check_corpus(module: "type[FolderDataModule]", root: Path) -> int:
    """Read every recording below ``root`` and print what was found; returns 1 where something is missing or wrong, or 0.

    Raises:
        PseganError: there is no such folder, or it holds no recordings.
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
        if len(ids) > 1 and module.locked.issuperset(ids):
            findings.notes.append(f"{' and '.join(ids)} are identical, as published; splits keep them on one side")
        elif len(ids) > 1:
            findings.problems["duplicated"].append(" = ".join(ids))
    _print_findings(module, root, utterances, findings)
    return int(any(findings.problems.values()))


def _check_file(utterance: "Utterance", rates: Sequence[int], findings: Findings) -> str | None:
    """Note what is wrong with one recording; returns a digest of its samples if it could be read."""
    problems, path = findings.problems, utterance.path
    assert path is not None
    try:
        info = soundfile.info(os.fsencode(path))
        samples, rate = soundfile.read(os.fsencode(path), dtype="float64", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else error.strerror
        problems["unreadable"].append(f"{path} ({str(reason).rstrip('.')})")
        return None
    findings.seconds += len(samples) / rate
    findings.formats[f"{info.format} {rate} Hz {info.subtype}"] += 1
    for kind, found in (
        ("empty", len(samples) == 0),
        ("not finite", not np.isfinite(samples).all()),
        ("silent", np.abs(samples).max(initial=0) < SILENT),
    ):
        if found:
            problems[kind].append(str(path))
            return None
    odd = []
    if rate not in rates:
        odd.append(f"{rate} Hz instead of {' or '.join(map(str, rates))}")
    if info.format not in FORMATS or info.subtype != "PCM_16":
        odd.append(f"{info.format} {info.subtype} instead of 16-bit WAV or FLAC")
    if info.channels == 2 and np.array_equal(samples[:, 0], samples[:, 1]):
        findings.notes.append(f"{utterance.id} is stereo with equal channels; they are averaged when read")
    elif info.channels > 1:
        odd.append("2 channels that differ" if info.channels == 2 else f"{info.channels} channels instead of 1")
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
    counts = pd.DataFrame(0, index=[*module.speakers, "all"], columns=[*module.emotions, "all"])
    for utterance in utterances:
        counts.loc[[module.speakers[utterance.speaker], "all"], [module.emotions[utterance.emotion], "all"]] += 1
    print(f"\n{counts.rename_axis(columns='speaker').astype(object).replace(0, '·').to_string()}\n")
    for kind, entries in findings.problems.items():
        print(f"{kind + ':':<12}{len(entries) or 'none'}")
        for entry in entries[:SHOWN]:
            print(printable(f"  {entry}"))
        if len(entries) > SHOWN:
            print(f"  … and {len(entries) - SHOWN} more")
    for note in findings.notes:
        print(f"note: {note}")
    count = sum(map(len, findings.problems.values()))
    print("\nAll is well." if count == 0 else f"\n{count} {'problem' if count == 1 else 'problems'}, see above.")
    sys.stdout.flush()
