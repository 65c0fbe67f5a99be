"""Collections of ir_datasets, tried on small datasets that the tests register."""

import builtins
import socket
import subprocess
import sys
from typing import NamedTuple

import ir_datasets
import pytest
from ir_datasets.formats import JsonlDocs, TrecQrels, TsvQueries
from ir_datasets.util import LocalDownload

from corpora_files import Docs, Qrels, Queries, Scored
from matchlens.corpora import choose, irds
from matchlens.errors import InputError

NAME = "matchlens-test"


class Query(NamedTuple):
    query_id: str
    title: str
    narrative: str
    tags: tuple[str, ...]

    def default_text(self):
        return self.title


class Bare(NamedTuple):
    query_id: str
    url: str


class Doc(NamedTuple):
    doc_id: str
    title: str
    body: str

    def default_text(self):
        return f"{self.title} {self.body}"


QUERIES = [
    Query("q1", "cook rice", "How is rice cooked?", ("food",)),
    Query("q2", "rust", "", ("iron",)),
    Query("q3", "unjudged", "nobody cares", ()),
]
QRELS = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d3", 1), ("q2", "d1", -1)]
ROWS = [Doc(f"d{number}", f"Title {number}", f"body {number}") for number in range(50)]
SCORED = [("q1", "d2", 1.0), ("q1", "d9", 3.0), ("q1", "d1", 1.0), ("gone", "d1", 2.0)]


@pytest.fixture
def register(monkeypatch):
    """Registers a dataset under NAME for one test."""
    names = []

    def add(*parts, name=NAME):
        ir_datasets.registry.register(name, ir_datasets.Dataset(*parts))
        names.append(name)
        return name

    yield add
    for name in names:
        ir_datasets.registry._registered.pop(name)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_dataset_is_read_with_its_default_texts(register):
    docs = Docs(ROWS)
    collection = irds.load(register(docs, Queries(QUERIES), Qrels(QRELS)))
    assert collection.name == NAME
    assert collection.queries == {"q1": "cook rice", "q2": "rust", "q3": "unjudged"}
    assert collection.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d3": 1, "d1": -1}}
    assert collection.run is None
    assert docs.looked_up == set()
    assert collection.texts(["d2", "nowhere"]) == {"d2": "Title 2 body 2"}
    assert docs.looked_up == {"d2", "nowhere"}
    chosen = choose(collection)
    assert len(chosen.pairs) == 4
    assert docs.looked_up == {"d1", "d2", "d3", "nowhere"}
    assert docs.read_by_place == 0
    assert chosen.sources[0]["dataset"] == NAME
    assert chosen.sources[0]["version"] == ir_datasets.__version__


def test_fields_are_taken_by_name_and_joined_by_a_space(register):
    name = register(Docs(ROWS), Queries(QUERIES[:1]), Qrels(QRELS[:1]))
    collection = irds.load(name, query_field="narrative", doc_fields=["body", "title"])
    assert collection.queries == {"q1": "How is rice cooked?"}
    assert collection.texts(["d1"]) == {"d1": "body 1 Title 1"}
    assert collection.source["query_field"] == "narrative"
    assert collection.source["doc_fields"] == ["body", "title"]
    assert irds.load(name, doc_fields="body").texts(["d1"]) == {"d1": "body 1"}


def test_unknown_fields_are_refused_with_the_known_ones_before_anything_is_read(register):
    class Unread(Queries):
        def queries_iter(self):
            raise AssertionError("queries were read")

    name = register(Docs(ROWS), Unread(QUERIES), Qrels(QRELS))
    with pytest.raises(InputError, match=r"no field 'text'; .* query_id, title, narrative, tags"):
        irds.load(name, query_field="text")
    with pytest.raises(InputError, match=r"Doc has no field 'text'; .* doc_id, title, body"):
        irds.load(name, doc_fields=["title", "text"])
    with pytest.raises(InputError, match="expected some of doc_id, title, body"):
        irds.load(name, doc_fields=[])


def test_a_field_that_is_no_text_is_refused(register):
    name = register(Docs(ROWS), Queries(QUERIES), Qrels(QRELS))
    with pytest.raises(
        InputError, match=r"a field of query 'q1' .* is \"\('food',\)\"; expected text"
    ):
        irds.load(name, query_field="tags")


