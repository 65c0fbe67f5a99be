"""The plan: conditions become a tree of layer prefixes; what two share is computed once.

Pure: no torch in it. A condition is a name and the cuts that hold together under it. In each
layer a condition comes down to a table of removed edges; conditions with equal tables in layers
0..l share the states of those layers. Equality is of effect, not of text: ``Q->D`` and
``Q->D@0:12`` are one branch of a model with 12 layers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, UInt8

from matchlens.directions import Cut, How
from matchlens.errors import InputError
from matchlens.parts import PADDING, Part

HOWS = tuple(How)
LABELS = PADDING + 1
CONTROLS: Mapping[str, str] = {
    "rows": "the same rows lose as much, elsewhere",
    "scaled": "the same rows, scaled down",
    "edges": "as many random edges",
    "mass": "as much random attention",
}
"""The controls of a cut and what each is in words; the first is the primary one."""
OF_ROWS = ("rows", "scaled")
"""The controls in which each row of the cut loses what the cut would take from it."""


@dataclass(frozen=True)
class Control:
    """A cut's control: as much is removed as the cut would remove there, but not by direction.

    "As much" is read from the attention of the control's own pass, in each pair, layer and head.

    Args:
        cut: the cut that is controlled, by ``zero`` or, for ``edges`` and ``mass``, ``mask``.
        kind: ``rows``: each row loses the attention that it would lose to the cut, on random
            columns that the cut leaves to it, the last of them in part; on the cut's own columns
            only where those do not hold enough. ``scaled``: each row is multiplied by 1 minus that
            attention. ``edges``: as many random edges, in all rows; ``mass``: random edges until
            as much attention is gone.
        draw: number of the draw.

    Raises:
        InputError: if the kind is not known, or cannot control a cut that is made in this way.

    >>> Control(Cut.parse("Q->D"), "rows", 0).kind
    'rows'
    """

    cut: Cut
    kind: str
    draw: int

    def __post_init__(self) -> None:
        if self.kind not in CONTROLS:
            raise InputError(
                f"control {self.kind!r} is not known; expected one of {', '.join(CONTROLS)}"
            )
        if self.cut.how not in (How.ZERO, How.MASK):
            raise InputError(
                f"cut {str(self.cut)!r} cannot be controlled: random edges are removed and nothing "
                "is put in; expected how zero or mask"
            )
        if self.kind in OF_ROWS and self.cut.how != How.ZERO:
            raise InputError(
                f"cut {str(self.cut)!r} has no control of kind {self.kind!r}: 'mask' gives what a "
                "row loses to its other columns, so that no row loses any; expected how zero, or "
                "kind edges or mass"
            )


Condition = Sequence[Cut | Control]
"""What holds under a condition: any number of cuts, or one control."""


@dataclass(frozen=True)
class LayerCut:
    """What one condition removes in one layer, and how.

    Args:
        key: the table's bytes; equal keys cut the same edges in the same way.
        heads: number of heads of the model.
        control: kind and draw, where a control stands in the place of the table's edges.
    """

    key: bytes
    heads: int
    control: tuple[str, int] | None = None

    @classmethod
    def of(cls, cuts: Condition, layer: int, heads: int, rows: Collection[Part]) -> LayerCut:
        """The table of ``cuts`` in ``layer``, its rows restricted to the parts in ``rows``.

        The table of a control whose random edges lie in all rows is not restricted.
        """
        if any(isinstance(cut, Control) for cut in cuts):
            (control,) = cuts if len(cuts) == 1 else (None,)
            if not isinstance(control, Control):
                raise InputError(
                    "a control stands beside other cuts in one condition; expected it alone: give "
                    "the other cuts a condition of their own"
                )
            # "As much" is measured over all rows of the direction, but for controls that act row
            # by row: what they remove in a row that nobody reads does not matter.
            read = rows if control.kind in OF_ROWS else tuple(Part)
            plain = cls.of([control.cut], layer, heads, read)
            return replace(plain, control=(control.kind, control.draw)) if any(plain.key) else plain
        table = np.zeros((heads, LABELS, LABELS), dtype=np.uint8)
        for cut in cuts:
            assert isinstance(cut, Cut)  # noqa: S101
            at = cut.heads_at(layer)
            which = np.arange(heads) if at is None else np.array(at, dtype=int)
            code = HOWS.index(cut.how) + 1
            for x, y in cut.edges(layer):
                if x in rows:
                    if (~np.isin(table[which, x, y], (0, code))).any():
                        raise InputError(
                            f"the attention of {x} on {y} in layer {layer} is cut in two ways by "
                            f"{' and '.join(repr(str(cut)) for cut in cuts)}; expected one "
                            "way: give all cuts of a condition the same how"
                        )
                    table[which, x, y] = code
        return cls(table.tobytes(), heads)

    @cached_property
    def table(self) -> UInt8[np.ndarray, "heads rows columns"]:
        """Code of the way in which an edge is removed, by head, row part, column part; 0: kept."""
        return np.frombuffer(self.key, np.uint8).reshape(self.heads, LABELS, LABELS)

    @cached_property
    def same_heads(self) -> bool:
        """Whether all heads are cut alike."""
        return bool((self.table == self.table[:1]).all())

    def removed(self, *hows: How) -> Bool[np.ndarray, "heads rows columns"]:
        """The edges removed in one of these ways."""
        return np.isin(self.table, [HOWS.index(how) + 1 for how in hows])


@dataclass(frozen=True)
class Node:
    """One distinct state: the outcome of a layer under a prefix of cuts.

    Args:
        parent: number of the node in the layer below whose outcome it reads (0 in layer 0).
        cut: what is removed in this layer.
        conditions: names of the conditions that go through the node.
    """

    parent: int
    cut: LayerCut
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Conditions as a tree: for each layer the distinct nodes, each pointing at its parent.

    >>> plan = Plan.build({"": [], "Q->D@0:1": [Cut.parse("Q->D@0:1")]}, layers=4, heads=2)
    >>> plan.passes, plan.passes_unshared
    (8, 8)
    >>> late = {f"D->D@{n}": [Cut.parse(f"D->D@{n}")] for n in range(3)}
    >>> plan = Plan.build({"": [], **late}, layers=4, heads=2)
    >>> plan.passes, plan.passes_unshared
    (13, 16)
    """

    levels: tuple[tuple[Node, ...], ...]
    conditions: tuple[str, ...]
    score_parts: tuple[Part, ...] = (Part.CLS,)
    controls: tuple[str, ...] = ()
    """Those of the conditions that are controls."""

    @classmethod
    def build(
        cls,
        conditions: Mapping[str, Condition],
        layers: int,
        heads: int,
        score_rows: Collection[Part] = (Part.CLS,),
    ) -> Plan:
        """Make the tree.

        Args:
            score_rows: parts whose rows the score reads; in the last layer only their rows are
                computed, so cuts of other rows there are no cuts.
        """
        if not conditions:
            raise InputError(
                "there is no condition to run; expected at least one, for example {'': []}"
            )
        for cuts in conditions.values():
            for cut in cuts:
                (cut.cut if isinstance(cut, Control) else cut).check(layers, heads)
        levels: list[tuple[Node, ...]] = []
        # Where each condition stands in the tree: conditions whose tables agree in all layers so
        # far stand at one node, and what comes of that node is computed once for all of them.
        at = dict.fromkeys(conditions, 0)
        for layer in range(layers):
            # The score reads no other row of the last layer: a cut of those is no cut there, and
            # its condition shares the node of the uncut one.
            rows = tuple(score_rows) if layer == layers - 1 else tuple(Part)
            nodes: dict[tuple[int, LayerCut], list[str]] = {}
            for name, cuts in conditions.items():
                cut = LayerCut.of(cuts, layer, heads, rows)
                nodes.setdefault((at[name], cut), []).append(name)
            for number, names in enumerate(nodes.values()):
                at.update(dict.fromkeys(names, number))
            levels.append(
                tuple(Node(parent, cut, tuple(names)) for (parent, cut), names in nodes.items())
            )
        controls = [
            name
            for name, cuts in conditions.items()
            if any(isinstance(cut, Control) for cut in cuts)
        ]
        return cls(tuple(levels), tuple(conditions), tuple(score_rows), tuple(controls))

    @cached_property
    def children(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each layer and each node of the layer below, the numbers of its children."""
        out = []
        for layer, level in enumerate(self.levels):
            below = 1 if layer == 0 else len(self.levels[layer - 1])
            lists: list[list[int]] = [[] for _ in range(below)]
            for number, node in enumerate(level):
                lists[node.parent].append(number)
            out.append(tuple(tuple(numbers) for numbers in lists))
        return tuple(out)

    @cached_property
    def untouched(self) -> tuple[int, ...] | None:
        """By layer the node through which the untouched model goes, if a condition is it."""
        path: list[int] = []
        for level in self.levels:
            below = path[-1] if path else 0
            uncut = [
                number
                for number, node in enumerate(level)
                if node.parent == below and not any(node.cut.key)
            ]
            if not uncut:
                return None
            path.append(uncut[0])
        return tuple(path)

    @cached_property
    def score_isolated(self) -> tuple[tuple[bool, ...], ...]:
        """By layer, whether the score rows stay fully masked in a node's layer and in all above it,
        under all of the node's conditions.

        >>> plan = Plan.build({"a": [Cut.parse("CLS->All")], "b": [Cut.parse("CLS->All@1")]}, 2, 1)
        >>> plan.score_isolated
        ((True, False), (True, True))
        """
        out: list[tuple[bool, ...]] = []
        for layer in reversed(range(len(self.levels))):
            above = self.children[layer + 1] if out else ((),) * len(self.levels[layer])
            out.append(
                tuple(
                    _reads_nothing(node.cut, self.score_parts)
                    and all(out[-1][child] for child in children)
                    for node, children in zip(self.levels[layer], above, strict=True)
                )
            )
        return tuple(reversed(out))

    def uses(self, how: How, layer: int | None = None) -> bool:
        """Whether some condition cuts in this way, in ``layer`` or in any."""
        levels = self.levels if layer is None else self.levels[layer : layer + 1]
        return any(node.cut.removed(how).any() for level in levels for node in level)

    @property
    def passes(self) -> int:
        """Layer passes that a pair costs with sharing."""
        return sum(len(level) for level in self.levels)

    @property
    def passes_unshared(self) -> int:
        """Layer passes that a pair would cost with one whole forward pass a condition."""
        return len(self.conditions) * len(self.levels)


def _reads_nothing(cut: LayerCut, parts: Collection[Part]) -> bool:
    """Whether rows of some parts read nothing in a layer, and nothing stands in for it."""
    rows = cut.removed(How.ZERO, How.MASK)[:, list(parts), :PADDING]
    return cut.control is None and bool(rows.all())
