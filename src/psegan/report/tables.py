"""What the tables of a report show: which scores, in which order, and which of them are best.

Every table is a pandas frame made from the tidy rows; :mod:`psegan.report.typeset` writes it in a format.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mode
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from psegan.report.results import MergedResults, Results, merge

CUT = "cut"
"""The attacker who hears what a protector lets through (:mod:`psegan.evaluation.cut`)."""

ATTACKERS = {
    "strongest": (
        "Several informed attackers together, over architectures and seeds: the mean of their posteriors, each calibrated "
        "on the adversary's own speech. (Runs scored before that have the best of them on such speech.) This is the "
        "headline: the number to judge privacy by."
    ),
    "informed": (
        "Learned from protected speech of its own speakers with true labels. This is what a real adversary can do."
    ),
    CUT: (
        "Learned from what a protector lets through, before anything is made of it, with true labels; of protectors that show "
        "it. What comes out is made from that, so nobody can read more in it. The residual is of who is strongest on "
        "original speech."
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
    "sentence-and-speaker-disjoint": (
        "no speaker is in more than one of protector training, attacker training and test, and no sentence of the test is in "
        "any training"
    ),
    "speaker-disjoint": "no speaker is in more than one of protector training, attacker training and test",
    "paper": "speakers shared: training and test share speakers and sentences, as in the article",
}
"""Splits in the order of the report, and what each means."""

HIDDEN, KEPT = "emotion, to be hidden", "to be kept"
"""The uppermost headings of columns."""


class Measure(NamedTuple):
    """A metric as tables show it.

    Attributes:
        attribute, metric: as in :class:`~psegan.report.results.Row`.
        name: above the column.
        better: ``↓`` or ``↑``, the way it goes when the protection works; ``→0`` where the best is to
            change nothing; empty where no way is better.
        scale, digits: of the printed number; 100 and 1 for percent.
        chance: the score of a guess; NaN where that means nothing or depends on the number of classes.
        judged: whether it is of the judges that nobody here trained, each of whom has a block of columns.
    """

    attribute: str
    metric: str
    name: str
    better: str
    scale: float = 100
    digits: int = 1
    chance: float = np.nan
    judged: bool = False

    def format(self, value: float, signed: bool = False) -> str:
        """The number as printed, ``–`` for NaN; ``signed`` shows a plus, as a difference needs."""
        if pd.isna(value):
            return "–"
        signed = signed or self.better == "→0"
        return f"{self.scale * value:{'+' if signed else ''}.{self.digits}f}".replace("-", "−")


EMOTION = ACCURACY, UAR, _, EER, _ = (
    Measure("emotion", "accuracy", "acc", "↓"), Measure("emotion", "uar", "UAR", "↓"),
    Measure("emotion", "auc", "AUC", "↓", chance=0.5), Measure("emotion", "eer", "EER", "↑", chance=0.5),
    Measure("emotion", "residual", "residual", "↓", chance=0.0),
)  # fmt: skip
SPEAKER = (
    Measure("speaker", "accuracy", "acc", "↑"), Measure("speaker", "eer", "EER", "↓", chance=0.5),
    Measure("speaker", "eer_protected", "EER p→p", "↓", chance=0.5), Measure("speaker", "min_dcf", "minDCF", "↓", 1, 3),
    Measure("speaker", "min_dcf_protected", "minDCF p→p", "↓", 1, 3),
)  # fmt: skip
LEAKAGE = (
    Measure("emotion", "bits", "bits", "↓", 1, 2, chance=0.0), Measure("emotion", "most_predicted", "one class", ""),
    Measure("emotion", "worst_class", "worst class", "↓"), Measure("emotion", "worst_speaker", "worst speaker", "↓"),
    Measure("emotion", "tpr_at_1", "TPR at 1 %", "↓", chance=0.01),
    Measure("emotion", "tpr_at_5", "TPR at 5 %", "↓", chance=0.05),
    *(Measure("emotion", f"uar_of_{n}", f"UAR of {n}", "↓") for n in (2, 4, 8)),
)  # fmt: skip
BITS = LEAKAGE[0]
REST = (Measure("gender", "accuracy", "acc", "↑"), Measure("content", "accuracy", "acc", "↑"))
SIGNAL = (
    Measure("speech", "mcd", "MCD (dB)", "↓", 1, 2), Measure("speech", "stft_convergence", "STFT conv.", "↓", 1, 3),
    Measure("speech", "log_stft", "log STFT", "↓", 1, 3), Measure("speech", "stoi", "STOI", "↑", 1, 3),
    Measure("speech", "pesq", "PESQ", "↑", 1, 2), Measure("speech", "f0_correlation", "F0 corr.", "↑", 1, 3),
    Measure("speech", "voicing_error", "voicing err.", "↓"),
)  # fmt: skip
VOICES = (
    Measure("speaker", "eer", "EER", "↓", chance=0.5, judged=True),
    Measure("speaker", "eer_neutral", "EER neutral→p", "↓", chance=0.5, judged=True),
    Measure("speaker", "eer_protected", "EER p→p", "↓", chance=0.5, judged=True),
)
RATINGS = (
    Measure("speech", "overall", "overall", "↑", 1, 2, judged=True),
    Measure("speech", "signal", "signal", "↑", 1, 2, judged=True),
    Measure("speech", "background", "background", "↑", 1, 2, judged=True),
    Measure("speech", "p808", "P.808", "↑", 1, 2, judged=True),
)
LEVELS = (
    Measure("speech", "loudest_median", "loudest (dB)", "→0", 1, judged=True),
    Measure("speech", "loudest_p95", "loudest, 95 % (dB)", "→0", 1, judged=True),
    Measure("speech", "mean_level", "mean (dB)", "→0", 1, judged=True),
    Measure("speech", "clipped", "clipped", "↓", 100, 3, judged=True),
)
JUDGED = (
    Measure("words", "wer", "WER", "↓", judged=True),
    Measure("words", "wer_to_original", "WER to its transcript of the original", "↓", judged=True),
    *VOICES, *RATINGS, *LEVELS,
)  # fmt: skip
"""What is measured by judges that nobody here trained, with the level, which nobody needs to judge."""
OUR_OWN = (*EMOTION, *LEAKAGE, *SPEAKER, *REST, *SIGNAL)
MEASURES = {(m.attribute, m.metric, m.judged): m for m in (*OUR_OWN, *JUDGED)}


class Layout(NamedTuple):
    """What a table is made of; Tables 1 to 3 are the article's.

    Attributes:
        name, title: of the table.
        emotion: under every attacker.
        kept: what stands behind it.
        headline: of emotion, under ``strongest`` alone.
    """

    name: str
    title: str
    emotion: Sequence[Measure] = ()
    kept: Sequence[Measure] = ()
    headline: Sequence[Measure] = ()


REPETITION = "repetition of "
"""Begins the role of a system that is one of several trainings of another one."""
ABLATIONS = "Table 3"
LAYOUTS = (
    Layout("Overview", "emotion by attacker; the rest by judges that nobody here trained", [UAR], JUDGED, [BITS]),
    Layout("Table 1", "accuracy", [ACCURACY], [SPEAKER[0], *REST]),
    Layout("Table 2", "equal error rates and detection cost", [EER], SPEAKER[1:]),
    Layout(ABLATIONS, "ablations of ", [ACCURACY, EER], [*SPEAKER[:3], *REST]),
    Layout("Table 4", "emotion by all metrics", EMOTION),
    Layout("Table 5", "what the signal lost", [], SIGNAL),
    Layout("Table 6", "leakage beyond accuracy", LEAKAGE),
)
SUMMARY = Layout("Summary", "emotion by attacker", [UAR], [*SPEAKER[:2], *REST], [BITS])
"""For the terminal, where no judge has listened."""
SUMMARIES = (
    Layout("Summary", "emotion by attacker", [UAR], headline=[BITS]),
    Layout("Summary", "what is kept, by judge", kept=[*JUDGED[:2], VOICES[0], RATINGS[0], *LEVELS[:2]]),
)


@dataclass(frozen=True)
class Cell:
    """A score as a table shows it.

    Attributes:
        text, interval: the value and its 95 % interval as printed; the interval is empty where there is none.
        notes: what else the reader must know, as ``one fold``.
        marked: best of its column or, for a difference, distinct from zero.
    """

    text: str
    interval: str = ""
    notes: tuple[str, ...] = ()
    marked: bool = False

    def __str__(self) -> str:
        return f"{self.text} ({self.interval})" if self.interval else self.text


@dataclass
class Table:
    """One table of one corpus and split.

    Attributes:
        name, title, split, corpus: as ``Table 1``, ``accuracy``, ``paper``, ``ravdess``.
        part: which part of the folds this is, as ``1 of 6 folds``; empty where it is all of them.
        n: utterances that most scores rest on.
        frame: a :class:`Cell` by system and by (purpose, attacker or attribute, measure); the last line is ``chance``,
            where it has a meaning.
        controls: systems that are no protectors, or learnt from no speech.
    """

    name: str
    title: str
    split: str
    corpus: str
    part: str
    n: int
    frame: pd.DataFrame
    controls: list[str]


class Setting(NamedTuple):
    """What the tables of a corpus rest on, in a line, and whether shuffled labels score away from chance by UAR or bits."""

    text: str
    leak: bool = False


@dataclass
class Section:
    """All that the report shows of one split.

    Attributes:
        settings: corpus → what its tables rest on.
        attackers: that occur, strongest first.
        tables: the article's, then ours, then ``Differences`` (paired, between systems), then ``Members`` (the single
            attackers), each of every corpus.
        several_seeds: whether a cell is the mean of several seeds.
        repeated: whether a cell is the mean of several trainings of one system.
    """

    split: str
    settings: dict[str, Setting]
    attackers: list[str]
    tables: list[Table]
    several_seeds: bool
    repeated: bool

    @property
    def adaptive(self) -> bool:
        """Whether an attacker learned from protected speech."""
        return any(name in ADAPTIVE for name in self.attackers)


def sections(merged: MergedResults) -> list[Section]:
    """All that a report shows, by split."""
    return [_Split(merged, split).section() for split in _ordered(merged.scores.split.unique(), SPLITS)]


def summaries(results: Results) -> list[Table]:
    """The tables for the terminal, by split and corpus: emotion UAR under every attacker, and what is kept."""
    merged = merge({"results": results})
    found = [_Split(merged, split) for split in _ordered(merged.scores.split.unique(), SPLITS)]
    return [
        table for one in found for layout in (SUMMARIES if one.judged else (SUMMARY,)) for table in one.table(layout)
    ]


def _ordered(names: Iterable[str], first: Iterable[str]) -> list[str]:
    """``names``, those that ``first`` lists in its order before the others."""
    names, order = list(names), list(first)
    return [name for name in order if name in names] + [name for name in names if name not in order]


_KEYS = ["corpus", "system", "other", "block", "attribute", "metric", "judged", "member"]
"""Of one cell."""


def pooled(scores: pd.DataFrame) -> pd.DataFrame:
    """One line a score out of tidy rows.

    Of the rows of one run, those over all folds and seeds count if there are any, else those over all folds, else the
    mean of the folds, which has no interval, for the spread of folds is none. What no classifier of its own measured of
    speaker, gender and content, the ``ignorant`` attacker's did, who learned from original speech as well.

    Over seeds, values and ends of intervals are averaged. Seeds are scored on the same speakers, so their errors are
    dependent; the standard deviation of a mean is at most the mean of the standard deviations, so such an interval is no
    narrower than that of the mean. It speaks of other speakers; ``least`` and ``greatest`` speak of other trainings.
    """
    rows = scores.assign(seed=scores.seed.fillna(-1), run_seed=scores.run_seed.fillna(-1))
    rows[["metric", "_", "other"]] = rows.metric.str.partition("-minus-")
    rows["judged"] = rows.judge.notna()
    known = pd.MultiIndex.from_frame(rows[["attribute", "metric", "judged"]]).isin(MEASURES)
    rows = rows[known | rows.judged]
    emotion, stand_in = rows.attribute == "emotion", rows.attacker == "ignorant"
    rows["member"] = rows.seed.where(emotion & rows.attacker.str.contains("/", na=False), -1)
    rows["block"] = rows.attacker.where(emotion, rows.judge.where(rows.judged, rows.attribute))
    rows["rank"] = np.select([rows.fold.notna(), rows.seed >= 0], [2, 1], 0) + 3 * (~emotion & stand_in)
    rows = rows[(emotion & rows.attacker.notna()) | (~emotion & (stand_in | rows.attacker.isna()))]
    best = rows.groupby([*_KEYS, "run_seed"])["rank"].transform("min")
    runs = rows[rows["rank"] == best].groupby([*_KEYS, "run_seed", "seed"], sort=False)
    numbers = ["value", "low", "high"]
    means = runs[numbers].mean(skipna=False).assign(n=runs.n.sum(), folds=runs.fold.count())
    means.loc[runs.size() > 1, ["low", "high"]] = np.nan
    seeds = means.groupby(_KEYS, sort=False)
    spread = seeds.agg(
        n=("n", "max"), folds=("folds", "max"), seeds=("n", "size"), least=("value", "min"), greatest=("value", "max")
    )
    return seeds[numbers].mean(skipna=False).join(spread).reset_index()


class _Split:
    def __init__(self, merged: MergedResults, split: str) -> None:
        self.merged, self.split = merged, split
        here = merged.scores[merged.scores.split == split]
        wholes = {name: role.partition(REPETITION)[2] for name, role in merged.roles.items()}
        # the mean stands for single repetitions
        behind = [name for name, whole in wholes.items() if whole and (here.system == whole).any()]
        self.rows = here[~(here.system.isin(behind) | here.metric.str.partition("-minus-")[2].isin(behind))]
        self.corpora = list(self.rows.corpus.unique())
        named = self.rows[self.rows.attribute == "emotion"].attacker.dropna().unique()
        self.attackers = _ordered((name for name in named if name != SHUFFLED and "/" not in name), ATTACKERS)
        self.roles = {"original": "control", "copy-synthesis": "control"} | merged.roles
        systems = _ordered(self.rows.system.unique(), self.roles)
        self.controls = [system for system in systems if self.roles.get(system) == "control"]
        self.systems = _ordered(systems, self.controls)
        of_folds = self.rows[self.rows.fold.notna()].groupby(["corpus", "run_seed", "system"], dropna=False)
        self.tested = of_folds.fold.agg(frozenset)
        members = here[here.system.isin(behind)]
        whole = members.system.map(wholes)
        self.repeated = set(zip(members.corpus, whole, strict=True))
        self.trainings = _trainings(self.rows, self.rows.system) | _trainings(members, whole)
        cells = pooled(here)
        spread = _spread(cells[cells.system.isin(behind)], wholes)
        cells = cells[~(cells.system.isin(behind) | cells.other.isin(behind))].merge(spread, "left", _KEYS)
        cells["trainings"] = [self._compared(*key) for key in zip(cells.corpus, cells.system, cells.other, strict=True)]
        cells["measure"] = [_measure(*key) for key in zip(cells.attribute, cells.metric, cells.judged, strict=True)]
        cells["column"] = [_column(*key) for key in zip(cells.measure, cells.block, cells.member, strict=True)]
        cells["line"] = cells.system.where(cells.other == "", cells.system + " − " + cells.other)
        cells["collapsed"] = _collapsed(cells, split, merged)
        cells["chance"] = [self._chance(*key) for key in zip(cells.corpus, cells.measure, strict=True)]
        self.several_seeds, self.judged = bool((cells.seeds > 1).any()), bool(cells.judged.any())
        self.scores, self.differences = cells[cells.other == ""], cells[cells.other != ""]

    def _compared(self, corpus: str, *systems: str) -> tuple[int, ...]:
        """Of how many trainings each of a cell's systems is, controls left out; nothing where none of them is repeated."""
        if not any((corpus, system) in self.repeated for system in systems):
            return ()
        return tuple(self.trainings[corpus, name] for name in systems if name and name not in self.controls)

    def _chance(self, corpus: str, measure: Measure) -> float:
        levels = self.merged.chance.get(corpus, {}) if measure.metric.startswith(("accuracy", "uar")) else {}
        return levels.get(measure.attribute, measure.chance)

    def section(self) -> Section:
        tables = [table for layout in LAYOUTS for table in self.table(layout)]
        pairs = self.differences
        # of several trainings against one, the interval says nothing of how the one would differ if it were repeated
        alike = [
            len(trainings) < 2 or {(corpus, system), (corpus, other)} <= self.repeated
            for corpus, system, other, trainings in zip(
                pairs.corpus, pairs.system, pairs.other, pairs.trainings, strict=True
            )
        ]
        pairs = pairs.assign(marked=((pairs.low > 0) | (pairs.high < 0)) & np.array(alike, bool))
        columns = self._columns(Layout("", "", (*EMOTION, BITS), (*JUDGED, *SPEAKER, *REST, *SIGNAL)))
        tables += self._tables("Differences", "paired differences between systems", pairs, columns, pairs.line.unique())
        members = self.scores[self.scores.block.str.contains("/") & (self.scores.metric == "uar")]
        names = sorted(members.block.unique(), key=lambda name: not name.startswith("informed/"))
        found = set(zip(members.block, members.member, members.column, strict=True))
        columns = [column for *_, column in sorted(found, key=lambda one: (names.index(one[0]), one[1]))]
        tables += self._tables("Members", "UAR of every single attacker", members, columns, self.systems)
        settings = {corpus: self._setting(corpus) for corpus in self.corpora}
        return Section(self.split, settings, self.attackers, tables, self.several_seeds, bool(self.repeated))

    def table(self, layout: Layout) -> list[Table]:
        """A layout's table of every corpus, without the columns in which nothing was measured."""
        if any(measure.judged for measure in layout.kept) and not self.judged:
            return []
        title, systems = layout.title, self.systems
        if layout.name == ABLATIONS:
            whole = {name: self.roles.get(name, "").partition("ablation of ")[2] for name in systems}
            ablated = dict.fromkeys(filter(None, whole.values()))
            title += ", ".join(ablated)
            systems = [name for name in systems if ablated and (whole[name] or name in (*self.controls, *ablated))]
        cells = self.scores[self.scores.system.isin(systems)]
        return self._tables(layout.name, title, self._with_best(cells), self._columns(layout), systems)

    def _columns(self, layout: Layout) -> list[tuple[str, str, str]]:
        emotion = [
            _column(measure, attacker)
            for attacker in self.attackers
            for measure in (*layout.emotion, *(layout.headline if attacker == "strongest" else ()))
        ]
        judged = self.scores[self.scores.judged].block
        judges = [name for name in dict.fromkeys(judged) if name != "level"] + ["level"]
        own = [_column(measure, measure.attribute) for measure in layout.kept if not measure.judged]
        asked = [measure for measure in layout.kept if measure.judged]
        if set(JUDGED) <= set(asked):
            asked += dict.fromkeys(one for one in self.scores.measure if one.judged and one not in JUDGED)
        return emotion + [_column(measure, judge) for judge in judges for measure in asked] + own

    def _with_best(self, cells: pd.DataFrame) -> pd.DataFrame:
        """The cells, those ``marked`` that print as the best of their column among several protecting systems.

        An emotion score beyond chance is no better than chance: an attacker who is wrong more often than a guess knows
        something. Systems of which different folds were tested are not compared.
        """
        several = self.tested.groupby("corpus").nunique()
        apart = cells.corpus.isin(several[several > 1].index) | cells.system.isin(self.controls)
        compared = cells[cells.value.notna() & ~apart]
        ranks = [_rank(*key) for key in zip(compared.measure, compared.value, compared.chance, strict=True)]
        of_column = compared.assign(rank=ranks).groupby(["corpus", "column"])["rank"]
        best = (ranks == of_column.transform("max")) & (of_column.transform("size") > 1)
        return cells.assign(marked=cells.index.isin(best[best].index))

    def _tables(
        self, name: str, title: str, cells: pd.DataFrame, columns: Sequence[Any], lines: Iterable[str]
    ) -> list[Table]:
        cells = cells[cells.column.isin(columns)]
        measures = dict(zip(cells.column, cells.measure, strict=True))
        columns = [column for column in columns if column in measures]
        tables = []
        for corpus, own in cells.groupby("corpus", sort=False):
            n = mode(own.n)
            own = own.assign(cell=[_cell(row, n) for row in own.itertuples()])
            shown = [line for line in lines if line in set(own.line)]
            # not every judge knows every corpus's language
            there = [column for column in columns if column in set(own.column)]
            frame = own.pivot(index="line", columns="column", values="cell").reindex(index=shown, columns=there)
            frame = frame.astype(object).where(frame.notna(), Cell("–"))
            levels = [self._chance(corpus, measures[column]) for column in there]
            if name != "Differences" and not np.isnan(levels).all():
                frame.loc["chance"] = [Cell(measures[c].format(x)) for c, x in zip(there, levels, strict=True)]
            frame.columns = pd.MultiIndex.from_tuples(there, names=[None, None, "system"])
            folds = self._folds(corpus)
            part = folds if " of " in folds else ""
            tables.append(Table(name, title, self.split, corpus, part, n, frame.rename_axis(index=None), self.controls))
        return tables

    def _folds(self, corpus: str) -> str:
        counts = sorted(len(folds) for (of, *_), folds in self.tested.items() if of == corpus)
        if not counts:
            return ""
        least, most = counts[0], counts[-1]
        there_are = max(self.merged.folds.get((self.split, corpus), 0), most)
        tested = f"{least} to {most}" if most > least else f"{least}"
        return f"{tested}{f' of {there_are}' if least < there_are else ''} fold{'s' * (there_are > 1)}"

    def _setting(self, corpus: str) -> Setting:
        rows, chance = self.rows[self.rows.corpus == corpus], self.merged.chance.get(corpus, {})
        cells = self.scores[(self.scores.corpus == corpus) & (self.scores.attribute == "emotion")]
        counts = cells[(cells.metric == "uar") & cells.block.isin(self.attackers)].n
        seeds = sorted(rows.run_seed.fillna(rows.seed).dropna().unique())
        units = self.merged.units.get((self.split, corpus))
        levels = ", ".join(f"{name} {100 * level:.1f}" for name, level in chance.items())
        parts = [
            f"n = {mode(counts)} utterances" if len(counts) else "",
            self._folds(corpus),
            f"intervals over {units}" if units else "",
            f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else "",
            f"chance accuracy: {levels}" if levels else "chance accuracies were not recorded",
        ]
        text = "; ".join(filter(None, parts)) + "."
        original = {(row.block, row.metric): row for row in cells[cells.system == "original"].itertuples()}
        if self.attackers:
            found = {name: original.get((name, "accuracy")) for name in self.attackers}
            valid = ", ".join(f"{name} {_cell(row) if row else 'not measured'}" for name, row in found.items())
            text += f" Emotion accuracy of the attackers on original speech: {valid}."
        right = original.get((SHUFFLED, "uar")) or original.get((SHUFFLED, "accuracy"))
        checked = [row for row in (right, original.get((SHUFFLED, "bits"))) if row is not None]
        if not checked:
            return Setting(text)
        text += f" Chance check, {SHUFFLED}: {' and '.join(f'{row.measure.name} {_cell(row)}' for row in checked)}"
        # rounding alone must not raise the alarm where all permutations score alike
        away = [row for row in checked if row.chance < row.low - 1e-9 or row.chance > row.high + 1e-9]
        if away:
            names = "" if len(away) == len(checked) else f"{away[0].measure.name} "
            honest = "twenty" if len(checked) == 1 else "ten"
            warning = (
                f"look for a leak before you believe any score here (up to one honest run in {honest} says so as well"
            )
            return Setting(f"{text}, {names}NOT at chance: {warning}: raise the number of permutations).", leak=True)
        if any(pd.isna([row.low, row.chance]).any() for row in checked):
            return Setting(f"{text}.")
        return Setting(f"{text}, at chance as {'it' if len(checked) == 1 else 'they'} must be.")


