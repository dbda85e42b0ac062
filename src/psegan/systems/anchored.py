"""Training of Anchored: codes that hold the words, and a decoder that says them in a calm voice."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.losses import be_taken_for_real, content_consistency, feature_matching, hinge_fake, hinge_real
from psegan.models.adversary import FrameReader, UtteranceReader, reverse_gradient
from psegan.models.analysis import Analysed, Analysis
from psegan.models.anchored import CodeEncoder, Profile, ProfileDecoder, enrolled
from psegan.models.augmentation import SpectrogramAugmentation
from psegan.models.content import STRIDE, ContentEncoder, FeatureEncoder, FrameEncoder, normalised_bands
from psegan.models.mel_discriminator import MelDiscriminator
from psegan.speech.batch import EnrolmentBatch, SpeechBatch
from psegan.speech.masking import length_mask, mask_like, masked_mean
from psegan.systems.base import TrainingSpeech
from psegan.systems.one_cycle import OneCycleSystem, encoder_of, take_over
from psegan.systems.spelling import plain, spelling_loss
from psegan.weights import load_parts

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


class Anchored(OneCycleSystem):
    """Encoder and decoder, trained together; the corpus is a :class:`datamodules.enrolment.EnrolmentDataModule`.

    The decoder learns to say calm speech from its own codes, by the profile that the batch has of its speaker. Where another
    recording says the same, in another emotion or by somebody else, its codes have to be those of the calm one, aligned in
    time, so that voice and emotion are left out. What the content matcher hears of the calm speech is to be readable in the
    codes, and so are its characters (connectionist temporal classification). Emotion and pitch are not: the gradients of
    those who read them are turned round.

    What comes out is to be near the calm speech, frame by frame and to the content matcher's ear. That alone makes an average
    of all that might be said, so in the end a discriminator of log-mels has to take it for speech as well.

    Args:
        encoder, decoder: make the networks; their codes must have as many values.
        emotions: their names, as ``nemo/anger``; the command line fills them in from the corpus.
        alphabets: corpus → characters that its texts have, all others are left out; its texts are spelt.
        discriminator: makes that of log-mels.
        content_matcher: makes a network of the content matcher's shape.
        content_matcher_checkpoint: a :class:`~psegan.systems.ContentDistillation`, or the name or folder of shipped weights.
            Who taught it cannot judge what comes out.
        delta_weight, content_weight, intonation_weight, consistency_weight, telling_weight, spelling_weight: of these losses,
            beside that of reconstruction; of telling what the content matcher hears, and of spelling.
        aligned_share: of utterances with another recording, how often the decoder says the codes of that one. It has to bear
            how they differ; but alignments are a little wrong, and what is learnt from them alone is blurred.
        emotion_weight, pitch_weight: of the reversed gradients of those who read emotion and pitch.
        ramp_steps: in which the reversed gradients gain their weight.
        adversarial_weight, feature_weight: of being taken for speech, and of matching the discriminator's features.
        adversarial_after: batches without the discriminator.
        max_pitch: largest shift, in semitones, of all frequencies of what goes in.
        encoder_checkpoint: another training of Anchored, with whose encoder and decoder this one begins, or a content matcher
            of the encoder's shape, of which the encoder takes the features.
        learning_rate, weight_decay: see there.
        n_classes, seed: see :class:`~psegan.systems.base.System`.
    """

    encoder: CodeEncoder
    other_corpus: Tensor

    def __init__(
        self,
        n_classes: dict[str, int],
        emotions: Sequence[str] = (),
        encoder: Callable[[], CodeEncoder] = CodeEncoder,
        decoder: Callable[[], ProfileDecoder] = ProfileDecoder,
        alphabets: dict[str, str] | None = None,
        discriminator: Callable[[], MelDiscriminator] = MelDiscriminator,
        content_matcher: Callable[[], FeatureEncoder] = FeatureEncoder,
        content_matcher_checkpoint: str | None = None,
        consistency_weight: float = 10.0,
        telling_weight: float = 2.0,
        spelling_weight: float = 0.3,
        aligned_share: float = 0.25,
        emotion_weight: float = 0.5,
        pitch_weight: float = 0.1,
        intonation_weight: float = 1.0,
        delta_weight: float = 0.5,
        content_weight: float = 5.0,
        adversarial_weight: float = 0.1,
        feature_weight: float = 1.0,
        adversarial_after: int = 0,
        ramp_steps: int = 400,
        max_pitch: float = 3.0,
        encoder_checkpoint: str | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        super().__init__(n_classes, learning_rate, weight_decay, encoder_checkpoint, seed)
        self.encoder, self.decoder = encoder(), decoder()
        dims = self.encoder.dims
        if self.decoder.dims != dims:
            raise PseganError(
                f"codes have {dims} values, but the decoder takes {self.decoder.dims}; give encoder and decoder the same dims"
            )
        self.alphabets: Mapping[str, str] = alphabets or {}
        self.spellers = nn.ModuleDict({name: FrameReader(dims, len(a) + 1) for name, a in self.alphabets.items()})
        self.content_matcher = content_matcher().requires_grad_(False)
        self.content_reader = FrameReader(dims, self.content_matcher.outputs, 192)
        self.emotion_reader = UtteranceReader(dims, n_classes["emotion"])
        self.pitch_reader = FrameReader(dims, STRIDE, 64, 1)
        self.discriminator = discriminator()
        self.content_matcher_checkpoint = content_matcher_checkpoint
        self.consistency_weight, self.telling_weight = consistency_weight, telling_weight
        self.spelling_weight, self.aligned_share = spelling_weight, aligned_share
        self.emotion_weight, self.pitch_weight = emotion_weight, pitch_weight
        self.intonation_weight, self.delta_weight, self.content_weight = intonation_weight, delta_weight, content_weight
        self.adversarial_weight, self.feature_weight = adversarial_weight, feature_weight
        self.adversarial_after, self.ramp_steps = adversarial_after, ramp_steps
        corpora = [name.partition("/")[0] for name in emotions] or [""] * n_classes["emotion"]
        # emotions of another corpus are no answer: telling the corpora apart is not what the adversary is for
        other = torch.tensor([[a != b for b in corpora] for a in corpora])
        self.register_buffer("other_corpus", other, persistent=False)
        self.analysis = Analysis()
        self.analysed: dict[str, Analysed] = {}
        self.said: dict[str, Tensor] = {}
        self.augmentation = SpectrogramAugmentation(max_pitch=max_pitch, n_masks=0)

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder}

    def setup(self, stage: str) -> None:
        if stage != "fit" or self.begun:
            return
        if (path := self.encoder_checkpoint) is not None:
            parts, _ = load_parts(path)
            self._taught_by(path)
            if isinstance(trained := parts.get("encoder"), ContentEncoder | FeatureEncoder):
                take_over_features(self.encoder, trained, path)
            elif isinstance(trained, CodeEncoder):
                take_over(self.encoder, trained, path, "encoder")
                take_over(self.decoder, parts["decoder"], path, "decoder")
            else:
                raise PseganError(
                    f"{path} is neither of Anchored nor a content matcher; name another encoder_checkpoint"
                )
        if (path := self.content_matcher_checkpoint) is not None:
            matcher = encoder_of(path, "content", "content matcher that a recogniser taught")
            take_over(self.content_matcher, matcher, path, "content_matcher")
            self._taught_by(path)

    def _taught_by(self, path: str) -> None:
        """Whoever taught a network that this one learns from has taught this one."""
        _, about = load_parts(path)
        self.learnt_from = tuple(dict.fromkeys([*self.learnt_from, *about.get("learnt_from", ())]))

    def check_ready(self) -> None:
        """Refuse to train with a content matcher that knows nothing."""
        if self.content_matcher_checkpoint is None:
            raise PseganError(
                "Anchored needs a content matcher that a recogniser taught: train experiments/content_distillation.yaml, and "
                "give its checkpoint as model.init_args.content_matcher_checkpoint"
            )

    def check_speech(self, data: TrainingSpeech) -> None:
        """Refuse a corpus without enrolment speech, and one that must be aligned where librosa is missing."""
        if not hasattr(data, "parallel"):
            raise PseganError("Anchored needs enrolment speech; give it a datamodules.EnrolmentDataModule")
        if data.parallel:
            alignment(torch.zeros(1, 1), torch.zeros(1, 1))

    def training_step(self, batch: EnrolmentBatch, batch_idx: int) -> Tensor:
        losses = self._losses(batch, seeded(*self.occasion))
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=len(batch))
        return losses["loss"]

    def validation_step(self, batch: EnrolmentBatch, batch_idx: int) -> None:
        losses = self._losses(batch, None)
        logged = {f"{self.stage}/{name}": value for name, value in losses.items()}
        self.log_dict(logged, batch_size=len(batch), sync_dist=True)

    test_step = validation_step

    def predict_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Refuse: it speaks with a voice profile alone."""
        raise PseganError("psegan predict has no voice profiles, and Anchored needs one of each speaker")

    def _losses(self, batch: EnrolmentBatch, random: torch.Generator | None) -> dict[str, Tensor]:
        """Names of losses and their values; ``loss`` is their weighted sum. Without ``random`` nothing is augmented."""
        heard = self._heard(batch.speech)
        source, target = heard.take(batch.source), heard.take(batch.target)
        profile, medians = self.enrol(heard, batch)
        own = self._encoded(target, random)
        went_in = told = decoded = own
        consistency = own.bounded.new_zeros(())
        if len(rows := (batch.source != batch.target).nonzero().squeeze(1)):  # whose target is another recording
            others = self._encoded(source.take(rows), random)
            aligned = others.at(self._places(source, target, batch, rows), own.lengths[rows])
            went_in, told = own.replaced(rows, others), own.replaced(rows, aligned)
            consistency = _consistency(aligned, own.take(rows))
            if random is not None:
                some = torch.rand(len(rows), generator=random) < self.aligned_share
                decoded = own.replaced(rows[some], aligned.take(some))
        said = self.decoder.embed(decoded.codes, own.lengths)
        retrieved = self.decoder.retrieve(said, profile, batch.group)
        pitch = target.intonation(medians[batch.group])
        made = self.decoder(said, retrieved, pitch, target.frames)
        error = made - target.relative
        delta = (error[..., 1:] - error[..., :-1]).abs()
        intoned = self.decoder.intone(said, retrieved, own.lengths)[..., : pitch.shape[2]]
        losses = {
            "reconstruction": masked_mean(error.abs(), target.frames),
            "delta": masked_mean(delta, target.frames - 1),
            "intonation": masked_mean((intoned - pitch).abs(), target.frames),
            "content": self._content(made, target, batch),
            "consistency": consistency,
            "telling": self._telling(told, batch),
            "spelling": self._spelling(went_in, batch),
        }
        losses["loss"] = (
            losses["reconstruction"]
            + self.delta_weight * losses["delta"]
            + self.content_weight * losses["content"]
            + self.intonation_weight * losses["intonation"]
            + self.consistency_weight * losses["consistency"]
            + self.telling_weight * losses["telling"]
            + self.spelling_weight * losses["spelling"]
        )
        readers = {
            "emotion": self._emotion(went_in, batch),
            "pitch": self._pitch(went_in, source),
        }
        if random is not None:  # how well adversaries read is no merit of a validation
            losses["loss"] = losses["loss"] + readers["emotion"] + readers["pitch"]
            if self.adversarial_weight and self.batches_seen >= self.adversarial_after:
                judged = self._judged(made, target, random)
                losses["loss"] = (
                    losses["loss"]
                    + self.adversarial_weight * judged["adversarial"]
                    + self.feature_weight * judged["features"]
                    + judged["discriminator"]
                )
                readers |= judged
        return losses | readers

    def _heard(self, speech: SpeechBatch) -> Analysed:
        """The analysis of a batch. Each recording is analysed once, by itself, and kept in half precision on the CPU.

        Pitch and what the content matcher hears would be a third of each step.
        """
        for row, name in enumerate(speech.id):
            if name not in self.analysed:
                length = speech.length[row : row + 1]
                alone = self.analysis(speech.waveform[row : row + 1, : int(length)], length)
                with torch.no_grad():
                    said, _ = self.content_matcher(alone.mel, alone.frames)
                self.said[name] = said[0].half().cpu()
                self.analysed[name] = Analysed(*(v.half() if v.is_floating_point() else v for v in alone)).to("cpu")
        return Analysed.together([self.analysed[name] for name in speech.id]).to(self.device)

    def _encoded(self, speech: Analysed, random: torch.Generator | None) -> "Codes":
        """Codes of speech, whose spectrograms are augmented where there is ``random``."""
        mel = speech.mel
        if random is not None:
            mel, _ = self.augmentation(mel, speech.frames, random)
        bounded, lengths = self.encoder.bounded(mel, speech.frames)
        return Codes(bounded, self.encoder.quantiser.round(bounded), lengths)

    def _content(self, made: Tensor, target: Analysed, batch: EnrolmentBatch) -> Tensor:
        """What the content matcher hears of another content in what was made ``(B, 80, N)``, log-mels less their level."""
        mel = self.analysis.scaler(made + target.level[:, None, None]) * mask_like(target.frames, made)
        heard, lengths = self.content_matcher(mel, target.frames)
        return content_consistency(heard, self._wanted(batch), lengths)

    def _telling(self, told: "Codes", batch: EnrolmentBatch) -> Tensor:
        """How far what is read in codes is from what the content matcher hears in the calm speech."""
        read = self.content_reader(told.codes, told.lengths).transpose(1, 2)
        return content_consistency(read * mask_like(told.lengths, read), self._wanted(batch), told.lengths)

    def _wanted(self, batch: EnrolmentBatch) -> Tensor:
        """What the content matcher hears of the targets, ``(B, C, N')``, zero in padding."""
        said = [self.said[batch.speech.id[row]].float().T for row in batch.target.tolist()]
        return pad_sequence(said, batch_first=True).transpose(1, 2).to(self.device)

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
        """Of all parts but the content matcher, which is frozen."""
        super().train(mode)
        self.content_matcher.eval()
        return self

    def enrol(self, heard: Analysed, batch: EnrolmentBatch) -> tuple[Profile, Tensor]:
        """See :func:`psegan.models.anchored.enrolled`; of the batch's speakers."""
        rows = (batch.enrolled >= 0).nonzero().squeeze(1)
        return enrolled(self.encoder, self.decoder, heard.take(rows), batch.enrolled[rows])

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

    def _spelling(self, spoken: "Codes", batch: EnrolmentBatch) -> Tensor:
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

    def _emotion(self, spoken: "Codes", batch: EnrolmentBatch) -> Tensor:
        """Cross-entropy of the adversary on emotion, over utterances whose emotion is known."""
        known = batch.emotional.nonzero().squeeze(1)
        if not len(known):
            return spoken.codes.new_zeros(())
        wanted = batch.speech.emotion[batch.source][known]
        read = self.emotion_reader(self._adversarial(spoken.codes[known], self.emotion_weight), spoken.lengths[known])
        return F.cross_entropy(read.masked_fill(self.other_corpus[wanted], -torch.inf), wanted)

    def _pitch(self, spoken: "Codes", source: Analysed) -> Tensor:
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


