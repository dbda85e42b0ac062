"""``psegan reproduce``: the stages of an experiment, each skipped when complete and continued when interrupted."""

import argparse
import json
import re
import shlex
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psegan import __version__
from psegan.errors import PseganError
from psegan.files import file_hash, read_yaml, write_json

CLASSIFIERS = ("emotion", "speaker", "gender", "content")


@dataclass(frozen=True)
class Stage:
    """One training of a reproduction.

    Attributes:
        name: also its folder below the reproduction's.
        config: overlays for ``psegan fit``, in order.
        set: dotted key → value, laid over them; ``{stage}`` in a value becomes that earlier stage's checkpoint.
    """

    name: str
    config: tuple[str, ...]
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reproduction:
    """An experiment file: what to train in which order, and what to score.

    Attributes:
        name: of the experiment; the W&B group.
        out: folder of all its runs and results.
        corpus: overlay with ``data``.
        stages: trainings, each after those it refers to.
        classifiers: attribute → stage that judges it.
        systems: name in the tables → stage.
        set: dotted key → value, laid over every stage.
        seed: added to the seed of every stage, and of the scoring's targets and noise.
    """

    name: str
    out: str
    corpus: str
    stages: tuple[Stage, ...]
    classifiers: dict[str, str]
    systems: dict[str, str]
    set: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def read(cls, path: str) -> "Reproduction":
        """Read an experiment file.

        Raises:
            PseganError: the file is missing, is not YAML, or has unknown, missing, mistyped or dangling keys.
        """
        content = read_yaml(path)
        _check_keys(path, content, cls, optional={"set", "seed"})
        _check_types(path, content, {"stages": dict, "classifiers": dict, "systems": dict, "set": dict, "seed": int})
        stages = []
        for name, entry in content["stages"].items():
            where = f"{path}: stages.{name}"
            _check_types(path, content["stages"], {name: dict}, "stages.")
            _check_keys(where, {"name": name, **entry}, Stage, optional={"set"})
            _check_types(path, entry, {"config": list, "set": dict}, f"stages.{name}.")
            stages.append(Stage(name, tuple(entry["config"]), entry.get("set", {})))
        names = [stage.name for stage in stages]
        if set(content["classifiers"]) != set(CLASSIFIERS):
            raise PseganError(f"{path}: classifiers must name a stage for each of {', '.join(CLASSIFIERS)}")
        for key in ("classifiers", "systems"):
            for role, stage in content[key].items():
                if stage not in names:
                    raise PseganError(f"{path}: {key}.{role} names stage {stage!r}; there are {', '.join(names)}")
        return cls(**{**content, "stages": tuple(stages)})


def _check_keys(where: str, content: dict[str, Any], form: type, optional: set[str]) -> None:
    known = set(form.__dataclass_fields__)  # type: ignore[attr-defined]
    for key in content:
        if key not in known:
            raise PseganError(f"{where}: unknown key {key!r}; there are {', '.join(sorted(known))}")
    for key in sorted(known - optional):
        if key not in content:
            raise PseganError(f"{where}: lacks the key {key!r}")


