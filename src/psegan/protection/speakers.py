"""Whose voice each recording of ``psegan protect`` gets."""

import sys
from pathlib import Path

from psegan.common.errors import PseganError, printable
from psegan.protection.command import MEDIA, suffixes, unread
from psegan.protection.protector import Protector
from psegan.protection.voice import Voice

SELF = "self"
"""Stands for the voice of the recording itself."""
SELF_SECONDS = 20.0
"""Of speech, without pauses, that a recording must hold to be its own profile."""
SUFFIX = ".voice"


class Speakers:
    """Protectors that speak as whoever is in a recording.

    Args:
        protector: of the model.
        model: its name, for messages.
        voice: ``--voice``: a profile's file, a folder of profiles or of folders of calm recordings, ``self``, or None.
        keep_timing: ``--keep-timing``.

    Raises:
        PseganError: the model needs a voice and has none, has one and needs none, or there is no such profile.
    """

    def __init__(self, protector: Protector, model: str, voice: str | None, keep_timing: bool) -> None:
        self.protector, self.voice, self.keep_timing = protector, voice, keep_timing
        self._everybody: Protector | None = None
        self._known: dict[str, Protector | PseganError | None] = {}
        self._enrolled: set[Path] = set()
        if not protector.needs_voice:
            self._everybody = protector
            if voice is not None or keep_timing:
                option = "--keep-timing" if voice is None else "--voice"
                raise PseganError(f"{option}: {model} speaks with no voice profile; leave {option} out")
        elif voice is None:
            raise PseganError(
                f"{model} speaks with a voice profile: make one by psegan enrol CALM_RECORDINGS -o me.voice and give "
                "--voice me.voice, or give --voice self for recordings of 20 s of speech and more"
            )
        elif voice != SELF and not Path(voice).is_dir():
            self._everybody = self._speaking_as(Voice.load(voice))

    def protector_of(self, source: Path, place: Path) -> Protector:
        """The protector of one recording.

        Args:
            source: its file.
            place: its path below the output folder; folders in it name speakers.

        Raises:
            PseganError: it holds too little speech for a profile, or nobody's voice is known.
        """
        if self._everybody is not None:
            return self._everybody
        assert self.voice is not None
        if self.voice == SELF:
            return self._speaking_as(_own(source))
        folder = Path(self.voice)
        for name in (*reversed(place.parts[:-1]), source.resolve().parent.name):
            if name not in self._known:
                self._known[name] = self._named(folder, name)
            found = self._known[name]
            if isinstance(found, PseganError):
                raise found
            if found is not None:
                if source.resolve() in self._enrolled:
                    raise PseganError(
                        f"{source}: is one of the calm recordings in {folder}; name another folder of recordings to protect"
                    )
                return found
        named = ", ".join(sorted({p.stem for p in folder.iterdir() if p.is_dir() or p.suffix == SUFFIX})) or "none"
        raise PseganError(
            f"{source}: whose voice it is cannot be told; {folder} has voices of {named}: put it into a folder of that name"
        )

    def _named(self, folder: Path, name: str) -> Protector | PseganError | None:
        """One with the voice of somebody of that name in a folder of profiles or of folders of calm recordings, or why there is
        none of these recordings; None if there is nobody of that name.
        """
        if (file := folder / f"{name}{SUFFIX}").is_file():
            return self._speaking_as(Voice.load(file))
        if not (own := folder / name).is_dir():
            return None
        recordings = recordings_below(own)
        self._enrolled.update(path.resolve() for path in recordings)
        try:
            voice = Voice.enrol(recordings, name)
        except PseganError as error:
            return PseganError(f"{own}: {error}")
        say_concerns(str(own), voice)
        return self._speaking_as(voice)

    def _speaking_as(self, voice: Voice) -> Protector:
        return self.protector.speaking_as(voice, self.keep_timing)


def say_concerns(name: str, voice: Voice) -> None:
    """What makes a profile worse than it could be, each a line on stderr."""
    for concern in voice.concerns():
        print(printable(f"psegan: warning: {name}: {concern}"), file=sys.stderr)


def recordings_below(folder: Path) -> list[Path]:
    """All recordings in a folder at any depth, sorted; hidden ones are left out, as by ``psegan protect``.

    Raises:
        PseganError: one is of a kind that soundfile doesn't read.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            if path.suffix.lower() in MEDIA:
                raise PseganError(unread(path))
            if path.suffix.lower() in suffixes():
                found.append(path)
    return found


def _own(source: Path) -> Voice:
    """The voice of a recording itself."""
    remedy = f"--voice self needs {SELF_SECONDS:g} s of speech: make a profile of calm recordings with psegan enrol"
    try:
        voice = Voice.enrol([source])
    except PseganError as error:
        raise PseganError(f"{source}: {error}; {remedy}" if str(source) not in str(error) else str(error)) from None
    if voice.seconds < SELF_SECONDS:
        raise PseganError(f"{source}: has only {voice.seconds:.0f} s of speech; {remedy}")
    say_concerns(str(source), voice)
    return voice
