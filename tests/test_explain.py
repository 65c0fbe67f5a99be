"""Why A ranks above B: complete shares, cuts that are cuts, the smallest set that swaps."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import matchlens
import matchlens.cli
import tiny as tiny_models
import tiny_decoders
import tiny_t5
from matchlens import Cut, InputError, gating
from matchlens.corpora import Pair
from matchlens.models.words import stretches
from matchlens.parts import NAMED
from matchlens.report.views.explain import explain_text
from matchlens.runners import run
from matchlens.sets import cut_sets
from matchlens.studies import explained_tables, explaining, swaps
from matchlens.studies.common import TIE_TOL
from matchlens.studies.swaps import Unit, smallest_swap

QUERY = "cat sat"
PASSAGES = ["the cat sat on a mat, warm tea", ("rain", "cold rain; far ship"), "dog"]
TABLES = [
    "passages", "words", "units", "margin", "query_words", "links", "swap", "random_swaps",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_models.save(tmp_path_factory.mktemp("tiny"), layers=2, heads=2, seed=4)
    return matchlens.load(folder, dtype="float64", device="cpu")


@pytest.fixture(scope="module")
def result(model):
    return matchlens.explain(model, QUERY, PASSAGES)


def test_the_tables_and_facts_are_there(result):
    assert list(result.tables) == TABLES
    for name in ("query", "compare", "margin", "points", "error", "swapped", "swap"):
        assert name in result.options
    assert result.to_frame("passages")["docid"].tolist() == ["0", "rain", "2"]
    for cut in result.options["swap"]:
        assert str(Cut.parse(cut)) == cut


@pytest.mark.parametrize("seed", [-1, -(2**70), 2**70])
def test_any_whole_number_is_a_seed(model, seed):
    sets = [
        matchlens.explain(model, QUERY, PASSAGES, points=4, seed=seed).to_frame("random_swaps")
        for _ in range(2)
    ]
    assert sets[0].equals(sets[1])


def test_every_partition_sums_to_the_score(result):
    passages, units = result.to_frame("passages"), result.to_frame("units")
    words = result.to_frame("words")
    for row in passages.to_dict("records"):
        shared = row["score"] - row["without_attention"]
        own = units[units["passage"] == row["passage"]]
        sums = own.groupby("kind")["contribution"].sum()
        for kind in ("direction", "layer", "head", "head_direction"):
            assert abs(sums[kind] - shared) == pytest.approx(row["error"], abs=1e-9), kind
        assert sums["outside attention"] == row["without_attention"]
        mine = words[words["passage"] == row["passage"]]
        assert mine["read"].sum() == pytest.approx(sums["direction"], abs=1e-9)
        assert mine["reads"].sum() == pytest.approx(sums["direction"], abs=1e-9)


def test_the_margin_is_shared_out_but_for_the_error(result):
    margin, options = result.to_frame("margin"), result.options
    scores = result.to_frame("passages")["score"]
    assert options["margin"] == pytest.approx(scores[0] - scores[1])
    outside = margin.loc[margin["kind"] == "outside attention", "contribution"].iloc[0]
    total = margin.loc[margin["kind"] == "head", "contribution"].sum() + outside
    assert abs(total - options["margin"]) == pytest.approx(options["error"], abs=1e-9)
    assert options["error"] <= 0.02 * abs(options["margin"])
    np.testing.assert_allclose(margin["share"], margin["contribution"] / options["margin"])


def test_the_margin_under_a_cut_is_the_cut_s(model, result):
    margin = result.to_frame("margin")
    texts = {
        "layer": "{CLS,Q,SEP1,D,SEP2}->All@",
        "head": "{CLS,Q,SEP1,D,SEP2}->All#",
        "direction": "",
        "head_direction": "",
    }
    known = margin[margin["margin_cut"].notna()]
    assert set(known["kind"]) == set(texts)
    cuts = [texts[kind] + unit for kind, unit in zip(known["kind"], known["unit"], strict=True)]
    pairs = [
        Pair("q", str(at), QUERY, text, 0) for at, text in enumerate((PASSAGES[0], PASSAGES[1][1]))
    ]
    table = matchlens.score(model, pairs, cuts)
    for cut, row in zip(cuts, known.to_dict("records"), strict=True):
        assert row["margin_cut"] == pytest.approx(table[cut][0] - table[cut][1], abs=1e-9)
        assert row["lost"] == pytest.approx(result.options["margin"] - row["margin_cut"])


def test_words_are_whole_and_cover_every_token(model, result):
    words = result.to_frame("words")
    for number, row in enumerate(result.to_frame("passages").to_dict("records")):
        own = words[words["passage"] == number]
        assert own["word"].tolist() == list(range(len(own)))
        assert own["start"].tolist() == [0, *own["stop"].tolist()[:-1]]
        assert own["stop"].iloc[-1] == row["tokens"]
    first = words[words["passage"] == 0]
    assert first["text"].tolist()[:4] == ["[CLS]", "cat", "sat", "[SEP]"]
    assert first[first["part"] == "D"]["text"].tolist()[0] == "the"  # three tokens of letters
    assert "," in first["text"].tolist()


def test_query_words_are_the_words_read(result):
    words, query = result.to_frame("words"), result.to_frame("query_words")
    assert query["text"].tolist() == ["cat", "sat"]
    for side, number in (("read_a", 0), ("read_b", 1)):
        own = words[(words["passage"] == number) & (words["part"] == "Q")]
        np.testing.assert_allclose(query[side], own["read"])
    np.testing.assert_allclose(query["contribution"], query["read_a"] - query["read_b"])


def test_links_are_the_strongest(result):
    links, words = result.to_frame("links"), result.to_frame("words")
    whole = links[(links["passage"] == 0) & (links["layer"] == -1)]
    assert whole["contribution"].abs().is_monotonic_decreasing
    count = int((words["passage"] == 0).sum())
    assert whole[["row_word", "column_word"]].to_numpy().max() < count
    some = links[(links["passage"] == 0) & (links["layer"] == 0) & (links["head"] == 1)]
    assert 0 < len(some) <= explained_tables.HEAD_LINKS
    assert links["attention"].between(0, 1 + 1e-9).all()


def test_the_swap_swaps_and_needs_each_of_its_cuts(model, result):
    """What is said of the set is what a joint cut does; without any one of them it does not."""
    if not result.options["swapped"]:
        pytest.fail("the model was chosen so that a set swaps the passages")
    pairs = [
        Pair("q", str(at), QUERY, text, 0) for at, text in enumerate((PASSAGES[0], PASSAGES[1][1]))
    ]
    cuts = [Cut.parse(cut) for cut in result.options["swap"]]
    sign = np.sign(result.options["margin"])
    first, second = run(model, pairs, {"set": cuts}).scores.of("set")
    assert sign * (first - second) < -10 * result.options["tie_tol"]
    for left in range(len(cuts) if len(cuts) > 1 else 0):
        rest = cuts[:left] + cuts[left + 1 :]
        first, second = run(model, pairs, {"set": rest}).scores.of("set")
        assert sign * (first - second) >= -10 * result.options["tie_tol"]
    table = result.to_frame("swap")
    assert table["kept"].dtype == bool
    assert table[table["kept"]]["unit"].tolist() == result.options["swap"]
    draws = result.to_frame("random_swaps")
    assert 0 < len(draws) <= swaps.RANDOM_SETS
    assert (draws["size"] == len(cuts)).all()


def test_no_set_blinds_the_score(model):
    pairs = [Pair("q", str(at), QUERY, text, 0) for at, text in enumerate(("cat mat", "far sun"))]
    search = swaps._Search(model, pairs, 1.0, 1e-9)

    def units(*names: str) -> list[Unit]:
        return [Unit("direction", name, Cut.parse(name)) for name in names]

    every = [f"CLS->{part}" for part in NAMED]
    assert search.blinds(units(*every))
    assert search.blinds(units("CLS->All@1"))
    assert not search.blinds(units(*every[:-1], "Q->D"))
    assert search.blinds(units(*every[:-1], "CLS->SEP2#0.0,0.1"))
    assert not search.blinds(units(*every[:-1], "CLS->SEP2#0.0,1.1"))


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("bert", "CLS->D#1.0"), ("qwen3", "D->Q"), ("qwen3", "CLS->D#1.1"), ("t5", "DEC->D"),
     ("t5", "DEC->D#2.1"), ("t5", "Q->D#0.0")],
)  # fmt: skip
def test_each_cut_of_a_random_set_changes_scores(kind, unit, tmp_path):
    """What a random set holds is no cut that the model's masks or its last layer make empty."""
    save = {"bert": tiny_models.save, "qwen3": tiny_decoders.save, "t5": tiny_t5.save}[kind]
    sizes = {} if kind == "t5" else {"layers": 2, "heads": 2}
    model = matchlens.load(save(tmp_path, kind, **sizes), device="cpu")
    pairs = [Pair("q", str(at), "cat sat", text, 0) for at, text in enumerate(("mat", "far sun"))]
    search = swaps._Search(model, pairs, 1.0, 1e-9)
    directions = [
        Unit("direction", str(cut), cut)
        for cut in (Cut.parse(f"{x}->{y}") for x in NAMED for y in NAMED)
    ]
    kept = [Unit("head_direction" if "#" in unit else "direction", unit, Cut.parse(unit))]
    drawn = swaps._random_sets(search, kept, directions, 0)
    assert drawn
    cuts = {member.unit: [member.cut] for members in drawn for member in members}
    scores = run(model, pairs, {"": [], **cuts}).scores
    for name in cuts:
        assert abs(scores.of(name) - scores.of("")).max() > 1e-6, name


