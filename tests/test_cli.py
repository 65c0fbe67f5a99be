"""The command line on a tiny model and small TREC files: what it prints and what it writes."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import ir_measures
import pandas as pd
import pytest

import matchlens
import matchlens.cli
import matchlens.cli.scoring
import tiny as tiny_models
from matchlens.cli.terminal import show
from matchlens.results import records

TABLE1 = matchlens.table1()
ALWAYS = {
    "manifest.json",
    "pairs.parquet",
    "scores.parquet",
    *(
        f"ablation/{table}.{kind}"
        for table in ("table1", "queries")
        for kind in ("parquet", "json")
    ),
    "ablation/table1.txt",
    "ablation/table1.tex",
    "run.log",
}
SCORE_LINES = [
    {"query": "a cat", "text": "the cat sat on a mat"},
    {"query": "a cat", "text": "rain"},
    {"query": "warm tea", "text": "a ship ran far"},
    {"query": "sun", "text": "cold rain, warm sun " * 30},
    {"query": "dog", "text": "dog dog dog"},
]


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


def call(*words: object) -> Outcome:
    """The command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = matchlens.cli.main([str(word) for word in words])
    return Outcome(status, out.getvalue(), err.getvalue())


def well(*words: object) -> str:
    """The table of an ablation that must go well, and must be quiet when told so."""
    done = call("ablation", "--quiet", *words)
    assert (done.status, done.err) == (0, "")
    return done.out


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, hidden ones too, with what it holds; None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: held for name, held in listing(folder).items() if held is not None}


def refused(*words: object) -> str:
    """The one line of a command that ends with status 2, prints nothing and leaves --out alone."""
    out = Path(str(words[words.index("--out") + 1])) if "--out" in words else Path("no such folder")
    before = out.exists(), listing(out)
    done = call(*words)
    assert (done.status, done.out) == (2, ""), done
    (line,) = done.err.splitlines()
    assert line.startswith("matchlens: ")
    assert (out.exists(), listing(out)) == before
    return line


def write_collection(folder: Path, seed: int) -> list[object]:
    """Topics, qrels and passages of random words; the options that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = tiny_models.pairs(32, seed=seed)
    queries = {pair.qid: pair.query for pair in pairs}
    (folder / "topics.tsv").write_text("".join(f"{q}\t{text}\n" for q, text in queries.items()))
    judged = (f"{p.qid} 0 {seed}-{p.docid} {p.grade}\n" for p in pairs)
    (folder / "qrels.txt").write_text("".join(judged))
    lines = (json.dumps({"docid": f"{seed}-{p.docid}", "text": p.text}) + "\n" for p in pairs)
    (folder / "passages.jsonl").write_text("".join(lines))
    return collection_options(folder)


def collection_options(folder: Path) -> list[object]:
    names = {"--topics": "topics.tsv", "--qrels": "qrels.txt", "--passages": "passages.jsonl"}
    return [word for option, name in names.items() for word in (option, folder / name)]


@pytest.fixture(scope="module")
def words(tiny_folder, tmp_path_factory) -> list[object]:
    """Model and collection."""
    folder = tmp_path_factory.mktemp("collection")
    return ["-m", tiny_folder, "--device", "cpu", *write_collection(folder, 1)]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory) -> tuple[str, Path]:
    """Table 1 in full, with runs: what was printed, and the folder."""
    out = tmp_path_factory.mktemp("whole") / "deep" / "out"
    return well(*words, "--runs", "--out", out), out


def cells(table: str) -> dict[str, str]:
    """The matrix as printed, by the cut's text."""
    lines = table.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("X \\ Y"))
    columns = lines[at].removeprefix("X \\ Y").split()
    found = {}
    for line in lines[at + 1 : at + 6]:
        row, *values = line.split()
        found |= {f"{row}->{x}": v.strip("†") for x, v in zip(columns, values, strict=True)}
    return found


