"""Figures: what is drawn is the table; no text is cut off or covers another; bytes are stable."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import os
import re
import subprocess
import sys
from functools import partial

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.optimize import minimize

from matchlens import figures
from matchlens.errors import InputError
from matchlens.figures.colours import MEANING, PALETTE, places
from matchlens.figures.labels import beside, spread
from matchlens.figures.lines import KINDS
from matchlens.figures.page import MINUS, Page, reach, written

PARTS = ("CLS", "Q", "SEP1", "D", "SEP2")
LONG = "{Q,SEP1,D,SEP2}->{Q,SEP1,D,SEP2}"
NINE = ("Q->D", "D->Q", "D->D", "Q->Q", "CLS->Q", "CLS->D", "CLS->All", "Q->All", "D->All")
HOWS = ("zero", "mask", "mean", "resample", "sink")
NAN = float("nan")


def texts(figure):
    """Every text that is seen, and its place in pixels: left, bottom, right, top."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    boxes = np.array([t.get_window_extent(renderer).extents for t in found])
    return [t.get_text() for t in found], boxes


def check(figure):
    """No text is cut off by the sheet's edge, none covers another one; returns them."""
    names, boxes = texts(figure)
    assert (boxes[:, :2] >= 0).all(), names
    assert (boxes[:, 2:] <= figure.bbox.size).all(), names
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    over = np.triu((high > low).all(-1), 1)
    assert not over.any(), [(names[i], names[j]) for i, j in np.argwhere(over)]
    return names


def curve_rows(name, mean, original=0.74, n=None, interval=(-0.02, 0.01), significant=None):
    mean = np.asarray(mean, dtype=np.float64)
    return pd.DataFrame(
        {
            "direction": name,
            "n": np.arange(len(mean)) if n is None else n,
            "mean": mean,
            "original": original,
            "ci_low": mean - original + interval[0],
            "ci_high": mean - original + interval[1],
            "significant": np.abs(mean - original) > 0.05 if significant is None else significant,
        }
    )


def curve_table(names, points=13, seed=0, same_end=False, scale=0.3):
    rng = np.random.default_rng(seed)
    tables = []
    for name in names:
        fall = np.linspace(0, rng.uniform(0, scale), points) + rng.normal(0, 0.004, points)
        mean = 0.74 - fall
        if same_end:
            mean[-1] = 0.6
        tables.append(curve_rows(name, mean))
    return pd.concat(tables, ignore_index=True)


def head_table(layers, heads, seed=0):
    rng = np.random.default_rng(seed)
    effect = rng.normal(0, 0.001, (layers, heads)) * rng.exponential(3, (layers, heads)) ** 2
    layer, head = np.indices((layers, heads)).reshape(2, -1)
    q = rng.uniform(0, 1, layers * heads)
    return pd.DataFrame(
        {"layer": layer, "head": head, "diff": effect.ravel(), "q": q, "significant": q < 0.1}
    )


