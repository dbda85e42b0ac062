"""The tables of README.md, of the cards and of the findings, printed from committed results: ``make tables``.

A page holds, in a comment of Markdown, the call of a function below; cog runs it and puts what it prints behind the comment. A
test does so again and compares.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from psegan.report.results import Results, merge
from psegan.report.tables import ATTACKERS, Cell, sections
from psegan.report.typeset import summary_table

RESULTS = Path(__file__).parent / "results"
Columns = Mapping[str, tuple[str, str]]
"""Heading → the attacker, judge or attribute, and the measure, of a column of the report."""
EMOTION: Columns = {name: (name, "UAR ↓") for name in ATTACKERS} | {"residual (strongest)": ("strongest", "residual ↓")}
HEADLINE: Columns = {f"emotion: `{name}`": (name, "UAR ↓") for name in ("strongest", "ignorant")}
KEPT: Columns = {
    "words, WER ↓": ("moonshine", "WER ↓"),
    "words, WER to what it hears in the original ↓": ("moonshine", "WER to its transcript of the original ↓"),
    "voice, EER ↓": ("resemblyzer", "EER ↓"),
    "DNSMOS ↑": ("dnsmos", "overall ↑"),
    "loudest 20 ms, 95 % (dB)": ("level", "loudest, 95 % (dB) →0"),
}
SIGNAL: Columns = {"MCD (dB) ↓": ("speech", "MCD (dB) ↓"), "STOI ↑": ("speech", "STOI ↑")}


def headline(run: str, systems: Mapping[str, str]) -> None:
    """Print emotion, words, voice and quality without intervals; ``systems`` has a note, or nothing, on each."""
    names = {f"`{system}`{note and f' ({note})'}": system for system, note in systems.items()}
    _print(run, names, {**HEADLINE, **KEPT}, lambda cell: cell.text)


def emotion(run: str, *systems: str) -> None:
    """Print the emotion that attackers find, UAR in % and the residual, with intervals."""
    _print(run, {system: system for system in systems}, EMOTION)


def kept(run: str, *systems: str) -> None:
    """Print what public judges say of words, voice, quality and level, with intervals."""
    _print(run, {system: system for system in systems}, KEPT)


def copies(run: str, systems: Mapping[str, str]) -> None:
    """Print what vocoders' copies come to, with intervals; ``systems`` are names and what the results call them."""
    _print(run, {"original": "original", **systems}, {**KEPT, **SIGNAL})


def summary(run: str) -> None:
    """Print what ``psegan evaluate`` printed."""
    print(f"```text\n{summary_table(_published(run))}\n```")


@cache
def _published(run: str) -> Results:
    return Results.from_json(RESULTS / run / "results.json")


@cache
def _cells(run: str) -> pd.Series:
    """The cells of the report, by system and column."""
    found = {
        (system, block, measure): cell
        for section in sections(merge({run: _published(run)}))
        for table in section.tables
        for (_, block, measure), column in table.frame.items()
        for system, cell in column.items()
    }
    return pd.Series(found)


def _print(run: str, systems: Mapping[str, str], columns: Columns, show: Callable[[Cell], str] = str) -> None:
    """A table of systems (name → what the results call it), with those columns that the results have."""
    cells = _cells(run).map(show)
    lines = {
        name: {head: cells.get((system, *column)) for head, column in columns.items()}
        for name, system in systems.items()
    }
    frame = pd.DataFrame.from_dict(lines, orient="index").dropna(axis="columns", how="all").fillna("–")
    print(frame.to_markdown(tablefmt="pipe", disable_numparse=True))
