"""LaTeX: a table for a paper, in the manner of booktabs."""

from __future__ import annotations

from collections.abc import Iterable

from nervecode.lab.results.table import Table

ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "[": "{[}", "]": "{]}",  # after a line's end, a bracket would be taken for its argument
    "…": r"\dots{}", "·": r"$\cdot$",
}  # fmt: skip


def as_latex(table: Table) -> str:
    """A `table` environment (needs booktabs); best in bold, second underlined."""
    lines = []
    for r, row in enumerate(table.body):
        cells = []
        for c, text in enumerate(row):
            macro = r"\textbf" if (r, c) in table.best else ""
            macro = r"\underline" if (r, c) in table.second else macro
            cells.append(f"{macro}{{{escape(text)}}}" if macro else escape(text))
        lines.append(_line(cells))
    caption = escape(f"{table.title}. {table.caption}".strip())
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            _line(map(escape, table.header)),
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """A text as LaTeX shows it."""
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def _line(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
