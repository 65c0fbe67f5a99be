"""Fuzzing: whatever comes in is either taken, its invariants holding, or refused in one line.

The default suite runs a few examples of each; ``make fuzz`` goes on for minutes.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import matchlens.cli
from corpora_files import FORMS, GOOD, ODD_IDS, load, odd_records, write
from hostile_files import JSON, SECONDS, SIGNS, bounded, mutated, packed, paths, replaced, resealed
from matchlens.cli.scoring import read_pairs
from matchlens.corpora import PairSet, choose
from matchlens.corpora.lines import odd_id
from matchlens.directions import Cut, Direction
from matchlens.errors import MOST, InputError, MatchlensWarning
from matchlens.models.folder import find
from matchlens.prompts import Prompt
from matchlens.ranking import parse_measure
from tiny_decoders import QWEN3

MOST_MIB, MOST_SECONDS = 64, 20


@contextmanager
def refused_at_most() -> Iterator[None]:
    """Nothing but an InputError comes out, its line plain and short; memory and time bounded."""
    start, traced = time.process_time(), tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MatchlensWarning)
            yield
    except InputError as error:
        line = str(error)
    else:
        line = "taken whole"
    finally:
        peak = tracemalloc.get_traced_memory()[1] - before
        if not traced:
            tracemalloc.stop()
    assert line.isprintable()
    assert 10 < len(line) <= MOST
    assert peak < MOST_MIB * 2**20
    assert time.process_time() - start < MOST_SECONDS


def fuzz(examples: int, **strategies: st.SearchStrategy) -> Callable:
    """A test by a few examples, or by as many as fit into its share of ``SECONDS``.

    Calling it with the time at which to stop returns the number of examples that it checked.
    """

    def decorate(check: Callable[..., None]) -> Callable[[float], int]:
        def run(end: float) -> int:
            checked = 0

            @bounded(10**6 if SECONDS else examples)
            @given(**strategies)
            def drawn(**values: object) -> None:
                nonlocal checked
                if time.monotonic() > end:
                    raise _Over
                check(**values)
                checked += 1

            with suppress(_Over):
                drawn()
            return checked

        return run

    return decorate


class _Over(BaseException):
    """Stops hypothesis, which catches no BaseException, when the time is over."""


COLLECTION = st.one_of(
    *(
        st.tuples(st.just(name), st.one_of(mutated(GOOD[name]), packed(mutated(GOOD[name]))))
        for name in GOOD
    ),
    st.tuples(st.just("p.tsv"), mutated(b"a\tcook it\nb\ta boat\nc\tiron oxide\nz\tx\n")),
)


@pytest.mark.slow
def test_a_collection_loads_or_is_refused(goes_on):
    @fuzz(150, drawn=COLLECTION, gz=st.booleans())
    def check(drawn, gz):
        name, content = drawn
        with tempfile.TemporaryDirectory() as folder, refused_at_most():
            path = Path(folder)
            write(path, GOOD)
            names = {one: one for one in GOOD}
            role = "p.jsonl" if name == "p.tsv" else name
            names[role] = f"{name}.gz" if gz else name
            write(path, {names[role]: content})
            held = load(path, [names["p.jsonl"]], names["t.tsv"], names["qrels"], names["r.run"])
            for qid, query in held.queries.items():
                assert odd_id(qid) is None
                assert query == query.strip()
            for qid, grades in held.qrels.items():
                assert qid in held.queries
                assert all(odd_id(one) is None and abs(n) <= 1000 for one, n in grades.items())
            for pair in choose(held).pairs:
                pair.text.encode()
                assert pair.text.strip()

    goes_on(check)


@pytest.mark.slow
def test_files_ir_datasets_frames_and_python_give_the_same_pairs_and_counts(goes_on):
    @fuzz(100, made=odd_records(), form=FORMS)
    def check(made, form):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", MatchlensWarning)
            try:
                in_files = made.in_files(Path(folder))
            except InputError as error:
                with pytest.raises(InputError), made.in_ir_datasets() as in_datasets:
                    choose(in_datasets, depth=1)  # a run without scores is found here
                known = re.search("not among the topics|the same score", str(error))
                assert known, error  # noqa: PT017
                return
            with made.in_ir_datasets() as in_datasets:
                collections = [in_files, in_datasets, made.in_frames(), made.in_python()]
                for name, read in {
                    "odd": lambda place: made.in_odd_files(place, form),
                    "beir": made.in_beir,
                }.items():
                    (Path(folder) / name).mkdir()
                    collections.append(read(Path(folder) / name))
                ways = [{}, {"all_judged": True}, {"all_judged": True, "ideal": "full"}]
                ways += [{"per_grade": 1, "queries": 1}]
                if in_datasets.run is not None:
                    ways += [{"depth": 1}, {"depth": 3, "queries": 2}, {"depth": 9}]
                for way in ways:
                    assert_the_same(made, [outcome(one, way) for one in collections], way)
                if in_files.run is not None:
                    assert_rows_are_the_run(made, in_files)

    goes_on(check)


def outcome(collection, way: dict) -> PairSet | None:
    """The chosen pairs, or None where no query is left."""
    try:
        return choose(collection, **way)
    except InputError as error:
        assert "is left of" in str(error) or "has a text" in str(error), error  # noqa: PT017
        return None


def assert_the_same(made, found: list[PairSet | None], way: dict) -> None:
    """One rule at every door; and the passages of all judged are what a plain loop gives."""
    files, datasets, frames, python, *others = found
    chosen = [one for one in found if one is not None]
    if files is None or datasets is None or frames is None or python is None:
        assert not chosen
        return
    assert len(chosen) == len(found)
    facts = [
        [(p.qid, p.docid, p.query, p.text, p.grade, p.judged) for p in one.pairs] for one in chosen
    ]
    assert all(one == facts[0] for one in facts)
    ideals = [[*one.ideals.values()] for one in chosen]
    assert all(one == ideals[0] for one in ideals)
    assert all(one is not None and one.counts == files.counts for one in (frames, *others))
    # a document store holds no passage twice, a dictionary no record
    several = {"repeated_passages"}
    assert _without(files.counts, several) == _without(datasets.counts, several)
    several |= {"repeated_topics", "repeated_judgements", "repeated_run_lines"}
    assert _without(files.counts, several) == _without(python.counts, several)
    if way == {"all_judged": True, "ideal": "full"}:
        queries = {qid: (text or "").split() for qid, text in made.topics if text}
        texts = {docid: (text or "").split() for docid, text in made.passages}
        expected = set()
        for qid, docid, _ in made.qrels:
            words, query = texts.get(docid), queries.get(qid)
            own = qid == docid and words and " ".join(words).endswith(" ".join(query or ["?"]))
            if words and query and not (own and 2 * len(query) >= len(words)):
                expected.add((qid, docid))
        gains = {qid for qid, docid, g in made.qrels if g > 0 and docid not in ODD_IDS}
        pairs = {(qid, docid) for qid, docid, *_ in facts[0]}
        assert pairs == {(q, d) for q, d in expected if q in gains}


def assert_rows_are_the_run(made, in_files) -> None:
    """A frame of the run's pairs, with the judgements beside it: the pairs of the run."""
    rows, qrels = made.in_rows()
    expected = outcome(in_files, {"depth": 99, "ideal": "full"})
    for form in (rows, pd.DataFrame(rows)):
        try:
            pairs = PairSet.from_frame(form, qrels, name="made")
        except InputError as error:
            refused = "is left of|has a text|not among the topics|no query has an id"
            assert re.search(refused, str(error)), error  # noqa: PT017
            assert expected is None, error  # noqa: PT017
            continue
        assert expected is not None
        assert _by_query(pairs) == _by_query(expected)
        assert pairs.ideals == expected.ideals
        for kind in ("own_passages", "retrieved_without_text", "judged_without_text"):
            assert pairs.counts.get(kind, 0) == expected.counts.get(kind, 0), kind


