"""The arithmetic of one shard: its batches go through the plan of cuts, watched by meters.

Each batch walks down the plan's tree layer by layer, depth first, so that only the states of one
branch are in memory, however many conditions there are.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.batching import Encoded, EncodedBatch, batches, collate
from matchlens.corpora.pair import Pair
from matchlens.directions import How, hows_but
from matchlens.errors import InputError
from matchlens.meters.meter import Meter, probe_of
from matchlens.meters.scores import Scores
from matchlens.models.attend import Call, part_terms
from matchlens.models.family import Family
from matchlens.models.load import Reranker
from matchlens.models.part_layout import LayerMask, PartLayout
from matchlens.models.random_edges import TAKEN, RandomEdges
from matchlens.models.replacements import ReplacementMeans, Replacements
from matchlens.models.shared_layer import Counts, SharedLayer, sparse
from matchlens.parts import PADDING, Part
from matchlens.plan import Condition, Control, LayerCut, Node, Plan, bound
from matchlens.signals import check_cancelled

Progress = Callable[[int, int], None]
"""Called with pairs done and pairs in all."""
NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""What errors of memory say that have no type of their own, in small letters."""
CHUNK_PAIRS = 4096
"""Pairs encoded at once; bounds the memory that the tokenizer's record of them takes."""


@dataclass(frozen=True)
class Run:
    """What a run yields.

    Args:
        scores: relevance logits by condition and pair.
        tokens: tokens of each pair after the length limit.
        truncated: whether the pair was longer than the limit.
        batches: pairs of each batch, in the order in which they ran.
        batch_tokens: the budget of the batches, in tokens; the smallest where memory ran out.
        reach: whether, in a layer, a token of the row part may read one of the column part in some
            pair.
        causal: whether some layer lets tokens read only what stands before them.
        device: kind of the device that ran it; several, joined by ``+``, where workers had others.
        taken: what each control took in all layers and heads, as ``random_edges.TAKEN`` names it.
        own: by name of an own part, the number of pairs that have a token of it.
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
    taken: Float[np.ndarray, "control pair amount"]
    counts: Counts = field(default_factory=Counts)
    own: Mapping[str, int] = field(default_factory=dict)

    def only(self, conditions: Mapping[str, Condition], model: Reranker) -> Run:
        """What a run of some of the conditions would have yielded."""
        if lacking := [name for name in conditions if name not in self.scores.conditions]:
            raise ValueError(f"the shared run has no condition {lacking[0]!r}")
        own = {part.name: part.of for part in self.plan.own if part.of is not None}
        plan = plan_of(model, bound(conditions, own))
        values = np.stack([self.scores.of(name) for name in conditions])
        taken = self.taken[[self.plan.controls.index(name) for name in plan.controls]]
        return replace(self, scores=Scores(tuple(conditions), values), plan=plan, taken=taken)


@dataclass(frozen=True, eq=False)
class Shard:
    """The pairs of one shard; ``numbers`` are their places in the run.

    ``others`` has for each pair the one that ``resample`` takes; tokens that are known come along.
    """

    number: int
    numbers: Int[np.ndarray, " pair"]
    pairs: Sequence[Pair]
    longest: int
    others: Sequence[Pair] | None = None
    encoded: Encoded | None = None
    others_encoded: Encoded | None = None


def checked_budget(model: Reranker, batch_tokens: int | None) -> int:
    """Most places of one layer call; the model's default where None."""
    budget = model.batch_tokens if batch_tokens is None else batch_tokens
    if budget < 1:
        raise InputError(f"batch_tokens is {budget}; expected at least 1 token, for example 4096")
    return budget


def plan_of(model: Reranker, conditions: Mapping[str, Condition]) -> Plan:
    """The conditions as a tree of the model's layers."""
    family = model.family
    for condition in conditions.values():
        for cut in condition:
            plain = cut.cut if isinstance(cut, Control) else cut
            name = f"model {model.name!r}"
            plain.check(family.n_layers, family.n_heads, name, decoder=model.decodes)
    return Plan.build(conditions, family.n_layers, family.n_heads, family.score_parts)


def planned(model: Reranker, pairs: Sequence[Pair], conditions: Mapping[str, Condition]) -> Plan:
    """The conditions as a plan that the model and the pairs allow."""
    plan = plan_of(model, conditions)
    if plan.uses(How.SINK) and pairs:
        _check_sink(model, pairs, plan)
    return plan


