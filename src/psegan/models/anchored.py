"""Anchored's networks: what is let through of a recording, and the speaker's calm voice that says it.

Speech is cut down to codes, a few coarse values 31 times a second. Everything after that is made from the codes, their timing
included, and from recordings of the speaker's calm speech (the profile). So whatever an attacker reads in the output was in
the codes, which can be attacked themselves.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from psegan.models.analysis import Analysed
from psegan.models.content import STRIDE, FrameEncoder
from psegan.models.convnext import ConvNeXtStack, TimeConv
from psegan.models.harmonics import Harmonics
from psegan.models.quantiser import ScalarQuantiser
from psegan.speech.audio import N_MELS
from psegan.speech.masking import mask_like, masked_statistics

PROSODY = 3
"""Curves beside a profile's log-mel: voiced or not, log pitch against the speaker's median, log energy against the level."""

SHARPEST = math.log(100.0)
"""Of the attention's logits, as CLIP has it (Radford et al., ICML 2021)."""


class CodeEncoder(FrameEncoder):
    """Speech → codes: a :class:`~psegan.models.content.FrameEncoder` that ends in a few coarse values.

    Every value is normalised by its mean and deviation over the utterance before it is rounded (as in AdaIN-VC, Chou and Lee,
    Interspeech 2019): what is the same all the time is a voice or a mood, and no words.

    Args:
        dims: values of a code.
        levels: that a value can have, see :class:`~psegan.models.quantiser.ScalarQuantiser`.
        width, hidden, depth, kernel_size, dropout, lookahead: see :class:`~psegan.models.content.FrameEncoder`.
    """

    def __init__(
        self,
        dims: int = 12,
        levels: int = 5,
        width: int = 192,
        hidden: int = 576,
        depth: int = 6,
        kernel_size: int = 11,
        dropout: float = 0.05,
        lookahead: int | None = None,
    ) -> None:
        super().__init__(width, hidden, depth, kernel_size, dropout, lookahead)
        self.dims, self.levels = dims, levels
        self.project, self.quantiser = nn.Linear(width, dims), ScalarQuantiser(levels)

    @property
    def bits(self) -> float:
        """That a code carries at most."""
        return self.dims * self.quantiser.bits

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled log-mel ``(B, 80, N)``, zero in padding, and frames ``(B,)`` → codes ``(B, dims, N')`` and their lengths.

        N' is N / 2, rounded up; codes are in [-1, 1], and zero in padding.
        """
        bounded, lengths = self.bounded(mel, lengths)
        return self.quantiser.round(bounded), lengths

    def bounded(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As the class itself, before codes are rounded."""
        features, lengths = self.features(mel, lengths)
        values = self.project(features.transpose(1, 2)).transpose(1, 2)
        mean, deviation = masked_statistics(values, lengths)
        bounded = self.quantiser.bound((values - mean.unsqueeze(-1)) / deviation.unsqueeze(-1))
        return bounded * mask_like(lengths, bounded), lengths


class Profile(NamedTuple):
    """What a decoder keeps of G speakers' calm speech, K frames of 32 ms each.

    Attributes:
        keys: ``(G, width, K)``, by which frames are found: what is said in them and around them.
        values: ``(G, width, K)``, how they sound.
        frames: ``(G, 160, K)``, log-mels as they are, two frames of 16 ms each.
        mask: ``(G, 1, K)``, 0 in padding.
        pitch: the speakers' median log pitch, ``(G,)``.
    """

    keys: Tensor
    values: Tensor
    frames: Tensor
    mask: Tensor
    pitch: Tensor


class Retrieved(NamedTuple):
    """What profiles have for each of N' codes.

    Attributes:
        features: ``(B, width, N')``.
        mel: log-mels ``(B, 80, 2 N')``.
        pitch: the speakers' median log pitch, ``(B,)``.
    """

    features: Tensor
    mel: Tensor
    pitch: Tensor


class ProfileDecoder(nn.Module):
    """Codes and a profile → calm speech of the profile's speaker.

    Every code looks for profile frames in which the same is said (attention over all of them; the keys are made from codes as
    well). Their log-mels are averaged, which gives the voice, and a network mends what such an average lacks. The intonation
    is predicted from codes and profile: of the recording's pitch, level and voice nothing is there to be used, but its timing
    is. What is voiced, and how loud it is, the network says by itself; curves that say so as well, predicted apart, cost words.

    Spectrograms are log-mels less their recording's level, in nepers.

    Args:
        dims: values of a code.
        width: channels.
        hidden: channels inside the blocks.
        heads: of the attention.
        depth: blocks at 31 frames a second, before as many blocks and one at 62.
        lookahead: of every convolution but those over the profile, see :class:`~psegan.models.convnext.TimeConv`.
    """

    def __init__(
        self,
        dims: int = 12,
        width: int = 256,
        hidden: int = 768,
        heads: int = 4,
        depth: int = 3,
        lookahead: int | None = None,
    ) -> None:
        super().__init__()
        self.dims, self.width, self.hidden, self.heads = dims, width, hidden, heads
        self.depth, self.lookahead = depth, lookahead
        self.of_codes = TimeConv(dims, width, 5, lookahead=lookahead)
        self.saying = ConvNeXtStack(width, hidden // 2, 7, 1, lookahead=lookahead)
        self.of_profile = TimeConv(STRIDE * (N_MELS + PROSODY), width, 3)
        self.sounding = ConvNeXtStack(width, hidden // 2, 5, 1)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.sharpness = nn.Parameter(torch.tensor(math.log(8.0)))
        self.head_weight = nn.Parameter(torch.zeros(heads))
        self.found, self.speaker = nn.Linear(width, width), nn.Linear(width, width)
        self.mix = nn.Conv1d(2 * width, width, 1)
        self.coarse = ConvNeXtStack(width, hidden, 7, depth, lookahead=lookahead)
        self.harmonics = Harmonics()
        self.of_pitch = TimeConv(N_MELS + 1, width, 5, lookahead=lookahead)
        self.of_average = TimeConv(N_MELS, width, 3, lookahead=lookahead)
        self.fine = ConvNeXtStack(width, hidden, 7, depth + 1, lookahead=lookahead)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, N_MELS)
        self.kept = nn.Parameter(torch.full((N_MELS, 1), 0.5))
        self.intonation = IntonationPredictor(width, lookahead)

    def embed(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """What is said around each of the codes ``(B, dims, N')`` of ``(B,)`` lengths, ``(B, width, N')``."""
        mask = mask_like(lengths, codes)
        return self.saying(self.of_codes(codes) * mask, mask)

    def enrol(self, codes: Tensor, frames: Tensor, lengths: Tensor, pitch: Tensor) -> Profile:
        """A profile of calm speech.

        Args:
            codes: of the speech, ``(G, dims, K)``.
            frames: the same speech, ``(G, 80 + PROSODY, 2 K)``: log-mels and their prosody.
            lengths: of the codes, ``(G,)``.
            pitch: median log pitch, ``(G,)``.
        """
        pairs = frames.unflatten(2, (-1, STRIDE)).transpose(2, 3).flatten(1, 2)  # (G, 2 · 83, K)
        mask = mask_like(lengths, codes)
        values = self.sounding(self.of_profile(pairs) * mask, mask)
        return Profile(self.embed(codes, lengths), values, pairs[:, : STRIDE * N_MELS], mask, pitch)

    def retrieve(self, said: Tensor, profile: Profile, group: Tensor) -> Retrieved:
        """What the profiles have for :meth:`embed`'s ``(B, width, N')``; utterance b speaks as profile ``group[b]``."""
        query, key = self._heads(self.query, said), self._heads(self.key, profile.keys)
        value = self._heads(self.value, profile.values)[group]
        there = profile.mask[group].unsqueeze(1) > 0
        # in half precision the average is wrong by some hundredths
        with torch.autocast(said.device.type, enabled=False):
            query, key = F.normalize(query.float(), dim=-1), F.normalize(key.float(), dim=-1)
            likeness = query @ key[group].transpose(-1, -2) * self.sharpness.clamp(max=SHARPEST).exp()
            weight = likeness.masked_fill(~there, -torch.inf).softmax(-1)  # (B, heads, N', K)
            average = torch.einsum("h,bhnk->bnk", self.head_weight.softmax(0), weight)
            mel = average @ profile.frames[group].float().transpose(1, 2)  # (B, N', 160)
        found = self.found((weight.to(value.dtype) @ value).transpose(1, 2).flatten(2))
        speaker = self.speaker(profile.values.sum(2) / profile.mask.sum(2))[group]
        mel = mel.unflatten(2, (N_MELS, STRIDE)).transpose(1, 2).flatten(2)
        return Retrieved((found + speaker.unsqueeze(1)).transpose(1, 2), mel, profile.pitch[group])

    def intone(self, said: Tensor, retrieved: Retrieved, lengths: Tensor) -> Tensor:
        """Log pitch ``(B, 1, 2 N')``, predicted, of :meth:`embed`'s ``(B, width, N')`` of ``(B,)`` lengths."""
        return self.intonation(said, retrieved.features, lengths) + retrieved.pitch[:, None, None]

    def forward(self, said: Tensor, retrieved: Retrieved, pitch: Tensor, frames: Tensor) -> Tensor:
        """Speech.

        Args:
            said: :meth:`embed`'s ``(B, width, N')``.
            retrieved: for it.
            pitch: as :meth:`intone` predicts it, ``(B, 1, N)``, N up to 2 N'.
            frames: lengths ``(B,)`` of that.

        Returns:
            Log-mel less the level ``(B, 80, N)``, zero in padding.
        """
        size, mask = pitch.shape[2], mask_like(frames, pitch)
        narrow = mask[..., ::STRIDE]
        x = self.mix(torch.cat([said, retrieved.features], 1)) * narrow
        x = self.coarse(x, narrow).repeat_interleave(STRIDE, 2)[..., :size]
        mel = retrieved.mel[..., :size] * mask
        drawn = torch.cat([pitch - retrieved.pitch[:, None, None], self.harmonics(pitch)], 1) * mask
        x = self.fine((x + self.of_pitch(drawn) + self.of_average(mel)) * mask, mask)
        mended = self.output(self.norm(x.transpose(1, 2))).transpose(1, 2)
        return (mended.float() + self.kept * mel) * mask

    def _heads(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """``(B, width, N)`` → ``(B, heads, N, width / heads)``."""
        return linear(x.transpose(1, 2)).unflatten(2, (self.heads, -1)).transpose(1, 2)


def enrolled(decoder: ProfileDecoder, speech: Analysed, codes: Tensor, of: Tensor) -> Profile:
    """Profiles of G speakers.

    Args:
        decoder: that speaks with them.
        speech: recordings of calm speech.
        codes: of each recording by itself, as of what goes in, ``(B, dims, N')``; they are put one after the other.
        of: whose each is, ``(B,)``, from 0 to G - 1.
    """
    whole = torch.div(speech.frames, STRIDE, rounding_mode="floor").tolist()  # codes of whole pairs of frames
    joined, curves, medians = [], [], []
    for speaker in range(int(of.max()) + 1):
        rows = (of == speaker).nonzero().squeeze(1)
        own = speech.take(rows)
        median = own.median_pitch()
        frames = torch.cat([own.relative, own.prosody(median.expand(len(rows)))], 1)
        joined.append(torch.cat([codes[row, :, : whole[row]] for row in rows.tolist()], 1).T)
        ends = [STRIDE * whole[row] for row in rows.tolist()]
        curves.append(torch.cat([x[:, :end] for x, end in zip(frames, ends, strict=True)], 1).T)
        medians.append(median)
    lengths = torch.tensor([len(x) for x in joined], device=codes.device)
    together, frames = (pad_sequence(x, batch_first=True).transpose(1, 2) for x in (joined, curves))
    return decoder.enrol(together, frames, lengths, torch.stack(medians))


class IntonationPredictor(nn.Module):
    """What calm speech is intoned like. Its gradient stays within it, so that codes are not made for it.

    Args:
        width: of what it is given.
        lookahead: see :class:`~psegan.models.convnext.TimeConv`.
    """

    def __init__(self, width: int, lookahead: int | None = None) -> None:
        super().__init__()
        self.input = nn.Conv1d(2 * width, width // 2, 1)
        self.stack = ConvNeXtStack(width // 2, width, 11, 3, lookahead=lookahead)
        self.output = nn.Linear(width // 2, STRIDE)

    def forward(self, said: Tensor, found: Tensor, lengths: Tensor) -> Tensor:
        """``said`` and ``found (B, width, N')`` of ``(B,)`` lengths → ``(B, 1, 2 N')``."""
        x = torch.cat([said, found], 1).detach()
        mask = mask_like(lengths, x)
        x = self.stack(self.input(x) * mask, mask)
        return self.output(x.transpose(1, 2)).float().flatten(1).unsqueeze(1)
