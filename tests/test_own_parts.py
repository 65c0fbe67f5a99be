"""Own parts: their tokens, cuts, meters, files and refusals, against slow references."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attention_reference
import matchlens
import reference
import tiny as tiny_models
from matchlens import Cut, InputError, MatchlensWarning, Pair, PairSet
from matchlens.corpora import frame
from matchlens.engine import other_pairs
from matchlens.parts import OwnPart, Part, PartSpan
from matchlens.plan import bound

CUTS = ("Q->TITLE", "TITLE->Q", "RARE->D", "{CLS,TITLE}->{RARE,BODY}", "D->TITLE#0.1,2.3")


def thirds(pair):
    """The first third of a passage's characters, mid-word boundaries included."""
    return [(0, len(pair.text) // 3)]


def the_rest(pair):
    return [(len(pair.text) // 3, len(pair.text))]


def last_word(pair):
    return [(pair.query.rfind(" ") + 1, len(pair.query))]


@pytest.fixture(scope="module")
def own_pairs(tiny_pairs) -> PairSet:
    plain = PairSet(tuple(tiny_pairs), {}, {}, {}, ())
    titled = plain.with_parts({"TITLE": thirds, "BODY": the_rest})
    return titled.with_parts({"RARE": last_word}, of="Q")


def of_one_query(pairs):
    return [pair for pair in pairs if pair.qid == "q0" and len(pair.text) > 30][:2]


SLOWER = [pytest.param(how, marks=pytest.mark.slow) for how in ("~mean", "~resample")]


@pytest.mark.parametrize("how", ["", "~mask", "~sink", *SLOWER])
def test_cuts_of_own_parts_equal_the_reference(tiny, own_pairs, how):
    few = of_one_query(own_pairs)
    names = [cut + how for cut in CUTS]
    got = matchlens.score(tiny, few, names)
    others = other_pairs(few, 0)
    for name in names:
        expected = [
            reference.score(tiny, pair, [name], run=few, other=few[others[place]])
            for place, pair in enumerate(few)
        ]
        np.testing.assert_allclose(got[name], expected, atol=1e-10, err_msg=name)
        assert np.abs(got[name] - got[""]).max() > 1e-6, name


@pytest.mark.parametrize("how", ["zero", "mask", "mean", "resample", "sink"])
def test_the_five_parts_are_the_union_of_those_in_them(tiny, own_pairs, how):
    """Own parts that cover D change no number of D, and cutting both is cutting D."""
    few = of_one_query(own_pairs)
    whole, both, own_rows = f"Q->D~{how}", f"Q->{{TITLE,BODY}}~{how}", f"D->Q~{how}"
    plain = [matchlens.Pair(p.qid, p.docid, p.query, p.text, p.grade) for p in few]
    before = matchlens.score(tiny, plain, [whole, own_rows])
    after = matchlens.score(tiny, few, [whole, both, own_rows, f"TITLE->Q~{how}"])
    np.testing.assert_allclose(after[whole], before[whole], atol=1e-12)
    np.testing.assert_allclose(after[own_rows], before[own_rows], atol=1e-12)
    np.testing.assert_allclose(after[both], before[whole], atol=1e-12)


def test_what_blinds_the_score_by_own_parts_is_seen(tiny, own_pairs):
    few = of_one_query(own_pairs)
    cut = "CLS->{CLS,Q,SEP1,TITLE,BODY,SEP2}"
    table = matchlens.score(tiny, few, [cut, "CLS->All"])
    np.testing.assert_allclose(table[cut], table["CLS->All"], atol=1e-12)
    assert np.ptp(table[cut]) == 0


def test_controls_take_the_own_parts_edges(tiny, own_pairs):
    from matchlens.plan import Control
    from matchlens.runners import run

    few = of_one_query(own_pairs)
    control = Control(matchlens.Cut.parse("Q->TITLE"), "rows", 0)
    out = run(tiny, few, {"": [], "control": [control]})
    assert out.taken.sum() > 0
    assert (np.diff(out.scores.values, axis=0) != 0).all()


def test_meters_measure_own_parts_behind_the_five(tiny, own_pairs):
    few = of_one_query(own_pairs)
    studied = PairSet(tuple(few), {}, own_pairs.sampling, {}, ())
    from matchlens.studies.attention.watching import Reader, watch

    watched = watch(tiny, studied, ["mass", "peak"])
    reader = Reader(watched.arrays, watched.parts)
    assert [str(part) for part in watched.parts[5:]] == ["BODY", "RARE", "TITLE"]
    for row, pair in enumerate(few):
        _, attention, _ = attention_reference.maps(tiny, pair)
        labels = reference.labelled(tiny, pair, tiny.encode([pair]).parts[0].tolist())
        for x, y in (("Q", "TITLE"), ("TITLE", "Q"), ("RARE", "BODY"), ("Q", "D")):
            left, right = (_places(labels, name) for name in (x, y))
            block = attention[:, :, left][:, :, :, right]
            parts = [Part.parse(n) if n in ("Q", "D") else OwnPart(n) for n in (x, y)]
            np.testing.assert_allclose(
                reader.of("mass", *parts)[row], block.sum(-1).mean(-1), atol=1e-6
            )
            np.testing.assert_allclose(
                reader.of("peak", *parts)[row], block.max((-1, -2)), atol=1e-6
            )


def _places(labels, name):
    names = [[str(x) for x in (one if isinstance(one, tuple) else (Part(one),))] for one in labels]
    return [place for place, some in enumerate(names) if name in some]


@settings(max_examples=30)
@given(data=st.data())
def test_any_labelling_reaches_the_tokens_by_their_first_character(tiny, data):
    text = data.draw(st.lists(st.sampled_from(tiny_models.WORDS), min_size=1, max_size=60))
    text = " ".join(text)
    cut = data.draw(st.integers(1, len(text)))
    pairs = PairSet((matchlens.Pair("q", "d", "cat dog", text, 1),), {}, {}, {}, ())
    (pair,) = pairs.with_parts({"OWN": [[(0, cut)]]})
    encoded = tiny.encode([pair])
    spans = tiny.spans(pair)
    expected = [
        at for at, part in enumerate(spans.parts) if part == Part.D and 0 <= spans.starts[at] < cut
    ]
    assert encoded.own[0]["OWN"].tolist() == expected


def test_tokens_beyond_the_limit_are_of_no_part(tmp_path):
    model = matchlens.load(tiny_models.save(tmp_path), device="cpu", max_length=12)
    long = " ".join(["cat"] * 40)
    pairs = PairSet(
        tuple(matchlens.Pair("q", f"d{n}", "dog", long, n) for n in (0, 1)), {}, {}, {}, ()
    )
    end = len(long) - 3
    late = pairs.with_parts({"LATE": lambda pair: [(end, end + 3)]})
    with pytest.raises(InputError, match=r"no token of any of the 2 pairs belongs to part LATE"):
        matchlens.score(model, late, ["Q->LATE"])
    early = pairs.with_parts(
        {"PART": lambda pair: [(0, 3) if pair.docid == "d0" else (end, end + 3)]}
    )
    from matchlens.runners import run

    out = run(model, early.pairs, {"": [], "x": [matchlens.Cut.parse("Q->PART")]})
    assert out.own == {"PART": 1}
    changed = np.abs(np.diff(out.scores.values, axis=0))[0]
    assert changed[0] > 1e-3
    assert changed[1] < 1e-5  # rows that are computed anew may be rounded otherwise


def graded(rows: int = 4) -> PairSet:
    given = [
        {"query": f"cat dog {n}", "text": f"cat dog bird {word}", "grade": grade}
        for n in range(rows)
        for grade, word in enumerate(("house", "tree cat", "dog"))
    ]
    return PairSet.from_frame(given)


def test_a_study_counts_pairs_without_a_part_and_records_the_parts(tiny, tmp_path):
    pairs = graded()
    some = pairs.with_parts({"CATS": lambda p: [(0, 3)] if p.grade else []})
    result = matchlens.ablation(tiny, some, cuts=["Q->CATS", "Q->D"], rel=1)
    assert "part CATS has no token in 4 of 12 pairs" in result.notes
    assert result.identity["pairs"]["sampling"]["own_parts"] == {"CATS": "D"}
    assert (
        result.identity["pairs"]["sha256"]
        != matchlens.ablation(tiny, pairs, cuts=["Q->D"], rel=1).identity["pairs"]["sha256"]
    )
    sweep = matchlens.sweep(tiny, some, kind="up-to", directions=["Q->CATS"], rel=1)
    assert sweep.to_frame()["cut"].astype(str).str.contains("CATS").any()


def test_fields_of_every_kind_of_collection_are_the_same_parts(tmp_path):
    passages = {
        "d1": {"title": "Warm tea", "text": "It is hot."},
        "d2": {"title": "", "text": "A red dog."},
        "d3": {"title": "All is said.", "text": ""},
    }
    qrels = {"q1": {"d1": 1, "d2": 0, "d3": 0}}
    folder = tmp_path / "tea"
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": key, **value}) for key, value in passages.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "warm tea"}))
    (folder / "qrels/test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq1\td3\t0"
    )
    memory = frame.load({"q1": "warm tea"}, qrels, passages, name="tea")
    found = []
    for collection in (memory, matchlens.beir.load(folder)):
        for prefix in ("", "passage: "):
            pairs = matchlens.choose(collection, passage_prefix=prefix)
            titled = pairs.with_fields(collection, ["title", "body"])
            texts = [
                {span.name: pair.text[span.start : span.end] for span in pair.parts}
                for pair in titled
            ]
            found.append(texts)
    whole = [
        {"TITLE": "Warm tea", "BODY": "It is hot."},
        {"BODY": "A red dog."},
        {"TITLE": "All is said."},
    ]
    assert found == [whole] * 4


NOTHING = {"TITLE": lambda pair: []}
BAD = {
    "title": ({"title": thirds}, "cannot name an own part"),
    "SEP1": ({"SEP1": thirds}, "cannot name an own part"),
    "nothing": (NOTHING, "no pair has a character of part TITLE"),
    "outside": ({"TITLE": lambda p: [(0, 10**6)]}, "start and end inside the text"),
    "backwards": ({"TITLE": lambda p: [(5, 2)]}, "start first"),
    "no spans": ({"TITLE": lambda p: 3}, "expected a list of couples"),
    "too few": ({"TITLE": [[(0, 2)]]}, "expected a list for each of the 12 pairs"),
    "overlap": ({"AA": thirds, "BB": thirds}, "parts AA and BB overlap at character 0"),
    "none": ({}, "no part came"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_parts_that_cannot_be_used_are_refused(name):
    parts, words = BAD[name]
    with pytest.raises(InputError, match=words):
        graded().with_parts(parts)


def test_a_part_is_of_the_query_or_of_the_passage_and_comes_once():
    pairs = graded().with_parts({"OWN": last_word}, of="Q")
    with pytest.raises(InputError, match="have a part OWN"):
        pairs.with_parts({"OWN": thirds})
    with pytest.raises(InputError, match="expected 'Q' or 'D'"):
        graded().with_parts({"OWN": thirds}, of="X")


@pytest.mark.parametrize("study", ["ablation", "attention", "score"])
def test_a_part_that_the_pairs_do_not_have_is_an_error_by_name(tiny, study):
    pairs = graded().with_parts({"TITLE": thirds})
    calls = {
        "ablation": lambda: matchlens.ablation(tiny, pairs, cuts=["Q->TITEL"]),
        "attention": lambda: matchlens.attention(tiny, pairs, directions=["Q->TITEL"]),
        "score": lambda: matchlens.score(tiny, pairs, ["Q->TITEL"]),
    }
    with pytest.raises(InputError, match=r"no part TITEL; expected .*\(TITLE\)"):
        calls[study]()


def test_a_bound_cut_keeps_its_text():
    """Also that of an encoder-decoder, whose row the score reads is written DEC."""
    for text in ("DEC->TITLE", "{Q,TITLE}->All@1", "TITLE->D#0.1~mask"):
        (cut,) = bound({"": [Cut.parse(text)]}, {"TITLE": Part.D})[""]
        assert str(cut) == text


# --- explain and screen


def test_explain_shares_out_over_own_parts(tiny, own_pairs):
    few = of_one_query(own_pairs)
    plain = matchlens.explain(tiny, few[0].query, [p.text for p in few], swap=False)
    result = matchlens.explain(tiny, few[0].query, few, points=plain.options["points"])
    words, units = result.to_frame("words"), result.to_frame("units")
    assert set(words["own"]) == {"", "TITLE", "BODY", "RARE"}
    assert set(words["part"][words["own"] == "RARE"]) == {"Q"}
    # Parts that cover D share out what D has, and change nothing of it.
    for passage in (0, 1):
        of_passage = units[units["passage"] == passage]
        kinds = dict(iter(of_passage.groupby("kind")))
        own = kinds["own_direction"].set_index("unit")["contribution"]
        whole = kinds["direction"].set_index("unit")["contribution"]
        assert len(whole) == 25
        assert len(own) == 8 * 8 - 25
        for unit, value in whole.items():
            left, right = str(unit).split("->")
            if right == "D":
                assert own[f"{left}->TITLE"] + own[f"{left}->BODY"] == pytest.approx(value)
            if left == "D":
                assert own[f"TITLE->{right}"] + own[f"BODY->{right}"] == pytest.approx(value)
        before = plain.to_frame("units").query("passage == @passage")
        same = of_passage[~of_passage["kind"].str.startswith("own")]
        assert same["unit"].tolist() == before["unit"].tolist()
        np.testing.assert_allclose(same["contribution"], before["contribution"], atol=1e-9)
        heads = kinds["own_head_direction"].groupby("direction")["contribution"].sum()
        np.testing.assert_allclose(heads.sort_index(), own.sort_index(), atol=1e-9)
    # What is cut is the part: the cut's own scores.
    margin = result.to_frame("margin").set_index(["kind", "unit"])["margin_cut"]
    cuts = ["Q->TITLE", "RARE->BODY"]
    cuts += margin["own_head_direction"].dropna().index[:2].tolist()
    scores = matchlens.score(tiny, few, cuts)
    for cut in cuts:
        kind = "own_head_direction" if "#" in cut else "own_direction"
        assert margin[kind, cut] == pytest.approx(scores[cut].iloc[0] - scores[cut].iloc[1])


def test_a_part_that_one_passage_lacks_counts_nothing_there(tiny, own_pairs):
    a, b = of_one_query(own_pairs)
    texts = [matchlens.Pair(p.qid, p.docid, p.query, p.text, p.grade) for p in (a, b)]
    for few in ([texts[0], b], [a, texts[1]]):
        with pytest.raises(InputError, match="different characters of the query"):
            matchlens.explain(tiny, a.query, few, points=2, swap=False)
    one = texts[0], PairSet((texts[1],), {}, {}, {}, ()).with_parts({"TITLE": thirds})[0]
    margin = matchlens.explain(tiny, a.query, one, points=2, swap=False).to_frame("margin")
    assert "Q->TITLE" in set(margin["unit"])
    turned = matchlens.explain(tiny, a.query, one[::-1], points=2, swap=False).to_frame("margin")
    of = [table.set_index("unit")["contribution"]["Q->TITLE"] for table in (margin, turned)]
    assert of[0] == pytest.approx(-of[1])
    with pytest.raises(InputError, match="passage 1 is a pair of the query"):
        matchlens.explain(tiny, "another", ["a text", b], points=2, swap=False)


@pytest.mark.parametrize(
    ("text", "span"),
    [("cat dog bird", (0, 0)), ("cat dog bird", (3, 4)), ("cat dog " * 60, (470, 473))],
    ids=["empty", "a space", "beyond the length limit"],
)
def test_a_part_without_a_token_is_told_by_score_and_explain(tmp_path, text, span):
    """The cut changes no score there, and nothing is shared out to it."""
    model = matchlens.load(tiny_models.save(tmp_path / "tiny"))
    pairs = [Pair("q", "a", "cat", text, 1, parts=(PartSpan("TITLE", "D", *span),)),
             Pair("q", "b", "cat", "dog", 0, parts=(PartSpan("TITLE", "D", 0, 3),))]  # fmt: skip
    with pytest.warns(MatchlensWarning, match="part TITLE has no token in 1 of 2 pairs"):
        table = matchlens.score(model, pairs, ["Q->TITLE"])
    apart = (table["Q->TITLE"] - table[""]).abs()
    assert apart[0] < 1e-5
    assert apart[1] > 1e-3
    result = matchlens.explain(model, "cat", pairs, points=1, swap=False)
    assert "part TITLE has no word in 1 of 2 passages" in result.notes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matchlens.score(model, pairs, ["Q->D"])
        matchlens.score(model, pairs[1:], ["Q->TITLE"])


def test_a_word_is_split_where_a_part_ends_in_it(tiny):
    from matchlens.models.words import stretches

    text = "playing cat"
    pair = matchlens.Pair("q", "d", "cat", text, 0, parts=(("STEM", "D", 0, 4),))
    plain = matchlens.Pair("q", "d", "cat", text, 0)
    tokens = [t for t in tiny.spans(pair).tokens if t.startswith("##")]
    found = [(one.text, one.own) for one in stretches(tiny, pair)]
    assert "".join(word for word, _ in found) == "".join(w.text for w in stretches(tiny, plain))
    assert [word for word, own in found if own == "STEM"] == (["play"] if tokens else ["playing"])


def test_own_parts_are_screened_as_their_cuts(tiny, own_pairs):
    """The slope of a part's gate is that of the scores between cuts, and D's stays the union."""
    from benchmarks.gated import gate_slopes

    from matchlens.gating import walk_gated
    from matchlens.models.attend import Gate
    from matchlens.models.part_layout import PartLayout

    graded_pairs = tiny_models.graded_by_cats(queries=10, passages=4)
    labelled = graded_pairs.with_parts({"TITLE": thirds}).with_parts({"RARE": last_word}, "Q")
    result = matchlens.screen(tiny, labelled, others=12)
    axes = result.axes("slopes")
    assert axes["row"] == axes["column"] == ["CLS", "Q", "SEP1", "D", "SEP2", "RARE", "TITLE"]
    plain = gate_slopes(tiny, graded_pairs.pairs).slopes[..., :5, :5]
    np.testing.assert_allclose(result.array("slopes")[..., :5, :5], plain, rtol=1e-5, atol=1e-7)
    gates = result.to_frame("gates")
    layers, heads = tiny.family.n_layers, tiny.family.n_heads
    assert len(gates) == layers * heads * 49
    assert result.options["gates"] == len(gates)
    assert gates["direction"].isin(["Q->TITLE", "RARE->TITLE"]).any()
    # Differences: a gate on the part's token pairs alone, a little below and above 1.
    from matchlens.engine import collated

    pair = labelled[0]
    batch = collated(tiny, [pair])
    grid, step = PartLayout(batch.parts), 1e-4
    import torch

    inside = batch.own["RARE"][0][:, None] & batch.own["TITLE"][0][None, :]
    assert inside.any()
    for layer, head in ((0, 1), (layers - 2, 0)):
        ends = []
        for moved in (-step, step):
            gates_at = torch.ones((1, heads, *inside.shape), dtype=torch.float64)
            gates_at[0, head] += moved * inside
            one = torch.ones((1, 1, 1, 1), dtype=torch.float64)

            def gate(at, layer=layer, gates_at=gates_at, one=one):
                return Gate(gates_at if at == layer else one)

            with torch.inference_mode():
                ends.append(float(walk_gated(tiny, grid, tiny.family.embed(batch), 1, gate)[0, 0]))
        slope = (ends[1] - ends[0]) / (2 * step)
        stored = result.array("slopes", "RARE->TITLE")[0, layer, head]
        assert stored == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_a_sweep_of_own_parts_cuts_what_the_screen_puts_forward(tiny):
    pairs = tiny_models.graded_by_cats(queries=10, passages=4).with_parts(
        {"TITLE": thirds, "BODY": the_rest}
    )
    both = "Q->{TITLE,BODY}"
    some = matchlens.sweep(tiny, pairs, "heads", directions=["Q->TITLE", both, "Q->D"], screened=1)
    points = some.to_frame("points").set_index("direction")
    assert points.loc[both, ["n", "head"]].tolist() == points.loc["Q->D", ["n", "head"]].tolist()
    slopes = np.asarray(matchlens.screen(tiny, pairs, others=4).array("slopes", "Q->TITLE"))
    largest = np.unravel_index(np.abs(slopes).mean(0).argmax(), slopes.shape[1:])
    assert points.loc["Q->TITLE", ["n", "head"]].tolist() == list(largest)
