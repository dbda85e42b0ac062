"""The loggers of a run: scalars, figures and tables go to CSV, TensorBoard and W&B, and figures to PNG files too."""

import csv
import errno
import io
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure

from psegan.common.errors import PseganError, readable
from psegan.common.files import append, atomic_path, file_hash, read_yaml, write_text
from psegan.plots import save_figure
from psegan.training.identity import Identity
from psegan.training.wandb_mode import resolve_mode

SUMMARIES = {
    "emotion_uar": "min", "emotion_accuracy": "min", "emotion_eer": "max", "speaker_accuracy": "max", "speaker_eer": "min",
    "distortion": "min", "uar": "max", "accuracy": "max", "loss": "min",
}  # fmt: skip
"""Scores of which W&B's summary has the last and the best value, and whether the least or the greatest is best: emotion shall
be hidden, the speaker kept. Of ``trade_off`` it has the last alone, as a plain number, which a sweep can read and which is of
the checkpoint that a training keeps."""


PROJECT = "psegan"
"""Of W&B, where no other is named."""


@dataclass
class RunSettings:
    """The folder of a run, and its loggers.

    Attributes:
        dir: its folder: config.yaml, metrics.csv, figures/, checkpoints/, tensorboard/, wandb/.
        loggers: any of csv, tensorboard and wandb.
        project: W&B project.
        group: W&B group, by which a dashboard gathers the runs of a sweep or a reproduction.
        tags: W&B tags.
        name: of the W&B run; by default what it is of, as ``psegan · ravdess · paper · seed 0``.
        variant: what tables call it, as ``psegan-no-sm``; unless the command line says it, after the overlays, of which the
            last one that says it counts (:func:`psegan.training.identity.variant_of`).
        wandb_id: of the W&B run. Without one an id is drawn and kept in the folder, so that a continued run is the same run.
        wandb_mode: ``auto`` is online if an account is configured (WANDB_API_KEY or `wandb login`) and W&B's server answers,
            and offline otherwise; nothing ever asks for a login.
        wandb_checkpoint: how a training that has ended gives W&B the checkpoint that it keeps, as an artifact: ``upload``, or a
            ``reference`` to the file, with its hash; ``auto`` uploads online and refers offline.
        continued_from: checkpoint of another run that this run continues; the command line fills it in.
    """

    dir: str = "runs/default"
    loggers: tuple[Literal["csv", "tensorboard", "wandb"], ...] = ("csv", "tensorboard", "wandb")
    project: str = PROJECT
    group: str | None = None
    tags: tuple[str, ...] = ()
    name: str | None = None
    variant: str | None = None
    wandb_id: str | None = None
    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    wandb_checkpoint: Literal["auto", "upload", "reference", "none"] = "auto"
    continued_from: str | None = None

    def make_loggers(
        self, identity: Identity | None = None, job_type: str = "training", training: str | None = None
    ) -> list[Logger]:
        """Make the loggers, CSV first, because Lightning puts the run's other files into the folder of the first.

        Args:
            identity: what the run is of; without it W&B's run is called after the folder.
            job_type: of W&B's run.
            training: id of the training's run, where this is another that judges its checkpoint.
        """
        loggers: list[Logger] = []
        if "csv" in self.loggers:
            loggers.append(ContinuedCSVLogger(self.dir, name="", version=""))
        if "tensorboard" in self.loggers:
            loggers.append(TensorBoardLogger(self.dir, name="tensorboard", version=""))
        if "wandb" in self.loggers and (mode := resolve_mode(self.wandb_mode, self.dir)) != "disabled":
            loggers.append(self._make_wandb_logger(mode, identity, job_type, training))
        return loggers

    def _make_wandb_logger(
        self, mode: str, identity: Identity | None, job_type: str, training: str | None
    ) -> WandbLogger:
        import wandb

        name = Path(self.dir).name if identity is None else identity.name
        if job_type != "training":
            name += f" · {job_type}"
        logger = OneLineWandbLogger(
            name=self.name or name,
            job_type=job_type,
            config=({} if identity is None else identity.config) | ({} if training is None else {"training": training}),
            save_dir=self.dir,
            id=self.wandb_id or self.identify(),
            project=self.project,
            group=self.group,
            tags=list(self.tags),
            mode=mode,
            # offline, W&B would only say where its folder is
            settings=wandb.Settings(silent=mode != "online", show_info=mode == "online"),
        )
        logger._wandb_init.pop("anonymous")  # Lightning still passes it, and wandb warns of it
        if mode == "offline":
            logger._wandb_init.pop("resume")  # wandb warns that it means nothing there; the id is what continues a run
        folder = Path(self.dir)
        folder.mkdir(parents=True, exist_ok=True)  # wandb looks for a git checkout from there
        if not os.access(folder, os.W_OK):  # wandb would write elsewhere
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return logger

    @rank_zero_only  # other ranks log nothing
    def identify(self) -> str | None:
        """The W&B id in the folder; it is drawn on first use."""
        path = Path(self.dir) / "wandb" / "run-id"
        if not path.is_file():
            write_text(path, new_id() + "\n")
        return path.read_text().strip()


