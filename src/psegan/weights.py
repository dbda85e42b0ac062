"""Trained weights, from wherever they come: released ones by name, folders, the hub, checkpoints of ``psegan fit``.

Weights that ship are a folder of safetensors, a JSON configuration and a card. Nothing in such a folder is code: no pickles
are read, and a configuration names classes of :mod:`psegan.models` only. A checkpoint is read as tensors and plain values; the
system that wrote it says which of its networks ship (``System.parts``).
"""

import contextlib
import copy
import importlib
import json
import os
import re
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from psegan.common.errors import PseganError, causes, readable
from psegan.common.files import FOLDER, not_a_file
from psegan.common.instantiate import IMPORTABLE, current_path, describe, find_class, instantiate
from psegan.models.state import damage, fold_weight_norm, folded_state
from psegan.models.vocoder import Vocoder

MODELS = "psegan.models"
DEFAULT_VOCODER = "vocos"
"""What a trained conversion and copy-synthesis speak through where nothing else is said."""
PUBLIC_VOCODERS = ("speechbrain/tts-hifigan-libritts-16kHz",)
"""Repositories of the hub whose vocoder has this project's mel convention."""
PUBLIC_WEIGHTS = "generator.ckpt"
"""The file that counts in them, a PyTorch state dict; it is read without running any code that it might hold."""


class PretrainedModel(nn.Module, PyTorchModelHubMixin, library_name="psegan"):
    """Trained networks with what is known of them, in evaluation mode, frozen, weight norm folded.

    Args:
        parts: name → ``{"class_path": ..., "init_args": {...}}`` of a module of :mod:`psegan.models`.
        about: what else there is to know, in plain values: ``trained_on`` says what they were trained on.

    Raises:
        PseganError: a part is no module of ours, or not with these arguments.
    """

    def __init__(self, parts: dict[str, Any], about: dict[str, Any]) -> None:
        super().__init__()
        self.about = _current(about)
        # of the folder that they were loaded from: licence and limits go where the weights go
        self.card: str | None = None
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn only to be replaced
            for name in sorted(parts):  # as a saved configuration has them, so that their hash is the same
                self.add_module(name, fold_weight_norm(build(parts[name])))
        self.eval().requires_grad_(False)

    @classmethod
    def assemble(cls, modules: dict[str, nn.Module], about: dict[str, Any]) -> Self:
        """Of trained modules, which are copied.

        Args:
            modules: name → module that keeps its constructor's arguments as attributes.
            about: see the class.
        """
        model = cls.kind_of(modules)({name: describe(module) for name, module in modules.items()}, about)
        for name, module in modules.items():
            model.get_submodule(name).load_state_dict(folded_state(module))
        model.check()
        return model

    @classmethod
    def kind_of(cls, parts: Mapping[str, Any]) -> type[Self]:
        """The class of what has these parts, by name; by default this one."""
        return cls

    def check(self) -> None:
        """Raise :class:`PseganError` if the weights that were loaded must not be used; by default all may be."""

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """Load what :meth:`save_pretrained` wrote.

        Args:
            name: of released weights (:func:`released`), a folder, or a repository of the Hugging Face hub.
            kwargs: of :func:`huggingface_hub.snapshot_download`, as ``local_files_only``, ``cache_dir``.

        Raises:
            PseganError: there are none, they cannot be fetched, or they are damaged.
        """
        path = find(name)
        remedy = "name a folder that psegan export wrote, or a .ckpt of psegan fit"
        if path == "" or not_a_file(path) != FOLDER:
            remedy = (
                f"released here are {', '.join(released())}, and a repository of the Hugging Face hub is OWNER/NAME"
            )
            if not _is_repository(path):
                raise PseganError(f"{str(name) or repr('')}: is no folder; {remedy}")
        if path != str(name) and Path(name).is_dir():
            _say_taken(str(name))
        with _one_line(name, "cannot be loaded", remedy):
            folder = _fetch(path, "config.json", "model.safetensors", "README.md", **kwargs)
            config = _read_config(folder)
            loaded = cls.kind_of(config["parts"])(config["parts"], config["about"])
            if problem := not_a_file(folder / "model.safetensors"):
                raise PseganError(f"model.safetensors: {problem}")
            try:
                load_model(loaded, folder / "model.safetensors")
            except RuntimeError:
                raise PseganError("its weights are of other networks than its config.json describes") from None
            loaded.check()
            if (card := folder / "README.md").is_file():
                loaded.card = card.read_text(encoding="utf-8", errors="replace")
        return loaded

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
        try:
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".psegan-") as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                (made / "README.md").write_text(card or self.card or self._default_card(), encoding="utf-8")
                model = copy.deepcopy(self).half() if half else self
                super(PretrainedModel, model).save_pretrained(made, **kwargs)
                for path in made.iterdir():
                    path.chmod(0o644)
                if folder.exists():
                    folder.rmdir()
                made.rename(folder)
        except SafetensorError as error:
            raise PseganError(f"{folder}: cannot be written ({error}); make room, or choose another folder") from None
        except OSError as error:
            error.filename = str(folder)
            raise

    def _default_card(self) -> str:
        """What is known of the weights where nobody has written a card."""
        parts = {name: type(module).__name__ for name, module in self.named_children()}
        known = json.dumps({"parts": parts, **self.about}, indent=2, ensure_ascii=False)
        return (
            f"# {self.about.get('system', type(self).__name__)}\n\nWeights of psegan, speech attribute privacy. They may be "
            "under the licence of the speech that they were trained on. How well they protect, nobody has written down here: "
            f"evaluate them.\n\n```json\n{known}\n```\n"
        )


