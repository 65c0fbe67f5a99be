"""Two lists of matching heads: of two collections, or of two models of one shape."""

from __future__ import annotations

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.circuits.association import spearman
from matchlens.errors import InputError
from matchlens.results import Result
from matchlens.studies.contrasts import EARLIER, is_earlier


@typed
def compare_heads(first: Result, second: Result, *, seed: int = 0) -> pd.DataFrame:
    """How far two attention studies agree about the matching heads.

    Args:
        first: what :func:`matchlens.attention` returned.
        second: likewise, of a model with as many layers and heads.
        seed: of the permutations and resamples.

    Returns:
        A row for each direction that both have: heads (of the model), first and second (matching
        heads found by each), both, expected (by chance), p (chance of an overlap as large,
        one-sided hypergeometric test), rho (Spearman's correlation of the AUC on the describing
        halves, over all heads) with rho_p (permutations inside layers), rho_by_layer (what layers
        alone give), rho_low and rho_high.

    Raises:
        InputError: if a result has no list of matching heads, or the shapes differ.

    Source: science 4; the test of an overlap is the hypergeometric one.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=10, per_grade=1, easy=2)
    >>> result = matchlens.attention(matchlens.load("demo"), pairs, meters=["mass"], causal=False)
    >>> matchlens.compare_heads(result, result)["rho"].round(3).tolist()
    [1.0, 1.0]
    """
    from scipy.stats import hypergeom

    tables = []
    for result in (first, second):
        if is_earlier(result.tables):
            raise InputError(f"matching heads cannot be compared: {EARLIER}")
        table = result.to_frame("matching")
        if table.empty:
            raise InputError(
                "a result has no list of heads, since too few of its queries have relevant and "
                "easy passages; expected an attention study of more queries"
            )
        tables.append(table)
    shapes = [(one["layer"].max() + 1, one["head"].max() + 1) for one in tables]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"the models have {shapes[0][0]} x {shapes[0][1]} and {shapes[1][0]} x {shapes[1][1]} "
            "heads; expected results of models of one shape"
        )
    rows = []
    for direction in dict.fromkeys(tables[0]["direction"]):
        one, two = (
            table[table["direction"] == direction].sort_values(["layer", "head"])
            for table in tables
        )
        if not len(two):
            continue
        found = [side["matching"].to_numpy(dtype=bool) for side in (one, two)]
        heads, counts = len(found[0]), [int(side.sum()) for side in found]
        both = int((found[0] & found[1]).sum())
        ranks = spearman(
            one["auc"].to_numpy(dtype=np.float64).reshape(shapes[0]),
            two["auc"].to_numpy(dtype=np.float64).reshape(shapes[0]),
            seed=seed,
        )
        rows.append(
            {
                "direction": direction,
                "heads": heads,
                "first": counts[0],
                "second": counts[1],
                "both": both,
                "expected": counts[0] * counts[1] / heads,
                "p": float(hypergeom.sf(both - 1, heads, counts[0], counts[1])),
                "rho": ranks.rho,
                "rho_p": ranks.p,
                "rho_by_layer": ranks.by_layer,
                "rho_low": ranks.low,
                "rho_high": ranks.high,
            }
        )
    return pd.DataFrame(rows)
