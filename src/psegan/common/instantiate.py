"""Objects from ``class_path`` and ``init_args``, outside the training commands, with errors of one line."""

import importlib
import inspect
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from psegan.common.errors import PseganError, readable

T = TypeVar("T")
IMPORTABLE = "correct its path, run psegan in the folder that holds its file, or install its package"
"""What helps where a class cannot be imported."""

_MOVED = {
    "psegan.protectors.TrainedSystem": "psegan.protection.protector.Protector",
    "psegan.protection.controls.TrainedSystem": "psegan.protection.protector.Protector",
    "psegan.protectors": "psegan.protection.controls",
    "psegan.protect": "psegan.protection.protector",
}
"""Old → new paths of classes and modules that class paths in YAML files, released weights and checkpoints may name."""


def current_path(class_path: str) -> str:
    """A class path as it is spelt today: where the class, or else its module, has moved to, or the path itself."""
    module, dot, name = class_path.rpartition(".")
    return _MOVED.get(class_path) or f"{_MOVED.get(module, module)}{dot}{name}"


def search_here() -> None:
    """Let class paths name modules in the current folder, after all that is installed: nothing there hides a library."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def instantiate(base: type[T], spec: Any, where: str, package: str | None = None) -> T:
    """The object that ``spec`` describes.

    Args:
        base: what the class must derive from.
        spec: ``{"class_path": ..., "init_args": {...}}``, the latter optional and of plain values.
        where: what error messages name, such as the file that ``spec`` comes from.
        package: module where a ``class_path`` without a dot is looked up.

    Raises:
        PseganError: no such class, arguments that it does not take, or whatever its constructor raises.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("class_path"), str):
        raise PseganError(f"{where}: names no class; give class_path and, where needed, init_args")
    if unknown := sorted(str(key) for key in spec.keys() - {"class_path", "init_args"}):
        raise PseganError(f"{where}: unknown key {unknown[0]!r}; there are class_path and init_args")
    cls = find_class(base, spec["class_path"], where, package)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "init_args")
    init_args = deepcopy(spec.get("init_args") or {})  # a copy, for the parser writes what it makes into what it parses
    try:
        settings = parser.parse_object({"init_args": init_args})
    except (ArgumentError, TypeError) as error:
        known = ", ".join(key.removeprefix("init_args.") for key, _ in parser.get_defaults().items()) or "none"
        reason = readable(str(error)).replace("Group 'init_args' does", "does")
        raise PseganError(f"{where}: {cls.__name__}: {reason} (its arguments: {known})") from None
    made: T = parser.instantiate_classes(settings).init_args
    return made


def describe(thing: object) -> dict[str, Any]:
    """The specification that :func:`instantiate` would make ``thing`` from, its constructor's arguments as plain values."""
    names = inspect.signature(type(thing)).parameters
    if lacking := [name for name in names if not hasattr(thing, name)]:
        raise PseganError(
            f"{type(thing).__name__} must keep {lacking[0]!r}, an argument of its constructor, as an attribute"
        )
    return {
        "class_path": f"{type(thing).__module__}.{type(thing).__qualname__}",
        "init_args": {name: _plain(getattr(thing, name)) for name in names},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else describe(value)


def find_class(base: type[T], class_path: str, where: str, package: str | None = None) -> type[T]:
    """The concrete subclass of ``base`` at a dotted path; see :func:`instantiate`."""
    path = class_path if "." in class_path else f"{package or base.__module__}.{class_path}"
    module, _, name = current_path(path).rpartition(".")
    try:
        home = importlib.import_module(module)
    except Exception as error:  # of a module of anybody's
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise PseganError(f"{where}: class {class_path} cannot be imported ({reason}); {IMPORTABLE}") from None

    def fits(found: object) -> TypeGuard[type[T]]:
        return isinstance(found, type) and issubclass(found, base) and not inspect.isabstract(found)

    if fits(found := getattr(home, name, None)):
        return found
    there = sorted(key for key, value in vars(home).items() if fits(value))
    raise PseganError(f"{where}: {class_path} is no {base.__name__}; {home.__name__} has {', '.join(there) or 'none'}")
