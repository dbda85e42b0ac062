"""No judge is a part of what it judges: nothing that is trained, tuned or released refers to a judge or its package.

But for one recogniser that teaches, by a module of its own; what it taught says so, and is judged by others.
"""

import ast
import json
from pathlib import Path

import pytest

from psegan.common.files import read_yaml
from psegan.common.instantiate import find_class

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {"moonshine_voice", "pocketsphinx", "resemblyzer", "speechmos", "faster_whisper", "speechbrain"}
VOCODER = "speechbrain.lobes.models.HifiGAN"
"""What else of SpeechBrain is used: the network of a public vocoder, which hears nothing."""
TEACHERS = {REPOSITORY / "src" / "psegan" / "models" / "moonshine.py": "moonshine_voice"}
"""Module → the judge's package that it takes a teacher from."""
TAUGHT = {"psegan.systems.ContentDistillation": "psegan.evaluation.recognisers.Moonshine"}
"""What learns from a teacher → the judge who cannot judge it any more."""
JUDGES = {"Moonshine", "PocketSphinx", "Whisper", "Resemblyzer", "ECAPA", "DNSMOS"}
OURS = ("psegan.evaluation", "psegan.metrics.words")
TRAINED = ("models", "systems", "training", "protection", "losses.py", "weights.py", "lineage.py")
"""What trains, what is trained, and what protects; the jobs train by ``psegan fit`` alone."""


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("name", [*TRAINED, "datamodules"])
def test_nothing_that_trains_imports_a_judge(name: str) -> None:
    files = modules(REPOSITORY / "datamodules" if name == "datamodules" else REPOSITORY / "src" / "psegan" / name)
    assert files
    for path in files:
        found = {one for one in imported(path) if not one.startswith(VOCODER)}
        judges = {one for one in found if one.split(".")[0] in PACKAGES or one.startswith(OURS)}
        assert {one.split(".")[0] for one in judges} <= {TEACHERS.get(path)}, path


def test_who_learns_from_a_judge_says_so() -> None:
    """And nobody else does: a system that takes a teacher's module notes whom it cannot be judged by."""
    learns = set()
    for path in modules(REPOSITORY / "src" / "psegan" / "systems"):
        if "psegan.models.moonshine" in imported(path):
            learns |= {
                f"psegan.systems.{node.name}"
                for node in ast.parse(path.read_text()).body
                if isinstance(node, ast.ClassDef)
            }
    assert learns == TAUGHT.keys()
    for name, judge in TAUGHT.items():
        assert find_class(object, name, "systems").learnt_from == (judge,)  # type: ignore[attr-defined]


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for key, one in value.items() for text in (str(key), *texts(one))]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [str(value)]


@pytest.mark.parametrize(
    "path",
    sorted((REPOSITORY / "experiments").rglob("*.yaml")),
    ids=lambda path: path.relative_to(REPOSITORY).as_posix(),
)
def test_no_experiment_trains_or_tunes_by_a_judge(path: Path) -> None:
    content = {key: value for key, value in read_yaml(path).items() if key not in ("judges", "verifier")}
    check(content)
    chosen_by = [(content.get("metric") or {}).get("name"), (content.get("best") or {}).get("monitor")]
    settings = content.get("trainings", {}).values()
    chosen_by += [value for one in settings for key, value in one.get("set", {}).items() if key == "best.monitor"]
    for metric in filter(None, chosen_by):  # what a training logs itself; an evaluation's scores have other names
        assert metric.startswith(("train/", "val/")), metric


def check(content: object) -> None:
    for text in texts(content):
        assert text.rpartition(".")[2] not in JUDGES, f"{text} judges, and must not be read by anything that trains"
        assert text.split(".")[0].replace("-", "_") not in PACKAGES, text


@pytest.mark.parametrize("path", sorted((REPOSITORY / "checkpoints" / "released").glob("*/config.json")), ids=str)
def test_no_released_weights_learnt_from_a_judge(path: Path) -> None:
    content = json.loads(path.read_text())
    assert "learnt_from" not in content["about"]
    check(content)
