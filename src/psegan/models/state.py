"""What a network's weights are: their hash, weight norm folded into them, and what is wrong with a file of them."""

import hashlib
import pickle

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def weights_hash(module: nn.Module) -> str | None:
    """First 16 hexadecimal digits of the SHA-256 of a module's parameters and buffers; None if it has none."""
    state = module.state_dict()
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16] if state else None


def fold_weight_norm(module: nn.Module) -> nn.Module:
    """Replace every normalised weight by its value, in place: what inference needs, and faster."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")
    return module


def folded_state(module: nn.Module) -> dict[str, Tensor]:
    """The ``state_dict`` that :func:`fold_weight_norm` would leave; the module stays as it is.

    A copy cannot be folded instead: it shares its parametrised classes with the original, which folding would break.
    """
    state = {}
    for name, tensor in module.state_dict().items():
        owner, normalised, _ = name.partition(".parametrizations.weight.original")
        if normalised:
            state[f"{owner}.weight"] = module.get_submodule(owner).weight.detach()  # type: ignore[operator]
        else:
            state[name] = tensor
    return state


def damage(error: Exception) -> str:
    """Why a file of weights cannot be read, in our words: torch's are several lines of advice that no user should follow."""
    if isinstance(error, OSError) and error.filename:  # and not of a place in the file that isn't there
        return str(error.strerror)
    if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
        return "it holds Python objects, which could run code"
    return "it is damaged, cut short, or something else"
