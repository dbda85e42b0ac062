"""Protected corpora: a protector turns a corpus into a corpus of the same layout and names.

The folder holds one FLAC file an utterance, ``manifest.csv`` with its labels, written last, and ``journal.jsonl``, which
says what the folder is made from and which utterances are done: a run that was killed goes on from there.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from tqdm import tqdm

from datamodules.base import CorpusDataModule, Utterance
from datamodules.manifest import read_manifest, write_manifest
from psegan.common.errors import PseganError
from psegan.common.files import file_hash, read_yaml
from psegan.common.instantiate import current_path, instantiate
from psegan.common.lines import Lines
from psegan.common.processes import unordered
from psegan.common.random import of_utterance, stable_hash
from psegan.common.record import difference
from psegan.evaluation.arrays import write_arrays
from psegan.evaluation.enrolment import Enroller
from psegan.evaluation.specification import Enrolment
from psegan.protection.controls import load_protector
from psegan.protection.transform import Transform
from psegan.speech.audio import write_audio
from psegan.speech.batch import ATTRIBUTES

Part = tuple[str, Utterance]
"""``train``, ``validation`` or ``test``, and an utterance of it."""
JOURNAL = "journal.jsonl"
ENROLMENT = "enrolment"
"""Key of the journal that says which recordings voice profiles are made of."""


def protect_corpus(
    data: CorpusDataModule,
    parts: Sequence[Part],
    spec: dict[str, Any] | str,
    folder: str | Path,
    seed: int = 0,
    workers: int = 1,
    label: str = "protecting",
    enrolment: Enrolment | None = None,
) -> Path:
    """Protect utterances of a corpus; what a folder already holds of them is not made again.

    Draws are from ``seeded(seed, "protect", id)`` and sums are of one thread, so the recordings depend on nothing but
    source, protector and seed, and the recordings of the profile where there is one.

    Args:
        data: the corpus.
        parts: its utterances, each with the subset that the manifest puts it in; see :func:`parts_of`.
        spec: the protector, as for :func:`psegan.protection.controls.load_protector`.
        folder: gets ``<id>.flac`` (16 kHz, 16 bit), ``manifest.csv`` and ``journal.jsonl``, and ``<id>.passed.npz`` of a
            protector that cuts; other utterances of the corpus that it holds already, by the same protector and seed, stay.
        seed: of all that the protector draws.
        workers: processes, at most; a short job is done in this one.
        label: of the progress bar.
        enrolment: of speakers, for a protector that needs voice profiles; by default of the corpus's neutral recordings.

    Returns:
        Path of the manifest: columns path, id, emotion, speaker, gender, content, text where it is known, split, target,
        protector, weights, seed and sha256 of the recording (its first 16 digits), with names of classes.

    Raises:
        PseganError: the folder holds something else or was made from something else, or a recording is broken.
    """
    if workers < 1:
        raise PseganError(f"the number of workers is {workers}, but must be at least 1")
    protector = load_protector(spec)
    enroller = Enroller(data, enrolment or Enrolment()) if protector.needs_voice else None
    profiles = {} if enroller is None else {ENROLMENT: enroller.describe()}
    journal = Journal(Path(folder), {"protector": protector.describe(), "seed": seed, **profiles})
    manifest = journal.folder / "manifest.csv"
    sources = _sources(data, parts, enroller)
    waiting = [utterance for _, utterance in parts if not journal.holds(utterance.id, sources[utterance.id])]
    if waiting:
        journal.begin()
        task = _Task(spec, protector.describe(), data.loader(), journal.folder, seed, enroller)
        done = unordered(_protect_here, waiting, workers, _take, (task,))
        with tqdm(total=len(parts), initial=len(parts) - len(waiting), desc=label, unit="utterance") as bar:
            for id, target in done:
                journal.note(id, target, sources[id])
                bar.update()
    before = read_manifest(manifest) if manifest.is_file() else []
    rows = {row["id"]: row for row in before}
    rows |= {u.id: _row(data, subset, u, protector, journal, seed) for subset, u in parts}
    if list(rows.values()) != before:
        write_manifest(manifest, rows.values())
    return manifest


def parts_of(data: CorpusDataModule, subsets: Iterable[str]) -> list[Part]:
    """Whole subsets of a corpus's split, such as ``train`` and ``test``, in the order of subsets and ids."""
    return [(subset, utterance) for subset in subsets for utterance in data.split_utterances(subset)]


