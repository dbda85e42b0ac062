"""What judges say of a corpus's recordings, kept beside them: each recording is heard once by each judge.

``judged/NAME.jsonl`` in a corpus's folder holds a header with the judge's description, and a line for every recording: its
id, the hash of its content and what the judge says. A judge of another description begins a new file.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from psegan.common.errors import PseganError
from psegan.common.instantiate import find_class
from psegan.common.lines import Lines
from psegan.common.processes import unordered
from psegan.evaluation.corpora import protector_of
from psegan.evaluation.judges import Judge, make_judge
from psegan.speech.audio import read_audio

Specs = Mapping[str, Mapping[str, Any]]
"""Name → specification of a judge; see :func:`psegan.evaluation.judges.make_judge`."""
FOLDER = "judged"


class Recording(NamedTuple):
    """A recording of a corpus: id, file, and the hash of its content that the corpus's manifest states."""

    id: str
    path: Path
    sha256: str


class Verdicts:
    """The file of one judge in a corpus's folder (:class:`psegan.common.lines.Lines`).

    Raises:
        PseganError: it is damaged.
    """

    def __init__(self, corpus: Path, name: str, judge: Judge) -> None:
        self._lines = Lines(corpus / FOLDER / f"{name}.jsonl", {"psegan": "judged", **judge.describe()})
        self._found: dict[tuple[str, str], Any] = {}
        header, *lines = self._lines.found or [b""]
        if header.decode("utf-8", "replace") != self._lines.header:
            self._lines.forget()
            return
        try:
            for line in lines:
                entry = json.loads(line)
                self._found[entry["id"], entry["sha256"]] = entry["says"]
        except (ValueError, TypeError, KeyError):
            raise PseganError(f"{self._lines.path}: is damaged; remove it, and run the same command again") from None

    def holds(self, recording: Recording) -> bool:
        """Whether the judge has heard the recording."""
        return (recording.id, recording.sha256) in self._found

    def of(self, recording: Recording) -> Any:
        """What it says of the recording."""
        return self._found[recording.id, recording.sha256]

    def begin(self) -> None:
        """Open for notes."""
        self._lines.path.parent.mkdir(exist_ok=True)
        self._lines.begin()

    def note(self, recording: Recording, says: Any) -> None:
        """Note what the judge says of a recording."""
        self._found[recording.id, recording.sha256] = says
        self._lines.add({"id": recording.id, "sha256": recording.sha256, "says": says})


def independent(judges: Mapping[str, Judge], corpus: Path, language: str | None) -> dict[str, Judge]:
    """Those who can be asked about a corpus's speech: they know the language, and its protector has not learnt from them."""
    paths = protector_of(corpus).get("learnt_from", ())
    party = tuple(find_class(Judge, path, f"learnt_from of the protector of {corpus}") for path in paths)  # type: ignore[type-abstract]
    return {name: judge for name, judge in judges.items() if judge.knows(language) and not isinstance(judge, party)}


def judge_recordings(
    corpus: Path,
    recordings: Sequence[Recording],
    judges: Mapping[str, Judge],
    specs: Specs,
    language: str | None,
    workers: int,
) -> dict[str, list[Any]]:
    """What judges say of recordings of one corpus's folder.

    Args:
        corpus: the folder, in which results are kept.
        recordings: which.
        judges, specs: name → judge, and how worker processes make it.
        language: that is spoken.
        workers: processes at most.

    Returns:
        Name of a judge → what it says of each recording, in their order.

    Raises:
        PseganError: a recording is missing or unreadable, a judge cannot be loaded, or a file of results is damaged.
    """
    verdicts = {name: Verdicts(corpus, name, judge) for name, judge in judges.items()}
    waiting = [
        (recording, tuple(lacking))
        for recording in recordings
        if (lacking := [name for name, found in verdicts.items() if not found.holds(recording)])
    ]
    if waiting:
        asked = {name: specs[name] for name in judges if any(name in lacking for _, lacking in waiting)}
        for name in asked:
            verdicts[name].begin()
        done = unordered(_judge, waiting, workers, _take, (asked, language))
        label = f"judging: {corpus.name}"
        for recording, says in tqdm(done, total=len(waiting), desc=label, unit="utterance", leave=False):
            for name, one in says.items():
                verdicts[name].note(recording, one)
    return {name: [found.of(recording) for recording in recordings] for name, found in verdicts.items()}


_judges: dict[str, Judge]
_language: str | None
"""Of this worker process."""


def _take(specs: Specs, language: str | None) -> None:
    global _judges, _language
    _judges, _language = {name: make_judge(name, spec) for name, spec in specs.items()}, language


def _judge(waiting: tuple[Recording, tuple[str, ...]]) -> tuple[Recording, dict[str, Any]]:
    recording, names = waiting
    waveform = read_audio(recording.path)
    says = {}
    for name in names:
        try:
            says[name] = _judges[name].judge(waveform, _language)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise RuntimeError(f"{recording.path}: cannot be judged by {name} ({reason})") from error
    return recording, says
