"""Sweeps: cuts up to each layer (Figure 1a), from it, in it alone, in windows, and by head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.directions import Cut, Direction
from matchlens.engine import Progress
from matchlens.models.load import Reranker
from matchlens.results import Result
from matchlens.runners import Runner, run
from matchlens.studies.cut_modes import agreement, left_out, starred
from matchlens.studies.cut_study import Settings, conduct, pairs_run
from matchlens.studies.halves import select
from matchlens.studies.impossible import feasible
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.screening import put_forward
from matchlens.studies.sweep_points import WHOLE_HEAD, sweep_points


@typed
def sweep(
    model: Reranker,
    pairs: PairSet,
    kind: str = "up-to",
    *,
    directions: Sequence[str | Direction] | None = None,
    window: int = 3,
    hows: Sequence[str] | None = None,
    preset: str = "default",
    measure: str = "nDCG@10",
    rel: int | None = None,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    most_pairs: int | None = None,
    screened: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner = run,
) -> Result:
    """Cut directions layer by layer, or head by head, and measure the ranking (Figure 1a).

    What two conditions share is computed once: a direction cut up to each of L layers costs
    L(L+1)/2 layer passes and the untouched run.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        kind: ``up-to``, ``from``, ``only``, ``window`` or ``heads``; see :func:`sweep_points`.
        directions: what is cut; the preset's where None (the nine directions of Figure 1a), for
            ``heads`` the whole head.
        window: layers of a window.
        hows: ways of cutting, each a curve of its own, corrected by itself; the preset's where
            None. A cut that a way cannot make is left out and noted.
        preset: ``default``, ``paper``, ``authors`` or ``zhan2020``.
        measure: any ir_measures measure by name.
        rel: lowest grade that counts as relevant for binary measures; where None: 2 where the
            judgements reach 2, else 1.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        rank_easy: whether easy negatives stand in the rankings.
        seed: of the other pairs (``resample``), permutations, resampling and halves.
        most_pairs: at most so many pairs, of whole queries; all where None.
        screened: for ``heads``: of each direction only so many heads are cut, those of the largest
            first-order effect on the scores (:func:`matchlens.screen`); all where None.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        runner: runs the conditions; :class:`matchlens.studies.sharing.Shared` where several
            studies share a run.

    Returns:
        Tables ``points`` (a row for each point: direction, how, n, head, cut, and what the
        ablation's table has; ``q`` is Benjamini-Hochberg's over the sweep) and ``queries``; with
        several hows ``agreement``; for ``heads`` also ``selected``: the heads chosen on one half of
        the queries, with their effect on the other.

    Raises:
        InputError: if an option or the pairs cannot be used.

    Source: Vast et al. 2025, Figure 1a.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2)
    >>> model = matchlens.load("demo")
    >>> result = matchlens.sweep(model, pairs, "only", directions=["Q->D"])
    >>> result.to_frame()["n"].tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    """
    chosen = preset_of(preset)
    costly = kind == "heads"
    default = (WHOLE_HEAD,) if costly else chosen.directions
    points, impossible = sweep_points(
        kind,
        default if directions is None else [str(direction) for direction in directions],
        layers=model.family.n_layers,
        heads=model.family.n_heads,
        window=window,
        hows=(chosen.how,) if hows is None else hows,
    )
    settings = Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs)
    screening: list[str] = []
    if screened is not None:
        points, screening = put_forward(model, pairs_run(pairs, settings)[0], points, screened)
    conditions = {"": [], **{point.cut: [Cut.parse(point.cut)] for point in points}}
    done = conduct(
        model,
        pairs,
        conditions,
        settings,
        families={point.cut: point.how for point in points},
        progress=progress,
        runner=runner,
    )
    about = pd.DataFrame([asdict(point) for point in points])
    by_cut = pd.DataFrame(done.table[~done.table["cut"].isin(["", "random"])])
    table = about.merge(by_cut, on="cut", how="left", validate="one_to_one")
    tables = {"points": table, "queries": done.queries}
    measured = feasible(table)
    stars = "q" if costly and chosen.stars == "holm" else chosen.stars
    made = list(dict.fromkeys(point.how for point in points))
    if len(made) > 1 and len(measured):
        base = [cut.partition("~")[0] for cut in measured["cut"]]
        tables["agreement"] = agreement(measured.assign(base=base), starred(measured, stars))
    more = [*left_out(impossible), *screening]
    if costly and len(measured):
        tables["selected"], said = select(measured, done.queries, seed)
        more += said
    return done.result(
        f"sweep-{kind}",
        {
            "kind": kind,
            "directions": list(dict.fromkeys(point.direction for point in points)),
            "hows": made,
            "window": window if kind == "window" else None,
            **({} if screened is None else {"screened": screened}),
            "stars": stars,
        },
        tables,
        more,
    )
