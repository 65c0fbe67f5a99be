"""Matching heads: selected on one half of the queries, described and cut on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from matchlens.corpora import PairSet, thin
from matchlens.errors import InputError, counted
from matchlens.parts import Part
from matchlens.plan import single_cuts
from matchlens.ranking import Candidates, Measure, benjamini_hochberg, holm
from matchlens.ranking.effects import Evidence, both
from matchlens.studies.attention.contrasts import (
    Classes,
    Thresholds,
    class_means,
    contrast_table,
    known_mean,
    paired,
    pairwise,
    places,
    shared,
)
from matchlens.studies.attention.watching import Reader, Values
from matchlens.studies.common import Execution, half_of, pair_key, ranked, ratio
from matchlens.studies.cuts.head_sets import against, possible, set_conditions
from matchlens.studies.cuts.measuring import corrected, measured

CONTRAST = "relevant-easy"
RIVALS = (Part.CLS, Part.SEP1)
"""Tokens without query words: a matching head separates the passages better than they do."""
KINDS: Mapping[str, str] = {
    "stem": "lexical",
    "query_words": "query-word reader",
    "near": "semantic",
}
"""What a head reads more than expected, and its kind."""
UNEXPLAINED, UNKNOWN = "unexplained", "unknown"


@dataclass(frozen=True, eq=False)
class HeadMasses:
    """What identifies matching heads, in one direction."""

    mass: Values  # [pair, layer, head] mass in the direction
    # the mass of tokens without query words on the same part, by direction, such as `CLS->D` for
    # Q->D
    rivals: Mapping[str, Values]
    lengths: Float[np.ndarray, " pair"]  # [pair] tokens of the passages
    # `same_token` and `same_stem`, [pair, layer, head], where they were measured
    shares: Mapping[str, Values] = field(default_factory=dict)
    # the masses that distinguish kinds, by name; empty where they were not measured
    kinds: Mapping[str, Values] = field(default_factory=dict)
    # numbers of each pair that need no attention, by name
    surface: Mapping[str, Float[np.ndarray, " pair"]] = field(default_factory=dict)

    @classmethod
    def of(cls, reader: Reader, direction: str, lengths: Float[np.ndarray, " pair"]) -> HeadMasses:
        """The numbers of a direction that a pass measured."""
        x, y = places(direction)
        texts = {Part.Q, Part.D}
        among = {reader.containing(x), reader.containing(y)} <= texts
        rivals = {f"{rival}->{y}": reader.of("mass", rival, y) for rival in RIVALS if among}
        shares = ("same_token", "same_stem") if {x, y} <= texts else ()
        return cls(
            reader.of("mass", x, y),
            rivals,
            lengths,
            {name: reader.of(name, x, y) for name in shares if name in reader.arrays},
            reader.kinds(x, y),
            reader.surface(),
        )


def find(
    masses: HeadMasses, classes: Classes, direction: str, seed: int, thresholds: Thresholds
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The matching heads of a direction, and every head's numbers on both halves.

    Returns:
        One row for each head: direction, layer, head, diff_found, q_found, auc_found (half 0,
        passages of like length), over_cls and over_sep (AUC minus that of CLS and SEP1 on the same
        part, half 0) with q_cls and q_sep, matching; diff, p, auc, p_holm (over the matching
        heads) on half 1; there, too, same_token and same_stem (shares of the mass, relevant
        passages), the AUC that is left beside_length, beside_overlap and beside_similarity, the
        kinds (:func:`kinds_of`) and held (the same sign, p_holm <= q, AUC at or above its
        threshold and above both rivals).
        One row for each condition: direction, condition, heads (that pass it and those before it;
        the first, without regard to length, is there to compare), of, queries. And notes.

    Source: science 4, "Matching heads".
    """
    first, second = (classes.half(which, seed) for which in (0, 1))
    alike = {"lengths": masses.lengths, "within": thresholds.length}
    flat = masses.mass.reshape(len(masses.mass), -1)
    compared = [pairwise(flat, part, CONTRAST, **alike)[1] for part in (first, second)]
    known = [_queries(auc) for auc in compared]
    both = [_queries(pairwise(flat, part, CONTRAST)[1]) for part in (first, second)]
    if min(known) < 2:
        few = "relevant and easy passages" + (" of like length" if min(both) >= 2 else "")
        note = (
            f"half {int(np.argmin(known))} of the queries has fewer than two with {few}; no "
            f"matching heads are looked for {direction}"
        )
        return pd.DataFrame(), pd.DataFrame(), [note]
    loose = contrast_table(masses.mass, first, CONTRAST)
    selected = contrast_table(masses.mass, first, CONTRAST, **alike)
    described = contrast_table(masses.mass, second, CONTRAST, **alike)
    table = selected[["layer", "head"]].copy()
    table.insert(0, "direction", direction)
    for name in ("diff", "q", "auc"):
        table[f"{name}_found"] = selected[name]
    passed = _apart(selected, thresholds)
    counts = [
        ("relevant above easy passages of any length", _apart(loose, thresholds), both[0]),
        ("relevant above easy passages of like length", passed, known[0]),
    ]
    over = np.ones(len(table), dtype=bool)
    for rival, values in masses.rivals.items():
        name = "cls" if rival.startswith("CLS") else "sep"
        flat_rival = values.reshape(len(values), -1)
        auc = [pairwise(flat_rival, part, CONTRAST, **alike)[1] for part in (first, second)]
        if np.isnan(auc[0]).all():  # the input has no such part
            table[f"over_{name}"] = table[f"q_{name}"] = np.nan
            continue
        more = compared[0] - auc[0]
        table[f"over_{name}"] = known_mean(more)
        q = benjamini_hochberg(paired(more, above=True))
        table[f"q_{name}"] = q
        passed = passed & (q <= thresholds.q) & (known_mean(more) > 0)
        over &= known_mean(compared[1] - auc[1]) > 0
        counts.append((f"above {rival}", passed, known[0]))
    table["matching"] = passed
    for name in ("diff", "p", "auc"):
        table[name] = described[name]
    table["p_holm"] = holm(np.where(passed, table["p"], np.nan))
    table["held"] = (
        passed
        & (table["diff"] > 0)
        & (table["p_holm"] <= thresholds.q)
        & (table["auc"] >= thresholds.auc)
        & over
    )
    counts.append(("holding on the other half", np.asarray(table["held"]), known[1]))
    relevant = second.of_pair == 0
    for name in ("same_token", "same_stem"):
        share = masses.shares.get(name)
        table[name] = np.nan if share is None else shared(masses.mass[relevant], share[relevant])
    for name, values in {"length": masses.lengths, **masses.surface}.items():
        left = beside(flat, values, second)
        table[f"beside_{name}"] = known_mean(pairwise(left, second, CONTRAST, **alike)[1])
    table = pd.concat([table, kinds_of(masses, second, passed, thresholds)], axis=1)
    conditions = pd.DataFrame(
        [(direction, name, int(passes.sum()), len(table), n) for name, passes, n in counts],
        columns=pd.Index(["direction", "condition", "heads", "of", "queries"]),
    )
    lost = sum(both) - sum(known)
    note = (
        f"left out of the matching heads {direction}, for want of an easy passage of like length: "
        f"{lost} of {counted(sum(both), 'query')}"
    )
    return table, conditions, [note] if lost else []