def _trainings(rows: pd.DataFrame, whole: pd.Series) -> dict[tuple[str, str], int]:
    """(corpus, system) → how often it was trained, where ``whole`` names the system of every row's training."""
    every = rows[["corpus", "system", "run_seed"]].assign(whole=whole).drop_duplicates()
    return dict(every.groupby(["corpus", "whole"]).size())


def _spread(members: pd.DataFrame, wholes: Mapping[str, str]) -> pd.DataFrame:
    """Of each score of a repeated system, the ``lowest`` and ``highest`` among the pooled scores of its trainings."""
    cells = members.assign(system=members.system.map(wholes).astype(members.system.dtype))
    return cells.groupby(_KEYS).agg(lowest=("least", "min"), highest=("greatest", "max")).reset_index()


def _measure(attribute: str, metric: str, judged: bool) -> Measure:
    """A metric as tables show it; one that only a judge of the user's own knows is shown under its name."""
    return MEASURES.get((attribute, metric, judged)) or Measure(attribute, metric, metric, "", 1, 3, judged=judged)


def _column(measure: Measure, block: str, seed: int = -1) -> tuple[str, str, str]:
    of_seed = f" seed {seed}" if seed >= 0 else ""
    purpose = HIDDEN if measure.attribute == "emotion" else KEPT
    return purpose, block.removesuffix(f"-{seed}"), f"{measure.name}{of_seed} {measure.better}".rstrip()


