"""Whether a measurement may be believed at all: nobody is tested on what anybody learnt from."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.base import CorpusDataModule, FolderDataModule, Utterance
from datamodules.joint import MANIFEST, PUBLISHED, JointDataModule
from datamodules.manifest import ManifestDataModule, read_manifest
from psegan.common.errors import PseganError
from psegan.common.files import file_hash
from psegan.common.instantiate import find_class, instantiate
from psegan.lineage import VOCODER, TrainingData, lineage
from psegan.protection.controls import checkpoint_of, is_trained

CONTENT_MATCHER = "the content matcher"
"""Its role: it learns from texts, and its speech has no emotions; shipped, it doesn't say where that lay."""
READ_ALOUD = "speechocean762"
"""The released content matcher's corpus. No other corpus that psegan names has its recordings, so it need not be here."""
Corpora = Mapping[int, CorpusDataModule]
"""Fold → the corpus, split for the attackers."""


def check_systems(
    systems: Mapping[str, Any], corpora: Corpora, vocoder: dict[str, Any] | str | None = None, attackers: bool = True
) -> dict[str, str]:
    """Make sure that no trained system learnt from the test set nor, where those are disjoint, from its sentences or from
    others' speakers.

    What a system and the networks that its training read were trained on is known from :func:`psegan.lineage.lineage`. A
    vocoder knows no labels, and copy-synthesis controls for it: what its training set has in common with the test set is
    stated, not refused.

    Args:
        systems: name → protector's specification, with ``{fold}`` where it differs.
        corpora: fold → the corpus.
        vocoder: that copy-synthesis and the systems speak through.
        attackers: whether anybody learns from the corpora.

    Returns:
        Name of each trained system → what is known of its training, for the header of the results.

    Raises:
        PseganError: a system was trained on what is tested, or it is not known what it was trained on.
    """
    sources = {name: checkpoint_of(spec) for name, spec in systems.items() if is_trained(spec)}
    if isinstance(vocoder, str):
        sources[VOCODER] = vocoder
    known: dict[str, str] = {}
    for name, source in sources.items():
        found: dict[str, None] = {}  # a set that keeps its order
        for fold, corpus in corpora.items():
            for network in lineage(source.replace("{fold}", str(fold)), name):
                if name != VOCODER and network.role.startswith(VOCODER):
                    continue
                try:
                    found[_check(network, corpus, fold, attackers)] = None
                except PseganError as error:
                    if name != VOCODER:
                        raise
                    found[str(error).split(";")[0]] = None
        if found or name != VOCODER:
            known[name] = "; ".join(found)
    return known


def check_starts(starts: Mapping[str, str], corpora: Corpora) -> None:
    """:func:`check_systems` for what attackers and classifiers start from; ``starts`` maps their names to checkpoints."""
    for name, checkpoint in starts.items():
        for fold, corpus in corpora.items():
            for network in lineage(checkpoint, name):
                _check(network, corpus, fold, attackers=False)


def _check(network: TrainingData, corpus: CorpusDataModule, fold: int, attackers: bool) -> str:
    init = network.data.get("init_args") or {}
    if (whose := init.get("name")) and "manifest" not in init:  # weights that ship don't say where their corpus lay
        if (manifest := _manifest_of(whose, corpus)) is not None:
            network = replace(network, data={**network.data, "init_args": {**init, "manifest": manifest}})
        elif network.role.startswith(CONTENT_MATCHER) and whose == READ_ALOUD != corpus.corpus:
            return f"{network.role}: {whose} (not compared with the test set: {whose} is not here)"
    theirs, absent = _corpus(network, corpus)
    name = f"{network.role} ({network.source})"
    recorded = any(utterance.path is not None for utterance in corpus.split_utterances("test"))
    for member in theirs.members:
        if member.corpus == corpus.corpus:
            _check_utterances(name, member, corpus, fold, attackers)
        elif not recorded or (isinstance(member, FolderDataModule) and isinstance(corpus, FolderDataModule)):
            continue  # generated speech is nobody's recording, and published corpora have none in common
        elif (
            isinstance(member, FolderDataModule) and not Path(member.root).is_dir() and network.role.startswith(VOCODER)
        ):
            absent.append(member.title)
        else:
            _check_recordings(name, member, corpus, fold)
    unseen = f" (not compared with the test set: {', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not here)"
    named = "+".join(init.get("corpora") or [theirs.corpus])
    return f"{network.role}: {named}, split {theirs.members[0].split}{unseen if absent else ''}"


def _manifest_of(name: str, tested: CorpusDataModule) -> list[str] | None:
    """The manifests of a corpus by its name: those that are tested, or else the one in ``data/NAME``; None without any."""
    if name == tested.corpus:
        return [str(path) for path in tested.manifests] if isinstance(tested, ManifestDataModule) else None
    return [str(here)] if (here := Path("data", name, MANIFEST)).is_file() else None