def how_table(cuts, hows=HOWS, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {"cut": cut, "how": how, "diff": (diff := rng.normal(base, 0.01)), "ci_low": diff - 0.02,
         "ci_high": diff + 0.02, "significant": abs(diff) > 0.02}
        for cut, base in zip(cuts, rng.normal(-0.03, 0.05, len(cuts)), strict=True)
        for how in hows
        if not (how == "sink" and cut.endswith("SEP2"))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def curves(table, **how):
    return figures.layer_curves(table, **{"measure": "nDCG@10", "random": 0.48} | how)


def heads(table, **how):
    return figures.head_map(table, measure="nDCG@10", **how)


def hows(table, **how):
    return figures.comparison(table, measure="nDCG@10", **how)


# Nothing cut off, nothing covered


@pytest.mark.parametrize(
    "table",
    [
        curve_table(NINE, same_end=True),
        curve_table(NINE, points=25),
        curve_table(NINE, scale=0.0),
        curve_table(["D->D"]),
        curve_table(["D->D", "Q->D"], points=1),
        curve_table([LONG, "Q->D+D->Q", "CLS->{Q,SEP1,D,SEP2}", *NINE[:6]], points=25),
        pd.concat([curve_rows(name, [0.74] * 7, interval=(NAN, NAN)) for name in NINE]),
        curve_rows("Q->D", [0.0, 0.0], original=0.0, interval=(0.0, 0.0)),
        curve_rows("Q->D", [812.5, 16.25, 900.0], original=812.5),
        curve_rows("Q->D", [0.7, 0.6], n=[98, 127]),
    ],
    ids=["same-end", "25-layers", "flat", "one", "one-point", "long", "nan", "zero", "big", "wide"],
)
def test_curves_can_be_read(table):
    figure = curves(table, title="A reranker on TREC DL 2019, cut Q->D " * 2)
    names = check(figure)
    assert {"original", "random"} <= set(names)
    for name in table["direction"].unique():
        assert name.replace("->", "→") in [shown.replace("\n", "") for shown in names]
    right = figure.axes[0].bbox.x1  # the labels stand outside the axes
    labels = [box for name, box in zip(*texts(figure), strict=True) if name in {"original"}]
    assert all(box[0] > right for box in labels)


@pytest.mark.parametrize("size", [(12, 12), (24, 16), (2, 2), (1, 1), (1, 16), (6, 12), (32, 40)])
def test_head_maps_can_be_read(size):
    check(heads(head_table(*size), title="Heads cut alone, in Q->D"))


@pytest.mark.parametrize("width", ["column", "page"])
def test_neighbouring_heads_are_named_apart(width):
    table = head_table(24, 16).assign(significant=True)
    table["diff"] = np.where((table["layer"] == 20) & (table["head"] > 9), -0.1, 1e-6)
    names = check(heads(table, width=width))
    assert {f"20.{head}" for head in range(10, 16)} <= set(names)


@pytest.mark.parametrize(
    "table",
    [
        how_table([f"{x}->{y}" for x in PARTS for y in PARTS]),
        how_table(["Q->D"], ["zero"]),
        how_table([LONG, "CLS->{Q,SEP1,D,SEP2}@0:8", "Q->D+D->Q#8.1,4.9,10.11"], HOWS[:2]),
        how_table(["Q->D", "D->Q"], [f"a way of cutting, number {i}" for i in range(12)]),
        how_table(NINE).assign(diff=0.0, ci_low=NAN, ci_high=NAN),
        how_table(NINE).assign(diff=1e-7, ci_low=-1e-7, ci_high=2e-7),
    ],
    ids=["25", "one", "long", "many-ways", "nan", "tiny"],
)
def test_comparisons_can_be_read(table):
    check(hows(table, title="Five ways to cut"))


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (curves, curve_table([LONG, *NINE[:8]], points=25, same_end=True)),
        (heads, head_table(24, 16)),
        (hows, how_table([f"{x}->{y}" for x in PARTS for y in PARTS])),
    ],
)
def test_figures_as_wide_as_a_page_can_be_read(draw, table):
    check(draw(table, width="page", title="A reranker on TREC DL 2019"))


directions = st.sampled_from([*(f"{x}->{y}" for x in PARTS for y in (*PARTS, "All")), LONG])
numbers = st.floats(-1, 1) | st.sampled_from([0.0, 0.5, 1e-9])
widths = st.sampled_from(["column", "page"])
words = st.text("abc DQ->{},.@$_\\^%0129", max_size=60)


@st.composite
def curve_tables(draw):
    tables = []
    points, original = draw(st.integers(1, 25)), draw(st.floats(0, 1))
    for name in draw(st.lists(directions, min_size=1, max_size=9, unique=True)):
        mean = draw(st.lists(st.floats(0, 1), min_size=points, max_size=points))
        interval = draw(st.sampled_from([(-0.1, 0.1), (NAN, NAN), (0.0, 0.0)]))
        tables.append(curve_rows(name, mean, original, interval=interval))
    return pd.concat(tables, ignore_index=True)