def _collapsed(cells: pd.DataFrame, split: str, merged: MergedResults) -> list[float]:
    """For each accuracy and UAR of an attacker, how often it names one class, if that is nearly all that it says; else NaN.

    Nearly all: more than half of the way from the share of the most frequent class, which who is always right names as often,
    to 1. Where a run doesn't state that share, classes count as even.
    """
    keys = ["corpus", "system", "other", "block"]
    named = cells[cells.metric == "most_predicted"].set_index(keys).value.to_dict()
    found = []
    for row in cells.itertuples():
        share = named.get((row.corpus, row.system, row.other, row.block), np.nan)
        even = merged.chance.get(row.corpus, {}).get("emotion", np.nan)
        largest = merged.largest_share.get((split, row.corpus), even)
        told = row.metric in ("accuracy", "uar") and share > (1 + largest) / 2
        found.append(share if told else np.nan)
    return found


def _rank(measure: Measure, value: float, chance: float) -> float:
    if measure.better == "→0":
        return -abs(round(measure.scale * value, measure.digits))
    if not measure.better:
        return np.nan
    sign = 1 if measure.better == "↑" else -1
    if measure.attribute == "emotion" and not np.isnan(chance):
        value = sign * min(sign * value, sign * chance)
    return sign * round(measure.scale * value, measure.digits)


