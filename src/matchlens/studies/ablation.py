"""Table 1: what cutting attention between the input's parts does to the ranking."""

from __future__ import annotations

import time
from collections.abc import Sequence

from matchlens.corpora import PairSet
from matchlens.directions import Cut
from matchlens.engine import Progress, run
from matchlens.models.load import Reranker
from matchlens.results import Result
from matchlens.studies.common import identity, pair_table
from matchlens.studies.measuring import conditions_of, measured, notes, prepare, score_table
from matchlens.studies.presets import preset as preset_of

NAME = "ablation"


def ablation(
    model: Reranker,
    pairs: PairSet,
    *,
    cuts: Sequence[str | Cut] | None = None,
    preset: str = "default",
    measure: str = "nDCG@10",
    rel: int = 2,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Cut attention in each direction and measure the ranking (the paper's Table 1).

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries, as :func:`matchlens.choose` makes them.
        cuts: the cuts to make, as texts or values; the preset's where None (30 cells). Results
            are keyed by the text as given.
        preset: ``default`` (Holm-corrected paired t-test) or ``paper`` (uncorrected, unpaired).
        measure: any ir_measures measure by name.
        rel: lowest grade that counts as relevant for binary measures.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        rank_easy: whether easy negatives stand in the rankings.
        seed: of permutations, resampling and the halves.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.

    Returns:
        Tables ``table1`` (a row a condition: ``original``, ``random`` and each cut) and
        ``queries`` (a row a condition and query).

    Raises:
        InputError: if a cut, a measure or the pairs cannot be used.

    Source: Vast et al. 2025, Section 3 and Table 1.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=4)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["Q->D", "D->D"])
    >>> result.to_frame()["cut"].tolist()
    ['', 'random', 'Q->D', 'D->D']
    """
    chosen = preset_of(preset)
    conditions = conditions_of(chosen.cuts if cuts is None else cuts)
    parsed, tol, queries = prepare(pairs, measure, rel, tie_tol, model.dtype, rank_easy)
    started = time.perf_counter()
    out = run(
        model, pairs.pairs, conditions, seed=seed, batch_tokens=batch_tokens, progress=progress
    )
    seconds = time.perf_counter() - started
    table, per_query = measured(out, queries, parsed, tol, seed)
    return Result(
        study=NAME,
        identity=identity(model.identity, pairs),
        options={
            "cuts": list(conditions)[1:],
            "preset": chosen.name,
            "stars": chosen.stars,
            "digits": chosen.digits,
            "measure": str(parsed),
            "rel": rel,
            "tie_tol": tol,
            "rank_easy": rank_easy,
            "seed": seed,
            "layers": model.family.n_layers,
            "heads": model.family.n_heads,
            "device": model.device.type,
            "layer_passes": out.plan.passes,
            "layer_passes_unshared": out.plan.passes_unshared,
            "check": dict(model.checks),
        },
        notes=tuple(notes(out, pairs, queries, table)),
        pairs=pair_table(pairs.pairs, out.tokens, out.truncated, seed),
        scores=score_table(out),
        tables={"table1": table, "queries": per_query},
        log=(f"{len(conditions)} conditions on {len(pairs.pairs)} pairs: {seconds:.1f} s",),
    )
