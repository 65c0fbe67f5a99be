"""The one loop that runs batches of pairs through a plan of cuts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from matchlens.batching import Encoded, EncodedBatch, batches, collate
from matchlens.corpora.pairs import Pair
from matchlens.directions import How
from matchlens.errors import InputError
from matchlens.meters.meter import Meter
from matchlens.meters.scores import Scores
from matchlens.models.attend import Call
from matchlens.models.band import Band
from matchlens.models.chance import Chance
from matchlens.models.grid import Grid
from matchlens.models.load import Reranker
from matchlens.models.siblings import Counts
from matchlens.models.terms import TermMeans, Terms, Watcher
from matchlens.parts import PADDING, Part
from matchlens.plan import Condition, LayerCut, Plan
from matchlens.walk import Walk

CHUNK_PAIRS = 4096
"""Pairs encoded and length-sorted together; bounds the memory that encoded text takes."""

Progress = Callable[[int, int], None]
"""Called with pairs done and pairs in all."""


@dataclass(frozen=True)
class Run:
    """What a run yields.

    Args:
        scores: relevance logits by condition and pair.
        tokens: tokens of each pair after the length limit.
        truncated: whether the pair was longer than the limit.
        plan: the plan that was run.
        batches: pairs of each batch, in the order in which they ran.
        batch_tokens: the budget that set the batches' boundaries.
        reach: whether, in a layer, a token of the row part may read one of the column part in some
            pair.
        causal: whether some layer lets tokens read only what stands before them.
        counts: what was computed where layers come apart.
        device: kind of the device that ran it; several, joined by ``+``, where workers had others.
    """

    scores: Scores
    tokens: Int[np.ndarray, " pair"]
    truncated: Bool[np.ndarray, " pair"]
    plan: Plan
    batches: tuple[int, ...]
    batch_tokens: int
    reach: Bool[np.ndarray, "layer row_part column_part"]
    causal: bool
    device: str
    counts: Counts = field(default_factory=Counts)

    def only(self, conditions: Mapping[str, Condition], model: Reranker) -> Run:
        """What a run of some of the conditions would have yielded.

        Args:
            conditions: those that are kept.
            model: the model that was run.

        Raises:
            ValueError: if one was not run.
        """
        if lacking := [name for name in conditions if name not in self.scores.conditions]:
            raise ValueError(f"the shared run has no condition {lacking[0]!r}")
        family = model.family
        plan = Plan.build(conditions, family.n_layers, family.n_heads, family.score_parts)
        values = np.stack([self.scores.of(name) for name in conditions])
        return replace(self, scores=Scores(tuple(conditions), values), plan=plan)


def run(
    model: Reranker,
    pairs: Sequence[Pair],
    conditions: Mapping[str, Condition],
    *,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    meters: Sequence[Meter] = (),
) -> Run:
    """Score pairs under every condition; conditions share the layers in which they agree.

    Args:
        model: a loaded reranker.
        pairs: queries with passages; results keep their order. They are also what ``mean`` takes
            its means over and ``resample`` its other pairs from.
        conditions: name to the cuts that hold together under it, or to one control; no cuts: the
            untouched model.
        seed: of the choice of the other pair (``resample``) and of the random edges of controls.
        batch_tokens: most places of one layer call (pairs times padded length times conditions
            side by side); the model's default where None. Changes speed and memory only.
        progress: called as pairs are done.
        meters: watch the untouched model, which must be among the conditions.

    Raises:
        InputError: if a cut does not fit the model, a pair cannot be encoded, or a score is not
            finite.
        ValueError: if there are meters and no untouched model to watch.
    """
    budget = checked_budget(model, batch_tokens)
    plan = planned(model, pairs, conditions)
    others = None
    if plan.uses(How.RESAMPLE):
        others = [pairs[number] for number in other_pairs(pairs, seed).tolist()]
    means = term_means(model, pairs, plan, budget) if plan.uses(How.MEAN) else None
    return run_part(
        model,
        pairs,
        plan,
        seed=seed,
        budget=budget,
        means=means,
        others=others,
        progress=progress,
        meters=meters,
    )


def checked_budget(model: Reranker, batch_tokens: int | None) -> int:
    """Most places of one layer call; the model's default where None.

    Raises:
        InputError: if it is below 1.
    """
    budget = model.batch_tokens if batch_tokens is None else batch_tokens
    if budget < 1:
        raise InputError(f"batch_tokens is {budget}; expected at least 1 token")
    return budget


def planned(model: Reranker, pairs: Sequence[Pair], conditions: Mapping[str, Condition]) -> Plan:
    """The conditions as a plan that the model and the pairs allow.

    Raises:
        InputError: if a cut does not fit the model, or its input.
    """
    family = model.family
    plan = Plan.build(conditions, family.n_layers, family.n_heads, family.score_parts)
    if plan.uses(How.SINK) and pairs:
        _check_sink(model, pairs, plan, _bands(model))
    return plan


def run_part(
    model: Reranker,
    pairs: Sequence[Pair],
    plan: Plan,
    *,
    seed: int,
    budget: int,
    numbers: Int[np.ndarray, " pair"] | None = None,
    means: TermMeans | None = None,
    others: Sequence[Pair] | None = None,
    progress: Progress | None = None,
    meters: Sequence[Meter] = (),
) -> Run:
    """Run some of the pairs of a run, with what the others give to them.

    Args:
        model: a loaded reranker.
        pairs: the pairs.
        plan: what :func:`planned` made.
        seed: of the random edges of controls.
        budget: most places of one layer call.
        numbers: the pairs' places in the whole run, by which meters and errors know them; 0, 1, ...
            where None.
        means: what ``mean`` puts in, over the whole run (:func:`term_means`).
        others: for each pair the other one that ``resample`` takes (:func:`other_pairs`).
        progress: called as pairs are done.
        meters: watch the untouched model.

    Raises:
        InputError: if a pair cannot be encoded, or a score is not finite.
        ValueError: if there are meters and no untouched model to watch.
    """
    family = model.family
    if meters and plan.untouched is None:
        raise ValueError("meters watch the untouched model; expected a condition without cuts")
    places = np.arange(len(pairs)) if numbers is None else numbers
    bands = _bands(model)
    reached = {band: np.zeros((PADDING, PADDING), dtype=bool) for band in bands}
    scores = Scores.empty(plan.conditions, len(pairs), model.score_dtype)
    tokens = np.zeros(len(pairs), dtype=np.int64)
    truncated = np.zeros(len(pairs), dtype=bool)
    sizes: list[int] = []
    counts = Counts()
    for start, encoded, batch in _encoded(model, pairs, budget):
        rows: np.ndarray = batch.pairs + start
        tokens[rows] = encoded.lengths[batch.pairs]
        truncated[rows] = encoded.truncated[batch.pairs]
        grid = Grid(batch.parts)
        for band in reached:
            reached[band] |= grid.reach(band)
        terms = Terms(means)
        if others is not None:
            theirs = [others[row] for row in rows.tolist()]
            _watch(model, _collate(model, theirs), plan, others=terms.others)
        walk = Walk(
            model,
            plan,
            grid,
            terms,
            max(1, budget // batch.tokens),
            partial(scores.observe, rows, places=places[rows]),
            partial(
                Chance.of,
                pairs=[pairs[row] for row in rows.tolist()],
                lengths=tokens[rows],
                firsts=batch.firsts,
                seed=seed,
                device=model.device,
            ),
            meters,
            counts,
        )
        for meter in meters:
            meter.begin(family, batch, places[rows])
        with torch.inference_mode():
            walk.descend(0, [0], family.embed(batch).unsqueeze(0))
        for meter in meters:
            meter.end()
        sizes.append(len(batch.pairs))
        if progress is not None:
            progress(sum(sizes), len(pairs))
    reach = np.stack([reached[band] for band in bands])
    causal = any(band.causal for band in bands)
    device = model.device.type
    return Run(scores, tokens, truncated, plan, tuple(sizes), budget, reach, causal, device, counts)


def _bands(model: Reranker) -> list[Band]:
    return [model.family.band(layer) for layer in range(model.family.n_layers)]


def _check_sink(model: Reranker, pairs: Sequence[Pair], plan: Plan, bands: Sequence[Band]) -> None:
    """The removed mass must have a place to go to, in every row.

    Raises:
        InputError: if it has none.
    """
    if not (model.encode(pairs[:1]).parts[0] == Part.SEP2).any():
        raise InputError(
            f"'sink' moves the removed mass to SEP2, and the input of model {model.name!r} has no "
            "SEP2 (it is a prompt); expected another how"
        )
    for layer, band in enumerate(bands):
        if plan.uses(How.SINK, layer) and not band.everything:
            raise InputError(
                f"'sink' moves the removed mass to SEP2, and in layer {layer} of model "
                f"{model.name!r} tokens read a window, in which SEP2 may not be; expected another "
                "how, or layers that read everything"
            )


def lengths(
    model: Reranker, pairs: Sequence[Pair]
) -> tuple[Int[np.ndarray, " pair"], Bool[np.ndarray, " pair"]]:
    """Tokens of each pair after the length limit, and whether it was longer; nothing is run.

    Raises:
        InputError: if a pair cannot be encoded.
    """
    tokens = np.zeros(len(pairs), dtype=np.int64)
    truncated = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), CHUNK_PAIRS):
        here = slice(start, start + CHUNK_PAIRS)
        encoded = model.encode(pairs[here])
        tokens[here], truncated[here] = encoded.lengths, encoded.truncated
    return tokens, truncated


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
                "another pair of the same query; expected two or more, or another how"
            )
        for place, number in enumerate(group):
            draw = hashlib.sha256(f"{seed}\0{qid}\0{pairs[number].docid}".encode()).digest()
            skip = 1 + int.from_bytes(draw[:8], "big") % (len(group) - 1)
            chosen[number] = group[(place + skip) % len(group)]
    return chosen


def _encoded(
    model: Reranker, pairs: Sequence[Pair], budget: int
) -> Iterator[tuple[int, Encoded, EncodedBatch]]:
    """Every batch, with the number of its chunk's first pair and the chunk."""
    for start in range(0, len(pairs), CHUNK_PAIRS):
        encoded = model.encode(pairs[start : start + CHUNK_PAIRS])
        for batch in batches(encoded, budget, pad_id=model.pad_id, device=model.device):
            yield start, encoded, batch


