"""Which queries and passages a study takes: pure choices over ids, grades and texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from matchlens.errors import InputError

from .collection import Collection, Draw
from .lines import blank, is_unicode, shown
from .oddities import EASY_GRADE, EXCLUDED, NOTES, Oddities, notes
from .pair import Pair

PER_GRADE = 10
EASY_POOL = 1000  # random passages that a query's easy negatives are drawn from, at least
COUNTS = (
    "topics",
    "queries_not_drawn",
    "queries",
    "pairs",
    "unjudged",
    "easy_negatives",
    "dropped_by_cap",
    "judged_outside_the_run",
    *NOTES,
)


WHY = (
    "unusable_ids",
    "topics_without_qrels",
    "empty_queries",
    "queries_without_candidates",
    "judged_without_text",
    "queries_without_positive_gain",
)
"""Oddities that leave no query."""


@dataclass(frozen=True)
class Options:
    """The arguments of `choose`; :func:`checked` fills in what the manifest records beside them.

    Where pairs were given, not chosen, `candidates` is "given"; where they have no grades, `ideal`
    is "none".
    """

    candidates: str = ""
    per_grade: int | None = PER_GRADE
    all_judged: bool = False
    depth: int | None = None
    easy: int = 0
    easy_pool: int | None = None
    seed: int = 0
    ideal: str | None = None
    queries: int | None = None
    query_prefix: str = ""
    passage_prefix: str = ""


@dataclass(frozen=True)
class Candidate:
    """A passage that a query may be paired with; a negative grade of the qrels is 0 here."""

    docid: str
    grade: int
    judged: bool


def checked(collection: Collection, options: Options) -> Options:
    """The options, completed, or an InputError where they are out of range or contradictory."""
    per_grade, depth, all_judged = options.per_grade, options.depth, options.all_judged
    for option, lowest in {"per_grade": 1, "depth": 1, "easy": 0, "queries": 1}.items():
        value = getattr(options, option)
        if value is not None and value < lowest:
            raise InputError(f"{option} is {value}; expected {lowest} or more: change the number")
    if options.ideal not in (None, "sample", "full"):
        raise InputError(
            f'ideal is {shown(options.ideal)}; expected "sample" or "full": choose one'
        )
    replaced = [name for name, on in (("all_judged", all_judged), ("depth", depth)) if on]
    chosen = [*replaced, *(["per_grade"] if per_grade not in (None, PER_GRADE) else [])]
    if len(chosen) > 1:
        raise InputError(
            f"{' and '.join(chosen)} came together; expected one way to choose candidates: "
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
    return replace(
        options,
        candidates="run" if depth else "all_judged" if all_judged else "per_grade",
        per_grade=None if replaced else per_grade,
        easy_pool=EASY_POOL if options.easy else None,
        ideal=options.ideal or ("full" if depth else "sample"),
    )


def _candidates(
    collection: Collection, qid: str, depth: int | None, odd: Oddities
) -> list[Candidate]:
    judgements = collection.qrels[qid]
    excluded = {docid for docid, grade in judgements.items() if grade <= EXCLUDED}
    docids: Sequence[str] = sorted(judgements.keys() - excluded)
    for docid in sorted(excluded):
        odd.add("excluded_passages", f"{shown(docid)} of query {shown(qid)}")
    if depth is not None:
        ranked = [docid for docid in (collection.run or {}).get(qid, ()) if docid not in excluded]
        docids = ranked[: depth + (qid in ranked[:depth])]  # one more for the query's own passage
    return [
        Candidate(docid, max(judgements.get(docid, 0), 0), docid in judgements) for docid in docids
    ]


def _has_gain(
    collection: Collection, qid: str, candidates: Sequence[Candidate], options: Options
) -> bool:
    if options.ideal == "none":
        return True
    grades: Iterable[int] = (candidate.grade for candidate in candidates)
    if options.ideal == "full":
        grades = collection.qrels[qid].values()
    return max(grades) > 0


def usable_queries(
    collection: Collection, options: Options, odd: Oddities
) -> dict[str, list[Candidate]]:
    """The queries that may be drawn, in collection order, each with all its possible candidates.

    Candidates are in order of passage id, or in the run's order where they come from a run.
    """
    usable: dict[str, list[Candidate]] = {}
    for qid, query in collection.queries.items():
        grades = collection.qrels.get(qid)
        if not grades:
            odd.add("topics_without_qrels", shown(qid))
        elif blank(query):
            odd.add("empty_queries", shown(qid))
        elif not (candidates := _candidates(collection, qid, options.depth, odd)):
            odd.add("queries_without_candidates", shown(qid))
        elif not _has_gain(collection, qid, candidates, options):
            odd.add("queries_without_positive_gain", shown(qid))
        else:
            usable[qid] = candidates
    return usable


def with_text(
    qid: str,
    candidates: Sequence[Candidate],
    collection: Collection,
    texts: Mapping[str, str],
    options: Options,
    odd: Oddities,
) -> list[Candidate]:
    """A query's candidates that can be read, without the query itself; none if it is left out.

    The query's own passage is left out first, as BEIR does, and then the run is cut at `depth`; a
    passage without a text keeps its place in the run.
    """
    query = collection.queries[qid]
    own = [
        candidate
        for candidate in candidates
        if candidate.docid == qid and _is_own(query, texts.get(qid) or "")
    ]
    for _ in own:
        odd.add("own_passages", shown(qid))
    ranked = [candidate for candidate in candidates if candidate not in own][: options.depth]
    kept = []
    for candidate in ranked:
        text = texts.get(candidate.docid) or ""
        if blank(text):
            kind = "judged_without_text" if candidate.judged else "retrieved_without_text"
            odd.add(kind, f"{shown(candidate.docid)} of query {shown(qid)}")
            continue
        if candidate.docid == qid:
            odd.add("passages_with_query_id", shown(qid))
        _refuse_surrogates(f"passage {shown(candidate.docid)}", text, collection)
        kept.append(candidate)
    _refuse_surrogates(f"query {shown(qid)}", query, collection)
    if not kept:
        odd.add("queries_without_texts" if ranked else "queries_without_candidates", shown(qid))
        return []
    if not _has_gain(collection, qid, kept, options):
        odd.add("queries_without_positive_gain", shown(qid))
        return []
    if options.ideal != "none" and not any(candidate.judged for candidate in kept):
        odd.add("queries_without_judged", shown(qid))
    if options.depth:
        inside = sum(candidate.judged for candidate in (*ranked, *own))
        grades = collection.qrels[qid].values()
        odd.counts["judged_outside_the_run"] += sum(grade > EXCLUDED for grade in grades) - inside
    return kept


def _is_own(query: str, text: str) -> bool:
    """Whether the passage with the query's id is the query: its words, perhaps with a title."""
    # Ids alone do not tell: TREC numbers queries and passages independently of each other.
    words, wanted = text.split(), query.split()
    return words[-len(wanted) :] == wanted and 2 * len(wanted) >= len(words)


