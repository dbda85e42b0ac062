"""The tables of a report as HTML, Markdown, LaTeX and plain text, all styled by pandas."""

import re
from collections.abc import Sequence
from itertools import pairwise

import pandas as pd
from markupsafe import escape
from pandas.io.formats.style import Styler

from psegan.report.results import Results
from psegan.report.tables import ADAPTIVE, HIDDEN, SPLITS, Cell, Section, Table, summaries

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
REPEATED = (
    "Where a system was trained several times, a score is the mean over its trainings, with their range. Its interval is by "
    "bootstrap over speakers and over these trainings, which are so few that it is too narrow rather than too wide. "
    "A paired difference of several trainings of one system to one training of another is never bold, for how that one would "
    "differ if it were trained again is not known."
)
DIFFERENCES = (
    "The line's first system minus its second on the same utterances, in points where the score is in percent. Bold: the "
    "95 % interval leaves out zero. With many pairs some will by chance."
)


def _split_text(split: str) -> str:
    return f"{split} ({SPLITS[split]})" if split in SPLITS else split


def legend(found: Sequence[Section]) -> str:
    """How to read the tables; seeds and trainings are explained only where there are several."""
    seeds, repeated = any(section.several_seeds for section in found), any(section.repeated for section in found)
    return " ".join([LEGEND, *([SEEDS] if seeds else []), *([REPEATED] if repeated else [])])


def html(table: Table, name: str) -> str:
    """A ``<table>`` with its own rules of style; ``name`` tells it from others on the page."""

    def cell(cell: Cell) -> str:
        text = f"<b>{cell.text}</b>" if cell.marked else cell.text
        return text + "".join(f"<small>{note}</small>" for note in (cell.interval, *cell.notes) if note)

    heads = list(table.frame.columns)
    border = [{"selector": "", "props": "border-left: 1px solid var(--line)"}]
    lead = [{"selector": ":not(.level0)", "props": "background: var(--lead)"}]
    lines = {name: [{"selector": "", "props": "font-weight: 400"}] for name in table.controls}
    lines["chance"] = [{"selector": "", "props": "font-weight: 400; font-style: italic; color: var(--soft)"}]
    facts = ", ".join(filter(None, (table.part, f"n = {table.n}")))
    return (
        Styler(table.frame, cell_ids=False, uuid=name, uuid_len=0)
        .format(cell)
        .format_index(escape="html", axis=0)
        .format_index(escape="html", axis=1)
        .format_index("<span>{}</span>", axis=1, level=0)
        .set_caption(f'{escape(table.corpus)} <span class="soft">{escape(facts)}</span>')
        .set_table_styles({new: border for old, new in pairwise(heads) if new[:2] != old[:2]}, overwrite=False)
        .set_table_styles({head: lead for head in heads if head[1] == "strongest"}, overwrite=False)
        .set_table_styles({name: lines[name] for name in table.frame.index if name in lines}, axis=1, overwrite=False)
        .to_html()
    )


def summary_table(results: Results) -> str:
    """Aligned plain text for the terminal: emotion UAR under every attacker and what is kept, without intervals."""
    tables = summaries(results)
    in_bits = any("bits" in head for table in tables for *_, head in table.frame.columns)
    percent = (
        "Percent, without intervals; bits of the emotion are plain numbers."
        if in_bits
        else "Percent, without intervals."
    )
    blocks = [f"Arrows show which way a score should go under protection. {percent}"]
    for table in tables:
        frame = table.frame.map(lambda cell: cell.text)
        # bits stand beside the same attacker's UAR, and its name twice would be too wide for a terminal
        heads = [("" if head.startswith("bits") else block, head.replace(" ", "")) for _, block, head in frame.columns]
        frame.columns = pd.MultiIndex.from_tuples(heads, names=["", "system"])
        # a space more between columns than pandas leaves
        widths = [max(map(len, (*head, *frame[head]))) + 1 for head in heads]
        text = [line.rstrip() for line in frame.to_string(sparsify=False, col_space=widths).splitlines()]
        rule = "-" * max(map(len, text))
        text.insert(2, rule)
        if "chance" in frame.index:
            text.insert(-1, rule)
        part = f" ({table.part})" if table.part else ""
        n = f", n = {table.n}"
        for line, cells in table.frame.iterrows():
            notes = {block: note for (_, block, _), cell in cells.items() for note in cell.notes if "collapsed" in note}
            text += [f"{block} on {line} is {note}: read no privacy from its score." for block, note in notes.items()]
        purposes, shown = (set(table.frame.columns.get_level_values(level)) for level in (0, 1))
        if HIDDEN in purposes and not shown & set(ADAPTIVE):
            text.append("No attacker here heard protected speech: a low emotion score is not evidence of privacy.")
        blocks.append("\n".join([f"{table.corpus}, split {table.split}{part}{n}, {table.title}", *text]))
    return "\n\n".join(blocks) if len(blocks) > 1 else "no scores"