@given(curve_tables(), st.floats(0, 1), st.sampled_from(sorted(KINDS)), words, words, widths)
@settings(max_examples=15)
def test_any_curves_can_be_read(table, random, kind, measure, title, width):
    check(curves(table, random=random, kind=kind, measure=measure, title=title, width=width))


@given(st.integers(1, 24), st.integers(1, 16), st.integers(0, 999), words, words, widths)
@settings(max_examples=10)
def test_any_head_map_can_be_read(layers, number, seed, measure, title, width):
    table = head_table(layers, number, seed)
    check(figures.head_map(table, measure=measure, title=title, width=width))


@given(
    st.lists(directions, min_size=1, max_size=25, unique=True),
    st.lists(numbers, min_size=75, max_size=75),
    words,
    widths,
)
@settings(max_examples=10)
def test_any_comparison_can_be_read(cuts, values, title, width):
    table = how_table(cuts, HOWS[:3])
    table["diff"] = values[: len(table)]
    check(hows(table, title=title, width=width))


# What is drawn is the table


def test_curves_are_the_table():
    table = curve_table(NINE)
    table.loc[table["direction"] == "D->D", ["ci_low", "ci_high"]] = NAN
    axes = curves(table.sample(frac=1, random_state=3)).axes[0]
    lines = {line.get_label(): line for line in axes.lines if line.get_linestyle() != "None"}
    assert lines.pop("original").get_ydata()[0] == 0.74
    assert lines.pop("random").get_ydata()[0] == 0.48
    assert set(lines) == set(NINE)
    bands = dict(zip(lines, axes.collections[::2], strict=True))
    for name, line in lines.items():
        rows = table[table["direction"] == name]
        assert line.get_xdata().tolist() == rows["n"].tolist()
        assert line.get_ydata().tolist() == rows["mean"].tolist()
        hollow, filled = (other for other in axes.lines if other.get_label() == f"_{name}")
        assert filled.get_xdata().tolist() == rows["n"][rows["significant"]].tolist()
        assert hollow.get_xdata().tolist() == rows["n"][~rows["significant"]].tolist()
        assert to_hex(hollow.get_markerfacecolor()) == "#ffffff"
        paths = bands[name].get_paths()
        if name == "D->D":
            assert paths == []
            continue
        corners = {tuple(np.round(corner, 9)) for corner in paths[0].vertices}
        low, high = (0.74 + rows[key] for key in ("ci_low", "ci_high"))
        for edge in (low, high):
            assert {(n, round(y, 9)) for n, y in zip(rows["n"], edge, strict=True)} <= corners


def test_an_interval_without_neighbours_is_a_bar():
    table = curve_rows("Q->D", [0.7, 0.6, 0.5])
    table.loc[[0, 2], ["ci_low", "ci_high"]] = NAN
    (segment,) = curves(table).axes[0].collections[1].get_segments()
    assert segment.ravel() == pytest.approx([1, 0.58, 1, 0.61])


def test_a_band_ends_where_the_measure_does():
    table = curve_rows("Q->D", [0.7, 0.6, 0.5])
    table["ci_high"], table["ci_low"] = 3.0, -2.0  # few queries: the mean may not be beyond 0 and 1
    figure = curves(table, caption=True)
    low, high = figure.axes[0].get_ylim()
    assert -0.1 < low < 0
    assert 1 < high < 1.1
    assert "Bands are drawn between 0 and 1." in " ".join(
        " ".join(text.get_text() for text in figure.texts).split()
    )
    table["mean"] = 40.0  # a count
    assert curves(table).axes[0].get_ylim()[1] > 3


