"""Figures of chosen heads: distributions, sets against random ones, shares of variance."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.patches import StepPatch

from matchlens import figures
from matchlens.errors import InputError
from test_figures import check, words

NAN = float("nan")
CLASSES = ("relevant", "hard", "easy")
TERMS = ("matching (x, y)", "cross (q, y)", "cross (x, d)", "bias")
widths = st.sampled_from(["column", "page"])
seeds, powers = st.integers(0, 99), st.integers(-9, 9)


def bins_table(panels=2, seed=0, scale=1.0, classes=CLASSES, bins=12):
    rng = np.random.default_rng(seed)
    rows = []
    for head in range(panels):
        edges = np.linspace(0, scale * rng.uniform(0.2, 1), bins + 1)
        for name in classes:
            row = {"layer": 8 + head, "head": head, "direction": ("Q->D", "D->Q")[head % 2]}
            row |= {"class": name, "low": edges[:-1], "high": edges[1:]}
            rows.append(pd.DataFrame(row | {"count": rng.poisson(30 / np.arange(1, bins + 1))}))
    return pd.concat(rows, ignore_index=True)


def separations(table):
    rows = table[["layer", "head", "direction"]].drop_duplicates()
    return rows.assign(auc=0.93, ks=0.71).reset_index(drop=True)


def set_table(number=3, draws=40, seed=0, scale=0.02, name="matching Q->D ({} heads)"):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(number):
        mean = -scale * rng.exponential(3)
        own = {"draw": -1, "diff": mean, "ci_low": mean - scale, "ci_high": mean + scale}
        rows.append(own | {"set": name.replace("{}", str(i + 2)), "p_random": 1 / (i + 1) ** 4})
        random = rng.normal(0, scale, draws)
        rows += [
            {"set": name.replace("{}", str(i + 2)), "draw": k, "diff": d}
            for k, d in enumerate(random)
        ]
    return pd.DataFrame(rows)


def share_table(bars=6, terms=TERMS, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(bars):
        share = rng.dirichlet(np.ones(len(terms)))
        if len(terms) > 1:
            share += np.r_[0.3, -0.3, np.zeros(len(terms) - 2)]
        row = {"layer": i // 2, "head": i // 2 % 12, "direction": ("Q->D", "D->Q")[i % 2]}
        rows.append(pd.DataFrame(row | {"term": terms, "share": share}))
    return pd.concat(rows, ignore_index=True)


def distributions(table, separation=None, **how):
    apart = separations(table) if separation is None else separation
    return figures.class_distributions(table, apart, **{"quantity": "Q->D mass"} | how)


def sets(table, **how):
    return figures.set_effects(table, measure="nDCG@10", **how)


LONG = "the lexical matching heads of both Q->D and D->Q, number {}"

# Nothing cut off, nothing covered


@pytest.mark.parametrize("panels", range(1, 7))
@pytest.mark.parametrize("width", ["column", "page"])
def test_distributions_can_be_read(panels, width):
    check(distributions(bins_table(panels), width=width, title="Chosen heads in Q->D " * panels))


@pytest.mark.parametrize(
    ("draw", "table", "how"),
    [
        (distributions, bins_table(6, scale=1e-7), {}),
        (distributions, bins_table(6, scale=1e7, bins=100), {"quantity": "a long name " * 20}),
        (distributions, bins_table(2, classes=("b", "a class of a long name " * 4, "easy")), {}),
        (distributions, bins_table(1, bins=1).assign(count=0), {}),
        (sets, set_table(12, name=LONG), {"title": "Heads cut together in Q->D " * 4}),
        (sets, set_table(12, 200), {"width": "page"}),
        (sets, set_table(1, 0), {}),
        (sets, set_table(3, scale=0.0), {}),
        (sets, set_table(3, scale=1e-9).assign(p_random=NAN, ci_low=NAN), {}),
        (figures.shares, share_table(20), {"title": "What the logits of Q->D vary with " * 4}),
        (figures.shares, share_table(40, tuple("abcdefgh")), {"width": "page"}),
        (figures.shares, share_table(1, ("all",)), {}),
        (figures.shares, share_table(4, ("a term of a very long name " * 3, "cross Q->D")), {}),
        (figures.shares, share_table(4).assign(share=NAN), {}),
    ],
)
def test_figures_of_chosen_heads_can_be_read(draw, table, how):
    check(draw(table, **how))


@given(st.integers(1, 6), seeds, powers, words, widths)
@settings(max_examples=5)
def test_any_distributions_can_be_read(panels, seed, power, said, width):
    table = bins_table(panels, seed, 10.0**power)
    check(distributions(table, quantity=said, title=said, width=width))


@given(st.integers(1, 12), seeds, powers, words, widths)
@settings(max_examples=5)
def test_any_sets_can_be_read(number, seed, power, said, width):
    table = set_table(number, 5, seed, 10.0**power, name=f"{said} {{}}")
    check(sets(table, title=said, width=width))


@given(st.integers(1, 20), st.integers(1, 8), seeds, words, widths)
@settings(max_examples=5)
def test_any_shares_can_be_read(bars, terms, seed, said, width):
    table = share_table(bars, [f"{said} {i}" for i in range(terms)], seed)
    check(figures.shares(table, words=said, title=said, width=width))


# What is drawn is the table


def test_distributions_are_the_table():
    table = bins_table(3)
    gone = (table["head"] == 2) & (table["class"] == "hard")
    table.loc[gone, "count"] = 0
    figure = distributions(table.sample(frac=1, random_state=3).sort_values("layer", kind="stable"))
    names = check(figure)
    assert [n for n in names if "." in n and "→" in n and n[0].isdigit()] == [
        "8.0 Q→D", "9.1 D→Q", "10.2 Q→D",
    ]  # fmt: skip
    assert names.count("AUC .93, KS .71") == 3
    assert set(CLASSES) <= set(names)
    for axes, (_, rows) in zip(figure.axes, table.groupby("layer"), strict=True):
        drawn = {p.get_label(): p for p in axes.patches if p.get_label() in CLASSES}
        assert set(drawn) == {"relevant", "easy"} | ({"hard"} if rows["head"].max() < 2 else set())
        for name, patch in drawn.items():
            assert isinstance(patch, StepPatch)
            own = rows[rows["class"] == name]
            values, edges, _ = patch.get_data()
            np.testing.assert_allclose(edges, np.r_[own["low"], own["high"].iloc[-1]])
            assert (values * np.diff(edges)).sum() == pytest.approx(1)
            np.testing.assert_allclose(values * np.diff(edges), own["count"] / own["count"].sum())
        dashes = {str(patch._unscaled_dash_pattern) for patch in drawn.values()}
        assert len(dashes) == len(drawn)  # told apart in grey


def test_what_separates_classes_is_left_out_where_unknown():
    table = bins_table(3)
    apart = separations(table).iloc[:2].assign(auc=[NAN, 1.0], ks=[0.5, 1.0])
    names = check(distributions(table, apart))
    assert [name for name in names if "KS" in name and "AUC:" not in name] == [
        "KS .50", "AUC 1.00, KS 1.00",
    ]  # fmt: skip


def test_sets_are_the_table():
    table = set_table(4)
    axes = sets(table.sample(frac=1, random_state=3).sort_values("set", kind="stable")).axes[0]
    middle, names = axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()]
    own = table[table["draw"] == -1].set_index("set")
    assert [name.replace("\n", " ") for name in names] == [n.replace("->", "→") for n in own.index]
    low, high = axes.get_ylim()
    assert low > high  # the first set on top
    marks = [line for line in axes.lines if line.get_label() == "named"]
    dots = [line for line in axes.lines if line.get_label() == "_random"]
    intervals = [segment for c in axes.collections for segment in c.get_segments()]
    for i, (name, row) in enumerate(own.iterrows()):
        assert marks[i].get_xdata().tolist() == [row["diff"]]
        assert marks[i].get_ydata().tolist() == [middle[i]]
        random = table[(table["set"] == name) & (table["draw"] >= 0)]
        assert dots[i].get_xdata().tolist() == random["diff"].tolist()
        assert np.abs(dots[i].get_ydata() - middle[i]).max() < np.diff(middle).min() / 2
        assert intervals[i][:, 0].tolist() == [row["ci_low"], row["ci_high"]]
    assert marks[0].get_markersize() > 2 * dots[0].get_markersize()


def test_p_is_written_as_in_papers():
    table = set_table(5)
    table.loc[table["draw"] == -1, "p_random"] = [1.0, 0.01, 0.0004, NAN, 0.2345]
    names = check(sets(table))
    assert [name for name in names if name.startswith("p ")] == [
        "p 1.000", "p .010", "p <.001", "p .234",
    ]  # fmt: skip


def test_shares_are_the_table():
    table = share_table(6)
    table.loc[table["layer"].eq(1) & table["direction"].eq("D->Q"), "share"] = NAN
    figure = figures.shares(table, caption=True)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["0.0 Q→D", "0.0 D→Q", "1.1 Q→D", "2.2 Q→D", "2.2 D→Q"]
    assert "Left out: 1 without known shares." in " ".join(" ".join(check(figure)).split())
    drawn = {}
    for term, patches in zip(TERMS * 5, (bar.patches for bar in axes.containers), strict=True):
        (patch,) = patches
        row = int(np.abs(axes.get_yticks() - patch.get_y() - patch.get_height() / 2).argmin())
        ends = sorted([patch.get_x(), patch.get_x() + patch.get_width()])
        drawn[names[row], term] = (patch.get_width(), *ends)
    known = table.dropna()
    assert len(drawn) == len(known)
    for name in names:
        at = [drawn[name, term] for term in TERMS]
        assert sum(width for width, *_ in at) == pytest.approx(1)
        whole = sorted((low, high) for _, low, high in at)
        assert all(a[1] == pytest.approx(b[0]) for a, b in itertools.pairwise(whole))
    for row in known.itertuples():
        name = f"{row.layer}.{row.head} {row.direction}".replace("->", "→")
        width, low, high = drawn[name, row.term]
        assert width == pytest.approx(row.share)
        assert (high <= 1e-9) if row.share < 0 else (low >= -1e-9)


def test_terms_differ_in_grey():
    axes = figures.shares(share_table(1, tuple("abcdefgh"))).axes[0]
    faces = [(to_rgb(p.get_facecolor()) @ np.array([0.299, 0.587, 0.114]), p.get_hatch())
             for bars in axes.containers for p in bars.patches]  # fmt: skip
    assert len({hatch for _, hatch in faces}) == 7
    plain = [grey for grey, hatch in faces if not hatch]
    assert abs(plain[0] - plain[1]) > 0.5


def samples():
    table = bins_table(2)
    yield lambda: distributions(table)
    yield lambda: sets(set_table(2))
    yield lambda: figures.shares(share_table(3))


@pytest.mark.slow
def test_figures_are_the_same_twice():
    for draw in samples():
        first = figures.render(draw())
        assert figures.render(draw()) == first
        assert b"/Type3" not in first["pdf"]
        assert b"dc:date" not in first["svg"]


# Errors

GOOD = (
    (distributions, bins_table(2)),
    (sets, set_table(2)),
    (figures.shares, share_table(3)),
)


@pytest.mark.parametrize(("draw", "table"), GOOD)
def test_tables_without_rows_or_with_two_for_one_thing_are_refused(draw, table):
    how = {"separation": separations(table)} if draw is distributions else {}
    for wrong, message in (
        (table.iloc[:0], "has no rows"),
        (pd.concat([table, table.iloc[:1]]), "has several rows for"),
    ):
        with pytest.raises(InputError, match=message) as error:
            draw(wrong, **how)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="width 'wide' is not known"):
        draw(table, width="wide", **how)


def shifted(table):
    low = table["low"].where(table["class"] != "easy", table["low"] * 1.01)
    return table.assign(low=low)


@pytest.mark.parametrize(
    ("draw", "table", "message"),
    [
        (distributions, bins_table(7), "7 panels; expected at most 6"),
        (distributions, bins_table(1, classes=tuple("abcdef")), "6 classes; expected at most 5"),
        (distributions, bins_table(1).assign(count=-1), "'count' has negative numbers"),
        (distributions, shifted(bins_table(1)), "bins of 8.0 Q->D, class 'easy', have gaps"),
        (distributions, bins_table(1).drop(index=[3]), "class 'relevant', have gaps"),
        (sets, set_table(2).iloc[1:], "no row of set .* itself; expected one row whose draw is -1"),
        (sets, set_table(2).assign(diff=NAN), "'diff' has NaN"),
        (figures.shares, share_table(2).iloc[1:], "sum to .*; expected 1"),
        (figures.shares, share_table(41), "41 bars; expected at most 40"),
        (figures.shares, share_table(1, tuple("abcdefghi")), "9 terms; expected at most 8"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, table, message):
    with pytest.raises(InputError, match=message) as error:
        draw(table)
    assert "\n" not in str(error.value)


def test_a_separation_without_its_columns_is_refused():
    table = bins_table(1)
    with pytest.raises(InputError, match="separation has no column 'ks'"):
        distributions(table, separations(table).drop(columns="ks"))
