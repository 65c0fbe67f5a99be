"""A pair to look into: tokens shaded by what heads read, and how the score moves under each cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from matchlens.errors import InputError
from matchlens.report.page.charts.maps import level
from matchlens.report.page.definitions import DEFINITIONS
from matchlens.report.page.parts import Column, Exhibit, Table, notes_of, number, options_of
from matchlens.report.page.results_folder import ResultsFolder, Row
from matchlens.report.page.texts import arrow, counted, num, reads, shown

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TOP = 4095
"""Numbers are kept in 12 bits, two signs each, by their square root, so that small ones last."""
PARTS = {"CLS": "CLS", "Q": "query", "SEP1": "SEP1", "D": "passage", "SEP2": "SEP2"}
READERS = {"CLS": "CLS reads", "Q": "the query reads", "D": "the document reads"}
CLIP = 700
TOKEN = 48
ALL, MATCHING = "all", "matching"


@dataclass(frozen=True)
class View:
    """Heads that can be chosen together: a key, a label, a group, and the heads themselves."""

    key: str
    label: str
    group: str
    heads: tuple[tuple[int, int], ...]


def looking(held: ResultsFolder, heads: int | None = None) -> tuple[Exhibit, object]:
    """The exhibit, and what its script needs.

    Args:
        held: the folder.
        heads: how many matching heads, in the study's order, can be chosen alone; all heads,
            matching or not, where None.
    """
    base = {
        "id": "pair",
        "nav": "A pair to look into",
        "title": "A pair to look into",
        "subtitle": "What single heads read in it, and how its score moves under each cut",
        "definition": DEFINITIONS["pair"],
    }
    result, looks = held.get("looking"), held.rows("looking", "looks")
    tokens = held.rows("looking", "tokens")
    if result is None or not looks or not tokens:
        return Exhibit(
            **base, absent="No pair was kept to look into (matchlens study does that)."
        ), None
    try:
        received = result.array("received")
    except InputError:
        received = None
    matching = held.rows("looking", "heads")
    readers = [str(name) for name in _listed(result.options.get("readers"))] or list(READERS)
    views = _views(received, matching, heads)
    cuts = held.rows("looking", "cuts")
    pairs, data = [], []
    for place, look in enumerate(looks):
        mine = [row for row in tokens if row["look"] == look["look"]]
        seen = _seen(received, place, len(mine), views)
        first = _first_view(views)
        shading = seen.get(first) if seen else None
        reader = readers.index("Q") if "Q" in readers else 0
        values = None if shading is None else shading[reader]
        pairs.append(_pair(place, look, mine, values, cuts, readers[reader]))
        data.append({key: [_packed(row) for row in value] for key, value in seen.items()})
    notes = list(notes_of(result))
    if received is None:
        notes.append("What heads read was not kept (array received), so that no token is shaded.")
    if heads is not None and received is not None:
        alone = sum(len(view.heads) == 1 for view in views)
        notes.append(
            f"To keep this page small, {counted(alone, 'head')} of "
            f"{received.shape[1] * received.shape[2]} can be chosen alone."
        )
    groups: dict[str, list[tuple[str, str]]] = {}
    for view in views:
        groups.setdefault(view.group, []).append((view.key, view.label))
    context = {
        "pairs": pairs,
        "readers": [(name, READERS.get(name, name)) for name in readers],
        "groups": list(groups.items()),
        "first": _first_view(views),
        "reader": "Q" if "Q" in readers else readers[0],
        "shaded": received is not None,
        "scale": [f"t{k}" for k in range(10)],
    }
    columns = (
        Column("look", "pair", 0),
        Column("cut", "cut", kind="cut"),
        Column("score", "score", 3),
        Column("rank", "rank", 0),
        Column("score_original", "original score", 3),
        Column("rank_original", "original rank", 0),
    )
    return (
        Exhibit(
            **base,
            lead=(f"{counted(len(looks), 'pair')}; the caption of each says why it was chosen.",),
            template="pair.html.j2",
            context=context,
            tables=(Table("pair-cuts", "Score and rank under each cut", columns, tuple(cuts)),)
            if cuts
            else (),
            options=options_of(result),
            notes=tuple(notes),
        ),
        {"readers": readers, "views": [view.key for view in views], "looks": data},
    )


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _views(received: np.ndarray | None, matching: list[Row], heads: int | None) -> list[View]:
    if received is None:
        return []
    layers, per_layer = received.shape[1], received.shape[2]
    every = tuple((layer, head) for layer in range(layers) for head in range(per_layer))
    found = [row for row in matching if row.get("directions")]
    named = [(int(number(row["layer"])), int(number(row["head"]))) for row in found]
    named = [one for one in dict.fromkeys(named) if one in set(every)]
    views = [View(ALL, "all heads", "Means", every)]
    if named:
        views.append(View(MATCHING, f"the {len(named)} matching heads", "Means", tuple(named)))
    views += [
        View(f"L{layer}", f"layer {layer}", "Means of a layer",
             tuple((layer, head) for head in range(per_layer)))
        for layer in range(layers)
    ]  # fmt: skip
    about = {(int(number(row["layer"])), int(number(row["head"]))): _about(row) for row in found}
    views += [
        View(f"{a}.{b}", f"{a}.{b}{about.get((a, b), '')}", "Matching heads", ((a, b),))
        for a, b in (named if heads is None else named[:heads])
    ]
    if heads is None:
        rest = [one for one in every if one not in about]
        views += [View(f"{a}.{b}", f"{a}.{b}", "Other heads", ((a, b),)) for a, b in rest]
    return views


def _about(row: Row) -> str:
    parts = [arrow(row["directions"])] if row.get("directions") else []
    parts += [shown(row["kind"], 20)] if row.get("kind") else []
    return f" ({', '.join(parts)})" if parts else ""


def _first_view(views: Sequence[View]) -> str:
    return MATCHING if any(view.key == MATCHING for view in views) else ALL


def _seen(
    received: np.ndarray | None, place: int, places: int, views: Sequence[View]
) -> Mapping[str, np.ndarray]:
    """View to [reader, place], means over its heads; nothing known is 0."""
    if received is None or place >= received.shape[0]:
        return {}
    one = np.nan_to_num(np.asarray(received[place, ..., :places], dtype=np.float64), nan=0.0)
    out = {}
    for view in views:
        layers, heads = (np.array(axis) for axis in zip(*view.heads, strict=True))
        out[view.key] = one[layers, heads].mean(axis=0)
    return out


def _packed(values: np.ndarray) -> list[object]:
    """The largest number and two signs a number, by its square root.

    >>> _packed(np.array([0.0, 0.25, 1.0]))
    [1.0, 'AAgA__']
    """
    most = float(values.max()) if values.size else 0.0
    if most <= 0:
        return [0.0, "AA" * values.size]
    places = np.rint(np.sqrt(np.clip(values / most, 0, 1)) * TOP).astype(int)
    text = "".join(ALPHABET[k >> 6] + ALPHABET[k & 63] for k in places.tolist())
    return [float(f"{most:.5g}"), text]


def _pair(
    place: int,
    look: Row,
    tokens: list[Row],
    values: np.ndarray | None,
    cuts: list[Row],
    reader: str,
) -> dict[str, object]:
    inside = [k for k, row in enumerate(tokens) if row["part"] in {"Q", "D"}]
    most = max((float(values[k]) for k in inside), default=0.0) if values is not None else 0.0
    blocks: list[dict[str, object]] = []
    for k, row in enumerate(tokens):
        part = str(row["part"])
        if not blocks or blocks[-1]["part"] != part:
            blocks.append({"part": part, "words": PARTS.get(part, "other"), "tokens": []})
        value = None if values is None else float(values[k])
        some = blocks[-1]["tokens"]
        assert isinstance(some, list)  # noqa: S101
        some.append(_token(k, row, tokens[k - 1] if k else None, value, most, reader))
    mine = [row for row in cuts if row["look"] == look["look"]]
    query, passage = shown(look["query"]), shown(look["passage"])
    return {
        "id": f"pair-{place + 1}",
        "number": place + 1,
        "why": shown(look.get("why") or "", 160),
        "qid": shown(look["qid"], 80),
        "docid": shown(look["docid"], 80),
        "collection": shown(look.get("collection") or "", 80),
        "grade": shown(look["grade"], 20),
        "score": num(look["score"], 3),
        "rank": num(look["rank"], 0),
        "candidates": num(look["candidates"], 0),
        "query": (query[:CLIP], query[CLIP:]),
        "passage": (passage[:CLIP], passage[CLIP:]),
        "blocks": blocks,
        "most": num(most, 3),
        **_cuts(mine),
    }


def _token(
    k: int, row: Row, before: Row | None, value: float | None, most: float, reader: str
) -> dict[str, object]:
    token = shown(row["token"], TOKEN)
    text = shown(row["text"] or row["token"], TOKEN)
    apart = (
        before is not None
        and before["part"] == row["part"]
        and number(row["start"]) > number(before["end"])
    )
    tip = f"{token} ({PARTS.get(str(row['part']), 'other')})"
    if value is not None:
        tip += f"\nreceives {num(value, 4)} when {READERS.get(reader, reader)}"
    return {
        "place": k,
        "text": text,
        "apart": apart,
        "level": "" if value is None else level(min(value, most), most),
        "name": f"{token} ({PARTS.get(str(row['part']), 'other')})",
        "tip": tip,
    }


def _cuts(rows: list[Row]) -> dict[str, object]:
    """Cuts in all layers, the largest fall first; and those up to a layer."""
    changes = [(number(row["score"]) - number(row["score_original"]), row) for row in rows]
    changes = [one for one in changes if one[0] == one[0] and str(one[1]["cut"])]
    low = min((change for change, _ in changes if change < 0), default=0.0)
    high = max((change for change, _ in changes if change > 0), default=0.0)
    scale = 118 / ((high - low) or 1.0)
    zero = round(1 - low * scale, 1)
    shown_rows = []
    for change, row in changes:
        moved = number(row["rank"]) - number(row["rank_original"])
        wide = round(abs(change) * scale, 1)
        shown_rows.append(
            {
                "cut": arrow(row["cut"]),
                "words": reads(row["cut"]),
                "score": num(row["score"], 3),
                "change": num(change, 3, sign=True),
                "order": change,
                "x": zero if change >= 0 else round(zero - wide, 1),
                "wide": max(wide, 0.4),
                "kind": "p5" if change > 0 else "n5",
                "rank": num(row["rank"], 0 if number(row["rank"]) % 1 == 0 else 1),
                "moved": num(moved, 0 if moved % 1 == 0 else 1, sign=True)
                if isfinite(moved)
                else "",
                "layered": "@" in str(row["cut"]) or "#" in str(row["cut"]),
            }
        )
    whole = sorted(
        (r for r in shown_rows if not r["layered"]), key=lambda r: (r["order"], r["cut"])
    )
    layered = [row for row in shown_rows if row["layered"]]
    return {"cuts": whole, "layered": layered, "zero": zero}
