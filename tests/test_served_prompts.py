"""Prompts that a folder's chat template writes, and those that are shipped for known models."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer

import matchlens
import tiny
import tiny_decoders
from matchlens import InputError, MatchlensWarning, Pair
from matchlens.models import load as loading
from matchlens.models import prompted
from matchlens.models.check import CheckError
from matchlens.models.checks import tokens
from matchlens.models.folder import TEMPLATE, find
from matchlens.prompts import KNOWN, Prompt, known_prompt
from test_cli import call
from tiny_decoders import QWEN3

JUDGE = (
    "<|im_start|>system\nJudge{% for m in messages if m.role == 'system' %} {{ m.content if "
    "m.content is string else m.content[0].text }}{% endfor %}<|im_end|>\n<|im_start|>user\n"
    "{% for m in messages if m.role != 'system' %}<{{ m.role }}> {{ m.content if m.content is "
    "string else m.content[0].text }}\n{% endfor %}<|im_end|>\n<|im_start|>assistant\n"
)
TRIMMED = JUDGE.replace("m.content[0].text }}\n", "m.content[0].text | trim }}\n").replace(
    "{{ m.content if m.content is string else m.content[0].text | trim }}\n",
    "{{ (m.content if m.content is string else m.content[0].text) | trim }}\n",
)
TEXTS = [
    ("cat sat", "sun rain cold"),
    ("  warm tea? ", " a ship\nof TEA  "),
    ("dog ran", " ".join(tiny.WORDS * 40)),
]
PAIRS = [Pair(f"q{n}", f"d{n}", query, text, 0) for n, (query, text) in enumerate(TEXTS)]


def served(tmp_path: Path, template: str, family: str = "qwen3", labels=None, **about) -> Path:
    """A tiny decoder, saved by sentence-transformers with a chat template."""
    plain = tiny_decoders.save(tmp_path / "plain", family, labels=labels, sliding_window=200)
    (plain / "chat_template.jinja").write_text(template)
    folder = tmp_path / "served"
    CrossEncoder(str(plain), device="cpu", **about).save_pretrained(str(folder))
    return folder


def predicted(encoder) -> np.ndarray:
    return encoder.predict(TEXTS, activation_fn=torch.nn.Identity(), show_progress_bar=False)


@pytest.mark.parametrize("labels", [None, 1], ids=["answers", "classifier"])
@pytest.mark.parametrize("template", [JUDGE, TRIMMED], ids=["plain", "trimmed"])
def test_scores_are_predict_s_through_load_and_wrap(tmp_path, template, labels):
    """Long passages are cut before the template's own end, as the library puts that back."""
    about = {"prompts": {"web": "carefully"}, "default_prompt_name": "web"}
    folder = served(tmp_path, template, labels=labels, **about)
    encoder = CrossEncoder(str(folder), device="cpu")
    expected = predicted(encoder)
    assert np.ptp(expected) > 0.01
    for model in (matchlens.load(folder, device="cpu"), matchlens.wrap(encoder)):
        assert model.identity["prompt_from"] == TEMPLATE
        assert model.identity["prompt"]["strip"] is (template == TRIMMED)
        assert "carefully" in model.prompt.pieces[0]
        assert model.encode(PAIRS).truncated.tolist() == [False, False, True]
        found = matchlens.score(model, PAIRS)[""]
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_answers_are_the_folder_s_ids_where_a_word_becomes_other_tokens(tmp_path):
    """A SentencePiece tokenizer puts a space before a word; LogitScore reads the piece without."""
    plain = tiny_decoders.save(tmp_path / "plain", "llama")
    file = plain / "tokenizer.json"
    known = json.loads(file.read_text())
    prepend = {"type": "Prepend", "prepend": "\u2581"}
    known["normalizer"] = {"type": "Sequence", "normalizers": [prepend, known["normalizer"]]}
    file.write_text(json.dumps(known))
    (plain / "chat_template.jinja").write_text(JUDGE)
    folder = tmp_path / "served"
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder))
    encoder = CrossEncoder(str(folder), device="cpu")
    yes = encoder[1].true_token_id
    assert encoder.tokenizer("yes", add_special_tokens=False)["input_ids"] != [yes]
    expected = predicted(encoder)[:2]
    model = matchlens.load(folder, device="cpu")
    assert (model.prompt.yes, model.family.yes) == ("yes", yes)
    for same in (model, matchlens.wrap(encoder)):
        np.testing.assert_allclose(matchlens.score(same, PAIRS[:2])[""], expected, atol=1e-4)
    given = replace(model.prompt, yes="no", no="yes")
    with pytest.raises(InputError, match=r'give the prompt the answers \{"yes": "yes", "no": "no"'):
        matchlens.load(folder, device="cpu", prompt=given)


