"""``psegan data check``: count the recordings of a corpus and list what is wrong with them."""

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from tqdm import tqdm

from psegan.common.errors import PseganError, printable
from psegan.speech.audio import AudioReader

if TYPE_CHECKING:
    from datamodules.base import FolderDataModule, Utterance

SILENT = 1e-3
"""Peak amplitude below which a recording is silent (-60 dB of full scale); the quietest published one has 0.0045."""
RATES = {"ravdess": (48_000, 16_000), "emodb": (16_000,), "nemo": (24_000, 16_000)}
"""Sampling rates in Hz, as published and of copies."""
FORMATS = {("WAV", "PCM_16"), ("WAVEX", "PCM_16"), ("FLAC", "PCM_16")}
LOSSY = ("OGG", "OPUS")
"""Of copies that are nearly the published recordings."""
KINDS = (
    "missing", "unexpected", "unparsable", "unreadable", "silent", "duplicated", "odd format",
)  # fmt: skip
SHOWN = 20
"""Entries of a list that are printed."""


@dataclass
class Findings:
    """What a check found: kind of problem → files, notes on what is no problem, the formats, and how many are lossy copies."""

    seconds: float = 0.0
    problems: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    notes: list[str] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    lossy: int = 0


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
    if findings.lossy:
        findings.notes.append(f"{findings.lossy} are Opus: copies, nearly the published recordings, not exactly")
    _print_findings(module, root, utterances, findings)
    return int(any(findings.problems.values()))


def _check_file(utterance: "Utterance", rates: Sequence[int], findings: Findings) -> str | None:
    """Note what is wrong with one recording; returns a digest of its samples if it could be read."""
    problems, path = findings.problems, utterance.path
    assert path is not None
    try:
        reader = AudioReader(path)
        waveform = torch.cat(list(reader.blocks()))
    except PseganError as error:
        problems["unreadable"].append(str(error))
        return None
    findings.seconds += reader.read / reader.rate
    findings.formats[f"{reader.format} {reader.rate} Hz {reader.subtype}"] += 1
    findings.lossy += (reader.format, reader.subtype) == LOSSY
    if waveform.abs().max() < SILENT:
        problems["silent"].append(str(path))
        return None
    odd = []
    if reader.rate not in rates:
        odd.append(f"{reader.rate} Hz instead of {' or '.join(map(str, rates))}")
    if (reader.format, reader.subtype) not in {*FORMATS, LOSSY}:
        odd.append(f"{reader.format} {reader.subtype} instead of 16-bit WAV or FLAC, or Opus")
    if (channels := reader.comparison) is not None:
        if reader.channels == 2 and channels.equal:
            findings.notes.append(f"{utterance.id} is stereo with equal channels; they are averaged when read")
        else:
            odd.append("2 channels that differ" if reader.channels == 2 else f"{reader.channels} channels instead of 1")
        if channels.loudest_of_cancelling is not None:
            odd.append(f"they cancel one another, so that only channel {channels.loudest_of_cancelling + 1} is read")
    if odd:
        problems["odd format"].append(f"{path}: {', '.join(odd)}")
    return hashlib.sha256(waveform.numpy().tobytes()).hexdigest()


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
