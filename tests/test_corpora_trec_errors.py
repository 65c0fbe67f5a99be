"""Collections in files: what is refused and with which words."""

import bz2
import codecs
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora_files import GOOD, load, write
from matchlens.corpora import choose, lines
from matchlens.errors import InputError, MatchlensWarning


def refusal(folder: Path, files: dict[str, bytes], **options) -> str:
    write(folder, {**GOOD, **files})
    with pytest.raises(InputError) as caught:
        choose(load(folder, **options), depth=1)
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) < 600
    assert ";" in message  # what came; what was expected and what to do
    return message


def tarred(content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as made:
        entry = tarfile.TarInfo("qrels")
        entry.size = len(content)
        made.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


BAD_LINES = {
    "a topics line without a tab": ("t.tsv", b"q1\tx\nq2 words\n", 2, "0 tabs"),
    "a topics line with two tabs": ("t.tsv", b"q1\tx\ty\n", 1, "2 tabs"),
    "a query twice": ("t.tsv", b"q1\tx\nq2\ty\n\nq1\tz\n", 4, "'q1' comes a second time"),
    "an empty query id": ("t.tsv", b"\tx\n", 1, "the query id is empty"),
    "three columns in the qrels": ("qrels", b"q1 0 a 2\nq1 b 1\n", 2, "3 columns"),
    "three columns apart by spaces": ("qrels", b"q1 a 1\nq1 b 1\n", 1, "3 columns"),
    "a header of swapped columns": (
        "qrels",
        b"corpus-id\tquery-id\tscore\na\tq1\t2\n",
        1,
        "a header of other columns",
    ),
    "a header with commas": ("qrels", b"query-id,corpus-id,score\nq1,a,2\n", 1, "a header of"),
    "four names": ("qrels", b"qid iter docno label\nq1 0 a 2\n", 1, "a header of other columns"),
    "four columns after three": ("qrels", b"q1\ta\t1\nq1\t0\tb\t1\n", 2, "expected 3: qid docid"),
    "five columns in the qrels": ("qrels", b"q1 0 a 2 5\n", 1, "5 columns"),
    "a grade between two others": ("qrels", b"q1 0 a 2.5\n", 1, "the grade is '2.5'"),
    "a grade that is a word": ("qrels", b"q1 0 a good\n", 1, "the grade is 'good'"),
    "a grade with an underscore": ("qrels", b"q1 0 a 1_0\n", 1, "the grade is '1_0'"),
    "a grade in other digits": ("qrels", "q1 0 a ٣\n".encode(), 1, "the grade is"),
    "a grade that is an id": ("qrels", b"q1 0 a 20190501\n", 1, "'20190501'; expected a whole"),
    "a passage judged twice": ("qrels", b"q1 0 a 2\nq1\t0\ta\t1\n", 2, "grade 1 after 2"),
    "qrels of unknown queries": ("qrels", b"q9 0 a 2\nq8 0 a 2\n", 1, "any of the 2 queries here"),
    "a run line of five columns": ("r.run", b"q1 Q0 a 1 2.5\n", 1, "5 columns"),
    "a score that is a word": ("r.run", b"q1 Q0 a 1 high x\n", 1, "the score is 'high'"),
    "a score that is no number": ("r.run", b"q1 Q0 a 1 nan x\n", 1, "the score is 'nan'"),
    "a score with an underscore": ("r.run", b"q1 Q0 a 1 1_0 x\n", 1, "the score is '1_0'"),
    "a space in an id of a run": ("r.run", b"q1 Q0 a b 1 1 x\n", 1, "the rank is 'b'"),
    "a passage twice in a run": ("r.run", b"q1 Q0 a 1 2 x\nq1 Q0 a 2 1 x\n", 2, "score 1 after 2"),
    "a run of unknown queries": ("r.run", b"q9 Q0 a 1 1 x\nq8 Q0 a 1 1 x\n", 1, "'q9' is not"),
    "a line that is not JSON": ("p.jsonl", b'{"docid": "a"\n', 1, "is not JSON"),
    "a number too long for Python": ("p.jsonl", b"1" * 5000, 1, "is not JSON"),
    "JSON too deep for Python": ("p.jsonl", b"[" * 100000, 1, "is not JSON"),
    "JSON that is no object": ("p.jsonl", b'["a", "b"]\n', 1, "no object"),
    "a passage without an id": ("p.jsonl", b'{"key": "a", "text": "x"}\n', 1, "no id among"),
    "an id that is a list": ("p.jsonl", b'{"id": ["a"], "text": "x"}\n', 1, "the id \"['a']\""),
    "an id that is true": ("p.jsonl", b'{"id": true, "text": "x"}\n', 1, "the id 'True'"),
    "an empty passage id": ("p.jsonl", b'{"id": "", "text": "x"}\n', 1, "passage id is empty"),
    "an id that is no number": ("p.jsonl", b'{"id": NaN, "text": "x"}\n', 1, "the id 'nan'"),
    "a text that is a number": ("p.jsonl", b'{"id": "a", "text": 1.5}\n', 1, "text is '\"1.5\"'"),
    "a passage without a text": ("p.jsonl", b'{"id": "a"}\n', 1, "no text in passage 'a'"),
    "a text that is a list": ("p.jsonl", b'{"id": "a", "text": ["x"]}\n', 1, "text is '[\"x\"]'"),
    "a title that is a number": ("p.jsonl", b'{"id": "a", "text": "x", "title": 1}\n', 1, "title"),
    "half a character": ("p.jsonl", b'{"id": "a", "text": "\\ud800"}\n', 1, "surrogate"),
    "one id with two texts": (
        "p.jsonl",
        b'{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n',
        2,
        "'a' comes a second time with another text",
    ),
    "not UTF-8": ("t.tsv", b"q1\tx\nq2\tcaf\xe9\n", 2, "byte 7 of the line (0xe9) is not UTF-8"),
    "UTF-16": ("t.tsv", "q1\tx\n".encode("utf-16"), 1, "this is UTF-16 text"),
    "UTF-16 the other way": ("qrels", codecs.BOM_UTF16_BE + b"\0q", 1, "this is UTF-16 text"),
    "bzip2": ("qrels", bz2.compress(b"q1 0 a 2\n"), 1, "this is bzip2 data"),
    "xz": ("r.run", lzma.compress(b"q1 Q0 a 1 2 x\n"), 1, "this is xz data"),
    "Zstandard": ("p.jsonl", b"\x28\xb5\x2f\xfd\x24\x09", 1, "this is Zstandard data"),
    "a zip archive": ("qrels", b"PK\x03\x04\x14\0\0\0", 1, "this is a zip archive"),
    "a Parquet file": ("p.jsonl", b"PAR1\x15\x04\x15\xff", 1, "this is a Parquet file"),
    "a tar archive": ("qrels", tarred(b"q1 0 a 2\n"), 1, "this is a tar archive"),
    "a pointer": ("p.jsonl", b"version https://git-lfs.github.com/spec/v1\n", 1, "of Git LFS"),
    "a web page": ("t.tsv", b"<!DOCTYPE HTML>\n<html>\n", 1, "this is a web page"),
    "a web page without a type": ("qrels", b" <html lang=en>\n", 1, "this is a web page"),
    "a key twice": (
        "p.jsonl",
        b'{"id": "a", "text": "x", "text": "y"}\n',
        1,
        "'text' stands twice",
    ),
    "an id twice": ("p.jsonl", b'{"_id": "b", "_id": "a", "text": "x"}\n', 1, "'_id' stands twice"),
    "an array on several lines": ("p.jsonl", b'[\n {"id": "a"}\n]\n', 1, "a JSON array begins"),
    "gzip without its name": ("t.tsv", gzip.compress(b"q1\tx\n", mtime=0), 1, "gzip inside"),
}


@pytest.mark.parametrize(("file", "content", "number", "came"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_refused_by_file_and_number(tmp_path, file, content, number, came):
    message = refusal(tmp_path, {file: content})
    assert f"{tmp_path / file}, line {number}: " in message
    assert came in message


def test_ids_that_begin_as_other_files_do_are_ids(tmp_path):
    names = ["BZh9", "bzip", "PAR1x", "PKa", "version", "html", "ustar"]
    write(tmp_path, GOOD)
    (tmp_path / "t.tsv").write_text("".join(f"{name}\twarm tea\n" for name in names))
    (tmp_path / "qrels").write_text("".join(f"{name} 0 a 1\n" for name in names))
    assert {pair.qid for pair in choose(load(tmp_path, run=None)).pairs} == {*names}


def test_a_key_that_stands_twice_with_one_value_is_a_key(tmp_path):
    line = b'{"id": "a", "id": "a", "text": "x", "url": "u", "url": "v"}\n'
    write(tmp_path, {**GOOD, "p.jsonl": line, "qrels": b"q1 0 a 1\n"})
    assert [pair.text for pair in choose(load(tmp_path, run=None)).pairs] == ["x"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", b'{"_id": "q1", "text": "tea", "text": "rust"}\n'),
        ("t.jsonl", b'{"_id": "q0", "_id": "q1", "text": "tea"}\n'),
    ],
)
def test_a_topic_s_key_twice_is_refused(tmp_path, name, content):
    message = refusal(tmp_path, {name: content}, topics=name)
    assert "stands twice, with different values" in message


def test_passages_whose_ids_cannot_be_used_are_not_called_an_empty_file(tmp_path):
    spaced = b'{"id": "a ", "text": "x"}\n{"id": "b\\u200b", "text": "y"}\n'
    message = refusal(tmp_path, {"p.jsonl": spaced})
    assert "no passage has an id that can be used" in message
    assert "is empty" not in message


@pytest.mark.parametrize("name", ["t.tsv", "qrels", "r.run", "p.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path, name, content):
    assert f"{tmp_path / name} is empty; expected" in refusal(tmp_path, {name: content})


@pytest.mark.parametrize("name", ["t.tsv", "qrels", "r.run", "p.jsonl"])
def test_a_missing_file_and_a_folder_are_refused(tmp_path, name):
    write(tmp_path, GOOD)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}' does not exist; expected a file"):
        load(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name}' is a folder; expected a file"):
        load(tmp_path)


def test_a_pipe_is_refused_rather_than_read_twice(tmp_path):
    write(tmp_path, GOOD)
    (tmp_path / "p.jsonl").unlink()
    os.mkfifo(tmp_path / "p.jsonl")
    with pytest.raises(InputError, match="is no regular file"):
        load(tmp_path)


def test_an_odd_path_gives_one_printable_line(tmp_path):
    write(tmp_path, GOOD)
    for name in ["a\nb\x1b[31m.jsonl", "a\x00b.jsonl", "x" * 5000 + ".jsonl"]:
        with pytest.raises(InputError) as caught:
            load(tmp_path, [name])
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600


def test_an_unknown_ending_is_refused(tmp_path):
    for name in ["p.json", "p", "p.gz", "p.jsonl.bz2", ".tsv"]:
        assert "unknown ending; expected .jsonl" in refusal(
            tmp_path, {name: GOOD["p.jsonl"]}, passages=[name]
        )


def test_no_passages_file_and_a_name_of_spaces_are_refused(tmp_path):
    assert "no passages file" in refusal(tmp_path, {}, passages=[])
    assert "the collection's name ' '" in refusal(tmp_path, {}, name=" ")


@pytest.mark.parametrize(
    ("content", "came"),
    [
        (gzip.compress(GOOD["p.jsonl"] * 50, mtime=0)[:-9], "ends too early"),
        (gzip.compress(GOOD["p.jsonl"], mtime=0)[:15] + b"\xff" * 40, "not a sound gzip file"),
        (gzip.compress(GOOD["p.jsonl"], mtime=0)[:-8] + b"\0" * 8, "not a sound gzip file"),
        (GOOD["p.jsonl"], "not a sound gzip file"),
        (b"", "is empty"),
    ],
)
def test_a_broken_gzip_file_is_refused(tmp_path, content, came):
    message = refusal(tmp_path, {"p.jsonl.gz": content}, passages=["p.jsonl.gz"])
    assert came in message
    assert "p.jsonl.gz" in message


def test_a_gzip_bomb_ends_in_an_error_by_line_or_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE", 1000)
    one_line = gzip.compress(b'{"id": "a", "text": "' + b" " * 10**6, mtime=0)
    message = refusal(tmp_path, {"p.jsonl.gz": one_line}, passages=["p.jsonl.gz"])
    assert "line 1: the line is longer than 1,000 bytes" in message
    monkeypatch.setattr(lines, "MAX_UNPACKED", 5000)
    many = gzip.compress(b"\n" * 10**6, mtime=0)
    message = refusal(tmp_path, {"p.jsonl.gz": many}, passages=["p.jsonl.gz"])
    assert "unpacks to more than 5,000 bytes" in message
    monkeypatch.setenv(lines.UNPACKED, "6000")
    message = refusal(tmp_path, {"p.jsonl.gz": many}, passages=["p.jsonl.gz"])
    assert "unpacks to more than 6,000 bytes" in message
    monkeypatch.setenv(lines.UNPACKED, "plenty")
    message = refusal(tmp_path, {"p.jsonl.gz": many}, passages=["p.jsonl.gz"])
    assert "MATCHLENS_MAX_UNPACKED is 'plenty'; expected a number of bytes" in message


@pytest.mark.slow
def test_a_gzip_file_may_unpack_to_no_more_than_text_of_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "FREE", 10**4)
    bomb = gzip.compress(b" \n" * 10**6, mtime=0)
    message = refusal(tmp_path, {"p.jsonl.gz": bomb}, passages=["p.jsonl.gz"])
    assert f"unpacks to more than {10**4 + lines.MAX_RATIO * len(bomb):,} bytes" in message
    monkeypatch.setenv(lines.UNPACKED, str(10**7))
    write(tmp_path, {"p.jsonl.gz": bomb + gzip.compress(GOOD["p.jsonl"])})
    assert len(load(tmp_path, ["p.jsonl.gz"]).queries) == 2


def test_a_long_plain_file_has_no_limit_but_that_of_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_UNPACKED", 50)
    write(tmp_path, GOOD)
    assert len(load(tmp_path).queries) == 2


PIECES = [
    *(piece for content in GOOD.values() for piece in content.split()),
    *(
        b"\t",
        b" ",
        b"\n",
        b"\r",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"nan",
        b"1e5",
        b"-1",
        b"9" * 30,
    ),
    *(
        b'{"id": 1, "text": "x"}',
        b'{"id": "a", "text": ""}',
        b"null",
        b"\\ud800",
        b"[",
        b'"',
        b"\xc2\x85",
    ),
]
CONTENT = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=14).map(b" ".join),
    st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join),
    st.tuples(
        st.sampled_from(sorted(GOOD.values())), st.integers(0, 99), st.binary(max_size=3)
    ).map(lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]),
)


@settings(max_examples=300)
@given(
    content=CONTENT,
    name=st.sampled_from(["t.tsv", "qrels", "r.run", "p.jsonl", "p.tsv"]),
    packed=st.sampled_from(["", "gzip", "called gzip"]),
)
def test_any_bytes_load_or_are_refused(content, name, packed):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", MatchlensWarning)
        path = Path(folder)
        write(path, GOOD)
        names = {"t.tsv": "t.tsv", "qrels": "qrels", "r.run": "r.run", "p.jsonl": "p.jsonl"}
        role = "p.jsonl" if name == "p.tsv" else name
        names[role] = name + (".gz" if packed else "")
        write(path, {names[role]: gzip.compress(content, mtime=0) if packed == "gzip" else content})
        try:
            collection = load(
                path, [names["p.jsonl"]], names["t.tsv"], names["qrels"], names["r.run"]
            )
            for options in ({}, {"all_judged": True}, {"depth": 2}):
                assert choose(collection, **options).pairs
        except InputError as error:
            refused = str(error)
        else:
            refused = ""
        assert refused.isprintable()
