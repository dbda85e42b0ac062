"""Voice profiles: calm speech of one person, analysed once, that protected speech of that person is made from.

A profile is one file: safetensors with a JSON description in its header, no code. It holds enough of a voice to speak with
it, so it is biometric data: it is written for its owner alone, and nothing here sends it anywhere.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from psegan.common.errors import PseganError
from psegan.common.files import atomic_path, not_a_file
from psegan.models.analysis import Analysed, Analysis
from psegan.models.level import DECIBEL
from psegan.protection.command import CLIPPED
from psegan.protection.segments import segments
from psegan.speech.audio import HOP, N_MELS, SAMPLE_RATE, UnitScaler, at_full_scale, read_audio
from psegan.speech.edges import trimmed
from psegan.speech.masking import mask_like

VERSION = 1
"""Of the file's layout and of the analysis; profiles of other versions are refused."""
LEAST_SECONDS, WANTED_SECONDS, MOST_SECONDS = 5.0, 20.0, 300.0
"""Speech without pauses: below the first there is no profile, below the second sounds may be missing from it, and beyond the
third none is kept."""
PAUSE_DB = 40.0
"""Frames that are this far below a recording's loudest one are pauses, which don't count as speech."""
PITCHED_DB = 30.0
"""Nor do frames that are this far below it count for its pitch, which noise has as well."""
LEAST_SNR_DB = 20.0
"""Speech above the noise between words; less is heard in everything that is made from the profile."""
WIDEST_PITCH, WIDEST_BETWEEN = 12.0, 2.0
"""Semitones from the 10th to the 90th percentile of the pitch, and the standard deviation of segments' median pitch. Of the
neutral and calm speech of eight of RAVDESS's actors 95 % is below 10.1 and 1.7; in anger half is above 15.1 and 4.9."""
TENSORS = ("mel", "energy", "log_pitch", "lengths")


