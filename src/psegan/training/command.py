"""The training commands: LightningCLI, with psegan's run folder, loggers, checkpoints and one-line errors."""

import itertools
import logging
import os
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from datamodules.base import CorpusDataModule
from psegan.common.errors import PseganError, causes, of_disk, readable
from psegan.common.files import read_yaml
from psegan.common.instantiate import IMPORTABLE
from psegan.common.record import difference
from psegan.systems.base import System
from psegan.training.callbacks import (
    BestCheckpoint,
    CheckpointArtifact,
    EpochCheckpoint,
    ExactResume,
    Limits,
    PredictionWriter,
    PrivacyMetrics,
    SaveConfig,
    SpeechSamples,
)
from psegan.training.callbacks.checkpoints import refuse_rivals
from psegan.training.checkpointing import AtomicCheckpointIO, complete_epochs
from psegan.training.identity import JOB_TYPES, Identity, variant_of
from psegan.training.loggers import RunSettings, finish_wandb, quiet_writers, run_id

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Values of ``trainer.precision``. Waveforms, spectrograms and scores are always of 32 bits."""
_SHORT = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_OF_MACHINE = ("root", "num_workers", "batch_size", "eval_batch_size")
"""Settings of a corpus that another machine may need otherwise."""


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line that names the key, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        known = "'psegan fit ... --print_config' prints the keys there are"
        for remedy in (known, IMPORTABLE):  # of an argument of a class, an inner parser has said it
            message = message.replace(f"; {remedy}", "")
        # a text that names no class is not meant as a path
        reason = re.sub("Expected a path but .* either not accessible or invalid: ", "", readable(message))
        if "arguments are required" in reason and ".data" in reason:
            raise PseganError("there is no corpus: add one, for example --config experiments/corpora/ravdess.yaml")
        if "File does not exist" in reason:
            raise PseganError(f"{reason}; correct the name, or run psegan from the project's folder")
        unknown_class = any(isinstance(cause, ImportError) for cause in causes(ex))
        raise PseganError(f"{reason}; {IMPORTABLE if unknown_class else known}")


class TrainingCLI(LightningCLI):
    """``psegan fit|validate|test|predict``: a system and a corpus by ``class_path``, in overlays of YAML.

    Lightning's keys are joined by ``run`` (folder and loggers), ``checkpoint`` and ``best`` (which checkpoints are kept),
    ``privacy`` and ``samples`` (what is measured and drawn at each validation) and ``prediction``.

    Args:
        args: words of the command line, the subcommand first.

    Attributes:
        training: id of the W&B run whose checkpoint another command than ``fit`` judges, if it has one.
        named: whether the command line itself says what tables call the training.
    """

    training: str | None = None

    def __init__(self, args: ArgsType = None) -> None:
        words = args if isinstance(args, list) else []
        self.named = any(str(word).partition("=")[0] in ("--run", "--run.variant") for word in words)
        if isinstance(args, list) and args and args[0] in self.subcommands():
            # Lightning makes the parsers of all four, and each takes as long as a step of training
            alone = {args[0]: self.subcommands()[args[0]]}
            self.subcommands = lambda: alone  # type: ignore[method-assign]
        super().__init__(
            System,
            CorpusDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True, "save_to_log_dir": False},
            seed_everything_default=0,
            parser_class=OneLineParser,
            parser_kwargs={"prog": "psegan", "allow_abbrev": False},
            trainer_defaults={
                # a sanity check would draw from the global random states before the first batch
                "num_sanity_val_steps": 0,
                # the corpora bring their own sampler, which shares utterances among processes
                "use_distributed_sampler": False,
                "log_every_n_steps": 10,
                # Lightning would use all devices, but training a GAN on several must be asked for
                "devices": 1,
            },
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add psegan's own keys, and link those that follow from others."""
        parser.add_class_arguments(RunSettings, "run")
        parser.add_lightning_class_args(EpochCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                # last.ckpt alone, replaced after every epoch; README says how to keep more
                "checkpoint.filename": "last",
                "checkpoint.enable_version_counter": False,
                "checkpoint.save_on_train_epoch_end": True,
            }
        )
        if "WANDB_SWEEP_ID" in os.environ:  # under wandb agent every trial needs a folder of its own
            sweep, run = os.environ["WANDB_SWEEP_ID"], os.environ.get("WANDB_RUN_ID", "run")
            parser.set_defaults({"run.dir": f"runs/sweeps/{sweep}/{run}", "run.wandb_id": run, "run.group": sweep})
        parser.add_lightning_class_args(BestCheckpoint, "best")
        parser.add_lightning_class_args(PrivacyMetrics, "privacy")
        parser.add_lightning_class_args(SpeechSamples, "samples")
        parser.add_lightning_class_args(ExactResume, "resume")
        parser.add_lightning_class_args(PredictionWriter, "prediction")
        for kept in ("checkpoint", "best"):
            parser.link_arguments("run.dir", f"{kept}.dirpath", compute_fn=lambda folder: f"{folder}/checkpoints")
        parser.link_arguments("run.dir", "trainer.default_root_dir")
        parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        parser.link_arguments("data.n_classes", "model.init_args.n_classes", apply_on="instantiate")
        parser.link_arguments("data.emotions", "model.init_args.emotions", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Do nothing, where Lightning would replace the configuration by the checkpoint's; here a mismatch is an error."""

    def before_instantiate_classes(self) -> None:
        """Check the run's folder and the checkpoint, and set what follows from other settings."""
        config = self.config[self.subcommand]
        if not self.named:  # a saved configuration has the name of before
            overlays = [str(path) for path in config.config or ()]
            config.run.variant = variant_of(overlays, config.model.init_args.get("attribute")) or config.run.variant
        checkpoints = Path(config.checkpoint.dirpath)
        found = sorted(checkpoints.glob("[!.]*.ckpt"))
        _check_precision(config.trainer.precision)
        if config.ckpt_path in ("auto", "last"):
            last = checkpoints / "last.ckpt"
            if config.ckpt_path == "last" and not last.is_file():
                raise PseganError(f"{checkpoints} holds no last.ckpt: correct --run.dir, or begin without --ckpt_path")
            config.ckpt_path = str(last) if last.is_file() else None
        if self.subcommand == "fit":
            self._prepare_fit(config, checkpoints, found)
        else:
            self._prepare_evaluation(config)
        trainer = config.trainer
        if trainer.max_epochs is not None and trainer.check_val_every_n_epoch is not None and trainer.max_epochs > 0:
            # a short training is validated at its end
            trainer.check_val_every_n_epoch = min(trainer.check_val_every_n_epoch, trainer.max_epochs)
        if trainer.sync_batchnorm:
            raise PseganError("trainer.sync_batchnorm is true, but masked batch norm has no such form; set it to false")
        if trainer.strategy == "auto" and (trainer.devices not in (1, "1") or trainer.num_nodes > 1):
            # plain DDP refuses weights without a gradient, and each phase of a GAN leaves the other networks without one
            trainer.strategy = "ddp_find_unused_parameters_true"

    def _prepare_fit(self, config: Namespace, checkpoints: Path, found: list[Path]) -> None:
        """Refuse to overwrite a trained run or to continue it with other settings, and note which run this one continues."""
        run = Path(config.run.dir)
        given = config.ckpt_path
        own = given is not None and Path(given).resolve().parent == checkpoints.resolve()
        if found and not own:
            raise PseganError(
                f"{run} holds a trained run: continue it with --ckpt_path last (or auto), "
                "or choose another folder with --run.dir"
            )
        if own:
            self._check_same(run)
        if given is not None:
            trained = complete_epochs(AtomicCheckpointIO().load_checkpoint(given), given)
            if own and config.trainer.max_epochs is not None and trained >= config.trainer.max_epochs > 0:
                print(f"{run}: complete, trained for {trained} epoch(s): nothing to do", flush=True)
            # the training data of another run's checkpoint count as this run's too
            before = (_saved(run).get("run") or {}).get("continued_from")
            config.run.continued_from = before if own else given
        # Lightning writes these within an epoch, when SLURM requeued the job
        for left in run.glob("hpc_ckpt_*.ckpt"):
            rank_zero_info(f"{left}: removed, since it was saved within an epoch, from where no training goes on")
            left.unlink(missing_ok=True)

    def _prepare_evaluation(self, config: Namespace) -> None:
        """Refuse to evaluate untrained weights, and write into a folder, and a W&B run, of the command's own."""
        if config.ckpt_path is None:
            raise PseganError(f"psegan {self.subcommand} needs a trained system: give --ckpt_path, for example last")
        run = Path(config.ckpt_path).absolute().parent.parent  # another than run.dir may have trained it
        self.training = run_id(run)
        for folder in (run, Path(config.run.dir)):
            before = _saved(folder).get("run") or {}
            for key in ("wandb_id", "name"):  # the training's own in its saved configuration
                if config.run[key] == before.get(key):
                    config.run[key] = None
        config.run.dir = config.trainer.default_root_dir = str(Path(config.run.dir) / str(self.subcommand))

    def _check_same(self, run: Path) -> None:
        """Refuse to continue a run with other settings; its length, its loggers and what depends on the machine may change."""
        then = _saved(run)
        if not then:
            return
        parser = self._parser(self.subcommand)
        now = yaml.safe_load(parser.dump(self.config[self.subcommand], skip_none=False, skip_validation=True))
        before, after = (
            {key: _comparable(found.get(key)) for key in ("seed_everything", "model", "data")} for found in (then, now)
        )
        if changed := difference(before, after):
            raise PseganError(
                f"{run} was trained with other settings ({changed}); repeat those, or choose another --run.dir"
            )
        if changed := difference({"batch_size": _batch_size(then)}, {"batch_size": _batch_size(now)}):
            rank_zero_info(f"{run}: data.init_args.{changed}, so that the run differs from an uninterrupted one.")

    def after_instantiate_classes(self) -> None:
        """Set up the corpus, the system and the metrics, so that what is missing is reported before W&B opens a run."""
        _check_precision(self.trainer.precision)  # of a plugin
        refuse_rivals(self.trainer)
        self.datamodule.setup(str(self.subcommand))
        if self.subcommand == "fit":
            self.model.begun = self.config_init[self.subcommand].ckpt_path is not None
            self.model.check_speech(self.datamodule)
            self.model.setup("fit")
            if not self.model.begun:
                self.model.check_ready()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PrivacyMetrics):
                callback.setup(self.trainer, self.model, str(self.subcommand))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer with our checkpoints and limits and, unless the configuration brings its own, the run's loggers."""
        config = self.config_init[self.subcommand]
        trainer = config.trainer
        if trainer.logger is None:
            identity = Identity.of(self.model, self.datamodule, config.run.variant)
            kwargs["logger"] = config.run.make_loggers(identity, JOB_TYPES[str(self.subcommand)], self.training)
        limited = trainer.max_steps >= 0 or trainer.max_time is not None
        if limited and trainer.max_epochs is None:
            kwargs["max_epochs"] = -1  # as Lightning does
        kwargs["callbacks"] = [
            *_listed(trainer.callbacks),
            Limits(trainer.max_steps, trainer.max_time),
            CheckpointArtifact(config.run.wandb_checkpoint),
        ]
        kwargs |= {"max_steps": -1, "max_time": None}
        if trainer.enable_progress_bar is not False:
            # in a log file the bar is a line an epoch
            kwargs["callbacks"].append(TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 10**9))
        kwargs["plugins"] = [*_listed(trainer.plugins), AtomicCheckpointIO()]
        return super().instantiate_trainer(**kwargs)


