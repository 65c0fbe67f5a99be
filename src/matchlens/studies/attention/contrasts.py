"""How a quantity differs between classes of passages, query by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from matchlens.corpora import EASY_GRADE, Pair
from matchlens.directions import Direction
from matchlens.errors import InputError
from matchlens.meters.names import NAMES
from matchlens.parts import AnyPart
from matchlens.ranking import benjamini_hochberg
from matchlens.studies.common import half, ratio

CLASSES = ("relevant", "hard", "easy")
CONTRASTS = ("relevant-easy", "relevant-hard", "hard-easy")
EQUAL = 1e-12
"""Differences up to this are 0."""
EARLIER = (
    "they were found by an earlier definition, without its controls (passages of like length, CLS "
    "and SEP1); run the study again"
)
"""Why matching heads of a results folder of an earlier version are not used."""
MATCHING = ("Q->D", "D->Q")
"""Directions in which matching heads are searched by default."""


@dataclass(frozen=True)
class Classes:
    """Which pairs are of which class of which query."""

    # [pair] place in `CLASSES`, -1 for none (grade 1, or not taken)
    of_pair: Int[np.ndarray, " pair"]
    query: Int[np.ndarray, " pair"]  # [pair] number of the pair's query
    collections: tuple[str, ...]  # the collection of each query
    qids: tuple[str, ...]  # its id

    @classmethod
    def of(cls, pairs: Sequence[Pair], rel: int = 2) -> Classes:
        """Relevant: grade at least ``rel``; hard: grade 0; easy: random passages."""
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
        collections = tuple(collection for collection, _ in numbers)
        return cls(of_pair, query, collections, tuple(qid for _, qid in numbers))

    def only(self, pairs: Sequence[bool] | np.ndarray) -> Classes:
        """The same queries, with only these pairs in a class."""
        of_pair = np.where(np.asarray(pairs, dtype=bool), self.of_pair, -1)
        return Classes(of_pair, self.query, self.collections, self.qids)

    def check(self, contrasts: Sequence[str]) -> None:
        """Check that every contrast has pairs."""
        if not contrasts:
            raise InputError(f"no contrast given; expected one or more of {', '.join(CONTRASTS)}")
        for name in contrasts:
            first, second = sides(name)
            for side in (first, second):
                if not (self.of_pair == side).any():
                    remedy = (
                        "choose queries with relevant passages",
                        "choose passages that are judged 0",
                        "ask for random passages (easy=10, --easy 10)",
                    )[side]
                    raise InputError(
                        f"contrast {name!r} has no {CLASSES[side]} passage; expected one: {remedy}"
                        ", or take other contrasts (contrasts=[...])"
                    )
            if not len(np.intersect1d(self._queries(first), self._queries(second))):
                raise InputError(
                    f"contrast {name!r}: no query has passages of both classes; expected at "
                    "least one such query: choose more queries"
                )

    def _queries(self, side: int) -> np.ndarray:
        return self.query[self.of_pair == side]

    def rows(self) -> list[Int[np.ndarray, " pair"]]:
        """The pairs of each query, in order."""
        order = np.argsort(self.query, kind="stable")
        bounds = np.searchsorted(self.query[order], np.arange(1, len(self.qids)))
        return np.split(order, bounds)[: len(self.qids)]

    def half(self, which: int, seed: int) -> Classes:
        """The classes of one half of the queries."""
        inside = np.array([half(qid, seed) == which for qid in self.qids])
        return self.only(inside[self.query])


def sides(contrast: str) -> tuple[int, int]:
    """The two classes of a contrast.

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
    """The mean of each class of each query; NaN where there is none."""
    queries = len(classes.qids)
    inside = classes.of_pair >= 0
    cell = classes.query[inside] * len(CLASSES) + classes.of_pair[inside]
    known = ~np.isnan(values[inside])
    filled = np.where(known, values[inside], 0.0)
    total = np.zeros((queries * len(CLASSES), values.shape[1]))
    count = np.zeros(total.shape)
    np.add.at(total, cell, filled)
    np.add.at(count, cell, known)
    return ratio(total, count).reshape(queries, len(CLASSES), -1)


