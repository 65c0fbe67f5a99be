"""Attention layer by layer and class by class: no-ops, lexical matching, depths, distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from matchlens.corpora import Pair
from matchlens.corpora.collection import Draw
from matchlens.meters.arrays import PairArray
from matchlens.meters.names import PARTS
from matchlens.meters.streams import Histogram, Moments
from matchlens.parts import AnyPart, Part
from matchlens.ranking import benjamini_hochberg
from matchlens.studies.attention.contrasts import (
    CLASSES,
    Classes,
    class_means,
    head_grid,
    known_mean,
    paired,
    places,
)
from matchlens.studies.attention.watching import Reader, Values
from matchlens.studies.common import half, ratio

RELEVANT, HARD, EASY = range(3)
BINS = 40
SHOWN = 6
"""Heads of each direction whose distributions are kept."""


def taken(
    classes: Classes,
    scores: Float[np.ndarray, " pair"],
    pairs: Sequence[Pair],
    per_class: int,
    seed: int,
) -> Classes:
    """The authors' choice of pairs: classified correctly, at most so many of each class and query.

    A relevant passage is classified correctly where the logistic function of its relevance logit is
    above .5, the others where it is not.
    """
    right = np.where(classes.of_pair == 0, scores > 0, scores <= 0)
    kept = np.zeros(len(pairs), dtype=bool)
    groups: dict[tuple[int, int], list[int]] = {}
    for place in np.flatnonzero(right & (classes.of_pair >= 0)).tolist():
        key = int(classes.query[place]), int(classes.of_pair[place])
        groups.setdefault(key, []).append(place)
    for (_, side), rows in groups.items():
        draw = Draw(seed, "class", pairs[rows[0]].qid, side)
        rows.sort(key=lambda place: draw.key(pairs[place].docid))
        kept[rows[:per_class]] = True
    return classes.only(kept)


def moments(
    arrays: Mapping[str, PairArray], classes: Classes, between: Sequence[AnyPart] = PARTS
) -> pd.DataFrame:
    """Count, mean and standard deviation of every meter, direction and head, class by class."""
    tables = []
    for name, array in arrays.items():
        by_class = [Moments.empty(*array.shape[1:]) for _ in CLASSES]
        for rows, block in array.blocks():
            for side, observed in enumerate(by_class):
                inside = classes.of_pair[rows] == side
                if inside.any():
                    observed.observe(block[inside])
        _, layers, heads, parts, _ = array.shape
        layer, head, row, column = (
            axis.ravel() for axis in np.indices((layers, heads, parts, parts))
        )
        names = np.array([str(part) for part in between], dtype=object)
        for label, observed in zip(CLASSES, by_class, strict=True):
            known = observed.count.ravel() > 0
            columns = {
                "meter": name,
                "class": label,
                "direction": names[row[known]] + "->" + names[column[known]],
                "layer": layer[known],
                "head": head[known],
                "count": observed.count.ravel()[known],
                "mean": observed.mean.ravel()[known],
                "sd": np.sqrt(observed.variance).ravel()[known],
            }
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def distributions(
    read: Callable[[str, AnyPart, AnyPart], np.ndarray],
    classes: Classes,
    heads: pd.DataFrame,
    directions: Sequence[str],
) -> pd.DataFrame:
    """Histograms of the mass in the heads that separate relevant passages best, class by class.

    Returns:
        A row for each direction, head, class and bin: direction, layer, head, class, low, high,
        count, and auc (of the table of heads: half 1, passages of like length) and ks (largest
        distance between the two distribution functions, all queries together).
    """
    rows = []
    for text in directions:
        ranked = [row for row in heads.to_dict("records") if row["direction"] == text]
        ranked.sort(key=lambda row: (row["matching"], row["auc"]), reverse=True)
        if not ranked:
            continue
        values = read("mass", *places(text))
        for row in ranked[:SHOWN]:
            layer, head = int(row["layer"]), int(row["head"])
            of_head = values[:, layer, head]
            top = float(np.nanmax(of_head[classes.of_pair >= 0], initial=0.0)) or 1.0
            edges = np.linspace(0.0, top, BINS + 1)
            by_class = [of_head[classes.of_pair == side] for side in range(len(CLASSES))]
            tests = {"auc": float(row["auc"])}
            tests["ks"] = ks(by_class[RELEVANT], by_class[EASY])
            for label, sample in zip(CLASSES, by_class, strict=True):
                counted = Histogram.empty(edges, 1)
                counted.observe(sample[:, None])
                about = {"direction": text, "layer": layer, "head": head, "class": label}
                rows += [
                    {**about, "low": low, "high": high, "count": int(count), **tests}
                    for low, high, count in zip(edges, edges[1:], counted.counts[0], strict=False)
                ]
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


DRAWS = 1000
"""Permutations of relevance within queries."""


def layer_depths(
    reader: Reader, classes: Classes, directions: Sequence[str], seed: int, draws: int = DRAWS
) -> pd.DataFrame:
    """The depths of same-stem and other matching, against relevance shuffled within queries.

    Each head's difference of mass, relevant minus easy passages (means of a query, then over
    queries), is split into the mass on words of the reader's own stem and the rest. The positive
    differences are summed by layer; the depth is the point at which half of their sum is reached.
    Without relevance the depths differ, too: more heads of upper layers differ by chance, and the
    two kinds have different sizes. So the null is the same statistic with the labels relevant and
    easy shuffled within each query.

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
    columns = ["direction", "queries", "lexical", "semantic", "later", "null", "p_later"]
    return pd.DataFrame(rows, columns=pd.Index([*columns, "p_earlier", "negative"]))


