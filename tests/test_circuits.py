"""The query-key algebra: each number against the explicit d x d matrix; nulls by simulation."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import circuits_reference as reference
import tiny as tiny_models
from matchlens import qk as circuits
from matchlens.batching import collate, encode
from matchlens.errors import InputError
from matchlens.models.bert import Bert
from matchlens.models.qk import QK
from matchlens.parts import Part
from matchlens.qk import controls

shapes = st.fixed_dictionaries(
    {
        "heads": st.integers(1, 4),
        "d_h": st.integers(1, 6),
        "d": st.integers(1, 12),
        "seed": st.integers(0, 10_000),
    }
)


class Largest(TorchDispatchMode):
    """Sees every tensor that an operation makes, and keeps the number of elements of the largest.

    Views count by what they show, so that an expanded view is no hiding place.
    """

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, list | tuple) else [out]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return out


@given(shapes)
@settings(max_examples=40)
def test_the_algebra_is_that_of_the_dense_matrix(shape):
    qk = reference.random_qk(**shape)
    found = circuits.triplets(qk)
    share = circuits.symmetric_share(qk)
    for head, a in enumerate(reference.dense(qk)):
        assert circuits.alignment(qk)[head] == pytest.approx(np.trace(a), abs=1e-10)
        values = np.linalg.svd(a, compute_uv=False)
        count = min(qk.d_h, qk.width)
        np.testing.assert_allclose(found.values[head], values[:count], atol=1e-10)
        np.testing.assert_allclose(values[count:], 0, atol=1e-10)
        u, _, v = np.linalg.svd(a)
        cosines = np.einsum("dk,kd->k", u[:, :count], v[:count])
        np.testing.assert_allclose(found.cosines[head], cosines, atol=1e-6)
        symmetric = (a + a.T) / 2
        expected = (symmetric**2).sum() / (a**2).sum()
        assert share[head] == pytest.approx(expected, abs=1e-10)


@given(shapes)
@settings(max_examples=40)
def test_alignment_is_the_sum_over_triplets_and_its_variants_are_parts_of_it(shape):
    qk = reference.random_qk(**shape)
    found = circuits.triplets(qk)
    np.testing.assert_allclose(found.alignment(), circuits.alignment(qk), atol=1e-5)
    normalised = found.normalised()
    assert (np.abs(normalised) <= 1).all()
    np.testing.assert_allclose(normalised * found.values.sum(1), found.alignment(), atol=1e-10)
    for variant, least in (("positive", 0), ("above", 0.3)):
        expected = [
            sum(s * c for s, c in zip(values, cosines, strict=True) if c > least)
            for values, cosines in zip(found.values, found.cosines, strict=True)
        ]
        np.testing.assert_allclose(found.alignment(variant), expected, atol=1e-12)


@given(shapes)
@settings(max_examples=20)
def test_swapping_query_and_key_transposes_the_matrix(shape):
    qk = reference.random_qk(**shape)
    swapped = QK.of(qk.key, qk.query, qk.key_bias, qk.query_bias)
    np.testing.assert_allclose(circuits.alignment(swapped), circuits.alignment(qk))
    np.testing.assert_allclose(circuits.symmetric_share(swapped), circuits.symmetric_share(qk))
    one, other = circuits.triplets(swapped), circuits.triplets(qk)
    np.testing.assert_allclose(one.values, other.values, atol=1e-10)
    np.testing.assert_allclose(one.normalised(), other.normalised(), atol=1e-10)


def test_normalised_trace_reaches_both_ends():
    same = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    assert circuits.triplets(QK.of(same, same)).normalised() == pytest.approx(1)
    assert circuits.triplets(QK.of(same, -same)).normalised() == pytest.approx(-1)
    assert circuits.symmetric_share(QK.of(same, -same)) == pytest.approx(1)
    rows = torch.eye(2)[None]
    turn = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]])
    assert circuits.symmetric_share(QK.of(rows, turn)) == pytest.approx(0)


def test_a_head_of_zeros_has_no_normalised_trace():
    qk = QK.of(torch.zeros(1, 2, 4), torch.ones(1, 2, 4))
    found = circuits.triplets(qk)
    assert found.alignment() == pytest.approx(0)
    for value in (found.normalised(), circuits.symmetric_share(qk)):
        assert np.isnan(value).all()
    assert np.isnan(circuits.rotation_null(found).normalised_sd).all()


def test_each_head_has_its_own_key_head():
    shared = reference.random_qk(heads=4, keys=2)
    assert shared.group == (0, 0, 1, 1)
    own = QK.of(shared.query, shared.keys, shared.query_bias, shared.key_biases)
    assert own.group == (0, 1, 2, 3)
    np.testing.assert_allclose(circuits.alignment(shared), circuits.alignment(own))
    np.testing.assert_allclose(circuits.triplets(shared).values, circuits.triplets(own).values)
    turned = reference.random_qk(heads=4, keys=2, group=(1, 0, 1, 0))
    expected = [np.trace(a) for a in reference.dense(turned)]
    np.testing.assert_allclose(circuits.alignment(turned), expected)
    assert not np.allclose(circuits.alignment(turned), circuits.alignment(shared))


def keep(seen, at, module, inputs, out):
    seen[at] = (inputs[0], out)


@pytest.mark.parametrize("labels", [1, 2])
def test_logits_rebuilt_from_weights_are_those_of_the_library(labels):
    """The linear layers' outputs by hooks, and the weights that the eager attention gives back."""
    module = tiny_models.model(labels=labels).double()
    family = Bert(module)
    encoded = encode(tiny_models.tokenizer(), tiny_models.pairs(3), 64)
    for row in range(3):
        batch = collate(encoded, np.array([row]))
        seen: dict = {}
        hooks = [
            getattr(layer.attention.self, name).register_forward_hook(
                functools.partial(keep, seen, (number, name))
            )
            for number, layer in enumerate(family.layers)
            for name in ("query", "key")
        ]
        module.set_attn_implementation("eager")
        with torch.inference_mode():
            out = module(
                input_ids=batch.input_ids,
                token_type_ids=batch.token_type_ids,
                output_attentions=True,
            )
        for hook in hooks:
            hook.remove()
        for layer, attention in enumerate(out.attentions):
            qk = family.qk(layer)
            assert (qk.n_heads, qk.d_h, qk.width, qk.rope) == (4, 8, 32, False)
            states, query = seen[layer, "query"]
            heads = [x[0].unflatten(-1, (4, 8)) for x in (query, seen[layer, "key"][1])]
            captured = torch.einsum("ihk,jhk->hij", *heads) / np.sqrt(8)
            rebuilt = np.array(
                [
                    [[reference.logit(qk, head, x, y) for y in states[0].numpy()] for x in rows]
                    for head, rows in ((head, states[0].numpy()) for head in range(4))
                ]
            )
            np.testing.assert_allclose(rebuilt, captured.numpy(), atol=1e-4)
            weights = torch.softmax(torch.from_numpy(rebuilt), -1)
            np.testing.assert_allclose(weights.numpy(), attention[0].numpy(), atol=1e-10)


