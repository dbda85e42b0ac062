"""The tidy table that every figure and page is a view of: one row a score, as JSON and as CSV."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psegan.common.errors import PseganError
from psegan.common.files import write_json, write_text

SCHEMA = 1
"""Version of the file format, ``header.schema``; a change that older readers would misread raises it."""

_DTYPES = {"value": "float", "low": "float", "high": "float", "fold": "Int64", "n": "Int64", "seed": "Int64"}
_OPTIONAL = ("fold", "attacker", "low", "high", "seed")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One score, as a fraction of 1 where the metric is one.

    Attributes:
        system: what produced the speech (``original``, ``psegan``, ...).
        corpus, split: on what.
        fold: of a split that has several; none where all are pooled.
        attacker: who measured (``ignorant``, ``informed``, ...); none where no attacker is involved.
        attribute: ``emotion``, ``speaker``, ``gender`` or ``content`` (or what a signal measure is about).
        metric: ``accuracy``, ``uar``, ``auc``, ``eer``, ...
        value: the score; NaN where it has none.
        low, high: ends of its 95 % interval, both or neither.
        n: utterances it rests on.
        seed: of the run; none where several are pooled.

    Raises:
        ValueError: a name is empty, a number infinite or negative where it counts, or one end of an interval missing.
    """

    system: str
    corpus: str
    split: str
    fold: int | None = None
    attacker: str | None = None
    attribute: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is None and name in _OPTIONAL:
                continue
            if name not in _DTYPES:
                right, wanted = isinstance(value, str) and bool(value.strip()), "a non-empty name"
            elif _DTYPES[name] == "float":
                right, wanted = isinstance(value, Real) and not math.isinf(value), "a finite number"
            else:
                right, wanted = isinstance(value, Integral) and (name != "n" or int(value) >= 0), "a whole number"
            if not right or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}, but must be {wanted}")
        if pd.isna(self.low) != pd.isna(self.high):
            raise ValueError("low and high belong together: give both or neither")


COLUMNS = tuple(f.name for f in fields(Row))
"""Columns of the table, in order."""
NUMBERS = ["value", "low", "high", "n"]


