"""Settings from files."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from psegan.common.errors import PseganError
from psegan.common.settings import parse_settings


@dataclass
class Settings:
    """What a file may say."""

    name: str
    parts: dict[str, int] = field(default_factory=dict)
    note: str | None = None
    rest: dict[str, Any] = field(default_factory=dict)


def test_a_key_without_a_value_is_refused_unless_nothing_is_meant():
    assert parse_settings(Settings, {"name": "x", "note": None}, "file").note is None
    for key in ("name", "parts", "rest"):
        with pytest.raises(PseganError, match=f"^file: {key} is empty; give it a value, or leave it out$"):
            parse_settings(Settings, {"name": "x", key: None}, "file")
