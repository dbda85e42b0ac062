"""Training of Anchored's decoder: what an encoder lets through is said in a calm voice."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.losses import be_taken_for_real, content_consistency, feature_matching, hinge_fake, hinge_real
from psegan.models.analysis import Analysed
from psegan.models.anchored import CodeEncoder, Profile, ProfileDecoder, enrolled
from psegan.models.content import STRIDE, FeatureEncoder
from psegan.models.mel_discriminator import MelDiscriminator
from psegan.speech.batch import EnrolmentBatch
from psegan.speech.masking import mask_like, masked_mean, strided_length
from psegan.systems.enrolment import EnrolmentSystem
from psegan.systems.one_cycle import take_over

MOST = 100.0
"""Times that the discriminator's gradient is made larger, at most."""


class Anchored(EnrolmentSystem):
    """A decoder that says the codes of a frozen encoder, by the profile that the batch has of each speaker.

    It learns from calm speech and its own codes, some of which are moved a little, as those of other emotions are. What comes
    out is to be near the calm speech, frame by frame and to the content matcher's ear. That alone makes an average of all
    that might be said, so in the end a discriminator of log-mels has to take it for speech as well.

    Args:
        encoder, decoder: make the networks; their codes must have as many values.
        discriminator: makes that of log-mels.
        content_matcher, content_matcher_checkpoint: see :class:`~psegan.systems.enrolment.EnrolmentSystem`.
        code_noise: share of the codes' values that are moved by one level.
        delta_weight, content_weight, intonation_weight: of these losses, beside that of reconstruction.
        adversarial_weight: how much being taken for speech counts beside reconstruction: the ratio of their gradients in what
            is made (Esser, Rombach and Ommer, CVPR 2021).
        feature_weight: of matching the discriminator's features.
        adversarial_after: batches without the discriminator.
        encoder_checkpoint: an :class:`~psegan.systems.AnchoredEncoder`, or another training of this, whose decoder training
            begins with.
        learning_rate, weight_decay: see :class:`~psegan.systems.one_cycle.OneCycleSystem`.
        n_classes, seed: see :class:`~psegan.systems.base.System`.
    """

    encoder: CodeEncoder

    def __init__(
        self,
        n_classes: dict[str, int],
        encoder: Callable[[], CodeEncoder] = CodeEncoder,
        decoder: Callable[[], ProfileDecoder] = ProfileDecoder,
        discriminator: Callable[[], MelDiscriminator] = MelDiscriminator,
        content_matcher: Callable[[], FeatureEncoder] = FeatureEncoder,
        content_matcher_checkpoint: str | None = None,
        code_noise: float = 0.05,
        delta_weight: float = 0.5,
        content_weight: float = 5.0,
        intonation_weight: float = 1.0,
        adversarial_weight: float = 0.5,
        feature_weight: float = 1.0,
        adversarial_after: int = 0,
        encoder_checkpoint: str | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_classes,
            content_matcher,
            content_matcher_checkpoint,
            learning_rate,
            weight_decay,
            encoder_checkpoint,
            seed,
        )
        self.encoder, self.decoder = encoder().requires_grad_(False), decoder()
        if self.decoder.dims != self.encoder.dims:
            raise PseganError(
                f"codes have {self.encoder.dims} values, but the decoder takes {self.decoder.dims}; give encoder and decoder "
                "the same dims"
            )
        self.discriminator = discriminator()
        self.code_noise = code_noise
        self.delta_weight, self.content_weight, self.intonation_weight = delta_weight, content_weight, intonation_weight
        self.adversarial_weight, self.feature_weight = adversarial_weight, feature_weight
        self.adversarial_after = adversarial_after
        self.codes: dict[str, Tensor] = {}

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder}

    def begin_with(self, parts: Mapping[str, nn.Module], path: str) -> None:
        """See the base class."""
        if not isinstance(trained := parts.get("encoder"), CodeEncoder):
            raise PseganError(f"{path} makes no codes; give an encoder_checkpoint of experiments/anchored_encoder.yaml")
        take_over(self.encoder, trained, path, "encoder")
        if (decoder := parts.get("decoder")) is not None:
            take_over(self.decoder, decoder, path, "decoder")

    def check_ready(self) -> None:
        """Refuse to train without networks that have learnt something."""
        super().check_ready()
        if self.encoder_checkpoint is None:
            raise PseganError(
                "Anchored needs a trained encoder: train experiments/anchored_encoder.yaml, and give its checkpoint as "
                "model.init_args.encoder_checkpoint"
            )

    def losses(self, batch: EnrolmentBatch) -> dict[str, Tensor]:
        """See the base class."""
        heard = self.heard(batch.speech)
        target, random = heard.take(batch.target), seeded(*self.occasion) if self.training else None
        profile = self.enrol(heard, batch)
        codes, lengths = self._codes(batch, batch.target), strided_length(target.frames, STRIDE)
        if random is not None:
            codes = self._moved(codes, random) * mask_like(lengths, codes)
        said = self.decoder.embed(codes, lengths)
        retrieved = self.decoder.retrieve(said, profile, batch.group)
        pitch = target.intonation(retrieved.pitch)
        made = self.decoder(said, retrieved, pitch, target.frames)
        error = made - target.relative
        delta = (error[..., 1:] - error[..., :-1]).abs()
        intoned = self.decoder.intone(said, retrieved, lengths)[..., : pitch.shape[2]]
        losses = {
            "reconstruction": masked_mean(error.abs(), target.frames),
            "delta": masked_mean(delta, target.frames - 1),
            "intonation": masked_mean((intoned - pitch).abs(), target.frames),
            "content": self._content(made, target, batch),
        }
        losses["loss"] = (
            losses["reconstruction"]
            + self.delta_weight * losses["delta"]
            + self.intonation_weight * losses["intonation"]
            + self.content_weight * losses["content"]
        )
        if random is not None and self.adversarial_weight and self.batches_seen >= self.adversarial_after:
            judged = self._judged(made, target, random)
            weight = self.adversarial_weight * _gradient_ratio(losses["reconstruction"], judged["adversarial"], made)
            losses["loss"] = (
                losses["loss"]
                + weight * judged["adversarial"]
                + self.feature_weight * judged["features"]
                + judged["discriminator"]
            )
            losses |= judged
        return losses

    def listen(self, name: str, speech: Analysed) -> None:
        """See the base class; codes are kept as well."""
        super().listen(name, speech)
        with torch.no_grad():
            codes, _ = self.encoder(speech.mel, speech.frames)
        self.codes[name] = codes[0].half().cpu()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip both networks' gradients apart: the discriminator's are a hundred times as large after some hundred batches."""
        for network in (self.decoder, self.discriminator):
            if gradient_clip_val:
                nn.utils.clip_grad_norm_(network.parameters(), gradient_clip_val)

    def enrol(self, heard: Analysed, batch: EnrolmentBatch) -> Profile:
        """See :func:`psegan.models.anchored.enrolled`; of the batch's speakers."""
        rows = (batch.enrolled >= 0).nonzero().squeeze(1)
        return enrolled(self.decoder, heard.take(rows), self._codes(batch, rows), batch.enrolled[rows])

    def _codes(self, batch: EnrolmentBatch, rows: Tensor) -> Tensor:
        """Codes of some of a batch's recordings, ``(B, dims, N')``."""
        return self.padded([self.codes[batch.speech.id[row]] for row in rows.tolist()])

    def _moved(self, codes: Tensor, random: torch.Generator) -> Tensor:
        """Codes, some of whose values are a level higher or lower."""
        chance, way = torch.rand(2, *codes.shape, generator=random).to(codes.device)
        step = 2 / (self.encoder.levels - 1) * ((way < 0.5).float() * 2 - 1)
        return (codes + step * (chance < self.code_noise)).clamp(-1, 1)

    def _content(self, made: Tensor, target: Analysed, batch: EnrolmentBatch) -> Tensor:
        """What the content matcher hears of another content in what was made ``(B, 80, N)``, log-mels less their level."""
        mel = self.analysis.scaler(made + target.level[:, None, None]) * mask_like(target.frames, made)
        heard, lengths = self.content_matcher(mel, target.frames)
        return content_consistency(heard, self.wanted(batch), lengths)

    def _judged(self, made: Tensor, target: Analysed, random: torch.Generator) -> dict[str, Tensor]:
        """Losses of the discriminator, and of what was made ``(B, 80, N)`` by it, in one pass for both networks' gradients.

        It is shown as much of each utterance as the shortest one has, from a drawn place on, so that no padding is judged.
        """
        discriminator, size = self.discriminator, int(target.frames.min())
        starts = (torch.rand(len(made), generator=random) * (target.frames.cpu() - size + 1)).long().to(self.device)
        window = (
            (starts.unsqueeze(1) + torch.arange(size, device=self.device)).unsqueeze(1).expand(-1, made.shape[1], -1)
        )
        made = made.gather(2, window)
        real = discriminator(target.relative.gather(2, window))
        caught = discriminator(made.detach())
        discriminator.requires_grad_(False)  # what was made is to change, not what it is judged by
        passed = discriminator(made)
        discriminator.requires_grad_(True)
        return {
            "discriminator": hinge_real([real]) + hinge_fake([caught]),
            "adversarial": be_taken_for_real([passed]),
            "features": feature_matching([passed], [real]),
        }

    def train(self, mode: bool = True) -> "Anchored":
        """Of all parts but those that are frozen."""
        super().train(mode)
        self.encoder.eval()
        return self


def _gradient_ratio(loss: Tensor, other: Tensor, made: Tensor) -> Tensor:
    """How many times larger the gradient of ``loss`` is than that of ``other``, in what was made."""
    of_loss, of_other = (torch.autograd.grad(one, made, retain_graph=True)[0].norm() for one in (loss, other))
    return (of_loss / of_other.clamp(min=1e-8)).clamp(max=MOST)
