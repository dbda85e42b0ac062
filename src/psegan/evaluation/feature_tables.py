"""Functionals of a whole protected corpus, made once, in parallel, beside its recordings."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from datamodules.manifest import read_manifest
from psegan.audio import read_audio
from psegan.evaluation.functionals import functionals
from psegan.files import atomic_path, file_hash
from psegan.stages import Record

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
    record = Record(corpus / "functionals.json", {"manifest": file_hash(manifest)})
    if not (record.valid and path.is_file()):
        record.begin()
        rows = read_manifest(manifest)
        files = [corpus / row["path"] for row in rows]
        label = f"functionals: {corpus.name}"
        if workers == 1:
            vectors = [functionals(read_audio(file)) for file in tqdm(files, desc=label, leave=False)]
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                found = pool.map(_functionals, files, chunksize=16)
                vectors = list(tqdm(found, total=len(files), desc=label, leave=False))
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, id=np.array([row["id"] for row in rows]), functionals=np.stack(vectors))
        record.finish()
    with np.load(path, allow_pickle=False) as arrays:
        return dict(zip(arrays["id"].tolist(), arrays["functionals"], strict=True))


def _functionals(file: Path) -> NDArray[np.float64]:
    return functionals(read_audio(file))
