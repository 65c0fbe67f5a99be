"""Studies of cuts: choose pairs, run the conditions, measure, test. Table 1 is one of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import EASY_GRADE, PairSet, thin
from matchlens.corpora.own import own_parts
from matchlens.directions import Cut
from matchlens.errors import InputError, counted
from matchlens.plan import Condition, bound
from matchlens.ranking import Candidates, Measure
from matchlens.results import Result
from matchlens.sets import check_once, cut_sets
from matchlens.studies.common import (
    Execution,
    identity,
    own_notes,
    pair_table,
    ranked,
    relevant_grade,
    run_options,
    tolerance,
)
from matchlens.studies.cuts.cut_modes import (
    agreement,
    expand_modes,
    feasible,
    left_out,
    note,
    reason,
    sets_alone,
    starred,
)
from matchlens.studies.cuts.measuring import ORIGINAL, measured, notes, score_table
from matchlens.studies.cuts.rounding import Sample, compared, offered
from matchlens.studies.presets import preset as preset_of

if TYPE_CHECKING:
    from matchlens.engine import Progress, Run
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


def conditions_of(
    cuts: Sequence[str | Cut], sets: str | Path | Mapping[str, Sequence[str | Cut]] | None = None
) -> dict[str, Condition]:
    """Conditions by the cut's text, the untouched model first; sets of cuts by their names."""
    conditions: dict[str, Condition] = {ORIGINAL: []}
    names = [str(cut) for cut in cuts]
    check_once(names)
    conditions |= {name: [Cut.of(cut)] for name, cut in zip(names, cuts, strict=True)}
    conditions |= {name: list(some) for name, some in cut_sets(sets).items()}
    if len(conditions) == 1:
        raise InputError("no cut given; expected at least one, for example 'Q->D'")
    return conditions


def alike(conditions: Mapping[str, Condition], sets: Iterable[str], layers: int) -> list[str]:
    """The notes on sets that cut the same as another condition, in whatever spelling.

    >>> conditions = {"": [], "Q->D": [Cut.parse("Q->D")], "mine": [Cut.parse("Q->D@0:2")]}
    >>> alike(conditions, ["mine"], 2)
    ["set 'mine' cuts the same as 'Q->D': one test, but the correction counts it twice"]
    """
    notes, named, known = [], set(sets), {}
    # single cuts first, which are refused where two of them are the same
    for name in sorted(conditions, key=named.__contains__):
        removed = frozenset(
            (layer, cut.heads_at(layer), cut.how, edge)
            for cut in conditions[name]
            if isinstance(cut, Cut)
            for layer in range(layers)
            for edge in cut.edges(layer)
        )
        other = known.setdefault(removed, name)
        if name in named and other not in ("", name):
            notes.append(
                f"set {name!r} cuts the same as {other!r}: one test, but the correction counts it "
                "twice"
            )
    return notes


def sets_option(sets: Mapping[str, Sequence[Cut]]) -> dict[str, object]:
    """The option of a result that names sets of cuts; none where there are none."""
    named = {name: [str(cut) for cut in cuts] for name, cuts in sets.items()}
    return {"sets": named} if named else {}