def test_the_search_is_greedy_by_what_is_measured(model, monkeypatch):
    """Margins made up: the set follows them, is pruned, and stops where nothing helps."""
    pairs = [Pair("q", str(at), QUERY, text, 0) for at, text in enumerate(("cat mat", "far sun"))]
    units = [Unit("direction", name, Cut.parse(name)) for name in ("Q->D", "D->Q", "D->D")]
    weights = {"Q->D": 3.0, "D->Q": 2.0, "D->D": -1.0}

    def margins(self, sets):
        return [4.5 - sum(weights[unit.unit] for unit in one) for one in sets]

    monkeypatch.setattr(swaps._Search, "margins", margins)
    single = {"": 4.5, **{name: 4.5 - weight for name, weight in weights.items()}}
    found = smallest_swap(model, pairs, units, single, 1e-9, 0)
    assert [unit.unit for unit in found.units] == ["Q->D", "D->Q"]
    assert found.margins == (1.5, -0.5)
    assert found.swapped
    weights["D->Q"] = 1.0
    single["D->Q"] = 3.5
    found = smallest_swap(model, pairs, units, single, 1e-9, 0)
    assert not found.swapped
    assert found.margins == (1.5, 0.5)  # D->D would raise it again


def test_points_double_until_the_error_is_small(model, monkeypatch):
    asked = []
    real = gating.integrate

    def counting(model, pair, words, points, cuts=()):
        asked.append(points)
        return real(model, pair, words, points, cuts)

    monkeypatch.setattr(gating, "integrate", counting)
    monkeypatch.setattr(explaining, "SMALL_ERROR", 1e-7)
    result = matchlens.explain(model, QUERY, PASSAGES, points=1, swap=False)
    assert sorted(set(asked)) == [2**n for n in range(len(set(asked)))]
    assert result.options["points"] == max(asked)
    assert asked[-1] == max(asked)  # the passage that is not compared has as many
    assert set(result.to_frame("passages")["points"]) == {max(asked)}


