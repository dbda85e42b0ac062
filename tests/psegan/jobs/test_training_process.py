"""Processes of trainings: their words, log, environment and exit status."""

import os

import pytest

from psegan import __version__
from psegan.jobs.training_process import start_training


@pytest.mark.parametrize(
    ("words", "threads", "status", "said"),
    [
        (["--version"], "4,2", 0, f"psegan {__version__}"), (["--version"], "many", 0, f"psegan {__version__}"),
        (["report", "nowhere"], "1", 1, "psegan: error: nowhere"),
    ],
)  # fmt: skip
def test_a_process_says_into_its_log_what_the_command_does(words, threads, status, said, tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    process = start_training(words, log, {**os.environ, "OMP_NUM_THREADS": threads})
    process.join()
    assert process.exitcode == status
    before, last = log.read_text().splitlines()
    assert before == "before" and last.startswith(said)


def test_a_class_of_ones_own_is_found_in_the_folder_of_the_parent(tmp_path, monkeypatch):
    (tmp_path / "mine_forked.py").write_text("from psegan.systems import GenGAN\nclass MySystem(GenGAN): pass\n")
    (tmp_path / "corpus.yaml").write_text("data: {class_path: datamodules.SyntheticDataModule}\n")
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log.txt"
    words = ["fit", "--model", "mine_forked.MySystem", "--config", "corpus.yaml", "--print_config"]
    process = start_training(words, log, dict(os.environ))
    process.join()
    assert process.exitcode == 0, log.read_text()
    assert "class_path: mine_forked.MySystem" in log.read_text()
