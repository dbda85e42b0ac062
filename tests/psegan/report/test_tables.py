"""What the tables show: the right numbers, in order, with honest means and marks."""

from collections.abc import Callable
from typing import Any

import pytest

from psegan.report.results import Results, Row, merge
from psegan.report.tables import Cell, Section, Table, sections, summaries


def row(system: str = "psegan", attacker: str | None = "strongest", metric: str = "uar", **changes: Any) -> Row:
    columns: dict[str, Any] = {
        "corpus": "ravdess", "split": "paper", "attribute": "emotion", "value": 0.25, "n": 120,
    }  # fmt: skip
    return Row(system=system, attacker=attacker, metric=metric, **{**columns, **changes})


def made(*rows: Row, **header: Any) -> Section:
    results = Results({"seed": 0, "chance": {"ravdess": {"emotion": 0.125}}, **header}, list(rows))
    (section,) = sections(merge({"run": results}))
    return section


def of(results: Results, *more: Results) -> list[Section]:
    return sections(merge({str(number): one for number, one in enumerate((results, *more))}))


def named(section: Section, name: str) -> list[Table]:
    return [table for table in section.tables if table.name == name]


def table(section: Section, name: str = "Table 4") -> Table:
    return named(section, name)[0]


def labels(table: Table) -> list[str]:
    return [line for line in table.frame.index if line != "chance"]


def heads(table: Table) -> list[tuple[str, str]]:
    return [(block, head) for _, block, head in table.frame.columns]


def cell(table: Table, label: str = "psegan", column: int = 0) -> Cell:
    found = table.frame.loc[label].iloc[column]
    assert isinstance(found, Cell)
    return found


def marked(section: Section, name: str = "Table 4", column: int = 0) -> list[str]:
    cells = table(section, name).frame.iloc[:, column]
    return [line for line, cell in cells.items() if cell.marked]


def test_article_s_tables_and_ours(invented: Callable[[int], Results]) -> None:
    disjoint, paper = of(invented(0))
    assert (disjoint.split, paper.split) == ("speaker-disjoint", "paper")
    names = ["Overview", *(f"Table {i}" for i in range(1, 7)), "Differences", "Members"]
    assert [(t.name, t.corpus) for t in paper.tables] == [(name, c) for name in names for c in ("ravdess", "emodb")]
    overview, one, two, three, four, five, six, *_ = paper.tables[::2]
    emotion = ["strongest", "informed", "vocoder-aware", "ignorant"]
    assert heads(overview)[:2] == [("strongest", "UAR ↓"), ("strongest", "bits ↓")]
    assert heads(overview)[2:5] == [(name, "UAR ↓") for name in emotion[1:]]
    assert heads(overview)[5:] == [
        ("moonshine", "WER ↓"), ("resemblyzer", "EER ↓"), ("resemblyzer", "EER neutral→p ↓"), ("dnsmos", "overall ↑"),
        ("level", "loudest, 95 % (dB) →0"),
    ]  # fmt: skip
    assert "moonshine" not in [block for block, _ in heads(paper.tables[1])]  # it knows no German
    assert heads(one) == [
        *((name, "acc ↓") for name in emotion),
        *((a, "acc ↑") for a in ("speaker", "gender", "content")),
    ]
    assert [purpose for purpose, *_ in one.frame.columns] == ["emotion, to be hidden"] * 4 + ["to be kept"] * 3
    assert [head for _, head in heads(two)] == [*["EER ↑"] * 4, "EER ↓", "EER p→p ↓", "minDCF ↓", "minDCF p→p ↓"]
    controls = ["original", "copy-synthesis", "noise-20db", "noise-10db", "mcadams", "pitch"]
    assert labels(three) == [*controls, "psegan", "psegan-no-sm", "psegan-no-grn"]
    assert three.title == "ablations of psegan"
    assert [block for block, _ in heads(four)] == [name for name in emotion for _ in range(5)]
    assert [head for _, head in heads(five)] == ["MCD (dB) ↓", "STOI ↑"]  # nobody measured a WER
    assert [head for _, head in heads(six)][:4] == ["bits ↓", "one class", "worst class ↓", "TPR at 1 % ↓"]
    assert [cell.text for cell in six.frame.loc["chance"]][:4] == ["0.00", "–", "–", "1.0"]


