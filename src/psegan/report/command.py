"""``psegan report``: the tables, figures and recordings of any set of runs on one page."""

import argparse
import os
from pathlib import Path

from psegan.common.errors import PseganError
from psegan.common.files import MISSING, not_a_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan report``."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a folder that holds results.json, or that file")
    parser.add_argument("-o", "--output", default="report.html", help="the page (default: %(default)s)")
    parser.add_argument("--markdown", metavar="FILE", help="the same tables as Markdown")
    parser.add_argument("--latex", metavar="FILE", help="the same tables as LaTeX, for booktabs and graphicx")
    parser.add_argument("--force", action="store_true", help="overwrite files that are no reports of psegan")


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan report``.

    Raises:
        PseganError: a run is missing, malformed or contradicts another, or an output would overwrite a file that is no
            report.
    """
    from psegan.common.files import write_text
    from psegan.report import page as report
    from psegan.report import typeset
    from psegan.report.results import merge
    from psegan.report.tables import sections

    given = {"page": arguments.output, "markdown": arguments.markdown, "latex": arguments.latex}
    outputs = {name: Path(path) for name, path in given.items() if path is not None}
    marks = {"page": report.GENERATOR, "markdown": typeset.MARKDOWN_MARK, "latex": typeset.LATEX_MARK}
    if len({os.path.realpath(path) for path in outputs.values()}) < len(outputs):
        raise PseganError("two outputs have the same name; give each its own")
    for name, path in outputs.items():
        _check_replaceable(path, marks[name], arguments.force)
    # a run named twice, once by its folder and once by its file maybe, is one run
    named = {os.path.realpath(report.results_file(path)): path for path in arguments.runs}
    runs = [report.read_run(path) for path in named.values()]
    found = sections(merge({run.name: run.results for run in runs}))
    title = runs[0].page.title if len(runs) == 1 else "Speech attribute privacy"
    report.render_runs(runs, outputs["page"], title)
    if "markdown" in outputs:
        write_text(outputs["markdown"], typeset.markdown(found))
    if "latex" in outputs:
        write_text(outputs["latex"], typeset.latex(found))
    for path in outputs.values():
        print(path)
    return 0


def _check_replaceable(path: Path, mark: str, force: bool) -> None:
    """A report follows from its runs, so an old one may go; anything else is somebody's work."""
    problem = not_a_file(path)
    if problem not in ("", MISSING):
        raise PseganError(f"{path}: {problem}; name another file")
    if not problem and not force and mark.encode() not in path.read_bytes()[:2000]:
        raise PseganError(f"{path}: exists and is no report of psegan; name another file, or overwrite it with --force")
