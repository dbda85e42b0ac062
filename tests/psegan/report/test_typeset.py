"""The tables as text, Markdown and LaTeX: every number, and nothing that the format would misread."""

import re
from collections.abc import Callable

import pytest

from psegan.report.results import Results, Row
from psegan.report.tables import sections
from psegan.report.typeset import latex, markdown, summary_table

ODD = r"a_b & 50% #1 $x$ {y} ~^\ |p| *z* <i>[1]"


def odd() -> Results:
    common = {"corpus": "my_corpus", "split": "paper", "attribute": "emotion", "metric": "uar", "attacker": "informed"}
    rows = [Row(system=name, value=0.25, low=0.2, high=0.3, n=12, **common) for name in (ODD, "plain")]
    return Results({"chance": {"my_corpus": {"emotion": 0.25}}, "units": {"my_corpus": "24 speakers"}}, rows)


def test_markdown_has_every_cell_and_marks_the_best(invented: Callable[[int], Results]) -> None:
    text = markdown({0: invented(0)})
    for section in sections({0: invented(0)}):
        for table in section.tables:
            for group in table.groups:
                for line in group.lines:
                    cells = [
                        "–" if c is None else f"{'**' * c.marked}{c.text}{'**' * c.marked} ({c.interval})"
                        for c in line.cells
                    ]
                    assert "| " + " | ".join([line.label, *cells]) + " |" in text
    assert text.count("**") > 20
    assert "speakers shared" in text and "shuffled-labels: UAR" in text and "at chance as it must be" in text


def test_markdown_tables_are_rectangular(invented: Callable[[int], Results]) -> None:
    for results in (invented(0), odd()):
        for block in re.findall(r"(?:^\|.*\n)+", markdown({0: results}), re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_markdown_escapes_names() -> None:
    assert r"| a\_b & 50% \#1 $x$ {y} \~^\\ \|p\| \*z\* \<i\>\[1\] |" in markdown({0: odd()})


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
    results = {0: Results({"folds": {"emodb": 3}}, rows)}
    (section,) = sections(results)
    part = f"{len(done)} of 3 folds"
    assert len(section.tables) >= 4 and section.differences is not None and section.members is not None
    expected = mark * (len(section.tables) + 2)
    assert markdown(results).count(f"| emodb, {part} |") == expected
    assert latex(results).count(rf"\emph{{emodb}} ({part}, $n = 12$)") == expected
    assert (f"emodb, split speaker-disjoint ({part}), emotion by attacker" in summary_table(results[0])) is mark


def test_it_is_said_what_intervals_are_over() -> None:
    assert "n = 12 utterances; intervals over 24 speakers; " in markdown({0: odd()})


def test_latex_rows_have_as_many_cells_as_columns(invented: Callable[[int], Results]) -> None:
    for results in (invented(0), odd()):
        tables = re.findall(r"\\begin\{tabular\}\{l(r+)\}\n(.*?)\\end\{tabular\}", latex({0: results}), re.DOTALL)
        assert len(tables) == len(re.findall(r"\\begin\{table\*\}", latex({0: results}))) > 0
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
    assert escaped in latex({0: odd()})
    text = latex({0: invented(0)})
    assert not re.search(r"[^\x00-\x7f]", text)  # no symbol that an old LaTeX wouldn't know
    assert len(re.findall(r"\\label\{(.*?)\}", text)) == len(set(re.findall(r"\\label\{(.*?)\}", text))) == 14


def test_seeds_are_explained_only_where_there_are_several(invented: Callable[[int], Results]) -> None:
    for view in (markdown, latex):
        assert "Where several seeds ran" not in view({0: invented(0)})
        assert "Where several seeds ran" in view({0: invented(0), 1: invented(1)})


def test_summary_is_aligned(invented: Callable[[int], Results]) -> None:
    blocks = summary_table(invented(0)).split("\n\n")[1:]
    assert [block.splitlines()[0].split(",")[0] for block in blocks] == ["ravdess", "emodb"] * 2
    for block in blocks:
        _, first, second, rule, *rows = block.splitlines()
        assert first.split()[:4] == ["strongest", "informed", "vocoder-aware", "ignorant"]
        assert second.split()[:2] == ["system", "UAR↓"]
        body = [line for line in rows if not line.startswith("-")]
        assert len(body) == 13 and {len(line) for line in body} == {len(rule)}
        assert len({tuple(m.end() for m in re.finditer(r"\S+", line))[1:] for line in body}) == 1
        assert max(map(len, block.splitlines())) <= 100


@pytest.mark.parametrize(("attacker", "warned"), [("ignorant", True), ("vocoder-aware", True), ("informed", False)])
def test_summary_warns_of_attackers_that_cannot_adapt(attacker: str, warned: bool) -> None:
    row = Row(
        system="psegan", corpus="c", split="paper", attacker=attacker, attribute="emotion", metric="uar", value=0.1, n=9
    )
    assert ("not evidence of privacy" in summary_table(Results({}, [row]))) is warned


def test_summary_of_nothing() -> None:
    assert summary_table(Results()) == "no scores"