def test_the_table_has_every_cell_and_says_what_it_shows(whole):
    table, out = whole
    frame = matchlens.Result.load(out, "ablation").to_frame("table1").set_index("cut")
    assert list(frame.index) == ["", "random", *TABLE1]
    assert table.startswith("tiny-bert0: No cut lowers nDCG@10 significantly on 4 queries;")
    assert "\nnDCG@10 of tiny-bert0 on topics: 4 queries, 32 pairs (at most 10 a" in table
    assert re.findall(r"^(\w+) .*†$", table, re.MULTILINE) == ["CLS"]  # CLS->All, the last column
    shown = cells(table)
    assert set(shown) == set(TABLE1)
    for cut, text in shown.items():
        row = frame.loc[cut]
        star = "*" if row["significant"] else ""
        lower = "v" if round(row["mean"], 3) < round(row["original"], 3) else ""
        assert text == f"{row['mean']:.3f}".removeprefix("0") + lower + star, cut
    assert f"original {frame.loc['', 'mean']:.3f}".replace("0.", ".") in table
    assert f"random ranking {frame.loc['random', 'mean']:.3f}".replace("0.", ".") in table
    assert "(Q -> D: the query reads the document)" in table.replace("Q->D", "Q -> D")
    assert "Holm-corrected p <= .05 over 30 cells, two-tailed paired t-test" in table
    assert (out / "ablation/table1.txt").read_text() == table
    assert "estimated" not in table  # nDCG is exact under ties, as CLS->All makes them


def test_the_folder_holds_what_is_documented(whole):
    _, out = whole
    runs = {"runs/index.tsv", *(f"runs/{number:04d}.run" for number in range(31))}
    assert set(files_of(out)) == ALWAYS | runs
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in out.rglob("*") if path.is_file())
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["identity"]["model"]["name"] == "tiny-bert0"
    assert manifest["identity"]["pairs"]["number"] == 32
    assert manifest["identity"]["pairs"]["sampling"]["per_grade"] == 10
    options = manifest["studies"]["ablation"]["options"]
    assert options["cuts"] == list(TABLE1)
    assert options["check"]["attention_calls"]["seen"] == 3
    for table in ("table1", "queries"):
        frame = pd.read_parquet(out / f"ablation/{table}.parquet")
        assert json.loads((out / f"ablation/{table}.json").read_text()) == records(frame)
    assert re.fullmatch(
        r"ablation: 31 conditions on 32 pairs: \d+\.\d s\n", (out / "run.log").read_text()
    )


def latex_cells(tex: str) -> dict[str, str]:
    """The cells of the LaTeX table, as the text table would print them."""
    head, *body = [line[:-3].split(" & ") for line in tex.splitlines() if line.endswith(r" \\")][:6]
    found = {f"{row}->{y}": v for row, *held in body for y, v in zip(head[1:], held, strict=True)}
    return {
        cut: re.sub(r"\\textbf\{(.*?)\}", r"\1v", text)
        .replace("$^{*}$", "*")
        .replace(r"$^{\dagger}$", "")
        for cut, text in found.items()
    }


def test_the_latex_table_is_the_same_table(whole):
    table, out = whole
    tex = (out / "ablation/table1.tex").read_text()
    lower = {cut for cut, text in cells(table).items() if "v" in text}
    assert latex_cells(tex) == {cut: text.replace("v", "") for cut, text in cells(table).items()}
    assert r"\textbf" not in tex
    result = matchlens.Result.load(out, "ablation")
    paper = replace(result, options={**result.options, "preset": "paper"})
    bold = {cut for cut, text in latex_cells(matchlens.table_latex(paper)).items() if "v" in text}
    assert bold == lower
    assert len(lower) > 5


@pytest.mark.parametrize(("stars", "starred"), [("holm", "Q->D"), ("unpaired", "D->SEP1")])
def test_stars_are_those_of_the_preset(whole, stars, starred):
    result = matchlens.Result.load(whole[1], "ablation")
    table = result.to_frame("table1")
    table["significant"] = table["cut"] == "Q->D"
    table["significant_paper"] = table["cut"] == "D->SEP1"
    options = {**result.options, "stars": stars}
    changed = replace(result, options=options, tables={**result.tables, "table1": table})
    text, tex = matchlens.table_text(changed), matchlens.table_latex(changed)
    for shown in (cells(text), latex_cells(tex)):
        assert [cut for cut, number in shown.items() if "*" in number] == [starred]


def test_no_path_of_this_machine_is_written(whole, words):
    """But in the manifest's commands, which must find their files again; no hash is of them."""
    _, out = whole
    files = files_of(out)
    manifest = json.loads(files["manifest.json"])
    commands = manifest.pop("commands")
    assert commands
    assert not any("/" in one["line"] for one in commands)
    files["manifest.json"] = json.dumps(manifest).encode()
    for name, held in files.items():
        assert str(out.parents[2]).encode() not in held, name
        assert b"/tmp/" not in held, name
        assert str(Path(str(words[1])).parent).encode() not in held, name


