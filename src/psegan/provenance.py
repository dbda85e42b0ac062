"""Which code made something."""

import subprocess
from pathlib import Path


def commit() -> str | None:
    """The checkout's commit, with a + where files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        described = subprocess.run(command, cwd=here, capture_output=True, text=True)
    except OSError:  # no git on this machine
        return None
    return described.stdout.strip() if described.returncode == 0 else None
