"""Mixed precision against 32-bit floats: an epoch of PSEGAN from the same weights, with the same batches and draws."""

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from psegan.bench.fit import SYNTHETIC, Figure, Setting, is_loss
from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.losses import distortion
from psegan.protection.command import DEFAULT_MODEL
from psegan.protection.conversion import ConversionProtector
from psegan.speech.audio import UnitScaler
from psegan.systems.adversarial import ConvertedBatch
from psegan.training import command as training

LOSS_BOUND = 0.05
"""Largest difference of a loss, in any batch of the epoch."""
MEL_BOUND = 0.25
"""Largest mean difference of converted log-mels, in dB."""
DECIBELS = 20 / math.log(10) * (UnitScaler.high - UnitScaler.low)
"""Of the unit of scaled log-mels."""
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def mixed_precision(setting: Setting) -> Iterator[Figure]:
    """Differences of losses and of converted held-out utterances, and the steps that the scaler of gradients skipped.

    An epoch moves speech by little. So the released generator converts the same utterances too, and moves them by decibels.
    The reference computes without TF32, which a GPU's convolutions have in 32-true unless it is switched off.

    Raises:
        PseganError: a difference is beyond its bound, or not a number.
    """
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    reference = _trained(setting, "reference", "32-true")
    speech = reference.converted[0]
    released = _converted(setting, "32-true", speech)
    torch.backends.cudnn.allow_tf32 = allowed
    yield "precision/trained", (_decibels(speech.protected, speech.original, speech.lengths), "dB from original speech")
    yield "precision/released", (_decibels(released, speech.original, speech.lengths), "dB from original speech")
    problems = []
    for precision in setting.precisions:
        found, name = _trained(setting, precision, precision), f"precision/{precision}"
        differences = {
            "losses": (float((found.losses() - reference.losses()).abs().max()), "the largest difference", LOSS_BOUND),
            "trained": (
                _decibels(found.converted[0].protected, speech.protected, speech.lengths),
                "dB, the mean difference",
                MEL_BOUND,
            ),
            "released": (
                _decibels(_converted(setting, precision, speech), released, speech.lengths),
                "dB, the mean difference",
                MEL_BOUND,
            ),
        }
        for what, (value, unit, bound) in differences.items():
            yield f"{name}/{what}", (value, f"{unit}; bound {bound}")
            if not value <= bound:  # so that NaN fails
                problems.append(f"{name}/{what} is {value:.3g}")
        yield f"{name}/skipped", (found.skipped, f"of {found.steps} steps")
        yield from setting.memory(name)
    if problems:
        raise PseganError(f"beyond the bounds: {', '.join(problems)}")


def _trained(setting: Setting, name: str, precision: str) -> "Trace":
    options = f"--trainer.precision={precision}", f"--trainer.callbacks+={__name__}.Trace"
    cli = training.main(setting.psegan(f"precision/{name}", [SYNTHETIC], *options))
    (trace,) = (one for one in cli.trainer.callbacks if isinstance(one, Trace))  # type: ignore[attr-defined]
    return trace


def _converted(setting: Setting, precision: str, speech: ConvertedBatch) -> Tensor:
    """What the released generator makes of original speech, on the CPU."""
    protector = ConversionProtector.load(DEFAULT_MODEL).to(setting.device)
    draws = protector.conversion.draw(len(speech.id), seeded("precision"))
    mel, lengths = speech.original.to(setting.device), speech.lengths.to(setting.device)
    with torch.inference_mode(), torch.autocast(setting.device, DTYPES[precision], enabled=precision != "32-true"):
        return protector.conversion(mel, lengths, {name: one.to(setting.device) for name, one in draws.items()}).cpu()


def _decibels(ours: Tensor, theirs: Tensor, lengths: Tensor) -> float:
    """Mean difference of scaled log-mels."""
    return DECIBELS * float(distortion(ours, theirs, lengths))


class Trace(L.Callback):
    """Keeps the losses of every batch, the converted utterances of the validation, and counts steps of optimisers.

    A scaler of gradients lowers its scale after every step that it has skipped, and after no other.
    """

    def __init__(self) -> None:
        self.converted: list[ConvertedBatch] = []
        self.steps = self.skipped = 0
        self._losses: list[list[float]] = []
        self._scale = 0.0

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        self._count(trainer)
        self.steps += 1

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._count(trainer)

    def _count(self, trainer: L.Trainer) -> None:
        """Count the step before this moment if it was skipped."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = scaler.get_scale() if scaler is not None else 0.0
        self.skipped += scale < self._scale
        self._scale = scale

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        logged = trainer.callback_metrics.items()
        self._losses.append([float(value) for name, value in logged if name.startswith("train/") and is_loss(name)])

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        self.converted.append(outputs.to("cpu"))

    def losses(self) -> Tensor:
        """``(batches, losses)``."""
        return torch.tensor(self._losses)
