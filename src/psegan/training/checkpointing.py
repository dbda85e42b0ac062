"""Checkpoint files that are written atomically."""

import os
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from psegan.common.files import atomic_path
from psegan.weights import read_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints by a rename within their folder, and reads them with ``weights_only``.

    Lightning's own writer renames a temporary file that may lie on another disk; the file would then be copied, and a killed
    process would leave a part of it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain values.

        Raises:
            PseganError: the file is missing or unreadable.
        """
        return read_checkpoint(path, map_location)
