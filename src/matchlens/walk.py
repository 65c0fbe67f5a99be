"""One batch on its way through the plan's tree of cuts, layer by layer, depth first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from matchlens.meters.meter import Meter, gauge_of
from matchlens.models.attend import Call
from matchlens.models.load import Reranker
from matchlens.models.part_layout import PartLayout
from matchlens.models.random_edges import RandomEdges
from matchlens.models.replacements import Replacements
from matchlens.models.shared_layer import Counts, SharedLayer, sparse
from matchlens.plan import Node, Plan

Step = tuple[int, int]
"""The place of a parent among those that are there, and the number of its child."""


@dataclass(frozen=True)
class Walk:
    """One batch, and all conditions.

    Nodes go through a layer side by side as far as the budget allows.

    Args:
        model: a loaded reranker.
        plan: the conditions' tree.
        grid: the batch's parts.
        terms: what stands in for removed terms.
        width: most nodes side by side.
        observe: takes the names of conditions and the scores of the batch under them.
        chance: makes what a control removes.
        took: takes the names of the conditions of each node and what their control took there.
        meters: watch the untouched model.
        counts: what is computed is added to them.
    """

    model: Reranker
    plan: Plan
    grid: PartLayout
    terms: Replacements
    width: int
    observe: Callable[[Sequence[str], np.ndarray], None]
    chance: Callable[..., RandomEdges]
    took: Callable[[Sequence[Sequence[str]], Tensor], None]
    meters: Sequence[Meter] = ()
    counts: Counts = field(default_factory=Counts)

    def descend(self, level: int, parents: Sequence[int], states: Tensor) -> None:
        """Run the children of ``parents``, whose outcomes are ``states``, and all below them."""
        steps = [
            (slot, child)
            for slot, parent in enumerate(parents)
            for child in self.plan.children[level][parent]
        ]
        if self.model.family.splittable:
            seeing = [step for step in steps if not self.plan.score_isolated[level][step[1]]]
            if len(seeing) < len(steps):
                self._apart_from_all(level, [step for step in steps if step not in seeing], states)
            steps = seeing
        layer = _Layer(self, level, states)
        for group in self._groups(level, steps):
            out = layer.outcome(group)
            if level < len(self.plan.levels) - 1:
                below = out.unflatten(0, (len(group), -1))
                self.descend(level + 1, [child for _, child in group], below)
                continue
            self._score(level, group, out)

    def _score(self, level: int, group: Sequence[Step], out: Tensor) -> None:
        """Score what came of a group in the rows that the score reads."""
        rows = self.model.family.score_rows
        parts = self.grid.row_parts(rows).repeat(len(group), 1)
        logits = self.model.family.score(out, parts).unflatten(0, (len(group), -1))
        for (_, child), values in zip(group, logits.cpu().numpy(), strict=True):
            names = self.plan.levels[level][child].conditions
            self.observe(names, -values if self.model.negate else values)

    def _apart_from_all(self, level: int, steps: Sequence[Step], states: Tensor) -> None:
        """Run nodes from which on the score's rows read nothing: those rows alone are computed."""
        family: Any = self.model.family
        rows = states[[slot for slot, _ in steps]][:, :, family.score_rows].flatten(0, 1)
        for layer in range(level, len(self.plan.levels)):
            wide = family.output(layer).weight.shape[1]
            nothing = rows.new_zeros(*rows.shape[:-1], wide)
            rows = family.after_attention(layer, nothing, rows)
            self.counts.rows += rows.shape[0] * rows.shape[1]
        self._score(level, steps, rows)

    def _groups(self, level: int, steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
        """Steps that go side by side: as many as the budget allows, controls apart.

        The untouched model goes alone where meters watch it. A parent's uncut child goes first: the
        others' outcomes are laid over its own.
        """
        nodes = self.plan.levels[level]
        watched = [step for step in steps if self.watched(level, step[1])]
        if watched:
            yield watched
        for kind in (_uncut, _cut, _controlled):
            alike = [step for step in steps if kind(nodes[step[1]]) and step not in watched]
            for start in range(0, len(alike), self.width):
                yield alike[start : start + self.width]

    def watched(self, level: int, node: int) -> bool:
        """Whether meters watch a node."""
        path = self.plan.untouched
        return bool(self.meters) and path is not None and path[level] == node


def _uncut(node: Node) -> bool:
    return node.cut.control is None and not any(node.cut.key)


def _cut(node: Node) -> bool:
    return node.cut.control is None and any(node.cut.key)


def _controlled(node: Node) -> bool:
    return node.cut.control is not None


class _Layer:
    """One layer of the walk: the outcomes of its nodes, from the states of their parents."""

    def __init__(self, walk: Walk, level: int, states: Tensor) -> None:
        self.walk, self.level, self.states = walk, level, states
        self.family: Any = walk.model.family
        self.last = level == len(walk.plan.levels) - 1
        self.siblings: SharedLayer | None = None
        if self.family.splittable:
            flat = states.flatten(0, 1)
            self.siblings = SharedLayer(self.family, level, flat, walk.grid, walk.counts)
        self.uncut: dict[int, Tensor] = {}

    def outcome(self, group: Sequence[Step]) -> Tensor:
        """The states [node * pair, token, width] that come of a group; of the last layer the rows
        that the score reads."""
        walk, level = self.walk, self.level
        nodes = [walk.plan.levels[level][child] for _, child in group]
        cuts = [node.cut for node in nodes]
        rows = self.family.score_rows if self.last else None
        slots = [slot for slot, _ in group]
        if walk.watched(level, group[0][1]):
            for meter in walk.meters:
                meter.states(level, self.states[slots[0]])
            gauge = gauge_of(walk.meters, level)
            if self.siblings is not None and len(self.states) == 1:
                out = self.siblings.measured(gauge, rows)
                self._keep(slots, nodes, out)
                return out
            call = Call(walk.grid, cuts, rows, gauge=gauge)
        elif cuts[0].control is not None:
            # random edges lie in all rows, so that all are computed in the last layer, too
            call = Call(walk.grid, cuts, chance=walk.chance(cuts, layer=level))
        else:
            added = walk.terms.added(level, cuts, self.states.shape[1])
            if self.siblings is not None:
                return self._shared(self.siblings, slots, nodes, added)
            call = Call(walk.grid, cuts, rows, added=added)
        below = _stack(self.states, slots)
        out = self.family.layer(level, below, call)
        walk.counts.projected += below.shape[0] * below.shape[1]
        walk.counts.rows += out.shape[0] * out.shape[1]
        if call.chance is not None:
            (taken,) = call.chance.taken
            walk.took([node.conditions for node in nodes], taken)
        if self.last and call.rows is None:
            return out[:, self.family.score_rows]
        self._keep(slots, nodes, out)
        return out

    def _shared(
        self, siblings: SharedLayer, slots: list[int], nodes: Sequence[Node], added: Tensor | None
    ) -> Tensor:
        cuts = [node.cut for node in nodes]
        if self.last:
            return siblings.score(slots, cuts, added)
        if all(slot in self.uncut for slot in slots) and sparse(cuts, self.walk.grid):
            return siblings.rows(slots, cuts, [self.uncut[slot] for slot in slots], added)
        out = siblings.whole(slots, cuts, added)
        self._keep(slots, nodes, out)
        return out

    def _keep(self, slots: Sequence[int], nodes: Sequence[Node], out: Tensor) -> None:
        """Keep what comes of a parent uncut, if it has other children, of which rows are cut."""
        if self.last or self.siblings is None:
            return
        apart = out.unflatten(0, (len(nodes), -1))
        for place, (slot, node) in enumerate(zip(slots, nodes, strict=True)):
            if not any(node.cut.key) and len(self._children(node)) > 1:
                self.uncut[slot] = apart[place]

    def _children(self, node: Node) -> Sequence[int]:
        return self.walk.plan.children[self.level][node.parent]


def _stack(states: Tensor, slots: list[int]) -> Tensor:
    """The states of the given parents, one below the other; no copy where they are all there."""
    if slots == list(range(len(states))):
        return states.flatten(0, 1)
    if len(set(slots)) == 1:
        one = states[slots[0]]
        return one if len(slots) == 1 else one.repeat(len(slots), 1, 1)
    return states[slots].flatten(0, 1)
