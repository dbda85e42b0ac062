"""Training of the content matcher, a recogniser of characters that PSEGAN freezes."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.text import CharErrorRate

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.models.augmentation import SpectrogramAugmentation
from psegan.models.content import ContentEncoder
from psegan.speech.batch import SpeechBatch
from psegan.systems.base import TrainingSpeech
from psegan.systems.one_cycle import OneCycleSystem
from psegan.systems.spelling import lowered, plain, spelling_loss


class CharacterRecogniser(OneCycleSystem):
    """Spells what is said, trained by connectionist temporal classification on whole utterances with known texts.

    Spectrograms are augmented, so that what it learns depends little on level, tempo and voice. An utterance that has fewer
    frames than its text takes has no loss; their share is logged as ``train/unalignable``.

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
        """Refuse crops, which hold a part of what their text says, and a text, of validation too, that cannot be spelt."""
        if data.crop_seconds is not None:
            raise PseganError(
                f"data.init_args.crop_seconds is {data.crop_seconds:g}, but a text goes with a whole utterance; set it to null"
            )
        for subset in ("train", "validation"):
            for utterance in data.subsets()[subset]:
                self._plain(utterance.text, utterance.id)

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def about(self) -> dict[str, Any]:
        return {**super().about(), "attribute": "characters"}

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        mel, frames = self.augmentation(*self.features(batch), seeded(*self.occasion))
        logits, lengths = self(mel, frames)
        spelt = self._spelt(batch)
        loss = spelling_loss(logits, lengths, spelt)
        self.log("train/loss", loss, batch_size=len(batch))
        self.log("train/unalignable", unalignable(lengths, spelt), batch_size=len(batch))
        return loss

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled log-mel ``(B, 80, N)`` and frames ``(B,)`` → logits of characters ``(B, N', K)`` and their lengths."""
        features, lengths = self.encoder(mel, lengths)
        return self.encoder.classify(features), lengths

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Log the loss and the character error rate of the likeliest spelling."""
        logits, lengths = self(*self.features(batch))
        spelt = self._spelt(batch)
        texts = ["".join(self.encoder.alphabet[index] for index in one) for one in spelt]
        self.error_rate.update(self.encoder.spell(logits, lengths), texts)
        loss = spelling_loss(logits, lengths, spelt)
        self.log(f"{self.stage}/loss", loss, batch_size=len(batch), sync_dist=True)
        self.log(f"{self.stage}/cer", self.error_rate, prog_bar=True)

    test_step = validation_step

    def _spelt(self, batch: SpeechBatch) -> list[list[int]]:
        """The texts of a batch as indices of the alphabet's characters."""
        known = {character: index for index, character in enumerate(self.encoder.alphabet)}
        texts = [self._plain(text, id) for text, id in zip(batch.text, batch.id, strict=True)]
        return [[known[character] for character in text] for text in texts]

    def _plain(self, text: str | None, id: str) -> str:
        """The characters of an utterance's text that the alphabet has: lower case, without punctuation."""
        if text is None:
            raise PseganError(
                f"{id}: its text isn't known; a recogniser of characters learns from texts: give a manifest with the column "
                "text"
            )
        unknown = sorted({c for c in lowered(text) if c.isalnum()} - set(self.encoder.alphabet))
        if unknown:
            raise PseganError(
                f"{id}: its text has {', '.join(map(repr, unknown))}; add that to "
                "model.init_args.encoder.init_args.alphabet"
            )
        return plain(text, self.encoder.alphabet)


def unalignable(lengths: Tensor, spelt: list[list[int]]) -> Tensor:
    """Share of utterances that have fewer frames than their spelling takes, as a tempo may make them, ``()``.

    A character takes a frame, and two equal ones in a row a blank between them.

    Args:
        lengths: frames of the logits ``(B,)``.
        spelt: classes of the ``B`` texts.
    """
    needed = [len(one) + sum(a == b for a, b in pairwise(one)) for one in spelt]
    return (lengths < torch.tensor(needed, device=lengths.device)).float().mean()
