"""The package is found from any folder."""

import os
import subprocess
import sys

import psegan


def test_a_clone_of_the_packages_name_hides_nothing(tmp_path):
    """In the folder that holds the clone, Python sees a folder ``psegan`` without modules before it sees the package."""
    for name in ("psegan", "datamodules"):
        (tmp_path / name / "src").mkdir(parents=True)
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    command = "import psegan, importlib.util; print(psegan.__version__, importlib.util.find_spec('datamodules').origin)"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    version, module = done.stdout.split()
    assert version == psegan.__version__ and module.endswith("datamodules/__init__.py")