def test_runs_rank_by_score_and_the_index_names_the_cuts(whole):
    _, out = whole
    result = matchlens.Result.load(out, "ablation")
    scores = result.scores.merge(result.pairs, on="pair")
    index = [line.split("\t") for line in (out / "runs/index.tsv").read_text().splitlines()]
    assert index[0] == ["run", "cut"]
    assert [cut for _, cut in index[1:]] == ["", *TABLE1]
    for run, cut in index[1:]:
        ranked: dict[str, list[tuple[str, float]]] = {}
        for line in ir_measures.read_trec_run(str(out / "runs" / run)):
            ranked.setdefault(line.query_id, []).append((line.doc_id, line.score))
        under = scores[scores["cut"] == cut]
        assert set(ranked) == set(under["qid"])
        for qid, found in ranked.items():
            own = under[under["qid"] == qid][["docid", "score"]].to_numpy().tolist()
            assert found == [tuple(one) for one in sorted(own, key=lambda one: (-one[1], one[0]))]
        lines = [line.split() for line in (out / "runs" / run).read_text().splitlines()]
        assert [int(line[3]) for line in lines] == [n for _ in range(4) for n in range(1, 9)]
        assert {line[5] for line in lines} == {f"matchlens-{run.removesuffix('.run')}"}


def test_the_same_command_writes_the_same_bytes(whole, words, tmp_path):
    table, out = whole
    first = {name: held for name, held in files_of(out).items() if name != "run.log"}
    assert well(*words, "--runs", "--out", tmp_path / "out") == table
    second = files_of(tmp_path / "out")
    del second["run.log"]
    assert second == first


def test_a_folder_is_continued(words, tmp_path):
    """Other cuts of the same model and pairs: old scores stay, and the table is the new one."""
    out = tmp_path / "out"
    out.mkdir()
    first = well(*words, "--runs", "--out", out, "--cut", "Q->D", "--cut", "D->Q@0:2")
    before, held = pd.read_parquet(out / "scores.parquet"), files_of(out)
    assert well(*words, "--runs", "--out", out, "--cut", "Q->D", "--cut", "D->Q@0:2") == first
    again = files_of(out)
    assert again.pop("run.log").count(b"\n") == 2
    del held["run.log"]
    assert again == held

    second = well(*words, "--runs", "--out", out, "--cut", "CLS->D~mask")
    after = pd.read_parquet(out / "scores.parquet")
    assert list(dict.fromkeys(after["cut"])) == ["Q->D", "D->Q@0:2", "", "CLS->D~mask"]
    for cut, rounding in (("Q->D", 0), ("D->Q@0:2", 0), ("", 1e-5)):  # no cut is run again
        old, new = (frame[frame["cut"] == cut]["score"].tolist() for frame in (before, after))
        assert new == pytest.approx(old, abs=rounding)
        assert len(old) == 32
    result = matchlens.Result.load(out, "ablation")
    assert result.to_frame("table1")["cut"].tolist() == ["", "random", "CLS->D~mask"]
    assert result.options["cuts"] == ["CLS->D~mask"]
    assert (out / "ablation/table1.txt").read_text() == second
    runs = {f"runs/000{number}.run" for number in range(4)}  # as many as the folder's cuts
    assert set(files_of(out)) == ALWAYS | {"runs/index.tsv"} | runs
    assert not list(out.rglob(".*"))

    line = refused("ablation", "-q", *words, "--out", out, "--dtype", "float64", "--seed", "4")
    assert 'model.dtype was "float32", is now "float64"' in line
    assert "pairs.sampling.seed was 0, is now 4" in line


