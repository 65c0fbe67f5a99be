"""DeBERTa's and MPNet's logits: every config that the library knows, far distances, one row."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

import matchlens
import reference
import tiny as tiny_models
from matchlens.corpora import Pair, choose, demo
from matchlens.engine import collated
from matchlens.models.words import vocabulary
from matchlens.runners import run
from test_families import library_logits, relevance, scores
from tiny import DEBERTA_V3

pytestmark = pytest.mark.slow

CONFIGS = {
    "as in v3": DEBERTA_V3,
    "c2p only": {"pos_att_type": ["c2p"]},
    "p2c only": {"pos_att_type": "p2c"},
    "neither": {"pos_att_type": []},
    "terms without distances": {"relative_attention": False},
    "no buckets": {"position_buckets": -1},
    "no buckets, a short table": {"position_buckets": -1, "max_relative_positions": 10},
    "two buckets": {"position_buckets": 2},
    "shared projections": {"share_att_key": True},
    "no token types": {"type_vocab_size": 0},
    "distances only": {"position_biased_input": False},
    "normed distances": {"norm_rel_ebd": "layer_norm"},
    "narrow embeddings": {"embedding_size": 16},
    "another activation": {"pooler_hidden_act": "tanh"},
}


def loaded(folder, dtype="float64", **config):
    tiny_models.save(folder, "deberta-v2", **{"layers": 2, "heads": 2, **config})
    return matchlens.load(folder, dtype=dtype, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_config_scores_as_the_library_does(config, tmp_path, tiny_pairs):
    model = loaded(tmp_path, **config)
    expected = relevance(library_logits(tmp_path, tiny_pairs, batch=24))
    assert np.ptp(expected) > 0.1
    for tokens in (1, 130, 10**6):
        got = scores(model, tiny_pairs, batch_tokens=tokens)[""]
        np.testing.assert_allclose(got, expected, atol=1e-10, rtol=0)
    if config.get("pooler_hidden_act"):
        return
    few, cuts = tiny_pairs[:2], ["Q->D", "D->{D,Q}~mask", "CLS->D#1.1~sink"]
    got = scores(model, few, *cuts)
    for cut in cuts:
        slow = [reference.score(model, pair, [cut]) for pair in few]
        np.testing.assert_allclose(got[cut], slow, atol=1e-10, rtol=0, err_msg=cut)
        assert np.abs(got[cut] - got[""]).max() > 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_beyond_the_buckets(tmp_path, dtype):
    """As many tokens as a passage has: v3's own table, and distances that share a place."""
    config = {**DEBERTA_V3, "position_buckets": 32, "max_position_embeddings": 512}
    tiny_models.save(tmp_path, "deberta-v2", layers=2, heads=2, **config)
    tokenizer = tiny_models.tokenizer("deberta-v2")
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(tmp_path)
    model = matchlens.load(tmp_path, dtype=dtype, device="cpu", max_length=512)
    pairs = [
        Pair("q", f"d{n}", "cat sat far", " ".join(tiny_models.WORDS[i % 12] for i in range(n)), 1)
        for n in (505, 300, 30)
    ]
    expected = relevance(library_logits(tmp_path, pairs, getattr(torch, dtype), batch=3))
    close = {"atol": 1e-5 if dtype == "float32" else 1e-10, "rtol": 0}
    for tokens in (1, 10**6):
        got = scores(model, pairs, batch_tokens=tokens)[""]
        np.testing.assert_allclose(got, expected, **close)


@pytest.mark.parametrize(("buckets", "longest"), [(256, 512), (8, 64), (32, 512), (-1, 512)])
def test_places_are_the_library_s_for_every_distance(tmp_path, buckets, longest):
    """A distance has one place, wherever the two tokens stand."""
    config = {"position_buckets": buckets, "max_relative_positions": longest}
    family = loaded(tmp_path, layers=1, **config).family
    span = buckets if buckets > 0 else longest
    for tokens in (1, 2, 7, 64, 500, 777):
        states = torch.zeros(1, tokens, 1)
        whole = build_relative_position(states, states, buckets, longest)[0]
        distances = torch.arange(tokens)[:, None] - torch.arange(tokens)
        mine = family.places(distances.flatten()).view(tokens, tokens)
        assert torch.equal(mine, (whole + span).clamp(0, 2 * span - 1))
        by_distance = family.places(torch.arange(-tokens + 1, tokens))
        assert torch.equal(mine, by_distance[distances + tokens - 1])


def test_the_reference_s_places_are_the_library_s(tmp_path):
    config = loaded(tmp_path, layers=1).family.module.config
    whole = build_relative_position(torch.zeros(1, 64, 1), torch.zeros(1, 64, 1), 8, 64)[0]
    for i, j in itertools.product(range(64), range(64)):
        assert reference.deberta_place(config, i - j) == min(int(whole[i, j]) + 8, 15)


@pytest.mark.parametrize("family", ["deberta-v2", "mpnet"])
def test_the_bias_of_some_rows_is_that_of_all(family, tmp_path):
    folder = tiny_models.save(tmp_path, family, layers=1, heads=2)
    walked = matchlens.load(folder, dtype="float64", device="cpu").family
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 2, 20, 16, dtype=torch.float64)
    with torch.inference_mode():
        whole = walked.bias(0, query, key, None)
        for rows in (slice(0, 1), slice(3, 9), slice(19, 20), slice(0, 20), slice(-2, None)):
            some = walked.bias(0, query[:, :, rows], key, rows)
            torch.testing.assert_close(some, whole[:, :, rows], atol=1e-12, rtol=0)


