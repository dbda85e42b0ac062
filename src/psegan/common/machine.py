"""What this machine has: cores and GPUs."""

import os


def gpu_names() -> list[str]:
    """What CUDA calls the GPUs that this process may use: numbers, or what a cluster's scheduler has named."""
    import torch  # takes seconds to import

    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(gpu) for gpu in range(count)]


def cores() -> int:
    """Cores that this process may use, of those that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
