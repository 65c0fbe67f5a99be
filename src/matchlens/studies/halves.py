"""Heads selected on one half of the queries, reported on the other: no choice is its own proof."""

from __future__ import annotations

import numpy as np
import pandas as pd

from matchlens.ranking import compare, holm
from matchlens.studies.common import half

MOST = 10
"""Heads selected at most."""


def select(
    points: pd.DataFrame, queries: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """The heads whose cut moves the measure most on half 0 of the queries, seen on half 1.

    The halves are by a hash of the query's id and the seed. On half 0 the heads with
    Benjamini-Hochberg's q <= .05 are taken, at most ten, the largest change first; where there is
    none, the ten of the largest change, which the column ``q_select`` shows.

    Args:
        points: a row for each head, direction and how: direction, how, n, head, cut.
        queries: a row for each cut and query: cut, collection, qid, value.
        seed: of the halves and of resampling.

    Returns:
        Columns direction, how, n, head, cut, diff_select, q_select, diff_report, ci_low, ci_high,
        p_report, p_report_holm, held (same sign, and corrected p <= .05, on half 1); and notes.
    """
    columns = ["direction", "how", "n", "head", "cut"]
    wide = queries.pivot(index=["collection", "qid"], columns="cut", values="value")
    side = np.array([half(str(qid), seed) for qid in wide.index.get_level_values("qid")])
    if min((side == 0).sum(), (side == 1).sum()) < 2:
        empty = pd.DataFrame(columns=[*columns, *_REPORTED])
        return empty, ["too few queries to select heads on one half and report them on the other"]
    tests = [
        compare(
            wide.loc[side == which, points["cut"]].to_numpy().T.copy(),
            wide.loc[side == which, ""].to_numpy(),
            list(wide.index.get_level_values("collection")[side == which]),
            seed=seed,
        )
        for which in (0, 1)
    ]
    order = np.argsort(-tests[0]["diff"].abs().to_numpy(), kind="stable")
    significant = tests[0]["q"].to_numpy() <= 0.05
    chosen = [place for place in order if significant[place] or not significant.any()][:MOST]
    found = points.loc[chosen, columns].reset_index(drop=True)
    first, second = (one.loc[chosen].reset_index(drop=True) for one in tests)
    found["diff_select"], found["q_select"] = first["diff"], first["q"]
    found["diff_report"] = second["diff"]
    found["ci_low"], found["ci_high"] = second["ci_low"], second["ci_high"]
    found["p_report"] = second["p"]
    found["p_report_holm"] = holm(second["p"].to_numpy())
    found["held"] = (found["p_report_holm"] <= 0.05) & (
        np.sign(found["diff_select"]) == np.sign(found["diff_report"])
    )
    return found, []


_REPORTED = (
    "diff_select",
    "q_select",
    "diff_report",
    "ci_low",
    "ci_high",
    "p_report",
    "p_report_holm",
    "held",
)
