"""A table, declared once and rendered as text, LaTeX, HTML and CSV."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from matchlens.errors import counted, visible
from matchlens.figures.svg import tag
from matchlens.report import texts
from matchlens.report.texts import LONG, arrow, chance, num, printed, reads, shown

Row = Mapping[str, object]
WORDS = ("text", "prose", "cut", "reads", "flag", "head")
"""Kinds of columns that hold words, which stand to the left."""
EXACT = 3000
"""Cells of a table up to which its CSV file has all digits of every number."""
_BOLD, _PLAIN = "\033[1m", "\033[0m"
_TEX = {
    "->": r"$\rightarrow$",
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "{}#_&%$"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def tex(plain: object) -> str:
    """Escape a text for LaTeX; arrows of directions become arrows.

    >>> tex("{Q,D}->D#8.1"), tex("50% & a_b")
    ('\\\\{Q,D\\\\}$\\\\rightarrow$D\\\\#8.1', '50\\\\% \\\\& a\\\\_b')
    """
    words = "".join(letter if letter.isprintable() else " " for letter in str(plain))
    return re.sub("|".join(map(re.escape, _TEX)), lambda match: _TEX[match[0]], words)


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    ]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        key: its name in the rows and in the CSV file. In a row, ``KEY*`` marks the cell (True: a
            star; a text: itself), ``KEY!`` says that it is lower, ``KEY?`` is its tooltip, ``KEY~``
            its HTML.
        label: its heading.
        digits: decimals of its numbers; 0 for whole ones.
        kind: ``number``, ``p``, ``interval`` (a pair of numbers), ``share`` (in percent), ``head``
            (layer and head), ``flag``, ``text``, ``prose`` (a text that wraps in LaTeX), ``cut`` or
            ``reads`` (a cut, in HTML also in words).
        sign: whether positive numbers have a plus in HTML.
    """

    key: str
    label: str
    digits: int = 3
    kind: str = "number"
    sign: bool = False

    @property
    def left(self) -> bool:
        """Whether it holds words, which stand to the left."""
        return self.kind in WORDS

    def value(self, row: Row) -> object:
        """Return a cell's value; an interval is that of KEY_low and KEY_high (less a ``_ci``)."""
        if self.kind != "interval" or self.key in row:
            return row.get(self.key)
        stem = self.key if self.key == "ci" else self.key.removesuffix("_ci")
        return row.get(f"{stem}_low"), row.get(f"{stem}_high")

    def plain(self, row: Row) -> str:
        """Format a cell for a terminal and for LaTeX, without its mark."""
        value = self.value(row)
        if value is None:
            return "-"
        if isinstance(value, tuple) and self.kind == "interval":
            ends = [printed(end, self.digits) for end in value]
            return "-" if "-" in ends else f"[{', '.join(ends)}]"
        if (words := self._words(value)) is not None:
            return words
        small = self.kind == "p" and 0 <= texts.number(value) < 0.0005
        return "<.001" if small else printed(value, self.digits)

    def show(self, value: object) -> str:
        """Format a value for a page."""
        if value is None:
            return texts.NONE
        if self.kind in {"cut", "reads"}:
            return arrow(value) if value != "" else "no cut"
        if isinstance(value, tuple) and self.kind == "interval":
            return texts.interval(*value, digits=self.digits)
        if (words := self._words(value)) is not None:
            return shown(words, LONG if self.kind != "prose" else None)
        halves = not self.digits and texts.number(value) % 1  # the mean rank of a tie
        digits = 1 if halves and math.isfinite(halves) else self.digits
        return chance(value) if self.kind == "p" else num(value, digits, sign=self.sign)

    def _words(self, value: object) -> str | None:
        """What does not depend on the medium; None for a number."""
        if self.kind == "flag" or isinstance(value, bool):
            return "yes" if value else "no"
        if self.kind == "share":
            return texts.share(value)
        if self.kind == "head" and isinstance(value, tuple):
            return ".".join(map(str, value))
        return str(value) if self.left or isinstance(value, str) else None

    def cell(self, row: Row, name: str = "td") -> Markup:
        """Make a cell's HTML."""
        value, mark, tip = self.value(row), row.get(f"{self.key}*"), row.get(f"{self.key}?")
        inside: str = self.show(value)
        if f"{self.key}~" in row:
            inside = escape(row[f"{self.key}~"])
        elif self.kind in {"text", "prose"}:
            inside = tag("bdi", inside)
        elif self.kind in {"cut", "reads"} and value:
            inside = tag("span", inside, class_="cut")
            if self.kind == "reads" and (words := reads(value)):
                inside = inside + Markup(" ") + tag("span", words, class_="soft")
        star = tag("sup", "*") if mark is True else Markup("") if not mark else escape(str(mark))
        kinds = [*([] if self.left else ["num"]), *(["lower"] if row.get(f"{self.key}!") else [])]
        order = None
        if self.kind == "head" and isinstance(value, tuple):
            order = int(value[0]) * 1000 + int(value[1])
        return tag(
            name,
            inside,
            star,
            class_=" ".join(kinds) or None,
            scope="row" if name == "th" else None,
            title="\n".join(map(shown, str(tip).split("\n"))) if tip else None,
            data_mark="" if tip else None,
            data_order=order,
        )


