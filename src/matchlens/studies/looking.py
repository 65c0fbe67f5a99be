"""Pairs to look into: what every token receives, and how the score moves under each cut."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import Pair, PairSet, thin
from matchlens.corpora.collection import Draw
from matchlens.corpora.lines import shown
from matchlens.corpora.own import own_parts
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.meters.arrays import PairArray
from matchlens.meters.names import READERS
from matchlens.parts import Part
from matchlens.plan import Condition, bound
from matchlens.results import Result, records
from matchlens.sets import cut_sets
from matchlens.studies.attention.contrasts import CLASSES, Classes
from matchlens.studies.common import (
    TIE_TOL,
    Execution,
    identity,
    pair_table,
    relevant_grade,
    run_options,
    tolerance,
)
from matchlens.studies.cuts.cut_modes import expand_modes, note, reason
from matchlens.studies.cuts.cut_study import conditions_of, sets_option
from matchlens.studies.cuts.measuring import Scored, score_table
from matchlens.studies.presets import COSTLY_PAIRS, Preset
from matchlens.studies.presets import preset as preset_of

if TYPE_CHECKING:
    from matchlens.engine import Progress, Run
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


LOOKS = 12
MOST_LOOKS = 100
KINDS = 4
"""Pairs a query: relevant and found, relevant and missed, a hard negative, an easy one."""
PER_QUERY = 3
"""Pairs that a query gives on average, since few queries give all four."""

Query = tuple[str, str]
"""Collection and query id."""
Given = tuple[str, str] | tuple[str, str, str]
"""Query id and passage id, with the collection before them where several have such a pair."""


@dataclass(frozen=True)
class Example:
    """A pair to look into.

    Args:
        row: its place among the pairs.
        why: why it was chosen, in words.
    """

    row: int
    why: str


def checked_looks(looks: int) -> int:
    """How many pairs to look into."""
    if not 1 <= looks <= MOST_LOOKS:
        raise InputError(f"looks is {looks}; expected 1 to {MOST_LOOKS} pairs to look into")
    return looks


def ids_of(text: str) -> Given:
    """The ids in ``QID DOCID``, or in ``COLLECTION QID DOCID``.

    >>> ids_of("q1 d7"), ids_of("my files q1 d7")
    (('q1', 'd7'), ('my files', 'q1', 'd7'))
    """
    words = text.rsplit(maxsplit=2)
    if len(words) < 2:
        raise InputError(
            f"pair {shown(text)} does not hold two ids; expected a query's id, a space and a "
            "passage's id"
        )
    return (words[0], words[1]) if len(words) == 2 else (words[0], words[1], words[2])


def named(pairs: Sequence[Pair], chosen: Iterable[Given]) -> list[int]:
    """The places of pairs that are named by their ids."""
    given = list(chosen)
    checked_looks(len(given))
    places: dict[tuple[str, ...], list[int]] = {}
    for row, pair in enumerate(pairs):
        places.setdefault((pair.qid, pair.docid), []).append(row)
        places.setdefault((pair.collection, pair.qid, pair.docid), []).append(row)
    rows: list[int] = []
    for key in given:
        words = f"pair of query {shown(key[-2])} and passage {shown(key[-1])}"
        found = places.get(tuple(key), [])
        if not found:
            raise InputError(
                f"{words} is not among the {len(pairs)} pairs; expected the ids of a chosen "
                "candidate (pairs.parquet lists them)"
            )
        if len(found) > 1:
            held = ", ".join(shown(pairs[row].collection) for row in found)
            raise InputError(
                f"{words} is in the collections {held}; name the collection before the ids, too"
            )
        if found[0] in rows:
            raise InputError(f"{words} is given twice; give each pair once")
        rows.append(found[0])
    return rows


def drawn(
    pairs: Sequence[Pair], rel: int, seed: int, rows: Iterable[int]
) -> dict[Query, list[int]]:
    """The queries in the order in which they are looked into, with their candidates.

    Queries that offer more kinds of passages come first; among equals the seed decides.
    """
    classes = Classes.of(pairs, rel).of_pair
    groups: dict[Query, list[int]] = {}
    for row in rows:
        groups.setdefault((pairs[row].collection, pairs[row].qid), []).append(row)

    def order(key: Query) -> tuple[int, bytes, Query]:
        counts = [int((classes[groups[key]] == side).sum()) for side in range(len(CLASSES))]
        kinds = min(counts[0], 2) + min(counts[1], 1) + min(counts[2], 1)
        return -kinds, Draw(seed, "looking", key[0]).key(key[1]), key

    return {key: groups[key] for key in sorted(groups, key=order)}


def candidates_to_run(
    pairs: PairSet, chosen: Sequence[int], looks: int, rel: int, seed: int, most: int | None
) -> list[int]:
    """The places of the pairs that are scored under the cuts where no scores are at hand."""
    every = drawn(pairs.pairs, rel, seed, range(len(pairs.pairs)))
    if chosen:
        keys = {(pairs.pairs[row].collection, pairs.pairs[row].qid) for row in chosen}
    else:
        keys = set(list(every)[: math.ceil(looks / PER_QUERY)])
    rows = sorted(row for key in keys for row in every[key])
    if most is not None:
        mine = replace(
            pairs,
            pairs=tuple(pairs.pairs[row] for row in rows),
            ideals={key: pairs.ideals[key] for key in keys},
        )
        _, kept = thin(mine, most, seed=seed, easy=True)
        rows = sorted({*(rows[place] for place in kept), *chosen})
    return rows


def pick(
    pairs: Sequence[Pair],
    queries: Mapping[Query, Sequence[int]],
    ranks: Mapping[int, float],
    best: Iterable[int],
    looks: int,
    rel: int,
) -> list[Example]:
    """Choose pairs, query by query: at most four of each.

    A relevant passage that ranks highest; the relevant one that ranks lowest, if a negative stands
    above it; the hard negative that ranks highest; the easy negative that ranks highest.
    """
    classes, preferred = Classes.of(pairs, rel).of_pair, set(best)
    found: list[Example] = []
    for rows in queries.values():
        by_side = []
        for side in range(len(CLASSES)):
            every = [row for row in rows if classes[row] == side]
            mine = [row for row in every if row in preferred] or every
            by_side.append(sorted(mine, key=lambda row: (ranks[row], pairs[row].docid)))
        relevant, hard, easy = by_side
        negatives = [ranks[row] for row in (*hard, *easy)]
        every_relevant = [ranks[row] for row in rows if classes[row] == 0]
        of = f"of {len(rows)}"
        if relevant:
            words = f"relevant, the highest of them: ranked {_rank(ranks, relevant[0])} {of}"
            found.append(Example(relevant[0], words))
        if len(relevant) > 1 and negatives and ranks[relevant[-1]] > min(negatives):
            last = relevant[-1]
            above = sum(rank < ranks[last] for rank in negatives)
            words = f"relevant, missed: ranked {_rank(ranks, last)} {of}, below {_count(above)}"
            found.append(Example(last, words))
        if hard:
            first = hard[0]
            below = sum(rank > ranks[first] for rank in every_relevant)
            words = f"judged not relevant, ranked {_rank(ranks, first)} {of}"
            if below:
                words = f"{words}, above {below} relevant passage{'s' * (below > 1)}: fooled"
            found.append(Example(first, words))
        if easy:
            found.append(Example(easy[0], f"random passage, ranked {_rank(ranks, easy[0])} {of}"))
        if len(found) >= looks:
            break
    return found[:looks]


def said_of(pairs: Sequence[Pair], row: int, rank: float, candidates: int, rel: int) -> str:
    """What is said of a pair that was named."""
    side = int(Classes.of([pairs[row]], rel).of_pair[0])
    words = ("relevant", "judged not relevant", "random passage", f"grade {pairs[row].grade}")[side]
    return f"asked for: {words}, ranked {_number(rank)} of {candidates}"


def _rank(ranks: Mapping[int, float], row: int) -> str:
    return _number(ranks[row])


def _number(rank: float) -> str:
    return f"{rank:.0f}" if rank == np.floor(rank) else f"{rank:.1f}"


def _count(number: int) -> str:
    return f"{number} negative{'s' * (number > 1)}"


BEYOND = 20_000
"""Characters of a text that are kept beyond its last token."""
MOST_TEXT = 60_000
"""Characters of a text that are kept at most."""
MOST_SPAN = 1_000
"""Characters of a token's own text that are kept at most."""


