"""The tables as text, Markdown and LaTeX: every number, and nothing that the format would misread."""

import re
from collections.abc import Callable

import pytest

from psegan.report.results import Results, Row, merge
from psegan.report.tables import Section, sections
from psegan.report.typeset import html, latex, markdown, summary_table

ODD = r"a_b & 50% #1 $x$ {y} ~^\ |p| *z* <i>[1]"


def shown(results: Results, *more: Results) -> list[Section]:
    return sections(merge({str(number): one for number, one in enumerate((results, *more))}))


def odd() -> Results:
    common = {"corpus": "my_corpus", "split": "paper", "attribute": "emotion", "metric": "uar", "attacker": "informed"}
    rows = [Row(system=name, value=0.25, low=0.2, high=0.3, n=12, **common) for name in (ODD, "plain")]
    return Results({"chance": {"my_corpus": {"emotion": 0.25}}, "units": {"my_corpus": "24 speakers"}}, rows)


def test_markdown_has_every_cell_and_marks_the_best(invented: Callable[[int], Results]) -> None:
    found = shown(invented(0))
    text = markdown(found)
    lines = [re.sub(r" *\| *", "|", line) for line in text.splitlines()]
    for table in (table for section in found for table in section.tables):
        for label, *line in table.frame.drop(index="chance", errors="ignore").itertuples():
            cells = [f"{'**' * c.marked}{c.text}{'**' * c.marked} ({c.interval})" for c in line]
            assert "|" + "|".join([label, *cells]) + "|" in lines
    assert text.count("**") > 20
    assert "speakers shared" in text and "shuffled-labels: UAR" in text and "at chance as it must be" in text


