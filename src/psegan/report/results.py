"""The tidy table that every figure and page is a view of: one row a score, as JSON and as CSV."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psegan.common.errors import PseganError
from psegan.common.files import not_a_file, write_json, write_text
from psegan.common.settings import parse_settings

SCHEMA = 1
"""Version of the file format, ``header.schema``; a change that older readers would misread raises it."""

_DTYPES = {"value": "float", "low": "float", "high": "float", "fold": "Int64", "n": "Int64", "seed": "Int64"}
_KINDS = {"str": str, "float": Real, "Int64": Integral}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One score, as a fraction of 1 where the metric is one.

    Attributes:
        system: what produced the speech (``original``, ``psegan``, ...).
        corpus, split: on what.
        fold: of a split that has several; none where all are pooled.
        attacker: who attacked (``ignorant``, ``informed``, ...); none where no attacker is involved.
        judge: who listened (``moonshine``, ``level``, ...), of the judges that nobody here trained; else none.
        attribute: ``emotion``, ``speaker``, ``gender``, ``content``, ``words`` or, of a measure of the signal, ``speech``.
        metric: ``accuracy``, ``uar``, ``auc``, ``eer``, ...
        value: the score; NaN where it has none.
        low, high: ends of its 95 % interval, both or neither.
        n: utterances it rests on.
        seed: of the run; none where several are pooled.

    Raises:
        ValueError: a column has another type or is an empty name, or one end of an interval is missing.
    """

    system: str
    corpus: str
    split: str
    fold: int | None = None
    attacker: str | None = None
    judge: str | None = None
    attribute: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    seed: int | None = None

    def __post_init__(self) -> None:
        for column in fields(self):
            value, kind = getattr(self, column.name), _DTYPES.get(column.name, "str")
            if value is None and column.default is None:
                continue
            if not isinstance(value, _KINDS[kind]) or value == "":
                raise ValueError(f"{column.name} is {value!r}, but must be of type {kind}")
        if pd.isna(self.low) != pd.isna(self.high):
            raise ValueError("low and high belong together: give both or neither")


COLUMNS = tuple(f.name for f in fields(Row))
"""Columns of the table, in order."""
NUMBERS = ["value", "low", "high", "n"]


def _plain(value: Any) -> Any:
    """The same value as JSON knows it: NaN and infinities become None, paths text, numpy's numbers Python's."""
    text = json.dumps(value, default=lambda one: one.item() if isinstance(one, np.generic) else str(one))
    return json.loads(text, parse_constant=lambda constant: None)


