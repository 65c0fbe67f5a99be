"""What is said of a claim and what it rests on: evidence, a number, an interval and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from matchlens.ranking import bootstrap_t
from matchlens.ranking.effects import Evidence, one_sided

UNTESTED = Evidence(float("nan"), float("nan"), "nothing was tested")


@dataclass(frozen=True)
class Found:
    """What the numbers say of one claim, before the correction over the claims.

    Args:
        found: one plain sentence made of the numbers.
        evidence: its tests.
        value: the claim's number.
        low: lower end of its 95% interval.
        high: upper end.
        unit: what it is measured in.
        n: how many things the tests are over.
        n_of: what they are: queries or heads.
        needed: about how many queries would decide it with 80% power, judged by this sample.
        source: the tables that it was read from.
    """

    found: str
    evidence: Evidence = field(default=UNTESTED)
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    n: int | None = None
    n_of: str | None = None
    needed: int | None = None
    source: str | None = None


def lacking(what: str) -> Found:
    """Nothing can be said, since something was not run or measured."""
    return Found(f"{what[0].upper()}{what[1:]}.", Evidence(float("nan"), float("nan"), what))


Row = Mapping[str, object]
"""A row of a table, as :func:`matchlens.results.records` gives it."""


def number(row: Row, key: str) -> float:
    """A cell as a number; NaN where nothing is known.

    >>> number({"diff": None}, "diff"), number({"diff": 0.5}, "diff")
    (nan, 0.5)
    """
    value = row[key]
    return float(value) if isinstance(value, int | float) else float("nan")


def average(rows: Sequence[Row], key: str) -> float:
    """The mean of a column.

    >>> average([{"x": 1.0}, {"x": 2.0}], "x")
    1.5
    """
    return float(np.mean([number(row, key) for row in rows]))


def known(value: float) -> float | None:
    """A number, None in place of NaN."""
    return None if np.isnan(value) else value


@dataclass(frozen=True)
class Mean:
    """A mean over queries with its 95% bootstrap-t interval, and both one-sided t-tests."""

    value: float
    low: float
    high: float
    above: float
    below: float
    n: int

    @property
    def evidence(self) -> Evidence:
        """For the claim that the mean is above 0: two-sided tests, in either direction."""
        return Evidence(min(1.0, 2 * self.above), min(1.0, 2 * self.below))


def mean_of(values: Sequence[float], collections: Sequence[str], seed: int) -> Mean:
    """The mean of one number for each query, tested against 0.

    Args:
        values: one number for each query.
        collections: the collection of each query.
        seed: of the resampling.
    """
    one = np.array(values, dtype=np.float64)
    low, high = bootstrap_t(one[None], list(collections), seed=seed)
    return Mean(
        float(one.mean()),
        float(low[0]),
        float(high[0]),
        one_sided(one, 1),
        one_sided(one, -1),
        len(one),
    )


def inside_layers(
    values: np.ndarray, marked: np.ndarray, layers: np.ndarray, *, seed: int, draws: int = 10_000
) -> tuple[float, float, float]:
    """Whether marked heads have higher values than the other heads of their own layers.

    The marks are permuted among the heads of each layer, so that what differs from layer to layer
    decides nothing.

    Args:
        values: one number for each head.
        marked: whether a head is marked.
        layers: the layer of each head.
        seed: of the permutations.
        draws: number of permutations.

    Returns:
        The mean over marked heads of the value minus the mean of its layer; p of "not above", p of
        "not below", each (b + 1) / (draws + 1).

    Source: science 5, "Figure 2".
    """
    values = values.astype(np.float64).copy()
    for layer in np.unique(layers):
        values[layers == layer] -= values[layers == layer].mean()
    seen = values[marked].mean()
    draw = np.random.default_rng([4, int(seed < 0), abs(seed)])
    total = np.zeros(draws)
    for layer in np.unique(layers):
        own = values[layers == layer]
        count = int(marked[layers == layer].sum())
        if count:
            order = draw.random((draws, len(own))).argsort(axis=1)[:, :count]
            total += own[order].sum(axis=1)
    mean = total / marked.sum()
    close = 1e-12 * np.abs(values).max()
    above = (np.count_nonzero(mean >= seen - close) + 1) / (draws + 1)
    below = (np.count_nonzero(mean <= seen + close) + 1) / (draws + 1)
    return float(seen), above, below
