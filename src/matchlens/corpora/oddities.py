"""The one rule for odd collections: what is left out or merged and counted, and what is refused.

Files, ir_datasets and collections made in Python all follow it; docs/reference/collections.md has
it as a table, with what the field's own tools do in each situation.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeVar

from matchlens.arguments import shown as shown_value
from matchlens.errors import InputError

from .lines import odd_id, shown
from .pair import Pair

T = TypeVar("T")

EASY_GRADE = -1
"""The grade of a random passage, which is not ranked."""
EXCLUDED = -100
"""A grade that takes a passage out of a query's evaluation, as BRIGHT's judgements do, or less."""
MAX_GRADE = 1000  # a larger number is no grade; it is often an id in the wrong column
EXAMPLES = 3
"""How many examples of each oddity are kept."""
NOTES: Mapping[str, tuple[str, str]] = {
    "unlisted_queries_judged": ("judged queries that the topics lack", "left out"),
    "unlisted_queries_in_run": ("queries of the run that the topics lack", "left out"),
    "unusable_ids": ("records whose id has a space or an invisible character", "left out"),
    "repeated_topics": ("topics listed again with the same text", "taken once"),
    "repeated_judgements": ("judgements listed again with the same grade", "taken once"),
    "repeated_run_lines": ("passages listed again for the same query", "taken once"),
    "repeated_passages": ("passages listed again with the same text", "taken once"),
    "differing_passages": (
        "passages with another text in a later file",
        "the text of the file that was named first is taken",
    ),
    "several_ids": (
        "lines of passages with several ids that differ",
        "the id that judgements and run use is taken",
    ),
    "several_topic_ids": (
        "lines of topics with several ids that differ",
        "the id that judgements and run use is taken",
    ),
    "unranked_run_lines": ("lines of the run whose rank is no number", "their rank is ignored"),
    "contradicted_ranks": ("queries whose ranks contradict the scores", "ordered by score"),
    "topics_without_qrels": ("topics without judgements", "left out"),
    "empty_queries": ("judged topics without text", "left out"),
    "queries_without_candidates": ("judged queries without a candidate", "left out"),
    "judged_without_text": ("judged passages without a text", "left out of the candidates"),
    "retrieved_without_text": (
        "retrieved, unjudged passages without a text",
        "left out of the candidates",
    ),
    "queries_without_texts": ("queries none of whose candidates has a text", "left out"),
    "queries_without_judged": (
        "queries none of whose candidates is judged",
        "all their candidates have grade 0",
    ),
    "own_passages": (
        "queries that are passages of the collection themselves",
        "a query's own passage is left out of its candidates",
    ),
    "passages_with_query_id": (
        "candidates that share the query's id but not its text",
        "kept as ordinary passages",
    ),
    "queries_without_positive_gain": ("queries without a candidate of positive grade", "left out"),
    "excluded_passages": (
        f"passages that a query's judgements exclude from evaluation, by a grade of {EXCLUDED}",
        "left out of its candidates",
    ),
    "duplicates_removed": (
        "candidates with the same words as another candidate of the query",
        "left out",
    ),
    "negative_grades": ("candidates with a negative grade", "taken as 0"),
    "grades_of_easy": (
        "pairs of a list whose grade is -1",
        "taken for random passages, which are not ranked",
    ),
}
"""What is counted: what it is, and what happens to it."""


class Oddities:
    """How often each oddity of `NOTES` occurs in a collection, with the first few examples.

    Args:
        other: start from a copy of these.
    """

    def __init__(self, other: Oddities | None = None) -> None:
        self.counts: Counter[str] = Counter(other.counts if other else ())
        examples = other.examples if other else {}
        self.examples = {kind: [*texts] for kind, texts in examples.items()}

    def add(self, kind: str, example: str, number: int = 1) -> None:
        """Count one more."""
        self.counts[kind] += number
        examples = self.examples.setdefault(kind, [])
        if number and len(examples) < EXAMPLES and example not in examples:
            examples.append(example)

    def usable(self, *ids: str) -> bool:
        """Whether a record's ids fit a column of a TREC file; one that does not is counted."""
        for record_id in ids:
            if odd_id(record_id) is not None:
                self.add("unusable_ids", shown(record_id))
                return False
        return True


