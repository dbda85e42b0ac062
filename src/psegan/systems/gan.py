"""The manual GAN step, once: a system states its phases, this takes their steps in order."""

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
    """One optimiser: what it owns and what it minimises.

    Attributes:
        name: prefix of its logged losses.
        networks: names of the system's networks whose weights, and no others, it moves.
        optimizer: made from their parameters.
        loss: from the batch's context to named scalars; ``"total"`` is minimised, all are logged.
        warms_up: whether it steps in the warm-up too, as a discriminator's does.
    """

    name: str
    networks: tuple[str, ...]
    optimizer: OptimizerCallable
    loss: Callable[[Any], dict[str, Tensor]]
    warms_up: bool = False


class GANSystem(System):
    """Trains networks against each other under manual optimisation.

    Every batch is prepared once (features, draws, generated speech); then each active phase computes its loss with only
    its own networks requiring gradients, and steps before the next phase's backward pass, as loss scaling in float16
    requires. Works alike in precision 32, bf16-mixed and 16-mixed, and under DDP.

    Args:
        n_classes: number of classes of each attribute; the command line fills it in from the corpus.
        gradient_clip: largest gradient norm of each phase, or None; applied after unscaling.
        seed: of every draw.
    """

    def __init__(self, n_classes: dict[str, int], gradient_clip: float | None = None, seed: int = 0) -> None:
        super().__init__(n_classes, seed)
        self.automatic_optimization = False
        self.gradient_clip = gradient_clip
        self._gradient_norms: dict[str, Tensor] = {}

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """All phases, in the order of their steps."""

    @abstractmethod
    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> Any:
        """What the phases' losses need of a batch: features, draws from ``random``, generated speech with its graph."""

    def active_phases(self) -> tuple[str, ...]:
        """Names of the phases that step in this epoch; by default all."""
        return tuple(phase.name for phase in self.phases())

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimiser a phase."""
        return [phase.optimizer(self._parameters_of(phase)) for phase in self.phases()]

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """One step of every active phase."""
        context = self.prepare(batch, seeded(*self.occasion))
        optimizers = self.optimizers()
        assert isinstance(optimizers, list), "an adversarial system has at least two phases"
        active = self.active_phases()
        logged: dict[str, Tensor] = {}
        for phase, optimizer in zip(self.phases(), optimizers, strict=True):
            if phase.name not in active:
                continue
            with self.toggled_optimizer(optimizer):
                losses = phase.loss(context)
                optimizer.zero_grad()
                self.manual_backward(losses["total"])
                optimizer.step()
            logged |= {f"train/{phase.name}/{name}": value.detach() for name, value in losses.items()}
        # once and here: Lightning forgets what was logged before a hook between phases logs
        self.log_dict(logged | self._gradient_norms, batch_size=len(batch), sync_dist=True)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip; Lightning calls this once gradients are unscaled."""
        if self.gradient_clip is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, self.gradient_clip)
            self._gradient_norms[f"train/{self._phase_of(optimizer)}/gradient_norm"] = norm

    def _parameters_of(self, phase: Phase) -> list[nn.Parameter]:
        return [p for name in phase.networks for p in self.get_submodule(name).parameters()]

    def _phase_of(self, optimizer: Optimizer) -> str:
        first = optimizer.param_groups[0]["params"][0]
        return next(phase.name for phase in self.phases() if self._parameters_of(phase)[0] is first)
