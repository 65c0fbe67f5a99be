"""Pairs and collections from data frames, dicts, lists of records, and folders in BEIR's form."""

import gzip
import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import ir_datasets
import ir_measures
import numpy as np
import pandas as pd
import pytest
from ir_datasets.formats import GenericDoc, GenericQuery

import matchlens
from corpora_files import GOOD, Docs, Qrels, Queries, Scored, load, write
from matchlens import InputError, Pair, PairSet
from matchlens.corpora import beir, choose, frame, irds
from matchlens.corpora.collection import Collection
from matchlens.corpora.frame import pairs_of
from matchlens.corpora.pairs import as_pairs

ROWS = [
    ("q1", "warm tea", "d1", "tea is warm", 2, 3.0),
    ("q1", "warm tea", "d2", "a red dog", 0, 4.0),
    ("q2", "a river", "d3", "the river is wide", 1, 1.5),
    ("q2", "a river", "d2", "a red dog", 0, 1.0),
]
COLUMNS = ["qid", "query", "docno", "text", "grade", "score"]
TOPICS = {"q1": "warm tea", "q2": "a river"}
QRELS = {"q1": {"d1": 2, "d2": 0}, "q2": {"d3": 1, "d2": 0}}
PASSAGES = {"d1": "tea is warm", "d2": "a red dog", "d3": "the river is wide"}
RUN = {"q1": {"d2": 4.0, "d1": 3.0}, "q2": {"d3": 1.5, "d2": 1.0}}


def rows(**changed) -> pd.DataFrame:
    """The rows as a frame; a column replaced by values, or dropped where None."""
    made = pd.DataFrame(ROWS, columns=COLUMNS)
    for name, values in changed.items():
        made = made.drop(columns=name) if values is None else made.assign(**{name: values})
    return made


def facts(pairs: PairSet) -> list[tuple]:
    return [(p.qid, p.docid, p.query, p.text, p.grade, p.judged) for p in pairs]


# --- pairs of a frame


def test_the_pairs_of_a_frame_are_those_of_the_same_records_in_a_collection():
    pairs = PairSet.from_frame(rows())
    collection = frame.load(TOPICS, QRELS, PASSAGES, RUN)
    assert facts(pairs) == facts(choose(collection, depth=9, per_grade=None, ideal="sample"))
    assert pairs.ideals == {("frame", "q1"): (2, 0), ("frame", "q2"): (1, 0)}
    assert [pair.docid for pair in pairs] == ["d2", "d1", "d3", "d2"]  # by score
    assert pairs.sampling["candidates"] == "given"
    json.dumps([dict(pairs.sampling), dict(pairs.counts), *map(dict, pairs.sources)])


@pytest.mark.parametrize("form", ["dicts", "named tuples", "a generator", "spaces around texts"])
def test_records_of_pairs_keep_their_ids_and_grades(form):
    given = {
        "dicts": lambda: rows().to_dict("records"),
        "named tuples": lambda: [*rows().itertuples(index=False)],
        "a generator": lambda: iter(rows().to_dict("records")),
        "spaces around texts": lambda: rows().assign(text=rows()["text"].map(" {}\n".format)),
    }[form]
    assert facts(PairSet.from_frame(given())) == facts(PairSet.from_frame(rows()))


