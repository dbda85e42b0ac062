"""The results for people: one self-contained HTML page of one run or of several."""

import base64
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from psegan.common.errors import PseganError
from psegan.common.files import write_json, write_text
from psegan.report import typeset
from psegan.report.results import Results, merge
from psegan.report.tables import ATTACKERS, SPLITS, sections

GENERATOR = '<meta name="generator" content="psegan report">'
"""In every page, so that one can be told from a file of somebody's."""

_KINDS = {".png": ("image/png", b"\x89PNG"), ".wav": ("audio/wav", b"RIFF"), ".flac": ("audio/flac", b"fLaC")}
"""Suffix of a file that the page embeds → its type, and how its content begins."""

FIGURES = {
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
    """A folder of results; its ``name`` stands in messages and headings."""

    name: str
    results: Results
    page: Page


def write_page(folder: Path, page: Page) -> None:
    """Write ``folder/page.json``, from which :func:`read_page` makes the same page wherever the folder has gone.

    Raises:
        ValueError: a figure or recording lies outside ``folder``.
    """

    def relative(path: Path) -> str:
        return Path(path).resolve().relative_to(folder.resolve()).as_posix()

    content = {
        "title": page.title,
        "figures": {title: relative(path) for title, path in page.figures.items()},
        "audio": [
            {"id": e.id, "label": e.label, "clips": {system: relative(path) for system, path in e.clips.items()}}
            for e in page.audio
        ],
    }
    write_json(folder / "page.json", content)


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
            if (folder / path).is_file():
                found[str(name)] = folder / path
            else:
                missing.append(str(path))
        return found

    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        figures = present(content["figures"])
        audio = [AudioExample(str(e["id"]), str(e["label"]), present(e["clips"])) for e in content["audio"]]
        title = str(content["title"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is malformed ({error})"
        raise PseganError(f"{file}: {what}; remove it, or write the run anew with 'psegan evaluate'") from None
    return Page(title, figures, [example for example in audio if example.clips], missing)


def read_run(path: str | os.PathLike[str]) -> PublishedRun:
    """A run: the folder that holds ``results.json``, or that file.

    Raises:
        PseganError: there is none, or it cannot be read.
    """
    given = Path(path)
    file = given / "results.json" if given.is_dir() else given
    if not file.is_file():
        problem = "holds no results.json" if given.exists() else "no such run"
        raise PseganError(f"{given}: {problem}; name a folder that 'psegan evaluate' or 'psegan reproduce' wrote")
    return PublishedRun(str(given), Results.from_json(file), read_page(file.parent))


def _content(path: Path, *suffixes: str) -> bytes:
    """The bytes of a figure or recording, which must be of a kind that browsers show."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise PseganError(f"{path}: the report shows {' and '.join(suffixes)} files here; convert it to such a file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PseganError(f"{path}: cannot be read ({error.strerror}); the report needs it, so write it anew") from None
    if not content.startswith(_KINDS[suffix][1]) or len(content) < 24:
        raise PseganError(f"{path}: is no {suffix} file; the report needs it, so write it anew")
    return content


def _uri(path: Path, *suffixes: str) -> str:
    content = base64.b64encode(_content(path, *suffixes)).decode("ascii")
    return f"data:{_KINDS[path.suffix.lower()][0]};base64,{content}"


def _size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG image in pixels, which its header holds."""
    width, height = struct.unpack(">II", _content(path, ".png")[16:24])
    return width, height


def render_runs(runs: Sequence[PublishedRun], out: Path, title: str = "Speech attribute privacy") -> None:
    """Write one HTML page of all runs that needs no network and no other file.

    The tables are merged; figures and recordings are embedded byte for byte, each run's under its name.

    Args:
        runs: with different names.
        out: the page, written atomically.
        title: of the page.

    Raises:
        PseganError: a run has no scores, two runs contradict each other, or a figure or recording cannot be read or has
            a format that browsers don't show.
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
