"""Checkpoint files that are written atomically."""

import os
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from psegan.common.errors import PseganError
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
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch closes its archive even on a full disk, and says no more of the disk
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain values.

        Raises:
            PseganError: the file is missing or unreadable.
        """
        checkpoint = read_checkpoint(path, map_location)
        if "psegan" not in checkpoint:
            raise PseganError(f"{path}: holds no checkpoint of psegan; give a .ckpt file that psegan fit wrote")
        return checkpoint
