"""An explained margin in sentences, as text and as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from matchlens import figures
from matchlens.directions import Cut
from matchlens.figures import Drawing
from matchlens.report.looking import plain
from matchlens.report.table import Column, Row, Table
from matchlens.report.texts import listed, note_lines, number, printed, wrapped
from matchlens.results import Result, records
from matchlens.sets import set_file

SHOWN = 10
SET = "smallest swap"
"""Name of the set of cuts that is written."""
MAIN = ("direction", "outside attention")
"""Units of a kind that are shown."""
NUMBERS = (
    Column("a", "A"),
    Column("b", "B"),
    Column("contribution", "A - B"),
    Column("share", "share", 2),
    Column("margin_cut", "margin when cut"),
)


def margin_sentence(result: Result) -> str:
    """Both scores and the margin."""
    a, b = compared(result)
    margin = number(result.options["margin"])
    scores = f"A scores {printed(a['score'], 3)} and B {printed(b['score'], 3)}"
    if _tied(result):
        return f"{scores}: they are tied."
    place = "above" if margin > 0 else "below"
    return f"{scores}: A ranks {place} B by {printed(abs(margin), 3)} logits."


def _question(result: Result) -> str:
    """What the text answers, true for the order of these two passages."""
    if _tied(result):
        return "Why do A and B tie?"
    upper, lower = "AB" if number(result.options["margin"]) > 0 else "BA"
    return f"Why does {upper} rank above {lower}?"


def _tied(result: Result) -> bool:
    return abs(number(result.options["margin"])) <= number(result.options.get("tie_tol", 0.0))


def swap_sentence(result: Result) -> str:
    """The smallest set of cuts that swaps the two passages."""
    if _tied(result):
        return "Tied passages have no order that cuts could swap."
    if "swap" not in result.tables or not len(result.tables["swap"]):
        return "The smallest set of cuts that swaps the two passages was not searched for."
    rows = records(result.to_frame("swap"))
    kept = [str(row["unit"]) for row in rows if row["kept"] and row["unit"]]
    first, last = number(result.options["margin"]), number(rows[-1]["margin"])
    if not result.options["swapped"]:
        least = min((number(row["margin"]) for row in rows), key=lambda m: m if first > 0 else -m)
        return (
            "No set of the cuts that were tried swaps the two: the margin goes from "
            f"{printed(first, 3)} to {printed(least, 3)} at best."
        )
    upper, lower = ("B", "A") if first > 0 else ("A", "B")
    directions = Cut.parse(kept[0]).directions if len(kept) == 1 else ()
    words = "; ".join(direction.words for direction in directions)
    sentence = (
        f"Cut {listed(kept)}{f' ({words})' if words else ''}, and {upper} ranks above {lower}"
    )
    if all(row["kept"] for row in rows):  # else the margin of these alone is not in the table
        sentence += f": the margin goes from {printed(first, 3)} to {printed(last, 3)}"
    draws = records(result.tables["random_swaps"]) if "random_swaps" in result.tables else []
    number_of_units = "single cut" if len(kept) == 1 else f"set of {len(kept)} cuts"
    sentence += f". A greedy search found no smaller set than this {number_of_units}"
    if draws:
        swapped = sum(bool(row["swapped"]) for row in draws)
        sentence += (
            f"; {swapped or 'none'} of {len(draws)} random sets of the same size and layers "
            f"{'swaps' if swapped < 2 else 'swap'} the two"
        )
    return f"{sentence}."


def completeness_sentence(result: Result) -> str:
    """How much of the margin the contributions miss."""
    margin, error = number(result.options["margin"]), number(result.options["error"])
    share = f" ({100 * abs(error / margin):.2g}% of it)" if margin else ""
    return (
        f"The contributions add up to the margin but for {abs(error):.2g} logits{share}, with "
        f"{result.options['points']} points."
    )


def compared(result: Result) -> tuple[Row, Row]:
    """The rows of the two passages that are compared."""
    rows = {int(number(row["passage"])): row for row in records(result.to_frame("passages"))}
    pair: Any = result.options["compare"]
    a, b = (rows[int(place)] for place in pair)
    return a, b


def margin_table(result: Result, kinds: Sequence[str] = MAIN) -> Table:
    """List the units of some kinds by their contribution to the margin."""
    a, b = (int(number(row["passage"])) for row in compared(result))
    parts = {
        (row["unit"], row["passage"]): row["contribution"]
        for row in records(result.to_frame("units"))
        if row["kind"] in kinds
    }
    rows = [
        {**row, "a": parts.get((row["unit"], a)), "b": parts.get((row["unit"], b))}
        for row in records(result.to_frame("margin"))
        if row["kind"] in kinds
    ]
    rows.sort(key=lambda row: -abs(number(row["contribution"])))
    title = f"Contributions to the margin z(A) - z(B) = {printed(result.options['margin'], 3)}"
    note = (
        "A, B: contribution to each passage's score; share: of the margin; margin when cut: the "
        "unit is really cut in both. A contribution shares out the score; only a cut is causal."
    )
    unit = Column("unit", kinds[0].removeprefix("own_").replace("_", " x "), kind="cut")
    return Table("margin", title, (unit, *NUMBERS), tuple(rows), (note,))


def explain_text(result: Result, *, bold: bool = False) -> str:
    """What is printed: scores, margin, directions, heads, query words, the smallest swap."""
    on, off = ("\033[1m", "\033[0m") if bold else ("", "")
    model: Any = result.identity["model"]
    name = plain(str(model["name"]), 60)
    lines = [f"{_question(result)} {name} on: {plain(str(result.options['query']))}", ""]
    for letter, row in zip("AB", compared(result), strict=True):
        lines += wrapped(
            f"{letter} {plain(str(row['docid']), 60)}: {plain(str(row['text']))}", "  ", ""
        )
    lines.append("")
    for sentence in (margin_sentence, swap_sentence, completeness_sentence):
        lines += wrapped(sentence(result), "  ", "")
    lines.append("")
    for title, kinds in (
        ("Directions (X->Y: X reads Y)", MAIN),
        ("Directions with your own parts, each within that of Q or D", ("own_direction",)),
        ("Heads, over all directions", ("head",)),
        ("Heads in one direction", ("head_direction",)),
        ("Heads in one direction with your own parts", ("own_head_direction",)),
    ):
        lines += _largest(margin_table(result, kinds), f"{on}{title}{off}")
    words = tuple(
        {**row, "text": plain(str(row["text"]), 30), "a": row["read_a"], "b": row["read_b"]}
        for row in records(result.to_frame("query_words"))
    )
    head = (Column("text", "word", kind="text"), *NUMBERS[:3])
    lines += _largest(
        Table("words", "", head, words), f"{on}Query words, as they are read{off}", 99
    )
    lines += wrapped(margin_table(result).notes[0], "  ", "")
    return "\n".join([*lines, "", *note_lines(result)]).rstrip() + "\n"


def _largest(table: Table, title: str, most: int = SHOWN) -> list[str]:
    if not table.rows:
        return []
    more = f" (the largest {most} of {len(table.rows)})" if len(table.rows) > most else ""
    return [f"{title}{more}", *replace(table, rows=table.rows[:most]).text(), ""]


def explain_figures(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Maps of the heads' contributions to the margin: over all directions, then in each."""
    table = result.to_frame("margin").rename(columns={"contribution": "diff"})
    table["q"], table["significant"] = float("nan"), False
    words = "contribution to the margin A \N{MINUS SIGN} B (logits)"
    draw = partial(figures.head_map, note="Named layer.head: the largest contributions.")
    heads = pd.DataFrame(table[table["kind"] == "head"])
    if len(heads):
        yield "heads", partial(draw, heads, words=words)
    in_directions = table[table["kind"].isin(["head_direction", "own_head_direction"])]
    for name, own in in_directions.groupby("direction", sort=False):
        yield str(name), partial(draw, pd.DataFrame(own), words=f"{name}: {words}")


def page_and_cuts(result: Result) -> dict[str, str | bytes]:
    """The page, and the smallest swap in the form that ``--cut-file`` reads."""
    from matchlens.report.page import page_of

    files: dict[str, str | bytes] = {"explain.html": page_of(result)}
    if result.options["swapped"]:
        kept = result.to_frame("swap").query("kept")["unit"].tolist()
        files["explain/cut-file.json"] = set_file({SET: [str(cut) for cut in kept]})
    return files
