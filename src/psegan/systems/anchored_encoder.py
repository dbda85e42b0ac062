"""Training of Anchored's encoder: codes in which what is said can be read, and the emotion cannot."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.losses import content_consistency
from psegan.models.adversary import FrameReader, UtteranceReader, reverse_gradient
from psegan.models.analysis import Analysed
from psegan.models.anchored import CodeEncoder
from psegan.models.augmentation import SpectrogramAugmentation
from psegan.models.content import STRIDE, ContentEncoder, FeatureEncoder, FrameEncoder
from psegan.speech.batch import EnrolmentBatch
from psegan.speech.masking import length_mask, mask_like, masked_mean
from psegan.systems.alignment import alignment, sounds
from psegan.systems.base import TrainingSpeech
from psegan.systems.enrolment import EnrolmentSystem
from psegan.systems.one_cycle import take_over
from psegan.systems.spelling import plain, spelling_loss

SHARPNESS = 20.0
"""Of the soft minimum of three distances."""


class Codes(NamedTuple):
    """Codes of utterances, zero in padding.

    Attributes:
        bounded: before they are rounded, ``(B, dims, N')``.
        codes: ``(B, dims, N')``.
        lengths: ``(B,)``.
    """

    bounded: Tensor
    codes: Tensor
    lengths: Tensor

    def take(self, rows: Tensor) -> "Codes":
        """Some of the utterances, with as much padding as they need."""
        lengths = self.lengths[rows]
        size = int(lengths.max()) if len(lengths) else 0
        return Codes(self.bounded[rows, :, :size], self.codes[rows, :, :size], lengths)

    def at(self, places: Tensor, lengths: Tensor) -> "Codes":
        """The same at other times, ``(B, n)``, of ``(B,)`` lengths."""

        def taken(values: Tensor) -> Tensor:
            found = values.gather(2, places.unsqueeze(1).expand(-1, values.shape[1], -1))
            return found * mask_like(lengths, found)

        return Codes(taken(self.bounded), taken(self.codes), lengths)

    def replaced(self, rows: Tensor, others: "Codes") -> "Codes":
        """These utterances, but ``others`` in some rows."""
        lengths = self.lengths.index_copy(0, rows, others.lengths)
        size = max(self.codes.shape[2], others.codes.shape[2])

        def put(values: Tensor, other: Tensor) -> Tensor:
            wide, own = (F.pad(one, (0, size - one.shape[2])) for one in (values, other))
            return wide.index_copy(0, rows, own)[..., : int(lengths.max())]

        return Codes(put(self.bounded, others.bounded), put(self.codes, others.codes), lengths)


class AnchoredEncoder(EnrolmentSystem):
    """The encoder alone: what is let through of a recording is settled before anybody learns to speak from it.

    Where another recording says the same as one of calm speech, in another emotion or by somebody else, its codes have to be
    those of the calm one, aligned in time, so that voice and emotion are left out. What the content matcher hears of the calm
    speech is to be readable in the codes, and so are its characters (connectionist temporal classification). Emotion and
    pitch are not: the gradients of those who read them are turned round. No sound is made from the codes here, for what a
    sound needs beyond the words would bring emotion along.

    Args:
        emotions: their names, as ``nemo/anger``; the command line fills them in from the corpus.
        encoder: makes the network.
        alphabets: corpus → characters that its texts have, all others are left out; its texts are spelt.
        content_matcher, content_matcher_checkpoint: see :class:`~psegan.systems.enrolment.EnrolmentSystem`.
        consistency_weight, spelling_weight: of these losses, beside that of telling what the content matcher hears.
        emotion_weight, pitch_weight: of the reversed gradients of those who read emotion and pitch.
        ramp_steps: in which the reversed gradients gain their weight.
        max_pitch: largest shift, in semitones, of all frequencies of what goes in.
        encoder_checkpoint: another training of this, or a content matcher of the encoder's shape, whose features it takes.
        learning_rate, weight_decay: see :class:`~psegan.systems.one_cycle.OneCycleSystem`.
        n_classes, seed: see :class:`~psegan.systems.base.System`.
    """

    encoder: CodeEncoder
    other_corpus: Tensor

    def __init__(
        self,
        n_classes: dict[str, int],
        emotions: Sequence[str] = (),
        encoder: Callable[[], CodeEncoder] = CodeEncoder,
        alphabets: dict[str, str] | None = None,
        content_matcher: Callable[[], FeatureEncoder] = FeatureEncoder,
        content_matcher_checkpoint: str | None = None,
        consistency_weight: float = 5.0,
        spelling_weight: float = 0.15,
        emotion_weight: float = 0.25,
        pitch_weight: float = 0.05,
        ramp_steps: int = 400,
        max_pitch: float = 3.0,
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
        self.encoder = encoder()
        dims = self.encoder.dims
        self.alphabets: Mapping[str, str] = alphabets or {}
        self.spellers = nn.ModuleDict({name: FrameReader(dims, len(a) + 1) for name, a in self.alphabets.items()})
        self.content_reader = FrameReader(dims, self.content_matcher.outputs, 192)
        self.emotion_reader = UtteranceReader(dims, n_classes["emotion"])
        self.pitch_reader = FrameReader(dims, STRIDE, 64, 1)
        self.consistency_weight, self.spelling_weight = consistency_weight, spelling_weight
        self.emotion_weight, self.pitch_weight, self.ramp_steps = emotion_weight, pitch_weight, ramp_steps
        corpora = [name.partition("/")[0] for name in emotions] or [""] * n_classes["emotion"]
        # emotions of another corpus are no answer: telling the corpora apart is not what the adversary is for
        other = torch.tensor([[a != b for b in corpora] for a in corpora])
        self.register_buffer("other_corpus", other, persistent=False)
        self.augmentation = SpectrogramAugmentation(max_pitch=max_pitch, n_masks=0)

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def begin_with(self, parts: Mapping[str, nn.Module], path: str) -> None:
        """See the base class."""
        trained = parts.get("encoder")
        if isinstance(trained, ContentEncoder | FeatureEncoder):
            take_over_features(self.encoder, trained, path)
        elif isinstance(trained, CodeEncoder):
            take_over(self.encoder, trained, path, "encoder")
        else:
            raise PseganError(f"{path} is neither of Anchored nor a content matcher; name another encoder_checkpoint")

    def check_speech(self, data: TrainingSpeech) -> None:
        """Refuse a corpus without enrolment speech, and one that must be aligned where librosa is missing."""
        super().check_speech(data)
        if getattr(data, "parallel", 0):
            alignment(torch.zeros(1, 1), torch.zeros(1, 1))

    def losses(self, batch: EnrolmentBatch) -> dict[str, Tensor]:
        """See the base class."""
        heard = self.heard(batch.speech)
        source, target = heard.take(batch.source), heard.take(batch.target)
        random = seeded(*self.occasion) if self.training else None
        own = self._encoded(target, random)
        went_in = told = own
        losses = {"consistency": own.bounded.new_zeros(())}
        if len(rows := (batch.source != batch.target).nonzero().squeeze(1)):  # whose target is another recording
            others = self._encoded(source.take(rows), random)
            aligned = others.at(self._places(source, target, batch, rows), own.lengths[rows])
            went_in, told = own.replaced(rows, others), own.replaced(rows, aligned)
            losses["consistency"] = _consistency(aligned, own.take(rows))
        losses |= {"telling": self._telling(told, batch), "spelling": self._spelling(went_in, batch)}
        losses["loss"] = (
            losses["telling"]
            + self.consistency_weight * losses["consistency"]
            + self.spelling_weight * losses["spelling"]
        )
        readers = {"emotion": self._emotion(went_in, batch), "pitch": self._pitch(went_in, source)}
        if self.training:  # how well adversaries read is no merit of a validation
            losses["loss"] = losses["loss"] + readers["emotion"] + readers["pitch"]
        return losses | readers

    def _encoded(self, speech: Analysed, random: torch.Generator | None) -> Codes:
        """Codes of speech, whose spectrograms are augmented where there is ``random``."""
        mel = speech.mel
        if random is not None:
            mel, _ = self.augmentation(mel, speech.frames, random)
        bounded, lengths = self.encoder.bounded(mel, speech.frames)
        return Codes(bounded, self.encoder.quantiser.round(bounded), lengths)

    def _telling(self, told: Codes, batch: EnrolmentBatch) -> Tensor:
        """How far what is read in codes is from what the content matcher hears in the calm speech."""
        read = self.content_reader(told.codes, told.lengths).transpose(1, 2)
        return content_consistency(read * mask_like(told.lengths, read), self.wanted(batch), told.lengths)

    def _places(self, source: Analysed, target: Analysed, batch: EnrolmentBatch, rows: Tensor) -> Tensor:
        """Where in the source each code of what comes out is said, of the rows of another recording, ``(F, N')``."""
        paths = []
        for row in rows.tolist():
            ids = [batch.speech.id[int(of[row])] for of in (batch.source, batch.target)]
            paths.append(alignment(*(self._sounds(x, row, id) for x, id in zip((source, target), ids, strict=True))))
        return pad_sequence(paths, batch_first=True).to(self.device)

    def _sounds(self, speech: Analysed, row: int, name: str) -> Tensor:
        mel = speech.mel[row, :, : speech.frames[row]]
        return sounds(mel.float().cpu(), self.said[name].float())

    def _spelling(self, spoken: Codes, batch: EnrolmentBatch) -> Tensor:
        """Mean over utterances whose texts are known of the loss a character; see :func:`spelling_loss`."""
        rows: dict[str, list[int]] = {}
        spelt: dict[str, list[list[int]]] = {}
        for row, source in enumerate(batch.source.tolist()):
            corpus, text = batch.speech.id[source].partition("/")[0], batch.speech.text[source]
            if corpus in self.spellers and text:
                alphabet = self.alphabets[corpus]
                rows.setdefault(corpus, []).append(row)
                spelt.setdefault(corpus, []).append([alphabet.index(c) for c in plain(text, alphabet)])
        total = spoken.codes.new_zeros(())
        for corpus, own in rows.items():
            lengths = spoken.lengths[own]
            logits = self.spellers[corpus](spoken.codes[own], lengths)
            total = total + len(own) * spelling_loss(logits, lengths, spelt[corpus])
        return total / max(sum(map(len, rows.values())), 1)

    def _emotion(self, spoken: Codes, batch: EnrolmentBatch) -> Tensor:
        """Cross-entropy of the adversary on emotion, over utterances whose emotion is known."""
        known = batch.emotional.nonzero().squeeze(1)
        if not len(known):
            return spoken.codes.new_zeros(())
        wanted = batch.speech.emotion[batch.source][known]
        read = self.emotion_reader(self._adversarial(spoken.codes[known], self.emotion_weight), spoken.lengths[known])
        return F.cross_entropy(read.masked_fill(self.other_corpus[wanted], -torch.inf), wanted)

    def _pitch(self, spoken: Codes, source: Analysed) -> Tensor:
        """Distance of the adversary on pitch in voiced frames, both less their mean over the utterance.

        So it doesn't matter by how much the augmentation has moved all of it.
        """
        read = self.pitch_reader(self._adversarial(spoken.codes, self.pitch_weight), spoken.lengths)
        size = min(source.voiced.shape[1], read.shape[1] * STRIDE)
        voiced = source.voiced[:, :size].float()
        count = voiced.sum(1, keepdim=True).clamp(min=1)
        curves = (read.flatten(1)[:, :size], source.log_pitch[:, :size])
        read, pitch = ((curve - (curve * voiced).sum(1, keepdim=True) / count) * voiced for curve in curves)
        return (read - pitch).abs().clamp(max=1.0).sum() / voiced.sum().clamp(min=1)

    def _adversarial(self, codes: Tensor, weight: float) -> Tensor:
        return reverse_gradient(codes, weight * min(1.0, self.batches_seen / max(self.ramp_steps, 1)))


def take_over_features(encoder: CodeEncoder, matcher: FrameEncoder, path: str) -> None:
    """Give an encoder of codes the weights of a content matcher from ``path``, but for its last layer.

    Raises:
        PseganError: its features are of another shape.
    """
    known = {name: value for name, value in matcher.state_dict().items() if not name.startswith("head.")}
    try:
        encoder.load_state_dict(encoder.state_dict() | known)
    except RuntimeError:
        raise PseganError(
            f"{path} has other features than model.init_args.encoder; give them the same width, hidden, depth and kernel_size"
        ) from None


def _consistency(aligned: Codes, calm: Codes) -> Tensor:
    """Squared distance of codes, before they are rounded, to those of the calm speech that says the same.

    Calm codes are what others come to, not the other way round.
    """
    return masked_mean(nearest_distance(aligned.bounded, calm.bounded.detach(), calm.lengths), calm.lengths)


def nearest_distance(codes: Tensor, wanted: Tensor, lengths: Tensor) -> Tensor:
    """Squared distance of codes to the nearest of three neighbours in time, a soft minimum, ``(B, N')``.

    Alignments are wrong by a code here and there.

    Args:
        codes, wanted: ``(B, dims, N')``.
        lengths: of them, ``(B,)``; what lies outside is no neighbour.
    """
    size, inside = wanted.shape[2], length_mask(lengths, wanted.shape[2])
    around, there = F.pad(wanted, (1, 1)), F.pad(inside, (1, 1))
    distances = [(codes - around[..., shift : shift + size]).square().mean(1) for shift in range(3)]
    distance = torch.stack(distances)
    neighbour = torch.stack([there[:, :size], torch.ones_like(inside), there[:, 2:]])
    weight = (distance * -SHARPNESS).masked_fill(~neighbour, -torch.inf).softmax(0)
    return (distance * weight).sum(0)
