"""The plan: conditions become a tree of layer prefixes; what two share is computed once.

Pure: no torch in it. A condition is a name and the cuts that hold together under it. In each
layer a condition comes down to a table of removed edges; conditions with equal tables in layers
0..l share the states of those layers. Equality is of effect, not of text: ``Q->D`` and
``Q->D@0:12`` are one branch of a model with 12 layers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, UInt8

from matchlens.directions import Cut, How
from matchlens.errors import InputError
from matchlens.parts import LABELS, PADDING, AnyPart, OwnPart, Part

HOWS = tuple(How)
WHOLE: Mapping[Part, int] = {Part.Q: 8, Part.D: 16}
"""Added to the code of an edge whose row is of an own part, where the cut names the part
that this is of: what ``mean`` and ``resample`` put in is then that whole part's."""
CONTROLS: Mapping[str, str] = {
    "rows": "the same rows lose as much, elsewhere",
    "scaled": "the same rows, scaled down",
    "edges": "as many random edges",
    "mass": "as much random attention",
}
"""The controls of a cut and what each is in words; the first is the primary one."""
PUT_IN = (How.MEAN, How.RESAMPLE)
"""Ways of cutting that put something in the place of what they remove."""
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


def single_cuts(cuts: Iterable[str]) -> dict[str, Condition]:
    """A condition for each cut, the untouched model first."""
    return {"": [], **{cut: [Cut.parse(cut)] for cut in cuts}}


def bound(conditions: Mapping[str, Condition], own: Mapping[str, Part]) -> Mapping[str, Condition]:
    """The conditions, each of their own parts known to be of the query or of the passage.

    >>> cut = bound({"": [Cut.parse("Q->TITLE")]}, {"TITLE": Part.D})[""][0]
    >>> cut.own_parts[0].of
    <Part.D: 3>
    """

    def known(part: AnyPart, cut: Cut) -> AnyPart:
        if not isinstance(part, OwnPart):
            return part
        if part.name not in own:
            names = ", ".join(own) or "none"
            raise InputError(
                f"cut {str(cut)!r}: the pairs have no part {part.name}; expected CLS, Q, SEP1, D, "
                f"SEP2 or a part of their own ({names}): correct the cut, or add the part with "
                "with_parts or with_fields (--parts, --fields)"
            )
        return OwnPart(part.name, own[part.name])

    def of(cut: Cut | Control) -> Cut | Control:
        if isinstance(cut, Control):
            plain = of(cut.cut)
            return replace(cut, cut=plain) if isinstance(plain, Cut) else cut
        if not cut.own_parts:
            return cut
        directions = tuple(
            replace(
                direction,
                left=tuple(known(part, cut) for part in direction.left),
                right=direction.right and tuple(known(part, cut) for part in direction.right),
            )
            for direction in cut.directions
        )
        return replace(cut, directions=directions)

    return {name: [of(cut) for cut in cuts] for name, cuts in conditions.items()}


def own_parts(conditions: Mapping[str, Condition]) -> tuple[OwnPart, ...]:
    """The own parts that cuts name, in the order of their labels.

    >>> [str(part) for part in own_parts({"": [Cut.parse("Q->TITLE+BODY->Q")]})]
    ['BODY', 'TITLE']
    """
    cuts = [cut for some in conditions.values() for cut in some]
    plain = [cut.cut if isinstance(cut, Control) else cut for cut in cuts]
    return tuple(sorted({part for cut in plain for part in cut.own_parts}, key=str))


