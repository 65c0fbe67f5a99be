"""Fewer of the chosen pairs, for studies whose cost is conditions times pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from matchlens.arguments import typed
from matchlens.errors import InputError

from .collection import Draw
from .pairs import EASY_GRADE, Pair, PairSet

LEAST_DEPTH = 10
"""Passages of a run that every query keeps; beyond that queries are dropped."""


@typed
def thin(
    pairs: PairSet, most: int, *, seed: int = 0, easy: bool = False
) -> tuple[PairSet, list[int]]:
    """At most so many of the pairs: whole queries that are drawn; all pairs where they are few.

    Judged passages: queries are drawn and keep all their passages, so that rankings are as hard as
    in the full sample. The first query that does not fit keeps fewer, evenly over its grades;
    where not even one of each grade fits, it is left out. From a run every query keeps its first d
    passages, d at least 10 and as large as ``most`` allows; if that is still too many, queries are
    drawn. An ideal ranking of the sample becomes that of the smaller sample.

    Args:
        pairs: the chosen pairs.
        most: at most so many of them, at least 1.
        seed: of the draws; the same draws as :func:`choose` makes.
        easy: whether easy negatives stay; where they are not ranked, they only cost time.

    Returns:
        The pairs that stay, and their places among the given ones.

    Raises:
        InputError: if ``most`` is too small for a single query.

    >>> from matchlens.corpora import choose, demo
    >>> few, rows = thin(choose(demo.load()), 130)
    >>> len(few.pairs), len({pair.qid for pair in few.pairs})
    (130, 11)
    """
    if most < 1:
        raise InputError(f"at most {most} pairs were asked for; expected 1 or more")
    groups: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(pairs.pairs):
        if easy or pair.grade != EASY_GRADE:
            groups.setdefault((pair.collection, pair.qid), []).append(row)
    if sum(map(len, groups.values())) > most:
        groups = _fewer(pairs, groups, most, seed)
    rows = sorted(row for group in groups.values() for row in group)
    if not rows:
        raise InputError(
            f"at most {most} pairs were asked for, fewer than one query has; ask for more"
        )
    ideals = {key: pairs.ideals[key] for key in groups}
    if pairs.sampling.get("ideal", "sample") == "sample":
        ideals = {
            key: tuple(sorted((g for g in _grades(pairs.pairs, group)), reverse=True))
            for key, group in groups.items()
        }
    kept = replace(pairs, pairs=tuple(pairs.pairs[row] for row in rows), ideals=ideals)
    return kept, rows


def _grades(pairs: Sequence[Pair], rows: Sequence[int]) -> list[int]:
    return [pairs[row].grade for row in rows if pairs[row].grade != EASY_GRADE]


def _fewer(
    pairs: PairSet, groups: dict[tuple[str, str], list[int]], most: int, seed: int
) -> dict[tuple[str, str], list[int]]:
    order = Draw(seed, "queries").order({qid for _, qid in groups})
    place = {qid: number for number, qid in enumerate(order)}
    from_run = pairs.sampling.get("candidates") == "run"
    if from_run:
        groups = _shallower(groups, most)
    kept: dict[tuple[str, str], list[int]] = {}
    left = most
    for key in sorted(groups, key=lambda key: (place[key[1]], key[0])):
        if len(groups[key]) > left:
            if not from_run and (part := _evenly(pairs.pairs, groups[key], left, seed)):
                kept[key] = part
            break
        kept[key] = groups[key]
        left -= len(groups[key])
    return {key: kept[key] for key in groups if key in kept}


def _shallower(
    groups: dict[tuple[str, str], list[int]], most: int
) -> dict[tuple[str, str], list[int]]:
    """The first d passages of each query, d as large as the number of pairs allows."""
    depth = LEAST_DEPTH
    while sum(min(len(group), depth + 1) for group in groups.values()) <= most:
        depth += 1
    return {key: group[:depth] for key, group in groups.items()}


def _evenly(pairs: Sequence[Pair], rows: Sequence[int], most: int, seed: int) -> list[int]:
    """So many rows of one query, by turns of each grade; none if a grade would be without any."""
    by_grade: dict[int, list[int]] = {}
    for row in rows:
        by_grade.setdefault(pairs[row].grade, []).append(row)
    if len(by_grade) > most:
        return []
    turns: list[tuple[int, int, int]] = []
    for grade, group in by_grade.items():
        draw = Draw(seed, "grade", pairs[group[0]].qid, grade)
        group.sort(key=lambda row: draw.key(pairs[row].docid))
        turns += [(place, -grade, row) for place, row in enumerate(group)]
    return [row for _, _, row in sorted(turns)[:most]]
