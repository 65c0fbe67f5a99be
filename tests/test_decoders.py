"""Decoder rerankers and ModernBERT's mean: the library's scores, bands, every way of cutting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.qwen3 import modeling_qwen3

import attention_reference
import matchlens
import reference
import tiny as tiny_models
import tiny_decoders
from matchlens import InputError, Part
from matchlens.directions import Cut
from matchlens.meters.arrays import PairArray
from matchlens.meters.attention import NAMES, AttentionMeter, Reading
from matchlens.meters.received import READERS, ReceivedMeter
from matchlens.models import decoder
from matchlens.models.base import load_base
from matchlens.models.load import Reranker
from matchlens.models.packed import as_the_library
from matchlens.models.part_layout import LayerMask
from matchlens.models.words import Static, words_of
from matchlens.plan import Control
from matchlens.prompts import Prompt
from matchlens.runners import run
from tiny import scores
from widened import widened

KINDS = (
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "llama",
    "mistral",
    "qwen2",
    "qwen3-classifier",
    "llama-classifier",
    "modernbert-mean",
)
QUICK = ("qwen3", "gemma2", "llama-classifier", "modernbert-mean")
"""Kinds that the quick tests take: norms of heads, sliding windows, a classifier, a mean."""
LAYERS, HEADS = 2, 4


def saved(kind: str, folder: Path, **settings) -> Path:
    settings = {"layers": LAYERS, "heads": HEADS, "seed": 2, **settings}
    name, _, what = kind.partition("-")
    if what == "mean":
        return tiny_models.save(folder, name, classifier_pooling="mean", **settings)
    if what == "classifier":
        settings["labels"] = 1
    return tiny_decoders.save(folder, name, **settings)


def loaded(kind: str, folder: Path) -> Reranker:
    """A classifier is asked in its type's prompt as a causal model is."""
    prompt = prompt_of(kind)
    return matchlens.load(folder, dtype="float64", device="cpu", prompt=prompt)


def prompt_of(kind: str) -> Prompt | None:
    """The prompt that must be given; None where the type has one."""
    name, _, what = kind.partition("-")
    given = what == "classifier" or name in ("llama", "mistral", "gemma3_text")
    return tiny_decoders.PROMPTS[name] if given else None


MARKED = [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in KINDS]


@pytest.fixture(scope="module", params=MARKED)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory) -> Path:
    return saved(kind, tmp_path_factory.mktemp(kind))


@pytest.fixture(scope="module")
def unrounded():
    with widened():
        yield


