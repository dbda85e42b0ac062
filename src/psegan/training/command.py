"""The training commands: LightningCLI, with psegan's run folder, loggers, checkpoints and one-line errors."""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from datamodules.base import CorpusDataModule
from psegan.common.errors import PseganError, readable
from psegan.common.files import read_yaml
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
from psegan.training.loggers import Run, finish_wandb
from psegan.weights import read_checkpoint

COMMANDS = ("fit", "validate", "test", "predict")
"""What :class:`TrainingCLI` answers to."""


class OneLineParser(LightningArgumentParser):
    """A parser whose complaints are one line that names the key, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what was wrong as a user's error."""
        reason = readable(message)
        if "arguments are required" in reason and ".data" in reason:
            raise PseganError("there is no corpus: add one, for example --config experiments/corpora/ravdess.yaml")
        if "File does not exist" in reason:
            raise PseganError(f"{reason}; correct the name, or run psegan from the project's folder")
        remedy = "'psegan fit ... --print_config' prints the keys there are"
        raise PseganError(reason if remedy in reason else f"{reason}; {remedy}")


class PlainProgressBar(TQDMProgressBar):
    """Lightning's bar without the tail of the W&B id, which it takes for a version."""

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        found = super().get_metrics(trainer, pl_module)
        found.pop("v_num", None)
        return found


