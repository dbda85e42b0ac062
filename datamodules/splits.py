"""Splits of a corpus into subsets: pure functions of ids, labels and a seed, the same on every machine."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import networkx as nx

from datamodules.dataset import Utterance
from psegan.common.random import stable_hash

SUBSETS = ("train", "validation", "test")

APART: dict[str, tuple[str, ...]] = {
    "speaker-disjoint": ("speaker",),
    "sentence-and-speaker-disjoint": ("speaker", "content"),
}
"""The splits with folds → attributes of which no class of the test set occurs in another subset."""
SENTENCE_GROUPS = 4
"""Groups that ``sentence-and-speaker-disjoint`` parts the sentences into, of one of which a fold's test set is."""

Role = Literal["all", "protector", "attacker"]
"""Which speakers a split trains on: everybody's, or the share of a protector or an attacker; see
:func:`speaker_subsets`."""

# weights of the aims of :func:`spread`; each is larger than all that the next ones can add up to in a corpus here
_MARGIN, _CELL, _PART, _TIE = 10**14, 10**10, 10**6, 1000

N = TypeVar("N", int, str)


def shuffled(items: Iterable[N], *key: object) -> list[N]:
    """The items in an order that depends only on the key and on the items themselves."""
    return sorted(items, key=lambda item: (stable_hash(*key, item), item))


def interleaved(strata: Mapping[str, Hashable], *key: object) -> list[str]:
    """A shuffled order of the items, the keys of ``strata``, whose first n hold the strata in proportion to their sizes."""
    order = shuffled(strata, *key)
    groups: dict[Hashable, list[str]] = {}
    for item in order:
        groups.setdefault(strata[item], []).append(item)
    place = {item: (rank + 0.5) / len(group) for group in groups.values() for rank, item in enumerate(group)}
    return sorted(order, key=place.__getitem__)


def spread(
    capacity: Sequence[Sequence[int]], used: Sequence[Sequence[int]], total: int, seed: int, name: str
) -> list[list[int]]:
    """Pick ``total`` items from the cells of a table, as evenly as the cells' capacities allow.

    First the sums of rows and of columns are made even, then the cells together with what ``used`` has taken of them,
    then the cells of these picks alone; a hash decides between what is left. Each aim is a sum of squares. Their
    weighted sum is minimised exactly, in integers, as a minimum-cost flow from the rows to the columns with convex
    costs (Ahuja, Magnanti and Orlin, Network Flows, 1993, chapter 14).

    Args:
        capacity: rows × columns, the items in each cell.
        used: rows × columns, the picks that an earlier subset of the split has taken.
        total: picks, at most the sum of the capacities.
        seed, name: what the hash is made of.

    Returns:
        Picks, rows × columns.
    """
    network = nx.MultiDiGraph()
    network.add_node("source", demand=-total)
    network.add_node("sink", demand=total)

    def connect(
        tail: object, head: object, most: int, weight: int, before: int = 0, part: int = 0, tie: int = 0
    ) -> None:
        # an edge for each unit of flow, whose cost is by how much the unit raises the squares
        for unit in range(1, min(most, total) + 1):
            cost = weight * (2 * (before + unit) - 1) + part * (2 * unit - 1) + tie
            network.add_edge(tail, head, capacity=1, weight=cost)

    for r, row in enumerate(capacity):
        connect("source", ("row", r), sum(row), _MARGIN)
        for c, most in enumerate(row):
            tie = stable_hash(name, seed, r, c) % _TIE
            connect(("row", r), ("column", c), most, _CELL, used[r][c], _PART, tie)
    for c, column in enumerate(zip(*capacity, strict=True)):
        connect(("column", c), "sink", sum(column), _MARGIN)
    flow = nx.min_cost_flow(network)
    return [
        [sum(flow.get(("row", r), {}).get(("column", c), {}).values()) for c in range(len(row))]
        for r, row in enumerate(capacity)
    ]


