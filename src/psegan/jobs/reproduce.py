"""``psegan reproduce``: the trainings of an experiment file as jobs, and the evaluation of what they leave."""

import argparse
import json
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psegan.common.errors import PseganError
from psegan.common.files import read_yaml
from psegan.common.settings import parse_settings
from psegan.jobs import estimate
from psegan.jobs.job import RECORD, Job, only_one, planned, planned_epochs, run_jobs
from psegan.jobs.options import Options, add_options

if TYPE_CHECKING:  # heavy, and not needed for --help
    from psegan.evaluation.specification import Evaluation

_REFERENCE = re.compile(r"\{([\w-]+)\}")
STRIDE = 1_000_000
"""Between the seeds of a system's repetitions: more than any experiment's seed, so that no two experiments share a training."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a reproduction.

    Attributes:
        config: overlays for ``psegan fit``, in order.
        set: dotted key → value, laid over them; ``{name}`` in a value becomes the checkpoint of that earlier training.
        minutes: see :class:`psegan.jobs.job.Job`.
    """

    config: list[str]
    set: dict[str, Any] = field(default_factory=dict)
    minutes: float | None = None

    @property
    def references(self) -> list[str]:
        """Trainings whose checkpoints it reads."""
        return [name for value in self.set.values() for name in _REFERENCE.findall(str(value))]


