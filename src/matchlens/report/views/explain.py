"""An explained margin: its sentences, text, LaTeX and maps, and the pair view of its words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import pandas as pd

from matchlens import figures
from matchlens.directions import Cut
from matchlens.figures import Drawing
from matchlens.figures.colours import step
from matchlens.report.exhibits import Exhibit
from matchlens.report.pair_view import (
    LETTERS,
    PARTS,
    TOKEN,
    Bars,
    Word,
    bar_rows,
    blocks,
    colour,
    head_grid,
    listed_values,
    render,
    signed,
)
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Row, Table, columns_of
from matchlens.report.texts import (
    arrow,
    counted,
    listed,
    note_lines,
    num,
    number,
    place_of,
    plain,
    printed,
    prose,
    reads,
    shown,
    wrapped,
)
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
SCALE = [f"n{k}" for k in range(8, 0, -1)] + ["z"] + [f"p{k}" for k in range(1, 9)]
COMPARED = ("A", "B", "A − B", "margin when cut")
TABLES = {
    "margin": (
        "The margin by unit",
        "kind unit=cut +contribution share:3 margin_cut +lost",
        {
            "share": "share of the margin",
            "margin_cut": "margin when it is cut",
            "lost": "margin lost",
        },
    ),
    "query_words": (
        "The margin by query word",
        "word=text text=text +contribution +read_a +read_b",
        {"text": "query word", "read_a": "in A", "read_b": "in B"},
    ),
    "swap": (
        "The search for the smallest swap",
        "step:0 unit=cut +margin kept=flag",
        {"unit": "cut as well"},
    ),
    "random_swaps": (
        "Random sets of the same size and layers",
        "draw:0 size +margin swapped=flag",
        {"size": "units"},
    ),
}
"""The stored tables: title, columns and their labels."""
Units = Mapping[str, tuple[float, float]]
"""A unit's contribution to both passages."""


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
        if result.options.get("cuts_made"):
            return "No cut that was tried moves the margin towards a swap of the two passages."
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
        f"{counted(result.options['points'], 'point')}."
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
        "A, B: contribution to each passage's score, in logits; share: of the margin; margin when "
        "cut: the unit is really cut in both. A contribution shares out the score; only a cut is "
        "causal."
    )
    unit = Column("unit", kinds[0].removeprefix("own_").replace("_", " x "), kind="cut")
    return Table("margin", title, (unit, *NUMBERS), tuple(rows), (note,))


def explain_text(result: Result, *, bold: bool = False) -> str:
    """What is printed: scores, margin, directions, heads, query words, the smallest swap."""
    on, off = ("\033[1m", "\033[0m") if bold else ("", "")
    model: Any = result.identity["model"]
    name = plain(model["name"], 60)
    lines = [f"{_question(result)} ({name}; query: {plain(result.options['query'])})", ""]
    for letter, row in zip("AB", compared(result), strict=True):
        lines += wrapped(f"{letter} {plain(row['docid'], 60)}: {plain(row['text'])}", "  ", "")
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
        {**row, "text": plain(row["text"], 30), "a": row["read_a"], "b": row["read_b"]}
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


def swap_file(result: Result) -> dict[str, str | bytes]:
    """The smallest swap in the form that ``--cut-file`` reads."""
    if not result.options["swapped"]:
        return {}
    kept = result.to_frame("swap").query("kept")["unit"].tolist()
    return {"explain/cut-file.json": set_file({SET: [str(cut) for cut in kept]})}


def explaining(folder: ResultsFolder, links: int | None = None) -> tuple[Exhibit, ...]:
    """The exhibit of an explained margin; none where ``explain`` was not run."""
    result = folder.get("explain")
    if result is None:
        return ()
    labels = {"contribution": "contribution to A − B"}
    tables = tuple(
        Table(name.replace("_", "-"), title, columns_of(keys, 3, **labels, **own), tuple(rows))
        for name, (title, keys, own) in TABLES.items()
        if (rows := folder.rows("explain", name))
    )
    exhibit = Exhibit(
        id="explain",
        title="Why one passage ranks above another",
        subtitle="What each word, direction and head contributes, and what a cut really does",
        template="view.html.j2",
        context={"view": explained(result, links)},
        tables=tables,
        result=result,
    )
    return (exhibit,)