def test_a_profile_of_a_measure_ends_its_bands_there_too():
    table = pd.DataFrame(
        {"layer": [0, 1], "series": "a", "value": [0.7, 0.5], "low": -2.0, "high": 3.0}
    )
    draw = partial(figures.layer_profile, table, quantity="nDCG@10")
    low, high = draw(bounded=True).axes[0].get_ylim()
    assert -0.1 < low < 0
    assert 1 < high < 1.1
    assert "Bands are drawn between 0 and 1." in draw(bounded=True).caption
    assert draw().axes[0].get_ylim()[1] > 3  # any other quantity
    table["value"] = 40.0  # a count
    assert draw(bounded=True).axes[0].get_ylim()[1] > 3


def test_curves_differ_in_grey():
    lines = [line for line in curves(curve_table(NINE)).axes[0].lines if line.get_label() in NINE]
    assert len({shape for _, shape in PALETTE[:12]}) == 12
    assert len({str(line._unscaled_dash_pattern) for line in lines}) >= 5


def test_without_a_random_ranking_there_is_no_line():
    assert "random" not in check(curves(curve_table(["Q->D"]), random=NAN))


def test_labels_are_in_the_order_of_the_curves_that_end_together():
    table = pd.concat([curve_rows(n, [v, 0.6]) for n, v in (("Q->D", 0.5), ("D->Q", 0.7))])
    names, boxes = texts(curves(table))
    height = dict(zip(names, boxes[:, 1], strict=True))
    assert height["Q→D"] < height["D→Q"]


def test_the_axis_says_what_is_counted():
    table = curve_table(["Q->D"])
    seen = {kind: check(curves(table, kind=kind, caption=True)) for kind in KINDS}
    for kind, names in seen.items():
        assert KINDS[kind] in names
        assert any("X no longer reads Y" in name for name in names)
        assert "nDCG@10" in names


def test_head_maps_are_the_table():
    table = head_table(3, 4)
    table = table.drop(index=5)
    figure = heads(table.sample(frac=1, random_state=3))
    axes = figure.axes[0]
    mesh = axes.collections[0].get_array()
    assert np.ma.getmaskarray(mesh)[1, 1]
    for row in table.itertuples():
        assert mesh[row.layer, row.head] == row.diff
    reach = table["diff"].abs().max()
    assert axes.collections[0].get_clim() == (-reach, reach)
    low, high = axes.get_ylim()
    assert low < high  # layer 0 at the bottom
    marks = [line for line in axes.lines if line.get_label() == "significant"]
    drawn = {
        (round(y), x): mark.get_marker()
        for mark in marks
        for x, y in zip(mark.get_xdata(), mark.get_ydata(), strict=True)
    }
    expected = table[table["significant"]]
    assert drawn == {
        (row.layer, row.head): "o" if row.diff <= 0 else "^" for row in expected.itertuples()
    }
    first = table.iloc[table["diff"].abs().argsort()[::-1][:6]]
    names = [f"{row.layer}.{row.head}" for row in first.itertuples()]
    shown = axes.texts or figure.texts
    assert {name for text in shown if "." in (name := text.get_text())} == set(names)
    assert len(names) == 6


@pytest.mark.parametrize("size", [(24, 16), (32, 40)])
def test_names_of_a_large_map_stand_beside_it_and_hide_no_cell(size):
    figure = heads(head_table(*size))
    names, boxes = texts(figure)
    named = [box for name, box in zip(names, boxes, strict=True) if re.fullmatch(r"\d+\.\d+", name)]
    assert len(named) == 6
    assert all(box[0] > figure.axes[0].bbox.x1 for box in named)


