"""Every study of cuts: choose pairs, run the conditions, measure, test, keep the provenance."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from matchlens.corpora import EASY_GRADE, Pair, PairSet, thin
from matchlens.corpora.own import own_parts
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.plan import Condition, bound
from matchlens.ranking import (
    Candidates,
    Evaluation,
    Measure,
    benjamini_hochberg,
    compare,
    evaluate,
    holm,
    random_expectation,
    shift,
)
from matchlens.ranking.ties import rank
from matchlens.results import Result
from matchlens.sets import cut_sets
from matchlens.studies.common import (
    Execution,
    identity,
    own_notes,
    pair_table,
    ranked,
    relevant_grade,
    tolerance,
    truncation_note,
)
from matchlens.studies.cuts.cut_modes import note, reason
from matchlens.studies.cuts.rounding import Sample, compared, offered
from matchlens.studies.presets import preset as preset_of

if TYPE_CHECKING:
    from matchlens.engine import Progress, Run
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


ORIGINAL = ""
RANDOM = "random"
ALPHA = 0.05
"""Corrected p at or below which a cell has a star."""


def conditions_of(
    cuts: Sequence[str | Cut], sets: str | Path | Mapping[str, Sequence[str | Cut]] | None = None
) -> dict[str, Condition]:
    """Conditions by the cut's text, the untouched model first; sets of cuts by their names."""
    conditions: dict[str, Condition] = {ORIGINAL: []}
    for cut in cuts:
        name = str(cut)
        if name in conditions and name != ORIGINAL:
            raise InputError(f"cut {name!r} is given twice; give each cut once")
        conditions[name] = [Cut.of(cut)]
    conditions |= {name: list(some) for name, some in cut_sets(sets).items()}
    if len(conditions) == 1:
        raise InputError("no cut given; expected at least one, for example 'Q->D'")
    return conditions


def sets_option(sets: Mapping[str, Sequence[Cut]]) -> dict[str, object]:
    """The option of a result that names sets of cuts; none where there are none."""
    named = {name: [str(cut) for cut in cuts] for name, cuts in sets.items()}
    return {"sets": named} if named else {}


