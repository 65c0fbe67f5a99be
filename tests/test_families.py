"""What every model family owes: the library's own scores, cuts that bite, the five parts."""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import pre_tokenizers, processors
from transformers import (
    AlbertTokenizer,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CamembertTokenizer,
    DebertaV2Tokenizer,
    MPNetTokenizer,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

import matchlens
import reference
import tiny as tiny_models
import tiny_decoders
from matchlens import InputError, MatchlensWarning, Part
from matchlens.batching import encode
from matchlens.corpora import Pair, choose, demo
from matchlens.directions import How
from matchlens.models.biased import Biased
from matchlens.models.families import about
from matchlens.models.folder import FAMILIES, find
from matchlens.models.load import Reranker
from matchlens.parts import label
from matchlens.runners import run
from test_loading import deaf_to_cuts
from tiny import ROBERTAS, edit, scores
from widened import widened

LAYERS, HEADS = 2, 2
VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:2])
OLD = VERSION < (5, 3)


QUICK = ("modernbert", "roberta")
"""Families that the quick tests take: BERT is in every other file, the rest vary these three."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, marks=() if one in QUICK else pytest.mark.slow)
        for one in tiny_models.FAMILIES
    ],
)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module", autouse=True)
def unrounded(family):
    """Where the library would round to float32, it does not."""
    with widened() if family in tiny_models.ROTARY else nullcontext():
        yield


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp(family)
    return tiny_models.save(place, family, layers=LAYERS, heads=HEADS, seed=3)


@pytest.fixture(scope="module")
def model(folder) -> Reranker:
    return matchlens.load(folder, dtype="float64", device="cpu")


def one(query: str, text: str) -> Pair:
    return Pair("q7", "d8", query, text, 0)


def library_logits(folder: Path, pairs, dtype=torch.float64, batch=1) -> np.ndarray:
    """By transformers alone: its tokenizer, its padding, its eager attention."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    module = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager"
    ).eval()
    out = []
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        texts = [pair.query for pair in some], [pair.text for pair in some]
        typed = False if module.config.model_type == "distilbert" else None  # it takes none
        inputs = tokenizer(*texts, padding=True, return_tensors="pt", return_token_type_ids=typed)
        with torch.inference_mode():
            out.append(module(**inputs).logits.double().numpy())
    return np.concatenate(out)


def relevance(logits: np.ndarray) -> np.ndarray:
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def test_every_family_is_held_to_this_contract():
    # Encoder-decoders have tests of their own: tests/test_t5.py.
    assert {*tiny_models.FAMILIES, *tiny_decoders.FAMILIES, "t5", "mt5"} == set(FAMILIES)


def test_the_folder_tells_the_shape_without_loading(folder, model, family):
    found = find(str(folder))
    assert found.shape == (LAYERS, HEADS) == (model.family.n_layers, model.family.n_heads)
    assert found.model_type == family == model.identity["type"]
    assert found.limit()[0] == model.max_length == 64
    assert type(model.family.module).__name__.endswith("ForSequenceClassification")


def test_what_is_said_of_the_family_is_so(model, family):
    """``matchlens families`` speaks for the class; the loaded model must agree."""
    said = about(model.identity["type"])
    assert said.library == type(model.family.module).__name__
    rows = model.family.score_parts
    assert ("CLS row" in said.reads) if rows == (Part.CLS,) else ("mean of all rows" in said.reads)
    assert model.family.relevance == said.relevance
    assert said.attention.startswith("ours, called ")


# --- the library's own scores


@pytest.mark.parametrize("batch", [1, 24])
def test_scores_are_the_library_s_own_in_any_batch(folder, model, tiny_pairs, batch):
    expected = relevance(library_logits(folder, tiny_pairs, batch=batch))
    assert np.ptp(expected) > 0.1
    for tokens in (1, 130, 10**6):
        got = scores(model, tiny_pairs, batch_tokens=tokens)[""]
        np.testing.assert_allclose(got, expected, atol=1e-10, rtol=0)


def test_scores_in_float32(folder, tiny_pairs):
    expected = relevance(library_logits(folder, tiny_pairs, torch.float32, batch=24))
    model = matchlens.load(folder, device="cpu")
    np.testing.assert_allclose(scores(model, tiny_pairs)[""], expected, atol=1e-4, rtol=0)


