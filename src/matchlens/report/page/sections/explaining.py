"""Why a passage ranks above another: the margin shared out, word by word and head by head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from matchlens.figures.colours import step
from matchlens.report.definitions import DEFINITIONS
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
HEADS = "Heads: contribution to the margin A − B"
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "margin": (
        Column("kind", "kind", kind="text"),
        Column("unit", "unit", kind="cut"),
        Column("contribution", "contribution to A − B", sign=True),
        Column("share", "share of the margin", 3),
        Column("margin_cut", "margin when it is cut", 3),
        Column("lost", "margin lost", 3, sign=True),
    ),
    "query_words": (
        Column("word", "word", kind="text"),
        Column("text", "query word", kind="text"),
        Column("contribution", "contribution to A − B", sign=True),
        Column("read_a", "in A", sign=True),
        Column("read_b", "in B", sign=True),
    ),
    "swap": (
        Column("step", "step", 0),
        Column("unit", "cut as well", kind="cut"),
        Column("margin", "margin", 3, sign=True),
        Column("kept", "kept", kind="flag"),
    ),
    "random_swaps": (
        Column("draw", "draw", 0),
        Column("size", "units", 0),
        Column("margin", "margin", 3, sign=True),
        Column("swapped", "swapped", kind="flag"),
    ),
}
LABELS = {
    "margin": "The margin by unit",
    "query_words": "The margin by query word",
    "swap": "The search for the smallest swap",
    "random_swaps": "Random sets of the same size and layers",
}


def explaining(held: ResultsFolder, links: int | None = None) -> tuple[Exhibit, ...]:
    """The exhibit of an explained margin; none where ``explain`` was not run."""
    result = held.get("explain")
    if result is None:
        return ()
    tables = tuple(
        Table(name.replace("_", "-"), LABELS[name], columns, tuple(rows))
        for name, columns in COLUMNS.items()
        if (rows := held.rows("explain", name))
    )
    exhibit = Exhibit(
        id="explain",
        title="Why A ranks above B",
        subtitle="What each word, direction and head contributes, and what a cut really does",
        definition=DEFINITIONS["explain"],
        template="view.html.j2",
        context={"view": explained(result, links)},
        tables=tables,
        result=result,
    )
    return (exhibit,)


def explained(result: Result, links: int | None = None, *, alone: bool = False) -> str:
    """The pair view of an explained margin."""
    tables = {name: records(table) for name, table in result.tables.items()}
    passages = {int(number(row["passage"])): row for row in tables["passages"]}
    pair = [int(number(place)) for place in listed(result.options["compare"])][:2]
    order = [*pair, *(place for place in passages if place not in pair)]
    words = [[row for row in tables["words"] if row["passage"] == place] for place in order]
    most = max(
        (
            abs(number(row["read"]))
            for some in words[:2]
            for row in some
            if row["part"] in ("Q", "D")
        ),
        default=0.0,
    )
    query = str(result.options["query"])
    cards = [
        _card(place, passages[at], words[place], query, most) for place, at in enumerate(order)
    ]
    units = _units(tables["units"], pair)
    cut = {str(row["unit"]): number(row["margin_cut"]) for row in tables["margin"]}
    scene = {
        "label": shown(query, 400),
        "about": "",
        "lead": [
            prose(sentence(result))
            for sentence in (margin_sentence, completeness_sentence, swap_sentence)
        ],
        "cards": cards,
        "left": [*_directions(tables["margin"], units), *_strongest(tables["margin"], units)],
        "right": [_query_words(tables["query_words"])],
        "absent": "",
    }
    layers, heads = _shape(tables["units"])
    maps = {
        name: [
            [units.get((f"{name}#{key}" if name else key), (0.0, 0.0))[side] for key in keys]
            for side in (0, 1)
        ]
        for keys in [[f"{layer}.{head}" for layer in range(layers) for head in range(heads)]]
        for name in (
            "",
            *dict.fromkeys(
                str(r["unit"])
                for r in tables["units"]
                if r["kind"] in ("direction", "own_direction")
            ),
        )
    }
    context = {
        "alone": alone,
        "scenes": [scene],
        "modes": [("read", "what is read"), ("reads", "what reads")],
        "modes_label": "Shade",
        "scale": SCALE,
        "scale_words": ("lowers the score (dashed line)", "raises it (solid line)"),
        "grid": _grid(maps[""], layers, heads, cut),
    }
    data = {
        "kind": "explain",
        "most": most,
        "cards": [
            {
                "words": [
                    [row["part"], _few(row["read"]), _few(row["reads"]), *_own_name(row)]
                    for row in some
                ],
                "links": _links(tables["links"], at, links),
            }
            for some, at in zip(words, order, strict=True)
        ],
        "maps": {name: [[_few(v) for v in side] for side in some] for name, some in maps.items()},
        "cut": {name: _few(value) for name, value in cut.items() if isfinite(value)},
        "words": {name: reads(name) for name in maps if name},
    }
    return render(context, data)


def _few(value: object) -> float:
    """Four digits, which is what a tooltip needs."""
    plain = number(value)
    return float(f"{plain:.4g}") if isfinite(plain) else 0.0


def _units(rows: Sequence[Row], pair: Sequence[int]) -> dict[str, tuple[float, float]]:
    """A unit's contribution in both passages."""
    made: dict[str, list[float]] = {}
    for row in rows:
        if row["passage"] in pair and row["kind"] != "layer":
            value = number(row["contribution"])
            made.setdefault(str(row["unit"]), [0.0, 0.0])[pair.index(row["passage"])] = value
    return {name: (a, b) for name, (a, b) in made.items()}


