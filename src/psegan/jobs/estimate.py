"""How long work will take: minutes measured on a reference machine, times how fast this one is."""

import math
import subprocess
import sys
import time
from collections.abc import Sequence

from psegan.jobs.job import Job

REFERENCE = "one core of an Intel Xeon of 2023 with AMX, whose other core trains as well"
"""Whose minutes experiment files name."""
REFERENCE_SECONDS = 0.058
"""That :func:`seconds` finds there."""


def remaining(jobs: Sequence[Job]) -> tuple[list[float | None], float]:
    """Minutes of each job that is not complete, None where there is no estimate, and of the longest chain of them.

    Args:
        jobs: each after those that it needs.
    """
    minutes: list[float | None] = []
    ends: dict[Job, float] = {}
    for job in jobs:
        complete = job.complete
        minutes += [] if complete else [job.minutes]
        own = 0.0 if complete else job.minutes or 0.0
        ends[job] = own + max((ends[one] for one in job.jobs), default=0.0)
    return minutes, max(ends.values(), default=0.0)


def line(minutes: float, longest: float, workers: int, complete: bool) -> str:
    """A sentence on how long work will take, which is rough: on a GPU, processes share it, and some work is not its.

    Args:
        minutes: of one core of the reference machine.
        longest: of them, those that must follow one another.
        workers: processes at a time.
        complete: whether nothing is missing from the minutes.
    """
    # in a process of its own, which leaves nothing on a GPU
    measured = subprocess.run(
        [sys.executable, "-m", "psegan.jobs.estimate"], capture_output=True, text=True, check=False
    )
    if measured.returncode:
        said = measured.stderr.strip().split("\n")[-1]
        return f"How long this will take could not be measured: {said}"
    expected = max(minutes / workers, longest) * float(measured.stdout) / REFERENCE_SECONDS
    more = "" if complete else ", and what has no estimate"
    return f"This will take about {duration(expected)} with {workers} process(es) at a time{more}."


def duration(minutes: float) -> str:
    """Minutes as a person says them."""
    if minutes < 1:
        return "a minute"
    if minutes < 100:
        return f"{math.ceil(minutes)} minutes"
    return f"{minutes / 60:.1f} hours"


def seconds() -> float:
    """That the accelerator, or else one core, takes for a step of a small classifier of speech; the best of a few."""
    import torch  # takes seconds to import

    from psegan.models.classifier import SpeechEncoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
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
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    print(seconds())
