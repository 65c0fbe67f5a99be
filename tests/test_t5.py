"""T5 and mT5: the library's scores, every way of cutting, meters, parts, studies, the checks."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.gated import gate_slopes, gated_scores
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.models.mt5 import modeling_mt5
from transformers.models.t5 import modeling_t5

import matchlens
import tiny
import tiny_t5
from matchlens import InputError, Part, gating
from matchlens.directions import Cut, Direction
from matchlens.meters.arrays import PairArray
from matchlens.meters.attention import AttentionMeter
from matchlens.models import t5
from matchlens.models.check import CheckError
from matchlens.models.load import Reranker
from matchlens.plan import Control
from matchlens.prompts import known_prompt
from matchlens.runners import run
from test_cli import call
from tiny import scores
from widened import widened

KINDS = {"t5": ("true", "false"), "mt5": ("yes", "no")}
LAYERS, ENCODER, HEADS = 5, 3, 4
CUTS = ("DEC->D", "DEC->Q@3", "Q->D", "D->D@1", "{Q,D}->All#2.1,4.0", "DEC->All")
HOWS = ("zero", "mask")


@pytest.fixture(scope="module", params=["t5", pytest.param("mt5", marks=pytest.mark.slow)])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory) -> Path:
    return tiny_t5.save(tmp_path_factory.mktemp(kind), kind)


@pytest.fixture(scope="module")
def exact(folder) -> Reranker:
    with widened():
        return matchlens.load(folder, dtype="float64", device="cpu")


@pytest.fixture
def model(exact):
    with widened():
        yield exact


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Reranker:
    return matchlens.load(tiny_t5.save(tmp_path_factory.mktemp("t5")), device="cpu")


def text(pair) -> str:
    return f"Query: {pair.query} Document: {pair.text} Relevant:"


@cache
def by_transformers(folder: Path):
    module = AutoModelForSeq2SeqLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager"
    )
    return AutoTokenizer.from_pretrained(folder), module.eval()


def library(kind: str, folder: Path, pairs, cut=None, parts=None) -> np.ndarray:
    """By transformers alone, its own attention function cut by hand where there is a cut."""
    tokenizer, module = by_transformers(folder)
    modeling = {"t5": modeling_t5, "mt5": modeling_mt5}[kind]
    yes, no = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in KINDS[kind])
    layers = [block.layer[0].SelfAttention for block in module.encoder.block]
    layers += [block.layer[1].EncDecAttention for block in module.decoder.block]
    out = []
    for number, pair in enumerate(pairs):
        inputs = tokenizer(text(pair), return_tensors="pt")

        def attention(module, query, key, value, mask, position_bias=None, number=number, **kwargs):
            logits = query @ key.mT + position_bias
            if module in layers and cut is not None:
                gone = removed(cut, parts[number], layers.index(module))
                if str(cut).endswith("mask"):
                    logits = logits.masked_fill(gone, -torch.inf)
                weights = torch.softmax(logits, -1).nan_to_num(0.0).masked_fill(gone, 0.0)
            else:
                weights = torch.softmax(logits, -1)
            return (weights @ value).transpose(1, 2), weights

        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            if cut is not None:
                patch.setattr(modeling, "eager_attention_forward", attention)
            logits = module(**inputs, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits
        out.append(float(logits[0, -1, yes] - logits[0, -1, no]))
    return np.array(out)


def removed(cut: Cut, parts, layer: int) -> torch.Tensor:
    """Which edges a cut removes, [head, row, column], by plain loops."""
    tokens = [Part(int(part)) for part in parts[1:]]
    rows = tokens if layer < ENCODER else [Part.DEC]
    heads = cut.heads_at(layer)
    edges = set(cut.edges(layer))
    gone = torch.zeros(HEADS, len(rows), len(tokens), dtype=torch.bool)
    for head in range(HEADS):
        for i, x in enumerate(rows):
            for j, y in enumerate(tokens):
                here = heads is None or head in heads
                gone[head, i, j] = here and (x, y) in edges
    return gone


def test_scores_are_the_library_s_own_in_any_batch(kind, folder, model):
    pairs = tiny.pairs(8)
    expected = library(kind, folder, pairs)
    assert np.ptp(expected) > 0.1
    for tokens in (1, 130, 10**6):
        got = scores(model, pairs, batch_tokens=tokens)[""]
        np.testing.assert_allclose(got, expected, atol=1e-10, rtol=0)


def test_scores_in_float32(folder, kind):
    pairs = tiny.pairs(8)
    got = scores(matchlens.load(folder, device="cpu"), pairs)[""]
    with widened():
        expected = library(kind, folder, pairs)
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", HOWS)
def test_cuts_are_the_library_s_own_with_its_weights_removed(kind, folder, model, how):
    pairs = tiny.pairs(4)
    parts = model.encode(pairs).parts
    got = scores(model, pairs, *(f"{cut}~{how}" for cut in CUTS))
    for cut in CUTS:
        expected = library(kind, folder, pairs, Cut.parse(f"{cut}~{how}"), parts)
        np.testing.assert_allclose(got[f"{cut}~{how}"], expected, atol=1e-10, rtol=0, err_msg=cut)
        assert np.abs(expected - got[""]).max() > 1e-3, cut


def test_padding_order_and_batch_size_change_no_cut(model):
    some = tiny.pairs(8)
    cuts = ["DEC->Q", "D->D~mask", "Q->D~mean", "DEC->D~resample", "DEC->D~mean"]
    conditions = {"": [], **{cut: [Cut.parse(cut)] for cut in cuts}}
    for control in ("edges", "mass", "rows", "scaled"):
        cut = "D->D" if control in ("rows", "scaled") else "D->D~mask"
        conditions[control] = [Control(Cut.parse(cut), control, 0)]
    whole = run(model, some, conditions)
    order = np.random.default_rng(0).permutation(len(some))
    for pairs, at, tokens in ((some, slice(None), 1), ([some[n] for n in order], order, 300)):
        got = run(model, pairs, conditions, batch_tokens=tokens)
        for name in conditions:
            found, expected = got.scores.of(name), whole.scores.of(name)[at]
            np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0, err_msg=name)
            assert name == "" or np.abs(expected - whole.scores.of("")[at]).max() > 1e-6, name


def test_the_decoder_cut_from_all_leaves_no_difference(model):
    got = scores(model, tiny.pairs(8), "DEC->All", "DEC->All~mask", "DEC->All~mean")
    assert np.ptp(got.pop("")) > 1e-3
    for cut, values in got.items():
        assert np.ptp(values) < 1e-10, cut


def test_cls_is_another_name_of_the_decoder_s_row(model):
    got = scores(model, tiny.pairs(4), "DEC->D", "CLS->D")
    np.testing.assert_array_equal(got["DEC->D"], got["CLS->D"])
    assert str(Cut.parse("{Q,DEC}->D+Q->DEC")) == "{DEC,Q}->D+Q->DEC"
    assert Cut.parse(str(Cut.parse("DEC->All@3"))) == Cut.parse("DEC->All@3")
    assert Direction.parse("DEC->Q").words == "the decoder reads the query"
    assert Direction.parse("DEC->Q") != Direction.parse("CLS->Q")
    with pytest.raises(InputError, match="CLS and DEC are one"):
        Cut.parse("CLS->DEC")


def test_a_model_without_a_decoder_has_no_dec(tmp_path):
    bert = matchlens.load(tiny.save(tmp_path), device="cpu")
    with pytest.raises(InputError, match=r"no encoder-decoder and has no DEC; .* is CLS"):
        scores(bert, tiny.pairs(2), "DEC->D")


def test_layers_read_what_their_stack_reads(model):
    pairs = tiny.pairs(4)
    out = run(model, pairs, {"": []})
    encoder, decoder = out.reach[:ENCODER].any(0), out.reach[ENCODER:].any(0)
    assert encoder[Part.Q, Part.D]
    assert not encoder[Part.DEC].any()
    assert not encoder[:, Part.DEC].any()
    assert decoder[Part.DEC, Part.D]
    assert not np.delete(decoder, Part.DEC, 0).any()
    assert not out.causal
    got = scores(model, pairs, "DEC->D@0:3", "Q->D@3:5", "D->DEC")
    for cut in ("DEC->D@0:3", "Q->D@3:5", "D->DEC"):
        np.testing.assert_allclose(got[cut], got[""], atol=1e-12, rtol=0)


def test_meters_equal_the_library_s_maps(model, folder, tmp_path):
    pairs = tiny.pairs(5)
    names = ("mass", "norm_mass", "peak", "entropy")
    arrays = {
        name: PairArray(tmp_path / f"{name}.npy", (len(pairs), LAYERS, HEADS, 5, 5))
        for name in names
    }
    meter = AttentionMeter(names, arrays)
    run(model, pairs, {"": []}, batch_tokens=150, asked=tiny.watched_by(meter))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    module, encoded = model.family.module, model.encode(pairs)
    for number, pair in enumerate(pairs):
        inputs = tokenizer(text(pair), return_tensors="pt")
        start = torch.zeros(1, 1, dtype=torch.long)
        with torch.inference_mode():
            out = module(**inputs, decoder_input_ids=start, output_attentions=True)
        parts = [Part(int(part)) for part in encoded.parts[number][1:]]
        for layer, maps in enumerate((*out.encoder_attentions, *out.cross_attentions)):
            rows = parts if layer < ENCODER else [Part.DEC]
            for x in (Part.DEC, Part.Q, Part.D):
                at = [i for i, part in enumerate(rows) if part is x]
                for y in (Part.Q, Part.D):
                    columns = [j for j, part in enumerate(parts) if part is y]
                    cell = maps[0][:, at][:, :, columns].numpy()
                    found = {name: arrays[name].mapped()[number, layer, :, x, y] for name in names}
                    mass = cell.sum(2).mean(1) if at else np.zeros(HEADS)
                    np.testing.assert_allclose(found["mass"], mass, atol=1e-6)
                    peak = cell.max((1, 2)) if at else np.zeros(HEADS)
                    np.testing.assert_allclose(found["peak"], peak, atol=1e-6)
                    if not at:
                        assert np.isnan(found["entropy"]).all()
                        assert not found["norm_mass"].any()
                    else:
                        assert (found["norm_mass"] > 0).all()


def test_parts_and_places_of_a_prompt(plain):
    pair = tiny.pairs(1)[0]
    (parts,), (ids,) = plain.encode([pair]).parts, plain.encode([pair]).ids
    assert parts[0] == Part.DEC
    assert (parts == Part.CLS).sum() == 1
    assert set(parts.tolist()) == {Part.CLS, Part.Q, Part.D, Part.OTHER}
    assert ids.tolist() == [0, *plain.tokenizer(text(pair)).input_ids]
    spans = plain.spans(pair)
    held = {"".join(
        {Part.Q: pair.query, Part.D: pair.text}[part][a:b]
        for p, a, b in zip(spans.parts, spans.starts, spans.ends, strict=True)
        if p == part
    ) for part in (Part.Q, Part.D)}  # fmt: skip
    assert {one.replace(" ", "") for one in held} == {
        one.replace(" ", "") for one in (pair.query, pair.text)
    }


def test_the_decoder_s_token_takes_no_room(folder):
    short = matchlens.load(folder, device="cpu", max_length=24)
    encoded = short.encode([matchlens.Pair("q", "d", "tea cat", "sun " * 60, 0)])
    assert encoded.lengths.tolist() == [25]
    assert encoded.truncated.all()
    assert encoded.ids[0][-1] == short.tokenizer.eos_token_id


@pytest.mark.slow
def test_studies_and_explain_through_the_command_line(tmp_path):
    folder = tiny_t5.save(tmp_path / "t5", num_heads=2)
    pairs = ["--demo", "--queries", "4", "--per-grade", "1"]
    done = call("ablation", "-m", folder, *pairs, "--out", tmp_path / "a")
    assert done.status == 0, done.err
    table = json.loads((tmp_path / "a" / "ablation" / "table1.json").read_text())
    rows = {row["cut"]: row for row in table}
    assert rows["DEC->D"]["impossible"] is None
    assert rows["Q->DEC"]["impossible"] == "the layers that are cut let Q read nothing of DEC"
    assert rows["DEC->SEP2"]["impossible"] == "the input has no SEP2"
    shown = done.out
    assert "X \\ Y  DEC" in shown
    assert "CLS stands for DEC" in shown
    assert call("attention", "-m", folder, *pairs, "--out", tmp_path / "b").status == 0
    texts = ["--query", "tea cat", "--passage", "tea is warm", "--passage", "rain far dog"]
    assert call("explain", "-m", folder, *texts, "--out", tmp_path / "c").status == 0
    assert (tmp_path / "c" / "explain.html").exists()


def test_gates_are_the_cuts(model):
    pairs = tiny.pairs(4)
    gates = np.ones((LAYERS, HEADS, 6, 6))
    gates[:, :, Part.DEC, Part.D] = 0
    gates[1, 2, Part.Q, Part.D] = 0
    cut = "DEC->D", "Q->D#1.2"
    conditions = {"both": [Cut.parse(one) for one in cut]}
    got = gated_scores(model, pairs, gates)
    np.testing.assert_allclose(got, run(model, pairs, conditions).scores.of("both"), atol=1e-10)
    slopes = gate_slopes(model, pairs).slopes
    assert np.abs(slopes[:, ENCODER:, :, Part.DEC]).max() > 1e-3
    assert not slopes[:, :ENCODER, :, Part.DEC].any()
    assert not slopes[:, ENCODER:, :, Part.Q].any()


def test_contributions_add_up(model):
    pair = tiny.pairs(1)[0]
    words = np.arange(model.encode([pair]).lengths[0])
    share = gating.integrate(model, pair, words, 128)
    assert abs(share.missed) < 0.01 * max(1.0, abs(share.score - share.without))


def test_one_label_as_rankt5_has_it(tmp_path):
    folder = tiny_t5.save(tmp_path / "rankt5-tiny")
    rerank = matchlens.load(folder, device="cpu")
    known = known_prompt("t5", "rankt5-tiny")
    assert known is not None
    assert known.name == "RankT5"
    asked = matchlens.load(folder, device="cpu", prompt=known.prompt)
    pair = tiny.pairs(1)[0]
    assert asked.tokenizer.decode(asked.encode([pair]).ids[0][-1:]) == "</s>"
    assert asked.identity["relevance"] == "z('<extra_id_10>')"
    tokenizer, module = asked.tokenizer, tiny_t5.model()
    inputs = tokenizer(f"Query: {pair.query} Document: {pair.text}", return_tensors="pt")
    with torch.inference_mode():
        logits = module(**inputs, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits
    token = tokenizer.convert_tokens_to_ids("<extra_id_10>")
    assert abs(float(logits[0, -1, token]) - scores(asked, [pair])[""][0]) < 1e-5
    assert rerank.identity["prompt"]["yes"] == "<extra_id_10>"  # by the folder's name


# --- refusals and the check at load


def changed(folder: Path, target: Path, **settings) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config.update(settings)
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"architectures": ["T5ForSequenceClassification"]}, "no ForConditionalGeneration"),
        ({"architectures": ["T5EncoderModel"]}, "no ForConditionalGeneration"),
        ({"num_decoder_layers": 10**6}, "num_decoder_layers in config.json is 1000000"),
        ({"num_decoder_layers": 3}, "weights do not fit"),
        ({"num_decoder_layers": 1}, "weights are not used"),
        ({"decoder_start_token_id": None}, "no decoder_start_token_id"),
    ],
)
def test_what_is_no_such_model_is_refused(folder, kind, tmp_path, settings, says):
    with pytest.raises(InputError, match=f"^model .*{says}"):
        matchlens.load(changed(folder, tmp_path / kind, **settings), device="cpu")


def wrong_answer(monkeypatch):
    score = t5.T5.score

    def other(self, states, parts):
        self.yes, before = self.yes + 1, self.yes
        try:
            return score(self, states, parts)
        finally:
            self.yes = before

    monkeypatch.setattr(t5.T5, "score", other)


def wrong_answer_everywhere(monkeypatch):
    monkeypatch.setattr(t5.T5, "answers", property(lambda self: [self.no, self.yes + 1]))


def no_position_bias(monkeypatch):
    monkeypatch.setattr(t5.T5, "_positions", lambda self, query: None)


def scaled_logits(monkeypatch):
    attended = t5.T5._attended
    monkeypatch.setattr(
        t5.T5, "_attended", lambda self, query, *more: attended(self, query * 0.5, *more)
    )


def unscaled_head(monkeypatch):
    monkeypatch.setattr(t5, "getattr", lambda *a: False, raising=False)


def decoder_reads_itself_no_more(monkeypatch):
    decoded = t5.T5._decoded

    def without(self, index, states, call):
        own = self.layers[index].layer[0].SelfAttention
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(own.o, "forward", lambda states: 0 * states[..., :1] + torch.zeros(32))
            return decoded(self, index, states, call)

    monkeypatch.setattr(t5.T5, "_decoded", without)


def prompt_dropped(monkeypatch):
    from matchlens.models import load as loading

    rows = loading.prompted_rows

    def without(tokenizer, pairs, max_length, prompt, *more):
        bare = prompt.changed({"pieces": ["{query} {passage} ."]})
        return rows(tokenizer, pairs, max_length, bare, *more)

    monkeypatch.setattr(loading, "prompted_rows", without)


@pytest.mark.parametrize(
    ("sabotage", "says"),
    [
        (wrong_answer, "differ from the library's own"),
        (wrong_answer_everywhere, "off the logits of z\\('true'\\) - z\\('false'\\)"),
        (no_position_bias, "attends otherwise than the library's"),
        (scaled_logits, "attends otherwise than the library's"),
        (unscaled_head, "differ from the library's own"),
        (decoder_reads_itself_no_more, "differ from the library's own"),
        (prompt_dropped, "not encoded in the prompt, piece by piece"),
    ],
)
def test_a_saboteur_is_caught(tmp_path, monkeypatch, sabotage, says):
    folder = tiny_t5.save(tmp_path)
    matchlens.load(folder, device="cpu")
    sabotage(monkeypatch)
    with pytest.raises(CheckError, match=says):
        matchlens.load(folder, device="cpu")


def test_a_wrapped_t5_is_the_loaded_one(kind, folder):
    pairs = tiny.pairs(6)
    module = AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    mine = matchlens.wrap(module, AutoTokenizer.from_pretrained(folder), name="mine")
    loaded = matchlens.load(folder, device="cpu")
    for cut in ("", "DEC->D"):
        got, expected = (scores(one, pairs, *([cut] if cut else []))[cut] for one in (mine, loaded))
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert module.config._attn_implementation == "sdpa"