NAMES = {
    "PyTerrier": {"grade": "label"},
    "ranx": {"qid": "q_id", "docno": "doc_id", "grade": "rel"},
    "ir_measures": {"qid": "query_id", "docno": "doc_id", "grade": "relevance"},
    "Pyserini": {"docno": "docid", "text": "contents"},
    "MS MARCO": {"docno": "pid", "text": "passage"},
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_columns_may_have_the_names_of_other_tools(names):
    assert facts(PairSet.from_frame(rows().rename(columns=names))) == facts(
        PairSet.from_frame(rows())
    )


def test_docno_is_taken_beside_the_index_number_that_pyterrier_calls_docid():
    assert facts(PairSet.from_frame(rows(docid=[7, 8, 9, 8]))) == facts(PairSet.from_frame(rows()))


TYPES = {
    "object": lambda made: made.astype(object),
    "pyarrow": lambda made: made.convert_dtypes(dtype_backend="pyarrow"),
    "nullable": lambda made: made.convert_dtypes(),
    "categories": lambda made: made.astype({"qid": "category", "docno": "category"}),
    "an odd index": lambda made: made.set_index(pd.Index([5, 5, 1, 0])),
    "texts of numbers": lambda made: made.astype({"grade": str, "score": str}),
    "grades with points": lambda made: made.astype({"grade": float}),
}


@pytest.mark.parametrize("typed", TYPES.values(), ids=TYPES)
def test_columns_may_have_any_type(typed):
    assert facts(PairSet.from_frame(typed(rows()))) == facts(PairSet.from_frame(rows()))


def test_ids_may_be_whole_numbers_and_no_others():
    pairs = PairSet.from_frame(rows(qid=[1, 1, 2, 2], docno=np.array([7, 8, 9, 8], dtype="int32")))
    assert {(pair.qid, pair.docid) for pair in pairs} == {
        ("1", "7"),
        ("1", "8"),
        ("2", "9"),
        ("2", "8"),
    }
    with pytest.raises(InputError, match=r"row 1: the query id '1\.0' is no text; expected text"):
        PairSet.from_frame(rows(qid=[1.0, 1.0, 2.0, 2.0]))
    with pytest.raises(InputError, match="row 3: the query id is empty"):
        PairSet.from_frame(rows(qid=["q1", "q1", None, "q2"]))


def test_order_is_by_score_else_by_rank_else_as_it_stands():
    def of_q1(**changed) -> list[str]:
        return [p.docid for p in PairSet.from_frame(rows(**changed)) if p.qid == "q1"]

    assert of_q1() == ["d2", "d1"]
    assert of_q1(score=None) == ["d1", "d2"]
    assert of_q1(score=None, rank=[1, 0, 0, 1]) == ["d2", "d1"]
    assert of_q1(score=None, rank=[1.0, 0.0, math.nan, 1.0]) == ["d2", "d1"]
    assert of_q1(score=[1, 1, 1, 1], rank=[1, 0, 0, 1]) == ["d2", "d1"]


def test_a_row_without_a_grade_is_unjudged_and_one_without_a_text_is_left_out_and_counted():
    pairs = PairSet.from_frame(
        rows(
            grade=[2, None, 1, 0], docno=["d1", "d2", "d3", "d4"], text=["tea", "a", "river", pd.NA]
        )
    )
    assert [(p.docid, p.grade, p.judged) for p in pairs] == [
        ("d2", 0, False),
        ("d1", 2, True),
        ("d3", 1, True),
    ]
    assert pairs.counts["unjudged"] == 1
    assert pairs.notes == (
        "judged passages without a text: 1 (left out of the candidates), "
        "such as 'd4' of query 'q2'",
    )


def test_a_row_that_comes_twice_is_taken_once_and_contradictions_are_refused():
    twice = pd.concat([rows(), rows().iloc[:1]])
    assert facts(PairSet.from_frame(twice)) == facts(PairSet.from_frame(rows()))
    assert PairSet.from_frame(twice).counts["repeated_run_lines"] == 1
    last = rows().iloc[:1]
    for changed, came in (
        ({"grade": 1}, "frame, row 5: passage 'd1' is judged a second time"),
        ({"text": "rust"}, "frame, row 5: passage id 'd1' comes a second time with another text"),
        ({"query": "tea"}, "frame, row 5: query id 'q1' comes a second time with another text"),
        ({"score": 9.0}, "frame, row 5: passage 'd1' comes a second time for query 'q1'"),
    ):
        with pytest.raises(InputError, match=came):
            PairSet.from_frame(pd.concat([rows(), last.assign(**changed)]))


def test_all_judgements_may_come_beside_the_frame_and_make_the_full_ideal():
    qrels = {**QRELS, "q1": {"d1": 2, "elsewhere": 3}, "q9": {"d1": 1}}
    pairs = PairSet.from_frame(rows(grade=None), qrels)
    assert pairs.ideals["frame", "q1"] == (3, 2)
    assert pairs.sampling["ideal"] == "full"
    assert [(p.docid, p.judged) for p in pairs][:2] == [("d2", False), ("d1", True)]
    assert pairs.counts["unlisted_queries_judged"] == 1
    with pytest.raises(InputError, match="leave qrels out, or drop the frame's column"):
        PairSet.from_frame(rows(), qrels)


def test_a_frame_without_grades_is_scored_and_refused_where_grades_are_needed(tiny):
    pairs = PairSet.from_frame(rows(grade=None))
    assert len(pairs) == 4
    assert not any(pair.judged for pair in pairs)
    assert len(matchlens.score(tiny, pairs)) == 4
    with pytest.raises(InputError, match="no query has a candidate with a grade above 0"):
        matchlens.ablation(tiny, pairs, cuts=["Q->D"])


def test_ids_are_made_up_where_a_frame_has_none():
    made = rows(qid=None, docno=None, score=None)
    assert [(p.qid, p.docid) for p in PairSet.from_frame(made)] == [
        ("q1", "d1"),
        ("q1", "d2"),
        ("q2", "d3"),
        ("q2", "d4"),
    ]


@pytest.mark.parametrize("query", [" warm tea", "warm tea  ", "\twarm tea\n"])
def test_queries_that_differ_by_the_space_around_them_are_one_where_ids_are_made_up(query):
    made = rows(qid=None, query=["warm tea", query, "a river", "a river"])
    assert [pair.qid for pair in PairSet.from_frame(made)] == ["q1", "q1", "q2", "q2"]


BAD_FRAMES = {
    "ids in the index": (
        rows().set_index("qid"),
        r"has 'qid' as its index, which is not read; .*reset_index\(\)",
    ),
    "passage ids in an index of several": (rows().set_index(["grade", "docno"]), "as its index"),
    "a set": ({("tea", "a"), ("tea", "b")}, "is a set, whose order is another one in each run"),
    "no text": (rows(text=None), "no column for the passage's text among .*rename the columns"),
    "two names": (
        rows().rename(columns={"docno": "pid", "score": "docid"}),
        "'docid' and 'pid' may all be the passage's id; expected one: rename the right one",
    ),
    "one name twice": (
        pd.concat([rows(), rows()[["text"]]], axis=1),
        "two columns are called 'text'",
    ),
    "no frame": (3, "the frame is 3; expected a DataFrame"),
    "a number for a query": (rows(query=[1, 1, 2, 2]), "row 1: the query is 1; expected text"),
    "a list for a query": (rows(query=[["a"], "b", "c", "d"]), "row 1: the query is"),
    "a number for a text": (rows(text=[1, 2, 3, 2]), "row 1: the text of passage 'd1' is 1"),
    "half a grade": (rows(grade=[0.5, 0, 1, 0]), r"row 1: the grade is '0\.5'"),
    "no score": (rows(score=[1.0, math.nan, 1.0, 1.0]), "row 2: the score is 'nan'"),
    "a lone surrogate": (
        rows(text=pd.Series(["\ud800", "b", "c", "b"], dtype=object)),
        "is not Unicode",
    ),
    "no rows": (rows().iloc[:0], "no query of collection 'frame' is left of 0 topics"),
    "only zeros": (rows(grade=0), "no query of collection 'frame' is left"),
}


@pytest.mark.parametrize(("bad", "came"), BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_frame_that_cannot_be_used_is_refused_in_one_line(bad, came):
    with pytest.raises(InputError, match=came) as error:
        PairSet.from_frame(bad)
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 400


# --- lists


def test_couples_go_wherever_pairs_without_grades_do(tiny):
    couples = [("warm tea", "tea is warm"), ("warm tea", "a red dog"), ("a river", "the river")]
    pairs = as_pairs(couples)
    assert [(p.qid, p.docid, p.grade) for p in pairs] == [
        ("q1", "d1", 0),
        ("q1", "d2", 0),
        ("q2", "d3", 0),
    ]
    assert matchlens.score(tiny, couples).equals(matchlens.score(tiny, pairs))
    assert matchlens.score(tiny, rows()).equals(matchlens.score(tiny, pairs_of(rows())))
    with pytest.raises(InputError, match="no query has a candidate with a grade above 0"):
        matchlens.ablation(tiny, couples, cuts=["Q->D"])


@pytest.mark.parametrize("given", [{("tea", "a"), ("tea", "b")}, frozenset([("tea", "a")])])
def test_a_set_has_no_order_of_pairs(tiny, given):
    with pytest.raises(InputError, match="is a set, whose order"):
        pairs_of(given)
    with pytest.raises(InputError, match="is a set, whose order"):
        matchlens.score(tiny, given)
    with pytest.raises(InputError, match="is a set, whose order"):
        matchlens.frame.load({"q": "tea"}, given, {"a": "x"})


def test_a_list_of_pairs_is_a_set_of_them(tiny_pairs, tiny):
    given = [Pair("q", f"d{n}", "a cat", f"the cat {n}", grade=n % 3) for n in range(6)]
    pairs = as_pairs(given)
    assert pairs.pairs == tuple(given)
    assert pairs.ideals == {("", "q"): (2, 2, 1, 1, 0, 0)}
    listed = matchlens.ablation(tiny, given, cuts=["Q->D"]).to_frame()
    assert listed.equals(matchlens.ablation(tiny, pairs, cuts=["Q->D"]).to_frame())


def listed(*changed: Pair) -> list[Pair]:
    """Six graded pairs of two queries, and more of them."""
    first = [Pair("q", f"d{n}", "a cat", f"the cat {n}", grade=n % 3) for n in range(4)]
    return [*first, *(Pair("r", f"d{n}", "tea", f"tea {n}", grade=n) for n in range(2)), *changed]


def test_pairs_that_come_twice_in_a_list_are_taken_once_and_counted(tiny):
    once, twice = as_pairs(listed()), as_pairs([*listed(), *listed()[:3]])
    assert twice.pairs == once.pairs
    assert twice.ideals == once.ideals
    assert [note.split(",")[0] for note in twice.notes] == [
        "passages listed again for the same query: 3 (taken once)"
    ]
    result = matchlens.ablation(tiny, [*listed(), *listed()[:3]], cuts=["Q->D"])
    assert result.to_frame().equals(matchlens.ablation(tiny, once, cuts=["Q->D"]).to_frame())
    assert twice.notes[0] in result.notes
    couples = [("warm tea", "tea"), ("warm tea", "tea")]
    assert len(matchlens.score(tiny, couples)) == len(as_pairs(couples)) == 2  # ids are made up


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (Pair("q", "d0", "a cat", "the cat 0", 2), "passage 'd0' .* query 'q' with another grade"),
        (Pair("r", "d1", "tea", "tea 0", 1), "passage 'd1' .* query 'r' with another text"),
        (Pair("q", "d9", "a dog", "the cat", 0), "query id 'q' .* with another text"),
        (
            Pair("q", "d9", "a cat", "the cat", -2),
            "passage .* has the grade -2; expected 0 or more, or -1",
        ),
    ],
)
def test_pairs_of_a_list_that_contradict_each_other_are_refused_by_place(tiny, changed, message):
    with pytest.raises(InputError, match=f"pairs, item 7: {message}"):
        matchlens.ablation(tiny, listed(changed), cuts=["Q->D"])
    other = replace(changed, collection="elsewhere", grade=1)
    assert len(as_pairs(listed(other))) == 7  # its ids are of another collection


