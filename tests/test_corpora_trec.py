"""Collections in files: what loads, and how passages are fetched and drawn."""

import gzip
import hashlib
import json
from importlib.resources import files
from pathlib import Path

import pytest

from corpora_files import GOOD, load, write
from matchlens.corpora import trec
from matchlens.corpora.collection import Draw
from matchlens.errors import InputError, MatchlensWarning


def test_all_that_was_written_is_read(tmp_path):
    write(tmp_path, GOOD)
    collection = load(tmp_path)
    assert collection.name == "t"
    assert list(collection.queries.items()) == [("q1", "how to cook rice"), ("q2", "what is rust")]
    assert collection.qrels == {"q1": {"a": 2, "b": 0}, "q2": {"c": 3, "a": -1}}
    assert collection.run == {"q1": ["b", "a"], "q2": ["z"]}
    assert collection.texts(["c", "a", "nowhere"]) == {"a": "cook it", "c": "iron oxide"}
    assert collection.kinds == {}


def test_provenance_has_base_names_and_hashes(tmp_path):
    write(tmp_path, GOOD)
    source = load(tmp_path).source
    assert source["qrels"]["file"] == "qrels"
    assert source["qrels"]["sha256"] == hashlib.sha256(GOOD["qrels"]).hexdigest()
    assert source["passage_lines"] == 4
    assert str(tmp_path) not in json.dumps(source)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
def test_gzip_bom_line_ends_and_empty_lines_change_nothing(tmp_path, end):
    write(tmp_path, GOOD)
    plain = load(tmp_path)
    odd = {
        f"{name}.gz": gzip.compress(b"\xef\xbb\xbf" + (content + b"\n \n").replace(b"\n", end))
        for name, content in GOOD.items()
    }
    write(tmp_path, odd)
    packed = load(tmp_path, ["p.jsonl.gz"], "t.tsv.gz", "qrels.gz", "r.run.gz")
    assert (packed.queries, packed.qrels, packed.run) == (plain.queries, plain.qrels, plain.run)
    assert packed.texts("abc") == plain.texts("abc")


def test_errors_count_the_lines_that_end_with_cr(tmp_path):
    write(tmp_path, {**GOOD, "qrels": b"1 0 a 2\r\r1 0 b\r"})
    with pytest.raises(InputError, match=r"qrels, line 3: 3 columns in '1 0 b'"):
        load(tmp_path)


def test_every_format_of_passages_reads_alike(tmp_path):
    write(
        tmp_path,
        {
            "1.jsonl": b'{"doc_id": "a", "title": "Rice", "text": "Cook it."}\n',
            "2.jsonl": b'{"_id": "b", "title": "", "text": "Cook it."}\n',
            "3.jsonl": b'{"id": 7, "title": null, "text": "Cook it.", "more": [1]}\n',
            "4.tsv": b"c\tCook it.\n",
            "5.TSV.GZ": gzip.compress(b"d\tCook \xc3\xa9t\xc3\xa9.\n"),
        },
    )
    write(tmp_path, {"t.tsv": b"q\tx\n", "qrels": b"q 0 a 1\n"})
    names = ["1.jsonl", "2.jsonl", "3.jsonl", "4.tsv", "5.TSV.GZ"]
    found = load(tmp_path, names, run=None).texts(["a", "b", "7", "c", "d"])
    assert found == {
        "a": "Rice Cook it.",
        "b": "Cook it.",
        "7": "Cook it.",
        "c": "Cook it.",
        "d": "Cook été.",
    }


@pytest.mark.parametrize("header", [b"docid\ttext", b"_id\tcontents", b"DocNo\tText"])
def test_a_header_of_tables_is_no_record(header, tmp_path):
    passages = header + b"\na\tcook it\nb\ta boat\n"
    topics = b"qid\tquery\n" + GOOD["t.tsv"]
    write(tmp_path, {**GOOD, "p.tsv": passages, "t.tsv": topics})
    collection = load(tmp_path, ["p.tsv"])
    assert [*collection.queries] == ["q1", "q2"]
    assert sorted(collection.random_docids(9, 0)) == ["a", "b"]
    assert collection.source["passage_lines"] == 2


def test_kinds_are_kept_for_judged_passages_only(tmp_path):
    passages = (
        b'{"docid": "a", "text": "x", "kind": "exact"}\n'
        b'{"docid": "b", "text": "y", "kind": "trap"}\n'
        b'{"docid": "c", "text": "w", "kind": 1.5}\n{"docid": "z", "text": "v", "kind": "topic"}\n'
    )
    write(tmp_path, {**GOOD, "p.jsonl": passages})
    for kind in (b"7", b'["x"]', b"null"):  # another program's
        other = b'{"docid": "d", "text": "u", "kind": ' + kind + b"}"
        write(tmp_path, {**GOOD, "p.jsonl": passages + other})
        assert "d" in load(tmp_path).random_docids(9, 0)
    kinds = load(tmp_path).kinds
    assert kinds == {("q1", "a"): "exact", ("q1", "b"): "trap", ("q2", "a"): "exact"}


