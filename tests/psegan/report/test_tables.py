"""What the tables show: the right numbers, in order, with honest means and marks."""

from collections.abc import Callable
from typing import Any

import pytest

from psegan.report.results import Results, Row
from psegan.report.tables import Cell, Group, Section, Table, is_control, sections, summaries


def row(system: str = "psegan", attacker: str | None = "strongest", metric: str = "uar", **changes: Any) -> Row:
    columns: dict[str, Any] = {
        "corpus": "ravdess", "split": "paper", "attribute": "emotion", "value": 0.25, "n": 120,
    }  # fmt: skip
    return Row(system=system, attacker=attacker, metric=metric, **{**columns, **changes})


def made(*rows: Row, **header: Any) -> Section:
    (section,) = sections({0: Results({"chance": {"ravdess": {"emotion": 0.125}}, **header}, list(rows))})
    return section


def table(section: Section, name: str) -> Table:
    return next(table for table in section.tables if table.name == name)


def cell(group: Group, label: str, column: int = 0) -> Cell:
    found = next(line for line in group.lines if line.label == label).cells[column]
    assert found is not None
    return found


def marked(section: Section, name: str = "Table 4", column: int = 0) -> list[str]:
    (group,) = table(section, name).groups
    return [line.label for line in group.lines if (found := line.cells[column]) is not None and found.marked]


def test_article_s_tables_and_ours(invented: Callable[[int], Results]) -> None:
    disjoint, paper = sections({0: invented(0)})
    assert (disjoint.split, paper.split) == ("speaker-disjoint", "paper")
    assert [t.name for t in paper.tables] == [f"Table {i}" for i in range(1, 6)]
    one, two, three, four, five = paper.tables
    emotion = ["strongest", "informed", "vocoder-aware", "ignorant"]
    assert [c.block for c in one.columns] == [*emotion, "speaker", "gender", "content"]
    assert {c.measure.metric for c in one.columns} == {"accuracy"}
    assert [c.measure.metric for c in two.columns] == [
        *["eer"] * 5, "eer_protected", "min_dcf", "min_dcf_protected",
    ]  # fmt: skip
    controls = ["original", "copy-synthesis", "noise-20db", "noise-10db", "mcadams", "pitch"]
    assert [line.label for line in three.groups[0].lines] == [*controls, "psegan", "psegan-no-sm", "psegan-no-grn"]
    assert four.blocks == [(name, 5) for name in emotion]
    assert [c.measure.metric for c in five.columns] == ["mcd", "stoi"]  # nobody measured a WER
    assert [group.corpus for group in one.groups] == ["ravdess", "emodb"]


def test_no_table_of_ablations_without_ablations() -> None:
    names = [t.name for t in made(row(metric="accuracy")).tables]
    assert "Table 3" not in names and "Table 1" in names


def test_speaker_accuracy_is_left_out_where_speakers_are_disjoint(invented: Callable[[int], Results]) -> None:
    disjoint = sections({0: invented(0)})[0]
    assert "speaker" not in [c.block for c in disjoint.tables[0].columns]


def test_controls_come_first_and_unmeasured_cells_are_empty() -> None:
    section = made(
        row("psegan"), row("noise-5db"), row("copy-synthesis", "ignorant"), row("original"), row("gengan")
    )  # fmt: skip
    (group,) = table(section, "Table 4").groups
    assert [line.label for line in group.lines] == ["original", "copy-synthesis", "noise-5db", "psegan", "gengan"]
    assert [found is None for found in group.lines[1].cells] == [True, False]


def test_best_is_marked_among_protecting_systems_only() -> None:
    section = made(row("original", value=0.01), row("noise-5db", value=0.02), row("a", value=0.4), row("b", value=0.3))
    assert marked(section) == ["b"]
    assert marked(made(row("original", value=0.9), row("a", value=0.4))) == []  # one alone is best of nothing


def test_what_prints_alike_is_marked_alike() -> None:
    assert marked(made(row("a", value=0.30012), row("b", value=0.29991), row("c", value=0.302))) == ["a", "b"]


def test_beyond_chance_is_no_better_than_chance() -> None:
    assert marked(made(row("a", value=0.05), row("b", value=0.12), row("c", value=0.14))) == ["a", "b"]
    eers = [row(name, metric="eer", value=value) for name, value in {"a": 0.6, "b": 0.5, "c": 0.4}.items()]
    assert marked(made(*eers)) == ["a", "b"]


