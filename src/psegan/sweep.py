"""``psegan sweep``: the trials of a W&B sweep file without a server, evaluated side by side."""

import argparse
import contextlib
import csv
import fcntl
import io
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from psegan.arguments import require_positive
from psegan.errors import PseganError
from psegan.files import atomic_path, read_yaml
from psegan.pipeline import Reproduction, evaluate_systems, train_stages
from psegan.stages import Fit, Record, planned, train_all
from psegan.sweep_file import Sweep, Trial


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan sweep``."""
    parser.add_argument("file", metavar="FILE", help="a W&B sweep file, as experiments/sweeps/systems.yaml")
    parser.add_argument("--out", help="folder of trials, evaluation and report (default: runs/sweeps/NAME)")
    parser.add_argument("--workers", type=int, help="trials at a time (default: one a core)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the trials' commands, which run as printed, and stop"
    )
    parser.add_argument(
        "--experiment",
        help="an experiment file: its stages are trained first, but for its systems, and its evaluation ends the sweep "
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
    trials = sweep.trials(arguments.seed)
    fits = {trial.name: trial_fit(trial, sweep, folder, arguments.data_root, arguments.max_epochs) for trial in trials}
    if arguments.dry_run:
        for fit in fits.values():
            print(shlex.join(["psegan", *fit.words()]))
        return 0
    for fit in fits.values():
        check(fit)
    workers = arguments.workers or os.cpu_count() or 1
    with _only_one(folder, sweep):
        experiment = find_experiment(sweep, arguments.experiment)
        if experiment is not None:
            stages = [stage for stage in experiment.stages if stage.name not in experiment.systems.values()]
            out = Path(experiment.out)
            train_stages(experiment, stages, out, arguments.data_root, arguments.max_epochs, len(stages))
        failure = None
        if all(_is_complete(fit) for fit in fits.values()):
            print(f"{sweep.name}: all {len(fits)} trials are complete, nothing to train")
        else:
            try:
                train_all([_with_files(fit) for fit in fits.values()], workers, f"sweep {sweep.name}")
            except PseganError as error:  # those that are complete are worth their evaluation all the same
                failure = error
        done = [trial for trial in trials if _is_complete(fits[trial.name])]
        list_trials(sweep, trials, fits, folder / "trials.csv")
        if experiment is not None and done and sweep.method == "grid" and not arguments.no_evaluation:
            evaluate_trials(experiment, done, fits, folder, arguments, workers)
        if failure is not None:
            raise failure
    return 0


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
        own = planned(trial.configs, values, "trainer.max_epochs", max_epochs)
        values["trainer.max_epochs"] = min(max_epochs, int(own))
    return Fit(trial.name, folder / "trials" / trial.name, trial.configs, values, {}, sweep.name)


def check(fit: Fit) -> None:
    """Make sure that ``psegan fit`` knows every parameter of a trial.

    Raises:
        PseganError: it doesn't.
    """
    from psegan import training

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        try:
            training.main([*fit.words(), "--print_config"])
        except PseganError as error:
            raise PseganError(f"trial {fit.name}: {error}") from None


def _with_files(fit: Fit) -> Fit:
    """The same with the checkpoints that its overlays name, so that a trial of other ones is another trial.

    Raises:
        PseganError: one is missing.
    """
    files = {}
    for config in fit.configs:
        for path in _checkpoints(read_yaml(config)):
            if not path.is_file():
                raise PseganError(
                    f"{config} names {path}, which is missing; train it first (psegan reproduce), or give --experiment"
                )
            files[f"checkpoint/{path}"] = path
    return Fit(fit.name, fit.run, fit.configs, fit.values, files, fit.group)


def _checkpoints(value: Any) -> Iterator[Path]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _checkpoints(one)
    elif isinstance(value, str) and value.endswith(".ckpt"):
        yield Path(value)


def _is_complete(fit: Fit) -> bool:
    return Record(fit.run / "stage.json", {}).complete and fit.checkpoint.is_file()


@contextlib.contextmanager
def _only_one(folder: Path, sweep: Sweep) -> Iterator[None]:
    """Hold the sweep's folder for this process.

    Raises:
        PseganError: another process holds it, or it is another sweep's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PseganError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from None
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PseganError(
                f"{folder}: another psegan sweep is at work there; wait for it, or choose another --out"
            ) from None
        record = Record(folder / "sweep.json", {"name": sweep.name, "method": sweep.method})
        if record.difference:
            raise PseganError(f"{folder} holds another sweep ({record.difference}); choose another --out")
        if not record.begun:
            record.begin()
        yield


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
    arguments: argparse.Namespace, workers: int,
) -> None:  # fmt: skip
    """Evaluate trials, those of each seed beside one another, and write one report of all.

    Args:
        experiment: whose evaluation it is.
        trials: complete ones.
        fits: name → training.
        folder: of the sweep; gets ``evaluation-seed-N/`` and ``report.html``.
        arguments: of the command line.
        workers: processes.
    """
    from psegan.evaluation.report import read_run, render_runs

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
            workers,
            arguments.attackers,
            seed,
        )
    page = folder / "report.html"
    render_runs([read_run(one) for one in folders], page, f"psegan sweep: {arguments.file}")
    print(page)
    sys.stdout.flush()