def test_a_run_is_ordered_by_score_and_ties_by_rank(tmp_path):
    run = b"q1 Q0 a 3 1.0 x\nq1 Q0 b 2 1.0 x\nq1 Q0 c 1 7 x\n"
    write(tmp_path, {**GOOD, "r.run": run})
    assert load(tmp_path).run == {"q1": ["c", "b", "a"]}


def test_ranks_against_scores_are_warned_about(tmp_path):
    run = b"q1 Q0 a 1 0.1 x\nq1 Q0 b 2 0.9 x\n"
    write(tmp_path, {**GOOD, "r.run": run})
    with pytest.warns(MatchlensWarning, match="contradict the scores in 1 of 1 queries"):
        collection = load(tmp_path)
    assert collection.run == {"q1": ["b", "a"]}


def test_the_same_passage_in_two_files_counts_once(tmp_path):
    write(tmp_path, {**GOOD, "more.jsonl": GOOD["p.jsonl"]})
    collection = load(tmp_path, ["p.jsonl", "more.jsonl"])
    assert len(collection.texts("abcz")) == 4
    assert sorted(collection.random_docids(10, 0)) == ["a", "b", "c", "z"]
    assert collection.source["passages_with_differing_texts"] == 0


def test_the_first_of_two_files_wins_and_says_so(tmp_path):
    write(tmp_path, {**GOOD, "more.tsv": b"a\tanother\n"})
    with pytest.warns(MatchlensWarning, match=r"more\.tsv: 1 passage with another text .* 'a'"):
        collection = load(tmp_path, ["p.jsonl", "more.tsv"])
    assert collection.texts("a") == {"a": "cook it"}
    assert collection.source["passages_with_differing_texts"] == 1


def test_files_that_change_after_loading_are_noticed(tmp_path):
    write(tmp_path, GOOD)
    collection = load(tmp_path)
    write(tmp_path, {"p.jsonl": GOOD["p.jsonl"] + b'{"docid": "y", "text": "new"}\n'})
    with pytest.raises(InputError, match="changed after it was loaded"):
        collection.texts(["a"])


def test_only_wanted_passages_are_kept(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(
        trec.Passage, "agrees", lambda passage, seen: kept.append(passage.docid) or True
    )
    write(tmp_path, GOOD)
    collection = load(tmp_path, run=None)
    assert sorted(kept) == ["a", "b", "c"]
    kept.clear()
    assert list(collection.texts(["z"])) == ["z"]
    assert kept == ["z"]


def test_random_passages_equal_the_slow_reference(tmp_path):
    ids = [f"d{number}" for number in range(300)]
    text = "".join(f"{docid}\tpassage {docid}\n" for docid in ids) + "empty\t \n"
    again = "".join(f"{docid}\tpassage {docid}\n" for docid in reversed(ids[:200]))
    write(tmp_path, {**GOOD, "big.tsv": text.encode(), "again.tsv": again.encode()})
    collection = load(tmp_path, ["p.jsonl", "again.tsv", "big.tsv"])
    everything = [*ids, "a", "b", "c", "z"]
    for n in (0, 1, 7, 303, 304, 1000):
        reference = sorted(everything, key=Draw(5, "collection").key)[:n]
        assert collection.random_docids(n, 5) == reference
    assert collection.random_docids(9, 6) != collection.random_docids(9, 5)


def test_random_passages_are_uniform(tmp_path):
    text = "".join(f"d{number}\tx{number}\n" for number in range(10))
    write(tmp_path, {**GOOD, "p.tsv": text.encode()})
    collection = load(tmp_path, ["p.tsv"], run=None)
    counts = dict.fromkeys((f"d{number}" for number in range(10)), 0)
    for seed in range(1000):
        for docid in collection.random_docids(3, seed):
            counts[docid] += 1
    assert all(abs(count - 300) < 5 * 14.5 for count in counts.values()), counts  # 5 sigma


def test_files_may_be_named_by_text():
    data = files("matchlens.corpora") / "demo_data"
    names = [str(data / name) for name in ("topics.tsv", "qrels.tsv", "passages.jsonl")]
    by_text = trec.load(names[0], names[1], names[2])
    assert by_text.queries == trec.load(Path(names[0]), Path(names[1]), [Path(names[2])]).queries
