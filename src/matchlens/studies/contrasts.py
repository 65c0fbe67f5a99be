"""How a quantity differs between classes of passages, query by query, and its tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from matchlens.corpora import EASY_GRADE, Pair
from matchlens.errors import InputError
from matchlens.ranking import benjamini_hochberg

CLASSES = ("relevant", "hard", "easy")
CONTRASTS = ("relevant-easy", "relevant-hard", "hard-easy")
EQUAL = 1e-12
"""Differences up to this are none."""


@dataclass(frozen=True)
class Classes:
    """Which pairs are of which class of which query.

    Args:
        of_pair: [pair] place in :data:`CLASSES`, -1 for none (grade 1, or not taken).
        query: [pair] number of the pair's query.
        collections: the collection of each query.
        qids: its id.
    """

    of_pair: Int[np.ndarray, " pair"]
    query: Int[np.ndarray, " pair"]
    collections: tuple[str, ...]
    qids: tuple[str, ...]

    @classmethod
    def of(cls, pairs: Sequence[Pair], rel: int = 2) -> Classes:
        """Relevant: grade at least ``rel``; hard: grade 0; easy: random passages.

        Args:
            pairs: queries with passages.
            rel: lowest relevant grade; what lies between 0 and it is in no class.
        """
        numbers: dict[tuple[str, str], int] = {}
        query = np.zeros(len(pairs), dtype=np.int64)
        of_pair = np.full(len(pairs), -1, dtype=np.int64)
        for place, pair in enumerate(pairs):
            query[place] = numbers.setdefault((pair.collection, pair.qid), len(numbers))
            if pair.grade >= rel:
                of_pair[place] = 0
            elif pair.grade == 0:
                of_pair[place] = 1
            elif pair.grade == EASY_GRADE:
                of_pair[place] = 2
        return cls(
            of_pair,
            query,
            tuple(collection for collection, _ in numbers),
            tuple(qid for _, qid in numbers),
        )

    def only(self, pairs: Sequence[bool] | np.ndarray) -> Classes:
        """The same queries, with only these pairs in a class."""
        of_pair = np.where(np.asarray(pairs, dtype=bool), self.of_pair, -1)
        return Classes(of_pair, self.query, self.collections, self.qids)

    def check(self, contrasts: Sequence[str]) -> None:
        """See that every contrast has pairs.

        Raises:
            InputError: if one is not known, or has an empty class, or no query has both.
        """
        if not contrasts:
            raise InputError(f"no contrast given; expected one or more of {', '.join(CONTRASTS)}")
        for name in contrasts:
            first, second = sides(name)
            for side in (first, second):
                if not (self.of_pair == side).any():
                    remedy = {
                        0: "expected one: choose queries with relevant passages",
                        1: "expected one: choose passages that are judged 0",
                        2: "expected one: ask for random passages (easy=10, --easy 10)",
                    }[side]
                    raise InputError(f"contrast {name!r} has no {CLASSES[side]} passage; {remedy}")
            if not len(np.intersect1d(self._queries(first), self._queries(second))):
                raise InputError(
                    f"contrast {name!r}: no query has passages of both classes; expected at "
                    "least one such query: choose more queries"
                )

    def _queries(self, side: int) -> np.ndarray:
        return self.query[self.of_pair == side]


def sides(contrast: str) -> tuple[int, int]:
    """The two classes of a contrast.

    Raises:
        InputError: if it is not known.

    >>> sides("relevant-easy")
    (0, 2)
    """
    if contrast not in CONTRASTS:
        raise InputError(
            f"contrast {contrast!r} is not known; expected one of {', '.join(CONTRASTS)}"
        )
    first, _, second = contrast.partition("-")
    return CLASSES.index(first), CLASSES.index(second)


def class_means(
    values: Float[np.ndarray, "pair element"], classes: Classes
) -> Float[np.ndarray, "query class element"]:
    """The mean of each class of each query; NaN where there is none.

    Args:
        values: [pair, element]; NaN is left out.
        classes: which pairs are of which class.
    """
    queries = len(classes.qids)
    inside = classes.of_pair >= 0
    cell = classes.query[inside] * len(CLASSES) + classes.of_pair[inside]
    known = ~np.isnan(values[inside])
    filled = np.where(known, values[inside], 0.0)
    total = np.zeros((queries * len(CLASSES), values.shape[1]))
    count = np.zeros(total.shape)
    np.add.at(total, cell, filled)
    np.add.at(count, cell, known)
    means = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return means.reshape(queries, len(CLASSES), -1)


def query_aucs(
    values: Float[np.ndarray, "pair element"], classes: Classes, contrast: str
) -> Float[np.ndarray, "query element"]:
    """By query the chance that a passage of the first class has the higher value; ties count half.

    Args:
        values: [pair, element].
        classes: which pairs are of which class.
        contrast: which classes.

    Returns:
        [query, element]; NaN where the query lacks a class.
    """
    first, second = sides(contrast)
    out = np.full((len(classes.qids), values.shape[1]), np.nan)
    order = np.argsort(classes.query, kind="stable")
    bounds = np.searchsorted(classes.query[order], np.arange(len(classes.qids) + 1))
    for query in range(len(classes.qids)):
        rows = order[bounds[query] : bounds[query + 1]]
        high = values[rows[classes.of_pair[rows] == first]]
        low = values[rows[classes.of_pair[rows] == second]]
        if not (len(high) and len(low)):
            continue
        apart = high[:, None] - low[None]
        known = ~np.isnan(apart)
        wins = (apart > 0) + 0.5 * (apart == 0)
        pairs = known.sum((0, 1))
        total = np.where(known, wins, 0.0).sum((0, 1))
        out[query] = np.divide(total, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return out


def contrast_table(
    values: Float[np.ndarray, "pair layer head"],
    classes: Classes,
    contrast: str,
    *,
    aggregate: str = "mean",
) -> pd.DataFrame:
    """A contrast of every head, tested over queries and corrected over the heads.

    Args:
        values: [pair, layer, head].
        classes: which pairs are of which class.
        contrast: which classes.
        aggregate: ``mean`` or ``median`` over the queries' differences.

    Returns:
        A row a head: contrast, layer, head, queries, diff (aggregated over queries), sd, p
        (two-tailed paired t-test), q (Benjamini-Hochberg over the heads), auc (mean over queries).

    Raises:
        InputError: if the contrast is not known or has an empty class.

    Source: science 4; Figures 1b and 1c.
    """
    classes.check([contrast])
    first, second = sides(contrast)
    _, layers, heads = values.shape
    flat = values.reshape(len(values), -1)
    means = class_means(flat, classes)
    apart = means[:, first] - means[:, second]
    auc = query_aucs(flat, classes, contrast)
    p = paired(apart)
    middle = {"mean": np.nanmean, "median": np.nanmedian}
    if aggregate not in middle:
        raise InputError(f"aggregate {aggregate!r} is not known; expected one of mean, median")
    queries = (~np.isnan(apart)).sum(0)
    return pd.DataFrame(
        {
            "contrast": contrast,
            "layer": np.repeat(np.arange(layers), heads),
            "head": np.tile(np.arange(heads), layers),
            "queries": queries,
            "diff": _known(middle[aggregate], apart),
            "sd": _known(lambda one, axis: np.nanstd(one, axis=axis, ddof=1), apart, least=2),
            "p": p,
            "q": benjamini_hochberg(p),
            "auc": _known(np.nanmean, auc),
        }
    )


def paired(apart: Float[np.ndarray, "query element"]) -> Float[np.ndarray, " element"]:
    """Two-tailed p of the paired t-test of each column; all differences 0: 1; one query: NaN.

    Args:
        apart: [query, element] differences; NaN is left out.
    """
    from scipy.special import stdtr

    known = ~np.isnan(apart)
    count = known.sum(0)
    filled = np.where(known, apart, 0.0)
    mean = filled.sum(0) / np.maximum(count, 1)
    squares = (np.where(known, filled - mean, 0.0) ** 2).sum(0)
    error = np.sqrt(squares / np.maximum(count - 1, 1) / np.maximum(count, 1))
    t = np.divide(np.abs(mean), error, out=np.full(len(mean), np.inf), where=error > 0)
    p = 2 * stdtr(np.maximum(count - 1, 1), -t)
    none = (np.abs(filled) <= EQUAL).all(0) & (count > 0)
    return np.where(none, 1.0, np.where(count > 1, p, np.nan))


def _known(
    function: object, values: Float[np.ndarray, "query element"], least: int = 1
) -> Float[np.ndarray, " element"]:
    """A NaN-skipping function over queries, NaN without a warning where too few are known."""
    enough = (~np.isnan(values)).sum(0) >= least
    out = np.full(values.shape[1], np.nan)
    if enough.any():
        out[enough] = function(values[:, enough], axis=0)  # type: ignore[operator]
    return out


def by_half(halves: Mapping[str, int], classes: Classes, which: int) -> Classes:
    """The classes of one half of the queries.

    Args:
        halves: query id to half.
        classes: of all.
        which: 0 or 1.
    """
    mine = np.array([halves[qid] == which for qid in classes.qids])
    return classes.only(mine[classes.query])


def shared(
    mass: Float[np.ndarray, "pair layer head"], same: Float[np.ndarray, "pair layer head"]
) -> Float[np.ndarray, " element"]:
    """The mass-weighted mean over pairs, a number a head."""
    known = ~np.isnan(same) & ~np.isnan(mass)
    weight = np.where(known, mass, 0.0).sum(0)
    total = np.where(known, mass * same, 0.0).sum(0)
    share = np.divide(total, weight, out=np.full(weight.shape, np.nan), where=weight > 0)
    return share.ravel()
