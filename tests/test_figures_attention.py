"""Figures of attention and circuits: scatters, profiles, maps; drawn as the table says, legible."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from matchlens import figures
from matchlens.errors import InputError
from matchlens.figures.colours import NEUTRAL, PALETTE
from matchlens.figures.heads import ATTENTION_NOTE
from matchlens.figures.page import unit
from test_figures import check, head_table, texts, words

NAN = float("nan")
CLASSES = ("relevant", "hard", "easy")
widths = st.sampled_from(["column", "page"])
seeds, powers = st.integers(0, 99), st.integers(-9, 9)


def scatter_table(layers=3, heads=4, seed=0, scale=0.02):
    rng = np.random.default_rng(seed)
    layer, head = np.indices((layers, heads)).reshape(2, -1)
    spread = rng.exponential(1, len(layer))
    qd = rng.normal(0, scale, len(layer)) * spread
    return pd.DataFrame(
        {
            "layer": layer,
            "head": head,
            "qd": qd,
            "dq": 0.5 * qd + rng.normal(0, scale / 2, len(layer)) * spread,
            "same": rng.normal(0, 0.1, len(layer)),
            "qd_significant": np.abs(qd) > scale,
            "dq_significant": rng.uniform(0, 1, len(layer)) < 0.1,
        }
    )


def profile_table(layers=12, series=("CLS", "SEP1", "SEP2"), panels=(), seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    rows = []
    for panel in panels or ("",):
        for name in series:
            value = scale * np.clip(
                rng.uniform(0, 1) + np.cumsum(rng.normal(0, 0.05, layers)), 0, 1
            )
            row = {"layer": np.arange(layers), "series": name, "value": value}
            row |= {"low": 0.7 * value, "high": 1.2 * value}
            rows.append(pd.DataFrame(row | ({"panel": panel} if panels else {})))
    return pd.concat(rows, ignore_index=True)


def scatter(table, **how):
    labels = {"qd": how.pop("x_words", "Q->D: relevant less easy mass"),
              "dq": how.pop("y_words", "D->Q"), "same": "change of same-token share"}  # fmt: skip
    if not how.pop("stars", False):
        table = table.drop(columns=["qd_significant", "dq_significant"], errors="ignore")
    return figures.head_scatter(table, x="qd", y="dq", labels=labels, **how)


def profile(table, **how):
    return figures.layer_profile(table, **{"quantity": "share of Q's attention"} | how)


COLOUR = {"colour": "same"}
STARS = {"stars": True}


def points(figure):
    """Every point of a scatter: its place, shape (corners), face and whether it is filled."""
    found = {}
    for group in figure.axes[0].collections:
        corners = len(group.get_paths()[0].vertices)
        faces = np.broadcast_to(group.get_facecolors(), (len(group.get_offsets()), 4))
        for (x, y), face in zip(group.get_offsets(), faces, strict=True):
            found[round(float(x), 9), round(float(y), 9)] = (
                "^" if corners < 6 else "o", to_hex(face), group.get_label() == "filled",
            )  # fmt: skip
    return found


# Nothing cut off, nothing covered


@pytest.mark.parametrize(
    ("table", "how"),
    [
        (scatter_table(12, 12), COLOUR | STARS | {"title": "Attention mass in Q->D " * 6}),
        (scatter_table(24, 16), STARS | {"width": "page"}),
        (scatter_table(24, 16), COLOUR),
        (scatter_table(1, 1), COLOUR),
        (scatter_table(2, 8).assign(qd=0.25, dq=0.5), {}),
        (scatter_table(12, 12).assign(dq=NAN), COLOUR | STARS),
        (scatter_table(12, 12, scale=1e-9), COLOUR),
        (scatter_table(12, 12, scale=1e9), COLOUR | {"y_words": "an axis of many words " * 6}),
        (scatter_table(12, 12).assign(same=NAN), COLOUR),
    ],
    ids=["12", "24", "coloured", "one", "same", "nan", "tiny", "huge", "no-colour"],
)
def test_scatters_can_be_read(table, how):
    check(scatter(table, **how))


@pytest.mark.parametrize(
    ("table", "how"),
    [
        (profile_table(panels=("mass", "norm mass")), {"title": "Where Q's attention goes " * 4}),
        (profile_table(24, [f"{d} {c}" for d in ("Q->D", "D->Q") for c in CLASSES]), {}),
        (profile_table(24, CLASSES, ("Q->D", "D->Q"), scale=1e-7), {"width": "page"}),
        (profile_table(1), {}),
        (profile_table(12).assign(value=0.0, low=NAN, high=NAN), {}),
        (profile_table(12, panels=("mass", "norm mass")).assign(value=NAN), {}),
        (profile_table(6, [f"a series of a long name, number {i}" for i in range(9)]), {}),
        (profile_table(12, ["CLS"], [f"panel {i} " + "word " * 20 for i in range(4)]), {}),
    ],
    ids=["panels", "24", "tiny", "one", "zero", "nan", "many", "long"],
)
def test_profiles_can_be_read(table, how):
    check(profile(table, **how))


@given(st.integers(1, 16), st.integers(1, 12), seeds, powers, words, widths)
@settings(max_examples=8)
def test_any_scatter_can_be_read(layers, heads, seed, power, said, width):
    table = scatter_table(layers, heads, seed, 10.0**power)
    check(scatter(table, **COLOUR, x_words=said, y_words=said, title=said, width=width))


@given(st.integers(1, 24), st.integers(1, 9), seeds, powers, words, widths)
@settings(max_examples=8)
def test_any_profile_can_be_read(layers, series, seed, power, said, width):
    names = [f"{said} {i}" for i in range(series)]
    table = profile_table(layers, names, ("a", "b"), seed, 10.0**power)
    check(profile(table, quantity=said, title=said, width=width))


# What is drawn is the table


def test_scatters_are_the_table():
    table = scatter_table(12, 12)
    drawn = points(scatter(table.sample(frac=1, random_state=3), **COLOUR, **STARS))
    assert len(drawn) == len(table)
    reach = table["same"].abs().max()
    for row in table.itertuples():
        shape, face, filled = drawn[round(row.qd, 9), round(row.dq, 9)]
        assert filled == (row.qd_significant or row.dq_significant)
        assert shape == ("^" if row.same > 0 else "o")  # the sign shows in grey
        if filled:
            blue = int(face[5:], 16) > int(face[1:3], 16)
            assert blue == (row.same < 0) or abs(row.same) < 0.02 * reach
        else:
            assert face == "#ffffff"


def test_without_significance_all_points_are_filled_and_have_one_colour():
    drawn = points(scatter(scatter_table())).values()
    assert set(drawn) == {("o", PALETTE[NEUTRAL][0].lower(), True)}


def test_a_head_without_a_number_is_left_out_and_counted():
    table = scatter_table()
    table.loc[[0, 5], "qd"] = NAN
    table.loc[[5, 7], "dq"] = [NAN, float("inf")]
    table.loc[2, "same"] = NAN
    figure = scatter(table, **COLOUR, caption=True)
    assert len(points(figure)) == 12 - 3 - 1
    (cross,) = [line for line in figure.axes[0].lines if line.get_label() == "unknown"]
    assert cross.get_xdata().tolist() == [table["qd"][2]]
    note = " ".join(" ".join(check(figure)).split())
    assert "Left out: 3 heads without both numbers." in note
    assert "Cross: no number for the colour (1)." in note
    empty = scatter(table.assign(qd=NAN), **COLOUR)
    assert "no head has both numbers" in check(empty)


def test_the_farthest_heads_are_named():
    table = scatter_table(12, 12)
    far = [(3, 7, 0.5, 0.0), (11, 2, 0.0, -0.4), (0, 0, -0.6, 0.4)]
    for layer, head, *place in far:
        table.loc[12 * layer + head, ["qd", "dq"]] = place
    named = [text.get_text() for text in scatter(table).axes[0].texts]
    assert set(named[:3]) == {"3.7", "11.2", "0.0"}
    assert len(named) <= 8
    few = [text.get_text() for text in scatter(scatter_table(1, 2)).axes[0].texts]
    assert sorted(few) == ["0.0", "0.1"]


def test_names_stand_near_their_points_and_never_on_others():
    table = scatter_table(12, 12)
    figure = scatter(table)
    names, boxes = texts(figure)
    axes, place = figure.axes[0], table.set_index(["layer", "head"])
    named = {text.get_text() for text in axes.texts}
    dots = axes.transData.transform(table[["qd", "dq"]].to_numpy())
    for name, box in zip(names, boxes, strict=True):
        if name not in named:
            continue
        layer, head = map(int, name.split("."))
        x, y = axes.transData.transform(place.loc[(layer, head), ["qd", "dq"]].to_numpy(float))
        aside = np.hypot(max(box[0] - x, x - box[2], 0), max(box[1] - y, y - box[3], 0))
        assert 0 < aside < 90 * 300 / 72
        assert not ((dots > box[:2]) & (dots < box[2:])).all(1).any()


def test_zero_lines_are_drawn_where_zero_is_near():
    near, off = scatter(scatter_table()), scatter(scatter_table().assign(qd=range(100, 112)))
    assert near.axes[0].get_xlim()[0] < 0 < near.axes[0].get_xlim()[1]
    assert off.axes[0].get_xlim()[0] > 90


def test_profiles_are_the_table():
    table = profile_table(panels=("mass", "norm mass"))
    table.loc[table["series"] == "SEP2", ["low", "high"]] = NAN
    table.loc[3, "value"] = NAN
    figure = profile(table.sample(frac=1, random_state=3).sort_values("panel", kind="stable"))
    names = check(figure)
    assert {"mass", "norm mass", "CLS", "SEP1", "SEP2", "share of Q's attention"} <= set(names)
    assert len(figure.axes) == 2
    for axes, (_, rows) in zip(figure.axes, table.groupby("panel"), strict=True):
        lines = {line.get_label(): line for line in axes.lines if "_" not in line.get_label()}
        assert set(lines) == {"CLS", "SEP1", "SEP2"}
        for name, line in lines.items():
            own = rows[rows["series"] == name]
            assert line.get_xdata().tolist() == own["layer"].tolist()
            np.testing.assert_allclose(line.get_ydata(), own["value"])
        bands = [c for c in axes.collections if c.get_paths() and len(c.get_paths()[0].vertices)]
        assert len(bands) == 2  # SEP2 has none
        assert len({line.get_marker() for line in lines.values()}) == 3
        assert len({str(line._unscaled_dash_pattern) for line in lines.values()}) == 3
    top, bottom = (axes.get_position() for axes in figure.axes)
    assert (top.x0, top.x1) == (bottom.x0, bottom.x1)
    assert top.y0 > bottom.y1


def test_a_series_has_one_sign_in_all_panels():
    table = profile_table(panels=("mass", "norm mass"))
    table = table[~((table["panel"] == "mass") & (table["series"] == "CLS"))]
    first, second = (
        {line.get_label(): line.get_color() for line in axes.lines} for axes in profile(table).axes
    )
    assert first["SEP1"] == second["SEP1"]
    assert first["SEP2"] == second["SEP2"]


def test_a_series_without_numbers_has_no_label():
    table = profile_table(panels=("mass", "norm mass"))
    table.loc[(table["panel"] == "mass") & (table["series"] == "CLS"), "value"] = NAN
    names = check(profile(table))
    assert names.count("CLS") == 1
    assert names.count("SEP1") == 2


def test_maps_of_attention_say_what_they_show():
    said = "Q->D attention mass, relevant less easy"
    table = head_table(12, 12)
    seen = check(figures.head_map(table, words=said, note=ATTENTION_NOTE, title="A model",
                                    caption=True))  # fmt: skip
    assert "Q→D attention mass, relevant less easy" in [name.replace("\n", " ") for name in seen]
    whole = " ".join(" ".join(seen).split())
    assert "significantly lower for relevant passages" in whole
    assert "X→Y: X reads Y." in whole
    assert "without the head" not in whole
    assert "cut" not in whole


@pytest.mark.parametrize("said", [{}, {"measure": "nDCG@10", "words": "mass"}])
def test_a_map_needs_a_measure_or_words(said):
    with pytest.raises(InputError, match="needs either measure or words; give measure=") as error:
        figures.head_map(head_table(2, 2), **said)
    assert "\n" not in str(error.value)


@given(st.floats(-1e300, 1e300))
def test_units_leave_numbers_that_can_be_written(value):
    scale, said = unit(value, NAN, 0.0)
    assert bool(said) == (scale != 1.0)
    if abs(value) > 1e-290:
        assert 1e-3 <= abs(value) / scale < 1e5


@pytest.mark.slow
def test_figures_are_the_same_twice_and_rows_of_a_scatter_may_be_in_any_order():
    table = scatter_table(12, 12)
    mixed = table.sample(frac=1, random_state=3)
    first = figures.render(scatter(table, **COLOUR, **STARS))
    assert figures.render(scatter(mixed, **COLOUR, **STARS)) == first
    assert list(first) == ["svg", "pdf", "png"]
    assert b"/Type3" not in first["pdf"]
    again = (figures.render(profile(profile_table())) for _ in range(2))
    assert next(again) == next(again)


def test_the_widths_are_those_of_a_paper():
    for draw, table in ((scatter, scatter_table(12, 12)), (profile, profile_table())):
        for width, inches in (("column", 3.35), ("page", 7.0)):
            size = draw(table, width=width).get_size_inches()
            assert size[0] == pytest.approx(inches)
            assert size[1] < 9


# Errors

GOOD = ((scatter, scatter_table()), (profile, profile_table(3)))


@pytest.mark.parametrize(("draw", "table"), GOOD)
def test_tables_without_rows_or_with_two_for_one_thing_are_refused(draw, table):
    with pytest.raises(InputError, match="has no rows") as error:
        draw(table.iloc[:0])
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="has several rows for") as error:
        draw(pd.concat([table, table.iloc[:1]]))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="width 'wide' is not known"):
        draw(table, width="wide")


@pytest.mark.parametrize(
    ("draw", "table", "column"),
    [
        (draw, table, column)
        for draw, table in GOOD
        for column in table.columns
        if not column.endswith("_significant")
    ],
)
def test_a_missing_column_is_named(draw, table, column):
    how = COLOUR if draw is scatter else {}
    with pytest.raises(InputError, match=f"no column '{column}'") as error:
        draw(table.drop(columns=column), **how)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("draw", "table", "message"),
    [
        (scatter, scatter_table().assign(layer=-1), "'layer' has negative or"),
        (scatter, scatter_table().assign(qd="a"), "'qd' holds no numbers"),
        (scatter, scatter_table().assign(same=float("inf")), "'same' has an infinity"),
        (profile, profile_table(3).assign(value="a"), "'value' holds no numbers"),
        (
            profile,
            profile_table(3).assign(layer=[0, 1, 0.5] * 3),
            "'layer' has negative or broken numbers",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, table, message):
    table = table.assign(head=range(12)) if (table["layer"] == -1).all() else table
    with pytest.raises(InputError, match=message) as error:
        draw(table, **(COLOUR if draw is scatter else {}))
    assert "\n" not in str(error.value)
