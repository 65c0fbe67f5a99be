"""Whether two quantities of the heads go together: Spearman, permutations inside layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from matchlens.errors import InputError

BLOCK = 1 << 20  # numbers in memory at a time
EQUAL = 1e-12  # differences of correlations up to this are rounding


@dataclass(frozen=True)
class Association:
    """Spearman's correlation of two quantities over heads.

    Args:
        rho: the correlation, in [-1, 1]; NaN where a quantity is the same for all heads.
        p: two-sided probability of one at least as far from `by_layer` under permutations inside
            layers; NaN with rho.
        by_layer: mean of rho under those permutations: what the layers' levels alone give.
        low: 2.5% point of the bootstrap over heads, drawn inside layers; NaN where no layer has
            two heads.
        high: 97.5% point.
        heads: number of heads.

    >>> result = spearman(np.eye(3), -np.eye(3))
    >>> type(result).__name__, result.heads, round(result.rho, 6)
    ('Association', 9, -1.0)
    """

    rho: float
    p: float
    by_layer: float
    low: float
    high: float
    heads: int


def spearman(
    x: Float[np.ndarray, "layer head"],
    y: Float[np.ndarray, "layer head"],
    *,
    seed: int = 0,
    permutations: int = 9999,
    resamples: int = 2000,
) -> Association:
    """Spearman's correlation over all heads, tested by permutations inside layers.

    Heads of one layer are exchanged, so that a trend over layers which both follow is no evidence:
    it stays in the mean of the permutations, `E`, which is known exactly. Two-sided:
    `p = (1 + b) / (1 + n)`, b the permutations with `|rho' - E| >= |rho - E|`. The interval is the
    percentile bootstrap over heads, drawn inside each layer, ranks taken anew.

    Args:
        x: [layer, head], a quantity.
        y: [layer, head], another.
        seed: of permutations and resamples.
        permutations: number of permutations.
        resamples: number of bootstrap samples.

    Raises:
        InputError: if shapes differ, a value is NaN or infinite, there are fewer than three heads,
            or an option is out of range.

    Reference: the science page, section 5; Phipson & Smyth 2010 (the estimate of p).

    >>> x = np.arange(24.0).reshape(2, 12)
    >>> result = spearman(x, x**3)
    >>> result.rho, result.p, round(result.by_layer, 2)
    (1.0, 0.0001, 0.75)
    """
    _check(x, y, permutations, resamples)
    ranks_x, ranks_y = _ranks(x.reshape(1, -1))[0], _ranks(y.reshape(1, -1))[0]
    ranks_x, ranks_y = ranks_x - ranks_x.mean(), ranks_y - ranks_y.mean()
    scale = float(np.sqrt((ranks_x**2).sum() * (ranks_y**2).sum()))
    if scale == 0:
        nan = float("nan")
        return Association(nan, nan, nan, nan, nan, x.size)
    rho = float(ranks_x @ ranks_y) / scale
    a, b = ranks_x.reshape(x.shape), ranks_y.reshape(x.shape)
    centre = float((a.mean(1) * b.mean(1)).sum() * x.shape[1]) / scale
    far = abs(rho - centre) - EQUAL
    generator = np.random.default_rng([0, int(seed < 0), abs(seed)])
    beyond = 0
    for count in _blocks(permutations, x.size):
        drawn = generator.permuted(np.broadcast_to(b, (count, *b.shape)), axis=2)
        permuted = drawn.reshape(count, -1) @ ranks_x / scale
        beyond += int(np.count_nonzero(np.abs(permuted - centre) >= far))
    p = (1 + beyond) / (1 + permutations)
    return Association(rho, p, centre, *_interval(x, y, seed, resamples), x.size)


def _check(x: np.ndarray, y: np.ndarray, permutations: int, resamples: int) -> None:
    if x.shape != y.shape:
        raise InputError(
            f"one quantity has shape {x.shape} (layer, head), the other {y.shape}; expected "
            f"{x.shape} for both: take the two from models of one shape"
        )
    if x.size < 3:
        raise InputError(f"there are {x.size} heads to correlate over; expected at least 3")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(
            "a head's quantity is NaN or infinite; expected a number for every head: leave out "
            "the layers with such heads (a head whose weights are 0 is one)"
        )
    if permutations < 1 or resamples < 1:
        raise InputError(
            f"permutations is {permutations}, resamples {resamples}; expected at least 1 of each, "
            "for example 9999 and 2000"
        )


def _interval(x: np.ndarray, y: np.ndarray, seed: int, resamples: int) -> tuple[float, float]:
    """95% percentile interval, heads drawn with replacement inside their layers."""
    layers, heads = x.shape
    if heads < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng([1, int(seed < 0), abs(seed)])
    rows = np.arange(layers)[:, None]
    resampled = []
    for count in _blocks(resamples, x.size):
        drawn: Int[np.ndarray, "s layer head"] = generator.integers(0, heads, (count, *x.shape))
        resampled.append(
            spearman_of_rows(*(values[rows, drawn].reshape(count, -1) for values in (x, y)))
        )
    low, high = np.nanpercentile(np.concatenate(resampled), [2.5, 97.5])
    return float(low), float(high)


def spearman_of_rows(
    x: Float[np.ndarray, "sample head"], y: Float[np.ndarray, "sample head"]
) -> Float[np.ndarray, " sample"]:
    """Spearman's correlation of each row; NaN where a quantity is the same for all heads.

    Args:
        x: one quantity, `[sample, head]`.
        y: another one, of the same shape.

    Returns:
        `[sample]`.

    >>> x, y = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), np.array([[2.0, 4.0, 9.0]] * 2)
    >>> spearman_of_rows(x, y)
    array([ 1., nan])
    """
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.full(len(a), np.nan), where=scale > 0)


def _ranks(values: Float[np.ndarray, "s n"]) -> Float[np.ndarray, "s n"]:
    """Ranks of each row, ties their mean rank."""
    from scipy.stats import rankdata

    return rankdata(values, axis=1)


def _blocks(total: int, size: int) -> Iterator[int]:
    step = max(1, BLOCK // size)
    for start in range(0, total, step):
        yield min(step, total - start)
