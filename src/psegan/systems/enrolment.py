"""What systems share that learn calm speech from enrolment speech: its analysis, and what a content matcher hears in it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from psegan.common.errors import PseganError
from psegan.models.analysis import Analysed, Analysis
from psegan.models.content import FeatureEncoder
from psegan.speech.batch import EnrolmentBatch, SpeechBatch
from psegan.systems.base import TrainingSpeech
from psegan.systems.one_cycle import OneCycleSystem, encoder_of, take_over
from psegan.weights import load_parts


class EnrolmentSystem(OneCycleSystem):
    """A system whose corpus is a :class:`datamodules.enrolment.EnrolmentDataModule`.

    Args:
        content_matcher: makes a network of the content matcher's shape.
        content_matcher_checkpoint: a :class:`~psegan.systems.ContentDistillation`, or the name or folder of shipped weights.
            Who taught it cannot judge what comes out.
        learning_rate, weight_decay, encoder_checkpoint: see :class:`~psegan.systems.one_cycle.OneCycleSystem`.
        n_classes, seed: see :class:`~psegan.systems.base.System`.
    """

    def __init__(
        self,
        n_classes: dict[str, int],
        content_matcher: Callable[[], FeatureEncoder],
        content_matcher_checkpoint: str | None,
        learning_rate: float,
        weight_decay: float,
        encoder_checkpoint: str | None,
        seed: int,
    ) -> None:
        super().__init__(n_classes, learning_rate, weight_decay, encoder_checkpoint, seed)
        self.content_matcher = content_matcher().requires_grad_(False)
        self.content_matcher_checkpoint = content_matcher_checkpoint
        self.analysis = Analysis()
        self.analysed: dict[str, Analysed] = {}
        self.said: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:
        if stage != "fit" or self.begun:
            return
        if (path := self.content_matcher_checkpoint) is not None:
            matcher, about = encoder_of(path, "content", "content matcher that a recogniser taught")
            take_over(self.content_matcher, matcher, path, "content_matcher")
            self._taught_by(about)
        if (path := self.encoder_checkpoint) is not None:
            parts, about = load_parts(path)
            self.begin_with(parts, path)
            self._taught_by(about)

    def begin_with(self, parts: Mapping[str, nn.Module], path: str) -> None:
        """Take over what ``encoder_checkpoint``, ``path``, holds, or say what it should hold."""
        raise NotImplementedError

    def _taught_by(self, about: Mapping[str, Any]) -> None:
        """Note that whoever taught the networks that ``about`` is of has taught this one, which learns from them."""
        self.learnt_from = tuple(dict.fromkeys([*self.learnt_from, *about.get("learnt_from", ())]))

    def check_ready(self) -> None:
        """Refuse to train with a content matcher that knows nothing."""
        if self.content_matcher_checkpoint is None:
            raise PseganError(
                f"{type(self).__name__} needs a content matcher that a recogniser taught: train "
                "experiments/content_distillation.yaml, and give its checkpoint as model.init_args.content_matcher_checkpoint"
            )

    def check_speech(self, data: TrainingSpeech) -> None:
        """Refuse a corpus without enrolment speech."""
        if not hasattr(data, "parallel"):
            raise PseganError(
                f"{type(self).__name__} needs enrolment speech; give it a datamodules.EnrolmentDataModule"
            )

    def training_step(self, batch: EnrolmentBatch, batch_idx: int) -> Tensor:
        losses = self.losses(batch)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=len(batch))
        return losses["loss"]

    def validation_step(self, batch: EnrolmentBatch, batch_idx: int) -> None:
        logged = {f"{self.stage}/{name}": value for name, value in self.losses(batch).items()}
        self.log_dict(logged, batch_size=len(batch), sync_dist=True)

    test_step = validation_step

    def losses(self, batch: EnrolmentBatch) -> dict[str, Tensor]:
        """Names of losses and their values; ``loss`` is what is minimised. Nothing is augmented but in training."""
        raise NotImplementedError

    def predict_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Refuse: there are no voice profiles."""
        raise PseganError(
            "psegan predict has no voice profiles, and Anchored needs one of each speaker; use psegan protect"
        )

    def heard(self, speech: SpeechBatch) -> Analysed:
        """The analysis of a batch. Each recording is analysed once, by itself, and kept in half precision on the CPU.

        Pitch and what the content matcher hears would be a third of each step.
        """
        for row, name in enumerate(speech.id):
            if name not in self.analysed:
                length = speech.length[row : row + 1]
                alone = self.analysis(speech.waveform[row : row + 1, : int(length)], length)
                self.listen(name, alone)
                self.analysed[name] = Analysed(*(v.half() if v.is_floating_point() else v for v in alone)).to("cpu")
        return Analysed.together([self.analysed[name] for name in speech.id]).to(self.device)

    def listen(self, name: str, speech: Analysed) -> None:
        """Keep what frozen networks hear of a recording."""
        with torch.no_grad():
            said, _ = self.content_matcher(speech.mel, speech.frames)
        self.said[name] = said[0].half().cpu()

    def wanted(self, batch: EnrolmentBatch) -> Tensor:
        """What the content matcher hears of the targets, ``(B, C, N')``, zero in padding."""
        return self.padded([self.said[batch.speech.id[row]] for row in batch.target.tolist()])

    def padded(self, values: list[Tensor]) -> Tensor:
        """Features ``(C, n)`` of several recordings → ``(B, C, N)`` in float32, zero in padding."""
        return pad_sequence([one.float().T for one in values], batch_first=True).transpose(1, 2).to(self.device)

    def train(self, mode: bool = True) -> "EnrolmentSystem":
        """Of all parts but the content matcher, which is frozen."""
        super().train(mode)
        self.content_matcher.eval()
        return self