@dataclass(frozen=True)
class SplitFold:
    """A split (empty for the corpus file's own), and a fold if it has any, in which everything is trained and scored."""

    split: str = ""
    fold: int | None = None

    def folder(self, out: Path) -> Path:
        """Of its trainings, below the reproduction's."""
        return out / self.split / ("" if self.fold is None else f"systems-{self.fold}")

    def any_fold(self, checkpoint: Path, out: Path) -> Path:
        """A checkpoint with ``{fold}`` for the fold, as evaluations have it."""
        if self.fold is None:
            return checkpoint
        systems = self.folder(out)
        return systems.with_name("systems-{fold}") / checkpoint.relative_to(systems)

    @property
    def values(self) -> dict[str, Any]:
        """Dotted key → value of the corpus that systems are trained on."""
        own = {"split": self.split} if self.split else {}
        disjoint = {} if self.fold is None else {"fold": self.fold, "speakers": "protector"}
        return {f"data.init_args.{key}": value for key, value in (own | disjoint).items()}


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """An experiment file: what to train in which order, and what to score.

    Attributes:
        name: of the experiment; the W&B group.
        out: folder of all its runs and results.
        corpus: overlay with ``data``.
        trainings: name, also of the folder → training, each after those it refers to.
        evaluation: an evaluation file, whose corpus gives way to the experiment's.
        systems: name in the tables → training.
        set: dotted key → value, laid over every training.
        seed: from 0 to :data:`STRIDE` - 1; added to the seed of every training, and of the scoring's targets and noise.
        evaluation_minutes: as ``minutes`` of a training, of one system or control in one split or fold, with all attackers.
        splits: split → folds of it, none where it has none; without any, all happens in the corpus file's split.
        epochs: split → factor of the epochs of all its trainings, attackers included, since where there is less speech an
            epoch has fewer steps.
        minutes: split → factor of the minutes of its trainings, in each fold.
        repetitions: split → system → how many trainings it has there, with seeds :data:`STRIDE` apart; the tables show their
            mean. What a training refers to is trained once, for all of its repetitions.
    """

    name: str
    out: str
    corpus: str
    trainings: dict[str, Training]
    evaluation: str
    systems: dict[str, str]
    set: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    evaluation_minutes: float | None = None
    splits: dict[str, list[int]] = field(default_factory=dict)
    epochs: dict[str, float] = field(default_factory=dict)
    minutes: dict[str, float] = field(default_factory=dict)
    repetitions: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> "Reproduction":
        """Read an experiment file.

        Raises:
            PseganError: the file is missing, is not YAML, or has unknown, missing, mistyped or dangling keys.
        """
        read = parse_settings(cls, read_yaml(path), path)
        for split, folds in read.splits.items():
            _check_folds(f"{path}: splits.{split}", split, folds)
        for key in ("epochs", "minutes", "repetitions"):
            for split in getattr(read, key):
                if split not in read.splits:
                    raise PseganError(f"{path}: {key}.{split} is of a split that splits lacks")
        for key, factors in (("epochs", read.epochs), ("minutes", read.minutes)):
            for split, factor in factors.items():
                if not factor > 0:
                    raise PseganError(f"{path}: {key}.{split} is {factor}, but must be a factor above 0")
        if not 0 <= read.seed < STRIDE:
            raise PseganError(f"{path}: seed is {read.seed}, but must lie between 0 and {STRIDE - 1}")
        for split, times in read.repetitions.items():
            for system, number in times.items():
                where = f"{path}: repetitions.{split}.{system}"
                if system not in read.systems:
                    raise PseganError(f"{where} is no system; there are {', '.join(read.systems)}")
                if number < 1:
                    raise PseganError(f"{where} is {number}, but must be 1 or more")
                made = {f"{read.systems[system]}-{k}" for k in range(1, number)} & read.trainings.keys()
                if number > 1:
                    made |= {f"{system}-{k}" for k in range(number)} & read.systems.keys()
                if made:
                    raise PseganError(
                        f"{where} makes a {min(made)}, but there is one already; call one of them otherwise"
                    )
        for key, value in read.set.items():
            if _REFERENCE.search(str(value)):
                raise PseganError(f"{path}: set.{key} refers to a training, which only the set of another training can")
        known: list[str] = []
        for name, training in read.trainings.items():
            if unknown := [one for one in training.references if one not in known]:
                raise PseganError(f"{path}: trainings.{name} refers to {{{unknown[0]}}}, which is no earlier training")
            known.append(name)
        for system, name in read.systems.items():
            if name not in known:
                raise PseganError(f"{path}: systems.{system} names training {name!r}; there are {', '.join(known)}")
        return read

    def split_folds(self) -> list[SplitFold]:
        """Where everything is trained and scored."""
        splits = self.splits or {"": []}
        return [SplitFold(split, fold) for split, folds in splits.items() for fold in (*folds,) or (None,)]

    def narrowed(
        self,
        splits: Sequence[str] | None = None,
        folds: Sequence[int] | None = None,
        systems: Sequence[str] | None = None,
        repetitions: int | None = None,
    ) -> "Reproduction":
        """The same with only some of the splits, and of the systems with their trainings, and other folds where there are any.

        No system has more than so many ``repetitions``.

        Raises:
            PseganError: the experiment has no such split or system, or no split with folds.
        """
        for option, asked, known in (("systems", systems, self.systems), ("splits", splits, self.splits)):
            if unknown := [one for one in asked or () if one not in known]:
                raise PseganError(
                    f"--{option} {unknown[0]}: the experiment has {', '.join(known) or 'none to choose from'}"
                )
        chosen = {split: own for split, own in self.splits.items() if splits is None or split in splits}
        if folds:
            _check_different("--folds", folds)
            if not any(chosen.values()):
                raise PseganError("--folds: none of the experiment's splits has folds; leave it out")
            chosen = {split: list(folds) if own else own for split, own in chosen.items()}
        narrow = replace(self, splits=chosen)
        if repetitions is not None:
            if repetitions < 1:
                raise PseganError(f"--repetitions is {repetitions}, but must be 1 or more")
            fewer = {k: {name: min(n, repetitions) for name, n in own.items()} for k, own in self.repetitions.items()}
            narrow = replace(narrow, repetitions=fewer)
        return narrow if systems is None else narrow._with_systems(systems, self)

    def beside(self, whole: "Reproduction") -> "Reproduction":
        """The same, with what its folder has published of the whole experiment, which stays published.

        That is systems, folds, and repetitions. A system that is here only since it was published gets no new repetition.
        """
        systems, splits = set(self.systems), dict(self.splits)
        asked = {split: {k: n for k, n in own.items() if k in systems} for split, own in self.repetitions.items()}
        repetitions = dict(asked)
        for split in splits or {"": []}:
            path = Path(self.out) / split / "results.json"
            if path.is_file():
                published = json.loads(path.read_text(encoding="utf-8"))["header"]["evaluation"]
                several = published.get("repetitions", {})
                found = [name for name in whole.systems if name in several or name in published["systems"]]
                systems |= set(found)
                own = asked.get(split, {})
                more = {k: len(several[k]) for k in found if k in several and len(several[k]) > own.get(k, 1)}
                if more:
                    repetitions[split] = own | more
                if splits.get(split):
                    splits[split] = sorted({*splits[split], *published["folds"]})
        wider = replace(self, splits=splits, repetitions=repetitions)
        return wider if systems == set(self.systems) else wider._with_systems(systems, whole)

    def _with_systems(self, names: Collection[str], whole: "Reproduction") -> "Reproduction":
        """The same with some of the whole experiment's systems, and the trainings that they need."""
        systems = {system: name for system, name in whole.systems.items() if system in names}
        needed = set(systems.values())
        for name, training in reversed(whole.trainings.items()):  # each after those it refers to
            needed |= set(training.references) if name in needed else set()
        return replace(self, systems=systems, trainings={k: v for k, v in whole.trainings.items() if k in needed})

    def repeated(self, split: str) -> dict[str, list[str]]:
        """In one split, system → the names of its repetitions, for systems with several."""
        times = self.repetitions.get(split, {})
        return {
            system: [f"{system}-{number}" for number in range(times[system])]
            for system in self.systems if times.get(system, 1) > 1
        }  # fmt: skip

    def trained_systems(self, split: str) -> dict[str, tuple[str, int]]:
        """In one split, every system that is scored → its training, and which repetition of it."""
        several = self.repeated(split)
        return {
            one: (training, number)
            for system, training in self.systems.items()
            for number, one in enumerate(several.get(system, [system]))
        }

    def jobs(self, options: Options) -> dict[tuple[SplitFold, str, int], Job]:
        """Every training in every split and fold, with the number of its repetition, each after those that it needs."""
        jobs: dict[tuple[SplitFold, str, int], Job] = {}
        for place in self.split_folds():
            factor = self.minutes.get(place.split, 1.0)
            variants = {trained: system for system, trained in self.trained_systems(place.split).items()}
            every = dict.fromkeys([*((name, 0) for name in self.trainings), *variants])
            for name, number in every:
                training = self.trainings[name]
                folder = place.folder(Path(self.out)) / (f"{name}-{number}" if number else name)
                values = {**self.set, **place.values, **training.set}
                if planned(training.config, values, "trainer.devices", 1) not in (1, "1"):
                    raise PseganError(f"training {name}: psegan reproduce trains on one device; remove trainer.devices")
                if offset := self.seed + STRIDE * number:  # added: trainings which differ by their seeds go on to do so
                    values["seed_everything"] = planned(training.config, values, "seed_everything", 0) + offset
                values |= root_values((*training.config, self.corpus), values, options)
                epochs = self.epochs.get(place.split, 1)
                jobs[place, name, number] = Job(
                    name=str(folder.relative_to(self.out)),
                    folder=folder,
                    configs=(*training.config, self.corpus),
                    values=values | planned_epochs(training.config, values, epochs, options.max_epochs),
                    needs={one: jobs[place, one, 0] for one in training.references},
                    run={"group": self.name, "variant": variants.get((name, number), name), **options.logged},
                    minutes=training.minutes and factor * training.minutes,
                )
        return jobs

    def evaluation_of(
        self,
        systems: dict[str, str],
        options: Options,
        out: Path,
        places: Sequence[SplitFold] = (SplitFold(),),
    ) -> "Evaluation":
        """The evaluation of systems (name → checkpoint) in a folder, in one split and its folds."""
        from psegan.evaluation.specification import Evaluation

        read = Evaluation.read(self.evaluation, systems, options.attackers)
        split, disjoint = places[0].split, places[0].fold is not None
        own = ({"split": split} if split else {}) | ({"speakers": "attacker"} if disjoint else {})
        return replace(
            read,
            name=self.name,
            out=str(out),
            corpus=self.corpus,
            data=read.data | _of_data(self.set) | own,
            folds=[place.fold or 0 for place in places] if split else read.folds,
            epochs=read.epochs * self.epochs.get(split, 1),
            seed=self.seed,
            repetitions=read.repetitions | self.repeated(split),
        )