def _shape(rows: Sequence[Row]) -> tuple[int, int]:
    heads = [row for row in rows if row["kind"] == "head"]
    return (
        1 + max((int(number(row["layer"])) for row in heads), default=-1),
        1 + max((int(number(row["head"])) for row in heads), default=-1),
    )


def _card(place: int, passage: Row, words: Sequence[Row], query: str, most: float) -> dict:
    made: list[Word] = []
    texts, at = {"Q": query, "D": str(passage["text"])}, {"Q": 0, "D": 0}
    for row in words:
        part, text = str(row["part"]), str(row["text"])
        before = ""
        if part in texts:
            found = texts[part].find(text, at[part])
            before = texts[part][at[part] : found] if found >= 0 else " "
            at[part] = found + len(text) if found >= 0 else at[part]
        tip = (
            f"contributes {num(row['read'], 3, sign=True)} as it is read, "
            f"{num(row['reads'], 3, sign=True)} as it reads"
        )
        of = ", ".join([PARTS.get(part, "other"), *_own_name(row)])
        name = f"{shown(text, TOKEN)} ({of})"
        made.append(
            Word(
                shown(text, 200),
                part,
                shown(before, 400),
                colour(number(row["read"]), most),
                name,
                tip,
            )
        )
    shown_blocks = blocks(made)
    for block in shown_blocks:
        part = str(block["part"])
        rest = texts.get(part, "")[at.get(part, 0) :]
        block["rest" if part == "D" and passage["truncated"] else "after"] = shown(rest, 2000)
    facts = [("score", num(passage["score"], 3))]
    if passage["truncated"]:
        facts.append(("length", "cut to the limit"))
    return {
        "number": place,
        "id": "",
        "badge": LETTERS[place] if place < len(LETTERS) else str(place + 1),
        "name": shown(_name(passage), 80),
        "why": "",
        "facts": facts,
        "blocks": shown_blocks,
        "texts": (),
    }


def _own_name(word: Row) -> list[str]:
    name = word.get("own")
    return [shown(name, TOKEN)] if name else []


def _name(passage: Row) -> object:
    number_alone = str(passage["docid"]) == str(passage["passage"])
    return f"passage {passage['passage']}" if number_alone else passage["docid"]


def _unit_row(
    row: Row, units: Mapping[str, tuple[float, float]], words: str
) -> tuple[str, str, str, list[tuple[float, str, str]]]:
    unit = str(row["unit"])
    a, b = units.get(unit, (float("nan"), float("nan")))
    key = unit if "->" in unit else ""
    cells = [signed(a), signed(b), signed(row["contribution"])]
    margin, text, _ = signed(row["margin_cut"])
    return key, arrow(unit), words, [*cells, (margin, text, "")]


COMPARED = ("A", "B", "A − B", "margin when cut")


