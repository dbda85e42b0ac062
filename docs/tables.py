"""The tables of README.md, of the cards and of the findings, printed from committed results: ``make tables``.

A page holds, in a comment of Markdown, the call of a function below; cog runs it and puts what it prints behind the comment. A
test does so again and compares. A call gets the systems and columns that it asks for, or an error.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from psegan.common.errors import PseganError
from psegan.report.results import Results, merge
from psegan.report.tables import ATTACKERS, Cell, Table, sections
from psegan.report.typeset import markdown_cell, summary_table

RESULTS = Path(__file__).parent / "results"
Columns = dict[str, tuple[str, str]]
"""Heading → the attacker, judge or attribute, and the measure, of a column of the report."""
HEADLINE: Columns = {f"emotion: `{name}`": (name, "UAR ↓") for name in ("strongest", "ignorant")}
RESIDUAL: Columns = {"residual (strongest)": ("strongest", "residual ↓")}
WORDS: Columns = {"words, WER ↓": ("moonshine", "WER ↓")}
HEARD: Columns = {
    "words, WER to what it hears in the original ↓": ("moonshine", "WER to its transcript of the original ↓")
}
"""The words of a corpus whose texts nobody has."""
VOICE: Columns = {"voice, EER ↓": ("resemblyzer", "EER ↓")}
SOUND: Columns = {
    "DNSMOS ↑": ("dnsmos", "overall ↑"),
    "loudest 20 ms, 95 % (dB)": ("level", "loudest, 95 % (dB) →0"),
}
SIGNAL: Columns = {"MCD (dB) ↓": ("speech", "MCD (dB) ↓"), "STOI ↑": ("speech", "STOI ↑")}
KEPT: Columns = {**WORDS, **VOICE, **SOUND}


def headline(run: str, systems: Mapping[str, str]) -> None:
    """Print emotion, words, voice and quality without intervals; ``systems`` has a note, or nothing, on each."""
    names = {f"`{system}`{note and f' ({note})'}": system for system, note in systems.items()}
    _print(run, names, {**HEADLINE, **KEPT}, intervals=False)


def emotion(run: str, *systems: str, attackers: Iterable[str] = ATTACKERS) -> None:
    """Print the emotion that attackers find, UAR in % and the residual, with intervals."""
    columns = {name: (name, "UAR ↓") for name in attackers}
    _print(run, {system: system for system in systems}, {**columns, **RESIDUAL})


def kept(run: str, *systems: str, columns: Columns = KEPT) -> None:
    """Print what public judges say of words, voice, quality and level, with intervals."""
    _print(run, {system: system for system in systems}, columns)


def differences(run: str, whole: str, *systems: str, columns: Columns) -> None:
    """Print what every system has more than ``whole``, paired, with intervals."""
    _print(run, {f"{system} − {whole}": f"{system} − {whole}" for system in systems}, columns, kind="Differences")


def copies(run: str, systems: Mapping[str, str], columns: Columns = KEPT) -> None:
    """Print what vocoders' copies come to, with intervals; ``systems`` are names and what the results call them."""
    _print(run, {"original": "original", **systems}, {**columns, **SIGNAL})


def summary(run: str) -> None:
    """Print what ``psegan evaluate`` printed."""
    print(f"```text\n{summary_table(published(run))}\n```")


@cache
def published(run: str) -> Results:
    """The committed results of a folder below docs/results."""
    return Results.from_json(RESULTS / run / "results.json")


@cache
def _tables(run: str) -> list[Table]:
    """Those of the report, in its order."""
    return [table for section in sections(merge({run: published(run)})) for table in section.tables]


def _table_with(run: str, column: tuple[str, str], kind: str) -> Table:
    """The first table of the report, of that kind if one is asked for, that has a column; of its frame that column alone."""
    for table in _tables(run):
        for head in table.frame:
            if head[1:] == column and (not kind or table.name == kind):
                return replace(table, frame=table.frame[[head]])
    raise PseganError(f"{run}: its results have no {': '.join(column)}; ask for columns that they have")


def _print(run: str, systems: Mapping[str, str], columns: Columns, intervals: bool = True, kind: str = "") -> None:
    """Print a table of systems (name → what the results call it), and below it which part of the folds it is.

    Those are systems or, of the ``kind`` "Differences", pairs of systems.

    Raises:
        PseganError: the results lack a system, or a column of all the systems, or columns rest on different utterances.
    """
    found = {head: _table_with(run, column, kind) for head, column in columns.items()}
    if kind:
        known = dict.fromkeys(line for table in found.values() for line in table.frame.index)
    else:
        known = dict.fromkeys(row.system for row in published(run).rows)
    if unknown := [system for system in systems.values() if system not in known]:
        raise PseganError(f"{run}: its results have no system {unknown[0]}; there are {', '.join(known)}")
    if len({(table.n, table.part) for table in found.values()}) > 1:
        raise PseganError(f"{run}: the columns rest on different utterances; print them in tables of their own")
    frame = pd.DataFrame({head: table.frame.squeeze(axis=1) for head, table in found.items()})
    # the original has no distance to itself, and not every judge was asked about every system
    frame = frame.reindex(list(systems.values())).map(lambda cell: cell if isinstance(cell, Cell) else Cell("–"))
    if empty := [head for head in frame if all(cell.text == "–" for cell in frame[head])]:
        raise PseganError(f"{run}: its results have no {empty[0]} of {', '.join(systems.values())}; leave it out")
    part = next(iter(found.values())).part
    said = "one fold" if part.startswith("1 of") else ""

    def shown(cell: Cell) -> str:
        notes = tuple(note for note in cell.notes if note != said)
        return markdown_cell(replace(cell, interval=cell.interval if intervals else "", notes=notes))

    print(frame.map(shown).set_axis(list(systems)).to_markdown(tablefmt="pipe", disable_numparse=True))
    if part:
        print(f"\nAll scores: {part}.")