@dataclass(frozen=True)
class Settings:
    """The options that every study of cuts has; see :func:`matchlens.ablation`."""

    preset: str = "default"
    measure: str | Sequence[str] = "nDCG@10"
    rel: int | None = None
    tie_tol: float | None = None
    rank_easy: bool = False
    seed: int = 0
    batch_tokens: int | None = None
    most_pairs: int | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures, the main one first."""
        return (self.measure,) if isinstance(self.measure, str) else tuple(self.measure)


@dataclass(frozen=True)
class CutStudy:
    """Measured conditions."""

    model: Reranker  # the model that was run
    pairs: PairSet  # all pairs of the study
    rows: list[int]  # the places of those that were run
    settings: Settings  # the options
    out: Run  # the run
    # for each condition why it could remove nothing, None where it could
    reasons: Mapping[str, str | None]
    # a row for each condition, the untouched model first, the random ranking second
    table: pd.DataFrame
    queries: pd.DataFrame  # a row for each condition and query
    by_measure: Mapping[str, pd.DataFrame]  # the tables of all measures, where there are several
    options: Mapping[str, object]  # what the manifest records of the settings and the run
    notes: tuple[str, ...]  # what a person should know
    seconds: float  # wall time of the run

    def result(
        self,
        study: str,
        options: Mapping[str, object],
        tables: Mapping[str, pd.DataFrame],
        more_notes: Sequence[str] = (),
    ) -> Result:
        """The study's result, with its own options, tables and notes beside the common ones."""
        from matchlens.engine import lengths

        pairs, rows, out = self.pairs.pairs, self.rows, self.out
        tokens, truncated = out.tokens, out.truncated
        if len(rows) < len(pairs):
            tokens, truncated = lengths(self.model, pairs)
        run = f"{counted(len(out.plan.conditions), 'condition')} on {counted(len(rows), 'pair')}"
        return Result(
            study=study,
            identity=identity(self.model.identity, self.pairs),
            options={**self.options, **options},
            notes=(*self.pairs.notes, *self.notes, *self.model.notes, *more_notes),
            pairs=pair_table(pairs, tokens, truncated, self.settings.seed),
            scores=score_table(out, rows),
            tables={**tables, **self.by_measure},
            log=(f"{study}: {run}: {self.seconds:.1f} s",),
        )


def pairs_run(pairs: PairSet, settings: Settings) -> tuple[PairSet, list[int]]:
    """The pairs that a study runs, and their places; easy negatives run only where they rank."""
    most = settings.most_pairs
    if most is None and not settings.rank_easy:
        most = sum(pair.grade != EASY_GRADE for pair in pairs.pairs)
    if most is None:
        return pairs, list(range(len(pairs.pairs)))
    return thin(pairs, most, seed=settings.seed, easy=settings.rank_easy)


def _rankings(
    pairs: PairSet, settings: Settings, rel: int
) -> list[tuple[Measure, list[Candidates], tuple[str, ...]]]:
    """Each measure, the queries whose ranking can move it, and a note on the others."""
    if not settings.measures:
        raise InputError("no measure came; expected at least one: give 'nDCG@10', for example")
    rankings = [
        ranked(pairs, name, rel, rank_easy=settings.rank_easy) for name in settings.measures
    ]
    names = [str(measure) for measure, _, _ in rankings]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise InputError(f"measure {twice[0]} is given twice; give each measure once")
    return rankings


