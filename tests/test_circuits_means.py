"""Mean states by nested loops, logits of the means, and associations over heads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuits_reference as reference
from matchlens import qk as circuits
from matchlens.errors import InputError
from matchlens.parts import Part
from matchlens.qk.mean_states import MeanStates


def observed(seed=0, layers=2, width=3, count=12, **options):
    """A meter over random pairs, and the pairs it saw: (query, class, states by layer, parts)."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        states, parts = reference.batch(pairs=1, d=width, seed=seed * 1000 + number)
        by_layer = [states + layer for layer in range(layers)]
        kind = ["relevant", "hard", "easy", None][int(generator.integers(0, 4))]
        rows.append((f"q{generator.integers(0, 3)}", kind, by_layer, parts))
    rows.append(("q0", "hard", by_layer, parts))
    return fed(rows, layers, width, **options), rows


def fed(rows, layers=2, width=3, **options) -> MeanStates:
    meter = MeanStates(layers, width, **options)
    for query, kind, by_layer, parts in rows:
        for layer, states in enumerate(by_layer):
            meter.observe(layer, [query], [kind], states, parts)
    return meter


def slow(rows, layer, wanted):
    """The four levels of means, one loop each."""
    by_query = []
    for query in sorted({row[0] for row in rows}):
        by_class = []
        for kind in ("relevant", "hard", "easy"):
            by_pair = []
            for _, _, by_layer, parts in (r for r in rows if r[:2] == (query, kind)):
                tokens = [
                    state
                    for state, part in zip(by_layer[layer][0].numpy(), parts[0], strict=True)
                    if int(part) in wanted
                ]
                by_pair.append(np.mean(tokens, axis=0))
            if by_pair:
                by_class.append(np.mean(by_pair, axis=0))
        if by_class:
            by_query.append(np.mean(by_class, axis=0))
    return np.mean(by_query, axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_each_level_is_weighted_equally(seed):
    meter, rows = observed(seed)
    found = meter.result()
    for layer in range(2):
        np.testing.assert_allclose(found.query[layer], slow(rows, layer, {1}))
        np.testing.assert_allclose(found.document[layer], slow(rows, layer, {3}))
    assert found.queries == len({row[0] for row in rows if row[1]})


def test_the_document_may_have_its_separator():
    meter, rows = observed(document_parts=(Part.D, Part.SEP2))
    found = meter.result()
    np.testing.assert_allclose(found.document[1], slow(rows, 1, {3, 4}))
    assert not np.allclose(found.document, observed()[0].result().document)


@given(st.permutations(range(13)), st.integers(0, 13))
@settings(max_examples=20)
def test_order_batches_and_adding_do_not_matter(order, cut):
    meter, rows = observed(1)
    shuffled = [rows[number] for number in order]
    added, expected = fed(shuffled[:cut]), meter.result()
    added.add(*fed(shuffled[cut:]).sums)
    found = added.result()
    np.testing.assert_allclose(found.query, expected.query, atol=1e-12)
    np.testing.assert_allclose(found.document, expected.document, atol=1e-12)
    assert added._counts.keys() == meter._counts.keys()


def test_a_batch_is_its_pairs_and_padding_is_never_read():
    states, parts = reference.batch(pairs=3, d=3)
    kinds = ["relevant", "easy", None]
    whole = MeanStates(1, 3)
    whole.observe(0, ["a", "a", "a"], kinds, states, parts)
    alone = MeanStates(1, 3)
    for row, kind in enumerate(kinds):
        alone.observe(0, ["a"], [kind], states[row : row + 1], parts[row : row + 1])
    np.testing.assert_allclose(whole.result().query, alone.result().query)
    assert np.isfinite(whole.result().document).all()


def test_memory_does_not_grow_with_the_pairs():
    states, parts = reference.batch(pairs=2, d=3)
    meter = MeanStates(1, 3)
    sizes = []
    for _ in range(3):
        for _ in range(5):
            meter.observe(0, ["a", "b"], ["hard", "easy"], states, parts)
        sizes.append(sum(x.nbytes for x in (*meter._sums.values(), *meter._counts.values())))
    assert sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize(("biases", "divided"), list(itertools.product([False, True], repeat=2)))
def test_logits_of_the_means_are_those_of_explicit_matrices(biases, divided):
    layers = [reference.random_qk(heads=4, keys=2, seed=seed) for seed in range(2)]
    means = dict(zip("QD", np.random.default_rng(0).normal(size=(2, 2, 10)), strict=True))
    found = circuits.mean_logits(layers, means["Q"], means["D"], biases=biases, divided=divided)
    assert (found.biases, found.divided) == (biases, divided)
    for number, qk in enumerate(layers):
        for head, a in enumerate(reference.dense(qk)):
            for reader, read in itertools.product("QD", repeat=2):
                x, y = means[reader][number], means[read][number]
                expected = reference.logit(qk, head, x, y) / qk.scale if biases else y @ a @ x
                expected *= qk.scale if divided else 1
                assert found.logits[reader + read][number, head] == pytest.approx(expected)
    for name in circuits.CONTRASTS:
        more, less = name.split("-")
        expected = found.logits[more] - found.logits[less]
        np.testing.assert_allclose(found.contrast(name), expected)


def test_the_default_contrast_is_what_the_authors_code_computes():
    """q^T A d - d^T A d with the reader on the left: A there is W_Q^T W_K."""
    qk = reference.random_qk()
    q, d = np.random.default_rng(0).normal(size=(2, 10))
    found = circuits.mean_logits([qk], q[None], d[None]).contrast()
    for head, a in enumerate(reference.dense(qk)):
        assert found[0, head] == pytest.approx(q @ a.T @ d - d @ a.T @ d)


def test_biases_cancel_where_the_science_page_says():
    qk = reference.random_qk()
    zero = torch.zeros_like(qk.query_bias)
    q, d = np.random.default_rng(0).normal(size=(2, 1, 10))
    settings = {
        "both": qk,
        "no b_Q": type(qk).of(qk.query, qk.key, zero, qk.key_bias),
        "no b_K": type(qk).of(qk.query, qk.key, qk.query_bias, zero),
    }
    found = {name: circuits.mean_logits([x], q, d, biases=True) for name, x in settings.items()}
    for contrast, gone, stays in (
        ("QD-DD", "no b_Q", "no b_K"),
        ("DQ-QQ", "no b_Q", "no b_K"),
        ("QD-QQ", "no b_K", "no b_Q"),
        ("DQ-DD", "no b_K", "no b_Q"),
    ):
        both = found["both"].contrast(contrast)
        np.testing.assert_allclose(found[gone].contrast(contrast), both)
        assert not np.allclose(found[stays].contrast(contrast), both)


def test_swapping_query_and_document_swaps_the_directions():
    qk = reference.random_qk()
    q, d = np.random.default_rng(0).normal(size=(2, 1, 10))
    found = circuits.mean_logits([qk], q, d).logits
    swapped = circuits.mean_logits([qk], d, q).logits
    np.testing.assert_allclose(found["QD"], swapped["DQ"])
    np.testing.assert_allclose(found["QQ"], swapped["DD"])
    assert not np.allclose(found["QD"], found["DQ"])


def numbers(layers=3, heads=4, seed=0):
    return np.random.default_rng(seed).normal(size=(2, layers, heads))


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_is_that_of_scipy(ties):
    x, y = numbers().round(0) if ties else numbers()
    found = circuits.spearman(x, y, permutations=99, resamples=50)
    assert found.rho == pytest.approx(scipy.stats.spearmanr(x.ravel(), y.ravel()).statistic)
    assert found.low <= found.high
    assert found.heads == 12


def test_the_permutation_test_is_near_the_exact_one():
    x, y = numbers(layers=2, heads=4, seed=3)
    found = circuits.spearman(x, y, permutations=20_000, resamples=10)
    exact = []
    for first, second in itertools.product(itertools.permutations(range(4)), repeat=2):
        permuted = np.stack([y[0, list(first)], y[1, list(second)]])
        exact.append(scipy.stats.spearmanr(x.ravel(), permuted.ravel()).statistic)
    centre = np.mean(exact)
    assert found.by_layer == pytest.approx(centre)
    far = np.abs(np.array(exact) - centre) >= abs(found.rho - centre) - 1e-9
    assert found.p == pytest.approx(far.mean(), abs=0.01)


def test_a_trend_over_layers_is_no_evidence():
    x, y = numbers(layers=12, heads=6, seed=1)
    level = 10 * np.arange(12)[:, None]
    found = circuits.spearman(x + level, y + level, permutations=499, resamples=50)
    assert found.rho > 0.9
    assert found.by_layer > 0.9
    assert found.p > 0.01
    inside = circuits.spearman(x + level, x + level, permutations=499, resamples=50)
    assert inside.p == pytest.approx(1 / 500)


def test_p_is_uniform_where_nothing_is_there():
    p = [
        circuits.spearman(*numbers(seed=seed), permutations=199, resamples=1).p
        for seed in range(200)
    ]
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01


def test_association_is_seeded_and_symmetric_in_sign():
    x, y = numbers()
    one = circuits.spearman(x, y, seed=-1, permutations=199, resamples=99)
    assert one == circuits.spearman(x, y, seed=-1, permutations=199, resamples=99)
    other = circuits.spearman(x, y, seed=1, permutations=199, resamples=99)
    assert (one.rho, one.by_layer) == (other.rho, other.by_layer)
    assert one != other
    opposite = circuits.spearman(x, -y, seed=-1, permutations=199, resamples=99)
    assert (opposite.rho, opposite.p) == pytest.approx((-one.rho, one.p))


def test_where_nothing_can_be_permuted_or_ranked():
    x, y = numbers(layers=5, heads=1)
    found = circuits.spearman(x, y, permutations=99, resamples=9)
    assert found.p == 1
    assert np.isnan(found.low)
    assert found.rho == pytest.approx(found.by_layer)
    flat = circuits.spearman(np.ones((2, 4)), numbers(2)[0], permutations=9, resamples=9)
    assert np.isnan([flat.rho, flat.p, flat.low, flat.high]).all()


def test_bad_quantities_are_named():
    x, y = numbers()
    with pytest.raises((InputError, TypeError), match=r"expected \(3, 4\) for both|Type-check"):
        circuits.spearman(x, y[:2])
    with pytest.raises(InputError, match="permutations is 0, resamples 5"):
        circuits.spearman(x, y, permutations=0, resamples=5)