@pytest.mark.parametrize("task", ["text-generation", "sequence-classification"])
def test_a_chat_template_is_not_used_where_an_older_folder_says_nothing_of_it(tmp_path, task):
    """Without modality_config sentence-transformers takes texts, as when it was saved."""
    folder = served(tmp_path, JUDGE, labels=1 if task == "sequence-classification" else None)
    tiny.edit(folder / "sentence_bert_config.json", modality_config=None)
    encoder = CrossEncoder(str(folder), device="cpu")
    assert list(encoder[0].modality_config) == ["text"]
    if task == "text-generation":
        with pytest.raises(InputError, match="pairs texts without a prompt"):
            matchlens.load(folder, device="cpu")
        return
    found = matchlens.score(matchlens.load(folder, device="cpu"), PAIRS[:2])[""]
    np.testing.assert_allclose(found, predicted(encoder)[:2], atol=1e-4)


@pytest.mark.parametrize(
    ("template", "says"),
    [(None, r"pairs texts without a prompt \(modules.json"), ("tea", "writes no prompt around")],
)
def test_why_a_causal_model_needs_a_prompt_is_said_truly(tmp_path, template, says):
    plain = tiny_decoders.save(tmp_path / "plain", "llama")
    if template:
        (plain / "chat_template.jinja").write_text(template)
    folder = tmp_path / "served"
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder))
    with pytest.raises(InputError, match=rf"{says}.*give the prompt .*--prompt"):
        matchlens.load(folder, device="cpu")
    assert matchlens.load(folder, device="cpu", prompt=tiny_decoders.PLAIN).chosen


def test_the_identity_known_early_is_that_of_the_loaded_model(tmp_path):
    folder = served(tmp_path, JUDGE)
    asked = find(str(folder)).with_prompt(None)
    model = matchlens.load(asked, device="cpu")
    assert asked.identity("float32", None) == model.identity
    done = call("check", "--model", folder, "--device", "cpu")
    assert done.status == 0
    assert f"asked in a prompt ({TEMPLATE}), answers read: 'yes' and 'no'" in done.out


def test_places_of_stripped_texts_are_those_of_the_texts(tmp_path):
    model = matchlens.load(served(tmp_path, TRIMMED), device="cpu")
    spans = model.spans(PAIRS[1])
    words = {
        part: "".join(
            text[start:end]
            for start, end in zip(
                spans.starts[spans.parts == part], spans.ends[spans.parts == part], strict=True
            )
        )
        for part, text in ((matchlens.Part.Q, TEXTS[1][0]), (matchlens.Part.D, TEXTS[1][1]))
    }
    assert [one.strip() for one in words.values()] == [one.strip() for one in TEXTS[1]]


CONTENT = "(m.content if m.content is string else m.content[0].text)"
CHANGING = {
    "replaced words": f"{{{{ {CONTENT} | replace('sun', 'moon') }}}}",
    "marked texts": f"{{% if 'rain' in {CONTENT} %}}WET {{% endif %}}{{{{ {CONTENT} }}}}",
    "what stands behind a word": f"{{{{ {CONTENT}.split('</think>')[-1] }}}}",
}