def test_logits_rebuilt_from_weights_and_bias_are_the_model_s(tmp_path, tiny_pairs):
    """Invariant 7: content-to-content by the query-key weights, the rest is beside them."""
    for family in ("deberta-v2", "mpnet"):
        folder = tiny_models.save(tmp_path / family, family, layers=2, heads=2)
        model = matchlens.load(folder, dtype="float64", device="cpu")
        walked, layer = model.family, reference.layers(model.family.module)[1]
        torch.manual_seed(1)
        states = torch.randn(12, 32, dtype=torch.float64)
        qk = walked.qk(1)
        assert "depends" in qk.beside or "distance" in qk.beside
        queries = torch.einsum("hkd,id->hik", qk.query, states) + qk.query_bias[:, None]
        keys = torch.einsum("hkd,jd->hjk", qk.keys, states) + qk.key_biases[:, None]
        content = qk.scale * queries @ keys.mT
        with torch.inference_mode():
            asking, reading, _ = walked.projections(1)
            heads = [
                linear(states).view(1, 12, 2, 16).transpose(1, 2) for linear in (asking, reading)
            ]
            bias = walked.bias(1, *heads, None)[0]
            slow = reference.written_logits(walked.module, layer, states)
        torch.testing.assert_close(content + bias, slow, atol=1e-10, rtol=0)


def test_without_distances_the_weights_are_all_there_is(tmp_path):
    assert loaded(tmp_path, relative_attention=False).family.qk(0).beside == ""


@pytest.mark.parametrize("config", [DEBERTA_V3, {**DEBERTA_V3, "embedding_size": 16}])
def test_static_vectors_without_positions_are_what_layer_0_reads(config, tmp_path):
    model = loaded(tmp_path, "float32", **config)
    words = vocabulary(model)
    batch = collated(model, [Pair("q", "d", "cat sat", "warm tea", 1)])
    with torch.inference_mode():
        states = model.family.embed(batch)[0]
    for place, token in enumerate(batch.input_ids[0].tolist()):
        if token in words.ids.tolist():
            row = words.ids.tolist().index(token)
            torch.testing.assert_close(words.document[row], states[place], atol=1e-5, rtol=0)


# --- a convolution beside the first layer


@pytest.mark.parametrize("layers", [1, 2])
def test_a_convolution_scores_as_the_library_does(layers, tmp_path, tiny_pairs):
    model = loaded(tmp_path, layers=layers, conv_kernel_size=3, conv_act="tanh")
    expected = relevance(library_logits(tmp_path, tiny_pairs, batch=24))
    for tokens in (1, 130, 10**6):
        got = scores(model, tiny_pairs, batch_tokens=tokens)[""]
        np.testing.assert_allclose(got, expected, atol=1e-10, rtol=0)
    few, cuts = tiny_pairs[:2], ["Q->D", "CLS->{D,Q}~mask"]
    got = scores(model, few, *cuts)
    for cut in cuts:
        slow = [reference.score(model, pair, [cut]) for pair in few]
        np.testing.assert_allclose(got[cut], slow, atol=1e-10, rtol=0, err_msg=cut)


def test_a_convolution_reaches_as_far_as_its_kernel(tmp_path, tiny_pairs):
    """Invariant 4 as far as it can hold: of CLS's neighbours the first alone is read beside it."""
    model = loaded(tmp_path, conv_kernel_size=3, conv_act="tanh")
    pairs = [Pair("q", f"d{n}", f"cat {w}", w * n, 1) for n, w in ((1, "dog "), (5, "sun far "))]
    (said,) = model.notes
    assert "up to 1 places" in said
    assert said in matchlens.ablation(model, choose(demo.load(), queries=2), cuts=["Q->D"]).notes
    got = scores(model, pairs, "CLS->All", "CLS->All~mean")
    assert np.ptp(got.pop("")) > 0.01
    for cut, values in got.items():
        assert np.ptp(values) < 1e-10, cut


# --- ALBERT's layers


def test_groups_and_inner_layers_of_albert(tmp_path, tiny_pairs):
    config = {"num_hidden_groups": 2, "inner_group_num": 2}
    folder = tiny_models.save(tmp_path, "albert", layers=3, heads=2, **config)
    model = matchlens.load(folder, dtype="float64", device="cpu")
    assert model.family.n_layers == 6
    assert len({id(layer) for layer in model.family.layers}) == 4
    few = tiny_pairs[:3]
    expected = relevance(library_logits(folder, few, batch=3))
    got = scores(model, few, "Q->D@3", "Q->D@5")
    np.testing.assert_allclose(got[""], expected, atol=1e-10, rtol=0)
    slow = [reference.score(model, pair, ["Q->D@3"]) for pair in few]
    np.testing.assert_allclose(got["Q->D@3"], slow, atol=1e-10, rtol=0)
    np.testing.assert_array_equal(got["Q->D@5"], got[""])  # the score does not read those rows
    assert len(run(model, few, {"": []}).plan.levels) == 6


@pytest.mark.parametrize("family", ["deberta-v2", "mpnet", "albert"])
def test_half_precision_is_near(family, tmp_path, tiny_pairs):
    folder = tiny_models.save(tmp_path, family, layers=2, heads=2)
    exact = scores(matchlens.load(folder, device="cpu"), tiny_pairs, "Q->D")
    half = scores(matchlens.load(folder, dtype="bfloat16", device="cpu"), tiny_pairs, "Q->D")
    for cut in exact:
        np.testing.assert_allclose(half[cut], exact[cut], atol=0.3)