@pytest.mark.parametrize(
    ("attribute", "metric", "best"),
    [
        ("emotion", "accuracy", "low"), ("emotion", "uar", "low"), ("emotion", "auc", "low"), ("emotion", "eer", "high"),
        ("emotion", "residual", "low"), ("speaker", "accuracy", "high"), ("speaker", "eer", "low"),
        ("speaker", "eer_protected", "low"), ("speaker", "min_dcf", "low"), ("speaker", "min_dcf_protected", "low"),
        ("gender", "accuracy", "high"), ("content", "accuracy", "high"), ("speech", "mcd", "low"),
        ("speech", "stoi", "high"), ("speech", "wer", "low"),
    ],
)  # fmt: skip
def test_each_measure_knows_which_way_is_better(attribute: str, metric: str, best: str) -> None:
    attacker = "strongest" if attribute == "emotion" else None
    rows = [
        row(name, attacker, metric, attribute=attribute, value=value)
        for name, value in {"low": 0.65 if metric == "auc" else 0.2, "high": 0.7 if metric == "auc" else 0.4}.items()
    ]
    assert [line.label for line in made(*rows).tables[0].groups[0].lines] == ["low", "high"]
    assert marked(made(*rows), made(*rows).tables[0].name) == [best]


def test_nan_is_never_best() -> None:
    section = made(row("a", value=float("nan")), row("b", value=0.3), row("c", value=0.4))
    assert marked(section) == ["b"]
    assert cell(table(section, "Table 4").groups[0], "a").text == "–"


def test_pooled_rows_go_before_folds_and_seeds() -> None:
    pooled = row(value=0.4, low=0.3, high=0.5, n=1440)
    folds = [row(value=0.1, n=240, fold=fold) for fold in range(6)]
    seeds = [row(value=0.9, seed=seed) for seed in (0, 1)]
    shown = cell(table(made(*folds, pooled, *seeds), "Table 4").groups[0], "psegan")
    assert (shown.text, shown.interval, shown.n, shown.seeds, shown.folds) == ("40.0", "30.0–50.0", 1440, 1, 0)


def test_folds_alone_are_averaged_without_an_interval_and_said_to_be() -> None:
    rows = [row(value=value, low=0.0, high=1.0, n=240, fold=fold) for fold, value in enumerate((0.2, 0.3, 0.7))]
    shown = cell(table(made(*rows), "Table 4").groups[0], "psegan")
    assert (shown.text, shown.interval, shown.notes(720)) == ("40.0", "", ["mean of 3 folds"])
    single = cell(table(made(rows[0]), "Table 4").groups[0], "psegan")
    assert (single.interval, single.notes()) == ("0.0–100.0", ["n = 240", "one fold"])


def test_seeds_are_averaged_with_their_range_and_the_mean_of_their_ends() -> None:
    replications = {
        seed: Results({}, [row(value=value, low=value - 0.1, high=value + 0.2)])
        for seed, value in {1: 0.2, 2: 0.4, 3: 0.6}.items()
    }
    (section,) = sections(replications)
    shown = cell(table(section, "Table 4").groups[0], "psegan")
    assert (shown.text, shown.interval) == ("40.0", "30.0–60.0")
    assert shown.notes(120) == ["3 seeds: 20.0 to 60.0"]
    assert section.settings[0].seeds == [1, 2, 3]
    replications[3] = Results({}, [row(value=0.6)])
    shown = cell(table(sections(replications)[0], "Table 4").groups[0], "psegan")
    assert (shown.text, shown.interval) == ("40.0", "")  # one has no interval, so the mean has none


def test_unequal_folds_are_said_and_nothing_is_best() -> None:
    def of(system: str, folds: range, value: float) -> list[Row]:
        return [row(system, value=value, fold=fold) for fold in folds]

    header = {"folds": {"ravdess": 6}}

    def both(first: range, second: range) -> Section:
        return made(*of("a", first, 0.3), *of("b", second, 0.4), **header)

    for first, second, part in (
        (range(6), range(2), "2 to 6 of 6 folds"),
        (range(1), range(1, 2), "1 of 6 folds"),  # other speakers are tested
    ):
        section = both(first, second)
        assert {group.part for table in section.tables for group in table.groups} == {part}
        assert section.settings[0].folds == part and marked(section) == []
    assert marked(both(range(2), range(2))) == ["a"]
    assert both(range(6), range(6)).settings[0].folds == "6 folds"
    replications = {seed: Results(header, of("a", folds, 0.3)) for seed, folds in ((0, range(6)), (1, range(2)))}
    assert sections(replications)[0].settings[0].folds == "2 to 6 of 6 folds"