def _listed(value: Any) -> list[Any]:
    """What may be None, one object or a list of them, as a list."""
    return value if isinstance(value, list) else [value] if value else []


def _saved(run: Path) -> dict[str, Any]:
    """The configuration that a run has saved; empty for a folder without one."""
    path = run / "config.yaml"
    return read_yaml(path) if path.is_file() else {}


def _check_precision(precision: object) -> None:
    """Refuse a precision that no system of this project trains in."""
    if precision is not None and _SHORT.get(str(precision), precision) not in PRECISIONS:
        raise PseganError(f"trainer.precision is {precision!r}: one of {', '.join(PRECISIONS)}")


def _batch_size(config: dict[str, Any]) -> Any:
    return (config.get("data") or {}).get("init_args", {}).get("batch_size")


def _comparable(value: Any) -> Any:
    """A part of the configuration without what depends on the machine, and with checkpoints as absolute paths."""
    if isinstance(value, dict):
        return {key: _comparable(one) for key, one in value.items() if key not in _OF_MACHINE}
    if isinstance(value, list):
        return [_comparable(one) for one in value]
    return os.path.realpath(value) if isinstance(value, str) and value.endswith(".ckpt") else value


@quiet_writers()
def main(args: list[str]) -> TrainingCLI:
    """Run one training command, for example ``["fit", "--config", "experiments/psegan.yaml"]``, and return the CLI object.

    Raises:
        PseganError: a user's error.
    """
    _quiet()
    _check_files(args)
    failed = True
    try:
        try:
            cli = TrainingCLI(args)
            failed = False
        finally:
            finish_wandb(failed)  # otherwise the next run in this process would be logged into this W&B run
    except SIGTERMException:  # Lightning would exit with status 0
        sys.exit(128 + signal.SIGTERM)
    except ValueError as error:  # jsonargparse raises it for any error in a constructor
        for cause in causes(error):
            if isinstance(cause, PseganError):
                raise cause from None
        raise
    except OSError as error:
        if (users := of_disk(error, "a file of the run (--run.dir)")) is None:
            raise
        raise users from None
    except MisconfigurationException as error:  # such as a monitor that nobody logs
        raise PseganError(readable(str(error).partition(" HINT")[0])) from None
    if cli.trainer.is_global_zero:
        print(f"{cli.subcommand}: {cli.trainer.default_root_dir}", flush=True)
    return cli


def _check_files(args: list[str]) -> None:
    """Raise an error that names the overlay which is not YAML, because jsonargparse's error does not."""
    given = [following for word, following in itertools.pairwise(args) if word in ("-c", "--config")]
    given += [word.removeprefix("--config=") for word in args if word.startswith("--config=")]
    for path in map(Path, given):
        if path.is_file():
            read_yaml(path)


def _quiet() -> None:
    """Hide warnings and log lines of libraries that no user can act upon."""
    for message in (
        "LightningCLI's args parameter is intended", ".*does not have many workers",
        ".*The number of training batches.*is smaller than the logging interval", ".*exists and is not empty",
        ".*isinstance\\(treespec, LeafSpec\\)",
    ):  # fmt: skip
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_useful)
    logging.raiseExceptions = False  # W&B logs into its folder, and a full disk would be a traceback a line


def _is_useful(record: logging.LogRecord) -> bool:
    """Whether a line of Lightning's log is shown; a function of the module, so that a logger gets it only once."""
    return not record.getMessage().startswith(("TPU available", "Loading `train_dataloader`", "💡 Tip"))
