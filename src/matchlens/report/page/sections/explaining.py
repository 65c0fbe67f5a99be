"""Why a passage ranks above another: the margin shared out, word by word and head by head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from matchlens.figures.colours import step
from matchlens.report.exhibits import Exhibit
from matchlens.report.page.pair_view import (
    LETTERS,
    PARTS,
    TOKEN,
    Bars,
    Word,
    bar_rows,
    blocks,
    colour,
    head_grid,
    listed,
    render,
    signed,
)
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Row, Table
from matchlens.report.texts import arrow, counted, num, number, prose, reads, shown
from matchlens.report.views.explain import completeness_sentence, margin_sentence, swap_sentence
from matchlens.results import Result, records

SHOWN = 10
"""Units of a table before the others are folded."""
SCALE = [f"n{k}" for k in range(8, 0, -1)] + ["z"] + [f"p{k}" for k in range(1, 9)]
COMPARED = ("A", "B", "A − B", "margin when cut")
TABLES: Mapping[str, tuple[str, tuple[Column, ...]]] = {
    "margin": (
        "The margin by unit",
        (
            Column("kind", "kind", kind="text"),
            Column("unit", "unit", kind="cut"),
            Column("contribution", "contribution to A − B", sign=True),
            Column("share", "share of the margin"),
            Column("margin_cut", "margin when it is cut"),
            Column("lost", "margin lost", sign=True),
        ),
    ),
    "query_words": (
        "The margin by query word",
        (
            Column("word", "word", kind="text"),
            Column("text", "query word", kind="text"),
            Column("contribution", "contribution to A − B", sign=True),
            Column("read_a", "in A", sign=True),
            Column("read_b", "in B", sign=True),
        ),
    ),
    "swap": (
        "The search for the smallest swap",
        (
            Column("step", "step", 0),
            Column("unit", "cut as well", kind="cut"),
            Column("margin", "margin", sign=True),
            Column("kept", "kept", kind="flag"),
        ),
    ),
    "random_swaps": (
        "Random sets of the same size and layers",
        (
            Column("draw", "draw", 0),
            Column("size", "units", 0),
            Column("margin", "margin", sign=True),
            Column("swapped", "swapped", kind="flag"),
        ),
    ),
}
"""The stored tables: title and columns."""
Units = Mapping[str, tuple[float, float]]
"""A unit's contribution to both passages."""


def explaining(folder: ResultsFolder, links: int | None = None) -> tuple[Exhibit, ...]:
    """The exhibit of an explained margin; none where ``explain`` was not run."""
    result = folder.get("explain")
    if result is None:
        return ()
    tables = tuple(
        Table(name.replace("_", "-"), title, columns, tuple(rows))
        for name, (title, columns) in TABLES.items()
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
    pair = [int(number(place)) for place in listed(result.options["compare"])][:2]
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
    for row in words:
        part, text, before = str(row["part"]), str(row["text"]), ""
        if part in texts:  # what stands between two words is no word: it is shown, not shaded
            start = texts[part].find(text, at[part])
            before = texts[part][at[part] : start] if start >= 0 else " "
            at[part] = start + len(text) if start >= 0 else at[part]
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
        block["rest" if part == "D" and passage["truncated"] else "after"] = shown(rest, 2000)
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
        layer, head = int(number(row["layer"])), int(number(row["head"]))
        of_head = links.setdefault("" if layer < 0 else f"{layer}.{head}", [])
        if most is None or len(of_head) < most * (4 if layer < 0 else 1):
            places = [int(number(row["row_word"])), int(number(row["column_word"]))]
            numbers = [float(f"{number(row[key]):.3g}") for key in ("contribution", "attention")]
            of_head.append([*places, *numbers])
    return links