def pairwise(
    values: Float[np.ndarray, "pair element"],
    classes: Classes,
    contrast: str,
    lengths: Float[np.ndarray, " pair"] | None = None,
    within: float = 0.1,
) -> tuple[Float[np.ndarray, "query element"], Float[np.ndarray, "query element"]]:
    """By query the mean difference over pairs of passages, one of each class, and the AUC.

    The AUC is the chance that the passage of the first class has the higher value; ties count half.

    Returns:
        Differences and AUCs, [query, element]; NaN where a query has nothing to compare.
    """
    first, second = sides(contrast)
    apart, auc = (np.full((len(classes.qids), values.shape[1]), np.nan) for _ in range(2))
    for query, rows in enumerate(classes.rows()):
        high, low = (rows[classes.of_pair[rows] == side] for side in (first, second))
        between = values[high][:, None] - values[low][None]
        known = ~np.isnan(between)
        if lengths is not None:
            far = np.abs(lengths[high][:, None] - lengths[low][None])
            known &= (far <= within * lengths[high][:, None])[..., None]
        count = known.sum((0, 1))
        wins = (between > 0) + 0.5 * (between == 0)
        for out, values_of in ((apart, between), (auc, wins)):
            total = np.where(known, values_of, 0.0).sum((0, 1))
            out[query] = ratio(total, count)
    return apart, auc


def contrast_table(
    values: Float[np.ndarray, "pair layer head"],
    classes: Classes,
    contrast: str,
    *,
    aggregate: str = "mean",
    lengths: Float[np.ndarray, " pair"] | None = None,
    within: float = 0.1,
) -> pd.DataFrame:
    """A contrast of every head, tested over queries and corrected over the heads.

    Returns:
        A row for each head: contrast, layer, head, queries, diff (aggregated over queries), sd, p
        (two-tailed paired t-test), q (Benjamini-Hochberg over the heads), auc (mean over queries).

    Source: science 4; Figures 1b and 1c.
    """
    classes.check([contrast])
    first, second = sides(contrast)
    _, layers, heads = values.shape
    flat = values.reshape(len(values), -1)
    apart, auc = pairwise(flat, classes, contrast, lengths, within)
    if lengths is None:
        means = class_means(flat, classes)
        apart = means[:, first] - means[:, second]
    p = paired(apart)
    averages = {"mean": np.nanmean, "median": np.nanmedian}
    if aggregate not in averages:
        raise InputError(f"aggregate {aggregate!r} is not known; expected one of mean, median")
    queries = (~np.isnan(apart)).sum(0)
    return pd.DataFrame(
        {
            "contrast": contrast,
            **head_grid(layers, heads),
            "queries": queries,
            "diff": _known(averages[aggregate], apart),
            "sd": _known(partial(np.nanstd, ddof=1), apart, least=2),
            "p": p,
            "q": benjamini_hochberg(p),
            "auc": _known(np.nanmean, auc),
        }
    )


def paired(
    apart: Float[np.ndarray, "query element"], *, above: bool = False
) -> Float[np.ndarray, " element"]:
    """The p of the paired t-test of each column; all differences 0: 1; one query: NaN."""
    from scipy.special import stdtr

    known = ~np.isnan(apart)
    count = known.sum(0)
    filled = np.where(known, apart, 0.0)
    mean = filled.sum(0) / np.maximum(count, 1)
    squares = (np.where(known, filled - mean, 0.0) ** 2).sum(0)
    error = np.sqrt(squares / np.maximum(count - 1, 1) / np.maximum(count, 1))
    t = np.divide(mean, error, out=np.copysign(np.inf, mean), where=error > 0)
    freedom = np.maximum(count - 1, 1)
    p = stdtr(freedom, -t) if above else 2 * stdtr(freedom, -np.abs(t))
    none = (np.abs(filled) <= EQUAL).all(0) & (count > 0)
    return np.where(none, 1.0, np.where(count > 1, p, np.nan))


