"""The hypothesis' shares, from the list of all token pairs; the vocabulary's strongest pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuits_reference as reference
from matchlens import qk as circuits
from matchlens.errors import InputError
from matchlens.models.qk import QK
from matchlens.parts import Part
from matchlens.qk import vocabulary
from matchlens.qk.hypothesis import Hypothesis

SUMS = ("first", "second", "counts")


def setting(keys=3, seed=0, layers=2):
    weights = [reference.random_qk(heads=3, keys=keys, seed=seed + n) for n in range(layers)]
    q, d = np.random.default_rng(seed).normal(size=(2, layers, 10))
    return weights, q, d


def observe(meter, batches):
    for states, parts in batches:
        for layer in range(len(meter.layers)):
            meter.observe(layer, states * (1 + layer), parts)
    return meter


@pytest.mark.parametrize("keys", [3, 1])
def test_shares_are_those_of_the_list_of_token_pairs(keys):
    weights, q, d = setting(keys)
    batches = [reference.batch(seed=seed) for seed in range(2)]
    found = observe(Hypothesis(weights, q, d), batches).result()
    for layer, qk in enumerate(weights):
        scaled = [(states * (1 + layer), parts) for states, parts in batches]
        for number, direction in enumerate(found.directions):
            for head in range(3):
                share, constant, mean, variance = reference.shares(
                    qk, head, scaled, q[layer], d[layer], direction
                )
                at = (layer, number, head)
                seen = dict(zip(found.terms, found.share[at], strict=True))
                assert seen == pytest.approx(share, abs=1e-9)
                assert found.constant[at] == pytest.approx(constant)
                assert found.mean[at] == pytest.approx(mean)
                assert found.variance[at] == pytest.approx(variance)


def test_the_terms_of_the_reference_are_the_logit():
    qk = reference.random_qk()
    reader, read, q, d = np.random.default_rng(0).normal(size=(4, 10))
    parts = reference.terms(qk, 1, reader, read, q, d)
    assert sum(parts.values()) == pytest.approx(reference.logit(qk, 1, reader, read))
    assert set(parts) == {"constant", *circuits.TERMS}


@given(st.integers(0, 1000), st.permutations(range(4)), st.integers(0, 4))
@settings(max_examples=20)
def test_shares_sum_to_one_and_add_in_any_order(seed, order, cut):
    weights, q, d = setting(seed=seed)
    batches = [reference.batch(seed=seed + n) for n in range(4)]
    whole = observe(Hypothesis(weights, q, d), batches)
    shares = whole.result()
    np.testing.assert_allclose(shares.share.sum(-1), 1, atol=1e-9)
    assert ((shares.constant >= 0) & (shares.constant < np.inf)).all()
    shuffled = [batches[number] for number in order]
    one = observe(Hypothesis(weights, q, d), shuffled[:cut])
    other = observe(Hypothesis(weights, q, d), shuffled[cut:])
    one.add(other.counts, other.first, other.second)
    for name in SUMS:
        np.testing.assert_allclose(getattr(one, name), getattr(whole, name), rtol=1e-9)


def test_token_pairs_are_counted():
    weights, q, d = setting()
    states, parts = reference.batch()
    found = observe(Hypothesis(weights, q, d), [(states, parts)]).result()
    sizes = [((row == 1).sum(), (row == 3).sum()) for row in parts.numpy()]
    ways = {"QD": (0, 1), "DQ": (1, 0), "QQ": (0, 0), "DD": (1, 1)}
    for number, direction in enumerate(found.directions):
        a, b = ways[direction]
        expected = sum(size[a] * size[b] for size in sizes)
        assert (found.token_pairs[:, number] == expected).all()


def test_a_batch_is_its_pairs():
    weights, q, d = setting()
    states, parts = reference.batch(pairs=4)
    whole = observe(Hypothesis(weights, q, d), [(states, parts)])
    alone = observe(
        Hypothesis(weights, q, d), [(states[n : n + 1], parts[n : n + 1]) for n in range(4)]
    )
    for name in SUMS:
        np.testing.assert_allclose(getattr(alone, name), getattr(whole, name), rtol=1e-9)


def test_float32_states_lose_nothing_that_matters():
    weights, q, d = setting()
    halved = [
        QK.of(*(x.float() for x in (w.query, w.key, w.query_bias, w.key_bias))) for w in weights
    ]
    states, parts = reference.batch()
    double = observe(Hypothesis(weights, q, d), [(states, parts)]).result()
    single = observe(Hypothesis(halved, q, d), [(states.float(), parts)]).result()
    np.testing.assert_allclose(single.share, double.share, atol=1e-5)
    np.testing.assert_allclose(single.share.sum(-1), 1, atol=1e-9)


def share(found, direction, term):
    return found.share[:, found.directions.index(direction), :, found.terms.index(term)]


def test_terms_that_are_made_to_be_all():
    """Tokens at their mean on one side leave one cross term; means of zero leave the matching."""
    qk = reference.random_qk()
    plain = [QK.of(qk.query, qk.key)]
    states, parts = reference.batch()
    zero, one = np.zeros((1, 10)), np.ones((1, 10))
    matching = observe(Hypothesis(plain, zero, zero), [(states, parts)]).result()
    np.testing.assert_allclose(share(matching, "QD", "matching"), 1)
    np.testing.assert_allclose(matching.constant, 0)
    flat = torch.where((parts == 1)[..., None], 1.0, states)
    cross = observe(Hypothesis(plain, one, one), [(flat, parts)]).result()
    np.testing.assert_allclose(share(cross, "QD", "cross_read"), 1)
    np.testing.assert_allclose(share(cross, "DQ", "cross_reader"), 1)
    assert np.isnan(share(cross, "QQ", "matching")).all()  # all logits are the same
    np.testing.assert_allclose(cross.constant[0, cross.directions.index("QQ")], 1)


def test_the_separator_can_stand_with_the_document():
    weights, q, d = setting()
    states, parts = reference.batch()
    meter = Hypothesis(weights, q, d, document_parts=(Part.D, Part.SEP2))
    joined = torch.where(parts == 4, 3, parts)
    expected = observe(Hypothesis(weights, q, d), [(states, joined)]).result()
    found = observe(meter, [(states, parts)]).result()
    np.testing.assert_allclose(found.share, expected.share)


def test_bad_hypotheses_are_named():
    weights, q, d = setting()
    with pytest.raises(InputError, match=r"query have shape \(1, 10\)"):
        Hypothesis(weights, q[:1], d[:1])


@pytest.mark.parametrize(("biases", "block"), list(itertools.product([False, True], [1, 60, 999])))
def test_strongest_pairs_are_those_of_all_pairs(monkeypatch, biases, block):
    monkeypatch.setattr(vocabulary, "BLOCK", block)
    qk = reference.random_qk(heads=4, keys=2)
    readers, read = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 17, 10)))
    found = circuits.strongest_matches(qk, 2, readers, read, top=9, biases=biases)
    a = reference.dense(qk)[2]
    logits = {
        (i, j): reference.logit(qk, 2, x, y) / qk.scale if biases else y @ a @ x
        for i, x in enumerate(readers.numpy())
        for j, y in enumerate(read.numpy())
    }
    best = [max(range(17), key=lambda j, i=i: logits[i, j]) for i in range(17)]
    assert found.best.tolist() == best
    assert found.is_self.tolist() == [i == j for i, j in enumerate(best)]
    assert found.self_rate == pytest.approx(np.mean(found.is_self))
    expected = sorted(logits, key=logits.__getitem__, reverse=True)[:9]
    assert list(zip(found.readers.tolist(), found.read.tolist(), strict=True)) == expected
    np.testing.assert_allclose(found.logits, [logits[pair] for pair in expected])


def test_a_head_that_matches_what_is_the_same():
    vectors = torch.nn.functional.normalize(
        torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    same = QK.of(torch.eye(16)[None], torch.eye(16)[None])
    found = circuits.strongest_matches(same, 0, vectors, vectors, top=5)
    assert found.self_rate == 1
    assert (found.readers == found.read).all()
    opposite = QK.of(torch.eye(16)[None], -torch.eye(16)[None])
    assert circuits.strongest_matches(opposite, 0, vectors, vectors).self_rate == 0


def test_no_more_pairs_than_there_are():
    same = QK.of(torch.eye(2)[None], torch.eye(2)[None])
    assert len(circuits.strongest_matches(same, 0, *[torch.eye(2)] * 2, top=50).logits) == 4


def test_the_vocabulary_s_square_is_never_held():
    from test_circuits import Largest

    qk = reference.random_qk(heads=1, d=4, d_h=2)
    vectors = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        circuits.strongest_matches(qk, 0, vectors, vectors)
    assert largest.elements <= vocabulary.BLOCK < len(vectors) ** 2 / 10


def test_bad_vectors_are_named():
    qk = reference.random_qk()
    with pytest.raises(InputError, match=r"shape \(0, 10\)"):
        circuits.strongest_matches(qk, 0, torch.zeros(0, 10), torch.zeros(0, 10))
