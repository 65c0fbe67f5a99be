"""What stands in for what is cut: means over a run, other pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from matchlens.batching import Encoded, EncodedBatch, batches, collate
from matchlens.corpora.pairs import Pair
from matchlens.directions import How, hows_but
from matchlens.errors import InputError
from matchlens.models.attend import Call
from matchlens.models.load import Reranker
from matchlens.models.part_layout import PartLayout
from matchlens.models.replacements import ReplacementMeans, Watcher
from matchlens.plan import LayerCut, Plan

CHUNK_PAIRS = 4096
"""Pairs encoded and length-sorted together; bounds the memory that encoded text takes."""


def other_pairs(pairs: Sequence[Pair], seed: int) -> Int[np.ndarray, " pair"]:
    """For each pair the number of another pair of the same query, chosen by a hash.

    The choice depends on the seed and the query's passages, not on the order of the pairs.

    Raises:
        InputError: if a query has one pair only.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for number in sorted(range(len(pairs)), key=lambda number: pairs[number].docid):
        groups.setdefault((pairs[number].collection, pairs[number].qid), []).append(number)
    chosen = np.zeros(len(pairs), dtype=np.int64)
    for (_, qid), group in groups.items():
        if len(group) < 2:
            raise InputError(
                f"query {qid!r} has one pair only, and 'resample' takes what it puts in from "
                "another pair of the same query; expected two or more pairs of each query, or "
                f"another how: {hows_but(How.RESAMPLE)}"
            )
        for place, number in enumerate(group):
            draw = hashlib.sha256(f"{seed}\0{qid}\0{pairs[number].docid}".encode()).digest()
            skip = 1 + int.from_bytes(draw[:8], "big") % (len(group) - 1)
            chosen[number] = group[(place + skip) % len(group)]
    return chosen


def in_batches(
    model: Reranker, pairs: Sequence[Pair], budget: int
) -> Iterator[tuple[int, Encoded, EncodedBatch]]:
    """Every batch, with the number of its chunk's first pair and the chunk."""
    for start in range(0, len(pairs), CHUNK_PAIRS):
        encoded = model.encode(pairs[start : start + CHUNK_PAIRS])
        for batch in batches(encoded, budget, pad_id=model.pad_id, device=model.device):
            yield start, encoded, batch


def collated(model: Reranker, pairs: Sequence[Pair]) -> EncodedBatch:
    """All pairs in one batch."""
    encoded = model.encode(pairs)
    return collate(encoded, np.arange(len(pairs)), pad_id=model.pad_id, device=model.device)


def term_means(model: Reranker, pairs: Sequence[Pair], plan: Plan, budget: int) -> ReplacementMeans:
    """The means that ``mean`` puts in, by one streaming pass of the untouched model.

    Args:
        model: a loaded reranker.
        pairs: all pairs of the run, or some, to be merged with those of the others.
        plan: says in which layers some condition cuts by ``mean``.
        budget: most places of one layer call.
    """
    means = ReplacementMeans()
    for _, _, batch in in_batches(model, pairs, budget):
        watch_terms(model, batch, plan, means=means)
    return means


def watch_terms(
    model: Reranker,
    batch: EncodedBatch,
    plan: Plan,
    *,
    means: ReplacementMeans | None = None,
    others: dict[int, Tensor] | None = None,
) -> None:
    """Walk the untouched model and take the terms of the layers that some condition cuts."""
    family, grid = model.family, PartLayout(batch.parts)
    how = How.RESAMPLE if means is None else How.MEAN
    needed = [layer for layer in range(family.n_layers) if plan.uses(how, layer)]
    whole = LayerCut.of([], 0, family.n_heads, ())
    with torch.inference_mode():
        states = family.embed(batch)
        for layer in range(max(needed) + 1):
            rows = family.score_rows if layer == family.n_layers - 1 else None
            watch = Watcher(grid, layer, rows, means, others) if layer in needed else None
            states = family.layer(layer, states, Call(grid, [whole], rows, watch=watch))
