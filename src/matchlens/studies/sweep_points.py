"""The conditions of a sweep: cuts up to each layer, from it, in it alone, in windows, by head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matchlens.arguments import typed
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.studies.cut_modes import expand_modes

KINDS = ("up-to", "from", "only", "window", "heads")
WHOLE_HEAD = "{CLS,Q,SEP1,D,SEP2}->All"


@dataclass(frozen=True)
class Point:
    """One condition of a sweep.

    Args:
        direction: the direction that is cut, as given.
        how: the way of cutting.
        n: up-to: number of layers cut from the bottom; from: first layer cut; only: the layer;
            window: its first layer; heads: the layer.
        head: the head, where heads are cut alone; -1 elsewhere.
        cut: the cut's text, by which results are keyed.
    """

    direction: str
    how: str
    n: int
    head: int
    cut: str


@typed
def sweep_points(
    kind: str,
    directions: Sequence[str],
    *,
    layers: int,
    heads: int,
    window: int = 1,
    hows: Sequence[str] = ("zero",),
) -> tuple[list[Point], list[str]]:
    """The conditions of a sweep, in reading order, and those that cannot be made.

    Args:
        kind: ``up-to`` (layers 0 to n - 1, for n = 0 to L: Figure 1a), ``from`` (n to the top),
            ``only`` (one layer), ``window`` (layers n to n + window - 1) or ``heads`` (each alone).
        directions: directions, or several joined by ``+``, without layers, heads or how.
        layers: layers of the model.
        heads: heads a layer.
        window: layers of a window.
        hows: ways of cutting.

    Returns:
        One point for each condition, where directions and hows that stand twice count once; and the
        cuts that a how cannot make (``sink`` where SEP2 is cut).

    Raises:
        InputError: if the kind, a direction, the window or a how cannot be used.

    >>> [point.cut for point in sweep_points("up-to", ["Q->D"], layers=2, heads=2)[0]]
    ['Q->D@0:0', 'Q->D@0:1', 'Q->D@0:2']
    >>> [point.cut for point in sweep_points("heads", ["Q->D"], layers=1, heads=2)[0]]
    ['Q->D#0.0', 'Q->D#0.1']
    """
    if kind not in KINDS:
        raise InputError(f"sweep {kind!r} is not known; expected one of {', '.join(KINDS)}")
    if not directions:
        raise InputError("no direction to sweep; expected at least one, for example 'Q->D'")
    if kind == "window" and not 1 <= window <= layers:
        raise InputError(f"window is {window} layers; expected 1 to {layers}")
    for text in directions:
        cut = Cut.parse(text)
        if not cut.directions or cut != Cut(cut.directions):
            raise InputError(
                f"{text!r} is no plain direction, and a sweep chooses layers, heads and how "
                "itself; expected directions only, for example 'Q->D' or 'Q->D+D->Q'"
            )
    spots = {
        "up-to": [(n, -1, f"@0:{n}") for n in range(layers + 1)],
        "from": [(n, -1, f"@{n}:{layers}") for n in range(layers + 1)],
        "only": [(n, -1, f"@{n}") for n in range(layers)],
        "window": [(n, -1, f"@{n}:{n + window}") for n in range(layers - window + 1)],
        "heads": [(n, head, f"#{n}.{head}") for n in range(layers) for head in range(heads)],
    }[kind]
    made, impossible = expand_modes(list(dict.fromkeys(directions)), hows)
    points = [
        Point(way.base, way.how, n, head, f"{way.base}{where}{way.cut.removeprefix(way.base)}")
        for way in made
        for n, head, where in spots
    ]
    return points, impossible