def test_heads_without_any_effect_are_not_named():
    figure = heads(head_table(12, 12).assign(diff=0.0, q=NAN, significant=False))
    check(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == []


def test_decreases_are_darker_than_increases_in_grey():
    figure = heads(head_table(2, 2))
    colours = figure.axes[0].collections[0].cmap(np.linspace(0, 1, 201))[:, :3]
    grey = colours @ [0.299, 0.587, 0.114]
    assert grey.argmax() == 100
    assert (grey[:100] < grey[:100:-1] + 1e-9).all()
    assert (np.diff(grey[:101]) > 0).all()
    assert (np.diff(grey[100:]) < 0).all()
    assert grey[-1] - grey[0] > 0.2


def test_comparisons_are_the_table():
    table = how_table(["Q->D", "D->SEP2", "D->D"]).sample(frac=1, random_state=3)
    axes = hows(table).axes[0]
    means = table.groupby("cut")["diff"].mean().sort_values()
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [name.replace("->", "→") for name in means.index]
    low, high = axes.get_ylim()
    assert low > high  # the largest decrease on top
    middle = axes.get_yticks()
    drawn = {}
    for line in axes.lines:
        how = line.get_label().removeprefix("_")
        if how in HOWS:
            filled = not line.get_label().startswith("_")
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
                drawn[means.index[np.abs(middle - y).argmin()], how] = (x, filled)
    assert drawn == {(row.cut, row.how): (row.diff, row.significant) for row in table.itertuples()}
    segments = [s for c in axes.collections for s in c.get_segments()]
    ends = {(round(s[0][0], 9), round(s[1][0], 9)) for s in segments}
    assert ends == {(round(r.ci_low, 9), round(r.ci_high, 9)) for r in table.itertuples()}


def test_the_widths_are_those_of_a_paper():
    for draw, table in ((curves, curve_table(NINE)), (heads, head_table(12, 12)),
                        (hows, how_table(NINE))):  # fmt: skip
        for width, inches in (("column", 3.35), ("page", 7.0)):
            figure = draw(table, width=width)
            assert figure.get_size_inches()[0] == pytest.approx(inches)
            assert figure.get_size_inches()[1] < 9
            for text in figure.findobj(Text):
                assert 6 <= text.get_fontsize() <= 8 or not text.get_text()


# Labels moved apart


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(1, 12)), min_size=1, max_size=11))
def test_labels_are_moved_apart(labels):
    wanted, heights = np.array(sorted(labels)).T
    found = spread(wanted, heights, -5.0, -5.0 + max(heights.sum() + 1, 110))
    assert (np.diff(found) >= (heights[1:] + heights[:-1]) / 2 - 1e-9).all()
    assert found[0] - heights[0] / 2 >= -5 - 1e-9
    assert found[-1] + heights[-1] / 2 <= -5 + max(heights.sum() + 1, 110) + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_labels_move_as_little_as_can_be(seed):
    rng = np.random.default_rng(seed)
    wanted, heights = np.sort(rng.uniform(0, 30, 5)), rng.uniform(4, 8, 5)
    apart = (heights[1:] + heights[:-1]) / 2
    limits = (
        {"type": "ineq", "fun": lambda x: np.diff(x) - apart},
        {"type": "ineq", "fun": lambda x: x[0] - heights[0] / 2},
        {"type": "ineq", "fun": lambda x: 45 - x[-1] - heights[-1] / 2},
    )
    best = minimize(lambda x: ((x - wanted) ** 2).sum(), wanted, constraints=limits)
    assert spread(wanted, heights, 0.0, 45.0) == pytest.approx(best.x, abs=1e-3)


def test_labels_with_room_stay():
    wanted = np.array([5.0, 20.0, 40.0])
    assert spread(wanted, np.full(3, 8.0), 0.0, 50.0).tolist() == wanted.tolist()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6, unique=True),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20),
)
def test_names_beside_cells_cover_no_cell_no_name_and_no_mark(cells, marks):
    cells = np.array([(13 * x, 9 * y, 13, 9) for x, y in cells], dtype=np.float64)
    marks = np.array([(13 * x, 9 * y, 3, 3) for x, y in marks], dtype=np.float64).reshape(-1, 4)
    sheet = np.array([58.5, 40.5, 190.0, 150.0])
    found = beside(cells, np.tile([22.0, 8.0], (len(cells), 1)), marks, sheet)
    if not len(marks):
        assert np.isfinite(found).all()
    found = found[np.isfinite(found).all(1)]
    boxes = np.vstack([found, cells, marks])
    low = boxes[:, :2] - boxes[:, 2:] / 2
    high = low + boxes[:, 2:]
    assert (low[: len(found)] >= sheet[:2] - sheet[2:] / 2).all()
    assert (high[: len(found)] <= sheet[:2] + sheet[2:] / 2).all()
    for i, j in itertools.product(range(len(found)), range(len(boxes))):
        if j <= i:
            continue
        assert (np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]) <= 0.02).any()