def run_shard(
    model: Reranker,
    plan: Plan,
    shard: Shard,
    *,
    seed: int,
    budget: int,
    means: ReplacementMeans | None = None,
    progress: Progress | None = None,
    meters: Sequence[Meter] = (),
) -> Run:
    """Score the pairs of a shard under every condition; conditions share the layers they agree in.

    Args:
        plan: what :func:`planned` made.
        budget: most places of one layer call (pairs times padded length times conditions side by
            side). Changes speed and memory only.
        means: what ``mean`` puts in, over the whole run (:func:`term_means`).
        meters: watch the untouched model, which must be among the conditions.
    """
    if meters and plan.untouched is None:
        raise ValueError("meters watch the untouched model; expected a condition without cuts")
    family, count = model.family, len(shard.pairs)
    encoded, others = shard.encoded or model.encode(shard.pairs), shard.others_encoded
    if others is None and shard.others is not None:
        others = model.encode(shard.others)
    masks = _layer_masks(model)
    reached = {mask: np.zeros((PADDING, PADDING), dtype=bool) for mask in masks}
    scores = Scores.empty(plan.conditions, count, model.score_dtype)
    taken = np.zeros((len(plan.controls), count, len(TAKEN)))
    sizes: list[int] = []
    counts = Counts()
    for batch in batches_of(model, encoded, budget):
        layout = PartLayout.of(batch, plan.own)
        for mask in reached:
            reached[mask] |= layout.reach(mask)
        replacements = Replacements(means)
        if others is not None:
            taken_from = collate(others, batch.pairs, pad_id=model.pad_id, device=model.device)
            _watch_terms(model, taken_from, plan, others=replacements.others)
        pairs = [shard.pairs[row] for row in batch.pairs.tolist()]
        record = BatchRecord(plan, batch, pairs, seed, scores, taken)
        width = max(1, budget // batch.tokens)
        walk = Walk(model, plan, layout, replacements, width, record, meters, counts)
        for meter in meters:
            meter.begin(family, batch, shard.numbers[batch.pairs])
        with torch.inference_mode(), full_precision(model.device), _without_cudnn():
            walk.descend(0, [0], family.embed(batch).unsqueeze(0))
        for meter in meters:
            meter.end()
        sizes.append(len(batch.pairs))
        if progress is not None:
            progress(sum(sizes), count)
    return Run(
        scores,
        encoded.lengths,
        encoded.truncated,
        plan,
        tuple(sizes),
        budget,
        np.stack([reached[mask] for mask in masks]),
        any(mask.causal for mask in masks),
        model.device.type,
        taken,
        counts,
    )


def full_precision(device: torch.device) -> torch.autocast:
    """Leave a caller's autocast: the model's own type is what a manifest records."""
    return torch.autocast(device.type, enabled=False)


@contextmanager
def _without_cudnn() -> Iterator[None]:
    """Keep cuDNN's attention off meanwhile: it plans every new shape of a batch anew."""
    # The switch belongs to the process, which may be somebody else's: it is put back.
    cuda = torch.backends.cuda
    before = cuda.cudnn_sdp_enabled()
    cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(before)


def _layer_masks(model: Reranker) -> list[LayerMask]:
    return [model.family.band(layer) for layer in range(model.family.n_layers)]


def _check_sink(model: Reranker, pairs: Sequence[Pair], plan: Plan) -> None:
    """The removed mass must have a place to go to, in every row."""
    remedy = f"expected another how: {hows_but(How.SINK)}"
    if not (model.encode(pairs[:1]).parts[0] == Part.SEP2).any():
        raise InputError(
            f"'sink' moves the removed mass to SEP2, and the input of model {model.name!r} has no "
            f"SEP2 (it is a prompt); {remedy}"
        )
    masks = _layer_masks(model)
    for layer, mask in enumerate(masks):
        if plan.uses(How.SINK, layer) and not mask.everything:
            open_layers = ",".join(str(at) for at, each in enumerate(masks) if each.everything)
            raise InputError(
                f"'sink' moves the removed mass to SEP2, and in layer {layer} of model "
                f"{model.name!r} not every token may read SEP2; {remedy}"
                + (f"; or a cut in other layers: '@{open_layers}'" if open_layers else "")
            )


# --- tokens


def encode_all(model: Reranker, pairs: Sequence[Pair]) -> Iterator[tuple[slice, Encoded]]:
    """The pairs' tokens, chunk by chunk, each with its place among the pairs."""
    for start in range(0, len(pairs), CHUNK_PAIRS):
        chunk = slice(start, start + CHUNK_PAIRS)
        yield chunk, model.encode(pairs[chunk])


def lengths(
    model: Reranker, pairs: Sequence[Pair]
) -> tuple[Int[np.ndarray, " pair"], Bool[np.ndarray, " pair"]]:
    """Tokens of each pair after the length limit, and whether it was longer; nothing is run."""
    tokens = np.zeros(len(pairs), dtype=np.int64)
    truncated = np.zeros(len(pairs), dtype=bool)
    for chunk, encoded in encode_all(model, pairs):
        tokens[chunk], truncated[chunk] = encoded.lengths, encoded.truncated
    return tokens, truncated


def free_memory() -> None:
    """Give back what a failed batch took."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), (
    ...     out_of_memory(RuntimeError("shapes differ")))
    (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)


def batches_of(model: Reranker, encoded: Encoded, budget: int) -> Iterator[EncodedBatch]:
    """The batches of a run, on the model's device, as they take the least time there."""
    overhead, pad_id = model.batch_overhead, model.pad_id
    return batches(encoded, budget, overhead=overhead, pad_id=pad_id, device=model.device)


def collated(model: Reranker, pairs: Sequence[Pair]) -> EncodedBatch:
    """All pairs in one batch."""
    encoded = model.encode(pairs)
    return collate(encoded, np.arange(len(pairs)), pad_id=model.pad_id, device=model.device)


# --- what stands in for removed terms


def other_pairs(pairs: Sequence[Pair], seed: int) -> Int[np.ndarray, " pair"]:
    """For each pair the number of another pair of the same query, chosen by a hash.

    The choice depends on the seed and the query's passages, not on the order of the pairs.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for number in sorted(range(len(pairs)), key=lambda number: pairs[number].docid):
        groups.setdefault((pairs[number].collection, pairs[number].qid), []).append(number)
    chosen = np.zeros(len(pairs), dtype=np.int64)
    for (_, qid), group in groups.items():
        if len(group) < 2:
            raise InputError(
                f"query {qid!r} ({pairs[group[0]].query!r:.60}) has one pair only, and 'resample' "
                "takes what it puts in from another pair of the same query; expected two or more "
                f"pairs of each query, or another how: {hows_but(How.RESAMPLE)}"
            )
        for place, number in enumerate(group):
            draw = hashlib.sha256(f"{seed}\0{qid}\0{pairs[number].docid}".encode()).digest()
            skip = 1 + int.from_bytes(draw[:8], "big") % (len(group) - 1)
            chosen[number] = group[(place + skip) % len(group)]
    return chosen


def term_means(model: Reranker, plan: Plan, shard: Shard, budget: int) -> ReplacementMeans:
    """The means over a shard that ``mean`` puts in, by one pass of the untouched model."""
    means, encoded = ReplacementMeans(), shard.encoded or model.encode(shard.pairs)
    for batch in batches_of(model, encoded, budget):
        _watch_terms(model, batch, plan, means=means)
    return means


def _watch_terms(
    model: Reranker,
    batch: EncodedBatch,
    plan: Plan,
    *,
    means: ReplacementMeans | None = None,
    others: dict[int, Tensor] | None = None,
) -> None:
    """Walk the untouched model and take the terms of the layers that some condition cuts."""
    family, layout = model.family, PartLayout.of(batch, plan.own)
    how = How.RESAMPLE if means is None else How.MEAN
    needed = [layer for layer in range(family.n_layers) if plan.uses(how, layer)]
    uncut = LayerCut.of([], 0, family.n_heads, ())

    def take(layer: int, rows: slice | None, weights: Tensor, value: Tensor) -> None:
        members = layout.members(rows, weights.dtype)
        terms = part_terms(weights, value, members, layout)
        if means is not None:
            means.observe(layer, members, terms)
        if others is not None:
            others[layer] = terms

    with torch.inference_mode(), full_precision(model.device):
        states = family.embed(batch)
        for layer in range(max(needed) + 1):  # nothing is needed of the layers above
            rows = family.score_rows if layer == family.n_layers - 1 else None
            watch = partial(take, layer, rows) if layer in needed else None
            states = family.layer(layer, states, Call(layout, [uncut], rows, watch=watch))


Step = tuple[int, int]
"""The place of a parent among the states that are there, and the number of its child."""


@dataclass(frozen=True)
class BatchRecord:
    """Puts what a batch's walk yields into the arrays of its shard."""

    plan: Plan
    batch: EncodedBatch
    pairs: Sequence[Pair]
    seed: int
    scores: Scores
    taken: Float[np.ndarray, "control pair amount"]

    def scored(self, conditions: Sequence[str], logits: np.ndarray) -> None:
        """Take the logits [pair] that some conditions share."""
        self.scores.observe(self.batch.pairs, conditions, logits, self.pairs)

    def random_edges(self, cuts: Sequence[LayerCut], layer: int) -> RandomEdges:
        """Draw what the controls remove in a layer."""
        mask, firsts = self.batch.mask, self.batch.firsts
        lengths = mask.sum(1).cpu().numpy()
        tokens, device = mask.shape[1], mask.device
        return RandomEdges.of(cuts, self.pairs, lengths, firsts, tokens, layer, self.seed, device)

    def removed(self, conditions: Sequence[Sequence[str]], amounts: Tensor) -> None:
        """Take what the control of each node removed, [node * pair, amount]."""
        rows = self.batch.pairs
        by_node = amounts.double().cpu().numpy().reshape(len(conditions), len(rows), -1)
        for names, amount in zip(conditions, by_node, strict=True):
            for name in names:
                self.taken[self._row[name], rows] += amount

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.plan.controls)}