def test_no_table_of_ablations_without_ablations() -> None:
    names = [t.name for t in made(row(metric="accuracy")).tables]
    assert "Table 3" not in names and "Table 1" in names


def test_speaker_accuracy_is_left_out_where_speakers_are_disjoint(invented: Callable[[int], Results]) -> None:
    assert "speaker" not in [block for block, _ in heads(of(invented(0))[0].tables[0])]


def test_controls_come_first_and_unmeasured_cells_are_empty() -> None:
    rows = [row("psegan"), row("noise-5db"), row("copy-synthesis", "ignorant"), row("original"), row("gengan")]
    shown = table(made(*rows, roles={"noise-5db": "control"}))
    assert labels(shown) == ["original", "copy-synthesis", "noise-5db", "psegan", "gengan"]
    assert [cell.text for cell in shown.frame.loc["copy-synthesis"]] == ["–", "25.0"]


def test_without_roles_only_original_and_copy_synthesis_are_controls() -> None:
    section = made(row("noise-5db", value=0.2), row("psegan", value=0.3), row("original", value=0.1))
    assert labels(table(section)) == ["original", "noise-5db", "psegan"]
    assert marked(section) == ["noise-5db"]


def test_best_is_marked_among_protecting_systems_only() -> None:
    section = made(
        row("original", value=0.01),
        row("noise-5db", value=0.02),
        row("a", value=0.4),
        row("b", value=0.3),
        roles={"noise-5db": "control"},
    )
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
        ("emotion", "residual", "low"), ("emotion", "bits", "low"), ("emotion", "worst_class", "low"),
        ("emotion", "tpr_at_1", "low"), ("emotion", "uar_of_4", "low"),
        ("speaker", "accuracy", "high"), ("speaker", "eer", "low"),
        ("speaker", "eer_protected", "low"), ("speaker", "min_dcf", "low"), ("speaker", "min_dcf_protected", "low"),
        ("gender", "accuracy", "high"), ("content", "accuracy", "high"), ("speech", "mcd", "low"),
        ("speech", "stoi", "high"),
    ],
)  # fmt: skip
def test_each_measure_knows_which_way_is_better(attribute: str, metric: str, best: str) -> None:
    attacker = "strongest" if attribute == "emotion" else None
    rows = [
        row(name, attacker, metric, attribute=attribute, value=value)
        for name, value in {"low": 0.65 if metric == "auc" else 0.2, "high": 0.7 if metric == "auc" else 0.4}.items()
    ]
    section = made(*rows)
    assert labels(section.tables[0]) == ["low", "high"]
    assert marked(section, section.tables[0].name) == [best]


def test_nan_is_never_best() -> None:
    section = made(row("a", value=float("nan")), row("b", value=0.3), row("c", value=0.4))
    assert marked(section) == ["b"]
    assert cell(table(section), "a").text == "–"


def test_pooled_rows_go_before_folds_and_seeds() -> None:
    pooled = row(value=0.4, low=0.3, high=0.5, n=1440)
    folds = [row(value=0.1, n=240, fold=fold) for fold in range(6)]
    seeds = [row(value=0.9, seed=seed) for seed in (0, 1)]
    found = table(made(*folds, pooled, *seeds))
    assert found.n == 1440 and cell(found) == Cell("40.0", "30.0–50.0")


def test_folds_alone_are_averaged_without_an_interval_and_said_to_be() -> None:
    rows = [row(value=value, low=0.0, high=1.0, n=240, fold=fold) for fold, value in enumerate((0.2, 0.3, 0.7))]
    assert cell(table(made(*rows))) == Cell("40.0", "", ("mean of 3 folds",)) and table(made(*rows)).n == 720
    other = [row("gengan", value=0.2, n=250), row("pcmelgan", value=0.3, n=250)]
    assert cell(table(made(rows[0], *other))) == Cell("20.0", "0.0–100.0", ("n = 240", "one fold"), marked=True)


