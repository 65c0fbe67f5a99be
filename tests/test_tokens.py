"""Tokens are those of the folder's own library: through every door, under every setting."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from tokenizers import Regex, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import matchlens
import tiny
import tiny_decoders
from matchlens import InputError
from matchlens.batching import encode
from matchlens.corpora import Pair
from matchlens.models import check
from matchlens.models.checks import tokens as checked
from matchlens.parts import Part
from matchlens.prompts import Prompt
from matchlens.tokenizing import usable
from test_cli import call
from tiny import edit
from tiny_decoders import QWEN3

LONG = " ".join(tiny.WORDS * 8)
TEXTS = [
    ("cat", "sun rain cold"),
    ("warm tea", "a [SEP] ship </s> of TEA"),
    ("dog ran", LONG),
    ("tea", "  Café,\tthe   ship "),
]
PAIRS = [Pair("q", f"d{n}", query, text, 0) for n, (query, text) in enumerate(TEXTS)]


def save(folder, family="bert", tokenizer=None, **settings):
    tiny.save(folder, family, layers=2, **settings)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def crossencoder(folder, tmp_path, **settings):
    """The folder, saved by sentence-transformers."""
    CrossEncoder(str(folder), device="cpu", **settings).save_pretrained(str(tmp_path / "saved"))
    return tmp_path / "saved"


def of_transformers(folder):
    """Scores of the library's own call of the tokenizer and the model."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    most = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    scores = []
    for query, text in TEXTS:
        fed = tokenizer(query, text, truncation=True, max_length=most, return_tensors="pt")
        with torch.inference_mode():
            scores.append(model(**fed).logits[0, 0].item())
    return np.array(scores)


def of_sentence_transformers(folder):
    encoder = CrossEncoder(str(folder), device="cpu")
    return encoder.predict(TEXTS, activation_fn=torch.nn.Identity(), show_progress_bar=False)


def of_load(folder, tmp_path):
    return matchlens.score(matchlens.load(folder, device="cpu"), PAIRS)[""]


