"""Which queries and passages a study takes: pure choices over ids, grades and texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from matchlens.errors import InputError

from .collection import Collection, Draw
from .lines import is_unicode, shown

PER_GRADE = 10
EASY_POOL = 1000  # random passages that a query's easy negatives are drawn from, at least
COUNTS = (
    "topics",
    "topics_without_qrels",
    "queries_without_candidates",
    "queries_without_positive_gain",
    "queries_not_drawn",
    "queries",
    "pairs",
    "unjudged",
    "easy_negatives",
    "duplicates_removed",
    "dropped_by_cap",
    "judged_outside_the_run",
    "negative_grades",
)


@dataclass(frozen=True)
class Options:
    """The arguments of `choose`, checked; the fields are what the manifest records."""

    candidates: str
    per_grade: int | None
    all_judged: bool
    depth: int | None
    easy: int
    easy_pool: int | None
    seed: int
    ideal: str
    queries: int | None
    query_prefix: str
    passage_prefix: str


@dataclass(frozen=True)
class Candidate:
    """A passage that a query may be paired with; a negative grade of the qrels is 0 here."""

    docid: str
    grade: int
    judged: bool


def checked(
    *,
    collection: Collection,
    per_grade: int | None,
    all_judged: bool,
    depth: int | None,
    easy: int,
    seed: int,
    ideal: str | None,
    queries: int | None,
    query_prefix: str,
    passage_prefix: str,
) -> Options:
    """The options of `choose`, or an InputError where they are out of range or contradictory."""
    least = {"per_grade": (per_grade, 1), "depth": (depth, 1), "easy": (easy, 0)}
    for option, (value, bound) in {**least, "queries": (queries, 1)}.items():
        if value is not None and value < bound:
            raise InputError(f"{option} is {value}; expected {bound} or more: change the number")
    if ideal not in (None, "sample", "full"):
        raise InputError(f'ideal is {shown(ideal)}; expected "sample" or "full": choose one')
    replaced = [name for name, on in (("all_judged", all_judged), ("depth", depth)) if on]
    ways = [*replaced, *(["per_grade"] if per_grade not in (None, PER_GRADE) else [])]
    if len(ways) > 1:
        raise InputError(
            f"{' and '.join(ways)} came together; expected one way to choose candidates: "
            "leave the others out"
        )
    if not replaced and per_grade is None:
        raise InputError(
            "per_grade is None and neither all_judged nor depth came; expected one way to choose "
            "candidates: give one"
        )
    if depth is not None and collection.run is None:
        note = collection.source.get("run_note", "it was loaded without one")
        raise InputError(
            f"collection {shown(collection.name)} has no run ({note}) and depth={depth} needs "
            "one; expected a ranking: load it with a run, or choose from the judged passages"
        )
    return Options(
        candidates="run" if depth else "all_judged" if all_judged else "per_grade",
        per_grade=None if replaced else per_grade,
        all_judged=all_judged,
        depth=depth,
        easy=easy,
        easy_pool=EASY_POOL if easy else None,
        seed=seed,
        ideal=ideal or ("full" if depth else "sample"),
        queries=queries,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
    )


def _candidates(collection: Collection, qid: str, depth: int | None) -> list[Candidate]:
    judgements = collection.qrels[qid]
    if depth is None:
        docids: Iterable[str] = sorted(judgements)
    else:
        docids = (collection.run or {}).get(qid, ())[:depth]
    return [Candidate(one, max(judgements.get(one, 0), 0), one in judgements) for one in docids]


def drawn_queries(
    collection: Collection, options: Options, counts: Counter[str]
) -> dict[str, list[Candidate]]:
    """The queries that stay, in collection order, each with all its possible candidates.

    Candidates are in order of passage id, or in the run's order where they come from a run.

    Args:
        collection: whose queries; no passage is read here.
        options: of `choose`.
        counts: what is left out is counted here.

    Raises:
        InputError: no query is left.
    """
    counts["topics"] = len(collection.queries)
    usable: dict[str, list[Candidate]] = {}
    for qid in collection.queries:
        if not collection.qrels.get(qid):
            counts["topics_without_qrels"] += 1
            continue
        found = _candidates(collection, qid, options.depth)
        grades = [one.grade for one in found]
        if options.ideal == "full":
            grades = list(collection.qrels[qid].values())
        if not found:
            counts["queries_without_candidates"] += 1
        elif max(grades) <= 0:
            counts["queries_without_positive_gain"] += 1
        else:
            usable[qid] = found
    drawn = set(Draw(options.seed, "queries").order(usable)[: options.queries])
    counts["queries"] = len(drawn)
    counts["queries_not_drawn"] = len(usable) - len(drawn)
    if not drawn:
        raise InputError(
            f"no query of collection {shown(collection.name)} is left: of {counts['topics']} "
            f"topics {counts['topics_without_qrels']} have no qrels, "
            f"{counts['queries_without_candidates']} are not in the run, "
            f"{counts['queries_without_positive_gain']} have no candidate of a positive grade; "
            "expected one that has: check that topics, qrels and run belong together"
        )
    for qid in drawn if options.depth else ():
        inside = sum(one.judged for one in usable[qid])
        counts["judged_outside_the_run"] += len(collection.qrels[qid]) - inside
    return {qid: found for qid, found in usable.items() if qid in drawn}


def refuse_unusable(
    collection: Collection, candidates: Mapping[str, list[Candidate]], texts: Mapping[str, str]
) -> None:
    """Refuses a choice with a text that is missing, empty or not Unicode.

    Args:
        collection: where queries come from.
        candidates: query id -> its possible candidates.
        texts: passage id -> text.

    Raises:
        InputError: names one such text, and how many passages are missing.
    """
    missing = [
        (qid, one.docid)
        for qid, found in candidates.items()
        for one in found
        if one.docid not in texts
    ]
    if missing:
        qid, docid = missing[0]
        raise InputError(
            f"{len({docid for _, docid in missing}):,} passages of collection "
            f"{shown(collection.name)} are not there, such as {shown(docid)} of query "
            f"{shown(qid)}; expected the text of every candidate: give the passages files that "
            "hold them"
        )
    for qid, found in candidates.items():
        for what, text in [
            (f"query {shown(qid)}", collection.queries[qid]),
            *((f"passage {shown(one.docid)}", texts[one.docid]) for one in found),
        ]:
            if not text.strip() or not is_unicode(text):
                raise InputError(
                    f"{what} of collection {shown(collection.name)} is empty or not Unicode; "
                    "expected words: mend its text, or choose other fields of it"
                )


def sampled(
    qid: str,
    found: list[Candidate],
    texts: Mapping[str, str],
    options: Options,
    counts: Counter[str],
) -> list[Candidate]:
    """At most `per_grade` candidates a grade without duplicates, or all where that is None.

    Args:
        qid: the query.
        found: its possible candidates.
        texts: passage id -> text.
        options: of `choose`.
        counts: what is left out is counted here.
    """
    if options.per_grade is None:
        return found
    by_text: dict[str, Candidate] = {}
    for one in sorted(found, key=lambda one: (-one.grade, one.docid)):
        by_text.setdefault(_words(texts[one.docid]), one)
    by_grade: dict[int, list[str]] = defaultdict(list)
    for one in by_text.values():
        by_grade[one.grade].append(one.docid)
    kept = {
        docid
        for grade, docids in by_grade.items()
        for docid in Draw(options.seed, "grade", qid, grade).order(docids)[: options.per_grade]
    }
    counts["duplicates_removed"] += len(found) - len(by_text)
    counts["dropped_by_cap"] += len(by_text) - len(kept)
    return [one for one in found if one.docid in kept]


def _words(text: str) -> str:
    return " ".join(text.split())


def _taken(collection: Collection, qid: str) -> set[str]:
    return {*collection.qrels[qid], *(collection.run or {}).get(qid, ())}


def random_pools(
    collection: Collection, candidates: Iterable[str], options: Options
) -> dict[str, list[str]]:
    """Query id -> the random passages that its easy negatives are drawn from.

    The size of a query's pool hangs on that query alone; all pools are beginnings of one draw.

    Args:
        collection: where passages are drawn.
        candidates: the queries' ids.
        options: of `choose`.
    """
    if not options.easy:
        return {}
    sizes: dict[str, int] = {}
    for qid in candidates:
        sizes[qid] = EASY_POOL
        while sizes[qid] - len(_taken(collection, qid)) < 2 * options.easy:
            sizes[qid] *= 2
    pool = collection.random_docids(max(sizes.values()), options.seed)
    return {qid: pool[:size] for qid, size in sizes.items()}


def easy_negatives(
    qid: str,
    collection: Collection,
    found: list[Candidate],
    pool: list[str],
    texts: Mapping[str, str],
    options: Options,
) -> list[str]:
    """A query's easy negatives, by passage id.

    Args:
        qid: the query.
        collection: whose qrels and run say what is not easy.
        found: the query's possible candidates; passages equal to them in text are passed over.
        pool: from `random_pools`.
        texts: passage id -> text.
        options: of `choose`.

    Raises:
        InputError: the collection has too few such passages.
    """
    if not options.easy:
        return []
    taken = _taken(collection, qid)
    seen = {_words(texts[one.docid]) for one in found}
    negatives: list[str] = []
    for docid in Draw(options.seed, "easy", qid).order(pool):
        words = _words(texts.get(docid, ""))
        if docid in taken or words in seen or not words or not is_unicode(words):
            continue
        seen.add(words)
        negatives.append(docid)
        if len(negatives) == options.easy:
            return sorted(negatives)
    raise InputError(
        f"easy={options.easy} came and collection {shown(collection.name)} has only "
        f"{len(negatives)} passages that are neither judged for query {shown(qid)} nor in its run; "
        "expected enough of them: ask for fewer"
    )
