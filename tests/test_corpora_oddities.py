"""Odd collections: what is left out or merged is counted and stated, what is a guess is refused."""

import bz2
import gzip
import io
import json
import shlex
from contextlib import redirect_stdout

import ir_datasets.commands.export as export
import pytest

from corpora_files import GOOD, Memory, Records, load, write
from matchlens.corpora import PairSet, choose
from matchlens.corpora.oddities import NOTES
from matchlens.errors import InputError

TOPICS = [("q1", "warm tea"), ("q2", "a river")]
TEXTS = [("d1", "tea is warm"), ("d2", "a red dog"), ("d3", "the river is wide")]
JUDGED = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d3", 1), ("q2", "d2", 0)]


def everywhere(made: Records, folder, **way) -> list[PairSet]:
    """The pairs through files, ir_datasets, frames and Python, which must be the same ones."""
    with made.in_ir_datasets() as in_datasets:
        doors = [made.in_files(folder), in_datasets, made.in_frames(), made.in_python()]
        found = [choose(one, **way) for one in doors]
    ids = [[(pair.qid, pair.docid, pair.grade) for pair in one.pairs] for one in found]
    assert all(one == ids[0] for one in ids)
    return found


KINDS = {
    "an unlisted query": (
        Records(TOPICS, [*JUDGED, ("q9", "d1", 1)], TEXTS),
        "judged queries that the topics lack: 1 (left out), such as 'q9'",
    ),
    "a query id with a leading zero": (
        Records([*TOPICS, ("1", "a dog")], [*JUDGED, ("001", "d1", 1)], TEXTS),
        "judged queries that the topics lack: 1 (left out), such as '001'",
    ),
    "an unlisted query in the run": (
        Records(TOPICS, JUDGED, TEXTS, [("q8", "d1", 2), ("q1", "d1", 3), ("q1", "d2", 1)]),
        "queries of the run that the topics lack: 1 (left out), such as 'q8'",
    ),
    "a judged passage that is not there": (
        Records(TOPICS, [*JUDGED, ("q2", "gone", 1)], TEXTS),
        "judged passages without a text: 1 (left out of the candidates), "
        "such as 'gone' of query 'q2'",
    ),
    "a judged passage whose text is null": (
        Records(TOPICS, [*JUDGED, ("q1", "d4", 3)], [*TEXTS, ("d4", None)]),
        "judged passages without a text: 1 (left out of the candidates), "
        "such as 'd4' of query 'q1'",
    ),
    "an id as a data frame writes it": (
        Records(TOPICS, [*JUDGED, ("q1", "7.0", 3)], [*TEXTS, ("7", "seven")]),
        "judged passages without a text: 1 (left out of the candidates), "
        "such as '7.0' of query 'q1'",
    ),
    "a query without any passage": (
        Records(TOPICS, [*JUDGED[:2], ("q2", "gone", 1), ("q2", "lost", 2)], TEXTS),
        "queries none of whose candidates has a text: 1 (left out), such as 'q2'",
    ),
    "a query without words": (
        Records([*TOPICS, ("q3", " ")], [*JUDGED, ("q3", "d1", 1)], TEXTS),
        "judged topics without text: 1 (left out), such as 'q3'",
    ),
    "a topic without judgements": (
        Records([*TOPICS, ("q3", "cats")], JUDGED, TEXTS),
        "topics without judgements: 1 (left out), such as 'q3'",
    ),
    "an id with a space": (
        Records(TOPICS, [*JUDGED, ("q1", "d 4", 1)], TEXTS),
        "records whose id has a space or an invisible character: 1 (left out), such as 'd 4'",
    ),
    "an id with a mark of direction": (
        Records(TOPICS, [*JUDGED, ("q1", "d\u202e4", 1)], TEXTS),
        "records whose id has a space or an invisible character: 1 (left out), such as 'd\\u202e4'",
    ),
    "a negative grade": (
        Records(TOPICS, [*JUDGED, ("q1", "d3", -2)], TEXTS),
        "candidates with a negative grade: 1 (taken as 0)",
    ),
    "the same words twice": (
        Records(TOPICS, [*JUDGED, ("q1", "d4", 0)], [*TEXTS, ("d4", "a  red dog")]),
        "candidates with the same words as another candidate of the query: 1 (left out)",
    ),
    "only grades of 0": (
        Records(TOPICS, [*JUDGED[:2], ("q2", "d3", 0)], TEXTS),
        "queries without a candidate of positive grade: 1 (left out), such as 'q2'",
    ),
}


