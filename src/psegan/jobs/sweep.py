"""``psegan sweep``: the trials of a W&B sweep file without a server, evaluated side by side."""

import argparse
import contextlib
import csv
import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from psegan.common.arguments import require_positive
from psegan.common.errors import PseganError
from psegan.common.files import atomic_path, read_yaml, write_text
from psegan.common.machine import usual_workers
from psegan.common.record import Record
from psegan.jobs.job import Fit, only_one, planned, train_all
from psegan.jobs.reproduce import Reproduction, check_corpus, evaluate_systems, read_evaluation, train_stages
from psegan.jobs.sweep_file import Sweep, Trial


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan sweep``."""
    parser.add_argument("file", metavar="FILE", help="a W&B sweep file, as experiments/sweeps/systems.yaml")
    parser.add_argument("--out", help="folder of trials, evaluation and report (default: runs/sweeps/NAME)")
    parser.add_argument("--workers", type=int, help="trials at a time (default: one a core, or four a GPU)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the trials' commands, which run as printed, and stop"
    )
    parser.add_argument(
        "--experiment",
        help="an experiment file: of its stages those that trials read are trained first, and its evaluation ends the sweep "
        "(default: the one of experiments/reproduce that is called as the corpus is)",
    )
    parser.add_argument("--data-root", help="where the corpus lies (instead of the corpus file's root)")
    parser.add_argument("--max-epochs", type=int, help="train nothing for longer than this")
    parser.add_argument("--attackers", nargs="+", metavar="NAME", help="as for psegan evaluate")
    parser.add_argument("--no-evaluation", action="store_true", help="train and list the trials alone")
    parser.add_argument("--seed", type=int, default=0, help="of a random sweep's draws (default: 0)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan sweep``."""
    require_positive(arguments, "workers", "max_epochs")
    sweep = Sweep.read(arguments.file)
    folder = Path(arguments.out or Path("runs") / "sweeps" / sweep.name)
    experiment = find_experiment(sweep, arguments.experiment)
    trials = sweep.trials(arguments.seed)
    stages = Path(experiment.out) if experiment is not None else folder
    if experiment is not None and arguments.max_epochs is not None:
        # stages cut short are not to be taken for the experiment's own
        stages = folder / "stages"
        trials = [moved(trial, experiment.out, stages, folder / "overlays") for trial in trials]
    fits = {trial.name: trial_fit(trial, sweep, folder, arguments.data_root, arguments.max_epochs) for trial in trials}
    for fit in fits.values():
        check(fit)
    evaluated = experiment is not None and sweep.method == "grid" and not arguments.no_evaluation
    if experiment is not None and evaluated:  # names and attackers that it refuses are told before hours of training
        read_evaluation(experiment, {trial.system: "none.ckpt" for trial in trials}, arguments.attackers)
    if arguments.dry_run:
        for fit in fits.values():
            print(shlex.join(["psegan", *fit.words()]))
        return 0
    with only_one(folder):
        claim(folder, sweep, arguments.seed)
        failure = run_trials(sweep, fits, experiment, stages, arguments)
        done = [trial for trial in trials if _is_complete(fits[trial.name])]
        list_trials(sweep, trials, fits, folder / "trials.csv")
        if experiment is not None and evaluated and done:
            evaluate_trials(experiment, done, fits, folder, arguments)
        if failure is not None:
            raise failure
    return 0


def run_trials(
    sweep: Sweep, fits: dict[str, Fit], experiment: Reproduction | None, folder: Path, arguments: argparse.Namespace,
) -> PseganError | None:  # fmt: skip
    """Train what is not complete, first what trials read.

    Args:
        sweep: whose trials.
        fits: name → training.
        experiment: whose stages come first.
        folder: of the stages.
        arguments: of the command line.

    Returns:
        What is to be said of failed trials, whom those that are complete don't have to suffer for.

    Raises:
        PseganError: a trial's folder holds one of other settings, or what trials read is missing.
    """
    if all(_is_complete(fit) for fit in fits.values()):
        print(f"{sweep.name}: all {len(fits)} trials are complete, nothing to train")
        return None
    if experiment is not None and not all(_checkpoints_are_there(fit) for fit in fits.values()):
        stages = experiment.stages_for(path.parents[1].name for fit in fits.values() for path in _checkpoints_of(fit))
        check_corpus(experiment, experiment.parts()[:1], arguments.data_root)
        with only_one(folder):
            train_stages(
                experiment, stages, experiment.parts()[:1], folder, arguments.data_root, arguments.max_epochs,
                arguments.workers or usual_workers(),
            )  # fmt: skip
    ready = [_with_files(fit) for fit in fits.values()]
    try:
        train_all(ready, arguments.workers or usual_workers(), f"sweep {sweep.name}")
    except PseganError as error:
        return error
    return None


def trial_fit(trial: Trial, sweep: Sweep, folder: Path, data_root: str | None, max_epochs: int | None) -> Fit:
    """The training of a trial.

    Args:
        trial: which.
        sweep: whose name becomes the W&B group.
        folder: of the sweep.
        data_root, max_epochs: as on the command line.
    """
    values = dict(trial.values)
    if data_root is not None:
        values["data.init_args.root"] = data_root
    if max_epochs is not None:
        own = planned(trial.configs, values, "trainer.max_epochs", None)
        values["trainer.max_epochs"] = max_epochs if own is None else min(max_epochs, int(own))
    return Fit(trial.name, folder / "trials" / trial.name, trial.configs, values, {}, sweep.name)


