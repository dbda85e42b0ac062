"""Splits of a corpus: pure functions of ids, labels and a seed, the same on every machine."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from psegan.common.random import stable_hash

SUBSETS = ("train", "validation", "test")

Role = Literal["all", "protector", "attacker"]
"""Whose speakers a split is of, see :func:`speaker_subsets`."""

# weights of the three aims of :func:`spread`; each outweighs what the next ones add up to in any split here
_MARGIN, _CELL, _PART, _TIE = 10**14, 10**10, 10**6, 1000


class Labelled(Protocol):
    """What a split looks at."""

    @property
    def id(self) -> str: ...
    @property
    def emotion(self) -> int: ...
    @property
    def speaker(self) -> int: ...
    @property
    def content(self) -> int: ...


L = TypeVar("L", bound=Labelled)
N = TypeVar("N", int, str)


def shuffled(items: Sequence[N], *key: object) -> list[N]:
    """The items in an order that depends on the key and themselves alone."""
    return sorted(items, key=lambda item: (stable_hash(*key, item), item))


def interleaved(strata: Mapping[str, Hashable], *key: object) -> list[str]:
    """The items, shuffled, in an order whose every beginning holds the strata in proportion to their sizes.

    Args:
        strata: item → its stratum.
        key: of the shuffling.
    """
    groups: dict[Hashable, list[str]] = {}
    for item in shuffled(list(strata), *key):
        groups.setdefault(strata[item], []).append(item)
    place = {item: (rank + 0.5) / len(group) for group in groups.values() for rank, item in enumerate(group)}
    return sorted(shuffled(list(strata), *key), key=place.__getitem__)


def spread(
    capacity: Sequence[Sequence[int]], used: Sequence[Sequence[int]], total: int, seed: int, name: str
) -> list[list[int]]:
    """Share out ``total`` picks over the cells of a table as evenly as the capacities allow.

    The sums of rows and columns come first, then the cells (where
    ``used`` counts as already picked), then the cells of this part alone, then chance. This
    minimises sums of squares exactly, as a minimum-cost flow from the rows to the columns with convex costs, found by
    successive shortest paths (Ahuja, Magnanti and Orlin, Network Flows, 1993, chapters 9 and 14) in integers.

    Args:
        capacity: rows × columns, how many may be taken of each cell.
        used: of the same shape, picks of an earlier part of the split.
        total: picks, at most the capacities' sum.
        seed, name: what ties are broken by.

    Returns:
        Picks, rows × columns.
    """
    rows, columns = len(capacity), len(capacity[0])
    source, sink = rows + columns, rows + columns + 1
    # an edge: from, to, capacity, weight of the square, picks before the first, cost of a tie
    edges: list[tuple[int, int, int, int, int, int]] = []
    for r in range(rows):
        edges.append((source, r, sum(capacity[r]), _MARGIN, 0, 0))
        for c in range(columns):
            tie = stable_hash(name, seed, r, c) % _TIE
            edges.append((r, rows + c, capacity[r][c], _CELL, used[r][c], tie))
    for c in range(columns):
        edges.append((rows + c, sink, sum(row[c] for row in capacity), _MARGIN, 0, 0))
    flow = [0] * len(edges)

    def cost(edge: int, unit: int) -> int:
        _, _, _, weight, before, tie = edges[edge]
        alone = _PART * (2 * unit - 1) if weight == _CELL else 0
        return weight * (2 * (before + unit) - 1) + alone + tie

    for _ in range(total):
        distance: list[int | None] = [None] * (rows + columns + 2)
        arrival: list[tuple[int, int] | None] = [None] * (rows + columns + 2)
        distance[source] = 0
        steps = []
        for edge, (tail, head, most, *_) in enumerate(edges):
            if flow[edge] < most:
                steps.append((tail, head, cost(edge, flow[edge] + 1), edge, 1))
            if flow[edge] > 0:
                steps.append((head, tail, -cost(edge, flow[edge]), edge, -1))
        changed = True
        while changed:  # Bellman-Ford: undoing a pick has a negative cost
            changed = False
            for tail, head, price, edge, direction in steps:
                start, end = distance[tail], distance[head]
                if start is not None and (end is None or start + price < end):
                    distance[head], arrival[head], changed = start + price, (edge, direction), True
        node = sink
        while node != source:
            step = arrival[node]
            if step is None:
                raise ValueError(f"cannot pick {total} from a table that holds {sum(map(sum, capacity))}")
            edge, direction = step
            flow[edge] += direction
            node = edges[edge][0] if direction == 1 else edges[edge][1]
    cells = iter(flow[index] for index, edge in enumerate(edges) if edge[3] == _CELL)
    return [[next(cells) for _ in range(columns)] for _ in range(rows)]


def even_split(
    items: Sequence[L],
    sizes: Mapping[str, int],
    seed: int,
    n_speakers: int,
    n_emotions: int,
    locked: Collection[str] = (),
) -> dict[str, list[L]]:
    """Split even over speaker × emotion, and over contents where that leaves a choice.

    Args:
        items: the corpus.
        sizes: how many utterances two of the :data:`SUBSETS` get, in this order; the third gets the rest.
        seed: of all choices.
        n_speakers, n_emotions: classes.
        locked: ids that always belong to the rest; byte-identical recordings thus stay on one side.

    Returns:
        subset → utterances in the order of their ids.
    """
    (rest,) = (subset for subset in SUBSETS if subset not in sizes)
    left = sorted((item for item in items if item.id not in locked), key=lambda item: item.id)
    used = [[0] * n_emotions for _ in range(n_speakers)]
    parts: dict[str, list[L]] = {}
    for subset, size in sizes.items():
        cells: dict[tuple[int, int], list[L]] = {}
        for item in left:
            cells.setdefault((item.speaker, item.emotion), []).append(item)
        capacity = [[len(cells.get((s, e), ())) for e in range(n_emotions)] for s in range(n_speakers)]
        picks = spread(capacity, used, size, seed, subset)
        contents: Counter[int] = Counter()
        chosen: list[L] = []
        for s, e in sorted(cells, key=lambda cell: stable_hash(subset, seed, *cell)):
            candidates = sorted(cells[s, e], key=lambda item: (stable_hash(subset, seed, item.id), item.id))
            for _ in range(picks[s][e]):
                item = min(candidates, key=lambda item: contents[item.content])  # the first of equals
                candidates.remove(item)
                contents[item.content] += 1
                chosen.append(item)
            used[s][e] += picks[s][e]
        taken = {item.id for item in chosen}
        left = [item for item in left if item.id not in taken]
        parts[subset] = sorted(chosen, key=lambda item: item.id)
    taken = {item.id for part in parts.values() for item in part}
    parts[rest] = sorted((item for item in items if item.id not in taken), key=lambda item: item.id)
    return {subset: parts[subset] for subset in SUBSETS}


def speaker_subsets(
    folds: Sequence[Collection[str]], fold: int, role: Role, genders: Mapping[str, Hashable], seed: int
) -> dict[str, set[str]]:
    """Disjoint sets of speakers for training, validation and test.

    The test is on the speakers of one fold, whatever the role. For ``all``, the next fold validates and all others
    train. Protector and attacker share out the others, which come in cyclic order: the protector has the first
    ⌊(n - 1) / 2⌋ of n folds, the attacker the rest, so that neither learns from speakers of the other. A fifth of a
    role's speakers, at least one, validates: a draw that keeps the genders' proportions.

    Args:
        folds: disjoint sets of speakers, at least three.
        fold: which is tested, from 0.
        role: whose speakers.
        genders: speaker → gender of every speaker that the corpus holds; the validation draws from these alone.
        seed: of the draw.

    Returns:
        subset → speakers; those of the other role are in none.
    """
    test, *others = [folds[(fold + step) % len(folds)] for step in range(len(folds))]
    if role == "all":
        train = {name for part in others[1:] for name in part}
        return {"train": train, "validation": set(others[0]), "test": set(test)}
    protectors = len(others) // 2
    speakers = {name for part in (others[:protectors] if role == "protector" else others[protectors:]) for name in part}
    present = {speaker: gender for speaker, gender in genders.items() if speaker in speakers}
    drawn = interleaved(present, "validation", seed, fold, role)
    validation = set(drawn[: max(1, round(len(present) / 5))])
    return {"train": speakers - validation, "validation": validation, "test": set(test)}


def balanced_folds(genders: Mapping[str, Hashable], n_folds: int, seed: int) -> list[tuple[str, ...]]:
    """Folds whose sizes, and whose counts of each gender, differ by one speaker at most.

    Args:
        genders: speaker → gender.
        n_folds: folds, at most as many as there are speakers.
        seed: of the draw.
    """
    by_gender = sorted(shuffled(list(genders), "fold", seed), key=lambda speaker: str(genders[speaker]))
    return [tuple(sorted(by_gender[start::n_folds])) for start in range(n_folds)]


def paired_folds(males: Sequence[int], females: Sequence[int], per_gender: int, seed: int) -> list[tuple[int, ...]]:
    """Folds of ``per_gender`` male and as many female speakers, drawn by the seed."""
    men, women = shuffled(males, "fold", seed), shuffled(females, "fold", seed)
    return [
        tuple(sorted(men[start : start + per_gender] + women[start : start + per_gender]))
        for start in range(0, min(len(men), len(women)), per_gender)
    ]
