"""Matching heads: found on one half of the queries, described on the other, then cut there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.corpora import PairSet, thin
from matchlens.directions import Cut
from matchlens.engine import Progress
from matchlens.errors import InputError
from matchlens.models.load import Reranker
from matchlens.plan import Condition
from matchlens.ranking import holm
from matchlens.runners import Runner
from matchlens.studies.attention_options import Thresholds
from matchlens.studies.common import half, half_of, ranked
from matchlens.studies.contrasts import Classes, by_half, contrast_table, shared
from matchlens.studies.head_set_points import conditions_of, possible
from matchlens.studies.head_sets import against
from matchlens.studies.measuring import corrected, measured, prepare

CONTRAST = "relevant-easy"


def find(
    mass: Float[np.ndarray, "pair layer head"],
    same: Float[np.ndarray, "pair layer head"] | None,
    classes: Classes,
    direction: str,
    seed: int,
    thresholds: Thresholds,
) -> tuple[pd.DataFrame, list[str]]:
    """The matching heads of a direction, and every head's numbers on both halves.

    Args:
        mass: [pair, layer, head] mass in the direction.
        same: same-token share in it; None where it was not measured.
        classes: relevant, hard and easy pairs.
        direction: its text.
        seed: of the halves.
        thresholds: what makes a head a matching head.

    Returns:
        A row a head: direction, layer, head, diff_found, q_found, auc_found (half 0), diff, p, auc
        (half 1), p_holm (over the matching heads), same_token (mass-weighted over half 1's relevant
        passages), kind, matching (found on half 0), held (matching, and on half 1 the same sign
        with p_holm <= q and AUC at or above its threshold); and notes.
    """
    halves = {qid: half(qid, seed) for qid in classes.qids}
    tables = []
    for which in (0, 1):
        one = by_half(halves, classes, which)
        if min(_queries(one, 0), _queries(one, 2)) < 2:
            return pd.DataFrame(), [
                f"half {which} of the queries has fewer than two with relevant and easy passages; "
                "no matching heads are looked for"
            ]
        tables.append(contrast_table(mass, one, CONTRAST))
    found, described = tables
    table = found[["layer", "head"]].copy()
    table.insert(0, "direction", direction)
    for name in ("diff", "q", "auc"):
        table[f"{name}_found"] = found[name]
    for name in ("diff", "p", "auc"):
        table[name] = described[name]
    relevant = by_half(halves, classes, 1).of_pair == 0
    table["same_token"] = np.nan if same is None else shared(mass[relevant], same[relevant])
    lexical = np.where(table["same_token"] >= thresholds.lexical, "lexical", "semantic")
    table["kind"] = np.where(table["same_token"].isna(), "unknown", lexical)
    table["matching"] = (
        (table["q_found"] <= thresholds.q)
        & (table["auc_found"] >= thresholds.auc)
        & (table["diff_found"] > 0)
    )
    p = np.where(table["matching"], table["p"], np.nan)
    table["p_holm"] = holm(p)
    table["held"] = (
        table["matching"]
        & (table["diff"] > 0)
        & (table["p_holm"] <= thresholds.q)
        & (table["auc"] >= thresholds.auc)
    )
    return table, []


def _queries(classes: Classes, side: int) -> int:
    return len(np.unique(classes.query[classes.of_pair == side]))


@dataclass(frozen=True)
class Causal:
    """What cutting the matching heads does.

    Args:
        heads: a row a matching head, cut alone in its direction.
        sets: a row a set of matching heads, beside random ones; see
            :func:`matchlens.head_sets`.
        points: a row a set and draw.
        pairs: number of pairs that were run, all of half 1.
        queries: number of their queries.
        passes: layer passes a pair.
        notes: what a person should know.
    """

    heads: pd.DataFrame
    sets: pd.DataFrame
    points: pd.DataFrame
    pairs: int
    queries: int
    passes: int
    notes: tuple[str, ...]


def to_cut(
    pairs: PairSet, seed: int, most_pairs: int | None, measure: str, rel: int
) -> PairSet | None:
    """The pairs on which matching heads are cut: of half 1, easy negatives left out.

    Args:
        pairs: all pairs of the study.
        seed: of the halves and the thinning.
        most_pairs: at most so many; all where None.
        measure: of the rankings.
        rel: lowest relevant grade of binary measures.

    Returns:
        None where no query of half 1 has candidates whose order can move the measure.

    Raises:
        InputError: if ``most_pairs`` is too small for a single query.
    """
    used = half_of(pairs, 1, seed)
    if not any(pair.grade > 0 for pair in used.pairs):
        return None
    most = len(used.pairs) if most_pairs is None else most_pairs
    used = thin(used, most, seed=seed)[0]
    try:
        ranked(used, measure, rel)
    except InputError:  # no query of this half can move the measure
        return None
    return used


def cut(
    model: Reranker,
    used: PairSet,
    matching: pd.DataFrame,
    *,
    measure: str,
    rel: int,
    seed: int,
    random: int,
    batch_tokens: int | None,
    progress: Progress | None,
    runner: Runner,
) -> Causal:
    """Cut each matching head alone, and each direction's set beside random sets, on half 1.

    Args:
        model: a loaded reranker.
        used: what :func:`to_cut` chose.
        matching: rows of :func:`find` that are matching heads.
        measure: any ir_measures measure.
        rel: lowest relevant grade of binary measures.
        seed: of the halves, the random sets and resampling.
        random: random sets a named one.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        runner: runs the pairs; see :mod:`matchlens.runners`.
    """
    layers, heads = model.family.n_layers, model.family.n_heads
    conditions: dict[str, Condition] = {"": []}
    for row in matching.to_dict("records"):
        text = f"{row['direction']}#{row['layer']}.{row['head']}"
        conditions[text] = [Cut.parse(text)]
    singles = [name for name in conditions if name]
    points: list[dict[str, object]] = []
    said: list[str] = []
    chosen: dict[str, tuple[tuple[int, int], ...]] = {}
    for direction, members in _sets(matching):
        if possible(members, heads) < 2:
            said.append(
                f"the matching heads {direction} are all heads of their layers; no random set is "
                "like them"
            )
            continue
        chosen[direction] = members
        more, about, _ = conditions_of(
            {direction: members}, [direction], ["zero"], random, seed, layers, heads
        )
        conditions |= more
        points += about
    parsed, tol, queries, _ = prepare(used, measure, rel, None, model.dtype, False)
    out = runner(
        model, used.pairs, conditions, seed=seed, batch_tokens=batch_tokens, progress=progress
    )
    families = {name: "head" if name in singles else "set" for name in out.plan.conditions}
    table, _ = measured(out, queries, parsed, tol, seed, families)
    single = pd.DataFrame(table[table["cut"].isin(singles)]).reset_index(drop=True)
    drawn = pd.DataFrame(points, columns=["set", "direction", "how", "draw", "cut"])
    drawn = drawn.merge(table, on="cut", how="left", validate="many_to_one")
    named = np.flatnonzero(drawn["draw"].to_numpy() == -1)
    if len(named):
        own = corrected(drawn.iloc[named].reset_index(drop=True), ["set"] * len(named))
        drawn.loc[named, "p_holm"] = own["p_holm"].to_numpy()
    return Causal(
        single,
        against(drawn, chosen),
        drawn,
        len(used.pairs),
        len(queries),
        out.plan.passes,
        tuple(said),
    )


def _sets(matching: pd.DataFrame) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
    """Each direction's matching heads."""
    out = []
    for direction, group in matching.groupby("direction", sort=False):
        heads = zip(group["layer"], group["head"], strict=True)
        out.append(
            (str(direction), tuple(sorted((int(layer), int(head)) for layer, head in heads)))
        )
    return out
