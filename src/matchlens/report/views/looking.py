"""Pairs to look into, as text and side by side: what is read, and what each cut does to a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.errors import InputError
from matchlens.figures.colours import level
from matchlens.report.exhibits import Exhibit
from matchlens.report.pair_view import (
    LETTERS,
    PARTS,
    TOKEN,
    Bars,
    Word,
    bar_rows,
    blocks,
    clipped,
    head_grid,
    listed_values,
    render,
    signed,
)
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Row, Table, columns_of
from matchlens.report.texts import (
    arrow,
    counted,
    note_lines,
    num,
    number,
    place_of,
    plain,
    printed,
    reads,
    shown,
    wrapped,
)
from matchlens.results import Result, records

MOST = 8
"""Tokens and cuts that are shown of a direction and of a look, at most."""
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TOP = 4095
"""Numbers are kept in 12 bits, two signs each, by their square root, so that small ones last."""
READERS = {"CLS": "CLS reads", "Q": "the query reads", "D": "the document reads"}
ALL, MATCHING = "all", "matching"


@dataclass(frozen=True)
class View:
    """Heads that can be chosen together: a key, a label, and the heads themselves."""

    key: str
    label: str
    heads: tuple[tuple[int, int], ...]


def looking_text(result: Result, looks: Sequence[int] | None = None) -> str:
    """The list of pairs, and a view of some of them.

    Args:
        result: what :func:`matchlens.look` returned.
        looks: which are viewed; all where None.
    """
    model = result.identity["model"]
    assert isinstance(model, Mapping)  # noqa: S101
    lines = [
        f"Pairs to look into, read by {plain(model['name'], 60)}",
        "",
        *looks_table(result).text(),
    ]
    received = result.array("received")
    for row in records(result.to_frame("looks")):
        if looks is None or row["look"] in looks:
            lines += ["", *_view(result, row, received)]
    return "\n".join([*lines, "", *note_lines(result)]).rstrip() + "\n"


def looks_table(result: Result) -> Table:
    """Lay out the pairs to look into."""
    rows = [
        {
            **row,
            **{key: plain(row[key], 40) for key in ("qid", "docid")},
            "place": f"{number(row['rank']):g} of {row['candidates']}",
        }
        for row in records(result.to_frame("looks"))
    ]
    columns = columns_of("look qid docid grade score place why", docid="passage", place="rank")
    return Table("looks", "Pairs to look into", columns, tuple(rows))


def _view(result: Result, row: Mapping[str, object], received: np.ndarray) -> list[str]:
    look = int(str(row["look"]))
    tokens = result.to_frame("tokens")
    tokens = pd.DataFrame(tokens[tokens["look"] == look])
    lines = [f"Look {look}: {row['why']}"]
    lines += wrapped(f"query {plain(row['qid'], 60)}: {plain(row['query'])}", "  ")
    lines += wrapped(f"passage {plain(row['docid'], 60)}: {plain(row['passage'])}", "  ")
    share = "share of the reader's attention, mean over the layers and heads in which it reads"
    lines += ["", f"Read most ({share})"]
    mean = _mean(received[look].reshape(-1, *received.shape[3:]))
    readers = [str(name) for name in listed_values(result.options["readers"])]
    for reader, part in (("CLS", "Q"), ("CLS", "D"), ("Q", "D"), ("D", "Q")):
        lines += _most_read(tokens, mean[readers.index(reader)], reader, part)
    lines += _matching(result, tokens, received[look], readers)
    return [*lines, "", *_cuts(result, look)]


def _most_read(
    tokens: pd.DataFrame, values: np.ndarray, reader: str, part: str, named: str = ""
) -> list[str]:
    in_part = pd.DataFrame(tokens[tokens["part"] == part])
    places = in_part["place"].to_numpy()
    shares = values[places]
    words = dict(zip(places.tolist(), in_part["token"], strict=True))
    order = np.argsort(-shares, kind="stable")[:MOST]
    listed = [
        f"{plain(words[int(places[at])], 20)} {printed(float(shares[at]), 3)}" for at in order
    ]
    total = f"{named or f'{reader}->{part}'} ({printed(float(shares.sum()), 2)}): "
    return wrapped(total + ", ".join(listed), "    ", "  ")


def _matching(
    result: Result, tokens: pd.DataFrame, received: np.ndarray, readers: list[str]
) -> list[str]:
    """What the first matching heads read, where they are known."""
    rows = [row for row in records(result.to_frame("heads")) if row["directions"]][:3]
    if not rows:
        return []
    lines = ["", "Read most by the matching heads that were found most surely"]
    for row in rows:
        for direction in str(row["directions"]).split(", "):
            reader, _, part = direction.partition("->")
            if reader in readers and part in set(tokens["part"]):
                head = received[int(str(row["layer"])), int(str(row["head"]))]
                named = f"{row['layer']}.{row['head']} {direction}, {row['kind']}"
                lines += _most_read(tokens, head[readers.index(reader)], reader, part, named)
    return lines


def _cuts(result: Result, look: int) -> list[str]:
    table = result.to_frame("cuts")
    table = pd.DataFrame(table[table["look"] == look])
    if table.empty:
        return ["Score under cuts: none is known of this pair"]
    table["change"] = table["score"] - table["score_original"]
    order = np.argsort(-table["change"].abs().to_numpy(), kind="stable")[:MOST]
    rows = [
        {**row, "rank": f"{number(row['rank']):g}", "was": f"{number(row['rank_original']):g}"}
        for row in records(pd.DataFrame(table.iloc[order]))
    ]
    title = f"Score under cuts (the {len(rows)} largest changes of {len(table)}; logits)"
    columns = columns_of("cut score change rank was", change="change")
    return [title, *Table("cuts", title, columns, tuple(rows)).text()]


def looking(folder: ResultsFolder, heads: int | None = None) -> Exhibit:
    """The exhibit of the pairs that were looked into; ``heads`` as in :class:`Detail`."""
    subtitle = "What single heads read in a pair, and how its score moves under each cut"
    base = ("pair", "Pairs to look into", subtitle)
    result, looks = folder.get("looking"), folder.rows("looking", "looks")
    if result is None or not looks or not folder.rows("looking", "tokens"):
        absent = "No pairs to look into were kept (matchlens study keeps some)."
        return Exhibit(*base, absent=absent)
    received, notes = _received(result), []
    if received is None:
        notes.append("What heads read was not kept (array received), so no token is shaded.")
    elif heads is not None:
        alone = sum(len(view.heads) == 1 for view in _views(result, received, heads))
        notes.append(
            f"To keep this page small, {counted(alone, 'head')} of "
            f"{received.shape[1] * received.shape[2]} can be chosen alone."
        )
    columns = columns_of(
        "look=number:0 cut score rank score_original rank_original:0", look="pair",
        score_original="original score", rank_original="original rank",
    )  # fmt: skip
    cuts = tuple(folder.rows("looking", "cuts"))
    return Exhibit(
        *base,
        lead=(f"{counted(len(looks), 'pair')}; each says why it was chosen.",),
        template="view.html.j2",
        context={"view": looked(result, heads)},
        tables=(Table("pair-cuts", "Score and rank under each cut", columns, cuts),) * bool(cuts),
        result=result,
        notes=tuple(notes),
    )


def looked(result: Result, heads: int | None = None, *, alone: bool = False) -> str:
    """The pair view of the pairs that were looked into: those of a query side by side."""
    looks = records(result.to_frame("looks"))
    tokens: dict[object, list[Row]] = {}
    for row in records(result.to_frame("tokens")):
        tokens.setdefault(row["look"], []).append(row)
    cuts = records(result.tables["cuts"]) if "cuts" in result.tables else []
    received = _received(result)
    views = [] if received is None else _views(result, received, heads)
    first = MATCHING if any(view.key == MATCHING for view in views) else ALL
    readers = [str(name) for name in listed_values(result.options.get("readers"))] or list(READERS)
    order = sorted(range(len(readers)), key=lambda place: readers[place] != "Q")
    by_query: dict[object, list[int]] = {}
    for place, look in enumerate(looks):
        by_query.setdefault((look.get("collection"), look["qid"]), []).append(place)
    data, scenes = [], []
    for places in by_query.values():
        cards, of_query = [], [looks[place] for place in places]
        for place, look in zip(places, of_query, strict=True):
            words_of = tokens.get(look["look"], [])
            attention = (
                {} if received is None else _attention(received[place], len(words_of), views)
            )
            values = attention[first][order[0]] if attention else None
            badge = LETTERS[len(cards) % len(LETTERS)]
            cards.append(_card(len(data), f"pair-{place + 1}", badge, look, words_of, values))
            data.append({key: [_packed(row) for row in value] for key, value in attention.items()})
        bars = _bars(cuts, of_query, [str(card["badge"]) for card in cards])
        scenes.append(
            {
                "label": shown(of_query[0]["query"], 400),
                "about": f"query {shown(of_query[0]['qid'], 80)}",
                "lead": [],
                "cards": cards,
                "left": bars,
                "right": [],
                "absent": "" if bars else "Scores under cuts were not kept.",
            }
        )
    context = {
        "alone": alone,
        "scenes": scenes,
        "modes": [(place, READERS.get(readers[place], readers[place])) for place in order],
        "modes_label": "Reader",
        "scale": [f"t{k}" for k in range(10)],
        "scale_words": ("0", "attention that a token receives; darkest: the most in its pair"),
        "grid": _grid(received, views),
    }
    names = {view.key: view.label for view in views}
    numbers = {"kind": "look", "first": first, "readers": readers, "names": names, "cards": data}
    return render(context, numbers)


def _received(result: Result) -> np.ndarray | None:
    try:
        return result.array("received")
    except InputError:
        return None


def _views(result: Result, received: np.ndarray, heads: int | None) -> list[View]:
    """The heads that can be chosen: all, the matching ones, a layer's, each alone."""
    layers, per_layer = received.shape[1], received.shape[2]
    every = tuple((layer, head) for layer in range(layers) for head in range(per_layer))
    about = {}
    for row in records(result.tables["heads"]) if "heads" in result.tables else ():
        if row.get("directions"):
            kind = shown(row.get("kind") or "", 40)
            words = arrow(row["directions"]) + (f", {kind}" if kind else "")
            about[place_of(row)] = f" ({words})"
    matching = tuple(head for head in about if head in set(every))
    views = [View(ALL, "all heads", every)]
    if matching:
        views.append(View(MATCHING, f"the {counted(len(matching), 'matching head')}", matching))
    for layer in range(layers):
        layer_heads = tuple((layer, head) for head in range(per_layer))
        views.append(View(f"L{layer}", f"layer {layer}", layer_heads))
    single = every if heads is None else matching[:heads]
    return views + [
        View(f"{a}.{b}", f"head {a}.{b}{about.get((a, b), '')}", ((a, b),)) for a, b in single
    ]


