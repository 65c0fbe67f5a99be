"""Mean states: the mean input of each layer over query tokens and over document tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from matchlens.errors import InputError
from matchlens.parts import Part


@dataclass(frozen=True, eq=False)
class Means:
    """The mean states q_l and d_l.

    Args:
        query: [layer, d].
        document: [layer, d].
        queries: number of queries behind them.
        names: what each of these is known by.
        apart: [query, side, layer, d], each query's own means, of its query and document tokens.

    >>> means = Means(np.zeros((12, 384)), np.ones((12, 384)), 56, (), np.zeros((56, 2, 12, 384)))
    >>> means.query.shape, means.queries
    ((12, 384), 56)
    """

    query: Float[np.ndarray, "layer d"]
    document: Float[np.ndarray, "layer d"]
    queries: int
    names: tuple[Hashable, ...]
    apart: Float[np.ndarray, "query side layer d"]


@dataclass
class MeanStates:
    """Streams states into the means of the science page: each level weighted equally.

    The mean over the tokens of a pair, then over the pairs of a query's grade class, then over
    the query's classes (those that it has), then over queries. Memory: one sum and one count for
    each query, class and layer, however many pairs there are.

    Args:
        n_layers: number of layers.
        width: d.
        query_parts: parts whose tokens are the query's.
        document_parts: parts whose tokens are the document's; the `authors` preset adds SEP2.

    Reference: the science page, section 5; its section 8 for the presets.

    >>> meter = MeanStates(n_layers=1, width=1)
    >>> states, parts = torch.tensor([[[1.0], [2.0], [4.0]]]), torch.tensor([[1, 3, 3]])
    >>> meter.observe(0, ["q1"], ["relevant"], states, parts)
    >>> meter.observe(0, ["q1"], ["easy"], states + 1, parts)
    >>> meter.result().query, meter.result().document
    (array([[1.5]]), array([[3.5]]))
    """

    n_layers: int
    width: int
    query_parts: tuple[Part, ...] = (Part.Q,)
    document_parts: tuple[Part, ...] = (Part.D,)
    _sums: dict[tuple[Hashable, str], np.ndarray] = field(default_factory=dict, repr=False)
    _counts: dict[tuple[Hashable, str], np.ndarray] = field(default_factory=dict, repr=False)

    def observe(
        self,
        layer: int,
        queries: Sequence[Hashable],
        classes: Sequence[str | None],
        states: Float[Tensor, "pair token d"],
        parts: Int[Tensor, "pair token"],
    ) -> None:
        """Take the inputs of one layer for a batch of pairs.

        Args:
            layer: number of the layer, from 0.
            queries: for each pair what its query is known by, such as (collection, qid).
            classes: for each pair its grade class (relevant, hard, easy), None where it is in none
                and is passed over.
            states: [pair, token, d], the layer's input.
            parts: [pair, token], part numbers; padding is in no part.

        Raises:
            InputError: if a pair lacks query or document tokens, or lengths differ.
        """
        if not len(queries) == len(classes) == len(states):
            raise InputError(
                f"{len(queries)} queries, {len(classes)} classes and {len(states)} states came; "
                "expected one of each for every pair"
            )
        sides = (self.query_parts, self.document_parts)
        means = torch.stack([part_means(states, parts, side) for side in sides], 1).cpu().numpy()
        for query, kind, mean in zip(queries, classes, means, strict=True):
            if kind is None:
                continue
            key = (query, kind)
            if key not in self._sums:
                self._sums[key] = np.zeros((self.n_layers, 2, self.width))
                self._counts[key] = np.zeros(self.n_layers, dtype=np.int64)
            self._sums[key][layer] += mean
            self._counts[key][layer] += 1

    @property
    def sums(
        self,
    ) -> tuple[
        list[tuple[Hashable, str]],
        Float[np.ndarray, "key layer side d"],
        Int[np.ndarray, "key layer"],
    ]:
        """What was summed: (query, class), the sums of each layer and side, and their counts."""
        keys = list(self._sums)
        sums = np.array(list(self._sums.values())).reshape(-1, self.n_layers, 2, self.width)
        counts = np.array(list(self._counts.values()), dtype=np.int64).reshape(-1, self.n_layers)
        return keys, sums, counts

    def add(
        self,
        keys: Sequence[tuple[Hashable, str]],
        sums: Float[np.ndarray, "key layer side d"],
        counts: Int[np.ndarray, "key layer"],
    ) -> None:
        """Take the :attr:`sums` of other pairs.

        Args:
            keys: (query, class).
            sums: of each layer and side (query, document).
            counts: how many pairs each layer has observed.
        """
        for key, total, count in zip(keys, sums, counts, strict=True):
            self._sums[key] = self._sums.get(key, 0) + total
            self._counts[key] = self._counts.get(key, 0) + count

    def result(self) -> Means:
        """The means over the queries observed so far.

        Raises:
            InputError: if no pair has been observed, or a state is not finite.
            InputError: if a layer has observed other pairs than layer 0.
        """
        classes: dict[Hashable, list[np.ndarray]] = {}
        for key in sorted(self._sums, key=repr):  # the order of arrival must not round otherwise
            query, counts = key[0], self._counts[key]
            if (counts != counts[0]).any() or not counts[0]:
                raise InputError(
                    f"query {query!r} has {counts.tolist()} pairs by layer; expected the same "
                    "number in every layer: observe each layer of every pair"
                )
            classes.setdefault(query, []).append(self._sums[key] / counts[:, None, None])
        if not classes:
            raise InputError(
                "no pair is left to take mean states over; expected at least one pair whose "
                "class is relevant, hard or easy: give more queries"
            )
        apart = np.stack([sum(means) / len(means) for means in classes.values()])
        total = sum(apart, np.zeros(apart.shape[1:])) / len(apart)
        if not np.isfinite(total).all():
            raise InputError(
                "a state of the model is NaN or infinite; expected finite states: load the model "
                "with dtype float32"
            )
        return Means(
            total[:, 0], total[:, 1], len(classes), tuple(classes), apart.transpose(0, 2, 1, 3)
        )


def in_parts(parts: Int[Tensor, "pair token"], chosen: Sequence[Part]) -> Tensor:
    """Where a token is in one of the parts: [pair, token], boolean."""
    inside = torch.zeros_like(parts, dtype=torch.bool)
    for part in chosen:
        inside |= parts == int(part)
    return inside


def part_means(
    states: Float[Tensor, "pair token d"], parts: Int[Tensor, "pair token"], chosen: Sequence[Part]
) -> Float[Tensor, "pair d"]:
    """The mean state of each pair over the tokens of some parts, in float64."""
    inside = in_parts(parts, chosen)
    counts = inside.sum(1, keepdim=True)
    if not bool((counts > 0).all()):
        names = ", ".join(map(str, chosen))
        raise InputError(
            f"a pair has no token in {names}; expected at least one: leave out empty texts"
        )
    kept = states.double().masked_fill(~inside[..., None], 0)  # what padding holds never matters
    return kept.sum(1) / counts
