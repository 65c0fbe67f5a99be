"""Measures that need whole orders: one order where no tie matters, permutations elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from matchlens.errors import InputError
from matchlens.ranking.measures import ORDER_FREE, Measure
from matchlens.ranking.ties import Candidates, Ranked

PERMUTATIONS = 1000  # of a query that needs them
CELLS = 250_000  # graded places that go through ir_measures at a time
FIRST_ONLY = frozenset({"RR", "Success"})  # these look no further than the first relevant passage
ERR_TOP = 4  # the highest grade of ERR's gain, as gdeval.pl (TREC Web track) has it


def by_orders(
    measure: Measure, queries: Sequence[Candidates], ranked: Ranked, seed: int
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"], bool]:
    """Evaluate every query on its order, or on permutations of its tie groups.

    Returns:
        `[q]` mean values, `[q]` their standard errors, and whether any value was estimated.
    """
    if measure.name == "ERR":
        _check_err(queries)
    values = np.zeros(len(queries))
    stderr = np.zeros(len(queries))
    estimated = False
    values_of = _evaluated(measure, queries, _orders(measure, queries, ranked, seed))
    for number, (x, repeats) in enumerate(values_of):
        estimated |= bool(repeats.sum() > 1)
        values[number] = np.average(x, weights=repeats)
        if np.ptp(x) > 0:
            squares = repeats @ (x - values[number]) ** 2
            stderr[number] = np.sqrt(squares / (PERMUTATIONS - 1) / PERMUTATIONS)
    return values, stderr, estimated


def _orders(
    measure: Measure, queries: Sequence[Candidates], ranked: Ranked, seed: int
) -> Iterator[tuple[Int[np.ndarray, "k n"], Int[np.ndarray, " k"]]]:
    """For each query, distinct orders of its grades and how often each was drawn.

    Inside a group the grades are sorted first, so that the draws do not depend on the order in
    which the candidates came.
    """
    end = 0
    for query in queries:
        start, end = end, end + len(query.rows)
        group = ranked.group[start:end]
        grades = _seen(measure, query.grades)[ranked.order[start:end] - start]
        grades = grades[np.lexsort((grades, group))]
        mixed = (np.diff(group) == 0) & (np.diff(grades) != 0)
        if measure.name in ORDER_FREE or not mixed.any():
            yield grades[None], np.ones(1, dtype=np.int64)
        else:
            drawn = _draw(grades, group, _generator(seed, query))
            if measure.name in FIRST_ONLY:
                drawn *= drawn.cumsum(axis=1) == 1  # fewer orders that differ
            yield np.unique(drawn, axis=0, return_counts=True)


def _seen(measure: Measure, grades: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Grades without the differences that the measure does not see."""
    if measure.rel is not None:
        return (grades >= measure.rel).astype(np.int64)
    return np.maximum(grades, 0).astype(np.int64)


def _generator(seed: int, query: Candidates) -> np.random.Generator:
    """A generator that depends on the seed and the query only."""
    text = "\0".join((str(seed), query.collection, query.qid))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def _draw(
    grades: Int[np.ndarray, " n"],
    group: Int[np.ndarray, " n"],
    generator: np.random.Generator,
) -> Int[np.ndarray, "k n"]:
    """Grades in rank order, permuted inside the groups."""
    drawn = np.empty((PERMUTATIONS, len(grades)), dtype=grades.dtype)
    step = max(1, CELLS // len(grades))
    for start in range(0, PERMUTATIONS, step):
        here = drawn[start : start + step]
        keys = generator.random(here.shape) + (group - group[0])
        here[:] = grades[np.argsort(keys, axis=1)]
    return drawn


def _evaluated(
    measure: Measure,
    queries: Sequence[Candidates],
    orders: Iterable[tuple[Int[np.ndarray, "k n"], Int[np.ndarray, " k"]]],
) -> list[tuple[Float[np.ndarray, " k"], Int[np.ndarray, " k"]]]:
    """The measure's value of every order, beside how often the order was drawn."""
    if measure.name == "ERR":
        return [(_err(order, measure.cutoff), repeats) for order, repeats in orders]
    values_of: list[list[float]] = []
    drawn: list[Int[np.ndarray, " k"]] = []
    batch: list[tuple[int, list[int]]] = []
    cells = 0
    for number, (order, repeats) in enumerate(orders):
        values_of.append([])
        drawn.append(repeats)
        for row in order.tolist():
            batch.append((number, row))
            cells += len(row)
            if cells >= CELLS:
                _flush(measure, queries, batch, values_of)
                cells = 0
    _flush(measure, queries, batch, values_of)
    return [(np.array(x), repeats) for x, repeats in zip(values_of, drawn, strict=True)]


def _flush(
    measure: Measure,
    queries: Sequence[Candidates],
    batch: list[tuple[int, list[int]]],
    values_of: list[list[float]],
) -> None:
    """Evaluate a batch of orders as the queries of one run, and empty it.

    ir_measures' libraries sort by score, some in float32, and break ties by document id: falling
    whole numbers leave them nothing to break. The scores stay above 0, so that Compat puts
    passages that were not retrieved behind those that were.
    """
    if not batch:
        return
    import ir_measures

    built = measure.build()
    if measure.rel is not None:
        built = built(rel=1)  # the grades are 0 and 1 by now
    runs: dict[int, dict[str, float]] = {}
    rest: dict[int, dict[str, int]] = {}
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for at, (number, grades) in enumerate(batch):
        size = len(grades)
        if size not in runs:
            runs[size] = {str(place): float(size - place) for place in range(size)}
        if number not in rest:
            missing = _seen(measure, queries[number].unretrieved()).tolist()
            rest[number] = {f"missing{i}": grade for i, grade in enumerate(missing)}
        run[str(at)] = runs[size]
        qrels[str(at)] = dict(zip(runs[size], grades, strict=True)) | rest[number]
    values = {x.query_id: float(x.value) for x in ir_measures.iter_calc([built], qrels, run)}
    for at, (number, _) in enumerate(batch):
        if str(at) not in values:
            raise InputError(
                f"{measure} has no value for {queries[number].name}; expected one for each "
                "query: choose another measure, e.g. nDCG@10"
            )
        values_of[number].append(values[str(at)])
    batch.clear()


def _err(order: Int[np.ndarray, "k n"], cutoff: int | None) -> Float[np.ndarray, " k"]:
    """Expected reciprocal rank of each row of grades (Chapelle et al. 2009).

    ir_measures leaves ERR to a Perl script that prints five decimals; the definition is its.
    """
    stop = (np.exp2(order[:, :cutoff]) - 1) / 2**ERR_TOP
    reach = np.cumprod(1 - stop, axis=1) / (1 - stop)
    return (stop * reach / np.arange(1, stop.shape[1] + 1)).sum(axis=1)


def _check_err(queries: Sequence[Candidates]) -> None:
    for query in queries:
        if query.grades.max() > ERR_TOP:
            raise InputError(
                f"{query.name} has grade {query.grades.max()}; expected grades up to {ERR_TOP}, "
                "for which ERR is defined: choose another measure, e.g. nDCG@10"
            )
