"""Weights that ship: a folder of safetensors, a JSON configuration and a card, here, in a local folder or on a hub.

Nothing in such a folder is code: no pickles are read, and a configuration names classes of :mod:`psegan.models` only.
"""

import contextlib
import copy
import hashlib
import importlib
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from torch import Tensor, nn
from torch.nn.utils import parametrize

from psegan.common.errors import PseganError
from psegan.common.instantiate import describe

MODELS = "psegan.models"


class Shipped(nn.Module, PyTorchModelHubMixin, library_name="psegan"):
    """Trained networks with what is known of them, in evaluation mode, frozen, weight norm folded.

    Args:
        parts: name → ``{"class_path": ..., "init_args": {...}}`` of a module of :mod:`psegan.models`.
        about: what else there is to know, in plain values: ``heard`` says what they were trained on.

    Raises:
        PseganError: a part is no module of ours, or not with these arguments.
    """

    needs: ClassVar[str] = ""
    """A part without which weights are none of this class."""

    def __init__(self, parts: dict[str, Any], about: dict[str, Any]) -> None:
        super().__init__()
        self.about = about
        self.card: str | None = (
            None  # of the folder that they were loaded from: licence and limits go where the weights go
        )
        for name, spec in parts.items():
            self.add_module(name, fold_weight_norm(build(spec)))
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
            shipped.get_submodule(name).load_state_dict(folded_state(module))
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
        if not Path(path).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
            names = ", ".join(released(cls.needs)) or "none"
            raise PseganError(
                f"{name}: is no folder; released here are {names}, a repository of the Hugging Face hub is OWNER/NAME, "
                "and a checkpoint ends in .ckpt"
            )
        if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
            raise PseganError(
                f"{name}: holds no config.json; name a folder that psegan export wrote, or a .ckpt of psegan fit"
            )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the hub's library says where it loads from
                loaded = super().from_pretrained(path, strict=True, **kwargs)
            card = Path(path) / "README.md"
            loaded.card = card.read_text(encoding="utf-8") if card.is_file() else None
            return loaded
        except Exception as error:  # whatever the network, the cache or the file holds
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            offer = "" if Path(path).is_dir() else f"; released here are {', '.join(released(cls.needs)) or 'none'}"
            raise PseganError(f"{name}: cannot be loaded ({reason}){offer}, or name a folder or repository") from None

    @classmethod
    def _load_as_pickle(cls, *args: Any) -> Any:
        raise PseganError("holds no model.safetensors, and pickles are not read")

    def save_pretrained(  # type: ignore[override]
        self, folder: str | Path, card: str | None = None, half: bool = False, **kwargs: Any
    ) -> None:
        """Write ``model.safetensors``, ``config.json`` and ``README.md`` into a new folder, all or nothing.

        Args:
            folder: that does not exist yet, or is empty.
            card: text of the README; by default that of the folder that they were loaded from, or else a short one.
            half: store 16-bit floats, at half the size; they are loaded as 32-bit ones.
            kwargs: of :meth:`huggingface_hub.ModelHubMixin.save_pretrained`, which ``push_to_hub`` passes on.

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
            (made / "README.md").write_text(card or self.card or self.default_card(), encoding="utf-8")
            shipped = copy.deepcopy(self).half() if half else self
            super(Shipped, shipped).save_pretrained(made, **kwargs)
            for path in made.iterdir():
                path.chmod(0o644)
            if folder.exists():
                folder.rmdir()
            made.rename(folder)

    def default_card(self) -> str:
        """What is known of the weights without anybody writing it."""
        parts = "\n".join(f"- {name}: `{type(module).__name__}`" for name, module in self.named_children())
        heard = "\n".join(
            f"- {one['role']}: `{one['data'].get('class_path')}`, split {one['data'].get('init_args', {}).get('split', '?')}"
            for one in self.about.get("heard", [])
        )
        return f"""# {self.about.get("system", type(self).__name__)}

Weights of psegan, speech attribute privacy.

## Parts
{parts}

## Trained on
{heard or "- not said"}

The weights may be under the licence of that speech. How well they protect, nobody has written down here: evaluate them.
"""


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
    """What shipped weights say of themselves, in a folder or on the hub, without loading them.

    Raises:
        PseganError: they have no readable configuration.
    """
    try:
        folder = Path(find(name))
        path = folder / "config.json" if folder.is_dir() else Path(hf_hub_download(str(name), "config.json"))
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["about"]
        assert isinstance(about, dict)
    except Exception as error:  # of the hub's client, of the file, or of what it holds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PseganError(
            f"{name}: has no readable configuration ({reason}); name weights that psegan export wrote"
        ) from None
    return about


def is_shipped(name: str | Path) -> bool:
    """Whether this is a folder of shipped weights, or the name of released ones."""
    return (Path(find(name)) / "config.json").is_file()


def find(name: str | Path) -> str:
    """The folder of released weights by name; anything else, a folder or a hub's repository, as it is."""
    return released().get(str(name), str(name)) if not Path(name).exists() else str(name)


def released(part: str = "") -> dict[str, str]:
    """Name → folder of the weights that come with psegan; of those alone that have the part, if one is named."""
    here = Path(__file__)
    roots = here.with_name("released"), here.parents[2] / "checkpoints" / "released"  # installed, or a checkout
    paths = [path for root in roots for path in sorted(root.glob("*/config.json"))]
    return {
        path.parent.name: str(path.parent)
        for path in paths
        if not part or part in json.loads(path.read_text(encoding="utf-8"))["parts"]
    }


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


def build(spec: Any) -> nn.Module:
    """The module that a configuration describes: classes of :mod:`psegan.models`, and plain values for their arguments.

    Constructing a class runs its code, and a configuration may come from anybody; so nothing else is looked up, and no text is
    taken for a class or a file.

    Raises:
        PseganError: it describes anything else, or arguments that the class does not take.
    """
    if not isinstance(spec, dict) or spec.keys() - {"class_path", "init_args"} or "class_path" not in spec:
        raise PseganError("a part of the configuration is no class_path with init_args; it is not psegan's")
    module, _, name = str(spec["class_path"]).rpartition(".")
    found: Any = None
    if re.fullmatch(rf"{re.escape(MODELS)}\.[a-z_]+", module):
        with contextlib.suppress(ImportError):
            found = vars(importlib.import_module(module)).get(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module):
        raise PseganError(f"{spec['class_path']} is no module of {MODELS}; the configuration is not psegan's")
    init_args = spec.get("init_args") or {}
    try:
        return found(**{key: build(one) if isinstance(one, dict) else one for key, one in init_args.items()})
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise PseganError(f"{name} cannot be made of these arguments ({error})") from None


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
