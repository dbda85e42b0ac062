"""psegan: speech attribute privacy. Speech in, speech out, and everything else measures that."""

import importlib

__version__ = "0.1.0"

_CLASSES = {"Protector": "psegan.protection.protector", "Voice": "psegan.protection.voice"}
"""Public class → its module."""


def __getattr__(name: str) -> object:
    """A public class, which needs torch, when it is asked for."""
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