class TrainingCLI(LightningCLI):
    """``psegan fit|validate|test|predict``: a system and a corpus by ``class_path``, in overlays of YAML.

    Beside Lightning's own keys there are ``run`` (folder and loggers), ``checkpoint`` (when to save), ``privacy`` and
    ``samples`` (what is judged and drawn on the way).

    Args:
        args: words of the command line, the subcommand first.
    """

    def __init__(self, args: ArgsType = None) -> None:
        if isinstance(args, list) and args and args[0] in COMMANDS:
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
            parser_kwargs={"prog": "psegan", "allow_abbrev": False},
            trainer_defaults={
                # a sanity check would draw from random states that a resume has just restored
                "num_sanity_val_steps": 0,
                # the corpora bring a sampler of their own, which knows about processes and epochs
                "use_distributed_sampler": False,
                "log_every_n_steps": 10,
                # not all there are: two processes of a GAN must be wanted
                "devices": 1,
            },
            auto_configure_optimizers=False,
            args=args,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """See :class:`OneLineParser`."""
        self.parser_class = OneLineParser
        return super().init_parser(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys that Lightning doesn't have, and what follows from what."""
        parser.add_class_arguments(Run, "run")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                # last.ckpt alone, replaced after every epoch; README says how to keep more
                "checkpoint.filename": "last",
                "checkpoint.save_top_k": 1,
                "checkpoint.enable_version_counter": False,
                "checkpoint.every_n_epochs": 1,
                "checkpoint.save_on_train_epoch_end": True,
            }
        )
        if "WANDB_SWEEP_ID" in os.environ:  # wandb agent, whose trials must not meet in one folder
            sweep, run = os.environ["WANDB_SWEEP_ID"], os.environ.get("WANDB_RUN_ID", "run")
            parser.set_defaults({"run.dir": f"runs/sweeps/{sweep}/{run}", "run.wandb_id": run, "run.group": sweep})
        parser.add_lightning_class_args(BestCheckpoint, "best")
        parser.add_lightning_class_args(PrivacyMetrics, "privacy")
        parser.add_lightning_class_args(SpeechSamples, "samples")
        parser.add_lightning_class_args(ExactResume, "resume")
        parser.add_lightning_class_args(PredictionWriter, "prediction")
        parser.link_arguments("run.dir", "checkpoint.dirpath", compute_fn=checkpoint_dir)
        parser.link_arguments("run.dir", "best.dirpath", compute_fn=checkpoint_dir)
        parser.link_arguments("run.dir", "trainer.default_root_dir")
        parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        parser.link_arguments("data.n_classes", "model.init_args.n_classes", apply_on="instantiate")
        parser.link_arguments("data.emotions", "model.init_args.emotions", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Lightning would replace the given configuration by the checkpoint's; here a mismatch is an error."""

    def before_instantiate_classes(self) -> None:
        """Refuse to write over another run, and to judge weights that nobody trained."""
        config = self.config[self.subcommand]
        run, checkpoints = Path(config.run.dir), Path(config.checkpoint.dirpath)
        found = sorted(checkpoints.glob("[!.]*.ckpt"))
        if config.ckpt_path == "auto":
            config.ckpt_path = "last" if (checkpoints / "last.ckpt").is_file() else None
        if config.ckpt_path == "last" and not any("last" in path.name for path in found):
            raise PseganError(f"{checkpoints} holds no last.ckpt: correct --run.dir, or begin without --ckpt_path")
        if self.subcommand == "fit":
            if config.ckpt_path is None and found:
                raise PseganError(
                    f"{run} holds a trained run: continue it with --ckpt_path last (or auto), "
                    "or choose another folder with --run.dir"
                )
            if config.ckpt_path == "last":
                self._check_same(run)
            if config.ckpt_path is not None:  # if it is another run's, this one has then heard that one's data too
                own = config.ckpt_path == "last" or Path(config.ckpt_path).resolve().parent == checkpoints.resolve()
                before = (_saved(run).get("run") or {}).get("continued_from")
                config.run.continued_from = before if own else config.ckpt_path
            if config.ckpt_path == "last" and config.trainer.max_epochs is not None:
                trained = read_checkpoint(checkpoints / "last.ckpt").get("epoch", 0) + 1
                if trained >= config.trainer.max_epochs > 0:
                    print(f"{run}: complete, trained for {trained} epoch(s): nothing to do", flush=True)
            for left in checkpoints.glob(".*.ckpt"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
        else:
            if config.ckpt_path is None:
                raise PseganError(
                    f"psegan {self.subcommand} needs a trained system: give --ckpt_path, for example last"
                )
            # what is said of a trained run lies beside it, and never over what training wrote
            config.run.wandb_id = config.run.wandb_id or Run(config.run.dir).identify()
            config.run.dir = config.trainer.default_root_dir = str(run / str(self.subcommand))
        epochs, rhythm = config.trainer.max_epochs, config.trainer.check_val_every_n_epoch
        if epochs is not None and rhythm is not None and 0 < epochs < rhythm:
            config.trainer.check_val_every_n_epoch = epochs  # a short training is still judged at its end
        if config.trainer.sync_batchnorm:
            raise PseganError("trainer.sync_batchnorm is true, but masked batch norm has no such form; set it to false")
        several = config.trainer.devices not in (1, "1") or config.trainer.num_nodes > 1
        if several and config.trainer.strategy == "auto":
            # each phase of a GAN leaves the other's weights unused, which plain DDP takes for an error
            config.trainer.strategy = "ddp_find_unused_parameters_true"

    def _check_same(self, run: Path) -> None:
        """Refuse to continue a run as another one; its length, loggers and the place of the corpus may change."""
        then = _saved(run)
        if not then:
            return
        parser = self._parser(self.subcommand)
        now = yaml.safe_load(parser.dump(self.config[self.subcommand], skip_none=False, skip_validation=True))
        for key in ("seed_everything", "model", "data"):
            before, after = ({key: _comparable(found.get(key))} for found in (then, now))
            if changed := difference(before, after):
                raise PseganError(
                    f"{run} was trained with other settings ({changed}); repeat those, or choose another --run.dir"
                )

    def after_instantiate_classes(self) -> None:
        """Find out what is missing before a logger opens a run for it."""
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
        """The trainer, with the run's loggers unless the configuration brings its own, and atomic checkpoints."""
        config = self.config_init[self.subcommand]
        if config.trainer.logger is None:
            kwargs["logger"] = config.run.make_loggers()
        if config.trainer.enable_progress_bar is not False:
            # a log file gets a line an epoch
            bar = PlainProgressBar(refresh_rate=1 if sys.stderr.isatty() else 10**9)
            kwargs["callbacks"] = [*(config.trainer.callbacks or []), bar]
        plugins = config.trainer.plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        return super().instantiate_trainer(**kwargs)


def _saved(run: Path) -> dict[str, Any]:
    """The configuration of a run that has begun; empty where there is none."""
    path = run / "config.yaml"
    return read_yaml(path) if path.is_file() else {}


def _comparable(section: Any) -> Any:
    """Settings of the model or the corpus, without what a machine decides, and checkpoints however they are spelt."""
    if not isinstance(section, dict):
        return section
    init_args = {key: _resolved(value) for key, value in (section.get("init_args") or {}).items() if key != "root"}
    return {**section, "init_args": init_args}


def _resolved(value: Any) -> Any:
    if isinstance(value, list):
        return [_resolved(one) for one in value]
    return os.path.realpath(value) if isinstance(value, str) and value.endswith(".ckpt") else value


def checkpoint_dir(run_dir: str) -> str:
    """Where a run keeps its checkpoints."""
    return str(Path(run_dir) / "checkpoints")


def main(args: list[str]) -> TrainingCLI:
    """Run one training command, as ``["fit", "--config", ...]``, and return what it built.

    Raises:
        PseganError: a user's error.
    """
    _quiet()
    _check_files(args)
    failed = True
    try:
        cli = TrainingCLI(args)
        failed = False
    except SIGTERMException:  # Lightning ends as if all were well
        sys.exit(128 + signal.SIGTERM)
    except ValueError as error:  # what jsonargparse makes of an error in a constructor
        if (users := _user_error(error)) is not None:
            raise users from None
        raise
    except PermissionError as error:
        raise PseganError(f"{error.filename}: cannot be written ({error.strerror}); choose another --run.dir") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise PseganError(f"{error.filename}: is a file where a folder is needed; choose another --run.dir") from None
    finally:
        finish_wandb(failed)  # or the next run of this process would be logged into this one
    if cli.trainer.is_global_zero:
        print(f"{cli.subcommand}: {cli.trainer.default_root_dir}", flush=True)
    return cli


def _check_files(args: list[str]) -> None:
    """Name the overlay that is not YAML; jsonargparse doesn't."""
    for word, following in zip(args, [*args[1:], ""], strict=True):
        path = Path(word.removeprefix("--config=") if word.startswith("--config=") else following)
        if (word not in ("-c", "--config") and not word.startswith("--config=")) or not path.is_file():
            continue
        read_yaml(path)


def _user_error(error: BaseException | None) -> PseganError | None:
    """The user's error behind another exception, if there is one."""
    while error is not None and not isinstance(error, PseganError):
        error = error.__cause__ or error.__context__
    return error


def _quiet() -> None:
    """Silence what libraries say about each other and no user can act upon."""
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings(
        "ignore", message=".*The number of training batches.*is smaller than the logging interval.*"
    )
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_telling)


def _is_telling(record: logging.LogRecord) -> bool:
    """One function for all runs of a process: a logger keeps every filter that it has not seen before."""
    return not record.getMessage().startswith(("TPU available", "Loading `train_dataloader`", "💡 Tip"))