def test_members_stand_apart_from_the_headline() -> None:
    members = [
        row(attacker=f"informed/{kind}-{seed}", value=value, seed=seed)
        for (kind, seed), value in {("cnn", 0): 0.1, ("cnn", 1): 0.2, ("svm", 0): 0.3}.items()
    ]
    section = made(row(attacker="ignorant/svm", value=0.4), *members, row(value=0.5))
    assert section.attackers == ["strongest"] and section.members is not None
    heads = [(column.block, column.label) for column in section.members.columns]
    assert heads == [
        ("informed/cnn", "UAR seed 0 ↓"), ("informed/cnn", "UAR seed 1 ↓"), ("informed/svm", "UAR seed 0 ↓"),
        ("ignorant/svm", "UAR ↓"),
    ]  # fmt: skip
    (group,) = section.members.groups
    assert [cell(group, "psegan", i).text for i in range(4)] == ["10.0", "20.0", "30.0", "40.0"]


def test_differences_are_signed_and_marked_where_zero_is_left_out() -> None:
    section = made(
        row(),
        row(metric="uar-minus-original", value=-0.5, low=-0.6, high=-0.4),
        row(metric="uar-minus-gengan", value=0.01, low=-0.1, high=0.12),
        row(attacker=None, attribute="speaker", metric="eer-minus-original", value=0.03, low=0.01, high=0.05),
    )
    assert section.differences is not None
    (group,) = section.differences.groups
    assert [line.label for line in group.lines] == ["psegan − original", "psegan − gengan"]
    first, second = cell(group, "psegan − original"), cell(group, "psegan − gengan")
    assert (first.text, first.interval, first.marked) == ("−50.0", "−60.0 to −40.0", True)
    assert (second.text, second.interval, second.marked) == ("+1.0", "−10.0 to +12.0", False)
    assert cell(group, "psegan − original", 1).text == "+3.0"
    assert [line.label for line in table(section, "Table 4").groups[0].lines] == ["psegan"]


def test_setting_holds_validity_and_the_chance_check() -> None:
    def shuffled(low: float, high: float) -> Row:
        return row("original", "shuffled-labels", value=(low + high) / 2, low=low, high=high)

    valid = row("original", "informed", "accuracy", value=0.92)
    section = made(valid, row(), shuffled(0.1, 0.15))
    (setting,) = section.settings
    assert section.attackers == ["strongest", "informed"]
    assert setting.validity["strongest"] is None
    assert setting.validity["informed"] is not None and setting.validity["informed"].text == "92.0"
    assert setting.shuffled_at_chance is True
    a_constant_answer = 0.12500000000000003  # in all deals alike, and rounded
    assert made(valid, shuffled(a_constant_answer, a_constant_answer)).settings[0].shuffled_at_chance is True
    assert made(valid, shuffled(0.2, 0.3)).settings[0].shuffled_at_chance is False
    assert made(valid).settings[0].shuffled_at_chance is None


def test_what_an_ignorant_attacker_measured_of_the_rest_stands_in() -> None:
    gender: dict[str, Any] = {"attribute": "gender", "metric": "accuracy"}
    assert made(row(attacker="ignorant", value=0.8, **gender)).tables[0].groups[0].lines[0].cells[0] is not None
    both = made(row(attacker="ignorant", value=0.8, **gender), row(attacker=None, value=0.7, **gender))
    assert cell(both.tables[0].groups[0], "psegan").text == "70.0"


def test_only_informed_attackers_are_adaptive() -> None:
    assert not made(row(attacker="ignorant"), row(attacker="vocoder-aware")).adaptive
    assert made(row(attacker="ignorant"), row(attacker="informed")).adaptive


@pytest.mark.parametrize("name", ["original", "identity", "copy-synthesis", "noise", "noise-10db", "mcadams", "pitch"])
def test_controls_are_known_by_name(name: str) -> None:
    assert is_control(name) and not is_control("noisegan") and not is_control("psegan-no-sm")


def test_units() -> None:
    rows = [
        row(attacker=None, attribute="speaker", metric="min_dcf", value=0.4321),
        row(attacker=None, attribute="speech", metric="mcd", value=5.678),
        row(attacker=None, attribute="speech", metric="stoi", value=0.87654),
    ]
    shown = [cell(t.groups[0], "psegan", i).text for t in made(*rows).tables for i in range(len(t.columns))]
    assert shown == ["0.432", "5.68", "0.877"]


def test_summary_has_a_column_for_each_attacker(invented: Callable[[int], Results]) -> None:
    paper = summaries(invented(0))[1]
    assert [(c.block, c.measure.metric) for c in paper.columns] == [
        ("strongest", "uar"), ("informed", "uar"), ("vocoder-aware", "uar"), ("ignorant", "uar"),
        ("speaker", "accuracy"), ("speaker", "eer"), ("gender", "accuracy"), ("content", "accuracy"),
    ]  # fmt: skip
