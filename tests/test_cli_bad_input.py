"""Bad input: one line on stderr, status 2, nothing left behind; and what is no bad input."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import huggingface_hub.constants
import pytest
from safetensors.torch import load_file, save_file
from tokenizers import processors

import matchlens
import matchlens.cli
import tiny as tiny_models
from corpora_files import GOOD
from test_cli import listing

PAIRS = b'{"query": "a cat", "text": "a cat sat"}\n{"query": "tea", "text": "warm tea"}\n'
ABLATION = {
    "-m": "model",
    "--topics": "t.tsv",
    "--qrels": "qrels",
    "--passages": "p.jsonl",
    "--out": "out",
}
SCORE = {"-m": "model", "--pairs": "pairs.jsonl"}
RUN = {"--run": "r.run", "--depth": "2"}
SET = {"--cut-set": '{"name": "joint", "cuts": ["Q->D", "D->Q"]}'}
NO_COLLECTION = dict.fromkeys(("--topics", "--qrels", "--passages"))


class Pipe:
    """A named pipe in place of a file: reading it would never end."""


Content = bytes | None | Path | type[Pipe] | Callable[[bytes], bytes]
"""New content of a file; None: no such file; a path: a link to it; Pipe; a function: from the old
content."""


@dataclass(frozen=True)
class Case:
    """One bad thing, and the telling words of the line that must name it."""

    name: str
    says: str
    words: tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    stdin: bytes = b""


def words_of(command: str, base: Mapping[str, str], changed: Mapping[str, str | None], *more: str):
    options = {key: value for key, value in {**base, **changed}.items() if value is not None}
    return (command, *(word for couple in options.items() for word in couple), *more)


def ablation(name, says, changed=None, *more, **files) -> Case:
    return Case(name, says, words_of("ablation", ABLATION, changed or {}, *more), **files)


def score(name, says, changed=None, *more, **files) -> Case:
    return Case(name, says, words_of("score", SCORE, changed or {}, *more), **files)


def usage(name, says, *words) -> Case:
    return Case(name, says, words)


def content(says, file, new, name=None) -> Case:
    """A bad file of a collection."""
    changed: dict[str, str | None] = dict(RUN) if file == "r.run" else {}
    return ablation(name or f"{file}: {says}", says, changed, files={file: new})


def packed(says, name, new) -> Case:
    """A bad passages file that is called .gz."""
    return ablation(name, says, {"--passages": "p.jsonl.gz"}, files={"p.jsonl.gz": new})


def config(name, says, *, drop: tuple[str, ...] = (), **changed: object) -> Case:
    """A bad config.json."""

    def new(old: bytes) -> bytes:
        kept = {key: value for key, value in json.loads(old).items() if key not in drop}
        return json.dumps({**kept, **changed}).encode()

    return ablation(name, says, files={"model/config.json": new})


def manifest(**changed: object) -> bytes:
    """The manifest of an earlier run, as far as it is read."""
    return json.dumps({"format": 1, "identity": {}, "studies": {}, **changed}).encode()


def other(name, says, identity, **rest) -> Case:
    """Results of something else in the folder."""

    def scores(_: bytes) -> bytes:
        stream = io.BytesIO()
        import pandas as pd

        pd.DataFrame({"cut": [""], "pair": [0], "score": [0.0]}).to_parquet(stream)
        return stream.getvalue()

    files = {"out/manifest.json": manifest(identity=identity), "out/scores.parquet": scores}
    return ablation(name, says, files=files, **rest)


FILES = [
    ablation("topics missing", r"'no\.tsv' does not exist", {"--topics": "no.tsv"}),
    ablation("qrels missing", r"'no\.qrels' does not exist", {"--qrels": "no.qrels"}),
    ablation("passages missing", r"'no\.jsonl' does not exist", {"--passages": "no.jsonl"}),
    ablation("run missing", r"'no\.run' does not exist", {**RUN, "--run": "no.run"}),
    ablation("topics: folder", "'dir' is a folder; expected a file", {"--topics": "dir"}),
    ablation("qrels: folder", "'dir' is a folder; expected a file", {"--qrels": "dir"}),
    ablation("passages: folder", r"'dir\.jsonl' is a folder", {"--passages": "dir.jsonl"}),
    ablation("run: folder", "'dir' is a folder; expected a file", {**RUN, "--run": "dir"}),
    content(r"t\.tsv is empty; expected qid<TAB>query", "t.tsv", b""),
    content(r"qrels is empty; expected qid iteration docid grade", "qrels", b"\n\n"),
    content(r"p\.jsonl is empty; expected one passage a line", "p.jsonl", b""),
    content(r"r\.run is empty", "r.run", b""),
    content(r"t\.tsv, line 1: 0 tabs", "t.tsv", b"q1 how to cook rice\n"),
    content(r"line 1: query id 'q9' is not among the topics", "qrels", b"q9 0 a 1\n"),
    content(r"qrels, line 1: 3 columns", "qrels", b"q1 a 2\n"),
    content(r"line 1: the grade is '2\.5'", "qrels", b"q1 0 a 2.5\n"),
    content(r"no passage .* such as 'd' of query 'q1'", "qrels", b"q1 0 d 2\nq2 0 e 3\n"),
    content(r"no query .* topics without text: 2", "t.tsv", b"q1\t \nq2\t \n"),
    content(
        r"no passage .* such as 'a' of query 'q1'", "p.jsonl", b'{"docid": "a", "text": " "}\n'
    ),
    content(r"line 1: byte 4 of the line \(0xff\) is not UTF-8", "t.tsv", b"q1\t\xffcat\n"),
    content(r"byte 1 of the line \(0xe9\) is not UTF-8", "p.jsonl", b"\xe9\n", "passages: Latin-1"),
    packed("not a sound gzip file", "plain text called .gz", GOOD["p.jsonl"]),
    packed("ends too early", "truncated gzip", gzip.compress(GOOD["p.jsonl"] * 9)[:-20]),
    packed(
        "not a sound gzip file", "broken gzip", gzip.compress(GOOD["p.jsonl"])[:10] + b"\xff" * 99
    ),
    content("this is gzip inside", "p.jsonl", gzip.compress(GOOD["p.jsonl"])),
    content("line 2: query id 'q1' comes a second time", "t.tsv", b"q1\tcat\nq1\tdog\n"),
    content(
        "passage id 'a' comes a second time with another text",
        "p.jsonl",
        lambda b: b + b'{"docid": "a", "text": "other"}\n',
    ),
    content("'a' is judged a second time for query 'q1'", "qrels", b"q1 0 a 2\nq1 0 a 1\n"),
    content("'b' comes a second time", "r.run", b"q1 Q0 b 1 2 x\nq1 Q0 b 2 1 x\n"),
    content(r"p\.jsonl, line 1: .*JSON", "p.jsonl", b'{"docid": "a"\n'),
    content("line 1: no text in", "p.jsonl", b'{"docid": "a"}\n'),
    content("r.run, line 1: 4 columns", "r.run", b"q1 Q0 b 1\n"),
    content("line 1: the score is 'high'", "r.run", b"q1 Q0 b 1 high x\n"),
    content("no query of collection 't' is left", "qrels", b"q1 0 a 0\nq2 0 c -1\n"),
    ablation(
        "unknown ending",
        r"p\.txt: a passages file with an unknown ending",
        {"--passages": "p.txt"},
        files={"p.txt": GOOD["p.jsonl"]},
    ),
]
CANDIDATES = [
    ablation("a run that nothing uses", "--run is given and nothing uses it", {"--run": "r.run"}),
    ablation("--depth without a run", "has no run .* depth=2 needs one", {"--depth": "2"}),
    ablation("no candidate a grade", "per_grade is 0; expected 1 or more", {"--per-grade": "0"}),
    ablation("no depth", "depth is 0; expected 1 or more", {**RUN, "--depth": "0"}),
    ablation("no query", "queries is 0; expected 1 or more", {"--queries": "0"}),
    ablation("fewer than no easy ones", "easy is -1; expected 0 or more", {"--easy": "-1"}),
    ablation("too many easy ones", "easy=50 came .* has only", {"--easy": "50"}),
    ablation(
        "two ways", "--per-grade and --all-judged exclude", {"--per-grade": "3"}, "--all-judged"
    ),
    ablation("--per-grade and --depth", "--per-grade and --depth", {**RUN, "--per-grade": "10"}),
    ablation("--all-judged and --depth", "--all-judged and --depth", RUN, "--all-judged"),
    ablation("ideal", "ideal is 'half'; expected", {"--ideal": "half"}),
    ablation("no collection", "0 collections named; expected exactly one of", NO_COLLECTION),
    ablation("two collections", "2 collections named", {}, "--demo"),
    ablation("demo and dataset", "2 collections", {**NO_COLLECTION, "--dataset": "x"}, "--demo"),
    ablation("no qrels", "^matchlens: --qrels missing", {"--qrels": None}),
    ablation("a run alone", "--topics, --qrels, --passages missing", {**NO_COLLECTION, **RUN}),
    ablation("two topics, one qrels", "2 --topics, 1 --qrels", {}, "--topics", "t.tsv"),
    ablation(
        "the same topics twice",
        r"two collections would be called 't', after --topics 'x/t\.tsv'",
        {"--topics": "x/t.tsv"},
        *("--topics", "x/t.tsv", "--qrels", "qrels"),
        files={"x/t.tsv": GOOD["t.tsv"]},
    ),
    ablation(
        "the same topics, spelled in two ways",
        r"two collections would be called 't', after --topics 't\.tsv'",
        {},
        *("--topics", "x/../t.tsv", "--qrels", "qrels"),
        files={"x/t.tsv": b""},
    ),
    ablation("dataset", "ir_datasets knows no 'nope'", {**NO_COLLECTION, "--dataset": "nope"}),
    ablation("query field", "--query-field .* go with --dataset", {"--query-field": "title"}),
    ablation("empty query field", "go with --dataset", {"--query-field": ""}),
    ablation("fields, no dataset", "--doc-fields go with --dataset", {"--doc-fields": "body"}),
    ablation("prefix that is no text", "--query-prefix .* UTF-8", {"--query-prefix": "\udcff"}),
]
MODELS = [
    ablation("model unknown", r"no model folder '\./nowhere'", {"-m": "./nowhere"}),
    ablation("hub id unknown", "hub does not give a model", {"-m": "nobody/nothing-of-this"}),
    ablation("model: file", "model 'qrels' is a file; expected the folder", {"-m": "qrels"}),
    ablation("model: empty name", "has no config.json", {"-m": ""}),
    ablation("no config", "'model' has no config.json", files={"model/config.json": None}),
    ablation("config: text", "cannot read config.json", files={"model/config.json": b"{layers"}),
    ablation("config: a list", "config.json is not a JSON obj", files={"model/config.json": b"[]"}),
    config("masked LM", "no sequence classifier .*MaskedLM", architectures=["BertForMaskedLM"]),
    config("bare encoder", "is no sequence classifier .*BertModel", architectures=["BertModel"]),
    config("unsupported type", "is of type 'funnel'; expected one of", model_type="funnel"),
    config("a type that is no name", r"is of type \['bert'\]", model_type=["bert"]),
    config("three labels", "has 3 labels", id2label={"0": "a", "1": "b", "2": "c"}),
    config("decoder", "is a decoder", is_decoder=True),
    config("remote code", "wants to run code of its own", auto_map={"AutoModel": "x.Y"}),
    config("layers: word", "field 'num_hidden_layers'", num_hidden_layers="all"),
    ablation(
        "pickles",
        r"pytorch_model\.bin asks for posix\.system, which would run code",
        files={
            "model/model.safetensors": None,
            "model/pytorch_model.bin": b"cposix\nsystem\n(S'touch went-off'\ntR.",
        },
    ),
    ablation("no weights", "has no weights", files={"model/model.safetensors": None}),
    ablation("no tokenizer", "has no tokenizer", files={"model/tokenizer.json": None}),
    ablation(
        "tokenizer: remote code",
        "tokenizer wants to run code of its own",
        files={"model/tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": "x.Y"}}'},
    ),
    ablation(
        "tokenizer: settings",
        "cannot read tokenizer_config.json",
        files={"model/tokenizer_config.json": b"\xff"},
    ),
    ablation(
        "revision of a folder", "--revision 'v1' .* 'model' is a folder", {"--revision": "v1"}
    ),
    ablation("revision of demo", "'demo' is built in", {"--revision": "v1", "-m": "demo"}),
]
CUTS = [
    ablation("no such part", "cut 'Q->X', at character 4, 'X'", {"--cut": "Q->X"}),
    ablation("lost to the shell", "in a shell put the cut into quotes", {"--cut": "Q-"}),
    ablation("empty left", "cut '->D', at character 1", {"--cut": "->D"}),
    ablation("empty right", "cut 'Q->', at the end", {"--cut": "Q->"}),
    ablation("empty braces", "at character 2, '}': expected a part", {"--cut": "{}->D"}),
    ablation("layer", "layer 3 is out of range; expected 0 to 2", {"--cut": "Q->D@3"}),
    ablation("head", r"head 0\.4 is out of range; expected 0 to 3", {"--cut": "Q->D#0.4"}),
    ablation("layers turned round", "at least 2", {"--cut": "Q->D@2:1"}),
    ablation("how", "expected one of", {"--cut": "Q->D~gone"}),
    ablation("one cut twice", "'Q->D' is given twice", {"--cut": "Q->D"}, "--cut", "Q->D"),
    ablation("no cut at all", "no cut given but ''", {"--cut": ""}),
    ablation("a how for sets alone", "how mask came with sets", {"--how": "mask", **SET}),
    ablation("a tab in a cut", r"cut 'Q->\\tD' holds a tab", {"--cut": "Q->\tD"}),
    score("score: bad cut", "cut 'Q->X'", {"--cut": "Q->X"}),
    score("score: layer", "layer 9 is out of range", {"--cut": "Q->D@9"}),
    score("score: one cut twice", "given twice", {"--cut": "Q->D"}, "--cut", "Q->D"),
]
SETTINGS = [
    ablation("measure", "no measure is called 'nDGC'; expected", {"--measure": "nDGC@10"}),
    ablation("rel", "rel is 0; expected a grade of at least 1", {"--rel": "0"}),
    ablation("preset", "preset 'papers' is not known; expected", {"--preset": "papers"}),
    ablation("dtype", "--dtype 'int8' is not known", {"--dtype": "int8"}),
    ablation("max-length", "--max-length is 3; expected at least 5", {"--max-length": "3"}),
    ablation("batch-tokens", "--batch-tokens is 0", {"--batch-tokens": "0"}),
    score("score: dtype", "--dtype 'half' is not known", {"--dtype": "half"}),
    score("score: max-length", "--max-length is -1", {"--max-length": "-1"}),
    score("score: batch-tokens", "--batch-tokens is -5", {"--batch-tokens": "-5"}),
    score("score: model", "no config.json", files={"model/config.json": None}),
]
OUT = [
    ablation("below a file", "cannot be written .Not a directory", {"--out": "qrels/out"}),
    ablation("where nothing can be made", "'/proc/out' cannot be written", {"--out": "/proc/out"}),
    ablation("a name too long", "cannot be written .File name too", {"--out": "x" * 300}),
    ablation("out: file", "'qrels' is a file; expected a folder", {"--out": "qrels"}),
    ablation(
        "foreign folder",
        "'out' holds files, and no manifest.json among them",
        files={"out/thesis.tex": b"ten years of work"},
    ),
    ablation(
        "inside a run's own folder",
        "'out/.matchlens-work' lies in .matchlens-work, where a run keeps",
        {"--out": "out/.matchlens-work"},
    ),
    other("another model", r"other results: model\.dtype was \"x\"", {"model": {"dtype": "x"}}),
    other(
        "other pairs", r"pairs\.number was 9, is now 4; .*and \d+ more", {"pairs": {"number": 9}}
    ),
    ablation("broken manifest", "cannot be read as a manifest", files={"out/manifest.json": b"{"}),
    ablation("manifest: list", "cannot be read as", files={"out/manifest.json": b"[1]"}),
    ablation(
        "manifest of a later format",
        "cannot be read as a manifest",
        files={"out/manifest.json": manifest(format=2)},
    ),
    ablation(
        "manifest without identity",
        "holds other results: model was null",
        files={"out/manifest.json": manifest()},
    ),
]
SCORES = [
    score("pairs missing", r"'no\.jsonl' does not exist", {"--pairs": "no.jsonl"}),
    score("pairs: folder", "'dir' is a folder", {"--pairs": "dir"}),
    score("pairs: empty", "no pairs; expected one JSON object a line", files={"pairs.jsonl": b""}),
    score("pairs: text", "line 3: is not JSON", files={"pairs.jsonl": lambda b: b + b"cat\n"}),
    score("pairs: nested", "is not JSON", files={"pairs.jsonl": b"[" * 10**5 + b"\n"}),
    score("pairs: a list", "line 1: is not a JSON object", files={"pairs.jsonl": b"[1]\n"}),
    score("no text", "line 1: 'text' is missing", files={"pairs.jsonl": b'{"query": "a"}\n'}),
    score(
        "empty query",
        "line 1: 'query' is ' '",
        files={"pairs.jsonl": b'{"query": " ", "text": "a"}\n'},
    ),
    score("number", "'text' is 3", files={"pairs.jsonl": b'{"query": "a", "text": 3}\n'}),
    score(
        "half a surrogate pair",
        "'text' holds half a surrogate pair",
        files={"pairs.jsonl": b'{"query": "a", "text": "a\\ud800"}\n'},
    ),
    score("pairs: Latin-1", "is not UTF-8", files={"pairs.jsonl": b'{"query": "\xe9"}\n'}),
    score("stdin: empty", "standard input: no pairs", {"--pairs": "-"}),
    score("stdin: text", "input, line 3: is not JSON", {"--pairs": "-"}, stdin=PAIRS + b"cat\n"),
    score("stdin: Latin-1", "input, line 1: is not UTF-8", {"--pairs": "-"}, stdin=b"\xe9\n"),
    score("score: prefix", "--passage-prefix .* is not UTF-8", {"--passage-prefix": "\udcff"}),
]
SWEEP = ("sweep", *ablation("", "").words[1:])
BOMB = gzip.compress((b" " * 999 + b"\n") * 10**4, mtime=0)
"""Ten megabytes of blank lines in ten kilobytes."""
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"
HOSTILE = [
    content(r"topics|t\.tsv' is no regular file", "t.tsv", Pipe, "topics: pipe"),
    content(r"qrels' is no regular file", "qrels", Path("/dev/zero"), "qrels: endless device"),
    content(r"p\.jsonl' does not exist|cannot be examined", "p.jsonl", Path("p.jsonl"), "loop"),
    content(r"p\.jsonl' does not exist", "p.jsonl", Path("nowhere"), "dangling link"),
    content(r"r\.run' is no regular file", "r.run", Pipe, "run: pipe"),
    packed(r"p\.jsonl\.gz: unpacks to more than [0-9,]+ bytes", "gzip bomb", BOMB),
    packed("line 1: the line is longer than", "bomb in a line", gzip.compress(b"x" * 10**8)),
    packed("line 1: this is gzip inside", "gzip in gzip", gzip.compress(gzip.compress(b"x"))),
    content(r"line 1: the grade is '9999", "qrels", b"q1 0 a " + b"9" * 5000 + b"\n", "huge grade"),
    content(r"line 1: the grade is 'NaN'", "qrels", b"q1 0 a NaN\n", "no number for a grade"),
    content(r"the score is 'NaN'", "r.run", b"q1 Q0 a 1 NaN x\n", "no number for a score"),
    content("is not JSON", "p.jsonl", b"[" * 10**6, "JSON of a million levels"),
    content(
        "is not JSON", "p.jsonl", b'{"docid": ' + b"1" * 10**4 + b"}", "number of 10,000 digits"
    ),
    content("half a surrogate", "p.jsonl", b'{"docid": "a", "text": "\\udc80"}', "lone surrogate"),
    content(
        "line 1: no query has an id .* such as 'q.x001'", "t.tsv", b"q\x001\tcat\n", "NUL in an id"
    ),
    content(
        "no query has an id that can be used",
        "t.tsv",
        f"{ESCAPES}\tcat\n".encode(),
        "escapes in an id",
    ),
    content(
        "id has a space or an invisible",
        "qrels",
        "q1 0 a\u202eb 1\n".encode(),
        "bidi marks in an id",
    ),
    content(
        "id has a space or an invisible",
        "qrels",
        "q1 0 a\u2028b 1\n".encode(),
        "line separator in an id",
    ),
    content("1 columns in", "qrels", b"\xef\xbb\xbf\xef\xbb\xbfq1\n", "two byte order marks"),
    content("0 tabs in", "t.tsv", b"x" * 10**6 + b"\n", "a megabyte that is no topic"),
    content(
        "no passage .* such as '../../etc/passwd'",
        "qrels",
        b"q1 0 ../../etc/passwd 2\nq2 0 a/../b 1\n",
        "paths",
    ),
    ablation("unpacking", "MATCHLENS_MAX|unknown ending", {"--passages": "p.jsonl.gz.gz"}),
    ablation("a path that is too long", "cannot be examined", {"--topics": "x" * 5000}),
    ablation("NUL in a path", "embedded null byte|does not exist", {"--topics": "a\0b"}),
    ablation("escapes in a path", re.escape("x1b[2J"), {"--topics": ESCAPES}),
    ablation("escapes in the model's name", re.escape("x1b[2J"), {"-m": ESCAPES}),
    ablation("escapes in a cut", "at character 1", {"--cut": ESCAPES}),
    ablation("escapes in the device", "NoMatch|cannot be used|x1b", {"--dtype": ESCAPES}),
    usage("escapes in an option", "No such option: --", "score", "--" + ESCAPES),
    ablation(
        "a cut of 10,000 characters", "at the end: expected a part", {"--cut": "Q->D+" * 2000}
    ),
    ablation("a measure of 100,000 characters", "measure", {"--measure": "x" * 100000}),
    ablation("dataset that is a path", "ir_datasets", {**NO_COLLECTION, "--dataset": "../../etc"}),
    ablation("model: up and out", "no model folder", {"-m": "../../../etc/nothing"}),
    ablation("model: hub id with dots", "no model folder", {"-m": "a/.."}),
    ablation("config: pipe", "no regular file", files={"model/config.json": Pipe}),
    ablation("config: device", "no regular file", files={"model/config.json": Path("/dev/zero")}),
    ablation("config: deep", "cannot read", files={"model/config.json": b"[" * 10**6}),
    ablation("config: NUL", "cannot read config.json", files={"model/config.json": b"\0\0"}),
    ablation("weights: pipe", "no regular file", files={"model/model.safetensors": Pipe}),
    ablation("tokenizer: pipe", "no regular file", files={"model/tokenizer.json": Pipe}),
    ablation(
        "tokenizer: settings pipe", "no regular file", files={"model/tokenizer_config.json": Pipe}
    ),
    config("a billion layers", "num_hidden_layers .* at most 1,024", num_hidden_layers=10**9),
    config("a billion heads", "num_attention_heads .* at most 1,024", num_attention_heads=10**9),
    config("escapes in its type", "is of type", model_type=ESCAPES),
    usage("draws", "expected 1 to 1000", *SWEEP, "controls", "--draws", str(10**12)),
    usage("random sets", "at most", *SWEEP, "head-sets", "--set", "a=0.1", "--random", str(10**12)),
    usage("window", "layer", *SWEEP, "window", "--window", str(10**12)),
    ablation("prompt for an encoder", "takes no prompt", {"--prompt": "/dev/zero"}),
    ablation("out: link to a file", "is a file", {"--out": "l"}, files={"l": Path("qrels")}),
    ablation("manifest: pipe", "no regular file", files={"out/manifest.json": Pipe, "out/x": b"x"}),
    ablation(
        "link inside the results",
        "link'? is a symbolic link|is a symbolic link",
        files={"out/manifest.json": manifest(), "out/ablation": Path("..")},
    ),
    ablation(
        "a study that is a path",
        "a study is called",
        files={"out/manifest.json": manifest(studies={"../../x": {"options": {}, "notes": []}})},
    ),
    ablation("not a number", "NaN is no JSON", files={"out/manifest.json": b'{"format": NaN}'}),
    ablation(
        "commands",
        "commands is no list",
        files={"out/manifest.json": manifest(commands={"rm": 1})},
    ),
    score("pairs: pipe", "no regular file", files={"pairs.jsonl": Pipe}),
    score("pairs: an empty list", "is not a JSON object", files={"pairs.jsonl": b"[]\n"}),
    score("pairs: deep", "is not JSON", files={"pairs.jsonl": b"[" * 10**6}),
    score("pairs: bomb", "unpacks to more", {"--pairs": "b.jsonl.gz"}, files={"b.jsonl.gz": BOMB}),
    score("stdin: deep", "is not JSON", {"--pairs": "-"}, stdin=b"[" * 10**6),
    usage("report: no folder", "no results folder", "report", "dir"),
    usage("report: file", "no results folder|cannot be read", "report", "qrels"),
    usage("compare: one", "expected 2", "compare", "dir"),
    usage("compare: files", "no results folder", "compare", "qrels", "t.tsv"),
    usage("rerun: no folder", "no results folder", "rerun", "nowhere"),
    usage("rerun: file", "no results folder", "rerun", "qrels"),
]
USAGE = [
    usage("unknown command", r"No such command 'rerank'.*matchlens --help", "rerank"),
    usage("unknown option", "No such option.*--outt.*matchlens score --help", "score", "--outt"),
    ablation("option without value", "'--cut' requires an argument", {}, "--cut"),
    ablation("no whole number", "Invalid value for '--queries'", {"--queries": "2.5"}),
    ablation("no number", "Invalid value for '--max-length'", {"--max-length": "long"}),
    score("no pairs", "Missing option '--pairs'", {"--pairs": None}),
    score("a word too many", "unexpected extra argument", {}, "pairs2.jsonl"),
    usage("option before the command", "No such option.*--demo", "--demo", "ablation"),
]
SWEEPS = [
    usage("sweep: kind", "KIND 'sideways' is not known; expected one of", *SWEEP, "sideways"),
    usage("sweep: layers", "is no plain direction", *SWEEP, "only", "--direction", "Q->D@0:2"),
    usage("sweep: direction", "cut 'Q-'", *SWEEP, "only", "--direction", "Q-"),
    usage("sweep: window", "window is 0 layers", *SWEEP, "window", "--window", "0"),
    usage(
        "sweep: wide window",
        "window is 4 layers",
        *SWEEP,
        "window",
        "--window",
        "4",
    ),
    usage("sweep: how", "how 'gone' is not known", *SWEEP, "only", "--how", "gone"),
    usage("sweep: no kind", "Missing argument 'KIND'", *SWEEP),
]
SEEN_BEFORE_LOADING = [
    *(FILES + CANDIDATES + MODELS + CUTS + SETTINGS + OUT + SCORES + USAGE + SWEEPS + HOSTILE),
]


def lay_out(folder: Path, model: Path, files: Mapping[str, Content]) -> None:
    """A collection, pairs, folders and a model, all sound but for ``files``."""
    for name, sound in {**GOOD, "pairs.jsonl": PAIRS}.items():
        (folder / name).write_bytes(sound)
    for name in ("dir", "dir.jsonl"):
        (folder / name).mkdir()
    if any(name.startswith("model/") for name in files):
        shutil.copytree(model, folder / "model")
    else:
        (folder / "model").symlink_to(model)
    for name, new in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        if new is None or new is Pipe or isinstance(new, Path):
            path.unlink(missing_ok=True)
            if new is Pipe:
                os.mkfifo(path)
            elif isinstance(new, Path):
                path.symlink_to(new)
        else:
            old = path.read_bytes() if path.exists() else b""
            path.write_bytes(new if isinstance(new, bytes) else new(old))


def refused(words, says, folder, capfd) -> None:
    """Run the command and see that it refuses as it should."""
    before = listing(folder)
    status = matchlens.cli.main(words)
    out, err = capfd.readouterr()
    assert status == 2, err
    assert out == ""
    assert err.endswith("\n")
    (line,) = err.splitlines()
    assert line.startswith("matchlens: ")
    assert line.isprintable(), line
    assert len(line) < 2100
    assert re.search(says, line), line
    assert listing(folder) == before


def test_there_are_many_kinds_of_bad_input():
    assert len({case.name for case in SEEN_BEFORE_LOADING}) == len(SEEN_BEFORE_LOADING) > 200


@pytest.mark.parametrize("case", SEEN_BEFORE_LOADING, ids=lambda case: case.name)
def test_is_refused_before_a_model_is_loaded(case, tiny_folder, tmp_path, monkeypatch, capfd):
    def loaded(*_, **__):
        raise AssertionError("a model was loaded")

    lay_out(tmp_path, tiny_folder, case.files)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matchlens.models.load.load", loaded)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(case.stdin)))
    refused(case.words, case.says, tmp_path, capfd)


def test_the_sound_files_are_not_refused(tiny_folder, tmp_path, monkeypatch, capfd):
    """So that no case above is refused for another reason than its own."""
    lay_out(tmp_path, tiny_folder, {})
    monkeypatch.chdir(tmp_path)
    loads = []

    def loaded(*_, **__):
        loads.append(1)
        raise matchlens.InputError("got as far as loading")

    monkeypatch.setattr("matchlens.models.load.load", loaded)
    for words in (
        words_of("ablation", ABLATION, {}),
        words_of("ablation", ABLATION, RUN),
        words_of("ablation", ABLATION, {"--easy": "1", "--run": "r.run"}),
        words_of("ablation", ABLATION, {"--out": "dir"}),
        words_of("score", SCORE, {"--cut": "Q->D"}),
    ):
        assert matchlens.cli.main(words) == 2
        assert "got as far as loading" in capfd.readouterr().err
    assert len(loads) == 5


def drop_classifier(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: one for name, one in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def not_a_number(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def truncated(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])


def shard_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"classifier.bias": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def set_config(**changed: object) -> Callable[[Path], object]:
    return partial(tiny_models.edit, **changed)


def template(pair: str) -> Callable[[Path], None]:
    """Another way to put query and passage together."""

    def change(folder: Path) -> None:
        tokenizer = tiny_models.tokenizer()
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        tokenizer.save_pretrained(folder)

    return change


def slow_only(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')


def foreign_tokenizer(folder: Path) -> None:
    tokenizer = tiny_models.tokenizer()
    tokenizer.add_tokens(["tortoise"])
    tokenizer.save_pretrained(folder)


def one_segment(folder: Path) -> None:
    tiny_models.model(type_vocab_size=1).save_pretrained(folder)


MODEL_FAULTS = {
    "weights cut off": (truncated, "is no whole safetensors file"),
    "a width of a billion": (set_config(hidden_size=10**9), "hidden_size|weights"),
    "a huge vocabulary": (set_config(vocab_size=10**12), "vocab_size|weights"),
    "a huge middle": (set_config(intermediate_size=10**12), "intermediate_size|weights"),
    "a billion segments": (set_config(type_vocab_size=10**9), "type_vocab_size|weights"),
    "no classifier": (
        drop_classifier,
        r"2 weights do not fit \(missing_keys: classifier\.bias",
    ),
    "shard missing": (shard_missing, r"has no model-00001-of-00001.safetensors, which"),
    "heads": (set_config(num_attention_heads=5), "multiple of the number of attention heads"),
    "another width": (set_config(intermediate_size=32), "weights"),
    "not a number": (not_a_number, "its weights hold NaN, or overflow in float32"),
    "slow tokenizer": (slow_only, "has a slow tokenizer"),
    "broken tokenizer": (broken_tokenizer, "cannot load its tokenizer"),
    "passage first": (template("[CLS] $B [SEP] $A:1 [SEP]:1"), "puts the passage before the query"),
    "foreign tokenizer": (foreign_tokenizer, r"a word becomes the token '\w+' \(id \d+\)"),
    "one segment": (one_segment, "marks two segments, its weights know 1"),
}
DEVICES = ("abacus", "meta", "cuda:99")


@pytest.mark.parametrize("name", [*MODEL_FAULTS, *DEVICES])
def test_a_fault_seen_while_loading(name, tiny_folder, tmp_path, monkeypatch, capfd):
    lay_out(tmp_path, tiny_folder, {"model/README.md": b"a copy"})
    monkeypatch.chdir(tmp_path)
    if name in DEVICES:
        says, more = f"device '{name}' cannot be used", ("--device", name)
    else:
        (spoil, says), more = MODEL_FAULTS[name], ()
        spoil(tmp_path / "model")
    refused(words_of("ablation", ABLATION, {}, "--quiet", *more), says, tmp_path, capfd)


COMMAND = [sys.executable, "-m", "matchlens"]


def process(command, words, folder) -> subprocess.CompletedProcess[str]:
    source = Path(matchlens.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*command, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (words_of("ablation", ABLATION, {"--topics": "no.tsv"}), "'no.tsv' does not exist"),
        (words_of("score", SCORE, {"--cut": "Q-"}), "in a shell put the cut into quotes"),
        (words_of("ablation", ABLATION, {"-m": "nobody/nothing"}), "hub does not give a model"),
        (("nope",), "No such command 'nope'"),
    ],
    ids=["missing file", "cut lost to the shell", "hub id", "command"],
)
def test_the_real_command_refuses(words, says, tiny_folder, tmp_path):
    lay_out(tmp_path, tiny_folder, {})
    done = process(COMMAND, words, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("matchlens: ")
    assert says in line
    assert not (tmp_path / "out").exists()


def test_input_is_checked_before_torch_is_imported(tiny_folder, tmp_path):
    """Options and the files of the collection are checked first; a config needs the library."""
    lay_out(tmp_path, tiny_folder, {"qrels": b"q1 0\n"})
    words = words_of("ablation", ABLATION, {"--cut": "Q->D"})
    command = [sys.executable, "-X", "importtime", "-m", "matchlens"]
    done = process(command, words, tmp_path)
    assert done.returncode == 2
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "qrels" in done.stderr
    assert "matchlens.corpora.trec" in imported
    assert not {"torch", "transformers"} & imported


BOOM = """
import sys
import matchlens.__main__, matchlens.ranking
def boom(*_, **__):
    raise RuntimeError("a fault of the program")