def test_a_tie_is_not_shared_out(model):
    result = matchlens.explain(model, QUERY, ["warm tea", ("b", "warm tea")], points=4, swap=False)
    assert not result.options["shared_out"]
    assert result.options["points"] == 4
    assert result.to_frame("margin")["share"].isna().all()
    assert any("tied" in note for note in result.notes)


@pytest.mark.parametrize("passages", [["dog", "dog"], PASSAGES[:2], PASSAGES[1::-1]])
def test_what_is_said_of_a_tie_ranks_nobody(model, passages, monkeypatch):
    """Scores within the tolerance are no order, so that no set of cuts can swap it."""
    monkeypatch.setitem(TIE_TOL, "float64", 10.0)
    result = matchlens.explain(model, QUERY, passages, points=2)
    text = " ".join(explain_text(result).split())
    assert text.startswith("Why do A and B tie?")
    assert "they are tied." in text
    assert "Tied passages have no order that cuts could swap." in text
    assert not re.search("A ranks|ranks (above|below) [AB]|swaps the two", text)
    assert not result.options["swapped"]
    assert result.tables["swap"].empty
    assert result.to_frame("margin")["margin_cut"].notna().any()  # single cuts are still made


def test_a_margin_that_is_not_shared_out_is_small_or_the_score_jumps(tmp_path):
    """Gemma 2 norms what its attention writes, so that half of it counts like the whole."""
    folder = tiny_decoders.save(tmp_path / "gemma2", "gemma2", labels=1)
    texts = ["tea in the cold rain", "the dog ran far"]
    jumping = matchlens.explain(matchlens.load(folder), "warm tea", texts, swap=False)
    assert not jumping.options["shared_out"]
    assert abs(jumping.options["margin"]) > 1
    (note,) = [one for one in jumping.notes if "contributions miss" in one]
    assert "is not shared out" in note
    assert "too small" not in note


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")])
@pytest.mark.parametrize("where", ["integrate", "word_attention"])
def test_memory_that_runs_out_is_one_line(model, where, error, monkeypatch):
    plain = getattr(gating, where)

    def short(walked, pair, words, *more):
        if len(words) > 12:
            raise error
        return plain(walked, pair, words, *more)

    monkeypatch.setattr(gating, where, short)
    passages = ["cat", "sun rain " * 9]
    with pytest.raises(InputError, match="smaller max_length"):
        matchlens.explain(model, QUERY, passages, points=1, swap=False)
    matchlens.explain(replace(model, max_length=12), QUERY, passages, points=1, swap=False)


