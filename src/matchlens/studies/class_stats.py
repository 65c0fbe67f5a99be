"""Class by class: which pairs are taken, means and variances, and whole distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.corpora import Pair
from matchlens.corpora.collection import Draw
from matchlens.directions import Direction
from matchlens.meters.arrays import PairArray
from matchlens.meters.attention import PARTS
from matchlens.meters.streams import Histogram, Moments
from matchlens.parts import Part
from matchlens.studies.contrasts import CLASSES, Classes, contrast_table

BINS = 40
SHOWN = 6
"""Heads a direction whose distributions are kept."""


def taken(
    classes: Classes,
    scores: Float[np.ndarray, " pair"],
    pairs: Sequence[Pair],
    per_class: int,
    seed: int,
) -> Classes:
    """The authors' choice of pairs: classified rightly (p > .5), at most so many a class and query.

    A relevant passage is classified rightly where its probability, the logistic function of its
    relevance logit, is above .5, the others where it is not.

    Args:
        classes: of all pairs.
        scores: relevance logits.
        pairs: the pairs, for the draw.
        per_class: at most so many a class and query.
        seed: of the draw.
    """
    right = np.where(classes.of_pair == 0, scores > 0, scores <= 0)
    kept = np.zeros(len(pairs), dtype=bool)
    groups: dict[tuple[int, int], list[int]] = {}
    for place in np.flatnonzero(right & (classes.of_pair >= 0)).tolist():
        groups.setdefault((int(classes.query[place]), int(classes.of_pair[place])), []).append(
            place
        )
    for (_, side), places in groups.items():
        draw = Draw(seed, "class", pairs[places[0]].qid, side)
        places.sort(key=lambda place: draw.key(pairs[place].docid))
        kept[places[:per_class]] = True
    return classes.only(kept)


def moments(arrays: Mapping[str, PairArray], classes: Classes) -> pd.DataFrame:
    """Count, mean and standard deviation of every meter, direction and head, class by class.

    Args:
        arrays: the meters' arrays.
        classes: which pairs are of which class.
    """
    tables = []
    for name, array in arrays.items():
        seen = {side: Moments.empty(*array.shape[1:]) for side in range(len(CLASSES))}
        for rows, block in array.blocks():
            for side, one in seen.items():
                mine = classes.of_pair[rows] == side
                if mine.any():
                    one.observe(block[mine])
        _, layers, heads, parts, _ = array.shape
        layer, head, row, column = (
            axis.ravel() for axis in np.indices((layers, heads, parts, parts))
        )
        names = np.array([str(part) for part in PARTS], dtype=object)
        for side, one in seen.items():
            known = one.count.ravel() > 0
            tables.append(
                pd.DataFrame(
                    {
                        "meter": name,
                        "class": CLASSES[side],
                        "direction": names[row[known]] + "->" + names[column[known]],
                        "layer": layer[known],
                        "head": head[known],
                        "count": one.count.ravel()[known],
                        "mean": one.mean.ravel()[known],
                        "sd": np.sqrt(one.variance).ravel()[known],
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def distributions(
    read: Callable[[str, Part, Part], np.ndarray],
    classes: Classes,
    heads: pd.DataFrame,
    directions: Sequence[str],
    meter: str = "mass",
) -> pd.DataFrame:
    """Histograms of a meter in the heads that tell relevant passages best, class by class.

    Args:
        read: reads [pair, layer, head] of a meter between two parts.
        classes: which pairs are of which class.
        heads: rows of :func:`matchlens.studies.matching.find`; matching heads come first.
        directions: directions, each with its own heads.
        meter: what is counted.

    Returns:
        A row for each direction, head, class and bin: direction, layer, head, class, low, high,
        count, and auc (relevant against easy, mean over queries) and ks (largest distance between
        the two distribution functions, all queries together).
    """
    rows = []
    for text in directions:
        mine = [row for row in heads.to_dict("records") if row["direction"] == text]
        mine.sort(key=lambda row: (row["matching"], row["auc"]), reverse=True)
        if not mine:
            continue
        direction = Direction.parse(text)
        assert direction.right is not None  # noqa: S101
        values = read(meter, direction.left[0], direction.right[0])
        auc = contrast_table(values, classes, "relevant-easy").set_index(["layer", "head"])["auc"]
        for layer, head in [(int(row["layer"]), int(row["head"])) for row in mine[:SHOWN]]:
            one = values[:, layer, head]
            top = float(np.nanmax(one[classes.of_pair >= 0], initial=0.0)) or 1.0
            edges = np.linspace(0.0, top, BINS + 1)
            distance = ks(one[classes.of_pair == 0], one[classes.of_pair == 2])
            for side, name in enumerate(CLASSES):
                counted = Histogram.empty(edges, 1)
                counted.observe(one[classes.of_pair == side][:, None])
                for place, count in enumerate(counted.counts[0]):
                    rows.append(
                        {
                            "direction": text,
                            "layer": layer,
                            "head": head,
                            "class": name,
                            "low": edges[place],
                            "high": edges[place + 1],
                            "count": int(count),
                            "auc": float(auc.to_dict()[layer, head]),
                            "ks": distance,
                        }
                    )
    return pd.DataFrame(rows)


def ks(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " m"]) -> float:
    """The Kolmogorov-Smirnov distance of two samples; NaN where one is empty.

    >>> ks(np.array([1.0, 2.0]), np.array([3.0]))
    1.0
    """
    from scipy.stats import ks_2samp

    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    if not (len(first) and len(second)):
        return float("nan")
    return float(ks_2samp(first, second).statistic)  # type: ignore[attr-defined]