def test_a_query_may_have_passages_of_another_query_s_ids():
    assert len(as_pairs(listed())) == 6  # d0 and d1 are of both, with texts of their own


def test_the_grade_that_marks_random_passages_is_stated(tiny):
    given = listed(Pair("q", "d9", "a cat", "the sun", -1))
    assert (
        "pairs of a list whose grade is -1: 1 (taken for random passages"
        in as_pairs(given).notes[0]
    )
    assert any(
        "grade is -1" in note for note in matchlens.ablation(tiny, given, cuts=["Q->D"]).notes
    )


def test_without_pyterrier_its_reranker_says_what_to_install(tiny, monkeypatch):
    import matchlens.pyterrier

    monkeypatch.setattr(matchlens.pyterrier, "pt", None)
    with pytest.raises(InputError, match=r"pip install 'matchlens\[pyterrier\]'"):
        matchlens.pyterrier.Reranker(tiny)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["optional-dependencies"]["pyterrier"][0].startswith("pyterrier>=")


def test_rows_in_a_list_keep_their_ids_and_grades_as_in_a_frame():
    columns = ["query", "text", "qid", "docno", "grade", "score"]
    rows = [
        ("warm tea", "Tea is hot.", "a", "x", 2, 1.0),
        ("warm tea", "Rust is red.", "a", "y", 0, 3.0),
        ("red rust", "Rust is red.", "b", "y", 3, 2.0),
    ]
    expected = PairSet.from_frame(pd.DataFrame(rows, columns=columns))
    assert [pair.grade for pair in expected] == [0, 2, 3]
    row = NamedTuple("row", [(name, object) for name in columns])
    for given in (
        [dict(zip(columns, one, strict=True)) for one in rows],
        [row(*one) for one in rows],
        (dict(zip(columns, one, strict=True)) for one in rows),
        [(*one[:5], one[5]) for one in rows],
    ):
        made = PairSet.from_frame(given)
        assert [replace(pair, collection="") for pair in made] == [
            replace(pair, collection="") for pair in expected
        ]
        assert made.ideals == expected.ideals