def test_seeds_are_averaged_with_their_range_and_the_mean_of_their_ends() -> None:
    runs = [
        Results({"seed": seed}, [row(value=value, low=value - 0.1, high=value + 0.2)])
        for seed, value in {1: 0.2, 2: 0.4, 3: 0.6}.items()
    ]
    (section,) = of(*runs)
    assert cell(table(section)) == Cell("40.0", "30.0–60.0", ("3 seeds: 20.0 to 60.0",))
    assert "; seeds 1, 2, 3; " in section.settings["ravdess"].text and section.several_seeds
    (section,) = of(*runs[:2], Results({"seed": 3}, [row(value=0.6)]))
    assert cell(table(section)).interval == ""  # one has no interval, so the mean has none


def test_unequal_folds_are_said_and_nothing_is_best() -> None:
    def tested(system: str, folds: range, value: float) -> list[Row]:
        return [row(system, value=value, fold=fold) for fold in folds]

    header = {"folds": {"ravdess": 6}}

    def both(first: range, second: range) -> Section:
        return made(*tested("a", first, 0.3), *tested("b", second, 0.4), **header)

    for first, second, part in (
        (range(6), range(2), "2 to 6 of 6 folds"),
        (range(1), range(1, 2), "1 of 6 folds"),  # other speakers are tested
    ):
        section = both(first, second)
        assert {table.part for table in section.tables} == {part}
        assert f"; {part}; " in section.settings["ravdess"].text and marked(section) == []
    assert marked(both(range(2), range(2))) == ["a"]
    assert "; 6 folds; " in both(range(6), range(6)).settings["ravdess"].text
    assert {table.part for table in both(range(6), range(6)).tables} == {""}
    (section,) = of(*(Results({"seed": s, **header}, tested("a", n, 0.3)) for s, n in ((0, range(6)), (1, range(2)))))
    assert "; 2 to 6 of 6 folds; " in section.settings["ravdess"].text


def test_members_stand_apart_from_the_headline() -> None:
    members = [
        row(attacker=f"informed/{kind}-{seed}", value=value, seed=seed)
        for (kind, seed), value in {("cnn", 0): 0.1, ("cnn", 1): 0.2, ("svm", 0): 0.3}.items()
    ]
    section = made(row(attacker="ignorant/svm", value=0.4), *members, row(value=0.5))
    assert section.attackers == ["strongest"]
    shown = table(section, "Members")
    assert heads(shown) == [
        ("informed/cnn", "UAR seed 0 ↓"), ("informed/cnn", "UAR seed 1 ↓"), ("informed/svm", "UAR seed 0 ↓"),
        ("ignorant/svm", "UAR ↓"),
    ]  # fmt: skip
    assert [cell(shown, "psegan", i).text for i in range(4)] == ["10.0", "20.0", "30.0", "40.0"]


def test_an_attacker_who_names_one_class_is_said_to_have_collapsed() -> None:
    def told(share: float, chance: float = 0.125, **header: Any) -> tuple[str, ...]:
        rows = [row(value=0.14), row(metric="most_predicted", value=share), row("original", value=0.9)]
        section = made(*rows, chance={"ravdess": {"emotion": chance}}, **header)
        assert cell(table(section), "original").notes == () and cell(table(section, "Table 6")).notes == ()
        assert marked(made(*rows, row("b", metric="most_predicted", value=0.2)), "Table 6") == []  # neither is better
        return cell(table(section)).notes

    assert told(0.93) == ("collapsed: one class in 93 %",)
    assert told(0.56) == () and told(0.57) == ("collapsed: one class in 57 %",)
    assert told(0.74, chance=0.5) == () and told(1.0, chance=0.5) == ("collapsed: one class in 100 %",)
    mostly_neutral: dict[str, Any] = {"chance": 0.2, "largest_share": {"ravdess": 0.6}}
    assert told(0.6, **mostly_neutral) == told(0.79, **mostly_neutral) == ()
    assert told(0.81, **mostly_neutral) == ("collapsed: one class in 81 %",)
    assert told(1.0, largest_share={"ravdess": 1.0}) == ()  # of one class alone, nothing can be said


def test_sets_of_utterances_have_the_chance_of_one() -> None:
    shown = table(made(row(metric="uar_of_4", value=0.5), row(metric="bits", value=-0.034)), "Table 6")
    assert heads(shown) == [("strongest", "bits ↓"), ("strongest", "UAR of 4 ↓")]
    assert [c.text for c in shown.frame.loc["psegan"]] == ["−0.03", "50.0"]
    assert [c.text for c in shown.frame.loc["chance"]] == ["0.00", "12.5"]


