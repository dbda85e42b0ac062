"""Whether a measurement may be believed at all: nobody is tested on what anybody learnt from."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datamodules.base import CorpusDataModule, Utterance
from datamodules.manifest import read_manifest
from psegan.errors import PseganError
from psegan.evaluation.corpora import load_corpus
from psegan.files import file_hash


def check_systems(systems: Mapping[str, Any], corpora: Mapping[int, CorpusDataModule]) -> dict[str, str]:
    """Make sure that trained systems have heard neither the test set nor, where speakers are disjoint, the attackers' set.

    What a system has heard is read from the ``config.yaml`` beside its checkpoint. A system of another corpus has heard
    nothing of this one.

    Args:
        systems: name → protector's specification, with ``{fold}`` where it differs.
        corpora: fold → the corpus, split for the attackers.

    Returns:
        Name of each trained system → what is known of its training, for the header of the results.

    Raises:
        PseganError: a system has heard what it must not have.
    """
    known = {}
    for name, spec in systems.items():
        checkpoint = spec.get("init_args", {}).get("checkpoint") if isinstance(spec, dict) else None
        if checkpoint is None:
            continue
        for fold, corpus in corpora.items():
            path = Path(checkpoint.replace("{fold}", str(fold)))
            if not path.is_file():
                raise PseganError(
                    f"{path}: no such checkpoint of {name}; train it first (psegan fit) or correct the path"
                )
            config = path.parent.parent / "config.yaml"
            if not config.is_file():
                known[name] = f"unknown: {config} is missing"
                continue
            theirs = load_corpus(config, getattr(corpus, "root", None))
            known[name] = f"{theirs.corpus}, split {theirs.split}"
            if theirs.corpus == corpus.corpus:
                _check_system(f"{name} ({path})", theirs, corpus, fold)
    return known


def _check_system(name: str, theirs: CorpusDataModule, corpus: CorpusDataModule, fold: int) -> None:
    heard = {u.id for stage in ("train", "validation") for u in theirs.split_utterances(stage)}
    tested = {u.id for u in corpus.split_utterances("test")}
    if both := sorted(heard & tested):
        raise PseganError(
            f"{name} was trained on {len(both)} utterances of the test set of fold {fold} ({both[0]} first); "
            f"train it with the same split, fold and split_seed"
        )
    if corpus.shares_speakers:
        return
    attackers = _speakers(u for stage in ("train", "validation") for u in corpus.split_utterances(stage))
    if both_speakers := sorted(_speakers(u for u in theirs.utterances() if u.id in heard) & attackers):
        raise PseganError(
            f"{name} was trained on speaker {corpus.speakers[both_speakers[0]]}, whom the attackers of fold {fold} learn "
            "from too; train it with --data.init_args.speakers protector, and evaluate with data: {speakers: attacker}"
        )


def _speakers(utterances: Iterable[Utterance]) -> set[int]:
    return {utterance.speaker for utterance in utterances}


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