def load_parts(source: str | Path) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The networks of trained weights by name, frozen and in evaluation mode, and what is known of them.

    Args:
        source: name of released weights, a folder that ``psegan export`` wrote, a repository of the Hugging Face hub, a
            checkpoint of ``psegan fit``, or a public vocoder (:data:`PUBLIC_VOCODERS`) or a local copy of its folder.

    Returns:
        ``conversion`` and, in weights that ship, ``vocoder`` of a protecting system; ``vocoder`` of a vocoder; ``encoder`` of
        a classifier. And ``system``, ``emotions``, ``attribute`` and ``trained_on``, as far as they are known.

    Raises:
        PseganError: there are none, they cannot be fetched, or they are damaged.
    """
    if is_public(source):
        return {"vocoder": _load_public(source)}, {}
    if is_checkpoint(source):
        system = load_system(source)
        return system.parts(), system.about()
    model = PretrainedModel.from_pretrained(source)
    return dict(model.named_children()), model.about


def load_part(source: str | Path, part: str) -> nn.Module:
    """One trained network, as ``load_part("vocos", "vocoder")``; see :func:`load_parts`.

    Raises:
        PseganError: see :func:`load_parts`, or it has no such part.
    """
    parts, _ = load_parts(source)
    if part not in parts:
        raise PseganError(f"{source}: holds {', '.join(parts) or 'nothing that ships'}, but no {part}; name another")
    return parts[part]


def load_vocoder(spec: Vocoder | str | dict[str, Any] | None = None) -> Vocoder:
    """A vocoder, ready to speak.

    Args:
        spec: where trained ones are (:func:`load_parts`; of a :class:`psegan.systems.VocoderGAN` the averaged weights count);
            ``{"class_path": ..., "init_args": {...}}``; a vocoder itself; None for :data:`DEFAULT_VOCODER`.

    Raises:
        PseganError: there is none, it cannot be fetched, or it is damaged.
    """
    if isinstance(spec, Vocoder):
        return spec.eval()
    if isinstance(spec, dict):
        vocoder: nn.Module = instantiate(Vocoder, spec, "vocoder", "psegan.models.vocoder")
    else:
        spec = DEFAULT_VOCODER if spec is None else spec
        if not (is_public(spec) or is_exported(spec) or is_checkpoint(spec)):
            known = ", ".join([DEFAULT_VOCODER, *PUBLIC_VOCODERS])
            raise PseganError(
                f"vocoder {spec!r} is not known; there are {known}, folders that psegan export wrote, and checkpoints"
            )
        vocoder = load_part(spec, "vocoder")
    assert isinstance(vocoder, Vocoder)
    return fold_weight_norm(vocoder.eval().requires_grad_(False))  # type: ignore[return-value]


def load_system(path: str | Path) -> Any:
    """The :class:`psegan.systems.base.System` of a checkpoint, on the CPU, in evaluation mode and frozen.

    Raises:
        PseganError: the file is missing, is no checkpoint, or holds no system of psegan.
    """
    checkpoint = read_checkpoint(path)
    # a training that was begun in Python doesn't note the class
    class_path = (
        checkpoint["hyper_parameters"].get("_class_path") or f"psegan.systems.{checkpoint['psegan'].get('system')}"
    )
    cls: Any = find_class(nn.Module, class_path, str(path))
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn only to be replaced
            system = cls.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of the class, which may be anybody's, and of jsonargparse, which makes its arguments
        raise _unmade(path, class_path, error) from None
    system.freeze()
    return system


def _unmade(path: str | Path, class_path: str, error: Exception) -> PseganError:
    """The user's error that explains why a checkpoint's system cannot be made."""
    for cause in causes(error):
        if isinstance(cause, PseganError):
            return cause if str(path) in str(cause) else PseganError(f"{path}: {cause}")
        if isinstance(cause, ImportError):
            return PseganError(f"{path}: a class that it names cannot be imported ({cause}); {IMPORTABLE}")
    reason = readable(f"{type(error).__name__}: {error}")
    return PseganError(
        f"{path}: {class_path} cannot be made of what it holds ({reason}); give an intact checkpoint, and the class as it was"
    )


def _load_public(source: str | Path) -> Vocoder:
    from psegan.models.hifigan import HiFiGAN

    vocoder = HiFiGAN()
    remedy = (
        f"run once with a network, which fills the cache (HF_HOME), or give a folder with the hub's {PUBLIC_WEIGHTS}"
    )
    with _one_line(source, "cannot be loaded", f"{remedy}, intact"):
        path = _fetch(source, PUBLIC_WEIGHTS) / PUBLIC_WEIGHTS
        vocoder.generator.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    vocoder.generator.remove_weight_norm()
    return vocoder


def read_about(name: str | Path) -> dict[str, Any]:
    """What shipped weights say of themselves, in a folder or on the hub, without loading them.

    Raises:
        PseganError: they have no readable configuration.
    """
    with _one_line(name, "has no readable configuration", "name weights that psegan export wrote"):
        return _current(_read_config(_fetch(find(name), "config.json"))["about"])


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration of weights that ship: ``parts`` and ``about``, see :class:`PretrainedModel`."""
    if problem := not_a_file(path := folder / "config.json"):
        raise PseganError(f"config.json: {problem}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise PseganError("config.json is not JSON") from None
    if not (isinstance(config, dict) and all(isinstance(config.get(key), dict) for key in ("parts", "about"))):
        raise PseganError("config.json lacks parts and about; it is not psegan's")
    emotions = config["about"].get("emotions", [])
    if not (isinstance(emotions, list) and all(isinstance(name, str) for name in emotions)):
        raise PseganError("the emotions in config.json are no list of names")
    return config


def _is_repository(name: str) -> bool:
    """Whether the hub could have a repository of that name."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _fetch(source: str | Path, *files: str, **kwargs: Any) -> Path:
    """The folder itself, or that of a hub's repository in the cache, with these files of it."""
    if not_a_file(source) == FOLDER:
        return Path(source)
    try:
        return Path(snapshot_download(str(source), allow_patterns=[*files], **kwargs))
    except LocalEntryNotFoundError:
        problem = "cannot be reached, and its cache has no copy"
    except RepositoryNotFoundError:
        problem = "has no such repository, or none that you may see"
    except Exception as error:  # of the network
        problem = f"cannot be reached: {type(error).__name__}"
    raise PseganError(f"there is no such folder, and the hub {problem}")


@contextlib.contextmanager
def _one_line(source: str | os.PathLike[str], problem: str, remedy: str) -> Iterator[None]:
    """Raise whatever the network, the cache or a file gives as a PseganError, without torch's warnings of such a file."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:
        reason = str(error) if isinstance(error, PseganError) else damage(error)
        raise PseganError(f"{source}: {problem} ({reason}); {remedy}") from None


def _current(about: dict[str, Any]) -> dict[str, Any]:
    """What weights say of themselves, by the keys of today; changed in place, since it is written down again from there."""
    if "heard" in about:  # the key's name in weights of before
        about["trained_on"] = about.pop("heard")
    return about


def is_exported(name: str | Path) -> bool:
    """Whether this is a folder of weights that ship, or the name of released ones."""
    return not not_a_file(Path(find(name)) / "config.json")


def is_checkpoint(source: str | Path) -> bool:
    """Whether this is a checkpoint of ``psegan fit``: a file, or something that is missing and ends in ``.ckpt``."""
    problem = not_a_file(find(source))
    return not problem or (str(source).endswith(".ckpt") and problem != FOLDER)


def is_public(source: str | Path) -> bool:
    """Whether this is a public vocoder, or a local copy of its folder."""
    return str(source) in PUBLIC_VOCODERS or not not_a_file(Path(find(source)) / PUBLIC_WEIGHTS)


def find(name: str | Path) -> str:
    """The folder of released weights by name; anything else, a folder or a hub's repository, as it is.

    A folder that is called as released weights are does not hide them: it is ``./NAME``, or given as a ``Path``.
    """
    return released().get(name, name) if isinstance(name, str) else str(name)


@cache
def _say_taken(name: str) -> None:
    """Say once which of two is taken."""
    print(f"psegan: {name}: the released weights are taken; the folder here of that name is ./{name}", file=sys.stderr)


def released() -> dict[str, str]:
    """Name → folder of the weights that come with psegan."""
    here = Path(__file__)
    roots = here.with_name("released"), here.parents[2] / "checkpoints" / "released"  # installed, or a checkout
    return {path.parent.name: str(path.parent) for root in roots for path in sorted(root.glob("*/config.json"))}


def build(spec: Any) -> nn.Module:
    """The module that a configuration describes: classes of :mod:`psegan.models`, and plain values for their arguments.

    Constructing a class runs its code, and a configuration may come from anybody; so nothing else is looked up, and no text is
    taken for a class or a file.

    Raises:
        PseganError: it describes anything else, or arguments that the class does not take.
    """
    if not isinstance(spec, dict) or spec.keys() - {"class_path", "init_args"} or "class_path" not in spec:
        raise PseganError("a part of the configuration is no class_path with init_args; it is not psegan's")
    module, _, name = current_path(str(spec["class_path"])).rpartition(".")
    found: Any = None
    if re.fullmatch(rf"{re.escape(MODELS)}\.[a-z_]+", module):
        with contextlib.suppress(ImportError):
            found = vars(importlib.import_module(module)).get(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module):
        raise PseganError(f"{spec['class_path']} is no module of {MODELS}, and weights of psegan name no other code")
    init_args = spec.get("init_args") or {}
    try:
        return found(**{key: build(one) if isinstance(one, dict) else one for key, one in init_args.items()})
    except PseganError:
        raise
    except Exception:  # what torch says of a number that is no size, or much too large, helps nobody
        raise PseganError(
            f"{name} cannot be made of these arguments: {textwrap.shorten(str(init_args), 100)}"
        ) from None


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of ``psegan fit``, tensors and plain values, onto the CPU by default.

    Raises:
        PseganError: the file is missing, damaged, another's, or would run code.
    """
    if problem := not_a_file(path).replace("file", "checkpoint"):
        raise PseganError(f"{path}: {problem}; train it first (psegan fit) or correct the path")
    with _one_line(path, "cannot be read as a checkpoint", "give an intact .ckpt file"):
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    kinds = {
        "psegan": dict,
        "state_dict": dict,
        "hyper_parameters": dict,
        "epoch": int,
        "pytorch-lightning_version": str,
    }
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(key), kinds[key]) for key in kinds):
        raise PseganError(f"{path}: holds no checkpoint of psegan; give a .ckpt file that psegan fit wrote")
    return checkpoint
