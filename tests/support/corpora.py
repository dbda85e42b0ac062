"""Synthetic speech as a corpus that lies in a folder."""

from collections.abc import Callable, Iterable
from pathlib import Path

import soundfile

from datamodules import SyntheticDataModule, write_manifest
from datamodules.base import Utterance


def write_corpus(
    folder: Path,
    data: SyntheticDataModule,
    columns: Callable[[Utterance], dict[str, str]],
    utterances: Iterable[Utterance] | None = None,
) -> None:
    """Write utterances, by default all, as WAV, and a ``manifest.csv`` with their paths and ``columns``."""
    load, rows = data.loader(), []
    folder.mkdir(exist_ok=True)
    for utterance in data.utterances() if utterances is None else utterances:
        name = f"{utterance.id.replace('/', '-')}.wav"
        soundfile.write(folder / name, load(utterance).numpy(), 16_000)
        rows.append({"path": name, **columns(utterance)})
    write_manifest(folder / "manifest.csv", rows)
