"""Which pairs to look into: deterministic, spread over the queries, and instructive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from matchlens.corpora import Pair, PairSet, thin
from matchlens.corpora.collection import Draw
from matchlens.corpora.lines import shown
from matchlens.errors import InputError
from matchlens.studies.contrasts import CLASSES, Classes

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
    """How many pairs to look into.

    Raises:
        InputError: if it is not 1 to 100.
    """
    if not 1 <= looks <= MOST_LOOKS:
        raise InputError(f"looks is {looks}; expected 1 to {MOST_LOOKS} pairs to look into")
    return looks


def ids_of(text: str) -> Given:
    """The ids in ``QID DOCID``, or in ``COLLECTION QID DOCID``.

    Raises:
        InputError: if there are not two ids.

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
    """The places of pairs that are named by their ids.

    Args:
        pairs: all pairs.
        chosen: (query id, passage id), or (collection, query id, passage id).

    Raises:
        InputError: if there is none or more than 100, one is not there, stands twice, or is in
            several collections.
    """
    given = list(chosen)
    checked_looks(len(given))
    places: dict[tuple[str, ...], list[int]] = {}
    for row, pair in enumerate(pairs):
        places.setdefault((pair.qid, pair.docid), []).append(row)
        places.setdefault((pair.collection, pair.qid, pair.docid), []).append(row)
    rows: list[int] = []
    for key in given:
        if not isinstance(key, tuple) or len(key) not in (2, 3):
            raise InputError(
                f"chosen names a pair as {key!r:.60}; expected a query's and a passage's id, for "
                "example ('q1', 'd7')"
            )
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

    Args:
        pairs: all pairs.
        rel: lowest relevant grade.
        seed: of the draw.
        rows: the places of the candidates.
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
    """The places of the pairs that are scored under the cuts where no scores are at hand.

    Args:
        pairs: all pairs.
        chosen: the pairs to look into, where they are named; else the queries are drawn.
        looks: how many pairs to look into.
        rel: lowest relevant grade.
        seed: of the draws.
        most: at most so many candidates, beside the named pairs; all of the queries' where None.

    Raises:
        InputError: if ``most`` is too small.
    """
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

    Args:
        pairs: all pairs.
        queries: the queries in order, with the places of their candidates.
        ranks: the untouched model's rank of each candidate.
        best: candidates that are preferred over others of their kind (under how many cuts they
            were scored).
        looks: how many pairs at most.
        rel: lowest relevant grade.
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
