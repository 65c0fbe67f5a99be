"""Scores become tables: the measure under each condition, its tests, how far rankings moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from matchlens.corpora import Pair, PairSet
from matchlens.directions import Cut
from matchlens.engine import Run
from matchlens.errors import InputError
from matchlens.ranking import (
    Candidates,
    Measure,
    benjamini_hochberg,
    compare,
    evaluate,
    holm,
    random_expectation,
    shift,
)
from matchlens.studies.common import TIE_TOL, ranked

ORIGINAL = ""
RANDOM = "random"
ALPHA = 0.05
"""Corrected p at or below which a cell has a star."""


def conditions_of(cuts: Sequence[str | Cut]) -> dict[str, list[Cut]]:
    """Conditions by the text as given, the untouched model first.

    Raises:
        InputError: if there is no cut, or a text stands twice.
    """
    conditions: dict[str, list[Cut]] = {ORIGINAL: []}
    for cut in cuts:
        name = str(cut)
        if name in conditions and name != ORIGINAL:
            raise InputError(f"cut {name!r} is given twice; give each cut once")
        conditions[name] = [Cut.of(cut)]
    if len(conditions) == 1:
        raise InputError("no cut given; expected at least one, for example 'Q->D'")
    return conditions


def prepare(
    pairs: PairSet, measure: str, rel: int, tie_tol: float | None, dtype: str, rank_easy: bool
) -> tuple[Measure, float, list[Candidates], tuple[str, ...]]:
    """The measure, the tie tolerance and the queries of a study, and what to say of the others.

    Raises:
        InputError: if one of them cannot be used.
    """
    tol = TIE_TOL[dtype] if tie_tol is None else tie_tol
    if not 0 <= tol < float("inf"):
        raise InputError(f"tie_tol is {tol}; expected 0 or more logits")
    parsed, queries, said = ranked(pairs, measure, rel, rank_easy=rank_easy)
    return parsed, tol, queries, said


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

    Args:
        out: the run; its first condition is the untouched model.
        queries: the candidates.
        measure: what is measured.
        tol: scores closer than this (logits) are tied.
        seed: of permutations and resampling.
        families: condition to the family of tests in which it is corrected; one family where None.
        impossible: condition to why it could remove nothing, None where it could. Such a one has a
            row with the reason and no number, and counts in no test.

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
    shifts = [shift(queries, out.scores.of(name), original, tie_tol=tol) for name in names]
    base = marks[0].values
    tested = [place for place in range(1, len(names)) if not reasons.get(names[place])]
    lose = float(base.mean() - random.values.mean())
    tests = pd.DataFrame()
    if tested:
        tests = compare(
            np.stack([marks[place].values for place in tested]),
            base,
            [query.collection for query in queries],
            seed=seed,
        )
    if families is not None and tested:
        tests = corrected(tests, [families[names[place]] for place in tested])
    rows: list[Mapping[str, object]] = []
    frames = []
    for place, (name, mark, moved) in enumerate(zip(names, marks, shifts, strict=True)):
        if why := reasons.get(name):
            original_mean = float(base.mean())
            known = {"cut": name, "queries": len(queries), "original": original_mean}
            rows.append({**known, "estimated": False, "impossible": why})
            continue
        found = dict(tests.iloc[tested.index(place)]) if place else {}
        rows.append(
            {
                "cut": name,
                "queries": len(queries),
                "mean": float(mark.values.mean()),
                "original": float(base.mean()),
                **{key: value for key, value in found.items() if key not in {"n", "original"}},
                "kept": _ratio(float(mark.values.mean()), float(base.mean())),
                "score_change": float(moved.score_change.mean()),
                "score_sd": float(moved.score_sd.mean()),
                "tau_b": _mean_of_known(moved.tau_b),
                "overlap": float(moved.overlap.mean()),
                "estimated": mark.estimated,
                "stderr": float(np.sqrt((mark.stderr**2).sum()) / len(queries)),
                "wide_ties": mark.wide_ties,
            }
        )
        frames.append(
            pd.DataFrame(
                {
                    "cut": name,
                    "collection": [query.collection for query in queries],
                    "qid": [query.qid for query in queries],
                    "value": mark.values,
                    "stderr": mark.stderr,
                    "diff": mark.values - base,
                    "score_change": moved.score_change,
                    "score_sd": moved.score_sd,
                    "tau_b": moved.tau_b,
                    "overlap": moved.overlap,
                }
            )
        )
    frames.append(
        pd.DataFrame(
            {
                "cut": RANDOM,
                "collection": [query.collection for query in queries],
                "qid": [query.qid for query in queries],
                "value": random.values,
                "stderr": random.stderr,
                "diff": random.values - base,
            }
        )
    )
    chance = {
        "cut": RANDOM,
        "queries": len(queries),
        "mean": float(random.values.mean()),
        "original": float(base.mean()),
        "diff": float((random.values - base).mean()),
        "kept": _ratio(float(random.values.mean()), float(base.mean())),
        "estimated": random.estimated,
        "stderr": float(np.sqrt((random.stderr**2).sum()) / len(queries)),
    }
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
    """What :func:`~matchlens.ranking.compare` returned, corrected inside families of tests.

    Args:
        tests: a row for each test.
        families: the family of each.
    """
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
    """Columns cut, pair, score (logits).

    Args:
        out: the run.
        rows: the number of each of its pairs.
    """
    conditions, pairs = out.scores.values.shape
    return pd.DataFrame(
        {
            "cut": np.repeat(np.array(out.plan.conditions, dtype=object), pairs),
            "pair": np.tile(np.array(rows, dtype=np.int64), conditions),
            "score": out.scores.values.ravel(),
        }
    )


def notes(
    out: Run, pairs: Sequence[Pair], queries: Sequence[Candidates], table: pd.DataFrame
) -> list[str]:
    """What a person should know before believing the table."""
    said = []
    cut_short = int(out.truncated.sum())
    if cut_short:
        said.append(f"{cut_short} of {len(pairs)} pairs were cut to the length limit")
    if len(queries) == 1:
        said.append("one query only: no test is possible, so no cell has a star")
    for name, wide in zip(table["cut"], table["wide_ties"], strict=True):
        if wide:
            said.append(
                f"under {name or 'no cut'!r}, {wide} queries have a chain of ties wider than ten "
                "times tie_tol; their order is treated as random"
            )
    if bool(table["estimated"].any()):
        said.append("under ties the measure was estimated from 1,000 seeded permutations")
    return said
