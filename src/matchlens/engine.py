"""The one loop that runs batches of pairs through a plan of cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from matchlens.corpora.pairs import Pair
from matchlens.directions import How
from matchlens.errors import InputError
from matchlens.meters.meter import Meter, gauge_of
from matchlens.meters.scores import Scores
from matchlens.models.attend import Call, Grid
from matchlens.models.band import Band
from matchlens.models.chance import Chance
from matchlens.models.load import Reranker
from matchlens.models.terms import TermMeans, Terms
from matchlens.parts import PADDING, Part
from matchlens.plan import Condition, Plan
from matchlens.standins import (
    CHUNK_PAIRS,
    _collate,
    _encoded,
    _watch,
    other_pairs,
    term_means,
)

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
        walk = _Walk(
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
    return Run(scores, tokens, truncated, plan, tuple(sizes), budget, reach, causal, device)


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


@dataclass(frozen=True)
class _Walk:
    """One batch on its way through the plan's tree, depth first.

    Nodes go through a layer side by side as far as the budget allows.
    """

    model: Reranker
    plan: Plan
    grid: Grid
    terms: Terms
    width: int
    observe: Callable[[Sequence[str], np.ndarray], None]
    chance: Callable[..., Chance]
    meters: Sequence[Meter] = ()

    def descend(self, level: int, parents: Sequence[int], states: Tensor) -> None:
        """Run the children of ``parents``, whose outcomes are ``states``, and all below them."""
        family = self.model.family
        last = level == len(self.plan.levels) - 1
        steps = [
            (slot, child)
            for slot, parent in enumerate(parents)
            for child in self.plan.children[level][parent]
        ]
        for group in self._groups(level, steps):
            nodes = [self.plan.levels[level][child] for _, child in group]
            cuts = [node.cut for node in nodes]
            if self._watched(level, group[0][1]):
                for meter in self.meters:
                    meter.states(level, states[group[0][0]])
                rows = family.score_rows if last else None
                call = Call(self.grid, cuts, rows, gauge=gauge_of(self.meters, level))
            elif cuts[0].control is None:
                added = self.terms.added(level, cuts, states.shape[1])
                call = Call(self.grid, cuts, family.score_rows if last else None, added=added)
            else:  # random edges lie in all rows, so that all are computed in the last layer, too
                call = Call(self.grid, cuts, chance=self.chance(cuts, layer=level))
            out = family.layer(level, _stack(states, [slot for slot, _ in group]), call)
            if last and call.rows is None:
                out = out[:, family.score_rows]
            if not last:
                below = out.unflatten(0, (len(group), -1))
                self.descend(level + 1, [child for _, child in group], below)
                continue
            parts = self.grid.row_parts(family.score_rows).repeat(len(group), 1)
            logits = family.score(out, parts).unflatten(0, (len(group), -1)).cpu().numpy()
            for node, values in zip(nodes, logits, strict=True):
                self.observe(node.conditions, -values if self.model.negate else values)

    def _groups(self, level: int, steps: Sequence[tuple[int, int]]) -> Iterator[list]:
        """Steps that go side by side: as many as the budget allows, controls apart.

        The untouched model goes alone where meters watch it.
        """
        nodes = self.plan.levels[level]
        watched = [step for step in steps if self._watched(level, step[1])]
        if watched:
            yield watched
        for controlled in (False, True):
            alike = [
                step
                for step in steps
                if (nodes[step[1]].cut.control is None) != controlled and step not in watched
            ]
            for start in range(0, len(alike), self.width):
                yield alike[start : start + self.width]

    def _watched(self, level: int, node: int) -> bool:
        path = self.plan.untouched
        return bool(self.meters) and path is not None and path[level] == node


def _stack(states: Tensor, slots: list[int]) -> Tensor:
    """The states of the given parents, one below the other; no copy where they are all there."""
    if slots == list(range(len(states))):
        return states.flatten(0, 1)
    if len(set(slots)) == 1:
        one = states[slots[0]]
        return one if len(slots) == 1 else one.repeat(len(slots), 1, 1)
    return states[slots].flatten(0, 1)
