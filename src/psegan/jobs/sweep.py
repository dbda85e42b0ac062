"""``psegan sweep``: the trials of a W&B sweep file as jobs without a server, evaluated side by side."""

import argparse
import contextlib
import csv
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from psegan.common.errors import PseganError
from psegan.common.files import atomic_path, read_yaml, write_text
from psegan.common.record import Record
from psegan.jobs.job import RECORD, Job, only_one, planned_epochs, run_jobs
from psegan.jobs.options import Options, add_options
from psegan.jobs.reproduce import Reproduction, check_corpus, print_jobs, root_values
from psegan.jobs.sweep_file import Sweep, Trial

METRICS = "metrics.csv"
"""In a trial's folder."""
OF_ORIGINAL = ("val/emotion_uar_original", "val/speaker_accuracy_original", "val/speaker_eer_original")
"""Scores without which the trade-off has no meaning where they are no better than a guess."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan sweep``."""
    parser.add_argument("file", metavar="FILE", help="a W&B sweep file, as experiments/sweeps/systems.yaml")
    add_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print the trials' commands, which run as printed, and stop"
    )
    parser.add_argument(
        "--experiment",
        help="an experiment file: of its trainings those that trials read are run first, and its evaluation ends the sweep "
        "(default: the one of experiments/reproduce that is called as the corpus is)",
    )
    parser.add_argument("--no-evaluation", action="store_true", help="train and list the trials alone")
    parser.add_argument("--seed", type=int, default=0, help="of a random sweep's draws (default: 0)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan sweep``."""
    options = Options.of(arguments)
    options.check_wandb()
    sweep = Sweep.read(arguments.file)
    folder = Path(arguments.out or Path("runs") / "sweeps" / sweep.name)
    experiment = find_experiment(sweep, arguments.experiment)
    trials = sweep.trials(arguments.seed)
    if experiment is not None and options.max_epochs is not None:
        # trainings cut short are not to be taken for the experiment's own
        before, experiment = experiment.out, replace(experiment, out=str(folder / "trainings"))
        trials = [moved(trial, before, experiment.out, folder / "overlays") for trial in trials]
    jobs = trial_jobs(trials, sweep, folder, experiment, options)
    for job in jobs.values():
        check(job, sweep.metric is not None)
    evaluated = experiment is not None and sweep.method == "grid" and not arguments.no_evaluation
    if experiment is not None and evaluated:  # refuses names and attackers before hours of training
        experiment.evaluation_of({trial.system: "none.ckpt" for trial in trials}, options, folder)
    if arguments.dry_run:
        for job in jobs.values():
            print(shlex.join(["psegan", *job.words()]))
        return 0
    with only_one(folder):
        # trials may be added to one's own folder
        seed = arguments.seed if sweep.method == "random" else None
        settings = {"name": sweep.name, "method": sweep.method, "seed": seed}
        Record(folder / "sweep.json", settings).claim("sweep")
        failure = run_trials(sweep, list(jobs.values()), experiment, options)
        list_trials(sweep, trials, jobs, folder / "trials.csv")
        done = [trial for trial in trials if jobs[trial.name].complete]
        if experiment is not None and evaluated and done:
            evaluate_trials(sweep, experiment, done, jobs, folder, options, f"psegan sweep: {arguments.file}")
        if failure is not None:
            raise failure
    return 0


def find_experiment(sweep: Sweep, path: str | None) -> Reproduction | None:
    """The experiment whose trainings come first and whose evaluation comes last.

    It is the one at ``path``, or else the one that is called as an overlay of the sweep's corpus is, if there is any.
    """
    if path is None:
        corpora = [config for config in map(Path, sweep.configs) if config.parent.name == "corpora"]
        found = [corpus.parent.parent / "reproduce" / corpus.name for corpus in corpora]
        path = next((str(one) for one in found if one.is_file()), None)
    if path is None:
        return None
    read = Reproduction.read(path)
    return replace(read, splits=dict(list(read.splits.items())[:1]))  # trials are of the first split


def moved(trial: Trial, before: str, after: str, overlays: Path) -> Trial:
    """The trial with copies of its overlays, in the folder ``overlays``, whose paths begin with ``after`` for ``before``."""
    configs = []
    for config in trial.configs:
        text = yaml.safe_dump(read_yaml(config), sort_keys=False)
        changed = re.sub(rf"(?<![\w/.-]){re.escape(before.rstrip('/'))}/", f"{after}/", text)
        if changed != text:
            config = str(overlays / Path(config).name)
            write_text(config, changed)
        configs.append(config)
    return replace(trial, configs=tuple(configs))


def trial_jobs(
    trials: Sequence[Trial], sweep: Sweep, folder: Path, experiment: Reproduction | None, options: Options
) -> dict[str, Job]:
    """Name of each trial → its job, which needs the experiment's jobs whose checkpoints it reads and that are not complete."""
    trainings = {} if experiment is None else {job.checkpoint: job for job in experiment.jobs(options).values()}
    jobs = {}
    for trial in trials:
        needs: dict[str, Job | Path] = {}
        for path in _checkpoints([*(read_yaml(config) for config in trial.configs), trial.values]):
            needs[f"checkpoint/{path}"] = path if _is_usable(path) else trainings.get(path, path)
        own = root_values(trial.configs, trial.values, options)
        values = trial.values | own | planned_epochs(trial.configs, trial.values, most=options.max_epochs)
        run = folder / "trials" / trial.name
        logged = {"group": sweep.name, "variant": trial.system, **options.logged}
        jobs[trial.name] = Job(trial.name, run, trial.configs, values, needs, logged)
    return jobs


def _checkpoints(value: Any) -> Iterator[Path]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _checkpoints(one)
    elif isinstance(value, str) and value.endswith(".ckpt"):
        yield Path(value)


def _is_usable(checkpoint: Path) -> bool:
    """Whether a checkpoint is there, and no interrupted job left it."""
    record = Record(checkpoint.parent.parent / RECORD, {})
    return checkpoint.is_file() and (record.complete or not record.begun)


def check(job: Job, listed: bool) -> None:
    """Make sure that ``psegan fit`` knows every parameter of a trial, and writes what trials are ``listed`` by, if anything."""
    from psegan.training import command as training

    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        try:
            training.main([*job.words(), "--print_config"])
        except PseganError as error:
            raise PseganError(f"trial {job.name}: {error}") from None
    if listed and "csv" not in yaml.safe_load(printed.getvalue())["run"]["loggers"]:
        raise PseganError(f"trial {job.name}: the sweep's metric is read from metrics.csv; add csv to run.loggers")


class MissingMetricError(PseganError):
    """A trial does not log the sweep's metric."""


def check_metric(metric: str, job: Job) -> bool:
    """Whether a trial logs what trials are listed by, as far as its metrics.csv tells by now.

    That is after the first validation for whatever is validated. A system may log a loss of training later, for example
    after a warm-up, so that only a complete trial tells.

    Raises:
        MissingMetricError: it does not, and will not.
    """
    path = job.folder / METRICS
    names: list[str] = []
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            names = file.readline().rstrip("\n").split(",")
    validated = any(name.startswith("val/") for name in names)
    of_validation = metric.startswith("val/") or f"val/{metric}" in names
    if metric in names or not (job.complete or (validated and of_validation)):
        return metric in names
    if metric == "val/trade_off" and "val/emotion_uar" in names:  # so the classifiers were given
        with path.open(encoding="utf-8", newline="") as file:
            found = {name: row[name] for row in csv.DictReader(file) for name in OF_ORIGINAL if row.get(name)}
        scores = ", ".join(f"{name} {float(value):.3g}" for name, value in found.items())
        raise MissingMetricError(
            f"the sweep's metric is {metric}, which has no meaning in trial {job.name}: the classifiers that watch find no "
            f"emotion or no speaker in original speech ({scores}); give privacy.emotion_classifier and "
            "privacy.speaker_classifier that were trained for longer on this corpus, or choose by another metric"
        )
    logged = ", ".join(name for name in names if name not in ("epoch", "step")) or "nothing"
    of_privacy = metric.startswith(("val/emotion_", "val/speaker_", "val/trade_off"))
    other = ", or give privacy.emotion_classifier and privacy.speaker_classifier" if of_privacy else ""
    raise MissingMetricError(
        f"the sweep's metric is {metric}, but trial {job.name} logs {logged}; correct metric.name in the sweep file{other}"
    )


def run_trials(
    sweep: Sweep, jobs: Sequence[Job], experiment: Reproduction | None, options: Options
) -> PseganError | None:
    """Run trials, and first what they read of the experiment's; returns the error if some failed.

    Raises:
        PseganError: what trials read is missing, or one does not log the sweep's metric.
    """
    logged: set[Job] = set()  # of these nothing more is to be read while they run

    def watch(job: Job) -> None:
        if sweep.metric is not None and job in jobs and job not in logged and check_metric(sweep.metric[0], job):
            logged.add(job)

    for job in jobs:
        watch(job)
    if all(job.complete for job in jobs):
        print(f"{sweep.name}: all {len(jobs)} trials are complete, nothing to train")
        return None
    needs = {need: job.name for job in jobs for need in job.needs.values()}
    for need, name in needs.items():
        if isinstance(need, Path) and not need.is_file():
            raise PseganError(
                f"trial {name} reads {need}, which is missing; train it first (psegan reproduce), or give --experiment"
            )
    first = [need for need in needs if isinstance(need, Job)]
    with contextlib.ExitStack() as held:
        if first and experiment is not None:
            check_corpus(experiment, options)
            held.enter_context(only_one(Path(experiment.out)))
            print_jobs(first)
        try:
            run_jobs(jobs, options.trainings, f"sweep {sweep.name}", watch)
        except MissingMetricError:
            raise
        except PseganError as error:
            return error
    return None


def list_trials(sweep: Sweep, trials: Sequence[Trial], jobs: dict[str, Job], path: Path) -> None:
    """Write all trials to a CSV file, the best by the sweep's metric first, and print it."""
    import pandas as pd  # takes a moment to import

    metric, goal = sweep.metric or ("", "minimize")
    rows = []
    for trial in trials:
        job = jobs[trial.name]
        state = "complete" if job.complete else "failed" if (job.folder / RECORD).is_file() else "waiting"
        metrics = job.folder / METRICS
        logged = pd.read_csv(metrics, dtype=str) if metrics.is_file() else pd.DataFrame()
        values = logged.get(metric, pd.Series()).dropna().map(float)
        swept = {"config": "".join(trial.configs[-1:]), **trial.values}
        shown = {name: swept[name] for name in sweep.parameters}
        rows.append({"trial": trial.name, "state": state, "metric": None if values.empty else values.iloc[-1], **shown})
    table = pd.DataFrame(rows, dtype=object).sort_values("metric", ascending=goal != "maximize", kind="stable")
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
    width = max(len(trial.name) for trial in trials)
    for name, state, value in table[["trial", "state", "metric"]].itertuples(index=False):
        print(f"{name:{width}}  {state}" + ("" if pd.isna(value) else f"  {metric} {value:.4g}"))
    print(path)


def evaluate_trials(
    sweep: Sweep, experiment: Reproduction, trials: Sequence[Trial], jobs: dict[str, Job], folder: Path, options: Options,
    title: str,
) -> None:  # fmt: skip
    """Evaluate complete trials, those of each seed beside one another, and write one page of all."""
    from psegan.jobs.evaluation_run import EvaluationRun
    from psegan.report.page import read_run, render_runs

    folders = []
    for seed in sorted({trial.seed for trial in trials}):
        systems = {trial.system: str(jobs[trial.name].checkpoint) for trial in trials if trial.seed == seed}
        folders.append(folder / f"evaluation-seed-{seed}")
        evaluation = replace(experiment.evaluation_of(systems, options, folders[-1]), seed=seed)
        EvaluationRun(evaluation, options, sweep.name).run()
    page = folder / "report.html"
    render_runs([read_run(one) for one in folders], page, title)
    print(page, flush=True)