def _collate(model: Reranker, pairs: Sequence[Pair]) -> EncodedBatch:
    encoded = model.encode(pairs)
    return collate(encoded, np.arange(len(pairs)), pad_id=model.pad_id, device=model.device)


def term_means(model: Reranker, pairs: Sequence[Pair], plan: Plan, budget: int) -> TermMeans:
    """The means that ``mean`` puts in, by one streaming pass of the untouched model.

    Args:
        model: a loaded reranker.
        pairs: all pairs of the run, or some, to be merged with those of the others.
        plan: says in which layers some condition cuts by ``mean``.
        budget: most places of one layer call.
    """
    means = TermMeans()
    for _, _, batch in _encoded(model, pairs, budget):
        _watch(model, batch, plan, means=means)
    return means


def _watch(
    model: Reranker,
    batch: EncodedBatch,
    plan: Plan,
    *,
    means: TermMeans | None = None,
    others: dict[int, Tensor] | None = None,
) -> None:
    """Walk the untouched model and take the terms of the layers that some condition cuts."""
    family, grid = model.family, Grid(batch.parts)
    how = How.RESAMPLE if means is None else How.MEAN
    needed = [layer for layer in range(family.n_layers) if plan.uses(how, layer)]
    whole = LayerCut.of([], 0, family.n_heads, ())
    with torch.inference_mode():
        states = family.embed(batch)
        for layer in range(max(needed) + 1):
            rows = family.score_rows if layer == family.n_layers - 1 else None
            watch = Watcher(grid, layer, rows, means, others) if layer in needed else None
            states = family.layer(layer, states, Call(grid, [whole], rows, watch=watch))