def test_invariant_of_the_alignment_holds_for_a_loaded_model(tiny32):
    for layer in range(tiny32.family.n_layers):
        qk = tiny32.family.qk(layer)
        assert not qk.query.requires_grad
        found = circuits.triplets(qk)
        np.testing.assert_allclose(found.alignment(), circuits.alignment(qk), atol=1e-5)


def test_the_gaussian_null_is_that_of_a_simulation():
    qk = reference.random_qk(heads=2, d_h=4, d=24)
    null = circuits.gaussian_null(qk, draws=4000)
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randn(8000, 4, 24, generator=generator).double() for _ in range(2)]
    random = QK.of(*draws)
    assert circuits.triplets(random).normalised().std() == pytest.approx(
        null.normalised_sd[0], rel=0.03
    )
    assert null.normalised_sd[0] == null.normalised_sd[1]
    for head in range(2):
        sizes = [float(x[head].norm()) for x in (qk.query, qk.keys)]
        scaled = [
            x * size / x.norm(dim=(1, 2), keepdim=True)
            for x, size in zip(draws, sizes, strict=True)
        ]
        traces = circuits.alignment(QK.of(*scaled))
        assert abs(traces.mean()) < 4 * traces.std() / np.sqrt(len(traces))
        assert traces.std() == pytest.approx(null.alignment_sd[head], rel=0.03)


@pytest.mark.parametrize(("d_h", "d"), [(3, 20), (6, 4)])
def test_the_spectra_behind_the_gaussian_null_are_those_of_gaussian_factors(d_h, d):
    generator = np.random.default_rng(0)
    rests = controls._gaussian_rests(generator, 8000, d_h, d)
    drawn = np.linalg.svd(rests[:4000] @ rests[4000:].swapaxes(1, 2), compute_uv=False)
    key, query = generator.standard_normal((2, 4000, d_h, d))
    plain = np.linalg.svd(key.swapaxes(1, 2) @ query, compute_uv=False)[:, : min(d_h, d)]
    np.testing.assert_allclose(drawn.mean(0), plain.mean(0), rtol=0.05)