def explained(result: Result, links: int | None = None, *, alone: bool = False) -> str:
    """The pair view of an explained margin.

    Args:
        result: what :func:`matchlens.explain` returned.
        links: links of each head; all that were stored where None.
        alone: whether it stands outside a page, as in a notebook.
    """
    tables = {name: records(table) for name, table in result.tables.items()}
    passages = {int(number(row["passage"])): row for row in tables["passages"]}
    pair = [int(number(place)) for place in listed_values(result.options["compare"])][:2]
    order = [*pair, *(place for place in passages if place not in pair)]
    words = [[row for row in tables["words"] if row["passage"] == place] for place in order]
    in_texts = (row for rows in words[:2] for row in rows if row["part"] in ("Q", "D"))
    most = max((abs(number(row["read"])) for row in in_texts), default=0.0)
    query = str(result.options["query"])
    units, margin = _units(tables["units"], pair), tables["margin"]
    cut = {str(row["unit"]): number(row["margin_cut"]) for row in margin}
    own = "Contribution of your own parts, each within that of the query or the passage"
    scene = {
        "label": shown(query, 400),
        "about": "",
        "lead": [
            prose(sentence(result))
            for sentence in (margin_sentence, completeness_sentence, swap_sentence)
        ],
        "cards": [
            _card(place, passages[at], words[place], query, most) for place, at in enumerate(order)
        ],
        "left": [
            *_bars(own, margin, units, ("own_direction",)),
            *_bars("Contribution of each direction", margin, units,
                   ("direction", "outside attention")),
            *_bars("The heads that contribute most in one direction", margin, units,
                   ("head_direction", "own_head_direction"), "head", SHOWN),
        ],
        "right": [_query_words(tables["query_words"])],
        "absent": "",
    }  # fmt: skip
    layers, per_layer = (
        1 + max((int(number(r[key])) for r in tables["units"] if r["kind"] == "head"), default=-1)
        for key in ("layer", "head")
    )
    directions = (
        str(row["unit"]) for row in tables["units"] if row["kind"] in ("direction", "own_direction")
    )
    keys = [f"{layer}.{head}" for layer in range(layers) for head in range(per_layer)]
    maps = {
        name: [
            [units.get((f"{name}#{key}" if name else key), (0.0, 0.0))[side] for key in keys]
            for side in (0, 1)
        ]
        for name in ("", *dict.fromkeys(directions))
    }
    context = {
        "alone": alone,
        "scenes": [scene],
        "modes": [("read", "what is read"), ("reads", "what reads")],
        "modes_label": "Shade",
        "scale": SCALE,
        "scale_words": ("lowers the score (dashed line)", "raises it (solid line)"),
        "grid": _grid(maps[""], layers, per_layer, cut),
    }
    data = {
        "kind": "explain",
        "most": most,
        "cards": [
            {
                "words": [
                    [row["part"], _rounded(row["read"]), _rounded(row["reads"]), *_own_part(row)]
                    for row in rows
                ],
                "links": _links(tables["links"], at, links),
            }
            for rows, at in zip(words, order, strict=True)
        ],
        "maps": {
            name: [[_rounded(value) for value in side] for side in sides]
            for name, sides in maps.items()
        },
        "cut": {name: _rounded(value) for name, value in cut.items() if isfinite(value)},
        "words": {name: reads(name) for name in maps if name},
    }
    return render(context, data)


def _rounded(value: object) -> float:
    """Four digits, which is what a tooltip needs."""
    known = number(value)
    return float(f"{known:.4g}") if isfinite(known) else 0.0


def _units(rows: Sequence[Row], pair: Sequence[int]) -> Units:
    units: dict[str, list[float]] = {}
    for row in rows:
        if row["passage"] in pair and row["kind"] != "layer":
            sides = units.setdefault(str(row["unit"]), [0.0, 0.0])
            sides[pair.index(row["passage"])] = number(row["contribution"])
    return {name: (a, b) for name, (a, b) in units.items()}


