"""``psegan reproduce``: the stages of an experiment, each skipped when complete and continued when interrupted."""

import argparse
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psegan.common.arguments import require_positive
from psegan.common.errors import PseganError
from psegan.common.files import read_yaml
from psegan.common.machine import usual_workers
from psegan.common.record import Record
from psegan.jobs import estimate
from psegan.jobs.job import Fit, only_one, planned, prolonged, train_all

if TYPE_CHECKING:  # heavy, and not needed for --help
    from psegan.evaluation.specification import Evaluation


@dataclass(frozen=True)
class Stage:
    """One training of a reproduction.

    Attributes:
        name: also its folder below the reproduction's.
        config: overlays for ``psegan fit``, in order.
        set: dotted key → value, laid over them; ``{stage}`` in a value becomes that earlier stage's checkpoint.
        minutes: that it takes one core of the reference machine (:data:`psegan.jobs.estimate.REFERENCE`), if known.
    """

    name: str
    config: tuple[str, ...]
    set: dict[str, Any] = field(default_factory=dict)
    minutes: float | None = None

    @property
    def references(self) -> list[str]:
        """Stages whose checkpoints it reads."""
        return [name for value in self.set.values() for name in re.findall(r"\{([\w-]+)\}", str(value))]


@dataclass(frozen=True)
class Part:
    """A split of the corpus, and in a speaker-disjoint one a fold, in which everything is trained and scored.

    Attributes:
        split: its name; empty for the one that the corpus file says.
        fold: None where the split has no folds.
    """

    split: str = ""
    fold: int | None = None

    def folder(self, out: Path) -> Path:
        """Of its trainings, below the reproduction's."""
        return out / self.split / ("" if self.fold is None else f"systems-{self.fold}")

    def any_fold(self, checkpoint: Path, out: Path) -> Path:
        """A checkpoint of this part with ``{fold}`` for the fold, as evaluations have it."""
        systems = self.folder(out)
        return systems.with_name("systems-{fold}") / checkpoint.relative_to(systems)

    @property
    def values(self) -> dict[str, Any]:
        """What trainings are told of the data: dotted key → value."""
        own: dict[str, Any] = {"split": self.split} if self.split else {}
        if self.fold is not None:
            own |= {"fold": self.fold, "speakers": "protector"}
        return {f"data.init_args.{key}": value for key, value in own.items()}


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
        evaluation_minutes: as ``minutes`` of a stage, of one system or control in one split or fold, with all attackers.
        splits: split → folds of it, none where it has none; without any, all happens in the corpus file's split.
        epochs: split → factor of the epochs of all its trainings, attackers included, since where there is less speech an
            epoch has fewer steps.
        minutes: split → factor of the minutes of its stages, in each fold.
    """

    name: str
    out: str
    corpus: str
    stages: tuple[Stage, ...]
    evaluation: str
    systems: dict[str, str]
    set: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    evaluation_minutes: float | None = None
    splits: dict[str, list[int]] = field(default_factory=dict)
    epochs: dict[str, float] = field(default_factory=dict)
    minutes: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> "Reproduction":
        """Read an experiment file.

        Raises:
            PseganError: the file is missing, is not YAML, or has unknown, missing, mistyped or dangling keys.
        """
        content, factors = read_yaml(path), ("epochs", "minutes")
        _check_keys(path, content, cls, optional={"set", "seed", "evaluation_minutes", "splits", *factors})
        kinds = {"stages": dict, "evaluation": str, "systems": dict, "set": dict, "seed": int}
        kinds |= dict.fromkeys(("splits", *factors), dict)
        _check_types(path, content, {**kinds, "evaluation_minutes": float})
        for split in content.get("splits", {}):
            _check_types(path, content["splits"], {split: list}, "splits.")
            _check_folds(f"{path}: splits.{split}", split, content["splits"][split])
        for key in factors:
            for split in content.get(key, {}):
                _check_types(path, content[key], {split: float}, f"{key}.")
                if split not in content.get("splits", {}):
                    raise PseganError(f"{path}: {key}.{split} is of a split that splits lacks")
                if not content[key][split] > 0:
                    raise PseganError(f"{path}: {key}.{split} is {content[key][split]}, but must be a factor above 0")
        for key, value in content.get("set", {}).items():
            if re.search(r"\{[\w-]+\}", str(value)):
                raise PseganError(f"{path}: set.{key} refers to a stage, which only the set of another stage can")
        stages = []
        for name, entry in content["stages"].items():
            where = f"{path}: stages.{name}"
            _check_types(path, content["stages"], {name: dict}, "stages.")
            _check_keys(where, {"name": name, **entry}, Stage, optional={"set", "minutes"})
            _check_types(path, entry, {"config": list, "set": dict, "minutes": float}, f"stages.{name}.")
            stages.append(Stage(name, tuple(entry["config"]), entry.get("set", {}), entry.get("minutes")))
        names = [stage.name for stage in stages]
        for role, stage in content["systems"].items():
            if stage not in names:
                raise PseganError(f"{path}: systems.{role} names stage {stage!r}; there are {', '.join(names)}")
        return cls(**{**content, "stages": tuple(stages)})

    def parts(self) -> list[Part]:
        """Where everything is trained and scored."""
        if not self.splits:
            return [Part()]
        without: list[int | None] = [None]
        return [Part(split, fold) for split, folds in self.splits.items() for fold in folds or without]

    def narrowed(
        self,
        splits: Sequence[str] | None = None,
        folds: Sequence[int] | None = None,
        systems: Sequence[str] | None = None,
    ) -> "Reproduction":
        """The same with only some of the splits and systems, and other folds of those splits that have any.

        Raises:
            PseganError: the experiment has no such split or system, or no split with folds.
        """
        for system in systems or ():
            if system not in self.systems:
                raise PseganError(f"--systems {system}: the experiment has {', '.join(self.systems)}")
        for split in splits or ():
            if split not in self.splits:
                known = ", ".join(self.splits) or "none, but that of its corpus file"
                raise PseganError(f"--splits {split}: the experiment has {known}")
        if folds:
            _check_folds("--folds", "speaker-disjoint", list(folds))
        chosen = {split: own for split, own in self.splits.items() if splits is None or split in splits}
        if folds and not any(chosen.values()):
            raise PseganError("--folds: none of the experiment's splits has folds; leave it out")
        kept = {name: stage for name, stage in self.systems.items() if systems is None or name in systems}
        return replace(
            self,
            splits={split: list(folds) if folds and own else own for split, own in chosen.items()},
            systems=kept,
            stages=self.stages if systems is None else self.stages_for(kept.values()),
        )

    def beside(self, whole: "Reproduction", out: Path) -> "Reproduction":
        """The same, with the systems and folds of the whole experiment that a folder has published, which stay published."""
        systems, splits = set(self.systems), dict(self.splits)
        for part in self.parts():
            path = out / part.split / "results.json"
            if not path.is_file():
                continue
            published = json.loads(path.read_text(encoding="utf-8"))["header"]["evaluation"]
            systems |= set(published["systems"]) & set(whole.systems)
            if splits.get(part.split):
                splits[part.split] = sorted({*splits[part.split], *published["folds"]})
        kept = {name: stage for name, stage in whole.systems.items() if name in systems}
        stages = self.stages if kept == self.systems else whole.stages_for(kept.values())
        return replace(self, systems=kept, splits=splits, stages=stages)

    def stages_for(self, names: Iterable[str]) -> tuple[Stage, ...]:
        """The stages of these names, and all that they refer to, in order."""
        needed = set(names)
        for stage in reversed(self.stages):  # each after those it refers to
            needed |= set(stage.references) if stage.name in needed else set()
        return tuple(stage for stage in self.stages if stage.name in needed)


def _check_keys(where: str, content: dict[str, Any], form: type, optional: set[str]) -> None:
    known = set(form.__dataclass_fields__)  # type: ignore[attr-defined]
    for key in content:
        if key not in known:
            raise PseganError(f"{where}: unknown key {key!r}; there are {', '.join(sorted(known))}")
    for key in sorted(known - optional):
        if key not in content:
            raise PseganError(f"{where}: lacks the key {key!r}")


def _check_folds(where: str, split: str, folds: list[Any]) -> None:
    numbers = [fold for fold in folds if isinstance(fold, int) and fold >= 0]
    if len(set(numbers)) < len(folds):
        raise PseganError(f"{where} holds {folds}, but must hold different whole numbers from 0 on")
    if (split == "speaker-disjoint") != bool(folds):
        raise PseganError(f"{where} holds {folds}: split speaker-disjoint needs folds, and no other split has any")


def _check_types(path: str, content: dict[str, Any], kinds: dict[str, type], prefix: str = "") -> None:
    names = {dict: "a mapping", list: "a list", int: "a whole number", float: "a number", str: "text"}
    for key, kind in kinds.items():
        if key in content and not isinstance(content[key], (int, float) if kind is float else kind):
            raise PseganError(f"{path}: {prefix}{key} is {content[key]!r}, but must be {names[kind]}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan reproduce``."""
    parser.add_argument("--config", required=True, help="an experiment file, as experiments/reproduce/demo.yaml")
    parser.add_argument("--data-root", help="where the corpus lies (instead of the corpus file's root)")
    parser.add_argument("--out", help="folder of runs and results (instead of the experiment's)")
    parser.add_argument("--max-epochs", type=int, help="train no stage for longer than this, to check the path")
    parser.add_argument("--attackers", nargs="+", metavar="NAME", help="as for psegan evaluate")
    parser.add_argument("--workers", type=int, help="processes at a time (default: one a core, four trainings a GPU)")
    parser.add_argument("--splits", nargs="+", metavar="NAME", help="of those that the experiment names, only these")
    parser.add_argument(
        "--folds", nargs="+", type=int, metavar="K", help="of split speaker-disjoint (instead of the experiment's)"
    )
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", help="of the experiment's, only these, and their stages"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan reproduce``."""
    require_positive(arguments, "max_epochs", "workers")
    whole = Reproduction.read(arguments.config)
    experiment = whole.narrowed(arguments.splits, arguments.folds, arguments.systems)
    out = Path(arguments.out or experiment.out)
    with only_one(out):
        experiment = experiment.beside(whole, out)
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
        workers: processes at a time; by default one a core, and four trainings a GPU.
        attackers: which to build, instead of the evaluation file's ladder.

    Raises:
        PseganError: the folder holds a stage of other settings, or whatever a stage raises.
    """
    from psegan.report.page import read_run, render_runs

    folder, trainings = Path(out or experiment.out), workers or usual_workers()
    parts = experiment.parts()
    check_corpus(experiment, parts, data_root)
    if max_epochs is None:
        announce(experiment, folder, trainings, attackers)
    checkpoints = train_stages(experiment, experiment.stages, parts, folder, data_root, max_epochs, trainings)
    for split in dict.fromkeys(part.split for part in parts):
        print(f"evaluation{f', split {split}' if split else ''}", flush=True)
        of_split = [part for part in parts if part.split == split]
        systems = {name: checkpoints[of_split[0], stage] for name, stage in experiment.systems.items()}
        if of_split[0].fold is not None:
            systems = {name: of_split[0].any_fold(path, folder) for name, path in systems.items()}
        evaluate_systems(experiment, systems, folder / split, data_root, max_epochs, workers, attackers, parts=of_split)
    scored = [path.parent for path in sorted(folder.glob("*/results.json"))]  # by earlier starts with other splits too
    if experiment.splits and len(scored) > 1:
        page = folder / "report.html"
        render_runs([read_run(one) for one in scored], page, f"psegan reproduce: {experiment.name}")
        print(page, flush=True)


def check_corpus(experiment: Reproduction, parts: Sequence[Part], data_root: str | None) -> None:
    """Find out at once whether the corpus is there and splits as wanted, and not in the first training's log.

    Raises:
        PseganError: it doesn't.
    """
    from psegan.evaluation.corpora import load_corpus

    for part in parts:
        corpus = load_corpus(experiment.corpus, data_root, _of_data({**experiment.set, **part.values}))
        for stage in ("train", "validation", "test"):
            corpus.split_utterances(stage)


def announce(experiment: Reproduction, folder: Path, workers: int, attackers: list[str] | None = None) -> None:
    """Say how long what is not complete will take, where the experiment knows."""
    minutes, longest = remaining(experiment, folder, attackers)
    known = [one for one in minutes if one is not None]
    if known:
        print(estimate.line(sum(known), longest, workers, complete=len(known) == len(minutes)), flush=True)


def remaining(
    experiment: Reproduction, folder: Path, attackers: list[str] | None = None
) -> tuple[list[float | None], float]:
    """Minutes of what is not complete.

    Args:
        experiment: what is to be done.
        folder: of what has been done.
        attackers: see :func:`reproduce`; of a ladder of one's own, scoring has no estimate.

    Returns:
        Of each training and of each system's scoring, None where there is no estimate; and of the longest chain of
        trainings that need one another.
    """
    minutes: list[float | None] = []
    longest = 0.0
    systems = read_evaluation(experiment, dict.fromkeys(experiment.systems, "x.ckpt"), attackers).systems
    for part in experiment.parts():
        ends: dict[str, float] = {}
        factor = experiment.minutes.get(part.split, 1.0)
        for stage in experiment.stages:
            done = Record(part.folder(folder) / stage.name / "stage.json", {}).complete
            if not done:
                minutes.append(stage.minutes and factor * stage.minutes)
            own = 0 if done else factor * (stage.minutes or 0)
            ends[stage.name] = own + max((ends[one] for one in stage.references), default=0)
        longest = max(longest, *ends.values(), 0)
        verdicts = folder / part.split / f"fold-{part.fold or 0}" / "verdicts"
        unscored = [name for name in systems if not (verdicts / f"{name}-test.npz").is_file()]
        minutes += [None if attackers else experiment.evaluation_minutes] * len(unscored)
    return minutes, longest


def train_stages(
    experiment: Reproduction,
    stages: Sequence[Stage],
    parts: Sequence[Part],
    folder: Path,
    data_root: str | None,
    max_epochs: int | None,
    workers: int,
) -> dict[tuple[Part, str], Path]:
    """Train stages of an experiment in every part, side by side where none reads another, but for those that are complete.

    Args:
        experiment: whose.
        stages: each after those it refers to.
        parts: in each of which every stage is trained.
        folder: of all of them.
        data_root, max_epochs: see :func:`reproduce`.
        workers: processes at a time.

    Returns:
        Part and name → checkpoint.

    Raises:
        PseganError: see :func:`reproduce`.
    """
    known: set[str] = set()
    for stage in stages:
        for name in stage.references:
            if name not in known:
                raise PseganError(f"stage {stage.name} refers to {{{name}}}, which is no earlier stage")
        known.add(stage.name)
    checkpoints: dict[tuple[Part, str], Path] = {}
    waiting = list(stages)
    while waiting:
        trained = {name for _, name in checkpoints}
        wave = [stage for stage in waiting if trained.issuperset(stage.references)]
        waiting = [stage for stage in waiting if stage not in wave]
        fits = {
            (p, s.name): _fit(experiment, s, p, folder, data_root, max_epochs, checkpoints) for p in parts for s in wave
        }
        for fit in fits.values():
            what = "continuing: " * fit.record.begun + f"psegan {shlex.join(fit.words())}"
            print(f"{fit.name}: {'complete, nothing to do' if fit.complete else what}", flush=True)
        train_all(list(fits.values()), workers, "training stages")
        checkpoints |= {key: fit.checkpoint for key, fit in fits.items()}
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
    parts: Sequence[Part] = (Part(),),
) -> None:
    """Evaluate systems as an experiment does its own.

    Args:
        experiment: names the evaluation file, the corpus and its settings.
        systems: name → checkpoint.
        folder: of everything that the evaluation makes.
        data_root, max_epochs, workers, attackers: see :func:`reproduce`.
        seed: of the evaluation, instead of the experiment's.
        parts: the split and its folds.

    Raises:
        PseganError: see :func:`psegan.jobs.evaluate.evaluate`.
    """
    from psegan.jobs.evaluate import evaluate

    evaluation = read_evaluation(experiment, {name: str(path) for name, path in systems.items()}, attackers)
    if parts[0].split:
        disjoint = parts[0].fold is not None
        own = {"split": parts[0].split} | ({"speakers": "attacker"} if disjoint else {})
        evaluation = replace(
            evaluation,
            epochs=evaluation.epochs * experiment.epochs.get(parts[0].split, 1),
            data=evaluation.data | own,
            folds=[part.fold or 0 for part in parts],
        )
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
    data = evaluation.data | _of_data(experiment.set)
    return replace(evaluation, name=experiment.name, corpus=experiment.corpus, data=data)


def _of_data(values: dict[str, Any]) -> dict[str, Any]:
    """Of dotted keys → values, the arguments of the corpus."""
    prefix = "data.init_args."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _settings(
    experiment: Reproduction, stage: Stage, part: Part, data_root: str | None, max_epochs: int | None
) -> dict[str, Any]:
    """Dotted key → value: what is laid over a stage's overlays."""
    values = {**experiment.set, **part.values, **stage.set}

    if planned(stage.config, values, "trainer.devices", 1) not in (1, "1"):
        raise PseganError(f"stage {stage.name}: psegan reproduce trains on one device; remove trainer.devices")
    if experiment.seed:
        # an offset, so that stages which differ by their seeds go on to do so
        values["seed_everything"] = planned(stage.config, values, "seed_everything", 0) + experiment.seed
    if data_root is not None:
        values["data.init_args.root"] = data_root
    values |= prolonged(stage.config, values, experiment.epochs.get(part.split, 1))
    if max_epochs is not None:
        own = planned(stage.config, values, "trainer.max_epochs", max_epochs)
        values["trainer.max_epochs"] = min(max_epochs, own)
    return values


def _fit(
    experiment: Reproduction,
    stage: Stage,
    part: Part,
    folder: Path,
    data_root: str | None,
    max_epochs: int | None,
    checkpoints: dict[tuple[Part, str], Path],
) -> Fit:
    """The training of a stage in a part, with the checkpoints that it refers to."""
    values = _settings(experiment, stage, part, data_root, max_epochs)
    files = {name: checkpoints[part, name] for name in stage.references}
    run = part.folder(folder) / stage.name
    name = str(run.relative_to(folder))
    best = planned(stage.config, values, "best.monitor", None) is not None
    return Fit(
        name, run, (*stage.config, experiment.corpus), values, files, experiment.name,
        "best.ckpt" if best else "last.ckpt",
    )  # fmt: skip
