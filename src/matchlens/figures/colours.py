"""Colours of figures and pages: one palette, one scale, and the page's variable for each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from math import isnan

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

INK, GREY, PALE, STRIPE = "#1a1a1a", "#666666", "#d9d9d9", "#f3f3f3"
INVERSE = "#fefefe"
"""White on a dark cell; on a dark page such cells are light and this is dark."""
PALETTE = (
    ("#332288", "o"),
    ("#CC6677", "s"),
    ("#117733", "^"),
    ("#AA4499", "D"),
    ("#3E9BC4", "v"),
    ("#882255", "P"),
    ("#999933", "X"),
    ("#44AA99", "<"),
    ("#A67C00", ">"),
    ("#777777", "p"),
    ("#4d6a8a", "h"),
    ("#8a8f99", "d"),
    ("#1a1a1a", "o"),
)
"""Colours that colour-blind readers tell apart (after Paul Tol's muted scheme, its two palest
darkened) and greys, each with a marker for those who print in grey."""
NEUTRAL = 12
"""The place in the palette of what is no direction, class or part."""
MEANING: Mapping[str, int] = {
    **{"Q->D": 0, "D->Q": 1, "D->D": 2, "Q->Q": 3, "CLS->All": 4, "CLS->Q": 5, "CLS->D": 6},
    **{"relevant": 7, "hard": 8, "easy": 9, "CLS": 4, "SEP1": 10, "SEP2": 11},
    **{"zero": NEUTRAL, "the cut": NEUTRAL},
}
"""Places in the palette that mean one thing in all figures and on the page."""
_FREE = (3, 5, 6, 8, 7, 4, 2, 1, 0, 9, 10, 11)
"""The other places, those first that most figures leave free."""
FILLS: tuple[tuple[str, str], ...] = (
    ("#2e3440", ""),
    ("#b9bfc9", "////"),
    ("#eceae2", ".."),
    ("#8d939e", "\\\\\\\\"),
    ("#ffffff", ""),
    ("#d4d8de", "xxx"),
    ("#b7b7b7", "--"),
    ("#c8ccd2", "||"),
)
"""Greys, which mean no direction and no class, each with its hatching."""
COLOURS = LinearSegmentedColormap.from_list(
    "matchlens", ["#14104f", "#3f4ba0", "#94a6d8", "#f7f7f5", "#f6c98f", "#e39a3b", "#bd6f10"]
)
"""Blue (lower) to white to orange (higher). Blue ends darker than orange does, so that the darkest
cells of a grey print are decreases."""
STEPS, LEVELS = 8, 9
"""Steps of the page's colours on each side of zero, and of those above zero only."""
TINTS = LinearSegmentedColormap.from_list(
    "matchlens-tints", ["#f7f7f5", "#a9d8c9", "#53ac93"], N=LEVELS + 1
)
"""White to green, for numbers that are never negative."""


def places(names: Sequence[str]) -> dict[str, int]:
    """The place in the palette of each name; those with a meaning of their own keep it.

    >>> places(["D->D", "Q->SEP1", "Q->D"])
    {'D->D': 2, 'Q->SEP1': 3, 'Q->D': 0}
    """
    fixed = {name: MEANING[name] for name in names if name in MEANING}
    free = [place for place in _FREE if place not in fixed.values()] or list(_FREE)
    others = itertools.cycle(free)
    return {name: fixed[name] if name in fixed else next(others) for name in dict.fromkeys(names)}


def step(value: float, most: float, steps: int = STEPS) -> str:
    """The page's colour of a number: ``n8`` (lowest) to ``z`` to ``p8``; ``u`` where unknown.

    >>> step(0.0, 1.0), step(-1.0, 1.0), step(0.3, 1.0), step(float("nan"), 1.0)
    ('z', 'n8', 'p2', 'u')
    """
    if isnan(value):
        return "u"
    place = round(min(abs(value) / most, 1.0) * steps) if most > 0 else 0
    return "z" if place == 0 else f"{'n' if value < 0 else 'p'}{place}"


def level(value: float, most: float) -> str:
    """The page's colour of a number that is never negative: ``t0`` to ``t9``; ``u`` where unknown.

    >>> level(0.0, 1.0), level(1.0, 1.0), level(0.5, 1.0), level(0.001, 1.0)
    ('t0', 't9', 't5', 't1')
    """
    if isnan(value):
        return "u"
    if value <= 0 or most <= 0:
        return "t0"
    return f"t{min(max(int(value / most * LEVELS + 0.5), 1), LEVELS)}"


@cache
def variable(colour: tuple[float, ...]) -> str:
    """The CSS variable of the page for a figure's colour: its own, else the nearest of the scales.

    >>> variable(to_rgb(INK)), variable(to_rgb("#332288")), variable(COLOURS(0.0)[:3])
    ('var(--ink)', 'var(--c0)', 'var(--n8)')
    """
    exact, scales = _variables()
    rgb = np.array(colour[:3])
    name = exact.get(tuple(np.round(rgb * 255).astype(int).tolist()))
    name = name or min(scales, key=lambda step: float(((scales[step] - rgb) ** 2).sum()))
    return f"var(--{name})"


@cache
def _variables() -> tuple[dict[tuple[int, ...], str], dict[str, np.ndarray]]:
    exact = {colour: f"g{n}" for n, (colour, _) in enumerate(FILLS)}
    exact |= {colour: f"c{n}" for n, (colour, _) in enumerate(PALETTE)}
    exact |= {to_hex(TINTS(k)): f"t{k}" if k else "z" for k in range(LEVELS + 1)}
    exact |= {INK: "ink", GREY: "muted", PALE: "line", STRIPE: "faint", INVERSE: "deep"}
    exact |= {"#ffffff": "paper"}
    scales = {
        step(k / STEPS, 1.0): np.array(COLOURS((k / STEPS + 1) / 2)[:3])
        for k in range(-STEPS, STEPS + 1)
    }
    return {
        tuple(round(255 * part) for part in to_rgb(colour)): name for colour, name in exact.items()
    }, scales | {"muted": np.array(to_rgb(GREY))}
