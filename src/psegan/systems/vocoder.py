"""Training of vocoders: spectral distances, discriminators of waveforms, averaged weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from psegan.common.errors import PseganError
from psegan.losses import (
    be_taken_for_real,
    feature_matching,
    hinge_fake,
    hinge_real,
    masked_mean,
    multi_resolution_stft,
)
from psegan.models.spectral_discriminator import SpectralDiscriminator
from psegan.models.state import folded_state
from psegan.models.vocoder import Vocoder
from psegan.models.vocos import Vocos
from psegan.speech.batch import SpeechBatch
from psegan.speech.masking import mask_like
from psegan.systems.base import check_argument
from psegan.systems.gan import GANSystem, Phase, first_epochs
from psegan.weights import load_vocoder


@dataclass(frozen=True)
class VocoderBatch:
    """Waveforms ``(B, T)`` and their copies, log-mels of the real ones ``(B, 80, N)``, samples and frames ``(B,)``."""

    real: Tensor
    fake: Tensor
    log_mel: Tensor
    samples: Tensor
    frames: Tensor


class VocoderGAN(GANSystem):
    """Trains a vocoder on segments of speech.

    ``L_G = mel_weight · |mel(G) - mel| + stft_weight · (SC + log-magnitude) - adversarial_weight · D(G) +
    feature_weight · FM``, ``L_D`` the hinge loss of both; docs/paper.md names the source of each choice. Labels play no part.

    Args:
        vocoder: makes the vocoder.
        discriminator: makes the discriminators, a module from waveforms ``(B, T)`` to a list with a
            :class:`~psegan.models.waveform_discriminator.DiscriminatorOutput` of each.
        vocoder_optimizer, discriminator_optimizer: MelGAN's are Adam, 1e-4, betas (0.5, 0.9).
        mel_weight, stft_weight, adversarial_weight, feature_weight: of the terms.
        spectral_share: share of the epochs, 0 to below 1, in which only the distances count, before discriminators join.
        final_learning_rate: share of the learning rates that a cosine over the epochs ends at; 1 keeps them.
        gain: range of the random gain of each segment, in dB, so that the vocoder learns quiet and loud speech.
        average: decay of the exponential moving average of the weights; the averaged weights are evaluated and kept.
        vocoder_checkpoint: name, folder or checkpoint of a vocoder of the same sizes whose weights training begins with
            (:func:`psegan.weights.load_vocoder`); None begins with random weights.
        n_classes, gradient_clip, seed: see :class:`~psegan.systems.gan.GANSystem`.

    Raises:
        PseganError: a number is out of its range.
    """

    def __init__(
        self,
        n_classes: dict[str, int],
        vocoder: Callable[[], Vocoder] = Vocos,
        discriminator: Callable[[], nn.Module] = SpectralDiscriminator,
        vocoder_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.5, 0.9)),
        discriminator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.5, 0.9)),
        mel_weight: float = 0.0,
        stft_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        feature_weight: float = 10.0,
        spectral_share: float = 0.0,
        final_learning_rate: float = 1.0,
        gain: tuple[float, float] = (-12.0, 3.0),
        average: float = 0.999,
        vocoder_checkpoint: str | None = None,
        gradient_clip: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, gradient_clip, seed)
        check_argument(0 <= spectral_share < 1, "spectral_share", spectral_share, "must be in [0, 1)")
        check_argument(0 <= average < 1, "average", average, "must be in [0, 1)")
        check_argument(0 < final_learning_rate <= 1, "final_learning_rate", final_learning_rate, "must be in (0, 1]")
        check_argument(gain[0] <= gain[1], "gain", list(gain), "must be a range in dB: [low, high]")
        self.vocoder, self.discriminator = vocoder(), discriminator()
        self.averaged = AveragedModel(self.vocoder, multi_avg_fn=get_ema_multi_avg_fn(average)).requires_grad_(False)
        self.vocoder_optimizer, self.discriminator_optimizer = vocoder_optimizer, discriminator_optimizer
        self.mel_weight, self.stft_weight = mel_weight, stft_weight
        self.adversarial_weight, self.feature_weight = adversarial_weight, feature_weight
        self.spectral_share, self.final_learning_rate, self.gain = spectral_share, final_learning_rate, gain
        self.vocoder_checkpoint = vocoder_checkpoint

    def parts(self) -> dict[str, nn.Module]:
        return {"vocoder": self.averaged.module}

    def setup(self, stage: str) -> None:
        if stage == "fit" and not self.begun and self.vocoder_checkpoint is not None:
            begin_with(self.vocoder, self.vocoder_checkpoint)
            self.averaged.module.load_state_dict(self.vocoder.state_dict())

    @property
    def spectral_only(self) -> bool:
        """Whether this epoch trains on the spectral distances alone, without discriminators."""
        return self.current_epoch < first_epochs(self.spectral_share, self._epochs())

    def _epochs(self) -> int:
        epochs = self.trainer.max_epochs or 0
        if epochs < 1:
            raise PseganError("a vocoder's learning rates fall along its epochs: set trainer.max_epochs to 1 or more")
        return epochs

    def predict_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        raise PseganError("a vocoder protects nothing: see experiments/evaluate/ravdess_vocoders.yaml")

    def phases(self) -> tuple[Phase, ...]:
        return self.phase("discriminator"), self.phase("vocoder")

    def active_phases(self) -> tuple[str, ...]:
        return ("vocoder",) if self.spectral_only else super().active_phases()

    def on_train_epoch_start(self) -> None:
        """Set the learning rates of this epoch on a cosine, for both optimisers, whether they step or not."""
        progress = self.current_epoch / self._epochs()
        share = self.final_learning_rate + (1 - self.final_learning_rate) * (1 + math.cos(math.pi * progress)) / 2
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group.setdefault("initial_lr", group["lr"])

    def prepare(self, batch: SpeechBatch, random: torch.Generator) -> VocoderBatch:
        low, high = self.gain
        decibels = low + (high - low) * torch.rand(len(batch), 1, generator=random)
        peak = batch.waveform.abs().amax(1, keepdim=True).clamp(min=1e-4)
        gain = torch.minimum((10 ** (decibels / 20)).to(peak.device), 1 / peak)  # nothing is clipped
        real = batch.waveform * gain
        with torch.no_grad():
            log_mel, frames = self.front_end.log_mel(real, batch.length)
        fake = cut(self.vocoder(log_mel, frames), batch.length, real)
        return VocoderBatch(real, fake, log_mel, batch.length, frames)

    def discriminator_loss(self, batch: VocoderBatch) -> dict[str, Tensor]:
        real = hinge_real(self.discriminator(batch.real))
        fake = hinge_fake(self.discriminator(batch.fake.detach()))
        return {"total": real + fake, "real": real, "fake": fake}

    def vocoder_loss(self, batch: VocoderBatch) -> dict[str, Tensor]:
        convergence, log_stft = multi_resolution_stft(batch.fake, batch.real)
        losses = {"mel": self._mel_distance(batch), "convergence": convergence, "log_stft": log_stft}
        total = self.mel_weight * losses["mel"] + self.stft_weight * (convergence + log_stft)
        if not self.spectral_only:
            with torch.no_grad():
                real = self.discriminator(batch.real)
            fake = self.discriminator(batch.fake)
            losses |= {"adversarial": be_taken_for_real(fake), "features": feature_matching(fake, real)}
            total = total + self.adversarial_weight * losses["adversarial"] + self.feature_weight * losses["features"]
        return {"total": total, **losses}

    def _mel_distance(self, batch: VocoderBatch) -> Tensor:
        generated, _ = self.front_end.log_mel(batch.fake, batch.samples)
        return masked_mean((generated - batch.log_mel).abs(), batch.frames)

    def on_train_batch_end(self, outputs: Any, batch: SpeechBatch, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.averaged.update_parameters(self.vocoder)

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Log the distances between speech and its copies by the averaged weights."""
        log_mel, frames = self.front_end.log_mel(batch.waveform, batch.length)
        fake = cut(self.averaged(log_mel, frames), batch.length, batch.waveform)
        found = {"mel": self._mel_distance(VocoderBatch(batch.waveform, fake, log_mel, batch.length, frames))}
        # the STFT distances take no mask, so that every utterance is compared at its true length, one at a time
        pairs = zip(fake, batch.waveform, batch.length.tolist(), strict=True)
        each = [multi_resolution_stft(ours[None, :n], theirs[None, :n]) for ours, theirs, n in pairs]
        found["convergence"], found["log_stft"] = (torch.stack(column).mean() for column in zip(*each, strict=True))
        found["total"] = found["mel"] + found["convergence"] + found["log_stft"]
        logged = {f"{self.stage}/{name}": value for name, value in found.items()}
        self.log_dict(logged, batch_size=len(batch), sync_dist=True)

    test_step = validation_step

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["state_dict"]
        for name in [name for name in weights if ".verdict." in name]:  # the older name of a discriminator's last layer
            weights[name.replace(".verdict.", ".score.")] = weights.pop(name)
        super().on_load_checkpoint(checkpoint)


def cut(waveform: Tensor, samples: Tensor, like: Tensor) -> Tensor:
    """Cut a vocoder's waveform ``(B, N · 256)`` to the width of ``like (B, T)``, and zero it from ``samples (B,)`` on."""
    waveform = waveform[:, : like.shape[1]]
    return waveform * mask_like(samples, waveform)


def begin_with(vocoder: nn.Module, spec: str) -> None:
    """Give a vocoder the weights of another of its class, whose weight norm may be folded.

    Raises:
        PseganError: there is no such vocoder, or its weights are of other shapes.
    """
    weights = load_vocoder(spec).state_dict()
    ours = folded_state(vocoder)
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in ours.items()}:
        raise PseganError(
            f"model.init_args.vocoder_checkpoint: {spec} is another vocoder than model.init_args.vocoder; "
            "give them the same settings"
        )
    with torch.no_grad():
        for name, tensor in weights.items():
            owner, _, last = name.rpartition(".")
            module = vocoder.get_submodule(owner)
            if is_parametrized(module, last):
                setattr(module, last, tensor)  # weight norm takes it apart
            else:
                getattr(module, last).copy_(tensor)