@pytest.mark.slow
def test_runs_of_an_earlier_command_stay_beside_those_of_a_later_one(words, tmp_path):
    out = tmp_path / "out"
    more = [*words, "--out", out, "-q"]
    for own in (
        ["ablation", "--cut", "Q->D", "--runs"],
        ["sweep", "only", "--direction", "D->D"],
        ["sweep", "window", "--direction", "D->Q", "--window", "2", "--runs"],
    ):
        assert call(*own, *more).status == 0
    index = [line.split("\t") for line in (out / "runs/index.tsv").read_text().splitlines()]
    cuts = {cut for _, cut in index[1:]}
    assert {"", "Q->D", "D->Q@0:2"} <= cuts
    assert not any("D->D" in cut for cut in cuts)  # without --runs
    scores = pd.read_parquet(out / "scores.parquet")
    for name, cut in index[1:]:
        lines = [line.split() for line in (out / "runs" / name).read_text().splitlines()]
        expected = scores[scores["cut"] == cut]["score"]
        assert sorted(float(line[4]) for line in lines) == sorted(map(float, expected))


def test_a_list_of_cuts_with_a_measure_that_ties_leave_open(words, tmp_path):
    """CLS->All makes all scores equal: AP and RR are estimated there, and the table says so."""
    cuts = ["CLS->All", "Q -> D", "{Q,D}->All@0:2~mask"]
    options = [word for cut in cuts for word in ("--cut", cut)]
    for measure, name in (("AP", "AP(rel=2)"), ("RR@10", "RR(rel=2)@10")):  # nDCG has no such note
        table = well(*words, "--out", tmp_path / measure, "--measure", measure, *options)
        lines = table.splitlines()
        assert lines[0].startswith(f"tiny-bert0: No cut lowers {name}")
        assert any(line.startswith(f"{name} of tiny-bert0") for line in lines)
        at = next(n for n, line in enumerate(lines) if line.startswith("cut "))
        assert [line[:20].strip() for line in lines[at + 1 : at + 4]] == cuts
        assert lines[-1] == (
            "Note: under ties the measure was estimated from 1,000 seeded permutations."
        )
        frame = matchlens.Result.load(tmp_path / measure, "ablation").to_frame("table1")
        frame = frame.set_index("cut")
        assert frame.loc["CLS->All", "estimated"]
        assert not frame.loc["", "estimated"]
        assert abs(frame.loc["CLS->All", "mean"] - frame.loc["random", "mean"]) < 0.03
        assert frame.loc["CLS->All", "stderr"] > 0
    tex = (tmp_path / "AP" / "ablation" / "table1.tex").read_text()
    assert r"\{Q,D\}$\rightarrow$All@0:2\textasciitilde{}mask & " in tex


def test_the_paper_preset(words, tmp_path):
    done = call("ablation", "--quiet", *words, "--out", tmp_path, "--preset", "paper")
    assert done.status == 0
    assert re.fullmatch(".*a limit of 512 tokens .* a pair has at most 64 .*\n", done.err)
    table = done.out
    assert "two-tailed unpaired Student t-test over queries, uncorrected" in table
    assert "Note: preset 'paper': the choices are the paper's (Vast et al. 2025)." in table
    assert "original ." in table
    frame = matchlens.Result.load(tmp_path, "ablation").to_frame("table1").set_index("cut")
    for cut, text in cells(table).items():
        assert re.fullmatch(r"(1|)\.\d\dv?\*?", text), text
        assert ("*" in text) == frame.loc[cut, "significant_paper"]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    options = manifest["studies"]["ablation"]["options"]
    assert (options["preset"], options["stars"], options["digits"]) == ("paper", "unpaired", 2)
    assert manifest["identity"]["model"]["max_length"] == 64  # the model's own is smaller than 512


def test_collections_in_files_of_one_name_stand_side_by_side(words, tmp_path):
    here = tmp_path / "my years"
    first = write_collection(here / "2019" / "dl", 2)
    second = write_collection(here / "2020" / "dl", 3)
    lone = [*first[:4], "--topics", here / "x.tsv", "--qrels", first[3], *first[4:]]
    (here / "x.tsv").write_bytes((here / "2019/dl/topics.tsv").read_bytes())
    for given, names in (
        ([*first, *second], ["2019/dl/topics", "2020/dl/topics"]),
        (lone, ["topics", "x"]),
    ):
        out = tmp_path / names[0].replace("/", "-")
        table = well(*words[:4], *given, "--out", out, "--cut", "Q->D", "--runs")
        assert f" on {', '.join(names)}: 8 queries, 64 pairs" in table
        manifest = json.loads((out / "manifest.json").read_text())
        sources = manifest["identity"]["pairs"]["sources"]
        assert [source["collection"] for source in sources] == names
        pairs = pd.read_parquet(out / "pairs.parquet")
        assert pairs.groupby("collection", sort=False).size().to_dict() == dict.fromkeys(names, 32)
        run = [line.split() for line in (out / "runs/0000.run").read_text().splitlines()]
        assert {line[0].rsplit("/", 1)[0] for line in run} == set(names)
        assert {len(line) for line in run} == {6}


