"""``psegan sweep``: the trials of a W&B sweep file as jobs without a server, evaluated side by side."""

import argparse
import contextlib
import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from psegan.common.errors import PseganError
from psegan.common.files import atomic_path, read_yaml, write_text
from psegan.common.record import Record
from psegan.jobs.evaluate import evaluate
from psegan.jobs.job import OLD_RECORD, RECORD, Job, only_one, planned_epochs, run_jobs
from psegan.jobs.options import Options, add_options
from psegan.jobs.reproduce import Reproduction, check_corpus, print_jobs
from psegan.jobs.sweep_file import Sweep, Trial


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
        check(job)
    evaluated = experiment is not None and sweep.method == "grid" and not arguments.no_evaluation
    if experiment is not None and evaluated:  # names and attackers that it refuses are told before hours of training
        experiment.evaluation_of({trial.system: "none.ckpt" for trial in trials}, options, folder)
    if arguments.dry_run:
        for job in jobs.values():
            print(shlex.join(["psegan", *job.words()]))
        return 0
    with only_one(folder):
        # trials may be added to one's own folder
        settings = {
            "name": sweep.name,
            "method": sweep.method,
            "seed": arguments.seed if sweep.method == "random" else None,
        }
        Record(folder / "sweep.json", settings).claim("sweep")
        failure = run_trials(sweep, list(jobs.values()), experiment, options)
        list_trials(sweep, trials, jobs, folder / "trials.csv")
        done = [trial for trial in trials if jobs[trial.name].complete]
        if experiment is not None and evaluated and done:
            evaluate_trials(experiment, done, jobs, folder, options, f"psegan sweep: {arguments.file}")
        if failure is not None:
            raise failure
    return 0


def find_experiment(sweep: Sweep, path: str | None) -> Reproduction | None:
    """The experiment whose trainings come first and whose evaluation comes last.

    Args:
        sweep: whose overlays name the corpus.
        path: of the experiment's file; None looks for the one that is called as the corpus's overlay is.

    Raises:
        PseganError: there is none at ``path``, or it is broken.
    """
    for config in map(Path, sweep.configs if path is None else ()):
        found = config.parent.parent / "reproduce" / config.name
        if config.parent.name == "corpora" and found.is_file():
            path = str(found)
            break
    if path is None:
        return None
    read = Reproduction.read(path)
    return replace(read, splits=dict(list(read.splits.items())[:1]))  # trials are of the first split


def moved(trial: Trial, before: str, after: str, overlays: Path) -> Trial:
    """The trial with copies of overlays, in the folder ``overlays``, that say ``after`` where a path begins with ``before``."""
    configs = []
    for config in trial.configs:
        content = read_yaml(config)
        changed = _with_prefix(content, f"{before.rstrip('/')}/", f"{after}/")
        if changed != content:
            config = str(overlays / Path(config).name)
            write_text(config, yaml.safe_dump(changed, sort_keys=False))
        configs.append(config)
    return replace(trial, configs=tuple(configs))


def _with_prefix(value: Any, before: str, after: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_prefix(one, before, after) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_prefix(one, before, after) for one in value]
    return after + value.removeprefix(before) if isinstance(value, str) and value.startswith(before) else value


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
        own = {} if options.data_root is None else {"data.init_args.root": options.data_root}
        values = trial.values | own | planned_epochs(trial.configs, trial.values, most=options.max_epochs)
        run = folder / "trials" / trial.name
        jobs[trial.name] = Job(trial.name, run, trial.configs, values, needs, sweep.name)
    return jobs


def _checkpoints(value: Any) -> Iterator[Path]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _checkpoints(one)
    elif isinstance(value, str) and value.endswith(".ckpt"):
        yield Path(value)


def _is_usable(checkpoint: Path) -> bool:
    """Whether a checkpoint is there, and no interrupted job left it."""
    run = checkpoint.parent.parent
    unfinished = (run / RECORD).is_file() and not Record(run / RECORD, {}).complete
    return checkpoint.is_file() and not unfinished and not (run / OLD_RECORD).is_file()


def check(job: Job) -> None:
    """Make sure that ``psegan fit`` knows every parameter of a trial.

    Raises:
        PseganError: it doesn't.
    """
    from psegan.training import command as training

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        try:
            training.main([*job.words(), "--print_config"])
        except PseganError as error:
            raise PseganError(f"trial {job.name}: {error}") from None


def run_trials(
    sweep: Sweep, jobs: Sequence[Job], experiment: Reproduction | None, options: Options
) -> PseganError | None:
    """Run trials, and first what they read of the experiment's; returns what is to be said of those that failed.

    Raises:
        PseganError: a trial's folder holds one of other settings, or what trials read is missing.
    """
    if all(job.complete for job in jobs):
        print(f"{sweep.name}: all {len(jobs)} trials are complete, nothing to train")
        return None
    for job in jobs:
        for need in job.needs.values():
            if isinstance(need, Path) and not need.is_file():
                raise PseganError(
                    f"trial {job.name} reads {need}, which is missing; train it first (psegan reproduce), or give --experiment"
                )
    first = list(dict.fromkeys(need for job in jobs for need in job.jobs))
    with contextlib.ExitStack() as held:
        if first and experiment is not None:
            check_corpus(experiment, options)
            held.enter_context(only_one(Path(experiment.out)))
            print_jobs(first)
        try:
            run_jobs(jobs, options.trainings, f"sweep {sweep.name}")
        except PseganError as error:
            return error
    return None


def list_trials(sweep: Sweep, trials: Sequence[Trial], jobs: dict[str, Job], path: Path) -> None:
    """Write a CSV file of all trials with their state, parameters and the sweep's metric, the best first, and print it."""
    rows = []
    for trial in trials:
        job = jobs[trial.name]
        state = "complete" if job.complete else "failed" if job.begun else "waiting"
        value = None if sweep.metric is None else _last(job.folder / "metrics.csv", sweep.metric[0])
        swept = {"config": "".join(trial.configs[-1:]), **trial.values}
        shown = {name: swept[name] for name in sweep.parameters}
        rows.append({"trial": trial.name, "state": state, "metric": value, **shown})
    sign = -1 if sweep.metric is not None and sweep.metric[1] == "maximize" else 1
    rows.sort(key=lambda row: (row["metric"] is None, sign * (row["metric"] or 0)))
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    width = max(len(trial.name) for trial in trials)
    for row in rows:
        reached = f"  {sweep.metric[0]} {row['metric']:.4g}" if sweep.metric and row["metric"] is not None else ""
        print(f"{row['trial']:{width}}  {row['state']}{reached}")
    print(path)


def _last(metrics: Path, name: str) -> float | None:
    """The last value of a column of metrics.csv."""
    if not metrics.is_file():
        return None
    with metrics.open(newline="") as file:
        values = [row[name] for row in csv.DictReader(file) if row.get(name)]
    return float(values[-1]) if values else None


def evaluate_trials(
    experiment: Reproduction, trials: Sequence[Trial], jobs: dict[str, Job], folder: Path, options: Options, title: str
) -> None:
    """Evaluate complete trials, those of each seed beside one another, and write one page of all."""
    from psegan.report.page import read_run, render_runs

    folders = []
    for seed in sorted({trial.seed for trial in trials}):
        systems = {trial.system: str(jobs[trial.name].checkpoint) for trial in trials if trial.seed == seed}
        folders.append(folder / f"evaluation-seed-{seed}")
        evaluate(experiment.evaluation_of(systems, options, folders[-1], seed=seed), options)
    page = folder / "report.html"
    render_runs([read_run(one) for one in folders], page, title)
    print(page, flush=True)
