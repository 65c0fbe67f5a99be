"""The folder of a combination of settings, and the scores that the library itself gives for it.

The folder is built as a person would build it: a config, a tokenizer, and ``save_pretrained``;
``file:`` settings then edit the saved files.
"""

from __future__ import annotations

import json
import string
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

import tiny
import tiny_decoders
import tiny_t5
from combinations import DECODERS, ENCODERS, GONE, T5S, Combination, prompted
from matchlens.prompts import Prompt, known_prompt


class Impossible(Exception):
    """The library itself cannot build or save such a model."""


def settings_of(combination: Combination, kind: str) -> dict[str, Any]:
    return {
        name.removeprefix(f"{kind}:"): value
        for name, value in combination.items()
        if name.startswith(f"{kind}:")
    }


def build(folder: Path, combination: Combination) -> None:
    """Build and save the folder of a combination.

    Raises:
        Impossible: if the library cannot.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            legacy = combination.get("saving:tokenizer") == "legacy" or None
            _tokenizer(combination).save_pretrained(folder, legacy_format=legacy)
            known = AutoTokenizer.from_pretrained(folder)
            module = _model(combination, len(known))
            _save_weights(folder, module, combination)
        except Exception as error:
            raise Impossible(f"{type(error).__name__}: {error}") from error
    _files(folder, combination)


@cache
def _trained(kind: str, special: tuple[str, ...]) -> str:
    """A tokenizer without template, as JSON; the first special tokens are pad, unk."""
    texts = [" ".join(tiny.WORDS)] * 3 + list(string.printable) + ["yes no Yes No café river"]
    unk = special[1]
    if kind == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=400, special_tokens=list(special), show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
    elif kind == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=list(special), unk_token=unk, show_progress=False
        )
    else:
        backend = Tokenizer(
            models.WordLevel({word: n for n, word in enumerate(special)}, unk_token=unk)
        )
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=list(special), show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return backend.to_str()


def _tokenizer(combination: Combination) -> PreTrainedTokenizerFast:
    family, given = combination["family"], settings_of(combination, "tokenizer")
    if family in T5S:
        sound = tiny_t5.tokenizer()
    else:
        sound = (tiny_decoders if family in DECODERS else tiny).tokenizer(family)
    backend = sound.backend_tokenizer
    named = {
        name: getattr(sound, name)
        for name in sound.SPECIAL_TOKENS_ATTRIBUTES
        if getattr(sound, name)
    }
    kind = given.pop("model", None)
    if kind:
        special = [named[f"{one}_token"] for one in ("pad", "unk", "cls", "sep", "mask")]
        backend = Tokenizer.from_str(_trained(kind, tuple(special)))
        sound_template = "flat" if family in tiny.ROBERTAS else "typed"
        backend.post_processor = _template(family, named, sound_template, backend)
    if "lowercase" in given or "strip_accents" in given:
        backend.normalizer = normalizers.BertNormalizer(
            lowercase=given.pop("lowercase", True), strip_accents=given.pop("strip_accents", None)
        )
    if (how := given.pop("normalizer", None)) is not None:
        more: Any = {
            "nfkc": [normalizers.NFKC()],
            "replace": [normalizers.Replace("dog", "cat")],
            "none": [],
        }[how]
        before = [] if how == "none" or backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([*more, *before])
    if (template := given.pop("template", None)) is not None:
        backend.post_processor = _template(family, named, template, backend)
    padding, cut = given.pop("padding", None), given.pop("truncation", None)
    if padding:
        backend.enable_padding(
            direction="left", length=48, pad_id=backend.token_to_id(named["pad_token"])
        )
    if cut:
        backend.enable_truncation(cut)
    added = given.pop("added", [])
    settings = {
        "model_max_length": sound.model_max_length, "padding_side": sound.padding_side,
        "model_input_names": sound.model_input_names, **named, **given,
    }  # fmt: skip
    if family in T5S:
        settings.setdefault("extra_special_tokens", ["<extra_id_10>"])
    if family in tiny_decoders.QWENS:
        settings.setdefault("extra_special_tokens", ["<|im_start|>"])
    out = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{key: one for key, one in settings.items() if one is not None}
    )
    for one in added:
        word, how = one if isinstance(one, tuple) else (one, "")
        aside = how == "strip"
        token: Any = AddedToken(word, lstrip=aside, rstrip=aside, single_word=how == "word")
        out.add_tokens([token])
    return out


def _template(family: str, named: dict[str, str], kind: str, backend: Tokenizer) -> Any:
    """What the tokenizer puts around a pair."""
    if family in T5S:
        first = last = named["eos_token"]
    elif family in DECODERS:
        first, last = named.get("bos_token", named["eos_token"]), named["eos_token"]
    else:
        first, last = named["cls_token"], named["sep_token"]
    middle = f"{last} {last}" if family in tiny.ROBERTAS else last
    pair = {
        "flat": f"{first} $A {middle} $B {last}",
        "typed": f"{first} $A {middle} $B:1 {last}:1",
        "query typed": f"{first} $A:1 {middle} $B {last}",
        "doubled": f"{first} $A {last} {last} $B:1 {last}:1",
        "single": f"{first} $A {last} $B:1 {last}:1",
        "plain": "$A $B:1",
        "bos": f"{first} $A $B:1",
        "swapped": f"{first} $B {middle} $A:1 {last}:1",
        "no end": f"{first} $A {middle} $B:1",
        "eos": f"$A {middle} $B:1 {last}:1",
    }[kind]  # fmt: skip
    single = {"plain": "$A", "bos": f"{first} $A", "eos": f"$A {last}"}.get(
        kind, f"{first} $A {last}"
    )
    return processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(one, backend.token_to_id(one)) for one in {first, last}],
    )


ENCODER_NAMES = {
    "distilbert": {"num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
    **{one: {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"} for one in T5S},
}


def _model(combination: Combination, vocabulary: int) -> Any:
    family, given = combination["family"], settings_of(combination, "config")
    decoder = family in DECODERS
    size = given.pop("vocab_size", "+0")
    given["vocab_size"] = max(8, vocabulary + int(size))
    several = given.get("problem_type") in (
        "single_label_classification",
        "multi_label_classification",
    )
    labels = given.pop("num_labels", 2 if several else 1)
    if "id2label" in given:
        labels = len(given["id2label"])
    given = {ENCODER_NAMES.get(family, {}).get(key, key): value for key, value in given.items()}
    if family in T5S:
        return tiny_t5.model(family, **{**given, "num_labels": labels})
    for key in ("max_position_embeddings", "type_vocab_size", "pad_token_id", "bos_token_id"):
        sound = AutoConfig.for_model(family)
        if combination.get(f"file:config.json:{key}") == GONE and hasattr(sound, key):
            given[key] = getattr(sound, key)
    layers = given.pop("num_hidden_layers", 2)
    heads = given.pop("num_attention_heads", 4)
    if "layer_types" in given:
        given["layer_types"] = (given["layer_types"] * 2)[:layers]
    elif {"global_attn_every_n_layers", "max_window_layers"} & set(given):
        given["layer_types"] = None
    elif hasattr(AutoConfig.for_model(family), "layer_types") and (
        given.get("use_sliding_window") is False or given.get("sliding_window", 1) is None
    ):
        given["layer_types"] = ["full_attention"] * layers
    if decoder:
        keys = given.pop("num_key_value_heads", min(2, heads))
        classifier = combination.get("head") == "classifier"
        if not classifier:
            given.pop("id2label", None)
        given = {"labels": labels if classifier else None, "keys": keys, **given}
        return tiny_decoders.model(family, layers, heads, **given)
    own = {"n_layers": layers, "n_heads": heads} if family == "distilbert" else {}
    return tiny.model(labels, layers, heads, family=family, **{**own, **given})


def _save_weights(folder: Path, module: Any, combination: Combination) -> None:
    how = combination.get("saving:weights", "")
    if kind := combination.get("saving:dtype"):
        module = module.to(getattr(torch, kind))
    module.save_pretrained(folder, **({"max_shard_size": "20KB"} if "sharded" in how else {}))
    names = combination.get("saving:names")
    if names and not how:
        path = folder / "model.safetensors"
        save_file(_renamed(load_file(path), names, module), path, metadata={"format": "pt"})
    if "bin" in how:
        for path in sorted(folder.glob("*.safetensors")):
            weights = load_file(path)
            if how == "bin beside":
                weights = {name: torch.zeros_like(one) for name, one in weights.items()}
            torch.save(weights, folder / _pickle(path.name))
            if how != "bin beside":
                path.unlink()
        index = folder / "model.safetensors.index.json"
        if index.exists():
            content = json.loads(index.read_text())
            content["weight_map"] = {
                name: _pickle(file) for name, file in content["weight_map"].items()
            }
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(content))
            index.unlink()
    if adapter := combination.get("saving:adapter"):
        _adapter(folder, module, adapter)


def _pickle(name: str) -> str:
    return name.replace("model", "pytorch_model", 1).replace(".safetensors", ".bin")


def _renamed(weights: dict[str, Any], how: str, module: Any) -> dict[str, Any]:
    first = next(iter(weights))
    body = module.base_model_prefix
    if how == "extra":
        weights["extra.weight"] = torch.ones(3)
    elif how == "position_ids":
        weights[f"{body}.embeddings.position_ids"] = torch.arange(8)[None]
    elif how == "no head":
        heads = [name for name in weights if not name.startswith(body)]
        for name in heads:
            del weights[name]
    elif how == "no norm":
        norms = [name for name in weights if "norm" in name.lower()]
        del weights[norms[-1]]
    elif how == "layer more":
        again = {
            name.replace(".1.", ".7."): one.clone()
            for name, one in weights.items()
            if ".1." in name
        }
        weights.update(again or {"deep.7.weight": torch.ones(2)})
    elif how == "module.":
        weights = {f"module.{name}": one for name, one in weights.items()}
    elif how == "gamma":
        weights = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): one
            for name, one in weights.items()
        }
    else:
        weights[f"old_{first}"] = weights.pop(first)
    return weights


def _adapter(folder: Path, module: Any, how: str) -> None:
    config = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query", "value"],
        "task_type": "SEQ_CLS", "base_model_name_or_path": str(folder), "inference_mode": True,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if how == "lora":
        generator = torch.Generator().manual_seed(3)
        weights = {}
        for name, one in module.named_parameters():
            if name.endswith(("query.weight", "value.weight")):
                stem = f"base_model.model.{name.removesuffix('.weight')}"
                weights[f"{stem}.lora_A.weight"] = torch.randn(2, one.shape[1], generator=generator)
                weights[f"{stem}.lora_B.weight"] = torch.randn(one.shape[0], 2, generator=generator)
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _files(folder: Path, combination: Combination) -> None:
    """Edit the saved files."""
    how = combination.get("saving:tokenizer")
    if how == "tokenizer.json only":
        (folder / "tokenizer_config.json").unlink()
    if how == "vocab only":
        known = json.loads((folder / "tokenizer.json").read_text())["model"]
        (folder / "tokenizer.json").unlink()
        words: Any = known["vocab"]
        listed = isinstance(words, list)  # with each word's probability, in the order of the ids
        order = [word for word, _ in words] if listed else sorted(words, key=lambda one: words[one])
        if known["type"] == "BPE":
            (folder / "vocab.json").write_text(json.dumps(known["vocab"]))
            merges = [one if isinstance(one, str) else " ".join(one) for one in known["merges"]]
            (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
        else:
            (folder / "vocab.txt").write_text("\n".join(order))
        _edit(folder / "tokenizer_config.json", "tokenizer_class", GONE)
    for name in ("readme", "chat_template.jinja"):
        if (text := combination.get(f"saving:{name}")) is not None:
            (folder / {"readme": "README.md"}.get(name, name)).write_text(text)
    if (kind := combination.get("saving:modules.json")) is not None:
        place = "sentence_transformers.base.modules."
        listed = [{"idx": 0, "name": "0", "path": "", "type": f"{place}transformer.Transformer"}]
        if kind == "dense":
            listed.append({"idx": 1, "name": "1", "path": "1_Dense", "type": f"{place}dense.Dense"})
        if kind == "lower":
            _edit(folder / "sentence_bert_config.json", "do_lower_case", True)
            _edit(folder / "sentence_bert_config.json", "max_seq_length", 22)
        if kind == "prompted":
            _edit(folder / "config_sentence_transformers.json", "prompts", {"query": "red dog "})
            _edit(folder / "config_sentence_transformers.json", "default_prompt_name", "query")
        (folder / "modules.json").write_text(json.dumps(listed))
    for name, value in settings_of(combination, "file").items():
        file, _, key = name.partition(":")
        _edit(folder / file, key, value)


def _edit(path: Path, key: str, value: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    if key == "defaults":
        sound = json.loads(AutoConfig.for_model(content["model_type"]).to_json_string(False))
        content = {
            name: one
            for name, one in content.items()
            if name == "model_type" or name not in sound or sound[name] != one
        }
    elif key == "renamed":
        old, new = value
        if old in content:
            content[new] = content.pop(old)
    elif value == GONE:
        content.pop(key, None)
    elif key == "max_len":
        content.pop("model_max_length", None)
        content[key] = value
    else:
        content[key] = 999 if value == "next" else value
    path.write_text(json.dumps(content))


LONG = " ".join([*tiny.WORDS, *tiny.WORDS[::-1]] * 20)
PAIRS = (
    ("cat sat", "red dog ran far"),
    ("warm tea", LONG),
    ("cat [SEP] sat </s>", "the [CLS] dog </s> ran <s> <|im_end|> far [MASK] <eos> {query} sun"),
    (
        "na\u00efve Caf\u00e9 \u6771\u4eac",
        "\ufb01 \u2167 zero\u00a0width \u00df \u0130 \t\n  x \U0001f600 e\u0301",
    ),
    ("?", ". !"),
)
"""Queries and passages: short, over-long, with special tokens as text, odd characters, no words."""

SENTENCE_TRANSFORMERS = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)


@dataclass(frozen=True)
class Expected:
    """What the library makes of a folder.

    Args:
        scores: of each pair, NaN where the library cannot score it.
        refused: why there is no score to agree with, empty where there is.
    """

    scores: np.ndarray
    refused: str = ""


def expected(folder: Path, combination: Combination) -> Expected:
    """The library's own scores for the texts, with its own limit, truncation and token types."""
    nothing = np.full(len(PAIRS), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _without_speed(folder)
            module, report = _loaded(folder, combination)
            for what in ("missing_keys", "mismatched_keys", "unexpected_keys", "error_msgs"):
                if report.get(what):
                    return Expected(nothing, f"{what}: {sorted(map(str, report[what]))[:2]}")
            config = module.config
            if _classifies(combination):
                if config.num_labels not in (1, 2):
                    return Expected(nothing, f"{config.num_labels} labels")
                if config.num_labels == 2 and config.problem_type == "multi_label_classification":
                    return Expected(nothing, "two labels that are no opposites")
            served = any((folder / name).exists() for name in SENTENCE_TRANSFORMERS)
            served = served and config.architectures != []  # it takes the first of them
            if served and not prompted(combination):
                score = _sentence_transformers(folder)
            else:
                tokenizer = AutoTokenizer.from_pretrained(folder)
                score = partial(_each, module, tokenizer, combination)
        except Exception as error:  # whatever it raises, it is the library that refuses
            return Expected(nothing, _reason(error))
        scores, said = nothing.copy(), ""
        for place, pair in enumerate(PAIRS):
            try:
                scores[place] = score(pair)
            except Exception as error:  # it cannot score this pair
                said = _reason(error)
    return Expected(scores, "" if np.isfinite(scores).any() else said)


def _without_speed(folder: Path) -> None:
    """Take out settings of speed and memory, which stop the library on some machines."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    for key in (
        "attn_implementation",
        "_attn_implementation",
        "chunk_size_feed_forward",
        "return_dict",
    ):
        content.pop(key, None)
    path.write_text(json.dumps(content))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"


def _classifies(combination: Combination) -> bool:
    return combination["family"] in ENCODERS or combination.get("head") == "classifier"


def _loaded(folder: Path, combination: Combination) -> tuple[Any, dict[str, Any]]:
    auto: Any = AutoModelForCausalLM
    if _classifies(combination):
        auto = AutoModelForSequenceClassification
    elif combination["family"] in T5S:
        auto = AutoModelForSeq2SeqLM
    module, report = auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True,
        ignore_mismatched_sizes=True, local_files_only=True,
    )  # fmt: skip
    return module.eval(), report


def _limit(module: Any, tokenizer: Any) -> int:
    """Most tokens: the tokenizer's limit and the places of the position table; else a default."""
    table = next(
        (one for name, one in module.named_modules() if name.endswith("position_embeddings")), None
    )
    if table is None and tokenizer.model_max_length < 10**9:
        return tokenizer.model_max_length
    if module.config.model_type in T5S:
        return 512  # what they were trained with
    places = module.config.max_position_embeddings
    if table is not None:
        places = table.num_embeddings
        if module.config.model_type in tiny.ROBERTAS:
            places -= table.padding_idx + 1
    return min(tokenizer.model_max_length, places)


def _each(module: Any, tokenizer: Any, combination: Combination, pair: tuple[str, str]) -> float:
    limit = _limit(module, tokenizer)
    if _classifies(combination):
        cut = _cut(tokenizer, pair, limit)
        inputs = tokenizer(*pair, truncation=cut, max_length=limit, return_tensors="pt")
    else:
        inputs = _prompted(tokenizer, pair, limit, combination)
    if combination["family"] in T5S:
        inputs["decoder_input_ids"] = torch.tensor([[module.config.decoder_start_token_id]])
    with torch.inference_mode():
        out = module(**inputs)
    logits = (out[0] if isinstance(out, tuple) else out.logits).double()
    if _classifies(combination):
        return _relevance(logits[0].tolist())
    prompt = _prompt_of(combination)
    total = 0.0
    for word, sign in ((prompt.yes, 1), (prompt.no, -1)):
        if word is not None:
            (answer,) = tokenizer(word, add_special_tokens=False)["input_ids"]
            total += sign * float(logits[0, -1, answer])
    return total


def _prompt_of(combination: Combination) -> Prompt:
    family = combination["family"]
    known = known_prompt(family)
    return known.prompt if family in T5S and known else tiny_decoders.PROMPTS[family]


def _relevance(row: list[float]) -> float:
    return row[0] if len(row) == 1 else row[1] - row[0]


def _cut(tokenizer: Any, pair: tuple[str, str], limit: int) -> bool | str:
    """The library's own way to cut, where it cuts the passage only, as is documented; else that."""
    cut = tokenizer(*pair, truncation=True, max_length=limit).sequence_ids(0)
    whole = tokenizer(*pair).sequence_ids(0)
    return True if cut.count(0) == whole.count(0) else "only_second"


def _prompted(
    tokenizer: Any, pair: tuple[str, str], limit: int, combination: Combination
) -> dict[str, Any]:
    """Token ids as the models' own code makes them, texts as text."""
    prompt, (query, text) = _prompt_of(combination), pair

    def control(one: str) -> list[int]:
        return tokenizer(one, add_special_tokens=False)["input_ids"]

    def plain(one: str, **more: Any) -> list[int]:
        whole = {"add_special_tokens": False, "split_special_tokens": True, **more}
        return tokenizer(one, **whole)["input_ids"]

    begin = tokenizer.bos_token_id
    start = [begin] if prompt.begin and begin not in (None, tokenizer.pad_token_id) else []
    if combination["family"] in T5S:
        return _monot5(tokenizer, pair, limit, prompt, plain)
    if combination["family"] == "qwen3":
        before, after = control(prompt.pieces[0]), control(prompt.pieces[2])
        middle = f"<Instruct>: {prompt.instruction}\n<Query>: {query}\n<Document>: {text}"
        more: Any = {"add_special_tokens": True}
    elif combination["family"] in ("gemma", "gemma2"):
        before = start + plain(f"A: {query}") + control("\n")
        after = control("\n") + control(prompt.instruction)
        middle, more = f"B: {text}", {}
    else:  # each piece by itself, as mxbai's own code has it
        pieces = prompt.pieces
        place = next(n for n, piece in enumerate(pieces) if "{passage}" in piece)
        before, after = start, [token for piece in pieces[place + 1 :] for token in control(piece)]
        for piece in pieces[:place]:
            asks = "{query}" in piece
            before += plain(piece.replace("{query}", query)) if asks else control(piece)
        middle, more = pieces[place].replace("{passage}", text), {}
    room = limit - len(before) - len(after)
    if room <= len(plain(middle.partition(text)[0], **more)):
        raise ValueError("no token of the passage fits")
    ids = [*before, *plain(middle, truncation=True, max_length=room, **more), *after]
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
    }


