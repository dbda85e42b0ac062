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
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from datamodules.base import CorpusDataModule
from psegan.common.errors import PseganError, causes, readable
from psegan.common.files import read_yaml
from psegan.common.instantiate import IMPORTABLE
from psegan.common.record import difference
from psegan.systems.base import System
from psegan.training.callbacks import (
    BestCheckpoint,
    ExactResume,
    PredictionWriter,
    PrivacyMetrics,
    SaveConfig,
    SpeechSamples,
)
from psegan.training.checkpointing import AtomicCheckpointIO
from psegan.training.loggers import RunSettings, finish_wandb
from psegan.weights import read_checkpoint


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
    """

    def __init__(self, args: ArgsType = None) -> None:
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
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
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
        checkpoints = Path(config.checkpoint.dirpath)
        found = sorted(checkpoints.glob("[!.]*.ckpt"))
        if config.ckpt_path == "auto":
            config.ckpt_path = "last" if (checkpoints / "last.ckpt").is_file() else None
        if config.ckpt_path == "last" and not any("last" in path.name for path in found):
            raise PseganError(f"{checkpoints} holds no last.ckpt: correct --run.dir, or begin without --ckpt_path")
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
        own = given == "last" or (given is not None and Path(given).resolve().parent == checkpoints.resolve())
        if found and not own:
            raise PseganError(
                f"{run} holds a trained run: continue it with --ckpt_path last (or auto), "
                "or choose another folder with --run.dir"
            )
        if own:
            self._check_same(run)
        if given == "last" and config.trainer.max_epochs is not None:
            trained = read_checkpoint(checkpoints / "last.ckpt")["epoch"] + 1
            if trained >= config.trainer.max_epochs > 0:
                print(f"{run}: complete, trained for {trained} epoch(s): nothing to do", flush=True)
        if given is not None:  # the training data of another run's checkpoint count as this run's too
            before = (_saved(run).get("run") or {}).get("continued_from")
            config.run.continued_from = before if own else config.ckpt_path

    def _prepare_evaluation(self, config: Namespace) -> None:
        """Refuse to evaluate untrained weights, and write into a folder of the command's own within the run's."""
        if config.ckpt_path is None:
            raise PseganError(f"psegan {self.subcommand} needs a trained system: give --ckpt_path, for example last")
        config.run.wandb_id = config.run.wandb_id or RunSettings(config.run.dir).identify()
        config.run.dir = config.trainer.default_root_dir = str(Path(config.run.dir) / str(self.subcommand))

    def _check_same(self, run: Path) -> None:
        """Refuse to continue a run with other settings; only its length, its loggers and the corpus's folder may change."""
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

    def after_instantiate_classes(self) -> None:
        """Set up the corpus, the system and the metrics, so that what is missing is reported before W&B opens a run."""
        self.datamodule.setup(str(self.subcommand))
        if self.subcommand == "fit":
            self.model.begun = self.config_init[self.subcommand].ckpt_path is not None
            self.model.setup("fit")
            if not self.model.begun:
                self.model.check_ready()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PrivacyMetrics):
                callback.setup(self.trainer, self.model, str(self.subcommand))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer, with atomic checkpoints and, unless the configuration brings its own, the run's loggers."""
        config = self.config_init[self.subcommand]
        if config.trainer.logger is None:
            kwargs["logger"] = config.run.make_loggers()
        if config.trainer.enable_progress_bar is not False:
            # in a log file the bar is a line an epoch
            bar = TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 10**9)
            kwargs["callbacks"] = [*(config.trainer.callbacks or []), bar]
        plugins = config.trainer.plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        return super().instantiate_trainer(**kwargs)


def _saved(run: Path) -> dict[str, Any]:
    """The configuration that a run has saved; empty for a folder without one."""
    path = run / "config.yaml"
    return read_yaml(path) if path.is_file() else {}


def _comparable(value: Any) -> Any:
    """A part of the configuration without the corpus's folder, and with checkpoints as absolute paths."""
    if isinstance(value, dict):
        return {key: _comparable(one) for key, one in value.items() if key != "root"}
    if isinstance(value, list):
        return [_comparable(one) for one in value]
    return os.path.realpath(value) if isinstance(value, str) and value.endswith(".ckpt") else value


def main(args: list[str]) -> TrainingCLI:
    """Run one training command, for example ``["fit", "--config", "experiments/psegan.yaml"]``, and return the CLI object.

    Raises:
        PseganError: a user's error.
    """
    _quiet()
    _check_files(args)
    failed = True
    try:
        cli = TrainingCLI(args)
        failed = False
    except SIGTERMException:  # Lightning would exit with status 0
        sys.exit(128 + signal.SIGTERM)
    except ValueError as error:  # jsonargparse raises it for any error in a constructor
        for cause in causes(error):
            if isinstance(cause, PseganError):
                raise cause from None
        raise
    except PermissionError as error:
        raise PseganError(f"{error.filename}: cannot be written ({error.strerror}); choose another --run.dir") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise PseganError(f"{error.filename}: is a file where a folder is needed; choose another --run.dir") from None
    finally:
        finish_wandb(failed)  # otherwise the next run in this process would be logged into this W&B run
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


def _is_useful(record: logging.LogRecord) -> bool:
    """Whether a line of Lightning's log is shown; a function of the module, so that a logger gets it only once."""
    return not record.getMessage().startswith(("TPU available", "Loading `train_dataloader`", "💡 Tip"))
