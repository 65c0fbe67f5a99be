"""Gates on attention: cuts are gates at 0, slopes are differences, contributions are complete."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.gated import gate_slopes, gated_scores
from transformers import AttentionInterface

import matchlens
import tiny as tiny_models
import tiny_decoders
from matchlens import InputError, Part
from matchlens.directions import Cut
from matchlens.gating import integrate, word_attention
from matchlens.models import attend
from matchlens.models.attend import Gate
from matchlens.models.check import CheckError
from matchlens.models.family import ATTENTION
from matchlens.models.load import Reranker
from matchlens.models.words import stretches
from matchlens.parts import NAMED
from matchlens.runners import run
from widened import widened

LAYERS, HEADS = 2, 2
KINDS = (*tiny_models.FAMILIES, "modernbert-mean", *tiny_decoders.FAMILIES)
QUICK = ("bert", "deberta-v2", "modernbert-mean", "qwen3")
CUTS = ["Q->D", "{Q,D}->{Q,D}@1", "CLS->All@0", "D->Q#0.1,1.0", "{CLS,SEP2}->D@0:2"]


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in KINDS],
)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def unrounded(kind):
    """Where the library would round to float32, it does not."""
    rounds = kind.startswith("modernbert") or kind in tiny_decoders.FAMILIES
    with widened() if rounds else nullcontext():
        yield


@pytest.fixture(scope="module")
def folder(kind, unrounded, tmp_path_factory):
    place, settings = tmp_path_factory.mktemp(kind), {"layers": LAYERS, "heads": HEADS, "seed": 3}
    if kind in tiny_decoders.FAMILIES:
        return tiny_decoders.save(place, kind, **settings)
    if kind == "modernbert-mean":
        return tiny_models.save(place, "modernbert", classifier_pooling="mean", **settings)
    return tiny_models.save(place, kind, **settings)


@pytest.fixture(scope="module")
def model(kind, folder) -> Reranker:
    return matchlens.load(folder, dtype="float64", device="cpu", **prompt_of(kind))


def prompt_of(kind: str) -> dict:
    """The prompt of a type that has none of its own."""
    return {"prompt": tiny_decoders.PLAIN} if kind in ("gemma3_text", "llama", "mistral") else {}


@pytest.fixture(scope="module")
def pairs():
    return tiny_models.pairs(5)


def table_of(*cuts: str) -> np.ndarray:
    """Gates at 0 where a cut names the edge, else 1, written out."""
    gates = np.ones((LAYERS, HEADS, len(Part), len(Part)))
    for cut in map(Cut.parse, cuts):
        for layer in range(LAYERS):
            heads = cut.heads_at(layer)
            for x, y in cut.edges(layer):
                for head in range(HEADS) if heads is None else heads:
                    gates[layer, head, x, y] = 0
    return gates


@pytest.mark.parametrize("batch_tokens", [1, 10**4])  # alone, and padded
def test_gates_at_0_are_the_cuts_and_at_1_nothing(model, pairs, batch_tokens):
    table = matchlens.score(model, pairs, CUTS)
    for cut in ["", *CUTS]:
        got = gated_scores(
            model, pairs, table_of(*([cut] if cut else [])), batch_tokens=batch_tokens
        )
        np.testing.assert_allclose(got, table[cut].to_numpy(), atol=1e-10, err_msg=cut)


@pytest.mark.parametrize("batch_tokens", [1, 10**4])
def test_gates_in_float32_are_the_cuts(folder, kind, pairs, batch_tokens):
    model = matchlens.load(folder, device="cpu", **prompt_of(kind))
    table = matchlens.score(model, pairs, CUTS)
    for cut in CUTS:
        got = gated_scores(model, pairs, table_of(cut), batch_tokens=batch_tokens)
        np.testing.assert_allclose(got, table[cut].to_numpy(), atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 10**4])
def test_slopes_are_the_scores_differences(model, pairs, batch_tokens):
    """Each gate by itself, at random gates, and untouched."""
    draw = np.random.default_rng(1)
    shape = (LAYERS, HEADS, len(Part), len(Part))
    step = 1e-5
    for gates in (np.ones(shape), draw.uniform(size=shape)):
        found = gate_slopes(model, pairs, gates, batch_tokens=batch_tokens)
        np.testing.assert_allclose(found.scores, gated_scores(model, pairs, gates), atol=1e-10)
        for place in [tuple(draw.integers(shape)) for _ in range(12)]:
            moved = np.zeros(shape)
            moved[place] = step
            above, below = (gated_scores(model, pairs, gates + sign * moved) for sign in (1, -1))
            slope = (above - below) / (2 * step)
            np.testing.assert_allclose(
                found.slopes[(slice(None), *place)], slope, atol=2e-6 * max(1, np.abs(slope).max())
            )


def test_no_gates_are_gates_at_1(model, pairs):
    ones = np.ones((LAYERS, HEADS, len(Part), len(Part)))
    plain, given = gate_slopes(model, pairs), gate_slopes(model, pairs, ones)
    np.testing.assert_array_equal(plain.slopes, given.slopes)
    np.testing.assert_array_equal(plain.scores, given.scores)


def numbers_of(model, pair) -> np.ndarray:
    words = stretches(model, pair)
    return np.concatenate([np.full(one.stop - one.start, at) for at, one in enumerate(words)])


def test_contributions_are_complete_and_end_without_attention(kind, model, pairs):
    """Gemma 2 normalises what attention writes, whatever its size: there the path has a jump at 0,
    which no number of points sees, and what is missed is said instead."""
    for pair in pairs[:2]:
        words = numbers_of(model, pair)
        found = integrate(model, pair, words, 64)
        assert found.score == pytest.approx(matchlens.score(model, [pair])[""][0], abs=1e-10)
        closed = np.zeros((LAYERS, HEADS, len(Part), len(Part)))
        assert found.without == pytest.approx(gated_scores(model, [pair], closed)[0], abs=1e-10)
        rougher = integrate(model, pair, words, 16)
        if kind in ("gemma2", "gemma3_text"):
            continue
        assert abs(found.missed) < 2e-2 * max(1, abs(found.score - found.without))
        assert abs(found.missed) <= abs(rougher.missed) + 1e-9


def test_contributions_are_the_slopes_integral(model, pairs):
    """By hand: the midpoint rule over the slopes of whole directions."""
    pair, points = pairs[1], 4
    shape = (LAYERS, HEADS, len(Part), len(Part))
    by_hand = sum(
        gate_slopes(model, [pair], np.full(shape, (k + 0.5) / points)).slopes[0]
        for k in range(points)
    )
    shape_of = [one.part for one in stretches(model, pair)]
    one_hot = np.eye(len(Part))[shape_of]
    found = integrate(model, pair, numbers_of(model, pair), points).contributions
    np.testing.assert_allclose(one_hot.T @ (found @ one_hot), by_hand / points, atol=1e-10)


def test_attention_between_words_sums_to_one(model, pairs):
    words = numbers_of(model, pairs[2])
    found = word_attention(model, pairs[2], words)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-10)  # of the last layer, too
    assert found.shape == (LAYERS, HEADS, words.max() + 1, words.max() + 1)


def test_attention_between_words_is_that_under_cuts(model, pairs):
    """Masked words of the passage read none of the query; the layer above sees other states."""
    words, of = numbers_of(model, pairs[2]), [one.part for one in stretches(model, pairs[2])]
    query, passage = (np.flatnonzero(np.equal(of, part)) for part in (Part.Q, Part.D))
    plain = word_attention(model, pairs[2], words)
    cut = word_attention(model, pairs[2], words, [Cut.parse("D->Q@0~mask")])
    for found, removed in ((plain, False), (cut, True)):
        assert (found[0][:, passage][:, :, query].sum() == 0) == removed
    assert np.abs(plain[1] - cut[1]).max() > 1e-9  # float64; the least of the families is 3e-7


def test_weights_are_left_as_they_were(model, pairs):
    weights = list(model.family.module.parameters())
    weights[0].requires_grad_(True)
    before = [weight.requires_grad for weight in weights]
    gate_slopes(model, pairs[:1])
    integrate(model, pairs[0], numbers_of(model, pairs[0]), 2)
    assert [weight.requires_grad for weight in weights] == before
    assert all(weight.grad is None for weight in weights)


def test_it_works_under_inference_mode(model, pairs):
    with torch.inference_mode():
        found = gate_slopes(model, pairs[:2])
    np.testing.assert_array_equal(found.slopes, gate_slopes(model, pairs[:2]).slopes)


def test_the_check_of_gates_is_asked_once_and_kept(folder, kind, pairs):
    model = matchlens.load(folder, dtype="float64", device="cpu", **prompt_of(kind))
    assert "gates" not in model.checks
    gate_slopes(model, pairs[:1])
    assert model.checks["gates"]["ok"]
    assert model.checks["slopes"]["ok"]
    assert model.checks["gates"]["seen"] < 1e-9


# --- one family


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    settings = {"layers": LAYERS, "heads": HEADS, "seed": 3}
    return tiny_models.save(tmp_path_factory.mktemp("bert"), "bert", **settings)


@pytest.fixture
def bert(bert_folder) -> Reranker:
    return matchlens.load(bert_folder, device="cpu")


def before_the_softmax(monkeypatch):
    """The gate multiplies the logits."""
    real = attend._softmax

    def function(module, query, key, value, mask, scaling=None, matchlens=None, **kwargs):
        call = matchlens
        if call is None or call.gate is None:
            return attend.attend(module, query, key, value, mask, scaling, matchlens=call, **kwargs)
        gate, plain = call.gate, replace(call, gate=Gate(torch.ones(1, 1, 1, 1)))
        with monkeypatch.context() as patch:
            patch.setattr(attend, "_softmax", lambda logits, bias: real(logits * gate.values, bias))
            return attend.attend(module, query, key, value, mask, scaling, matchlens=plain)

    monkeypatch.setitem(AttentionInterface._global_mapping, ATTENTION, function)


def renormalised(monkeypatch):
    """What is left of a row is scaled up to 1."""
    real = Gate.through

    def through(self, weights, rows):
        gated = real(self, weights, rows)
        return gated / gated.sum(-1, keepdim=True).clamp(min=1e-6)

    monkeypatch.setattr(Gate, "through", through)


def rows_for_columns(monkeypatch):
    """The table of gates is read by columns."""
    from matchlens import gating

    real = gating.spread
    monkeypatch.setattr(gating, "spread", lambda tables, grid: real(tables.mT, grid))


def weights_of_another_gate(monkeypatch):
    """The derivative is collected without the weight that it is multiplied by."""

    def through(self, weights, rows):
        sliced = rows is not None and self.values.shape[2] > 1
        gated = weights * (self.values[:, :, rows] if sliced else self.values)
        if self.collect is not None:
            if not gated.requires_grad:
                gated.requires_grad_()
            gated.register_hook(self.collect)
        return gated

    monkeypatch.setattr(Gate, "through", through)


@pytest.mark.parametrize(
    ("sabotage", "says"),
    [
        (before_the_softmax, "with gates in layer 0, what its attention writes changes otherwise"),
        (renormalised, "with gates in layer 0, what its attention writes changes otherwise"),
        (rows_for_columns, "derivatives by the gates differ from the scores' differences"),
        (weights_of_another_gate, "derivatives by the gates differ from the scores' differences"),
    ],
)
def test_a_saboteur_is_caught(bert, pairs, sabotage, says, monkeypatch):
    sabotage(monkeypatch)
    with pytest.raises(CheckError, match=says) as refused:
        gate_slopes(bert, pairs[:1])
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pairs(bert, pairs, monkeypatch):
    """Each layer's slopes are summed as they come: no more arrays of token pairs live at once."""
    import gc

    from matchlens import gating

    alive = []
    real = gating.by_parts

    def counting(slopes, grid, rows):
        gc.collect()
        tensors = [one for one in gc.get_objects() if isinstance(one, torch.Tensor)]
        alive.append(sum(one.ndim == 4 and one.shape[-1] > 10 for one in tensors))
        return real(slopes, grid, rows)

    gate_slopes(bert, pairs[:1])  # the check is asked before anything is counted
    monkeypatch.setattr(gating, "by_parts", counting)
    gate_slopes(bert, pairs, batch_tokens=1)
    first = max(alive[:LAYERS])
    assert len(alive) == LAYERS * len(pairs)
    assert max(alive) <= first + 2


