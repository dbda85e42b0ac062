"""Packages that may be missing, or be there in the wrong version."""

import pytest

from psegan.common.packages import NotInstalledError, require


def test_another_version_lacks_the_weights() -> None:
    with pytest.raises(
        NotInstalledError, match=r"numpy .* lacks the weights that 0.0.1 has: pip install 'psegan\[judges\]'"
    ):
        require("numpy", "numpy", exactly="0.0.1")


def test_what_is_missing_is_named_with_the_remedy() -> None:
    with pytest.raises(NotInstalledError, match=r"^nothing is not installed: pip install 'psegan\[judges\]'$"):
        require("nothing", "nothing")
