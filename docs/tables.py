"""The tables of README.md, of the cards and of the findings, printed from committed results: ``make tables``.

A page holds, in a comment of Markdown, the call of a function below; cog runs it and puts what it prints behind the comment. A
test does so again and compares.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from psegan.report.results import Results, Row
from psegan.report.tables import ATTACKERS, MEASURES
from psegan.report.typeset import summary_table

RESULTS = Path(__file__).parent / "results"
KEPT = {
    "words, WER ↓": ("words", "moonshine", "wer"),
    "words, WER to what it hears in the original ↓": ("words", "moonshine", "wer_to_original"),
    "voice, EER ↓": ("speaker", "resemblyzer", "eer"),
    "DNSMOS ↑": ("speech", "dnsmos", "overall"),
    "loudest 20 ms, 95 % (dB)": ("speech", "level", "loudest_p95"),
}
"""Heading → attribute, judge and metric: words by Moonshine and voice by Resemblyzer in %, DNSMOS from 1 to 5."""
SIGNAL = {"MCD (dB) ↓": "mcd", "STOI ↑": "stoi"}


@cache
def _published(run: str) -> Results:
    return Results.from_json(RESULTS / run / "results.json")


def headline(run: str, systems: Mapping[str, str]) -> None:
    """Print emotion, words, voice and quality without intervals; ``systems`` has a note, or nothing, on each."""
    lines = {}
    for system, note in systems.items():
        cells = {f"emotion: `{name}`": _shown(_emotion(run, system, name), False) for name in ("strongest", "ignorant")}
        lines[f"`{system}`{note and f' ({note})'}"] = cells | _kept(run, system, False)
    _print(lines)


def emotion(run: str, *systems: str) -> None:
    """Print the emotion that attackers find, UAR in % and the residual, with intervals."""
    lines = {}
    for system in systems:
        found = {name: _shown(_emotion(run, system, name)) for name in ATTACKERS}
        found["residual (strongest)"] = _shown(_emotion(run, system, "strongest", "residual"))
        lines[system] = {name: cell for name, cell in found.items() if cell != "–"}
    _print(lines)


def kept(run: str, *systems: str) -> None:
    """Print what public judges say of words, voice, quality and level, with intervals."""
    _print({system: _kept(run, system) for system in systems})


def copies(run: str, **systems: str) -> None:
    """Print what vocoders' copies come to: a name → the system in the results, and first the original."""
    lines = {"original": _kept(run, "original")}
    for name, system in systems.items():
        signal = {head: _shown(_row(run, system, attribute="speech", metric=metric)) for head, metric in SIGNAL.items()}
        lines[name.replace("_", "-")] = _kept(run, system) | signal
    _print(lines)


def summary(run: str) -> None:
    """Print what ``psegan evaluate`` printed."""
    print("\n".join(f"    {line}".rstrip() for line in summary_table(_published(run)).splitlines()))


def _kept(run: str, system: str, intervals: bool = True) -> dict[str, str]:
    found = {}
    for head, (attribute, judge, metric) in KEPT.items():
        row = _row(run, system, attribute=attribute, judge=judge, metric=metric)
        found[head] = _shown(row, intervals)
    return {head: cell for head, cell in found.items() if cell != "–"}


def _emotion(run: str, system: str, attacker: str, metric: str = "uar") -> Row | None:
    return _row(run, system, attribute="emotion", attacker=attacker, metric=metric)


def _row(run: str, system: str, **wanted: str) -> Row | None:
    """The row over all folds, or of the only one."""
    rows = _published(run).select(system=system, **wanted)
    whole = [row for row in rows if row.fold is None] or rows
    return whole[0] if whole else None


def _shown(row: Row | None, interval: bool = True) -> str:
    if row is None:
        return "–"
    show = MEASURES[row.attribute, row.metric, row.judge is not None].format
    return show(row.value) + (f" ({show(row.low)}–{show(row.high)})" if interval else "")


def _print(lines: Mapping[str, Mapping[str, str]]) -> None:
    """A table of lines (name → heading → cell), with a column for every heading."""
    heads = list(dict.fromkeys(head for cells in lines.values() for head in cells))
    rows = [["", *heads], ["---"] * (1 + len(heads))]
    rows += [[name, *(cells.get(head, "–") for head in heads)] for name, cells in lines.items()]
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