@dataclass
class Results:
    """A header that says how the scores came about, and the scores.

    Attributes:
        header: plain values: configuration, versions, commit, hashes of data and weights. ``schema`` is set on writing.
            The report reads ``seed``, ``shortened``, and what :class:`MergedResults` lists, by corpus.
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
        """Rows whose columns equal the criteria, as ``select(system="psegan", metric="eer")``."""
        return [row for row in self.rows if all(getattr(row, key) == value for key, value in criteria.items())]

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write ``{"header": {...}, "rows": [...]}`` atomically; NaN becomes null."""
        content = {"header": {**self.header, "schema": SCHEMA}, "rows": [vars(row) for row in self.rows]}
        write_json(path, _plain(content))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows atomically, one line a row below the names of the columns; what is missing stays empty."""
        write_text(path, self.frame.to_csv(index=False, lineterminator="\n"))

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Results":
        """Read what :meth:`to_json` wrote.

        Raises:
            PseganError: the file is missing, not such a table, of another schema, or a row is malformed.
        """
        again = "write it anew with 'psegan evaluate' or 'psegan reproduce'"
        if problem := not_a_file(path):
            raise PseganError(f"{path}: {problem}; {again}")
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            header, rows = content["header"], content["rows"]
            if (found := header.get("schema", "none")) != SCHEMA:
                raise ValueError(f"has schema {found}, but this version of psegan reads schema {SCHEMA}")
            header |= _checked({key: header[key] for key in _HEADER if key in header})
            return cls(header, [_row(number, row) for number, row in enumerate(rows, 1)])
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        except json.JSONDecodeError as error:
            problem = f"is not JSON ({error})"
        except (UnicodeDecodeError, RecursionError):
            problem = "is not JSON"
        except (TypeError, KeyError, AttributeError):
            problem = "is not a table of results with 'header' and 'rows'"
        except ValueError as error:
            problem = str(error)
        raise PseganError(f"{path}: {problem}; {again}")


def _row(number: int, row: Any) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"row {number} is {row!r}, but must be an object")
    if missing := [one.name for one in fields(Row) if one.default is MISSING and one.name not in row]:
        raise ValueError(f"row {number} lacks {missing[0]}")
    if unknown := row.keys() - COLUMNS:
        raise ValueError(f"row {number} has {min(unknown)}, which is no column")
    try:
        return Row(**row | {"value": math.nan if row["value"] is None else row["value"]})
    except ValueError as error:
        raise ValueError(f"row {number}: {error}") from None


@dataclass
class _ReadHeader:
    """What the report reads of a header, by corpus; see :class:`MergedResults`."""

    seed: int | None = None
    shortened: str = ""
    chance: dict[str, dict[str, float]] = field(default_factory=dict)
    largest_share: dict[str, float] = field(default_factory=dict)
    folds: dict[str, int] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)


_HEADER = tuple(one.name for one in fields(_ReadHeader))


def _checked(header: dict[str, Any]) -> dict[str, Any]:
    try:
        read = vars(parse_settings(_ReadHeader, header, "header"))
    except PseganError as error:
        raise ValueError(str(error)) from None
    return {key: read[key] for key in header}


@dataclass
class MergedResults:
    """The scores of several runs, and what their headers say of all of them.

    Attributes:
        scores: the columns of :class:`Row`, and ``run_seed``, the seed of the run's header. Rows that differ in it
            alone repeat an experiment.
        chance: corpus → attribute → chance level of an accuracy.
        largest_share: (split, corpus) → share of the most frequent emotion, by fold of the test set, where a run says so.
        folds: (split, corpus) → how many folds the split has, where a run says so.
        units: (split, corpus) → what intervals are over, where a run says so.
        roles: system → ``control``, ``system`` or ``ablation of NAME``, as far as the runs say so.
    """

    scores: pd.DataFrame
    chance: dict[str, dict[str, float]] = field(default_factory=dict)
    largest_share: dict[tuple[str, str], float] = field(default_factory=dict)
    folds: dict[tuple[str, str], int] = field(default_factory=dict)
    units: dict[tuple[str, str], str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)


def merge(runs: Mapping[str, Results]) -> MergedResults:
    """Join the results of several runs by name, keeping apart those whose seeds differ.

    Runs of one seed complement each other: other systems, other corpora. A score that two of them state alike is kept
    once; another number of threads may change its last digits. Runs of another seed repeat the experiment.

    Raises:
        PseganError: two runs of one seed state different values of one score, or two runs different chance levels.
    """
    frames: list[pd.DataFrame] = []
    stated: dict[tuple[str, str], tuple[float, str]] = {}
    merged = MergedResults(pd.DataFrame())
    for name, results in runs.items():
        header, frame, seed = results.header, results.frame, results.header.get("seed")
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
        by_split: dict[str, dict[tuple[str, str], Any]]
        by_split = {"folds": merged.folds, "units": merged.units, "largest_share": merged.largest_share}
        for key, of_all in by_split.items():
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
        one, other = (" ".join(f"{name} {row[name + end]:.6g}" for name in NUMBERS) for end in ("", "_again"))
        raise PseganError(
            f"{row['run']} and {row['run_again']} differ in {row['attribute']} {row['metric']} of {what}: {one} and "
            f"{other}, with the same seed {row['run_seed']}; leave one of them out"
        )
    return first.drop(columns="run").reset_index(drop=True)
