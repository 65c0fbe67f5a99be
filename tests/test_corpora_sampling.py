"""How candidates are chosen: slow references, properties, and what is refused."""

import hashlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora_files import Memory
from matchlens.corpora import EASY_GRADE, Pair, PairSet, choose, thin
from matchlens.corpora import sampling as sampling_module
from matchlens.errors import InputError


def memory(judged: dict[str, dict[str, int]], more: int = 0, **options) -> Memory:
    """Every passage's text is its id unless `passages` says otherwise."""
    ids = {docid for grades in judged.values() for docid in grades}
    ids |= {docid for docids in (options.get("run") or {}).values() for docid in docids}
    ids |= {f"extra{number}" for number in range(more)}
    passages = {docid: f"text of {docid}" for docid in sorted(ids)} | options.pop("passages", {})
    queries = options.pop("queries", {qid: f"words of {qid}" for qid in judged})
    return Memory(queries, judged, passages, **options)


def by_query(chosen: PairSet) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = {}
    for pair in chosen.pairs:
        groups.setdefault(pair.qid, []).append(pair)
    return groups


def ids(pairs) -> list[str]:
    return [pair.docid for pair in pairs]


JUDGED = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3", "q4"]),
    st.dictionaries(st.integers(0, 60).map("d{}".format), st.integers(-2, 3), min_size=1),
    min_size=1,
).filter(lambda judged: any(grade > 0 for one in judged.values() for grade in one.values()))
SEEDS = st.integers(-3, 2**70)


@given(judged=JUDGED, seed=SEEDS, cap=st.integers(1, 5), same=st.integers(1, 50))
def test_a_sample_is_bounded_distinct_judged_and_exhausts_small_grades(judged, seed, cap, same):
    texts = {f"d{number}": f" text  {number % same}\n" for number in range(61)}
    chosen = choose(memory(judged, passages=texts), per_grade=cap, seed=seed)
    for qid, pairs in by_query(chosen).items():
        grades = {docid: max(grade, 0) for docid, grade in judged[qid].items()}
        assert ids(pairs) == sorted(set(ids(pairs)))
        assert all(grades[pair.docid] == pair.grade and pair.judged for pair in pairs)
        assert len({" ".join(pair.text.split()) for pair in pairs}) == len(pairs)
        # the slow reference: of equal texts the best grade, then the smallest id
        kept = {}
        for docid in sorted(grades, key=lambda docid: (-grades[docid], docid)):
            kept.setdefault(" ".join(texts[docid].split()), docid)
        available = Counter(grades[docid] for docid in kept.values())
        taken = Counter(pair.grade for pair in pairs)
        assert taken == {grade: min(cap, count) for grade, count in available.items()}
        assert set(ids(pairs)) <= set(kept.values())
        assert chosen.ideals["memory", qid] == tuple(
            sorted((pair.grade for pair in pairs), reverse=True)
        )


@given(judged=JUDGED, seed=SEEDS, data=st.data())
def test_a_sample_does_not_hang_on_order_other_queries_or_the_name(judged, seed, data):
    first = by_query(choose(memory(judged), per_grade=2, seed=seed))
    qids = data.draw(st.permutations(sorted(judged)))
    shuffled = {qid: dict(data.draw(st.permutations(sorted(judged[qid].items())))) for qid in qids}
    second = choose(replace_name(memory(shuffled), "another"), per_grade=2, seed=seed)
    assert list(by_query(second)) == [qid for qid in qids if qid in first]  # collection order
    for qid, pairs in by_query(second).items():
        assert ids(pairs) == ids(first[qid])
    for qid, pairs in first.items():
        alone = choose(memory({qid: judged[qid]}), per_grade=2, seed=seed)
        assert alone.pairs == tuple(pairs)


def replace_name(collection: Memory, name: str) -> Memory:
    object.__setattr__(collection, "name", name)
    return collection


@given(judged=JUDGED, seed=SEEDS, cap=st.integers(1, 6))
def test_a_larger_cap_contains_a_smaller_one(judged, seed, cap):
    small = choose(memory(judged), per_grade=cap, seed=seed)
    large = choose(memory(judged), per_grade=cap + 1, seed=seed)
    assert set(small.pairs) <= set(large.pairs)


