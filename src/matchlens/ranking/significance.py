"""Conditions against the original, per query: tests, corrections, intervals."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from matchlens.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

EQUAL = 1e-12  # differences up to this, relative to values above 1, are rounding
EXACT = 14  # queries up to which all sign patterns are tried
BLOCK = 1 << 22  # numbers in memory at a time
FLAT = 0.05  # share of resamples without variance up to which there is an interval
TINY = 1e-12  # a variance below this times the largest square is rounding


def compare(
    values: Float[np.ndarray, "c q"],
    original: Float[np.ndarray, " q"],
    collections: Sequence[str],
    *,
    seed: int = 0,
    alpha: float = 0.05,
    resamples: int = 10_000,
) -> pd.DataFrame:
    """Test every condition's mean difference from the original over queries.

    A row for each condition, in the order of `values`:

    - `n` queries; `mean` of the condition, of the `original`, and of their difference, `diff`;
    - `p`, two-tailed paired t-test; `p_flip`, two-tailed sign-flip randomisation of the mean
      difference, over all sign patterns up to 14 queries, else over `resamples` seeded ones with
      the estimate (b + 1) / (resamples + 1); `p_holm` and `p_flip_holm`, corrected over the rows;
    - `p_unpaired`, two-tailed Student t-test of two samples of equal variance, uncorrected;
    - `ci_low`, `ci_high`: 95% bootstrap-t interval of the mean difference over queries, stratified
      by collection (:func:`bootstrap_t`);
    - `significant`: `p_holm <= alpha`; `significant_paper`: `p_unpaired <= alpha`.

    Differences within rounding (1e-12) are taken for 0, and where all of a row are, every p is 1.
    Where all differences of a row are the same and not 0, their variance is 0, t is infinite and
    p is 0, which `p_flip` does not follow. One query has no variance: p and p_unpaired are NaN,
    are not corrected for and never significant. The interval is NaN where more than 5% of the
    resamples have no variance.

    Args:
        values: `[condition, query]`, the measure under each condition.
        original: `[query]`, the measure of the untouched model.
        collections: the collection of each query.
        seed: of the sign patterns and of the bootstrap.
        alpha: level of the two columns of stars.
        resamples: sign patterns (above 14 queries) and bootstrap samples to draw.

    Returns:
        A data frame with a row for each condition.

    Raises:
        InputError: there is no query, or an option is out of range.
        ValueError: lengths differ, or a value is NaN or infinite.

    Source: Smucker, Allan & Carterette 2007; Holm 1979;
    Efron & Tibshirani 1993.

    >>> import numpy as np
    >>> original = np.array([0.9, 0.8, 0.7, 0.9])
    >>> values = np.stack([original, original - [0.2, 0.1, 0.2, 0.3]])
    >>> compare(values, original, ["dl19"] * 4)[["diff", "p", "p_flip", "significant"]].round(3)
       diff      p  p_flip  significant
    0   0.0  1.000   1.000        False
    1  -0.2  0.016   0.125         True
    """
    import pandas as pd

    queries = len(original)
    if values.shape[1] != queries or len(collections) != queries:
        raise ValueError(
            f"values are of {values.shape[1]} queries, the original of {queries}, collections of "
            f"{len(collections)}; expected one number of each a query"
        )
    if not queries:
        raise InputError(
            "no query is left to compare; expected at least one query with a relevant candidate"
        )
    if not (0 < alpha < 1 and resamples >= 1):
        raise InputError(
            f"alpha is {alpha}, resamples {resamples}; expected alpha between 0 and 1, e.g. 0.05, "
            "and at least 1 resample, e.g. 10000"
        )
    if not (np.isfinite(values).all() and np.isfinite(original).all()):
        raise ValueError("a value to compare is NaN or infinite; expected a number for each query")

    values, original = values.astype(np.float64), original.astype(np.float64)
    differences = values - original
    scale = np.maximum(np.maximum(np.abs(values), np.abs(original)), 1)
    differences[np.abs(differences) <= EQUAL * scale] = 0
    equal = np.count_nonzero(differences, axis=1) == 0
    mean = differences.mean(axis=1)

    p = p_unpaired = np.where(equal, 1.0, np.nan)
    if queries > 1:
        error = differences.std(axis=1, ddof=1) / np.sqrt(queries)
        p = _two_tailed(mean, error, queries - 1, equal)
        pooled = (values.var(axis=1, ddof=1) + original.var(ddof=1)) / 2
        p_unpaired = _two_tailed(mean, np.sqrt(pooled * 2 / queries), 2 * queries - 2, equal)
    p_flip = sign_flip(differences, seed=seed, resamples=resamples)
    p_holm, p_flip_holm = holm(p), holm(p_flip)
    low, high = bootstrap_t(differences, collections, seed=seed, resamples=resamples)
    return pd.DataFrame(
        {
            "n": np.full(len(values), queries),
            "mean": values.mean(axis=1),
            "original": np.full(len(values), original.mean()),
            "diff": mean,
            "p": p,
            "p_holm": p_holm,
            "q": benjamini_hochberg(p),
            "p_flip": p_flip,
            "p_flip_holm": p_flip_holm,
            "p_unpaired": p_unpaired,
            "ci_low": low,
            "ci_high": high,
            "significant": p_holm <= alpha,
            "significant_paper": p_unpaired <= alpha,
        }
    )


def holm(p: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
    """Holm's step-down correction; NaN stays NaN and counts as no test.

    Args:
        p: `[c]`, probabilities of the tests of one family.

    Source: Holm 1979.

    >>> import numpy as np
    >>> holm(np.array([0.03, np.nan, 0.01, 0.04])).round(3)
    array([0.06,  nan, 0.03, 0.06])
    """
    return _corrected(p, "holm")


def benjamini_hochberg(p: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
    """Benjamini and Hochberg's corrected p (q, false discovery rate); NaN counts as no test.

    Args:
        p: `[c]`, probabilities of the tests of one family.

    Source: Benjamini and Hochberg 1995.

    >>> import numpy as np
    >>> benjamini_hochberg(np.array([0.03, np.nan, 0.01, 0.04])).round(3)
    array([0.04,  nan, 0.03, 0.04])
    """
    return _corrected(p, "fdr_bh")


def _corrected(p: Float[np.ndarray, " c"], method: str) -> Float[np.ndarray, " c"]:
    from statsmodels.stats.multitest import multipletests

    corrected = np.full(len(p), np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        gc.freeze()  # the library collects garbage at every call: a walk over all that is loaded
        try:
            corrected[tested] = multipletests(p[tested], method=method)[1]
        finally:
            gc.unfreeze()
    return corrected


def sign_flip(
    differences: Float[np.ndarray, "c q"], *, seed: int = 0, resamples: int = 10_000
) -> Float[np.ndarray, " c"]:
    """Two-tailed randomisation test of the mean difference: the sign of each query is free.

    All `2**q` sign patterns up to 14 queries, which makes p exact; else `resamples` seeded ones,
    with the estimate (b + 1) / (resamples + 1). All conditions share the patterns.

    Args:
        differences: `[condition, query]`.
        seed: of the patterns.
        resamples: number of patterns above 14 queries.

    Returns:
        `[c]`, probabilities.

    Source: Smucker, Allan & Carterette 2007; Phipson & Smyth 2010 (the estimate).

    >>> import numpy as np
    >>> sign_flip(np.array([[0.1, 0.2, 0.3], [0.1, -0.2, 0.3]]))
    array([0.25, 0.75])
    """
    conditions, queries = differences.shape
    observed = np.abs(differences.sum(axis=1)) - EQUAL * np.abs(differences).sum(axis=1)
    beyond = np.zeros(conditions, dtype=np.int64)
    step = max(1, BLOCK // max(conditions, queries))
    for signs in _signs(queries, seed, resamples, step):
        beyond += np.count_nonzero(np.abs(signs @ differences.T) >= observed, axis=0)
    return beyond / 2**queries if queries <= EXACT else (beyond + 1) / (resamples + 1)


def _signs(
    queries: int, seed: int, resamples: int, step: int
) -> Iterator[Float[np.ndarray, "s q"]]:
    """Sign patterns, +1 or -1 a query, in blocks of `step`."""
    generator = np.random.default_rng([0, *words(seed)])
    total = 2**queries if queries <= EXACT else resamples
    for start in range(0, total, step):
        size = min(step, total - start)
        if queries <= EXACT:
            bits = (np.arange(start, start + size)[:, None] >> np.arange(queries)) & 1
        else:  # a double a sign, so that the patterns do not depend on the size of the blocks
            bits = generator.random((size, queries)) < 0.5
        yield np.where(bits, 1.0, -1.0)


def _two_tailed(
    mean: Float[np.ndarray, " c"],
    error: Float[np.ndarray, " c"],
    freedom: int,
    equal: Bool[np.ndarray, " c"],
) -> Float[np.ndarray, " c"]:
    """P of |t| at least |mean / error|: 0 where the error is 0, 1 where all are equal."""
    from scipy.special import stdtr

    error = np.where(error <= EQUAL * np.abs(mean), 0, error)
    t = np.divide(np.abs(mean), error, out=np.full(len(mean), np.inf), where=error > 0)
    return np.where(equal, 1.0, 2 * stdtr(freedom, -t))


def bootstrap_t(
    values: Float[np.ndarray, "c q"],
    collections: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """95% intervals of the mean over queries of several quantities that share the queries.

    Each resample draws as many queries of every collection as there are, and yields
    `t* = (mean* - mean) / error*`; the interval is `mean - error * quantiles of t*`. Unlike the
    percentile bootstrap and the t interval it follows the skew of the queries' differences: its
    simulated coverage is in the documentation. A resample that draws one query again and again has
    no variance and no t*. Where more than 5% of the resamples have none, there is no interval.

    Args:
        values: `[c, q]`, one row for each quantity, one number for each query.
        collections: the collection of each query; queries are resampled inside it.
        seed: of the resampling; all rows share the resamples.
        resamples: number of resamples.

    Returns:
        Lower and upper ends, `[c]`; NaN where there is no interval.

    Source: Efron & Tibshirani 1993, chapter 12.
    """
    conditions, queries = values.shape
    _, stratum = np.unique(np.array(collections), return_inverse=True)
    members = [np.flatnonzero(stratum == number) for number in range(int(stratum.max()) + 1)]
    shares = [len(at) / queries for at in members]
    varying = [len(at) > 1 for at in members]
    mean = values.mean(axis=1)
    centred = (values - mean[:, None]).T
    largest = np.square(centred).max(axis=0)

    def spread(sums: np.ndarray, squares: np.ndarray, size: int, share: float) -> np.ndarray:
        """The part of the mean's variance that one collection adds."""
        return share**2 * np.maximum(squares - sums**2 / size, 0) / (size - 1) / size

    low, high = np.full((2, conditions), np.nan)
    if not any(varying):
        return low, high
    variance = np.zeros(conditions)
    for at, share, varies in zip(members, shares, varying, strict=True):
        if varies:
            own = centred[at]
            variance += spread(own.sum(0), np.square(own).sum(0), len(at), share)
    error = np.sqrt(variance)
    step = max(1, BLOCK // max(queries, 1))
    width = max(1, BLOCK // resamples)
    for left in range(0, conditions, width):
        here = slice(left, left + width)
        block = centred[:, here]
        block_squares = np.square(block)
        t = np.empty((resamples, block.shape[1]))
        draws = [np.random.default_rng([1, place, *words(seed)]) for place in range(len(members))]
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            moved, drawn = np.zeros((2, size, block.shape[1]))
            for at, share, varies, draw in zip(members, shares, varying, draws, strict=True):
                times = draw.multinomial(len(at), np.full(len(at), 1 / len(at)), size)
                sums = times @ block[at]
                moved += sums / queries
                if varies:
                    drawn += spread(sums, times @ block_squares[at], len(at), share)
            flat = drawn <= TINY * largest[here]
            t[start : start + size] = np.where(
                flat, np.nan, moved / np.sqrt(np.where(flat, 1.0, drawn))
            )
        known = np.isnan(t).mean(axis=0) <= FLAT
        if known.any():
            ends = np.nanpercentile(t[:, known], [2.5, 97.5], axis=0)
            places = np.flatnonzero(known) + left
            low[places] = mean[places] - error[places] * ends[1]
            high[places] = mean[places] - error[places] * ends[0]
    return low, high


def words(seed: int) -> list[int]:
    """A seed of either sign in the form that numpy's generators take."""
    return [int(seed < 0), abs(seed)]
