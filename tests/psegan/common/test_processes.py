"""Worker processes, which tests/psegan/evaluation/test_corpora.py kills as well."""

import importlib
import os
import sys

import pytest
import torch

from psegan.common.errors import PseganError
from psegan.common.instantiate import search_here
from psegan.common.processes import WORTH_A_PROCESS, one_thread, unordered

_begun = ""


def begin(word: str) -> None:
    global _begun
    _begun = word


def square(number: int) -> tuple[int, str, int, int]:
    return number**2, _begun, os.getpid(), torch.get_num_threads()


def refuse(number: int) -> int:
    raise PseganError(f"{number} is refused")


def die(number: int) -> int:
    os._exit(1)


def test_every_item_is_worked_on_once_elsewhere_by_one_thread():
    found = list(unordered(square, range(WORTH_A_PROCESS + 1), 2, begin, ("begun",)))
    assert sorted(result[0] for result in found) == [n**2 for n in range(WORTH_A_PROCESS + 1)]
    assert {result[1] for result in found} == {"begun"}
    assert os.getpid() not in {result[2] for result in found}
    assert {result[3] for result in found} == {1}


def test_what_goes_wrong_there_is_said_here():
    with pytest.raises(PseganError, match="3 is refused"):
        list(unordered(refuse, [3] * (WORTH_A_PROCESS + 1), 2))
    with pytest.raises(PseganError, match="a worker process died"):
        list(unordered(die, range(WORTH_A_PROCESS + 1), 2))


def test_work_may_be_of_a_module_in_a_folder_that_was_added(tmp_path, monkeypatch):
    (tmp_path / "mine_work.py").write_text("def cube(number):\n    return number**3\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    search_here()
    work = importlib.import_module("mine_work").cube
    assert sorted(unordered(work, range(WORTH_A_PROCESS + 1), 2)) == [n**3 for n in range(WORTH_A_PROCESS + 1)]


def test_few_recordings_are_not_worth_a_process():
    found = list(unordered(square, range(WORTH_A_PROCESS), 4, begin, ("here",)))
    assert found == [(n**2, "here", os.getpid(), 1) for n in range(WORTH_A_PROCESS)]
    assert list(unordered(square, [], 4)) == []


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
