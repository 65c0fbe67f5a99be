"""The real demo model on real TREC DL passages, where both are to be had."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import matchlens
from matchlens.models.convert import demo_folder
from test_corpora_real import judged

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _one_thread(demo_model):
    """One pair at a time gains little from threads; on a busy machine two threads cost tenfold."""
    torch.set_num_threads(1)


@pytest.mark.slow
def test_scores_are_the_library_s_own_in_any_order_and_batch(demo_model, trec_dl):
    """100 passages, by transformers alone: one pair at a time, no padding, its own attention.

    Ours are scored once each, shuffled, half of them in large batches and half in small ones.
    """
    chosen = matchlens.choose(judged(trec_dl, "dl19")).pairs
    draw = np.random.default_rng(0)
    pairs = [chosen[place] for place in draw.permutation(len(chosen))[:100]]
    tokenizer = AutoTokenizer.from_pretrained(demo_folder())
    module = AutoModelForSequenceClassification.from_pretrained(demo_folder()).eval()
    expected = []
    with torch.inference_mode():
        for pair in pairs:
            inputs = tokenizer(pair.query, pair.text, return_tensors="pt", truncation="only_second")
            expected.append(float(module(**inputs).logits[0, 0]))
    assert module.config._attn_implementation == "sdpa"
    assert np.ptp(expected) > 15
    order = draw.permutation(len(pairs))
    for places, batch_tokens in ((order[:50], 4096), (order[50:], 500)):
        shuffled = [pairs[place] for place in places]
        got = matchlens.score(demo_model, shuffled, batch_tokens=batch_tokens)[""]
        np.testing.assert_allclose(got, np.array(expected)[places], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_blind_model_ranks_at_random(demo_model, trec_dl):
    """CLS->All: the measure under it is the expected value of a random ranking."""
    pairs = matchlens.choose(judged(trec_dl, "dl19"), queries=6, per_grade=3)
    result = matchlens.ablation(demo_model, pairs, cuts=["CLS->All"])
    table = result.to_frame("table1").set_index("cut")
    assert abs(table.loc["CLS->All", "mean"] - table.loc["random", "mean"]) < 0.001
    assert table.loc["", "mean"] > table.loc["random", "mean"] + 0.15
    queries = result.to_frame("queries")
    blind = queries[queries["cut"] == "CLS->All"]
    assert len(blind) == 6
    assert blind["tau_b"].isna().all()


@pytest.mark.slow
def test_bfloat16_ranks_as_float32():
    """Half precision moves the measure by less than .002: its softmax is in float32."""
    pairs = matchlens.choose(matchlens.demo.load(), queries=12, per_grade=2)
    means = []
    for dtype in ("float32", "bfloat16"):  # short: many processors imitate bfloat16, slowly
        model = matchlens.load("demo", device="cpu", dtype=dtype, max_length=64)
        means.append(matchlens.ablation(model, pairs, cuts=["CLS->All"]).to_frame()["mean"][0])
    assert means[0] > 0.8
    assert abs(means[0] - means[1]) < 0.002
