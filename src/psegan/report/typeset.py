"""The tables of a report as plain text, Markdown and LaTeX."""

import re
from collections.abc import Mapping, Sequence

from psegan.report.results import Results
from psegan.report.tables import SHUFFLED, SPLITS, Cell, Column, Group, Section, Setting, Table, sections, summaries

MARKDOWN_MARK = "<!-- made by psegan report -->"
LATEX_MARK = "% made by psegan report"

LEGEND = (
    "Percent where no other unit is given; minDCF and STOI are plain numbers. An arrow shows which way a score goes when "
    "protection works. With each score stands its 95 % interval by bootstrap over speakers (over utterances where there "
    "are fewer than three). Bold: the best of the protecting systems by its value; controls are never marked, what prints "
    "alike is marked alike, and an emotion score beyond chance counts as chance. Two systems whose intervals overlap have "
    "not been shown to differ: see their paired difference. p→p: protected speech enrols and is tested; otherwise "
    "original speech enrols. Chance is a guess among the classes; where they are uneven, always naming the most frequent "
    "one has a higher accuracy, but no higher UAR."
)
SEEDS = (
    "Where several seeds ran, a score is their mean, with their range. Its interval has the mean of their ends, which is "
    "no narrower than an interval of the mean: it speaks of other speakers, the range of other trainings."
)
DIFFERENCES = (
    "The line's first system minus its second on the same utterances, in points where the score is in percent. Bold: the "
    "95 % interval leaves out zero. With many pairs some will by chance."
)


def setting_text(setting: Setting) -> str:
    """What the tables of a corpus rest on, in a line: count, folds, intervals, seeds, chance, validity, shuffled labels."""
    parts = [] if setting.n is None else [f"n = {setting.n} utterances"]
    if setting.folds:
        parts.append(setting.folds)
    if setting.units:
        parts.append(f"intervals over {setting.units}")
    if setting.seeds:
        parts.append(f"seed{'s' * (len(setting.seeds) > 1)} {', '.join(map(str, setting.seeds))}")
    if setting.chance:
        levels = ", ".join(f"{name} {100 * level:.1f}" for name, level in setting.chance.items())
        parts.append(f"chance accuracy: {levels}")
    else:
        parts.append("chance accuracies were not recorded")
    text = "; ".join(parts) + "."
    if setting.validity:
        scores = ", ".join(f"{name} {_validity(cell)}" for name, cell in setting.validity.items())
        text += f" Emotion accuracy of the attackers on original speech: {scores}."
    if (cell := setting.shuffled) is not None:
        interval = f" ({cell.interval})" if cell.interval else ""
        verdict = {
            None: "",
            True: ", at chance as it must be",
            False: ", NOT at chance: look for a leak before you believe any score here (one honest run in twenty says so "
            "as well: deal more often, shuffles)",
        }
        text += f" Chance check, {SHUFFLED}: {cell.measure.label} {cell.text}{interval}"
        text += f"{verdict[setting.shuffled_at_chance]}."
    return text


def _validity(cell: Cell | None) -> str:
    if cell is None:
        return "not measured"
    return cell.text + (f" ({cell.interval})" if cell.interval else "")


def split_text(split: str) -> str:
    """A split's name with what it means."""
    return f"{split} ({SPLITS[split]})" if split in SPLITS else split


def summary_table(results: Results) -> str:
    """Aligned plain text for the terminal: emotion UAR under every attacker and what is kept, without intervals."""
    blocks = ["Arrows show which way a score should go under protection. Percent, without intervals."]
    for table in summaries(results):
        heads = [["", ""], *([column.block, column.label.replace(" ", "")] for column in table.columns)]
        heads[0][1] = "system"
        for group in table.groups:
            lines = [[line.label, *("–" if c is None else c.text for c in line.cells)] for line in group.lines]
            lines.append(["chance", *_chance(table.columns, group)])
            widths = [max(map(len, (*head, *(line[i] for line in lines)))) for i, head in enumerate(heads)]
            text = [
                "  ".join([line[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(line[1:], widths[1:], strict=True))])
                for line in [[head[0] for head in heads], [head[1] for head in heads], *lines]
            ]
            text.insert(2, "-" * len(text[0]))
            text.insert(-1, "-" * len(text[0]))
            part = f" ({group.part})" if group.part else ""
            title = f"{group.corpus}, split {table.split}{part}, emotion by attacker"
            if not any(column.attacker in ("strongest", "informed") for column in table.columns):
                text.append("No attacker here heard protected speech: a low emotion score is not evidence of privacy.")
            blocks.append("\n".join([title, *(line.rstrip() for line in text)]))
    return "\n\n".join(blocks) if len(blocks) > 1 else "no scores"


def _chance(columns: Sequence[Column], group: Group) -> list[str]:
    return [
        "–" if level is None else column.measure.format(level)
        for column, level in zip(columns, group.chance, strict=True)
    ]


def _all_tables(section: Section) -> list[Table]:
    return [*section.tables, *(table for table in (section.differences, section.members) if table is not None)]


def several_seeds(found: Sequence[Section]) -> bool:
    """Whether a score is the mean of several seeds, so that a reader needs :data:`SEEDS`."""
    return any(
        cell is not None and cell.range is not None
        for section in found
        for table in _all_tables(section)
        for group in table.groups
        for line in group.lines
        for cell in line.cells
    )


