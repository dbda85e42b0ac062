"""What every system shares: the front-end, what its checkpoints say about it, and a count of batches."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from psegan.common.errors import PseganError
from psegan.speech.audio import LogMel, UnitScaler
from psegan.speech.batch import SpeechBatch


class Spoken(Protocol):
    """What a system asks of an utterance that it doesn't hear yet."""

    @property
    def id(self) -> str:
        """Its name in the corpus."""

    @property
    def text(self) -> str | None:
        """What is said, None where that is not known."""


class TrainingSpeech(Protocol):
    """What a system asks of the corpus that it is trained on."""

    crop_seconds: float | None

    @property
    def training_samples(self) -> int:
        """Samples of the longest training utterance."""

    def subsets(self) -> Mapping[str, Sequence[Spoken]]:
        """``train``, ``validation`` and ``test`` → its utterances."""

    def training_speech(self) -> Iterable[SpeechBatch]:
        """The training set, each utterance once and whole."""


class ScaledLogMel(nn.Module):
    """Waveform → log-mel scaled to [0, 1]; padding is exactly zero."""

    def __init__(self) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.scaler = UnitScaler()

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T)`` samples and ``(B,)`` lengths → ``(B, 80, N)`` and frames ``(B,)``."""
        log_mel, frames = self.log_mel(waveform, lengths)
        return self.scaler(log_mel), frames


class System(L.LightningModule):
    """A LightningModule whose checkpoints name the system that they hold.

    All arguments of a system's constructor are its hyperparameters.

    Args:
        n_classes: number of classes of each attribute; the command line fills it in from the corpus.
        seed: of every draw that the system makes itself.

    Attributes:
        begun: whether training has begun, here or in a checkpoint; :meth:`setup` then leaves the weights as they are.
        batches_seen: training batches since the first training began.
    """

    def __init__(self, n_classes: dict[str, int], seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.n_classes = n_classes
        self.seed = seed
        self.front_end = ScaledLogMel()
        self.begun = False
        self.batches_seen = 0  # global_step counts optimiser steps, of which a GAN makes several a batch

    def features(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` of a batch; no gradient flows to the waveform."""
        with torch.no_grad():
            return self.front_end(batch.waveform, batch.length)

    @property
    def stage(self) -> str:
        """The prefix of what is logged in an evaluation: ``val`` or ``test``."""
        return self.trainer.state.stage.dataloader_prefix  # type: ignore[union-attr, return-value]

    @property
    def occasion(self) -> tuple[int, str, int, int]:
        """Names this training batch for :func:`psegan.common.random.seeded`: seed, stage, batch count and rank."""
        return self.seed, "train", self.batches_seen, self.global_rank

    learnt_from: tuple[str, ...] = ()
    """Class paths of judges (:mod:`psegan.evaluation.judges`) whose networks are a part of the system or taught it: they cannot
    judge it."""

    def parts(self) -> dict[str, nn.Module]:
        """Name → network of what ships of a trained system: ``conversion``, ``vocoder`` or ``encoder``."""
        return {}

    def about(self) -> dict[str, Any]:
        """What whoever loads these networks has to know, in plain values."""
        taught = {"learnt_from": list(self.learnt_from)} if self.learnt_from else {}
        return {"system": type(self).__name__, **taught}

    def on_fit_start(self) -> None:
        """Refuse a training that lacks something; from here on :meth:`setup` leaves the weights as they are."""
        if self.corpus is not None:
            self.check_speech(self.corpus)
        if not self.begun:
            self.check_ready()
        self.begun = True

    @property
    def corpus(self) -> TrainingSpeech | None:
        """What the trainer was given as its datamodule; None if it was given loaders."""
        return getattr(self.trainer, "datamodule", None)

    def check_ready(self) -> None:
        """Raise :class:`PseganError` if something that a training needs is missing; by default nothing is needed."""

    def check_speech(self, data: TrainingSpeech) -> None:
        """Raise :class:`PseganError` if the training speech doesn't suit the system; by default all does."""

    def pace(self, optimizer: Optimizer, name: str, norm: Tensor | None = None) -> dict[str, Tensor]:
        """What to log of an optimiser before its step: its learning rate and its gradients' norm, below ``train/name``.

        Args:
            optimizer: of one group of parameters; its gradients are unscaled.
            name: of what it trains; may be empty.
            norm: of the gradients, where it is known.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        prefix = f"train/{name}".rstrip("/")
        return {
            # on the CPU, since a copy to a GPU would wait for it
            f"{prefix}/learning_rate": torch.tensor(optimizer.param_groups[0]["lr"], device="cpu"),
            f"{prefix}/gradient_norm": nn.utils.get_total_norm(gradients) if norm is None else norm,
        }

    def on_train_batch_end(self, outputs: Any, batch: SpeechBatch, batch_idx: int) -> None:
        self.batches_seen += 1

    def on_validation_start(self) -> None:
        """Give all processes the batch statistics of rank zero; DDP does not do so under manual optimisation.

        All processes then validate the same networks, and after an epoch each has what the checkpoint holds.
        """
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    on_train_epoch_end = on_validation_start

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the system's name and its count of batches, and drop hyperparameters that ``weights_only`` cannot load.

        Those are the functions that make networks and optimisers. A checkpoint says which of them were not the defaults.
        """
        plain = checkpoint.get("hyper_parameters", {})
        defaults = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        unsaved = [name for name, value in plain.items() if callable(value)]  # modules are callable too
        custom = [name for name in unsaved if plain[name] is not defaults.get(name)]
        for name in unsaved:
            del plain[name]
        checkpoint["psegan"] = {
            "system": type(self).__name__,
            "batches_seen": self.batches_seen,
            "max_epochs": self.trainer.max_epochs,
            "custom": custom,
            "learnt_from": list(self.learnt_from),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the count of batches.

        Raises:
            PseganError: the checkpoint holds another system, or weights of other shapes.
        """
        about, own = checkpoint.get("psegan", {"system": "no system of psegan"}), type(self).__name__
        if about["system"] != own:
            raise PseganError(f"the checkpoint holds {about['system']}, not {own}; give a checkpoint of {own}")
        if about["custom"] and self._trainer is None:
            raise PseganError(
                f"the checkpoint's {', '.join(about['custom'])} was passed in as a Python object, which a checkpoint does "
                "not hold; construct the system in the same way and load the checkpoint's state_dict"
            )
        self.batches_seen = about["batches_seen"]
        self.learnt_from = tuple(about.get("learnt_from", self.learnt_from))
        self.begun = True
        ours, theirs = self.state_dict(), checkpoint["state_dict"]
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape:
                raise PseganError(
                    f"the checkpoint was trained with another configuration: {name} differs; "
                    "use the configuration saved beside it (config.yaml in its run folder)"
                )


def check_argument(valid: bool, name: str, value: object, wanted: str) -> None:
    """Raise :class:`PseganError` unless the value of a constructor's argument is ``valid``; ``wanted`` says what it is."""
    if not valid:
        raise PseganError(f"model.init_args.{name} is {value!r}, but {wanted}")