def _attention(
    received: np.ndarray, places: int, views: Sequence[View]
) -> Mapping[str, np.ndarray]:
    """View to [reader, place], means over its heads; nothing known is 0."""
    given = np.asarray(received[..., :places], dtype=np.float64)
    return {view.key: _mean(given[tuple(np.array(view.heads).T)]) for view in views}


def _mean(received: Float[np.ndarray, "head reader place"]) -> Float[np.ndarray, "reader place"]:
    """The mean over the heads in which a reader reads; 0 where nothing is known.

    The query and the passage read nothing in the decoder of an encoder-decoder, and the decoder's
    token nothing in the encoder.
    """
    known = np.nan_to_num(received, nan=0.0)
    reads = (known.sum(-1) > 0).sum(0)
    return known.sum(0) / np.maximum(reads, 1)[:, None]


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


def _grid(received: np.ndarray | None, views: Sequence[View]) -> dict[str, object] | None:
    if received is None:
        return None
    matching = {head for view in views if view.key == MATCHING for head in view.heads}
    return head_grid(
        "Heads: how much of the reader's attention crosses to the other text",
        received.shape[1:3],
        lambda *head: {"key": f"{head[0]}.{head[1]}", "mark": head in matching},
        note="Rows are layers, columns are heads; framed: a matching head.",
        presets=[(view.key, view.label) for view in views if view.key in (ALL, MATCHING)],
        late=True,
    )


