"""What the tables of a report show: which scores, in which order, and which of them are best.

How they look is the business of :mod:`psegan.report.typeset` and of the page.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from psegan.report.results import Results, Row

ATTACKERS = {
    "strongest": (
        "The best of several informed attackers, over architectures and seeds, as an adversary would choose it on speech "
        "of their own. This is the headline: the number to judge privacy by."
    ),
    "informed": (
        "Learned from protected speech of its own speakers with true labels. This is what a real adversary can do."
    ),
    "vocoder-aware": (
        "Learned from original and copy-synthesised speech, so damage by the vocoder no longer counts as privacy. It "
        "has not heard protected speech: an attacker who adapts may do better."
    ),
    "ignorant": (
        "Learned from original speech only and never heard protected speech. A low score here is no evidence of "
        "privacy: artifacts of the vocoder alone lower it, and an attacker who adapts may undo it. Printed for "
        "comparison with the article."
    ),
}
"""Attackers in the order of their columns, and what a score of each is worth."""

ADAPTIVE = ("strongest", "informed")
"""Attackers that learned from protected speech; without one of them a table says nothing about privacy."""

SHUFFLED = "shuffled-labels"
"""The attacker whose training labels mean nothing: above chance it shows a leak in the evaluation itself."""

SPLITS = {
    "speaker-disjoint": "no speaker is in more than one of protector training, attacker training and test",
    "paper": "speakers shared: training and test share speakers and sentences, as in the article",
}
"""Splits in the order of the report, and what each means."""

CONTROLS = ("original", "identity", "copy-synthesis", "noise", "mcadams", "pitch")
"""Systems that are yardsticks and never best; ``noise-10db`` is one of ``noise``."""


class Measure(NamedTuple):
    """A metric as tables show it.

    Attributes:
        attribute, metric: as in :class:`~psegan.report.results.Row`.
        label: above the column.
        better: ``↓`` or ``↑``, the way it goes when the protection works.
        scale, digits: of the printed number; 100 and 1 for percent.
    """

    attribute: str
    metric: str
    label: str
    better: str
    scale: float = 100
    digits: int = 1

    def format(self, value: float, signed: bool = False) -> str:
        """The number as printed, ``–`` for NaN; ``signed`` shows a plus, as a difference needs."""
        if math.isnan(value):
            return "–"
        text = f"{self.scale * value:{'+' if signed else ''}.{self.digits}f}"
        return text.replace("-", "−")

    def chance(self, levels: Mapping[str, float]) -> float | None:
        """The score of a guess, given the chance levels of accuracies by attribute; none where that means nothing."""
        if self.metric in ("accuracy", "uar"):
            return levels.get(self.attribute)
        return {"auc": 0.5, "eer": 0.5, "eer_protected": 0.5, "residual": 0.0}.get(self.metric)


ACCURACY = Measure("emotion", "accuracy", "acc", "↓")
UAR = Measure("emotion", "uar", "UAR", "↓")
AUC = Measure("emotion", "auc", "AUC", "↓")
EER = Measure("emotion", "eer", "EER", "↑")
RESIDUAL = Measure("emotion", "residual", "residual", "↓")
SPEAKER = Measure("speaker", "accuracy", "acc", "↑")
SPEAKER_EER = Measure("speaker", "eer", "EER", "↓")
SPEAKER_EER_PROTECTED = Measure("speaker", "eer_protected", "EER p→p", "↓")
MIN_DCF = Measure("speaker", "min_dcf", "minDCF", "↓", 1, 3)
MIN_DCF_PROTECTED = Measure("speaker", "min_dcf_protected", "minDCF p→p", "↓", 1, 3)
GENDER = Measure("gender", "accuracy", "acc", "↑")
CONTENT = Measure("content", "accuracy", "acc", "↑")
MCD = Measure("speech", "mcd", "MCD (dB)", "↓", 1, 2)
CONVERGENCE = Measure("speech", "stft_convergence", "STFT conv.", "↓", 1, 3)
LOG_STFT = Measure("speech", "log_stft", "log STFT", "↓", 1, 3)
STOI = Measure("speech", "stoi", "STOI", "↑", 1, 3)
PESQ = Measure("speech", "pesq", "PESQ", "↑", 1, 2)
F0 = Measure("speech", "f0_correlation", "F0 corr.", "↑", 1, 3)
VOICING = Measure("speech", "voicing_error", "voicing err.", "↓")
WER = Measure("speech", "wer", "WER", "↓")

_SIGNAL = (MCD, CONVERGENCE, LOG_STFT, STOI, PESQ, F0, VOICING, WER)
_EMOTION = (ACCURACY, UAR, AUC, EER, RESIDUAL)
_KEPT = (SPEAKER, SPEAKER_EER, SPEAKER_EER_PROTECTED, MIN_DCF, MIN_DCF_PROTECTED, GENDER, CONTENT, *_SIGNAL)


class Layout(NamedTuple):
    """What a table is made of: emotion under every attacker, then what is to be kept.

    Attributes:
        name: ``Table 1``, ...; the first three are the article's.
        title: what it shows.
        emotion: repeated for every attacker.
        kept: shown once.
        ablations: only psegan, what was left out of it, and the controls.
    """

    name: str
    title: str
    emotion: tuple[Measure, ...]
    kept: tuple[Measure, ...]
    ablations: bool = False


LAYOUTS = (
    Layout("Table 1", "accuracy", (ACCURACY,), (SPEAKER, GENDER, CONTENT)),
    Layout(
        "Table 2",
        "equal error rates and detection cost",
        (EER,),
        (SPEAKER_EER, SPEAKER_EER_PROTECTED, MIN_DCF, MIN_DCF_PROTECTED),
    ),
    Layout(
        "Table 3",
        "ablations of psegan",
        (ACCURACY, EER),
        (SPEAKER, SPEAKER_EER, SPEAKER_EER_PROTECTED, GENDER, CONTENT),
        ablations=True,
    ),
    Layout("Table 4", "emotion by all metrics", _EMOTION, ()),
    Layout("Table 5", "what the signal lost", (), _SIGNAL),
)
SUMMARY = Layout(
    "Summary", "emotion UAR by attacker, and what is kept", (UAR,), (SPEAKER, SPEAKER_EER, GENDER, CONTENT)
)


@dataclass(frozen=True)
class Column:
    """One column: a measure, and who measured.

    Attributes:
        measure: what.
        attacker: none for what no attacker measures.
        seed: of a single member of ``strongest``.
    """

    measure: Measure
    attacker: str | None = None
    seed: int | None = None

    @property
    def block(self) -> str:
        """Heading over this and its neighbours: the attacker without its seed, or what is kept."""
        return (self.attacker or self.measure.attribute).removesuffix(f"-{self.seed}")

    @property
    def label(self) -> str:
        """Heading of the column."""
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{self.measure.label}{seed} {self.measure.better}"


@dataclass
class Cell:
    """A score as a table shows it, in the units of its row.

    Attributes:
        measure: how to print it.
        value: the mean where it stands for several seeds or folds.
        low, high: ends of its interval, or none; of several seeds the means of their ends.
        n: utterances it rests on.
        seeds: how many it is the mean of.
        range: least and greatest value of the seeds, where there are several.
        folds: how many folds it is the mean of; 0 where it is of pooled folds or there are none.
        signed: it is a difference.
        marked: best of its column or, for a difference, distinct from zero.
    """

    measure: Measure
    value: float
    low: float | None
    high: float | None
    n: int
    seeds: int = 1
    range: tuple[float, float] | None = None
    folds: int = 0
    signed: bool = False
    marked: bool = False

    @property
    def text(self) -> str:
        """The value as printed."""
        return self.measure.format(self.value, self.signed)

    @property
    def interval(self) -> str:
        """The interval as printed, or empty."""
        if self.low is None or self.high is None:
            return ""
        dash = " to " if self.signed else "–"
        return dash.join(self.measure.format(end, self.signed) for end in (self.low, self.high))

    def notes(self, n: int | None = None) -> list[str]:
        """What else the reader must know; the count only where it isn't the ``n`` that is stated for all."""
        notes = []
        if self.n != n:
            notes.append(f"n = {self.n}")
        if self.folds:
            notes.append(f"mean of {self.folds} folds" if self.folds > 1 else "one fold")
        if self.range is not None:
            least, greatest = (self.measure.format(end, self.signed) for end in self.range)
            notes.append(f"{self.seeds} seeds: {least} to {greatest}")
        return notes