def moved(trial: Trial, before: str, after: Path, overlays: Path) -> Trial:
    """The trial with copies of the overlays that name files of one folder, which name those of another.

    Args:
        trial: which.
        before, after: the folders.
        overlays: folder of the copies.
    """
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


def check(fit: Fit) -> None:
    """Make sure that ``psegan fit`` knows every parameter of a trial.

    Raises:
        PseganError: it doesn't.
    """
    from psegan.training import command as training

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        try:
            training.main([*fit.words(), "--print_config"])
        except PseganError as error:
            raise PseganError(f"trial {fit.name}: {error}") from None


def _with_files(fit: Fit) -> Fit:
    """The same with the checkpoints that it reads, so that a trial of other ones is another trial.

    Raises:
        PseganError: one is missing.
    """
    files = {}
    for path in _checkpoints_of(fit):
        if not path.is_file():
            raise PseganError(
                f"trial {fit.name} reads {path}, which is missing; train it first (psegan reproduce), or give --experiment"
            )
        files[f"checkpoint/{path}"] = path
    return Fit(fit.name, fit.run, fit.configs, fit.values, files, fit.group)


def _checkpoints_are_there(fit: Fit) -> bool:
    """Whether what a trial reads exists, and no interrupted stage left it."""
    records = [(path, path.parents[1] / "stage.json") for path in _checkpoints_of(fit)]
    return all(path.is_file() and (not file.is_file() or Record(file, {}).complete) for path, file in records)


def _checkpoints_of(fit: Fit) -> list[Path]:
    return list(_checkpoints([*(read_yaml(config) for config in fit.configs), fit.values]))


def _checkpoints(value: Any) -> Iterator[Path]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _checkpoints(one)
    elif isinstance(value, str) and value.endswith(".ckpt"):
        yield Path(value)


def _is_complete(fit: Fit) -> bool:
    """Whether nothing is left to do.

    Raises:
        PseganError: the trial's folder holds one of other settings, or of other checkpoints.
    """
    return fit.run.is_dir() and _checkpoints_are_there(fit) and _with_files(fit).complete


def claim(folder: Path, sweep: Sweep, seed: int) -> None:
    """Note whose folder it is; trials may be added to one's own.

    Raises:
        PseganError: it is another sweep's.
    """
    settings = {"name": sweep.name, "method": sweep.method, "seed": seed if sweep.method == "random" else None}
    record = Record(folder / "sweep.json", settings)
    if record.difference:
        raise PseganError(f"{folder} holds another sweep ({record.difference}); choose another --out")
    if not record.begun:
        record.begin()


def find_experiment(sweep: Sweep, path: str | None) -> Reproduction | None:
    """The experiment whose stages come first and whose evaluation comes last.

    Args:
        sweep: whose overlays name the corpus.
        path: of the experiment's file; None looks for the one that is called as the corpus's overlay is.

    Raises:
        PseganError: there is none at ``path``, or it is broken.
    """
    if path is not None:
        return Reproduction.read(path)
    for config in map(Path, sweep.configs):
        found = config.parent.parent / "reproduce" / config.name
        if config.parent.name == "corpora" and found.is_file():
            return Reproduction.read(str(found))
    return None


def list_trials(sweep: Sweep, trials: Sequence[Trial], fits: dict[str, Fit], path: Path) -> None:
    """Write and print all trials with their state, parameters and the sweep's metric, the best first.

    Args:
        sweep: names the metric.
        trials: all of them.
        fits: name → training.
        path: of the CSV file.
    """
    rows = []
    for trial in trials:
        fit = fits[trial.name]
        state = "complete" if _is_complete(fit) else "failed" if fit.run.is_dir() else "waiting"
        value = None if sweep.metric is None else _last(fit.run / "metrics.csv", sweep.metric[0])
        rows.append({"trial": trial.name, "state": state, "metric": value, **_shown(trial, sweep)})
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


def _shown(trial: Trial, sweep: Sweep) -> dict[str, Any]:
    overlay = {"config": trial.configs[-1]} if "config" in sweep.parameters else {}
    return {**overlay, **{name: trial.values[name] for name in sweep.parameters if name != "config"}}


def _last(metrics: Path, name: str) -> float | None:
    """The last value of a column of metrics.csv."""
    if not metrics.is_file():
        return None
    with metrics.open(newline="") as file:
        values = [row[name] for row in csv.DictReader(file) if row.get(name)]
    return float(values[-1]) if values else None


def evaluate_trials(
    experiment: Reproduction, trials: Sequence[Trial], fits: dict[str, Fit], folder: Path,
    arguments: argparse.Namespace,
) -> None:  # fmt: skip
    """Evaluate trials, those of each seed beside one another, and write one report of all.

    Args:
        experiment: whose evaluation it is.
        trials: complete ones.
        fits: name → training.
        folder: of the sweep; gets ``evaluation-seed-N/`` and ``report.html``.
        arguments: of the command line.
    """
    from psegan.report.page import read_run, render_runs

    folders = []
    for seed in sorted({trial.seed for trial in trials}):
        systems = {trial.system: fits[trial.name].checkpoint for trial in trials if trial.seed == seed}
        folders.append(folder / f"evaluation-seed-{seed}")
        evaluate_systems(
            experiment,
            systems,
            folders[-1],
            arguments.data_root,
            arguments.max_epochs,
            arguments.workers,
            arguments.attackers,
            seed,
        )
    page = folder / "report.html"
    render_runs([read_run(one) for one in folders], page, f"psegan sweep: {arguments.file}")
    print(page)
    sys.stdout.flush()
