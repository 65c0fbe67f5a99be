"""The tables of an explained margin: contributions of passages, words, units and links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from matchlens.corpora import Pair
from matchlens.directions import Cut
from matchlens.parts import Part

if TYPE_CHECKING:
    from matchlens.gating import Integral
    from matchlens.models.load import Reranker
    from matchlens.models.words import Stretch

HEAD_LINKS, ALL_LINKS = 30, 120
"""Links kept of each head, and of the sum over all heads."""
OUTSIDE = "outside attention"


@dataclass(frozen=True)
class Share:
    """One passage's score, shared out."""

    pair: Pair  # query and passage
    words: list[Stretch]  # its words in reading order
    integral: Integral  # contributions between them
    points: int  # of the integral
    tokens: int  # after the length limit
    truncated: bool  # whether the pair was longer than the limit

    @property
    def parts(self) -> np.ndarray:
        """Part number of each word."""
        return np.array([word.part for word in self.words], dtype=np.int64)

    @property
    def own(self) -> list[str]:
        """The own parts that have a word, by name."""
        return sorted({word.own for word in self.words} - {""})

    def by_direction(self) -> Float[np.ndarray, "layer head row_part column_part"]:
        """Contributions by layer, head and direction; own parts behind the others."""
        words = np.array([word.own for word in self.words], dtype=object)
        inside = [(words == name).astype(np.float64)[:, None] for name in self.own]
        one_hot = np.hstack([np.eye(len(Part))[self.parts], *inside])
        return one_hot.T @ (self.integral.contributions.astype(np.float64) @ one_hot)


def token_words(words: Sequence[Stretch]) -> Int[np.ndarray, " token"]:
    """The number of each token's word."""
    return np.repeat(np.arange(len(words)), [word.stop - word.start for word in words])


def tables_of(
    model: Reranker, shares: Sequence[Share], first: int, second: int, cuts: Sequence[Cut]
) -> tuple[dict[str, pd.DataFrame], float]:
    """The tables of contributions, and what they miss of the margin (logits)."""
    a, b = shares[first], shares[second]
    units = [_units(number, share) for number, share in enumerate(shares)]
    missed = abs(a.integral.missed - b.integral.missed)
    labelled = any(share.own for share in shares)
    return {
        "passages": pd.DataFrame([_passage(number, share) for number, share in enumerate(shares)]),
        "words": pd.DataFrame(
            [row for number, share in enumerate(shares) for row in _words(number, share, labelled)]
        ),
        "units": pd.concat(units, ignore_index=True),
        "margin": _margin(units[first], units[second]),
        "query_words": _query_words(a, b),
        "links": pd.concat(
            [_links(model, number, share, cuts) for number, share in enumerate(shares)],
            ignore_index=True,
        ),
    }, missed


def _passage(number: int, share: Share) -> dict[str, object]:
    return {
        "passage": number,
        "docid": share.pair.docid,
        "text": share.pair.text,
        "score": share.integral.score,
        "without_attention": share.integral.without,
        "points": share.points,
        "error": abs(share.integral.missed),
        "tokens": share.tokens,
        "truncated": share.truncated,
    }


def _words(number: int, share: Share, labelled: bool) -> list[dict[str, object]]:
    read = share.integral.contributions.sum((0, 1, 2), dtype=np.float64)
    reads = share.integral.contributions.sum((0, 1, 3), dtype=np.float64)
    return [
        {
            "passage": number,
            "word": at,
            "part": str(Part(word.part)),
            "text": word.text,
            "read": read[at],
            "reads": reads[at],
            "start": word.start,
            "stop": word.stop,
            "character": word.character,
            **({"own": word.own} if labelled else {}),
        }
        for at, word in enumerate(share.words)
    ]