matchlens.ranking.parse_measure = boom
matchlens.__main__.run()
"""


def test_an_internal_error_is_no_bad_input(tiny_folder, tmp_path, monkeypatch):
    lay_out(tmp_path, tiny_folder, {})
    monkeypatch.chdir(tmp_path)
    words = words_of("ablation", ABLATION, {})
    done = process([sys.executable, "-c", BOOM], words, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback")
    assert "RuntimeError: a fault of the program" in done.stderr

    def boom(*_, **__):
        raise RuntimeError("a fault of the engine")

    monkeypatch.setattr("matchlens.meters.scores.Scores.observe", boom)
    with pytest.raises(RuntimeError, match="a fault of the engine"):
        matchlens.cli.main([*words, "--cut", "Q->D", "--quiet"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["meters.scores.Scores.observe", "saving.Save.add"])
def test_ctrl_c_leaves_nothing_half_written(place, tiny_folder, tmp_path, monkeypatch, capfd):
    """While the model runs, and while the folder is written: there the shard is kept."""
    lay_out(tmp_path, tiny_folder, {})
    monkeypatch.chdir(tmp_path)
    before, calls = listing(tmp_path), []

    def interrupt(*_, **__):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(f"matchlens.{place}", interrupt)
    words = words_of("ablation", ABLATION, {"--out": "deep/out"}, "--quiet", "--cut", "Q->D")
    assert matchlens.cli.main([*words, "--batch-tokens", "9"]) == 130
    out, err = capfd.readouterr()
    if place != "saving.Save.add":
        assert (out, err) == (
            "",
            "matchlens: stopped before the end; nothing half-written was left\n",
        )
        assert listing(tmp_path) == before
        return
    assert (out, err) == (
        "",
        "matchlens: stopped; 1 shard is kept in 'deep/out': run the same command again to go on\n",
    )
    left = {path.name for path in (tmp_path / "deep/out").iterdir()}
    assert left == {".matchlens-work"}
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert matchlens.cli.main(words) == 0
    assert "manifest.json" in {path.name for path in (tmp_path / "deep/out").iterdir()}
    assert not (tmp_path / "deep/out/.matchlens-work").exists()


def test_nobody_reading_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    words = [*COMMAND, "ablation", "--help"]
    with os.fdopen(write, "wb") as stream:
        done = subprocess.run(words, stdout=stream, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 141


def test_a_bad_cut_is_reported_before_a_missing_folder(capfd):
    assert matchlens.cli.main(["ablation", "--demo", "--cut", "Q=>D"]) == 2
    assert "cut 'Q=>D', at character 2" in capfd.readouterr().err
    assert matchlens.cli.main(["ablation", "--demo", "--cut", "Q->D"]) == 2
    assert "Missing option '--out'" in capfd.readouterr().err
    assert matchlens.cli.main(["score", "--cut", "Q=>D"]) == 2
    assert "cut 'Q=>D', at character 2" in capfd.readouterr().err