def _directions(rows: Sequence[Row], units: Mapping[str, tuple[float, float]]) -> list[Bars]:
    kinds = {"direction", "outside attention"}
    some = sorted(
        (row for row in rows if row["kind"] in kinds), key=lambda r: -abs(number(r["contribution"]))
    )
    made = bar_rows(
        [_unit_row(row, units, reads(row["unit"])) for row in some], (False, False, True, False)
    )
    caption = "Contribution of each direction"
    tables = [*_own(rows, units), Bars(caption, "direction", COMPARED, made[:SHOWN])]
    if made[SHOWN:]:
        more = counted(len(made) - SHOWN, "more direction")
        tables.append(Bars(f"{caption}, the others", "direction", COMPARED, made[SHOWN:], more))
    return tables


def _own(rows: Sequence[Row], units: Mapping[str, tuple[float, float]]) -> list[Bars]:
    some = [row for row in rows if row["kind"] == "own_direction"]
    made = bar_rows(
        [_unit_row(row, units, reads(row["unit"])) for row in some], (False, False, True, False)
    )
    caption = "Contribution of your own parts, each within that of the query or the passage"
    tables = [Bars(caption, "direction", COMPARED, made[:SHOWN])] if made else []
    if made[SHOWN:]:
        more = counted(len(made) - SHOWN, "more direction")
        tables.append(Bars(f"{caption}, the others", "direction", COMPARED, made[SHOWN:], more))
    return tables


def _query_words(rows: Sequence[Row]) -> Bars:
    made = bar_rows(
        [
            (
                "",
                shown(row["text"], TOKEN),
                "",
                [signed(row["read_a"]), signed(row["read_b"]), signed(row["contribution"])],
            )
            for row in rows
        ],
        (False, False, True),
    )
    return Bars("Contribution of each query word as it is read", "word", ("A", "B", "A − B"), made)


def _strongest(rows: Sequence[Row], units: Mapping[str, tuple[float, float]]) -> list[Bars]:
    some = sorted(
        (row for row in rows if row["kind"] in ("head_direction", "own_head_direction")),
        key=lambda r: -abs(number(r["contribution"])),
    )[:SHOWN]
    made = bar_rows([_unit_row(row, units, "") for row in some], (False, False, True, False))
    return [Bars("The heads that contribute most in one direction", "head", COMPARED, made)]


def _grid(
    sides: Sequence[Sequence[float]], layers: int, heads: int, cut: Mapping[str, float]
) -> dict[str, object] | None:
    if not layers:
        return None
    values = [a - b for a, b in zip(*sides, strict=True)]
    most = max(map(abs, values), default=0.0)
    rows = []
    for layer in range(layers - 1, -1, -1):
        cells = []
        for head in range(heads):
            place, key = layer * heads + head, f"{layer}.{head}"
            name = step(values[place], most)
            tip = (
                f"head {key}\nA {num(sides[0][place], 3, sign=True)}, "
                f"B {num(sides[1][place], 3, sign=True)}, "
                f"A − B {num(values[place], 3, sign=True)}"
            )
            if isfinite(cut.get(key, float("nan"))):
                tip += f"\nmargin when cut {num(cut[key], 3, sign=True)}"
            sign = "" if name[1:] in {"", "1", "2"} else "−" if values[place] < 0 else "+"
            classes = colour(values[place], most)
            cells.append({"key": key, "colour": classes, "tip": tip, "sign": sign, "mark": False})
        rows.append((layer, cells))
    return {
        "title": HEADS,
        "rows": rows,
        "heads": range(heads),
        "layers": False,
        "late": False,
        "note": "Rows are layers, columns are heads. + speaks for A, − for B.",
        "presets": [],
    }


def _links(
    rows: Sequence[Row], passage: int, most: int | None
) -> dict[str, list[list[int | float]]]:
    """The strongest links of each head and of all heads together: row, column, numbers."""
    made: dict[str, list[list[int | float]]] = {}
    for row in rows:
        if row["passage"] != passage:
            continue
        layer, head = int(number(row["layer"])), int(number(row["head"]))
        some = made.setdefault("" if layer < 0 else f"{layer}.{head}", [])
        if most is None or len(some) < most * (4 if layer < 0 else 1):
            places = [int(number(row["row_word"])), int(number(row["column_word"]))]
            numbers = [float(f"{number(row[key]):.3g}") for key in ("contribution", "attention")]
            some.append([*places, *numbers])
    return made
