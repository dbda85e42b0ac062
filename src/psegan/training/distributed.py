"""What the processes of one training tell each other, beside the gradients that DDP averages."""

from typing import TypeVar

from torch import distributed

Value = TypeVar("Value")


def gather(value: Value) -> list[Value]:
    """The ``value`` of every process, in the order of their ranks; all processes must call this together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Value | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]
