"""Each direction beside random edges: whether the direction matters, or the amount cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.directions import Cut
from matchlens.engine import Progress
from matchlens.errors import InputError
from matchlens.models.load import Reranker
from matchlens.plan import CONTROLS
from matchlens.ranking import compare, holm
from matchlens.results import Result
from matchlens.runners import Runner, run
from matchlens.studies.conduct import Settings, conduct
from matchlens.studies.control_points import DRAWS, conditions_of
from matchlens.studies.impossible import feasible, note
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.presets import preset as preset_of


@typed
def controls(
    model: Reranker,
    pairs: PairSet,
    cuts: Sequence[str | Cut] | None = None,
    *,
    hows: Sequence[str] | None = None,
    draws: int = DRAWS,
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
    """Cut each direction, as many random edges, and as much random attention mass.

    In each pair, layer and head that the cut names, a random order of all edges (pairs of tokens,
    special ones included) is drawn, and edges go in that order: as many as the direction has, or
    until their attention is as near as can be to what the direction carries there. The layers'
    draws are independent; heads share them, as they share the direction.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        cuts: the cuts to control; the preset's directions (Figure 1a) in all layers where None.
        hows: ``zero`` or ``mask`` or both; the preset's where None.
        draws: random draws a control and cut; their mean is compared.
        preset: ``default``, ``paper``, ``authors`` or ``zhan2020``.
        measure: any ir_measures measure by name.
        rel: lowest grade that counts as relevant for binary measures; where None: 2 where the
            judgements reach 2, else 1.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        rank_easy: whether easy negatives stand in the rankings.
        seed: of the draws, permutations, resampling and halves.
        most_pairs: at most so many pairs, spread over the queries; all where None.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        runner: runs the conditions; :class:`matchlens.studies.sharing.Shared` where several
            studies share a run.

    Returns:
        Tables ``controls`` (a row a cut: base, how, cut, mean, diff with its interval, and for
        each control edges_diff (change of the measure, mean over draws) with edges_ci_low,
        edges_ci_high, edges_diff_p, edges_diff_p_holm, and edges_beyond (the cut's change minus the
        control's) with edges_low, edges_high, edges_p, edges_p_holm: 95% intervals and paired
        t-tests over queries; likewise mass_...), ``draws`` (a row a condition) and ``queries``.

    Raises:
        InputError: if a cut, a how or the pairs cannot be used.

    Source: science 2; the control is this project's.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=4, per_grade=1)
    >>> result = matchlens.controls(matchlens.load("demo"), pairs, ["D->D"], draws=1)
    >>> result.to_frame()["cut"].tolist()
    ['D->D']
    """
    chosen = preset_of(preset)
    given = [str(cut) for cut in (chosen.directions if cuts is None else cuts)]
    ways_given = hows or (None if cuts is not None else [chosen.how])
    conditions, made, about = conditions_of(given, ways_given, draws)
    families = {name: "control" if "|" in name else "cut" for name in conditions}
    done = conduct(
        model,
        pairs,
        conditions,
        Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs),
        families=families,
        progress=progress,
        runner=runner,
    )
    own = pd.DataFrame([{"base": way.base, "how": way.how, "cut": way.cut} for way in made]).merge(
        done.table, on="cut", how="left", validate="one_to_one"
    )
    own = feasible(own)
    if own.empty:
        raise InputError(
            f"none of the cuts removes anything: {'; '.join(note(done.reasons))}; give other cuts"
        )
    drawn = pd.DataFrame(about).merge(done.table, on="cut", how="left", validate="one_to_one")
    return done.result(
        "controls",
        {"cuts": given, "hows": list(dict.fromkeys(way.how for way in made)), "draws": draws},
        {
            "controls": _beside(own, done.queries, draws, seed),
            "draws": drawn,
            "queries": done.queries,
        },
    )


def _beside(own: pd.DataFrame, queries: pd.DataFrame, draws: int, seed: int) -> pd.DataFrame:
    """Each cut beside the mean of its controls' draws, query by query."""
    wide = queries.pivot(index=["collection", "qid"], columns="cut", values="value")
    collections = [str(name) for name in wide.index.get_level_values("collection")]
    for kind in CONTROLS:
        rows = []
        for cut in own["cut"]:
            control = wide[[f"{cut} | {kind} {draw}" for draw in range(draws)]].mean(axis=1)
            values = control.to_numpy()
            test = compare(wide[[cut]].to_numpy().T.copy(), values, collections, seed=seed).iloc[0]
            original = wide[""].to_numpy()
            alone = compare(values[None].copy(), original, collections, seed=seed).iloc[0]
            rows.append(
                {
                    f"{kind}_diff": alone["diff"],
                    f"{kind}_ci_low": alone["ci_low"],
                    f"{kind}_ci_high": alone["ci_high"],
                    f"{kind}_diff_p": alone["p"],
                    f"{kind}_beyond": test["diff"],
                    f"{kind}_low": test["ci_low"],
                    f"{kind}_high": test["ci_high"],
                    f"{kind}_p": test["p"],
                }
            )
        found = pd.DataFrame(rows)
        for name in ("p", "diff_p"):
            p = found[f"{kind}_{name}"].to_numpy(dtype=np.float64)
            found[f"{kind}_{name}_holm"] = holm(p)
        own = pd.concat([own.reset_index(drop=True), found], axis=1)
    return own