@dataclass(frozen=True, eq=False)
class Voice:
    """Frames of one person's calm speech, segments of recordings one after the other, each less its level.

    Args:
        mel: log-mel less the level, in nepers, ``(80, N)``.
        energy: log energy against the level, in nepers, ``(N,)``.
        log_pitch: natural logarithm of the pitch in Hz, ``(N,)``; 0 where nothing is voiced.
        lengths: frames of each segment, ``(R,)`` int64, N together.
        level: mean of the segments', as :func:`psegan.models.analysis.active_level` has it.
        name: whose voice it is.
        enrolled: the day, as 2026-11-28.
        measured: what was measured: ``speech_seconds`` (without pauses), ``snr_db`` (of the noisiest recording),
            ``pitch_semitones`` (10th to 90th percentile), ``pitch_between_segments`` (standard deviation of medians,
            semitones), ``clipped`` (share of samples).
    """

    mel: Tensor
    energy: Tensor
    log_pitch: Tensor
    lengths: Tensor
    level: float
    name: str = ""
    enrolled: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of speech, without pauses."""
        return self.measured.get("speech_seconds", 0.0)

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of its frames, as they are stored."""
        digest = hashlib.sha256(np.float64(self.level).tobytes())
        for tensor in self._stored().values():
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def _stored(self) -> dict[str, Tensor]:
        tensors = {name: getattr(self, name) for name in TENSORS}
        return {name: (one.half() if one.is_floating_point() else one).contiguous() for name, one in tensors.items()}

    @classmethod
    def enrol(cls, recordings: Iterable[str | os.PathLike[str] | Tensor], name: str = "") -> Self:
        """Make a profile of calm recordings of one person, of their first :data:`MOST_SECONDS` of speech.

        Recordings are analysed in segments, as what is protected is (:mod:`psegan.protection.segments`).

        Args:
            recordings: files in any format that soundfile reads, or waveforms ``(T,)`` at 16 kHz in [-1, 1].
            name: whose voice it is.

        Raises:
            PseganError: a recording cannot be read, or there are less than :data:`LEAST_SECONDS` of speech.
        """
        analysis = Analysis()
        made: list[_Recording] = []
        given, left = 0, round(MOST_SECONDS * SAMPLE_RATE)
        for recording in recordings:  # one at a time, for there may be hours of them
            given += 1
            waveform = recording if isinstance(recording, Tensor) else read_audio(recording)
            if left > 0 and (one := _analyse(waveform[:left], analysis)) is not None:
                made.append(one)
                left -= int(one.speech.sum()) * HOP
        if not given:
            raise PseganError("a voice profile needs recordings; name some of calm speech")
        measured = _measured(made)
        if (seconds := measured["speech_seconds"]) < LEAST_SECONDS:
            raise PseganError(
                f"only {seconds:.1f} s of speech; a voice profile needs {LEAST_SECONDS:g} s, better {WANTED_SECONDS:g} s or "
                "more: add recordings of calm speech"
            )
        frames = [segment for one in made for segment in one.spoken]
        return cls(
            torch.cat([one.relative[0] for one in frames], 1),
            torch.cat([one.energy[0] for one in frames]),
            torch.cat([one.log_pitch[0] for one in frames]),
            torch.cat([one.frames for one in frames]),
            float(np.mean([float(one.level) for one in frames])),
            name,
            date.today().isoformat(),
            measured,
        )

    def analysed(self) -> Analysed:
        """The segments, one by one, as they were analysed."""
        parts = self.lengths.tolist()
        frames = torch.cat([self.mel, self.energy[None], self.log_pitch[None]])
        padded = pad_sequence([one.T for one in frames.split(parts, 1)], batch_first=True).transpose(1, 2)
        relative, energy, log_pitch = padded[:, :N_MELS], padded[:, N_MELS], padded[:, N_MELS + 1]
        level = relative.new_full((len(parts),), self.level)
        mel = UnitScaler()(relative + self.level) * mask_like(self.lengths, relative)
        return Analysed(mel, self.lengths, relative, level, energy, log_pitch > 0, log_pitch)

    def concerns(self) -> list[str]:
        """What makes a profile worse than it could be, a sentence each, with what was measured."""
        found, measured = [], self.measured
        if self.seconds < WANTED_SECONDS:
            found.append(
                f"{self.seconds:.0f} s of speech are little, and sounds may be missing; enrol {WANTED_SECONDS:g} s or more"
            )
        if (snr := measured.get("snr_db", np.inf)) < LEAST_SNR_DB:
            found.append(f"the noise is only {snr:.0f} dB below the speech and will be heard; record in a quieter room")
        if (share := measured.get("clipped", 0.0)) > CLIPPED:
            found.append(f"clipped ({share:.1%} of its samples); record at a lower level")
        span, between = measured.get("pitch_semitones", 0.0), measured.get("pitch_between_segments", 0.0)
        if span > WIDEST_PITCH or between > WIDEST_BETWEEN:
            found.append(
                f"the pitch moves over {span:.0f} semitones and its median by {between:.1f} between sentences, as in "
                "emotional speech, which would be heard in all that is protected; enrol calm speech of one person"
            )
        return found

    def save(self, path: str | os.PathLike[str], replace: bool = False) -> None:
        """Write the profile, readable for its owner alone, all or nothing.

        Raises:
            PseganError: the file is there already and may not be replaced.
            OSError: it cannot be written.
        """
        about = {
            "version": VERSION,
            "name": self.name,
            "enrolled": self.enrolled,
            "level": self.level,
            "measured": dict(self.measured),
        }
        try:
            with atomic_path(path, replace) as temporary:
                temporary.chmod(0o600)  # before there is anything to read
                temporary.write_bytes(save(self._stored(), {"psegan voice": json.dumps(about, ensure_ascii=False)}))
        except FileExistsError:
            raise PseganError(f"{path}: exists already; choose another name, or allow it to be replaced") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a profile.

        Raises:
            PseganError: the file is missing, is no voice profile, is damaged, or is of another version.
        """
        path, remedy = Path(path), "make one with psegan enrol"
        if problem := not_a_file(path):
            raise PseganError(f"{path}: {problem}; {remedy}")
        try:
            # safe_open takes a file that may not be read for one that is missing
            with path.open("rb"), safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["psegan voice"])
                if (version := about["version"]) != VERSION:
                    raise PseganError(
                        f"{path}: is a voice profile of version {version}, but {VERSION} is needed; {remedy} again"
                    )
                mel, energy, log_pitch, lengths = (file.get_tensor(name) for name in TENSORS)
                measured = {str(name): float(value) for name, value in about["measured"].items()}
                stated = float(about["level"]), str(about["name"]), str(about["enrolled"]), measured
        except OSError as error:
            raise PseganError(f"{path}: cannot be read ({error.strerror}); it is its owner's alone") from None
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError):
            raise PseganError(f"{path}: is no voice profile, or is damaged; {remedy}") from None
        made = cls(mel.float(), energy.float(), log_pitch.float(), lengths, *stated)
        if not made._sound():
            raise PseganError(f"{path}: is damaged; {remedy} again")
        return made

    def _sound(self) -> bool:
        """Whether shapes fit one another and all numbers are finite."""
        frames = self.energy.shape[-1] if self.energy.dim() == 1 else -1
        shapes = self.mel.shape == (N_MELS, frames) and self.log_pitch.shape == (frames,) and self.lengths.dim() == 1
        fits = shapes and frames > 0 and int(self.lengths.sum()) == frames and bool((self.lengths > 0).all())
        return fits and all(bool(torch.isfinite(one).all()) for one in (self.mel, self.energy, self.log_pitch))


class _Recording(NamedTuple):
    """A recording: its segments in which something is said, log energy of all of its frames ``(N,)``, which of those are
    speech ``(N,)``, and the share of its samples at full scale.
    """

    spoken: list[Analysed]
    energy: Tensor
    speech: Tensor
    clipped: float


def _analyse(waveform: Tensor, analysis: Analysis) -> _Recording | None:
    """None where nothing is to be heard."""
    if not waveform.any():
        return None
    whole = [analysis(one[None], torch.tensor([len(one)])) for one in segments([trimmed(waveform)])]
    energies = [one.energy[0] + one.level for one in whole]
    least = max(float(energy.max()) for energy in energies) - PAUSE_DB * DECIBEL
    spoken = [one for one, energy in zip(whole, energies, strict=True) if energy.max() > least]
    energy = torch.cat(energies)
    return _Recording(spoken, energy, energy > least, at_full_scale(waveform[:, None]) / len(waveform))


def _measured(recordings: Sequence[_Recording]) -> dict[str, float]:
    """See :class:`Voice`."""
    measured = {
        "speech_seconds": sum(int(one.speech.sum()) for one in recordings) * HOP / SAMPLE_RATE,
        "clipped": float(np.mean([one.clipped for one in recordings] or [0.0])),
    }
    if recordings:  # what the quietest twentieth of a recording's frames hold is taken for noise
        levels = [
            (one.energy[one.speech].exp().square().mean().log() / 2, one.energy.quantile(0.05)) for one in recordings
        ]
        measured["snr_db"] = min(float(level - noise) for level, noise in levels) / DECIBEL
    pitches = []
    for one in (segment for recording in recordings for segment in recording.spoken):
        loud = one.voiced & (one.energy > one.energy.max() - PITCHED_DB * DECIBEL)
        pitches.append(12 * one.log_pitch[loud].numpy() / np.log(2))
    if pitches := [one for one in pitches if len(one)]:
        low, high = np.percentile(np.concatenate(pitches), [10, 90])
        measured["pitch_semitones"] = float(high - low)
        measured["pitch_between_segments"] = float(np.std([np.median(one) for one in pitches]))
    return {name: round(value, 4) for name, value in measured.items()}
