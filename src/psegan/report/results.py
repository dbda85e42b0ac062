"""The tidy table that every figure and page is a view of: one row a score, as JSON and as CSV."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from psegan.common.errors import PseganError
from psegan.common.files import write_json, write_text

SCHEMA = 1
"""Version of the file format, ``header.schema``; a change that older readers would misread raises it."""


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
        for name in ("system", "corpus", "split", "attribute", "metric", "attacker"):
            value = getattr(self, name)
            if not (value is None and name == "attacker") and not (isinstance(value, str) and value.strip()):
                raise ValueError(f"{name} is {value!r}, but must be a non-empty name")
        for name in ("value", "low", "high"):  # numpy's numbers become Python's, which JSON knows
            number = getattr(self, name)
            if number is None and name != "value":
                continue
            if isinstance(number, bool | str) or not hasattr(number, "__float__") or math.isinf(number):
                raise ValueError(f"{name} is {number!r}, but must be a finite number")
            number = float(number)
            object.__setattr__(self, name, None if name != "value" and math.isnan(number) else number)
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high belong together: give both or neither")
        for name in ("n", "fold", "seed"):
            count = getattr(self, name)
            if count is None and name != "n":
                continue
            if isinstance(count, bool) or not hasattr(count, "__index__") or (name == "n" and count < 0):
                raise ValueError(f"{name} is {count!r}, but must be a whole number")
            object.__setattr__(self, name, int(count))


COLUMNS = tuple(f.name for f in fields(Row))
"""Columns of the table, in order."""


def _without_nan(value: Any) -> Any:
    """The same value with NaN and infinities as None, since JSON has neither, and paths as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@dataclass
class Results:
    """A header that says how the scores came about, and the scores.

    Attributes:
        header: plain values (text, numbers, lists, mappings): configuration, versions, commit, hashes of data and
            weights. ``header["chance"][corpus][attribute]``, if there, is the chance level of an accuracy, shown by
            the report. ``schema`` is set on writing.
        rows: one a score.
    """

    header: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

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
        write_json(path, _without_nan({"header": header, "rows": [asdict(row) for row in self.rows]}))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows atomically, one line a row below the names of the columns; what is missing stays empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_without_nan(asdict(row)) for row in self.rows)
        write_text(path, text.getvalue())

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Results":
        """Read what :meth:`to_json` wrote.

        Raises:
            PseganError: the file is missing, not such a table, of another schema, or a row is malformed.
        """
        remedy = "write it anew with 'psegan evaluate' or 'psegan reproduce'"
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise PseganError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
        except ValueError as error:
            raise PseganError(f"{path}: is not JSON ({error}); {remedy}") from None
        header = content.get("header") if isinstance(content, dict) else None
        rows = content.get("rows") if isinstance(content, dict) else None
        if not isinstance(header, dict) or not isinstance(rows, list):
            raise PseganError(f"{path}: is not a table of results with 'header' and 'rows'; {remedy}")
        if header.get("schema") != SCHEMA:
            found = header.get("schema", "none")
            raise PseganError(f"{path}: has schema {found}, but this version of psegan reads schema {SCHEMA}; {remedy}")
        if not _has_chance_levels(header):
            raise PseganError(f"{path}: header.chance is not corpus -> attribute -> a number from 0 to 1; {remedy}")
        parsed = []
        for number, row in enumerate(rows, 1):
            try:
                if not isinstance(row, dict):
                    raise ValueError("is not a mapping")
                if unknown := set(row) - set(COLUMNS):
                    raise ValueError(f"has an unknown column {sorted(unknown)[0]!r}")
                if missing := [name for name in COLUMNS if name not in row]:
                    raise ValueError(f"lacks column {missing[0]!r}")
                parsed.append(Row(**{**row, "value": math.nan if row["value"] is None else row["value"]}))
            except ValueError as error:
                raise PseganError(f"{path}: row {number}: {error}; {remedy}") from None
        return cls(header, parsed)


def _has_chance_levels(header: Mapping[str, Any]) -> bool:
    corpora = header.get("chance", {})
    return isinstance(corpora, dict) and all(
        isinstance(levels, dict) and all(isinstance(x, int | float) and 0 <= x <= 1 for x in levels.values())
        for levels in corpora.values()
    )


def merge(runs: Mapping[str, Results]) -> dict[int | None, Results]:
    """Join the results of several runs, keeping apart those whose seeds differ.

    Runs of one seed complement each other: other systems, other corpora. A score that two of them state alike is kept
    once. Runs of another seed repeat the experiment, so their rows have the same names and other values.

    Args:
        runs: name → results; the name stands in messages.

    Returns:
        ``header["seed"]`` (none where a header states none) → the rows of all its runs, in order. Every header is
        ``{"seed": ..., "chance": ..., "runs": {name: header}}`` with the chance levels of all runs.

    Raises:
        PseganError: a run has no rows, two runs of one seed state different values of one score, or two runs state
            different chance levels.
    """
    merged: dict[int | None, Results] = {}
    chance: dict[str, dict[str, float]] = {}
    sources: dict[tuple[int | None, Row], tuple[str, Row]] = {}
    for name, results in runs.items():
        if not results.rows:
            raise PseganError(f"{name}: results.json has no rows; leave the run out, or write it anew")
        _merge_chance(chance, name, results, sources=runs)
        seed = results.header.get("seed")
        if not isinstance(seed, int | None):
            raise PseganError(f"{name}: header.seed is {seed!r}, but must be one whole number; write the run anew")
        part = merged.setdefault(seed, Results({"seed": seed, "chance": chance, "runs": {}}))
        part.header["runs"][name] = results.header
        for row in results.rows:
            key = seed, replace(row, value=0.0, low=None, high=None, n=0)
            if key not in sources:
                sources[key] = name, row
                part.rows.append(row)
            elif not _same(sources[key][1], row):
                other, before = sources[key]
                what = ", ".join(str(x) for x in (row.system, row.corpus, row.split, row.attacker) if x is not None)
                raise PseganError(
                    f"{other} and {name} differ in {row.attribute} {row.metric} of {what}: {_score(before)} and "
                    f"{_score(row)}, with the same seed {seed}; leave one of them out"
                )
    return merged


def _merge_chance(
    chance: dict[str, dict[str, float]], name: str, results: Results, sources: Mapping[str, Results]
) -> None:
    for corpus, levels in results.header.get("chance", {}).items():
        for attribute, level in levels.items():
            known = chance.setdefault(corpus, {}).setdefault(attribute, level)
            if not math.isclose(known, level, abs_tol=1e-9):
                other = next(
                    run
                    for run, read in sources.items()
                    if read.header.get("chance", {}).get(corpus, {}).get(attribute) == known
                )
                raise PseganError(
                    f"{other} and {name} differ in the chance level of {attribute} on {corpus} ({known:g} and "
                    f"{level:g}), so their classes differ and cannot be compared; report them apart"
                )


def _same(a: Row, b: Row) -> bool:
    """Whether two rows state the same score; another number of threads may change its last digits."""
    numbers = [(getattr(a, name), getattr(b, name)) for name in ("value", "low", "high")]
    return a.n == b.n and all(
        x is y or (x is not None and y is not None and (math.isclose(x, y, abs_tol=1e-6) or (x != x and y != y)))
        for x, y in numbers
    )


def _score(row: Row) -> str:
    interval = "" if row.low is None or row.high is None else f" [{row.low:.4g}, {row.high:.4g}]"
    return f"{row.value:.4g}{interval} (n = {row.n})"
