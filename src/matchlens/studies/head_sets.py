"""Named sets of heads against random sets, matched by layer and by attention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.directions import Cut, Direction
from matchlens.engine import Progress
from matchlens.errors import InputError
from matchlens.meters.attention import PARTS
from matchlens.models.load import Reranker
from matchlens.ranking import holm
from matchlens.results import Result
from matchlens.runners import Runner, run
from matchlens.studies.cut_modes import expand_modes, left_out
from matchlens.studies.cut_study import Settings, conduct, pairs_run
from matchlens.studies.head_set_points import (
    RANDOM_SETS,
    Heads,
    checked,
    conditions_of,
    plain,
    spelled,
)
from matchlens.studies.impossible import feasible, note
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.sweep_points import WHOLE_HEAD
from matchlens.studies.watching import watch

TIE = 1e-12


@typed
def head_sets(
    model: Reranker,
    pairs: PairSet,
    sets: Mapping[str, str | Iterable[tuple[int, int]]],
    *,
    directions: Sequence[str | Direction] | None = None,
    hows: Sequence[str] = ("zero",),
    random: int = RANDOM_SETS,
    preset: str = "default",
    measure: str = "nDCG@10",
    rel: int | None = None,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    most_pairs: int | None = COSTLY_PAIRS,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner = run,
) -> Result:
    """Cut named sets of heads, and random sets that are like them but for the heads.

    A random set has as many heads in each layer and, as near as can be, as much attention in the
    direction that is cut: the sum over its heads of their mean mass in the untouched model.

    The question is not whether cutting the set does damage, but whether it does more than cutting
    just any heads of those layers.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        sets: name to heads, as text (``"8.1,4.9"``) or (layer, head) couples.
        directions: what is cut in these heads; the whole head where None.
        hows: ways of cutting.
        random: random sets a named one, at least 100; all there are where those are fewer.
        preset: ``default``, ``paper``, ``authors`` or ``zhan2020``.
        measure: any ir_measures measure by name.
        rel: lowest grade that counts as relevant for binary measures; where None: 2 where the
            judgements reach 2, else 1.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        rank_easy: whether easy negatives stand in the rankings.
        seed: of the random sets, permutations, resampling and halves.
        most_pairs: at most so many pairs, of whole queries; all where None.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        runner: runs the pairs; see :mod:`matchlens.runners`.

    Returns:
        Tables ``sets`` (a row for each set, direction and how: the measure, its change,
        random_mean, random_sd, random_low, random_high (2.5% and 97.5% of the random sets'
        changes), draws; p_random, by the measure: the share of sets, the named one among them, that
        change it at least as far down, p_random_two (in either direction); p_tau, by the order: the
        share that disturb it at least as much by Kendall's tau-b; p_random_holm and p_tau_holm,
        each over the rows; and how well the random sets match: mass of the named set, random_mass
        with random_mass_low and random_mass_high (2.5% and 97.5% of theirs), random_shared: the
        mean share of the named heads that stand in a random set), ``points`` (a row for each set
        and draw; draw -1 is the named set) and ``queries``.

    Raises:
        InputError: if a set, an option or the pairs cannot be used.

    Source: science 2 and 4 (matching heads, tested causally); North et al. 2002 for p.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.head_sets(matchlens.load("demo"), pairs, {"top": "11.3"})
    >>> result.to_frame()["draws"].tolist()  # layer 11 has eleven other heads
    [11]
    """
    layers, heads = model.family.n_layers, model.family.n_heads
    texts = [str(one) for one in ((WHOLE_HEAD,) if directions is None else directions)]
    chosen = checked(sets, layers, heads, random)
    expand_modes(plain(texts), hows)
    settings = Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs)
    masses = _masses(model, pairs_run(pairs, settings)[0], texts, batch_tokens, runner)
    conditions, points, impossible = conditions_of(
        sets, texts, hows, random, seed, layers, heads, masses
    )
    families = {str(point["cut"]): "random" for point in points}
    families.update({str(point["cut"]): "named" for point in points if point["draw"] == -1})
    done = conduct(
        model,
        pairs,
        conditions,
        settings,
        families=families,
        progress=progress,
        runner=runner,
    )
    table = pd.DataFrame(points).merge(done.table, on="cut", how="left", validate="many_to_one")
    if len(feasible(table)) < len(table):
        raise InputError(
            f"a direction cannot be cut: {'; '.join(note(done.reasons))}; leave this direction out"
        )
    kept = done.queries[done.queries["cut"].isin(["", *_named(points)])]
    return done.result(
        "head-sets",
        {
            "sets": {name: spelled(one) for name, one in chosen.items()},
            "directions": list(dict.fromkeys(texts)),
            "hows": list(dict.fromkeys(str(point["how"]) for point in points)),
            "random": random,
        },
        {
            "sets": against(table, chosen),
            "points": table,
            "queries": pd.DataFrame(kept).reset_index(drop=True),
        },
        left_out(impossible),
    )


def _masses(
    model: Reranker,
    used: PairSet,
    directions: Sequence[str],
    batch_tokens: int | None,
    runner: Runner,
) -> dict[str, np.ndarray]:
    """By direction what attention each head gives it, [layer, head]: the mean over the pairs."""
    watched = watch(model, used, ["mass"], batch_tokens=batch_tokens, runner=runner)
    every, shape = slice(None), (model.family.n_layers, model.family.n_heads)
    found = {}
    for text in directions:
        found[text] = np.zeros(shape)
        for x, y in Cut.parse(text).edges(0):
            if x in PARTS and y in PARTS:
                mass = watched.arrays["mass"].of((every, every, PARTS.index(x), PARTS.index(y)))
                found[text] += np.nan_to_num(mass).mean(0)
    return found


def _named(points: Sequence[Mapping[str, object]]) -> list[str]:
    return [str(point["cut"]) for point in points if point["draw"] == -1]


def against(table: pd.DataFrame, sets: Mapping[str, Heads]) -> pd.DataFrame:
    """Each named set beside its random ones; a row for each set, direction and how.

    Args:
        table: a row for each set and draw (-1: the named set) with what the measured table has.
        sets: name to heads.
    """
    if table.empty:
        return pd.DataFrame()
    rows = []
    for key, group in table.groupby(["set", "direction", "how"], sort=False):
        name, direction, how = (str(one) for one in cast(tuple[object, ...], key))
        named = group[group["draw"] == -1].iloc[0]
        others = pd.DataFrame(group[group["draw"] >= 0])
        diff, tau = others["diff"].to_numpy(), np.nan_to_num(others["tau_b"].to_numpy())
        own_tau = 0.0 if pd.isna(named["tau_b"]) else named["tau_b"]
        total = len(others) + 1
        low, high = np.percentile(diff, [2.5, 97.5])
        matched = {}
        if "mass" in group:
            mass = others["mass"].to_numpy(dtype=np.float64)
            least, most = np.percentile(mass, [2.5, 97.5])
            matched = {
                "mass": named["mass"],
                "random_mass": float(mass.mean()),
                "random_mass_low": float(least),
                "random_mass_high": float(most),
                "random_shared": float(others["shared"].to_numpy(dtype=np.float64).mean()),
            }
        rows.append(
            {
                "set": name,
                "direction": direction,
                "how": how,
                "heads": spelled(sets[name]),
                "size": len(sets[name]),
                "cut": named["cut"],
                "mean": named["mean"],
                "original": named["original"],
                "diff": named["diff"],
                "ci_low": named["ci_low"],
                "ci_high": named["ci_high"],
                "p": named["p"],
                "p_holm": named["p_holm"],
                "tau_b": named["tau_b"],
                "random_mean": float(diff.mean()),
                "random_sd": float(diff.std(ddof=1)) if len(diff) > 1 else float("nan"),
                "random_low": float(low),
                "random_high": float(high),
                "random_tau_b": float(tau.mean()),
                "draws": len(others),
                "p_random": (1 + int((diff <= named["diff"] + TIE).sum())) / total,
                "p_random_two": (1 + int((np.abs(diff) >= abs(named["diff"]) - TIE).sum())) / total,
                "p_tau": (1 + int((tau <= own_tau + TIE).sum())) / total,
                **matched,
            }
        )
    out = pd.DataFrame(rows)
    for name in ("p_random", "p_tau"):
        out[f"{name}_holm"] = holm(out[name].to_numpy())
    return out
