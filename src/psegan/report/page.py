"""The results for people: one self-contained HTML page of one run or of several."""

import base64
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from psegan.common.errors import PseganError
from psegan.common.files import write_json, write_text
from psegan.report import typeset
from psegan.report.results import Results, merge
from psegan.report.tables import ATTACKERS, SPLITS, sections

GENERATOR = '<meta name="generator" content="psegan report">'
"""In every page, so that one can be told from a file of somebody's."""

AUDIO_TYPES = {".wav": "audio/wav", ".flac": "audio/flac"}

FIGURES = {
    "speech": "Figure 4: waveform and spectrogram",
    "tsne": "Figure 5: emotion features",
    "roc": "Figure 6: receiver operating characteristics",
}
"""First word of a figure's file name → heading; the numbers are the article's."""


@dataclass(frozen=True)
class AudioExample:
    """An utterance to listen to.

    Attributes:
        id: of the utterance.
        label: text beside it, as "actor 07, sad".
        clips: WAV or FLAC files by system, as ``{"original": ..., "psegan": ...}``.
    """

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


@dataclass(frozen=True)
class PublishedRun:
    """A folder of results: ``name`` stands in messages and headings."""

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
    folder = given if given.is_dir() else given.parent
    file = given / "results.json" if given.is_dir() else given
    if not given.exists():
        raise PseganError(f"{given}: no such run; name a folder that 'psegan evaluate' or 'psegan reproduce' wrote")
    if not file.is_file():
        raise PseganError(
            f"{given}: holds no results.json; name a folder that 'psegan evaluate' or 'psegan reproduce' wrote"
        )
    return PublishedRun(str(given), Results.from_json(file), read_page(folder))


def _data_uri(path: Path, kind: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PseganError(f"{path}: cannot be read ({error.strerror}); the report needs it, so write it anew") from None
    if not content:
        raise PseganError(f"{path}: is empty; the report needs it, so write it anew")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


class _Image(NamedTuple):
    uri: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Two panels side by side would be too small to read in half the page."""
        return self.width > 1.5 * self.height

    @classmethod
    def read(cls, path: Path) -> "_Image":
        uri = _data_uri(path, "image/png")
        start = path.read_bytes()[:24]
        if not start.startswith(b"\x89PNG\r\n\x1a\n") or len(start) < 24:
            raise PseganError(f"{path}: is not a PNG image; the report needs it, so write it anew")
        return cls(uri, *struct.unpack(">II", start[16:24]))


def _audio_uri(path: Path) -> str:
    kind = AUDIO_TYPES.get(path.suffix.lower())
    if kind is None:
        raise PseganError(f"{path}: the report plays {' and '.join(AUDIO_TYPES)} files; convert it to one of them")
    return _data_uri(path, kind)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names come from files, and a page must not run them
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        generator=GENERATOR, attackers=ATTACKERS, splits=SPLITS, html=typeset.html, differences_legend=typeset.DIFFERENCES
    )  # fmt: skip
    environment.filters["next"] = next
    return environment.get_template("report.html.jinja")


def _images(page: Page) -> dict[str, dict[str, _Image]]:
    """Heading → title → image; the article's figures first, the rest under an empty heading."""
    grouped: dict[str, dict[str, _Image]] = {heading: {} for heading in (*FIGURES.values(), "")}
    for title, path in page.figures.items():
        if Path(path).suffix.lower() != ".png":
            raise PseganError(f"{path}: the report shows .png figures; write it as one of them")
        grouped[FIGURES.get(Path(path).stem.split("_")[0], "")][title] = _Image.read(Path(path))
    return {heading: images for heading, images in grouped.items() if images}


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
    shown = [
        {
            "name": run.name,
            "title": run.page.title,
            "shortened": run.results.header.get("shortened"),
            "missing": run.page.missing,
            "figures": _images(run.page),
            "examples": [
                {
                    "id": example.id,
                    "label": example.label,
                    "clips": {name: _audio_uri(Path(path)) for name, path in example.clips.items()},
                }
                for example in run.page.audio
            ],
            "header": json.dumps(run.results.header, indent=2, ensure_ascii=False, default=str),
        }
        for run in runs
    ]
    present = [name for section in found for name in section.attackers]
    page = _template().render(
        title=title,
        sections=found,
        runs=shown,
        present=present,
        legend=typeset.legend(found),
        numbers=map(str, count()),
    )
    write_text(out, page)