def test_two_labels(family, tmp_path, tiny_pairs):
    folder = tiny_models.save(tmp_path, family, labels=2, layers=LAYERS, heads=HEADS)
    few, model = tiny_pairs[:3], matchlens.load(folder, dtype="float64", device="cpu")
    logits = library_logits(folder, few, batch=3)
    assert logits.shape == (3, 2)
    got = scores(model, few, "Q->D")
    np.testing.assert_allclose(got[""], logits[:, 1] - logits[:, 0], atol=1e-10, rtol=0)
    expected = [reference.score(model, pair, ["Q->D"]) for pair in few]
    np.testing.assert_allclose(got["Q->D"], expected, atol=1e-10, rtol=0)


def test_other_layers_below_the_same_model(family, tmp_path, tiny_pairs):
    """One layer only, which is the first and the last."""
    folder = tiny_models.save(tmp_path, family, layers=1, heads=4)
    model = matchlens.load(folder, dtype="float64", device="cpu")
    expected = relevance(library_logits(folder, tiny_pairs[:4], batch=4))
    np.testing.assert_allclose(scores(model, tiny_pairs[:4])[""], expected, atol=1e-10, rtol=0)


def test_padding_in_a_text_is_what_the_library_makes_of_it(folder, model, family):
    """RoBERTa's positions skip a literal padding token, too: as its own forward has it."""
    pad = model.tokenizer.pad_token
    pairs = [one("cat sat", f"dog {pad} ran far"), one("cat sat", "dog ran")]
    expected = relevance(library_logits(folder, pairs, batch=2))
    np.testing.assert_allclose(scores(model, pairs)[""], expected, atol=1e-10, rtol=0)


# --- cuts


@pytest.mark.parametrize("how", [how.value for how in How])
def test_every_how_equals_the_reference(model, family, tiny_pairs, how):
    few = [tiny_pairs[n] for n in (0, 4)]  # of one query
    names = [f"{cut}~{how}" for cut in ("Q->D", "D->{Q,SEP1}@0", "{CLS,SEP1}->{CLS,D}#0.1,1.0")]
    if how != "sink":
        names.append(f"SEP1->All~{how}")
    elif family in tiny_models.ROTARY:  # where a layer sees a window, it is refused
        names = [name for name in names if "@0" in name]
    reference.assert_equal(model, few, names, scores(model, few, *names))


def test_padding_order_and_batch_size_change_no_cut(model, tiny_pairs):
    """Invariant 3."""
    cuts = ["Q->D", "D->SEP1~mask", "SEP1->D@0~sink", "D->Q~mean", "D->Q~resample"]
    some = tiny_pairs[:10]
    whole = scores(model, some, *cuts)
    order = np.random.default_rng(0).permutation(len(some))
    shuffled = [some[place] for place in order]
    for pairs, at, tokens in ((some, slice(None), 1), (shuffled, order, 130)):
        got = scores(model, pairs, *cuts, batch_tokens=tokens)
        for cut in whole:
            np.testing.assert_allclose(got[cut], whole[cut][at], atol=1e-10, rtol=0, err_msg=cut)


def test_what_the_score_reads_cut_from_all_leaves_no_difference(model, tiny_pairs):
    """Invariant 4."""
    got = scores(model, tiny_pairs, "CLS->All", "CLS->All~mask", "CLS->All~mean")
    assert np.ptp(got.pop("")) > 0.1
    for cut, values in got.items():
        assert np.ptp(values) < 1e-10, cut


def test_the_last_layer_computes_the_score_s_row_only(model, tiny_pairs):
    shapes = []  # of what leaves the layers, in the order in which they are passed
    leaving = {tiny_models.leaving(layer) for layer in model.family.layers}
    hooks = [
        module.register_forward_hook(lambda _, __, out: shapes.append(out.shape[:2]))
        for module in leaving
    ]
    run(model, tiny_pairs, {"": []})
    for hook in hooks:
        hook.remove()
    for number in range(LAYERS):
        here = shapes[number::LAYERS]
        assert sum(pairs for pairs, _ in here) == len(tiny_pairs)
        last = number == LAYERS - 1
        assert all((tokens == 1) == last for _, tokens in here)


# --- the studies


@pytest.fixture(scope="module")
def classed():
    return choose(demo.load(), queries=6, per_grade=1, easy=2)


