"""Means, variances and histograms that stream: what is kept when pairs are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass
class Moments:
    """Count, mean and variance of arrays of one shape; NaN is left out, element by element.

    Args:
        count: number of values.
        mean: their mean; 0 where there is none.
        squares: sum of squared differences from the mean.

    Source: Chan, Golub & LeVeque 1983 (merging).

    >>> one = Moments.empty(2)
    >>> one.observe(np.array([[1.0, 2.0], [3.0, np.nan]]))
    >>> one.count.tolist(), one.mean.tolist(), one.variance.tolist()
    ([2, 1], [2.0, 2.0], [2.0, nan])
    """

    count: Int[np.ndarray, "..."]
    mean: Float[np.ndarray, "..."]
    squares: Float[np.ndarray, "..."]

    @classmethod
    def empty(cls, *shape: int) -> Moments:
        """No value yet."""
        return cls(np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape))

    def observe(self, values: Float[np.ndarray, "n ..."]) -> None:
        """Take some arrays, the first axis over them."""
        known = ~np.isnan(values)
        count = known.sum(0)
        filled = np.where(known, values, 0.0).astype(np.float64)
        mean = filled.sum(0) / np.maximum(count, 1)
        squares = (np.where(known, filled - mean, 0.0) ** 2).sum(0)
        merged = self.merge(Moments(count, mean, squares))
        self.count, self.mean, self.squares = merged.count, merged.mean, merged.squares

    def merge(self, other: Moments) -> Moments:
        """The moments of the values of both."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        apart = other.mean - self.mean
        mean = self.mean + apart * share
        squares = self.squares + other.squares + apart**2 * self.count * share
        return Moments(count, mean, squares)

    @property
    def variance(self) -> Float[np.ndarray, "..."]:
        """The sample variance; NaN below two values."""
        nothing = np.full(self.mean.shape, np.nan)
        return np.divide(self.squares, self.count - 1, out=nothing, where=self.count > 1)


@dataclass
class Histogram:
    """Counts of arrays' values in bins, element by element; NaN is left out.

    Args:
        edges: [bin + 1] bounds; the last bin holds its upper bound, and what lies outside goes to
            the first or last bin.
        counts: [..., bin].

    >>> one = Histogram.empty(np.array([0.0, 0.5, 1.0]), 1)
    >>> one.observe(np.array([[0.1], [0.5], [1.0], [np.nan]]))
    >>> one.counts.tolist()
    [[1, 2]]
    """

    edges: Float[np.ndarray, " edge"]
    counts: Int[np.ndarray, "... bin"]

    @classmethod
    def empty(cls, edges: Float[np.ndarray, " edge"], *shape: int) -> Histogram:
        """No value yet."""
        return cls(edges, np.zeros((*shape, len(edges) - 1), dtype=np.int64))

    def observe(self, values: Float[np.ndarray, "n ..."]) -> None:
        """Take some arrays, the first axis over them."""
        bins = len(self.edges) - 1
        elements = self.counts[..., 0].size  # an empty class has no length to reshape by
        flat = values.reshape(len(values), elements)
        place = np.clip(np.searchsorted(self.edges, flat, side="right") - 1, 0, bins - 1)
        element = np.broadcast_to(np.arange(elements), flat.shape)
        known = ~np.isnan(flat)
        added = np.bincount(element[known] * bins + place[known], minlength=elements * bins)
        self.counts = self.counts + added.reshape(self.counts.shape)