def _queries(auc: Float[np.ndarray, "query element"]) -> int:
    """The number of queries with something to compare."""
    return int((~np.isnan(auc)).any(1).sum())


def _apart(table: pd.DataFrame, thresholds: Thresholds) -> Bool[np.ndarray, " head"]:
    """Whether a head has more mass in relevant passages than in easy ones."""
    q, auc, diff = (table[name].to_numpy() for name in ("q", "auc", "diff"))
    return (q <= thresholds.q) & (auc >= thresholds.auc) & (diff > 0)


def kinds_of(
    masses: HeadMasses,
    classes: Classes,
    matching: Bool[np.ndarray, " element"],
    thresholds: Thresholds,
) -> pd.DataFrame:
    """The kinds of the matching heads, each by a test of its own over the queries.

    Per query the observed mass, less its threshold times what is expected, meant over the relevant
    passages; a one-sided paired t-test of the mean above 0; Holm over matching heads and kinds.

    Returns:
        One row for each head: stem_ratio, query_words_ratio, near_ratio (observed by expected),
        their p_holm, and kind: the names of the kinds with commas, ``unexplained``, ``unknown``
        where nothing was measured, empty for a head that does not match.

    Source: science 4, "Kinds of matching heads".
    """
    multiples = {
        "stem": thresholds.lexical,
        "query_words": thresholds.query_words,
        "near": thresholds.semantic,
    }
    table = pd.DataFrame(index=range(len(matching)))
    p = np.full((len(KINDS), len(matching)), np.nan)
    for place, name in enumerate(KINDS):
        table[f"{name}_ratio"] = np.nan
        if not masses.kinds:
            continue
        observed, expected = (
            class_means(mass.reshape(len(mass), -1), classes)[:, 0]
            for mass in (masses.kinds[name], masses.kinds[f"{name}_expected"])
        )
        table[f"{name}_ratio"] = ratio(known_mean(observed), known_mean(expected))
        tests = paired(observed - multiples[name] * expected, above=True)
        p[place] = np.where(matching, tests, np.nan)
    corrected = holm(p.ravel()).reshape(p.shape)
    for place, name in enumerate(KINDS):
        table[f"{name}_p_holm"] = corrected[place]
    passes = corrected <= thresholds.q
    kinds = []
    for head, matches in enumerate(matching.tolist()):
        own = [KINDS[name] for place, name in enumerate(KINDS) if passes[place, head]]
        kind = ", ".join(own) or (UNEXPLAINED if masses.kinds else UNKNOWN)
        kinds.append(kind if matches else "")
    table["kind"] = kinds
    return table


