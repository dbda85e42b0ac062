"""A part of `make torture`: commands that are killed and given again."""

import pytest

from tests.robustness import killing


@pytest.mark.parametrize("command", [killing.fit, killing.protect], ids=lambda command: command.__name__)
def test_a_killed_command_ends_with_the_same_bytes(command, tmp_path):
    found = list(killing.are_killed(tmp_path, command, 1, 1))
    assert [(name, fault) for name, fault in found if fault is not None] == []
