"""The TREC Deep Learning files, where MATCHLENS_TREC_DL names their folder."""

import math
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from matchlens.corpora import PairSet, choose, trec
from matchlens.errors import MatchlensWarning

pytestmark = [pytest.mark.real, pytest.mark.slow]


@cache
def judged(trec_dl: Path, year: str):
    passages = [trec_dl / f"{year}.passages.jsonl.gz"]
    return trec.load(trec_dl / f"{year}.topics.tsv", trec_dl / f"{year}.qrels", passages)


@pytest.mark.slow
@pytest.mark.parametrize(("year", "queries", "pairs"), [("dl19", 43, 9260), ("dl20", 54, 11386)])
def test_every_judgement_has_its_passage(trec_dl, year, queries, pairs):
    chosen = choose(judged(trec_dl, year), all_judged=True)
    assert (chosen.counts["queries"], chosen.counts["pairs"]) == (queries, pairs)
    assert all(pair.text.strip() for pair in chosen.pairs)


def test_ten_a_grade_is_what_was_measured(trec_dl):
    chosen = choose(judged(trec_dl, "dl19"))
    assert chosen.counts["queries"] == 43
    assert chosen.counts["pairs"] == 1424
    assert chosen.counts["duplicates_removed"] == 2
    assert max(Counter((pair.qid, pair.grade) for pair in chosen.pairs).values()) == 10
    both = PairSet.join([chosen, choose(judged(trec_dl, "dl20"))])
    assert both.counts["queries"] == 97
    assert both.counts["pairs"] == 1424 + 1690


def test_the_random_ranking_of_two_and_of_ten_a_grade(trec_dl):
    """The science page's .788 and .483: the mean nDCG@10 of all candidates as one tie group."""

    def random_ndcg(chosen: PairSet) -> float:
        def discounts(n):
            return [1 / math.log2(rank + 2) for rank in range(min(n, 10))]

        values = []
        for ideal in chosen.ideals.values():
            best = sum(d * g for d, g in zip(discounts(len(ideal)), ideal, strict=False))
            mean = sum(ideal) / len(ideal)
            values.append(mean * sum(discounts(len(ideal))) / best)
        return sum(values) / len(values)

    collection = judged(trec_dl, "dl19")
    assert random_ndcg(choose(collection, per_grade=2)) == pytest.approx(0.788, abs=0.003)
    assert random_ndcg(choose(collection)) == pytest.approx(0.483, abs=0.003)
    assert random_ndcg(choose(collection, all_judged=True)) == pytest.approx(0.261, abs=0.003)


def test_a_run_of_a_hundred(trec_dl):
    with pytest.warns(MatchlensWarning, match="3 passages with another text"):
        collection = trec.load(
            trec_dl / "dl19.topics.tsv",
            trec_dl / "dl19.qrels",
            [trec_dl / "dl19.passages.jsonl.gz", trec_dl / "dl19.bm25-top100.passages.jsonl.gz"],
            trec_dl / "dl19.bm25-top100.run.gz",
        )
    chosen = choose(collection, depth=100)
    assert (chosen.counts["queries"], chosen.counts["pairs"]) == (43, 4300)
    assert chosen.sampling["ideal"] == "full"
    assert sum(len(grades) for grades in chosen.ideals.values()) == 9260
    easy = choose(collection, easy=20, queries=3)
    assert easy.counts["easy_negatives"] == 60
