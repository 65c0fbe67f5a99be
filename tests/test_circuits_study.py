"""The circuits study: its tables against dense states, its halves, what it runs and refuses."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from transformers import BertConfig, BertForMaskedLM

import attention_reference
import matchlens
import tiny as tiny_models
from matchlens import qk as circuits
from matchlens.corpora import EASY_GRADE, choose, demo
from matchlens.models.base import load_base
from matchlens.models.words import vocabulary
from matchlens.parts import Part
from matchlens.report.views import text_of
from matchlens.studies.attention.contrasts import Classes, contrast_table
from matchlens.studies.circuits import circuits as options
from matchlens.studies.circuits.tables import resamples_of
from matchlens.studies.common import half
from test_sweeps import rows_by_layer

Q, D, SEP2 = Part.Q, Part.D, Part.SEP2


@pytest.fixture(
    scope="module",
    params=[
        *("bert", "deberta-v2"),
        *(pytest.param(family, marks=pytest.mark.slow) for family in ("distilbert", "mpnet")),
    ],
)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return matchlens.load(
        tiny_models.save(folder, family=request.param, layers=2), dtype="float64", device="cpu"
    )


@pytest.fixture(scope="module")
def pairs():
    return choose(demo.load(), queries=6, per_grade=1, easy=2)


@pytest.fixture(scope="module")
def dense(model, pairs):
    """Parts, attention and layer inputs of each pair, by the library's own eager code."""
    out = []
    for pair in pairs.pairs:
        encoded, attention, states = attention_reference.maps(model, pair)
        layers = model.family.n_layers
        out.append((encoded, attention, torch.stack(states[:layers])[:, 0]))
    return out


@pytest.fixture(scope="module")
def result(model, pairs):
    return matchlens.circuits(model, pairs, top=3, matches=7, same_token=True)


def kind(pair) -> str | None:
    return {EASY_GRADE: "easy", 0: "hard", 1: None}.get(pair.grade, "relevant")


def slow_mean(pairs, dense, parts) -> np.ndarray:
    """Tokens, passages of a class, classes, queries of half 0: a mean of each."""
    seen = defaultdict(lambda: defaultdict(list))
    for pair, (encoded, _, states) in zip(pairs.pairs, dense, strict=True):
        if half(pair.qid, 0) == 0 and kind(pair) is not None:
            inside = np.isin(encoded.parts[0], parts)
            seen[pair.qid][kind(pair)].append(states[:, inside].mean(1).numpy())
    return np.mean(
        [
            np.mean([np.mean(passages, axis=0) for passages in classes.values()], axis=0)
            for classes in seen.values()
        ],
        axis=0,
    )


def layers_of(model):
    return [model.family.qk(layer) for layer in range(model.family.n_layers)]


def test_means_and_logits_are_those_of_dense_states(model, pairs, dense, result):
    query, document = (slow_mean(pairs, dense, [part]) for part in (Q, D))
    for name, mean in (("query_mean", query), ("document_mean", document)):
        array = result.array(name)
        assert (array.dtype, array.shape) == (np.float32, mean.shape)
        np.testing.assert_allclose(array, mean, atol=1e-6)
    expected = circuits.mean_logits(layers_of(model), query, document)
    heads = result.to_frame("heads")
    for name, values in expected.logits.items():
        np.testing.assert_allclose(heads[name], values.ravel(), atol=1e-8)
    for name in circuits.CONTRASTS:
        np.testing.assert_allclose(heads[name], expected.contrast(name).ravel(), atol=1e-8)
    other = matchlens.circuits(
        model, pairs, top=0, biases=True, divided=True, contrast="DQ-DD", variant="above"
    )
    expected = circuits.mean_logits(layers_of(model), query, document, biases=True, divided=True)
    for name, values in expected.logits.items():
        np.testing.assert_allclose(other.to_frame("heads")[name], values.ravel(), atol=1e-8)
    assert set(other.to_frame("associations")["contrast"]) == {"DQ-DD", "QD-QQ"}
    assert {"matches", "vocabulary"}.isdisjoint(other.tables)


