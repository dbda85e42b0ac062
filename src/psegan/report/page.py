"""The results for people: one self-contained HTML page of one run or of several."""

import base64
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from psegan.common.errors import PseganError
from psegan.common.files import FOLDER, not_a_file, write_text
from psegan.report import typeset
from psegan.report.results import Results, merge
from psegan.report.tables import ATTACKERS, SPLITS, sections

GENERATOR = '<meta name="generator" content="psegan report">'
"""Marks a page as a report, which a later report may overwrite."""

_KINDS = {".png": "image/png", ".wav": "audio/wav", ".flac": "audio/flac"}

FIGURES = {
    "frontier": "What is hidden against what survives",
    "speech": "Figure 4: waveform and spectrogram",
    "tsne": "Figure 5: emotion features",
    "roc": "Figure 6: receiver operating characteristics",
}
"""First word of a figure's file name → heading; the numbers are the article's."""


@dataclass(frozen=True)
class AudioExample:
    """An utterance to listen to: its id, a label as ``speaker 07, sad``, and system → WAV or FLAC file."""

    id: str
    label: str
    clips: Mapping[str, Path]


@dataclass(frozen=True)
class Page:
    """What a run shows beside its tables.

    Attributes:
        title: of the run.
        figures: PNG files by title; the first word of a file's name says what it is (:data:`FIGURES`).
        audio: utterances to listen to.
        missing: files that ``page.json`` names and the folder lacks.
    """

    title: str
    figures: Mapping[str, Path] = field(default_factory=dict)
    audio: Sequence[AudioExample] = ()
    missing: Sequence[str] = ()

    def headed(self) -> dict[str, dict[str, Path]]:
        """Heading → title → figure; the article's figures first, the rest under an empty heading."""
        grouped: dict[str, dict[str, Path]] = {heading: {} for heading in (*FIGURES.values(), "")}
        for title, path in self.figures.items():
            grouped[FIGURES.get(path.stem.split("_")[0], "")][title] = path
        return {heading: figures for heading, figures in grouped.items() if figures}


@dataclass(frozen=True)
class PublishedRun:
    """A folder of results; ``name`` stands in messages and headings."""

    name: str
    results: Results
    page: Page


def write_page(folder: Path, page: Page) -> None:
    """Write ``folder/page.json``, from which :func:`read_page` makes the same page wherever the folder has gone."""
    content = asdict(page)
    del content["missing"]
    text = json.dumps(content, indent=2, default=lambda path: path.relative_to(folder).as_posix())
    write_text(folder / "page.json", text + "\n")


def read_page(folder: Path) -> Page:
    """The page of a run: what ``folder/page.json`` names, as far as it is there; an empty one without that file.

    Raises:
        PseganError: the file is malformed or names a file outside ``folder``.
    """
    file = folder / "page.json"
    if not file.is_file():
        return Page(folder.resolve().name)
    missing: list[str] = []

    def present(paths: Any) -> dict[str, Path]:
        found = {}
        for name, path in paths.items():
            if not (folder / path).resolve().is_relative_to(folder.resolve()):
                raise PseganError(f"{file}: names {path}, which lies outside the run's folder; write the run anew")
            if Path(path).suffix not in _KINDS:
                raise ValueError(path)
            if not not_a_file(folder / path):
                found[str(name)] = folder / path
            else:
                missing.append(str(path))
        return found

    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        figures = present(content["figures"])
        audio = [AudioExample(str(e["id"]), str(e["label"]), present(e["clips"])) for e in content["audio"]]
        title = str(content["title"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PseganError(f"{file}: is malformed; remove it, or write the run anew with 'psegan evaluate'") from None
    return Page(title, figures, [example for example in audio if example.clips], missing)


def results_file(path: str | os.PathLike[str]) -> Path:
    """The file with a run's results: in the folder that is named, or else what is named."""
    return Path(path) / "results.json" if not_a_file(path) == FOLDER else Path(path)


def read_run(path: str | os.PathLike[str]) -> PublishedRun:
    """A run: the folder that holds ``results.json``, or that file.

    Raises:
        PseganError: there is none, or it cannot be read.
    """
    file = results_file(path)
    return PublishedRun(str(Path(path)), Results.from_json(file), read_page(file.parent))


def _uri(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{_KINDS[path.suffix]};base64,{content}"


def _size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG image in pixels, which its header holds."""
    try:
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
    except struct.error:
        raise PseganError(f"{path}: is cut short; write the run anew with 'psegan evaluate'") from None
    return width, height


def render_runs(runs: Sequence[PublishedRun], out: Path, title: str = "Speech attribute privacy") -> None:
    """Write one HTML page of all runs, which have different names, that needs no network and no other file.

    The tables are merged; figures and recordings are embedded byte for byte, each run's under its name.

    Raises:
        PseganError: two runs contradict each other.
    """
    found = sections(merge({run.name: run.results for run in runs}))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names come from files, and a page must not run them
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = count()  # tables need names of their own
    environment.filters |= {
        "html": lambda table: typeset.html(table, str(next(numbers))),
        "json": partial(json.dumps, indent=2, ensure_ascii=False, default=str),
        "size": _size,
        "uri": _uri,
    }
    page = environment.get_template("report.html.jinja").render(
        title=title,
        runs=runs,
        sections=found,
        attackers={name: text for name, text in ATTACKERS.items() if any(name in one.attackers for one in found)},
        splits=SPLITS,
        legend=typeset.legend(found),
        differences_legend=typeset.DIFFERENCES,
        generator=GENERATOR,
    )
    write_text(out, page)