def beside(
    values: Float[np.ndarray, "pair element"],
    covariate: Float[np.ndarray, " pair"],
    classes: Classes,
) -> Float[np.ndarray, "pair element"]:
    """Each head's mass less what a covariate of the pairs explains.

    The slope is that within the classes of each query (analysis of covariance): a difference
    between classes does not contribute to it.
    """
    used = np.isin(classes.of_pair, (0, 2)) & ~np.isnan(covariate)
    cell = classes.query[used] * 3 + classes.of_pair[used]

    def within(column: np.ndarray) -> np.ndarray:
        total, count = np.zeros((cell.max(initial=0) + 1, column.shape[1])), np.bincount(cell)
        np.add.at(total, cell, column)
        return column - total[cell] / count[cell, None]

    x, y = within(covariate[used, None]), within(np.nan_to_num(values[used]))
    spread = float((x**2).sum())
    slope = (x * y).sum(0) / spread if spread > 0 else np.zeros(values.shape[1])
    return values - covariate[:, None] * slope


def references(
    masses: HeadMasses, classes: Classes, seed: int, thresholds: Thresholds
) -> pd.DataFrame:
    """How well the texts alone separate relevant from easy passages, without any attention.

    Returns:
        One row for each number (length, overlap, similarity): quantity, auc (mean over the queries
        of half 1, passages of like length), auc_all (all passages), queries.
    """
    second, rows = classes.half(1, seed), []
    for name, values in {"length": masses.lengths, **masses.surface}.items():
        column = values[:, None]
        alike = pairwise(column, second, CONTRAST, masses.lengths, thresholds.length)[1]
        every = pairwise(column, second, CONTRAST)[1]
        rows.append(
            {
                "quantity": name,
                "auc": float(known_mean(alike)[0]),
                "auc_all": float(known_mean(every)[0]),
                "queries": _queries(alike),
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Causal:
    """The effect of cutting the matching heads."""

    heads: pd.DataFrame  # a row for each matching head, cut alone in its direction
    # a row for each set of matching heads, beside random ones; see `matchlens.head_sets`
    sets: pd.DataFrame
    points: pd.DataFrame  # a row for each set and draw
    pairs: int  # number of pairs that were run, all of half 1
    passes: int  # layer passes a pair
    notes: tuple[str, ...]  # what a person should know


Ranking = tuple[Measure, list[Candidates], tuple[str, ...]]
"""A measure, the queries whose order can move it, and notes on the others."""


def to_cut(
    pairs: PairSet, seed: int, most_pairs: int | None, measure: str, rel: int
) -> tuple[tuple[PairSet, Ranking] | None, str]:
    """The pairs on which matching heads are cut, ranked: of half 1, easy negatives left out.

    Returns:
        None, and why, where no query of half 1 has candidates whose order can move the measure.
    """
    used = half_of(pairs, 1, seed)
    if not any(pair.grade > 0 for pair in used.pairs):
        return None, "no query of half 1 has a relevant candidate"
    most = len(used.pairs) if most_pairs is None else most_pairs
    used = thin(used, most, seed=seed)[0]
    try:
        return (used, ranked(used, measure, rel)), ""
    except InputError as error:
        return None, f"in half 1 of the queries, {error}"


_ON_HALF_1 = "in half 1 of the queries, on which matching heads are cut"


def cut(
    execution: Execution,
    used: PairSet,
    ranking: Ranking,
    matching: pd.DataFrame,
    *,
    masses: Mapping[str, Float[np.ndarray, "layer head"]],
    tol: float,
    seed: int,
    random: int,
) -> Causal:
    """Cut each matching head alone, and each direction's set beside random sets, on half 1.

    The random sets have as many heads in each layer and, as near as can be, as much attention.
    Scores closer than ``tol`` are tied.
    """
    model = execution.model
    layers, heads = model.family.n_layers, model.family.n_heads
    singles = [
        f"{row['direction']}#{row['layer']}.{row['head']}" for row in matching.to_dict("records")
    ]
    conditions = single_cuts(singles)
    points: list[dict[str, object]] = []
    notes: list[str] = []
    chosen: dict[str, tuple[tuple[int, int], ...]] = {}
    for name, group in matching.groupby("direction", sort=False):
        direction = str(name)
        members = tuple(
            sorted((int(layer), int(head)) for layer, head in group[["layer", "head"]].to_numpy())
        )
        if possible(members, heads) < 2:
            notes.append(
                f"the matching heads {direction} are all heads of their layers; no random set is "
                "like them"
            )
            continue
        chosen[direction] = members
        more, about, _ = set_conditions(
            {direction: members}, [direction], ["zero"], random, seed, layers, heads, masses
        )
        conditions |= more
        points += about
    measure, queries, left_out = ranking
    notes += [f"{_ON_HALF_1}, {text}" for text in left_out]
    out = execution(used.pairs, conditions, seed=seed)
    families = {name: "head" if name in singles else "set" for name in out.plan.conditions}
    table, _ = measured(out, queries, measure, tol, seed, families)
    single = pd.DataFrame(table[table["cut"].isin(singles)]).reset_index(drop=True)
    names = ["set", "direction", "how", "draw", "cut", "shared", "mass"]
    drawn = pd.DataFrame(points, columns=names)
    drawn = drawn.merge(table, on="cut", how="left", validate="many_to_one")
    named = np.flatnonzero(drawn["draw"].to_numpy() == -1)
    if len(named):
        own = corrected(drawn.iloc[named].reset_index(drop=True), ["set"] * len(named))
        drawn.loc[named, "p_holm"] = own["p_holm"].to_numpy()
    sets = against(drawn, chosen)
    return Causal(single, sets, drawn, len(used.pairs), out.plan.passes, tuple(notes))


def masses_of(
    reader: Reader, pairs: PairSet, used: PairSet, directions: Sequence[str]
) -> dict[str, Float[np.ndarray, "layer head"]]:
    """By direction the attention of each head in it, the mean over the pairs that are used."""
    rows = {pair_key(pair): row for row, pair in enumerate(pairs.pairs)}
    kept = [rows[pair_key(pair)] for pair in used.pairs]
    return {
        text: np.nan_to_num(reader.of("mass", *places(text))[kept]).mean(0) for text in directions
    }


def inside_layers(
    values: np.ndarray, marked: np.ndarray, layers: np.ndarray, *, seed: int, draws: int = 10_000
) -> tuple[float, float, float]:
    """Whether marked heads have higher values than the other heads of their own layers.

    The marks are permuted among the heads of each layer, so that differences between layers do not
    count.

    Returns:
        The mean over marked heads of the value minus the mean of its layer; p of "not above", p of
        "not below", each (b + 1) / (draws + 1).

    Source: science 5, "Figure 2".
    """
    values = above_layer(values, layers)
    observed = values[marked].mean()
    draw = np.random.default_rng([4, int(seed < 0), abs(seed)])
    total = np.zeros(draws)
    for layer in np.unique(layers):
        own = values[layers == layer]
        count = int(marked[layers == layer].sum())
        if count:
            order = draw.random((draws, len(own))).argsort(axis=1)[:, :count]
            total += own[order].sum(axis=1)
    mean = total / marked.sum()
    close = 1e-12 * np.abs(values).max()
    above = (np.count_nonzero(mean >= observed - close) + 1) / (draws + 1)
    below = (np.count_nonzero(mean <= observed + close) + 1) / (draws + 1)
    return float(observed), above, below


def outstanding(
    heads: Sequence[Mapping[str, object]],
    marked: np.ndarray,
    resampled: np.ndarray | None = None,
    *,
    seed: int,
    draws: int = 10_000,
) -> tuple[dict[str, tuple[float, float, float]], Evidence]:
    """Whether marked heads have the higher alignment and contrast, inside their layers."""
    layers = np.array([row["layer"] for row in heads], dtype=np.int64)
    tests = {}
    for name, what in (("alignment", "alignment"), ("QD-DD", "contrast QD-DD")):
        values = np.array([row[name] for row in heads], dtype=np.float64)
        tests[what] = inside_layers(values, marked, layers, seed=seed, draws=draws)
    first, second = (Evidence(above, below) for _, above, below in tests.values())
    if resampled is not None:
        moved = above_layer(resampled, layers)[:, marked].mean(axis=1)
        shares = [
            (np.count_nonzero(side) + 1) / (len(moved) + 1) for side in (moved <= 0, moved >= 0)
        ]
        second = Evidence(max(second.p_holds, shares[0]), max(second.p_not, shares[1]))
    return tests, both(first, second)


def above_layer(values: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """How far each head's value, the last axis, lies above the mean of its layer."""
    out = values.astype(np.float64)
    for layer in np.unique(layers):
        out[..., layers == layer] -= out[..., layers == layer].mean(axis=-1, keepdims=True)
    return out


def too_few(marked: np.ndarray) -> str:
    """Why these heads cannot be compared with the others; empty where they can."""
    if marked.sum() < 2 or (~marked).sum() < 2:
        return f"{int(marked.sum())} of {len(marked)} heads match Q->D and hold on the other half"
    return ""