def test_a_run_is_reranked(words, tmp_path):
    run = tmp_path / "bm25.run"
    docids = [f"1-p{number}" for number in range(0, 32, 4)]
    run.write_text("".join(f"q0 Q0 {d} {n} {9 - n} x\n" for n, d in enumerate(docids, 1)))
    table = well(*words, "--out", tmp_path / "out", "--run", run, "--depth", "5", "--cut", "Q->D")
    assert ": 1 query, 5 pairs (the run's top 5, ideal of the full qrels)" in table
    assert "Note: one query only: no test is possible" in table
    pairs = pd.read_parquet(tmp_path / "out/pairs.parquet")
    assert pairs["docid"].tolist() == docids[:5]


def test_a_warning_is_one_line_without_a_place_in_the_program(words, tmp_path):
    run = tmp_path / "odd.run"
    run.write_text("q0 Q0 1-p0 1 1 x\nq0 Q0 1-p4 2 2 x\n")
    done = call(
        *("ablation", "-q", *words, "--out", tmp_path / "out"),
        *("--run", run, "--depth", "5", "--cut", "Q->D"),
    )
    assert done.status == 0
    (line,) = done.err.splitlines()
    assert re.match(r"matchlens: warning: .*odd\.run: the ranks contradict the scores", line)
    assert ".py" not in line


def test_notes_on_stderr_unless_quiet(words, tmp_path):
    done = call("ablation", *words, "--out", tmp_path / "out", "--cut", "Q->D")
    said = done.err.splitlines()
    assert done.status == 0
    assert re.match("loading and checking model '.*tiny-bert0' ...$", said[0])
    assert said[1:] == [f"results in {tmp_path / 'out'}"]


def test_a_table_that_cannot_be_saved_is_shown_all_the_same(words, tmp_path, monkeypatch):
    def full(*_):
        raise matchlens.InputError("cannot write the results to 'out': No space left on device")

    monkeypatch.setattr(matchlens.Result, "save", full)
    done = call("ablation", "-q", *words, "--out", tmp_path / "out", "--cut", "Q->D")
    assert done.status == 2
    assert "\nnDCG@10 of tiny-bert0 on topics" in done.out
    (line,) = done.err.splitlines()
    assert "No space left on device (the table above is not saved" in line


def without_long_queries(err: str) -> str:
    """The lines without the warning of a query that is long for a limit of 64 tokens."""
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if "cuts the longer text first" not in line)


def test_demo_shows_the_built_in_collection(tiny_folder, tmp_path, monkeypatch):
    """The command's own model needs the demo extra: here the tiny one stands in for it."""
    monkeypatch.setattr("matchlens.models.convert.demo_folder", lambda: tiny_folder)
    done = call("demo", "--queries", "3", "--cut", "Q->D", "-q")
    assert (done.status, without_long_queries(done.err)) == (0, "")
    assert "\nnDCG@10 of demo on demo: 3 queries, 36 pairs" in done.out
    out = tmp_path / "out"
    again = call("demo", "--queries", "3", "--cut", "Q->D", "-q", "--out", out)
    assert again.out == done.out
    assert set(files_of(out)) == ALWAYS


# --- score


@pytest.fixture
def pairs_file(tmp_path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in SCORE_LINES))
    return path