def markdown(found: Sequence[Section]) -> str:
    """All tables as GitHub-flavoured Markdown, one table for each corpus."""
    parts = [MARKDOWN_MARK, _markdown_escape(legend(found))]
    for section in found:
        parts.append(f"## Split {_markdown_escape(_split_text(section.split))}")
        parts += [_markdown_escape(f"{corpus}: {setting.text}") for corpus, setting in section.settings.items()]
        title = ""
        for table in section.tables:
            if title != (title := f"### {table.name}: {_markdown_escape(table.title)}"):
                parts += [title, *([_markdown_escape(DIFFERENCES)] if table.name == "Differences" else [])]
            frame = table.frame.map(markdown_cell)
            frame.columns = [_markdown_escape(f"{block}: {head}") for _, block, head in frame.columns]
            frame.index = frame.index.map(lambda line: "*chance*" if line == "chance" else _markdown_escape(line))
            frame.index.name = _markdown_escape(", ".join(filter(None, (table.corpus, table.part))))
            alignment = ["left", *["right"] * frame.shape[1]]
            parts.append(frame.to_markdown(tablefmt="pipe", disable_numparse=True, colalign=alignment))
    return "\n\n".join(parts) + "\n"


def _markdown_escape(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", text)


def markdown_cell(cell: Cell) -> str:
    """A score with its interval and notes."""
    text = f"**{cell.text}**" if cell.marked else cell.text
    return "; ".join([f"{text} ({cell.interval})" if cell.interval else text, *cell.notes])


def latex(found: Sequence[Section]) -> str:
    """All tables as LaTeX floats below a paragraph that says how to read them.

    The document needs ``booktabs`` and ``graphicx``; LaTeX numbers the tables itself.
    """
    parts = [
        f"{LATEX_MARK}; needs \\usepackage{{booktabs,graphicx}}\n{_LATEX_CELL}",
        f"\\paragraph{{How to read the tables.}} {_latex_escape(legend(found))}",
    ]
    for section in found:
        heading = _latex_escape(f"Split {_split_text(section.split)}.")
        settings = _latex_escape(" ".join(f"{corpus}: {setting.text}" for corpus, setting in section.settings.items()))
        parts.append(f"\\paragraph{{{heading}}} {settings}")
        parts += map(_latex_table, section.tables)
    return "\n\n".join(parts) + "\n"


# a score above its interval, level with the row's label
_LATEX_CELL = r"\providecommand{\psegancell}[1]{\begin{tabular}[t]{@{}r@{}}#1\end{tabular}}"
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\to$", "–": "--", "−": "$-$",
    "[": "{[}", "]": "{]}", "*": "{*}",
})  # fmt: skip


def _latex_escape(text: str) -> str:
    return text.translate(_LATEX)


def _latex_cell(cell: Cell) -> str:
    text = _latex_escape(cell.text)
    text = f"\\textbf{{{text}}}" if cell.marked else text
    below = [f"\\\\{{\\scriptsize {_latex_escape(note)}}}" for note in (cell.interval, *cell.notes) if note]
    return f"\\psegancell{{{text}{''.join(below)}}}" if below else text


def _latex_table(table: Table) -> str:
    part = ", ".join(filter(None, (table.part, f"n = {table.n}")))
    best = "With 95 % intervals; bold: the best of the protecting systems."
    note = {"Differences": DIFFERENCES, "Members": "With 95 % intervals."}.get(table.name, best)
    caption = f"{table.title[0].upper()}{table.title[1:]}, {table.corpus}, split {table.split} ({part}). {note}"
    label = re.sub(r"[^a-z0-9]+", "-", f"{table.name} {table.split} {table.corpus}".lower())
    frame = table.frame.droplevel(0, axis=1)
    tabular = (
        frame.style.format(_latex_cell)
        .format_index(_latex_escape, axis=0)
        .format_index(_latex_escape, axis=1)
        .to_latex(hrules=True, multicol_align="c", column_format="l" + "r" * frame.shape[1])
    )
    return rf"""\begin{{table*}}
\centering
\caption{{{_latex_escape(caption)}}}
\label{{tab:{label}}}
% narrower than the page as it is, wider ones are shrunk to fit
\resizebox{{\ifdim\width>\textwidth\textwidth\else\width\fi}}{{!}}{{%
{tabular.strip()}}}
\end{{table*}}"""
