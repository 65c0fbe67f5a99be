"""Tables in LaTeX (booktabs), with every text escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TEX = {
    "->": r"$\rightarrow$",
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "#": r"\#",
    "_": r"\_",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def tex(plain: object) -> str:
    """A text as LaTeX prints it; arrows of directions become arrows.

    >>> tex("{Q,D}->D#8.1"), tex("50% & a_b")
    ('\\\\{Q,D\\\\}$\\\\rightarrow$D\\\\#8.1', '50\\\\% \\\\& a\\\\_b')
    """
    words = "".join(letter if letter.isprintable() else " " for letter in str(plain))
    return re.sub("|".join(map(re.escape, _TEX)), lambda found: _TEX[found[0]], words)


def tabular(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str,
    notes: Sequence[str] = (),
    text: int = 1,
    rules: Sequence[int] = (),
) -> str:
    """A table for a paper.

    Args:
        head: the columns' names, as LaTeX.
        rows: cells, as LaTeX.
        title: what it shows; a comment before it, as the notes are.
        notes: what its signs mean.
        text: how many columns are text (to the left); the others are numbers (to the right).
        rules: rows before which there is a rule.
    """
    said = [" ".join(line.split()) for line in ("\\usepackage{booktabs}", title, *notes)]
    body = []
    for place, row in enumerate(rows):
        body += ["\\midrule"] * (place in rules)
        body.append(" & ".join(row) + r" \\")
    return "\n".join(
        [
            *(f"% {line}" for line in said),
            f"\\begin{{tabular}}{{{'l' * text}{'r' * (len(head) - text)}}}",
            "\\toprule",
            " & ".join(head) + r" \\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )
