"""The resolved configuration, in the run's folder and in W&B."""

from pathlib import Path

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from psegan.common.files import write_text
from psegan.training.loggers import define_metrics


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml atomically, and sends it to W&B, where runs can be filtered and compared by it.

    A training does so when its checkpoint is accepted, and a refused one leaves the folder as it is.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().setup(trainer, pl_module, "fit")

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        config = self.config.clone()
        config.ckpt_path = None  # a setting of this command, not of the run
        text = self.parser.dump(config, skip_none=False, skip_validation=True)  # parsing has validated it
        write_text(Path(trainer.default_root_dir) / "config.yaml", text)
        for logger in trainer.loggers:
            if stage != "predict" and isinstance(logger, WandbLogger):  # of which there is nothing to compare
                logger.experiment.config.update(yaml.safe_load(text), allow_val_change=True)
                define_metrics(logger)
