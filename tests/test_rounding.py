"""bfloat16 on a CPU: packed products against a slow reference, and what a run says of itself."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import matchlens
import tiny as tiny_models
from matchlens.corpora.pairs import PairSet
from matchlens.errors import MatchlensWarning
from matchlens.models.check import CheckError
from matchlens.models.packed import Packed, products, products_in, rounds_products

pytestmark = pytest.mark.skipif(
    not rounds_products(torch.device("cpu"), 1),
    reason="this build of torch or this processor has no packed products in bfloat16",
)

ROUNDED = 2.0**-8
"""Half a unit of the last of bfloat16's 8 digits, relative."""


@pytest.fixture(scope="module")
def rounded(tiny_folder):
    return matchlens.load(tiny_folder, dtype="bfloat16", device="cpu")


@pytest.fixture(scope="module")
def judged() -> PairSet:
    """8 queries of 4 passages, of which one is relevant."""
    pairs = [
        replace(pair, qid=f"q{number // 4}", docid=f"d{number}", grade=3 * (number % 4 == 0))
        for number, pair in enumerate(tiny_models.pairs(32))
    ]
    ideals = {(pair.collection, pair.qid): (3, 0, 0, 0) for pair in pairs}
    return PairSet(tuple(pairs), ideals, {"candidates": "per_grade"}, {}, ())


@pytest.mark.parametrize("then", ["none", "gelu"])
@pytest.mark.parametrize("rows", [1, 31, 64])
def test_a_rounded_product_is_the_product_of_rounded_numbers(rows, then):
    """The reference: rounded rows and weights, multiplied and summed in float64."""
    torch.manual_seed(rows)
    linear = torch.nn.Linear(48, 40).requires_grad_(False)
    states = torch.randn(rows, 48)
    weight, bias, exact = (
        each.bfloat16().double() for each in (linear.weight, linear.bias, states)
    )
    expected = exact @ weight.T + bias
    expected = torch.nn.functional.gelu(expected) if then == "gelu" else expected
    packed = Packed(linear, torch.bfloat16)
    out = packed.product(packed.rows(states), states.shape, then)
    assert out.dtype == torch.bfloat16
    size = expected.abs().clamp(min=expected.abs().mean())
    assert ((out.double() - expected).abs() / size).max() < 2 * ROUNDED
    assert torch.equal(out.float(), products([packed, packed], states)[1]) or then == "gelu"


def test_a_changed_weight_is_packed_anew(rounded):
    packed = Packed(torch.nn.Linear(16, 8).requires_grad_(False), torch.bfloat16)
    before = packed(torch.ones(1, 16))
    packed.weight.mul_(2)
    packed.bias.mul_(2)
    assert torch.allclose(packed(torch.ones(1, 16)), 2 * before, rtol=4 * ROUNDED)


def test_the_layers_multiply_in_bfloat16_and_nothing_else_does(rounded):
    family, module = rounded.family, rounded.family.module
    inside = {each for layer in family.layers for each in layer.modules()}
    packed = [each for each in module.modules() if isinstance(each, Packed)]
    assert {each.product_dtype for each in packed if each in inside} == {torch.bfloat16}
    assert {each.product_dtype for each in packed if each not in inside} == {torch.float32}
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    seen = []
    for part in module.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.register_forward_pre_hook(lambda part, args: seen.append(args[0].dtype))
    matchlens.score(rounded, tiny_models.pairs(2))
    assert set(seen) == {torch.float32}


def test_scores_stay_within_the_bound(rounded, tiny32, tiny_pairs):
    cuts = ["Q->D", "D->D", "CLS->All@0:2", "Q->Q#1.2~mask"]
    got, expected = (matchlens.score(model, tiny_pairs, cuts) for model in (rounded, tiny32))
    off = {name: np.abs(got[name] - expected[name]).max() for name in got}
    assert 0 < max(off.values()) < 0.1 * np.ptp(expected[""])
    with products_in(torch.float32, rounded.family.layers):
        exact = matchlens.score(rounded, tiny_pairs, cuts)
    for name in exact:
        np.testing.assert_array_equal(exact[name], expected[name])