def root_values(configs: Sequence[str], values: dict[str, Any], options: Options) -> dict[str, Any]:
    """Dotted key → value of a training's corpus that lies where the options say; nothing where they say nothing."""
    if options.data_root is None:
        return {}
    from psegan.evaluation.corpora import arguments_at

    found = arguments_at(options.data_root, planned(configs, values, "data.init_args.manifest"))
    return {f"data.init_args.{key}": value for key, value in found.items()}


def _check_folds(where: str, split: str, folds: Sequence[int]) -> None:
    from datamodules.splits import APART

    _check_different(where, folds)
    if (split in APART) != bool(folds):
        raise PseganError(f"{where} holds {folds}: {' and '.join(APART)} need folds, and no other split has any")


def _check_different(where: str, folds: Sequence[int]) -> None:
    if len({fold for fold in folds if fold >= 0}) < len(folds):
        raise PseganError(f"{where} holds {folds}, but must hold different whole numbers from 0 on")


def _of_data(values: dict[str, Any]) -> dict[str, Any]:
    """Of dotted keys → values, the arguments of the corpus."""
    prefix = "data.init_args."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan reproduce``."""
    parser.add_argument("--config", required=True, help="an experiment file, as experiments/reproduce/demo.yaml")
    add_options(parser)
    parser.add_argument("--splits", nargs="+", metavar="NAME", help="of those that the experiment names, only these")
    parser.add_argument(
        "--folds",
        nargs="+",
        type=int,
        metavar="K",
        help="of the splits with disjoint speakers (instead of the experiment's)",
    )
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", help="of the experiment's, only these, and the trainings that they need"
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        metavar="N",
        help="of a system that the experiment trains with several seeds, at most N",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan reproduce``."""
    options = Options.of(arguments)
    options.check_wandb()
    whole = Reproduction.read(arguments.config)
    experiment = whole.narrowed(arguments.splits, arguments.folds, arguments.systems, arguments.repetitions)
    experiment = replace(experiment, out=arguments.out or experiment.out)
    with only_one(Path(experiment.out)):
        reproduce(experiment.beside(whole), options)
    return 0