def test_markdown_tables_are_rectangular(invented: Callable[[int], Results]) -> None:
    for results in (invented(0), odd()):
        for block in re.findall(r"(?:^\|.*\n)+", markdown(shown(results)), re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_markdown_escapes_names() -> None:
    assert r"| a\_b & 50% \#1 $x$ {y} \~^\\ \|p\| \*z\* \<i\>\[1\] |" in markdown(shown(odd()))


@pytest.mark.parametrize(("done", "mark"), [([0], True), ([0, 1], True), ([0, 1, 2], False)])
def test_every_table_says_which_part_of_the_folds_it_is(done: list[int], mark: bool) -> None:
    common = {"corpus": "emodb", "split": "speaker-disjoint", "attribute": "emotion"}
    rows = [
        Row(system=system, attacker=attacker, metric=metric, value=0.25, low=0.2, high=0.3, n=12, fold=fold, **common)
        for system in ("psegan", "psegan-no-sm")
        for attacker, metric in [
            *(("informed", name) for name in ("uar", "accuracy", "eer", "uar-minus-original")),
            ("informed/cnn-0", "uar"),
        ]
        for fold in (None, *done)
    ]
    results = Results({"folds": {"emodb": 3}, "roles": {"psegan-no-sm": "ablation of psegan"}}, rows)
    found = shown(results)
    part = f"{len(done)} of 3 folds"
    names = [table.name for table in found[0].tables]
    assert names == ["Table 1", "Table 2", "Table 3", "Table 4", "Differences", "Members"]
    assert len(re.findall(rf"^\| emodb, {part} +\|", markdown(found), re.MULTILINE)) == mark * len(names)
    assert latex(found).count(f"emodb, split speaker-disjoint ({part}, n = 12). ") == mark * len(names)
    assert html(found[0].tables[0], "t").count(f'<caption>emodb <span class="soft">{part}, n = 12</span>') == mark
    assert (f"emodb, split speaker-disjoint ({part}), n = 12, emotion by attacker" in summary_table(results)) is mark


def test_it_is_said_what_intervals_are_over() -> None:
    assert "n = 12 utterances; intervals over 24 speakers; " in markdown(shown(odd()))


def test_html_escapes_names_and_marks_the_best() -> None:
    text = html(shown(odd())[0].tables[0], "t")
    assert ">a_b &amp; 50% #1 $x$ {y} ~^\\ |p| *z* &lt;i&gt;[1]</th>" in text and "<i>" not in text
    assert "<b>25.0</b><small>20.0–30.0</small>" in text


def test_latex_rows_have_as_many_cells_as_columns(invented: Callable[[int], Results]) -> None:
    for results in (invented(0), odd()):
        tables = re.findall(r"\\begin\{tabular\}\{l(r+)\}\n(.*?)\\end\{tabular\}", latex(shown(results)), re.DOTALL)
        assert len(tables) == len(re.findall(r"\\begin\{table\*\}", latex(shown(results)))) > 0
        for columns, body in tables:
            rows = [line for line in body.splitlines() if line.endswith(r"\\")]
            assert len(rows) > 4
            for line in rows:
                spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert len(re.findall(r"(?<!\\)&", line)) + sum(spans) == len(columns)
            groups = re.sub(r"\\[\\{}]", "", body)  # without line breaks and braces that are printed
            assert groups.count("{") == groups.count("}") > 0
            assert body.index(r"\toprule") < body.index(r"\midrule") < body.index(r"\bottomrule")


def test_latex_escapes_names_and_marks_the_best(invented: Callable[[int], Results]) -> None:
    escaped = (
        r"a\_b \& 50\% \#1 \$x\$ \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textbar{}p\textbar{} {*}z{*} \textless{}i\textgreater{}{[}1{]} & "
        r"\psegancell{\textbf{25.0}\\{\scriptsize 20.0--30.0}}"
    )
    assert escaped in latex(shown(odd()))
    text = latex(shown(invented(0)))
    assert not re.search(r"[^\x00-\x7f]", text)  # no symbol that an old LaTeX wouldn't know
    assert len(re.findall(r"\\label\{(.*?)\}", text)) == len(set(re.findall(r"\\label\{(.*?)\}", text))) == 36


def test_seeds_are_explained_only_where_there_are_several(invented: Callable[[int], Results]) -> None:
    for view in (markdown, latex):
        assert "Where several seeds ran" not in view(shown(invented(0)))
        assert "Where several seeds ran" in view(shown(invented(0), invented(1)))


def test_repetitions_are_explained_only_where_there_are_some() -> None:
    common = {"corpus": "c", "split": "paper", "attribute": "emotion", "metric": "uar", "attacker": "informed", "n": 12}
    rows = [Row(system=name, value=0.25, **common) for name in ("psegan", "psegan-0", "psegan-1")]
    roles = {"psegan": "system", "psegan-0": "repetition of psegan", "psegan-1": "repetition of psegan"}
    for view in (markdown, latex):
        assert "over speakers and over these trainings" in view(shown(Results({"roles": roles}, rows)))
        assert "over these trainings" not in view(shown(Results({"roles": roles}, rows[:1])))


def test_summary_is_aligned(invented: Callable[[int], Results]) -> None:
    blocks = summary_table(invented(0)).split("\n\n")[1:]
    assert [block.splitlines()[0].split(",")[0] for block in blocks] == ["ravdess", "emodb"] * 4
    for number, block in enumerate(blocks):
        heading, first, second, rule, *rows = block.splitlines()
        if number // 2 % 2:
            assert heading.endswith("what is kept, by judge")
            assert first.split()[-3:] == ["resemblyzer", "dnsmos", "level"]
        else:
            assert heading.endswith("emotion by attacker")
            assert first.split()[:4] == ["strongest", "informed", "vocoder-aware", "ignorant"]
            assert second.split()[:3] == ["system", "UAR↓", "bits↓"]
        body = [line for line in rows if not line.startswith("-")]
        assert len(body) == 13 and {len(line) for line in body} == {len(rule)}
        assert len({tuple(m.end() for m in re.finditer(r"\S+", line))[1:] for line in body}) == 1
        assert max(map(len, block.splitlines())) <= 80


@pytest.mark.parametrize(("attacker", "warned"), [("ignorant", True), ("vocoder-aware", True), ("informed", False)])
def test_summary_warns_of_attackers_that_cannot_adapt(attacker: str, warned: bool) -> None:
    row = Row(
        system="psegan", corpus="c", split="paper", attacker=attacker, attribute="emotion", metric="uar", value=0.1, n=9
    )
    assert ("not evidence of privacy" in summary_table(Results({}, [row]))) is warned


def test_summary_names_who_has_collapsed() -> None:
    common = {"corpus": "c", "split": "paper", "attacker": "informed", "attribute": "emotion", "n": 9}
    rows = [Row(system="psegan", metric=m, value=v, **common) for m, v in (("uar", 0.1), ("most_predicted", 0.93))]
    text = summary_table(Results({"chance": {"c": {"emotion": 0.125}}}, rows))
    assert "informed on psegan is collapsed: one class in 93 %" in text and "plain numbers" not in text
    assert "collapsed" not in summary_table(Results({"chance": {"c": {"emotion": 0.125}}}, rows[:1]))


def test_summary_of_nothing() -> None:
    assert summary_table(Results()) == "no scores"
