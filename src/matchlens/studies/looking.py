"""Pairs to look into: what every token receives, and how the score moves under each cut."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import Pair, PairSet
from matchlens.directions import Cut
from matchlens.engine import Progress, Run, lengths
from matchlens.errors import InputError
from matchlens.meters.arrays import PairArray
from matchlens.meters.received import READERS
from matchlens.models.load import Reranker
from matchlens.results import Result, records
from matchlens.runners import MeasurementRequest, Runner, run
from matchlens.runners.measures import Received, rows_into
from matchlens.studies import look_tables as tables_of
from matchlens.studies.common import TIE_TOL, identity, pair_table, relevant_grade
from matchlens.studies.cut_modes import expand_modes
from matchlens.studies.impossible import note, reason
from matchlens.studies.look_pairs import (
    LOOKS,
    Example,
    Given,
    candidates_to_run,
    checked_looks,
    drawn,
    named,
    pick,
    said_of,
)
from matchlens.studies.look_tables import Scored
from matchlens.studies.measuring import conditions_of, score_table
from matchlens.studies.presets import COSTLY_PAIRS, Preset
from matchlens.studies.presets import preset as preset_of

NAME = "looking"
FAR = 100
"""Ties' tolerances by which a stored score may differ from this run's."""


@typed
def looking(
    model: Reranker,
    pairs: PairSet,
    *,
    looks: int = LOOKS,
    chosen: Iterable[Given] | None = None,
    scored: pd.DataFrame | None = None,
    matching: pd.DataFrame | None = None,
    cuts: Sequence[str | Cut] | None = None,
    preset: str = "default",
    rel: int | None = None,
    tie_tol: float | None = None,
    most_pairs: int | None = COSTLY_PAIRS,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner = run,
) -> Result:
    """Look into a few pairs: per-token attention of every head, and the score under each cut.

    Args:
        model: a loaded reranker.
        pairs: queries with passages of several grades.
        looks: how many pairs are chosen: of each query at most a relevant one that ranks high, a
            relevant one that ranks low, a hard negative that ranks high, and an easy negative.
        chosen: these pairs instead, as (query id, passage id), with the collection before them
            where several collections have such a pair.
        scored: stored scores of these pairs by this model, columns cut, pair, score (as
            ``Result.scores``); cuts of heads and controls in it are passed over. Where None, or
            where it lacks the cuts or a chosen pair, the cuts are run on the candidates of the
            queries that are looked into.
        matching: the matching heads (table ``matching`` of :func:`matchlens.attention`), which
            come first in the table ``heads``.
        cuts: the cuts under which scores are shown; where None those that were stored, or the
            preset's (Table 1).
        preset: names the cuts.
        rel: lowest relevant grade; where None: 2 where the
            judgements reach 2, else 1.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        most_pairs: at most so many candidates where the cuts are run here; all where None.
        seed: of the draws.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        runner: runs the pairs; see :mod:`matchlens.runners`.

    Returns:
        Tables ``looks`` (a row for each pair), ``tokens`` (a row for each token), ``cuts`` (a row
        for each pair and
        cut: score and rank in its query, ties sharing their mean rank) and ``heads``; and the
        array ``received`` [look, layer, head, reader, place]: the mean over the rows of CLS, Q and
        D of the attention that a token receives, NaN behind a pair's last token.

    Raises:
        InputError: if an option cannot be used, a chosen pair is not there, or ``scored`` is of
            other pairs or another model.

    Source: science 3 (ties) and 4 (attention of a part's rows).

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1, easy=1)
    >>> result = matchlens.looking(matchlens.load("demo"), pairs, looks=2, cuts=["Q->D"])
    >>> result.to_frame("cuts")["cut"].tolist(), result.array("received").shape[:4]
    (['Q->D', 'Q->D'], (2, 12, 12, 3))
    """
    started = time.perf_counter()
    setup = preset_of(preset)
    tol = TIE_TOL[model.dtype] if tie_tol is None else tie_tol
    if not 0 <= tol < float("inf"):
        raise InputError(f"tie_tol is {tol}; expected 0 or more logits")
    rel = relevant_grade(pairs, rel)
    given = [] if chosen is None else named(pairs.pairs, chosen)
    number = len(given) or checked_looks(looks)
    wanted = None if cuts is None else [name for name in conditions_of(cuts) if name]
    seen = Scored.of(scored, len(pairs.pairs), wanted, given)
    said: list[str] = []
    at_hand = seen is not None
    if seen is None:
        rows = candidates_to_run(pairs, given, number, rel, seed, most_pairs)
        seen = _run(
            model, pairs, rows, wanted or _cuts_of(setup), seed, batch_tokens, progress, runner
        )
        said.append(
            f"the cuts were run on {len(rows)} candidates of the queries that are looked into"
        )
    queries = drawn(pairs.pairs, rel, seed, seen.rows)
    ranks = seen.ranks("", queries.values(), tol)
    if given:
        of_query = {row: len(rows) for rows in queries.values() for row in rows}
        found = [
            Example(row, said_of(pairs.pairs, row, ranks[row], of_query[row], rel)) for row in given
        ]
    else:
        found = pick(pairs.pairs, queries, ranks, seen.best, number, rel)
        if not found:
            raise InputError(
                "no pair to look into: no passage is relevant, judged 0 or random; expected at "
                "least one: lower rel, or name pairs with chosen (--pair)"
            )
        if len(found) < number:
            said.append(f"{len(found)} pairs to look into: the queries offer no more")
    held = tempfile.TemporaryDirectory(prefix="matchlens-", dir=runner.scratch)
    array, out = _received(
        model, pairs.pairs, found, seen, tol, Path(held.name), batch_tokens, progress, runner
    )
    tables, more = tables_of.tables(model, pairs.pairs, found, queries, seen, ranks, tol)
    why = {cut: reason([Cut.parse(cut)], out.reach, out.causal) for cut in seen.cuts}
    tables["cuts"] = pd.DataFrame(
        [row for row in records(tables["cuts"]) if why[str(row["cut"])] is None],
        columns=tables["cuts"].columns,
    )
    more += note(list(why.values()))
    if model.reads_last:
        more.append("CLS stands for the input's last token, whose state the score reads")
    tables["heads"] = tables_of.head_table(model.family.n_layers, model.family.n_heads, matching)
    tokens, truncated = lengths(model, pairs.pairs)
    return Result(
        study=NAME,
        identity=identity(model.identity, pairs),
        options={
            "looks": len(found),
            "chosen": [[pairs.pairs[row].qid, pairs.pairs[row].docid] for row in given] or None,
            "readers": [str(part) for part in READERS],
            "cuts": list(seen.cuts),
            "scores_at_hand": at_hand,
            "matching_at_hand": matching is not None,
            "preset": setup.name,
            "digits": setup.digits,
            "rel": rel,
            "tie_tol": tol,
            "most_pairs": None if at_hand else most_pairs,
            "seed": seed,
            "layers": model.family.n_layers,
            "heads": model.family.n_heads,
            "device": out.device,
            "batches": {"batch_tokens": out.batch_tokens, "number": len(out.batches)},
            "check": dict(model.checks),
        },
        notes=(*pairs.notes, *said, *more),
        pairs=pair_table(pairs.pairs, tokens, truncated, seed),
        scores=seen.table,
        tables=tables,
        log=(f"{NAME}: {len(found)} pairs: {time.perf_counter() - started:.1f} s",),
        arrays={"received": array.path},
        held=held,
    )


def _cuts_of(setup: Preset) -> list[str]:
    """The preset's cuts, made in the preset's way."""
    made, _ = expand_modes(setup.cuts, None if setup.how == "zero" else [setup.how])
    return [way.cut for way in made]


def _run(
    model: Reranker,
    pairs: PairSet,
    rows: list[int],
    cuts: Sequence[str],
    seed: int,
    batch_tokens: int | None,
    progress: Progress | None,
    runner: Runner,
) -> Scored:
    out = runner(
        model,
        [pairs.pairs[row] for row in rows],
        conditions_of(cuts),
        seed=seed,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    made = Scored.of(score_table(out, rows), len(pairs.pairs), list(cuts), [])
    assert made is not None  # noqa: S101
    return made


def _received(
    model: Reranker,
    pairs: Sequence[Pair],
    found: Sequence[Example],
    seen: Scored,
    tol: float,
    folder: Path,
    batch_tokens: int | None,
    progress: Progress | None,
    runner: Runner,
) -> tuple[PairArray, Run]:
    """Watch the untouched pass on the chosen pairs, and see that the scores are of this model."""
    mine = [pairs[look.row] for look in found]
    longest = int(lengths(model, mine)[0].max())
    shape = (len(mine), model.family.n_layers, model.family.n_heads, len(READERS), longest)
    try:
        array = PairArray(folder / "received.npy", shape)
        out = runner(
            model,
            mine,
            {"": []},
            batch_tokens=batch_tokens,
            progress=progress,
            asked=[MeasurementRequest(Received(longest), rows_into({"received": array}))],
        )
    except OSError as error:
        raise InputError(
            f"the attention cannot be kept in {str(folder)!r} ({error.strerror or error}); it "
            f"needs {int(np.prod(shape)) * 4 / 2**20:.0f} MiB there: set TMPDIR to a folder with "
            "room"
        ) from None
    for look, score in zip(found, out.scores.of("").tolist(), strict=True):
        stored = float(seen.values[0, look.row])
        if abs(stored - score) > max(FAR * tol, FAR * TIE_TOL[model.dtype]):
            pair = pairs[look.row]
            raise InputError(
                f"the stored score of query {pair.qid!r} and passage {pair.docid!r} is "
                f"{stored:.6g}, this model gives {score:.6g}; expected scores of these pairs by "
                "this model: leave these scores out"
            )
    return array, out