def _by_query(pairs: PairSet) -> dict[str, list[tuple]]:
    return {
        pair.qid: [
            (p.docid, p.query, p.text, p.grade, p.judged) for p in pairs if p.qid == pair.qid
        ]
        for pair in pairs
    }


def _without(counts, names) -> dict:
    return {name: number for name, number in counts.items() if name not in names}


CUT = st.one_of(
    mutated(b"{Q,D}->{Q,D}@0:8").map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    mutated(b"Q->D+D->All#8.1,4.9~mask").map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.lists(st.sampled_from((*SIGNS, "Q->D", "D", "CLS", "0:3", "1.2", "mask", "sink"))).map(
        "".join
    ),
    st.text(max_size=30),
)


@pytest.mark.slow
def test_a_cut_parses_back_or_is_refused(goes_on):
    @fuzz(400, text=CUT)
    def check(text):
        with refused_at_most():
            cut = Cut.parse(text)
            assert Cut.parse(str(cut)) == cut
            assert str(cut).isprintable()
            cut.words.encode()
            for direction in cut.directions:
                assert Direction.parse(str(direction)) == direction

    goes_on(check)


MEASURE = st.one_of(
    mutated(b"P(rel=2)@10").map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    mutated(b"nDCG(gains={1:2})@10").map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.lists(st.sampled_from((*SIGNS, "nDCG", "@10", "AP", "(rel=2)", "ERR", "RR"))).map("".join),
)


