"""Sweeps: cuts up to each layer (Figure 1a), from it, in it alone, in windows, and by head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from matchlens.corpora import PairSet
from matchlens.directions import Cut, Direction
from matchlens.engine import Progress, run
from matchlens.models.load import Reranker
from matchlens.results import Result
from matchlens.studies.common import identity, pair_table
from matchlens.studies.measuring import measured, notes, prepare, score_table
from matchlens.studies.presets import FIGURE_1A
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.sweep_points import WHOLE_HEAD, sweep_points


def sweep(
    model: Reranker,
    pairs: PairSet,
    kind: str = "up-to",
    *,
    directions: Sequence[str | Direction] | None = None,
    window: int = 3,
    hows: Sequence[str] = ("zero",),
    preset: str = "default",
    measure: str = "nDCG@10",
    rel: int = 2,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Cut directions layer by layer, or head by head, and measure the ranking (Figure 1a).

    What two conditions share is computed once: a direction cut up to each of L layers costs
    L(L+1)/2 layer passes and the untouched run.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        kind: ``up-to``, ``from``, ``only``, ``window`` or ``heads``; see :func:`sweep_points`.
        directions: what is cut; the nine directions of Figure 1a where None, for ``heads`` the
            whole head.
        window: layers of a window.
        hows: ways of cutting, each a curve of its own.
        preset: ``default`` or ``paper``; says which test puts the star.
        measure: any ir_measures measure by name.
        rel: lowest grade that counts as relevant for binary measures.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        rank_easy: whether easy negatives stand in the rankings.
        seed: of the other pairs (``resample``), permutations, resampling and halves.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.

    Returns:
        Tables ``points`` (a row a point: direction, how, n, head, cut, and what the ablation's
        table has; ``q`` is Benjamini-Hochberg's over the sweep) and ``queries``.

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
    default = (WHOLE_HEAD,) if kind == "heads" else FIGURE_1A
    points = sweep_points(
        kind,
        default if directions is None else [str(direction) for direction in directions],
        layers=model.family.n_layers,
        heads=model.family.n_heads,
        window=window,
        hows=hows,
    )
    parsed, tol, queries = prepare(pairs, measure, rel, tie_tol, model.dtype, rank_easy)
    conditions = {"": [], **{point.cut: [Cut.parse(point.cut)] for point in points}}
    started = time.perf_counter()
    out = run(
        model, pairs.pairs, conditions, seed=seed, batch_tokens=batch_tokens, progress=progress
    )
    seconds = time.perf_counter() - started
    table, per_query = measured(out, queries, parsed, tol, seed)
    about = pd.DataFrame([asdict(point) for point in points])
    by_cut = pd.DataFrame(table[~table["cut"].isin(["", "random"])])
    return Result(
        study=f"sweep-{kind}",
        identity=identity(model.identity, pairs),
        options={
            "kind": kind,
            "directions": list(dict.fromkeys(point.direction for point in points)),
            "hows": list(dict.fromkeys(hows)),
            "window": window if kind == "window" else None,
            "preset": chosen.name,
            "stars": "q" if kind == "heads" and chosen.stars == "holm" else chosen.stars,
            "digits": chosen.digits,
            "measure": str(parsed),
            "rel": rel,
            "tie_tol": tol,
            "rank_easy": rank_easy,
            "seed": seed,
            "layers": model.family.n_layers,
            "heads": model.family.n_heads,
            "device": model.device.type,
            "original": float(table["mean"].iloc[0]),
            "random": float(table["mean"].iloc[1]),
            "layer_passes": out.plan.passes,
            "layer_passes_unshared": out.plan.passes_unshared,
            "check": dict(model.checks),
        },
        notes=tuple(notes(out, pairs, queries, table)),
        pairs=pair_table(pairs.pairs, out.tokens, out.truncated, seed),
        scores=score_table(out),
        tables={
            "points": about.merge(by_cut, on="cut", how="left", validate="one_to_one"),
            "queries": per_query,
        },
        log=(f"{len(conditions)} conditions on {len(pairs.pairs)} pairs: {seconds:.1f} s",),
    )