def _cell(row: Any, n: int | None = None) -> Cell:
    """A pooled score as printed; its count is noted only where it isn't the ``n`` that is stated for all."""
    signed = row.other != ""

    def between(low: float, high: float, word: str) -> str:
        return f"{row.measure.format(low, signed)}{word}{row.measure.format(high, signed)}"

    notes = [f"n = {row.n}"] if row.n != n else []
    if not pd.isna(row.collapsed):
        notes.append(f"collapsed: one class in {100 * row.collapsed:.0f} %")
    if row.folds:
        notes.append(f"mean of {row.folds} folds" if row.folds > 1 else "one fold")
    if row.seeds > 1:
        notes.append(f"{row.seeds} seeds: {between(row.least, row.greatest, ' to ')}")
    if len(row.trainings) == 2:
        notes.append("{} against {} trainings".format(*row.trainings))
    elif row.trainings:
        spread = "" if pd.isna(row.lowest) else f": {between(row.lowest, row.highest, ' to ')}"
        notes.append(f"mean of {row.trainings[0]} trainings{spread}")
    interval = "" if pd.isna(row.low) else between(row.low, row.high, " to " if signed else "–")
    return Cell(row.measure.format(row.value, signed), interval, tuple(notes), bool(getattr(row, "marked", False)))