def of_wrap(folder, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    return matchlens.score(matchlens.wrap(model, AutoTokenizer.from_pretrained(folder)), PAIRS)[""]


def of_crossencoder(folder, tmp_path):
    wrapped = matchlens.wrap(CrossEncoder(str(folder), device="cpu"))
    return matchlens.score(wrapped, PAIRS)[""]


def of_command(folder, tmp_path):
    rows = [json.dumps({"query": query, "text": text}) for query, text in TEXTS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    done = call("score", "--pairs", tmp_path / "pairs.jsonl", "--model", folder, "--device", "cpu")
    assert done.status == 0, done.err
    return [json.loads(line)["scores"][""] for line in done.out.splitlines()]


DOORS = [of_load, of_wrap, of_crossencoder, of_command]


def same(seen, expected):
    np.testing.assert_allclose(np.array(seen, dtype=float), expected, atol=2e-5, rtol=0)


def no_types(folder):
    edit(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])


def unmarked(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    tokenizer.save_pretrained(folder)


def old_key(folder):
    edit(folder / "tokenizer_config.json", model_max_length=None, max_len=20)


def keeps_the_end(folder):
    edit(folder / "tokenizer_config.json", truncation_side="left", model_max_length=24)


def truncation_in_the_json(folder):
    edit(
        folder / "tokenizer.json",
        truncation={
            "direction": "Left",
            "max_length": 16,
            "strategy": "LongestFirst",
            "stride": 0,
        },
    )


def pads_left(folder):
    edit(folder / "tokenizer_config.json", padding_side="left")


def joins(folder, single: str, pair: str) -> None:
    """The tokenizer joins query and passage by these templates."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    tokenizer.save_pretrained(folder)


def two_separators(folder):
    joins(folder, "[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B:1 [SEP]:1")


def no_last_separator(folder):
    joins(folder, "[CLS] $A", "[CLS] [CLS] $A [SEP] $B:1")


def words_of_its_own(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("tea", "ship"), tokenizer.backend_tokenizer.normalizer]
    )
    tokenizer.save_pretrained(folder)


SITUATIONS = [
    *(no_types, unmarked, old_key, keeps_the_end, truncation_in_the_json, pads_left),
    *(two_separators, no_last_separator, words_of_its_own),
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.filterwarnings("ignore:.*does not mark the passage", "ignore:.*pads on the left")
def test_every_door_scores_as_the_library(tmp_path, situation, door):
    folder = save(tmp_path / "model")
    situation(folder)
    same(door(folder, tmp_path), of_transformers(folder))


@pytest.mark.parametrize("other", ["xlm-roberta", "mpnet", "deberta-v2"])
def test_the_template_is_the_tokenizer_s_not_the_family_s(tmp_path, other):
    known = tiny.tokenizer(other)
    folder = save(tmp_path / "model", tokenizer=known, vocab_size=len(known))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = matchlens.load(folder, device="cpu")
    same(matchlens.score(model, PAIRS)[""], of_transformers(folder))
    parts = [str(Part(int(part))) for part in model.encode(PAIRS[:1]).parts[0]]
    assert parts.count("SEP1") == (2 if other in tiny.ROBERTAS else 1)
    assert (parts[0], parts[-1]) == ("CLS", "SEP2")


def test_a_tokenizer_without_a_first_token_is_refused(tmp_path):
    known = tiny.tokenizer()
    known.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A [SEP] $B:1", special_tokens=[("[SEP]", known.sep_token_id)]
    )
    folder = save(tmp_path / "model", tokenizer=known)
    with pytest.raises(InputError, match="off a token before the query") as told:
        matchlens.load(folder, device="cpu")
    assert "transformers before" not in str(told.value)


# --- sentence-transformers' files


def shorter(folder):
    edit(folder / "sentence_bert_config.json", max_seq_length=20)


def longer_than_the_tokenizer(folder):
    edit(folder / "tokenizer_config.json", model_max_length=16)
    edit(folder / "sentence_bert_config.json", max_seq_length=30)


def processing(folder):
    text = {"max_length": 24, "truncation": True, "padding": "longest"}
    edit(folder / "sentence_bert_config.json", processing_kwargs={"text": text})


def no_types_asked(folder):
    text = {"return_token_type_ids": False}
    edit(folder / "sentence_bert_config.json", processing_kwargs={"text": text})


def old_argument_names(folder):
    edit(folder / "sentence_bert_config.json", tokenizer_args={"model_max_length": 22})


def the_end_by_argument(folder):
    arguments = {"model_max_length": 22, "truncation_side": "left"}
    edit(folder / "sentence_bert_config.json", processor_kwargs=arguments)


def prompted(folder):
    named = {"prompts": {"web": "tall red "}, "default_prompt_name": "web"}
    edit(folder / "config_sentence_transformers.json", **named)


def prompted_by_nothing(folder):
    named = {"prompts": {"query": None}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"model_type": "CrossEncoder", **named})
    )


def in_the_second_file(folder):
    file = folder / "sentence_bert_config.json"
    edit(file, max_seq_length=20).rename(folder / "sentence_roberta_config.json")
    file.write_text("{}")


def one_label_by_argument(folder):
    edit(folder / "sentence_bert_config.json", config_kwargs={"num_labels": 1})


def two_classes_named(folder):
    edit(folder, architectures=["BertModel", "BertForSequenceClassification"])


def not_a_crossencoder(folder):
    edit(folder / "config_sentence_transformers.json", model_type="SentenceTransformer")
    edit(folder / "sentence_bert_config.json", max_seq_length=20)


def not_listed(folder):
    (folder / "modules.json").unlink()
    prompted(folder)
    shorter(folder)


@pytest.mark.slow
@pytest.mark.parametrize("door", [of_load, of_crossencoder, of_command])
@pytest.mark.parametrize(
    "situation",
    [
        *(shorter, longer_than_the_tokenizer, processing, no_types_asked, old_argument_names),
        *(the_end_by_argument, prompted, not_a_crossencoder, not_listed),
        *(prompted_by_nothing, in_the_second_file, one_label_by_argument, two_classes_named),
    ],
)
@pytest.mark.filterwarnings("ignore:.*does not mark the passage")
def test_every_door_scores_as_sentence_transformers(tmp_path, situation, door):
    folder = crossencoder(save(tmp_path / "model"), tmp_path)
    situation(folder)
    same(door(folder, tmp_path), of_sentence_transformers(folder))


def test_without_a_position_table_each_library_s_limit_holds(tmp_path):
    """sentence-transformers cuts at max_position_embeddings, which is 64; transformers does not."""
    plain = save(tmp_path / "model", "deberta-v2", position_biased_input=False)
    folder = crossencoder(plain, tmp_path)
    for place in (plain, folder):
        edit(place / "tokenizer_config.json", model_max_length=90)
    expected = of_sentence_transformers(folder)
    for door in (of_load, of_crossencoder):
        same(door(folder, tmp_path), expected)
    model = matchlens.load(plain, device="cpu")
    assert model.max_length == 90
    assert np.abs(matchlens.score(model, PAIRS)[""] - expected).max() > 1e-3
    edit(folder / "sentence_bert_config.json", max_seq_length=80)
    assert matchlens.load(folder, device="cpu").max_length == 80
    same(of_load(folder, tmp_path), of_sentence_transformers(folder))


def test_lower_case_is_made_as_sentence_transformers_makes_it(tmp_path):
    known = tiny.tokenizer()
    known.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    folder = crossencoder(save(tmp_path / "model", tokenizer=known), tmp_path)
    before = of_load(folder, tmp_path)
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    after = of_load(folder, tmp_path)
    same(after, of_sentence_transformers(folder))
    assert np.abs(before - after).max() > 1e-3


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("sentence_bert_config.json", {"tokenizer_name_or_path": "x"}, "'tokenizer_name_or_path'"),
        ("sentence_bert_config.json", {"new_key": 1}, "'new_key'"),
        (
            "sentence_bert_config.json",
            {"processor_kwargs": {"tokenizer_file": "/x"}},
            "'tokenizer_",
        ),
        ("sentence_bert_config.json", {"config_kwargs": {"num_labels": 2}}, "'num_labels'"),
        ("sentence_bert_config.json", {"model_kwargs": {"subfolders": 2}}, "'subfolders'"),
        (
            "sentence_bert_config.json",
            {"processing_kwargs": {"text": {"truncation": "only_first"}}},
            "'truncation'",
        ),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"stride": 2}}}, "'stride'"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length"),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": {"method": "get_text_features"}}},
            "'method' in text in modality_config",
        ),
        ("config_sentence_transformers.json", {"default_prompt_name": "no"}, "default_prompt_name"),
        (
            "config_sentence_transformers.json",
            {"activation_fn": "torch.nn.modules.activation.GELU"},
            "GELU",
        ),
        ("tokenizer_config.json", {"model_max_length": 0}, "model_max_length"),
        ("tokenizer_config.json", {"model_max_length": "many"}, "model_max_length"),
    ],
)
def test_what_is_not_done_is_refused_by_its_name(tmp_path, file, change, says):
    folder = crossencoder(save(tmp_path / "model"), tmp_path)
    kept = (folder / file).read_text()
    edit(folder / file, **change)
    with pytest.raises(InputError, match=says) as told:
        matchlens.load(folder, device="cpu")
    assert len(str(told.value)) < 420
    (folder / file).write_text(kept)  # the key taken out, as the message says
    matchlens.load(folder, device="cpu")


def test_other_modules_are_refused(tmp_path):
    folder = crossencoder(save(tmp_path / "model"), tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    more = {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, more]))
    with pytest.raises(InputError, match=r"modules\.json lists a module 'Dense' in '1_Dense'"):
        matchlens.load(folder, device="cpu")


def test_a_chat_template_that_two_libraries_read_in_two_ways_is_refused(tmp_path):
    folder = save(tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    shorter(folder)
    with pytest.raises(InputError, match=r"chat_template, .* sentence_bert_config\.json does not"):
        matchlens.load(folder, device="cpu")
    (folder / "sentence_bert_config.json").unlink()  # as the message says
    same(of_load(folder, tmp_path), of_transformers(folder))


def test_a_limit_that_holds_no_pair_says_where_it_is_from(tmp_path):
    folder = save(tmp_path / "model")
    edit(folder / "tokenizer_config.json", model_max_length=4)
    with pytest.raises(InputError, match=r"4 tokens \(model_max_length of the tokenizer\)"):
        matchlens.load(folder, device="cpu")


def test_words_of_a_default_prompt_are_in_no_part(tmp_path):
    folder = crossencoder(save(tmp_path / "model"), tmp_path)
    prompted(folder)
    model = matchlens.load(folder, device="cpu")
    pair = Pair("q", "d", "cat sat", "dog ran", 0)
    spans = model.spans(pair)
    read = [
        (str(Part(int(part))), token) for part, token in zip(spans.parts, spans.tokens, strict=True)
    ]
    assert [token for part, token in read if part == "Q"] == ["cat", "sat"]
    assert {token.strip("#") for part, token in read if part == "Other"} == set("tallred")
    query = spans.parts == Part.Q
    places = zip(spans.starts[query], spans.ends[query], strict=True)
    assert [pair.query[first:end] for first, end in places] == ["cat", "sat"]
    assert model.identity["query_prompt"] == "tall red "


# --- decoders


def decoder(tmp_path, labels=1, **settings):
    return tiny_decoders.save(tmp_path / "model", "qwen3", labels=labels, **settings)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("family", ["qwen3", "gemma"])
def test_a_decoder_s_classifier_pairs_texts_as_the_library_does(tmp_path, door, family):
    folder = tiny_decoders.save(tmp_path / "model", family, labels=1)
    same(door(folder, tmp_path), of_transformers(folder))


def test_its_last_token_is_cls_and_it_may_be_asked_in_a_prompt(tmp_path):
    folder = decoder(tmp_path)
    model = matchlens.load(folder, device="cpu")
    parts = [str(Part(int(part))) for part in model.encode(PAIRS[:1]).parts[0]]
    assert parts[0] == "Q"
    assert parts[-2:] == ["D", "CLS"]
    assert "SEP1" not in parts
    asked = matchlens.load(folder, device="cpu", prompt=QWEN3)
    assert asked.prompt == QWEN3
    assert not np.allclose(matchlens.score(asked, PAIRS)[""], matchlens.score(model, PAIRS)[""])
    ending = Pair("q", "pad", "cat", "dog ran<|endoftext|>", 0)
    with pytest.raises(InputError, match=r"'pad': it ends in '<\|endoftext\|>', the token of"):
        model.encode([ending])
    with pytest.raises(InputError, match=r"passage 'one': the passage has one token"):
        model.encode([Pair("q", "one", "cat", "a", 0)])


def padding_ends(tmp_path, **config):
    """A classifier whose tokenizer puts the token of padding behind a pair."""
    known = tiny_decoders.tokenizer("llama")
    bos, eos = known.bos_token_id, known.eos_token_id
    known.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>",
        pair="<bos> $A <bos> $B <eos>",
        special_tokens=[("<bos>", bos), ("<eos>", eos)],
    )
    known.pad_token = "<eos>"
    module = tiny_decoders.model("llama", labels=1, pad_token_id=eos, **config)
    return tiny.put(tmp_path / "model", module, known)


def test_padding_at_the_end_of_a_pair_is_passed_over_as_the_library_does(tmp_path):
    folder = padding_ends(tmp_path)
    with pytest.warns(matchlens.MatchlensWarning, match="pairs end in '<eos>', its token of padd"):
        model = matchlens.load(folder, device="cpu")
    expected = of_transformers(folder)
    assert np.ptp(expected) > 1e-2
    same(matchlens.score(model, PAIRS)[""], expected)
    encoded = model.encode(PAIRS[:1])
    assert encoded.truncated.tolist() == [False]
    assert encoded.ids[0][-1] != model.tokenizer.pad_token_id
    assert str(Part(int(encoded.parts[0][-1]))) == "CLS"
    spans = model.spans(PAIRS[0])
    assert len(spans.tokens) == len(spans.starts) == len(encoded.ids[0])


def test_padding_that_other_tokens_read_needs_another_token(tmp_path):
    folder = padding_ends(tmp_path, is_causal=False)
    with pytest.raises(InputError, match=r"ends in '<eos>', .* \(pad_token_id in config.json\)"):
        matchlens.load(folder, device="cpu")
    edit(folder, pad_token_id=0)  # as the message says
    same(of_load(folder, tmp_path), of_transformers(folder))


def test_a_chat_template_that_is_not_used_is_said(tmp_path):
    folder = decoder(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.warns(matchlens.MatchlensWarning, match="paired without a prompt"):
        matchlens.load(folder, device="cpu")


CHAT = (
    "{% for m in messages %}<|im_start|>{{ 'Judge' if m.role == 'query' else 'passage' }} "
    "{{ m.content if m.content is string else m.content[0].text }}"
    "{{ '\n' if m.role == 'query' else '<|im_end|>\n' }}{% endfor %}"
)


def test_a_chat_template_that_is_no_prompt_needs_one(tmp_path):
    """It ends in the passage, whose last token would be read."""
    plain = decoder(tmp_path)
    (plain / "chat_template.jinja").write_text(CHAT.partition("{{ '\n'")[0] + "{% endfor %}")
    folder = crossencoder(plain, tmp_path)
    with pytest.raises(InputError, match=r"chat template .*; give that as a prompt \(--prompt\)"):
        matchlens.load(folder, device="cpu")
    with pytest.raises(InputError, match=r"chat template .*; give that as a prompt|does something"):
        matchlens.wrap(CrossEncoder(str(folder), device="cpu"))


def test_answers_of_the_folder_are_the_prompt_s(tmp_path):
    folder = crossencoder(decoder(tmp_path, labels=None), tmp_path)
    with pytest.raises(
        InputError, match=r"pairs texts without a prompt .*; give the model's prompt"
    ):
        matchlens.load(folder, device="cpu")
    model = matchlens.load(folder, device="cpu", prompt=QWEN3)
    other = int(model.tokenizer("Yes", add_special_tokens=False)["input_ids"][0])
    edit(folder / "1_LogitScore/config.json", true_token_id=other)
    with pytest.raises(InputError, match=r'LogitScore reads .*"yes": "Yes", "no": "no"'):
        matchlens.load(folder, device="cpu", prompt=QWEN3)
    matchlens.load(folder, device="cpu", prompt=replace(QWEN3, yes="Yes"))


ANSWERS = {
    "true_token_id": (-1, True, None, [1], 10**6),
    "false_token_id": (-1, True, "no", 10**6),
    "temperature": (2.0,),
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in ANSWERS.items() for value in values]
)
def test_a_logit_score_s_settings_are_token_ids_and_nothing_else(tmp_path, key, value):
    """The library takes -1 for the last token, and true for a mask."""
    file = crossencoder(decoder(tmp_path, labels=None), tmp_path) / "1_LogitScore/config.json"
    kept = file.read_text()
    edit(file, **{key: value})
    with pytest.raises(InputError, match=f"{key}|its weights know [0-9]+ tokens; .*{key}"):
        matchlens.load(file.parents[1], device="cpu", prompt=QWEN3)
    file.write_text(kept)
    owner = CrossEncoder(str(file.parents[1]), device="cpu")
    if hasattr(owner[1], key):
        setattr(owner[1], key, value)
        with pytest.raises(InputError, match=f"{key}.* of its LogitScore|weights know"):
            matchlens.wrap(owner, prompt=QWEN3)
    matchlens.load(file.parents[1], device="cpu", prompt=QWEN3)


NO_PAIR = {
    "no Jinja": "{% for %}",
    "raises": "{{ raise_exception('no query') }}",
    "no default": [{"name": "rag", "template": CHAT}, {"name": "tool", "template": CHAT}],
}


@pytest.mark.parametrize("template", NO_PAIR.values(), ids=NO_PAIR)
def test_a_chat_template_that_writes_no_pair_is_blamed_and_not_a_text(tmp_path, template):
    plain = decoder(tmp_path)
    (plain / "chat_template.jinja").write_text(CHAT + "Relevant:")
    folder = crossencoder(plain, tmp_path)
    (folder / "chat_template.jinja").unlink()
    edit(folder / "tokenizer_config.json", chat_template=template)
    with pytest.raises(InputError, match=r"its chat template writes no pair \(correct") as told:
        matchlens.load(folder, device="cpu")
    assert "query 'check'" not in str(told.value)
    matchlens.load(folder, device="cpu", prompt=QWEN3)  # as the message says
    edit(folder / "tokenizer_config.json", chat_template=CHAT + "Relevant:")
    matchlens.load(folder, device="cpu")


POOLED = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


@pytest.mark.parametrize("about", [None, {"prompts": {"query": "Q: "}}])
def test_a_causal_model_that_makes_embeddings_is_no_reranker(tmp_path, about):
    folder = decoder(tmp_path, labels=None)
    (folder / "modules.json").write_text(json.dumps(POOLED))
    if about is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"makes embeddings: modules\.json pools"):
        matchlens.load(folder, device="cpu")
    assert matchlens.load(folder, device="cpu", prompt=QWEN3).chosen  # as the message says
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink(missing_ok=True)
    assert matchlens.load(folder, device="cpu").prompt == QWEN3


# --- the check


SABOTAGE = {
    "tokens": lambda fed: [[*ids[:1], ids[1] + 1, *ids[2:]] for ids in fed["input_ids"]],
    "types": lambda fed: [[0] * len(types) for types in fed["token_type_ids"]],
}


@pytest.mark.parametrize("what", sorted(SABOTAGE))
def test_other_tokens_than_the_library_s_are_caught(tiny_folder, monkeypatch, what):
    import matchlens.batching as ours

    whole = ours._tokenized

    def spoilt(*given, **options):
        encoding, pieces = whole(*given, **options)
        key = {"tokens": "input_ids", "types": "token_type_ids"}[what]
        encoding[key] = SABOTAGE[what](encoding)
        return encoding, pieces

    monkeypatch.setattr(ours, "_tokenized", spoilt)
    with pytest.raises(check.CheckError, match="that are not ours") as told:
        matchlens.load(tiny_folder, device="cpu")
    assert not told.value.checks[what]["ok"]


@pytest.mark.parametrize(("what", "change"), [("limit", {"max_length": 40}), ("cut", {})])
def test_another_limit_or_another_cut_is_caught(tiny_folder, what, change):
    model = matchlens.load(tiny_folder, device="cpu")
    if what == "cut":
        change = {"pairing": replace(model.pairing, start=True)}
    seen = {item.name: item for item in checked.tokens(replace(model, **change))}
    assert not seen[what].ok
    assert all(item.ok for name, item in seen.items() if name != what)


def test_the_check_shows_tokens_limit_and_prompt(tmp_path):
    folder = save(tmp_path / "model")
    no_types(folder)
    done = call("check", "--model", folder, "--device", "cpu", "--max-length", "40")
    assert done.status == 0
    assert "at most 40 tokens (--max-length)" in done.out
    assert "pair: [CLS] query [SEP] passage [SEP] (no prompt)" in done.out
    lines = {line.split("  ")[0] + line: line for line in done.out.splitlines()}
    for words in ("token ids are not", "token types are not", "over-long", "most tokens of a pair"):
        (line,) = [line for line in lines.values() if words in line]
        assert line.startswith("ok")
    (line,) = [line for line in lines.values() if "token type of the passage" in line]
    assert line.startswith("LOOK")
    done = call("check", "--model", decoder(tmp_path / "d", None), "--device", "cpu")
    assert (
        "prompt (shipped, of Qwen3-Reranker, by its type alone), answers read: 'yes' and 'no':"
        in done.out
    )
    assert "<Query>: {query}" in done.out


# --- texts that a tokenizer cannot take


def catastrophic(where):
    known = tiny.tokenizer()
    backend, pattern = known.backend_tokenizer, Regex(r"(a+)+$")
    if where == "normalizer":
        backend.normalizer = normalizers.Sequence(
            [normalizers.Replace(pattern, "z"), backend.normalizer]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(pattern, "isolated"), backend.pre_tokenizer]
        )
    return known


@pytest.mark.parametrize("where", ["normalizer", "pre_tokenizer"])
def test_a_catastrophic_pattern_ends_in_one_line(tmp_path, capfd, where):
    folder = save(tmp_path / "model", tokenizer=catastrophic(where))
    model = matchlens.load(folder, device="cpu")
    bad = Pair("q9", "d9", "cat", "a" * 60 + "!", 0)
    capfd.readouterr()
    with pytest.raises(InputError, match=r"query 'q9' and passage 'd9': .* takes too long") as told:
        model.encode([*PAIRS, bad])
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")
    assert model.encode(PAIRS).lengths.min() > 4


def test_a_pattern_that_fails_at_load_ends_in_one_line(tmp_path, capfd):
    known = tiny.tokenizer()
    pattern = Regex(r"([a-z]|[a-z ][a-z ]?)+#$")
    known.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.BertPreTokenizer()]
    )
    folder = save(tmp_path / "model", tokenizer=known)
    capfd.readouterr()
    with pytest.raises(
        InputError, match=r"its tokenizer, a .*, cannot be used: .* takes too long"
    ) as told:
        matchlens.load(folder, device="cpu")
    assert "\n" not in str(told.value)
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("places", [("query \ud800", "text"), ("query", "te\udfffxt")])
def test_a_lone_surrogate_is_named(tiny_folder, places):
    model = matchlens.load(tiny_folder, device="cpu")
    with pytest.raises(InputError, match=r"passage 'd': a text holds a lone surrogate \(\\ud"):
        model.encode([*PAIRS, Pair("q", "d", *places, 0)])
    long = [text + " and so on" * 1000 for text in places]  # looked at before the pair as a whole
    with pytest.raises(InputError, match=r"passage 'd': a text holds a lone surrogate \(\\ud"):
        model.encode([*PAIRS, Pair("q", "d", *long, 0)])


# --- texts are cut before they are tokenized


def words_like(draw, kind, length):
    pieces = {
        "words": [*tiny.WORDS, ".", ",", "  ", "\n", "é", "ﬁ", "the"],
        "dense": list("一二三!?.é\u200b\u0301 "),
        "long": ["a" * 150, "ab", " ", "x" * 40, "\u2581", "![SEP]"],
    }[kind]
    out = ""
    while len(out) < length:
        out += draw.choice(pieces) + ("" if kind == "dense" else draw.choice(["", " ", " "]))
    return out


def tokenizers_of_all_kinds():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    yield "wordpiece", tiny.tokenizer()
    yield "byte pairs", tiny_decoders.tokenizer("qwen3")
    yield "pairs with bytes", tiny_decoders.tokenizer("gemma")
    pieces = [("<unk>", 0.0), ("\u2581", -3.0)]
    pieces += [(f"\u2581{word}", -4.0) for word in tiny.WORDS]
    pieces += [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz.,!?é"]
    for split in (True, False):
        backend = Tokenizer(models.Unigram(pieces, unk_id=0))
        backend.normalizer = normalizers.Sequence(
            [
                normalizers.NFKC(),
                normalizers.Replace(Regex(" {2,}"), " "),
                normalizers.Strip(left=True, right=True),
            ]
        )
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=split)
        known = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
        yield f"unigram, split {split}", known


@pytest.mark.slow
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("kind", ["words", "dense", "long"])
def test_a_cut_text_has_the_tokens_of_the_whole(kind, start):
    import random

    draw, shortened = random.Random(f"{kind} {start}"), 0
    for name, known in tokenizers_of_all_kinds():
        for most in (1, 7, 30):
            text = words_like(draw, kind, draw.choice([3000, 20_000]))
            piece = usable(known, text, most, start=start)
            shortened += len(piece.text) < len(text)
            whole, cut = (
                known(one, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
                for one in (text, piece.text)
            )
            at = slice(-most, None) if start else slice(0, most)
            assert whole["input_ids"][at] == cut["input_ids"][at], name
            offsets = piece.places(np.array(cut["offset_mapping"][at]))
            assert offsets.tolist() == [list(one) for one in whole["offset_mapping"][at]], name
            assert min(len(cut["input_ids"]), most + 1) == min(len(whole["input_ids"]), most + 1)
    assert shortened > 5


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("x" * 3_000_000 + " cat sat", ["[UNK]", "cat", "sat"]),
        ("cat" + " " * 3_000_000 + "sat", ["cat", "sat"]),
        ("cat sat " * 400_000, None),
        ("." * 3_000_000, None),
    ],
)
def test_few_characters_reach_the_tokenizer(text, ids):
    known = tiny.tokenizer()
    given = []

    class Counting(type(known)):
        def _encode_plus(self, text, *rest, **options):
            given.append(sum(map(len, text)) if isinstance(text, list) else len(text))
            return super()._encode_plus(text, *rest, **options)

    known.__class__ = Counting
    pair = Pair("q", "d", "tea", text, 0)
    encoded = encode(known, [pair], 64)
    assert sum(given) < 60_000
    assert encoded.truncated.tolist() == [ids is None]
    if ids is not None:
        read = known.convert_ids_to_tokens(encoded.ids[0][encoded.parts[0] == Part.D].tolist())
        assert read == ids


def test_a_text_of_nothing_is_refused_at_a_bound():
    known = tiny.tokenizer()
    with pytest.raises(InputError, match=r"passage 'd': a text of 9,000,000 characters has no 64"):
        encode(known, [Pair("q", "d", "tea", "\x01" * 9_000_000, 0)], 64)


def test_a_prompted_text_is_cut_too(tmp_path):
    model = matchlens.load(decoder(tmp_path, labels=None), device="cpu")
    short, long = (Pair("q", "d", "tea", "cat sat " * times, 0) for times in (2_000, 200_000))
    one, other = model.encode([short]), model.encode([long])
    assert one.ids[0].tolist() == other.ids[0].tolist()
    assert model.spans(short).starts.tolist() == model.spans(long).starts.tolist()


# --- prompts


@pytest.mark.parametrize("place", ["instruction", "yes", "no"])
@pytest.mark.parametrize("mark", ["{passage}", "{query}", "{instruction}"])
def test_places_are_filled_in_the_pieces_only(place, mark):
    with pytest.raises(InputError, match=rf"a prompt's {place} holds \{mark}"):
        replace(QWEN3, **{place: f"read {mark} twice"})


def test_places_do_not_arise_from_pieces_put_together():
    with pytest.raises(InputError, match=r"hold \{passage\} 0 times"):
        Prompt(("{query} {pass", "age}", "end"), "yes")
    made = Prompt(("{que{instruction} {query} {passage}", "end"), "yes", instruction="ry}")
    ((text, spans), _) = made.filled("cat", "dog")
    assert (text, spans) == ("{query} cat dog", {Part.Q: (8, 11), Part.D: (12, 15)})


@pytest.mark.parametrize("place", ["instruction", "yes", "no", "pieces"])
def test_a_lone_surrogate_in_a_prompt_is_named(place):
    bad = "a \ud83d b"
    value = (bad, "{query} {passage}", "end") if place == "pieces" else bad
    with pytest.raises(InputError, match=rf"a prompt's {place} holds? a lone surrogate \(\\ud83d"):
        QWEN3.changed({place: value})
