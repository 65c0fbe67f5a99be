"""Circuits of rotary models: the statement at a distance, its mean and its spread."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import matchlens
import tiny
import tiny_decoders
from circuits_reference import dense
from matchlens import InputError, Part, qk
from matchlens.batching import batches
from matchlens.models.attend import Call
from matchlens.models.part_layout import LayerMask, PartLayout
from matchlens.models.rotary import positions
from matchlens.plan import LayerCut
from matchlens.report.page import page_of
from matchlens.report.views import text_of
from widened import widened

KINDS = ("modernbert", "llama", "qwen2", "gemma2")


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    folder, name = tmp_path_factory.mktemp(request.param), request.param
    if name == "modernbert":
        tiny.save(folder, name, layers=2, seed=5)
    else:
        tiny_decoders.save(folder, name, labels=1, seed=5)
    return matchlens.load(folder, device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return matchlens.choose(matchlens.demo.load(), queries=6, per_grade=1, easy=1)


def encoded(model):
    pair = matchlens.Pair("q", "d", "tea cat sat", "rain far dog sun cold warm ship", 0)
    (batch,) = batches(model.encode([pair]), 10**6, pad_id=model.pad_id)
    return batch


def entering(model, batch, layer: int) -> torch.Tensor:
    """The input of a layer, [pair, token, width]."""
    out, layout = model.family.embed(batch), PartLayout(batch.parts)
    for number in range(layer):
        uncut = LayerCut.of([], number, model.family.n_heads, ())
        out = model.family.layer(number, out, Call(layout, [uncut]))
    return out


@pytest.mark.parametrize("layer", [0, 1])
def test_logits_from_the_weights_are_the_model_s(model, layer):
    batch = encoded(model)
    with torch.inference_mode():
        raw = entering(model, batch, layer)
        x = model.family.attention_input(layer, raw)[0]
        turn = model.family.turn(layer, raw, positions(PartLayout(batch.parts)))
        query, key, _ = model.family.heads(layer, raw, turn)
    weights = model.family.qk(layer)
    turns = qk.Turns.of(*model.family.turns(layer, len(x) - 1))
    own = torch.tensor(weights.group)
    logits = torch.einsum("hid,hjd->hij", query[0].double(), key[0][own].double())
    for i, j in ((0, 3), (5, 1), (7, 7), (2, len(x) - 1)):
        got = qk.logits_at(weights, turns, x[i].numpy(), x[j].numpy(), biases=True)
        at = got[:, len(x) - 1 + i - j]
        np.testing.assert_allclose(at, logits[:, i, j].numpy(), atol=1e-3)
        assert np.ptp(got, axis=1).max() > 1e-2  # it does depend on the distance


def test_the_mean_over_distances_is_that_of_the_mean_rotation(model):
    weights, longest = model.family.qk(1), 9
    turns = qk.Turns.of(*model.family.turns(1, longest))
    shares = np.random.default_rng(0).dirichlet(np.ones(2 * longest + 1))
    mean = qk.averaged(weights, turns, shares)
    by_distance = qk.alignment_at(weights, turns)
    np.testing.assert_allclose(qk.alignment(mean), by_distance @ shares, atol=1e-8)
    for head in range(weights.n_heads):  # and that of the matrices, one by one
        matrices = []
        for place in range(2 * longest + 1):
            alone = np.zeros(2 * longest + 1)
            alone[place] = 1
            matrices.append(dense(qk.averaged(weights, turns, alone))[head])
        np.testing.assert_allclose(
            [np.trace(one) for one in matrices], by_distance[head], atol=1e-8
        )
        total = sum(share * one for share, one in zip(shares, matrices, strict=True))
        np.testing.assert_allclose(dense(mean)[head], total, atol=1e-10)
    x, y = np.random.default_rng(1).normal(size=(2, weights.width))
    values = qk.logits_at(weights, turns, x, y, biases=True)
    found = qk.mean_logits([mean], x[None], y[None], biases=True).logits["QD"][0]
    np.testing.assert_allclose(found, values @ shares, atol=1e-8)
    loops = [np.sqrt(sum(s * (v - row @ shares) ** 2 for s, v in zip(shares, row, strict=True)))
             for row in values]  # fmt: skip
    np.testing.assert_allclose(qk.spread(values, shares), loops, atol=1e-10)


def test_distances_are_those_of_all_token_pairs():
    parts = [np.array([0, 1, 1, 2, 3, 3, 3, 4]), np.array([5, 3, 1, 1, 0])]
    found = qk.distances(parts, 7, (Part.D, Part.SEP2))
    sides = {"Q": {Part.Q}, "D": {Part.D, Part.SEP2}}
    for direction, shares in found.items():
        expected = np.zeros(15)
        for labels in parts:
            here = [
                i - j
                for i, x in enumerate(labels)
                for j, y in enumerate(labels)
                if x in sides[direction[0]] and y in sides[direction[1]]
            ]
            for distance in here:
                expected[distance + 7] += 1 / len(here) / len(parts)
        np.testing.assert_allclose(shares, expected, atol=1e-12)


def test_the_study_takes_the_distances_that_occur(model, pairs):
    result = matchlens.circuits(model, pairs, most_pairs=9)
    heads = result.to_frame("heads")
    causal = model.family.band(0).causal
    assert result.options["distances_of"] == ("DQ" if causal else "QD")
    assert result.options["contrast"] == ("DQ-QQ" if causal else "QD-DD")
    assert heads["QD"].isna().all() == causal
    assert heads["DQ"].notna().all()
    assert (heads["alignment_spread"] > 0).all()
    assert not {"shares", "logits", "matches"} & set(result.tables)
    rel = int(result.options["rel"])
    first, _ = matchlens.studies.circuits.circuits.checked_halves(pairs.pairs, rel, 0)
    kept = [pairs.pairs[row] for row in np.flatnonzero(first.of_pair >= 0)]
    parts = model.encode(kept).parts
    longest = max(map(len, parts)) - 1
    apart = np.arange(-longest, longest + 1)
    row = 0
    for layer in range(model.family.n_layers):
        shares = qk.distances(parts, longest)["DQ"].copy()
        band = model.family.band(layer)
        assert isinstance(band, LayerMask)
        seen = band.forbidden(longest + 1).numpy()
        for place, distance in enumerate(apart):  # of two tokens so far apart
            i, j = (distance, 0) if distance >= 0 else (0, -distance)
            shares[place] *= not seen[i, j]
        shares /= shares.sum()
        turns = qk.Turns.of(*model.family.turns(layer, longest))
        means = (result.array("document_mean")[layer], result.array("query_mean")[layer])
        values = qk.logits_at(model.family.qk(layer), turns, *means)
        at = slice(row, row + model.family.n_heads)
        np.testing.assert_allclose(heads["DQ"][at], values @ shares, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(
            heads["DQ_spread"][at], qk.spread(values, shares), atol=1e-4, rtol=1e-4
        )
        row += model.family.n_heads
    text = text_of(result)
    assert "Distances: the alignment of the median head differs by" in text
    uncorrelated = [note for note in result.notes if "not correlated" in note]
    assert len(uncorrelated) == 2 * causal  # alignment and colour with QD-DD
    assert all(note.endswith("some layers allow no such reading") for note in uncorrelated)
    shown = page_of(result)
    assert "it is not computed for rotary positions" in shown
    assert "the folder holds no circuits" not in shown


def test_queries_that_are_normalised_have_no_matrix(tmp_path, pairs):
    for name in ("qwen3", "gemma3_text"):
        folder = tiny_decoders.save(tmp_path / name, name, labels=1)
        model = matchlens.load(folder, device="cpu")
        with pytest.raises(InputError, match="normalises each query and key behind the weights"):
            matchlens.circuits(model, pairs)


def test_a_direction_turned_round_is_another_statement(model):
    weights = model.family.qk(0)
    turns = qk.Turns.of(*model.family.turns(0, 6))
    x, y = np.random.default_rng(2).normal(size=(2, weights.width))
    one, other = qk.logits_at(weights, turns, x, y), qk.logits_at(weights, turns, y, x)
    assert np.abs(one - other).max() > 0.1
    assert np.abs(one - one[:, ::-1]).max() > 1e-2


def test_widened_models_agree_to_rounding(tmp_path):
    with widened():
        folder = tiny_decoders.save(tmp_path, "llama", labels=1)
        model = matchlens.load(folder, dtype="float64", device="cpu")
        batch = encoded(model)
        with torch.inference_mode():
            raw = model.family.embed(batch)
            x = model.family.attention_input(0, raw)[0]
            turn = model.family.turn(0, raw, positions(PartLayout(batch.parts)))
            query, key, _ = model.family.heads(0, raw, turn)
        weights = model.family.qk(0)
        turns = qk.Turns.of(*model.family.turns(0, len(x) - 1))
        own = torch.tensor(weights.group)
        logits = torch.einsum("hid,hjd->hij", query[0], key[0][own])
        got = qk.logits_at(weights, turns, x[9].numpy(), x[2].numpy(), biases=True)
        np.testing.assert_allclose(got[:, len(x) - 1 + 7], logits[:, 9, 2].numpy(), atol=1e-10)
