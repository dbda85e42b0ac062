"""Checkpoints on disk: written whole or not at all, read without running code."""

import hashlib
import os
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import nn

from psegan.errors import PseganError
from psegan.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, by rename within the folder and always with ``weights_only``.

    Lightning's own writer goes through a temporary file that may lie on another disk, and then its last step is a copy.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write ``checkpoint``."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)

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


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of tensors and plain values, onto the CPU by default.

    Raises:
        PseganError: the file is missing, damaged, or would run code.
    """
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise PseganError(f"{path}: no such checkpoint; train it first (psegan fit) or correct the path") from None
    except Exception as error:  # torch raises whatever its unpickler or zip reader meets
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PseganError(f"{path}: cannot be read as a checkpoint ({reason}); give an intact .ckpt file") from None
    if not isinstance(checkpoint, dict):
        raise PseganError(f"{path}: holds no checkpoint; give a .ckpt file that psegan wrote")
    return checkpoint


def weights_hash(module: nn.Module) -> str | None:
    """First 16 hexadecimal digits of the SHA-256 of a module's parameters and buffers; None if it has none."""
    state = module.state_dict()
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16] if state else None
