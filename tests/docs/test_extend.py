"""The examples of docs/extend.md run as they stand there."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from psegan import cli
from tests.conftest import REPOSITORY, TINY

SECTIONS = re.split(r"^## ", (REPOSITORY / "docs/extend.md").read_text(), flags=re.MULTILINE)[1:]
LIMITS = {
    "fit": ["--trainer.limit_train_batches=2", "--run.loggers=[csv]"],
    "predict": ["--trainer.limit_predict_batches=1"],
    "evaluate": ["--attackers", "ignorant", "--max-epochs", "1"],
}
"""What a command is given beside its own words, so that the test is short."""


@pytest.mark.parametrize("section", SECTIONS, ids=[section.splitlines()[0] for section in SECTIONS])
def test_the_example_runs(section, tmp_path, monkeypatch):
    names = re.findall(r"into\s+`(mine_\w+\.\w+)`:", section)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    files = [text for language, text in blocks if language != "bash"]
    for name, text in zip(names, files, strict=True):
        (tmp_path / name).write_text(text)
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # which every command adds this folder to
    commands = "".join(text for language, text in blocks if language == "bash").replace("\\\n", " ").splitlines()
    for command in commands:
        words = shlex.split(command, comments=True)
        assert words[0] == "psegan"
        limits = LIMITS.get(words[1], []) + (TINY if words[1] == "fit" and "synthetic" in command else [])
        monkeypatch.setattr(sys, "argv", words + limits)
        assert cli.main() == 0
    assert len(list(Path("runs").glob("mine-*"))) == 1