@pytest.fixture(scope="module")
def model(kind, folder, unrounded) -> Reranker:
    return loaded(kind, folder)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Reranker:
    return matchlens.load(saved("qwen3", tmp_path_factory.mktemp("qwen")), device="cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_that_a_gpu_runs_is_the_librarys_bit_for_bit(dtype):
    norm = modeling_qwen3.Qwen3RMSNorm(64).to(dtype)
    torch.nn.init.normal_(norm.weight, mean=1, std=0.3)
    states = torch.randn(50, 7, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = norm(states)
    decoder.fuse_norms(torch.nn.ModuleList([norm]))
    assert type(norm) is decoder.FusedNorm
    assert torch.equal(norm(states), expected)
    with pytest.MonkeyPatch.context() as patch, as_the_library():
        patch.setattr(torch.nn.functional, "rms_norm", None)  # a check's reference does without it
        assert torch.equal(norm(states), expected)


def some_pairs(kind: str) -> list:
    return tiny_models.pairs(10 if kind == "modernbert-mean" else 8)


# --- the library's own scores, by the models' own recipes


def card_ids(kind: str, tokenizer, pairs) -> list[list[int]]:
    """Token ids as the models' own code makes them."""
    prompt = tiny_decoders.PROMPTS[kind.partition("-")[0]]
    if kind.startswith("qwen3"):
        prefix, suffix = (
            tokenizer.encode(text, add_special_tokens=False)
            for text in (prompt.pieces[0], prompt.pieces[2])
        )
        texts = [
            f"<Instruct>: {prompt.instruction}\n<Query>: {pair.query}\n<Document>: {pair.text}"
            for pair in pairs
        ]
        inputs = tokenizer(texts, padding=False, truncation="longest_first", max_length=10**4)
        return [prefix + ids + suffix for ids in inputs["input_ids"]]
    one = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    if kind.startswith("qwen2"):  # as mxbai-rerank's own code does it
        before, after, task = prompt.pieces[0], prompt.pieces[-1], prompt.pieces[-2]
        return [
            one(before) + one(f"query: {pair.query}") + one("\n") + one(f"document: {pair.text}")
            + one("\n") + one(task) + one(after)
            for pair in pairs
        ]  # fmt: skip
    if kind.startswith(("llama", "mistral", "gemma3")):
        begin = [tokenizer.bos_token_id]
        return [
            begin + one(f"query: {pair.query}\n") + one(f"passage: {pair.text}")
            + one("\nRelevant:")
            for pair in pairs
        ]  # fmt: skip
    return [
        [
            tokenizer.bos_token_id,
            *one(f"A: {pair.query}"),
            *one("\n"),
            *one(f"B: {pair.text}"),
            *one("\n"),
            *one(prompt.instruction),
        ]
        for pair in pairs
    ]


def library_scores(kind: str, folder: Path, pairs, batch: int, dtype) -> np.ndarray:
    """By transformers alone: its tokenizer, its padding, its eager attention."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    classifies = "-" in kind
    auto = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    module = auto.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    out = []
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        if kind == "modernbert-mean":
            texts = [pair.query for pair in some], [pair.text for pair in some]
            inputs = tokenizer(*texts, padding=True, return_tensors="pt")
            inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        else:
            ids = {"input_ids": card_ids(kind, tokenizer, some)}
            inputs = tokenizer.pad(ids, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = module(**inputs).logits.double()
        if classifies:
            out.append(logits[:, 0])
        elif kind not in ("gemma", "gemma2"):
            words = ("1", "0") if kind == "qwen2" else ("yes", "no")
            yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words)
            out.append(logits[:, -1, yes] - logits[:, -1, no])
        else:
            yes = tokenizer("Yes", add_special_tokens=False)["input_ids"][0]
            out.append(logits[:, -1, yes])
    return torch.cat(out).numpy()


@pytest.mark.parametrize("batch", [1, 8])
def test_scores_are_the_library_s_own_in_any_batch(kind, folder, model, batch):
    pairs = some_pairs(kind)
    expected = library_scores(kind, folder, pairs, batch, torch.float64)
    assert np.ptp(expected) > 0.1
    for tokens in (1, 300, 10**6):
        got = scores(model, pairs, batch_tokens=tokens)[""]
        np.testing.assert_allclose(got, expected, atol=1e-10, rtol=0)


def test_one_layer_is_the_first_and_the_last(kind, unrounded, tmp_path):
    wide = {"sliding_window": 200} if kind == "gemma2" else {}  # or its score reads no passage
    folder, pairs = saved(kind, tmp_path, layers=1, **wide), some_pairs(kind)[:3]
    model = loaded(kind, folder)
    expected = library_scores(kind, folder, pairs, 3, torch.float64)
    np.testing.assert_allclose(scores(model, pairs)[""], expected, atol=1e-10, rtol=0)


def test_bands_are_what_the_config_says(model, kind):
    found = [model.family.band(layer) for layer in range(LAYERS)]
    assert (
        found
        == {
            "qwen3": [LayerMask(True), LayerMask(True, 47)],
            "qwen3-classifier": [LayerMask(True), LayerMask(True, 47)],
            "gemma": [LayerMask(True), LayerMask(True)],
            "llama": [LayerMask(True), LayerMask(True)],
            "llama-classifier": [LayerMask(True), LayerMask(True)],
            "mistral": [LayerMask(True, 59), LayerMask(True, 59)],
            "qwen2": [LayerMask(True, 47), LayerMask(True)],
            "gemma2": [LayerMask(True, 23), LayerMask(True)],
            "gemma3_text": [LayerMask(True, 39), LayerMask(True)],
            "modernbert-mean": [LayerMask(), LayerMask(window=10)],
        }[kind]
    )


# --- cuts


@pytest.mark.slow
@pytest.mark.parametrize("how", ["zero", "mask", "mean", "resample"])
def test_every_how_equals_the_reference(model, kind, how):
    pairs = tiny_models.pairs(5)
    few = [pairs[n] for n in (0, 4)]  # of one query
    slow = how in ("mean", "resample") or kind == "qwen2"  # its prompt is long
    cuts = ("{CLS,D}->All#0.1,1.0", "D->Q")[: 1 if slow else 2]
    names = [f"{cut}~{how}" for cut in cuts]
    reference.assert_equal(model, few, names, scores(model, few, *names))


def test_padding_order_and_batch_size_change_no_cut(model, kind):
    """Invariant 3, controls included."""
    some = some_pairs(kind)
    cuts = ["D->Q", "D->D~mask", "CLS->Q~mean", "D->Q~resample"]
    conditions = {"": [], **{cut: [Cut.parse(cut)] for cut in cuts}}
    for control in ("edges", "mass"):
        conditions[control] = [Control(Cut.parse("D->D~mask"), control, 0)]
    whole = run(model, some, conditions)
    order = np.random.default_rng(0).permutation(len(some))
    shuffled = [some[place] for place in order]
    for pairs, at, tokens in ((some, slice(None), 1), (shuffled, order, 400)):
        got = run(model, pairs, conditions, batch_tokens=tokens)
        for name in conditions:
            found, expected = got.scores.of(name), whole.scores.of(name)[at]
            np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0, err_msg=name)
            assert name == "" or np.abs(expected - whole.scores.of("")[at]).max() > 1e-6


def test_what_the_score_reads_cut_from_all_leaves_no_difference(model, kind):
    """Invariant 4; a mean over all rows still knows the words, but not their order."""
    pairs = some_pairs(kind)
    if kind == "modernbert-mean":
        turned = " ".join(reversed(pairs[0].text.split()))
        pairs = [pairs[0], matchlens.Pair("q0", "t", pairs[0].query, turned, 0)]
        rows = "{CLS,Q,SEP1,D,SEP2}"
    else:
        rows = "CLS"
    got = scores(model, pairs, f"{rows}->All", f"{rows}->All~mask")
    assert np.ptp(got.pop("")) > 1e-3
    for cut, values in got.items():
        assert np.ptp(values) < 1e-10, cut


def test_only_rows_that_the_score_reads_pass_the_last_layer(model, kind):
    shapes = []
    hooks = [
        layer.mlp.register_forward_hook(lambda _, __, out: shapes.append(out.shape[1]))
        for layer in model.family.layers
    ]
    run(model, some_pairs(kind), {"": []})
    for hook in hooks:
        hook.remove()
    every = kind == "modernbert-mean"
    assert all((rows == 1) != every for rows in shapes[LAYERS - 1 :: LAYERS])
    assert all(rows > 1 for rows in shapes[::LAYERS])


def test_sink_is_refused_where_the_mass_has_no_place(model, kind):
    says = (
        "layer 1 .* not every token may read SEP2"
        if kind == "modernbert-mean"
        else "has no SEP2.*; expected another how"
    )
    with pytest.raises(InputError, match=says):
        scores(model, some_pairs(kind), "D->Q~sink")


def test_sink_where_a_layer_is_open(unrounded, tmp_path):
    model = matchlens.load(saved("modernbert-mean", tmp_path), dtype="float64", device="cpu")
    pair = some_pairs("modernbert-mean")[0]
    got = scores(model, [pair], "D->Q@0~sink")
    expected = reference.score(model, pair, ["D->Q@0~sink"])
    np.testing.assert_allclose(got["D->Q@0~sink"], [expected], atol=1e-10, rtol=0)


# --- meters


@pytest.mark.parametrize("names", [("mass", "norm_mass"), NAMES])
def test_meters_equal_the_library_s_eager_maps(model, kind, tmp_path, names):
    pairs = some_pairs(kind)[:4]
    shape = (len(pairs), LAYERS, HEADS, 5, 5)
    arrays = {name: PairArray(tmp_path / f"{name}.npy", shape) for name in names}
    reading = Reading(Static.of(model), lambda number: words_of(model, pairs[number]))
    meter = AttentionMeter(names, arrays, reading)
    out = run(model, pairs, {"": []}, batch_tokens=100, asked=tiny_models.watched_by(meter))
    assert len(out.batches) > 1 or kind == "modernbert-mean"
    for number, pair in enumerate(pairs):
        expected = attention_reference.meters(model, pair)
        for name in names:
            found = arrays[name].mapped()[number]
            np.testing.assert_allclose(found, expected[name], atol=1e-5, err_msg=name)
    plain = run(model, pairs, {"": []})
    np.testing.assert_allclose(out.scores.of(""), plain.scores.of(""), atol=1e-10)


def test_what_a_token_receives_stands_at_its_own_place(model, kind, tmp_path):
    """Padding stands before a decoder's tokens; places are the pair's own."""
    pairs = sorted(some_pairs(kind), key=lambda pair: len(pair.text))[:: len(some_pairs(kind)) - 1]
    longest = int(model.encode(pairs).lengths.max())
    shape = (2, LAYERS, HEADS, len(READERS), longest)
    both = PairArray(tmp_path / "both.npy", shape)
    run(model, pairs, {"": []}, asked=tiny_models.watched_by(ReceivedMeter(both)))
    for number, pair in enumerate(pairs):
        alone = PairArray(tmp_path / f"{number}.npy", (1, *shape[1:]))
        run(model, [pair], {"": []}, asked=tiny_models.watched_by(ReceivedMeter(alone)))
        np.testing.assert_allclose(both.mapped()[number], alone.mapped()[0], atol=1e-6)
    assert np.isnan(both.mapped()[0, ..., -1]).all()


# --- refusals


def test_a_rotary_base_is_refused(tmp_path):
    with pytest.raises(InputError, match="rotary position embeddings"):
        load_base(saved("llama", tmp_path))


def test_gemma_3_that_reads_both_sides(unrounded, tmp_path):
    folder = saved("gemma3_text", tmp_path, use_bidirectional_attention=True)
    model = loaded("gemma3_text", folder)
    assert [model.family.band(layer) for layer in range(LAYERS)] == [
        LayerMask(window=model.family.module.config.sliding_window - 1),
        LayerMask(),
    ]
    pairs = tiny_models.pairs(4)
    expected = library_scores("gemma3_text", folder, pairs, 4, torch.float64)
    got = scores(model, pairs, "Q->D")
    np.testing.assert_allclose(got[""], expected, atol=1e-10, rtol=0)
    reached = [reference.score(model, pair, ["Q->D"]) for pair in pairs[:1]]
    np.testing.assert_allclose(got["Q->D"][:1], reached, atol=1e-10, rtol=0)
    assert np.abs(got["Q->D"] - got[""]).max() > 1e-3


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_proportional_positions_are_the_library_s(unrounded, tmp_path, share):
    rope = {"rope_type": "proportional", "rope_theta": 1e4, "partial_rotary_factor": share}
    folder = saved("qwen3", tmp_path, rope_parameters={**rope, "factor": 2.0})
    model = matchlens.load(folder, device="cpu", dtype="float64")
    pairs = tiny_models.pairs(4)
    expected = library_scores("qwen3", folder, pairs, 4, torch.float64)
    np.testing.assert_allclose(scores(model, pairs)[""], expected, atol=1e-10, rtol=0)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_positions_that_hang_on_the_batch_are_refused(tmp_path, rope):
    settings = {"rope_type": rope, "rope_theta": 1e4, "factor": 2.0}
    if rope == "longrope":
        settings |= {"short_factor": [1.0] * 6, "long_factor": [2.0] * 6}
        settings["original_max_position_embeddings"] = 64
    folder = saved("qwen3", tmp_path, rope_parameters=settings)
    with pytest.raises(InputError, match=f"^model .*{rope!r} .*change with the longest text"):
        matchlens.load(folder, device="cpu")


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_a_classifier_that_knows_no_padding_reads_the_last_token_as_the_library_does(
    family, tmp_path
):
    folder = tiny_decoders.save(tmp_path / "model", family, labels=1, pad_token_id=None)
    model = matchlens.load(folder, device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    library = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    pad = tokenizer.pad_token  # as the last token it is read, too
    texts = [("cat sat", f"the dog ran far {pad}"), ("tea", "warm"), ("a ship", "red sun " * 9)]
    with torch.no_grad():
        expected = [
            float(library(**tokenizer(*pair, return_tensors="pt")).logits[0, 0]) for pair in texts
        ]
    assert matchlens.score(model, texts)[""].to_numpy() == pytest.approx(expected, abs=1e-5)


def test_parts_of_a_decoder(qwen):
    (labels,) = qwen.encode([tiny_models.pairs(1)[0]]).parts
    assert set(labels.tolist()) == {Part.CLS, Part.Q, Part.D, Part.OTHER}
    assert (labels == Part.CLS).sum() == 1
    assert labels[-1] == Part.CLS