def scored(*words: object) -> list[dict]:
    done = call("score", "-q", "--device", "cpu", *words)
    assert (done.status, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def test_score_equals_the_function(tiny_folder, tiny32, pairs_file):
    cuts = ["Q -> D", "Q->D", " D->D@0:2 ~mask"]
    options = [word for cut in cuts for word in ("--cut", cut)]
    rows = scored("-m", tiny_folder, "--pairs", pairs_file, *options)
    assert [row["pair"] for row in rows] == [0, 1, 2, 3, 4]
    texts = [(line["query"], line["text"]) for line in SCORE_LINES]
    expected = matchlens.score(tiny32, texts, cuts)
    for row, own in zip(rows, expected.to_dict("records"), strict=True):
        assert list(row["scores"]) == ["", *cuts]
        assert row["scores"] == pytest.approx(own, abs=1e-6)
    assert rows[0]["scores"]["Q -> D"] == rows[0]["scores"]["Q->D"] != rows[0]["scores"][""]


def test_score_reads_standard_input_and_knows_prefixes(tiny_folder, pairs_file, monkeypatch):
    whole = scored("-m", tiny_folder, "--pairs", pairs_file)
    assert all(list(row["scores"]) == [""] for row in whole)
    blank = b"\xef\xbb\xbf\n" + pairs_file.read_bytes().replace(b"\n", b"\r\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(blank)))
    assert scored("-m", tiny_folder, "--pairs", "-") == whole
    spelled = pairs_file.with_name("spelled.jsonl")
    lines = ({"query": f"q: {p['query']}", "text": f"d: {p['text']}"} for p in SCORE_LINES)
    spelled.write_text("".join(json.dumps(line) + "\n" for line in lines))
    prefixes = ["--query-prefix", "q: ", "--passage-prefix", "d: "]
    expected = scored("-m", tiny_folder, "--pairs", spelled)
    assert scored("-m", tiny_folder, "--pairs", pairs_file, *prefixes) == expected != whole


def test_score_goes_through_a_long_file_in_chunks(tiny_folder, pairs_file, monkeypatch):
    words = ["-m", tiny_folder, "--pairs", pairs_file, "--cut", "Q->D", "--dtype", "float64"]
    whole = scored(*words)
    sizes = []
    real = matchlens.score

    def counting(model, pairs, *args, **options):
        sizes.append(len(pairs))
        return real(model, pairs, *args, **options)

    monkeypatch.setattr(matchlens.cli.scoring, "CHUNK", 2)
    monkeypatch.setattr("matchlens.studies.scoring.score", counting)
    rows = scored(*words)
    assert sizes == [2, 2, 1]
    assert [row["pair"] for row in rows] == [0, 1, 2, 3, 4]
    for row, own in zip(rows, whole, strict=True):
        assert row["scores"] == pytest.approx(own["scores"], abs=1e-10)


def test_cuts_that_put_in_what_other_pairs_have(tiny_folder, tiny32, pairs_file, monkeypatch):
    """Means are over the whole file, whatever the chunk; resample stays inside a query's lines."""
    lines = [*SCORE_LINES[:2], *({**line, "query": "sun"} for line in SCORE_LINES[2:])]
    pairs_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["-m", tiny_folder, "--pairs", pairs_file]
    monkeypatch.setattr(matchlens.cli.scoring, "CHUNK", 2)
    cuts = ["D->Q~mean", "D->Q~resample"]
    rows = scored(*words, "--cut", cuts[0], "--cut", cuts[1])
    pairs = [(line["query"], line["text"]) for line in lines]
    expected, chunk = (matchlens.score(tiny32, some, cuts) for some in (pairs, pairs[:2]))
    for place, row in enumerate(rows):
        assert row["scores"] == pytest.approx(dict(expected.iloc[place]), abs=1e-5)
    assert abs(chunk[cuts[0]][0] - rows[0]["scores"][cuts[0]]) > 1e-3
    assert chunk[cuts[1]][0] == pytest.approx(rows[0]["scores"][cuts[1]], abs=1e-5)

    pairs_file.write_text("".join(json.dumps(line) + "\n" for line in SCORE_LINES))
    done = call("score", "-q", *words, "--cut", "D->Q~resample")
    assert (done.status, done.out) == (2, "")
    assert "query 'q2' ('warm tea') has one pair only" in done.err


def test_score_resamples_as_matchlens_score_does(tiny_folder, tiny32, pairs_file):
    """With several passages to draw from, the command draws the same ones as the function."""
    texts = [("warm tea", f"{word} rain cold") for word in tiny_models.WORDS]
    pairs_file.write_text(
        "\n".join(json.dumps({"query": query, "text": text}) for query, text in texts)
    )
    rows = scored("-m", tiny_folder, "--pairs", pairs_file, "--cut", "D->Q~resample")
    expected = matchlens.score(tiny32, texts, ["D->Q~resample"])
    assert [row["scores"]["D->Q~resample"] for row in rows] == pytest.approx(
        expected["D->Q~resample"].tolist(), abs=1e-5
    )


# --- help


@pytest.mark.parametrize(
    ("command", "examples"),
    [
        (
            "ablation",
            ["matchlens ablation --demo --out", "--dataset msmarco-passage/", "'D->D@0:6'"],
        ),
        ("score", ["matchlens score -m demo --pairs pairs.jsonl --cut 'Q->D'", '{"pair": 0']),
        ("sweep", ["matchlens sweep up-to --demo --direction 'Q->D'", "matchlens sweep heads"]),
        ("demo", ["pip install 'matchlens[demo]'"]),
    ],
)
def test_help_shows_an_example(command, examples):
    for word in ("--help", "-h"):
        done = call(command, word)
        assert (done.status, done.err) == (0, "")
        assert all(example in done.out for example in examples)
        assert max(map(len, done.out.splitlines())) <= 100


def test_help_of_the_whole_names_the_commands():
    done = call("--help")
    assert done.status == 0
    for command in ("demo", "ablation", "sweep", "score"):
        assert re.search(rf"^  {command} ", done.out, re.MULTILINE)
    assert call() == done
    assert "First look, on built-in data: matchlens demo" in done.out


def test_version():
    assert call("--version") == Outcome(0, f"matchlens {matchlens.__version__}\n", "")


@pytest.mark.parametrize(
    ("study", "status", "says"),
    [
        ("attention", 2, "--measure came 2 times; expected one"),
        ("screen", 2, "--measure came 2 times; expected one"),
        ("study", 2, "--measure came 2 times; expected one"),
        ("circuits", 0, "circuits measures no ranking, so that --measure has no effect"),
        ("look", 0, "look measures no ranking, so that --measure has no effect"),
    ],
)
def test_measures_that_a_study_cannot_use_are_named_before_the_model_is_loaded(
    words, study, status, says, tmp_path
):
    measures = ("--measure", "RR@10", "--measure", "nDCG@10")
    done = call(study, *words, *measures, "--dry-run", "--out", tmp_path / "out")
    assert done.status == status
    assert says in done.err
    if status == 0:
        assert says not in call(study, *words, "--dry-run", "--out", tmp_path / "out").err


def test_a_measure_without_a_cut_is_said_to_have_no_effect(words, tmp_path):
    uncut = ("attention", *words, "--no-cut", "--dry-run", "--out", tmp_path / "out")
    says = "attention --no-cut measures no ranking, so that --measure has no effect"
    assert says in call(*uncut, "--measure", "RR@10").err
    assert says not in call(*uncut).err


@pytest.mark.parametrize(
    ("command", "given", "says"),
    [
        (["attention", "--no-cut"], ["--pairs", "9", "--random", "200"], "cuts nothing, so that"),
        (["circuits", "--head", "0.1"], ["--top", "3"], "--head names the heads"),
        (["circuits", "--top", "0"], ["--matches", "9"], "--top 0 searches no vocabulary"),
        (["look", "--pair", "d01 d01-01"], ["--looks", "3"], "--pair names the pairs"),
        (["study", "--studies", "ablation"], ["--base", "demo"], "circuits is not among the stud"),
        (["study", "--studies", "ablation"], ["--samples", "2"], "evidence is not among the stud"),
        (["study", "--studies", "circuits"], ["--runs"], "ablation is not among the studies"),
        (["study", "--studies", "circuits,looking"], ["--measure", "P@5"], "measure no ranking"),
        (["study", "--studies", "attention", "--quick"], ["--measure", "P@5"], "no ranking"),
    ],
)
def test_options_that_change_nothing_are_named(command, given, says, words, monkeypatch):
    monkeypatch.setattr("matchlens.studies.spec.check_base", lambda *_: None)
    model = ["--model", "demo"] if "--base" in given else words[:2]
    more = [*model, "--demo", "--queries", "4", "--out", "nowhere", "--dry-run"]
    done = call(*command, *more, *given)
    assert done.status == 0, done.err
    flags = [word for word in given if word.startswith("--")]
    verb, them = ("have", "them") if len(flags) > 1 else ("has", "it")
    assert f"so that {' and '.join(flags)} {verb} no effect: leave {them} out" in done.err
    assert says in done.err
    assert "no effect" not in call(*command, *more).err


def test_a_terminal_that_is_not_utf_8_gets_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    assert matchlens.cli.main(["--version"]) == 0
    show("† é …\n")
    sys.stdout.flush()
    assert written.getvalue().decode("latin-1").endswith("\\u2020 é \\u2026\n")
