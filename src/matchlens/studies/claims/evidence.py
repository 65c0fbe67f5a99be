"""The cuts that the claims rest on, each with the cuts that show whether it leaves a backup path.

Some tokens may carry the same state (CLS, SEP1 and SEP2 do from some layer on), so that where one
of them is cut the others do its work: a backup path. So each cut of CLS or SEP is run beside the
same cut of the others and their joint cut, and a claim uses the joint cut where that does more
damage than every single one.

A sample of the judged passages is one of many. The cuts are few, so they are run on further draws
of the sample, too: a claim should have the same verdict on all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from matchlens.corpora import EASY_GRADE, Pair, PairSet, thin
from matchlens.corpora.pair import digest
from matchlens.errors import InputError
from matchlens.ranking import evaluate, random_expectation
from matchlens.results import Result
from matchlens.studies.common import Execution, pair_key, ranked
from matchlens.studies.cuts.cut_study import CutStudy, Settings, conditions_of, conduct
from matchlens.studies.cuts.measuring import RANDOM

if TYPE_CHECKING:
    from matchlens.engine import Progress
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


NAME = "evidence"
ALONE = ("D->D", "D->Q", "Q->D")
"""Cuts without siblings, in all layers."""


@dataclass(frozen=True)
class Path:
    """Cuts of tokens that may carry the same state."""

    main: str  # the cut that a claim speaks of
    others: tuple[str, ...]  # the same cut of the tokens that may stand in for it
    joint: str  # all of them at once

    @property
    def cuts(self) -> tuple[str, ...]:
        """All of them, the joint one last."""
        return (self.main, *self.others, self.joint)


def early(layers: int) -> int:
    """The number of layers that count as early: the lower third."""
    return math.ceil(layers / 3)


def read_sep(layers: int) -> tuple[Path, ...]:
    """SEP1 and SEP2 hidden from query and document, in all layers."""
    first, second = "{Q,D}->SEP1", "{Q,D}->SEP2"
    joint = "{Q,D}->{SEP1,SEP2}"
    return Path(first, (second,), joint), Path(second, (first,), joint)


def read_cls(layers: int) -> Path:
    """CLS hidden from query and document in the early layers."""
    where = f"@0:{early(layers)}"
    single = [f"{{Q,D}}->{part}{where}" for part in ("CLS", "SEP1", "SEP2")]
    return Path(single[0], tuple(single[1:]), f"{{Q,D}}->{{CLS,SEP1,SEP2}}{where}")


def gathering(layers: int) -> tuple[Path, Path]:
    """CLS blind to query and document in the lower half, and from there on."""
    half = math.ceil(layers / 2)

    def path(where: str) -> Path:
        single = [f"{part}->{{Q,D}}{where}" for part in ("CLS", "SEP1", "SEP2")]
        return Path(single[0], tuple(single[1:]), f"{{CLS,SEP1,SEP2}}->{{Q,D}}{where}")

    return path(f"@0:{half}"), path(f"@{half}:{layers}")


def evidence_cuts(layers: int) -> tuple[str, ...]:
    """Every cut that a claim rests on, for a model of so many layers.

    >>> len(evidence_cuts(12)), evidence_cuts(12)[6]
    (18, '{Q,D}->CLS@0:4')
    """
    paths = (*read_sep(layers), read_cls(layers), *gathering(layers))
    return tuple(dict.fromkeys((*ALONE, *(cut for path in paths for cut in path.cuts))))


def check_redraws(pairs: PairSet, redraws: Sequence[PairSet]) -> None:
    """Check that redraws are draws of the same sample with other seeds."""
    free = ("seed", "easy", "easy_pool")  # easy negatives are not ranked
    for number, redraw in enumerate(redraws, 1):
        keys = [key for key in {**pairs.sampling, **redraw.sampling} if key not in free]
        for what, old, new in (
            *((key, pairs.sampling.get(key), redraw.sampling.get(key)) for key in keys),
            ("its collections", _sources(pairs), _sources(redraw)),
        ):
            if old != new:
                raise InputError(
                    f"redraw {number} is no draw of the same sample: {what} was {old!r:.80} for "
                    f"the pairs and is {new!r:.80}; expected the same but for the seed: choose it "
                    "from the same collection with the same options and another seed"
                )


def _sources(pairs: PairSet) -> list[dict[str, object]]:
    return [
        {key: value for key, value in source.items() if key != "examples"}
        for source in pairs.sources
    ]


def further(pairs: PairSet, redraws: Sequence[PairSet]) -> tuple[list[PairSet], list[Pair]]:
    """The draws that differ, without easy negatives, and their pairs beyond those of the first.

    >>> from matchlens.corpora import choose, demo
    >>> first, other = (choose(demo.load(), queries=2, per_grade=1, seed=seed) for seed in (0, 1))
    >>> draws, new = further(first, [first, other, other])
    >>> len(draws), len(new)
    (1, 8)
    """
    known = set(_ranked(pairs))
    samples, draws, new = [known], [], []
    for redraw in redraws:
        own = _ranked(redraw)
        if set(own) in samples:
            continue
        samples.append(set(own))
        draws.append(replace(redraw, pairs=tuple(own.values())))
        new += [pair for key, pair in own.items() if key not in known]
        known |= set(own)
    return draws, new


def _ranked(pairs: PairSet) -> dict[tuple[str, str, str], Pair]:
    return {pair_key(pair): pair for pair in pairs.pairs if pair.grade != EASY_GRADE}


def evidence(
    model: Reranker,
    pairs: PairSet,
    *,
    redraws: Sequence[PairSet] = (),
    redraw_progress: Progress | None = None,
    **options: object,
) -> Result:
    """Run the cuts that the claims rest on.

    Returns:
        Tables ``cuts`` (one row for each cut) and ``queries`` (one row for each cut and query, the
        random ranking among the cuts); with redraws that differ ``redraws``, one row for each of
        them, cut and query.

    Source: science 2, "Backup paths", and 3, "A statement about a model".
    """
    run = {name: options.pop(name) for name in ("progress", "runner") if name in options}
    conditions = conditions_of(evidence_cuts(model.family.n_layers))
    done = conduct(model, pairs, conditions, Settings(**options), **run)  # type: ignore[arg-type]
    tables = {"cuts": done.table, "queries": done.queries}
    if not redraws:
        return done.result(NAME, {}, tables)
    settings = done.settings
    if settings.rank_easy:
        raise InputError("redraws hold no easy negatives; leave out redraws or rank_easy")
    if settings.most_pairs is not None:
        redraws = [thin(draw, settings.most_pairs, seed=settings.seed)[0] for draw in redraws]
    used = replace(pairs, pairs=tuple(pairs.pairs[row] for row in done.rows))
    draws, new = further(used, redraws)
    values = done.out.scores.values
    if new:
        runner: Runner | None = run.get("runner")  # type: ignore[assignment]
        execution = Execution(model, settings.batch_tokens, redraw_progress, runner)
        out = execution(new, conditions, seed=settings.seed)
        values = np.hstack([values, out.scores.values])
    scored = [*used.pairs, *new]
    place = {pair_key(pair): row for row, pair in enumerate(scored)}
    frames, notes, about = [], [], [_about(used, done.queries)]
    for number, draw in enumerate(draws, start=1):
        rows = [place[pair_key(pair)] for pair in draw.pairs]
        try:
            frame, left_out = _measured(done, draw, values[:, rows])
        except InputError as error:  # none of its queries can move the measure
            notes.append(f"draw {number} of the sample was left out: {error}")
            continue
        frames.append(frame.assign(draw=number))
        notes += [f"in draw {number} of the sample, {text}" for text in left_out]
        about.append(_about(draw, frames[-1]))
    if frames:
        tables["redraws"] = pd.concat(frames, ignore_index=True)
    drawn = {
        "draws": about,
        "draws_asked": 1 + len(redraws),
        "draws_that_differ": 1 + len(draws),
        "pairs_scored": len(scored),
    }
    return done.result(NAME, drawn, tables, notes)


def _about(draw: PairSet, queries: pd.DataFrame) -> dict[str, object]:
    return {
        "seed": draw.sampling.get("seed"),
        "pairs": len(_ranked(draw)),
        "queries": len(queries[["collection", "qid"]].drop_duplicates()),
        "sha256": digest(draw.pairs),
    }


def _measured(
    done: CutStudy, draw: PairSet, scores: np.ndarray
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The measure of each query of a draw under each cut, and notes on queries that are left out.

    The table is as ``queries`` is.
    """
    tol, rel = float(str(done.options["tie_tol"])), int(str(done.options["rel"]))
    seed = done.settings.seed
    measure, queries, left_out = ranked(draw, done.settings.measures[0], rel)
    marks = {
        name: evaluate(measure, queries, own, tie_tol=tol, seed=seed).values
        for name, own in zip(done.out.plan.conditions, scores, strict=True)
        if not done.reasons[name]
    }
    base = next(iter(marks.values()))
    marks[RANDOM] = random_expectation(measure, queries, seed=seed).values
    about = {name: [getattr(query, name) for query in queries] for name in ("collection", "qid")}
    frames = [
        pd.DataFrame({"cut": name, **about, "value": own, "diff": own - base})
        for name, own in marks.items()
    ]
    return pd.concat(frames, ignore_index=True), left_out
