"""Speed of the vocoders, of ``psegan protect`` and of a GPU's protector, and the memory that an hour of speech takes."""

import argparse
import itertools
import math
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

from datamodules.synthetic import SyntheticDataModule
from psegan.bench.fit import Figure, Setting
from psegan.common.ending import Ending
from psegan.common.errors import PseganError
from psegan.models.melgan import MelGAN
from psegan.models.state import fold_weight_norm
from psegan.models.vocoder import GriffinLim, Vocoder
from psegan.models.vocos import Vocos
from psegan.protection.command import DEFAULT_MODEL, add_arguments, protect_all
from psegan.protection.protector import Protector
from psegan.speech.audio import HOP, SAMPLE_RATE, LogMel

Value = tuple[float, str]
"""A number and its unit."""
REAL_TIME = "× real time"
DEVICE_BOUND = 1.0
"""Largest mean difference, in dB, of log-mels of what a GPU and the CPU protect with the same draws."""


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
    summary, elapsed = protect_all(parser.parse_args([str(source), "-o", str(folder / "out")]), Ending())
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


@torch.inference_mode()
def protector_speeds(setting: Setting) -> Iterator[Figure]:
    """The released PSEGAN on synthetic speech, utterance by utterance and as one recording, on the GPU and on the CPU.

    Raises:
        PseganError: they protect the recording differently.
    """
    voices = SyntheticDataModule()
    spoken = itertools.cycle(map(voices.loader(), voices.utterances()))
    utterances, wanted = [next(spoken)], setting.minutes * 60 * SAMPLE_RATE
    while sum(map(len, utterances)) < wanted:
        utterances.append(next(spoken))
    recording = torch.cat(utterances)
    protector, log_mels = Protector.load(DEFAULT_MODEL), []
    for device in dict.fromkeys((setting.device, "cpu")):
        protector.to(device)
        for name, recordings in (("utterances", utterances), ("recording", [recording])):
            protector(recordings[0][: 60 * SAMPLE_RATE], SAMPLE_RATE, seed=0)  # warms up
            started = time.perf_counter()
            made = [protector(one, SAMPLE_RATE, seed=0) for one in recordings]
            elapsed = time.perf_counter() - started
            yield f"protect/{name}/{device}", (len(recording) / SAMPLE_RATE / elapsed, REAL_TIME)
        log_mels.append(LogMel()(made[0][None], torch.tensor([len(made[0])]))[0])
        if device == setting.device:
            yield from setting.memory("protect")
    difference = float((log_mels[0] - log_mels[-1]).abs().mean()) * 20 / math.log(10)
    yield "protect/difference", (difference, f"dB, the mean difference of log-mels; bound {DEVICE_BOUND}")
    if not difference <= DEVICE_BOUND:
        raise PseganError(f"what {setting.device} protects differs from the CPU's by {difference:.3g} dB")


def _noise(seconds: int, rate: int = 48_000) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.random.default_rng(seconds).normal(scale=0.05, size=seconds * rate).astype(np.float32)