def _units(number: int, share: Share) -> pd.DataFrame:
    """Contributions by direction, layer, head, and head in one direction."""
    table = share.by_direction()
    layers, heads = table.shape[:2]
    names = [*map(str, Part), *share.own]
    there = [*np.unique(share.parts).tolist(), *range(len(Part), len(names))]
    directions = [
        ("own_" if max(x, y) >= len(Part) else "", f"{names[x]}->{names[y]}", x, y)
        for x in there
        for y in there
    ]
    directions.sort(key=lambda direction: direction[0])
    rows: list[tuple[str, str, int | None, int | None, str | None, float]] = []
    rows += [
        (f"{own}direction", d, None, None, d, table[:, :, x, y].sum())
        for own, d, x, y in directions
    ]
    input_parts = table[:, :, : len(Part), : len(Part)]  # own parts are within these
    rows += [("layer", str(at), at, None, None, input_parts[at].sum()) for at in range(layers)]
    for layer, head in np.ndindex(layers, heads):
        values, name = table[layer, head], f"{layer}.{head}"
        rows.append(("head", name, layer, head, None, input_parts[layer, head].sum()))
        rows += [
            (f"{own}head_direction", f"{d}#{name}", layer, head, d, float(values[x, y]))
            for own, d, x, y in directions
        ]
    rows.append((OUTSIDE, OUTSIDE, None, None, None, share.integral.without))
    columns = ["kind", "unit", "layer", "head", "direction", "contribution"]
    frame = pd.DataFrame(rows, columns=columns)
    for name in ("layer", "head"):
        frame[name] = frame[name].astype("float64")  # NaN where there is none
    frame.insert(5, "passage", number)
    return frame


def _margin(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The two passages' contributions, A less B; a unit that one of them lacks counts 0 there."""
    keys = ["kind", "unit"]
    both = first.merge(second, on=keys, how="outer", suffixes=("", "_b"))
    for name in ("layer", "head", "direction"):
        both[name] = both[name].where(both[name].notna(), both[f"{name}_b"])
    both["contribution"] = both["contribution"].fillna(0.0) - both["contribution_b"].fillna(0.0)
    kinds = {kind: at for at, kind in enumerate(dict.fromkeys([*first["kind"], *second["kind"]]))}
    order = pd.DataFrame(
        {"kind": [kinds[kind] for kind in both["kind"]], "size": -both["contribution"].abs()}
    )
    both = both.loc[order.sort_values(["kind", "size"], kind="stable").index]
    return both[[*keys, "layer", "head", "direction", "contribution"]].reset_index(drop=True)


def _query_words(a: Share, b: Share) -> pd.DataFrame:
    """What the query's words contribute as they are read, in both passages."""
    sides = []
    for share in (a, b):
        read = share.integral.contributions.sum((0, 1, 2), dtype=np.float64)
        at = np.flatnonzero(share.parts == Part.Q)
        sides.append([(share.words[place].text, float(read[place])) for place in at.tolist()])
    rows = []
    for word in range(max(map(len, sides))):
        each = [side[word] if word < len(side) else None for side in sides]
        read_a, read_b = (0.0 if entry is None else entry[1] for entry in each)
        text = next(entry[0] for entry in each if entry is not None)
        rows.append((word, text, read_a - read_b, read_a, read_b))
    return pd.DataFrame(rows, columns=["word", "text", "contribution", "read_a", "read_b"])


def _links(model: Reranker, number: int, share: Share, cuts: Sequence[Cut]) -> pd.DataFrame:
    """Who reads whom: the strongest links of each head, and of the sum over all heads."""
    # Attention is the mean over the row word's tokens of the sum over the column word's, and for
    # all heads its mean over them.
    from matchlens.gating import word_attention

    sums = share.integral.contributions
    words = sums.shape[2]
    attention = word_attention(model, share.pair, token_words(share.words), cuts)
    kept = [(-1, -1, sums.sum((0, 1), dtype=np.float64), ALL_LINKS, attention.mean((0, 1)))]
    kept += [(*at, sums[at], HEAD_LINKS, attention[at]) for at in np.ndindex(*sums.shape[:2])]
    frames = []
    for layer, head, contributions, limit, weights in kept:
        flat = np.abs(contributions).ravel()
        candidates = np.arange(len(flat))
        if len(flat) > limit:  # a whole sort of every head's links would take as long as a layer
            candidates = np.sort(np.argpartition(-flat, limit)[:limit])
        top = candidates[np.argsort(-flat[candidates], kind="stable")]
        top = top[flat[top] > 0]
        frames.append(
            pd.DataFrame(
                {
                    "passage": number,
                    "layer": layer,
                    "head": head,
                    "row_word": top // words,
                    "column_word": top % words,
                    "contribution": contributions.ravel()[top].astype(np.float64),
                    "attention": weights.ravel()[top].astype(np.float64),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
