"""Functionals of a whole protected corpus, made once, in parallel, beside its recordings."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datamodules.manifest import read_manifest
from psegan import __version__
from psegan.common.files import atomic_path, file_hash
from psegan.common.processes import one_thread, unordered, worth_starting
from psegan.common.record import Record
from psegan.evaluation.functionals import functionals
from psegan.speech.audio import read_audio

FILE = "functionals.npz"


def functional_table(corpus: Path, workers: int) -> dict[str, NDArray[np.float64]]:
    """Id → functionals ``(F,)`` of every recording of a protected corpus.

    Args:
        corpus: folder with ``manifest.csv``; gets ``functionals.npz``.
        workers: processes.

    Raises:
        PseganError: a recording is missing or unreadable.
    """
    manifest, path = corpus / "manifest.csv", corpus / FILE
    record = Record(corpus / "functionals.json", {"manifest": file_hash(manifest), "version": __version__})
    if not (record.valid and path.is_file()):
        record.begin()
        rows = read_manifest(manifest)
        files = [corpus / row["path"] for row in rows]
        workers = worth_starting(workers, len(files))
        found = unordered(_functionals, files, workers) if workers > 1 else map(_functionals, files)
        with one_thread():
            vectors = dict(tqdm(found, total=len(files), desc=f"functionals: {corpus.name}", leave=False))
        with atomic_path(path) as temporary:
            ids, table = np.array([row["id"] for row in rows]), np.stack([vectors[file] for file in files])
            np.savez_compressed(temporary, id=ids, functionals=table)
        record.finish()
    with np.load(path, allow_pickle=False) as arrays:
        return dict(zip(arrays["id"].tolist(), arrays["functionals"], strict=True))


def _functionals(file: Path) -> tuple[Path, NDArray[np.float64]]:
    return file, functionals(read_audio(file))