@pytest.mark.parametrize(("made", "note"), KINDS.values(), ids=KINDS)
def test_what_the_fields_tools_pass_over_is_counted_and_stated(made, note, tmp_path):
    for chosen in everywhere(made, tmp_path):
        assert chosen.notes == (note,) or note in chosen.notes
        assert [*chosen.notes] == [one for one in chosen.notes if one.isprintable()]


WITHOUT_A_POSITIVE_TEXT = {
    "not there": Records(TOPICS[:1], [("q1", "gone", 2), ("q1", "d2", 0)], TEXTS),
    "in another form of Unicode": Records(
        TOPICS[:1], [("q1", "caf\u00e9", 1), ("q1", "d2", 0)], [*TEXTS, ("cafe\u0301", "tea")]
    ),
    "null": Records(TOPICS[:1], [("q1", "d4", 1), ("q1", "d2", 0)], [*TEXTS, ("d4", None)]),
}


@pytest.mark.parametrize(
    "made", WITHOUT_A_POSITIVE_TEXT.values(), ids=WITHOUT_A_POSITIVE_TEXT.keys()
)
def test_a_refusal_names_the_judged_passages_that_have_no_text(made, tmp_path):
    with made.in_ir_datasets() as in_datasets:
        for one in (made.in_files(tmp_path), in_datasets, made.in_frames()):
            with pytest.raises(InputError, match="judged passages without a text: 1 ") as refused:
                choose(one)
            assert "expected one with a text of positive grade" in str(refused.value)
            assert "its passages have ids such as" in str(refused.value)


REPEATED = {
    "a topic": (Records([*TOPICS, TOPICS[0]], JUDGED, TEXTS), "repeated_topics"),
    "a judgement": (Records(TOPICS, [*JUDGED, JUDGED[0]], TEXTS), "repeated_judgements"),
    "a grade in two forms": (
        Records(TOPICS, [*JUDGED, ("q1", "d1", 2.0)], TEXTS),
        "repeated_judgements",
    ),
    "a line of the run": (
        Records(TOPICS, JUDGED, TEXTS, [("q1", "d1", 2), ("q1", "d2", 1), ("q1", "d1", 2)]),
        "repeated_run_lines",
    ),
}


@pytest.mark.parametrize(("made", "kind"), REPEATED.values(), ids=REPEATED)
def test_equal_records_are_taken_once(made, kind, tmp_path):
    files, datasets, frames, _ = everywhere(made, tmp_path)
    assert files.counts[kind] == datasets.counts[kind] == frames.counts[kind] == 1
    assert any(note.startswith(NOTES[kind][0]) for note in files.notes)


CONTRADICTIONS = {
    "two grades": (Records(TOPICS, [*JUDGED, ("q1", "d1", 1)], TEXTS), 5, "grade 1 after 2"),
    "two scores": (
        Records(TOPICS, JUDGED, TEXTS, [("q1", "d1", 2), ("q1", "d2", 1), ("q1", "d1", 3)]),
        3,
        "score 3 after 2",
    ),
    "two texts of a query": (Records([*TOPICS, ("q1", "tea")], JUDGED, TEXTS), 3, "another text"),
    "half a grade": (Records(TOPICS, [*JUDGED, ("q1", "d3", 0.5)], TEXTS), 5, "grade is '0.5'"),
    "a grade that is an id": (Records(TOPICS, [("q1", "d1", 20190501)], TEXTS), 1, "20190501"),
    "no score": (Records(TOPICS, JUDGED, TEXTS, [("q1", "d1", float("nan"))]), 1, "'nan'"),
    "other topics": (Records(TOPICS, [("9", "d1", 1), ("8", "d1", 1)], TEXTS), 1, "first is 'q1'"),
}