def test_names_leave_marks_in_sight():
    cell = np.array([[50.0, 50.0, 10.0, 10.0]])
    marks = np.array([[50.0, y, 3.0, 3.0] for y in (40.0, 60.0)])
    sheet = np.array([50.0, 50.0, 200.0, 200.0])
    x, y, *_ = beside(cell, np.array([[8.0, 8.0]]), marks, sheet)[0]
    assert y == 50.0
    assert abs(x - 50) == 10.0


def test_a_name_without_a_place_is_left_out():
    cells = np.array([[5.0, 5.0, 10.0, 10.0]])
    found = beside(cells, np.array([[8.0, 8.0]]), np.empty((0, 4)), cells[0])
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Q→D", ["Q→D"]),
        ("", [""]),
        ("{Q,SEP1,D,SEP2}→{Q,SEP1,D,SEP2}", ["{Q,SEP1,D,SEP2}→", "{Q,SEP1,D,SEP2}"]),
        ("Q→D+D→Q+CLS→SEP1", ["Q→D+D→Q+", "CLS→SEP1"]),
        ("CLS→{Q,SEP1,D,SEP2}@0:12", ["CLS→", "{Q,SEP1,D,SEP2}", "@0:12"]),
        ("two  words and\nmore of them", ["two words and more", "of them"]),
        ("nDCG(dcg='exp-log2')@10", ["nDCG(dcg='exp-log", "2')@10"]),
    ],
)
def test_long_texts_are_broken_where_it_reads_well(text, lines):
    page = Page(width="column")
    assert page.wrap(text, 72.0, 7.0).split("\n") == lines
    assert page.widest(lines, 7.0) <= 72.0


def test_numbers_are_written_as_in_papers():
    assert written([0.5, 0.75, 1.0]) == [".50", ".75", "1.00"]
    assert written([-0.1, 0.0, 0.1], sign=True) == [f"{MINUS}.1", "0", "+.1"]
    assert written([0.0, 200.0]) == ["0", "200"]
    assert written([0.30000000000000004]) == [".3"]


# Files

SCRIPT = """
import hashlib, sys
import matplotlib
matplotlib.rcParams.update({"font.size": 20, "axes.grid": True, "svg.fonttype": "path"})
from matchlens import figures
for figure in samples():
    for content in figures.render(figure).values():
        print(hashlib.sha256(content).hexdigest())
print("pyplot" if "matplotlib.pyplot" in sys.modules else "none")
print(matplotlib.rcParams["font.size"])
"""


def samples():
    """Small figures; another process runs this function's source."""
    import pandas as pd

    from matchlens import figures

    interval = {"ci_low": [-0.01, -0.2] * 2, "ci_high": [0.01, -0.1] * 2}
    diff, significant = [0.0, -0.15, 0.001, -0.16], [False, True] * 2
    table = pd.DataFrame(interval | {"diff": diff, "significant": significant, "original": 0.74})
    table["mean"] = table["diff"] + 0.74
    curve = table.assign(direction=["Q->D", "Q->D", "D->D", "D->D"], n=[0, 1, 0, 1])
    head = table.assign(layer=[0, 0, 1, 1], head=[0, 1, 0, 1], q=0.5)
    cuts = table.assign(cut=["Q->D", "D->D", "Q->D", "D->D"], how=["zero", "zero", "mask", "mask"])
    yield figures.layer_curves(curve, measure="nDCG@10", random=0.48, title="Up to each layer")
    yield figures.head_map(head, measure="nDCG@10")
    yield figures.comparison(cuts, measure="nDCG@10")