@pytest.mark.parametrize("content", CHANGING.values(), ids=CHANGING)
def test_a_template_that_changes_some_texts_is_refused_for_those(tmp_path, content):
    template = f"{{% for m in messages %}}<{{{{ m.role }}}}> {content}\n{{% endfor %}}"
    folder = served(tmp_path, template)
    encoder = CrossEncoder(str(folder), device="cpu")
    texts = [("sun", "rain </think> cold " * 40), ("tea", "a ship")]
    expected = encoder.predict(texts, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    for model in (matchlens.load(folder, device="cpu"), matchlens.wrap(encoder)):
        with pytest.raises(InputError, match="'q1' and passage 'd1': the model's chat template"):
            matchlens.score(model, texts)
        found = matchlens.score(model, texts[1:])[""]
        np.testing.assert_allclose(found, expected[1:], atol=1e-4)
    given = matchlens.load(folder, device="cpu", prompt=model.prompt)
    assert np.isfinite(matchlens.score(given, texts)[""]).all()


def test_a_template_that_fails_for_some_text_is_refused_for_that(tmp_path):
    fails = f"{{% if 'rain' in {CONTENT} %}}{{{{ raise_exception('no rain') }}}}{{% endif %}}"
    template = (
        f"{{% for m in messages %}}{fails}<{{{{ m.role }}}}> {{{{ {CONTENT} }}}}\n{{% endfor %}}"
    )
    model = matchlens.load(served(tmp_path, template), device="cpu")
    says = r"'q2' and passage 'd2': .* tokenizer fails on it \(no rain\)"
    with pytest.raises(InputError, match=says):
        matchlens.score(model, [("tea", "a ship"), ("sun", "rain")])


@pytest.mark.parametrize("place", [0, 1], ids=["query", "passage"])
def test_a_control_token_in_a_text_is_warned_of_once(tmp_path, place):
    model = matchlens.load(served(tmp_path, JUDGE), device="cpu")
    pair = ["tea", "a ship"]
    pair[place] += " <|im_end|>"
    with pytest.warns(MatchlensWarning, match=r"holds '<\|im_end\|>', which sentence-transformers"):
        matchlens.score(model, [tuple(pair)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matchlens.score(model, [tuple(pair)])


def test_a_control_token_without_a_role_is_warned_of(tmp_path):
    folder = served(tmp_path, JUDGE)
    tiny.edit(folder / "tokenizer_config.json", extra_special_tokens=None)
    model = matchlens.load(folder, device="cpu")
    assert "<|im_start|>" not in model.tokenizer.all_special_tokens
    with pytest.warns(MatchlensWarning, match=r"holds '<\|im_start\|>', which sentence-transf"):
        matchlens.score(model, [("tea", "a <|im_start|> ship")])


@pytest.mark.parametrize(
    ("bucket", "key", "value"),
    [
        ("chat_template", "max_length", 24),
        ("chat_template", "truncation", False),
        ("chat_template", "tokenize", False),
        ("chat_template", "restore_suffix", False),
        ("text", "split_special_tokens", True),
    ],
)
def test_what_a_chat_template_is_not_written_with_is_refused(tmp_path, bucket, key, value):
    folder = served(tmp_path, JUDGE)
    file = folder / "sentence_bert_config.json"
    tiny.edit(file, processing_kwargs={bucket: {key: value}})
    with pytest.raises(InputError, match=rf"'{key}' in .*processing_kwargs in .* take it out"):
        find(folder)
    tiny.edit(file, processing_kwargs={bucket: {}})
    assert find(folder).serving.chat


@pytest.mark.parametrize("form", [{}, {"format": "auto"}, {"format": None}], ids=str)
@pytest.mark.parametrize("content", ["m.content", CONTENT], ids=["flat", "either"])
def test_variables_and_the_form_of_messages_are_the_library_s(tmp_path, form, content):
    template = (
        f"{{{{ tone }}}}{{% for m in messages %}} {{{{ {content} }}}}\n{{% endfor %}}Relevant:"
    )
    folder = served(tmp_path, template)
    file = folder / "sentence_bert_config.json"
    modes = json.loads(file.read_text())["modality_config"]
    modes["message"] = {"method": "forward", "method_output_name": "logits", **form}
    told = {"chat_template": {"tone": "Kindly", "restore_suffix": True}}
    tiny.edit(file, modality_config=modes, processing_kwargs=told)
    encoder = CrossEncoder(str(folder), device="cpu")
    if form == {"format": None} and content == "m.content":  # it writes lists into the template
        with pytest.raises(InputError, match="by the chat template"):
            matchlens.load(folder, device="cpu")
        return
    model = matchlens.load(folder, device="cpu")
    assert model.prompt.pieces[0].startswith("Kindly")
    found = matchlens.score(model, PAIRS[:2])[""]
    np.testing.assert_allclose(found, predicted(encoder)[:2], atol=1e-4)


def test_a_template_that_ends_in_padding_is_read_before_it_as_the_library_does(tmp_path):
    """Of a Llama 3 classifier, whose end of a turn is its padding, too."""
    plain = tiny_decoders.save(tmp_path / "plain", "qwen3", labels=1, sliding_window=200)
    ending = JUDGE.removesuffix("\n<|im_start|>assistant\n")
    assert ending.endswith("<|im_end|>")
    (plain / "chat_template.jinja").write_text(ending)
    tokenizer = AutoTokenizer.from_pretrained(plain)
    tokenizer.pad_token = "<|im_end|>"
    tokenizer.save_pretrained(plain)
    tiny.edit(plain, pad_token_id=tokenizer.pad_token_id)
    folder = tmp_path / "served"
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder))
    with pytest.warns(MatchlensWarning, match="pairs end in '<.im_end.>', its token of padding"):
        model = matchlens.load(folder, device="cpu")
    found = matchlens.score(model, PAIRS)[""]
    expected = predicted(CrossEncoder(str(folder), device="cpu"))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected) > 1e-2
    given = matchlens.load(folder, device="cpu", prompt=model.prompt)
    np.testing.assert_allclose(matchlens.score(given, PAIRS)[""], found, atol=1e-5)