def _card(
    place: int, name: str, badge: str, look: Row, tokens: Sequence[Row], values: np.ndarray | None
) -> dict[str, object]:
    inside = [k for k, row in enumerate(tokens) if row["part"] in {"Q", "D"}]
    most = max((float(values[k]) for k in inside), default=0.0) if values is not None else 0.0
    words = []
    for k, row in enumerate(tokens):
        part, token = str(row["part"]), shown(row["token"], TOKEN)
        apart = (
            k > 0
            and tokens[k - 1]["part"] == row["part"]
            and number(row["start"]) > number(tokens[k - 1]["end"])
        )
        colour = "" if values is None else level(min(float(values[k]), most), most)
        tip = "" if values is None else f"receives {num(float(values[k]), 4)} when the query reads"
        label = f"{token} ({PARTS.get(part, 'other')})"
        words.append(
            Word(shown(row["text"] or row["token"], TOKEN), part, " " * apart, colour, label, tip)
        )
    return {
        "number": place,
        "id": name,
        "badge": badge,
        "name": shown(look["docid"], 80),
        "why": shown(look.get("why") or "", 160),
        "facts": [
            ("score", num(look["score"], 3)),
            ("rank", f"{_rank(look['rank'])} of {num(look['candidates'], 0)}"),
            ("grade", shown(look["grade"], 20)),
        ],
        "blocks": blocks(words),
        "texts": (clipped(look["query"]), clipped(look["passage"])),
    }


