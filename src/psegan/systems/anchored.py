"""Training of Anchored: codes that hold the words, and a decoder that says them in a calm voice."""

from collections.abc import Callable, Mapping, Sequence

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
from psegan.models.content import STRIDE, ContentEncoder, normalised_bands
from psegan.models.mel_discriminator import MelDiscriminator
from psegan.speech.batch import EnrolmentBatch, SpeechBatch
from psegan.speech.masking import length_mask, mask_like, masked_mean, strided_length
from psegan.systems.base import TrainingSpeech
from psegan.systems.one_cycle import OneCycleSystem, encoder_of, take_over
from psegan.systems.spelling import plain, spelling_loss
from psegan.weights import load_parts

SHARPNESS = 20.0
"""Of the soft minimum of three distances."""


class Anchored(OneCycleSystem):
    """Encoder and decoder, trained together; the corpus is a :class:`datamodules.enrolment.EnrolmentDataModule`.

    Speech comes out as calm speech of its speaker, by the profile that the batch has of them. Where somebody else or another
    emotion goes in, which say the same, the codes are aligned in time first. Those are to be the codes of the calm speech,
    so that voice and emotion are left out. Characters are to be readable in the codes (connectionist temporal
    classification). Emotion and pitch are not: the gradients of those who read them are turned round.

    What comes out is to be near the calm speech, frame by frame and to the content matcher's ear. That alone makes an average
    of all that might be said, so in the end a discriminator of log-mels has to take it for speech as well.

    Args:
        encoder, decoder: make the networks; their codes must have as many values.
        emotions: their names, as ``nemo/anger``; the command line fills them in from the corpus.
        alphabets: corpus → characters that its texts have, all others are left out; its texts are spelt.
        discriminator: makes that of log-mels.
        content_matcher: makes a network of the content matcher's shape.
        content_matcher_checkpoint: a :class:`~psegan.systems.CharacterRecogniser`, or the name or folder of shipped weights.
        delta_weight, content_weight, prosody_weight, consistency_weight, spelling_weight: of these losses, beside that of
            reconstruction.
        emotion_weight, pitch_weight: of the reversed gradients of those who read emotion and pitch.
        ramp_steps: in which the reversed gradients gain their weight.
        adversarial_weight, feature_weight: of being taken for speech, and of matching the discriminator's features.
        adversarial_after: batches without the discriminator.
        max_pitch: largest shift, in semitones, of all frequencies of what goes in.
        encoder_checkpoint: another training of Anchored, with whose encoder and decoder this one begins, or a content matcher,
            of which the encoder takes all but the layer that makes codes.
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
        content_matcher: Callable[[], ContentEncoder] = ContentEncoder,
        content_matcher_checkpoint: str | None = None,
        consistency_weight: float = 2.0,
        spelling_weight: float = 0.1,
        emotion_weight: float = 0.3,
        pitch_weight: float = 0.1,
        prosody_weight: float = 0.5,
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
        self.emotion_reader = UtteranceReader(dims, n_classes["emotion"])
        self.pitch_reader = FrameReader(dims, STRIDE, 64, 1)
        self.discriminator = discriminator()
        self.content_matcher = content_matcher().requires_grad_(False)
        self.content_matcher_checkpoint = content_matcher_checkpoint
        self.consistency_weight, self.spelling_weight = consistency_weight, spelling_weight
        self.emotion_weight, self.pitch_weight = emotion_weight, pitch_weight
        self.prosody_weight, self.delta_weight, self.content_weight = prosody_weight, delta_weight, content_weight
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
            if isinstance(trained := parts.get("encoder"), ContentEncoder):
                take_over_features(self.encoder, trained, path)
            elif isinstance(trained, CodeEncoder):
                take_over(self.encoder, trained, path, "encoder")
                take_over(self.decoder, parts["decoder"], path, "decoder")
            else:
                raise PseganError(
                    f"{path} is neither of Anchored nor a content matcher; name another encoder_checkpoint"
                )
        if (path := self.content_matcher_checkpoint) is not None:
            take_over(self.content_matcher, encoder_of(path, "characters", "content matcher"), path, "content_matcher")

    def check_ready(self) -> None:
        """Refuse to train with a content matcher that knows nothing."""
        if self.content_matcher_checkpoint is None:
            raise PseganError(
                "Anchored needs a trained content matcher: give model.init_args.content_matcher_checkpoint (content-matcher is "
                "released)"
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
        mel = source.mel
        if random is not None:
            mel, _ = self.augmentation(mel, source.frames, random)
        bounded, lengths = self.encoder.bounded(mel, source.frames)
        codes = self.encoder.quantiser.round(bounded)
        places, target_lengths = self._places(source, target, batch)
        aligned = _taken(codes, places, target_lengths)
        said = self.decoder.embed(aligned, target_lengths)
        retrieved = self.decoder.retrieve(said, profile, batch.group)
        prosody = target.prosody(medians[batch.group])
        made = self.decoder(said, retrieved, prosody, target.frames)
        error = made - target.relative
        delta = (error[..., 1:] - error[..., :-1]).abs()
        intoned = self.decoder.prosody(said, retrieved.features, target_lengths)[..., : prosody.shape[2]]
        losses = {
            "reconstruction": masked_mean(error.abs(), target.frames),
            "delta": masked_mean(delta, target.frames - 1),
            "prosody": _prosody_loss(intoned, prosody, target.frames),
            "content": self._content(made, target, batch),
            "consistency": self._consistency(bounded, places, target, batch),
            "spelling": self._spelling(codes, lengths, batch),
        }
        losses["loss"] = (
            losses["reconstruction"]
            + self.delta_weight * losses["delta"]
            + self.content_weight * losses["content"]
            + self.prosody_weight * losses["prosody"]
            + self.consistency_weight * losses["consistency"]
            + self.spelling_weight * losses["spelling"]
        )
        readers = {
            "emotion": self._emotion(codes, lengths, batch),
            "pitch": self._pitch(codes, lengths, source),
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

    def _content(self, made: Tensor, target: Analysed, batch: EnrolmentBatch) -> Tensor:
        """What the content matcher hears of another content in what was made ``(B, 80, N)``, log-mels less their level."""
        said = [self.said[batch.speech.id[row]].float().T for row in batch.target.tolist()]
        wanted = pad_sequence(said, batch_first=True).transpose(1, 2).to(self.device)
        mel = self.analysis.scaler(made + target.level[:, None, None]) * mask_like(target.frames, made)
        heard, lengths = self.content_matcher(mel, target.frames)
        return content_consistency(heard, wanted, lengths)

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

    def _places(self, source: Analysed, target: Analysed, batch: EnrolmentBatch) -> tuple[Tensor, Tensor]:
        """Where in the source each code of what comes out is said, ``(B, N')``, and the lengths of that."""
        lengths = strided_length(target.frames, STRIDE)
        places = torch.arange(int(lengths.max()), device=lengths.device).repeat(len(lengths), 1)
        for row in _foreign(batch).tolist():
            ids = [batch.speech.id[int(of[row])] for of in (batch.source, batch.target)]
            path = alignment(*(self._sounds(one, row, id) for one, id in zip((source, target), ids, strict=True)))
            places[row, : len(path)] = path
        return places, lengths

    def _sounds(self, speech: Analysed, row: int, name: str) -> Tensor:
        mel = speech.mel[row, :, : speech.frames[row]]
        return sounds(mel.float().cpu(), self.said[name].float())

    def _consistency(self, bounded: Tensor, places: Tensor, target: Analysed, batch: EnrolmentBatch) -> Tensor:
        """Squared distance of codes, before they are rounded, to those of the calm speech that says the same.

        Alignments are wrong by a code here and there, so the nearest of three neighbours in time counts.
        """
        rows = _foreign(batch)
        if not len(rows):
            return bounded.new_zeros(())
        calm = target.take(rows)
        with torch.no_grad():  # calm codes are what others come to, not the other way round
            wanted, lengths = self.encoder.bounded(calm.mel, calm.frames)
        moved = _taken(bounded[rows], places[rows, : wanted.shape[2]], lengths)
        return masked_mean(nearest_distance(moved, wanted, lengths), lengths)

    def _spelling(self, codes: Tensor, lengths: Tensor, batch: EnrolmentBatch) -> Tensor:
        """Mean over utterances whose texts are known of the loss a character; see :func:`spelling_loss`."""
        rows: dict[str, list[int]] = {}
        spelt: dict[str, list[list[int]]] = {}
        for row, source in enumerate(batch.source.tolist()):
            corpus, text = batch.speech.id[source].partition("/")[0], batch.speech.text[source]
            if corpus in self.spellers and text:
                alphabet = self.alphabets[corpus]
                rows.setdefault(corpus, []).append(row)
                spelt.setdefault(corpus, []).append([alphabet.index(c) for c in plain(text, alphabet)])
        total = codes.new_zeros(())
        for corpus, own in rows.items():
            logits = self.spellers[corpus](codes[own], lengths[own])
            total = total + len(own) * spelling_loss(logits, lengths[own], spelt[corpus])
        return total / max(sum(map(len, rows.values())), 1)

    def _emotion(self, codes: Tensor, lengths: Tensor, batch: EnrolmentBatch) -> Tensor:
        """Cross-entropy of the adversary on emotion, over utterances whose emotion is known."""
        known = batch.emotional.nonzero().squeeze(1)
        if not len(known):
            return codes.new_zeros(())
        wanted = batch.speech.emotion[batch.source][known]
        read = self.emotion_reader(self._adversarial(codes[known], self.emotion_weight), lengths[known])
        return F.cross_entropy(read.masked_fill(self.other_corpus[wanted], -torch.inf), wanted)

    def _pitch(self, codes: Tensor, lengths: Tensor, source: Analysed) -> Tensor:
        """Distance of the adversary on pitch in voiced frames, both less their mean over the utterance.

        So it doesn't matter by how much the augmentation has moved all of it.
        """
        read = self.pitch_reader(self._adversarial(codes, self.pitch_weight), lengths)
        size = min(source.voiced.shape[1], read.shape[1] * STRIDE)
        voiced = source.voiced[:, :size].float()
        count = voiced.sum(1, keepdim=True).clamp(min=1)
        curves = (read.flatten(1)[:, :size], source.log_pitch[:, :size])
        read, pitch = ((curve - (curve * voiced).sum(1, keepdim=True) / count) * voiced for curve in curves)
        return (read - pitch).abs().clamp(max=1.0).sum() / voiced.sum().clamp(min=1)

    def _adversarial(self, codes: Tensor, weight: float) -> Tensor:
        return reverse_gradient(codes, weight * min(1.0, self.batches_seen / max(self.ramp_steps, 1)))


def take_over_features(encoder: CodeEncoder, matcher: ContentEncoder, path: str) -> None:
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


def _foreign(batch: EnrolmentBatch) -> Tensor:
    """Rows whose target is another recording than what goes in."""
    return (batch.source != batch.target).nonzero().squeeze(1)


def _taken(codes: Tensor, places: Tensor, lengths: Tensor) -> Tensor:
    """Codes ``(B, dims, N')`` at other times, ``(B, n)``; zero after ``lengths (B,)``."""
    places = places.clamp(max=codes.shape[2] - 1)
    taken = codes.gather(2, places.unsqueeze(1).expand(-1, codes.shape[1], -1))
    return taken * mask_like(lengths, taken)


def _prosody_loss(intoned: Tensor, prosody: Tensor, frames: Tensor) -> Tensor:
    """Of predicted curves ``(B, PROSODY, N)`` to those of the target."""
    inside = length_mask(frames, prosody.shape[2]).float()
    voiced, pitch, energy = prosody.unbind(1)
    spoken = voiced * inside
    voicing = F.binary_cross_entropy_with_logits(intoned[:, 0], voiced, reduction="none")
    of_pitch = ((intoned[:, 1] - pitch).abs() * spoken).sum() / spoken.sum().clamp(min=1)
    return 0.3 * masked_mean(voicing, frames) + of_pitch + 0.3 * masked_mean((intoned[:, 2] - energy).abs(), frames)


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
