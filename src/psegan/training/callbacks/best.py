"""The checkpoint of the best validation, beside that of the last epoch."""

from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, the checkpoint with the best value of ``monitor`` in validation.

    It takes the place of early stopping, which would cut a one-cycle schedule short.

    Args:
        monitor: name of a logged value, for example ``val/uar``; None keeps nothing.
        mode: whether the ``max`` or the ``min`` is best.
        dirpath: the run's folder of checkpoints.
    """

    def __init__(self, monitor: str | None = None, mode: str = "max", dirpath: str | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=0 if monitor is None else 1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