def arguments_at(root: str, manifest: Any) -> dict[str, str]:
    """The arguments of a corpus that lies in the folder ``root``: its manifest there, if it has one, and else the folder."""
    return {"manifest": str(Path(root) / Path(manifest).name)} if isinstance(manifest, str) else {"root": root}


def load_corpus(
    config: str | Path, root: str | None = None, init_args: dict[str, Any] | None = None
) -> CorpusDataModule:
    """The corpus that a YAML file names under ``data``, with other arguments where they are given.

    Args:
        config: the file.
        root: folder of the corpus; of one with a manifest, the manifest of the same name there.
        init_args: laid over the file's.

    Raises:
        PseganError: the file names no corpus, or with arguments that it does not take.
    """
    spec = read_yaml(config).get("data")
    if not isinstance(spec, dict):
        raise PseganError(f"{config}: names no corpus under 'data', as experiments/corpora/ravdess.yaml does")
    own = spec.get("init_args") or {}
    if not isinstance(own, dict):
        raise PseganError(f"{config}: data.init_args is {own!r}, but must be a mapping")
    arguments = own | (init_args or {})
    if root is not None:
        arguments |= arguments_at(root, arguments.get("manifest"))
    spec = {**spec, "init_args": arguments}
    return instantiate(CorpusDataModule, spec, str(config))  # type: ignore[type-abstract]


def protector_of(folder: str | Path) -> dict[str, Any]:
    """The description of the protector that a folder is made by, as its journal has it."""
    described: dict[str, Any] = _header(folder)["protector"]
    return described


def speaks_with_profiles(folder: str | Path) -> bool:
    """Whether a folder is made by a protector that speaks with voice profiles, as its journal has it."""
    return ENROLMENT in _header(folder)


def _header(folder: str | Path) -> dict[str, Any]:
    with (Path(folder) / JOURNAL).open(encoding="utf-8") as file:
        header: dict[str, Any] = json.loads(file.readline())
    return header


class Journal:
    """``journal.jsonl``: a header that says what a folder is made from, then a line for every finished utterance.

    An utterance whose line a kill has torn is made again (:class:`psegan.common.lines.Lines`).

    Raises:
        PseganError: the folder holds files of something else, or was made from other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.path = folder, folder / JOURNAL
        self.targets: dict[str, int | None] = {}
        self._sources: dict[str, str] = {}
        if not self.path.is_file() and folder.is_dir() and any(folder.iterdir()):
            raise PseganError(f"{folder}: holds files that are no protected corpus; choose another folder")
        self._lines = Lines(self.path, {"psegan": "protected corpus", **settings})
        if not self._lines.found:
            return
        try:
            found, *entries = (json.loads(line, object_hook=_current) for line in self._lines.found)
            self.targets = {entry["id"]: entry["target"] for entry in entries}
            self._sources = {entry["id"]: entry["source"] for entry in entries}
        except (ValueError, TypeError, KeyError):
            raise PseganError(f"{self.path}: is damaged; remove {folder}, or choose another folder") from None
        if changed := difference(found, json.loads(self._lines.header)):
            raise PseganError(f"{folder} was made with other settings ({changed}); remove it, or choose another folder")

    def holds(self, id: str, source: str) -> bool:
        """Whether an utterance is done and its file there.

        Raises:
            PseganError: it was made from another recording than the one that has the hash ``source``.
        """
        if self._sources.get(id, source) != source:
            raise PseganError(
                f"{self.folder}: {id} was made from another recording of that name; remove the folder, or choose another"
            )
        return id in self.targets and audio_path(self.folder, id).is_file()

    def begin(self) -> None:
        """Open for notes."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PseganError(f"{self.folder}: cannot be made ({error.strerror}); choose another folder") from None
        self._lines.begin()

    def note(self, id: str, target: int | None, source: str) -> None:
        """Note that an utterance is done, and the hash of the recording that it was made from."""
        self.targets[id] = target
        self._lines.add({"id": id, "target": target, "source": source})


