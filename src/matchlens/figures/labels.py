"""Where labels go so that none covers another: arithmetic in points, nothing is drawn here."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

NAMED = 8
"""Heads that are named in a scatter, at most, on paper and on the page."""


def spread(
    wanted: Float[np.ndarray, " n"], heights: Float[np.ndarray, " n"], low: float, high: float
) -> Float[np.ndarray, " n"]:
    """Places for labels, as near as can be to the wanted ones without an overlap.

    The order is kept. The sum of squared moves is least: isotonic regression by pooling
    neighbours. All within low and high, for which there must be room.

    Args:
        wanted: the labels' wanted centres, rising (points).
        heights: the labels' heights (points).
        low: the lowest place for a label's lower edge (points).
        high: the highest place for a label's upper edge (points).
    """
    steps = np.concatenate([[0.0], (heights[1:] + heights[:-1]) / 2]).cumsum()
    pools: list[tuple[float, int]] = []
    for goal in wanted - steps:
        mean, size = float(goal), 1
        while pools and pools[-1][0] >= mean:
            before, count = pools.pop()
            mean = (mean * size + before * count) / (size + count)
            size += count
        pools.append((mean, size))
    free = np.concatenate([np.full(size, mean) for mean, size in pools])
    last = high - heights[-1] / 2 - steps[-1]
    return np.clip(free, min(low + heights[0] / 2, last), last) + steps


def outstanding(
    x: Float[np.ndarray, " heads"], y: Float[np.ndarray, " heads"]
) -> Int[np.ndarray, " named"]:
    """Choose the heads to name: the farthest from the medians, in each axis' standard deviations.

    Args:
        x: a number for each head.
        y: another one.
    """
    far = np.zeros(len(x))
    for values in (x, y):
        if len(values) and (spread := float(values.std())) > 0:
            far += ((values - np.median(values)) / spread) ** 2
    order = np.argsort(-far, kind="stable")[:NAMED]
    return order if len(x) <= NAMED else order[far[order] > 0]


def beside(
    cells: Float[np.ndarray, "cells 4"],
    sizes: Float[np.ndarray, "cells 2"],
    marks: Float[np.ndarray, "marks 4"],
    sheet: Float[np.ndarray, " 4"],
) -> Float[np.ndarray, "cells 4"]:
    """Places for labels beside the cells that they name, the nearest free one for each in turn.

    A label covers no other label, no cell and no mark. Places are tried in steps of half a cell, up
    to ten cells away.

    Args:
        cells: the named cells; like all rectangles here, their centre x and y, width and height.
        sizes: the labels' widths and heights.
        marks: what stays in sight.
        sheet: where labels may be.

    Returns:
        The labels' rectangles; NaN for a label that finds no place.
    """
    steps = np.mgrid[-20:21, -20:21].reshape(2, -1).T / 2
    taken, boxes = np.vstack([cells, marks]), []
    for cell, size in zip(cells, sizes, strict=True):
        places = np.empty((len(steps), 4))
        places[:, :2], places[:, 2:] = cell[:2] + steps * cell[2:], size
        inside = 2 * np.abs(places[:, :2] - sheet[:2]) <= sheet[2:] - size
        free = inside.all(1) & ~_meet(places, taken).any(1)
        if not free.any():
            boxes.append(np.full(4, np.nan))
            continue
        far = np.hypot(*(places[:, :2] - cell[:2]).T)
        boxes.append(places[np.where(free, far, np.inf).argmin()])
        taken = np.vstack([taken, boxes[-1]])
    return np.array(boxes).reshape(-1, 4)


def _meet(
    boxes: Float[np.ndarray, "m 4"], others: Float[np.ndarray, "n 4"]
) -> Bool[np.ndarray, "m n"]:
    """Which rectangles overlap; touching is none."""
    apart = 2 * np.abs(boxes[:, None, :2] - others[None, :, :2])
    return np.all(apart < boxes[:, None, 2:] + others[None, :, 2:] - 0.01, axis=-1)


def toward(box: Float[np.ndarray, " 4"], other: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 2"]:
    """Where the line to another rectangle's centre leaves a rectangle."""
    line = other[:2] - box[:2]
    with np.errstate(divide="ignore"):
        part = (box[2:] / 2 / np.abs(line)).min()
    return box[:2] + min(float(part), 1.0) * line
