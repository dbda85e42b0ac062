"""Training of the content matcher, a recogniser of characters that PSEGAN freezes."""

import unicodedata
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.text import CharErrorRate

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.models.augmentation import SpectrogramAugmentation
from psegan.models.content import ContentEncoder
from psegan.speech.batch import SpeechBatch
from psegan.systems.base import TrainingSpeech
from psegan.systems.one_cycle import OneCycleSystem


class CharacterRecogniser(OneCycleSystem):
    """Spells what is said, trained by connectionist temporal classification on whole utterances with known texts.

    Spectrograms are augmented, so that what it learns depends little on level, tempo and voice.

    Args:
        encoder: makes the network; its alphabet must hold every letter and digit of the texts.
        augmentation: makes what changes training spectrograms.
        encoder_checkpoint, learning_rate, weight_decay: see :class:`~psegan.systems.one_cycle.OneCycleSystem`.
        n_classes, seed: see :class:`~psegan.systems.base.System`.
    """

    encoder: ContentEncoder

    def __init__(
        self,
        n_classes: dict[str, int],
        encoder: Callable[[], ContentEncoder] = ContentEncoder,
        augmentation: Callable[[], nn.Module] = SpectrogramAugmentation,
        encoder_checkpoint: str | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, learning_rate, weight_decay, encoder_checkpoint, seed)
        self.encoder, self.augmentation = encoder(), augmentation()
        self.error_rate = CharErrorRate()

    def check_speech(self, data: TrainingSpeech) -> None:
        """Refuse crops, which hold a part of what their text says."""
        if data.crop_seconds is not None:
            raise PseganError(
                f"data.init_args.crop_seconds is {data.crop_seconds:g}, but a text goes with a whole utterance; set it to null"
            )

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def about(self) -> dict[str, Any]:
        return {**super().about(), "attribute": "characters"}

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        mel, frames = self.augmentation(*self.features(batch), seeded(*self.occasion))
        logits, lengths = self(mel, frames)
        loss = self._loss(logits, lengths, batch)
        self.log("train/loss", loss, batch_size=len(batch))
        return loss

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → logits of characters ``(B, N', K)`` and their lengths."""
        features, lengths = self.encoder(mel, lengths)
        return self.encoder.classify(features), lengths

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Log the loss and the character error rate of the likeliest spelling."""
        logits, lengths = self(*self.features(batch))
        loss = self._loss(logits, lengths, batch)
        self.error_rate.update(self.encoder.spell(logits, lengths), [self._plain(t, batch) for t in batch.text])
        self.log(f"{self.stage}/loss", loss, batch_size=len(batch), sync_dist=True)
        self.log(f"{self.stage}/cer", self.error_rate, prog_bar=True)

    test_step = validation_step

    def _loss(self, logits: Tensor, lengths: Tensor, batch: SpeechBatch) -> Tensor:
        known = {character: index for index, character in enumerate(self.encoder.alphabet)}
        spelt = [[known[c] for c in self._plain(text, batch)] for text in batch.text]
        targets = torch.tensor([index for one in spelt for index in one], dtype=torch.long, device=logits.device)
        sizes = torch.tensor([len(one) for one in spelt], device=logits.device)
        log_probability = logits.float().log_softmax(-1).transpose(0, 1)
        # a tempo that leaves fewer frames than characters has no spelling
        return F.ctc_loss(log_probability, targets, lengths, sizes, blank=len(known), zero_infinity=True)

    def _plain(self, text: str | None, batch: SpeechBatch) -> str:
        """The characters of a text that the alphabet has: lower case, without punctuation."""
        if text is None:
            raise PseganError(
                f"{batch.id[batch.text.index(None)]}: its text isn't known; a recogniser of characters learns from texts: "
                "give a manifest with the column text"
            )
        lower = unicodedata.normalize("NFKC", text).replace("’", "'").casefold()
        unknown = sorted({c for c in lower if c.isalnum()} - set(self.encoder.alphabet))
        if unknown:
            raise PseganError(
                f"{batch.id[batch.text.index(text)]}: its text has {', '.join(map(repr, unknown))}; add that to "
                "model.init_args.encoder.init_args.alphabet"
            )
        kept = "".join(c for c in lower if c in self.encoder.alphabet or c.isspace())
        return " ".join(kept.split())