def test_the_rotation_null_is_that_of_random_singular_vectors():
    values = np.array([5.0, 2.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(6000, 12, 3, generator=generator))[0] for _ in range(2))
    u = u * (torch.randint(0, 2, (6000, 1, 3), generator=generator) * 2 - 1)  # QR fixes the signs
    s = torch.tensor(values, dtype=torch.float32)
    random = circuits.triplets(QK.of((v * s).mT, u.mT))
    null = circuits.rotation_null(circuits.Triplets(values[None], np.zeros((1, 3)), width=12))
    assert random.alignment().std() == pytest.approx(null.alignment_sd[0], rel=0.04)
    assert random.normalised().std() == pytest.approx(null.normalised_sd[0], rel=0.04)
    assert random.alignment("positive").mean() == pytest.approx(null.positive_mean[0], rel=0.04)


@pytest.mark.parametrize("keys", [4, 2])
def test_crossed_heads_are_those_of_explicit_matrices(keys):
    qk = reference.random_qk(heads=4, keys=keys)
    found = circuits.crossed(qk)
    seen = []
    for head in range(4):
        for key in range(keys):
            if key == qk.group[head]:
                assert np.isnan(found.alignment[head, key])
                continue
            a = qk.key[key].numpy().T @ qk.query[head].numpy()
            seen.append(np.trace(a))
            assert found.alignment[head, key] == pytest.approx(seen[-1])
    assert (found.mean, found.sd) == pytest.approx((np.mean(seen), np.std(seen, ddof=1)))


def test_nothing_of_size_d_by_d_is_made():
    width = 2048
    qk = reference.random_qk(heads=2, d_h=3, d=width)
    vectors = torch.randn(5, width, generator=torch.Generator().manual_seed(0))
    means = np.ones((1, width))
    parts = torch.tensor([[0, 1, 2, 3, 4]])
    with Largest() as largest:
        circuits.alignment(qk)
        circuits.gaussian_null(qk, draws=10)
        circuits.rotation_null(circuits.triplets(qk))
        circuits.symmetric_share(qk)
        circuits.crossed(qk)
        circuits.mean_logits([qk], means, means, biases=True)
        circuits.strongest_matches(qk, 0, vectors, vectors)
        meter = circuits.Hypothesis([qk], means, means)
        meter.observe(0, vectors[None], parts)
        meter.result()
        assert 0 < largest.elements <= 2 * 3 * width * 2
        _ = qk.key[1].mT @ qk.query[1]
        assert largest.elements == width * width


def test_a_width_whose_square_fits_no_memory_works():
    qk = reference.random_qk(heads=2, d_h=2, d=400_000)  # d x d would be 1.3 TB
    found = circuits.triplets(qk)
    np.testing.assert_allclose(found.alignment(), circuits.alignment(qk), rtol=1e-6, atol=1e-5)
    assert circuits.symmetric_share(qk) == pytest.approx(0.5, abs=0.01)


def test_rope_is_refused_with_the_reason_and_what_to_ask_instead():
    qk = reference.random_qk(rope=True)
    means = np.zeros((1, 10))
    asked = [
        lambda: circuits.alignment(qk),
        lambda: circuits.triplets(qk),
        lambda: circuits.symmetric_share(qk),
        lambda: circuits.gaussian_null(qk),
        lambda: circuits.crossed(qk),
        lambda: circuits.mean_logits([qk], means, means),
        lambda: circuits.Hypothesis([qk], means, means),
        lambda: circuits.strongest_matches(qk, 0, *[torch.zeros(2, 10)] * 2),
    ]
    for ask in asked:
        with pytest.raises(InputError, match=r"each distance of two tokens.*average them first"):
            ask()


def test_bad_input_is_named():
    qk = reference.random_qk(heads=2)
    with pytest.raises(InputError, match="no head -1"):
        circuits.strongest_matches(qk, -1, *[torch.zeros(2, 10)] * 2)
    with pytest.raises((ValueError, TypeError), match=r"do not fit|Type-check"):
        QK.of(qk.query, qk.key[:, :, 1:])
    with pytest.raises(ValueError, match="expected one of 2 key heads"):
        QK.of(qk.query, qk.key, group=(0, 2))
    with pytest.raises(ValueError, match="expected one of 2 key heads"):
        QK.of(qk.query, qk.key, group=(0,))


def test_part_numbers_that_the_reference_uses_are_the_library_s():
    assert (int(Part.Q), int(Part.D)) == (1, 3)