@pytest.fixture(scope="module")
def rendered():
    before = dict(matplotlib.rcParams.copy())
    content = [figures.render(figure) for figure in samples()]
    assert dict(matplotlib.rcParams.copy()) == before
    return content


@pytest.mark.slow
def test_files_are_the_same_in_another_process(rendered):
    mine = [hashlib.sha256(c).hexdigest() for files in rendered for c in files.values()]
    found = subprocess.run(
        [sys.executable, "-c", inspect.getsource(samples) + SCRIPT],
        env=os.environ | {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == [*mine, "none", "20.0"]


def test_files_are_the_same_twice(rendered):
    assert figures.render(next(samples())) == rendered[0]


def test_files_hold_text_and_fonts_but_no_dates(rendered):
    for files in rendered:
        assert list(files) == ["svg", "pdf", "png"]
        svg = files["svg"].decode()
        assert re.search(r"<text[^>]*>nDCG@10</text>|change of nDCG@10", svg)
        assert "dc:date" not in svg
        assert matplotlib.__version__ not in svg
        pdf = files["pdf"]
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
        assert not any(key in pdf for key in (b"CreationDate", b"/Creator", b"/Producer"))
        assert b"Software" not in files["png"]
        assert b"pHYs\x00\x00\x2e\x23" in files["png"]  # 11811 dots a metre: 300 an inch


def test_save_writes_what_render_gives(rendered, tmp_path):
    paths = figures.save(next(samples()), tmp_path / "ablation" / "figures", "up-to.v1")
    assert [path.name for path in paths] == ["up-to.v1.svg", "up-to.v1.pdf", "up-to.v1.png"]
    assert [path.read_bytes() for path in paths] == list(rendered[0].values())
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(p.name for p in paths)


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden"])
def test_a_name_that_is_no_file_name_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="cannot name a figure's files"):
        figures.save(next(samples()), tmp_path, name)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="give a folder that can be written"):
        figures.save(next(samples()), tmp_path / "file" / "sub", "a")


# Errors

GOOD = ((curves, curve_table(["Q->D"])), (heads, head_table(2, 2)), (hows, how_table(["Q->D"])))