def _check_types(path: str, content: dict[str, Any], kinds: dict[str, type], prefix: str = "") -> None:
    names = {dict: "a mapping", list: "a list", int: "a whole number"}
    for key, kind in kinds.items():
        if key in content and not isinstance(content[key], kind):
            raise PseganError(f"{path}: {prefix}{key} is {content[key]!r}, but must be {names[kind]}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan reproduce``."""
    parser.add_argument("--config", required=True, help="an experiment file, as experiments/reproduce/demo.yaml")
    parser.add_argument("--data-root", help="where the corpus lies (instead of the corpus file's root)")
    parser.add_argument("--out", help="folder of runs and results (instead of the experiment's)")
    parser.add_argument("--max-epochs", type=int, help="train no stage for longer than this, to check the path")


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan reproduce``."""
    if arguments.max_epochs is not None and arguments.max_epochs < 1:
        raise PseganError(f"--max-epochs is {arguments.max_epochs}, but must be at least 1")
    reproduce(Reproduction.read(arguments.config), arguments.out, arguments.data_root, arguments.max_epochs)
    return 0


def reproduce(
    experiment: Reproduction, out: str | None = None, data_root: str | None = None, max_epochs: int | None = None
) -> None:
    """Train every stage and score the result; what is complete is left alone.

    Args:
        experiment: what to do.
        out: its folder, instead of the experiment's.
        data_root: where the corpus lies, instead of the corpus file's ``root``.
        max_epochs: upper bound for every stage.

    Raises:
        PseganError: the folder holds a stage of other settings, or whatever a stage raises.
    """
    folder = Path(out or experiment.out)
    total = len(experiment.stages) + 1
    checkpoints: dict[str, Path] = {}
    for number, stage in enumerate(experiment.stages, 1):
        values = _settings(experiment, stage, data_root, max_epochs)
        checkpoints[stage.name] = _train(experiment, stage, values, folder, checkpoints, f"[{number}/{total}]")
    _score(experiment, folder, checkpoints, max_epochs, f"[{total}/{total}]")


def _score(
    experiment: Reproduction, folder: Path, checkpoints: dict[str, Path], max_epochs: int | None, progress: str
) -> None:
    from psegan.evaluation import publication

    settings = {
        "experiment": [experiment.name, experiment.classifiers, experiment.systems, experiment.seed],
        "inputs": {name: file_hash(path) for name, path in checkpoints.items()},
        "version": __version__,
        "max_epochs": max_epochs,
    }
    record = Record(folder / "stage.json", settings)
    # scores follow from the trainings, so what is outdated or missing is made again
    if record.complete and not record.difference and all((folder / name).exists() for name in publication.OUTPUTS):
        print(f"{progress} score: complete, nothing to do")
    else:
        print(f"{progress} score", flush=True)
        started = time.monotonic()
        record.begin()
        publication.publish(experiment, folder, checkpoints, max_epochs)
        record.finish()
        print(f"{progress} score: {time.monotonic() - started:.0f} s", flush=True)
    publication.announce(folder)


class Record:
    """``stage.json``: what a stage was made from, and whether it is complete.

    Attributes:
        begun: work on the stage has begun before.
        complete: and was finished.
        difference: what it was made from otherwise, in a few words; empty if from the same.

    Args:
        path: of the file.
        settings: plain values.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        found = read_yaml(path) if path.is_file() else {}  # JSON is YAML
        self.begun = bool(found)
        self.complete = bool(found.get("complete"))
        self.difference = _difference(found.get("settings", {}), settings) if found else ""

    def begin(self) -> None:
        """Note that work on the stage has begun."""
        write_json(self.path, {"settings": self.settings, "complete": False})

    def finish(self) -> None:
        """Note that the stage is complete."""
        write_json(self.path, {"settings": self.settings, "complete": True})


def _difference(before: Any, after: Any, key: str = "") -> str:
    """The first key whose values differ, with both."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            if found := _difference(before.get(name), after.get(name), f"{key}.{name}".strip(".")):
                return found
        return ""
    # a tuple has become a list on its way through the file
    same = json.loads(json.dumps(before)) == json.loads(json.dumps(after))
    return "" if same else textwrap.shorten(f"{key} was {before!r}, now {after!r}", 200)


def _settings(experiment: Reproduction, stage: Stage, data_root: str | None, max_epochs: int | None) -> dict[str, Any]:
    """Dotted key → value: what is laid over a stage's overlays."""
    values = {**experiment.set, **stage.set}

    def planned(key: str, default: Any) -> Any:
        if key in values:
            return values[key]
        for config in reversed(stage.config):
            found: Any = read_yaml(config)
            for part in key.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found is not None:
                return found
        return default

    if planned("trainer.devices", 1) not in (1, "1"):
        raise PseganError(f"stage {stage.name}: psegan reproduce trains on one device; remove trainer.devices")
    if experiment.seed:
        # an offset, so that stages which differ by their seeds go on to do so
        values["seed_everything"] = planned("seed_everything", 0) + experiment.seed
    if data_root is not None:
        values["data.init_args.root"] = data_root
    if max_epochs is not None:
        values["trainer.max_epochs"] = min(max_epochs, planned("trainer.max_epochs", max_epochs))
    return values


def _train(
    experiment: Reproduction,
    stage: Stage,
    values: dict[str, Any],
    folder: Path,
    checkpoints: dict[str, Path],
    progress: str,
) -> Path:
    configs = [*stage.config, experiment.corpus]
    run = folder / stage.name
    checkpoint = run / "checkpoints" / "last.ckpt"
    arguments = ["fit", *(word for config in configs for word in ("--config", config))]
    inputs = {}
    for key, value in values.items():
        for name in re.findall(r"\{([\w-]+)\}", value) if isinstance(value, str) else ():
            if name not in checkpoints:
                raise PseganError(f"stage {stage.name}: {key} refers to {{{name}}}, which is no earlier stage")
            inputs[name] = file_hash(checkpoints[name])
            value = value.replace(f"{{{name}}}", str(checkpoints[name]))
        arguments.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
    arguments += [f"--run.dir={run}", f"--run.group={experiment.name}"]
    # contents and not paths, which may be spelt in several ways
    root = values.get("data.init_args.root")
    resolved = {} if root is None else {"data.init_args.root": str(Path(root).resolve())}
    overlays = [read_yaml(config) for config in configs]
    record = Record(run / "stage.json", {"overlays": overlays, "set": values | resolved, "inputs": inputs})
    if record.difference:
        raise PseganError(
            f"{run} was made with other settings ({record.difference}); remove {folder}, or choose another with --out"
        )
    if record.complete and checkpoint.is_file():
        print(f"{progress} {stage.name}: complete, nothing to do")
        return checkpoint
    if checkpoint.is_file():
        arguments.append("--ckpt_path=last")
    print(f"{progress} {stage.name}: {'continuing: ' * record.begun}psegan {shlex.join(arguments)}", flush=True)
    record.begin()
    from psegan import training

    started = time.monotonic()
    training.main(arguments)
    if not checkpoint.is_file():
        raise PseganError(
            f"stage {stage.name} ended without writing {checkpoint}: its configuration saves no checkpoint"
        )
    record.finish()
    print(f"{progress} {stage.name}: {time.monotonic() - started:.0f} s", flush=True)
    return checkpoint