def _known(
    function: object, values: Float[np.ndarray, "query element"], least: int = 1
) -> Float[np.ndarray, " element"]:
    """A NaN-skipping function over queries; NaN without a warning where too few are known."""
    enough = (~np.isnan(values)).sum(0) >= least
    out = np.full(values.shape[1], np.nan)
    if enough.any():
        out[enough] = function(values[:, enough], axis=0)  # type: ignore[operator]
    return out


def known_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis without NaN; NaN where nothing is known."""
    known = (~np.isnan(values)).sum(0)
    return ratio(np.nansum(values, axis=0), known)


def head_grid(layers: int, heads: int) -> pd.DataFrame:
    """Columns layer and head, a row for each head."""
    layer, head = (axis.ravel() for axis in np.indices((layers, heads)))
    return pd.DataFrame({"layer": layer, "head": head})


def is_earlier(tables: Mapping[str, pd.DataFrame]) -> bool:
    """Whether an attention study's matching heads are those of an earlier definition."""
    return bool(len(tables.get("matching", ()))) and "conditions" not in tables


def shared(
    mass: Float[np.ndarray, "pair layer head"], same: Float[np.ndarray, "pair layer head"]
) -> Float[np.ndarray, " element"]:
    """The mass-weighted mean over pairs, a number for each head."""
    known = ~np.isnan(same) & ~np.isnan(mass)
    weight = np.where(known, mass, 0.0).sum(0)
    total = np.where(known, mass * same, 0.0).sum(0)
    return ratio(total, weight).ravel()


@dataclass(frozen=True)
class Thresholds:
    """What makes a head a matching head, and what of which kind.

    Args:
        q: largest corrected p, of each condition and of the kinds.
        auc: least mean AUC over queries, relevant against easy.
        length: largest difference of the lengths of passages that are compared, as a share.
        lexical: least multiple of the expected mass on columns of the reader's own stem.
        query_words: least multiple, on columns that hold a content word of the query.
        semantic: least multiple, on near words of other stems.

    >>> Thresholds().auc
    0.75
    """

    q: float = 0.05
    auc: float = 0.75
    length: float = 0.1
    lexical: float = 2.0
    query_words: float = 2.0
    semantic: float = 1.5

    def __post_init__(self) -> None:
        for name in ("q", "auc", "length"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise InputError(f"threshold {name} is {value}; expected a number from 0 to 1")
        for name in ("lexical", "query_words", "semantic"):
            if not 1 <= (value := getattr(self, name)) < float("inf"):
                raise InputError(
                    f"threshold {name} is {value}; expected a number from 1 on, the multiple of "
                    "what a head that does not care for the words would have"
                )


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """The meters' names in their own order.

    >>> checked_names(["peak", "mass"])
    ('mass', 'peak')
    """
    for name in names:
        if name not in NAMES:
            raise InputError(f"meter {name!r} is not known; expected some of {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names)


def checked_directions(texts: Sequence[str | Direction] | None) -> list[str]:
    """The directions of matching heads in their canonical text, each once."""
    parsed = [str(Direction.parse(str(text))) for text in (MATCHING if texts is None else texts)]
    if not parsed:
        raise InputError("no direction given; expected at least one, for example 'Q->D'")
    for text in parsed:
        places(text)
    return list(dict.fromkeys(parsed))


def places(text: str) -> tuple[AnyPart, AnyPart]:
    """The two parts of a direction between single parts."""
    direction = Direction.parse(text)
    if len(direction.left) != 1 or direction.right is None or len(direction.right) != 1:
        raise InputError(
            f"direction {text!r} is not between two single parts, and attention is measured "
            "between those; expected, for example, 'Q->D'"
        )
    return direction.left[0], direction.right[0]
