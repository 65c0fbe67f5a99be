"""Attention meters against the library's eager maps, on padded batches, in every family."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn_arrays

import attention_reference as reference
import matchlens
import tiny as tiny_models
from matchlens.corpora import Pair
from matchlens.directions import Cut
from matchlens.meters.arrays import PairArray
from matchlens.meters.attention import NAMES, AttentionMeter, Reading
from matchlens.meters.names import COMPANIONS, shape_of
from matchlens.meters.streams import Histogram, Moments
from matchlens.models.words import Static, words_of
from matchlens.runners import run


def measure(model, pairs, folder, names=NAMES, conditions=None, **options):
    shape = (model.family.n_layers, model.family.n_heads)
    arrays = {
        name: PairArray(folder / f"{name}.npy", (len(pairs), *shape_of(name, *shape)))
        for name in names
    }
    reading = None
    if "same_stem" in names:
        reading = Reading(Static.of(model), lambda number: words_of(model, pairs[number]))
    meter = AttentionMeter(names, arrays, reading)
    out = run(model, pairs, conditions or {"": []}, asked=tiny_models.watched_by(meter), **options)
    return out, {name: np.array(array.mapped()) for name, array in arrays.items()}


@pytest.fixture(
    scope="module", params=["bert", "albert", "deberta-v2", "distilbert", "mpnet", "roberta"]
)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tiny_models.save(folder, request.param, layers=2, heads=2, seed=1)
    return matchlens.load(folder, dtype="float64", device="cpu")


def worded():
    """Pairs with sub-tokens, one stem in two forms, stop words and punctuation."""
    query, other = "the cats sat, far warmer", "do not go"
    texts = ["A cat sat warm. Cats' dog ran!", "ships sun the rain; tea", "cold far", "x-ray go on"]
    return [
        Pair(f"q{at}", f"p{number}", one, text, number % 4, collection="tiny")
        for at, one in enumerate((query, other))
        for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize("names", [("mass", "norm_mass"), (*NAMES, *COMPANIONS)])
def test_meters_equal_the_dense_reference(model, tmp_path, names, monkeypatch):
    monkeypatch.setattr("matchlens.models.words.NEAR", 0.3)  # the vocabulary has twelve words
    pairs = [*tiny_models.pairs(2, seed=2), *worded()]
    out, found = measure(model, pairs, tmp_path, names, batch_tokens=100)
    assert len(out.batches) > 1
    for number, pair in enumerate(pairs):
        expected = reference.meters(model, pair)
        for name in names:
            np.testing.assert_allclose(found[name][number], expected[name], atol=1e-5)
    if "kinds" in names:
        assert (found["kinds"].max((0, 1, 2)) > 0).all()  # each direction and quantity is there
    plain = run(model, pairs, {"": []})
    np.testing.assert_allclose(out.scores.of(""), plain.scores.of(""), atol=1e-10)


def test_masses_of_a_row_part_sum_to_one(tiny32, tiny_pairs, tmp_path):
    """Invariant 6."""
    _, found = measure(tiny32, tiny_pairs, tmp_path, ("mass",))
    np.testing.assert_allclose(found["mass"].sum(-1), 1, atol=1e-5)


def test_swapping_rows_and_columns_is_seen(tiny, tiny_pairs, tmp_path):
    """Invariant 8."""
    _, found = measure(tiny, tiny_pairs, tmp_path, ("mass",))
    assert np.abs(found["mass"] - found["mass"].swapaxes(-1, -2)).max() > 0.1


def test_batches_and_other_conditions_change_nothing(tiny, tiny_pairs, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, whole = measure(tiny, tiny_pairs, tmp_path / "a")
    conditions = {"x": [Cut.parse("Q->D@1")], "": [], "y": [Cut.parse("D->D~mean")]}
    out, beside = measure(tiny, tiny_pairs, tmp_path / "b", conditions=conditions, batch_tokens=90)
    for name in NAMES:
        np.testing.assert_allclose(beside[name], whole[name], atol=1e-7)
    plain = run(tiny, tiny_pairs, conditions)
    for name in conditions:
        np.testing.assert_allclose(out.scores.of(name), plain.scores.of(name), atol=1e-10)


def test_meters_cost_no_layer_pass(tiny, tiny_pairs, tmp_path, monkeypatch):
    rows = [0]
    for layer in map(tiny_models.leaving, tiny.family.layers):
        forward = layer.forward

        def counting(states, *args, forward=forward, **kwargs):
            rows[0] += states.shape[0] * states.shape[1]
            return forward(states, *args, **kwargs)

        monkeypatch.setattr(layer, "forward", counting)
    run(tiny, tiny_pairs, {"": []})
    plain = rows[0]
    measure(tiny, tiny_pairs, tmp_path)
    assert rows[0] == 2 * plain  # token rows through the layers: not one more than without meters


def test_columns_form_no_weights(tiny, tiny_pairs, tmp_path, monkeypatch):
    """Mass and norm mass ride in the fused call: softmax is never asked for by name."""
    monkeypatch.setattr("torch.softmax", lambda *_, **__: 1 / 0)
    measure(tiny, tiny_pairs, tmp_path, ("mass", "norm_mass"))
    with pytest.raises(ZeroDivisionError):
        measure(tiny, tiny_pairs, tmp_path, ("peak",))


def test_meters_need_the_untouched_model(tiny, tiny_pairs, tmp_path):
    with pytest.raises(ValueError, match="watch the untouched model"):
        measure(tiny, tiny_pairs, tmp_path, conditions={"x": [Cut.parse("Q->D")]})


def test_half_precision_meters_are_near(tiny_folder, tiny, tiny_pairs, tmp_path):
    half = matchlens.load(tiny_folder, dtype="bfloat16", device="cpu")
    (tmp_path / "a").mkdir()
    _, near = measure(half, tiny_pairs, tmp_path)
    _, exact = measure(tiny, tiny_pairs, tmp_path / "a")
    for name in ("mass", "peak"):
        np.testing.assert_allclose(near[name], exact[name], atol=0.05)


def test_pair_arrays_are_plain_npy_and_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("matchlens.meters.arrays.BLOCK", 100)
    array = PairArray(tmp_path / "x.npy", (7, 2, 3))
    assert np.isnan(array.mapped()).all()
    values = np.arange(42, dtype=np.float32).reshape(7, 2, 3)
    for pairs in ([5, 0], [1, 2, 3], [6]):
        array.write(np.array(pairs), values[pairs])
    read = np.load(tmp_path / "x.npy")
    assert np.isnan(read[4]).all()
    np.testing.assert_array_equal(np.delete(read, 4, 0), np.delete(values, 4, 0))
    blocks = list(array.blocks())
    assert [rows.start for rows, _ in blocks] == [0, 4]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), read)
    np.testing.assert_array_equal(array.of((1, slice(None))), read[:, 1])


floats = st.floats(-10, 10, width=32) | st.just(float("nan"))


@settings(max_examples=50)
@given(drawn_arrays(np.float64, (9, 2), elements=floats), st.permutations(range(9)))
def test_moments_and_histograms_add_in_any_order(values, order):
    edges = np.linspace(-10, 10, 6)
    whole, parts = Moments.empty(2), []
    counted, apart = Histogram.empty(edges, 2), Histogram.empty(edges, 2)
    whole.observe(values)
    counted.observe(values)
    for rows in (order[:2], order[2:3], order[3:]):
        moments = Moments.empty(2)
        moments.observe(values[rows])
        apart.observe(values[rows])
        parts.append(moments)
    for one in (
        parts[0].merge(parts[1]).merge(parts[2]),
        parts[2].merge(parts[1].merge(parts[0])),
    ):
        np.testing.assert_array_equal(one.count, whole.count)
        np.testing.assert_allclose(one.mean, whole.mean, atol=1e-9)
        np.testing.assert_allclose(one.variance, whole.variance, atol=1e-8)
    np.testing.assert_array_equal(apart.counts, counted.counts)
    known = values[:, 0][~np.isnan(values[:, 0])]
    assert whole.count[0] == len(known)
    if len(known) > 1:
        np.testing.assert_allclose(whole.variance[0], known.var(ddof=1), atol=1e-8)