@pytest.mark.parametrize("how", ["%d %b %Y", "%Y-%m-%d"])
def test_a_date_in_a_template_is_stated(tmp_path, how):
    template = JUDGE.replace("\nJudge", f"\n{{{{ strftime_now('{how}') }}}} Judge")
    model = matchlens.load(served(tmp_path, template), device="cpu")
    assert any("writes the day's date (strftime_now)" in note for note in model.notes)
    assert not any(
        "strftime_now" in note
        for note in matchlens.load(served(tmp_path / "plain", JUDGE), device="cpu").notes
    )


# --- shipped prompts


def test_a_shipped_prompt_is_chosen_by_what_the_folder_says(tmp_path):
    """By its name, else by where config.json says it comes from, else by its type."""
    plain = tiny_decoders.save(tmp_path / "mine", "qwen3")
    assert find(plain).prompt_from == "shipped, of Qwen3-Reranker, by its type alone"
    named = shutil.copytree(plain, tmp_path / "zerank-2-copy")
    assert find(named).prompt == known_prompt("qwen3", "zerank").prompt
    tiny.edit(plain, _name_or_path="ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b")
    assert find(plain).prompt_from == "shipped, of ctxl-rerank-v2"


def test_a_prompt_that_nothing_in_the_folder_asks_for_is_warned_of(tmp_path):
    plain = tiny_decoders.save(tmp_path / "mine", "qwen3")
    with pytest.warns(MatchlensWarning, match="takes the prompt of Qwen3-Reranker: if"):
        model = matchlens.load(plain, device="cpu")
    assert any("its files name no prompt" in note for note in model.notes)
    named = shutil.copytree(plain, tmp_path / "Qwen3-Reranker-mine")
    assert not matchlens.load(named, device="cpu").notes
    assert not matchlens.load(plain, device="cpu", prompt=QWEN3).notes