def test_what_stands_beside_the_weights_is_said(model, result):
    said = [note for note in result.notes if "distance" in note]
    beside = {qk.beside for qk in layers_of(model)} - {""}
    assert said == sorted(beside)
    assert len(said) == (model.family.module.config.model_type in ("deberta-v2", "mpnet"))


def test_weights_columns_are_the_core_s(model, result):
    heads = result.to_frame("heads")
    for layer, qk in enumerate(layers_of(model)):
        mine = heads[heads["layer"] == layer]
        found = circuits.triplets(qk)
        null, turned = circuits.gaussian_null(qk), circuits.rotation_null(found)
        apart = circuits.crossed(qk)
        expected = {
            "alignment": circuits.alignment(qk),
            "alignment_positive": found.alignment("positive"),
            "alignment_above": found.alignment("above"),
            "normalised": found.normalised(),
            "singular_sum": found.values.sum(1),
            "null_sd": null.alignment_sd,
            "z": circuits.alignment(qk) / null.alignment_sd,
            "rotation_sd": turned.alignment_sd,
            "crossed_mean": np.full(4, apart.mean),
            "crossed_sd": np.full(4, apart.sd),
            "symmetric_share": circuits.symmetric_share(qk),
        }
        assert mine["head"].tolist() == [0, 1, 2, 3]
        for name, values in expected.items():
            np.testing.assert_allclose(mine[name], values, rtol=1e-10, err_msg=name)


def test_colours_are_the_other_half_s_differences(pairs, dense, result):
    """Mean over rows of X of the attention on Y, by the maps; relevant less easy by query."""
    heads = result.to_frame("heads")
    for name, (x, y) in {"mass_QD": (Q, D), "mass_DQ": (D, Q)}.items():
        by_query = defaultdict(lambda: defaultdict(list))
        every = []
        for pair, (encoded, attention, _) in zip(pairs.pairs, dense, strict=True):
            rows, columns = (encoded.parts[0] == part for part in (x, y))
            mass = attention[:, :, rows][..., columns].sum(-1).mean(-1)
            every.append(mass)
            if half(pair.qid, 0) == 1:
                by_query[pair.qid][kind(pair)].append(mass)
        apart = [
            np.mean(classes["relevant"], axis=0) - np.mean(classes["easy"], axis=0)
            for classes in by_query.values()
            if "relevant" in classes
        ]
        np.testing.assert_allclose(heads[name], np.mean(apart, axis=0).ravel(), atol=1e-7)
        mine = Classes.of(pairs.pairs).only([half(pair.qid, 0) == 1 for pair in pairs.pairs])
        table = contrast_table(np.stack(every), mine, "relevant-easy")
        np.testing.assert_allclose(heads[f"{name}_q"], table["q"], rtol=1e-3)
        np.testing.assert_allclose(heads[f"{name}_auc"], table["auc"])


def test_the_same_token_share_is_weighted_by_mass(pairs, dense, result):
    same, whole = 0.0, 0.0
    for pair, (encoded, attention, _) in zip(pairs.pairs, dense, strict=True):
        if half(pair.qid, 0) == 0 or kind(pair) is None:
            continue
        rows, columns = (np.flatnonzero(encoded.parts[0] == part) for part in (Q, D))
        a = attention[:, :, rows][..., columns]
        equal = encoded.ids[0][rows][:, None] == encoded.ids[0][columns]
        same = same + (a * equal).sum(-1).mean(-1)
        whole = whole + a.sum(-1).mean(-1)
    heads = result.to_frame("heads")
    np.testing.assert_allclose(heads["same_token_QD"], (same / whole).ravel(), atol=1e-5)
    assert "same-token share in context" in text_of(result)