def markdown(replications: Mapping[int | None, Results]) -> str:
    """All tables as GitHub-flavoured Markdown, one table for each corpus."""
    found = sections(replications)
    parts = [MARKDOWN_MARK, _markdown_escape(LEGEND)]
    if several_seeds(found):
        parts.append(_markdown_escape(SEEDS))
    for section in found:
        parts.append(f"## Split {_markdown_escape(split_text(section.split))}")
        parts += [f"{_markdown_escape(s.corpus)}: {_markdown_escape(setting_text(s))}" for s in section.settings]
        for table in _all_tables(section):
            parts.append(f"### {table.name}: {table.title}")
            if table.name == "Differences":
                parts.append(_markdown_escape(DIFFERENCES))
            for group in table.groups:
                heads = [f"{column.block}: {column.label}" for column in table.columns]
                corner = ", ".join(filter(None, (group.corpus, group.part)))
                lines = [[corner, *heads]]
                rows = ["| " + " | ".join(map(_markdown_escape, line)) + " |" for line in lines]
                rows.append("|---|" + "---:|" * len(heads))
                for line in group.lines:
                    cells = (_markdown_cell(cell, group.n) for cell in line.cells)
                    rows.append("| " + " | ".join([_markdown_escape(line.label), *cells]) + " |")
                if any(level is not None for level in group.chance):
                    rows.append("| *chance* | " + " | ".join(_chance(table.columns, group)) + " |")
                parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _markdown_escape(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", text)


def _markdown_cell(cell: Cell | None, n: int | None) -> str:
    if cell is None:
        return "–"
    text = f"**{cell.text}**" if cell.marked else cell.text
    if cell.interval:
        text += f" ({cell.interval})"
    return text + "".join(f"; {note}" for note in cell.notes(n))


def latex(replications: Mapping[int | None, Results]) -> str:
    """All tables as LaTeX floats below a paragraph that says how to read them.

    The document needs ``booktabs`` and ``graphicx``; LaTeX numbers the tables itself.
    """
    found = sections(replications)
    parts = [f"{LATEX_MARK}; needs \\usepackage{{booktabs,graphicx}}\n{_LATEX_CELL}"]
    legend = f"{LEGEND} {SEEDS}" if several_seeds(found) else LEGEND
    parts.append(f"\\paragraph{{How to read the tables.}} {_latex_escape(legend)}")
    for section in found:
        settings = [f"{setting.corpus}: {setting_text(setting)}" for setting in section.settings]
        heading = f"Split {split_text(section.split)}."
        parts.append(f"\\paragraph{{{_latex_escape(heading)}}} {_latex_escape(' '.join(settings))}")
        parts += [_latex_table(section, table) for table in _all_tables(section)]
    return "\n\n".join(parts) + "\n"


# a score above its interval, level with the row's label
_LATEX_CELL = r"\providecommand{\psegancell}[1]{\begin{tabular}[t]{@{}r@{}}#1\end{tabular}}"
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\to$", "–": "--", "−": "$-$",
    "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip


def _latex_escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_cell(cell: Cell | None, n: int | None) -> str:
    if cell is None:
        return "--"
    text = _latex_escape(cell.text)
    text = f"\\textbf{{{text}}}" if cell.marked else text
    small = [note for note in (cell.interval, *cell.notes(n)) if note]
    below = "".join(f"\\\\{{\\scriptsize {_latex_escape(note)}}}" for note in small)
    return f"\\psegancell{{{text}{below}}}" if below else text


def _latex_table(section: Section, table: Table) -> str:
    width = len(table.columns) + 1
    caption = f"{table.title[0].upper()}{table.title[1:]}, split {section.split}. "
    if table.name == "Differences":
        caption += DIFFERENCES
    elif table.name == "Members":
        caption += "With 95 % intervals."
    else:
        caption += "With 95 % intervals; bold: the best of the protecting systems."
    label = re.sub(r"[^a-z0-9]+", "-", f"{table.name} {section.split}".lower())
    rules, start = [], 2
    for _, span in table.blocks:
        rules.append(f"\\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    blocks = [f"\\multicolumn{{{span}}}{{c}}{{{_latex_escape(name)}}}" for name, span in table.blocks]
    body = []
    for group in table.groups:
        notes = ", ".join(filter(None, (group.part, "" if group.n is None else f"$n = {group.n}$")))
        name = f"\\emph{{{_latex_escape(group.corpus)}}}" + (f" ({notes})" if notes else "")
        body.append(f"\\midrule\n\\multicolumn{{{width}}}{{l}}{{{name}}} \\\\")
        for line in group.lines:
            cells = [_latex_escape(line.label), *(_latex_cell(cell, group.n) for cell in line.cells)]
            body.append(" & ".join(cells) + r" \\")
        if any(level is not None for level in group.chance):
            cells = ["\\emph{chance}", *(_latex_escape(text) for text in _chance(table.columns, group))]
            body.append(" & ".join(cells) + r" \\")
    lines = [
        r"\begin{table*}",
        r"\centering",
        f"\\caption{{{_latex_escape(caption)}}}",
        f"\\label{{tab:{label}}}",
        # narrower than the page as it is, wider ones are shrunk to fit
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", *blocks]) + r" \\",
        "".join(rules),
        " & ".join(["system", *(_latex_escape(column.label) for column in table.columns)]) + r" \\",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(lines)
