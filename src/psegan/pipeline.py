"""``psegan reproduce``: the stages of an experiment, each skipped when complete and continued when interrupted."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psegan.arguments import require_positive
from psegan.errors import PseganError
from psegan.files import read_yaml
from psegan.stages import Fit, only_one, planned, train

if TYPE_CHECKING:  # heavy, and not needed for --help
    from psegan.evaluation.specification import Evaluation


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
        evaluation: an evaluation file, without its corpus: who judges, and beside which controls.
        systems: name in the tables → stage.
        set: dotted key → value, laid over every stage.
        seed: added to the seed of every stage, and of the scoring's targets and noise.
    """

    name: str
    out: str
    corpus: str
    stages: tuple[Stage, ...]
    evaluation: str
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
        _check_types(path, content, {"stages": dict, "evaluation": str, "systems": dict, "set": dict, "seed": int})
        stages = []
        for name, entry in content["stages"].items():
            where = f"{path}: stages.{name}"
            _check_types(path, content["stages"], {name: dict}, "stages.")
            _check_keys(where, {"name": name, **entry}, Stage, optional={"set"})
            _check_types(path, entry, {"config": list, "set": dict}, f"stages.{name}.")
            stages.append(Stage(name, tuple(entry["config"]), entry.get("set", {})))
        names = [stage.name for stage in stages]
        for role, stage in content["systems"].items():
            if stage not in names:
                raise PseganError(f"{path}: systems.{role} names stage {stage!r}; there are {', '.join(names)}")
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
    names = {dict: "a mapping", list: "a list", int: "a whole number", str: "text"}
    for key, kind in kinds.items():
        if key in content and not isinstance(content[key], kind):
            raise PseganError(f"{path}: {prefix}{key} is {content[key]!r}, but must be {names[kind]}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan reproduce``."""
    parser.add_argument("--config", required=True, help="an experiment file, as experiments/reproduce/demo.yaml")
    parser.add_argument("--data-root", help="where the corpus lies (instead of the corpus file's root)")
    parser.add_argument("--out", help="folder of runs and results (instead of the experiment's)")
    parser.add_argument("--max-epochs", type=int, help="train no stage for longer than this, to check the path")
    parser.add_argument("--attackers", nargs="+", metavar="NAME", help="as for psegan evaluate")
    parser.add_argument("--workers", type=int, help="processes of the evaluation at a time (default: one a core)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan reproduce``."""
    require_positive(arguments, "max_epochs", "workers")
    experiment = Reproduction.read(arguments.config)
    with only_one(Path(arguments.out or experiment.out)):
        reproduce(
            experiment, arguments.out, arguments.data_root, arguments.max_epochs, arguments.workers, arguments.attackers
        )
    return 0


def reproduce(
    experiment: Reproduction,
    out: str | None = None,
    data_root: str | None = None,
    max_epochs: int | None = None,
    workers: int | None = None,
    attackers: list[str] | None = None,
) -> None:
    """Train every stage and evaluate the result; what is complete is left alone.

    Args:
        experiment: what to do.
        out: its folder, instead of the experiment's.
        data_root: where the corpus lies, instead of the corpus file's ``root``.
        max_epochs: upper bound for every training.
        workers: processes of the evaluation at a time; by default one a core.
        attackers: which to build, instead of the evaluation file's ladder.

    Raises:
        PseganError: the folder holds a stage of other settings, or whatever a stage raises.
    """
    folder = Path(out or experiment.out)
    total = len(experiment.stages) + 1
    checkpoints = train_stages(experiment, experiment.stages, folder, data_root, max_epochs, total)
    print(f"[{total}/{total}] evaluation", flush=True)
    systems = {name: checkpoints[stage] for name, stage in experiment.systems.items()}
    evaluate_systems(experiment, systems, folder, data_root, max_epochs, workers, attackers)


def train_stages(
    experiment: Reproduction,
    stages: Sequence[Stage],
    folder: Path,
    data_root: str | None,
    max_epochs: int | None,
    total: int,
) -> dict[str, Path]:
    """Train stages of an experiment in order, but for those that are complete.

    Args:
        experiment: whose.
        stages: each after those it refers to.
        folder: of all of them.
        data_root, max_epochs: see :func:`reproduce`.
        total: how many steps to count up to.

    Returns:
        Name → checkpoint.

    Raises:
        PseganError: see :func:`reproduce`.
    """
    checkpoints: dict[str, Path] = {}
    for number, stage in enumerate(stages, 1):
        values = _settings(experiment, stage, data_root, max_epochs)
        checkpoints[stage.name] = train(_fit(experiment, stage, values, folder, checkpoints), f"[{number}/{total}]")
    return checkpoints


def evaluate_systems(
    experiment: Reproduction,
    systems: dict[str, Path],
    folder: Path,
    data_root: str | None = None,
    max_epochs: int | None = None,
    workers: int | None = None,
    attackers: list[str] | None = None,
    seed: int | None = None,
) -> None:
    """Evaluate systems as an experiment does its own.

    Args:
        experiment: names the evaluation file, the corpus and its settings.
        systems: name → checkpoint.
        folder: of everything that the evaluation makes.
        data_root, max_epochs, workers, attackers: see :func:`reproduce`.
        seed: of the evaluation, instead of the experiment's.

    Raises:
        PseganError: see :func:`psegan.evaluation.evaluate.evaluate`.
    """
    from psegan.evaluation.evaluate import evaluate

    evaluation = read_evaluation(experiment, {name: str(path) for name, path in systems.items()}, attackers)
    seed = experiment.seed if seed is None else seed
    evaluate(replace(evaluation, out=str(folder), seed=seed), data_root, max_epochs, workers)


def read_evaluation(experiment: Reproduction, systems: dict[str, str], attackers: list[str] | None) -> "Evaluation":
    """An experiment's evaluation of these systems, on its corpus.

    Args:
        experiment: whose.
        systems: name → checkpoint.
        attackers: which to build, instead of the evaluation file's ladder.

    Raises:
        PseganError: the evaluation's file is broken, or a name or an attacker is none.
    """
    from psegan.evaluation.specification import Evaluation

    evaluation = Evaluation.read(experiment.evaluation, systems, attackers)
    prefix = "data.init_args."
    data = {key.removeprefix(prefix): value for key, value in experiment.set.items() if key.startswith(prefix)}
    return replace(evaluation, name=experiment.name, corpus=experiment.corpus, data=evaluation.data | data)


def _settings(experiment: Reproduction, stage: Stage, data_root: str | None, max_epochs: int | None) -> dict[str, Any]:
    """Dotted key → value: what is laid over a stage's overlays."""
    values = {**experiment.set, **stage.set}

    if planned(stage.config, values, "trainer.devices", 1) not in (1, "1"):
        raise PseganError(f"stage {stage.name}: psegan reproduce trains on one device; remove trainer.devices")
    if experiment.seed:
        # an offset, so that stages which differ by their seeds go on to do so
        values["seed_everything"] = planned(stage.config, values, "seed_everything", 0) + experiment.seed
    if data_root is not None:
        values["data.init_args.root"] = data_root
    if max_epochs is not None:
        own = planned(stage.config, values, "trainer.max_epochs", max_epochs)
        values["trainer.max_epochs"] = min(max_epochs, own)
    return values


def _fit(
    experiment: Reproduction, stage: Stage, values: dict[str, Any], folder: Path, checkpoints: dict[str, Path]
) -> Fit:
    """The training of a stage, with the checkpoints that it refers to."""
    files = {}
    for key, value in values.items():
        for name in re.findall(r"\{([\w-]+)\}", value) if isinstance(value, str) else ():
            if name not in checkpoints:
                raise PseganError(f"stage {stage.name}: {key} refers to {{{name}}}, which is no earlier stage")
            files[name] = checkpoints[name]
    return Fit(stage.name, folder / stage.name, (*stage.config, experiment.corpus), values, files, experiment.name)
