"""The engine against the slow reference, and the invariants of the science."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.gated import gate_slopes
from hypothesis import given, settings

import matchlens
import reference
import tiny as tiny_models
import tiny_decoders
from matchlens import batching
from matchlens.batching import batches, encode
from matchlens.corpora import PairSet
from matchlens.directions import Cut, How
from matchlens.engine import other_pairs
from matchlens.gating import integrate
from matchlens.meters.names import NAMES
from matchlens.models.attend import Call, attend
from matchlens.models.part_layout import PartLayout
from matchlens.parts import NAMED, PADDING, Part
from matchlens.plan import CONTROLS, Control, LayerCut, Plan
from matchlens.runners import run
from matchlens.studies.attention.watching import watch
from test_directions import cuts as any_cuts
from test_sweeps import rows_by_layer
from tiny import scores

TABLE1 = matchlens.table1()


def test_no_cut_is_the_untouched_model(tiny, tiny_pairs):
    encoded = encode(tiny.tokenizer, tiny_pairs, tiny.max_length)
    library = np.full(len(tiny_pairs), np.nan)
    with torch.inference_mode():
        for batch in batches(encoded, 10**6):
            library[batch.pairs] = tiny.family.library_score(batch).numpy()
    np.testing.assert_allclose(scores(tiny, tiny_pairs)[""], library, atol=1e-10)


def test_two_labels_score_by_the_difference(tmp_path, tiny_pairs):
    model = matchlens.load(tiny_models.save(tmp_path, labels=2), dtype="float64", device="cpu")
    got = scores(model, tiny_pairs[:4], "Q->D")
    for number, pair in enumerate(tiny_pairs[:4]):
        assert got[""][number] == pytest.approx(reference.score(model, pair), abs=1e-10)
        assert got["Q->D"][number] == pytest.approx(
            reference.score(model, pair, ["Q->D"]), abs=1e-10
        )
        encoded = encode(model.tokenizer, [pair], 64)
        (batch,) = batches(encoded, 10**6)
        with torch.no_grad():
            z = model.family.module(
                input_ids=batch.input_ids, token_type_ids=batch.token_type_ids
            ).logits[0]
        assert got[""][number] == pytest.approx(float(z[1] - z[0]), abs=1e-10)


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert", "mpnet", "qwen3"])
def test_padding_beyond_the_longest_pair_changes_nothing(family, monkeypatch, tmp_path):
    """A GPU pads the longest pair, too: scores, controls, meters and gates are those of a CPU."""
    if family in tiny_decoders.FAMILIES:
        folder = tiny_decoders.save(tmp_path, family)
    else:
        folder = tiny_models.save(tmp_path, family)
    model = matchlens.load(folder, device="cpu")
    pairs = tiny_models.pairs(5, queries=2)
    cuts = ["Q->D~zero", "D->D~mask", "Q->D#1.1~mean", "D->Q~resample"]
    conditions: dict = {"": [], **{cut: [Cut.parse(cut)] for cut in cuts}}
    for kind in CONTROLS:
        conditions[kind] = [Control(Cut.parse("D->D@1"), kind, 0)]

    def found() -> list[np.ndarray]:
        out = run(model, pairs, conditions, seed=3, batch_tokens=800)
        watched = watch(model, PairSet((*pairs,), {}, {}, {}, ()), list(NAMES))
        integral = integrate(model, pairs[0], np.zeros(model.encode(pairs[:1]).lengths[0], int), 3)
        every = [out.scores.values, out.taken, gate_slopes(model, pairs).slopes]
        every += [np.array([integral.missed, integral.score])]
        return [*every, *(np.array(array.mapped()) for array in watched.arrays.values())]

    alone = found()
    monkeypatch.setattr(batching, "padded", lambda longest, device: longest + 5)
    assert next(batches(model.encode(pairs), 10**6)).parts.shape[1] > 5
    for one, other in zip(alone, found(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


SLOWER = [
    pytest.param(how, marks=pytest.mark.slow)
    for how in ("~zero", "~mask", "~mean", "~resample", "~sink")
]


@pytest.mark.parametrize("how", ["", *SLOWER])
def test_table1_equals_the_reference(tiny, tiny_pairs, how):
    """Some cells by default, all of them in the slow tests."""
    few = [tiny_pairs[n] for n in (0, 4)]  # of one query
    names = [cut + how for cut in TABLE1]
    if not how:
        names = names[4::5]  # Q->D and D->Q among them
    elif how not in ("~zero", "~mask"):
        names = names[1::3] if how == "~sink" else names[:12:2]
    if how == "~sink":
        names = [name for name in names if not name.split("->")[1].startswith(("SEP2", "All"))]
    got = scores(tiny, few, *names)
    others = other_pairs(few, 0)
    for name in names:
        expected = [
            reference.score(tiny, pair, [name], run=few, other=few[others[place]])
            for place, pair in enumerate(few)
        ]
        np.testing.assert_allclose(got[name], expected, atol=1e-10, err_msg=name)


@pytest.mark.slow
@settings(max_examples=8)
@given(a=any_cuts, b=any_cuts)
def test_any_two_cuts_together_equal_the_reference(tiny, tiny_pairs, a, b):
    few = [tiny_pairs[3], tiny_pairs[7], tiny_pairs[11]]  # of one query
    together = [_within(a), _within(b)]
    conditions = {"both": together, "a": together[:1], "": []}
    try:
        out = run(tiny, few, conditions)
    except matchlens.InputError as error:
        assert "cut in two ways" in str(error)  # noqa: PT017
        assert a.how is not b.how
        del conditions["both"]
        out = run(tiny, few, conditions)
    others = other_pairs(few, 0)
    for name, held in conditions.items():
        expected = [
            reference.score(tiny, pair, held, run=few, other=few[others[place]])
            for place, pair in enumerate(few)
        ]
        np.testing.assert_allclose(out.scores.of(name), expected, atol=1e-10)


def _within(cut: Cut, layers: int = 3, heads: int = 4) -> Cut:
    kept = None if cut.layers is None else tuple(n % layers for n in cut.layers)
    some = None if cut.heads is None else tuple((n % layers, h % heads) for n, h in cut.heads)
    return Cut(cut.directions, kept, some, cut.how)


def test_mask_is_zero_divided_by_what_remains(tiny, tiny_pairs):
    """Invariant 2, on the attention function itself."""
    (batch,) = batches(encode(tiny.tokenizer, tiny_pairs, 64), 10**6)
    torch.manual_seed(0)
    shape = (len(tiny_pairs), 4, batch.parts.shape[1], 8)
    q, k, v = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    ones = torch.ones_like(v)
    grid = PartLayout(batch.parts)

    def context(text, value):
        cut = LayerCut.of([Cut.parse(text)], 0, 4, tuple(Part))
        return attend(torch.nn.Identity(), q, k, value, None, matchlens=Call(grid, [cut]))[0]

    for direction in TABLE1:
        zero, mask = context(direction, v), context(f"{direction}~mask", v)
        remaining = context(direction, ones)
        expected = torch.where(remaining > 1e-12, zero / remaining, torch.zeros_like(zero))
        torch.testing.assert_close(mask, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", ["tiny", pytest.param("tiny32", marks=pytest.mark.slow)])
def test_padding_order_and_batch_size_change_nothing(request, tiny_pairs, dtype):
    """Invariant 3."""
    model = request.getfixturevalue(dtype)
    atol = 1e-10 if dtype == "tiny" else 1e-5
    cuts = ["Q->D", "D->D@1~mask", "CLS->All", "Q->All~mask", "D->Q#0.1,2.3", "Q->D~sink"]
    cuts += ["D->Q@0:2~mean", "D->Q@0:2~resample"]
    whole = scores(model, tiny_pairs, *cuts)
    for tokens in (1, 40, 130, 500, 10**6):
        other = scores(model, tiny_pairs, *cuts, batch_tokens=tokens)
        for cut in whole:
            np.testing.assert_allclose(other[cut], whole[cut], atol=atol, rtol=0)
    order = np.random.default_rng(0).permutation(len(tiny_pairs))
    shuffled = scores(model, [tiny_pairs[i] for i in order], *cuts, batch_tokens=130)
    for cut in whole:
        np.testing.assert_allclose(shuffled[cut], whole[cut][order], atol=atol, rtol=0)
    # The means and the other pairs are the run's own: those two hows depend on its pairs.
    alone = cuts[:-2]
    halves = [scores(model, tiny_pairs[at], *alone) for at in (slice(0, 11), slice(11, None))]
    for cut in alone:
        joined = np.concatenate([half[cut] for half in halves])
        np.testing.assert_allclose(joined, whole[cut], atol=atol, rtol=0)


@pytest.mark.parametrize("how", [How.ZERO, How.MASK, How.MEAN])
def test_cutting_all_that_the_score_reads_blinds_it(tiny, tiny_pairs, how):
    """Invariant 4."""
    blind = scores(tiny, tiny_pairs, f"CLS->All~{how}")
    values = blind[f"CLS->All~{how}"]
    assert np.ptp(values) < 1e-10
    assert np.ptp(blind[""]) > 0.1


def test_swapping_x_and_y_changes_results(tiny, tiny_pairs):
    """Invariant 8: every cell of Table 1 is an experiment of its own."""
    got = scores(tiny, tiny_pairs, *TABLE1)
    for x in NAMED:
        for y in NAMED:
            if x < y:
                assert np.abs(got[f"{x}->{y}"] - got[f"{y}->{x}"]).max() > 1e-3, (x, y)


def test_layers_compose(tiny, tiny_pairs):
    spelled = ["D->D", "D->D@0:3", "D->D@0:0", "D->D@0:1", "D->D#0.0,0.1,0.2,0.3"]
    got = scores(tiny, tiny_pairs, *spelled)
    np.testing.assert_array_equal(got["D->D@0:3"], got["D->D"])
    np.testing.assert_array_equal(got["D->D@0:0"], got[""])
    np.testing.assert_array_equal(got["D->D#0.0,0.1,0.2,0.3"], got["D->D@0:1"])
    out = run(
        tiny,
        tiny_pairs,
        {
            "apart": [Cut.parse("D->D@0"), Cut.parse("D->D@1:3")],
            "as one": [Cut.parse("D->D")],
            "mixed": [Cut.parse("Q->D@0"), Cut.parse("D->Q@2")],
        },
    )
    np.testing.assert_array_equal(out.scores.of("apart"), out.scores.of("as one"))
    assert np.abs(out.scores.of("mixed") - out.scores.of("as one")).max() > 1e-3


def test_a_row_with_nothing_left_has_zero_context_and_no_nan(tiny, tiny_pairs):
    got = scores(tiny, tiny_pairs, "{CLS,Q,SEP1,D,SEP2}->All~mask")
    value = got["{CLS,Q,SEP1,D,SEP2}->All~mask"]
    assert np.isfinite(value).all()
    expected = reference.score(tiny, tiny_pairs[0], ["{CLS,Q,SEP1,D,SEP2}->All~mask"])
    assert value[0] == pytest.approx(expected, abs=1e-10)


def test_layer_passes_are_those_of_the_plan(tiny, tiny_pairs, monkeypatch):
    """Token rows that leave the library's modules: batching cannot hide work."""
    rows = rows_by_layer(tiny, monkeypatch)
    conditions = {"": [], **{f"D->D@0:{n}": [Cut.parse(f"D->D@0:{n}")] for n in range(4)}}
    out = run(tiny, tiny_pairs, conditions, batch_tokens=10**6)
    (parts,) = (batch.parts for batch in batches(encode(tiny.tokenizer, tiny_pairs, 64), 10**6))
    every, passage = parts.numel(), int((parts == Part.D).sum())
    # Prefixes: no cut (= @0:0), @0:1, @0:2; cutting D's rows in the last layer changes nothing.
    assert out.plan.passes == 2 + 3 + 3
    assert out.plan.passes_unshared == 5 * 3
    # One parent in layer 0, two in layer 1, each uncut and with the passage's rows cut.
    assert rows == [every + passage, 2 * every + passage, 3 * len(tiny_pairs)]
    assert out.counts.rows == sum(rows)
    assert out.counts.projected == (1 + 2) * every
    np.testing.assert_array_equal(out.scores.of("D->D@0:2"), out.scores.of("D->D@0:3"))


