"""Matching, query by query: where it is lexical, where semantic, and what hard negatives get."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from matchlens.studies.attention_options import places
from matchlens.studies.common import half
from matchlens.studies.contrasts import Classes, class_means
from matchlens.studies.watching import Reader

RELEVANT, HARD, EASY = range(3)


def layer_centres(reader: Reader, classes: Classes, directions: Sequence[str]) -> pd.DataFrame:
    """Where lexical and semantic matching lie on the way through the layers, for each query.

    Matching is what relevant passages get beyond easy ones: per layer the sum over heads of the
    difference of the class means, negative sums counted as none. Its centre is the mean layer,
    weighted by it.

    Args:
        reader: has mass and same_token.
        classes: relevant, hard and easy pairs.
        directions: between Q and D.

    Returns:
        A row a direction and query with both classes and both kinds of matching: direction,
        collection, qid, lexical and semantic (centres, in layers), later
        (semantic minus lexical).

    Source: the definition is this project's; the claim is Vast et al. 2025's.
    """
    rows = []
    for direction in directions:
        x, y = places(direction)
        centres = {}
        for kind in ("lexical", "semantic"):
            values = reader.of(f"{kind}_mass", x, y)
            layers = values.shape[1]
            means = class_means(values.reshape(len(values), -1), classes)
            excess = (means[:, RELEVANT] - means[:, EASY]).reshape(-1, layers, values.shape[2])
            weight = np.nansum(excess, axis=2).clip(min=0.0)
            total = weight.sum(1)
            centre = (weight * np.arange(layers)).sum(1)
            nothing = np.full(len(total), np.nan)
            centres[kind] = np.divide(centre, total, out=nothing, where=total > 0)
        known = ~np.isnan(centres["lexical"]) & ~np.isnan(centres["semantic"])
        for query in np.flatnonzero(known).tolist():
            lexical, semantic = (float(centres[kind][query]) for kind in ("lexical", "semantic"))
            rows.append(
                {
                    "direction": direction,
                    "collection": classes.collections[query],
                    "qid": classes.qids[query],
                    "lexical": lexical,
                    "semantic": semantic,
                    "later": semantic - lexical,
                }
            )
    columns = ["direction", "collection", "qid", "lexical", "semantic", "later"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def negatives(
    reader: Reader, classes: Classes, matching: pd.DataFrame, directions: Sequence[str], seed: int
) -> pd.DataFrame:
    """Semantic matches of hard and of easy negatives, for each query.

    Over the semantic matching heads of the direction, on the half of the queries that did not find
    them; where there is none, over all heads and all queries.

    Args:
        reader: has mass and same_token.
        classes: relevant, hard and easy pairs.
        matching: every head of the directions, as the attention study's table has it.
        directions: between Q and D.
        seed: of the halves.

    Returns:
        A row a direction and query with both kinds of negatives: direction, collection, qid, heads
        (their number; 0: all), hard, easy (semantic mass, mean over heads and passages), more
        (hard minus easy).

    Source: the definition is this project's; the claim is Vast et al. 2025's.
    """
    rows = []
    for direction in directions:
        values = reader.of("semantic_mass", *places(direction))
        number, layers, heads = values.shape
        means = class_means(values.reshape(number, -1), classes)
        chosen = np.zeros(layers * heads, dtype=bool)
        if not matching.empty:
            of = matching["direction"].to_numpy() == direction
            semantic = of & matching["matching"].to_numpy() & (matching["kind"] == "semantic")
            found = matching[semantic]
            chosen[(found["layer"] * heads + found["head"]).to_numpy(dtype=np.int64)] = True
        count = int(chosen.sum())
        over = chosen if count else np.ones(layers * heads, dtype=bool)
        for query, qid in enumerate(classes.qids):
            hard, easy = (means[query, side][over] for side in (HARD, EASY))
            if np.isnan(hard).all() or np.isnan(easy).all() or (count and not half(qid, seed)):
                continue
            high, low = float(np.nanmean(hard)), float(np.nanmean(easy))
            rows.append(
                {
                    "direction": direction,
                    "collection": classes.collections[query],
                    "qid": qid,
                    "heads": count,
                    "hard": high,
                    "easy": low,
                    "more": high - low,
                }
            )
    columns = ["direction", "collection", "qid", "heads", "hard", "easy", "more"]
    return pd.DataFrame(rows, columns=pd.Index(columns))