@pytest.mark.parametrize(
    ("model_type", "name", "shipped"),
    [
        ("t5", "unicamp-dl/ptt5-base-pt-msmarco-100k-v2", "PTT5 of mMARCO"),
        ("t5", "unicamp-dl/monoptt5-base", None),
        ("t5", "castorini/duot5-base-msmarco", None),
        ("t5", "unicamp-dl/InRanker-base", "monoT5"),
        ("mt5", "unicamp-dl/mt5-13b-mmarco-100k", None),
        ("mt5", "unicamp-dl/mt5-base-mmarco-v2", "mT5 of mMARCO"),
        ("qwen3", "/data/zerank/experiments/mine/checkpoint-5", "Qwen3-Reranker"),
        ("qwen3", "/data/zerank-2-mine/checkpoint-5", "zerank"),
        ("qwen3", "/x/models--zeroentropy--zerank-1-small/snapshots/ab", "zerank"),
    ],
)
def test_models_that_answer_otherwise_are_not_asked_in_their_type_s_prompt(
    model_type, name, shipped
):
    known = known_prompt(model_type, name)
    assert (known and known.name) == shipped


def test_what_rankllama_s_makers_put_before_the_texts_is_warned_of(tmp_path):
    folder = tiny_decoders.save(tmp_path / "rankllama-mine", "llama", labels=1)
    with pytest.warns(MatchlensWarning, match="give --query-prefix 'query: ' and --passage-prefix"):
        matchlens.load(folder, device="cpu")


def test_passages_may_stand_before_queries(tmp_path):
    """ctxl-rerank: one text, whose last words are the prompt's own."""
    folder = tiny_decoders.save(tmp_path / "ctxl-rerank-v2", "qwen3", sliding_window=200)
    model = matchlens.load(folder, device="cpu")
    few = PAIRS[:2]
    for pair, ids in zip(few, model.encode(few).ids, strict=True):
        text = (
            "Check whether a given document contains information helpful to answer the query.\n"
            f"<Document> {pair.text}\n<Query> {pair.query} ??"
        )
        assert ids.tolist() == model.tokenizer(text)["input_ids"]
    parts = model.encode(few[:1]).parts[0].tolist()
    assert parts.index(matchlens.Part.D) < parts.index(matchlens.Part.Q)
    table = matchlens.score(model, few, ("Q->D", "D->Q"))
    assert np.abs(table["Q->D"] - table[""]).max() > 1e-4
    np.testing.assert_allclose(table["D->Q"], table[""], atol=1e-5)  # it comes first


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: entry.name)
def test_shipped_prompts_name_their_source_and_are_whole(entry):
    assert entry.source.startswith("https://")
    assert entry.prompt == Prompt(**{**vars(entry.prompt)})
    assert known_prompt(entry.type, f"x/{entry.names[0]}").name == entry.name
    assert sum(other.default for other in KNOWN if other.type == entry.type) == 1


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_type_without_a_prompt_of_its_own_needs_one(tmp_path, family):
    folder = tiny_decoders.save(tmp_path / "model", family)
    with pytest.raises(InputError, match=r"its files do not say which prompt .*--prompt"):
        matchlens.load(folder, device="cpu")
    file = tmp_path / "prompt.json"
    file.write_text(json.dumps({"yes": "yes"}))
    with pytest.raises(InputError, match=r"has no pieces; expected both"):
        matchlens.load(folder, device="cpu", prompt=file)
    given = tiny_decoders.PLAIN
    file.write_text(json.dumps({"pieces": given.pieces, "yes": "yes", "no": "no", "begin": True}))
    model = matchlens.load(folder, device="cpu", prompt=file)
    assert (model.prompt, model.identity["prompt_from"]) == (given, "given")


# --- saboteurs


def wrong_answer(monkeypatch):
    """Another word's token is taken for the answer."""
    real = prompted.answer

    def answer(tokenizer, word, name):
        return real(tokenizer, {"1": "2", "yes": "Yes"}.get(word, word), name)

    monkeypatch.setattr(tokens, "answer", answer)


def prompt_dropped(monkeypatch):
    """The prompt's own words are left out."""
    real = loading.prompted_rows

    def encode(tokenizer, pairs, most, prompt, *more):
        pieces = ("{query} ", "{passage}", prompt.pieces[-1])
        return real(tokenizer, pairs, most, prompt.changed({"pieces": pieces}), *more)

    monkeypatch.setattr(loading, "prompted_rows", encode)