def _card(place: int, passage: Row, words: Sequence[Row], query: str, most: float) -> dict:
    shown_words: list[Word] = []
    texts, at = {"Q": query, "D": str(passage["text"])}, {"Q": 0, "D": 0}
    unread: dict[str, str] = {}  # what was cut at the start of a text
    for row in words:
        part, text, before = str(row["part"]), str(row["text"]), ""
        character = row.get("character")  # results of earlier versions lack it
        if part in texts and character is None:
            before, at[part] = " ", len(texts[part])
        elif part in texts and (start := int(number(character))) >= 0:
            # what stands between two words is no word: it is shown, not shaded
            before = texts[part][at[part] : start]
            if not at[part] and passage["truncated"] and before.strip():
                unread[part], before = before, ""
            at[part] = start + len(text)
        read, reads_ = (num(row[key], 3, sign=True) for key in ("read", "reads"))
        of = ", ".join([PARTS.get(part, "other"), *_own_part(row)])
        shown_words.append(
            Word(
                shown(text, 200),
                part,
                shown(before, 400),
                colour(number(row["read"]), most),
                f"{shown(text, TOKEN)} ({of})",
                f"contributes {read} as it is read, {reads_} as it reads",
            )
        )
    parts = blocks(shown_words)
    for block in parts:
        part = str(block["part"])
        rest = texts.get(part, "")[at.get(part, 0) :]
        cut = passage["truncated"] and rest.strip()
        block["rest" if cut else "after"] = shown(rest, 2000)
        block["unread"] = shown(unread.get(part, ""), 2000)
    facts = [("score", num(passage["score"], 3))]
    facts += [("length", "cut to the limit")] if passage["truncated"] else []
    unnamed = str(passage["docid"]) == str(passage["passage"])
    name = f"passage {passage['passage']}" if unnamed else passage["docid"]
    return {
        "number": place,
        "id": "",
        "badge": LETTERS[place] if place < len(LETTERS) else str(place + 1),
        "name": shown(name, 80),
        "why": "",
        "facts": facts,
        "blocks": parts,
        "texts": (),
    }


def _own_part(word: Row) -> list[str]:
    name = word.get("own")
    return [shown(name, TOKEN)] if name else []


def _bars(
    caption: str,
    rows: Sequence[Row],
    units: Units,
    kinds: Sequence[str],
    heading: str = "direction",
    most: int | None = None,
) -> list[Bars]:
    """Units of some kinds by their contribution, the first few apart from the others."""
    table_rows = []
    of_kinds = [row for row in rows if row["kind"] in kinds]
    for row in sorted(of_kinds, key=lambda row: -abs(number(row["contribution"])))[:most]:
        unit = str(row["unit"])
        sides = units.get(unit, (float("nan"), float("nan")))
        cells = [*map(signed, (*sides, row["contribution"], row["margin_cut"]))]
        words = reads(unit) if heading == "direction" else ""
        table_rows.append((unit if "->" in unit else "", arrow(unit), words, cells))
    bars = bar_rows(table_rows, (False, False, True, False))
    tables = [Bars(caption, heading, COMPARED, bars[:SHOWN])] if bars else []
    if rest := bars[SHOWN:]:
        more = counted(len(rest), "more direction")
        tables.append(Bars(f"{caption}, the others", heading, COMPARED, rest, more))
    return tables


def _query_words(rows: Sequence[Row]) -> Bars:
    keys = ("read_a", "read_b", "contribution")
    bars = bar_rows(
        [("", shown(row["text"], TOKEN), "", [signed(row[key]) for key in keys]) for row in rows],
        (False, False, True),
    )
    return Bars("Contribution of each query word as it is read", "word", ("A", "B", "A − B"), bars)


def _grid(
    sides: Sequence[Sequence[float]], layers: int, heads: int, cut: Mapping[str, float]
) -> dict[str, object] | None:
    if not layers:
        return None
    values = [a - b for a, b in zip(*sides, strict=True)]
    most = max(map(abs, values), default=0.0)

    def cell(layer: int, head: int) -> dict[str, object]:
        place, key = layer * heads + head, f"{layer}.{head}"
        value, *both = (num(x[place], 3, sign=True) for x in (values, *sides))
        tip = f"head {key}\nA {both[0]}, B {both[1]}, A − B {value}"
        if isfinite(cut.get(key, float("nan"))):
            tip += f"\nmargin when cut {num(cut[key], 3, sign=True)}"
        # The palest cells carry no sign: it would say more than their number does.
        pale = step(values[place], most)[1:] in {"", "1", "2"}
        sign = "" if pale else "−" if values[place] < 0 else "+"
        return {"key": key, "colour": colour(values[place], most), "tip": tip, "sign": sign}

    return head_grid(
        "Heads: contribution to the margin A − B",
        (layers, heads),
        cell,
        note="Rows are layers, columns are heads. + speaks for A, − for B.",
    )


def _links(
    rows: Sequence[Row], passage: int, most: int | None
) -> dict[str, list[list[int | float]]]:
    """The strongest links of each head and of all heads together: row, column, numbers."""
    links: dict[str, list[list[int | float]]] = {}
    for row in rows:
        if row["passage"] != passage:
            continue
        layer, head = place_of(row)
        of_head = links.setdefault("" if layer < 0 else f"{layer}.{head}", [])
        if most is None or len(of_head) < most * (4 if layer < 0 else 1):
            places = [int(number(row["row_word"])), int(number(row["column_word"]))]
            numbers = [float(f"{number(row[key]):.3g}") for key in ("contribution", "attention")]
            of_head.append([*places, *numbers])
    return links