def new_id() -> str:
    """An id for a run of W&B."""
    return secrets.token_hex(4)


def run_id(folder: str | os.PathLike[str]) -> str | None:
    """The id of the W&B run of the training in a folder; None if it has logged to none."""
    config, drawn = Path(folder) / "config.yaml", Path(folder) / "wandb" / "run-id"
    own = (read_yaml(config).get("run") or {}).get("wandb_id") if config.is_file() else None
    return own or (drawn.read_text(encoding="utf-8").strip() if drawn.is_file() else None)


def artifact_name(run: str) -> str:
    """Of the checkpoint that a training keeps, by the id of its run in W&B."""
    return f"model-{run}"


def define_metrics(logger: WandbLogger) -> None:
    """Plot scores over epochs in W&B, and show the best beside the last in its summary.

    Runs of different systems cannot be compared over W&B's step, which counts the steps of all optimisers of a system.
    """
    define = logger.experiment.define_metric
    define("epoch", hidden=True)
    for stage in ("val", "test"):
        define(f"{stage}/*", step_metric="epoch", step_sync=True)
        for name, best in SUMMARIES.items():
            define(f"{stage}/{name}", step_metric="epoch", step_sync=True, summary=f"last,{best}")


def finish_wandb(failed: bool) -> None:
    """Close this process's W&B run, if there is one, as crashed if ``failed``."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        try:
            wandb.finish(exit_code=int(failed))
        except OSError:
            if not failed:  # otherwise the disk that is full has been told of
                raise


@contextmanager
def quiet_writers() -> Iterator[None]:
    """Meanwhile print no traceback of TensorBoard's thread, on a full disk: the next call of its writer raises the error."""
    others = threading.excepthook

    def report(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            others(failed)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = others


class OneLineWandbLogger(WandbLogger):
    """A W&B logger whose run cannot begin with a traceback."""

    @property
    def experiment(self) -> Any:
        import wandb

        try:
            return super().experiment
        except wandb.Error as error:
            remedy = "mend that, add --run.wandb_mode offline, or leave W&B out: --run.loggers '[csv,tensorboard]'"
            raise PseganError(f"W&B cannot begin the run ({readable(str(error))}); {remedy}") from None

    @rank_zero_only
    def log_checkpoint(self, path: Path, how: str) -> None:
        """Give W&B a checkpoint as an artifact; that it cannot be had costs the training nothing but a line.

        Args:
            path: of the file.
            how: see ``wandb_checkpoint`` of :class:`RunSettings`.
        """
        import wandb

        run = self.experiment
        if how == "auto":
            how = "reference" if run.settings.mode == "offline" else "upload"
        artifact = wandb.Artifact(artifact_name(run.id), "model", run.name, {"hash": file_hash(path)})
        try:
            if how == "upload":
                artifact.add_file(str(path), policy="immutable")  # no second copy of it on this disk
            else:
                artifact.add_reference(path.absolute().as_uri(), name=path.name)
            run.log_artifact(artifact)
        except Exception as error:
            print(
                f"psegan: warning: W&B has no artifact of {path} ({readable(str(error))})", file=sys.stderr, flush=True
            )


class ContinuedCSVLogger(CSVLogger):
    """A CSV logger that appends to an existing metrics.csv, which Lightning's would delete."""

    @property
    def experiment(self) -> _ExperimentWriter:
        if self._experiment is None:
            self._experiment = _ContinuedWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def rewind(self, epoch: int) -> None:
        """Drop rows of epochs after ``epoch``."""
        path = Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE
        if not path.is_file():
            return
        names, rows = _read_rows(path)
        _write_rows(path, names, [row for row in rows if float(row.get("epoch") or 0) <= epoch])


class _ContinuedWriter(ExperimentWriter):
    """Leaves a table of whole rows, whenever the process is killed and wherever the disk is full."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            self.metrics_keys = _read_rows(path)[0]

    def save(self) -> None:
        if not self.metrics:
            return
        path = Path(self.metrics_file_path)
        if self._record_new_keys() or not path.is_file():
            before = _read_rows(path)[1] if path.is_file() else []
            _write_rows(path, self.metrics_keys, [*before, *self.metrics])
        else:
            text = io.StringIO(newline="")
            csv.DictWriter(text, self.metrics_keys).writerows(self.metrics)
            append(path, text.getvalue())
        self.metrics = []


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a table and its rows, without one that was cut short when its process was killed."""
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    reader = csv.DictReader(whole.splitlines())
    return list(reader.fieldnames or []), list(reader)


def _write_rows(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def figures_due(trainer: L.Trainer, every_n_validations: int) -> bool:
    """Whether figures are drawn now: at every n-th validation of a training, at its last, and always outside training."""
    if trainer.state.fn != TrainerFn.FITTING:
        return True
    rhythm = trainer.check_val_every_n_epoch or 1
    done = trainer.current_epoch + 1
    last = trainer.max_epochs is not None and 0 <= trainer.max_epochs < done + rhythm  # -1 trains without end
    return last or (done // rhythm) % every_n_validations == 0


@rank_zero_only
def log_figure(trainer: L.Trainer, name: str, figure: Figure) -> None:
    """Send a figure to every logger that shows images, and write it to ``figures/<name>-<epoch>.png`` in the run's folder."""
    path = Path(trainer.default_root_dir) / "figures" / f"{name}-{trainer.current_epoch:04d}.png"
    save_figure(figure, path)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, trainer.lightning_module.batches_seen, close=False)
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)])


@rank_zero_only
def log_roc_table(
    trainer: L.Trainer, name: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float], float]]
) -> None:
    """Send ROC curves to W&B as a table and a chart, so that curves of several runs can be compared there.

    ``curves`` maps a kind of speech to false and true positive rates and the area under the curve.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.log({f"{name}_curve": roc_chart(name, curves)})


def roc_chart(title: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float], float]]) -> Any:
    """W&B's own plot of ROC curves and the table behind it, with 200 points a curve at most; see :func:`log_roc_table`."""
    import wandb

    rows = []
    for label, (fpr, tpr, _) in curves.items():
        kept = np.unique(np.linspace(0, len(fpr) - 1, 200, dtype=int))
        rows += [[label, float(fpr[i]), float(tpr[i])] for i in kept]
    table = wandb.Table(columns=["class", "fpr", "tpr"], data=rows)
    fields = {"x": "fpr", "y": "tpr", "class": "class"}
    return wandb.plot_table("wandb/area-under-curve/v0", table, fields, {"title": title})


@rank_zero_only
def log_audio(trainer: L.Trainer, name: str, path: Path) -> None:
    """Send a recording to W&B."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_audio(name, [str(path)])