def measured(
    out: Run,
    queries: Sequence[Candidates],
    measure: Measure,
    tol: float,
    seed: int,
    families: Mapping[str, str] | None = None,
    impossible: Mapping[str, str | None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of conditions and the table of queries.

    Returns:
        One row for each condition (``""`` first, ``random`` second; ``share`` is the mean change as
        a share of original - random, NaN where the model is no better than random), and one row
        for each condition and query.
    """
    reasons = impossible or {}
    names = out.plan.conditions
    original = out.scores.of(ORIGINAL)
    random = random_expectation(measure, queries, seed=seed)
    marks = [
        evaluate(measure, queries, out.scores.of(name), tie_tol=tol, seed=seed) for name in names
    ]
    base = marks[0].values
    tested = [place for place in range(1, len(names)) if not reasons.get(names[place])]
    ids = {
        "collection": [query.collection for query in queries],
        "qid": [query.qid for query in queries],
    }
    tests = pd.DataFrame()
    if tested:
        values = np.stack([marks[place].values for place in tested])
        tests = compare(values, base, ids["collection"], seed=seed)
        if families is not None:
            tests = corrected(tests, [families[names[place]] for place in tested])
        tests = tests.drop(columns=["n", "original"], errors="ignore")

    def row(name: str, mark: Evaluation, **more: object) -> dict[str, object]:
        return {
            "cut": name,
            "queries": len(queries),
            "mean": float(mark.values.mean()),
            "original": float(base.mean()),
            **more,
            "estimated": mark.estimated,
            "stderr": float(np.sqrt((mark.stderr**2).sum()) / len(queries)),
        }

    def by_query(name: str, mark: Evaluation) -> dict[str, object]:
        values = {"value": mark.values, "stderr": mark.stderr, "diff": mark.values - base}
        return {"cut": name, **ids, **values}

    rows: list[Mapping[str, object]] = []
    frames = []
    for place, (name, mark) in enumerate(zip(names, marks, strict=True)):
        if why := reasons.get(name):
            known = {"cut": name, "queries": len(queries), "original": float(base.mean())}
            rows.append({**known, "estimated": False, "impossible": why})
            continue
        moved = vars(shift(queries, out.scores.of(name), original, tie_tol=tol))
        means = {key: _mean_of_known(values) for key, values in moved.items()}
        test = dict(tests.iloc[tested.index(place)]) if place else {}
        kept = _ratio(float(mark.values.mean()), float(base.mean()))
        rows.append({**row(name, mark, **test, kept=kept, **means), "wide_ties": mark.wide_ties})
        frames.append(pd.DataFrame({**by_query(name, mark), **moved}))
    frames.append(pd.DataFrame(by_query(RANDOM, random)))
    chance = row(
        RANDOM,
        random,
        diff=float((random.values - base).mean()),
        kept=_ratio(float(random.values.mean()), float(base.mean())),
    )
    lose = float(base.mean() - random.values.mean())
    table = pd.DataFrame([rows[0], chance, *rows[1:]])
    for column in ("p", "p_holm", "q", "p_unpaired", "ci_low", "ci_high", "diff"):
        if column not in table:  # nothing could be tested
            table[column] = np.nan
    share = table["diff"].to_numpy(dtype=np.float64) / (lose if lose > 0 else np.nan)
    table.insert(int(table.columns.get_indexer(["diff"])[0]) + 1, "share", share)
    for column in ("significant", "significant_paper"):
        if column not in table:
            table[column] = False
        table[column] = [value is True or value == np.True_ for value in table[column]]
    if "impossible" not in table:
        table["impossible"] = None
    table["impossible"] = [why if isinstance(why, str) else None for why in table["impossible"]]
    table["wide_ties"] = [0 if pd.isna(count) else int(count) for count in table["wide_ties"]]
    return table, pd.concat(frames, ignore_index=True)


def corrected(tests: pd.DataFrame, families: Sequence[str]) -> pd.DataFrame:
    """What :func:`~matchlens.ranking.compare` returned, corrected inside families of tests."""
    tests = tests.copy()
    for name in dict.fromkeys(families):
        here = np.array([family == name for family in families])
        p, p_flip = (tests.loc[here, key].to_numpy() for key in ("p", "p_flip"))
        tests.loc[here, "p_holm"] = holm(p)
        tests.loc[here, "q"] = benjamini_hochberg(p)
        tests.loc[here, "p_flip_holm"] = holm(p_flip)
    tests["significant"] = tests["p_holm"] <= ALPHA
    return tests


def _ratio(value: float, base: float) -> float:
    return value / base if base else float("nan")


def _mean_of_known(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def score_table(out: Run, rows: Sequence[int]) -> pd.DataFrame:
    """Columns cut, pair, score (logits)."""
    conditions, pairs = out.scores.values.shape
    return pd.DataFrame(
        {
            "cut": np.repeat(np.array(out.plan.conditions, dtype=object), pairs),
            "pair": np.tile(np.array(rows, dtype=np.int64), conditions),
            "score": out.scores.values.ravel(),
        }
    )


@dataclass(frozen=True)
class Scored:
    """Scores by cut and pair.

    Args:
        cuts: the cuts, the untouched model (``""``) first.
        values: [cut, pair] logits; NaN where there is none.
        table: what they were read from, columns cut, pair, score.
    """

    cuts: tuple[str, ...]
    values: Float[np.ndarray, "cut pair"]
    table: pd.DataFrame

    @classmethod
    def of(
        cls,
        table: pd.DataFrame | None,
        number: int,
        wanted: Sequence[str] | None,
        needed: Sequence[int],
    ) -> Scored | None:
        """What a table of scores offers; None where it does not do."""
        if table is None:
            return None
        missing = {"cut", "pair", "score"} - set(table.columns)
        if missing:
            raise InputError(
                f"the scores have no column {', '.join(sorted(missing))}; expected the columns "
                "cut, pair, score"
            )
        rows, scores = table["pair"].to_numpy(), table["score"].to_numpy(dtype=np.float64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < number):
            raise InputError(
                f"the scores name pairs {rows.min()} to {rows.max()}; expected 0 to {number - 1}: "
                "leave these scores out, since they are of other pairs"
            )
        if not np.isfinite(scores).all():
            raise InputError(
                "the scores hold NaN or infinity; expected finite logits: leave these scores out"
            )
        names = table["cut"].astype(str).to_numpy(dtype=object)
        kept = dict.fromkeys(name for name in dict.fromkeys(names) if name and _is_whole(name))
        cuts = ("", *(kept if wanted is None else wanted))
        place = {name: at for at, name in enumerate(cuts)}
        values = np.full((len(cuts), number), np.nan)
        at = np.array([place.get(name, -1) for name in names], dtype=np.int64)
        values[at[at >= 0], rows[at >= 0].astype(np.int64)] = scores[at >= 0]
        known = np.isfinite(values[:, list(needed)] if needed else values)
        if wanted is None:  # every needed pair has a score under no cut and under some
            enough = known[0].all() and known[1:].any(0).all() if needed else known.any(1).all()
        else:
            enough = known.all() if needed else known.any(1).all()
        return cls(cuts, values, table) if len(cuts) > 1 and enough else None

    @property
    def rows(self) -> list[int]:
        """The pairs that have a score under no cut."""
        return np.flatnonzero(np.isfinite(self.values[0])).tolist()

    @property
    def best(self) -> list[int]:
        """The pairs of them that have scores under the most cuts."""
        counts = np.isfinite(self.values).sum(0) * np.isfinite(self.values[0])
        return np.flatnonzero(counts == counts.max()).tolist()

    def known(self, cut: str) -> Bool[np.ndarray, " pair"]:
        """The pairs that have a score under a cut and under none."""
        return np.isfinite(self.values[self.cuts.index(cut)]) & np.isfinite(self.values[0])

    def ranks(self, cut: str, queries: Iterable[Sequence[int]], tol: float) -> dict[int, float]:
        """The rank of each candidate in its query, from 1; ties share their mean rank."""
        ranks: dict[int, float] = {}
        none = np.zeros(0, dtype=np.int64)
        scores = self.values[self.cuts.index(cut)]
        for rows in queries:
            grades = np.zeros(len(rows), dtype=np.int64)
            candidates = Candidates("", "", np.array(rows, dtype=np.int64), grades, none)
            ranked = rank([candidates], scores, tol)
            places = ranked.unranked(ranked.spread(ranked.unranked(ranked.place + 1.0)))
            ranks |= dict(zip(rows, places.tolist(), strict=True))
        return ranks


def _is_whole(name: str) -> bool:
    """Whether a condition is a cut of whole directions in all layers, or in those up to one."""
    try:
        cut = Cut.parse(name)
    except InputError:  # a control
        return False
    layers = cut.layers
    return cut.heads is None and (layers is None or layers == tuple(range(len(layers))))


def notes(
    out: Run, pairs: Sequence[Pair], queries: Sequence[Candidates], table: pd.DataFrame
) -> list[str]:
    """What a person should know before believing the table."""
    notes = truncation_note(out)
    if len(queries) == 1:
        notes.append("one query only: no test is possible, so no cell has a star")
    for name, wide in zip(table["cut"], table["wide_ties"], strict=True):
        if wide:
            notes.append(
                f"under {name or 'no cut'!r}, {wide} queries have a chain of ties wider than ten "
                "times tie_tol; their order is treated as random"
            )
    if bool(table["estimated"].any()):
        notes.append("under ties the measure was estimated from 1,000 seeded permutations")
    return notes


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
    """Measured conditions.

    Args:
        model: the model that was run.
        pairs: all pairs of the study.
        rows: the places of those that were run.
        settings: the options.
        out: the run.
        reasons: for each condition why it could remove nothing, None where it could.
        table: a row for each condition, the untouched model first, the random ranking second.
        queries: a row for each condition and query.
        more: the tables of all measures, where there are several.
        options: what the manifest records of the settings and the run.
        notes: what a person should know.
        seconds: wall time of the run.
    """

    model: Reranker
    pairs: PairSet
    rows: list[int]
    settings: Settings
    out: Run
    reasons: tuple[str | None, ...]
    table: pd.DataFrame
    queries: pd.DataFrame
    more: Mapping[str, pd.DataFrame]
    options: Mapping[str, object]
    notes: tuple[str, ...]
    seconds: float

    def result(
        self,
        study: str,
        options: Mapping[str, object],
        tables: Mapping[str, pd.DataFrame],
        more: Sequence[str] = (),
    ) -> Result:
        """The study's result, with its own options, tables and notes beside the common ones."""
        from matchlens.engine import lengths

        number = len(self.pairs.pairs)
        tokens, truncated = self.out.tokens, self.out.truncated
        if len(self.rows) < number:
            tokens, truncated = lengths(self.model, self.pairs.pairs)
        conditions = len(self.out.plan.conditions)
        return Result(
            study=study,
            identity=identity(self.model.identity, self.pairs),
            options={**self.options, **options},
            notes=(*self.pairs.notes, *self.notes, *self.model.notes, *more),
            pairs=pair_table(self.pairs.pairs, tokens, truncated, self.settings.seed),
            scores=score_table(self.out, self.rows),
            tables={**tables, **self.more},
            log=(
                f"{study}: {conditions} conditions on {len(self.rows)} pairs: {self.seconds:.1f} s",
            ),
        )


def pairs_run(pairs: PairSet, settings: Settings) -> tuple[PairSet, list[int]]:
    """The pairs that a study runs, and their places; easy negatives run only where they rank."""
    most = settings.most_pairs
    if most is None and not settings.rank_easy:
        most = sum(pair.grade != EASY_GRADE for pair in pairs.pairs)
    if most is None:
        return pairs, list(range(len(pairs.pairs)))
    return thin(pairs, most, seed=settings.seed, easy=settings.rank_easy)


def prepare(
    pairs: PairSet, measure: str, rel: int, tie_tol: float | None, dtype: str, rank_easy: bool
) -> tuple[Measure, float, list[Candidates], tuple[str, ...]]:
    """The measure, the tie tolerance, the queries that are ranked, and a note on the others."""
    tol = tolerance(tie_tol, dtype)
    parsed, queries, left_out = ranked(pairs, measure, rel, rank_easy=rank_easy)
    return parsed, tol, queries, left_out


def _ranks(
    pairs: PairSet, settings: Settings, rel: int
) -> list[tuple[Measure, list[Candidates], tuple[str, ...]]]:
    """Each measure, the queries whose ranking can move it, and a note on the others."""
    if not settings.measures:
        raise InputError("no measure came; expected at least one: give 'nDCG@10', for example")
    ranks = [ranked(pairs, name, rel, rank_easy=settings.rank_easy) for name in settings.measures]
    names = [str(measure) for measure, _, _ in ranks]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise InputError(f"measure {twice[0]} is given twice; give each measure once")
    return ranks


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
    chosen = preset_of(settings.preset)
    conditions = bound(conditions, own_parts(pairs.pairs))
    used, rows = pairs_run(pairs, settings)
    rel = relevant_grade(pairs, settings.rel)
    tol = tolerance(settings.tie_tol, model.dtype)
    ranks = _ranks(used, settings, rel)
    names = [str(measure) for measure, _, _ in ranks]
    measure, ranked_queries, _ = ranks[0]
    sample = Sample.of(used.pairs, ranked_queries, measure, settings.tie_tol, settings.seed)
    execution = Execution(model, settings.batch_tokens, progress, runner)
    if model.auto:
        offered(execution, sample)
    started = time.perf_counter()
    out = execution(used.pairs, conditions, seed=settings.seed)
    seconds = time.perf_counter() - started
    reasons = {
        name: reason(condition, out.reach, out.causal) for name, condition in conditions.items()
    }
    tables = [
        measured(out, queries, measure, tol, settings.seed, families, impossible=reasons)
        for measure, queries, _ in ranks
    ]
    more: dict[str, pd.DataFrame] = {}
    if len(ranks) > 1:
        for title, of_measures in zip(
            ("measures", "measure_queries"), zip(*tables, strict=True), strict=True
        ):
            stacked = [
                table.assign(measure=name) for name, table in zip(names, of_measures, strict=True)
            ]
            whole = pd.concat(stacked, ignore_index=True)
            columns = ["measure", *(key for key in whole if key != "measure")]
            more[title] = pd.DataFrame(whole[columns])
    (table, per_query), (_, queries, left_out) = tables[0], ranks[0]
    texts = [*left_out, *notes(out, used.pairs, queries, table), *note(list(reasons.values()))]
    texts += [*own_notes(out, len(used.pairs)), *(text for rank in ranks[1:] for text in rank[2])]
    texts += compared(execution, out, sample, conditions)
    if model.cls_note:
        texts.append(model.cls_note)
    if len(rows) < len(pairs.pairs):
        texts.insert(0, f"run on {len(rows)} of {len(pairs.pairs)} pairs, {len(queries)} queries")
    batches = {"batch_tokens": out.batch_tokens, "number": len(out.batches)}
    options = {
        "preset": chosen.name,
        "stars": chosen.stars,
        "digits": chosen.digits,
        "measure": names[0],
        **({"measures": names} if len(names) > 1 else {}),
        "rel": rel,
        "tie_tol": tol,
        "rank_easy": settings.rank_easy,
        "seed": settings.seed,
        "most_pairs": settings.most_pairs,
        "pairs_run": len(rows),
        "layers": model.family.n_layers,
        "heads": model.family.n_heads,
        "device": out.device,
        "original": float(table["mean"].iloc[0]),
        "random": float(table["mean"].iloc[1]),
        "layer_passes": out.plan.passes,
        "layer_passes_unshared": out.plan.passes_unshared,
        "batches": {**batches, "pairs": list(out.batches)},
        "check": dict(model.checks),
    }
    return CutStudy(
        model,
        pairs,
        rows,
        settings,
        out,
        tuple(reasons.values()),
        table,
        per_query,
        more,
        options,
        tuple(texts),
        seconds,
    )
