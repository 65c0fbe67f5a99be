"""One batch on its way through the plan's tree of cuts, layer by layer, depth first.

Depth first, so that only the states of one branch are in memory, however many conditions there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matchlens.batching import EncodedBatch
from matchlens.corpora.pairs import Pair
from matchlens.meters.meter import Meter, probe_of
from matchlens.meters.scores import Scores
from matchlens.models.attend import Call
from matchlens.models.family import Family
from matchlens.models.load import Reranker
from matchlens.models.part_layout import PartLayout
from matchlens.models.random_edges import RandomEdges
from matchlens.models.replacements import Replacements
from matchlens.models.shared_layer import Counts, SharedLayer, sparse
from matchlens.plan import LayerCut, Node, Plan
from matchlens.signals import check_cancelled

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
    """One batch, and all conditions.

    Nodes go through a layer side by side as far as the budget allows.

    Args:
        layout: the batch's parts.
        replacements: what is put in the place of removed terms.
        width: most nodes side by side.
        record: takes the scores, draws what controls remove.
    """

    model: Reranker
    plan: Plan
    layout: PartLayout
    replacements: Replacements
    width: int
    record: BatchRecord
    meters: Sequence[Meter] = ()
    counts: Counts = field(default_factory=Counts)

    def descend(self, level: int, parents: Sequence[int], states: Tensor) -> None:
        """Run the children of some nodes, and all below them.

        Args:
            states: [parent, pair, token, width], what the layer below made of each.
        """
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
