"""The training step of all GANs: a system lists its phases, and the base class takes one optimiser step for each."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from psegan.common.random import seeded
from psegan.speech.batch import SpeechBatch
from psegan.systems.base import System


@dataclass(frozen=True)
class Phase:
    """One optimiser, the networks that it trains and the loss that it minimises.

    Attributes:
        name: prefix of its logged losses.
        networks: names of the system's networks that the optimiser changes; it changes no others.
        optimizer: makes the optimiser from their parameters.
        loss: maps a prepared batch to named scalars; ``"total"`` is minimised, all are logged.
        warms_up: whether it also steps during the warm-up, as a discriminator's does.
    """

    name: str
    networks: tuple[str, ...]
    optimizer: OptimizerCallable
    loss: Callable[[Any], dict[str, Tensor]]
    warms_up: bool = False


def first_epochs(share: float, epochs: int) -> int:
    """A share of a training's epochs, rounded up so that a short training has some too, but never all of them."""
    return max(min(math.ceil(share * epochs), epochs - 1), 0)


class GANSystem(System):
    """Trains networks against each other under manual optimisation.

    Every batch is prepared once: features, draws and generated speech. Then each active phase computes its loss with
    gradients for its own networks only, and takes its step before the next phase's backward pass, because loss scaling
    in float16 requires that order. This works in precision 32, bf16-mixed and 16-mixed, and under DDP.

    Losses of training batches are logged by each process for itself, so that logging costs no communication; the loggers
    of rank zero write those of rank zero.

    Args:
        gradient_clip: largest gradient norm of each phase, or None; applied after unscaling.
        n_classes, seed: see :class:`~psegan.systems.base.System`.
    """

    def __init__(self, n_classes: dict[str, int], gradient_clip: float | None = None, seed: int = 0) -> None:
        super().__init__(n_classes, seed)
        self.automatic_optimization = False
        self.gradient_clip = gradient_clip
        self._phase = ""  # that steps now
        self._paces: dict[str, Tensor] = {}

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """All phases, in the order of their steps."""

    def phase(self, name: str, warms_up: bool = False) -> Phase:
        """The phase of the one network ``name``, with the attributes ``<name>_optimizer`` and ``<name>_loss``."""
        return Phase(name, (name,), getattr(self, f"{name}_optimizer"), getattr(self, f"{name}_loss"), warms_up)

    @abstractmethod
    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> Any:
        """Compute what the losses of all phases need: features, draws from ``random``, generated speech with its graph."""

    def active_phases(self) -> tuple[str, ...]:
        """Names of the phases that step in this epoch; by default all."""
        return tuple(phase.name for phase in self.phases())

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            phase.optimizer([p for name in phase.networks for p in self.get_submodule(name).parameters()])
            for phase in self.phases()
        ]

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        prepared = self.prepare(batch, seeded(*self.occasion))
        optimizers = self.optimizers()
        assert isinstance(optimizers, list), "an adversarial system has at least two phases"
        active = self.active_phases()
        logged: dict[str, Tensor] = {}
        self._paces = {}
        for phase, optimizer in zip(self.phases(), optimizers, strict=True):
            if phase.name in active:
                self._phase = phase.name
                with self.toggled_optimizer(optimizer):
                    losses = phase.loss(prepared)
                    optimizer.zero_grad()
                    self.manual_backward(losses["total"])
                    optimizer.step()
                logged |= {f"train/{phase.name}/{name}": value.detach() for name, value in losses.items()}
        # one call at the end: the optimiser's hooks run in between, and Lightning keeps what one hook has logged last
        self.log_dict(logged | self._paces, batch_size=len(batch))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Note the learning rate and the gradients' norm, and clip them; Lightning calls this when they are unscaled."""
        norm = None
        if self.gradient_clip is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, self.gradient_clip)  # of before
        self._paces |= self.pace(optimizer, self._phase, norm)