@pytest.mark.parametrize(("draw", "table"), GOOD)
def test_an_empty_table_is_refused(draw, table):
    with pytest.raises(InputError, match="has no rows") as error:
        draw(table.iloc[:0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("draw", "table"), GOOD)
def test_two_rows_for_one_thing_are_refused(draw, table):
    with pytest.raises(InputError, match="has several rows for"):
        draw(pd.concat([table, table.iloc[:1]]))


@pytest.mark.parametrize(
    ("draw", "table", "message"),
    [
        (curves, curve_rows("Q->D", [0.5, NAN]), "'mean' has NaN or infinity in row 1"),
        (curves, curve_rows("Q->D", [0.5], n=[-1]), "'n' has negative or broken numbers"),
        (curves, curve_rows("Q->D", [0.5], n=[0.5]), "'n' has negative or broken numbers"),
        (curves, curve_rows("Q->D", [0.5], n=["a"]), "'n' holds no numbers"),
        (curves, curve_rows("Q->D", [0.5, 0.5], original=[0.5, 0.6]), "has several numbers"),
        (
            heads,
            head_table(2, 2).assign(layer=-1, head=range(4)),
            "'layer' has negative or broken numbers",
        ),
        (hows, how_table(["Q->D"]).assign(diff=NAN), "'diff' has NaN"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, table, message):
    with pytest.raises(InputError, match=message):
        draw(table)


def test_an_unknown_kind_and_an_unknown_width_are_refused():
    with pytest.raises(InputError, match="kind 'upto' is not known; expected one of up-to, from"):
        curves(curve_table(["Q->D"]), kind="upto")
    for draw, table in GOOD:
        with pytest.raises(InputError, match="width 'wide' is not known; expected one of column"):
            draw(table, width="wide")


def test_significance_that_is_unknown_is_none():
    table = curve_rows("Q->D", [0.5, 0.4], significant=[None, True])
    marks = {line.get_label(): line for line in curves(table).axes[0].lines[3:]}
    assert marks["_Q->D"].get_xdata().tolist() == [1]
    assert len(list(itertools.chain(marks))) == 1


# Captions, axes of one's own, notebooks


@pytest.mark.parametrize(("draw", "table"), GOOD)
def test_a_caption_is_kept_beside_the_figure_and_drawn_when_asked_for(draw, table):
    plain, explained = draw(table), draw(table, caption=True)
    words = plain.caption.split(".")[0]
    assert len(words) > 10
    assert words not in " ".join(" ".join(check(plain)).split())
    assert words in " ".join(" ".join(check(explained)).split())
    assert plain.get_size_inches()[1] < explained.get_size_inches()[1]
    content = figures.render(plain)
    assert words.split(":")[0].encode()[:12] in content["svg"]


@pytest.mark.parametrize(("draw", "table"), GOOD)
def test_a_figure_can_be_drawn_into_axes_of_one_s_own(draw, table):
    whole = Figure(figsize=(9, 6))
    FigureCanvasAgg(whole)
    left, right = whole.subplots(1, 2)
    before = right.get_window_extent().extents
    assert draw(table, ax=right, title="Right") is whole
    left.plot([0, 1])
    assert right.get_xlabel()
    names, boxes = texts(whole)
    assert "Right" in names
    mine = np.array([box for name, box in zip(names, boxes, strict=True)
                     if name in {"Right", right.get_xlabel()}])  # fmt: skip
    assert (mine[:, 0] >= before[0] - 1).all()
    assert (mine[:, 2] <= before[2] + 1).all()
    inside = right.get_window_extent().extents
    assert (inside[:2] >= before[:2] - 1).all()
    assert (inside[2:] <= before[2:] + 1).all()


def test_axes_that_are_too_small_are_refused():
    table = curve_table(["Q->D"])
    small = Figure(figsize=(3, 0.5)).subplots()
    with pytest.raises(InputError, match=r"points high, .* make the figure larger"):
        curves(table, ax=small)


@pytest.mark.parametrize(("draw", "table"), GOOD)
def test_axes_have_labels(draw, table):
    assert draw(table).axes[0].get_xlabel()
    assert draw is hows or draw(table).axes[0].get_ylabel()


def test_a_notebook_shows_a_figure_without_magic():
    figure = curves(curve_table(["Q->D"]))
    shown, size = figure._repr_png_()
    assert shown.startswith(b"\x89PNG")
    assert size["width"] == round(3.35 * 96)


def test_a_colour_has_one_meaning_whatever_else_is_drawn():
    def colour(names, name):
        axes = curves(curve_table(names)).axes[0]
        return next(line.get_color() for line in axes.lines if line.get_label() == name)

    assert len({colour(names, "D->D") for names in (["D->D"], NINE, ["SEP1->D", "D->D"])}) == 1
    meant = [MEANING[name] for name in ("Q->D", "D->Q", "D->D", "Q->Q", "relevant", "hard", "easy")]
    assert len(set(meant)) == len(meant)
    assert len(set(places(NINE).values())) == len(NINE)


def test_an_axis_of_zeros_alone_has_ticks_of_a_usual_size():
    assert reach(np.zeros(3), 0.05) == reach(np.array([]), 0.05) == (-1.0, 1.0)
    assert reach(np.array([0.0, 1e-7]), 0.05)[1] < 2e-7  # what is not zero is drawn