def _plain(value: Any) -> Any:
    """The same value as JSON knows it: NaN and infinities become None, paths text, numpy's numbers Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


@dataclass
class Results:
    """A header that says how the scores came about, and the scores.

    Attributes:
        header: plain values (text, numbers, lists, mappings): configuration, versions, commit, hashes of data and
            weights. ``schema`` is set on writing. The report reads ``seed``, ``shortened``, and, where they are there:
            ``chance`` (corpus → attribute → chance level of an accuracy), ``folds`` (corpus → how many the split has),
            ``units`` (corpus → what intervals are over), and ``roles`` (system → ``control``, ``system`` or
            ``ablation of NAME``).
        rows: one a score.
    """

    header: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows, one a line; what is missing is NaN or NA."""
        frame = pd.DataFrame([vars(row) for row in self.rows], columns=list(COLUMNS))
        return frame.astype({name: _DTYPES.get(name, "str") for name in COLUMNS})

    def select(self, **criteria: Any) -> list[Row]:
        """Rows whose columns equal the criteria, as ``select(system="psegan", metric="eer")``.

        Raises:
            ValueError: there is no such column.
        """
        if unknown := set(criteria) - set(COLUMNS):
            raise ValueError(f"no column {sorted(unknown)[0]!r}: one of {', '.join(COLUMNS)}")
        return [row for row in self.rows if all(getattr(row, key) == value for key, value in criteria.items())]

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write ``{"header": {...}, "rows": [...]}`` atomically; NaN becomes null."""
        header = {**self.header, "schema": SCHEMA}
        write_json(path, _plain({"header": header, "rows": [vars(row) for row in self.rows]}))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows atomically, one line a row below the names of the columns; what is missing stays empty."""
        write_text(path, self.frame.to_csv(index=False, lineterminator="\n"))

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Results":
        """Read what :meth:`to_json` wrote.

        Raises:
            PseganError: the file is missing, not such a table, of another schema, or a row is malformed.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            header, rows = (content.get("header"), content.get("rows")) if isinstance(content, dict) else (None, None)
            if not isinstance(header, dict) or not isinstance(rows, list):
                raise ValueError("is not a table of results with 'header' and 'rows'")
            _check_header(header)
            return cls(header, [_row(number, row) for number, row in enumerate(rows, 1)])
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        except json.JSONDecodeError as error:
            problem = f"is not JSON ({error})"
        except ValueError as error:
            problem = str(error)
        raise PseganError(f"{path}: {problem}; write it anew with 'psegan evaluate' or 'psegan reproduce'")


def _check_header(header: dict[str, Any]) -> None:
    if (found := header.get("schema", "none")) != SCHEMA:
        raise ValueError(f"has schema {found}, but this version of psegan reads schema {SCHEMA}")
    chance, roles = header.get("chance", {}), header.get("roles", {})
    if not isinstance(chance, dict) or not all(map(_are_levels, chance.values())):
        raise ValueError("header.chance is not corpus -> attribute -> a number from 0 to 1")
    if not isinstance(roles, dict) or not all(isinstance(role, str) for role in roles.values()):
        raise ValueError("header.roles is not system -> control, system or ablation of NAME")


def _row(number: int, columns: Any) -> Row:
    if not isinstance(columns, dict):
        raise ValueError(f"row {number}: is not a mapping")
    for name in sorted(set(columns) ^ set(COLUMNS)):
        raise ValueError(f"row {number}: {'lacks' if name in COLUMNS else 'has an unknown'} column {name!r}")
    try:
        return Row(**{**columns, "value": math.nan if columns["value"] is None else columns["value"]})
    except ValueError as error:
        raise ValueError(f"row {number}: {error}") from None


def _are_levels(levels: Any) -> bool:
    return isinstance(levels, dict) and all(isinstance(x, int | float) and 0 <= x <= 1 for x in levels.values())


@dataclass
class MergedResults:
    """The scores of several runs, and what their headers say of all of them.

    Attributes:
        scores: the columns of :class:`Row`, and ``run_seed``, the seed of the run's header. Rows that differ in it
            alone repeat an experiment.
        chance: corpus → attribute → chance level of an accuracy.
        folds: (split, corpus) → how many folds the split has, where a run says so.
        units: (split, corpus) → what intervals are over, where a run says so.
        roles: system → ``control``, ``system`` or ``ablation of NAME``, as far as the runs say so.
    """

    scores: pd.DataFrame
    chance: dict[str, dict[str, float]] = field(default_factory=dict)
    folds: dict[tuple[str, str], int] = field(default_factory=dict)
    units: dict[tuple[str, str], str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)


def merge(runs: Mapping[str, Results]) -> MergedResults:
    """Join the results of several runs, keeping apart those whose seeds differ.

    Runs of one seed complement each other: other systems, other corpora. A score that two of them state alike is kept
    once; another number of threads may change its last digits. Runs of another seed repeat the experiment.

    Args:
        runs: name → results; the name stands in messages.

    Raises:
        PseganError: a run has no rows, two runs of one seed state different values of one score, or two runs state
            different chance levels.
    """
    frames: list[pd.DataFrame] = []
    stated: dict[tuple[str, str], tuple[float, str]] = {}
    merged = MergedResults(pd.DataFrame())
    for name, results in runs.items():
        header, frame, seed = results.header, results.frame, results.header.get("seed")
        if not results.rows:
            raise PseganError(f"{name}: results.json has no rows; leave the run out, or write it anew")
        if not isinstance(seed, int | None):
            raise PseganError(f"{name}: header.seed is {seed!r}, but must be one whole number; write the run anew")
        frames.append(frame.assign(run=name, run_seed=pd.Series(seed, frame.index, dtype="Int64")))
        for corpus, levels in header.get("chance", {}).items():
            for attribute, level in levels.items():
                known, other = stated.setdefault((corpus, attribute), (level, name))
                if not math.isclose(known, level, abs_tol=1e-9):
                    raise PseganError(
                        f"{other} and {name} differ in the chance level of {attribute} on {corpus} ({known:g} and "
                        f"{level:g}), so their classes differ and cannot be compared; report them apart"
                    )
                merged.chance.setdefault(corpus, {})[attribute] = known
        tested = {(row.split, row.corpus) for row in results.rows}
        for key, of_all in (("folds", merged.folds), ("units", merged.units)):
            of_all |= {of: header[key][of[1]] for of in tested if of[1] in header.get(key, {})}
        merged.roles |= header.get("roles", {})
    merged.scores = _joined(pd.concat(frames, ignore_index=True))
    return merged


def _joined(scores: pd.DataFrame) -> pd.DataFrame:
    keys = ["run_seed", *(name for name in COLUMNS if name not in NUMBERS)]
    first = scores.drop_duplicates(keys)
    pairs = first.merge(scores, on=keys, suffixes=("", "_again"))
    before, again = (pairs[[name + end for name in NUMBERS]].to_numpy(float) for end in ("", "_again"))
    differ = ~np.isclose(before, again, rtol=1e-9, atol=1e-6, equal_nan=True).all(axis=1)
    for row in pairs[differ].to_dict("records"):
        what = ", ".join(str(row[key]) for key in ("system", "corpus", "split", "attacker") if not pd.isna(row[key]))
        raise PseganError(
            f"{row['run']} and {row['run_again']} differ in {row['attribute']} {row['metric']} of {what}: {_score(row)} and "
            f"{_score(row, '_again')}, with the same seed {row['run_seed']}; leave one of them out"
        )
    return first.drop(columns="run").reset_index(drop=True)


def _score(row: Mapping[Any, Any], end: str = "") -> str:
    value, low, high, n = (row[name + end] for name in NUMBERS)
    return f"{value:.4g}{'' if pd.isna(low) else f' [{low:.4g}, {high:.4g}]'} (n = {n})"