def test_sharing_equals_one_whole_pass_a_condition(tiny, tiny_pairs):
    """Invariant 9."""
    names = ["", "Q->D@0:1", "Q->D@0:2", "Q->D", "D->Q@2", "CLS->D@1", "Q->D@1#".rstrip("#")]
    conditions = {name: [Cut.parse(name)] for name in names}
    shared = run(tiny, tiny_pairs, conditions)
    assert shared.plan.passes < shared.plan.passes_unshared
    for name in names:
        alone = run(tiny, tiny_pairs, {name: conditions[name]})
        np.testing.assert_allclose(shared.scores.of(name), alone.scores.of(name), atol=1e-10)


def test_plan_knows_equal_effects():
    plan = Plan.build(
        {text: [Cut.parse(text)] for text in ("", "Q->D", "Q->D@0:4", "Q->Q@3", "CLS->Q@3")},
        layers=4,
        heads=2,
    )
    assert [len(level) for level in plan.levels] == [2, 2, 2, 3]
    assert plan.levels[0][1].conditions == ("Q->D", "Q->D@0:4")
    with pytest.raises(matchlens.InputError, match="layer 4"):
        Plan.build({"x": [Cut.parse("Q->D@4")]}, layers=4, heads=2)
    with pytest.raises(matchlens.InputError, match="no condition"):
        Plan.build({}, layers=4, heads=2)