@dataclass
class Line:
    """A row of a table: ``cells`` by column, none where nothing was measured."""

    label: str
    control: bool
    cells: list[Cell | None]


@dataclass
class Group:
    """The rows of one corpus.

    Attributes:
        corpus: its name.
        lines: controls first.
        chance: of each column, or none.
        part: which part of the protocol this is ("1 of 6 folds"), empty where it is all of it.
        n: the utterances that most cells rest on.
    """

    corpus: str
    lines: list[Line]
    chance: list[float | None]
    part: str = ""
    n: int | None = field(init=False)

    def __post_init__(self) -> None:
        counts = Counter(cell.n for line in self.lines for cell in line.cells if cell is not None)
        self.n = counts.most_common(1)[0][0] if counts else None


@dataclass
class Table:
    """One table: all corpora of a split under one heading."""

    name: str
    title: str
    split: str
    columns: list[Column]
    groups: list[Group]

    @property
    def blocks(self) -> list[tuple[str, int]]:
        """Headings over neighbouring columns, and how many each spans."""
        return _runs(column.block for column in self.columns)

    @property
    def purposes(self) -> list[tuple[str, int]]:
        """Headings over neighbouring blocks: what is to be hidden, what is to be kept."""
        return _runs(
            "emotion, to be hidden" if column.measure.attribute == "emotion" else "to be kept"
            for column in self.columns
        )

    @property
    def starts(self) -> list[bool]:
        """Whether a block starts at each column."""
        names = [column.block for column in self.columns]
        return [i == 0 or name != names[i - 1] for i, name in enumerate(names)]