def _monot5(
    tokenizer: Any, pair: tuple[str, str], limit: int, prompt: Prompt, plain: Callable[..., Any]
) -> dict[str, Any]:
    """monoT5's one text; where it is too long, tokens at the passage's end are left out."""
    query, text = pair
    (whole,) = prompt.pieces
    filled = whole.replace("{query}", query).replace("{passage}", text)
    encoding = tokenizer(
        filled, split_special_tokens=True, return_offsets_mapping=True, return_tensors=None
    )
    first = filled.index(text, whole.index("{passage}") - len("{query}") + len(query))
    ids, places = encoding["input_ids"], encoding["offset_mapping"]
    inside = [n for n, (a, b) in enumerate(places) if a < first + len(text) and b > first]
    if (over := len(ids) - limit) > 0:
        if over >= len(inside):
            raise ValueError("no token of the passage fits")
        ids = [one for n, one in enumerate(ids) if n not in inside[-over:]]
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
    }


def _sentence_transformers(folder: Path) -> Callable[[tuple[str, str]], float]:
    from sentence_transformers import CrossEncoder

    kind = {"dtype": torch.float32}
    encoder = CrossEncoder(str(folder), device="cpu", local_files_only=True, model_kwargs=kind)

    def score(pair: tuple[str, str]) -> float:
        whole = _cut(encoder.tokenizer, pair, encoder.tokenizer.model_max_length)
        options = {} if whole is True else {"processing_kwargs": {"text": {"truncation": whole}}}
        out = encoder.predict(
            [pair], activation_fn=torch.nn.Identity(), show_progress_bar=False, **options
        )
        return _relevance(np.asarray(out, dtype=float).reshape(-1).tolist())

    return score
