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
    """At most so many of the pairs, spread over the queries; all of them where they are few.

    From the judged passages every query keeps at most c a grade, c as large as ``most`` allows;
    from a run its first d passages, d at least 10. If that is still too many, queries are drawn.
    An ideal ranking of the sample becomes that of the smaller sample.

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
    (128, 32)
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
    from_run = pairs.sampling.get("candidates") == "run"
    ranks = {key: _ranks(pairs.pairs, group, from_run, seed) for key, group in groups.items()}
    least = LEAST_DEPTH if from_run else 1
    cap, smaller = least, _capped(ranks, least)
    while sum(map(len, smaller.values())) <= most:
        cap, chosen = cap + 1, smaller
        smaller = _capped(ranks, cap)
        if smaller == chosen:
            return chosen
    if cap > least:
        return _capped(ranks, cap - 1)
    order = Draw(seed, "queries").order({qid for _, qid in smaller})
    place = {qid: number for number, qid in enumerate(order)}
    kept: dict[tuple[str, str], list[int]] = {}
    left = most
    for key in sorted(smaller, key=lambda key: (place[key[1]], key[0])):
        left -= len(smaller[key])
        if left < 0:
            break
        kept[key] = smaller[key]
    return {key: kept[key] for key in smaller if key in kept}


def _ranks(
    pairs: Sequence[Pair], rows: Sequence[int], from_run: bool, seed: int
) -> list[tuple[int, int]]:
    """Each row with its place: in the run, or in the draw of its grade."""
    if from_run:
        return [(row, place) for place, row in enumerate(rows)]
    by_grade: dict[int, list[int]] = {}
    for row in rows:
        by_grade.setdefault(pairs[row].grade, []).append(row)
    out = []
    for grade, group in by_grade.items():
        draw = Draw(seed, "grade", pairs[group[0]].qid, grade)
        group.sort(key=lambda row: draw.key(pairs[row].docid))
        out += [(row, place) for place, row in enumerate(group)]
    return out


def _capped(
    ranks: dict[tuple[str, str], list[tuple[int, int]]], cap: int
) -> dict[tuple[str, str], list[int]]:
    return {key: [row for row, place in ranked if place < cap] for key, ranked in ranks.items()}
