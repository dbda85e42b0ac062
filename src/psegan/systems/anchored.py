"""Training of Anchored: codes that hold the words, and a decoder that says them in a calm voice."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.models.adversary import FrameReader, UtteranceReader, reverse_gradient
from psegan.models.analysis import Analysed, Analysis
from psegan.models.anchored import CodeEncoder, Profile, ProfileDecoder
from psegan.models.augmentation import SpectrogramAugmentation
from psegan.models.content import STRIDE, normalised_bands
from psegan.speech.audio import N_MELS
from psegan.speech.batch import EnrolmentBatch, SpeechBatch
from psegan.speech.masking import length_mask, mask_like, masked_mean, strided_length
from psegan.systems.base import TrainingSpeech
from psegan.systems.one_cycle import OneCycleSystem
from psegan.systems.spelling import plain, spelling_loss

SHARPNESS = 20.0
"""Of the soft minimum of three distances."""


class Anchored(OneCycleSystem):
    """Encoder and decoder, trained together; the corpus is a :class:`datamodules.enrolment.EnrolmentDataModule`.

    Speech comes out as calm speech of its speaker, by the profile that the batch has of them. Where somebody else or another
    emotion goes in, which say the same, the codes are aligned in time first. Those are to be the codes of the calm speech,
    so that voice and emotion are left out. Characters are to be readable in the codes (connectionist temporal
    classification). Emotion and pitch are not: the gradients of those who read them are turned round.

    Args:
        encoder, decoder: make the networks; their codes must have as many values.
        emotions: their names, as ``nemo/anger``; the command line fills them in from the corpus.
        alphabets: corpus → characters that its texts have, all others are left out; its texts are spelt.
        delta_weight, prosody_weight, consistency_weight, spelling_weight: of these losses, beside that of reconstruction.
        emotion_weight, pitch_weight: of the reversed gradients of those who read emotion and pitch.
        ramp_steps: in which the reversed gradients gain their weight.
        max_pitch: largest shift, in semitones, of all frequencies of what goes in.
        encoder_checkpoint, learning_rate, weight_decay: see :class:`~psegan.systems.one_cycle.OneCycleSystem`; the decoder
            begins anew.
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
        consistency_weight: float = 2.0,
        spelling_weight: float = 0.1,
        emotion_weight: float = 0.3,
        pitch_weight: float = 0.1,
        prosody_weight: float = 0.5,
        delta_weight: float = 0.5,
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
        self.consistency_weight, self.spelling_weight = consistency_weight, spelling_weight
        self.emotion_weight, self.pitch_weight = emotion_weight, pitch_weight
        self.prosody_weight, self.delta_weight, self.ramp_steps = prosody_weight, delta_weight, ramp_steps
        corpora = [name.partition("/")[0] for name in emotions] or [""] * n_classes["emotion"]
        # emotions of another corpus are no answer: telling the corpora apart is not what the adversary is for
        other = torch.tensor([[a != b for b in corpora] for a in corpora])
        self.register_buffer("other_corpus", other, persistent=False)
        self.analysis = Analysis()
        self.augmentation = SpectrogramAugmentation(max_pitch=max_pitch, n_masks=0)

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder}

    def check_speech(self, data: TrainingSpeech) -> None:
        """Refuse a corpus without enrolment speech, and one that must be aligned where librosa is missing."""
        if not hasattr(data, "parallel"):
            raise PseganError("Anchored needs enrolment speech; give it a datamodules.EnrolmentDataModule")
        if data.parallel:
            alignment(torch.zeros(N_MELS, STRIDE), torch.zeros(N_MELS, STRIDE))

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
        heard = self.analysis(batch.speech.waveform, batch.speech.length)
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
            "consistency": self._consistency(bounded, places, target, batch),
            "spelling": self._spelling(codes, lengths, batch),
        }
        losses["loss"] = (
            losses["reconstruction"]
            + self.delta_weight * losses["delta"]
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
        return losses | readers

    def enrol(self, heard: Analysed, batch: EnrolmentBatch) -> tuple[Profile, Tensor]:
        """Profiles of the batch's G speakers, and their median log pitch ``(G,)``.

        Each recording is encoded by itself, as what goes in is, and their codes are put one after the other.
        """
        rows = (batch.enrolled >= 0).nonzero().squeeze(1)
        enrolled, of = heard.take(rows), batch.enrolled[rows]
        codes, _ = self.encoder(enrolled.mel, enrolled.frames)
        whole = torch.div(enrolled.frames, STRIDE, rounding_mode="floor").tolist()  # codes of whole pairs of frames
        joined, curves, medians = [], [], []
        for speaker in range(int(batch.group.max()) + 1):
            own = (of == speaker).nonzero().squeeze(1)
            speech = enrolled.take(own)
            median = speech.median_pitch()
            frames = torch.cat([speech.relative, speech.prosody(median.expand(len(own)))], 1)
            joined.append(torch.cat([codes[row, :, : whole[row]] for row in own.tolist()], 1).T)
            ends = [STRIDE * whole[row] for row in own.tolist()]
            curves.append(torch.cat([x[:, :end] for x, end in zip(frames, ends, strict=True)], 1).T)
            medians.append(median)
        lengths = torch.tensor([len(x) for x in joined], device=self.device)
        together, frames = (pad_sequence(x, batch_first=True).transpose(1, 2) for x in (joined, curves))
        return self.decoder.enrol(together, frames, lengths), torch.stack(medians)

    def _places(self, source: Analysed, target: Analysed, batch: EnrolmentBatch) -> tuple[Tensor, Tensor]:
        """Where in the source each code of what comes out is said, ``(B, N')``, and the lengths of that."""
        lengths = strided_length(target.frames, STRIDE)
        places = torch.arange(int(lengths.max()), device=lengths.device).repeat(len(lengths), 1)
        for row in _foreign(batch).tolist():
            path = alignment(source.mel[row, :, : source.frames[row]], target.mel[row, :, : target.frames[row]])
            places[row, : len(path)] = path
        return places, lengths

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
        source, target: scaled log-mels ``(80, N)`` of recordings that say the same.

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

    curves = [_normalised(mel)[:, ::STRIDE].numpy() for mel in (source, target)]
    _, path = librosa.sequence.dtw(*curves, metric="euclidean")
    places = np.zeros(curves[1].shape[1], dtype=np.int64)
    for i, j in path[::-1]:
        places[j] = i
    return torch.from_numpy(places)


def _normalised(mel: Tensor) -> Tensor:
    mel = mel.detach().float().cpu()
    return normalised_bands(mel[None], torch.tensor([mel.shape[1]]))[0]