def test_the_seed_matters_and_grades_are_drawn_apart():
    judged = {"q": {f"d{number:03d}": number % 2 for number in range(200)}}
    samples = {tuple(ids(choose(memory(judged), seed=seed).pairs)) for seed in range(20)}
    assert len(samples) == 20
    # were one order used for both grades of twin ids, the picks would be the same numbers
    twins = {"q": {f"{letter}{n:02d}": n % 4 for letter in "ab" for n in range(80)}}
    pairs = choose(memory(twins), per_grade=5).pairs
    numbers = [{int(p.docid[1:]) // 4 for p in pairs if p.grade == grade} for grade in (1, 2)]
    assert numbers[0] != numbers[1]


def test_a_sample_is_uniform():
    judged = {"q": {f"d{number}": 1 for number in range(10)}}
    counts: Counter[str] = Counter()
    for seed in range(1000):
        counts.update(ids(choose(memory(judged), per_grade=3, seed=seed).pairs))
    assert all(abs(counts[f"d{number}"] - 300) < 5 * 14.5 for number in range(10)), counts


def test_the_sample_is_the_same_on_every_machine():
    judged = {"q": {f"d{number:02d}": 1 for number in range(30)}}
    sample = ids(choose(memory(judged), per_grade=4, seed=7).pairs)
    keys = {
        docid: hashlib.sha256(f'[7, "grade", "q", 1]{docid}'.encode()).hexdigest()
        for docid in judged["q"]
    }
    assert sample == sorted(sorted(keys, key=lambda docid: keys[docid])[:4])
    assert sample == ["d01", "d13", "d25", "d27"]


def test_duplicates_leave_the_best_grade_and_then_the_smallest_id():
    judged = {"q": {"a": 0, "b": 2, "c": 2, "d": 1}}
    texts = {"a": "same words", "b": "same\twords ", "c": "same  words", "d": "Same words"}
    chosen = choose(memory(judged, passages=texts))
    assert ids(chosen.pairs) == ["b", "d"]
    assert chosen.counts["duplicates_removed"] == 2
    for options in ({"all_judged": True}, {"depth": 4}):
        kept = choose(memory(judged, passages=texts, run={"q": list("dcba")}), **options)
        assert len(kept.pairs) == 4
        assert kept.counts["duplicates_removed"] == 0


def test_negative_grades_count_as_zero_and_share_its_cap():
    judged = {"q": {"a": -2, "b": -1, "c": 0, "d": 1}}
    chosen = choose(memory(judged), all_judged=True)
    assert [pair.grade for pair in chosen.pairs] == [0, 0, 0, 1]
    assert chosen.counts["negative_grades"] == 2
    assert chosen.ideals["memory", "q"] == (1, 0, 0, 0)
    assert len(choose(memory(judged), per_grade=1).pairs) == 2


def test_a_run_keeps_its_order_and_marks_the_unjudged():
    judged = {"q": {"a": 1, "b": 3, "c": -1, "d": 2}}
    collection = memory(judged, run={"q": ["x", "a", "c", "b", "y"]}, kinds={("q", "a"): "exact"})
    chosen = choose(collection, depth=3)
    assert [(p.docid, p.grade, p.judged, p.kind) for p in chosen.pairs] == [
        ("x", 0, False, ""),
        ("a", 1, True, "exact"),
        ("c", 0, True, ""),
    ]
    assert chosen.ideals["memory", "q"] == (3, 2, 1, 0)
    assert chosen.sampling["ideal"] == "full"
    assert chosen.counts["judged_outside_the_run"] == 2
    assert chosen.counts["unjudged"] == 1
    assert choose(collection, depth=3, ideal="sample").ideals["memory", "q"] == (1, 0, 0)
    assert len(choose(collection, depth=99).pairs) == 5
    assert choose(collection, per_grade=1, ideal="full").ideals["memory", "q"] == (3, 2, 1, 0)


def test_every_topic_is_counted_once():
    judged = {"q1": {"a": 1}, "q2": {"a": 0, "b": -1}, "q3": {"a": 2}, "q4": {"b": 2}}
    topics = dict.fromkeys(["q0", *judged, "q5"], "words")
    collection = memory(judged, queries=topics, run={"q1": ["a"], "q2": ["a"], "q4": ["a", "b"]})
    counts = choose(collection, depth=2, queries=1).counts
    assert counts["topics"] == 6
    assert counts["topics_without_qrels"] == 2
    assert counts["queries_without_candidates"] == 1
    assert counts["queries_without_positive_gain"] == 1
    assert counts["queries_not_drawn"] == 1
    assert counts["queries"] == 1
    # q4's positive passage is second: at depth 1 the sample has no gain, the full qrels have
    assert choose(collection, depth=1, ideal="sample").counts["queries"] == 1
    assert choose(collection, depth=1, ideal="full").counts["queries"] == 2


@given(judged=JUDGED, seed=SEEDS, n=st.integers(1, 5), data=st.data())
def test_queries_are_drawn_stably_and_stay_in_order(judged, seed, n, data):
    few = choose(memory(judged), seed=seed, queries=n)
    every = choose(memory(judged), seed=seed)
    usable = list(by_query(every))
    assert len(by_query(few)) == min(n, len(usable))
    assert list(by_query(few)) == [qid for qid in usable if qid in by_query(few)]
    assert set(few.pairs) <= set(every.pairs)
    assert set(few.pairs) <= set(choose(memory(judged), seed=seed, queries=n + 1).pairs)
    order = data.draw(st.permutations(sorted(judged)))
    shuffled = choose(memory({qid: judged[qid] for qid in order}), seed=seed, queries=n)
    assert set(shuffled.pairs) == set(few.pairs)


def test_only_needed_passages_are_asked_for():
    judged = {f"q{number}": {f"d{number}": 1} for number in range(9)}
    collection = memory(judged, more=50)
    chosen = choose(collection, queries=2)
    assert collection.asked == [set(ids(chosen.pairs))]


def test_easy_negatives_are_random_unjudged_and_not_in_the_run():
    judged = {f"q{number}": {f"d{number}": 1, "common": 0} for number in range(5)}
    run = {qid: [f"run of {qid}".replace(" ", "_")] for qid in judged}
    collection = memory(judged, more=100, run=run, passages={"twin": "text of d0"})
    chosen = choose(collection, easy=20, seed=3)
    chosen_more = choose(collection, easy=30, seed=3)
    drawn = set()
    for qid, pairs in by_query(chosen).items():
        easy = [pair for pair in pairs if pair.grade == EASY_GRADE]
        assert len({pair.docid for pair in easy}) == 20
        assert pairs[-20:] == sorted(easy, key=lambda pair: pair.docid)
        assert all(pair.kind == "easy" and not pair.judged for pair in easy)
        assert not {*judged[qid], *run[qid]} & set(ids(easy))
        assert qid != "q0" or "twin" not in ids(easy)
        assert EASY_GRADE not in chosen.ideals["memory", qid]
        drawn.add(tuple(ids(easy)))
        assert set(easy) <= set(by_query(chosen_more)[qid])
    assert len(drawn) == 5  # each query draws for itself
    assert chosen.counts["easy_negatives"] == 100
    assert chosen.counts["unjudged"] == 0
    alone = choose(
        replace_name(memory({"q1": judged["q1"]}, run={"q1": run["q1"]}), "memory"), seed=3
    )
    assert alone.pairs == tuple(p for p in by_query(chosen)["q1"] if p.grade != EASY_GRADE)


def test_easy_negatives_of_a_query_do_not_hang_on_the_others():
    judged = {f"q{number}": {f"d{number}": 1} for number in range(4)}
    big = {"q9": {f"big{number}": 1 for number in range(1500)}}
    passages = {docid: f"text of {docid}" for docid in big["q9"]}
    first = memory(judged, more=3000, passages=passages)
    second = memory({**judged, **big}, more=3000)
    assert set(choose(first, easy=5).pairs) <= set(choose(second, easy=5).pairs)


def test_a_pool_grows_where_a_query_has_many_judged_passages(monkeypatch):
    monkeypatch.setattr(sampling_module, "EASY_POOL", 4)
    judged = {"q": {f"d{number:02d}": 1 for number in range(60)}}
    chosen = choose(memory(judged, more=40), easy=10)
    assert chosen.counts["easy_negatives"] == 10
    assert chosen.sampling["easy_pool"] == 4


def test_a_pool_is_large_enough_even_if_it_begins_with_the_judged(monkeypatch):
    monkeypatch.setattr(sampling_module, "EASY_POOL", 4)
    monkeypatch.setattr(Memory, "random_docids", lambda self, n, seed: sorted(self.passages)[:n])
    judged = {"q": {f"d{number:02d}": 1 for number in range(60)}}
    assert choose(memory(judged, more=40), easy=10).counts["easy_negatives"] == 10


def test_easy_negatives_differ_in_text_from_candidates_and_from_each_other():
    passages = {"twin": " text  of a", "one": "new words", "two": "new\twords", "blank": " "}
    collection = memory({"q": {"a": 1}}, more=2, passages=passages)
    for seed in range(9):
        easy = ids(choose(collection, easy=3, seed=seed).pairs)[1:]
        assert {"extra0", "extra1"} < set(easy)
        assert set(easy) & {"one", "two"}
    with pytest.raises(InputError, match="only 3 passages"):
        choose(collection, easy=4)


def test_too_few_easy_negatives_are_refused():
    with pytest.raises(InputError, match=r"only 3 passages .* query 'q'.*ask for fewer"):
        choose(memory({"q": {"a": 1}}, more=3), easy=4)


def test_prefixes_and_names_reach_the_pairs_and_the_record():
    chosen = choose(memory({"q": {"a": 1}}), query_prefix="query: ", passage_prefix="passage: ")
    (pair,) = chosen.pairs
    assert (pair.query, pair.text, pair.collection) == (
        "query: words of q",
        "passage: text of a",
        "memory",
    )
    assert chosen.sampling["query_prefix"] == "query: "
    assert chosen.sources == ({"collection": "memory", "made": "in a test"},)


def test_every_option_is_recorded():
    chosen = choose(memory({"q": {"a": 1}}), seed=5)
    assert chosen.sampling == {
        "candidates": "per_grade",
        "per_grade": 10,
        "all_judged": False,
        "depth": None,
        "easy": 0,
        "easy_pool": None,
        "seed": 5,
        "ideal": "sample",
        "queries": None,
        "query_prefix": "",
        "passage_prefix": "",
    }
    recorded = choose(memory({"q": {"a": 1}}), all_judged=True).sampling
    assert (recorded["candidates"], recorded["per_grade"]) == ("all_judged", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_grade": 0}, "per_grade is 0; expected 1 or more"),
        ({"depth": 0}, "depth is 0"),
        ({"depth": -3}, "depth is -3"),
        ({"easy": -1}, "easy is -1; expected 0 or more"),
        ({"queries": 0}, "queries is 0"),
        ({"ideal": "best"}, "ideal is 'best'"),
        ({"all_judged": True, "depth": 3}, "all_judged and depth came together"),
        ({"per_grade": 3, "depth": 3}, "depth and per_grade came together"),
        ({"per_grade": 3, "all_judged": True}, "all_judged and per_grade came together"),
        ({"per_grade": None}, "neither all_judged nor depth"),
    ],
)
def test_options_out_of_range_or_at_odds_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        choose(memory({"q": {"a": 1}}, run={"q": ["a"]}), **options)


def test_no_pairs_left_says_why():
    topics = {"q": "x", "r": "y"}
    with pytest.raises(
        InputError, match=r"of 2 topics \(topics without judgements: 1 .*positive grade: 1"
    ):
        choose(memory({"q": {"a": 0, "b": -1}}, queries=topics))


def test_texts_that_are_not_unicode_are_refused():
    with pytest.raises(InputError, match="passage 'a' of collection 'memory' is not Unicode"):
        choose(memory({"q": {"a": 1}}, passages={"a": "\ud800"}))
    with pytest.raises(InputError, match="query 'q' of collection 'memory' is not Unicode"):
        choose(memory({"q": {"a": 1}}, queries={"q": "\ud800"}))


def test_a_thinner_set_counts_its_own_pairs():
    chosen = choose(memory({f"q{n}": {"a": 1, "b": 0} for n in range(4)}, more=9), easy=2)
    few, _ = thin(chosen, 4)
    assert (chosen.counts["pairs"], chosen.counts["easy_negatives"]) == (16, 8)
    assert [few.counts[name] for name in ("queries", "pairs", "easy_negatives")] == [2, 4, 0]


def test_own_parts_are_joined_in_either_order():
    one, two = (choose(memory({"q": {"a": 1}}, name=name)) for name in ("one", "two"))
    parted = one.with_parts({"FIRST": lambda pair: [(0, 1)]})
    for both in (parted + two, two + parted):
        assert both.sampling["own_parts"] == {"FIRST": "D"}
        assert len(both) == 2
    with pytest.raises(InputError, match="depth is None and 1"):
        one + replace(two, sampling={**two.sampling, "depth": 1})
    with pytest.raises(InputError, match="more is None and 1"):
        one + replace(two, sampling={**two.sampling, "more": 1})
    with pytest.raises(InputError, match="more is 1 and None"):
        replace(two, sampling={**two.sampling, "more": 1}) + one


def test_collections_stand_side_by_side():
    one = choose(memory({"q": {"a": 1}}, name="one"))
    two = choose(memory({"q": {"a": 2, "b": 0}}, name="two"))
    both = one + two
    assert both == PairSet.join([one, two])
    assert both.pairs == one.pairs + two.pairs
    assert both.ideals == {("one", "q"): (1,), ("two", "q"): (2, 0)}
    assert both.counts["pairs"] == 3
    assert [source["collection"] for source in both.sources] == ["one", "two"]
    assert both.sampling == one.sampling
    with pytest.raises(InputError, match="two collections are called 'one'"):
        both + one
    with pytest.raises(InputError, match="no set of pairs"):
        PairSet.join([])
    other = choose(memory({"q": {"a": 2}}, name="three"), seed=1)
    with pytest.raises(
        InputError, match="set 1 and set 2 were chosen differently: seed is 0 and 1"
    ):
        one + other


def test_a_pair_set_cannot_be_changed():
    chosen = choose(memory({"q": {"a": 1}}))
    with pytest.raises(AttributeError):
        chosen.pairs = ()
    assert replace(chosen, pairs=()).pairs == ()