def test_a_model_that_is_off_in_bfloat16_is_refused(tiny_folder, monkeypatch):
    real = Packed._in

    def wrong(self, dtype):
        packed = real(self, dtype)
        return packed if dtype == torch.float32 else real(self, torch.float32).bfloat16() * 0

    monkeypatch.setattr(Packed, "_in", wrong)
    matchlens.load(tiny_folder, device="cpu")
    with pytest.raises((CheckError, RuntimeError)):
        matchlens.load(tiny_folder, device="cpu", dtype="bfloat16")


def test_a_run_compares_a_sample_of_itself(rounded, judged):
    result = matchlens.ablation(rounded, judged, cuts=["Q->D", "D->D"])
    (note,) = [note for note in result.notes if note.startswith("bfloat16 against float32")]
    assert "8 queries (32 pairs) of this run" in note
    assert "(untouched)" in note
    assert "scores off by 0.0" in note


def test_a_run_that_bfloat16_moves_is_flagged(rounded, judged, monkeypatch):
    """The products go wrong after the check at load: the run's own sample shows it."""
    real = Packed.product

    def coarse(self, rows, shape, then="none"):
        out = real(self, rows, shape, then)
        return out.mul(2).round().div(2) if out.dtype == torch.bfloat16 else out

    monkeypatch.setattr(Packed, "product", coarse)
    with pytest.warns(MatchlensWarning, match="was not expected: use --dtype float32"):
        result = matchlens.ablation(rounded, judged, cuts=["Q->D", "D->D"])
    assert any("was not expected" in note for note in result.notes)


def test_float32_says_nothing(tiny32, judged):
    with warnings.catch_warnings():
        warnings.simplefilter("error", MatchlensWarning)
        result = matchlens.ablation(tiny32, judged, cuts=["Q->D"])
    assert not any("bfloat16" in note for note in result.notes)


def test_auto_runs_float32_and_says_what_bfloat16_would_do(tiny_folder, tiny32, judged):
    model = matchlens.load(tiny_folder, dtype="auto", device="cpu")
    assert model.dtype == model.identity["dtype"] == "float32"
    with pytest.warns(MatchlensWarning, match=r"--dtype auto: .* CPU s for .* scores off by"):
        result = matchlens.ablation(model, judged, cuts=["Q->D"])
    expected = matchlens.ablation(tiny32, judged, cuts=["Q->D"])
    np.testing.assert_array_equal(result.scores["score"], expected.scores["score"])


def test_auto_says_where_nothing_else_is_measured(tiny_folder, judged, monkeypatch):
    monkeypatch.setattr("matchlens.models.packed.MOST_ROUNDED", 1)
    model = matchlens.load(tiny_folder, dtype="auto", device="cpu")
    with pytest.warns(MatchlensWarning, match="nothing else is measured"):
        matchlens.ablation(model, judged, cuts=["Q->D"])


def test_a_large_model_is_in_bfloat16_throughout_and_says_so(tiny_folder, judged, monkeypatch):
    monkeypatch.setattr("matchlens.models.packed.MOST_ROUNDED", 1)
    model = matchlens.load(tiny_folder, dtype="bfloat16", device="cpu")
    assert {each.dtype for each in model.family.module.parameters()} == {torch.bfloat16}
    result = matchlens.ablation(model, judged, cuts=["Q->D"])
    assert any("its scores were not compared" in note for note in result.notes)


def test_a_processor_without_instructions_says_so(tiny_folder, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.multiplies_bfloat16", lambda: False)
    with pytest.warns(MatchlensWarning, match="no instructions for bfloat16"):
        matchlens.load(tiny_folder, dtype="bfloat16", device="cpu")
