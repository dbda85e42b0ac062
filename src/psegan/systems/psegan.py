"""PSEGAN: a conditional generator, a K+1-class discriminator, frozen matchers of speaker and content (article, section 4)."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from psegan.common.errors import PseganError
from psegan.losses import content_consistency, distortion, pcgan_distortion, speaker_consistency
from psegan.models.classifier import EncoderEnsemble, SpeechEncoder
from psegan.models.conditional import ConditionalUNet
from psegan.models.content import ContentEncoder
from psegan.models.conversion import ToEmotion
from psegan.models.discriminator import StridedDiscriminator
from psegan.models.psegan import PSEGANGenerator
from psegan.speech.batch import SpeechBatch
from psegan.systems.adversarial import AdversarialSystem, PreparedBatch
from psegan.systems.base import check_argument
from psegan.systems.gan import Phase
from psegan.systems.one_cycle import encoder_of, take_over


class PSEGAN(AdversarialSystem):
    """Changes the emotion to a random target, and keeps the speaker and the words by what frozen matchers find.

    ``L_G = distortion_weight · d(M', M) + adversarial_weight · CE(D(M'), y') + speaker_weight · (1 - cos(SM(M'), s)) +
    content_weight · (1 - cos(CM(M'), CM(M)))`` and ``L_D = CE(D(M), y) + fake_weight · CE(D(M'), fake)``; docs/paper.md names
    the source of each choice. The content matcher CM is not in the article.

    The wanted embedding s is the mean over the speaker's training utterances of all emotions: that of the utterance itself
    says which emotion it has, and to come near to it would be to give that back.

    Args:
        generator: makes the generator from the number of emotions.
        discriminator: makes the discriminator from the number of its outputs, emotions + 1.
        speaker_matcher: makes an encoder of the checkpoint's shape.
        speaker_matcher_checkpoint: a speaker :class:`~psegan.systems.Classifier`, whose encoder becomes the frozen
            matcher, or the name or folder of shipped weights (``speaker-matcher-ravdess``). With a list of them, all of one
            shape, their losses are averaged; several matchers are harder to deceive than one. A training with
            ``speaker_weight`` above 0 needs it to begin; afterwards the matcher is part of the checkpoint.
        content_matcher: makes a network of the content matcher's shape.
        content_matcher_checkpoint: a :class:`~psegan.systems.CharacterRecogniser`, or the name or folder of shipped weights
            (``content-matcher``), whose encoder becomes the frozen content matcher. A training with ``content_weight`` above 0
            needs it to begin.
        generator_optimizer, discriminator_optimizer: the article's are Adam, 1e-4 and 2e-4, betas (0.5, 0.9).
        distortion_form: ``l1``, or ``pcgan`` for ``max(0, l1 - distortion_budget)²``.
        distortion_budget: epsilon of the PCGAN form, on the [0, 1] scale.
        distortion_weight, adversarial_weight, speaker_weight, content_weight: of the terms; a ``speaker_weight`` of 0 is the
            ablation without the speaker matcher, a ``content_weight`` of 0 the article's form.
        speaker_target: ``mean``, or ``utterance`` for the embedding of the utterance itself, the article's form.
        target: ``uniform`` draws the target from all emotions; the name of an emotion makes it the target of all speech
            (an ablation, and the conversion of everything to neutral).
        n_classes, **kwargs: see :class:`~psegan.systems.adversarial.AdversarialSystem`.

    Raises:
        PseganError: an unknown choice, or a speaker matcher that is missing or does not fit.
    """

    speaker_means: Tensor | None
    """Mean embedding of each speaker ``(n_speakers, E)``, zero outside of a training."""

    def __init__(
        self,
        n_classes: dict[str, int],
        generator: Callable[[int], ConditionalUNet] = PSEGANGenerator,
        discriminator: Callable[[int], nn.Module] = StridedDiscriminator,
        speaker_matcher: Callable[[], nn.Module] = SpeechEncoder,
        speaker_matcher_checkpoint: str | list[str] | None = None,
        content_matcher: Callable[[], ContentEncoder] = ContentEncoder,
        content_matcher_checkpoint: str | None = None,
        generator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.5, 0.9)),
        discriminator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.9)),
        distortion_weight: float = 5.0,
        distortion_form: Literal["l1", "pcgan"] = "l1",
        distortion_budget: float = 1e-3,
        adversarial_weight: float = 1.0,
        speaker_weight: float = 3.0,
        speaker_target: Literal["mean", "utterance"] = "mean",
        content_weight: float = 0.0,
        target: str = "uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(n_classes, **kwargs)
        wanted = f"must be uniform or an emotion of the corpus ({', '.join(self.emotions)})"
        check_argument(target in ("uniform", *self.emotions), "target", target, wanted)
        self.target = target
        self.generator = generator(self.n_emotions)
        self.discriminator = discriminator(self.n_emotions + 1)
        given = speaker_matcher_checkpoint
        self.speaker_matcher_checkpoints = [given] if isinstance(given, str) else list(given or ())
        ensemble = EncoderEnsemble(speaker_matcher() for _ in range(max(len(self.speaker_matcher_checkpoints), 1)))
        self.speaker_matcher = ensemble.requires_grad_(False) if speaker_weight else None
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.distortion_form, self.distortion_budget = distortion_form, distortion_budget
        self.distortion_weight, self.adversarial_weight = distortion_weight, adversarial_weight
        self.speaker_weight, self.speaker_target, self.content_weight = speaker_weight, speaker_target, content_weight
        self.content_matcher = content_matcher().requires_grad_(False) if content_weight else None
        self.content_matcher_checkpoint = content_matcher_checkpoint
        means = None
        if self.speaker_matcher is not None and speaker_target == "mean":
            size = sum(encoder.embedding_dim for encoder in self.speaker_matcher.encoders)  # type: ignore[misc]
            means = torch.zeros(n_classes["speaker"], size)
        self.register_buffer("speaker_means", means, persistent=False)

    def phases(self) -> tuple[Phase, ...]:
        return self.phase("discriminator", warms_up=True), self.phase("generator")

    @property
    def conversion(self) -> ToEmotion:
        target = None if self.target == "uniform" else self.emotions.index(self.target)
        return ToEmotion(self.generator, self.n_emotions, target, self.level)

    def generator_loss(self, batch: PreparedBatch) -> dict[str, Tensor]:
        """``L_G``: distances from the original, from the target emotion, from the speaker and from what was said."""
        if self.distortion_form == "l1":
            near = distortion(batch.fake, batch.real, batch.lengths)
        else:
            near = pcgan_distortion(batch.fake, batch.real, batch.lengths, self.distortion_budget)
        assert batch.target is not None
        adversarial = F.cross_entropy(self.discriminator(batch.fake, batch.lengths), batch.target)
        losses = {"distortion": near, "adversarial": adversarial}
        total = self.distortion_weight * near + self.adversarial_weight * adversarial
        if self.speaker_matcher is not None:
            wanted = self._wanted_speakers(batch)
            losses["speaker"] = speaker_consistency(self.speaker_matcher(batch.fake, batch.lengths), wanted)
            total = total + self.speaker_weight * losses["speaker"]
        if self.content_matcher is not None:
            with torch.no_grad():
                said, lengths = self.content_matcher(batch.real, batch.lengths)
            heard, _ = self.content_matcher(batch.fake, batch.lengths)
            losses["content"] = content_consistency(heard, said, lengths)
            total = total + self.content_weight * losses["content"]
        return {"total": total, **losses}

    def _wanted_speakers(self, batch: PreparedBatch) -> Tensor:
        """The embeddings ``(B, E)`` that the batch's speech shall have."""
        if self.speaker_means is not None:
            return self.speaker_means[batch.speaker]
        assert self.speaker_matcher is not None
        with torch.no_grad():
            return self.speaker_matcher(batch.real, batch.lengths)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit" or self.begun:
            return
        if self.speaker_matcher is not None and self.speaker_matcher_checkpoints:
            for encoder, path in zip(self.speaker_matcher.encoders, self.speaker_matcher_checkpoints, strict=True):
                matcher, _ = encoder_of(path, "speaker", "speaker matcher")
                take_over(encoder, matcher, path, "speaker_matcher")
        if self.content_matcher is not None and self.content_matcher_checkpoint is not None:
            path = self.content_matcher_checkpoint
            matcher, _ = encoder_of(path, "characters", "content matcher")
            take_over(self.content_matcher, matcher, path, "content_matcher")

    def on_fit_start(self) -> None:
        """Find the speakers' mean embeddings, whether training begins or goes on: they are those of this corpus."""
        super().on_fit_start()
        if self.speaker_means is None:
            return
        if self.corpus is None:
            raise PseganError(
                "the speaker term wants the mean embedding of each speaker's training speech: give Trainer.fit a corpus as "
                "its datamodule, or set model.init_args.speaker_target to utterance"
            )
        self._find_speakers(self.corpus.training_speech())

    @torch.no_grad()
    def _find_speakers(self, speech: Iterable[SpeechBatch]) -> None:
        """Fill in the mean embedding of each speaker of training ``speech``, over all emotions alike."""
        assert self.speaker_matcher is not None and self.speaker_means is not None
        matcher = self.speaker_matcher.eval()
        sums = self.speaker_means.new_zeros(len(self.speaker_means), self.n_emotions, self.speaker_means.shape[1])
        counts = sums.new_zeros(sums.shape[:2])
        for batch in tqdm(speech, desc="mean embeddings of speakers", unit="batch", leave=False, disable=None):
            here = batch.to(self.device)
            embedding = matcher(*self.originals(here))
            where = (here.speaker, here.emotion)
            sums.index_put_(where, embedding, accumulate=True)
            counts.index_put_(where, torch.ones_like(embedding[:, 0]), accumulate=True)
        if self.trainer.world_size > 1:  # each process has embedded its share
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(counts)
        means = (sums / counts.clamp(min=1).unsqueeze(-1)).sum(1)
        # each matcher's part has norm 1, as its embeddings have
        parts = means.unflatten(1, (len(matcher.encoders), -1))
        self.speaker_means.copy_(F.normalize(parts, dim=-1).flatten(1))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        weights, alone = checkpoint["state_dict"], "speaker_matcher."
        for name in [name for name in weights if name.startswith(alone) and not name.startswith(f"{alone}encoders.")]:
            # older checkpoints hold a single matcher
            weights[f"{alone}encoders.0.{name.removeprefix(alone)}"] = weights.pop(name)
        super().on_load_checkpoint(checkpoint)

    def check_ready(self) -> None:
        super().check_ready()
        if self.speaker_matcher is not None and not self.speaker_matcher_checkpoints:
            raise PseganError(
                "PSEGAN needs a trained speaker matcher: give model.init_args.speaker_matcher_checkpoint, "
                "or set model.init_args.speaker_weight to 0 (the no-SM ablation)"
            )
        if self.content_matcher is not None and self.content_matcher_checkpoint is None:
            raise PseganError(
                "PSEGAN needs a trained content matcher: give model.init_args.content_matcher_checkpoint (content-matcher is "
                "released), or set model.init_args.content_weight to 0 (the article's form)"
            )

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        for matcher in (self.speaker_matcher, self.content_matcher):
            if matcher is not None:
                matcher.eval()
