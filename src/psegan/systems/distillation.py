"""Training of a content matcher by a recogniser that has heard far more speech than there is here."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from psegan.common.random import seeded
from psegan.losses import content_consistency
from psegan.models.augmentation import SpectrogramAugmentation
from psegan.models.content import FeatureEncoder
from psegan.models.moonshine import MoonshineEncoder
from psegan.speech.batch import SpeechBatch
from psegan.speech.masking import masked_mean
from psegan.systems.one_cycle import OneCycleSystem


class ContentDistillation(OneCycleSystem):
    """A network learns to hear what a recogniser's encoder hears, frame by frame (Hinton, Vinyals and Dean, 2015).

    No labels are needed, so speech of any language and emotion will do. Its spectrograms are augmented, the teacher's are
    not, so that neither voice nor pitch counts. The loss is the squared error over the teacher's variance, and the cosine
    that :func:`psegan.losses.content_consistency` compares contents by.

    Args:
        encoder: makes the network; its outputs are as many as the teacher's values.
        teacher: makes the recogniser's encoder.
        augmentation: makes what changes training spectrograms; it may not change their tempo.
        encoder_checkpoint, learning_rate, weight_decay: see :class:`~psegan.systems.one_cycle.OneCycleSystem`.
        n_classes, seed: see :class:`~psegan.systems.base.System`.

    Raises:
        NotInstalledError: the teacher's package is missing.
    """

    encoder: FeatureEncoder
    learnt_from = (MoonshineEncoder.JUDGE,)

    def __init__(
        self,
        n_classes: dict[str, int],
        encoder: Callable[[], FeatureEncoder] = FeatureEncoder,
        teacher: Callable[[], MoonshineEncoder] = MoonshineEncoder,
        augmentation: Callable[[], nn.Module] = SpectrogramAugmentation,
        encoder_checkpoint: str | None = None,
        learning_rate: float = 1.5e-3,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, learning_rate, weight_decay, encoder_checkpoint, seed)
        self.encoder, self.augmentation = encoder(), augmentation()
        self.make_teacher = teacher

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def about(self) -> dict[str, Any]:
        return {**super().about(), "attribute": "content"}

    @cached_property
    def teacher(self) -> MoonshineEncoder:
        """Made when it is first needed: whoever loads the weights may not have it."""
        return self.make_teacher()

    def check_ready(self) -> None:
        """Say what is not installed before the first batch."""
        _ = self.teacher

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        mel, frames = self.features(batch)
        mel, frames = self.augmentation(mel, frames, seeded(*self.occasion))
        return self._compared("train", mel, frames, batch)

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        mel, frames = self.features(batch)
        self._compared(self.stage, mel, frames, batch)

    test_step = validation_step

    def _compared(self, stage: str, mel: Tensor, frames: Tensor, batch: SpeechBatch) -> Tensor:
        """The loss of spectrograms ``(B, 80, N)`` against what the teacher hears in the batch; parts of it are logged."""
        taught = [
            self.teacher(row[:length]).T for row, length in zip(batch.waveform, batch.length.tolist(), strict=True)
        ]
        wanted = pad_sequence(taught, batch_first=True).transpose(1, 2).to(mel.device)
        heard, lengths = self.encoder(mel, frames)
        variance = torch.cat(taught).var(0).mean()
        losses = {
            "distance": content_consistency(heard, wanted, lengths),
            "error": masked_mean((heard.float() - wanted).square().mean(1), lengths) / variance,
        }
        losses["loss"] = losses["distance"] + losses["error"]
        logged = {f"{stage}/{name}": value for name, value in losses.items()}
        self.log_dict(logged, batch_size=len(batch), sync_dist=stage != "train")
        return losses["loss"]
