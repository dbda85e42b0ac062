"""A part of `make torture`: what psegan makes of malformed inputs."""

import pytest

from tests.robustness import campaign
from tests.robustness.place import Place

SAMPLES = {campaign.recordings_are_protected: None}
"""How many of a part's cases are tried here (None: all); of those that need a process each, a few."""


@pytest.mark.parametrize("part", campaign.PARTS, ids=lambda part: part.__name__)
def test_malformed_inputs_end_in_a_line(part, tmp_path):
    found = list(part(Place(tmp_path), 0, SAMPLES.get(part, 5)))
    assert len(found) >= 5
    assert [(name, fault) for name, fault in found if fault is not None] == []
