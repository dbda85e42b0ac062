"""What this machine has: cores and GPUs."""

import os


def devices() -> int:
    """GPUs; 0 without any."""
    import torch  # takes seconds to import

    return torch.cuda.device_count()


def gpu_names(count: int) -> list[str]:
    """What CUDA calls the GPUs that this process may use: numbers, or what a cluster's scheduler has named."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(gpu) for gpu in range(count)]


def usual_workers() -> int:
    """Trainings at a time: four on each GPU, since these networks are small, or else one a core."""
    return min(4 * devices(), cores()) or cores()


def cores() -> int:
    """Cores that this process may use, of those that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
