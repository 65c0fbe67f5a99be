"""Table 1: what cutting attention between the input's parts does to the ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.directions import Cut
from matchlens.results import Result
from matchlens.sets import cut_sets
from matchlens.studies.cuts.cut_modes import agreement, expand_modes, feasible, left_out, starred
from matchlens.studies.cuts.cut_study import Settings, conditions_of, conduct, sets_option
from matchlens.studies.presets import preset as preset_of

if TYPE_CHECKING:
    from matchlens.engine import Progress
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


NAME = "ablation"


@typed
def ablation(
    model: Reranker,
    pairs: PairSet,
    *,
    cuts: Sequence[str | Cut] | None = None,
    sets: str | Path | Mapping[str, Sequence[str | Cut]] | None = None,
    hows: Sequence[str] | None = None,
    preset: str = "default",
    measure: str | Sequence[str] = "nDCG@10",
    rel: int | None = None,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    most_pairs: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> Result:
    """Cut attention in each direction and measure the ranking (the paper's Table 1).

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries, as :func:`matchlens.choose` makes them.
        cuts: the cuts, as texts or values; the preset's (30 cells) where None and there are no
            sets. Results are keyed by the text as it was passed.
        sets: cuts that hold together, by the name of their set, or a file that
            :func:`matchlens.sets.cut_sets` reads. Results are keyed by the name.
        hows: modes of cutting, each applied to every cut; where there are several, stars are
            corrected for each mode by itself and the table ``agreement`` shows where they agree.
        preset: ``default`` (Holm-corrected paired t-test), ``paper`` (uncorrected, unpaired),
            ``authors`` or ``zhan2020``.
        measure: any ir_measures measure by name, or several: the pairs are run once, the first is
            the tables' measure, and the table ``measures`` has all.
        rel: lowest grade that counts as relevant for binary measures; where None: 2 where the
            judgements reach 2, else 1.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        rank_easy: whether easy negatives stand in the rankings.
        seed: of permutations, resampling and the halves.
        most_pairs: at most so many pairs, of whole queries; all where None.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        runner: runs the pairs (:mod:`matchlens.runners`); this process where None.

    Returns:
        Tables ``table1`` (a row for each condition: ``original``, ``random`` and each cut) and
        ``queries`` (a row for each condition and query), with several hows ``agreement``. Where a
        cut removes nothing that was there (a causal model's Q->D, a part that the input does not
        have), the column ``impossible`` says why, and there is no number and no test.

    Raises:
        InputError: if a cut, a measure or the pairs cannot be used.

    Source: Vast et al. 2025, Section 3 and Table 1.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=4)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["Q->D", "D->D"])
    >>> result.to_frame()["cut"].tolist()
    ['', 'random', 'Q->D', 'D->D']
    """
    chosen = preset_of(preset, model.decodes)
    named_sets = cut_sets(sets)
    preset_cuts = cuts is None and not named_sets
    texts = [str(cut) for cut in (chosen.cuts if preset_cuts else cuts or ())]
    if hows is None and preset_cuts and chosen.how != "zero":
        hows = [chosen.how]
    expanded, impossible = expand_modes(texts, hows)
    names = [moded.cut for moded in expanded]
    modes = [moded.how for moded in expanded]
    conditions = conditions_of(names, named_sets)
    settings = Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs)
    several = hows is not None and len(set(modes)) > 1
    families = dict(zip(names, modes, strict=True)) | dict.fromkeys(named_sets, "sets")
    done = conduct(
        model,
        pairs,
        conditions,
        settings,
        families=families if several else None,
        progress=progress,
        runner=runner,
    )
    tables = {"table1": done.table, "queries": done.queries}
    if several:
        by_cut = done.table.set_index("cut").loc[names].reset_index(drop=True)
        by_cut.insert(0, "base", [moded.base for moded in expanded])
        by_cut.insert(1, "how", modes)
        by_cut = feasible(by_cut)
        if len(by_cut):
            tables["agreement"] = agreement(by_cut, starred(by_cut, chosen.stars))
    options = {
        "cuts": list(conditions)[1:],
        **sets_option(named_sets),
        "hows": list(dict.fromkeys(modes)) if several else None,
    }
    return done.result(NAME, options, tables, left_out(impossible))


def trec_runs(result: Result) -> dict[str, str]:
    """A TREC run for every cut, and the index that says which is which.

    Returns:
        File name to content: ``runs/0000.run`` and so on, and ``runs/index.tsv``.
    """
    pairs = result.pairs
    several = len(set(pairs["collection"])) > 1
    names = [
        f"{quote(str(collection))}/{qid}" if several else str(qid)
        for collection, qid in zip(pairs["collection"], pairs["qid"], strict=True)
    ]
    docids = [str(docid) for docid in pairs["docid"]]
    files, index = {}, ["run\tcut"]
    for number, (cut, group) in enumerate(result.scores.groupby("cut", sort=False)):
        scores = dict(zip(group["pair"], group["score"], strict=True))
        ranked: dict[str, list[int]] = {}
        for pair in sorted(scores, key=lambda pair: (-scores[pair], docids[pair])):
            ranked.setdefault(names[pair], []).append(pair)
        lines = [
            f"{name} Q0 {docids[pair]} {rank} {float(scores[pair])!r} matchlens-{number:04d}\n"
            for name in dict.fromkeys(names)
            for rank, pair in enumerate(ranked.get(name, ()), start=1)
        ]
        files[f"runs/{number:04d}.run"] = "".join(lines)
        index.append(f"{number:04d}.run\t{cut}")
    files["runs/index.tsv"] = "\n".join(index) + "\n"
    return files
