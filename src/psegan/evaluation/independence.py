"""Whether a measurement may be believed at all: nobody is tested on what anybody learnt from."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datamodules.base import CorpusDataModule, Utterance
from datamodules.manifest import read_manifest
from psegan.errors import PseganError
from psegan.evaluation.corpora import load_corpus
from psegan.files import file_hash, read_yaml
from psegan.instantiate import find_class
from psegan.protectors import is_trained

Corpora = Mapping[int, CorpusDataModule]
"""Fold → the corpus, split for the attackers."""


def check_systems(systems: Mapping[str, Any], corpora: Corpora) -> dict[str, str]:
    """Make sure that trained systems have heard neither the test set nor, where speakers are disjoint, anybody else's speakers.

    What a system has heard is read from the ``config.yaml`` beside its checkpoint, and so is what the networks have heard
    that it was trained with, such as its speaker matcher. One of another corpus has heard nothing of this one.

    Args:
        systems: name → protector's specification, with ``{fold}`` where it differs.
        corpora: fold → the corpus.

    Returns:
        Name of each trained system → what is known of its training, for the header of the results.

    Raises:
        PseganError: a system has heard what it must not have, or nothing is known of what it has heard.
    """
    known = {}
    for name, spec in systems.items():
        if not is_trained(spec):
            continue
        checkpoint = str((spec.get("init_args") or {}).get("checkpoint"))
        found: dict[str, None] = {}  # a set that keeps its order
        for fold, corpus in corpora.items():
            path = Path(checkpoint.replace("{fold}", str(fold)))
            for each, role in _family(path, name):
                found[_check(each, role, corpus, fold, attackers=True)] = None
        known[name] = "; ".join(found)
    return known


def check_starts(starts: Mapping[str, str], corpora: Corpora) -> None:
    """Make sure that networks which attackers and judges start from have not heard what is tested.

    Args:
        starts: name of an attacker or judge → checkpoint.
        corpora: fold → the corpus.

    Raises:
        PseganError: see :func:`check_systems`.
    """
    for name, checkpoint in starts.items():
        for fold, corpus in corpora.items():
            for path, role in _family(Path(checkpoint), name):
                _check(path, role, corpus, fold, attackers=False)


def _family(path: Path, role: str) -> Iterator[tuple[Path, str]]:
    """A checkpoint, those that its training read, and so on, each with its role in messages."""
    if not path.is_file():
        raise PseganError(f"{path}: no such checkpoint of {role}; train it first (psegan fit) or correct the path")
    config = _config(path)
    if not config.is_file():
        raise PseganError(
            f"{path}: what {role} has heard is not known, since {config} is missing; leave the checkpoint in the folder "
            "of its run"
        )
    yield path, role
    init_args = (read_yaml(config).get("model") or {}).get("init_args") or {}
    for key, value in init_args.items():
        if key.endswith("_checkpoint") and value:
            member = f"the {key.removesuffix('_checkpoint').replace('_', ' ')} of {role}"
            if _config(Path(value)).is_file() and Path(value).is_file():
                yield from _family(Path(value), member)
            else:
                print(f"psegan: warning: {value} is gone, so what {member} has heard is not known", file=sys.stderr)


def _config(checkpoint: Path) -> Path:
    return checkpoint.parent.parent / "config.yaml"


def _check(path: Path, name: str, corpus: CorpusDataModule, fold: int, attackers: bool) -> str:
    """Check one checkpoint and say what it has heard."""
    config = _config(path)
    class_path = str((read_yaml(config).get("data") or {}).get("class_path"))
    kind = find_class(CorpusDataModule, class_path, str(config), "datamodules")  # type: ignore[type-abstract]
    theirs = load_corpus(config, getattr(corpus, "root", None) if kind is type(corpus) else None)
    if theirs.corpus == corpus.corpus:
        _check_utterances(f"{name} ({path})", theirs, corpus, fold, attackers)
    else:
        _check_recordings(f"{name} ({path})", theirs, corpus, fold)
    return f"{name}: {theirs.corpus}, split {theirs.split}"


def _check_recordings(name: str, theirs: CorpusDataModule, corpus: CorpusDataModule, fold: int) -> None:
    """Of a corpus that goes by another name: no file of the test set."""
    tested = {file_hash(u.path): u.id for u in corpus.split_utterances("test") if u.path is not None}
    for utterance in (u for stage in ("train", "validation") for u in theirs.split_utterances(stage)):
        if utterance.path is not None and (same := tested.get(file_hash(utterance.path))) is not None:
            raise PseganError(
                f"{name} was trained on {utterance.path}, which is {same} of the test set of fold {fold}; train it on others"
            )


def _check_utterances(
    name: str, theirs: CorpusDataModule, corpus: CorpusDataModule, fold: int, attackers: bool
) -> None:
    heard = {u.id for stage in ("train", "validation") for u in theirs.split_utterances(stage)}
    tested = corpus.split_utterances("test")
    if both := sorted(heard & {u.id for u in tested}):
        raise PseganError(
            f"{name} was trained on {len(both)} utterances of the test set of fold {fold} ({both[0]} first); "
            f"train it with the same split, fold and split_seed"
        )
    if corpus.shares_speakers:
        return
    known = _speakers(theirs, (u for u in theirs.utterances() if u.id in heard))
    if strangers := sorted(known & _speakers(corpus, tested)):
        raise PseganError(
            f"{name} was trained on speaker {strangers[0]} of the test set of fold {fold}; "
            "train it with the same split, fold and split_seed"
        )
    others = _speakers(corpus, (u for stage in ("train", "validation") for u in corpus.split_utterances(stage)))
    if attackers and (shared := sorted(known & others)):
        raise PseganError(
            f"{name} was trained on speaker {shared[0]}, whom the attackers of fold {fold} learn "
            "from too; train it with --data.init_args.speakers protector, and evaluate with data: {speakers: attacker}"
        )


def _speakers(corpus: CorpusDataModule, utterances: Iterable[Utterance]) -> set[str]:
    return {corpus.speakers[utterance.speaker] for utterance in utterances}


def check_manifest(manifest: Path, disjoint: bool) -> None:
    """Make sure that what an attacker learns from and what is tested have no recording, and perhaps no speaker, in common.

    Args:
        manifest: a fold's original speech, all three parts.
        disjoint: whether speakers must differ too.

    Raises:
        PseganError: they have one in common; the message names it.
    """
    rows = read_manifest(manifest)
    tested = [row for row in rows if row["split"] == "test"]
    speakers = {row["speaker"] for row in tested}
    contents = {file_hash(manifest.parent / row["path"]): row["id"] for row in tested}
    for row in rows:
        if row["split"] == "test":
            continue
        same = contents.get(file_hash(manifest.parent / row["path"]))
        if same is not None:
            raise PseganError(
                f"{manifest}: {row['id']} ({row['split']}) is the same recording as {same} of the test set, and an attacker "
                "must not learn from what it is tested on; correct the split"
            )
        if disjoint and row["speaker"] in speakers:
            raise PseganError(
                f"{manifest}: {row['id']} ({row['split']}) is of speaker {row['speaker']}, who is in the test set; "
                "correct the split"
            )