class _Task(NamedTuple):
    spec: dict[str, Any] | str
    described: dict[str, Any]
    load: Callable[[Utterance], Tensor]
    folder: Path
    seed: int
    enroller: Enroller | None


def _current(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "class_path": current_path(entry["class_path"])} if "class_path" in entry else entry


def audio_path(folder: Path, id: str) -> Path:
    """Where a protected corpus keeps an utterance."""
    return folder / f"{id}.flac"


def passed_path(folder: Path, id: str) -> Path:
    """Where a protected corpus keeps what was let through of an utterance."""
    return folder / f"{id}.passed.npz"


def _protect(task: _Task, protector: Transform, utterance: Utterance) -> tuple[str, int | None]:
    """Id and target of the utterance, when its file is there."""
    where, path = str(utterance.path or utterance.id), audio_path(task.folder, utterance.id)
    try:
        waveform = task.load(utterance)
        if task.enroller is not None:
            protector = task.enroller.speaking_as(protector, utterance)
        protected, target, passed = protector.transform(waveform, of_utterance(task.seed, utterance.id))
        if passed is not None:  # before the recording, which says that all is there
            write_arrays(passed_path(task.folder, utterance.id), {"passed": passed.numpy()})
        write_audio(path, protected)
    except PseganError as error:
        raise error if where in str(error) else PseganError(f"{where}: {error}") from None
    except OSError as error:
        raise PseganError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
    except Exception as error:
        raise RuntimeError(f"{where}: cannot be protected ({type(error).__name__}: {error})") from error
    return utterance.id, target


_task: _Task
_protector: Transform
_changed: str
"""Of this worker process: its work, and how its protector differs from the parent's."""


def _take(task: _Task) -> None:
    global _task, _protector, _changed
    _task, _protector = task, load_protector(task.spec)
    _changed = difference(task.described, _protector.describe())


def _protect_here(utterance: Utterance) -> tuple[str, int | None]:
    if _changed:  # by a training that goes on, for example; said here, since a pool only breaks if its beginning fails
        raise PseganError(
            f"the protector changed while it was loaded ({_changed}); run again when its training has ended"
        )
    return _protect(_task, _protector, utterance)


def _sources(data: CorpusDataModule, parts: Sequence[Part], enroller: Enroller | None) -> dict[str, str]:
    """Id → hash of the recording and of those of its profile; of a corpus without files, made by one rule, one recording
    speaks for all.
    """
    shared = ""
    if made := [utterance for utterance in data.utterances() if utterance.path is None]:
        first = data.loader()(min(made, key=lambda utterance: utterance.id))
        shared = hashlib.sha256(first.numpy().tobytes()).hexdigest()[:16]
    hashed = cache(lambda path: shared if path is None else file_hash(path))
    if enroller is None:
        return {u.id: hashed(u.path) for _, u in parts}
    return {
        u.id: f"{stable_hash(hashed(u.path), *(f'{one.id} {hashed(one.path)}' for one in enroller.profile(u))):016x}"
        for _, u in parts
    }


def _row(
    data: CorpusDataModule, subset: str, utterance: Utterance, protector: Transform, journal: Journal, seed: int
) -> dict[str, str]:
    target = journal.targets[utterance.id]
    # a system that was trained on another corpus may know other emotions
    known = protector.n_targets == len(data.emotions)
    return {
        "path": f"{utterance.id}.flac",
        "id": utterance.id,
        **{attribute: data.classes[attribute][utterance.label(attribute)] for attribute in ATTRIBUTES},
        **({} if utterance.text is None else {"text": utterance.text}),
        "split": subset,
        "target": "" if target is None else data.emotions[target] if known else f"class {target}",
        "protector": str(protector),
        "weights": protector.weights or "",
        "seed": str(seed),
        "sha256": file_hash(audio_path(journal.folder, utterance.id)),
    }
