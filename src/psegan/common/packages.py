"""Packages that not everybody needs: whether they are there, in the version that counts."""

import importlib.util
from importlib.metadata import PackageNotFoundError, version

from psegan.common.errors import PseganError


class NotInstalledError(PseganError):
    """A package that something needs is not installed."""


def require(package: str, module: str, wanted: str = "'psegan[judges]'", exactly: str = "") -> str:
    """The installed version of a package, without importing it.

    Args:
        package: as pip calls it.
        module: that it is imported as.
        wanted: what pip installs it by.
        exactly: the only version that will do.

    Raises:
        NotInstalledError: it is missing, or of another version; the message says how to install it.
    """
    try:
        found = version(package)
    except PackageNotFoundError:
        found = ""
    if not found or importlib.util.find_spec(module) is None:
        raise NotInstalledError(f"{package} is not installed: pip install {wanted}")
    if exactly and found != exactly:
        raise NotInstalledError(f"{package} {found} lacks the weights that {exactly} has: pip install {wanted}")
    return found