@dataclass(frozen=True)
class Walk:
    """One batch, and all conditions: ``width`` nodes at most go through a layer side by side."""

    model: Reranker
    plan: Plan
    layout: PartLayout
    replacements: Replacements
    width: int
    record: BatchRecord
    meters: Sequence[Meter] = ()
    counts: Counts = field(default_factory=Counts)

    def descend(self, level: int, parents: Sequence[int], states: Tensor) -> None:
        """Run the children of nodes with states [parent, pair, token, width], and all below."""
        steps = [
            (slot, child)
            for slot, parent in enumerate(parents)
            for child in self.plan.children[level][parent]
        ]
        if self.model.family.splittable:
            # A score row that reads nothing any more depends on no other row: nine tenths of the
            # work of these nodes would go into rows that nobody looks at.
            isolated = [step for step in steps if self.plan.score_isolated[level][step[1]]]
            if isolated:
                self._score_isolated(level, isolated, states)
                steps = [step for step in steps if step not in isolated]
        layer = _Layer(self, level, states)
        for group in self._groups(level, steps):
            check_cancelled()
            out = layer.outcome(group)
            if level < len(self.plan.levels) - 1:
                states_below = out.unflatten(0, (len(group), -1))
                self.descend(level + 1, [child for _, child in group], states_below)
            else:
                self._score(level, group, out)

    def _score(self, level: int, group: Sequence[Step], out: Tensor) -> None:
        family = self.model.family
        parts = self.layout.row_parts(family.score_rows).repeat(len(group), 1)
        logits = family.score(out, parts).unflatten(0, (len(group), -1))
        for (_, child), values in zip(group, logits.cpu().numpy(), strict=True):
            conditions = self.plan.levels[level][child].conditions
            self.record.scored(conditions, -values if self.model.negate else values)

    def _score_isolated(self, level: int, steps: Sequence[Step], states: Tensor) -> None:
        """Run nodes above which the score rows stay fully masked: those rows alone."""
        family = self.model.family
        rows = states[[slot for slot, _ in steps]][:, :, family.score_rows].flatten(0, 1)
        for layer in range(level, len(self.plan.levels)):
            width = family.output(layer).weight.shape[1]
            rows = family.after_attention(layer, rows.new_zeros(*rows.shape[:-1], width), rows)
            self.counts.rows += rows.shape[0] * rows.shape[1]
        self._score(level, steps, rows)

    def _groups(self, level: int, steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
        """Steps that go side by side, as many as the budget allows."""
        nodes = self.plan.levels[level]
        # Meters read the attention of a call, so the untouched model must be alone in it.
        watched = [step for step in steps if self.watched(level, step[1])]
        if watched:
            yield watched
        # Uncut nodes first: the rows of their cut siblings are laid over a copy of their outcome.
        # Controls apart: they form the weights of all rows, which other nodes need not.
        for kind in ("uncut", "cut", "control"):
            alike = [step for step in steps if nodes[step[1]].kind == kind and step not in watched]
            for start in range(0, len(alike), self.width):
                yield alike[start : start + self.width]

    def watched(self, level: int, node: int) -> bool:
        """Whether meters watch a node."""
        path = self.plan.untouched
        return bool(self.meters) and path is not None and path[level] == node


class _Layer:
    """One layer of the walk: the outcomes of its nodes, from the states of their parents."""

    def __init__(self, walk: Walk, level: int, states: Tensor) -> None:
        self.walk, self.level, self.states = walk, level, states
        self.family: Family = walk.model.family
        self.last = level == len(walk.plan.levels) - 1
        self.shared: SharedLayer | None = None
        if self.family.splittable:
            flat = states.flatten(0, 1)
            self.shared = SharedLayer(self.family, level, flat, walk.layout, walk.counts)
        # By parent its uncut outcome, over which its cut children write the rows that they change.
        self.uncut: dict[int, Tensor] = {}

    def outcome(self, group: Sequence[Step]) -> Tensor:
        """The states [node * pair, token, width] that come of a group; of the last layer the rows
        that the score reads."""
        walk, level, shared = self.walk, self.level, self.shared
        nodes = [walk.plan.levels[level][child] for _, child in group]
        cuts = [node.cut for node in nodes]
        rows = self.family.score_rows if self.last else None
        slots = [slot for slot, _ in group]
        if walk.watched(level, group[0][1]):
            for meter in walk.meters:
                meter.states(level, self.states[slots[0]])
            probe = probe_of(walk.meters, level)
            if shared is not None and len(self.states) == 1:
                out = shared.measured(probe, rows)
                self._keep(slots, nodes, out)
                return out
            call = Call(walk.layout, cuts, rows, probe=probe)
        elif cuts[0].control is not None:
            # Random edges lie in all rows, so that all are computed in the last layer, too.
            call = Call(walk.layout, cuts, chance=walk.record.random_edges(cuts, level))
        else:
            added = walk.replacements.added(level, cuts, self.states.shape[1])
            if shared is not None:
                return self._shared(shared, slots, nodes, added)
            call = Call(walk.layout, cuts, rows, added=added)
        below = _stack(self.states, slots)
        out = self.family.layer(level, below, call)
        walk.counts.projected += below.shape[0] * below.shape[1]
        walk.counts.rows += out.shape[0] * out.shape[1]
        if call.chance is not None:
            (amounts,) = call.chance.taken
            walk.record.removed([node.conditions for node in nodes], amounts)
        if self.last and call.rows is None:
            return out[:, self.family.score_rows]
        self._keep(slots, nodes, out)
        return out

    def _shared(
        self, shared: SharedLayer, slots: list[int], nodes: Sequence[Node], added: Tensor | None
    ) -> Tensor:
        cuts = [node.cut for node in nodes]
        if self.last:
            return shared.score(slots, cuts, added)
        # A cut changes the rows of its own parts only; where they are few, only they are computed.
        if all(slot in self.uncut for slot in slots) and sparse(cuts, self.walk.layout):
            return shared.rows(slots, cuts, [self.uncut[slot] for slot in slots], added)
        out = shared.whole(slots, cuts, added)
        self._keep(slots, nodes, out)
        return out

    def _keep(self, slots: Sequence[int], nodes: Sequence[Node], out: Tensor) -> None:
        """Keep a parent's uncut outcome if it has other children."""
        if self.last or self.shared is None:
            return
        by_node = out.unflatten(0, (len(nodes), -1))
        for place, (slot, node) in enumerate(zip(slots, nodes, strict=True)):
            siblings = self.walk.plan.children[self.level][node.parent]
            if node.kind == "uncut" and len(siblings) > 1:
                self.uncut[slot] = by_node[place]


def _stack(states: Tensor, slots: list[int]) -> Tensor:
    """The states of the given parents, one below the other; no copy where they are all there."""
    if slots == list(range(len(states))):
        return states.flatten(0, 1)
    if len(set(slots)) == 1:
        parent = states[slots[0]]
        return parent if len(slots) == 1 else parent.repeat(len(slots), 1, 1)
    return states[slots].flatten(0, 1)
