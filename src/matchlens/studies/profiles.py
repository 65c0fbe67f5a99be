"""What attention does layer by layer: no-ops, and lexical against semantic matching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.meters.attention import PARTS
from matchlens.parts import Part
from matchlens.ranking import benjamini_hochberg
from matchlens.studies.contrasts import CLASSES, Classes, paired

SINKS = (Part.CLS, Part.SEP1, Part.SEP2)
READERS = (Part.Q, Part.D)
SINK = 0.5
"""A head of which the special tokens get at least this share is a sink."""
Values = Float[np.ndarray, "pair layer head"]


def noop(
    mass: Mapping[tuple[Part, Part], Values], norm: Mapping[tuple[Part, Part], Values] | None
) -> pd.DataFrame:
    """How much of what Q and D read is read from CLS, SEP1 and SEP2, by mass and by norm.

    Args:
        mass: by (row part, column part), [pair, layer, head].
        norm: likewise norm mass; None where it was not measured.

    Returns:
        A row for each head: layer, head; then for each special part its mass (mean over the pairs,
        Q's and D's rows weighted alike) and norm_share (share of the norm mass), their sums
        mass_special and norm_special, sink (mass_special >= .5), and noop (sink, and
        norm_special < .5: it looks where nothing is written). Shares are of what is read from the
        five parts, a part that the input does not have is NaN.

    Source: science 4, "No-op"; Kobayashi et al. 2020.
    """
    table = _heads(next(iter(mass.values())))
    shares = {"mass": mass} if norm is None else {"mass": mass, "norm": norm}
    for name, values in shares.items():
        total = {x: sum(np.nan_to_num(values[x, y]) for y in PARTS) for x in READERS}
        special = np.zeros(len(table))
        for part in SINKS:
            each = [
                np.divide(
                    values[x, part],
                    total[x],
                    out=np.full(values[x, part].shape, np.nan),
                    where=np.asarray(total[x]) > 0,
                )
                for x in READERS
            ]
            share = _mean(np.stack([_mean(one) for one in each])).ravel()
            table[f"{name}_{part}"] = share
            special = special + np.nan_to_num(share)  # NaN: the input has no such part
        table[f"{name}_special"] = special
    table["sink"] = table["mass_special"] >= SINK
    table["noop"] = table["sink"] & (table["norm_special"] < SINK) if norm is not None else pd.NA
    return table


def lexical(
    mass: Mapping[tuple[Part, Part], Values],
    same: Mapping[tuple[Part, Part], Values],
    classes: Classes,
) -> pd.DataFrame:
    """The same-stem share by layer and class of passages.

    Args:
        mass: by (row part, column part) among Q and D.
        same: likewise the same-stem share.
        classes: relevant, hard and easy pairs.

    Returns:
        One row for each direction, class and layer: same_stem (mass-weighted over pairs and
        heads), low and high (quartiles over heads), mass (mean over pairs and heads).
    """
    rows = []
    for (x, y), share in same.items():
        weight = mass[x, y]
        for side, name in enumerate(CLASSES):
            mine = classes.of_pair == side
            if not mine.any():
                continue
            known = ~np.isnan(share[mine])
            by_head = np.where(known, weight[mine], 0.0).sum(0)
            lexical_mass = np.where(known, weight[mine] * share[mine], 0.0).sum(0)
            each = np.divide(
                lexical_mass, by_head, out=np.full(by_head.shape, np.nan), where=by_head > 0
            )
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
                        "mass": float(np.nanmean(weight[mine][:, layer])),
                    }
                )
    return pd.DataFrame(rows)


def kinds(
    values: Mapping[str, Values],
    pair_kinds: Sequence[str],
    grades: Sequence[int],
    classes: Classes,
    pair_of: tuple[str, str] = ("exact", "paraphrase"),
) -> pd.DataFrame:
    """Exact words against paraphrases of the same grade, by construction of the collection.

    Per query and grade the difference of the two kinds' means, meant over the grades.

    Args:
        values: quantity to [pair, layer, head].
        pair_kinds: the kind of each pair.
        grades: its grade.
        classes: tells the queries.
        pair_of: the two kinds.

    Returns:
        A row for each quantity and head: quantity, layer, head, queries, diff (first kind minus
        second), p (paired t-test over queries), q (Benjamini-Hochberg over the heads); empty where
        the collection has no such kinds.
    """
    kind, grade = np.array(pair_kinds, dtype=object), np.array(grades)
    if not all((kind == one).any() for one in pair_of):
        return pd.DataFrame()
    tables = []
    for quantity, one in values.items():
        flat = one.reshape(len(one), -1)
        apart = np.full((len(classes.qids), flat.shape[1]), np.nan)
        for query in range(len(classes.qids)):
            mine = classes.query == query
            found = []
            for each in np.unique(grade[mine]):
                sides = [flat[mine & (grade == each) & (kind == name)] for name in pair_of]
                if all(len(side) for side in sides):
                    first, second = (_mean(side) for side in sides)
                    found.append(first - second)
            if found:
                apart[query] = _mean(np.stack(found))
        table = _heads(one)
        table.insert(0, "quantity", quantity)
        table["queries"] = (~np.isnan(apart)).sum(0)
        table["diff"] = _mean(apart)
        table["p"] = paired(apart)
        table["q"] = benjamini_hochberg(table["p"].to_numpy())
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the first axis, NaN left out, NaN where nothing is known."""
    known = (~np.isnan(values)).sum(0)
    total = np.nansum(values, axis=0)
    return np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0)


def _quantile(values: np.ndarray, percent: int) -> float:
    """Of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, percent)) if len(known) else float("nan")


def _heads(values: Values) -> pd.DataFrame:
    _, layers, heads = values.shape
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), heads),
            "head": np.tile(np.arange(heads), layers),
        }
    )