def test_a_batch_that_memory_is_short_for_is_halved(bert, pairs, monkeypatch):
    from matchlens import gating

    expected = gate_slopes(bert, pairs)
    real, sizes = gating._differentiated, []

    def short(model, batch, tables, cuts, **own):
        sizes.append(len(batch.pairs))
        if len(batch.pairs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, batch, tables, cuts, **own)

    monkeypatch.setattr(gating, "_differentiated", short)
    most = 2
    found = gate_slopes(bert, pairs, batch_tokens=10**4)
    np.testing.assert_allclose(found.slopes, expected.slopes, atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert max(sizes) == len(pairs)
    assert sum(size for size in sizes if size <= most) == len(pairs)
    most = 0
    with pytest.raises(InputError, match="out of memory with one pair of"):
        gate_slopes(bert, pairs)
    monkeypatch.setattr(gating, "_differentiated", lambda *args, **own: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gate_slopes(bert, pairs)


def test_one_forward_and_one_backward_pass(bert, pairs):
    gate_slopes(bert, pairs[:1])
    calls = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
        for layer in bert.family.layers
    ]
    gate_slopes(bert, pairs)
    for hook in hooks:
        hook.remove()
    assert sum(calls) == LAYERS * len(pairs)


def test_weights_made_under_inference_mode_are_refused(pairs):
    with torch.inference_mode():
        module = tiny_models.model(layers=LAYERS, heads=HEADS)
        model = matchlens.wrap(module, tiny_models.tokenizer(), name="mine")
    with pytest.raises(InputError, match=r"loaded under torch\.inference_mode"):
        gate_slopes(model, pairs[:1])


def test_a_joint_cut_is_gates_at_0_together(bert, pairs):
    cuts = [Cut.parse("Q->D@0"), Cut.parse("CLS->Q#1.1"), Cut.parse(f"{NAMED[1]}->SEP1")]
    joint = run(bert, pairs, {"joint": cuts}).scores.of("joint")
    got = gated_scores(bert, pairs, table_of(*map(str, cuts)))
    np.testing.assert_allclose(got, joint, atol=1e-5)