def even_split(
    items: Iterable[Utterance],
    sizes: Mapping[str, int],
    seed: int,
    n_speakers: int,
    n_emotions: int,
    locked: Collection[str] = (),
) -> dict[str, list[Utterance]]:
    """A split that is even over speaker × emotion, and over contents where that leaves a choice.

    Args:
        items: all utterances of the corpus.
        sizes: subset → number of utterances, for two of the :data:`SUBSETS`, which are drawn in this order; the third
            gets all other utterances.
        seed: of all draws.
        n_speakers, n_emotions: numbers of classes.
        locked: ids that always go to the third subset, so that byte-identical recordings are never in two.

    Returns:
        subset → utterances in the order of their ids.
    """
    items = sorted(items, key=lambda item: item.id)
    left = {item.id: item for item in items if item.id not in locked}
    used = [[0] * n_emotions for _ in range(n_speakers)]
    taken: dict[str, str] = {}
    for subset, size in sizes.items():
        cells: dict[tuple[int, int], list[Utterance]] = {}
        for id in shuffled(left, subset, seed):
            cells.setdefault((left[id].speaker, left[id].emotion), []).append(left[id])
        capacity = [[len(cells.get((s, e), ())) for e in range(n_emotions)] for s in range(n_speakers)]
        picks = spread(capacity, used, size, seed, subset)
        contents: Counter[int] = Counter()
        for s, e in sorted(cells, key=lambda cell: stable_hash(subset, seed, *cell)):
            for _ in range(picks[s][e]):
                item = min(cells[s, e], key=lambda item: contents[item.content])  # the first of equals
                cells[s, e].remove(item)
                contents[item.content] += 1
                taken[left.pop(item.id).id] = subset
            used[s][e] += picks[s][e]
    (rest,) = set(SUBSETS) - set(sizes)
    return {subset: [item for item in items if taken.get(item.id, rest) == subset] for subset in SUBSETS}


def speaker_subsets(
    folds: Sequence[Collection[str]], fold: int, role: Role, genders: Mapping[str, Hashable], seed: int
) -> dict[str, set[str]]:
    """Disjoint sets of speakers for training, validation and test.

    The test set is one fold of speakers, for every role. For ``all``, the next fold is the validation set and all other
    folds are the training set. Otherwise protector and attacker divide the other n - 1 folds, counted on from the test
    fold: the protector has the first ⌊(n - 1) / 2⌋ and the attacker the rest, so that neither is trained on a speaker
    of the other. Of fewer than five folds, whose halves would be uneven, they divide the speakers one by one, in an order
    in which the genders alternate in proportion. A fifth of a role's speakers, at least one, is its validation set, drawn
    in proportion to the genders.

    Args:
        folds: disjoint sets of speakers, at least three.
        fold: index of the test fold, from 0.
        role: whose speakers to train on.
        genders: speaker → gender of every speaker that the corpus holds; the validation set is drawn from these alone.
        seed: of the draw.

    Returns:
        subset → speakers; the speakers of the other role are in none.
    """
    test, *others = [*folds[fold:], *folds[:fold]]
    if role != "all" and len(others) < 4:
        # of three folds the protector would have one, which may be two speakers
        rest = {name: genders[name] for part in others for name in part if name in genders}
        others = [(name,) for name in interleaved(rest, "role", seed, fold)]
    if role == "all":
        train = {name for part in others[1:] for name in part}
        return {"train": train, "validation": set(others[0]), "test": set(test)}
    protectors = len(others) // 2
    speakers = {name for part in (others[:protectors] if role == "protector" else others[protectors:]) for name in part}
    present = {speaker: gender for speaker, gender in genders.items() if speaker in speakers}
    drawn = interleaved(present, "validation", seed, fold, role)
    validation = set(drawn[: max(1, round(len(present) / 5))])
    return {"train": speakers - validation, "validation": validation, "test": set(test)}


def fold_sentences(sentences: Iterable[str], fold: int, seed: int) -> set[str]:
    """Those that a fold of ``sentence-and-speaker-disjoint`` tests: one of :data:`SENTENCE_GROUPS` groups, even in size,
    which the folds take in turn; every sentence is a group where there are fewer.
    """
    drawn = shuffled(sentences, "sentence", seed)
    groups = min(SENTENCE_GROUPS, len(drawn))
    return set(drawn[fold % groups :: groups])


def balanced_folds(genders: Mapping[str, Hashable], n_folds: int, seed: int) -> list[tuple[str, ...]]:
    """Folds of the speakers in ``genders``. Their sizes, and their numbers of each gender, differ by one at most."""
    by_gender = sorted(shuffled(genders, "fold", seed), key=lambda speaker: str(genders[speaker]))
    return [tuple(sorted(by_gender[start::n_folds])) for start in range(n_folds)]


def paired_folds(males: Iterable[int], females: Iterable[int], per_gender: int, seed: int) -> list[tuple[int, ...]]:
    """Folds of ``per_gender`` male and as many female speakers, drawn by the seed."""
    pairs = list(zip(shuffled(males, "fold", seed), shuffled(females, "fold", seed), strict=False))
    return [
        tuple(sorted(speaker for pair in pairs[start : start + per_gender] for speaker in pair))
        for start in range(0, len(pairs), per_gender)
    ]
