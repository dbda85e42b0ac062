"""Processes of trainings: their words, log, environment and exit status."""

import os

import pytest

from psegan import __version__
from psegan.jobs.training_process import start_training


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [(["--version"], 0, f"psegan {__version__}"), (["report", "nowhere"], 1, "psegan: error: nowhere")],
)
def test_a_process_says_into_its_log_what_the_command_does(words, status, said, tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    process = start_training(words, log, {**os.environ, "OMP_NUM_THREADS": "1"})
    process.join()
    assert process.exitcode == status
    before, last = log.read_text().splitlines()
    assert before == "before" and last.startswith(said)