def test_a_measure_parses_back_or_is_refused(goes_on):
    @fuzz(200, text=MEASURE)
    def check(text):
        with refused_at_most():
            measure = parse_measure(text)
            assert str(parse_measure(str(measure))) == str(measure)

    goes_on(check)


PAIRS = b'{"query": "a cat", "text": "a cat sat"}\n{"query": "tea", "text": "warm tea"}\n'


def test_pairs_are_read_or_refused(goes_on):
    @fuzz(150, content=st.one_of(mutated(PAIRS), packed(mutated(PAIRS))), gz=st.booleans())
    def check(content, gz):
        with tempfile.TemporaryDirectory() as folder, refused_at_most():
            path = Path(folder, "pairs.jsonl.gz" if gz else "pairs.jsonl")
            path.write_bytes(content)
            for pair in read_pairs(str(path)):
                pair.query.encode()
                assert pair.text.strip()

    goes_on(check)


RECORD = json.loads(json.dumps(QWEN3.record()))
RECORD.pop("control_tokens_in_texts")


def test_a_prompt_is_read_or_refused(goes_on):
    changed = st.tuples(st.sampled_from(paths(RECORD)), JSON).map(
        lambda drawn: json.dumps(replaced(RECORD, *drawn)).encode()
    )

    @fuzz(150, content=st.one_of(changed, mutated(json.dumps(RECORD).encode())))
    def check(content):
        with tempfile.TemporaryDirectory() as folder, refused_at_most():
            path = Path(folder, "prompt.json")
            path.write_bytes(content)
            prompt = Prompt.read(path, QWEN3)
            assert list(prompt.filled("a {passage}", "b {query}"))

    goes_on(check)


def test_a_models_config_is_taken_or_refused(tiny_folder, goes_on):
    sound = json.loads((tiny_folder / "config.json").read_text())
    changed = st.tuples(st.sampled_from(paths(sound)), JSON).map(
        lambda drawn: json.dumps(replaced(sound, *drawn)).encode()
    )

    @fuzz(150, content=st.one_of(changed, mutated((tiny_folder / "config.json").read_bytes())))
    def check(content):
        with tempfile.TemporaryDirectory() as folder, refused_at_most():
            path = Path(folder)
            for file in tiny_folder.iterdir():
                if file.name != "config.json":
                    (path / file.name).symlink_to(file)
            (path / "config.json").write_bytes(content)
            found = find(folder)
            layers, heads = found.shape
            assert 1 <= layers <= 1024
            assert 1 <= heads <= 1024
            assert found.limit()[0] >= 1

    goes_on(check)


@pytest.fixture(scope="module")
def made(tiny_folder, tmp_path_factory) -> Path:
    """A results folder with two studies."""
    folder = tmp_path_factory.mktemp("fuzz")
    write(folder, GOOD)
    names = {"-m": tiny_folder, "--topics": "t.tsv", "--qrels": "qrels", "--passages": "p.jsonl"}
    words = [str(folder / one) if one in GOOD else str(one) for two in names.items() for one in two]
    out = str(folder / "out")
    for own in (["ablation", "--cut", "Q->D"], ["sweep", "up-to", "--direction", "Q->D"]):
        assert matchlens.cli.main([*own, *words, "--device", "cpu", "--out", out, "-q"]) == 0
    for path in (folder / "out").rglob("*"):
        if path.suffix in (".svg", ".pdf", ".png", ".tex", ".txt"):
            path.unlink()
    return folder / "out"


