"""The tidy table: what goes in comes out, and nothing malformed comes in."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from psegan.errors import PseganError
from psegan.evaluation.results import COLUMNS, SCHEMA, Results, Row


def row(**changes: Any) -> Row:
    columns: dict[str, Any] = {
        "system": "psegan", "corpus": "ravdess", "split": "paper", "attribute": "emotion", "metric": "uar",
        "value": 0.25, "n": 120,
    }  # fmt: skip
    return Row(**{**columns, **changes})


def table() -> Results:
    rows = [row(), row(fold=2, attacker="informed", low=0.1, high=0.4, seed=7), row(system='mel, "quoted"')]
    return Results({"versions": {"torch": "2.11.0"}, "config": {"lr": 1e-4, "nothing": None}}, rows)


def test_round_trip(tmp_path: Path) -> None:
    table().to_json(tmp_path / "results.json")
    read = Results.from_json(tmp_path / "results.json")
    assert read.rows == table().rows
    assert read.header == {**table().header, "schema": SCHEMA}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]  # no temporary file is left


def test_nan_becomes_null_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    header = {"loss": float("nan"), "root": Path("a/b"), "steps": (1, 2)}
    Results(header, [row(value=math.nan, low=math.nan, high=math.nan)]).to_json(path)
    content = json.loads(path.read_text())
    assert content["header"] == {"loss": None, "root": "a/b", "steps": [1, 2], "schema": SCHEMA}
    assert content["rows"][0]["value"] is None and content["rows"][0]["low"] is None
    read = Results.from_json(path).rows[0]
    assert math.isnan(read.value) and read.low is None and read.high is None


def test_csv_has_the_same_rows(tmp_path: Path) -> None:
    results = table()
    results.rows.append(row(value=math.nan))
    results.to_csv(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert tuple(read[0]) == COLUMNS
    assert [line["value"] for line in read] == ["0.25", "0.25", "0.25", ""]
    assert (read[1]["fold"], read[1]["attacker"], read[1]["low"], read[1]["seed"]) == ("2", "informed", "0.1", "7")
    assert read[0]["fold"] == read[0]["attacker"] == read[0]["low"] == ""
    assert read[2]["system"] == 'mel, "quoted"'


def test_columns_are_those_of_the_specification() -> None:
    assert ", ".join(COLUMNS) == "system, corpus, split, fold, attacker, attribute, metric, value, low, high, n, seed"


def test_numpy_numbers_are_plain_numbers(tmp_path: Path) -> None:
    made = row(value=np.float32(0.5), low=np.float64(0), high=np.float64(1), n=np.int64(3), seed=np.int32(1))
    assert [type(x) for x in (made.value, made.low, made.n, made.seed)] == [float, float, int, int]
    Results({}, [made]).to_json(tmp_path / "results.json")


def test_select() -> None:
    results = table()
    assert results.select(attacker="informed") == [results.rows[1]]
    assert results.select(system="psegan", fold=None) == [results.rows[0]]
    with pytest.raises(ValueError, match="no column 'colour'"):
        results.select(colour="red")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": ""}, "system is ''"),
        ({"metric": "  "}, "metric"),
        ({"corpus": None}, "corpus is None"),
        ({"attacker": ""}, "attacker is ''"),
        ({"value": math.inf}, "finite"),
        ({"value": "0.5"}, "value is '0.5'"),
        ({"value": None}, "value is None"),
        ({"low": 0.1}, "both or neither"),
        ({"n": -1}, "whole number"),
        ({"n": 1.5}, "whole number"),
        ({"fold": "one"}, "fold is 'one'"),
    ],
)
def test_malformed_rows_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row(**changes)


def _content() -> dict[str, Any]:
    values = {name: getattr(row(), name) for name in COLUMNS}
    return {"header": {"schema": SCHEMA}, "rows": [values, dict(values)]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["header"].update(schema=SCHEMA + 1), f"schema {SCHEMA + 1}, but"),
        (lambda c: c["header"].clear(), "schema none"),
        (lambda c: c.pop("rows"), "'header' and 'rows'"),
        (lambda c: c["rows"][1].update(system=""), "row 2: system"),
        (lambda c: c["rows"][1].update(colour="red"), "row 2: has an unknown column 'colour'"),
        (lambda c: c["rows"][1].pop("n"), "row 2: lacks column 'n'"),
        (lambda c: c["rows"].append(3), "row 3: is not a mapping"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, change: Any, message: str) -> None:
    content = _content()
    change(content)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PseganError, match=message) as caught:
        Results.from_json(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00"])
def test_what_is_no_table_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(PseganError, match=r"results\.json: is not"):
        Results.from_json(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PseganError, match=r"absent\.json: cannot be read"):
        Results.from_json(tmp_path / "absent.json")