def held(result, cut: str, plain: np.ndarray) -> None:
    """The scores of a study are those of plain scoring, for the pairs that it ran."""
    frame = result.scores.loc[result.scores["cut"] == cut]
    assert len(frame) > 20
    np.testing.assert_allclose(frame["score"], plain[frame["pair"]], atol=1e-10)


def test_every_study_runs_through(model, classed, family):
    plain = scores(model, classed.pairs, "CLS->All")
    ablation = matchlens.ablation(model, classed, cuts=["Q->D", "CLS->All", "D->D~mask"])
    assert ablation.to_frame()["cut"].tolist() == ["", "random", "Q->D", "CLS->All", "D->D~mask"]
    sweep = matchlens.sweep(model, classed, directions=["CLS->All"])
    assert sweep.to_frame()["n"].tolist() == list(range(LAYERS + 1))
    held(sweep, f"CLS->All@0:{LAYERS}", plain["CLS->All"])  # invariant 5
    held(ablation, "CLS->All", plain["CLS->All"])
    attention = matchlens.attention(model, classed, most_pairs=10)
    mass = attention.array("mass")
    assert mass.shape == (len(classed.pairs), LAYERS, HEADS, 5, 5)
    np.testing.assert_allclose(mass.sum(-1), 1, atol=1e-6)  # invariant 6
    assert np.abs(mass - mass.swapaxes(-1, -2)).max() > 0.1  # invariant 8
    for result in (ablation, sweep, attention):
        held(result, "", plain[""])


# --- the check at load


def own_attention(family, monkeypatch):
    """The library's own attention runs instead of ours."""
    if issubclass(family, Biased):

        def attend(module, query, key, value, *_, scaling, matchlens):
            rows = None if matchlens.asking is None else matchlens.rows
            bias = matchlens.biased(matchlens.grid.padding_bias(1, query.dtype), rows)
            attention = torch.nn.functional.scaled_dot_product_attention
            return attention(query, key, value, bias, scale=scaling).transpose(1, 2), None

        monkeypatch.setattr("matchlens.models.biased.attend", attend)
        return
    real = family.embed

    def embed(self, batch):
        self.module.set_attn_implementation("sdpa")
        return real(self, batch)

    monkeypatch.setattr(family, "embed", embed)


def other_row(family, monkeypatch):
    """The score is read off another row."""
    monkeypatch.setattr(family, "score_rows", slice(1, 2))


@pytest.mark.parametrize(
    ("sabotage", "says"),
    [
        (deaf_to_cuts, "fails the check at load: .*with CLS->All cut, two different pairs still"),
        (own_attention, "fails the check at load: .*function was called 0 times in 2 layers"),
        (other_row, "fails the check at load: scores without a cut differ from the library's own"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_family_that_is_broken_is_refused(sabotage, says, folder, model, monkeypatch):
    sabotage(type(model.family), monkeypatch)
    with pytest.raises(InputError, match=says):
        matchlens.load(folder, device="cpu")


# --- refusals


def changed(folder: Path, target: Path, **settings: object) -> Path:
    """A copy of a model folder with other settings in config.json; None removes one."""
    return edit(shutil.copytree(folder, target), **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"architectures": ["XForMaskedLM"]}, "is no sequence classifier"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "wants to run code of its own"),
    ],
)
def test_no_family_is_less_strict(folder, tmp_path, settings, says):
    with pytest.raises(InputError, match=says):
        find(str(changed(folder, tmp_path / "model", **settings)))


def test_pickled_weights_give_the_same_scores(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path / "cache"))
    copy = changed(folder, tmp_path / "model")
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.warns(matchlens.MatchlensWarning, match="read without running code"):
        pickled = matchlens.load(copy, dtype="float64", device="cpu")
    plain = matchlens.load(folder, dtype="float64", device="cpu")
    pairs = tiny_models.pairs(8)
    np.testing.assert_array_equal(scores(pickled, pairs, "")[""], scores(plain, pairs, "")[""])


def test_weights_of_another_family(folder, tmp_path, family):
    """The weights of BERT under the name of RoBERTa, and so on: they do not fit."""
    other = "roberta" if family == "bert" else "bert"
    copy = changed(folder, tmp_path / "model")
    held = tiny_models.model(family=other, layers=LAYERS, heads=HEADS)
    held.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", copy)
    with pytest.raises(InputError, match="weights do not fit"):
        matchlens.load(copy, device="cpu")


