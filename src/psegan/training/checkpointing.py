"""Checkpoint files: written atomically, and continued from complete epochs alone."""

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
        return read_checkpoint(path, map_location)


def complete_epochs(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> int:
    """The epochs of a training that a checkpoint holds.

    Raises:
        PseganError: it was saved within an epoch, or holds weights alone, so that no training goes on from it.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop is None:
        raise PseganError(
            f"{path}: holds weights alone, from which no training goes on; give a checkpoint with its optimisers"
        )
    batches = loop["epoch_loop.batch_progress"]
    if not batches["is_last_batch"] or batches["current"]["completed"] != batches["current"]["ready"]:
        raise PseganError(
            f"{path}: was saved within an epoch, from where no training goes on; give a checkpoint of a complete epoch, "
            "or begin anew in another --run.dir"
        )
    return int(loop["epoch_progress"]["current"]["started"])