@dataclass(frozen=True)
class LayerCut:
    """What one condition removes in one layer, and how; equal keys cut the same edges alike.

    Where a ``control`` (kind and draw) is named, it stands in the place of the table's edges.
    """

    key: bytes
    heads: int
    control: tuple[str, int] | None = None

    @classmethod
    def of(
        cls,
        cuts: Condition,
        layer: int,
        heads: int,
        rows: Collection[Part],
        own: Sequence[OwnPart] = (),
    ) -> LayerCut:
        """The table of ``cuts`` in ``layer``, its rows restricted to the parts in ``rows``.

        The table of a control whose random edges lie in all rows is not restricted. Tokens of the
        parts in ``own`` have labels of their own, from ``LABELS`` on.
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
            plain = cls.of([control.cut], layer, heads, read, own)
            return replace(plain, control=(control.kind, control.draw)) if any(plain.key) else plain
        size = LABELS + len(own)
        table = np.zeros((heads, size, size), dtype=np.uint8)
        for cut in cuts:
            assert isinstance(cut, Cut)  # noqa: S101
            at = cut.heads_at(layer)
            which = np.arange(heads) if at is None else np.array(at, dtype=int)
            code = HOWS.index(cut.how) + 1
            for x, y in cut.edges(layer):
                if (x.of if isinstance(x, OwnPart) else x) not in rows:
                    continue
                for row in _labels(x, own):
                    of_whole = row >= LABELS and not isinstance(x, OwnPart) and cut.how in PUT_IN
                    marked = code + (WHOLE[Part(x)] if of_whole else 0)
                    at_row = (which[:, None], row, _labels(y, own))
                    before = table[at_row]
                    if ((before > 0) & (before % 8 != code)).any():
                        raise InputError(
                            f"the attention of {x} on {y} in layer {layer} is cut in two ways by "
                            f"{' and '.join(repr(str(cut)) for cut in cuts)}; expected one "
                            "way: give all cuts of a condition the same how"
                        )
                    table[at_row] = np.maximum(before, marked)
        return cls(table.tobytes(), heads)

    @cached_property
    def table(self) -> UInt8[np.ndarray, "heads rows columns"]:
        """Code of the way in which an edge is removed, by head, row part, column part; 0: kept."""
        size = math.isqrt(len(self.key) // self.heads)
        return np.frombuffer(self.key, np.uint8).reshape(self.heads, size, size)

    @cached_property
    def same_heads(self) -> bool:
        """Whether all heads are cut alike."""
        return bool((self.table == self.table[:1]).all())

    def removed(self, *hows: How) -> Bool[np.ndarray, "heads rows columns"]:
        """The edges removed in one of these ways."""
        wanted = np.zeros(8, dtype=bool)  # by code; a look-up is faster than np.isin
        wanted[[HOWS.index(how) + 1 for how in hows]] = True
        return wanted[self.table % 8]

    def replaced(self, how: How) -> dict[Part | None, Bool[np.ndarray, "heads rows columns"]]:
        """The edges whose removed term ``how`` replaces, by whose rows it is taken from: the row's
        own part (None), or all of Q or D."""
        code = HOWS.index(how) + 1
        marks = {None: code, **{part: code + mark for part, mark in WHOLE.items()}}
        by_part = {part: self.table == mark for part, mark in marks.items()}
        return {part: edges for part, edges in by_part.items() if edges.any()}


@dataclass(frozen=True)
class Node:
    """One distinct state: the outcome of a layer under a prefix of cuts, from its parent below."""

    parent: int
    cut: LayerCut
    conditions: tuple[str, ...]

    @cached_property
    def kind(self) -> str:
        """Whether its layer is ``uncut``, ``cut``, or has a ``control`` in a cut's place."""
        if self.cut.control is not None:
            return "control"
        return "cut" if any(self.cut.key) else "uncut"


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
    own: tuple[OwnPart, ...] = ()
    """Own parts that the conditions name, in the order of their labels."""

    @classmethod
    def build(
        cls,
        conditions: Mapping[str, Condition],
        layers: int,
        heads: int,
        score_rows: Collection[Part] = (Part.CLS,),
    ) -> Plan:
        """Make the tree; in the last layer only the rows of ``score_rows`` are computed and cut."""
        if not conditions:
            raise InputError(
                "there is no condition to run; expected at least one, for example {'': []}"
            )
        for cuts in conditions.values():
            for cut in cuts:
                (cut.cut if isinstance(cut, Control) else cut).check(layers, heads)
        own = own_parts(conditions)
        if any(part.of is None for part in own):
            bound(conditions, {})  # names the cut
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
                cut = LayerCut.of(cuts, layer, heads, rows, own)
                nodes.setdefault((at[name], cut), []).append(name)
            for number, names in enumerate(nodes.values()):
                at.update(dict.fromkeys(names, number))
            levels.append(
                tuple(Node(parent, cut, tuple(names)) for (parent, cut), names in nodes.items())
            )
        controls = [
            n for n, cuts in conditions.items() if any(isinstance(c, Control) for c in cuts)
        ]
        return cls(tuple(levels), tuple(conditions), tuple(score_rows), tuple(controls), own)

    @cached_property
    def children(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each layer and each node of the layer below, the numbers of its children."""
        out, below = [], 1
        for level in self.levels:
            numbers: list[list[int]] = [[] for _ in range(below)]
            for number, node in enumerate(level):
                numbers[node.parent].append(number)
            out.append(tuple(map(tuple, numbers)))
            below = len(level)
        return tuple(out)

    @cached_property
    def untouched(self) -> tuple[int, ...] | None:
        """By layer the node through which the untouched model goes, if a condition is it."""
        path: list[int] = []
        for level in self.levels:
            below = path[-1] if path else 0
            uncut = (n for n, node in enumerate(level) if node.parent == below)
            number = next((n for n in uncut if level[n].kind == "uncut"), None)
            if number is None:
                return None
            path.append(number)
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
                    _reads_nothing(node.cut, self.score_parts, self.own)
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


def _reads_nothing(cut: LayerCut, parts: Collection[Part], own: Sequence[OwnPart]) -> bool:
    """Whether rows of some parts read nothing in a layer, and nothing stands in for it."""
    labels = [label for part in parts for label in _labels(part, own)]
    rows = np.delete(cut.removed(How.ZERO, How.MASK)[:, labels], PADDING, axis=2)
    return cut.control is None and bool(rows.all())


def _labels(part: AnyPart, own: Sequence[OwnPart]) -> list[int]:
    """The labels of a part's tokens: its own, and those of the own parts in it."""
    if isinstance(part, OwnPart):
        return [LABELS + own.index(part)]
    return [int(part), *(LABELS + at for at, own_part in enumerate(own) if own_part.of is part)]
