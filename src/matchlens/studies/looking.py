"""Pairs to look into: what every token receives, and how the score moves under each cut."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import Pair, PairSet, thin
from matchlens.corpora.collection import Draw
from matchlens.corpora.lines import shown
from matchlens.corpora.own import own_parts
from matchlens.directions import Cut
from matchlens.errors import InputError, counted
from matchlens.meters.arrays import PairArray
from matchlens.meters.names import READERS
from matchlens.parts import Part
from matchlens.plan import bound
from matchlens.reading import MANIFEST, read_back, read_manifest
from matchlens.results import Result, records
from matchlens.sets import cut_sets
from matchlens.studies.attention.contrasts import CLASSES, Classes
from matchlens.studies.common import (
    TIE_TOL,
    Execution,
    identity,
    on_disk,
    pair_table,
    relevant_grade,
    run_options,
    tolerance,
)
from matchlens.studies.cuts.cut_modes import note, preset_cuts, reason
from matchlens.studies.cuts.cut_study import conditions_of, sets_option
from matchlens.studies.cuts.measuring import Scored, score_table
from matchlens.studies.presets import COSTLY_PAIRS
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
Ids = tuple[str, str] | tuple[str, str, str]
"""Query id and passage id, with the collection before them where several have such a pair."""


@dataclass(frozen=True)
class Example:
    """A pair to look into: its place among the pairs, and in words why it was chosen."""

    row: int
    why: str


def checked_looks(looks: int) -> int:
    """The number of pairs to look into, checked."""
    if not 1 <= looks <= MOST_LOOKS:
        raise InputError(f"looks is {looks}; expected 1 to {MOST_LOOKS} pairs to look into")
    return looks


def ids_of(text: str) -> Ids:
    """The ids in ``QID DOCID``, or in ``COLLECTION QID DOCID``.

    >>> ids_of("q1 d7"), ids_of("my files q1 d7")
    (('q1', 'd7'), ('my files', 'q1', 'd7'))
    """
    words = tuple(text.rsplit(maxsplit=2))
    if len(words) < 2:
        raise InputError(
            f"pair {shown(text)} does not hold two ids; expected a query's id, a space and a "
            "passage's id"
        )
    return words  # type: ignore[return-value]


def named(pairs: Sequence[Pair], chosen: Iterable[Ids]) -> list[int]:
    """The places of pairs that are named by their ids."""
    chosen = list(chosen)
    checked_looks(len(chosen))
    places: dict[tuple[str, ...], list[int]] = {}
    for row, pair in enumerate(pairs):
        places.setdefault((pair.qid, pair.docid), []).append(row)
        places.setdefault((pair.collection, pair.qid, pair.docid), []).append(row)
    rows: list[int] = []
    for ids in chosen:
        words = f"pair of query {shown(ids[-2])} and passage {shown(ids[-1])}"
        matches = places.get(tuple(ids), [])
        if not matches:
            raise InputError(
                f"{words} is not among the {len(pairs)} pairs; expected the ids of a chosen "
                "candidate (pairs.parquet lists them)"
            )
        if len(matches) > 1:
            collections = ", ".join(shown(pairs[row].collection) for row in matches)
            raise InputError(
                f"{words} is in the collections {collections}; name the collection before the "
                "ids, too"
            )
        if matches[0] in rows:
            raise InputError(f"{words} is given twice; give each pair once")
        rows += matches
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
        candidates = replace(
            pairs,
            pairs=tuple(pairs.pairs[row] for row in rows),
            ideals={key: pairs.ideals[key] for key in keys},
        )
        _, kept = thin(candidates, most, seed=seed, easy=True)
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
    examples: list[Example] = []
    for rows in queries.values():
        by_class, highest = [], []
        for side in range(len(CLASSES)):
            every = [row for row in rows if classes[row] == side]
            usable = [row for row in every if row in preferred] or every
            by_class.append(sorted(usable, key=lambda row: (ranks[row], pairs[row].docid)))
            highest.append(min((ranks[row] for row in every), default=0.0))
        relevant, hard, easy = by_class
        negatives = [ranks[row] for row in rows if classes[row] in (1, 2)]
        of = f"of {len(rows)}"
        if relevant:
            first = relevant[0]
            all_cuts = " that ran under all cuts" * (ranks[first] > highest[0])
            words = f"relevant, the highest of them{all_cuts}: ranked {_rank(ranks[first])} {of}"
            examples.append(Example(first, words))
        if len(relevant) > 1 and negatives and ranks[last := relevant[-1]] > min(negatives):
            above = sum(rank < ranks[last] for rank in negatives)
            words = f"relevant, missed: ranked {_rank(ranks[last])} {of}"
            examples.append(Example(last, f"{words}, below {counted(above, 'negative')}"))
        if hard:
            first = hard[0]
            below = sum(bool(classes[row] == 0) and ranks[row] > ranks[first] for row in rows)
            words = f"{_not_relevant(pairs[first])}, ranked {_rank(ranks[first])} {of}"
            if below:
                words = f"{words}, above {counted(below, 'relevant passage')}"
            examples.append(Example(first, words))
        if easy:
            words = f"random passage, ranked {_rank(ranks[easy[0]])} {of}"
            examples.append(Example(easy[0], words))
        if len(examples) >= looks:
            break
    return examples[:looks]


def _named_example(pair: Pair, row: int, rank: float, candidates: int, rel: int) -> Example:
    """A pair that was named by its ids."""
    side = int(Classes.of([pair], rel).of_pair[0])
    words = ("relevant", _not_relevant(pair), "random passage", f"grade {pair.grade}")[side]
    return Example(row, f"asked for: {words}, ranked {_rank(rank)} of {candidates}")


def _not_relevant(pair: Pair) -> str:
    """How a passage of grade 0 came by it."""
    return "judged not relevant" if pair.judged else "not judged, taken as not relevant"


def _rank(rank: float) -> str:
    return f"{rank:.0f}" if rank == np.floor(rank) else f"{rank:.1f}"


BEYOND = 20_000
"""Characters of a text that are kept beyond its last token."""
MOST_TEXT = 60_000
"""Characters of a text that are kept at most."""
MOST_SPAN = 1_000
"""Characters of a token's own text that are kept at most."""