def test_differences_are_signed_and_marked_where_zero_is_left_out() -> None:
    section = made(
        row(),
        row(metric="uar-minus-original", value=-0.5, low=-0.6, high=-0.4),
        row(metric="uar-minus-gengan", value=0.01, low=-0.1, high=0.12),
        row(attacker=None, attribute="speaker", metric="eer-minus-original", value=0.03, low=0.01, high=0.05),
    )
    shown = table(section, "Differences")
    assert list(shown.frame.index) == ["psegan − original", "psegan − gengan"]  # and no line of chance
    assert cell(shown, "psegan − original") == Cell("−50.0", "−60.0 to −40.0", marked=True)
    assert cell(shown, "psegan − gengan") == Cell("+1.0", "−10.0 to +12.0")
    assert cell(shown, "psegan − original", 1).text == "+3.0"
    assert labels(table(section)) == ["psegan"]


def repeated(*more: Row, runs: int = 1) -> Section:
    """``psegan`` of three trainings, ``gengan`` of one."""
    roles = {"psegan": "system"} | {f"psegan-{k}": "repetition of psegan" for k in range(3)}
    found = []
    for seed in range(runs):
        rows = [row(f"psegan-{k}", value=value + seed / 100) for k, value in enumerate((0.2, 0.3, 0.7))]
        rows += [
            row("psegan", value=0.4, low=0.1, high=0.8),
            row("original", value=0.9),
            row("gengan", value=0.3),
            *more,
        ]
        found.append(Results({"seed": seed, "roles": roles}, rows))
    (section,) = of(*found)
    return section


def test_a_mean_of_several_trainings_says_so_with_their_range() -> None:
    section = repeated()
    assert section.repeated and labels(table(section)) == ["original", "psegan", "gengan"]
    assert cell(table(section)) == Cell("40.0", "10.0–80.0", ("mean of 3 trainings: 20.0 to 70.0",))
    assert cell(table(section), "gengan").notes == ()
    assert cell(table(repeated(runs=2))).notes[-1] == "mean of 6 trainings: 20.0 to 71.0"
    assert not made(row(), row("gengan")).repeated


def test_several_trainings_against_one_are_no_bold_difference() -> None:
    def difference(system: str, other: str) -> Row:
        return row(system, metric=f"uar-minus-{other}", value=-0.5, low=-0.6, high=-0.4)

    pairs = [("psegan", "gengan"), ("gengan", "psegan"), ("psegan", "original"), ("gengan", "original")]
    shown = table(repeated(*(difference(*pair) for pair in pairs)), "Differences")
    assert {line: (cell(shown, line).notes, cell(shown, line).marked) for line in shown.frame.index} == {
        "psegan − gengan": (("3 against 1 trainings",), False), "gengan − psegan": (("1 against 3 trainings",), False),
        "psegan − original": (("mean of 3 trainings",), True), "gengan − original": ((), True),
    }  # fmt: skip


def test_setting_holds_validity_and_the_chance_check() -> None:
    def shuffled(low: float, high: float, metric: str = "uar") -> Row:
        return row("original", "shuffled-labels", metric, value=(low + high) / 2, low=low, high=high)

    valid = row("original", "informed", "accuracy", value=0.92)
    section = made(valid, row(), shuffled(0.1, 0.15))
    assert section.attackers == ["strongest", "informed"]
    text = section.settings["ravdess"].text
    assert "accuracy of the attackers on original speech: strongest not measured, informed 92.0." in text
    assert (
        text.endswith("shuffled-labels: UAR 12.5 (10.0–15.0), at chance as it must be.")
        and not section.settings["ravdess"].leak
    )
    a_constant_answer = 0.12500000000000003  # in all permutations alike, and rounded
    assert made(valid, shuffled(a_constant_answer, a_constant_answer)).settings["ravdess"].leak is False
    leaking = made(valid, shuffled(0.2, 0.3))
    assert leaking.settings["ravdess"].leak and "25.0 (20.0–30.0), NOT at chance" in leaking.settings["ravdess"].text
    at_chance, hidden = shuffled(0.1, 0.15), shuffled(0.1, 0.3, "bits")
    both = made(valid, at_chance, shuffled(-0.01, 0.03, "bits")).settings["ravdess"]
    assert both.text.endswith("UAR 12.5 (10.0–15.0) and bits 0.01 (−0.01–0.03), at chance as they must be.")
    of_bits = made(valid, at_chance, hidden).settings["ravdess"]
    assert not both.leak and of_bits.leak and "bits 0.20 (0.10–0.30), bits NOT at chance" in of_bits.text
    assert "one honest run in ten" in of_bits.text and "in twenty" in leaking.settings["ravdess"].text
    of_uar = made(valid, shuffled(0.2, 0.3), shuffled(-0.01, 0.03, "bits")).settings["ravdess"]
    assert of_uar.leak and "(−0.01–0.03), UAR NOT at chance" in of_uar.text
    assert "(0.10–0.30), NOT at chance" in made(valid, shuffled(0.2, 0.3), hidden).settings["ravdess"].text
    assert not made(valid).settings["ravdess"].leak and "Chance check" not in made(valid).settings["ravdess"].text


