"""Voice profiles: calm speech of one person, analysed once, that protected speech of that person is made from.

A profile is one file: safetensors with a JSON description in its header, no code. It holds enough of a voice to speak with
it, so it is biometric data: it is written for its owner alone, and nothing here sends it anywhere.
"""

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
from psegan.speech.audio import HOP, N_MELS, SAMPLE_RATE, UnitScaler, at_full_scale, read_audio
from psegan.speech.edges import trimmed
from psegan.speech.masking import mask_like

VERSION = 1
"""Of the file's layout and of the analysis; profiles of other versions are refused."""
LEAST_SECONDS, WANTED_SECONDS = 5.0, 20.0
"""Speech without pauses: below the first there is no profile, below the second sounds may be missing from it."""
PAUSE_DB = 40.0
"""Frames that are this far below a recording's loudest one are pauses, which don't count as speech."""
PITCHED_DB = 30.0
"""Nor do frames that are this far below it count for its pitch, which noise has as well."""
LEAST_SNR_DB = 20.0
"""Speech above the noise between words; less is heard in everything that is made from the profile."""
WIDEST_PITCH, WIDEST_BETWEEN = 12.0, 2.0
"""Semitones from the 10th to the 90th percentile of the pitch, and the standard deviation of recordings' median pitch. Of the
neutral and calm speech of eight of RAVDESS's actors 95 % is below 10.1 and 1.7; in anger half is above 15.1 and 4.9."""
TENSORS = ("mel", "energy", "log_pitch", "lengths")


@dataclass(frozen=True, eq=False)
class Voice:
    """Frames of one person's calm speech, the recordings one after the other, each less its level.

    Args:
        mel: log-mel less the level, in nepers, ``(80, N)``.
        energy: log energy against the level, in nepers, ``(N,)``.
        log_pitch: natural logarithm of the pitch in Hz, ``(N,)``; 0 where nothing is voiced.
        lengths: frames of each recording, ``(R,)`` int64, N together.
        level: mean of the recordings', as :func:`psegan.models.analysis.active_level` has it.
        name: whose voice it is.
        enrolled: the day, as 2026-11-28.
        measured: what was measured: ``speech_seconds`` (without pauses), ``snr_db`` (of the noisiest recording),
            ``pitch_semitones`` (10th to 90th percentile), ``pitch_between_recordings`` (standard deviation of medians,
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

    @classmethod
    def enrol(cls, recordings: Iterable[str | os.PathLike[str] | Tensor], name: str = "") -> Self:
        """Make a profile of calm recordings of one person.

        Args:
            recordings: files in any format that soundfile reads, or waveforms ``(T,)`` at 16 kHz in [-1, 1].
            name: whose voice it is.

        Raises:
            PseganError: a recording cannot be read, or there are less than :data:`LEAST_SECONDS` of speech.
        """
        analysis = Analysis()
        made = [_analyse(one if isinstance(one, Tensor) else read_audio(one), analysis) for one in recordings]
        spoken = [one for one in made if one is not None]
        if not made:
            raise PseganError("a voice profile needs recordings; name some of calm speech")
        measured = _measured(spoken)
        if (seconds := measured["speech_seconds"]) < LEAST_SECONDS:
            raise PseganError(
                f"only {seconds:.1f} s of speech; a voice profile needs {LEAST_SECONDS:g} s, better {WANTED_SECONDS:g} s or "
                "more: add recordings of calm speech"
            )
        frames = [one.found for one in spoken]
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
        """The recordings, one by one, as they were analysed."""
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
        span, between = measured.get("pitch_semitones", 0.0), measured.get("pitch_between_recordings", 0.0)
        if span > WIDEST_PITCH or between > WIDEST_BETWEEN:
            found.append(
                f"the pitch moves over {span:.0f} semitones and its median by {between:.1f} between recordings, as in "
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
        tensors = {name: getattr(self, name) for name in TENSORS}
        tensors = {name: (one.half() if one.is_floating_point() else one).contiguous() for name, one in tensors.items()}
        try:
            with atomic_path(path, replace) as temporary:
                temporary.chmod(0o600)  # before there is anything to read
                temporary.write_bytes(save(tensors, {"psegan voice": json.dumps(about, ensure_ascii=False)}))
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
    """A recording's frames, which of them are speech ``(N,)``, and the share of its samples at full scale."""

    found: Analysed
    speech: Tensor
    clipped: float


def _analyse(waveform: Tensor, analysis: Analysis) -> _Recording | None:
    """None where nothing is to be heard."""
    if not waveform.any():
        return None
    kept = trimmed(waveform)
    found = analysis(kept[None], torch.tensor([len(kept)]))
    speech = found.energy[0] > found.energy[0].max() - PAUSE_DB * DECIBEL
    return _Recording(found, speech, at_full_scale(waveform[:, None]) / len(waveform))


def _measured(recordings: Sequence[_Recording]) -> dict[str, float]:
    """See :class:`Voice`."""
    measured = {
        "speech_seconds": sum(int(one.speech.sum()) for one in recordings) * HOP / SAMPLE_RATE,
        "clipped": float(np.mean([one.clipped for one in recordings] or [0.0])),
    }
    if recordings:  # what the quietest twentieth of a recording's frames hold is taken for noise
        measured["snr_db"] = -max(float(one.found.energy[0].quantile(0.05)) for one in recordings) / DECIBEL
    pitches = []
    for one in recordings:
        energy = one.found.energy
        loud = one.found.voiced & (energy > energy.max() - PITCHED_DB * DECIBEL)
        pitches.append(12 * one.found.log_pitch[loud].numpy() / np.log(2))
    if pitches := [one for one in pitches if len(one)]:
        low, high = np.percentile(np.concatenate(pitches), [10, 90])
        measured["pitch_semitones"] = float(high - low)
        measured["pitch_between_recordings"] = float(np.std([np.median(one) for one in pitches]))
    return {name: round(value, 4) for name, value in measured.items()}