def conduct(
    model: Reranker,
    pairs: PairSet,
    conditions: Mapping[str, Condition],
    settings: Settings,
    *,
    families: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> CutStudy:
    """Run conditions on pairs and measure the rankings.

    Args:
        model: a loaded reranker.
        pairs: all pairs of the study.
        conditions: name to cuts, the untouched model (``""``) first.
        settings: the options.
        families: by condition the family of tests that Holm corrects over; one where None.
        progress: called with pairs done and pairs in all.
        runner: runs the pairs; this process where None.
    """
    chosen, seed = preset_of(settings.preset), settings.seed
    conditions = bound(conditions, own_parts(pairs.pairs))
    used, rows = pairs_run(pairs, settings)
    rel = relevant_grade(pairs, settings.rel)
    tol = tolerance(settings.tie_tol, model.dtype)
    rankings = _rankings(used, settings, rel)
    names = [str(measure) for measure, _, _ in rankings]
    measure, queries, _ = rankings[0]
    sample = Sample.of(used.pairs, queries, measure, settings.tie_tol, seed)
    execution = Execution(model, settings.batch_tokens, progress, runner)
    if model.auto:
        offered(execution, sample)
    started = time.perf_counter()
    out = execution(used.pairs, conditions, seed=seed)
    seconds = time.perf_counter() - started
    reasons = {
        name: reason(condition, out.reach, out.causal) for name, condition in conditions.items()
    }
    tables = [
        measured(out, queries, measure, tol, seed, families, impossible=reasons)
        for measure, queries, _ in rankings
    ]
    table, by_query = tables[0]
    texts = [*rankings[0][2], *notes(out, queries, table, tol), *note(reasons.values())]
    texts += own_notes(out, len(used.pairs))
    texts += [text for _, _, others in rankings[1:] for text in others if text not in texts]
    texts += compared(execution, out, sample, conditions)
    if model.cls_note:
        texts.append(model.cls_note)
    if len(rows) < len(pairs.pairs):
        run_on = f"run on {len(rows)} of {counted(len(pairs.pairs), 'pair')}"
        texts.insert(0, f"{run_on}, {counted(len(queries), 'query')}")
    run = run_options(model, out)
    options = {
        "preset": chosen.name,
        "stars": chosen.stars,
        "digits": chosen.digits,
        "measure": names[0],
        **({"measures": names} if len(names) > 1 else {}),
        "rel": rel,
        "tie_tol": tol,
        "rank_easy": settings.rank_easy,
        "seed": seed,
        "most_pairs": settings.most_pairs,
        "pairs_run": len(rows),
        **{key: run[key] for key in ("layers", "heads", "device")},
        "original": float(table["mean"].iloc[0]),
        "random": float(table["mean"].iloc[1]),
        "layer_passes": out.plan.passes,
        "layer_passes_unshared": out.plan.passes_unshared,
        "batches": {
            "batch_tokens": out.batch_tokens,
            "number": len(out.batches),
            "pairs": list(out.batches),
        },
        "check": run["check"],
    }
    return CutStudy(
        model=model,
        pairs=pairs,
        rows=rows,
        settings=settings,
        out=out,
        reasons=reasons,
        table=table,
        queries=by_query,
        by_measure=_by_measure(names, tables) if len(names) > 1 else {},
        options=options,
        notes=tuple(texts),
        seconds=seconds,
    )


def _by_measure(
    names: Sequence[str], tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """The tables of all measures, stacked."""
    stacked = {}
    for title, parts in zip(
        ("measures", "measure_queries"), zip(*tables, strict=True), strict=True
    ):
        labelled = [table.assign(measure=name) for name, table in zip(names, parts, strict=True)]
        stack = pd.concat(labelled, ignore_index=True)
        columns = ["measure", *(key for key in stack if key != "measure")]
        stacked[title] = pd.DataFrame(stack[columns])
    return stacked


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
        hows: modes of cutting, each applied to every cut of ``cuts``; where there are several,
            stars are corrected for each mode by itself and the table ``agreement`` shows where
            they agree. The cuts of ``sets`` name their own, so that sets alone take no hows.
        preset: ``default`` (Holm-corrected paired t-test), ``paper`` (uncorrected, unpaired),
            ``authors`` or ``zhan2020``.
        measure: a measure of ir_measures by name (those that need more than grades are refused),
            or several: the pairs are run once, the first is the tables' measure, and the table
            ``measures`` has all.
        rel: lowest grade that counts as relevant for binary measures; where None: 2 where the
            judgements reach 2, else 1.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        rank_easy: whether easy negatives stand in the rankings.
        seed: of permutations, resampling and the halves.
        most_pairs: at most so many pairs, as :func:`matchlens.thin` chooses them; all where None.
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
    more_notes = sets_alone(texts, named_sets, hows)
    expanded, impossible = expand_modes(texts, hows)
    names = [moded.cut for moded in expanded]
    modes = [moded.how for moded in expanded]
    conditions = conditions_of(names, named_sets)
    settings = Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs)
    several = hows is not None and len(set(modes)) > 1
    families = dict(zip(names, modes, strict=True)) | dict.fromkeys(named_sets, "sets")
    of_sets = {name: cuts for name, cuts in conditions.items() if name in named_sets}
    more_notes += alike(of_sets if several else conditions, named_sets, model.family.n_layers)
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
    return done.result("ablation", options, tables, [*left_out(impossible), *more_notes])


RUNS_INDEX = "runs/index.tsv"
"""Which run is of which cut."""


def trec_runs(result: Result) -> dict[str, str]:
    """A TREC run for every cut, and the index that says which is which."""
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
    files[RUNS_INDEX] = "\n".join(index) + "\n"
    return files
