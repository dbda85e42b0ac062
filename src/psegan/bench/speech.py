"""Speed of the vocoders and of ``psegan protect``, and the memory that an hour of speech takes."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from psegan.models.melgan import MelGAN
from psegan.models.state import fold_weight_norm
from psegan.models.vocoder import GriffinLim, Vocoder
from psegan.models.vocos import Vocos
from psegan.protection.command import DEFAULT_MODEL, add_arguments, protect_all
from psegan.speech.audio import HOP, SAMPLE_RATE, LogMel

Value = tuple[float, str]
"""A number and its unit."""
REAL_TIME = "× real time"


def speech_out() -> Iterator[tuple[str, Value]]:
    """Measure one thing after the other: name, and value with its unit."""
    vocoders: tuple[Vocoder, ...] = (GriffinLim(), MelGAN(), Vocos())
    for vocoder in vocoders:
        name = type(vocoder).__name__.lower()
        for length, batch in ((4, 1), (16, 1), (4, 16)):
            yield f"vocoder/{name}/{length}s×{batch}", (vocoder_speed(vocoder, length, batch), REAL_TIME)
    with tempfile.TemporaryDirectory() as folder:
        yield "protect/files", (protect_speed(Path(folder)), REAL_TIME)
        yield "protect/one-file", (protect_run(Path(folder) / "short", 4)[0], "s from start to end")
        elapsed, megabytes = protect_run(Path(folder) / "hour", 3_600)
        yield "protect/hour/speed", (3_600 / elapsed, REAL_TIME)
        yield "protect/hour/memory", (megabytes, "MB at most")


@torch.inference_mode()
def vocoder_speed(vocoder: Vocoder, seconds: int, batch: int, repeats: int = 3) -> float:
    """Seconds of speech per second: the median of ``repeats``, after one that is not counted."""
    fold_weight_norm(vocoder.eval())
    waveform = torch.randn(batch, seconds * SAMPLE_RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    log_mel, frames = LogMel()(waveform, torch.full((batch,), waveform.shape[1]))
    _, *taken = timeit.repeat(lambda: vocoder(log_mel, frames), number=1, repeat=repeats + 1)
    return batch * log_mel.shape[2] * HOP / SAMPLE_RATE / statistics.median(taken)


def protect_speed(folder: Path, files: int = 48) -> float:
    """Seconds of speech per second, from files to files, with the released model already in memory."""
    source = folder / "files"
    source.mkdir()
    for i in range(files):
        soundfile.write(source / f"{i}.wav", _noise(3 + i % 3), 48_000)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    summary, elapsed = protect_all(parser.parse_args([str(source), "-o", str(folder / "out")]))
    assert summary.done == files
    return summary.seconds / elapsed


def protect_run(folder: Path, seconds: int) -> tuple[float, float]:
    """``psegan protect`` on one file, as a process of its own: the seconds that it took, its largest memory in MB."""
    folder.mkdir()
    path = folder / "long.wav"
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        for _ in range(seconds // 4):
            file.write(_noise(4, SAMPLE_RATE))
    command = [sys.executable, "-c", _RUN, "protect", str(path), "-o", str(folder / "out"), "--model", DEFAULT_MODEL]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    elapsed = time.perf_counter() - started
    return elapsed, int(done.stdout.split()[-1]) / 1024


# the process reports its own memory: what its parent sees includes the parent's memory at the start
_RUN = r"""
import pathlib, re, sys
from psegan.cli import main
status = main()
print(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
sys.exit(status)
"""


def _noise(seconds: int, rate: int = 48_000) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.random.default_rng(seconds).normal(scale=0.05, size=seconds * rate).astype(np.float32)