CELLS = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=6),
    st.none(),
    st.sampled_from(SIGNS),
)


def _spoiled(folder: Path, kind: str, pick: int, value: object, raw: bytes) -> None:
    """Change one thing in a results folder."""
    tables = sorted(folder.rglob("*.parquet"))
    path = tables[pick % len(tables)]
    if kind == "manifest":
        manifest = json.loads((folder / "manifest.json").read_text())
        places = paths(manifest)
        changed = json.dumps(replaced(manifest, places[pick % len(places)], value))
        (folder / "manifest.json").write_bytes(changed.encode("utf-8", "surrogatepass"))
    elif kind == "bytes":
        content = path.read_bytes()
        at = pick % len(content)
        path.write_bytes(content[:at] + raw + content[at + len(raw) :])
    elif kind == "gone":
        path.unlink()
    elif kind == "link":
        path.unlink()
        path.symlink_to("/etc/hostname")
    elif kind == "array":
        (folder / "meters").mkdir(exist_ok=True)
        (folder / "meters" / "mass.npy").write_bytes(b"\x93NUMPY\x01\x00" + raw)
    else:
        table = pd.read_parquet(path)
        column = table.columns[pick % len(table.columns)]
        if kind == "column":
            table = table.drop(columns=column)
        elif kind == "rows":
            table = table.iloc[: pick % 2]
        elif kind == "again":
            table = pd.concat([table, table])
        else:
            table[column] = table[column].astype(object)
            table.loc[pick % max(len(table), 1), column] = value
            table[column] = table[column].map(
                lambda one: one if isinstance(value, int) else str(one)
            )
        stream = io.BytesIO()
        try:
            table.to_parquet(stream, index=False)
        except (ValueError, TypeError, OverflowError, UnicodeEncodeError):
            return
        path.write_bytes(stream.getvalue())


KINDS = ("manifest", "bytes", "gone", "link", "array", "column", "rows", "again", "cell")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "compare", "rerun"])
def test_a_results_folder_is_read_or_refused(command, made, goes_on, capfd, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", _stop)

    @fuzz(
        8,
        kind=st.sampled_from(KINDS),
        pick=st.integers(0, 10**6),
        value=st.one_of(CELLS, JSON),
        raw=st.binary(min_size=1, max_size=40),
    )
    def check(kind, pick, value, raw):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, two = Path(folder, "one"), Path(folder, "two")
            shutil.copytree(made, one)
            _spoiled(one, kind, pick, value, raw)
            if pick % 2:  # else the manifest's hashes tell
                resealed(one)
            if command == "compare":
                shutil.copytree(made, two)
            before = set(os.listdir(folder))
            words = {
                "report": ["report", str(one)],
                "compare": ["compare", str(one), str(two)],
                "rerun": ["rerun", str(one), "--out", str(two)],
            }[command]
            capfd.readouterr()
            status = matchlens.cli.main([*words, "--quiet"])
            out, err = capfd.readouterr()
            assert status in (0, 2), err
            assert all(line.isprintable() for line in (out + err).splitlines())
            asked = command == "rerun" and "rerun asks before it runs" in err
            assert status == 0 or asked or len(err.splitlines()) == 1, err
            assert set(os.listdir(folder)) == before

    goes_on(check)


def _stop(*_: object, **__: object) -> None:
    raise InputError("nothing is loaded here")


@pytest.fixture
def goes_on(request) -> Callable[[Callable[[float], int]], None]:
    """Run a fuzz test for its share of the time and say how many examples it checked."""

    def run(check: Callable[[float], int]) -> None:
        tests = [one for one in request.session.items if "goes_on" in one.fixturenames]
        share = SECONDS / len(tests) if SECONDS else math.inf
        checked = check(time.monotonic() + share)
        print(f"\n{request.node.name}: {checked} examples")  # noqa: T201
        assert checked > 0, "SECONDS are too few to check one example"

    return run
