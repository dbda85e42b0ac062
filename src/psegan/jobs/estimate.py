"""How long work will take: minutes measured on a reference machine, times how fast this one is."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from psegan.common.processes import enter, forkserver

REFERENCE = "one core of an Intel Xeon of 2023 with AMX, whose other core trains as well"
"""Whose minutes experiment files name."""
REFERENCE_SECONDS = 0.058
"""That :func:`seconds` finds there."""


def line(minutes: Sequence[float | None], longest: float, workers: int) -> str:
    """A sentence on how long work will take, which is rough: on a GPU, processes share it, and some work is not its.

    Args:
        minutes: of one core of the reference machine, None where they are not known; the sentence is empty if none are.
        longest: of them, those that must follow one another.
        workers: processes at a time.
    """
    known = [one for one in minutes if one is not None]
    if not known:
        return ""
    # a process of its own leaves nothing on a GPU
    with ProcessPoolExecutor(1, forkserver(), enter, (Path.cwd(),)) as pool:
        expected = max(sum(known) / workers, longest) * pool.submit(seconds).result() / REFERENCE_SECONDS
    duration = f"{math.ceil(expected)} minute(s)" if expected < 100 else f"{expected / 60:.1f} hours"
    more = "" if len(known) == len(minutes) else ", and what has no estimate"
    return f"This will take about {duration} with {workers} process(es) at a time{more}."


def seconds() -> float:
    """That the accelerator, or else one core, takes for a step of a small classifier of speech; the best of a few."""
    import torch  # takes seconds to import

    from psegan.models.classifier import SpeechEncoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    encoder = SpeechEncoder().to(device)
    mel, lengths = torch.zeros(16, 80, 188, device=device), torch.full((16,), 188, device=device)
    found = []
    for _ in range(6):
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            embedding = encoder(mel, lengths)
        embedding.float().square().sum().backward()
        float(embedding.detach().sum())  # waits for the device
        found.append(time.perf_counter() - started)
    return min(found)
