"""How a quantity is distributed over relevant, hard and easy passages: a panel for each head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matchlens.errors import InputError
from matchlens.figures.colours import PALETTE, places
from matchlens.figures.page import (
    EDGE,
    NORMAL,
    READS,
    SMALL,
    TICK,
    Key,
    Look,
    Page,
    arrows,
    integers,
    numbers,
    required,
    style,
    unit,
)

COLUMNS = ("layer", "head", "direction", "class", "low", "high", "count")
SEPARATION = ("layer", "head", "direction", "auc", "ks")
NOTE = (
    "Panels: layer.head. Areas are equal: each class has its own density. AUC: relevant against "
    "easy; KS: the Kolmogorov-Smirnov distance."
)
PANELS = 6
"""How many panels a figure holds, at most."""
_FIRST = ("relevant", "hard", "easy")
_LINES: tuple[tuple[float, tuple[int, tuple[float, ...]]], ...] = (
    (1.3, (0, ())),
    (1.0, (0, (4, 1.4))),
    (1.1, (0, (1, 1))),
    (0.8, (0, (6, 1, 1, 1))),
    (0.6, (0, ())),
)
_SIGN = 17.0
_BETWEEN, _ROWS = 10.0, 8.0


@dataclass(frozen=True)
class _Head:
    """A panel: its name, what separates its classes, its bins, and a density a class."""

    name: str
    apart: str
    edges: Float[np.ndarray, " edges"]
    classes: dict[str, Float[np.ndarray, " bins"]]


def class_distributions(
    table: pd.DataFrame,
    separation: pd.DataFrame,
    *,
    quantity: str,
    note: str = NOTE,
    **look: Unpack[Look],
) -> Figure:
    """Draw how a quantity is distributed over the classes of passages, for chosen heads.

    A panel for each head and direction, in the table's order, six at most; the classes' densities
    lie upon each other as steps, told apart by colour and by the kind of line.

    Args:
        table: histograms, one row for each bin of a class. Columns: layer, head (from 0), direction
            (text such as ``Q->D``), class (text: ``relevant``, ``hard``, ``easy``; five classes
            at most), low and high (the bin's ends, in the quantity's units; a head's classes
            share their bins, which leave no gap), count (pairs in the bin).
        separation: one row for each panel. Columns: layer, head, direction, auc (relevant against
            easy) and ks (Kolmogorov-Smirnov distance); NaN, or no row, writes none.
        quantity: what is distributed, such as ``attention mass``.
        note: what is seen, for the caption.
        look: see :class:`Look`.

    Source: the paper's Figure 1c and section 4.

    >>> import pandas as pd
    >>> bins = {"layer": 8, "head": 1, "direction": "Q->D", "low": [0.0, 0.5], "high": [0.5, 1.0]}
    >>> table = pd.concat(
    ...     pd.DataFrame(bins | {"class": name, "count": count})
    ...     for name, count in (("relevant", [2, 8]), ("hard", [5, 5]), ("easy", [9, 1]))
    ... )
    >>> separation = pd.DataFrame(
    ...     {"layer": [8], "head": [1], "direction": ["Q->D"], "auc": [0.93], "ks": [0.71]}
    ... )
    >>> figure = class_distributions(table, separation, quantity="attention mass")
    >>> [text.get_text() for text in figure.texts[:2]]
    ['8.1 Q→D', 'AUC .93, KS .71']
    """
    panel = ("layer", "head", "direction")
    required(table, COLUMNS, (*panel, "class", "low"), "class_distributions")
    required(separation, SEPARATION, panel, "class_distributions' separation")
    scale, in_units = unit(*numbers(table, "low"), *numbers(table, "high"))
    heads = _heads(table, _apart(separation), scale)
    present = [str(name) for name in dict.fromkeys(table["class"].astype(str))]
    classes = [name for name in _FIRST if name in present]
    classes += [name for name in present if name not in _FIRST]
    if len(classes) > len(_LINES):
        raise InputError(
            f"the table for class_distributions has {len(classes)} classes; expected at most "
            f"{len(_LINES)}, such as {', '.join(_FIRST)}"
        )
    colours = [PALETTE[place][0] for place in places(classes).values()]
    signs = [
        {"color": colour, "lw": thick, "ls": dash}
        for colour, (thick, dash) in zip(colours, _LINES, strict=False)
    ]
    page = Page(**look)

    with style():
        page.frame(arrows(quantity) + in_units, f"{note} {READS}")
        columns = min(len(heads), 2 if not page.wide else 4 if len(heads) % 4 == 0 else 3)
        rows = math.ceil(len(heads) / columns)
        left = EDGE + page.measure("density", NORMAL)[1] + 5.0
        each = (page.width - left - EDGE - 5.0 - _BETWEEN * (columns - 1)) / columns
        names = [page.wrap(head.name, each, NORMAL) for head in heads]
        apart = [page.wrap(head.apart, each, SMALL) for head in heads]
        line = page.measure("X", SMALL)[1]
        heading = max(
            page.measure(name, NORMAL)[1] + page.measure(words or "X", SMALL)[1] + 4.0
            for name, words in zip(names, apart, strict=True)
        )
        key = Key.lay(page, classes, left, page.width - left - EDGE, _SIGN)
        room = min(max(each * 0.62, 62.0), 150.0)
        between = line + TICK + _ROWS  # from a row of panels to the next one's heading
        inner = (heading + room) * rows + between * (rows - 1)
        whole = page.grow(inner)
        room += (whole - inner) / rows
        top, drawn = page.bottom + whole, []
        for i, (head, name, words) in enumerate(zip(heads, names, apart, strict=True)):
            x = left + (i % columns) * (each + _BETWEEN)
            y = top - (i // columns) * (heading + room + between)
            page.text(x, y, name, va="top", fontsize=NORMAL)
            if words:
                below = y - page.measure(name, NORMAL)[1] - 1
                page.text(x, below, words, va="top", fontsize=SMALL)
            axes = page.axes(x, y - heading - room, each, room)
            drawn.append(axes)
            _draw(axes, head, dict(zip(classes, signs, strict=True)))
            ends = float(head.edges[0]), float(head.edges[-1])
            count = max(int(each / 26.0), 2)
            over = 5.0 if i % columns else EDGE
            axes.set_xticks(*page.ticks(ends, each, count, over=over, sign=False))
            axes.set_yticks([])
        for sign, (x, y) in zip(signs, key.write(top), strict=True):
            page.line([x, x + _SIGN - 3], [y, y], **sign)
        page.y_label(drawn[0], "density", page.bottom + whole / 2)
        panels_in_words = "; ".join(f"{head.name} {head.apart}" for head in heads)
        page.describe(
            "rows", f"Distributions of {arrows(quantity)}, {', '.join(classes)}: {panels_in_words}."
        )
        return page.finish(drawn[0], left + (page.width - left - EDGE - 5.0) / 2)


def _apart(separation: pd.DataFrame) -> dict[tuple[int, int, str], str]:
    """What separates the classes of each head, as its panel says it."""
    layer, head = (integers(separation, name) for name in ("layer", "head"))
    texts = {}
    values = [(word, numbers(separation, word.lower(), known=False)) for word in ("AUC", "KS")]
    for i, direction in enumerate(separation["direction"].astype(str)):
        known = [(word, float(each[i])) for word, each in values if np.isfinite(each[i])]
        parts = [f"{word} {value:.2f}".replace(" 0.", " .") for word, value in known]
        texts[int(layer[i]), int(head[i]), direction] = ", ".join(parts)
    return texts


def _heads(
    table: pd.DataFrame, apart: dict[tuple[int, int, str], str], scale: float
) -> list[_Head]:
    """The panels in the table's order."""
    layer, head = (integers(table, name) for name in ("layer", "head"))
    direction, kind = (table[n].astype(str).to_numpy(dtype=object) for n in ("direction", "class"))
    low, high, count = (numbers(table, name) for name in ("low", "high", "count"))
    if (count < 0).any():
        raise InputError("column 'count' has negative numbers; expected numbers of pairs, from 0")
    panels = list(dict.fromkeys(zip(layer.tolist(), head.tolist(), direction, strict=True)))
    if len(panels) > PANELS:
        raise InputError(
            f"the table for class_distributions has {len(panels)} panels; expected at most "
            f"{PANELS}: choose the heads that matter, or draw several figures"
        )
    heads = []
    for panel in panels:
        name = f"{panel[0]}.{panel[1]} {panel[2]}"
        own = (layer == panel[0]) & (head == panel[1]) & (direction == panel[2])
        edges, classes = np.zeros(0), {}
        for each in dict.fromkeys(kind[own]):
            rows = np.flatnonzero(own & (kind == each))
            rows = rows[np.argsort(low[rows], kind="stable")]
            bins = np.r_[low[rows], high[rows[-1]]]
            gaps = not np.allclose(bins[1:], high[rows], rtol=1e-6, atol=0.0)
            differ = len(edges) and not np.array_equal(edges, bins)
            if gaps or differ or (np.diff(bins) <= 0).any():
                raise InputError(
                    f"the bins of {name}, class {each!r}, have gaps or are not those of the "
                    "head's other classes; expected the same bins for all, each from low to high"
                )
            edges = bins
            if (total := float(count[rows].sum())) > 0:
                classes[str(each)] = count[rows] / total / (np.diff(bins) / scale)
        heads.append(_Head(arrows(name), apart.get(panel, ""), edges / scale, classes))
    return heads


def _draw(axes: Axes, head: _Head, signs: dict[str, dict[str, Any]]) -> None:
    """A panel's densities; the first class is tinted."""
    highest = max((float(values.max()) for values in head.classes.values()), default=1.0)
    axes.set_xlim(float(head.edges[0]), float(head.edges[-1]))
    axes.set_ylim(0, highest * 1.05)
    if not head.classes:
        axes.text(0.5, 0.5, "no passages", transform=axes.transAxes, va="center", ha="center")
    for i, (name, sign) in enumerate(signs.items()):
        if name not in head.classes:
            continue
        if i == 0:
            axes.stairs(
                head.classes[name], head.edges, fill=True, color=sign["color"], alpha=0.12, lw=0,
                zorder=1,
            )  # fmt: skip
        axes.stairs(head.classes[name], head.edges, zorder=3 - 0.1 * i, label=name, **sign)