def _refuse_surrogates(what: str, text: str, collection: Collection) -> None:
    if not is_unicode(text):
        raise InputError(
            f"{what} of collection {shown(collection.name)} is not Unicode: it has half of a "
            "surrogate pair; expected text: correct it, or choose other fields of it"
        )


def refuse_nothing(collection: Collection, odd: Oddities) -> None:
    """Says why no query is left, and what to do."""
    ids, lacking = "", odd.counts["judged_without_text"] or odd.counts["queries_without_texts"]
    with suppress(InputError):
        others = [shown(docid) for docid in collection.random_docids(2, 0)] if lacking else []
        ids = f" (its passages have ids such as {', '.join(others)})" if others else ""
    if not odd.counts["queries_without_texts"]:
        why = {kind: number for kind, number in odd.counts.items() if kind in WHY}
        raise InputError(
            f"no query of collection {shown(collection.name)} is left of "
            f"{len(collection.queries):,} topics ({'; '.join(notes(why, odd.examples))}){ids}; "
            f"expected one with a {'text' if lacking else 'passage'} of positive grade: check that "
            f"topics, qrels{', passages' if lacking else ''} and run belong together"
        )
    remedy = "name the passages files that hold them, or write the ids alike"
    if collection.source.get("format") == "ir_datasets":
        dataset = collection.source["dataset"]
        remedy = (
            f"choose another dataset, or export this one's parts to files (`ir_datasets export "
            f"{dataset}`) and add the passages"
        )
    without = [
        *odd.examples.get("judged_without_text", ()),
        *odd.examples.get("retrieved_without_text", ()),
    ]
    raise InputError(
        f"no passage of collection {shown(collection.name)} that the queries need has a text, such "
        f"as {without[0]}{ids}; expected the passages that are judged or in the run: {remedy}"
    )