def reproduce(experiment: Reproduction, options: Options) -> None:
    """Train everything and evaluate the result; what is complete is left alone.

    Raises:
        PseganError: the folder holds a training of other settings, or whatever a job or the evaluation raises.
    """
    from psegan.jobs.evaluation_run import EvaluationRun
    from psegan.report.page import read_run, render_runs

    folder, places = Path(experiment.out), experiment.split_folds()
    check_corpus(experiment, options)
    jobs = experiment.jobs(options)
    if options.max_epochs is None and (line := estimate.line(*remaining(experiment, jobs, options), options.trainings)):
        print(line, flush=True)
    print_jobs(jobs.values())
    run_jobs(jobs.values(), options.trainings, "training")
    for split in dict.fromkeys(place.split for place in places):
        print(f"evaluation{f', split {split}' if split else ''}", flush=True)
        own = [place for place in places if place.split == split]
        systems = {
            system: str(own[0].any_fold(jobs[own[0], *trained].checkpoint, folder))
            for system, trained in experiment.trained_systems(split).items()
        }
        EvaluationRun(experiment.evaluation_of(systems, options, folder / split, own), options).run()
    scored = [path.parent for path in sorted(folder.glob("*/results.json"))]  # by earlier starts with other splits too
    if experiment.splits and len(scored) > 1:
        page = folder / "report.html"
        render_runs([read_run(one) for one in scored], page, f"psegan reproduce: {experiment.name}")
        print(page, flush=True)


def check_corpus(experiment: Reproduction, options: Options) -> None:
    """Find out at once whether the corpus is there and splits as wanted, and not in the first training's log."""
    from datamodules.splits import SUBSETS
    from psegan.evaluation.corpora import load_corpus

    for place in experiment.split_folds():
        values = _of_data({**experiment.set, **place.values})
        corpus = load_corpus(experiment.corpus, options.data_root, values)
        for subset in SUBSETS:
            corpus.split_utterances(subset)


def print_jobs(jobs: Iterable[Job]) -> None:
    """Print what will be done: one line a job."""
    for job in jobs:
        command = f"{'continuing: ' if (job.folder / RECORD).is_file() else ''}psegan {shlex.join(job.words())}"
        print(f"{job.name}: {'complete, nothing to do' if job.complete else command}", flush=True)


def remaining(
    experiment: Reproduction, jobs: dict[tuple[SplitFold, str, int], Job], options: Options
) -> tuple[list[float | None], float]:
    """Minutes of all trainings and then of all systems' scorings that are left, and of the longest chain of trainings.

    None stands for what has no estimate, such as scoring by attackers that the command line names.
    """
    minutes: list[float | None] = []
    ends: dict[Job, float] = {}
    for job in jobs.values():
        complete = job.complete
        minutes += [] if complete else [job.minutes]
        own = 0.0 if complete else job.minutes or 0.0
        ends[job] = own + max((ends[one] for one in job.jobs), default=0.0)
    out = Path(experiment.out)
    controls = experiment.evaluation_of({}, options, out).systems
    for place in experiment.split_folds():
        systems = dict.fromkeys([*controls, *experiment.trained_systems(place.split)])
        predictions = out / place.split / f"fold-{place.fold or 0}" / "predictions"
        unscored = [name for name in systems if not (predictions / f"{name}-test.npz").is_file()]
        minutes += [None if options.attackers else experiment.evaluation_minutes] * len(unscored)
    return minutes, max(ends.values(), default=0.0)
