"""Tables of a run: the measure and its tests by condition and query, and scores by cut and pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from matchlens.directions import Cut
from matchlens.errors import InputError, counted
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
from matchlens.ranking.effects import ALPHA
from matchlens.ranking.ties import rank
from matchlens.studies.common import truncation_note

if TYPE_CHECKING:
    from matchlens.engine import Run

ORIGINAL = ""
RANDOM = "random"


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
    reasons, names = impossible or {}, out.plan.conditions
    original = out.scores.of(ORIGINAL)
    random = random_expectation(measure, queries, seed=seed)
    marks = {
        name: evaluate(measure, queries, out.scores.of(name), tie_tol=tol, seed=seed)
        for name in names
    }
    base = marks[ORIGINAL].values
    before = float(base.mean())
    ids = {name: [getattr(query, name) for query in queries] for name in ("collection", "qid")}
    tested = [name for name in names[1:] if not reasons.get(name)]
    tests = pd.DataFrame()
    if tested:
        values = np.stack([marks[name].values for name in tested])
        tests = compare(values, base, ids["collection"], seed=seed)
        if families is not None:
            tests = corrected(tests, [families[name] for name in tested])
        tests = tests.drop(columns=["n", "original"], errors="ignore")

    def row(
        name: str, mark: Evaluation, test: Mapping[str, object], **means: float
    ) -> dict[str, object]:
        mean = float(mark.values.mean())
        return {
            "cut": name,
            "queries": len(queries),
            "mean": mean,
            "original": before,
            **test,
            "kept": mean / before if before else float("nan"),
            **means,
            "estimated": mark.estimated,
            "stderr": float(np.sqrt((mark.stderr**2).sum()) / len(queries)),
        }

    def by_query(name: str, mark: Evaluation) -> dict[str, object]:
        values = {"value": mark.values, "stderr": mark.stderr, "diff": mark.values - base}
        return {"cut": name, **ids, **values}

    rows: list[Mapping[str, object]] = []
    frames = []
    for name, mark in marks.items():
        if why := reasons.get(name):
            known = {"cut": name, "queries": len(queries), "original": before}
            rows.append({**known, "estimated": False, "impossible": why})
            continue
        moved = vars(shift(queries, out.scores.of(name), original, tie_tol=tol))
        means = {key: _mean_of_known(values) for key, values in moved.items()}
        test = {} if name == ORIGINAL else dict(tests.iloc[tested.index(name)])
        rows.append({**row(name, mark, test, **means), "wide_ties": mark.wide_ties})
        frames.append(pd.DataFrame({**by_query(name, mark), **moved}))
    frames.append(pd.DataFrame(by_query(RANDOM, random)))
    chance = row(RANDOM, random, {"diff": float((random.values - base).mean())})
    table = pd.DataFrame([rows[0], chance, *rows[1:]])
    for column in ("p", "p_holm", "q", "p_unpaired", "ci_low", "ci_high", "diff"):
        if column not in table:  # nothing could be tested
            table[column] = np.nan
    lose = float(base.mean() - random.values.mean())
    share = table["diff"].to_numpy(dtype=np.float64) / (lose if lose > 0 else np.nan)
    table.insert(int(table.columns.get_indexer(["diff"])[0]) + 1, "share", share)
    for column in ("significant", "significant_paper", "impossible"):
        if column not in table:  # nothing could be tested, or nothing is impossible
            table[column] = None
    for column in ("significant", "significant_paper"):
        table[column] = [value is True or value == np.True_ for value in table[column]]
    table["impossible"] = [why if isinstance(why, str) else None for why in table["impossible"]]
    table["wide_ties"] = table["wide_ties"].fillna(0).astype(np.int64)
    return table, pd.concat(frames, ignore_index=True)


def corrected(tests: pd.DataFrame, families: Sequence[str]) -> pd.DataFrame:
    """Tests of :func:`~matchlens.ranking.compare`, corrected inside families of tests."""
    tests = tests.copy()
    for name in dict.fromkeys(families):
        here = np.array([family == name for family in families])
        p, p_flip = (tests.loc[here, key].to_numpy() for key in ("p", "p_flip"))
        tests.loc[here, "p_holm"] = holm(p)
        tests.loc[here, "q"] = benjamini_hochberg(p)
        tests.loc[here, "p_flip_holm"] = holm(p_flip)
    tests["significant"] = tests["p_holm"] <= ALPHA
    return tests


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
    """Scores by cut and pair."""

    cuts: tuple[str, ...]  # the cuts, the untouched model (`""`) first
    values: Float[np.ndarray, "cut pair"]  # [cut, pair] logits; NaN where there is none
    table: pd.DataFrame  # what they were read from, columns cut, pair, score

    @classmethod
    def of(
        cls,
        table: pd.DataFrame | None,
        number: int,
        wanted: Sequence[str] | None,
        needed: Sequence[int],
    ) -> Scored | None:
        """The scores that a table has; None where it lacks what is needed."""
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
        if not needed:
            enough = known.any(1).all()
        elif wanted is None:  # every needed pair has a score under no cut and under some
            enough = known[0].all() and known[1:].any(0).all()
        else:
            enough = known.all()
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
    out: Run, queries: Sequence[Candidates], table: pd.DataFrame, tie_tol: float
) -> list[str]:
    """Notes on truncated pairs, too few queries, and ties."""
    notes = truncation_note(out)
    untouched = out.scores.of("")
    tied = sum(bool(np.ptp(untouched[query.rows]) <= tie_tol) for query in queries)
    if tied:
        notes.append(
            f"the untouched model gives one score to all candidates of {tied} of {len(queries)} "
            f"queries (within {tie_tol:g} logits, tie_tol): their ranking is random already, so "
            "that no cut can make it worse"
        )
    if len(queries) == 1:
        notes.append("one query only: no test is possible, so no cell has a star")
    notes += [
        f"under {name or 'no cut'!r}, a chain of ties in {counted(wide, 'query')} is wider than "
        "ten times tie_tol; its order is treated as random"
        for name, wide in zip(table["cut"], table["wide_ties"], strict=True)
        if wide
    ]
    if bool(table["estimated"].any()):
        notes.append("under ties the measure was estimated from 1,000 seeded permutations")
    return notes