@dataclass
class Setting:
    """What the tables of a corpus and split rest on.

    Attributes:
        corpus: its name.
        n: utterances of most emotion scores.
        seeds: of the runs.
        folds: how many of how many there were ("1 of 6 folds"), empty where there are none.
        units: what intervals are over, none where nobody says.
        chance: chance levels of accuracies by attribute.
        validity: attacker → its accuracy on original speech, none where nobody measured it.
        shuffled: UAR (or accuracy) on original speech of the attacker whose labels were shuffled.
    """

    corpus: str
    n: int | None
    seeds: list[int]
    folds: str
    units: str | None
    chance: dict[str, float]
    validity: dict[str, Cell | None]
    shuffled: Cell | None

    @property
    def shuffled_at_chance(self) -> bool | None:
        """Whether chance lies in the interval of the shuffled control; none where either isn't known."""
        cell, level = self.shuffled, self.chance.get("emotion")
        if cell is None or cell.low is None or cell.high is None or level is None:
            return None
        # rounding alone must not raise the alarm where all deals score alike
        return cell.low - 1e-9 <= level <= cell.high + 1e-9


@dataclass
class Section:
    """All that the report shows of one split.

    Attributes:
        split: its name.
        settings: by corpus.
        attackers: that occur, strongest first.
        tables: the article's, then ours.
        members: scores of the single attackers, or none.
        differences: paired differences between systems, or none.
    """

    split: str
    settings: list[Setting]
    attackers: list[str]
    tables: list[Table]
    members: Table | None
    differences: Table | None

    @property
    def adaptive(self) -> bool:
        """Whether an attacker learned from protected speech."""
        return any(name in ADAPTIVE for name in self.attackers)


def is_control(system: str) -> bool:
    """Whether a system is a yardstick rather than a protection to be compared."""
    return re.fullmatch(rf"({'|'.join(CONTROLS)})(-\d\w*)?", system) is not None


