"""Segments: all samples in order, however they come, cut where it is quiet."""

import pytest
import torch

from psegan.protection.segments import LEAST, MOST, segments
from psegan.speech.audio import HOP
from tests.support.protectors import speech


@pytest.mark.parametrize("size", [1000, 16_000, 400_000])
def test_all_samples_in_order(size):
    recording = speech(21.3)
    found = list(segments(recording.split(size)))
    assert torch.equal(torch.cat(found), recording)
    assert all(LEAST <= len(one) <= MOST and len(one) % HOP == 0 for one in found[:-1]) and len(found[-1]) <= MOST
    assert all(map(torch.equal, found, segments([recording])))


def test_cut_where_it_is_quiet():
    recording = torch.ones(MOST + 10_000)
    quiet = LEAST + 40 * HOP
    recording[quiet - HOP : quiet + HOP] = 0.01
    assert [len(one) for one in segments([recording])] == [quiet, len(recording) - quiet]


def test_short_and_empty_recordings():
    assert [len(one) for one in segments([torch.ones(MOST)])] == [MOST]
    assert [len(one) for one in segments([torch.ones(1)])] == [1]
    assert list(segments([])) == list(segments([torch.ones(0)])) == []