def test_grid_spreads_a_part_table_over_tokens():
    parts = torch.tensor([[0, 1, 2, 3, 3, 4], [0, 1, 1, 2, 4, PADDING]])
    cut = LayerCut.of([Cut.parse("Q->{D,SEP1}#0.1")], 0, 2, tuple(Part))
    edges = PartLayout(parts).edges([cut], None, torch.float64)
    assert edges.keep.shape == (2, 2, 6, 6)
    assert edges.sink is None
    for pair in range(2):
        for head in range(2):
            for i, x in enumerate(parts[pair]):
                for j, y in enumerate(parts[pair]):
                    expected = head == 1 and x == Part.Q and y in (Part.D, Part.SEP1)
                    assert edges.keep[pair, head, i, j] == (0 if expected else 1)
                    assert edges.bias[pair, 0, 0, j] == (-torch.inf if y == PADDING else 0)
    assert PartLayout(parts[:1]).edges([cut], None, torch.float64).bias is None


def test_batches_for_a_gpu_have_lengths_that_its_kernels_like(tiny, tiny_pairs):
    encoded = encode(tiny.tokenizer, tiny_pairs, 64)
    for own, theirs in zip(
        batches(encoded, 200), batches(encoded, 200, device="meta"), strict=True
    ):
        longest = int(encoded.lengths[own.pairs].max())
        assert own.parts.shape[1] == longest
        assert theirs.parts.shape[1] == -(-longest // 8) * 8


@pytest.mark.parametrize("before", [True, False])
def test_cudnn_s_attention_is_off_while_layers_run_and_then_as_it_was(before, tiny, monkeypatch):
    """The switch belongs to the process, in which somebody's own models may run, too."""
    cuda, embed, seen = torch.backends.cuda, tiny.family.embed, []

    def watched(batch):
        seen.append(cuda.cudnn_sdp_enabled())
        return embed(batch)

    monkeypatch.setattr(tiny.family, "embed", watched)
    own = cuda.cudnn_sdp_enabled()
    try:
        cuda.enable_cudnn_sdp(before)
        run(tiny, tiny_models.pairs(2), {"": []})
        after = cuda.cudnn_sdp_enabled()
    finally:
        cuda.enable_cudnn_sdp(own)
    assert seen == [False]
    assert after is before


@pytest.mark.parametrize("cuts", [["Q->D", "D->Q@1"], ["Q->D~resample"], ["Q->D~mean"]])
def test_a_run_tokenizes_each_pair_once(tiny, tiny_pairs, monkeypatch, cuts):
    """Lengths, batches, means and what is taken from other pairs come from one encoding."""
    real, pairs_encoded = batching._tokenized, []

    def counting(tokenizer, pairs, *args, **kwargs):
        pairs_encoded.extend(pairs)
        return real(tokenizer, pairs, *args, **kwargs)

    monkeypatch.setattr(batching, "_tokenized", counting)
    conditions = {"": [], **{cut: [Cut.parse(cut)] for cut in cuts}}
    run(tiny, tiny_pairs, conditions, batch_tokens=100)
    assert len(pairs_encoded) == len(tiny_pairs)