def sections(replications: Mapping[int | None, Results]) -> list[Section]:
    """Everything that a report shows, by split.

    Args:
        replications: seed → results, as :func:`psegan.report.results.merge` gives them. Where several seeds state
            one score, a cell holds their mean.
    """
    found = dict.fromkeys(row.split for results in replications.values() for row in results.rows)
    return [_section(_Scores(replications, split)) for split in _ordered(found, SPLITS)]


def summaries(results: Results) -> list[Table]:
    """The table for the terminal, by split: emotion UAR under every attacker, and what is kept."""
    replications: dict[int | None, Results] = {None: results}
    found = dict.fromkeys(row.split for row in results.rows)
    made = [_Scores(replications, split).table(SUMMARY) for split in _ordered(found, SPLITS)]
    return [table for table in made if table is not None]


def _section(scores: "_Scores") -> Section:
    tables = [table for layout in LAYOUTS if (table := scores.table(layout)) is not None]
    settings = [scores.setting(corpus) for corpus in scores.corpora]
    return Section(scores.split, settings, scores.attackers, tables, scores.members(), scores.differences())


def _ordered(names: Iterable[str], first: Iterable[str]) -> list[str]:
    """``names``, those that ``first`` lists in its order before the others."""
    names = list(names)
    order = list(first)
    return [name for name in order if name in names] + [name for name in names if name not in order]


def _runs(labels: Iterable[str]) -> list[tuple[str, int]]:
    return [(label, len(list(same))) for label, same in groupby(labels)]