def _rank(value: object) -> str:
    """A rank; that of a tie is its mean, which may end in a half."""
    return num(value, 1 if number(value) % 1 else 0)


def _bars(cuts: Sequence[Row], looks: Sequence[Row], badges: Sequence[str]) -> list[Bars]:
    """The change of each pair's score under cuts in all layers, and under those of some layers."""
    cells = {(row["cut"], row["look"]): row for row in cuts}
    rows = []
    for cut in dict.fromkeys(row["cut"] for row in cuts if str(row["cut"])):
        changes = [_change(cells.get((cut, look["look"]))) for look in looks]
        if any(isfinite(change) for change, _, _ in changes):
            rows.append(("", arrow(cut), reads(cut), changes))
    tables = []
    for layered in (False, True):
        chosen = [row for row in rows if layered == any(sign in row[1] for sign in "@#")]
        if not chosen:
            continue
        if not layered:
            chosen.sort(key=lambda row: min((c for c, _, _ in row[3] if isfinite(c)), default=0.0))
        drawn = bar_rows(chosen, [True] * len(looks))
        folded = f"Cuts of some layers ({len(chosen)})" if layered else ""
        caption = f"Change of the score under cuts {'of some' if layered else 'in all'} layers"
        tables.append(Bars(caption, "cut", tuple(badges), drawn, folded))
    return tables


def _change(row: Row | None) -> tuple[float, str, str]:
    if row is None:
        return signed(None)
    change, text, _ = signed(number(row["score"]) - number(row["score_original"]))
    rank, before = (_rank(row[key]) for key in ("rank", "rank_original"))
    return change, text, f"score {num(row['score'], 3)}; rank {rank}, without a cut {before}"
