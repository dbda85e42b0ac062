"""``psegan reproduce``: the stages of an experiment, each skipped when complete and continued when interrupted."""

import argparse
import hashlib
import json
import re
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from psegan.errors import PseganError
from psegan.files import write_json

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
        seed: of the scoring's targets and noise.
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
            PseganError: the file is missing, is not YAML, or has unknown, missing or dangling keys.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise PseganError(f"{path}: cannot be read ({error.strerror}); see experiments/reproduce/") from None
        except yaml.YAMLError as error:
            raise PseganError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
        _check_keys(path, content, cls, optional={"set", "seed"})
        stages = []
        for name, entry in content["stages"].items():
            _check_keys(f"{path}: stages.{name}", {"name": name, **entry}, Stage, optional={"set"})
            stages.append(Stage(name, tuple(entry["config"]), entry.get("set", {})))
        names = [stage.name for stage in stages]
        if set(content["classifiers"]) != set(CLASSIFIERS):
            raise PseganError(f"{path}: classifiers must name a stage for each of {', '.join(CLASSIFIERS)}")
        for key in ("classifiers", "systems"):
            for role, stage in content[key].items():
                if stage not in names:
                    raise PseganError(f"{path}: {key}.{role} names stage {stage!r}; there are {', '.join(names)}")
        return cls(**{**content, "stages": tuple(stages)})


def _check_keys(where: str, content: Any, form: type, optional: set[str]) -> None:
    known = set(form.__dataclass_fields__)  # type: ignore[attr-defined]
    if not isinstance(content, dict):
        raise PseganError(f"{where}: must be a mapping with the keys {', '.join(sorted(known))}")
    for key in content:
        if key not in known:
            raise PseganError(f"{where}: unknown key {key!r}; there are {', '.join(sorted(known))}")
    for key in known - optional:
        if key not in content:
            raise PseganError(f"{where}: lacks the key {key!r}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan reproduce``."""
    parser.add_argument("--config", required=True, help="an experiment file, as experiments/reproduce/demo.yaml")
    parser.add_argument("--data-root", help="where the corpus lies (instead of the corpus file's root)")
    parser.add_argument("--out", help="folder of runs and results (instead of the experiment's)")
    parser.add_argument("--max-epochs", type=int, help="train no stage for longer than this")


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
        overlays = _overlays(experiment, stage, data_root, max_epochs)
        checkpoints[stage.name] = _train(stage, overlays, folder, experiment.name, checkpoints, f"[{number}/{total}]")
    from psegan.evaluation import publication

    inputs = {name: file_hash(path) for name, path in checkpoints.items()}
    settings = {"inputs": inputs, "seed": experiment.seed, "systems": experiment.systems, "data_root": data_root}
    record = Record(folder / "stage.json", settings)
    if record.complete:
        print(f"[{total}/{total}] score: complete, nothing to do")
    else:
        print(f"[{total}/{total}] score", flush=True)
        started = time.monotonic()
        record.begin()
        publication.publish(experiment, folder, checkpoints)
        record.finish()
        print(f"[{total}/{total}] score: {time.monotonic() - started:.0f} s", flush=True)
    publication.announce(folder)


class Record:
    """``stage.json``: what a stage was made from, and whether it is complete.

    Args:
        path: of the file.
        settings: plain values; a folder made from others is refused rather than mixed with.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        found = json.loads(path.read_text()) if path.is_file() else None
        if found is not None and found["settings"] != settings:
            raise PseganError(
                f"{path.parent} was made with other settings ({_difference(found['settings'], settings)}); "
                "remove that folder, or choose another with --out"
            )
        self.begun = found is not None
        self.complete = bool(found and found["complete"])

    def begin(self) -> None:
        """Note that work on the stage has begun."""
        write_json(self.path, {"settings": self.settings, "complete": False})

    def finish(self) -> None:
        """Note that the stage is complete."""
        write_json(self.path, {"settings": self.settings, "complete": True})


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    key = next(k for k in [*before, *after] if before.get(k) != after.get(k))
    return f"{key} was {before.get(key)!r}, now {after.get(key)!r}"


def file_hash(path: Path) -> str:
    """First 16 hexadecimal digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _overlays(
    experiment: Reproduction, stage: Stage, data_root: str | None, max_epochs: int | None
) -> tuple[list[str], dict[str, Any]]:
    configs = [*stage.config, experiment.corpus]
    values = {**experiment.set, **stage.set}
    if data_root is not None:
        values["data.init_args.root"] = data_root
    if max_epochs is not None:
        planned = values.get("trainer.max_epochs")
        for config in reversed(stage.config):
            planned = planned or _read_yaml(config).get("trainer", {}).get("max_epochs")
        values["trainer.max_epochs"] = min(max_epochs, planned or max_epochs)
    return configs, values


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise PseganError(f"{path}: cannot be read ({error.strerror}); run psegan from the project's folder") from None


def _train(
    stage: Stage,
    overlays: tuple[list[str], dict[str, Any]],
    folder: Path,
    group: str,
    checkpoints: dict[str, Path],
    progress: str,
) -> Path:
    configs, values = overlays
    run = folder / stage.name
    references = {name: str(path) for name, path in checkpoints.items()}
    arguments = ["fit"]
    for config in configs:
        arguments += ["--config", config]
    upstream = {}
    for key, value in values.items():
        for name in re.findall(r"\{(\w+)\}", value) if isinstance(value, str) else ():
            if name not in references:
                raise PseganError(f"stage {stage.name}: {key} refers to {{{name}}}, which is no earlier stage")
            upstream[name] = file_hash(checkpoints[name])
            value = value.replace(f"{{{name}}}", references[name])
        arguments.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
    arguments += [f"--run.dir={run}", f"--run.group={group}", "--ckpt_path=last"]
    contents = {config: _read_yaml(config) for config in configs}
    record = Record(run / "stage.json", {"arguments": arguments, "config": contents, "inputs": upstream})
    checkpoint = run / "checkpoints" / "last.ckpt"
    if record.complete and checkpoint.is_file():
        print(f"{progress} {stage.name}: complete, nothing to do")
        return checkpoint
    print(
        f"{progress} {stage.name}: {'continuing: ' if record.begun else ''}psegan {shlex.join(arguments)}", flush=True
    )
    record.begin()
    from psegan import training

    started = time.monotonic()
    training.main(arguments)
    if not checkpoint.is_file():
        raise PseganError(
            f"stage {stage.name} ended without writing {checkpoint}; its configuration saves no checkpoint"
        )
    record.finish()
    print(f"{progress} {stage.name}: {time.monotonic() - started:.0f} s", flush=True)
    return checkpoint
