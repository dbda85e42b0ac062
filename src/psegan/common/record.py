"""Records: the JSON file that says what a piece of work was made from, and whether it is complete."""

import json
import textwrap
from pathlib import Path
from typing import Any

from psegan.common.errors import PseganError
from psegan.common.files import commit, read_yaml, write_json


class Record:
    """What a piece of work is made from (plain values), beside what its file says of work before.

    Attributes:
        begun: work has begun before.
        complete: and was finished.
        commits: of the code that has worked on it; "unknown" where nobody noted one.
        difference: the first setting that was another, with both values; empty where all are the same.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        found = read_yaml(path) if path.is_file() else {}  # JSON is YAML
        self.begun = bool(found)
        self.complete = bool(found.get("complete"))
        self.commits: list[str] = found.get("commits", ["unknown"]) if found else []
        self.difference = difference(found.get("settings", {}), settings) if found else ""

    @property
    def valid(self) -> bool:
        """Whether the work is complete and was made from the same."""
        return self.complete and not self.difference

    def refuse_another(self, what: str) -> None:
        """Raise a PseganError if the folder holds another ``what``, such as a training, than one of these settings."""
        if self.difference:
            raise PseganError(
                f"{self.path.parent} holds another {what} ({self.difference}); remove it, or choose another folder with --out"
            )

    def claim(self, what: str) -> None:
        """Note whose folder it is, unless that is noted already; see :meth:`refuse_another`."""
        self.refuse_another(what)
        if not self.begun:
            self.begin()

    def begin(self) -> None:
        """Note that work has begun."""
        self.commits = list(dict.fromkeys([*self.commits, commit() or "unknown"]))
        self._write(complete=False)

    def finish(self) -> None:
        """Note that the work is complete."""
        self._write(complete=True)

    def _write(self, complete: bool) -> None:
        self.complete = complete
        write_json(self.path, {"settings": self.settings, "complete": complete, "commits": self.commits})


def difference(before: Any, after: Any, key: str = "") -> str:
    """The first key whose values differ, with both; empty where none does."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            if found := difference(before.get(name), after.get(name), f"{key}.{name}".strip(".")):
                return found
        return ""
    # a tuple has become a list on its way through the file
    same = json.loads(json.dumps(before)) == json.loads(json.dumps(after))
    return "" if same else textwrap.shorten(f"{key} was {before!r}, now {after!r}", 200)