def depth(sums: Float[np.ndarray, "draw layer"]) -> Float[np.ndarray, " draw"]:
    """The depth in the layers at which half of a sum over layers is reached.

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
    return (layer + ratio(middle - before, here))[:, 0]


def _shuffled(
    classes: Classes, seed: int, draws: int
) -> tuple[list[Int[np.ndarray, " pair"]], list[Float[np.ndarray, "draw pair"]], int]:
    """Weights of the pairs in the mean difference relevant - easy: observed, then shuffled."""
    draw = np.random.default_rng([5, int(seed < 0), abs(seed)])
    taken = (classes.of_pair == RELEVANT) | (classes.of_pair == EASY)
    pairs, weights = [], []
    for rows in classes.rows():
        own = rows[taken[rows]]
        relevant = classes.of_pair[own] == RELEVANT
        high, low = int(relevant.sum()), int((~relevant).sum())
        if not (high and low):
            continue
        observed = np.where(relevant, 1 / high, -1 / low)
        shuffled = draw.permuted(np.tile(observed, (draws, 1)), axis=1)
        pairs.append(own)
        weights.append(np.vstack([observed, shuffled]))
    return pairs, [weight / len(pairs) for weight in weights], len(pairs)


def negatives(
    reader: Reader, classes: Classes, matching: pd.DataFrame, directions: Sequence[str], seed: int
) -> pd.DataFrame:
    """Semantic mass of hard and of easy negatives, for each query.

    Over all heads, which is what is tested; and, described beside it, over the semantic matching
    heads, on the half of the queries that selected neither them nor their kinds.

    Args:
        matching: the heads, with the kinds that they have on the other half.

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
            inside = matching["direction"].to_numpy() == direction
            semantic = matching["kind"].str.contains("semantic").to_numpy(dtype=bool)
            kept = matching[inside & semantic]
            chosen[(kept["layer"] * heads + kept["head"]).to_numpy(dtype=np.int64)] = True
        sets = [(False, np.ones(layers * heads, dtype=bool))]
        sets += [(True, chosen)] if chosen.any() else []
        for selected, over in sets:
            for query, qid in enumerate(classes.qids):
                hard, easy = (means[query, side][over] for side in (HARD, EASY))
                if np.isnan(hard).all() or np.isnan(easy).all():
                    continue
                if selected and not half(qid, seed):  # it took part in the selection
                    continue
                about = (direction, selected, int(over.sum()), classes.collections[query], qid)
                high, low = float(np.nanmean(hard)), float(np.nanmean(easy))
                rows.append((*about, high, low, high - low))
    columns = ["direction", "selected", "heads", "collection", "qid", "hard", "easy", "more"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


SINKS = (Part.CLS, Part.SEP1, Part.SEP2)
READERS = (Part.Q, Part.D)
SINK = 0.5
"""A head of which the special tokens get at least this share is a sink."""


def noop(
    mass: Mapping[tuple[Part, Part], Values], norm: Mapping[tuple[Part, Part], Values] | None
) -> pd.DataFrame:
    """The shares of what Q and D read that come from CLS, SEP1 and SEP2, by mass and by norm.

    Returns:
        A row for each head: layer, head; then for each special part its mass (mean over the pairs,
        Q's and D's rows weighted alike) and norm_share (share of the norm mass), their sums
        mass_special and norm_special, sink (mass_special >= .5), and noop (sink, and
        norm_special < .5: it attends where nothing is written). Shares are of what is read from
        the five parts; that of a part that the input does not have is NaN, and so are all where Q
        and D read nothing (an encoder-decoder's decoder).

    Source: science 4, "No-op"; Kobayashi et al. 2020.
    """
    table = head_grid(*next(iter(mass.values())).shape[1:])
    shares = {"mass": mass} if norm is None else {"mass": mass, "norm": norm}
    for name, values in shares.items():
        total = {x: sum(np.nan_to_num(values[x, y]) for y in PARTS) for x in READERS}
        special = np.zeros(len(table))
        for part in SINKS:
            each = [known_mean(ratio(values[x, part], np.asarray(total[x]))) for x in READERS]
            share = known_mean(np.stack(each)).ravel()
            table[f"{name}_{part}"] = share
            special = special + np.nan_to_num(share)  # NaN: the input has no such part
        reads = sum(np.sum(each, axis=0) for each in total.values())
        table[f"{name}_special"] = np.where(np.ravel(reads) > 0, special, np.nan)
    table["sink"] = table["mass_special"] >= SINK
    table["noop"] = table["sink"] & (table["norm_special"] < SINK) if norm is not None else pd.NA
    return table


def lexical(
    mass: Mapping[tuple[Part, Part], Values],
    same: Mapping[tuple[Part, Part], Values],
    classes: Classes,
) -> pd.DataFrame:
    """The same-stem share by layer and class of passages.

    Returns:
        One row for each direction, class and layer: same_stem (mass-weighted over pairs and
        heads), low and high (quartiles over heads), mass (mean over pairs and heads).
    """
    rows = []
    for (x, y), share in same.items():
        weight = mass[x, y]
        for side, name in enumerate(CLASSES):
            inside = classes.of_pair == side
            if not inside.any():
                continue
            known = ~np.isnan(share[inside])
            by_head = np.where(known, weight[inside], 0.0).sum(0)
            lexical_mass = np.where(known, weight[inside] * share[inside], 0.0).sum(0)
            each = ratio(lexical_mass, by_head)
            total = by_head.sum(1)
            for layer in range(share.shape[1]):
                rows.append(
                    {
                        "direction": f"{x}->{y}",
                        "class": name,
                        "layer": layer,
                        "same_stem": float(lexical_mass[layer].sum() / total[layer])
                        if total[layer] > 0
                        else np.nan,
                        "low": _quantile(each[layer], 25),
                        "high": _quantile(each[layer], 75),
                        "mass": float(np.nanmean(weight[inside][:, layer])),
                    }
                )
    return pd.DataFrame(rows)


def kinds(
    values: Mapping[str, Values],
    pair_kinds: Sequence[str],
    grades: Sequence[int],
    classes: Classes,
) -> pd.DataFrame:
    """Exact words against paraphrases of the same grade, by construction of the collection.

    Per query and grade the difference of the two kinds' means, meant over the grades.

    Returns:
        A row for each quantity and head: quantity, layer, head, queries, diff (first kind minus
        second), p (paired t-test over queries), q (Benjamini-Hochberg over the heads); empty where
        the collection has no such kinds.
    """
    pair_of = ("exact", "paraphrase")
    kind, grade = np.array(pair_kinds, dtype=object), np.array(grades)
    if not all((kind == name).any() for name in pair_of):
        return pd.DataFrame()
    tables = []
    for quantity, masses in values.items():
        flat = masses.reshape(len(masses), -1)
        apart = np.full((len(classes.qids), flat.shape[1]), np.nan)
        for query in range(len(classes.qids)):
            inside = classes.query == query
            by_grade = []
            for each in np.unique(grade[inside]):
                sides = [flat[inside & (grade == each) & (kind == name)] for name in pair_of]
                if all(len(side) for side in sides):
                    first, second = (known_mean(side) for side in sides)
                    by_grade.append(first - second)
            if by_grade:
                apart[query] = known_mean(np.stack(by_grade))
        table = head_grid(*masses.shape[1:])
        table.insert(0, "quantity", quantity)
        table["queries"] = (~np.isnan(apart)).sum(0)
        table["diff"] = known_mean(apart)
        table["p"] = paired(apart)
        table["q"] = benjamini_hochberg(table["p"].to_numpy())
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _quantile(values: np.ndarray, percent: int) -> float:
    """A percentile without NaN; NaN where nothing is known."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, percent)) if len(known) else float("nan")