def _consistency(aligned: "Codes", calm: "Codes") -> Tensor:
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


def alignment(source: Tensor, target: Tensor) -> Tensor:
    """Where in the source each code of the target is said, by dynamic time warping, ``(N',)``.

    Args:
        source, target: what is said in recordings of the same words, ``(C, N')``.

    Raises:
        PseganError: librosa is missing.
    """
    try:
        import librosa
    except ImportError:
        raise PseganError(
            "aligning recordings of one sentence needs librosa; pip install 'psegan[judges]', or set data.init_args.parallel "
            "to 0"
        ) from None

    _, path = librosa.sequence.dtw(source.numpy(), target.numpy(), metric="euclidean")
    places = np.zeros(target.shape[1], dtype=np.int64)
    for i, j in path[::-1]:
        places[j] = i
    return torch.from_numpy(places)


def sounds(mel: Tensor, said: Tensor) -> Tensor:
    """What recordings are aligned by: spectrum and what the content matcher hears, either of length 1, ``(80 + C, N')``.

    Args:
        mel: scaled log-mel ``(80, N)``.
        said: the content matcher's features ``(C, N')``; what all frames have in common is no sound.
    """
    bands = normalised_bands(mel[None], torch.tensor([mel.shape[1]]))[0, :, ::STRIDE]
    return torch.cat([F.normalize(x, dim=0) for x in (bands, said - said.mean(1, keepdim=True))])
