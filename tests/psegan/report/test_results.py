"""The tidy table: what goes in comes out, and nothing malformed comes in."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from psegan.common.errors import PseganError
from psegan.report.results import COLUMNS, SCHEMA, MergedResults, Results, Row, merge


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
    assert (
        ", ".join(COLUMNS)
        == "system, corpus, split, fold, attacker, judge, attribute, metric, value, low, high, n, seed"
    )


def test_numpy_numbers_are_plain_numbers(tmp_path: Path) -> None:
    made = row(value=np.float32(0.5), low=np.float64(0), high=np.float64(1), n=np.int64(3), seed=np.int32(1))
    Results({}, [made]).to_json(tmp_path / "results.json")
    read = Results.from_json(tmp_path / "results.json").rows[0]
    assert read == made
    assert [type(x) for x in (read.value, read.low, read.n, read.seed)] == [float, float, int, int]


@pytest.mark.parametrize("run", sorted(Path("docs/results").glob("*/*/results.json")), ids=str)
def test_published_files_are_written_again_byte_by_byte(tmp_path: Path, run: Path) -> None:
    results = Results.from_json(run)
    results.to_json(tmp_path / "results.json")
    results.to_csv(tmp_path / "results.csv")
    assert (tmp_path / "results.json").read_bytes() == run.read_bytes()
    assert (tmp_path / "results.csv").read_bytes() == run.with_suffix(".csv").read_bytes()


def test_select() -> None:
    results = table()
    assert results.select(attacker="informed") == [results.rows[1]]
    assert results.select(system="psegan", fold=None) == [results.rows[0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": ""}, "system is ''"),
        ({"corpus": None}, "corpus is None"),
        ({"attacker": ""}, "attacker is ''"),
        ({"value": "0.5"}, "value is '0.5'"),
        ({"value": None}, "value is None"),
        ({"low": 0.1}, "both or neither"),
        ({"n": 1.5}, "n is 1.5, but must be of type Int64"),
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
        (lambda c: c["rows"][1].update(colour="red"), "row 2 has colour, which is no column"),
        (lambda c: c["rows"][1].pop("n"), "row 2 lacks n"),
        (lambda c: c["rows"].append(3), "row 3 is 3, but must be an object"),
        (lambda c: c["rows"][1].update(low=0.1), "row 2: low and high"),
        (lambda c: c["header"].update(seed="x"), 'header: Parser key "seed": Expected a int'),
        (lambda c: c["header"].update(chance={"c": {"emotion": "y"}}), 'header: Parser key "chance"'),
        (lambda c: c["header"].update(units=None), "header: units is empty"),
        (lambda c: c["header"].update(largest_share={"c": "y"}), 'header: Parser key "largest_share"'),
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


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", "[" * 100_000])
def test_what_is_no_table_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(PseganError, match=r"results\.json: is not"):
        Results.from_json(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PseganError, match=r"absent\.json: no such file"):
        Results.from_json(tmp_path / "absent.json")


def run(*rows: Row, **header: Any) -> Results:
    return Results({"seed": 0, **header}, list(rows))


def values(merged: MergedResults) -> list[tuple[Any, float]]:
    """The seed of the run and the score, row by row."""
    return [(None if pd.isna(s) else s, v) for s, v in zip(merged.scores.run_seed, merged.scores.value, strict=True)]


def test_runs_of_one_seed_complement_each_other() -> None:
    a, b = row(), row(system="gengan")
    roles = {"a": {"psegan": "system"}, "b": {"psegan": "system", "noise": "control"}}
    merged = merge({"a": run(a, roles=roles["a"], folds={"ravdess": 6}), "b": run(a, b, roles=roles["b"])})
    assert list(merged.scores.system) == ["psegan", "gengan"] and values(merged) == [(0, 0.25), (0, 0.25)]
    assert merged.roles == roles["b"] and merged.folds == {("paper", "ravdess"): 6} and merged.units == {}


def test_the_largest_share_is_that_of_a_split() -> None:
    shares = {"paper": 0.5, "speaker-disjoint": 0.6}
    runs = {split: run(row(split=split), largest_share={"ravdess": share}) for split, share in shares.items()}
    assert merge(runs).largest_share == {(split, "ravdess"): share for split, share in shares.items()}


def test_runs_of_other_seeds_are_kept_apart() -> None:
    merged = merge({"a": run(row()), "b": run(row(value=0.5), seed=1), "c": Results({}, [row(value=0.9)])})
    assert values(merged) == [(0, 0.25), (1, 0.5), (None, 0.9)]


@pytest.mark.parametrize("changes", [{"value": 0.3}, {"n": 119}, {"low": 0.2, "high": 0.4}, {"value": math.nan}])
def test_runs_that_contradict_each_other_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(
        PseganError, match="^runs/a and runs/b differ in emotion uar of psegan, ravdess, paper"
    ) as caught:
        merge({"runs/a": run(row()), "runs/b": run(row(**changes))})
    assert "\n" not in str(caught.value)


def test_last_digits_are_no_contradiction() -> None:
    same = [row(low=0.1, high=0.4), row(metric="eer", value=math.nan)]
    again = [row(value=0.25 + 1e-9, low=0.1, high=0.4 - 1e-9), row(metric="eer", value=math.nan)]
    assert len(merge({"a": run(*same), "b": run(*again)}).scores) == 2


def test_rows_that_differ_in_any_name_are_all_kept() -> None:
    rows = [
        row(), row(corpus="emodb"), row(split="x"), row(fold=1), row(attacker="informed"), row(attribute="speaker"),
        row(metric="eer"), row(seed=3), row(system="gengan"),
    ]  # fmt: skip
    pd.testing.assert_frame_equal(
        merge({"a": run(*rows), "b": run(*rows)}).scores.drop(columns="run_seed"), Results({}, rows).frame
    )


def test_chance_levels_of_all_runs_are_joined() -> None:
    first = run(row(), chance={"ravdess": {"emotion": 0.125}})
    second = run(row(value=0.5), seed=1, chance={"emodb": {"emotion": 1 / 7}, "ravdess": {"gender": 0.5}})
    expected = {"ravdess": {"emotion": 0.125, "gender": 0.5}, "emodb": {"emotion": 1 / 7}}
    merged = merge({"a": first, "b": second})
    assert merged.chance == expected
    third = run(row(system="other"), chance={"ravdess": {"emotion": 1 / 7}})
    with pytest.raises(PseganError, match="^a and c differ in the chance level of emotion on ravdess"):
        merge({"a": first, "b": second, "c": third})