def sampled(
    qid: str,
    candidates: list[Candidate],
    texts: Mapping[str, str],
    options: Options,
    counts: Counter[str],
) -> list[Candidate]:
    """At most `per_grade` candidates a grade without duplicates, or all where that is None."""
    if options.per_grade is None:
        return candidates
    by_text: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda candidate: (-candidate.grade, candidate.docid)):
        by_text.setdefault(_words(texts[candidate.docid]), candidate)
    by_grade: dict[int, list[str]] = defaultdict(list)
    for candidate in by_text.values():
        by_grade[candidate.grade].append(candidate.docid)
    kept = {
        docid
        for grade, docids in by_grade.items()
        for docid in Draw(options.seed, "grade", qid, grade).order(docids)[: options.per_grade]
    }
    counts["duplicates_removed"] += len(candidates) - len(by_text)
    counts["dropped_by_cap"] += len(by_text) - len(kept)
    return [candidate for candidate in candidates if candidate.docid in kept]


def _words(text: str) -> str:
    return " ".join(text.split())


def _taken(collection: Collection, qid: str) -> set[str]:
    return {*collection.qrels[qid], *(collection.run or {}).get(qid, ())}


def random_pools(
    collection: Collection, candidates: Iterable[str], options: Options
) -> dict[str, list[str]]:
    """Query id -> the random passages that its easy negatives are drawn from.

    The size of a query's pool depends on that query alone; every pool is a prefix of one draw.
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
    candidates: list[Candidate],
    pool: list[str],
    texts: Mapping[str, str],
    options: Options,
) -> list[str]:
    """A query's easy negatives, by passage id; none is equal in text to one of its candidates."""
    if not options.easy:
        return []
    taken = _taken(collection, qid)
    texts_taken = {_words(texts[candidate.docid]) for candidate in candidates}
    negatives: list[str] = []
    for docid in Draw(options.seed, "easy", qid).order(pool):
        words = _words(texts.get(docid) or "")
        if docid in taken or words in texts_taken or blank(words) or not is_unicode(words):
            continue
        if docid == qid and _is_own(collection.queries[qid], words):
            continue
        texts_taken.add(words)
        negatives.append(docid)
        if len(negatives) == options.easy:
            return sorted(negatives)
    raise InputError(
        f"easy={options.easy} came and collection {shown(collection.name)} has only "
        f"{len(negatives)} passages that are neither judged for query {shown(qid)} nor in its run; "
        "expected enough of them: ask for fewer"
    )


def sample_ideals(pairs: Sequence[Pair]) -> dict[tuple[str, str], tuple[int, ...]]:
    """The ideal rankings of a sample: each query's grades, without its easy negatives."""
    grades: dict[tuple[str, str], list[int]] = {}
    for pair in pairs:
        own = grades.setdefault((pair.collection, pair.qid), [])
        own += [pair.grade] if pair.grade != EASY_GRADE else []
    return {key: tuple(sorted(own, reverse=True)) for key, own in grades.items()}


def readable(
    collection: Collection, options: Options, odd: Oddities
) -> tuple[dict[str, list[Candidate]], dict[str, str], dict[str, list[str]]]:
    """The queries that stay, with their readable candidates; texts; pools of easy negatives."""
    # Passages are requested at once. Where queries are drawn and some turn out to have no text, as
    # many as are lacking are drawn from the rest.
    usable = usable_queries(collection, options, odd)
    order, limit = list(usable), len(usable)
    if options.queries is not None:
        order, limit = Draw(options.seed, "queries").order(usable), options.queries
    kept: dict[str, list[Candidate]] = {}
    texts: dict[str, str] = {}
    pools: dict[str, list[str]] = {}
    examined = 0
    while len(kept) < limit and examined < len(order):
        batch = order[examined : max(2 * examined, limit)]
        pools |= random_pools(collection, batch, options)
        wanted = {candidate.docid for qid in batch for candidate in usable[qid]}
        wanted |= {docid for qid in batch for docid in pools.get(qid, [])}
        texts |= collection.texts(wanted - texts.keys())
        for qid in batch:
            if len(kept) == limit:
                break
            examined += 1
            if found := with_text(qid, usable[qid], collection, texts, options, odd):
                kept[qid] = found
    odd.counts["topics"] = len(collection.queries)
    odd.counts["queries"] = len(kept)
    odd.counts["queries_not_drawn"] = len(order) - examined
    if not kept:
        refuse_nothing(collection, odd)
    return {qid: kept[qid] for qid in usable if qid in kept}, texts, pools
