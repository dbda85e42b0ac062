"""Files of JSON, an object a line, that work adds to as it goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psegan.common.files import append


class Lines:
    """A header, then entries that are only ever appended; a line that a kill has torn is as good as not written.

    Args:
        path: of the file, which need not exist.
        header: that a new file begins with.

    Attributes:
        header: as it stands in the file.
        found: the whole lines of the file, the header first; none where there is no file.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header = path, json.dumps(header)
        content = path.read_bytes() if path.is_file() else b""
        self._length = content.rfind(b"\n") + 1
        self.found = content[: self._length].splitlines()

    def forget(self) -> None:
        """Begin a new file instead of the one that there is."""
        self._length, self.found = 0, []

    def begin(self) -> None:
        """Open for entries, in a folder that exists."""
        with self.path.open("ab") as file:
            file.truncate(self._length)
        if not self._length:
            append(self.path, f"{self.header}\n")

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append an entry."""
        append(self.path, json.dumps(entry) + "\n")