def test_the_contrast_in_resampled_queries_is_that_of_means_made_anew(model, pairs, dense, result):
    """Each resample by hand: the queries of the first half as often as they were drawn."""
    mine = [qid for qid in sorted({pair.qid for pair in pairs.pairs}) if half(qid, 0) == 0]
    apart = {}
    for qid in mine:
        at = [place for place, pair in enumerate(pairs.pairs) if pair.qid == qid]
        some = replace(pairs, pairs=tuple(pairs.pairs[place] for place in at))
        sides = [slow_mean(some, [dense[place] for place in at], [part]) for part in (Q, D)]
        apart[qid] = np.stack(sides)
    order = sorted(mine, key=lambda qid: repr((pairs.pairs[0].collection, qid)))
    weights = resamples_of(["demo"] * len(order), 0)
    held = result.array("contrast_resampled")
    assert held.shape == (len(weights), 2, 4)
    for place in range(0, len(weights), 100):
        q, d = sum(w * apart[qid] for w, qid in zip(weights[place], order, strict=True))
        expected = circuits.mean_logits(layers_of(model), q, d).contrast("QD-DD")
        np.testing.assert_allclose(held[place], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 3, -2])
def test_the_halves_of_the_queries_are_drawn_apart(seed):
    first, second = (resamples_of(["demo"] * 9, seed, half=half) for half in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_intervals_of_a_colour_are_drawn_from_the_second_half_s_own_numbers(
    model, pairs, result, monkeypatch
):
    halves = []

    def drawn(collections, seed, *, half=0):
        halves.append(half)
        return resamples_of(collections, seed, half=half)

    monkeypatch.setattr("matchlens.studies.circuits.circuits.resamples_of", drawn)
    matchlens.circuits(model, pairs, top=0, most_pairs=9)
    assert halves == [0, 1, 1]


def test_heads_that_share_one_key_head_are_not_called_crossed(result):
    shared = replace(
        result, tables={**result.tables, "heads": result.to_frame("heads").assign(crossed_z=np.nan)}
    )
    assert "above crossed heads" in " ".join(text_of(result).split())
    text = " ".join(text_of(shared).split())
    assert "above crossed heads" not in text
    assert "share one key head, so that none is crossed" in text


def test_intervals_over_queries_are_those_of_resampled_correlations(result):
    heads, table = result.to_frame("heads"), result.to_frame("associations")
    row = table[(table["contrast"] == "QD-DD") & (table["second"] == "contrast")].iloc[0]
    moved = result.array("contrast_resampled").reshape(-1, len(heads))
    rhos = [spearmanr(heads["alignment"], one).statistic for one in moved]
    low, high = np.percentile(rhos, [2.5, 97.5])
    assert row["query_low"] == pytest.approx(low, abs=1e-3)
    assert row["query_high"] == pytest.approx(high, abs=1e-3)
    coloured = table[table["second"] == "colour"]
    assert (coloured["query_low"] < coloured["query_high"]).all()
    assert "95% (queries)" in text_of(result)


def test_associations_are_the_core_s(result):
    heads, table = result.to_frame("heads"), result.to_frame("associations")
    assert len(table) == 6
    for row in table.itertuples():
        colour = {"QD-DD": "mass_QD", "DQ-QQ": "mass_DQ"}[row.contrast]
        columns = {"alignment": "alignment", "contrast": row.contrast, "colour": colour}
        x, y = (heads[columns[name]].to_numpy().reshape(2, 4) for name in (row.first, row.second))
        expected = circuits.spearman(x, y)
        for name in ("rho", "p", "by_layer", "low", "high"):
            assert getattr(row, name) == getattr(expected, name)


def test_shares_are_the_core_s_on_dense_states_of_the_other_half(model, pairs, dense, result):
    query, document = (slow_mean(pairs, dense, [part]) for part in (Q, D))
    core = circuits.Hypothesis(layers_of(model), query, document)
    for pair, (encoded, _, states) in zip(pairs.pairs, dense, strict=True):
        if half(pair.qid, 0) == 1:
            parts = torch.from_numpy(encoded.parts[0].astype(np.int64))[None]
            for layer in range(model.family.n_layers):
                core.observe(layer, states[layer][None], parts)
    expected = core.result()
    shares, logits = result.to_frame("shares"), result.to_frame("logits")
    assert len(shares) == 2 * 4 * 4 * 5
    for row in shares.itertuples():
        at = expected.directions.index(row.direction), row.head, expected.terms.index(row.term)
        assert row.share == pytest.approx(expected.share[row.layer][at], abs=1e-7)
    for row in logits.itertuples():
        place = (row.layer, expected.directions.index(row.direction), row.head)
        assert row.constant == pytest.approx(expected.constant[place], abs=1e-7)
        assert row.mean == pytest.approx(expected.mean[place], abs=1e-7)
        assert row.variance == pytest.approx(expected.variance[place], rel=1e-6)
        assert row.token_pairs == expected.token_pairs[place[:2]]
        by_term = dict(zip(expected.terms, expected.share[place], strict=True))
        assert row.matching == pytest.approx(by_term["matching"], abs=1e-7)
        assert row.cross == pytest.approx(by_term["cross_read"] + by_term["cross_reader"], abs=1e-7)
        crosses = (by_term["cross_read"], by_term["cross_reader"])
        assert row.holds == all(abs(cross) <= options.CROSS for cross in crosses)
    totals = shares.groupby(["layer", "head", "direction"])["share"].sum()
    np.testing.assert_allclose(totals, 1, atol=1e-9)


def test_means_come_from_one_half_and_colours_from_the_other(tiny, pairs):
    def changed(which):
        def words(pair):
            return "tea ship " * 6 if half(pair.qid, 0) == which else pair.text

        return replace(pairs, pairs=tuple(replace(pair, text=words(pair)) for pair in pairs.pairs))

    before, zero, one = (
        matchlens.circuits(tiny, each, top=0) for each in (pairs, changed(0), changed(1))
    )
    for name in ("query_mean", "document_mean"):
        np.testing.assert_allclose(one.array(name), before.array(name), atol=1e-6)
        assert np.abs(zero.array(name) - before.array(name)).max() > 1e-3
    colours = [each.to_frame("heads")["mass_QD"].to_numpy() for each in (before, zero, one)]
    np.testing.assert_allclose(colours[1], colours[0], atol=1e-7)
    np.testing.assert_allclose(colours[2], 0, atol=1e-7)  # all passages of a query are the same


def test_two_passes_and_no_more(model, pairs, monkeypatch):
    rows = rows_by_layer(model, monkeypatch)
    done = matchlens.circuits(model, pairs, top=1, most_pairs=8)
    few = done.options["pairs_of_hypothesis"]
    assert 0 < few <= 8
    assert rows[-1] == len(pairs.pairs) + few  # one row for each pair
    tokens, less = int(done.pairs["tokens"].sum()), len(pairs.pairs) + few
    longest = int(done.pairs["tokens"].max())
    assert rows[:-1] == [rows[0]] * (model.family.n_layers - 1)
    assert tokens <= rows[0] <= less * longest  # padding lies between
    assert done.scores["pair"].tolist() == list(range(len(pairs.pairs)))
    np.testing.assert_allclose(done.scores["score"], matchlens.score(model, pairs.pairs)[""])


def test_the_authors_document_has_its_separator(model, pairs, dense):
    found = matchlens.circuits(model, pairs, top=0, preset="authors")
    np.testing.assert_allclose(
        found.array("document_mean"), slow_mean(pairs, dense, [D, SEP2]), atol=1e-6
    )
    assert found.options["document_parts"] == ["D", "SEP2"]


def test_heads_that_are_looked_at(model, pairs, result):
    heads = result.to_frame("heads").sort_values("alignment", ascending=False)
    best = [f"{row.layer}.{row.head}" for row in heads.head(3).itertuples()]
    assert result.options["heads_looked_at"] == best
    words = vocabulary(model)
    for name, group in result.to_frame("matches").groupby(["layer", "head"], sort=False):
        layer, head = (int(one) for one in name)  # older pandas: of NumPy
        core = circuits.strongest_matches(
            model.family.qk(layer), head, words.query, words.document, top=7
        )
        assert group["reader"].tolist() == [words.tokens[row] for row in core.readers]
        assert group["read"].tolist() == [words.tokens[row] for row in core.read]
        np.testing.assert_allclose(group["logit"], core.logits)
    named = matchlens.circuits(model, pairs, heads=["1.3", (0, 2)], matches=1)
    assert named.options["heads_looked_at"] == ["1.3", "0.2"]
    assert len(named.to_frame("matches")) == 2


@pytest.mark.parametrize(
    "family", [name for name in tiny_models.FAMILIES if name != "modernbert"]
)  # ModernBERT's positions turn queries and keys: its circuits are refused
def test_static_vectors_are_the_embeddings_without_positions(family, tmp_path):
    """Where all positions have the same embedding, they are what layer 0 reads."""
    reranker = matchlens.load(tiny_models.save(tmp_path, family=family), device="cpu")
    positions = reranker.family.module.base_model.embeddings.position_embeddings
    first = 0 if positions.padding_idx is None else positions.padding_idx + 1
    positions.weight[first:] = positions.weight[first + 5]
    positions.weight[:first] = 7.0  # what is no position never matters
    words = vocabulary(reranker)
    assert words.left_out == 5
    assert len(words.tokens) == len(reranker.tokenizer.get_vocab()) - 5
    from matchlens.engine import collated

    batch = collated(reranker, [matchlens.Pair("q", "d", "cat sat", "warm tea", 1)])
    states = reranker.family.embed(batch)[0]
    for place, (part, token) in enumerate(
        zip(batch.parts[0].tolist(), batch.input_ids[0].tolist(), strict=True)
    ):
        if part in (Q, D):
            vectors = words.query if part == Q else words.document
            row = words.ids.tolist().index(token)
            torch.testing.assert_close(vectors[row], states[place], atol=1e-5, rtol=0)


def test_added_tokens_without_an_embedding_are_left_out_of_the_vocabulary(tmp_path):
    tokens = tiny_models.tokenizer()
    tokens.add_tokens(["beyond"])
    reranker = matchlens.load(tiny_models.put(tmp_path, tiny_models.model(), tokens), device="cpu")
    words = vocabulary(reranker)
    assert words.left_out == 6
    assert "beyond" not in words.tokens
    assert len(words.query) == len(reranker.tokenizer.get_vocab()) - 6


def test_a_base_model_needs_no_head_and_no_tokenizer(tiny, tiny_folder, pairs, tmp_path):
    same = matchlens.circuits(tiny, pairs, top=0, base=tiny_folder).to_frame("heads")
    np.testing.assert_allclose(same["base_change"], 0, atol=1e-5)
    np.testing.assert_allclose(same["base_z"], same["z"], atol=1e-5)
    config = {"vocab_size": 50, "num_attention_heads": 4, "intermediate_size": 8}
    for name, width in (("language", 32), ("wide", 64)):
        BertForMaskedLM(
            BertConfig(hidden_size=width, num_hidden_layers=3, **config)
        ).save_pretrained(tmp_path / name)
    base = load_base(tmp_path / "language")
    BertForMaskedLM.from_pretrained(tmp_path / "language").bert.save_pretrained(tmp_path / "bare")
    for one, other in zip(load_base(tmp_path / "bare").layers, base.layers, strict=True):
        torch.testing.assert_close(one.key, other.key)  # no head and no prefix in the names
    weights = load_file(tmp_path / "bare/model.safetensors")
    lost = "encoder.layer.1.attention.self.key.weight"
    del weights[lost]
    save_file(weights, tmp_path / "bare/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(matchlens.InputError, match=f"no weight .*{lost}"):
        load_base(tmp_path / "bare")
    found = matchlens.circuits(tiny, pairs, top=0, base=base)
    heads = found.to_frame("heads")
    expected = np.concatenate([circuits.alignment(qk) for qk in base.layers])
    np.testing.assert_allclose(heads["base_alignment"], expected)
    np.testing.assert_allclose(heads["base_change"], heads["alignment"] - expected)
    assert found.options["base"]["name"] == "language"
    assert "before: the same head of language" in text_of(found)
    with pytest.raises(matchlens.InputError, match="3 x 4 x 64"):
        matchlens.circuits(tiny, pairs, base=tmp_path / "wide")


def test_saved_and_read_back(result, tmp_path):
    result.save(tmp_path / "out")
    back = matchlens.Result.load(tmp_path / "out", "circuits")
    assert set(back.tables) == set(result.tables)
    for name in result.tables:
        pd.testing.assert_frame_equal(back.to_frame(name), result.to_frame(name))
    for name in ("query_mean", "document_mean"):
        np.testing.assert_array_equal(back.array(name), result.array(name))
    assert sorted(path.name for path in (tmp_path / "out/meters").iterdir()) == [
        "contrast_resampled.npy",
        "document_mean.npy",
        "query_mean.npy",
    ]
    assert text_of(back) == text_of(result)


def test_a_model_without_such_matrices_is_refused_before_anything_runs(tiny, pairs, monkeypatch):
    rows = rows_by_layer(tiny, monkeypatch)

    def none(layer):
        raise matchlens.InputError("it has no query-key matrix")

    monkeypatch.setattr(tiny.family, "qk", none)
    with pytest.raises(matchlens.InputError, match="it has no query-key matrix"):
        matchlens.circuits(tiny, pairs)
    assert rows == [0] * tiny.family.n_layers


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ({"contrast": "DD-QD"}, "contrast 'DD-QD' is not known"),
        ({"variant": "most"}, "variant 'most' is not known"),
        ({"top": -1}, "top is -1"),
        ({"matches": 0}, "matches is 0"),
        ({"heads": ["9.0"]}, "layer 9"),
        ({"heads": ["x"]}, "head 'x': expected layer.head"),
        ({"heads": []}, "no head is named"),
        ({"preset": "mine"}, "preset 'mine'"),
        ({"most_pairs": 0}, "at most 0 pairs"),
        ({"rel": 9}, "the highest grade of these judgements is 3"),
        ({"base": "no/such/place/at/all"}, "no model folder"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(tiny, pairs, monkeypatch, given, fragment):
    rows = rows_by_layer(tiny, monkeypatch)
    with pytest.raises(matchlens.InputError, match=fragment):
        matchlens.circuits(tiny, pairs, **given)
    assert rows == [0] * tiny.family.n_layers


def test_a_half_without_what_it_needs_is_said(tiny, pairs, monkeypatch):
    by_half = {
        which: replace(
            pairs, pairs=tuple(pair for pair in pairs.pairs if half(pair.qid, 0) == which)
        )
        for which in (0, 1)
    }
    with pytest.raises(matchlens.InputError, match="give the colours of the plot"):
        matchlens.circuits(tiny, by_half[0])
    with pytest.raises(matchlens.InputError, match="give the mean states"):
        matchlens.circuits(tiny, by_half[1])
    hard = replace(pairs, pairs=tuple(pair for pair in pairs.pairs if pair.grade >= 0))
    with pytest.raises(matchlens.InputError, match="--easy"):
        matchlens.circuits(tiny, hard)


def test_the_names_known_without_torch_are_the_core_s():
    assert tuple(circuits.CONTRASTS) == options.CONTRASTS
    assert set(options.COMPANIONS) == set(options.CONTRASTS)


@pytest.mark.real
def test_logits_rebuilt_are_the_real_model_s(demo_model):
    """Invariant 7: differences of log attention inside a row are those of the rebuilt logits."""
    chosen = choose(demo.load(), queries=2, per_grade=1).pairs
    for pair in (chosen[0], chosen[-1]):
        _, attention, states = attention_reference.maps(demo_model, pair)
        for layer in range(demo_model.family.n_layers):
            qk = demo_model.family.qk(layer)
            x = states[layer][0].double()
            a = torch.from_numpy(attention[layer])
            query = torch.einsum("hkd,td->htk", qk.query.double(), x) + qk.query_bias[:, None]
            key = torch.einsum("hkd,td->htk", qk.keys.double(), x) + qk.key_biases[:, None]
            logits = query @ key.mT * qk.scale
            most = a.argmax(-1, keepdim=True)
            apart = logits - logits.gather(-1, most)
            said = a.log() - a.log().gather(-1, most)
            seen = a > 1e-30  # below, float32 has no digits left
            assert seen.double().mean() > 0.99
            assert float((apart - said)[seen].abs().max()) < 1e-4
            assert math.isclose(qk.scale, 32**-0.5)