def test_numbers_that_pandas_made_floats_say_how_they_become_ids(tiny):
    rows = [{"query": "a cat", "text": f"tea {n}", "docno": n, "grade": n} for n in (1.0, 2.0)]
    frame = pd.DataFrame(rows)
    with pytest.raises(InputError, match=r"passage id '1.0' is no text; .*astype\('Int64'\)"):
        PairSet.from_frame(frame)
    pairs = PairSet.from_frame(frame.astype({"docno": "Int64"}))
    assert [pair.docid for pair in pairs] == ["1", "2"]
    texts = [(np.str_("a cat"), np.str_("tea"))]
    assert matchlens.score(tiny, texts).equals(matchlens.score(tiny, [("a cat", "tea")]))


def test_what_is_no_pair_is_named_by_its_place():
    for bad in (("a", "b", "c"), "ab", ("a", 3)):
        with pytest.raises(InputError, match=r"pair 2 is .*write both as text"):
            as_pairs([("a", "b"), bad])
    with pytest.raises(InputError, match="row 1: the passage is ''; expected text"):
        pairs_of([("a", "")])


# --- collections in memory


FORMS = {
    "frames": (
        pd.DataFrame(TOPICS.items(), columns=["qid", "query"]),
        pd.DataFrame([r[:1] + r[2:3] + r[4:5] for r in ROWS], columns=["qid", "docno", "label"]),
        pd.DataFrame(PASSAGES.items(), columns=["docno", "text"]),
        pd.DataFrame([r[:1] + r[2:3] + r[5:] for r in ROWS], columns=["qid", "docno", "score"]),
    ),
    "BEIR's frames": (
        pd.DataFrame(TOPICS.items(), columns=["_id", "text"]).rename(columns={"_id": "query-id"}),
        pd.DataFrame(
            [r[:1] + r[2:3] + r[4:5] for r in ROWS], columns=["query-id", "corpus-id", "score"]
        ),
        {docno: {"title": "", "text": text} for docno, text in PASSAGES.items()},
        RUN,
    ),
    "ir_measures": (
        [GenericQuery(*one) for one in TOPICS.items()],
        [ir_measures.Qrel(q, d, g) for q, some in QRELS.items() for d, g in some.items()],
        (GenericDoc(*one) for one in PASSAGES.items()),
        [ir_measures.ScoredDoc(q, d, s) for q, some in RUN.items() for d, s in some.items()],
    ),
    "tuples and lists": (
        [*TOPICS.items()],
        [(q, d, g) for q, some in QRELS.items() for d, g in some.items()],
        [{"docid": docno, "text": text} for docno, text in PASSAGES.items()],
        {qid: [*some] for qid, some in RUN.items()},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_records_of_every_form_make_one_collection(form):
    made = frame.load(*FORMS[form])
    assert (made.queries, made.qrels) == (TOPICS, QRELS)
    assert made.run == {qid: [*some] for qid, some in RUN.items()}
    assert made.texts(["d3", "d1", "gone"]) == {"d3": PASSAGES["d3"], "d1": PASSAGES["d1"]}


def test_the_parts_of_another_collection_are_taken_where_none_come(tmp_path):
    write(tmp_path, GOOD)
    files = load(tmp_path, run=None)
    made = frame.load(run={"q1": {"b": 2.0, "a": 1.0}, "q7": {"a": 1.0}}, collection=files)
    assert made.run == {"q1": ["b", "a"]}
    assert made.oddities.counts["unlisted_queries_in_run"] == 1
    assert facts(choose(made)) == facts(choose(files))
    assert made.random_docids(3, 1) == files.random_docids(3, 1)
    assert choose(made, depth=1).sources[0]["from"]["format"] == "trec"


def test_random_passages_are_those_of_a_file_with_the_same_passages(tmp_path):
    write(tmp_path, GOOD)
    passages = {"a": "cook it", "b": "a boat", "c": "iron oxide", "z": "never needed", "e": " "}
    made = frame.load({"q1": "x"}, {"q1": {"a": 1}}, passages)
    assert made.random_docids(9, 3) == load(tmp_path).random_docids(9, 3)
    assert made.random_docids(2, 3) == made.random_docids(9, 3)[:2]


def test_passages_by_id_may_have_fields_of_any_known_name():
    passages = {"d1": {"title": "Tea", "contents": "Tea is hot."}, "d2": "A red dog."}
    made = frame.load(TOPICS, QRELS, passages)
    assert made.texts(["d1", "d2"]) == {"d1": "Tea Tea is hot.", "d2": "A red dog."}
    assert made.field_texts(["d1"]) == {"d1": {"title": "Tea", "text": "Tea is hot."}}


BAD_PARTS = {
    "a title alone": (
        {"passages": {"d1": {"title": "Tea", "words": "hot"}}},
        "passages: no column for the passage's text among 'title, words, docno'",
    ),
    "nothing": ({}, "topics and qrels and passages missing; expected topics, qrels and passages"),
    "a path": ({"topics": "t.tsv"}, "topics is 't.tsv'; expected a DataFrame with the columns"),
    "flat qrels": ({"qrels": {"q1": 1}}, "the qrels of query 'q1' are 1; expected {qid: {docno"),
    "a list of qrels": ({"qrels": {"q1": ["d1"]}}, "the qrels of query 'q1' are"),
    "a short tuple": ({"qrels": [("q1", "d1")]}, "qrels, record 1 is"),
    "other columns": ({"qrels": [{"a": 1}]}, "no column for the query's id and the passage's id"),
    "no order": ({"run": {"q1": {"d1": 1, "d2": 1}}}, "expected a ranking"),
    "other topics": ({"qrels": {"x": {"d1": 1}}}, "query id 'x' is not among the topics"),
    "two texts": (
        {"passages": [("d1", "a"), ("d1", "b")]},
        "passages, record 2: passage id 'd1' comes a second time with another text",
    ),
    "a number": ({"passages": {"d1": 3}}, "passages, record 1: the text of passage 'd1' is 3"),
}


@pytest.mark.parametrize(("bad", "came"), BAD_PARTS.values(), ids=BAD_PARTS)
def test_a_part_that_cannot_be_used_is_refused(bad, came):
    given = {"topics": TOPICS, "qrels": QRELS, "passages": PASSAGES} if bad else {}
    with pytest.raises(InputError, match=came):
        frame.load(**{**given, **bad})


# --- files in other forms


def beir_folder(folder, packed: bool = False):
    """A folder as BEIR writes it."""
    (folder / "qrels").mkdir()
    corpus = [
        {"_id": "d1", "title": "Tea", "text": "is warm", "metadata": {}},
        {"_id": "d2", "title": "", "text": "a red dog"},
    ]
    queries = [{"_id": "q1", "text": "warm tea", "metadata": {}}, {"_id": "q2", "text": "x"}]
    files = {
        "corpus.jsonl": "".join(json.dumps(one) + "\n" for one in corpus),
        "queries.jsonl": "".join(json.dumps(one) + "\n" for one in queries),
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq8\td2\t1\n",
    }
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        else:
            (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_in_beirs_form_is_read_with_titles_before_the_texts(tmp_path, packed):
    collection = beir.load(beir_folder(tmp_path, packed), name="tea")
    pairs = choose(collection)
    assert facts(pairs) == [
        ("q1", "d1", "warm tea", "Tea is warm", 1, True),
        ("q1", "d2", "warm tea", "a red dog", 0, True),
    ]
    assert pairs.counts["unlisted_queries_judged"] == 1
    assert pairs.counts["topics_without_qrels"] == 1


def test_a_split_that_a_folder_lacks_is_refused_with_those_it_has(tmp_path):
    with pytest.raises(InputError, match=r"has no 'qrels/dev\.tsv', but qrels of 'test'"):
        beir.load(beir_folder(tmp_path), split="dev")
    with pytest.raises(InputError, match=r"has no 'queries\.jsonl'; expected a folder in BEIR's"):
        beir.load(tmp_path / "nowhere")


TOP = b"""<top>
<num> Number: q1
<title> how to cook
  rice < 5 minutes

<desc> Description:
Find recipes.
</top>
<top><num>q2</num><title>Topic: what is rust</title></top>
"""


def test_topics_in_trecs_form_are_their_titles(tmp_path):
    write(tmp_path, {**GOOD, "t.tsv": TOP})
    found = load(tmp_path).queries
    assert found == {"q1": "how to cook rice < 5 minutes", "q2": "what is rust"}


BAD_TOPICS = {
    "no title": (b"<top><num>q1</top>", "t.tsv, line 1: a <top> without <title>"),
    "no number": (b"<top>\n<title> tea\n</top>", "a <top> without <num>"),
    "two titles": (b"<top><num>1\n<title>a\n<title>b\n</top>", "line 3: a second <title>"),
    "words outside": (b"<top></top>\ntea", "line 1: a <top> without <num>"),
    "another tag": (b"<topics>\n<topic/>", "stands outside <top>"),
}


@pytest.mark.parametrize(("content", "came"), BAD_TOPICS.values(), ids=BAD_TOPICS)
def test_odd_topics_in_trecs_form_are_refused_by_line(content, came, tmp_path):
    write(tmp_path, {**GOOD, "t.tsv": content})
    with pytest.raises(InputError, match=came):
        load(tmp_path)


BAD_JSON = {
    "no JSON": (b"{", "is not JSON"),
    "a list": (b"[1]", "is JSON but no object"),
    "no id": (b'{"text": "x"}', "no id"),
    "a list for an id": (b'{"_id": [1], "text": "x"}', "no id that is text"),
    "no text": (b'{"_id": "q1", "words": "x"}', "no text in query 'q1'"),
    "an empty key": (b'{"_id": "q1", "": "x"}', "no text in query 'q1'"),
    "a number": (b'{"_id": "q1", "text": 3}', "no text in query 'q1'"),
    "half a pair": (b'{"_id": "q1", "text": "\\ud800"}', "no text in query 'q1'"),
}


@pytest.mark.parametrize(("content", "came"), BAD_JSON.values(), ids=BAD_JSON)
def test_odd_topics_in_json_lines_are_refused_by_line(content, came, tmp_path):
    write(tmp_path, {**GOOD, "t.jsonl": content})
    with pytest.raises(InputError, match=rf"t\.jsonl, line 1: .*{came}"):
        load(tmp_path, topics="t.jsonl")


SEVERAL_TEXTS = {
    "empty ones": ({"query": None, "title": " ", "text": "warm tea"}, "warm tea"),
    "only empty ones": ({"query": None, "text": " "}, ""),
    "the same": ({"query": "warm tea", "text": " warm tea"}, "warm tea"),
    "one that is no text": ({"query": ["warm", "tea"], "text": "warm tea"}, "warm tea"),
    "two": ({"query": "warm tea", "text": "tea"}, None),  # an export of beir/trec-covid
    "title and text": ({"title": "warm tea", "text": "tea"}, None),  # trec-tot/2023
}


@pytest.mark.parametrize(("texts", "words"), SEVERAL_TEXTS.values(), ids=SEVERAL_TEXTS)
def test_a_topic_has_one_text(texts, words, tmp_path):
    record = {"query_id": "q1", **texts}
    write(tmp_path, {**GOOD, "t.jsonl": json.dumps(record).encode()})
    doors = {
        r"line 1: query 'q1' has different texts under (query|text) and t": lambda: load(
            tmp_path, topics="t.jsonl"
        ),
        "in 2 columns": lambda: frame.load([record], QRELS, PASSAGES),
        "record 1: query 'q1' has different texts in 2 columns": lambda: frame.load(
            pd.DataFrame([record]), QRELS, PASSAGES
        ),
    }
    for came, door in doors.items():
        if words is not None:
            assert door().queries == {"q1": words}
        else:
            with pytest.raises(InputError, match=came):
                door()


@pytest.mark.parametrize("key", ["text", "contents", "passage", "segment"])
def test_the_text_of_a_passage_may_have_other_names(key, tmp_path):
    lines = [{"id": name, key: f"words {name}", "title": "T"} for name in "abc"]
    content = "".join(json.dumps(one) + "\n" for one in lines).encode()
    write(tmp_path, {**GOOD, "p.jsonl": content})
    assert load(tmp_path).texts(["a"]) == {"a": "T words a"}


def test_a_passage_with_several_texts_is_refused_unless_one_is_called_text(tmp_path):
    write(tmp_path, {**GOOD, "p.jsonl": b'{"id": "a", "contents": "x", "segment": "y"}\n'})
    with pytest.raises(InputError, match="contents and segment and no text in passage 'a'"):
        load(tmp_path)
    write(tmp_path, {**GOOD, "p.jsonl": b'{"id": "a", "contents": "x", "text": "y"}\n'})
    assert load(tmp_path).texts(["a"]) == {"a": "y"}


# --- sets of pairs in Python


@pytest.fixture(scope="module")
def varied() -> PairSet:
    """Pairs of two collections, with kinds, easy negatives, unjudged ones and own parts."""
    sets = []
    for name in ("one", "two"):
        run = {"q1": {"d1": 3.0, "d2": 2.0, "d4": 1.0}}
        texts = {**PASSAGES, "d4": "an old boat", **{f"e{n}": f"word {n}" for n in range(8)}}
        made = frame.load({"q1": "warm tea"}, {"q1": QRELS["q1"]}, texts, run, name=name)
        sets.append(choose(made, depth=3, easy=2))
    return PairSet.join(sets).with_parts({"FIRST": lambda pair: [(0, 3)]})


def test_a_frame_made_of_pairs_is_those_pairs(varied, tiny):
    """A filter by pandas must not make random passages judged ones, nor two collections one."""
    made = pd.DataFrame(varied)
    assert as_pairs(made).pairs == PairSet.from_frame(made).pairs == varied.pairs
    assert {pair.collection for pair in varied} == {"one", "two"}
    few = made[(made["grade"] != 2) & (made["collection"] == "two")]
    expected = [pair for pair in varied if pair.grade != 2 and pair.collection == "two"]
    assert list(as_pairs(few)) == expected
    assert pairs_of(few) == expected
    assert matchlens.score(tiny, few, ["Q->FIRST"]).index.tolist() == few.index.tolist()
    kept = made[["qid", "docid", "query", "text", "grade", "judged"]].query("docid != 'd1'")
    assert [pair.judged for pair in as_pairs(kept[kept["grade"] >= 0][:2])] == [True, False]
    with pytest.raises(InputError, match=r"'collection', as .* and not grade; .*drop\(columns=\["):
        as_pairs(made[["qid", "docid", "query", "text", "collection"]])
    with pytest.raises(InputError, match="a frame made of pairs; expected it alone"):
        PairSet.from_frame(made, ideal="full")


def test_a_filter_keeps_the_ideal_ranking_and_the_record(varied):
    kept = varied.filter(lambda pair: pair.docid != "d1" and pair.collection == "one")
    assert kept.ideals == {("one", "q1"): (2, 0)}  # by all judgements
    assert as_pairs(list(kept)).ideals == {("one", "q1"): (0, 0)}
    assert kept.sampling == varied.sampling
    counts = {
        name: kept.counts[name] for name in ("queries", "pairs", "easy_negatives", "unjudged")
    }
    assert counts == {"queries": 1, "pairs": 4, "easy_negatives": 2, "unjudged": 1}
    assert varied[:5].counts["easy_negatives"] == 2
    with pytest.raises(InputError, match="keep is true of none of the 10 pairs; expected some"):
        varied.filter(lambda pair: False)


def test_a_set_of_pairs_has_a_length_and_can_be_walked_and_sliced():
    pairs = PairSet.from_frame(rows())
    assert len(pairs) == 4
    assert [*pairs] == [*pairs.pairs]
    assert pairs[0] is pairs.pairs[0]
    assert pairs[-1] is pairs.pairs[-1]
    some = pairs[1:3]
    assert some.pairs == pairs.pairs[1:3]
    assert some.ideals == {("frame", "q1"): (2,), ("frame", "q2"): (1,)}
    assert (some.counts["queries"], some.counts["pairs"]) == (2, 2)
    assert pairs[:0].ideals == {}
    full = PairSet.from_frame(rows(grade=None), QRELS)
    assert full[:1].ideals == {("frame", "q1"): (2, 0)}


# --- one collection through every door


class Titled(NamedTuple):
    """A document as ir_datasets gives one with fields."""

    doc_id: str
    title: str
    text: str

    def default_text(self):
        return f"{self.title} {self.text}"


class Topic(NamedTuple):
    """A query as TREC's ad hoc tracks have it."""

    query_id: str
    title: str
    description: str
    narrative: str


DOCUMENTS = {"d1": ("Tea", "is warm"), "d2": ("", "a red dog"), "d3": ("River", "is wide")}
JUDGED = {**QRELS, "gone": {"d1": 2}, "lost": {"d2": 1}}
RANKED = {**RUN, "gone": {"d3": 1.0}}


def through_files(folder) -> Collection:
    rows = [json.dumps({"id": d, "title": t, "text": x}) for d, (t, x) in DOCUMENTS.items()]
    qrels = [f"{q} 0 {d} {g}" for q, some in JUDGED.items() for d, g in some.items()]
    ranks = [(q, d, n, s) for q, some in RANKED.items() for n, (d, s) in enumerate(some.items())]
    texts = {
        "t.tsv": [f"{qid}\t{query}" for qid, query in TOPICS.items()],
        "qrels": qrels,
        "p.jsonl": rows,
        "r.run": [f"{q} Q0 {d} {n} {s} x" for q, d, n, s in ranks],
    }
    write(
        folder,
        {name: "".join(f"{line}\n" for line in some).encode() for name, some in texts.items()},
    )
    return load(folder)


def through_ir_datasets(queries, docs, **fields) -> Collection:
    name = "matchlens-every-door"
    qrels = [(q, d, g) for q, some in JUDGED.items() for d, g in some.items()]  # iteration "0"
    scored = [(q, d, s) for q, some in RANKED.items() for d, s in some.items()]
    ir_datasets.registry.register(
        name, ir_datasets.Dataset(docs, queries, Qrels(qrels), Scored(scored))
    )
    try:
        return irds.load(name, **fields)
    finally:
        ir_datasets.registry._registered.pop(name)


PLAIN_TOPICS = [GenericQuery(*one) for one in TOPICS.items()]
LONG_TOPICS = [Topic(qid, query, f"About {query}?", "none") for qid, query in TOPICS.items()]
JOINED = {docid: f"{title} {text}".strip() for docid, (title, text) in DOCUMENTS.items()}
TITLED = [Titled(docid, *fields) for docid, fields in DOCUMENTS.items()]
DOORS = {
    "ir_datasets, plain": lambda _: through_ir_datasets(
        Queries(PLAIN_TOPICS), Docs([GenericDoc(*one) for one in JOINED.items()])
    ),
    "ir_datasets, titles": lambda _: through_ir_datasets(Queries(PLAIN_TOPICS), Docs(TITLED)),
    "ir_datasets, fields": lambda _: through_ir_datasets(
        Queries(LONG_TOPICS), Docs(TITLED), query_field="title", doc_fields=["title", "text"]
    ),
    "frames": lambda _: frame.load(
        pd.DataFrame(TOPICS.items(), columns=["qid", "query"]),
        pd.DataFrame(
            [(q, "0", d, g) for q, some in JUDGED.items() for d, g in some.items()],
            columns=["qid", "iteration", "docno", "label"],
        ),
        pd.DataFrame(
            [(d, *both) for d, both in DOCUMENTS.items()], columns=["docno", "title", "text"]
        ),
        pd.DataFrame(
            [(q, d, s) for q, some in RANKED.items() for d, s in some.items()],
            columns=["qid", "docno", "score"],
        ),
    ),
    "dicts": lambda _: frame.load(
        TOPICS, JUDGED, {d: {"title": t, "text": x} for d, (t, x) in DOCUMENTS.items()}, RANKED
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_collection_is_the_same_through_every_door(tmp_path, door):
    """Pairs, what is counted and what is said; unlisted queries are left out alike."""
    expected, found = through_files(tmp_path), DOORS[door](tmp_path)
    assert (found.queries, found.qrels, found.run) == (
        expected.queries,
        expected.qrels,
        expected.run,
    )
    for options in ({}, {"depth": 2}):
        one, other = choose(expected, **options), choose(found, **options)
        assert facts(one) == facts(other)
        assert len(other) == 4
        assert [*one.ideals.values()] == [*other.ideals.values()]
        assert one.counts == other.counts
        assert one.notes == other.notes
    assert one.counts["unlisted_queries_judged"] == 2
    assert one.counts["unlisted_queries_in_run"] == 1
