"""Whether a measurement may be believed at all: nobody is tested on what anybody learnt from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.base import CorpusDataModule, FolderDataModule, Utterance
from datamodules.joint import JointDataModule
from datamodules.manifest import ManifestDataModule, read_manifest
from psegan.common.errors import PseganError
from psegan.common.files import file_hash, read_yaml
from psegan.common.instantiate import find_class, instantiate
from psegan.protection.controls import checkpoint_of, is_trained
from psegan.vocoders import PUBLIC
from psegan.vocoders import WEIGHTS as PUBLIC_WEIGHTS
from psegan.weights import read_about

Corpora = Mapping[int, CorpusDataModule]
"""Fold → the corpus, split for the attackers."""
VOCODER = "the vocoder"
"""Its role in messages."""


@dataclass(frozen=True)
class Heard:
    """What one network has learnt from.

    Attributes:
        role: of the network, for messages.
        source: its file or folder.
        data: ``class_path`` and ``init_args`` of its corpus.
    """

    role: str
    source: str
    data: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """For the configuration of weights that ship: without the places of this machine."""
        return {"role": self.role, "data": _without_roots(self.data)}


def check_systems(
    systems: Mapping[str, Any], corpora: Corpora, vocoder: dict[str, Any] | str | None = None
) -> dict[str, str]:
    """Make sure that trained systems have heard neither the test set nor, where speakers are disjoint, anybody else's speakers.

    What a system has heard is read from the ``config.yaml`` beside its checkpoint, and so is what the networks have heard
    that it was trained with, such as its speaker matcher; weights that ship say it themselves. One of another corpus has
    heard nothing of this one. A vocoder knows no labels, and copy-synthesis hears what it learnt: what it has in common with
    the test set is stated, not refused.

    Args:
        systems: name → protector's specification, with ``{fold}`` where it differs.
        corpora: fold → the corpus.
        vocoder: that copy-synthesis and the systems speak through.

    Returns:
        Name of each trained system → what is known of its training, for the header of the results.

    Raises:
        PseganError: a system has heard what it must not have, or nothing is known of what it has heard.
    """
    known = {}
    for name, spec in systems.items():
        if not is_trained(spec):
            continue
        checkpoint = checkpoint_of(spec)
        found: dict[str, None] = {}  # a set that keeps its order
        for fold, corpus in corpora.items():
            for heard in ancestry(checkpoint.replace("{fold}", str(fold)), name):
                if not heard.role.startswith(VOCODER):
                    found[_check(heard, corpus, fold, attackers=True)] = None
        known[name] = "; ".join(found)
    if isinstance(vocoder, str):
        found = {}
        for fold, corpus in corpora.items():
            for heard in ancestry(vocoder, VOCODER):
                try:
                    found[_check(heard, corpus, fold, attackers=True)] = None
                except PseganError as error:
                    found[str(error).split(";")[0]] = None
        if found:
            known[VOCODER] = "; ".join(found)
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
            for heard in ancestry(checkpoint, name):
                _check(heard, corpus, fold, attackers=False)


def ancestry(source: str, role: str) -> list[Heard]:
    """What a network has heard, and those that its training read, and so on; nothing for what is public.

    Args:
        source: checkpoint, or name or folder of shipped weights.
        role: of the network, for messages.

    Raises:
        PseganError: there is no such network, or nothing is known of what it has heard.
    """
    path = Path(source)
    if source in PUBLIC or (path / PUBLIC_WEIGHTS).is_file():
        return []
    if path.suffix != ".ckpt":
        try:
            return [
                Heard(_same(one["role"].replace("itself", role)), source, one["data"])
                for one in read_about(source)["heard"]
            ]
        except (KeyError, TypeError, AttributeError):
            raise PseganError(
                f"{source}: doesn't say what {role} has heard; evaluate the checkpoint that it was exported from"
            ) from None
    if not path.is_file():
        raise PseganError(
            f"{path}: no such checkpoint of {role}; train it first (psegan fit), correct the path, or run the "
            "command in the folder where the training was run"
        )
    config = _config(path)
    if not config.is_file():
        raise PseganError(
            f"{path}: what {role} has heard is not known, since {config} is missing; leave the checkpoint in the folder "
            "of its run"
        )
    content = read_yaml(config)
    family = [Heard(role, source, content.get("data") or {})]
    if before := (content.get("run") or {}).get("continued_from"):
        family += ancestry(before, role)
    for key, value in ((content.get("model") or {}).get("init_args") or {}).items():
        if not key.endswith("_checkpoint") or not value:
            continue
        member = _same(f"the {key.removesuffix('_checkpoint').replace('_', ' ')} of {role}")
        for one in value if isinstance(value, list) else [value]:
            family += ancestry(one, member)
    return family


def _same(role: str) -> str:
    """A vocoder whose training went on from another's is one vocoder."""
    while (twice := f"{VOCODER} of {VOCODER}") in role:
        role = role.replace(twice, VOCODER)
    return role


def _config(checkpoint: Path) -> Path:
    return checkpoint.parent.parent / "config.yaml"


def _without_roots(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_roots(one) for key, one in value.items() if key not in ("root", "manifest")}
    return [_without_roots(one) for one in value] if isinstance(value, list) else value


def _check(heard: Heard, corpus: CorpusDataModule, fold: int, attackers: bool) -> str:
    """Check one network and say what it has heard."""
    theirs = _corpus(heard, corpus)
    name, unseen = f"{heard.role} ({heard.source})", ""
    recorded = any(utterance.path is not None for utterance in corpus.split_utterances("test"))
    for member in theirs.members:
        if member.corpus == corpus.corpus:
            _check_utterances(name, member, corpus, fold, attackers)
        elif not recorded or (isinstance(member, FolderDataModule) and isinstance(corpus, FolderDataModule)):
            continue  # generated speech is nobody's recording, and published corpora have none in common
        elif isinstance(member, FolderDataModule) and not Path(member.root).is_dir() and heard.role.startswith(VOCODER):
            unseen = f" (not compared with the test set: {member.title} is not here)"
        else:
            _check_recordings(name, member, corpus, fold)
    return f"{heard.role}: {theirs.corpus}, split {theirs.members[0].split}{unseen}"


def _corpus(heard: Heard, like: CorpusDataModule) -> CorpusDataModule:
    """A corpus by its configuration; the part of it that is the corpus ``like`` is looked for where that lies."""
    spec = {**heard.data, "init_args": {**(heard.data.get("init_args") or {})}}
    kind = find_class(CorpusDataModule, str(spec.get("class_path")), heard.source, "datamodules")  # type: ignore[type-abstract]
    # weights that ship don't say where their corpus lay
    if issubclass(kind, JointDataModule):
        spec["init_args"].setdefault("root", "data")
    elif issubclass(kind, FolderDataModule):
        spec["init_args"].setdefault("root", f"data/{kind.corpus}")
    elif issubclass(kind, ManifestDataModule) and "manifest" not in spec["init_args"]:
        raise PseganError(
            f"{heard.source}: {heard.role} has heard a corpus of its maker's own, which is not here to be compared; "
            "evaluate the checkpoint that it was exported from"
        )
    corpus = instantiate(CorpusDataModule, spec, heard.source)  # type: ignore[type-abstract]
    for member in corpus.members:
        if isinstance(member, FolderDataModule) and isinstance(like, FolderDataModule) and member.corpus == like.corpus:
            member.root = like.root
    return corpus


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