@pytest.mark.parametrize(
    ("sabotage", "caught", "says"),
    [
        (wrong_answer, "answers", r"the score is off the logits of z\('1'\) - z\('0'\) by \d"),
        (prompt_dropped, "prompt", r"\d of 4 texts are not encoded in the prompt"),
    ],
)
def test_a_saboteur_is_caught(sabotage, caught, says, tmp_path, monkeypatch):
    folder = tiny_decoders.save(tmp_path / "model", "qwen2")
    assert {caught, "ahead"} <= matchlens.load(folder, device="cpu").checks.keys()
    sabotage(monkeypatch)
    with pytest.raises(CheckError, match=says) as refused:
        matchlens.load(folder, device="cpu")
    assert not refused.value.checks[caught]["ok"]


def test_a_prompt_dropped_where_the_folder_writes_it_is_caught(tmp_path, monkeypatch):
    folder = served(tmp_path, JUDGE)
    prompt_dropped(monkeypatch)
    with pytest.raises(InputError, match=r"token ids for . of 4 texts that are not ours"):
        matchlens.load(folder, device="cpu")


@pytest.mark.parametrize(
    ("kind", "code", "near"),
    [
        ("new", "Alibaba-NLP/new-impl--configuration.NewConfig", "gte-reranker-modernbert-base"),
        ("xlm-roberta", "jinaai/jina-reranker-v2--x.XLMRobertaFlashConfig", "bge-reranker-v2-m3"),
        ("minicpm", "configuration_minicpm_reranker.X", "bge-reranker-v2-gemma"),
        ("bert", "a.B", "does not do, since there is no class"),
    ],
)
def test_code_of_a_model_is_refused_with_the_nearest_supported_model(tmp_path, kind, code, near):
    about = {"model_type": kind, "auto_map": {"AutoConfig": code}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=f"wants to run code of its own.*{near}"):
        find(tmp_path)


# --- attention to both sides


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_model_that_reads_both_sides_scores_as_the_library(tmp_path, family):
    """``is_causal`` false in config.json: the library's masks follow it, windows included."""
    folder = tiny_decoders.save(tmp_path / "model", family, labels=1, is_causal=False)
    model = matchlens.load(folder, device="cpu")
    assert model.checks["ahead"]["expected"] == "above 0"
    assert not model.family.band(0).causal
    encoder = CrossEncoder(str(folder), device="cpu")
    few = PAIRS[:2]
    expected = encoder.predict(TEXTS[:2], activation_fn=torch.nn.Identity())
    table = matchlens.score(model, few, ("Q->D",))
    np.testing.assert_allclose(table[""], expected, atol=1e-5 * max(1, np.abs(expected).max()))
    assert np.abs(table["Q->D"] - table[""]).max() > 1e-4


def run_causally(monkeypatch):
    """The walk takes the model for a causal one."""
    from matchlens.models.decoder import Decoder
    from matchlens.models.part_layout import LayerMask

    monkeypatch.setattr(Decoder, "band", lambda self, index: LayerMask(causal=True))


def library_runs_causally(monkeypatch):
    """A library that does not know the setting: its masks are causal, and so are ours."""
    from transformers import masking_utils
    from transformers.models.llama import modeling_llama

    real = masking_utils.create_causal_mask

    def deaf(config, *given, **named):
        config.is_causal = True
        try:
            return real(config, *given, **named)
        finally:
            config.is_causal = False

    monkeypatch.setattr(modeling_llama, "create_causal_mask", deaf)
    run_causally(monkeypatch)


@pytest.mark.parametrize(
    ("sabotage", "caught"),
    [(run_causally, "maps"), (library_runs_causally, "ahead")],
)
def test_a_model_run_to_one_side_only_is_caught(tmp_path, monkeypatch, sabotage, caught):
    folder = tiny_decoders.save(tmp_path / "model", "llama", labels=1, is_causal=False)
    sabotage(monkeypatch)
    with pytest.raises(CheckError) as refused:
        matchlens.load(folder, device="cpu")
    assert not refused.value.checks[caught]["ok"]
