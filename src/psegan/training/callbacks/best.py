"""Early stopping without stopping: the weights of the best validation are kept beside the last ones."""

from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, the weights of the validation with the best ``monitor``.

    A one-cycle schedule ends when training does, so a training is not cut short; what overfits in its last epochs is
    left out all the same.

    Args:
        monitor: what to compare, as ``val/uar``; None keeps nothing.
        mode: whether the best is the ``max`` or the ``min``.
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