def test_passages_that_were_cut_are_told(model):
    short = replace(model, max_length=12)
    texts = [("long", "sun rain " * 9), ("short", "cold tea"), ("longer", "sun rain " * 9 + "mat")]
    notes = matchlens.explain(short, "warm tea", texts, points=8, swap=False).notes
    assert "2 of 3 passages were cut to the length limit ('long', 'longer')" in notes
    assert not [
        note
        for note in matchlens.explain(model, "tea", texts, points=8, swap=False).notes
        if "cut to" in note
    ]


@pytest.mark.parametrize("made", [iter, np.array, lambda texts: pd.Series(texts, index=[7, 8])])
def test_passages_may_come_from_anything_that_is_walked(model, made):
    texts = ["tea is warm", "a red dog"]
    plain = matchlens.explain(model, "warm tea", texts, points=8, swap=False)
    walked = matchlens.explain(model, "warm tea", made(texts), points=8, swap=False)
    assert walked.to_frame("passages").equals(plain.to_frame("passages"))
    assert matchlens.rank(model, "warm tea", made(texts)) == matchlens.rank(
        model, "warm tea", texts
    )


def test_a_margin_the_other_way_round_is_turned(model, result):
    turned = matchlens.explain(model, QUERY, PASSAGES, compare=(1, 0))
    assert turned.options["margin"] == pytest.approx(-result.options["margin"])
    assert set(turned.options["swap"]) == set(result.options["swap"])
    low = turned if turned.options["margin"] < 0 else result
    assert any("ranks below" in note for note in low.notes)
    above, below = ("B", "A") if low.options["margin"] < 0 else ("A", "B")
    assert explain_text(low).startswith(f"Why does {above} rank above {below}?")


def test_it_saves_and_loads(result, tmp_path):
    again = matchlens.Result.load(result.save(tmp_path / "out"), "explain")
    assert list(again.tables) == sorted(TABLES) or set(again.tables) == set(TABLES)
    for name in TABLES:
        assert again.to_frame(name).shape == result.to_frame(name).shape
    assert again.options["swap"] == result.options["swap"]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (2, "bert"),
        pytest.param(1, "modernbert-mean", marks=pytest.mark.slow),
        pytest.param(1, "deberta-v2", marks=pytest.mark.slow),
        (None, "qwen3"),
    ],
)
def test_other_models_go_through(labels, kind, tmp_path):
    if kind == "qwen3":
        folder = tiny_decoders.save(tmp_path, kind, layers=2, heads=2)
    elif kind == "modernbert-mean":
        folder = tiny_models.save(tmp_path, "modernbert", classifier_pooling="mean", layers=2)
    else:
        folder = tiny_models.save(tmp_path, kind, labels=labels, layers=2, heads=2)
    result = matchlens.explain(str(folder), QUERY, PASSAGES[:2], points=8)
    outside = result.to_frame("units").query("kind == 'outside attention'")["contribution"]
    scores = result.to_frame("passages")
    assert (outside.to_numpy() == scores["without_attention"].to_numpy()).all()
    if kind == "modernbert-mean":  # the mean over words does not pass through attention
        assert abs(outside.iloc[0] - outside.iloc[1]) > 1e-4
    if kind == "qwen3":
        words = result.to_frame("words")
        assert "Other" in set(words["part"])
        assert any("Other" in unit for unit in result.to_frame("margin")["unit"])