def _corpus(network: TrainingData, like: CorpusDataModule) -> tuple[CorpusDataModule, list[str]]:
    """A corpus by its configuration; the part of it that is the corpus ``like`` is looked for where that lies.

    Returns:
        The corpus, and the names of its parts that have no published form and are not here to be compared.
    """
    absent: list[str] = []
    spec = {**network.data, "init_args": {**(network.data.get("init_args") or {})}}
    kind = find_class(CorpusDataModule, str(spec.get("class_path")), network.source, "datamodules")  # type: ignore[type-abstract]
    # weights that ship don't say where their corpus lay
    if issubclass(kind, JointDataModule):
        init = spec["init_args"]
        root = Path(init.setdefault("root", "data"))
        # PUBLISHED corpora are known by their ids alone
        absent = [n for n in init.get("corpora", ()) if n not in PUBLISHED and not (root / n / MANIFEST).is_file()]
        if absent and (not network.role.startswith(VOCODER) or len(absent) == len(init["corpora"])):
            raise _not_here(network)
        for key in ("corpora", "split_of", "repeats"):
            if absent and (given := init.get(key)):
                kept = [name for name in given if name not in absent]
                init[key] = {name: given[name] for name in kept} if isinstance(given, dict) else kept
    elif issubclass(kind, FolderDataModule):
        spec["init_args"].setdefault("root", f"data/{kind.corpus}")
    elif issubclass(kind, ManifestDataModule) and "manifest" not in spec["init_args"]:
        raise _not_here(network)
    corpus = instantiate(CorpusDataModule, spec, network.source)  # type: ignore[type-abstract]
    for member in corpus.members:
        if isinstance(member, FolderDataModule) and isinstance(like, FolderDataModule) and member.corpus == like.corpus:
            member.root = like.root
    return corpus, absent


def _not_here(network: TrainingData) -> PseganError:
    return PseganError(
        f"{network.source}: {network.role} was trained on a corpus of its maker's own, which is not here to be compared; "
        "evaluate the checkpoint that it was exported from"
    )


def _check_recordings(name: str, theirs: CorpusDataModule, corpus: CorpusDataModule, fold: int) -> None:
    """Of a corpus that goes by another name: no file of the test set."""
    tested = {file_hash(u.path): u.id for u in corpus.split_utterances("test") if u.path is not None}
    for utterance in _learnt(theirs):
        if utterance.path is not None and (same := tested.get(file_hash(utterance.path))) is not None:
            raise PseganError(
                f"{name} was trained on {utterance.path}, which is {same} of the test set of fold {fold}; train it on others"
            )


def _check_utterances(
    name: str, theirs: CorpusDataModule, corpus: CorpusDataModule, fold: int, attackers: bool
) -> None:
    learnt, tested = _learnt(theirs), corpus.split_utterances("test")
    remedy = "train it with the same split, fold and split_seed"
    if both := sorted({u.id for u in learnt} & {u.id for u in tested}):
        raise PseganError(
            f"{name} was trained on {len(both)} utterances of the test set of fold {fold} ({both[0]} first); {remedy}"
        )
    for attribute, what, shares in (
        ("speaker", "speaker", corpus.shares_speakers),
        ("content", "sentence", corpus.shares_contents),
    ):
        known = _names(theirs, learnt, attribute)
        if not shares and (both := sorted(known & _names(corpus, tested, attribute))):
            raise PseganError(f"{name} was trained on {what} {both[0]} of the test set of fold {fold}; {remedy}")
    if corpus.shares_speakers or not attackers:
        return
    if shared := sorted(_names(theirs, learnt, "speaker") & _names(corpus, _learnt(corpus), "speaker")):
        raise PseganError(
            f"{name} was trained on speaker {shared[0]}, whom the attackers of fold {fold} learn "
            "from too; train it with --data.init_args.speakers protector, and evaluate with data: {speakers: attacker}"
        )


def _learnt(corpus: CorpusDataModule) -> list[Utterance]:
    subsets = corpus.subsets()  # of which one may be empty
    return [*subsets["train"], *subsets["validation"]]


def _names(corpus: CorpusDataModule, utterances: Iterable[Utterance], attribute: str) -> set[str]:
    """Names of the attribute's classes that occur in the utterances."""
    return {corpus.classes[attribute][utterance.label(attribute)] for utterance in utterances}


def check_manifest(manifest: Path, apart: Collection[str] = ()) -> None:
    """Make sure that attackers learn from no recording of a fold's test set, and from no speaker or sentence of it where
    those are ``apart`` (``speaker``, ``content``).

    Raises:
        PseganError: the manifest of the fold's original speech has one; the message names it.
    """
    rows = read_manifest(manifest)
    tested = [row for row in rows if row["split"] == "test"]
    known = {attribute: {row[attribute] for row in tested} for attribute in apart}
    contents = {file_hash(manifest.parent / row["path"]): row["id"] for row in tested}
    for row in (row for row in rows if row["split"] != "test"):
        where = f"{manifest}: {row['id']} ({row['split']})"
        if (same := contents.get(file_hash(manifest.parent / row["path"]))) is not None:
            raise PseganError(
                f"{where} is the same recording as {same} of the test set, and an attacker must not learn from what it is "
                "tested on; correct the split"
            )
        for attribute, names in known.items():
            if row[attribute] in names:
                raise PseganError(f"{where} is of {attribute} {row[attribute]}, as the test set is; correct the split")