def notes(counts: Mapping[str, int], examples: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """One line for each oddity that occurred."""
    lines = []
    for kind, (what, treatment) in NOTES.items():
        if counts.get(kind):
            such = ", ".join([*examples.get(kind, ())][:EXAMPLES])
            line = f"{what}: {counts[kind]:,} ({treatment})"
            lines.append(f"{line}, such as {such}" if such else line)
    return tuple(lines)


class Door:
    """One way into a collection: how it names a record, and how a person can mend one.

    Args:
        place: what a record is called, before its number.
        mend: what to do before a record can be mended.
    """

    def __init__(self, place: str, mend: str = "") -> None:
        self.place, self.mend = place, mend

    def refusal(self, number: int, came: str, expected: str, remedy: str) -> InputError:
        """An error about one record."""
        return InputError(
            f"{self.place} {number}: {came}; expected {expected}: {self.mend}{remedy}"
        )

    def check_id(self, number: int, what: str, record_id: object) -> None:
        """Refuse a record without an id; odd ids are counted, see :meth:`Oddities.usable`."""
        if not isinstance(record_id, str):
            came = f"the {what} id {shown(repr(record_id))} is no text"
            remedy = "write str(id) everywhere"
            if isinstance(record_id, float):  # pandas makes them of whole numbers that have gaps
                remedy = "make whole numbers of them (pandas: astype('Int64')) or read them as text"
            raise self.refusal(number, came, "text, as in files", remedy)
        if not record_id:
            raise self.refusal(number, f"the {what} id is empty", "an id", "write one")


def grade_of(value: object) -> int | None:
    """A grade as a whole number, or None where it is none: 2, "2" and "2.0" are the grade 2."""
    if isinstance(value, str):
        written = re.fullmatch(r"([+-]?[0-9]{1,9})(\.0{0,9})?", value)
        number = int(written[1]) if written else None
    else:
        try:
            number = int(value)  # type: ignore[call-overload]
        except (TypeError, ValueError, OverflowError):
            return None
        number = number if number == value else None
    return None if number is None or abs(number) > MAX_GRADE else number


def no_usable_id(place: str, what: str, odd: Oddities, mend: str = "") -> InputError:
    """The error of records none of which has an id that fits a column of a TREC file."""
    return InputError(
        f"{place}: no {what} has an id that can be used: they have spaces or invisible "
        f"characters, such as {odd.examples['unusable_ids'][-1]}; expected ids that fit a column "
        f"of a TREC file: {mend}rename them everywhere"
    )


def texts(
    rows: Iterable[tuple[int, str, object]],
    what: str,
    door: Door,
    odd: Oddities,
    needed: Container[str] = (),
) -> dict[str, str]:
    """Id -> text of queries or passages, in the order of the records; a text may be empty.

    Args:
        rows: number, id, text.
        what: "query" or "passage".
        needed: the passages of which a repeated one is counted.
    """
    queries, number = what == "query", 0
    kind = "repeated_topics" if queries else "repeated_passages"
    by_id: dict[str, str] = {}
    for number, record_id, text in rows:
        door.check_id(number, what, record_id)
        if not odd.usable(record_id):
            continue
        if not isinstance(text, str | None):
            came = f"the text of {what} {shown(record_id)} is {shown_value(text)}"
            raise door.refusal(number, came, "text", f"give the {what}'s words")
        words = (text or "").strip()
        if record_id not in by_id:
            by_id[record_id] = words
        elif by_id[record_id] == words:
            odd.add(kind, shown(record_id), int(queries or record_id in needed))
        else:
            came = f"{what} id {shown(record_id)} comes a second time with another text"
            raise door.refusal(number, came, "one text for each id", "remove or rename one")
    if queries and not by_id and odd.counts["unusable_ids"]:
        raise no_usable_id(f"{door.place} {number}", "query", odd, door.mend)
    return by_id


def judgements(
    rows: Iterable[tuple[int, str, str, object]],
    queries: Mapping[str, str],
    door: Door,
    odd: Oddities,
) -> dict[str, dict[str, int]]:
    """Query id -> passage id -> grade, for the listed queries."""

    def checked(number: int, value: object) -> int:
        grade = grade_of(value)
        if grade is None:
            expected = f"a whole number from -{MAX_GRADE} to {MAX_GRADE} in the last column"
            raise door.refusal(number, f"the grade is {shown(str(value))}", expected, "correct it")
        return grade

    qrels: dict[str, dict[str, int]] = {}
    known = _of_listed(rows, queries, door, odd, "unlisted_queries_judged", checked)
    for number, qid, docid, grade in known:
        grades = qrels.setdefault(qid, {})
        if docid not in grades:
            grades[docid] = grade
        elif grades[docid] == grade:
            odd.add("repeated_judgements", _of_query(docid, qid))
        else:
            came = (
                f"passage {shown(docid)} is judged a second time for query {shown(qid)}, with "
                f"grade {grade} after {grades[docid]}"
            )
            expected = "one grade for each (several may stand for subtopics)"
            raise door.refusal(number, came, expected, "keep one of the two")
    return qrels


def ranking(
    rows: Iterable[tuple[int, str, str, object, str]],
    queries: Mapping[str, str],
    door: Door,
    odd: Oddities,
) -> tuple[dict[str, list[str]], bool]:
    """Query id -> passage ids for the listed queries: highest score first, then lowest rank.

    Args:
        rows: number, query id, passage id, score, rank; a rank that is no number is ignored.

    Returns:
        The run, and whether it orders anything: False where scores and ranks never differ.

    >>> rows = [(1, "q1", "d1", "1.5", "2"), (2, "q1", "d2", "9e1", "1")]
    >>> ranking(rows, {"q1": "warm tea"}, Door("a.run, line"), Oddities())
    ({'q1': ['d2', 'd1']}, True)
    """

    def checked(number: int, value: object, rank: str) -> tuple[float, str]:
        score = _score(value)
        if math.isnan(score):
            came = f"the score is {shown(str(value))}"
            raise door.refusal(number, came, "a number", "correct it")
        return score, rank

    places: dict[str, dict[str, tuple[float, int]]] = {}
    known = _of_listed(rows, queries, door, odd, "unlisted_queries_in_run", checked)
    for number, qid, docid, (score, rank) in known:
        ranked = re.fullmatch(r"-?[0-9]{1,18}", rank)
        place = (-score, int(rank) if ranked else 0)
        if not ranked:
            odd.add("unranked_run_lines", _of_query(docid, qid))
        of_query = places.setdefault(qid, {})
        if docid not in of_query:
            of_query[docid] = place
        elif of_query[docid][0] == -score:
            odd.add("repeated_run_lines", _of_query(docid, qid))
            of_query[docid] = min(of_query[docid], place)
        else:
            came = (
                f"passage {shown(docid)} comes a second time for query {shown(qid)}, with score "
                f"{score:g} after {-of_query[docid][0]:g}"
            )
            expected = "one score for each passage of a query"
            raise door.refusal(number, came, expected, "keep one of the two")
    run = {qid: sorted(of_run, key=of_run.__getitem__) for qid, of_run in places.items()}
    for qid, docids in run.items() if not odd.counts["unranked_run_lines"] else ():
        if any(places[qid][a][1] > places[qid][b][1] for a, b in pairwise(docids)):
            odd.add("contradicted_ranks", shown(qid))
    several = [set(of_run.values()) for of_run in places.values() if len(of_run) > 1]
    return run, not several or any(len(keys) > 1 for keys in several)


def _of_listed(
    rows: Iterable[tuple[Any, ...]],
    queries: Mapping[str, str],
    door: Door,
    odd: Oddities,
    kind: str,
    checked: Callable[..., T],
) -> Iterator[tuple[int, str, str, T]]:
    """The usable records of listed queries: number, query id, passage id, checked values."""
    unlisted: dict[str, int] = {}
    empty = True
    for number, qid, docid, *values in rows:
        door.check_id(number, "query", qid)
        door.check_id(number, "passage", docid)
        value = checked(number, *values)
        if not odd.usable(qid, docid):
            continue
        if qid not in queries:
            unlisted.setdefault(qid, number)
            continue
        empty = False
        yield number, qid, docid, value
    for qid in unlisted:
        odd.add(kind, shown(qid))
    if unlisted and empty:
        qid, number = next(iter(unlisted.items()))
        came = (
            f"query id {shown(qid)} is not among the topics (whose first is "
            f"{shown(next(iter(queries), ''))}), nor is any of the {len(unlisted):,} queries here"
        )
        remedy = "give the topics that belong to them"
        raise door.refusal(number, came, "queries of the topics", remedy)


def listed(pairs: Iterable[Pair], door: Door, odd: Oddities) -> list[Pair]:
    """The pairs of a list: repeated ones once, contradictions refused.

    Ids of passages need not be those of one text in several queries.
    """
    queries: dict[tuple[str, str], str] = {}
    known: dict[tuple[str, str, str], Pair] = {}
    for number, pair in enumerate(pairs, 1):
        query, passage = shown(pair.qid), f"passage {shown(pair.docid)}"
        example = _of_query(pair.docid, pair.qid)
        if pair.grade < EASY_GRADE:
            came = f"{passage} of query {query} has the grade {pair.grade}"
            expected = f"0 or more, or {EASY_GRADE} for a random passage that is not ranked"
            raise door.refusal(number, came, expected, "write 0 for what is not relevant")
        ids = (pair.collection, pair.qid, pair.docid)
        repeated, earlier = ids in known, known.setdefault(ids, pair)
        again = f"comes a second time for query {query} with another"
        for came, first, second, what in (
            (f"query id {query} comes a second time with another text",
             queries.setdefault(ids[:2], pair.query), pair.query, "text for each id"),
            (f"{passage} {again} text", earlier.text, pair.text, "text for each id"),
            (f"{passage} {again} grade", earlier.grade, pair.grade, "grade for each passage"),
        ):  # fmt: skip
            if first != second:
                raise door.refusal(number, came, f"one {what}", "keep one of the two")
        if repeated:
            odd.add("repeated_run_lines", example)
        elif pair.grade == EASY_GRADE:
            odd.add("grades_of_easy", example)
    return [*known.values()]


def _score(value: object) -> float:
    """A score, NaN where it is none; infinite scores rank first or last."""
    pattern = r"[+-]?([0-9.]+([eE][+-]?[0-9]+)?|inf|infinity)"
    if isinstance(value, str) and not re.fullmatch(pattern, value, re.IGNORECASE):
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _of_query(docid: str, qid: str) -> str:
    return f"{shown(docid)} of query {shown(qid)}"