def test_a_cross_encoder_object_is_wrapped(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = tiny_models.save(tmp_path, layers=2, heads=2)
    owner = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    result = matchlens.explain(owner, QUERY, PASSAGES[:2], points=2, swap=False)
    assert len(result.to_frame("passages")) == 2


@pytest.mark.parametrize(
    ("passages", "compare", "says"),
    [
        (["one"], (0, 1), "1 passage came; expected two or more"),
        ("one text", (0, 1), r"passages is 'one text'; expected a list"),
        ([("a", "x"), ("a", "y")], (0, 1), "two passages have the id 'a'"),
        (["cat", "dog"], (0, 2), r"compare is \(0, 2\); expected the numbers of two different"),
        (["cat", "dog"], (1, 1), r"compare is \(1, 1\)"),
        (["cat", ""], (0, 1), "the passage gives no token"),
        (["cat", 3], (0, 1), "passages is"),
    ],
)
def test_odd_input_is_refused(model, passages, compare, says):
    with pytest.raises(InputError, match=says):
        matchlens.explain(model, QUERY, passages, compare=compare)


def test_an_odd_model_is_refused():
    with pytest.raises(InputError, match="model is of the type SimpleNamespace; expected a model"):
        matchlens.explain(SimpleNamespace(), QUERY, PASSAGES)


def test_stretches_join_what_shares_a_character(tmp_path):
    """The bytes of one emoji are shown as one; a prompt is one stretch."""
    model = matchlens.load(tiny_decoders.save(tmp_path, "qwen3", layers=1), device="cpu")
    pair = Pair("q", "d", "cat", "tea 🍵 ship", 0)
    found = stretches(model, pair)
    assert found[0].part == matchlens.Part.OTHER
    assert "🍵" in [one.text for one in found]
    assert [one.start for one in found[1:]] == [one.stop for one in found[:-1]]


# --- sets of cuts in a file


def written(tmp_path, content) -> str:
    path = tmp_path / "cuts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_sets_of_cuts_are_conditions(model, tmp_path):
    sets = cut_sets(
        written(
            tmp_path,
            [{"name": "both", "cuts": ["Q->D@0", "D->Q#1.1"]}, {"name": "one", "cuts": ["CLS->D"]}],
        )
    )
    assert {name: [str(cut) for cut in cuts] for name, cuts in sets.items()} == {
        "both": ["Q->D@0", "D->Q#1.1"],
        "one": ["CLS->D"],
    }
    pairs = tiny_models.pairs(3)
    found = run(model, pairs, {"": [], **sets}).scores
    np.testing.assert_allclose(
        found.of("one"), matchlens.score(model, pairs, ["CLS->D"])["CLS->D"], atol=1e-12
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[", "cannot be read"),
        ("[" * 10**5, "cannot be read"),
        ({}, "holds no list of 1 to"),
        ([], "holds no list of 1 to"),
        ([{"name": "a"}], "set 1 is no object with name and cuts alone"),
        ([{"name": "a", "cuts": ["Q->D"], "how": "mask"}], "set 1 is no object"),
        ([{"name": "", "cuts": ["Q->D"]}], "set 1 has the name ''"),
        ([{"name": "a\n", "cuts": ["Q->D"]}], "set 1 has the name"),
        ([{"name": "Q->D", "cuts": ["Q->D"]}], "set 1 has the name 'Q->D'"),
        ([{"name": "random", "cuts": ["Q->D"]}], "set 1 has the name 'random'"),
        ([{"name": "a", "cuts": ["Q->D"]}] * 2, "two sets called 'a'"),
        ([{"name": "a", "cuts": []}], "set 1 has no list of 1 to"),
        ([{"name": "a", "cuts": "Q->D"}], "set 1 has no list of 1 to"),
        ([{"name": "a", "cuts": [3]}], "set 1 has no list of 1 to"),
        ([{"name": "a", "cuts": ["Q->X"]}], "set 1: "),
    ],
)
def test_odd_cut_files_are_refused(content, says, tmp_path):
    with pytest.raises(InputError, match=says) as refused:
        cut_sets(written(tmp_path, content))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_what_explain_finds_can_be_given_to_every_command(model, result, tmp_path, monkeypatch):
    """The smallest swap in a file: ablation makes it, score shows the order swapped; rerun, too."""
    monkeypatch.chdir(tmp_path)
    folder = tiny_models.save(tmp_path / "model", layers=2, heads=2, seed=4)
    two = [PASSAGES[0], PASSAGES[1][1]]
    lines = [json.dumps({"query": QUERY, "text": text}) for text in two]
    Path("pairs.jsonl").write_text("\n".join(lines))
    shared = ["-m", str(folder), "--dtype", "float64", "--device", "cpu", "-q"]

    def call(*words: str) -> str:
        out = io.StringIO()
        with redirect_stdout(out):
            assert matchlens.cli.main([*words, *shared]) == 0
        return out.getvalue()

    call("explain", "--pairs", "pairs.jsonl", "--out", "why")
    file = "why/explain/cut-file.json"
    ((name, cuts),) = cut_sets(file).items()
    assert [str(cut) for cut in cuts] == result.options["swap"]

    cutting = ["--cut-file", file]
    scored = [json.loads(line)["scores"] for line in
              call("score", "--pairs", "pairs.jsonl", *cutting).splitlines()]  # fmt: skip
    assert list(scored[0]) == ["", name]
    assert np.sign(scored[0][""] - scored[1][""]) == -np.sign(scored[0][name] - scored[1][name])

    call("ablation", "--demo", "--queries", "3", "--cut", "Q->D", *cutting, "--out", "cut")
    cut = matchlens.Result.load("cut", "ablation")
    assert cut.to_frame("table1")["cut"].tolist() == ["", "random", "Q->D", name]
    pairs = matchlens.choose(matchlens.demo.load(), queries=3)
    expected = matchlens.score(model, pairs.pairs, sets={name: list(cuts)})
    table = cut.scores[cut.scores["cut"] == name]["score"]
    np.testing.assert_allclose(table, expected[name], atol=1e-9)

    call("look", "--demo", "--queries", "3", "--looks", "2", *cutting, "--out", "looked")
    assert matchlens.Result.load("looked", "looking").to_frame("cuts")["cut"].unique() == [name]
    for place in ("cut", "looked"):
        (command,) = json.loads(Path(place, "manifest.json").read_text())["commands"]
        assert "cut_file" not in command["asked"]
        (text,) = command["asked"]["cut_set"]
        assert json.loads(text) == {"name": name, "cuts": result.options["swap"]}
    Path(file).unlink()  # the manifest has what was in it
    assert matchlens.cli.main(["rerun", "cut", "--yes", "-q"]) == 0


def test_sets_can_come_from_a_file_or_by_name_in_python(model, tmp_path):
    pairs = tiny_models.graded_by_cats(queries=10, passages=4)
    given = {"two": ["Q->D@0", "D->Q#1.1"]}
    file = written(tmp_path, [{"name": "two", "cuts": given["two"]}])
    by_name = matchlens.ablation(model, pairs, sets=given)
    by_file = matchlens.ablation(model, pairs, sets=file)
    assert by_name.to_frame().equals(by_file.to_frame())
    assert by_name.options["sets"] == given
    both = matchlens.ablation(model, pairs, cuts=["Q->D"], sets=given, hows=["zero", "mask"])
    assert both.to_frame()["cut"].tolist() == ["", "random", "Q->D", "Q->D~mask", "two"]
    both.plot()
    with pytest.raises(InputError, match="each item a list"):
        matchlens.score(model, [("a cat", "sat")], sets={"two": "Q->D"})


def test_two_files_cannot_give_one_name_to_two_sets(tmp_path):
    from matchlens.options import Cuts

    one = tmp_path / "one.json"
    one.write_text('[{"name": "a", "cuts": ["Q->D"]}]')
    other = written(tmp_path, [{"name": "a", "cuts": ["D->Q"]}])
    assert Cuts(cut_file=[one, one]).cut_set == ['{"name": "a", "cuts": ["Q->D"]}']
    with pytest.raises(InputError, match="a set called 'a', and another set has that name"):
        Cuts(cut_file=[one, Path(other)])
    heads = ",".join(f"{n // 2}.{n % 2}" for n in range(20_000))
    with pytest.raises(InputError, match="expected at most 131,072"):
        Cuts(cut_set=[json.dumps({"name": "a", "cuts": [f"Q->D#{heads}"]})])