def _tables(
    model: Reranker,
    pairs: Sequence[Pair],
    examples: Sequence[Example],
    queries: Mapping[Query, Sequence[int]],
    scored: Scored,
    ranks: Mapping[int, float],
    tol: float,
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The tables ``looks``, ``tokens`` and ``cuts``, and notes on them."""
    looks, tokens, notes = [], [], []
    for number, example in enumerate(examples):
        pair = pairs[example.row]
        rows, (query, passage), shortened = _tokens(model, pair)
        tokens += [{"look": number, **row} for row in rows]
        notes += [f"look {number}: {words}" for words in shortened]
        looks.append(
            {
                "look": number,
                "pair": example.row,
                **{key: getattr(pair, key) for key in ("collection", "qid", "docid", "grade")},
                "why": example.why,
                "query": query,
                "passage": passage,
                "score": float(scored.values[0, example.row]),
                "rank": ranks[example.row],
                "candidates": len(queries[pair.collection, pair.qid]),
            }
        )
    cuts = _cuts(pairs, examples, queries, scored, tol)
    sizes = [look["candidates"] for look in looks]
    if fewer := {row["cut"] for row in cuts if row["candidates"] != sizes[row["look"]]}:
        notes.append(
            f"under {len(fewer)} cuts not all candidates were scored: their ranks, and the "
            "original ranks beside them, are among those that were"
        )
    columns = ["look", "cut", "score", "rank", "score_original", "rank_original", "candidates"]
    frames = {
        "looks": pd.DataFrame(looks),
        "tokens": pd.DataFrame(tokens),
        "cuts": pd.DataFrame(cuts, columns=columns),
    }
    return frames, notes


def _tokens(model: Reranker, pair: Pair) -> tuple[list[dict[str, object]], list[str], list[str]]:
    """The tokens' rows, the texts as they are kept, and what was left out of them."""
    spans = model.spans(pair)
    text_of = {Part.Q: pair.query, Part.D: pair.text}
    rows, clipped = [], 0
    for place, token in enumerate(spans.tokens):
        part = Part(int(spans.parts[place]))
        start, end = int(spans.starts[place]), int(spans.ends[place])
        text = text_of[part][start:end] if start >= 0 else ""
        clipped += len(text) > MOST_SPAN or len(token) > MOST_SPAN
        row = {"place": place, "token": token[:MOST_SPAN], "text": text[:MOST_SPAN]}
        rows.append({**row, "part": str(part), "start": start, "end": end})
    shortened = [f"{clipped} tokens are kept up to {MOST_SPAN:,} characters"] if clipped else []
    texts = []
    for part, words in ((Part.Q, "query"), (Part.D, "passage")):
        text = text_of[part]
        last = int(spans.ends[spans.parts == part].max())
        kept = text[: min(last + BEYOND, MOST_TEXT)]
        if len(kept) < len(text):
            shortened.append(
                f"the {words} has {len(text):,} characters; the first {len(kept):,} are kept"
            )
        texts.append(kept)
    return rows, texts, shortened


def _cuts(
    pairs: Sequence[Pair],
    examples: Sequence[Example],
    queries: Mapping[Query, Sequence[int]],
    scored: Scored,
    tol: float,
) -> list[dict[str, Any]]:
    """A row for each example and cut, ranked among the candidates that have a score under it."""
    rows: list[dict[str, Any]] = []
    keys = {(pairs[example.row].collection, pairs[example.row].qid) for example in examples}
    for at, cut in enumerate(scored.cuts[1:], start=1):
        known = scored.known(cut)
        groups = [[row for row in queries[key] if known[row]] for key in sorted(keys)]
        sizes = {row: len(group) for group in groups for row in group}
        groups = [group for group in groups if group]
        ranks, before = (scored.ranks(name, groups, tol) for name in (cut, ""))
        rows += [
            {
                "look": number,
                "cut": cut,
                "score": float(scored.values[at, example.row]),
                "rank": ranks[example.row],
                "score_original": float(scored.values[0, example.row]),
                "rank_original": before[example.row],
                "candidates": sizes[example.row],
            }
            for number, example in enumerate(examples)
            if known[example.row]
        ]
    return sorted(rows, key=lambda row: row["look"])


def _check_heads(matching: pd.DataFrame, layers: int, heads: int) -> None:
    """Check that a table is one of matching heads, of a model of this shape."""
    expected = ("layer", "head", "direction", "matching", "auc_found", "kind")
    if matching.empty:  # the study's table has no columns where no heads were searched
        return
    if lacking := [name for name in expected if name not in matching.columns]:
        raise InputError(
            f"matching has no column {', '.join(lacking)}; expected the table 'matching' of "
            "matchlens.attention: give result.to_frame('matching')"
        )
    for name, number in (("layer", layers), ("head", heads)):
        if beyond := [place for place in matching[name] if place not in range(number)]:
            raise InputError(
                f"matching is of another model: it has the {name} {beyond[0]}; expected 0 to "
                f"{number - 1}: give the table of this model"
            )


def _head_table(layers: int, heads: int, matching: pd.DataFrame | None) -> pd.DataFrame:
    """Every head, the matching ones first, by the AUC by which they were selected."""
    selected: dict[tuple[int, int], tuple[list[str], list[str]]] = {}
    if matching is not None and len(matching):
        rows = [row for row in records(matching) if row["matching"]]
        for row in sorted(rows, key=lambda row: -float(str(row["auc_found"]))):
            key = (int(str(row["layer"])), int(str(row["head"])))
            directions, kinds = selected.setdefault(key, ([], []))
            directions.append(str(row["direction"]))
            kinds += [kind for kind in str(row["kind"] or "").split(", ") if kind]
    every = dict.fromkeys([*selected, *product(range(layers), range(heads))])
    table = [
        (*key, *(", ".join(dict.fromkeys(names)) for names in selected.get(key, ((), ()))))
        for key in every
    ]
    return pd.DataFrame(table, columns=["layer", "head", "directions", "kind"])


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
        for each pair and cut: score and rank in its query, ties sharing their mean rank) and
        ``heads``; and the array ``received`` [look, layer, head, reader, place]: the mean over the
        rows of CLS, Q and D of the attention that a token receives, NaN behind a pair's last token.

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
    if matching is not None:
        _check_heads(matching, model.family.n_layers, model.family.n_heads)
    rows_named = [] if chosen is None else named(pairs.pairs, chosen)
    number = len(rows_named) or checked_looks(looks)
    together = cut_sets(sets)
    own_cuts = cuts is not None or bool(together)
    conditions = conditions_of(cuts or () if own_cuts else preset_cuts(setup), together)
    stored = at_hand(scored, len(pairs.pairs), cuts, together, rows_named)
    notes = [*pairs.notes]
    if stored is None:
        rows = candidates_to_run(pairs, rows_named, number, rel, seed, most_pairs)
        run = execution([pairs.pairs[row] for row in rows], conditions, seed=seed)
        every = [name for name in conditions if name]
        scores_by_cut = Scored.of(score_table(run, rows), len(pairs.pairs), every, [])
        assert scores_by_cut is not None  # noqa: S101
        notes.append(
            f"the cuts were run on {len(rows)} candidates of the queries that are looked into"
        )
    else:
        scores_by_cut = stored
    queries = drawn(pairs.pairs, rel, seed, scores_by_cut.rows)
    ranks = scores_by_cut.ranks("", queries.values(), tol)
    if rows_named:
        of_query = {row: len(rows) for rows in queries.values() for row in rows}
        examples = [
            _named_example(pairs.pairs[row], row, ranks[row], of_query[row], rel)
            for row in rows_named
        ]
    else:
        examples = pick(pairs.pairs, queries, ranks, scores_by_cut.best, number, rel)
        if not examples:
            raise InputError(
                "no pair to look into: no passage is relevant, judged 0 or random; expected at "
                "least one: lower rel, or name pairs with chosen (--pair)"
            )
        if len(examples) < number:
            notes.append(
                f"{counted(len(examples), 'pair')} to look into: the queries offer no more"
            )
    folder = execution.temporary_folder()
    array, out = _received(execution, pairs.pairs, examples, scores_by_cut, tol, Path(folder.name))
    tables, more = _tables(model, pairs.pairs, examples, queries, scores_by_cut, ranks, tol)
    parsed = {cut: list(together.get(cut) or [Cut.parse(cut)]) for cut in scores_by_cut.cuts}
    reasons = {
        cut: reason(condition, out.reach, out.causal)
        for cut, condition in bound(parsed, own_parts(pairs.pairs)).items()
    }
    possible = [reasons[cut] is None for cut in tables["cuts"]["cut"]]
    tables["cuts"] = pd.DataFrame(tables["cuts"][possible]).reset_index(drop=True)
    notes += [*more, *note(reasons.values()), *([model.cls_note] if model.cls_note else [])]
    tables["heads"] = _head_table(model.family.n_layers, model.family.n_heads, matching)
    tokens, truncated = lengths(model, pairs.pairs)
    ids = [[pairs.pairs[row].qid, pairs.pairs[row].docid] for row in rows_named]
    return Result(
        study=NAME,
        identity=identity(model.identity, pairs),
        options={
            "looks": len(examples),
            "chosen": ids or None,
            "readers": [str(part) for part in READERS],
            "cuts": list(scores_by_cut.cuts),
            **sets_option(together),
            "scores_at_hand": stored is not None,
            "matching_at_hand": matching is not None,
            "preset": setup.name,
            "digits": setup.digits,
            "rel": rel,
            "tie_tol": tol,
            "most_pairs": most_pairs if stored is None else None,
            "seed": seed,
            **run_options(model, out),
        },
        notes=tuple(notes),
        pairs=pair_table(pairs.pairs, tokens, truncated, seed),
        scores=scores_by_cut.table,
        tables=tables,
        log=(f"{NAME}: {counted(len(examples), 'pair')}: {time.perf_counter() - started:.1f} s",),
        arrays={"received": array.path},
        held=folder,
    )


