"""Pairs of a query and a passage, with their grades; how candidates are chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, overload

from matchlens.arguments import typed
from matchlens.errors import InputError, brief, counted
from matchlens.showing import drawing

from . import frame as frames
from . import own
from .collection import Collection, Draw
from .collection import checked as tidy
from .lines import shown
from .oddities import EASY_GRADE, Door, Oddities, listed, notes
from .pair import Pair
from .sampling import (
    COUNTS,
    PER_GRADE,
    Candidate,
    Options,
    checked,
    easy_negatives,
    readable,
    sample_ideals,
    sampled,
)

EASY_KIND = "easy"


@typed
@dataclass(frozen=True, repr=False)
class PairSet:
    """The pairs of a study, and all that is needed to say how they came about.

    Args:
        pairs: grouped by query, queries in collection order; inside a query by passage id (in the
            run's order where they come from a run), easy negatives last, by passage id.
        ideals: (collection, query id) -> the grades that the query's ideal ranking is made of, the
            highest first; negative ones as 0.
        sampling: every option of `choose` by name; `candidates` is "per_grade", "all_judged" or
            "run" ("given" where pairs were given), `ideal` is "sample" or "full" ("none" where they
            have no grades), `easy_pool` the least size of the pool.
        counts: how many queries, pairs and so on were taken and left out; see `choose`.
        sources: the `source` of each collection, with its name.

    >>> from matchlens.corpora import choose, demo
    >>> chosen = choose(demo.load())
    >>> len(chosen.pairs), chosen.sampling["ideal"]
    (384, 'sample')
    """

    pairs: tuple[Pair, ...]
    ideals: Mapping[tuple[str, str], tuple[int, ...]]
    sampling: Mapping[str, object]
    counts: Mapping[str, int]
    sources: tuple[Mapping[str, object], ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the collections held that was left out or merged, a line for each kind.

        >>> from matchlens.corpora import choose, demo
        >>> choose(demo.load()).notes
        ()
        """
        examples: dict[str, list[str]] = {}
        for source in self.sources:
            kept: Any = source.get("examples", {})
            for kind, texts in kept.items():
                examples.setdefault(kind, []).extend(texts)
        return notes(self.counts, examples)

    def __add__(self, other: PairSet) -> PairSet:
        return PairSet.join([self, other])

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    @overload
    def __getitem__(self, place: int) -> Pair: ...

    @overload
    def __getitem__(self, place: slice) -> PairSet: ...

    def __getitem__(self, place: int | slice) -> Pair | PairSet:
        if not isinstance(place, slice):
            return self.pairs[place]
        return self._only(self.pairs[place])

    @typed
    def filter(self, keep: Callable) -> PairSet:
        """The pairs that a function is true of, with all that is known of how they came about.

        In a list or DataFrame of some pairs these are lost: an ideal ranking by all judgements,
        and the record of the choice.

        Args:
            keep: a function from a pair to True or False.

        Raises:
            InputError: it is true of no pair.

        >>> from matchlens.corpora import choose, demo
        >>> pairs = choose(demo.load())
        >>> {pair.grade for pair in pairs.filter(lambda pair: pair.grade != 1)}
        {0, 2, 3}
        """
        kept = tuple(pair for pair in self.pairs if keep(pair))
        if not kept:
            raise InputError(
                f"keep is true of none of the {counted(len(self), 'pair')}; expected some: give a "
                "function from a pair to True or False"
            )
        return self._only(kept)

    def _only(self, pairs: tuple[Pair, ...]) -> PairSet:
        """Some of the pairs; counts of pairs are those of the ones that are left."""
        ideals = sample_ideals(pairs)
        if self.sampling.get("ideal", "sample") != "sample":
            ideals = {key: self.ideals[key] for key in ideals}
        counts = {**self.counts, "queries": len(ideals), "pairs": len(pairs)}
        random = [pair for pair in pairs if pair.grade == EASY_GRADE]
        unjudged = [pair for pair in pairs if pair.grade != EASY_GRADE and not pair.judged]
        for name, some in (("easy_negatives", random), ("unjudged", unjudged)):
            if name in counts:
                counts[name] = len(some)
        return replace(self, pairs=pairs, ideals=ideals, counts=counts)

    def __repr__(self) -> str:
        names = ", ".join(str(source.get("collection", "")) for source in self.sources)
        size = f"{counted(len(self), 'pair')} of {counted(len(self.ideals), 'query')}"
        return f"<PairSet: {size}, {brief(names, 80)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: escaped and self-contained."""
        return drawing().pairs_html(self)

    @typed
    def with_parts(
        self, parts: Mapping[str, Callable | Sequence[Sequence[tuple[int, int]]]], of: str = "D"
    ) -> PairSet:
        """The same pairs with own parts: characters of their passages or their queries.

        Such a part can be used in cuts and directions: ``Q->TITLE``. Its tokens stay tokens of D
        (or Q). A token belongs to the part that holds its first character, white space aside;
        tokens beyond the length limit belong to none.

        Args:
            parts: name (in capitals) -> spans of characters, couples (start, end): a function from
                a pair to its spans, or a list of spans for each pair.
            of: "D" (passages, with their prefix) or "Q" (queries).

        Raises:
            InputError: a span is not inside its text, parts overlap, or no pair has any character
                of a part.

        >>> row = {"query": "warm tea", "text": "Tea: it is hot.", "grade": 1}
        >>> pairs = PairSet.from_frame([row])
        >>> titled = pairs.with_parts({"TITLE": lambda pair: [(0, pair.text.index(":"))]})
        >>> titled[0].parts
        (PartSpan(name='TITLE', of='D', start=0, end=3),)
        """
        pairs = own.labelled(self.pairs, parts, of)
        named = {name: str(part) for name, part in own.own_parts(pairs).items()}
        return replace(self, pairs=pairs, sampling={**self.sampling, "own_parts": named})

    @typed
    def with_fields(
        self, collection: Collection | Sequence[Collection], fields: Sequence[str]
    ) -> PairSet:
        """The same pairs, with the fields of their passages as parts of D: ``title`` is ``TITLE``.

        Args:
            collection: which the pairs were chosen from, or several of them; pairs of others stay
                as they are.
            fields: some of those that make up its passages, such as title and text (``body`` and
                the other names of a text are the text as well).

        Raises:
            InputError: the collection has no such field, or its texts are not those of the pairs.

        >>> from matchlens.corpora import choose, frame
        >>> passages = {"d1": {"title": "Tea", "text": "It is hot."}}
        >>> collection = frame.load({"q1": "warm tea"}, {"q1": {"d1": 1}}, passages)
        >>> pairs = choose(collection).with_fields(collection, ["title", "text"])
        >>> [(span.name, span.start, span.end) for span in pairs[0].parts]
        [('TITLE', 0, 3), ('TEXT', 4, 14)]
        """
        prefix = str(self.sampling.get("passage_prefix", ""))
        texts = {
            one.name: one.field_texts({p.docid for p in self.pairs if p.collection == one.name})
            for one in ([collection] if isinstance(collection, Collection) else collection)
        }
        names = [field.strip() for field in fields]
        return self.with_parts(
            {name.upper(): own.field_spans(name, texts, prefix) for name in names}
        )

    @staticmethod
    @typed
    def from_frame(
        frame: Any,
        qrels: Any = None,
        *,
        ideal: str | None = None,
        name: str = "frame",
        query_prefix: str = "",
        passage_prefix: str = "",
    ) -> PairSet:
        """The pairs of a DataFrame: a row for each query with a candidate passage.

        Columns: query and text; qid and docno (made up where there are none); perhaps grade or
        label, score, rank, kind. Other names of them are known (query_id, doc_id, docid, pid,
        passage, contents, relevance, ...). A title is ignored: join it to the text. All rows
        are candidates, ordered by score, else by rank, else in row order. Rows without a grade are
        unjudged (grade 0). A frame without grades may go wherever none is needed. Odd rows are left
        out or refused by the rule for files. A frame made of pairs, ``pd.DataFrame(pairs)``, is
        read as those pairs, easy negatives among them; their ideal ranking is that of the rows
        (:meth:`filter` keeps one by all judgements).

        Args:
            frame: the pairs.
            qrels: all judgements of the queries, instead of grades in the frame: a DataFrame, a
                dict or records, as ``matchlens.frame.load`` takes them.
            ideal: "sample" (grades of the candidates) or "full" (the queries' qrels); None for
                "full" with qrels and "sample" otherwise.
            name: of the collection.
            query_prefix: put before each query.
            passage_prefix: put before each passage.

        Raises:
            InputError: a column is missing, records contradict each other, or an option came for
                a frame made of pairs.

        >>> import pandas as pd
        >>> rows = [("warm tea", "Tea is hot.", 1), ("warm tea", "Rust is red.", 0)]
        >>> PairSet.from_frame(pd.DataFrame(rows, columns=["query", "text", "label"]))
        <PairSet: 2 pairs of 1 query, 'frame'>
        """
        if (pairs := frames.made_of_pairs(frame)) is not None:
            if (qrels, ideal, name, query_prefix, passage_prefix) != (None, None, "frame", "", ""):
                raise InputError("an option came for a frame made of pairs; expected it alone")
            return as_pairs(pairs)
        collection, graded, rows = frames.candidates_of(frame, qrels, name=name)
        options = Options(
            per_grade=None,
            depth=max(rows, 1),
            ideal=ideal or ("sample" if qrels is None else "full"),
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
        )
        options = replace(checked(collection, options), candidates="given")
        chosen = choose_with(collection, options if graded else replace(options, ideal="none"))
        pairs = tuple(replace(pair, judged=pair.judged and graded) for pair in chosen.pairs)
        return replace(chosen, pairs=pairs, sampling={**chosen.sampling, "depth": None})

    @staticmethod
    @typed
    def join(sets: Sequence[PairSet]) -> PairSet:
        """Several collections side by side, in the order given; counts are added up.

        Args:
            sets: chosen with the same options from collections of different names; own parts are
                those of all of them.

        Raises:
            InputError: there is no set, two have a collection's name in common, or they were
                chosen by different options.

        >>> from matchlens.corpora import choose, demo
        >>> len(PairSet.join([choose(demo.load())]).pairs)
        384
        """
        if not sets:
            raise InputError("no set of pairs came; expected at least one: choose some pairs first")
        taken: set[str] = set()
        for number, pair_set in enumerate(sets, 1):
            names = {name for name, _ in pair_set.ideals}
            if names & taken:
                raise InputError(
                    f"two collections are called {shown(min(names & taken))}; expected different "
                    "names: load one of them with another name"
                )
            taken |= names
            first, other = sets[0].sampling, pair_set.sampling
            for option in {**first, **other}:
                if option != "own_parts" and first.get(option) != other.get(option):
                    raise InputError(
                        f"set 1 and set {number} were chosen differently: {option} is "
                        f"{first.get(option)!r} and {other.get(option)!r}; expected one way: "
                        "choose all with the same options"
                    )
        pairs = tuple(pair for pair_set in sets for pair in pair_set.pairs)
        sampling = dict(sets[0].sampling)
        if parts := own.own_parts(pairs):
            sampling["own_parts"] = {name: str(part) for name, part in parts.items()}
        counts: Counter[str] = Counter()
        for pair_set in sets:
            counts.update(pair_set.counts)
        return PairSet(
            pairs=pairs,
            ideals={key: grades for pair_set in sets for key, grades in pair_set.ideals.items()},
            sampling=sampling,
            counts=dict(counts),
            sources=tuple(source for pair_set in sets for source in pair_set.sources),
        )


@typed
def choose(
    collection: Collection,
    *,
    per_grade: int | None = PER_GRADE,
    all_judged: bool = False,
    depth: int | None = None,
    easy: int = 0,
    seed: int = 0,
    ideal: str | None = None,
    queries: int | None = None,
    query_prefix: str = "",
    passage_prefix: str = "",
) -> PairSet:
    """Chooses the candidate passages of each query: a sample per grade, all judged, or a run's top.

    A query's sample of judged passages depends on the seed, the query's id, and those passages'
    ids, grades and texts alone: not on the order of files, on other queries, or on the machine. A
    larger `per_grade` or `queries` contains a smaller one. `counts` of the result:

    - every topic once: `topics` = `queries` + `topics_without_qrels` + `empty_queries` +
      `queries_without_candidates` + `queries_without_texts` +
      `queries_without_positive_gain` + `queries_not_drawn` (beyond `queries`);
    - `pairs`, of them `unjudged` (of a run) and `easy_negatives`;
    - of the judged passages of the queries in the set: `duplicates_removed`, `dropped_by_cap`,
      `judged_outside_the_run`; `negative_grades` of the pairs' passages, taken as 0;
    - what is odd in the collection, by the names of `oddities.NOTES`; `notes` of the result says
      it in words.

    A judged or retrieved passage without a text is left out of the candidates; the full ideal
    ranking counts it, that of the sample does not. So is a query's own passage, where the query is
    one of the passages.

    Args:
        collection: where queries, grades and passages come from.
        per_grade: largest number of passages for each grade and query (negative grades count as
            0), after duplicates are removed: of judged passages with the same words in the same
            order the one with the highest grade, then the smallest id, stays.
        all_judged: all judged passages, duplicates too, instead.
        depth: number of passages from the top of the run, instead; unjudged ones get grade 0.
        easy: number of random passages added to each query, neither judged for it nor in its run
            nor equal in text to a candidate: drawn for each query from a pool that the queries
            share, the first `EASY_POOL` passages (or twice that, and so on, until twice `easy` are
            left) of the collection's random order.
        seed: another seed, another sample.
        ideal: "sample" (grades of the candidates, easy negatives apart) or "full" (all qrels of
            the query); None for "full" with `depth` and "sample" otherwise.
        queries: largest number of queries, drawn from those with candidates and positive gain.
        query_prefix: put before each query.
        passage_prefix: put before each passage.

    Raises:
        InputError: options contradict each other or are out of range; records contradict each
            other; a text is not Unicode; no pair is left.

    >>> from matchlens.corpora import demo
    >>> chosen = choose(demo.load(), per_grade=1, queries=2)
    >>> [pair.grade for pair in chosen.pairs if pair.qid == chosen.pairs[0].qid].count(3)
    1
    >>> chosen.counts["pairs"], chosen.counts["dropped_by_cap"]
    (8, 16)
    """
    options = Options(
        per_grade=per_grade,
        all_judged=all_judged,
        depth=depth,
        easy=easy,
        seed=seed,
        ideal=ideal,
        queries=queries,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
    )
    return choose_with(collection, checked(collection, options))


def choose_with(collection: Collection, options: Options) -> PairSet:
    """The pairs that checked options choose."""
    collection = tidy(collection)
    odd = Oddities(collection.oddities)
    candidates, texts, pools = readable(collection, options, odd)
    counts = Counter({**dict.fromkeys(COUNTS, 0), **odd.counts})
    pairs: list[Pair] = []
    ideals: dict[tuple[str, str], tuple[int, ...]] = {}
    for qid, possible in candidates.items():
        kept = sampled(qid, possible, texts, options, counts)
        grades = [candidate.grade for candidate in kept if options.ideal != "none"]
        if options.ideal == "full":
            grades = [max(grade, 0) for grade in collection.qrels[qid].values()]
        ideals[collection.name, qid] = tuple(sorted(grades, reverse=True))
        negatives = easy_negatives(qid, collection, possible, pools.get(qid, []), texts, options)
        judgements = collection.qrels[qid]
        counts["negative_grades"] += sum(
            judgements.get(candidate.docid, 0) < 0 for candidate in kept
        )
        counts["unjudged"] += sum(not candidate.judged for candidate in kept)
        counts["easy_negatives"] += len(negatives)
        for candidate in (*kept, *(Candidate(docid, EASY_GRADE, False) for docid in negatives)):
            kind = collection.kinds.get((qid, candidate.docid), "")
            pairs.append(
                Pair(
                    qid=qid,
                    docid=candidate.docid,
                    query=options.query_prefix + collection.queries[qid],
                    text=options.passage_prefix + texts[candidate.docid],
                    grade=candidate.grade,
                    judged=candidate.judged,
                    kind=EASY_KIND if candidate.grade == EASY_GRADE else kind,
                    collection=collection.name,
                )
            )
    counts["pairs"] = len(pairs)
    source: dict[str, object] = {"collection": collection.name, **collection.source}
    if examples := {kind: texts_ for kind, texts_ in odd.examples.items() if texts_}:
        source["examples"] = examples
    return PairSet(
        pairs=tuple(pairs),
        ideals=ideals,
        sampling=asdict(options),
        counts=dict(counts),
        sources=(source,),
    )


def as_pairs(given: Any) -> Any:
    """A set of the pairs in a DataFrame or a list; anything else is returned as it came.

    Its ideal rankings are those of the sample, whatever set its pairs were taken from:
    :meth:`PairSet.filter` takes some of a set and keeps them.

    Args:
        given: a DataFrame, pairs, or (query, passage) couples, which have no grades.

    Raises:
        InputError: the pairs cannot be used.

    >>> len(as_pairs([("warm tea", "Tea is hot."), ("warm tea", "Rust is red.")]))
    2
    """
    if frames.is_frame(given):
        return PairSet.from_frame(given)
    if not isinstance(given, list | tuple) or not given:
        return given
    odd = Oddities()
    pairs = listed(frames.pairs_of(given), Door("pairs, item"), odd)
    ideals, names = sample_ideals(pairs), dict.fromkeys(pair.collection for pair in pairs)
    options = dict.fromkeys(("per_grade", "depth", "easy_pool", "queries"))
    sources: list[dict[str, object]] = [{"collection": name, "format": "list"} for name in names]
    if odd.examples:
        sources[0] |= {"examples": odd.examples}
    return PairSet(
        pairs=tuple(pairs),
        ideals=ideals,
        sampling={**options, "candidates": "given", "ideal": "sample", "easy": 0, "seed": 0},
        counts={"queries": len(ideals), "pairs": len(pairs), **odd.counts},
        sources=tuple(sources),
    )


LEAST_DEPTH = 10
"""Passages of a run that every query keeps; beyond that queries are dropped."""


@typed
def thin(
    pairs: PairSet, most: int, *, seed: int = 0, easy: bool = False
) -> tuple[PairSet, list[int]]:
    """Limit the number of pairs by drawing whole queries; all pairs where they are few.

    Judged passages: queries are drawn and keep all their passages, so that rankings are as hard as
    in the full sample. The first query that does not fit keeps fewer, evenly over its grades;
    where not even one of each grade fits, it is left out. From a run every query keeps its first d
    passages, d at least 10 and as large as ``most`` allows, with its easy negatives where these
    stay; if that is still too many, queries are drawn. An ideal ranking of the sample becomes that
    of the smaller sample.

    Args:
        pairs: the chosen pairs.
        most: largest number of pairs, at least 1.
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
    return pairs._only(tuple(pairs.pairs[row] for row in rows)), rows


def _fewer(
    pairs: PairSet, groups: dict[tuple[str, str], list[int]], most: int, seed: int
) -> dict[tuple[str, str], list[int]]:
    order = Draw(seed, "queries").order({qid for _, qid in groups})
    place = {qid: number for number, qid in enumerate(order)}
    from_run = pairs.sampling.get("candidates") == "run"
    if from_run:
        groups = _shallower(pairs, groups, most)
    kept: dict[tuple[str, str], list[int]] = {}
    free = most
    for key in sorted(groups, key=lambda key: (place[key[1]], key[0])):
        if len(groups[key]) > free:
            if not from_run and (part := _evenly(pairs.pairs, groups[key], free, seed)):
                kept[key] = part
            break
        kept[key] = groups[key]
        free -= len(groups[key])
    return {key: kept[key] for key in groups if key in kept}


def _shallower(
    pairs: PairSet, groups: dict[tuple[str, str], list[int]], most: int
) -> dict[tuple[str, str], list[int]]:
    """The first d passages of each query, d as large as the number of pairs allows.

    Easy negatives are no passages of the run: all of them stay, and count.
    """
    easy = {
        key: [row for row in group if pairs.pairs[row].grade == EASY_GRADE]
        for key, group in groups.items()
    }
    run = {key: [row for row in group if row not in easy[key]] for key, group in groups.items()}
    free, depth = most - sum(map(len, easy.values())), LEAST_DEPTH
    while sum(min(len(group), depth + 1) for group in run.values()) <= free:
        depth += 1
    return {key: [*group[:depth], *easy[key]] for key, group in run.items()}


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
