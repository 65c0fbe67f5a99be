"""Where matching lies on the way through the layers, and what hard negatives get of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from matchlens.studies.common import half
from matchlens.studies.contrasts import Classes, class_means, places
from matchlens.studies.watching import Reader

RELEVANT, HARD, EASY = range(3)
DRAWS = 1000
"""Permutations of relevance within queries."""


def layer_depths(
    reader: Reader, classes: Classes, directions: Sequence[str], seed: int, draws: int = DRAWS
) -> pd.DataFrame:
    """How deep same-stem and other matching lie, against relevance shuffled within queries.

    Each head's difference of mass, relevant minus easy passages (means of a query, then over
    queries), is split into the mass on words of the reader's own stem and the rest. The positive
    differences are summed by layer; the depth is the point at which half of their sum is reached.
    Since more heads of upper layers differ by chance, too, and since the two kinds have different
    sizes, the difference of the depths is not 0 without relevance: the null is the same number
    with the labels relevant and easy shuffled within each query.

    Args:
        reader: has mass and same_stem.
        classes: relevant, hard and easy pairs.
        directions: between Q and D.
        seed: of the permutations.
        draws: number of permutations.

    Returns:
        One row for each direction: direction, queries (with both classes), lexical and semantic
        (depths, in layers), later (semantic minus lexical), null (its mean over the permutations),
        p_later and p_earlier (one-sided, (b + 1) / (draws + 1)), negative (share of the weight that
        is negative, the larger of the two kinds).

    Source: science 4, "Lexical first, then semantic".
    """
    rows = []
    pairs, weights, queries = _shuffled(classes, seed, draws)
    for direction in directions:
        if not queries:
            break
        depths, negative = [], 0.0
        for kind in ("lexical", "semantic"):
            values = reader.of(f"{kind}_mass", *places(direction))
            layers = values.shape[1]
            differences = np.zeros((draws + 1, layers * values.shape[2]))
            for own, weight in zip(pairs, weights, strict=True):
                differences += weight @ np.nan_to_num(values[own].reshape(len(own), -1))
            by_layer = differences.reshape(draws + 1, layers, -1)
            rises = by_layer.clip(min=0).sum(2)
            falls = -by_layer[0].clip(max=0).sum()
            weight_of_all = rises[0].sum() + falls
            negative = max(negative, float(falls / weight_of_all) if weight_of_all else 1.0)
            depths.append(depth(rises))
        later = depths[1] - depths[0]
        observed, null = later[0], later[1:]
        close = 1e-9
        rows.append(
            {
                "direction": direction,
                "queries": queries,
                "lexical": float(depths[0][0]),
                "semantic": float(depths[1][0]),
                "later": float(observed),
                "null": float(null[~np.isnan(null)].mean()) if np.isfinite(null).any() else np.nan,
                "p_later": float((np.sum(~(null < observed - close)) + 1) / (draws + 1)),
                "p_earlier": float((np.sum(~(null > observed + close)) + 1) / (draws + 1)),
                "negative": negative,
            }
        )
    columns = ["direction", "queries", "lexical", "semantic", "later", "null"]
    return pd.DataFrame(rows, columns=pd.Index([*columns, "p_later", "p_earlier", "negative"]))


def depth(sums: Float[np.ndarray, "draw layer"]) -> Float[np.ndarray, " draw"]:
    """The point on the way through the layers at which half of a sum over layers is reached.

    Args:
        sums: `[draw, layer]`, numbers of at least 0.

    Returns:
        `[draw]`, in layers from the bottom, interpolated inside a layer; NaN where the sum is 0.

    >>> depth(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])).tolist()
    [1.0, 2.5]
    """
    total = sums.cumsum(axis=1)
    middle = total[:, -1:] / 2
    layer = (total < middle).sum(axis=1)
    layer = np.minimum(layer, sums.shape[1] - 1)[:, None]
    here = np.take_along_axis(sums, layer, 1)
    before = np.take_along_axis(total, layer, 1) - here
    inside = np.divide(middle - before, here, out=np.full(here.shape, np.nan), where=here > 0)
    return (layer + inside)[:, 0]


def _shuffled(
    classes: Classes, seed: int, draws: int
) -> tuple[list[Int[np.ndarray, " pair"]], list[Float[np.ndarray, "draw pair"]], int]:
    """What each pair weighs in the mean difference relevant - easy, observed first, then shuffled.

    Returns:
        The pairs of each query with both classes; their weights; the number of such queries.
    """
    draw = np.random.default_rng([5, int(seed < 0), abs(seed)])
    taken = (classes.of_pair == RELEVANT) | (classes.of_pair == EASY)
    pairs, weights = [], []
    order = np.argsort(classes.query, kind="stable")
    bounds = np.searchsorted(classes.query[order], np.arange(len(classes.qids) + 1))
    for query in range(len(classes.qids)):
        own = order[bounds[query] : bounds[query + 1]]
        own = own[taken[own]]
        relevant = classes.of_pair[own] == RELEVANT
        high, low = int(relevant.sum()), int((~relevant).sum())
        if not (high and low):
            continue
        observed = np.where(relevant, 1 / high, -1 / low)
        shuffled = draw.permuted(np.tile(observed, (draws, 1)), axis=1)
        pairs.append(own)
        weights.append(np.vstack([observed, shuffled]))
    return pairs, [one / len(pairs) for one in weights], len(pairs)


def negatives(
    reader: Reader, classes: Classes, matching: pd.DataFrame, directions: Sequence[str], seed: int
) -> pd.DataFrame:
    """Semantic mass of hard and of easy negatives, for each query.

    Over all heads, which is what is tested; and, described beside it, over the semantic matching
    heads, on the half of the queries that did not select them.

    Args:
        reader: has mass and same_stem.
        classes: relevant, hard and easy pairs.
        matching: every head of the directions, as the attention study's table has it.
        directions: between Q and D.
        seed: of the halves.

    Returns:
        One row for each direction, set of heads and query with both kinds of negatives: direction,
        selected (False: all heads), heads (their number), collection, qid, hard, easy (semantic
        mass, mean over heads and passages), more (hard minus easy).

    Source: science 4, "Semantic matches in hard against easy negatives".
    """
    rows = []
    for direction in directions:
        values = reader.of("semantic_mass", *places(direction))
        number, layers, heads = values.shape
        means = class_means(values.reshape(number, -1), classes)
        chosen = np.zeros(layers * heads, dtype=bool)
        if not matching.empty:
            of = matching["direction"].to_numpy() == direction
            semantic = matching["kind"].str.contains("semantic").to_numpy(dtype=bool)
            found = matching[of & semantic]
            chosen[(found["layer"] * heads + found["head"]).to_numpy(dtype=np.int64)] = True
        sets = [(False, np.ones(layers * heads, dtype=bool))]
        sets += [(True, chosen)] if chosen.any() else []
        for selected, over in sets:
            for query, qid in enumerate(classes.qids):
                hard, easy = (means[query, side][over] for side in (HARD, EASY))
                if (
                    np.isnan(hard).all()
                    or np.isnan(easy).all()
                    or (selected and not half(qid, seed))
                ):
                    continue
                high, low = float(np.nanmean(hard)), float(np.nanmean(easy))
                rows.append(
                    {
                        "direction": direction,
                        "selected": selected,
                        "heads": int(over.sum()),
                        "collection": classes.collections[query],
                        "qid": qid,
                        "hard": high,
                        "easy": low,
                        "more": high - low,
                    }
                )
    columns = ["direction", "selected", "heads", "collection", "qid", "hard", "easy", "more"]
    return pd.DataFrame(rows, columns=pd.Index(columns))