class _Scores:
    """The rows of one split, by what they score."""

    def __init__(self, replications: Mapping[int | None, Results], split: str) -> None:
        self.split = split
        self.rows: dict[tuple[str, str, str | None, str, str], dict[int | None, list[Row]]] = {}
        self.chance: dict[str, dict[str, float]] = {}
        self.folds: dict[str, dict[tuple[int | None, str], set[int]]] = {}
        self.of_folds: dict[str, int] = {}
        self.units: dict[str, str] = {}
        for seed, results in replications.items():
            self.chance |= results.header.get("chance", {})
            for header in (results.header, *results.header.get("runs", {}).values()):
                if (header.get("evaluation") or {}).get("data", {}).get("split", split) == split:
                    self.of_folds |= header.get("folds", {})
                    self.units |= header.get("units", {})
            for row in results.rows:
                if row.split == split:
                    key = row.corpus, row.system, row.attacker, row.attribute, row.metric
                    self.rows.setdefault(key, {}).setdefault(seed, []).append(row)
                    if row.fold is not None:
                        self.folds.setdefault(row.corpus, {}).setdefault((seed, row.system), set()).add(row.fold)
        self.corpora = list(dict.fromkeys(key[0] for key in self.rows))
        named = dict.fromkeys(key[2] for key in self.rows if key[3] == "emotion" and key[2] is not None)
        everyone = [name for name in named if name is not None]
        self.attackers = _ordered((n for n in everyone if n != SHUFFLED and "/" not in n), ATTACKERS)
        self.single = [name for name in everyone if "/" in name]

    def systems(self, corpus: str) -> list[str]:
        """Of a corpus: original and copy-synthesis, other controls, what protects."""
        found = list(dict.fromkeys(key[1] for key in self.rows if key[0] == corpus))
        return sorted(
            found,
            key=lambda name: (
                CONTROLS.index(name) if name in ("original", "identity", "copy-synthesis") else 9,
                not is_control(name),
                found.index(name),
            ),
        )

    def cell(self, corpus: str, system: str, column: Column, metric: str | None = None) -> Cell | None:
        """One cell; ``metric`` where it isn't the measure's own."""
        measure = column.measure
        rest = measure.attribute, metric or measure.metric
        found = self.rows.get((corpus, system, column.attacker, *rest))
        if found is None and column.attacker is None:
            # classifiers of speaker, gender and content learned from original speech, as that attacker did
            found = self.rows.get((corpus, system, "ignorant", *rest))
        estimates = []
        for rows in (found or {}).values():
            chosen = [row for row in rows if column.seed is None or row.seed == column.seed]
            estimates += _estimates(chosen, measure)
        return _mean(estimates, signed=metric is not None)

    def table(self, layout: Layout) -> Table | None:
        """A table of the layout, without the columns in which nothing was measured; none if that leaves none."""
        columns = [Column(measure, attacker) for attacker in self.attackers for measure in layout.emotion]
        columns += [Column(measure) for measure in layout.kept]

        def shown(system: str) -> bool:
            return not layout.ablations or is_control(system) or system == "psegan" or system.startswith("psegan-")

        if layout.ablations and not any(key[1].startswith("psegan-") for key in self.rows):
            return None
        lines = {
            corpus: [
                Line(system, is_control(system), [self.cell(corpus, system, column) for column in columns])
                for system in self.systems(corpus)
                if shown(system)
            ]
            for corpus in self.corpora
        }
        table = self._assemble(layout.name, layout.title, columns, lines)
        if table is not None:
            for group in table.groups:
                # the best of several is best on the same test speech only
                if len(set(map(frozenset, self.folds.get(group.corpus, {}).values()))) <= 1:
                    _mark_best(table.columns, group)
        return table

    def members(self) -> Table | None:
        """UAR of every single attacker under every seed."""
        columns = []
        for name in sorted(self.single, key=lambda name: not name.startswith("informed/")):
            found = [key for key in self.rows if key[2] == name and key[3:] == ("emotion", "uar")]
            seeds = {row.seed for key in found for rows in self.rows[key].values() for row in rows}
            columns += [Column(UAR, name, seed) for seed in sorted(seeds, key=lambda seed: (seed is not None, seed))]
        lines = {
            corpus: [
                Line(system, is_control(system), [self.cell(corpus, system, column) for column in columns])
                for system in self.systems(corpus)
            ]
            for corpus in self.corpora
        }
        return self._assemble("Members", "UAR of every single attacker", columns, lines)

    def differences(self) -> Table | None:
        """Paired differences, a line for each pair of systems; marked where the interval leaves out zero."""
        columns = [Column(measure, attacker) for attacker in self.attackers for measure in _EMOTION]
        columns += [Column(measure) for measure in _KEPT]
        pairs = dict.fromkeys(
            (key[0], key[1], key[4].partition("-minus-")[2]) for key in self.rows if "-minus-" in key[4]
        )
        lines: dict[str, list[Line]] = {corpus: [] for corpus in self.corpora}
        for corpus, system, other in pairs:
            cells = [self.cell(corpus, system, c, f"{c.measure.metric}-minus-{other}") for c in columns]
            for cell in cells:
                if cell is not None and cell.low is not None and cell.high is not None:
                    cell.marked = cell.low > 0 or cell.high < 0
            lines[corpus].append(Line(f"{system} − {other}", is_control(system), cells))
        table = self._assemble("Differences", "paired differences between systems", columns, lines)
        if table is not None:
            for group in table.groups:
                group.chance = [None] * len(table.columns)
        return table

    def part(self, corpus: str) -> str:
        """As :meth:`done`; empty where it was all of them, or nobody says how many there are."""
        done = self.done(corpus)
        return done if " of " in done else ""

    def done(self, corpus: str) -> str:
        """How many folds of how many were done, from the system and seed of the fewest to that of the most."""
        counts = sorted({len(folds) for folds in self.folds.get(corpus, {}).values()})
        if not counts:
            return ""
        there_are = max(self.of_folds.get(corpus, 0), counts[-1])
        least, most = counts[0], counts[-1]
        several = f"{least} to {most}" if most > least else f"{least}"
        return f"{several}{f' of {there_are}' if least < there_are else ''} fold{'s' * (there_are > 1)}"

    def setting(self, corpus: str) -> Setting:
        """What the tables of a corpus rest on."""
        validity = {name: self.cell(corpus, "original", Column(ACCURACY, name)) for name in self.attackers}
        shuffled = [self.cell(corpus, "original", Column(measure, SHUFFLED)) for measure in (UAR, ACCURACY)]
        rows = {seed: r for key, found in self.rows.items() if key[0] == corpus for seed, r in found.items()}
        # a run that names no seed in its header names it in its rows
        seeds = {row.seed if seed is None else seed for seed, found in rows.items() for row in found}
        counts = Counter(
            cell.n
            for system in self.systems(corpus)
            for name in self.attackers
            if (cell := self.cell(corpus, system, Column(UAR, name))) is not None
        )
        return Setting(
            corpus,
            counts.most_common(1)[0][0] if counts else None,
            sorted(seed for seed in seeds if seed is not None),
            self.done(corpus),
            self.units.get(corpus),
            self.chance.get(corpus, {}),
            validity,
            next((cell for cell in shuffled if cell is not None), None),
        )

    def _assemble(
        self, name: str, title: str, columns: Sequence[Column], lines: Mapping[str, list[Line]]
    ) -> Table | None:
        kept = [
            i for i in range(len(columns)) if any(line.cells[i] for of_corpus in lines.values() for line in of_corpus)
        ]
        groups = []
        for corpus, of_corpus in lines.items():
            for line in of_corpus:
                line.cells = [line.cells[i] for i in kept]
            measured = [line for line in of_corpus if any(line.cells)]
            if measured:
                levels = self.chance.get(corpus, {})
                chance = [columns[i].measure.chance(levels) for i in kept]
                groups.append(Group(corpus, measured, chance, self.part(corpus)))
        return Table(name, title, self.split, [columns[i] for i in kept], groups) if kept else None