def template(tokenizer, pair: str) -> None:
    """Another way to put query and passage together."""
    special = [
        (token, tokenizer.convert_tokens_to_ids(token))
        for token in (tokenizer.cls_token, tokenizer.sep_token)
    ]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair=pair.format(cls=special[0][0], sep=special[1][0]), special_tokens=special
    )


@pytest.mark.parametrize(
    ("pair", "read"),
    [
        ("{cls} $A $B {sep}", "CLS Q D SEP2"),
        ("{cls} {cls} $A {sep} $B {sep}", "CLS Other Q SEP1 D SEP2"),
        ("{cls} $A {sep} {sep} {sep} $B {sep}", "CLS Q SEP1 SEP1 SEP1 D SEP2"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*does not mark the passage")
def test_the_template_is_the_tokenizer_s_own(folder, family, tmp_path, tiny_pairs, pair, read):
    copy = changed(folder, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template(tokenizer, pair)
    tokenizer.save_pretrained(copy)
    model = matchlens.load(copy, dtype="float64", device="cpu")
    parts = model.encode([one("cat", "dog")]).parts[0]
    assert " ".join(str(Part(int(part))) for part in parts) == read
    few = tiny_pairs[:3]
    expected = relevance(library_logits(copy, few))
    np.testing.assert_allclose(scores(model, few)[""], expected, atol=1e-10, rtol=0)


# --- the length limit


def test_the_position_table_limits_the_length(family, tmp_path):
    """As many tokens as there are positions, and not one more."""
    folder = tiny_models.save(tmp_path, family, layers=1, heads=HEADS, max_position_embeddings=20)
    limit = 18 if family in ROBERTAS else 20
    if family in tiny_models.ROTARY:  # positions are turned, not looked up
        assert find(str(folder)).limit() == (64, "model_max_length of the tokenizer")
        return
    assert find(str(folder)).limit()[0] == limit
    assert find(str(folder)).limit(12)[0] == 12
    model = matchlens.load(folder, dtype="float64", device="cpu")
    special = 4 if family in ROBERTAS else 3
    longest = one("cat sat", "dog " * (limit - special - 2))
    pairs = [longest, one("cat sat", "dog " * 60), one("cat", "dog")]
    encoded = encode(model.tokenizer, pairs, model.max_length)
    assert encoded.lengths.tolist() == [limit, limit, special + 2]
    assert encoded.truncated.tolist() == [False, True, False]
    got = scores(model, pairs)[""]
    assert got[0] == pytest.approx(got[1], abs=1e-12)
    expected = relevance(library_logits(folder, [pairs[0], pairs[2]], batch=2))
    np.testing.assert_allclose(got[[0, 2]], expected, atol=1e-10, rtol=0)
    with pytest.raises((IndexError, RuntimeError)):
        library_logits(folder, [one("cat sat", longest.text + "dog")])


@pytest.mark.parametrize("family", ["roberta"], indirect=True)
def test_where_roberta_s_positions_start(folder, tmp_path):
    assert find(str(changed(folder, tmp_path / "none", pad_token_id=None))).limit()[0] == 64
    assert find(str(changed(folder, tmp_path / "other", pad_token_id=20))).limit()[0] == 45
    for place, padding in enumerate((65, -1, "one")):
        copy = changed(folder, tmp_path / str(place), pad_token_id=padding)
        with pytest.raises(
            InputError,
            match=r"pad_token_id in config\.json is .*; expected a number|field 'pad_token_id'",
        ):
            find(str(copy))


# --- parts and token types


def test_the_five_parts(model, family):
    pair = one("cat sat", "dog [SEP] ran </s> far")
    (parts,) = encode(model.tokenizer, [pair], 64).parts
    between = 2 if family in ROBERTAS else 1
    assert parts.tolist() == sorted(parts.tolist())
    counts = [parts.tolist().count(part) for part in Part]
    assert counts[:3] == [1, 2, between]
    assert counts[4:] == [1, 0]
    assert counts[Part.D] >= 5


def test_added_tokens_are_labelled_by_where_they_stand():
    cls, q, sep1, d, sep2, other = Part
    assert label([None, 0, None, None, 1, 1, None]) == [cls, q, sep1, sep1, d, d, sep2]
    assert label([None, 0, None, 0, None, 1, None, 1, None]) == [
        *(cls, q, other, q, sep1, d, other, d, sep2)
    ]
    assert label([0, 1]) == [q, d]


def roberta_tokenizer() -> RobertaTokenizer:
    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {word: number for number, word in enumerate([*words, "ca", "cat", "<mask>"])}
    return RobertaTokenizer(vocab=vocabulary, merges=[("c", "a"), ("ca", "t")])


def mpnet_tokenizer() -> MPNetTokenizer:
    words = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", "cat", *"<>/s"]
    return MPNetTokenizer(vocab={word: number for number, word in enumerate(words)})


def pieces() -> list[tuple[str, float]]:
    words = [f"\u2581{word}" for word in tiny_models.WORDS]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return [(word, -1.0) for word in [*special, *words, "\u2581", *"abcdefghijklmnopqrstuvwxyz"]]


@pytest.mark.parametrize(
    "make",
    [
        roberta_tokenizer,
        pytest.param(
            lambda: XLMRobertaTokenizer(vocab=pieces()),
            marks=pytest.mark.skipif(OLD, reason="one separator only, a fault of transformers"),
        ),
        lambda: CamembertTokenizer(vocab=pieces()),
        mpnet_tokenizer,
    ],
    ids=["roberta", "xlm-roberta", "camembert", "mpnet"],
)
def test_the_library_s_own_tokenizers(make):
    """Byte-level BPE with RoBERTa's own processor, and pieces with a template."""
    tokenizer = make()
    encoded = encode(tokenizer, [one("cat", "cat</s> </s>"), one("cat cat", "cat")], 64)
    for ids, parts, types in zip(encoded.ids, encoded.parts, encoded.types, strict=True):
        words = np.array(tokenizer.convert_ids_to_tokens(ids.tolist()))
        assert words[parts == Part.CLS].tolist() == ["<s>"]
        assert words[parts == Part.SEP1].tolist() == ["</s>", "</s>"]
        assert words[parts == Part.SEP2].tolist() == ["</s>"]
        if make is not mpnet_tokenizer:  # whose model is fed no token types
            assert not types.any()
    first = np.array(tokenizer.convert_ids_to_tokens(encoded.ids[0].tolist()))
    assert first[encoded.parts[0] == Part.D].tolist().count("</s>") == 2


@pytest.mark.parametrize(
    "kind",
    [
        AlbertTokenizer,
        pytest.param(
            DebertaV2Tokenizer,
            marks=pytest.mark.skipif(
                VERSION < (5, 6), reason="built in code it adds no special tokens there"
            ),
        ),
    ],
)
def test_the_library_s_own_tokenizers_with_token_types(kind):
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]"]
    vocabulary = [(word, -1.0) for word in [*special, "\u2581cat", "\u2581", *"abcdefghijklm"]]
    tokenizer = kind(vocab=vocabulary)
    encoded = encode(tokenizer, [one("cat", "cat [SEP] cat"), one("cat cat", "cat")], 64)
    for ids, parts, types in zip(encoded.ids, encoded.parts, encoded.types, strict=True):
        words = np.array(tokenizer.convert_ids_to_tokens(ids.tolist()))
        assert words[parts == Part.CLS].tolist() == ["[CLS]"]
        assert words[parts == Part.SEP1].tolist() == ["[SEP]"]
        assert words[parts == Part.SEP2].tolist() == ["[SEP]"]
        marked = "token_type_ids" in tokenizer.model_input_names
        assert types.tolist() == (np.isin(parts, (Part.D, Part.SEP2)) * marked).tolist()


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json and merges.txt"])
def test_roberta_with_its_own_tokenizer(tmp_path, files):
    tokenizer = roberta_tokenizer()
    folder = tmp_path / "model"
    tiny_models.model(
        family="roberta", layers=1, heads=2, vocab_size=len(tokenizer)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if files != "tokenizer.json":
        settings = folder / "tokenizer_config.json"
        settings.write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
        (folder / "tokenizer.json").unlink()
        with pytest.raises(
            InputError, match=r"has no tokenizer; expected .* vocab\.json with merges"
        ):
            find(str(folder))
        tokenizer.backend_tokenizer.model.save(str(folder))
    model = matchlens.load(folder, dtype="float64", device="cpu")
    pairs = [one("cat", "cat dog"), one("dog", "a cat")]
    got = scores(model, pairs, "Q->D")
    expected = relevance(library_logits(folder, pairs, batch=2))
    np.testing.assert_allclose(got[""], expected, atol=1e-10, rtol=0)
    expected = [reference.score(model, pair, ["Q->D"]) for pair in pairs]
    np.testing.assert_allclose(got["Q->D"], expected, atol=1e-10, rtol=0)
    if files != "tokenizer.json":
        digest = find(str(folder)).sha256
        (folder / "merges.txt").write_text("#version: 0.2\nc a\n")
        assert find(str(folder)).sha256 != digest


def marked(folder: Path) -> None:
    """A tokenizer of RoBERTa's that gives the passage type 1."""
    tokenizer = tiny_models.tokenizer("roberta")
    template(tokenizer, "{cls} $A {sep} {sep} $B:1 {sep}:1")
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)


def test_token_types_of_roberta(tmp_path, tiny_pairs):
    """One type; where there are two, the tokenizer says which is whose."""
    one_type = tiny_models.save(tmp_path / "1", "roberta", layers=1, heads=2)
    marked(one_type)
    with pytest.raises(InputError, match="marks two segments, its weights know 1"):
        matchlens.load(one_type, device="cpu")
    two = tiny_models.save(tmp_path / "2", "roberta", layers=1, heads=2, type_vocab_size=2)
    few, found = tiny_pairs[:3], []
    for mark in (False, True):
        if mark:
            marked(two)
        model = matchlens.load(two, dtype="float64", device="cpu")
        found.append(scores(model, few)[""])
        expected = relevance(library_logits(two, few))
        np.testing.assert_allclose(found[-1], expected, atol=1e-10, rtol=0)
    assert np.abs(found[0] - found[1]).min() > 1e-4


@pytest.mark.parametrize("family", ["distilbert"], indirect=True)
def test_distilbert_is_fed_no_token_types(folder, model, tmp_path, tiny_pairs):
    """Whether its tokenizer marks the passage is of no consequence."""
    copy = changed(folder, tmp_path / "model")
    tokenizer = tiny_models.tokenizer("distilbert")
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(copy)
    marking = matchlens.load(copy, dtype="float64", device="cpu")
    few = tiny_pairs[:3]
    assert encode(marking.tokenizer, few, 64).types[0].any()
    assert not encode(model.tokenizer, few, 64).types[0].any()
    np.testing.assert_array_equal(scores(marking, few)[""], scores(model, few)[""])


@pytest.mark.parametrize("family", ["electra"], indirect=True)
def test_an_unmarked_passage_is_said_and_scored_as_the_library_does(
    folder, model, tmp_path, tiny_pairs
):
    assert model.family.body.embeddings.word_embeddings.embedding_dim == 16
    copy = changed(folder, tmp_path / "model")
    tokenizer = tiny_models.tokenizer("electra")
    template(tokenizer, "{cls} $A {sep} $B {sep}")
    tokenizer.save_pretrained(copy)
    with pytest.warns(MatchlensWarning, match="all tokens have token type 0"):
        plain = matchlens.load(copy, dtype="float64", device="cpu")
    expected = relevance(library_logits(copy, tiny_pairs[:3]))
    np.testing.assert_allclose(scores(plain, tiny_pairs[:3])[""], expected, atol=1e-10, rtol=0)
    assert any("token type 0" in note for note in plain.notes)
    settings = copy / "tokenizer_config.json"
    tiny_models.tokenizer("electra").save_pretrained(copy)  # whose template marks the passage
    known = json.loads(settings.read_text())
    names = ["input_ids", "attention_mask"]
    for marked, more in ((False, []), (True, ["token_type_ids"])):  # as the warning says
        settings.write_text(json.dumps({**known, "model_input_names": [*names, *more]}))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            loaded = matchlens.load(copy, dtype="float64", device="cpu")
        assert bool(loaded.encode(tiny_pairs[:1]).types[0].any()) == marked
        assert bool([one for one in said if "token type 0" in str(one.message)]) != marked


def test_electra_as_wide_as_its_layers(tmp_path, tiny_pairs):
    folder = tiny_models.save(tmp_path, "electra", layers=1, heads=2, embedding_size=32)
    model = matchlens.load(folder, dtype="float64", device="cpu")
    assert not hasattr(model.family.body, "embeddings_project")
    expected = relevance(library_logits(folder, tiny_pairs[:3], batch=3))
    np.testing.assert_allclose(scores(model, tiny_pairs[:3])[""], expected, atol=1e-10, rtol=0)