def look_tables(
    model: Reranker,
    pairs: Sequence[Pair],
    found: Sequence[Example],
    queries: Mapping[Query, Sequence[int]],
    seen: Scored,
    ranks: Mapping[int, float],
    tol: float,
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The tables ``looks``, ``tokens`` and ``cuts``, and what is to be said of them."""
    looks, tokens, said = [], [], []
    for number, look in enumerate(found):
        pair = pairs[look.row]
        rows, texts, short = _tokens(model, pair)
        tokens += [{"look": number, **row} for row in rows]
        said += [f"look {number}: {words}" for words in short]
        looks.append(
            {
                "look": number,
                "pair": look.row,
                "collection": pair.collection,
                "qid": pair.qid,
                "docid": pair.docid,
                "grade": pair.grade,
                "why": look.why,
                "query": texts[0],
                "passage": texts[1],
                "score": float(seen.values[0, look.row]),
                "rank": ranks[look.row],
                "candidates": len(queries[pair.collection, pair.qid]),
            }
        )
    cuts = _cuts(pairs, found, queries, seen, tol)
    sizes = pd.DataFrame(looks).set_index("look")["candidates"]
    fewer = sorted({str(row["cut"]) for row in cuts if row["candidates"] != sizes[row["look"]]})
    if fewer:
        said.append(
            f"under {len(fewer)} cuts not all candidates were scored: their ranks, and the "
            "original ranks beside them, are among those that were"
        )
    columns = ["look", "cut", "score", "rank", "score_original", "rank_original", "candidates"]
    frames = {
        "looks": pd.DataFrame(looks),
        "tokens": pd.DataFrame(tokens),
        "cuts": pd.DataFrame(cuts, columns=columns),
    }
    return frames, said


def _tokens(model: Reranker, pair: Pair) -> tuple[list[dict[str, object]], list[str], list[str]]:
    """The tokens' rows, the texts as they are kept, and what was left out of them."""
    made = model.spans(pair)
    text_of = {Part.Q: pair.query, Part.D: pair.text}
    rows, clipped = [], 0
    for place, token in enumerate(made.tokens):
        part, start, end = (
            Part(int(made.parts[place])),
            int(made.starts[place]),
            int(made.ends[place]),
        )
        text = text_of[part][start:end] if start >= 0 else ""
        clipped += len(text) > MOST_SPAN or len(token) > MOST_SPAN
        rows.append(
            {
                "place": place,
                "token": token[:MOST_SPAN],
                "text": text[:MOST_SPAN],
                "part": str(part),
                "start": start,
                "end": end,
            }
        )
    said = [f"{clipped} tokens are kept up to {MOST_SPAN:,} characters"] if clipped else []
    texts = []
    for part, words in ((Part.Q, "query"), (Part.D, "passage")):
        text = text_of[part]
        last = int(made.ends[made.parts == part].max())
        kept = text[: min(last + BEYOND, MOST_TEXT)]
        if len(kept) < len(text):
            said.append(
                f"the {words} has {len(text):,} characters; the first {len(kept):,} are kept"
            )
        texts.append(kept)
    return rows, texts, said


def _cuts(
    pairs: Sequence[Pair],
    found: Sequence[Example],
    queries: Mapping[Query, Sequence[int]],
    seen: Scored,
    tol: float,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    keys = {(pairs[look.row].collection, pairs[look.row].qid) for look in found}
    for cut in seen.cuts[1:]:
        known, at = seen.known(cut), seen.cuts.index(cut)
        groups = [[row for row in queries[key] if known[row]] for key in sorted(keys)]
        sizes = {row: len(group) for group in groups for row in group}
        groups = [group for group in groups if group]
        ranks, before = (seen.ranks(name, groups, tol) for name in (cut, ""))
        for number, look in enumerate(found):
            if known[look.row]:
                rows.append(
                    {
                        "look": number,
                        "cut": cut,
                        "score": float(seen.values[at, look.row]),
                        "rank": ranks[look.row],
                        "score_original": float(seen.values[0, look.row]),
                        "rank_original": before[look.row],
                        "candidates": sizes[look.row],
                    }
                )
    return sorted(rows, key=lambda row: int(str(row["look"])))


def head_table(layers: int, heads: int, matching: pd.DataFrame | None) -> pd.DataFrame:
    """Every head, the matching ones first, by the AUC with which they were found."""
    found: dict[tuple[int, int], dict[str, object]] = {}
    if matching is not None and len(matching):
        mine = [row for row in records(matching) if row["matching"]]
        mine.sort(key=lambda row: -float(str(row["auc_found"])))
        for row in mine:
            key = (int(str(row["layer"])), int(str(row["head"])))
            one = found.setdefault(key, {"directions": [], "kind": []})
            kinds = [("kind", kind) for kind in str(row["kind"] or "").split(", ") if kind]
            for name, value in (("directions", row["direction"]), *kinds):
                if value not in one[name]:  # type: ignore[operator]
                    one[name].append(value)  # type: ignore[union-attr]
    rest = [(layer, head) for layer in range(layers) for head in range(heads)]
    rows = []
    for layer, head in (*found, *(key for key in rest if key not in found)):
        one = found.get((layer, head), {"directions": [], "kind": []})
        texts = {name: ", ".join(map(str, one[name])) for name in ("directions", "kind")}  # type: ignore[arg-type]
        rows.append({"layer": layer, "head": head, **texts})
    return pd.DataFrame(rows)


NAME = "looking"
FAR = 100
"""Ties' tolerances by which a stored score may differ from this run's."""


@typed
def look(
    model: Reranker,
    pairs: PairSet,
    *,
    looks: int = LOOKS,
    chosen: Iterable[tuple[str, str] | tuple[str, str, str]] | None = None,
    scored: pd.DataFrame | None = None,
    matching: pd.DataFrame | None = None,
    cuts: Sequence[str | Cut] | None = None,
    sets: str | Path | Mapping[str, Sequence[str | Cut]] | None = None,
    preset: str = "default",
    rel: int | None = None,
    tie_tol: float | None = None,
    most_pairs: int | None = COSTLY_PAIRS,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
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
        cuts: the cuts under which scores are shown; where None and there are no sets those that
            were stored, or the preset's (Table 1).
        sets: cuts that are made together, by the name of their set, or a file that
            :func:`matchlens.sets.cut_sets` reads. With them the cuts are run here.
        preset: names the cuts.
        most_pairs: at most so many candidates where the cuts are run here; all where None.

    The arguments ``rel``, ``tie_tol``, ``seed``, ``batch_tokens``, ``progress`` and ``runner``
    are those of :func:`matchlens.ablation`.

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
    >>> result = matchlens.look(matchlens.load("demo"), pairs, looks=2, cuts=["Q->D"])
    >>> result.to_frame("cuts")["cut"].tolist(), result.array("received").shape[:4]
    (['Q->D', 'Q->D'], (2, 12, 12, 3))
    """
    from matchlens.engine import lengths

    started = time.perf_counter()
    execution = Execution(model, batch_tokens, progress, runner)
    setup = preset_of(preset, model.decodes)
    tol = tolerance(tie_tol, model.dtype)
    rel = relevant_grade(pairs, rel)
    given = [] if chosen is None else named(pairs.pairs, chosen)
    number = len(given) or checked_looks(looks)
    together = cut_sets(sets)
    conditions = (
        conditions_of(_cuts_of(setup))
        if cuts is None and not together
        else conditions_of(cuts or (), together)
    )
    wanted = None if cuts is None and not together else [name for name in conditions if name]
    # A stored set may be another one of that name.
    seen = None if together else Scored.of(scored, len(pairs.pairs), wanted, given)
    said: list[str] = []
    at_hand = seen is not None
    if seen is None:
        rows = candidates_to_run(pairs, given, number, rel, seed, most_pairs)
        seen = _run(execution, pairs, rows, conditions, seed)
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
    held = tempfile.TemporaryDirectory(prefix="matchlens-", dir=execution.scratch)
    array, out = _received(execution, pairs.pairs, found, seen, tol, Path(held.name))
    tables, more = look_tables(model, pairs.pairs, found, queries, seen, ranks, tol)
    made = {cut: list(together.get(cut) or [Cut.parse(cut)]) for cut in seen.cuts}
    bound_cuts = bound(made, own_parts(pairs.pairs))
    why = {cut: reason(cuts, out.reach, out.causal) for cut, cuts in bound_cuts.items()}
    tables["cuts"] = pd.DataFrame(
        [row for row in records(tables["cuts"]) if why[str(row["cut"])] is None],
        columns=tables["cuts"].columns,
    )
    more += note(why.values())
    if model.cls_note:
        more.append(model.cls_note)
    tables["heads"] = head_table(model.family.n_layers, model.family.n_heads, matching)
    tokens, truncated = lengths(model, pairs.pairs)
    return Result(
        study=NAME,
        identity=identity(model.identity, pairs),
        options={
            "looks": len(found),
            "chosen": [[pairs.pairs[row].qid, pairs.pairs[row].docid] for row in given] or None,
            "readers": [str(part) for part in READERS],
            "cuts": list(seen.cuts),
            **sets_option(together),
            "scores_at_hand": at_hand,
            "matching_at_hand": matching is not None,
            "preset": setup.name,
            "digits": setup.digits,
            "rel": rel,
            "tie_tol": tol,
            "most_pairs": None if at_hand else most_pairs,
            "seed": seed,
            **run_options(model, out),
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
    execution: Execution,
    pairs: PairSet,
    rows: list[int],
    conditions: Mapping[str, Condition],
    seed: int,
) -> Scored:
    out = execution([pairs.pairs[row] for row in rows], conditions, seed=seed)
    cuts = [name for name in conditions if name]
    made = Scored.of(score_table(out, rows), len(pairs.pairs), cuts, [])
    assert made is not None  # noqa: S101
    return made


def _received(
    execution: Execution,
    pairs: Sequence[Pair],
    found: Sequence[Example],
    seen: Scored,
    tol: float,
    folder: Path,
) -> tuple[PairArray, Run]:
    """Watch the untouched pass on the chosen pairs, and see that the scores are of this model."""
    from matchlens.engine import lengths
    from matchlens.runners import MeasurementRequest
    from matchlens.runners.measures import Received, rows_into

    model = execution.model
    mine = [pairs[look.row] for look in found]
    longest = int(lengths(model, mine)[0].max())
    shape = (len(mine), model.family.n_layers, model.family.n_heads, len(READERS), longest)
    try:
        array = PairArray(folder / "received.npy", shape)
        request = MeasurementRequest(Received(longest), rows_into({"received": array}))
        out = execution(mine, asked=[request])
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
