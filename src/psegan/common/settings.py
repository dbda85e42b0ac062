"""Files of settings, checked against the dataclass that they stand for."""

from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from psegan.common.errors import PseganError, readable

T = TypeVar("T")


def parse_settings(kind: type[T], content: Any, where: str) -> T:
    """An object of a dataclass from the mapping in a file; dataclasses in its fields, and mappings to them, likewise.

    Raises:
        PseganError: a key is unknown, missing, or of another type than the field; the message names it after ``where``.
    """
    if not isinstance(content, dict):
        raise PseganError(f"{where} is {content!r}, but must be a mapping")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in content:
        if key not in known:
            raise PseganError(f"{where}: unknown key {key!r}; there are {', '.join(known)}")
    for name, field in known.items():
        if name not in content and field.default is MISSING and field.default_factory is MISSING:
            raise PseganError(f"{where}: lacks the key {name!r}")
    hints = get_type_hints(kind)
    return kind(**{key: _parse(hints[key], key, value, where) for key, value in content.items()})


def _parse(hint: Any, key: str, value: Any, where: str) -> Any:
    if value is None and hint is not Any and NoneType not in get_args(hint):
        raise PseganError(f"{where}: {key} is empty; give it a value, or leave it out")
    if is_dataclass(hint):
        return parse_settings(hint, value, f"{where}: {key}")  # type: ignore[arg-type]
    if is_dataclass(part := (get_args(hint) or [None])[-1]) and isinstance(value, dict):
        return {name: parse_settings(part, one, f"{where}: {key}.{name}") for name, one in value.items()}  # type: ignore[arg-type]
    from jsonargparse import ArgumentError, ArgumentParser  # takes a moment to import

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{key}", type=hint)
    try:
        parsed = parser.parse_object({key: deepcopy(value)})[key]  # a copy, for the parser writes into what it parses
    except (ArgumentError, ValueError, TypeError) as error:
        raise PseganError(f"{where}: {readable(str(error))}") from None
    # of Any, the parser makes numbers of text and objects of whatever names a class
    return value if "Any" in str(hint) else parsed