def _mark(row: Row, key: str) -> str:
    """The star or sign behind a number."""
    mark = row.get(f"{key}*")
    return "*" if mark is True else str(mark or "")


@dataclass(frozen=True)
class Table:
    """A table with its caption and notes.

    Args:
        name: the CSV file's name without its ending; unique on a page.
        title: what it shows.
        columns: how its columns are formatted; the first one names the row.
        rows: values by column.
        notes: how to read it, in sentences.
        foot: a line below the body in LaTeX.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    foot: str = ""

    def pick(self, *keys: str) -> Table:
        """Return the table with those of its columns, in that order, that it has."""
        by = {column.key: column for column in self.columns}
        return replace(self, columns=tuple(by[key] for key in keys if key in by))

    def text(self, bold: bool | None = None) -> list[str]:
        """Align the table for a terminal.

        Args:
            bold: mark lower numbers by the terminal's bold type, or by a ``v`` where False; leave
                them unmarked where None.
        """
        body, lower = [[visible(column.label) for column in self.columns]], set()
        marks = {column.key: max([0, *(len(_mark(r, column.key)) for r in self.rows)])
                 for column in self.columns}  # fmt: skip
        for place, row in enumerate(self.rows, start=1):
            cells = []
            for n, column in enumerate(self.columns):
                mark = _mark(row, column.key).ljust(marks[column.key])
                if row.get(f"{column.key}!") and bold is not None:
                    lower.add((place, n))
                    mark = mark if bold else f"v{mark}"
                elif bold is False and any(other.get(f"{column.key}!") for other in self.rows):
                    mark = f"{mark} "
                cells.append(visible(column.plain(row)) + mark)
            body.append(cells)
        lines = _aligned(body, [column.left for column in self.columns])
        if not (bold and lower):
            return lines
        widths = [max(map(len, column)) for column in zip(*body, strict=True)]
        starts = [sum(widths[:n]) + 2 * n for n in range(len(widths))]
        for place, n in sorted(lower, reverse=True):
            start, line = starts[n], lines[place].ljust(starts[n] + widths[n])
            end = start + widths[n]
            line = f"{line[:start]}{_BOLD}{line[start:end]}{_PLAIN}{line[end:]}"
            lines[place] = line.rstrip()
        return lines

    def lines(self, end: str = "") -> list[str]:
        """Return the table for a terminal, between its title and its notes."""
        notes = ["", *self.notes] if self.notes else []
        return [f"{self.title}{end}", "", *self.text(), *notes]

    def latex(self, title: str = "", notes: Sequence[str] = (), *, bold: bool = False) -> str:
        """Write the table with booktabs; its title and notes are comments before it."""
        comments = ("\\usepackage{booktabs}", title or self.title, *(notes or self.notes))
        aligns = [
            "p{.5\\linewidth}" if column.kind == "prose" else "l" if column.left else "r"
            for column in self.columns
        ]
        body = [[_latex(column, row, bold) for column in self.columns] for row in self.rows]
        foot = f"\\midrule\n\\multicolumn{{{len(aligns)}}}{{l}}{{{self.foot}}} \\\\"
        lines = [
            *(f"% {' '.join(line.split())}" for line in comments),
            f"\\begin{{tabular}}{{{''.join(aligns)}}}",
            "\\toprule",
            " & ".join(tex(column.label) for column in self.columns) + r" \\",
            "\\midrule",
            *(" & ".join(row) + r" \\" for row in body),
            *([foot] if self.foot else []),
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
        return "\n".join(lines)

    def html(self, most: int | None = None, tall: bool = False) -> Markup:
        """Make a table that scrolls and sorts, with headings for a screen reader."""
        head = [
            tag("th", shown(column.label), scope="col", class_=None if column.left else "num")
            for column in self.columns
        ]
        body = [
            tag("tr", *(c.cell(row, "td" if n else "th") for n, c in enumerate(self.columns)))
            for row in self.rows[:most]
        ]
        table = tag(
            "table",
            tag("caption", shown(self.title, LONG), class_="sr"),
            tag("thead", tag("tr", *head)),
            tag("tbody", *body),
            class_="data",
            data_sort="",
        )
        left = len(self.rows) - len(body)
        more = [tag("p", f"{counted(left, 'more row')}.", class_="soft")] if left else []
        kind = "scroll tall" if tall else "scroll"
        name = shown(self.title, LONG)
        scroll = tag("div", table, class_=kind, tabindex="0", role="region", aria_label=name)
        return Markup("").join([scroll, *more])

    def data(self) -> dict[str, object]:
        """Return the content of the CSV file; a large table has seven digits of each number."""
        keys = [column.key for column in self.columns]
        rows = [[column.value(row) for column in self.columns] for row in self.rows]
        if len(keys) * len(rows) > EXACT:
            rows = [
                [float(f"{value:.7g}") if isinstance(value, float) else value for value in row]
                for row in rows
            ]
        return {"columns": keys, "rows": rows}


_LABELS = {
    "mean": "value", "diff": "change", "share": "share of original − random", "queries": "queries",
    "ci_low": "95% low", "ci_high": "95% high", "ci": "95%", "rho_ci": "95%",
    "change_ci": "95%", "p": "p (uncorrected)",
    "p_holm": "p (Holm)", "p_flip": "p flip (uncorrected)", "tau_b": "tau-b",
    "overlap": "top-10 overlap", "score_change": "score change", "q": "q (BH)",
    "diff_select": "change, half 0", "q_select": "q (BH), half 0", "diff_report": "change, half 1",
    "p_report_holm": "p (Holm)", "z": "/ null sd", "rotation_z": "/ rotation",
    "crossed_z": "/ crossed", "cross_reader": "cross (x)", "cross_read": "cross (y)",
    "bias_query": "b_Q", "bias_key": "b_K", "mean_logit": "mean logit",
    "token_pairs": "token pairs", "holds": "cross near 0", "low": "95% low", "high": "95% high",
    "auc": "AUC", "ks": "KS", "count": "pairs", "peak_q": "q (BH)", "mass_q": "q (BH)",
    "entropy_q": "q (BH)", "peak": "largest attention", "mass": "attention mass",
    "same_token": "same-token share", "same_stem": "same-stem share",
    "change": "score, screened", "change_low": "95% low", "change_high": "95% high",
    "q_change": "q (BH)", "exact": "score, cut", "predicted": "measure, predicted",
    "later": "semantic later by", "null": "with relevance shuffled", "qid": "query",
    "p_later": "p later (permutations, uncorrected)", "p_earlier": "p earlier (uncorrected)",
    "negative": "negative share", "selected": "heads selected", "more": "more in hard",
    "n_of": "of", "needed": "queries needed", "noop": "no-op", "name": "head",
    "draws": "verdict on each draw", "agreement": "draws of the sample",
    "p_random": "p measure (uncorrected)", "p_tau": "p order (uncorrected)",
    "p_random_holm": "(Holm)", "p_tau_holm": "(Holm)", "auc_found": "AUC found",
    "q_found": "q found", "random_low": "random 2.5%", "random_high": "random 97.5%",
    "effect_ci": "95% interval", "verdict_p": "verdict p (uncorrected)",
    "verdict_p_holm": "verdict p (Holm)",
}  # fmt: skip
"""Labels of columns; the others are called by their keys."""
_KINDS = {
    **dict.fromkeys(("cut", "direction", "condition", "couple"), "cut"),
    **dict.fromkeys(
        ("ci", "effect_ci", "query_ci", "random_ci", "rho_ci", "change_ci"), "interval"
    ),
    **dict.fromkeys(
        ("how", "contrast", "first", "second", "reader", "read", "class", "status", "selected",
         "collection", "qid", "id", "claim", "verdict", "unit", "n_of", "draws", "agreement",
         "found", "definition", "source", "control", "folder", "list", "kind", "set", "lacking",
         "model", "collections", "docid", "why", "look", "sign"), "text",
    ),
    **dict.fromkeys(("held", "holds", "sink", "noop", "star_agrees"), "flag"),
    **dict.fromkeys(("name",), "head"),
}  # fmt: skip
_WHOLE = {
    *("layer", "head", "n", "queries", "heads", "rank", "token_pairs", "count", "needed", "size"),
    *("both", "top", "of", "pairs", "grade"),
}
_DIGITS = {
    **dict.fromkeys(("share", "overlap", "auc", "ks", "mean_logit", "variance", "logit"), 2),
    **dict.fromkeys(("lexical", "semantic", "later", "null", "alignment", "rho"), 2),
    **dict.fromkeys(("z", "rotation_z", "crossed_z"), 1),
    **dict.fromkeys(("hard", "easy", "more", "entropy", "peak", "mass", "same_token"), 4),
    **dict.fromkeys(("diff_select", "diff_report", "predicted"), 4),
}
_SIGNED = {
    *("diff", "share", "ci_low", "ci_high", "score_change", "diff_select", "diff_report"),
    *("change", "change_low", "change_high", "exact", "predicted", "later", "null", "more"),
}
_COLUMN = re.compile(r"(\+?)(.+?)(?:=(\w+))?(?::(\d))?")


def columns_of(keys: str, digits: int = 3, **labels: str) -> tuple[Column, ...]:
    """Lay out columns by their keys, with the labels, kinds and digits that they usually have.

    Args:
        keys: the keys, separated by spaces: ``key``, ``+key`` (positive numbers have a plus),
            ``key=kind``, ``key:2`` (decimals).
        digits: decimals of the measure and its changes.
        labels: other labels of some columns.

    >>> [column.label for column in columns_of("direction +diff:2 p_holm", diff="effect")]
    ['direction', 'effect', 'p (Holm)']
    """
    columns = []
    for word in keys.split():
        sign, key, kind, places = re.fullmatch(_COLUMN, word).groups()  # type: ignore[union-attr]
        p_value = key in {"p", "q"} or key.startswith(("p_", "q_")) or key.endswith("_q")
        kind = kind or _KINDS.get(key, "p" if p_value else "number")
        usual = 3 if kind == "p" else 0 if key in _WHOLE else _DIGITS.get(key, digits)
        label = labels[key] if key in labels else _LABELS.get(key, key.replace("_", " "))
        number = int(places) if places else usual
        columns.append(Column(key, label, number, kind, bool(sign) or key in _SIGNED))
    return tuple(columns)


def stored(
    name: str, title: str, rows: Sequence[Row], keys: str, digits: int = 3, **labels: str
) -> Table:
    """Lay out a stored table, to look at and download; columns that it lacks are left out."""
    columns = columns_of(keys, digits, **labels)
    kept = tuple(column for column in columns if not rows or column.key in rows[0])
    return Table(name, title, kept, tuple(rows))


def _latex(column: Column, row: Row, bold: bool = False) -> str:
    """A cell with a true minus, a raised star, a dash in ranges, and bold type where it is lower.

    >>> row = {"a": -0.25, "a*": True, "b": (-0.1, 0.2), "c": None, "d": "a-b"}
    >>> kinds = {"b": "interval", "d": "text"}
    >>> [_latex(Column(key, "", 2, kinds.get(key, "number")), row) for key in "abcd"]
    ['$-$.25$^{*}$', '[$-$.10, .20]', '--', 'a-b']
    """
    plain, mark = tex(column.plain(row)), _mark(row, column.key)
    if column.left:
        return plain + mark
    if plain == "-":
        return "--"
    cell = re.sub(r"(?<![\w.])-(?=[\d.])", "$-$", plain)
    cell = re.sub(r"(?<=\d)\*$", "$^{*}$", cell).replace(" to ", "--")
    if bold and row.get(f"{column.key}!"):
        cell = f"\\textbf{{{cell}}}"
    return cell + {"*": "$^{*}$", "\N{DAGGER}": "$^{\\dagger}$"}.get(mark, mark)
