"""A folder in which commands run, each in a process of its own, with a time limit."""

import os
from dataclasses import dataclass
from pathlib import Path

from psegan.jobs.training_process import start_training

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds that a command may take with one malformed input."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status, None if it had to be killed, and everything that it printed."""

    status: int | None
    said: str

    @property
    def fault(self) -> str | None:
        """What no command may do, whatever it is given."""
        if self.status is None:
            return "did not end"
        if self.status < 0:
            return f"killed by signal {-self.status}"
        if "Traceback" in self.said:
            return "traceback: " + self.said.strip().rsplit("\n", 1)[-1][:200]
        if self.status and "psegan: error: " not in self.said:
            return f"status {self.status} without a line: {self.said[-200:]}"
        if "\x1b[31m" in self.said:
            return "a name's control characters reach the terminal"
        return None


class Place:
    """A folder in which commands run, with the project's experiments in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "experiments").exists():
            (folder / "experiments").symlink_to(REPOSITORY / "experiments")

    def run(self, *words: str, patience: float = PATIENCE) -> Outcome:
        """Run ``psegan`` with these words."""
        log = self.folder / "log.txt"
        log.unlink(missing_ok=True)
        here = Path.cwd()
        os.chdir(self.folder)
        try:
            process = start_training(words, log, {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"})
        finally:
            os.chdir(here)
        process.join(patience)
        if process.exitcode is None:
            process.kill()
            process.join()
            return Outcome(None, log.read_text(errors="replace"))
        return Outcome(process.exitcode, log.read_text(errors="replace"))