def test_what_an_ignorant_attacker_measured_of_the_rest_stands_in() -> None:
    gender: dict[str, Any] = {"attribute": "gender", "metric": "accuracy"}
    assert cell(made(row(attacker="ignorant", value=0.8, **gender)).tables[0]).text == "80.0"
    both = made(row(attacker="ignorant", value=0.8, **gender), row(attacker=None, value=0.7, **gender))
    assert cell(both.tables[0]).text == "70.0"


def test_only_informed_attackers_are_adaptive() -> None:
    assert not made(row(attacker="ignorant"), row(attacker="vocoder-aware")).adaptive
    assert made(row(attacker="ignorant"), row(attacker="informed")).adaptive


def test_ablations_are_those_that_the_header_names() -> None:
    rows = [row(name, metric="accuracy") for name in ("original", "gengan", "mine", "mine-without", "other-without")]
    roles = {"gengan": "system", "mine": "system", "mine-without": "ablation of mine"}
    shown = table(made(*rows, roles=roles), "Table 3")
    assert shown.title == "ablations of mine" and labels(shown) == ["original", "mine", "mine-without"]


def test_what_a_judge_of_the_user_s_own_says_is_shown_under_its_name() -> None:
    rows = [row("original"), row(attacker=None, judge="mine", attribute="speech", metric="tempo", value=4.25)]
    shown = table(made(*rows), "Overview")
    assert heads(shown) == [("strongest", "UAR ↓"), ("mine", "tempo")]
    assert cell(shown, "psegan", 1).text == "4.250"
    assert [name for table in made(*rows).tables for _, name in heads(table)].count("tempo") == 1


def test_units() -> None:
    rows = [
        row(attacker=None, attribute="speaker", metric="min_dcf", value=0.4321),
        row(attacker=None, attribute="speech", metric="mcd", value=5.678),
        row(attacker=None, attribute="speech", metric="stoi", value=0.87654),
    ]
    shown = [cell(t, "psegan", i).text for t in made(*rows).tables for i in range(t.frame.shape[1])]
    assert shown == ["0.432", "5.68", "0.877"]


def test_summary_has_a_column_for_each_attacker(invented: Callable[[int], Results]) -> None:
    *_, emotion, _, kept, _ = summaries(invented(0))
    attackers = [
        ("strongest", "UAR ↓"), ("strongest", "bits ↓"), ("informed", "UAR ↓"), ("vocoder-aware", "UAR ↓"),
        ("ignorant", "UAR ↓"),
    ]  # fmt: skip
    assert heads(emotion) == attackers
    assert heads(kept) == [
        ("moonshine", "WER ↓"), ("resemblyzer", "EER ↓"), ("dnsmos", "overall ↑"), ("level", "loudest, 95 % (dB) →0"),
    ]  # fmt: skip
    unjudged = Results(rows=[row for row in invented(0).rows if row.judge is None])
    assert heads(summaries(unjudged)[2]) == [
        *attackers, ("speaker", "acc ↑"), ("speaker", "EER ↓"), ("gender", "acc ↑"), ("content", "acc ↑"),
    ]  # fmt: skip