def _estimates(rows: Sequence[Row], measure: Measure) -> list[Cell]:
    """What one run says of one score: the row over all folds and seeds if there is one, else one cell for each seed.

    The plain mean of several folds has no interval: their spread is not one.
    """
    pooled = [row for row in rows if row.fold is None and row.seed is None]
    pooled = pooled or [row for row in rows if row.fold is None] or list(rows)
    cells = []
    for seed in dict.fromkeys(row.seed for row in pooled):
        own = [row for row in pooled if row.seed == seed]
        folds = 0 if own[0].fold is None else len(own)
        interval = (own[0].low, own[0].high) if len(own) == 1 else (None, None)
        cells.append(Cell(measure, fmean(r.value for r in own), *interval, sum(r.n for r in own), folds=folds))
    return cells


def _mean(estimates: Sequence[Cell], signed: bool) -> Cell | None:
    """One cell for all seeds.

    Its interval has the mean of their ends. Seeds are judged on the same speakers, so their errors are dependent; the
    standard deviation of a mean is at most the mean of the standard deviations, so this is no narrower than the
    interval of the mean would be. It speaks of other speakers. How much the seeds differ, their range says.
    """
    if not estimates:
        return None
    first = estimates[0]
    lows = [cell.low for cell in estimates if cell.low is not None]
    highs = [cell.high for cell in estimates if cell.high is not None]
    values = [cell.value for cell in estimates]
    complete = len(lows) == len(estimates)
    return Cell(
        first.measure,
        fmean(values),
        fmean(lows) if complete else None,
        fmean(highs) if complete else None,
        max(cell.n for cell in estimates),  # seeds score the same utterances again
        seeds=len(estimates),
        range=(min(values), max(values)) if len(estimates) > 1 else None,
        folds=max(cell.folds for cell in estimates),
        signed=signed,
    )


def _mark_best(columns: Sequence[Column], group: Group) -> None:
    """Mark the best protecting system of each column, and all that print alike; one alone is not best of anything.

    An emotion score beyond chance is no better than chance: whoever is wrong more often than by guessing knows something.
    """
    for i, column in enumerate(columns):
        measure, level = column.measure, group.chance[i]
        rank: Callable[[float], float] = float if measure.better == "↑" else float.__neg__
        scored = []
        for line in group.lines:
            cell = line.cells[i]
            if cell is None or line.control or math.isnan(cell.value):
                continue
            value = cell.value
            if measure.attribute == "emotion" and level is not None:
                value = min(value, level) if measure.better == "↑" else max(value, level)
            scored.append((rank(round(measure.scale * value, measure.digits)), cell))
        if len(scored) > 1:
            best = max(score for score, _ in scored)
            for score, cell in scored:
                cell.marked = score == best
