"""psegan: speech attribute privacy. Speech in, speech out, and everything else measures that."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """:class:`psegan.protection.protector.Protector`, which needs torch, when it is asked for."""
    if name == "Protector":
        from psegan.protection.protector import Protector

        return Protector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