@pytest.mark.parametrize(("made", "number", "came"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_what_would_be_a_guess_is_refused_by_its_number(made, number, came, tmp_path):
    with pytest.raises(InputError, match=came) as in_files:
        made.in_files(tmp_path)
    assert f", line {number}: " in str(in_files.value)
    with pytest.raises(InputError, match=came) as in_dataset, made.in_ir_datasets():
        pass
    assert f" {number}: " in str(in_dataset.value)
    assert "ir_datasets export made" in str(in_dataset.value)
    with pytest.raises(InputError, match=came) as in_frame:
        made.in_frames()
    assert f", record {number}: " in str(in_frame.value)
    assert max(len(str(one.value)) for one in (in_files, in_dataset, in_frame)) <= 400


def test_a_collection_in_python_is_refused_in_one_line():
    with pytest.raises(InputError, match="passage of the run 3: passage 'd1' comes a second time"):
        choose(Memory(dict(TOPICS), {"q1": {"d1": 1}}, dict(TEXTS), {"q1": ["d1", "d2", "d1"]}))
    with pytest.raises(InputError, match="judgement 1: the grade is '5000'"):
        choose(Memory(dict(TOPICS), {"q1": {"d1": 5000}}, dict(TEXTS)))


def test_the_ideal_counts_a_passage_without_text_only_where_it_is_that_of_the_qrels(tmp_path):
    made = Records(TOPICS, [("q1", "d1", 1), ("q1", "d2", 0), ("q1", "gone", 3)], TEXTS)
    for chosen in everywhere(made, tmp_path):
        assert chosen.ideals["made", "q1"] == (1, 0)
    for chosen in everywhere(made, tmp_path, all_judged=True, ideal="full"):
        assert chosen.ideals["made", "q1"] == (3, 1, 0)
    # what is there has no gain of its own: the full ideal keeps the query, the sample's does not
    made.qrels = [("q1", "d2", 0), ("q1", "gone", 3), ("q2", "d3", 1)]
    assert [one.counts["queries"] for one in everywhere(made, tmp_path, ideal="full")] == [2] * 4
    assert [one.counts["queries"] for one in everywhere(made, tmp_path)] == [1] * 4


def test_a_passage_without_text_keeps_its_place_in_the_run(tmp_path):
    run = [("q1", "gone", 9), ("q1", "d1", 8), ("q1", "d2", 7), ("q1", "d3", 6)]
    for chosen in everywhere(Records(TOPICS, JUDGED, TEXTS, run), tmp_path, depth=2):
        assert [pair.docid for pair in chosen.pairs] == ["d1"]
        assert chosen.counts["retrieved_without_text"] == 1


def test_queries_are_drawn_until_enough_have_passages(tmp_path):
    topics = [(f"q{number}", f"words {number}") for number in range(20)]
    gone = {f"q{number}" for number in range(0, 20, 2)}
    judged = [(qid, "gone" if qid in gone else "d1", 1) for qid, _ in topics]
    for chosen in everywhere(Records(topics, judged, TEXTS), tmp_path, queries=8):
        counts = chosen.counts
        assert counts["queries"] == 8 == len(chosen.pairs)
        left = ("queries", "queries_without_texts", "queries_not_drawn")
        assert sum(counts[name] for name in left) == counts["topics"] == 20
    few, many = (everywhere(Records(topics, judged, TEXTS), tmp_path, queries=n)[0] for n in (3, 8))
    assert set(few.pairs) <= set(many.pairs)


OWN = {
    "the query's text": ("warm tea", True),
    "with other spaces": ("  warm\ttea ", True),
    "with a title": ("Tea warm tea", True),
    "another text": ("cold rain", False),
    "a text that begins with the query": ("warm tea is good", False),
    "a long text that ends with the query": ("on a cold day I drink warm tea", False),
}


@pytest.mark.parametrize(("text", "own"), OWN.values(), ids=OWN)
def test_a_query_is_not_its_own_candidate(text, own, tmp_path):
    """BEIR leaves out what has the query's id; TREC numbers queries and passages apart."""
    passages = [*TEXTS, ("1", text)]
    run = [("1", "1", 9), ("1", "d2", 8), ("1", "d1", 7)]
    made = Records([("1", "warm tea")], [("1", "d1", 1), ("1", "1", 0)], passages, run)
    for chosen in everywhere(made, tmp_path, depth=2):
        assert [pair.docid for pair in chosen.pairs] == (["d2", "d1"] if own else ["1", "d2"])
        assert chosen.counts["own_passages"] == own
        assert chosen.counts["passages_with_query_id"] == (not own)
        assert chosen.counts["judged_outside_the_run"] == (not own)
        assert any("'1'" in note for note in chosen.notes)
    for chosen in everywhere(made, tmp_path, all_judged=True):
        assert [pair.docid for pair in chosen.pairs] == (["d1"] if own else ["1", "d1"])
    negatives = choose(Memory({"1": "warm tea"}, {"1": {"d1": 1}}, dict(passages)), easy=2)
    assert (
        own == ("1" not in {pair.docid for pair in negatives.pairs if not pair.judged}) or not own
    )


def jsonl(*records: dict) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in records).encode()


IDS = {
    "the passage's under id": ([{"id": "a", "docid": "A"}, {"id": "b", "docid": "A"}], "'id' in"),
    "the passage's under docid": ([{"id": 1, "docid": "a"}, {"id": 2, "docid": "b"}], "'docid' in"),
    "an article's first": ([{"document_id": "A", "pid": "a"}, {"pid": "b", "_id": 9}], "'pid' in"),
    "two keys alike": (
        [{"docid": "A", "_id": "a", "id": "a"}, {"docid": "A", "_id": "b", "id": "b"}],
        "'_id' in",
    ),
    "an article's, with a space": (
        [{"docid": "Green tea", "id": "a"}, {"docid": "Green tea", "id": "b"}],
        "'id' in",
    ),
    "one key that is null": ([{"docid": None, "id": "a"}, {"docid": "", "id": "b"}], "'id' in"),
}


@pytest.mark.parametrize(("ids", "taken"), IDS.values(), ids=IDS)
def test_the_id_that_the_judgements_use_is_taken(ids, taken, tmp_path):
    lines = [{**one, "text": f"words {number}"} for number, one in enumerate(ids)]
    write(tmp_path, {**GOOD, "qrels": b"q1 0 a 1\nq1 0 b 0\n", "p.jsonl": jsonl(*lines)})
    collection = load(tmp_path, run=None)
    assert [pair.text for pair in choose(collection).pairs] == ["words 0", "words 1"]
    assert sorted(collection.random_docids(9, 0)) == ["a", "b"]
    assert not collection.oddities.counts["unusable_ids"]
    if collection.oddities.counts["several_ids"]:
        assert any(taken in note for note in choose(collection).notes)


def test_of_ids_that_no_judgement_uses_the_usable_key_is_taken(tmp_path):
    lines = [{"docid": f"Tea {n}", "id": f"p{n}", "text": "hot"} for n in range(2)]
    write(tmp_path, {**GOOD, "more.jsonl": jsonl(*lines)})
    collection = load(tmp_path, ["p.jsonl", "more.jsonl"], run=None)
    assert sorted(collection.random_docids(9, 0)) == ["a", "b", "c", "p0", "p1", "z"]
    assert not collection.oddities.counts["unusable_ids"]


TOPIC_IDS = {
    "the second key": ([{"id": 1, "number": 2}, {"id": 2, "number": 3}], b"3 0 a 1\n", ["2", "3"]),
    "the first key": ([{"id": 1, "number": 7}, {"id": 2, "number": 8}], b"1 0 a 1\n", ["1", "2"]),
    "one that is no text": ([{"_id": {"$oid": "5f"}, "id": "q1"}], b"q1 0 a 1\n", ["q1"]),
    "one with a space": ([{"qid": "tea 1", "id": "q1"}], b"q1 0 a 1\n", ["q1"]),
}


@pytest.mark.parametrize(("ids", "qrels", "taken"), TOPIC_IDS.values(), ids=TOPIC_IDS)
def test_a_topic_has_the_id_that_the_judgements_use(ids, qrels, taken, tmp_path):
    topics = jsonl(*({**one, "text": f"query {at}"} for at, one in enumerate(ids)))
    write(tmp_path, {**GOOD, "qrels": qrels, "t.jsonl": topics})
    collection = load(tmp_path, topics="t.jsonl", run=None)
    assert [*collection.queries] == taken
    several = len(ids) * (len(ids) > 1 or "qid" in ids[0])
    assert collection.oddities.counts["several_topic_ids"] == several
    assert any("lines of topics with" in note for note in choose(collection).notes) == (several > 0)


def test_topics_whose_ids_only_a_guess_could_choose_between_are_refused(tmp_path):
    topics = jsonl({"id": 1, "number": 2, "text": "tea"}, {"id": 2, "number": 1, "text": "rust"})
    write(tmp_path, {**GOOD, "qrels": b"1 0 a 1\n2 0 b 1\n", "t.jsonl": topics})
    with pytest.raises(InputError, match=r"t\.jsonl, line 1: the ids differ .*use id and number"):
        load(tmp_path, topics="t.jsonl", run=None)


def test_ids_that_only_a_guess_could_choose_between_are_refused(tmp_path):
    both = [{"id": "a", "docid": "b", "text": "x"}]
    turned = [{"id": "a", "docid": "A", "text": "x"}, {"id": "B", "docid": "b", "text": "y"}]
    for lines, number in ((both, 1), (turned, 2)):
        write(tmp_path, {**GOOD, "qrels": b"q1 0 a 1\nq1 0 b 0\n", "p.jsonl": jsonl(*lines)})
        with pytest.raises(InputError, match=rf"p\.jsonl, line {number}: the ids differ \(docid"):
            load(tmp_path, run=None)


@pytest.mark.parametrize("given", [7, "7", "007", "7.0", 7.0, "\N{SNOWMAN}", "d" * 500])
def test_an_id_of_any_type_is_read_as_it_is_written(given, tmp_path):
    lines = jsonl({"_id": given, "text": "x"})
    write(tmp_path, {**GOOD, "qrels": f"q1 0 {given} 1\n".encode(), "p.jsonl": lines})
    assert [pair.docid for pair in choose(load(tmp_path, run=None)).pairs] == [str(given)]


def test_excluded_passages_are_no_candidates(tmp_path):
    """BRIGHT's judgements exclude passages from a query's evaluation by the grade -100."""
    made = Records(
        [("q1", "warm tea")],
        [("q1", "d1", 1), ("q1", "d2", -100), ("q1", "d3", -1)],
        TEXTS,
        [("q1", "d2", 9), ("q1", "d1", 8), ("q1", "d3", 7)],
    )
    for way, ids in (({}, {"d1", "d3"}), ({"depth": 1}, {"d1"}), ({"depth": 2}, {"d1", "d3"})):
        for chosen in everywhere(made, tmp_path, **way):
            assert {pair.docid for pair in chosen.pairs} == ids
            assert chosen.counts["excluded_passages"] == 1
            assert chosen.counts["judged_outside_the_run"] == (way == {"depth": 1})
            assert any("exclude from evaluation" in note for note in chosen.notes)


QRELS = {
    "TREC": b"q1 0 a 2\nq2 Q0 c 1\n",
    "tabs": b"q1\t0\ta\t2\nq2\tx y\tc\t1\n",
    "BEIR with a header": b"query-id\tcorpus-id\tscore\nq1\ta\t2\nq2\tc\t1\n",
    "BEIR without": b"q1\ta\t2\nq2\tc\t1\n",
    "points": b"q1 0 a 2.0\nq2 0 c +1\n",
    "gzip": gzip.compress(b"\xef\xbb\xbfq1 0 a 2\r\nq2 0 c 1\r\n\r\n"),
}


@pytest.mark.parametrize("content", QRELS.values(), ids=QRELS)
def test_qrels_in_their_usual_forms_are_alike(content, tmp_path):
    name = "qrels.gz" if content.startswith(b"\x1f") else "qrels"
    write(tmp_path, {**GOOD, name: content})
    assert load(tmp_path, qrels=name).qrels == {"q1": {"a": 2}, "q2": {"c": 1}}


RUNS = {
    "out of order": b"q1 Q0 b 1 1 x\nq1 Q0 a 2 2 x\n",
    "ranks of 0": b"q1 Q0 a 0 2 x\nq1 Q0 b 0 1 x\n",
    "no ranks": b"q1 Q0 a - 2 x\nq1 Q0 b - 1 x\n",
    "a tag with spaces": b"q1 Q0 a 1 2 my own tag\nq1 Q0 b 2 1 my own tag\n",
    "exponents": b"q1 Q0 a 1 1e-3 x\nq1 Q0 b 2 -2.5E+3 x\n",
    "infinite scores": b"q1 Q0 a 1 inf x\nq1 Q0 b 2 -Infinity x\n",
    "ties by rank": b"q1 Q0 b 2 1 x\nq1 Q0 a 1 1 x\n",
    "ties without ranks": b"q1 Q0 a 0 1 x\nq1 Q0 b 0 1 x\nq2 Q0 c 0 1 x\nq2 Q0 z 0 0 x\n",
}


@pytest.mark.filterwarnings("ignore::matchlens.errors.MatchlensWarning")
@pytest.mark.parametrize("content", RUNS.values(), ids=RUNS)
def test_runs_are_ordered_by_score_then_rank_then_line(content, tmp_path):
    write(tmp_path, {**GOOD, "r.run": content})
    assert load(tmp_path).run["q1"] == ["a", "b"]


def exported(part: str, folder, name: str, form: str) -> None:
    """What `ir_datasets export made PART --format FORM` writes."""
    out = io.StringIO()
    with redirect_stdout(out):
        export.main(shlex.split(f"made {part} --format {form}"))
    (folder / name).write_text(out.getvalue())


def edited(folder, name: str, old: str, new: str) -> None:
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


GUESSES = [
    ("two grades", "keep one of the two", "qrels", "q1 0 d1 1\n", ""),
    ("two scores", "keep one of the two", "r.run", "q1 Q0 d1 0 3 run\n", ""),
    ("two texts of a query", "remove or rename one", "t.tsv", "q1\ttea\n", ""),
    ("half a grade", "correct it", "qrels", "0.5", "1"),
    ("a grade that is an id", "correct it", "qrels", "20190501", "1"),
    ("no score", "correct it", "r.run", "nan", "1.5"),
]


@pytest.mark.filterwarnings("ignore::matchlens.errors.MatchlensWarning")
@pytest.mark.parametrize(("name", "remedy", "file", "old", "new"), GUESSES)
def test_the_remedy_for_a_dataset_works(name, remedy, file, old, new, tmp_path):
    made = CONTRADICTIONS[name][0]
    with (
        pytest.raises(InputError, match=f"export made`\\) and there {remedy}"),
        made.in_ir_datasets(),
    ):
        pass
    with made.registered():
        exported("queries", tmp_path, "t.tsv", "tsv")
        exported("qrels", tmp_path, "qrels", "trec")
        exported("docs", tmp_path, "p.jsonl", "jsonl")
        if made.run:
            exported("scoreddocs", tmp_path, "r.run", "trec")
    edited(tmp_path, file, old, new)
    assert choose(load(tmp_path, run="r.run" if made.run else None)).pairs


@pytest.mark.parametrize("text", ["\u200b", "\0", "\ufeff \u00ad", "\u3000\u00a0"])
def test_a_passage_with_nothing_to_read_is_left_out_and_counted(tmp_path, text):
    lines = jsonl({"id": "a", "text": text}, {"id": "b", "text": "\u200btea"})
    write(tmp_path, {**GOOD, "p.jsonl": lines, "qrels": b"q1 0 a 0\nq1 0 b 1\n"})
    chosen = choose(load(tmp_path, run=None))
    assert [pair.docid for pair in chosen.pairs] == ["b"]
    assert chosen.counts["judged_without_text"] == 1


@pytest.mark.parametrize("empty", [None, ""])
def test_a_text_under_another_key_is_taken_where_the_first_is_empty(tmp_path, empty):
    lines = jsonl({"id": "a", "text": empty, "contents": "warm tea"}, {"id": "b", "text": empty})
    write(tmp_path, {**GOOD, "p.jsonl": lines, "qrels": b"q1 0 a 1\nq1 0 b 1\n"})
    assert [pair.text for pair in choose(load(tmp_path, run=None)).pairs] == ["warm tea"]


def test_the_remedy_for_a_dataset_without_its_passages_works(tmp_path):
    made = Records(TOPICS, [("q1", "gone", 1)], TEXTS)
    with (
        made.in_ir_datasets() as collection,
        pytest.raises(InputError, match="export made`\\) and add the passages"),
    ):
        choose(collection)
    with made.registered():
        exported("queries", tmp_path, "t.tsv", "tsv")
        exported("qrels", tmp_path, "qrels", "trec")
        exported("docs", tmp_path, "p.jsonl", "jsonl")
    write(tmp_path, {"more.jsonl": jsonl({"docid": "gone", "text": "here"})})
    assert choose(load(tmp_path, ["p.jsonl", "more.jsonl"], run=None)).counts["pairs"] == 1


BOTH = jsonl({"id": "a", "docid": "b", "text": "x"}, {"id": "c", "docid": "d", "text": "x"})
LATIN = "q1\tcaf\u00e9\n".encode("latin-1")
REMEDIES = {
    "iconv": ({"t.tsv": LATIN}, "convert it, for", {"t.tsv": LATIN.decode("latin-1").encode()}),
    "rename ids": ({"t.tsv": b"q 1\tx\n"}, "rename them everywhere", {"t.tsv": b"q1\tx\n"}),
    "a tab": ({"t.tsv": b"q1 x\n"}, "convert other formats of topics", {"t.tsv": b"q1\tx\n"}),
    "one query": ({"t.tsv": b"q1\tx\nq1\ty\n"}, "remove or rename one", {"t.tsv": b"q1\tx\n"}),
    "an id": ({"t.tsv": b"\tx\n"}, "write one", {"t.tsv": b"q1\tx\n"}),
    "other topics": ({"t.tsv": b"7\tx\n"}, "give the topics that belong", {"t.tsv": b"q1\tx\n"}),
    "one grade": ({"qrels": b"q1 0 a 2\nq1 0 a 1\n"}, "keep one", {"qrels": b"q1 0 a 2\n"}),
    "a grade": ({"qrels": b"q1 0 a 2.5\n"}, "correct it", {"qrels": b"q1 0 a 2\n"}),
    "a column": ({"qrels": b"q1 a 2\n"}, "qid iteration docid grade", {"qrels": b"q1 0 a 2\n"}),
    "a judged text": ({"qrels": b"q1 0 y 2\n"}, "or write the ids alike", {"qrels": b"q1 0 a 2\n"}),
    "a positive grade": ({"qrels": b"q1 0 a 0\n"}, "positive grade", {"qrels": b"q1 0 a 1\n"}),
    "a score": ({"r.run": b"q1 Q0 a 1 nan x\n"}, "correct it", {"r.run": b"q1 Q0 a 1 2 x\n"}),
    "scores that differ": (
        {"r.run": b"q1 Q0 a 0 0 x\nq1 Q0 b 0 0 x\n"},
        "write scores or ranks that differ",
        {"r.run": b"q1 Q0 a 1 0 x\nq1 Q0 b 2 0 x\n"},
    ),
    "an id without spaces": (
        {"r.run": b"q1 Q0 a b 1 2 x\n"},
        "take the spaces out",
        {"r.run": b"q1 Q0 a 1 2 x\n"},
    ),
    "one text": (
        {"p.jsonl": jsonl({"id": "a", "text": "x"}, {"id": "a", "text": "y"})},
        "keep one of the two",
        {"p.jsonl": jsonl({"id": "a", "text": "x"})},
    ),
    "one key": (
        {"p.jsonl": BOTH},
        "remove the other keys from the file",
        {"p.jsonl": jsonl({"id": "a", "text": "x"}, {"id": "c", "text": "x"})},
    ),
    "a key of the id": (
        {"p.jsonl": jsonl({"key": "a", "text": "x"})},
        "(or doc_id, _id, id, docno, pid",
        {"p.jsonl": jsonl({"pid": "a", "text": "x"})},
    ),
    "one text of a topic": (
        {"t.jsonl": jsonl({"id": "q1", "title": "tea", "text": "hot tea"})},
        "keep the right key in every line and remove or join the others",
        {"t.jsonl": jsonl({"id": "q1", "text": "tea hot tea"})},
    ),
    "a header": (
        {"qrels": b"corpus-id\tquery-id\tscore\na\tq1\t2\n"},
        "in this order",
        {"qrels": b"query-id\tcorpus-id\tscore\nq1\ta\t2\n"},
    ),
    "unpack bzip2": (
        {"qrels": bz2.compress(GOOD["qrels"])},
        "unpack it (bunzip2)",
        {"qrels": GOOD["qrels"]},
    ),
    "a pointer": (
        {"p.jsonl": b"version https://git-lfs.github.com/spec/v1\n"},
        "git lfs pull",
        {"p.jsonl": GOOD["p.jsonl"]},
    ),
    "a text once": (
        {"p.jsonl": b'{"id": "a", "text": "x", "text": "y"}\n'},
        "correct it",
        {"p.jsonl": jsonl({"id": "a", "text": "x"})},
    ),
    "unpack": (
        {"p.jsonl": gzip.compress(GOOD["p.jsonl"])},
        "unpack it, or end its name with .gz",
        {"p.jsonl": GOOD["p.jsonl"]},
    ),
}


@pytest.mark.filterwarnings("ignore::matchlens.errors.MatchlensWarning")
@pytest.mark.parametrize(("bad", "remedy", "good"), REMEDIES.values(), ids=REMEDIES)
def test_the_remedy_that_a_message_names_works(bad, remedy, good, tmp_path):
    write(tmp_path, {**GOOD, **bad})
    topics = "t.jsonl" if "t.jsonl" in bad else "t.tsv"
    with pytest.raises(InputError) as caught:
        choose(load(tmp_path, topics=topics, run="r.run" if "r.run" in bad else None))
    assert remedy in str(caught.value)
    assert len(str(caught.value)) <= 400 + len(str(tmp_path))
    write(tmp_path, good)
    run = "r.run" if "r.run" in good else None
    assert choose(load(tmp_path, topics=topics, run=run)).pairs


def test_the_command_line_states_each_note_once(tiny_folder, tmp_path, capfd):
    from matchlens.cli import main

    qrels = GOOD["qrels"] + b"q1 0 gone 1\nq9 0 a 1\nq1 0 a 2\n"
    write(tmp_path, {**GOOD, "qrels": qrels})
    files = {"--topics": "t.tsv", "--qrels": "qrels", "--passages": "p.jsonl"}
    words = [word for name, file in files.items() for word in (name, str(tmp_path / file))]
    out = tmp_path / "out"
    assert (
        main(["ablation", "-m", str(tiny_folder), *words, "--cut", "Q->D", "--out", str(out)]) == 0
    )
    said = capfd.readouterr().out
    for what in ("judged passages without a text: 1", "that the topics lack: 1", "same grade: 1"):
        assert said.count(what) == 1
    manifest = json.loads((out / "manifest.json").read_text())
    counts = manifest["identity"]["pairs"]["counts"]
    kinds = ("judged_without_text", "unlisted_queries_judged", "repeated_judgements")
    assert [counts[kind] for kind in kinds] == [1, 1, 1]
    assert manifest["studies"]["ablation"]["notes"][:3] == said_notes(said)[:3]


def said_notes(said: str) -> list[str]:
    notes = " ".join(said.split()).split("Note: ")[1:]
    return [note.strip().removesuffix(".") for note in notes]
