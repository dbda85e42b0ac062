"""Weights that ship: a folder of safetensors, a JSON configuration and a card, here, in a local folder or on a hub.

Nothing in such a folder is code: no pickles are read, and a configuration names classes of :mod:`psegan.models` only.
"""

import contextlib
import copy
import io
import json
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Self

from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torch.nn.utils import parametrize

from psegan.errors import PseganError
from psegan.instantiate import describe, instantiate

MODELS = "psegan.models"


class Shipped(nn.Module, PyTorchModelHubMixin, library_name="psegan"):
    """Trained networks with what is known of them, in evaluation mode, frozen, weight norm folded.

    Args:
        parts: name → ``{"class_path": ..., "init_args": {...}}`` of a module of :mod:`psegan.models`.
        about: what else there is to know, in plain values: ``heard`` says what they were trained on.

    Raises:
        PseganError: a part is no module of ours, or not with these arguments.
    """

    def __init__(self, parts: dict[str, Any], about: dict[str, Any]) -> None:
        super().__init__()
        self.about = about
        for name, spec in parts.items():
            _check_origin(spec)
            module = instantiate(nn.Module, spec, name)
            self.add_module(name, fold_weight_norm(module))
        self.eval().requires_grad_(False)

    @classmethod
    def assemble(cls, modules: dict[str, nn.Module], about: dict[str, Any]) -> Self:
        """Of trained modules, which are copied.

        Args:
            modules: name → module that keeps its constructor's arguments as attributes.
            about: see the class.
        """
        shipped = cls({name: describe(module) for name, module in modules.items()}, about)
        for name, module in modules.items():
            shipped.get_submodule(name).load_state_dict(fold_weight_norm(copy.deepcopy(module)).state_dict())
        return shipped

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """Load what :meth:`save_pretrained` wrote.

        Args:
            name: of released weights (:func:`released`), a folder, or a repository of the Hugging Face hub.
            kwargs: of :meth:`huggingface_hub.ModelHubMixin.from_pretrained`, as ``local_files_only``, ``cache_dir``.

        Raises:
            PseganError: there are none, they cannot be fetched, or they are damaged.
        """
        path = find(name)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the hub's library says where it loads from
                return super().from_pretrained(path, strict=True, **kwargs)
        except Exception as error:  # whatever the network, the cache or the file holds
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            offer = "" if Path(path).is_dir() else f"; released here are {', '.join(released()) or 'none'}"
            raise PseganError(f"{name}: cannot be loaded ({reason}){offer}, or name a folder or repository") from None

    @classmethod
    def _load_as_pickle(cls, *args: Any) -> Any:
        raise PseganError("holds no model.safetensors, and pickles are not read")

    def save_pretrained(  # type: ignore[override]
        self, folder: str | Path, card: str | None = None, half: bool = False
    ) -> None:
        """Write ``model.safetensors``, ``config.json`` and ``README.md`` into a new folder, all or nothing.

        Args:
            folder: that does not exist yet, or is empty.
            card: text of the README; a short one by default.
            half: store 16-bit floats, at half the size; they are loaded as 32-bit ones.

        Raises:
            PseganError: the folder holds files already.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise PseganError(f"{folder}: exists already; remove it, or choose another folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            if card is not None:
                (made / "README.md").write_text(card, encoding="utf-8")
            shipped = copy.deepcopy(self).half() if half else self
            super(Shipped, shipped).save_pretrained(made)
            for path in made.iterdir():
                path.chmod(0o644)
            if folder.exists():
                folder.rmdir()
            made.rename(folder)


def load_part(name: str | Path, part: str) -> nn.Module:
    """One trained network from shipped weights, as ``load_part("vocos", "vocoder")``.

    Raises:
        PseganError: see :meth:`Shipped.from_pretrained`, or it has no such part.
    """
    shipped = Shipped.from_pretrained(name)
    if part not in dict(shipped.named_children()):
        parts = ", ".join(key for key, _ in shipped.named_children())
        raise PseganError(f"{name}: holds {parts}, but no {part}; name another")
    return shipped.get_submodule(part)


def read_about(name: str | Path) -> dict[str, Any]:
    """What a shipped folder says of itself, without its weights.

    Raises:
        PseganError: the folder has no readable configuration.
    """
    path = Path(find(name)) / "config.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["about"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PseganError(f"{path}: cannot be read ({error}); name a folder that psegan export wrote") from None
    return about


def is_shipped(name: str | Path) -> bool:
    """Whether this is a folder of shipped weights, or the name of released ones."""
    return (Path(find(name)) / "config.json").is_file()


def find(name: str | Path) -> str:
    """The folder of released weights by name; anything else, a folder or a hub's repository, as it is."""
    return released().get(str(name), str(name)) if not Path(name).exists() else str(name)


def released() -> dict[str, str]:
    """Name → folder of the weights that come with psegan."""
    with contextlib.suppress(ModuleNotFoundError):
        root = Path(str(resources.files("psegan.released")))
        return {path.parent.name: str(path.parent) for path in sorted(root.glob("*/config.json"))}
    return {}


def fold_weight_norm(module: nn.Module) -> nn.Module:
    """Replace every normalised weight by its value, in place: what inference needs, and faster."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")
    return module


def _check_origin(spec: Any) -> None:
    """Refuse classes from anywhere else, at any depth: constructing one runs its code."""
    for class_path in _class_paths(spec):
        if not str(class_path).startswith(f"{MODELS}."):
            raise PseganError(f"{class_path} is no module of {MODELS}; the configuration is not psegan's")


def _class_paths(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "class_path" in value:
            yield value["class_path"]
        for one in value.values():
            yield from _class_paths(one)