def at_hand(
    scored: pd.DataFrame | None,
    number: int,
    cuts: Sequence[str | Cut] | None,
    sets: Mapping[str, object],
    named: Sequence[int],
) -> Scored | None:
    """Stored scores of so many pairs, where they have all that a look needs; else None."""
    if sets:  # a stored set may be another one of that name
        return None
    wanted = None if cuts is None else [text for text in map(str, cuts) if text]
    return Scored.of(scored, number, wanted, named)


def stored_scores(out: Path | None) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The scores of a results folder under the cuts of Table 1 and Figure 1a; its matching heads.

    The folder's identity has been compared. Scores that an earlier ``look`` left are not used: they
    are of few queries, and the same command would then choose among these.
    """
    if out is None or not (out / MANIFEST).exists():
        return None, None
    with read_back(out):
        studies = read_manifest(out)["studies"]
        cuts: set[str] = set()
        scored = matching = None
        for study, main in (("ablation", "table1"), ("sweep-up-to", "points")):
            if study in studies:
                result = Result.load(out, study)
                cuts |= {"", *result.to_frame(main)["cut"]}
                scored = pd.DataFrame(result.scores[result.scores["cut"].isin(list(cuts))])
        if "attention" in studies:
            matching = Result.load(out, "attention").tables.get("matching")
    return scored, matching


def _received(
    execution: Execution,
    pairs: Sequence[Pair],
    examples: Sequence[Example],
    scored: Scored,
    tol: float,
    folder: Path,
) -> tuple[PairArray, Run]:
    """Watch the untouched pass on the examples, and check that the scores are of this model."""
    from matchlens.engine import lengths
    from matchlens.runners import MeasurementRequest
    from matchlens.runners.measures import Received, rows_into

    family, some = execution.model.family, [pairs[example.row] for example in examples]
    longest = int(lengths(execution.model, some)[0].max())
    shape = (len(some), family.n_layers, family.n_heads, len(READERS), longest)
    with on_disk("the attention weights", folder, [shape]):
        array = PairArray(folder / "received.npy", shape)
        request = MeasurementRequest(Received(longest), rows_into({"received": array}))
        out = execution(some, asked=[request])
    for example, pair, score in zip(examples, some, out.scores.of("").tolist(), strict=True):
        stored = float(scored.values[0, example.row])
        if abs(stored - score) > FAR * max(tol, TIE_TOL[execution.model.dtype]):
            raise InputError(
                f"the stored score of query {pair.qid!r} and passage {pair.docid!r} is "
                f"{stored:.6g}, this model gives {score:.6g}; expected scores of these pairs by "
                "this model: leave these scores out"
            )
    return array, out