def test_queries_without_a_text_of_their_own_ask_for_a_field(register):
    name = register(Docs(ROWS), Queries([Bare("q1", "http://a")]), Qrels(QRELS[:1]))
    with pytest.raises(
        InputError, match="Bare has no field 'text'; expected some of query_id, url"
    ):
        irds.load(name)
    assert irds.load(name, query_field="url").queries == {"q1": "http://a"}


def test_an_empty_query_is_left_out_and_counted(register):
    collection = irds.load(
        register(Docs(ROWS), Queries(QUERIES), Qrels(QRELS)), query_field="narrative"
    )
    chosen = choose(collection)
    assert {pair.qid for pair in chosen.pairs} == {"q1"}
    assert chosen.counts["empty_queries"] == 1
    assert "judged topics without text: 1 (left out), such as 'q2'" in chosen.notes


def test_scored_docs_become_the_run(register):
    name = register(Docs(ROWS), Queries(QUERIES), Qrels(QRELS), Scored(SCORED))
    collection = irds.load(name)
    assert collection.run == {"q1": ["d9", "d2", "d1"]}
    assert [pair.docid for pair in choose(collection, depth=2).pairs] == ["d9", "d2"]


def test_scored_docs_without_scores_are_no_ranking(register):
    flat = [(qid, docid, 0.0) for qid, docid, _ in SCORED]
    collection = irds.load(register(Docs(ROWS), Queries(QUERIES), Qrels(QRELS), Scored(flat)))
    assert collection.run is None
    with pytest.raises(InputError, match=r"no run \(the scored docs of ir_datasets have no scores"):
        choose(collection, depth=2)


def test_a_score_that_is_no_number_is_refused(register):
    bad = [("q1", "d1", float("nan"))]
    with pytest.raises(InputError, match="matchlens-test, scored doc 1: the score is 'nan'"):
        irds.load(register(Docs(ROWS), Queries(QUERIES), Qrels(QRELS), Scored(bad)))


def test_qrels_of_unlisted_queries_are_left_out_and_counted(register):
    qrels = [*QRELS, ("gone", "d1", 3), ("gone", "d2", 3)]
    collection = irds.load(register(Docs(ROWS), Queries(QUERIES), Qrels(qrels)))
    assert set(collection.qrels) == {"q1", "q2"}
    chosen = choose(collection)
    assert chosen.counts["unlisted_queries_judged"] == 1
    assert "judged queries that the topics lack: 1 (left out), such as 'gone'" in chosen.notes


@pytest.mark.parametrize(
    ("queries", "qrels", "said"),
    [
        (QUERIES, [*QRELS, ("q1", "d1", 0)], "judgement 5: passage 'd1' is judged a second time"),
        (QUERIES, [("q1", "d1", 0.5)], "matchlens-test, judgement 1: the grade is '0.5'"),
        (QUERIES, [("q1", "", 1)], "judgement 1: the passage id is empty"),
        ([*QUERIES, Query("q1", "other", "", ())], QRELS, "query 4: query id 'q1' comes a second"),
        ([Query("q7", "x", "", ())], QRELS, "'q1' is not among the topics .*first is 'q7'"),
    ],
)
def test_odd_datasets_are_refused(register, queries, qrels, said):
    with pytest.raises(InputError, match=said):
        irds.load(register(Docs(ROWS), Queries(queries), Qrels(qrels)))


def test_random_passages_are_read_by_place(register):
    docs = Docs(ROWS)
    collection = irds.load(register(docs, Queries(QUERIES), Qrels(QRELS)))
    ten = collection.random_docids(10, seed=1)
    assert len(set(ten)) == 10
    assert docs.read_by_place == 10
    assert collection.random_docids(4, seed=1) == ten[:4]
    assert collection.random_docids(10, seed=2) != ten
    assert sorted(collection.random_docids(99, seed=1)) == sorted(doc.doc_id for doc in ROWS)
    counts = dict.fromkeys((doc.doc_id for doc in ROWS), 0)
    for seed in range(500):
        for docid in collection.random_docids(5, seed):
            counts[docid] += 1
    assert all(abs(count - 50) < 5 * 6.8 for count in counts.values()), counts  # 5 sigma
    assert choose(collection, easy=7).counts["easy_negatives"] == 14


def test_a_dataset_without_places_cannot_give_random_passages(register):
    class Stream(Docs):
        def docs_iter(self):
            return iter(self.rows)

    collection = irds.load(register(Stream(ROWS), Queries(QUERIES), Qrels(QRELS)))
    with pytest.raises(InputError, match="could not give the passages by their place"):
        collection.random_docids(3, 0)


