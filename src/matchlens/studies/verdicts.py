"""What is said of a claim, and what it rests on: verdicts with a number, an interval and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from matchlens.ranking import compare
from matchlens.results import records

HOLDS, NOT, UNDECIDED = "holds", "does not hold", "undecided"
ALPHA = 0.05
MARGIN = 0.02
"""Changes of the measure that count as none, where nothing else is said: the spread of the paper's
unstarred cells (.78 to .82) about their middle."""


@dataclass(frozen=True)
class Found:
    """What the numbers say of a claim.

    Args:
        verdict: holds, does not hold or undecided.
        found: one plain sentence made of the numbers.
        value: the claim's number.
        low: lower end of its 95% interval.
        high: upper end.
        unit: what it is measured in.
        n: how many things the interval is over.
        n_of: what they are.
        p: of its test, corrected where the claim says so.
        source: the table that it was read from.
    """

    verdict: str
    found: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    n: int | None = None
    n_of: str | None = None
    p: float | None = None
    source: str | None = None

    def row(self) -> dict[str, object]:
        """The columns of the claims' table."""
        return asdict(self)


def lacking(what: str) -> Found:
    """Nothing can be said, since something was not run or measured."""
    return Found(UNDECIDED, f"Not decided: {what}.")


MATTERS, NONE, OPEN = "matters", "none", "open"


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


def effect(row: Row, margin: float) -> str:
    """What a cut does to the measure: matters, none or open.

    ``none``: the 95% interval of the change lies inside plus or minus the margin. ``matters``: it
    does not, the measure falls, and the Holm-corrected p of the paired t-test is at most .05.
    ``open``: neither, or nothing was tested.

    Args:
        row: of a table of cuts: diff, ci_low, ci_high, p_holm.
        margin: in units of the measure.

    >>> effect({"diff": -0.1, "ci_low": -0.2, "ci_high": -0.01, "p_holm": 0.01}, 0.02)
    'matters'
    >>> effect({"diff": -0.01, "ci_low": -0.015, "ci_high": 0.0, "p_holm": 0.01}, 0.02)
    'none'
    """
    diff, low, high, p = (number(row, key) for key in ("diff", "ci_low", "ci_high", "p_holm"))
    if not np.isfinite([diff, low, high]).all() or np.isnan(p):
        return OPEN
    if -margin <= low and high <= margin:
        return NONE
    return MATTERS if diff < 0 and p <= ALPHA else OPEN


@dataclass(frozen=True)
class Mean:
    """A mean over queries, its 95% interval (bootstrap, stratified by collection) and its test."""

    value: float
    low: float
    high: float
    p: float
    n: int


def mean_of(values: Sequence[float], collections: Sequence[str], seed: int) -> Mean:
    """The mean of a number a query, tested against 0 by the two-tailed t-test.

    Args:
        values: a number a query.
        collections: the collection of each.
        seed: of the resampling.
    """
    one = np.array(values, dtype=np.float64)
    tested = compare(one[None].copy(), np.zeros(len(one)), list(collections), seed=seed)
    (test,) = records(tested)
    value, low, high, p = (number(test, key) for key in ("diff", "ci_low", "ci_high", "p"))
    return Mean(value, low, high, p, len(one))


def sign_verdict(low: float, high: float, against: float = 0.0) -> str:
    """Holds where a whole interval lies above a number, not where it lies below.

    >>> sign_verdict(0.1, 0.3), sign_verdict(-0.2, 0.1), sign_verdict(-0.2, -0.1)
    ('holds', 'undecided', 'does not hold')
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return UNDECIDED
    return HOLDS if low > against else NOT if high < against else UNDECIDED


def runs_of_none(verdicts: Sequence[str]) -> int:
    """How many layers from the bottom can be cut without effect: the length of the leading run.

    >>> runs_of_none(["none", "none", "open", "none"])
    2
    """
    length = 0
    while length < len(verdicts) and verdicts[length] == NONE:
        length += 1
    return length


@dataclass(frozen=True)
class Superiority:
    """How often a number of the one group is above one of the other: the AUC of two samples."""

    value: float
    low: float
    high: float
    p: float


def superiority(
    first: np.ndarray, second: np.ndarray, *, seed: int, resamples: int = 2000
) -> Superiority:
    """The AUC of two groups with its bootstrap interval and the Mann-Whitney test.

    Args:
        first: numbers of the one group, resampled by itself.
        second: of the other.
        seed: of the resampling.
        resamples: bootstrap samples.
    """
    from scipy.stats import mannwhitneyu

    wins = 1.0 * (first[:, None] > second[None]) + 0.5 * (first[:, None] == second[None])
    draw = np.random.default_rng(seed)
    sizes = len(first), len(second)
    drawn = [
        wins[np.ix_(*(draw.integers(0, size, size) for size in sizes))].mean()
        for _ in range(resamples)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    p = float(mannwhitneyu(first, second, alternative="two-sided").pvalue)
    return Superiority(float(wins.mean()), float(low), float(high), p)
