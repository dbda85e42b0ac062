"""What the processes of one training tell each other, beside the gradients that DDP averages."""

from typing import Any

from torch import distributed


def gather(value: Any) -> list[Any]:
    """The ``value`` of every process, in the order of their ranks; all processes must call this together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