def test_suggested_ids_have_the_words_of_the_unknown_one_wherever_they_stand(no_network):
    for unknown, meant in (
        ("trec-dl-2019", "msmarco-passage/trec-dl-2019"),
        ("beir-scifact", "beir/scifact"),
        ("msmarco-pasage/trec-dl-2019/judged", "msmarco-passage/trec-dl-2019/judged"),
    ):
        with pytest.raises(InputError, match=rf"did you mean {meant}, "):
            irds.load(unknown)
    with pytest.raises(InputError, match="see https://"):
        irds.load("zzzz")


def test_an_unknown_id_gets_a_hint_without_a_download(register, no_network):
    register(Docs(ROWS), Queries(QUERIES), Qrels(QRELS))
    with pytest.raises(InputError, match=r"knows no 'matchlens-tset'.*did you mean matchlens-test"):
        irds.load("matchlens-tset")
    with pytest.raises(InputError, match=r"see https://ir-datasets\.com"):
        irds.load("\x1b[31m" * 20)


def test_a_dataset_without_qrels_names_parts_that_have_them(register, no_network):
    with pytest.raises(InputError, match=r"'msmarco-passage' has no queries and no qrels; .*/dev"):
        irds.load("msmarco-passage")
    assert register(Docs(ROWS), Queries(QUERIES), name="matchlens-bare")
    with pytest.raises(InputError, match=r"has no qrels; .*choose another"):
        irds.load("matchlens-bare")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no\nroute"),
        RuntimeError("All download sources failed"),
        EOFError(),
        ImportError("This dataset requires beautifulsoup4"),
        OSError("docs does not exist.\n\nAsk NIST for a licence.\n"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_ir_datasets_raises_is_one_line(register, error):
    class Absent(Queries):
        def queries_iter(self):
            raise error

    class Store(Docs):
        def docs_store(self):
            raise error

    with pytest.raises(InputError) as caught:
        irds.load(register(Docs(ROWS), Absent(QUERIES), Qrels(QRELS)))
    assert str(caught.value).isprintable()
    assert f"queries of '{NAME}' ({type(error).__name__}" in str(caught.value)
    collection = irds.load(register(Store(ROWS), Queries(QUERIES), Qrels(QRELS), name="other-test"))
    with pytest.raises(InputError, match="could not give the passages of 'other-test'"):
        choose(collection)


def test_real_handlers_over_files(register, tmp_path):
    (tmp_path / "docs.jsonl").write_text(
        "".join(f'{{"doc_id": "d{n}", "text": "passage {n}"}}\n' for n in range(10, 40))
    )
    (tmp_path / "queries.tsv").write_text("q1\tcook rice\nq2\trust\n")
    (tmp_path / "qrels").write_text("q1 0 d11 2\nq1 0 d12 0\nq2 0 d13 1\n")
    name = register(
        JsonlDocs(LocalDownload(tmp_path / "docs.jsonl")),
        TsvQueries(LocalDownload(tmp_path / "queries.tsv")),
        TrecQrels(LocalDownload(tmp_path / "qrels"), {}),
    )
    collection = irds.load(name)
    chosen = choose(collection, easy=5)
    assert chosen.counts["pairs"] == 13
    assert {pair.text for pair in chosen.pairs if pair.judged} == {
        f"passage {n}" for n in (11, 12, 13)
    }
    # its store looks up the first three characters of an id where all ids have three
    assert ir_datasets.load(name).docs_store().get_many(["d11-of-another"]) != {}
    assert collection.texts(["d11-of-another"]) == {}
    (tmp_path / "qrels").write_text("q1 0 d11-of-another 2\n")
    with pytest.raises(InputError, match=r"such as 'd11-of-another' of query 'q1' \(its passages"):
        choose(irds.load(name))


def test_ir_datasets_is_imported_only_when_asked_for():
    code = (
        "import sys; import matchlens.corpora as c; c.demo.load(); "
        "print(sorted({'torch', 'transformers', 'pandas', 'ir_datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_library_is_no_input_error(monkeypatch):
    original = builtins.__import__

    def without(name, *rest):
        if name == "ir_datasets":
            raise ImportError("no ir_datasets")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="no ir_datasets"):
        irds.load("anything")
