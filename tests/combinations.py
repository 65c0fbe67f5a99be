"""Model folders with random settings, and the scores that the library itself gives for them.

A combination names a family and a few settings; every setting that it leaves out has the value of
the sound tiny models. Its folder is built as a person would build it: a config, a tokenizer, and
``save_pretrained``; ``file:`` settings then edit the saved files.
"""

from __future__ import annotations

import json
import random
import string
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
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
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

import tiny
import tiny_decoders

Combination = Mapping[str, Any]
"""``family`` and, by name, the settings that differ from a sound tiny model's."""

GONE = "(left out)"
"""The value of a ``file:`` setting that takes a key out of the file."""

BERTS = ("bert", "electra", "roberta", "xlm-roberta", "camembert")
WITH_TYPES = (*BERTS, "albert", "deberta-v2")
ENCODERS, DECODERS = tiny.FAMILIES, tiny_decoders.FAMILIES
FAMILIES = (*ENCODERS, *DECODERS)
ROTARY = ("modernbert", *DECODERS)
ACTIVATIONS = ("relu", "gelu_new", "silu", "tanh", "quick_gelu", "gelu_pytorch_tanh", "mish")
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}
LLAMA = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
ROPES = (
    {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
    {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    {**YARN, "rope_theta": 1e4},
    {**LLAMA, "rope_theta": 1e4},
)


@dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        name: ``config:``, ``tokenizer:``, ``file:FILE:`` or ``saving:``, then its key.
        values: what it may be.
        families: which families it is for.
        also: other words by which an error may name it.
    """

    name: str
    values: tuple[Any, ...]
    families: tuple[str, ...] = FAMILIES
    also: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.name.rpartition(":")[2]


def _config(families: Iterable[str], also: tuple[str, ...] = (), **values: tuple) -> list[Setting]:
    return [Setting(f"config:{key}", some, tuple(families), also) for key, some in values.items()]


def _file(name: str, families: Iterable[str] = FAMILIES, **values: tuple) -> list[Setting]:
    return [Setting(f"file:{name}:{key}", some, tuple(families)) for key, some in values.items()]


CONFIG = [
    *_config(
        FAMILIES,
        output_hidden_states=(True,), output_attentions=(True,), return_dict=(False,),
        is_encoder_decoder=(True,), torchscript=(True,), gradient_checkpointing=(True,),
        chunk_size_feed_forward=(1, 5), initializer_range=(0.01,), unknown_key=("x", None, [1]),
        tie_word_embeddings=(True, False), task_specific_params=({"a": 1},), temperature=(0.6,),
        num_beams=(4,), max_length=(12,), do_sample=(True,), finetuning_task=("mrpc",),
        problem_type=("regression", "single_label_classification", "multi_label_classification"),
        num_hidden_layers=(1, 3), num_attention_heads=(1, 2), vocab_size=("+8", "-9"),
        bos_token_id=(None, 0, 7), eos_token_id=(None, 5, [1, 3]), pad_token_id=(None, 0, 1, 9, -1),
        max_position_embeddings=(300, 512), pruned_heads=({}, {"0": [1]}),
        tie_last_hidden_states=(True, False), name_or_path=("/nowhere",),
        sentence_transformers=({"activation_fn": "torch.nn.modules.linear.Identity"},),
        sbert_ce_default_activation_function=("torch.nn.modules.activation.Sigmoid",),
        per_layer_config=({"1": {"intermediate_size": 24}}, {}),
        use_cache=(True, False), is_decoder=(True,), add_cross_attention=(True,),
        cross_attention_hidden_size=(32,), decoder_start_token_id=(1,),
    ),
    *_config(FAMILIES, ("label",), num_labels=(2, 2, 3), id2label=(
        {0: "toxic", 1: "relevant"}, {0: "yes", 1: "no"}, {0: "a", 1: "b", 2: "c"}, {0: "score"},
    )),
    *_config(
        (*WITH_TYPES, "mpnet", "albert", "qwen3", "gemma"), ("hidden_act",), hidden_act=ACTIVATIONS
    ),
    *_config(("modernbert", "gemma2"), hidden_activation=ACTIVATIONS),
    *_config(
        (*WITH_TYPES, "mpnet"),
        hidden_dropout_prob=(0, 0.5), attention_probs_dropout_prob=(0.5,), layer_norm_eps=(1e-3,),
        position_embedding_type=("relative_key", "absolute", "relative_key_query"),
    ),
    *_config(WITH_TYPES, ("token type", "segment"), type_vocab_size=(0, 1, 2, 3)),
    *_config((*BERTS, "modernbert"), classifier_dropout=(0.5,)),
    *_config(
        ("albert",),
        embedding_size=(32, 8), num_hidden_groups=(2,), inner_group_num=(2,),
        classifier_dropout_prob=(0.5,), down_scale_factor=(1,),
    ),
    *_config(
        ("electra",),
        embedding_size=(32,), summary_type=("mean",), summary_use_proj=(False,),
        summary_activation=("tanh",), summary_last_dropout=(0.5,),
    ),
    *_config(
        ("deberta-v2",),
        relative_attention=(False,), pos_att_type=(["p2c"], ["c2p"], "c2p|p2c", [], None),
        position_buckets=(-1, 4), max_relative_positions=(16, -1), position_biased_input=(False,),
        norm_rel_ebd=("layer_norm",), share_att_key=(True,), conv_kernel_size=(3,),
        conv_act=("gelu",), pooler_hidden_act=("tanh", "relu"), pooler_dropout=(0.5,),
        pooler_hidden_size=(16,), legacy=(False,), cls_dropout=(0.5,), attention_head_size=(4,),
    ),
    *_config(
        ("distilbert",),
        sinusoidal_pos_embds=(True,), activation=("relu", "silu"), dropout=(0.5,),
        attention_dropout=(0.5,), qa_dropout=(0.5,), seq_classif_dropout=(0.5,),
        tie_weights_=(True,),
    ),
    *_config(("mpnet",), relative_attention_num_buckets=(4, 8)),
    *_config(
        ("modernbert",),
        classifier_pooling=("mean",), local_attention=(4, 10, 128), norm_bias=(True,), 
        global_attn_every_n_layers=(1, 3), attention_bias=(False,), mlp_bias=(True,),
        classifier_bias=(True,), classifier_activation=("relu",), norm_eps=(1e-3,),
        layer_types=(["sliding_attention"] * 2, ["full_attention"] * 2),
        decoder_bias=(False,), sparse_prediction=(True,), sparse_pred_ignore_index=(-1,),
        deterministic_flash_attn=(True,), reference_compile=(True, False), embedding_dropout=(0.5,),
        attention_dropout=(0.5,), mlp_dropout=(0.5,), repad_logits_with_grad=(True,),
        initializer_cutoff_factor=(1.0,), global_rope_theta=(1e3,), local_rope_theta=(1e3,),
        rope_parameters=tuple(
            {"full_attention": one, "sliding_attention": ROPES[0]} for one in ROPES
        ),
        position_embedding_type=("sans_pos",), cls_token_id=(7,), sep_token_id=(None, 7),
    ),
    *_config(
        DECODERS, ("rotary",),
        rope_parameters=ROPES, rope_theta=(1e3,),
        rope_scaling=({"type": "linear", "factor": 2.0}, {"type": "dynamic", "factor": 2.0}),
    ),
    *_config(
        DECODERS,
        head_dim=(8, 16), num_key_value_heads=(1, 4), rms_norm_eps=(1e-3,), attention_bias=(True,),
        attention_dropout=(0.5,), pretraining_tp=(2,),
    ),
    *_config(
        ("qwen3",),
        use_sliding_window=(False, True), sliding_window=(None, 8, 24), max_window_layers=(0, 1),
        layer_types=(["full_attention"] * 2, ["sliding_attention"] * 2),
    ),
    *_config(("gemma", "gemma2"), ("causal",), use_bidirectional_attention=(True, False)),
    *_config(
        ("gemma2",),
        query_pre_attn_scalar=(64,), attn_logit_softcapping=(None, 30.0),
        final_logit_softcapping=(None, 30.0), sliding_window=(8, 400), cache_implementation=("hybrid",),
        layer_types=(["full_attention"] * 2, ["sliding_attention"] * 2),
    ),
]  # fmt: skip

CONFIG_FILE = [
    *_file(
        "config.json",
        **{
            "return_dict": (None,), "use_return_dict": (False,), "torch_dtype": ("float16",),
            "dtype": ("bfloat16", "float64", GONE, None), "model_type": ("bert", "no-such", GONE),
            "attn_implementation": ("sdpa", "flash_attention_2", "flex_attention", "no_such"),
            "_attn_implementation": ("flash_attention_2",),
            "_attn_implementation_autoset": (True,), "transformers_version": ("2.1.0", GONE),
            "architectures": (GONE, None, [], ["BertForMaskedLM"], ["NoSuch"]),
            "auto_map": ({"AutoModel": "modeling.Model"}, {}), "_name_or_path": ("/nowhere",),
            "id2label": (GONE, None, {"0": "a", "1": "b", "2": "c"}, {"x": "a"}),
            "num_labels": (1, 2, 5), "label2id": (GONE, {"x": 7}, None), "max_position_embeddings": (GONE, 20),
            "type_vocab_size": (GONE,), "vocab_size": (50, GONE), "pad_token_id": (GONE, "0"),
            "num_hidden_layers": (1, 3, GONE), "layer_norm_eps": (GONE, "1e-5"),
            "hidden_dropout_prob": (GONE, None), "defaults": (GONE,), "_commit_hash": ("abc",),
            "quantization_config": ({"quant_method": "no_such"},), "num_attention_heads": (8, 0),
            "bos_token_id": (GONE,), "problem_type": (GONE, "no_such"), "is_decoder": (GONE,),
            "_num_labels": (1, 3), "experts_implementation": ("eager",),
            "generation_config": ({},), "chunk_size_feed_forward": (-1, None),
        },
    ),
    *_file("config.json", ("distilbert",), renamed=(("dim", "hidden_size"), ("n_layers", "num_hidden_layers"))),
    *_file("config.json", ("modernbert", "gemma2"), renamed=(("hidden_activation", "hidden_act"),)),
    *_file("config.json", ROTARY, renamed=(("rope_parameters", "rope_scaling"),), rope_parameters=(GONE,)),
]  # fmt: skip

TYPES = ("token type", "token_type", "segment")
TOKENIZER = [
    Setting("tokenizer:model", ("bpe", "unigram", "wordlevel"), ENCODERS),
    Setting("tokenizer:lowercase", (False,), ENCODERS),
    Setting("tokenizer:strip_accents", (False,), ENCODERS),
    Setting("tokenizer:normalizer", ("nfkc", "replace", "none")),
    Setting(
        "tokenizer:template",
        ("flat", "typed", "query typed", "doubled", "single", "plain", "bos", "swapped", "no end", "eos"),
        also=("encode", "special token", "template", *TYPES),
    ),
    Setting("tokenizer:model_input_names", (
        ["input_ids", "attention_mask"], ["input_ids"], ["attention_mask", "input_ids"],
        ["input_ids", "token_type_ids", "attention_mask"],
    ), also=TYPES),
    Setting("tokenizer:padding_side", ("left", "right")),
    Setting("tokenizer:truncation_side", ("left", "right")),
    Setting("tokenizer:model_max_length", (None, 10**30, 16, 24, 40, 300, 512, 6), also=("length limit",)),
    Setting("tokenizer:clean_up_tokenization_spaces", (True, False)),
    Setting("tokenizer:split_special_tokens", (True,)),
    Setting("tokenizer:chat_template", ("{{ messages }}", "{% for m in messages %}{{ m.content }}{% endfor %}")),
    Setting("tokenizer:extra_special_tokens", (["red"], ["sun", "<x>"], {"image_token": "cold"})),
    Setting("tokenizer:added", (["dog ran"], ["ver"], ["<new>"], [("cat", "strip")], ["yes"], [("sat", "word")])),
    Setting("tokenizer:add_prefix_space", (True, False)),
    Setting("tokenizer:add_bos_token", (True, False)),
    Setting("tokenizer:add_eos_token", (True, False)),
    Setting("tokenizer:do_lower_case", (True, False)),
    Setting("tokenizer:pad_token", (None, "cat", "<none>")),
    Setting("tokenizer:unk_token", (None, "cat")),
    Setting("tokenizer:sep_token", (None, "mat"), ENCODERS),
    Setting("tokenizer:mask_token", (None,), ENCODERS),
    Setting("tokenizer:return_token_type_ids", (True,)),
    Setting("tokenizer:padding", ("left 48",)),
    Setting("tokenizer:truncation", (12, 30)),
    *_file("tokenizer_config.json", **{
        "max_len": (24,), "model_max_length": (GONE, None, 20.0, "24", 10**9 + 1, -1, 0),
        "tokenizer_class": (
            GONE, None, "BertTokenizer", "BertTokenizerFast", "RobertaTokenizer", "NoSuchTokenizer",
            "PreTrainedTokenizerFast", "PreTrainedTokenizer", "XLMRobertaTokenizerFast", "Qwen2Tokenizer",
            "GemmaTokenizer", "TokenizersBackend",
        ),
        "auto_map": ({"AutoTokenizer": ["tok.T", None]},), "use_fast": (False,), "truncation": (True,),
        "max_length": (16,), "stride": (2,), "truncation_strategy": ("only_first",), "init_inputs": ([],),
        "name_or_path": ("/nowhere",), "special_tokens_map_file": ("/nowhere",), "tokenizer_file": ("/nowhere",),
        "padding": ("max_length",), "pad_to_multiple_of": (8,), "pad_token_type_id": (1,), "backend": (GONE, "x"),
        "added_tokens_decoder": ({"5": {"content": "cat", "special": True}}, {"400": {"content": "[N]"}}),
        "additional_special_tokens": (["tea"],), "processor_class": ("NoSuchProcessor",), "is_local": (GONE,),
        "do_basic_tokenize": (False,), "tokenize_chinese_chars": (False,), "strip_accents": (True,),
        "wordpieces_prefix": ("@@",), "legacy": (True, False), "errors": ("strict",), "unknown": ({"a": [1]},),
        "cls_token": ({"__type": "AddedToken", "content": "[CLS]", "lstrip": True},),
    }),
    *_file("tokenizer.json", **{
        "truncation": ({"direction": "Left", "max_length": 12, "strategy": "LongestFirst", "stride": 0},),
        "padding": ({
            "strategy": {"Fixed": 48}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0,
            "pad_type_id": 1, "pad_token": "[PAD]",
        },),
    }),
    *_file("special_tokens_map.json", pad_token=("cat",), sep_token=("mat",), extra_special_tokens=(["sun"],)),
    *_file("added_tokens.json", river=("next", 3)),
    *_file("generation_config.json", max_length=(7,)),
]  # fmt: skip

SAVING = [
    Setting("saving:weights", ("sharded", "bin", "sharded bin", "bin beside"), also=("pytorch_model",)),
    Setting("saving:dtype", ("bfloat16", "float16", "float64")),
    Setting("saving:tokenizer", (
        "tokenizer.json only", "legacy", "vocab only", "no tokenizer_config.json",
    ), also=("vocab", "tokenizer", "slow")),
    Setting("saving:names", (
        "extra", "position_ids", "no head", "no norm", "layer more", "module.", "gamma", "old name"
    ), also=("weight",)),
    Setting("saving:readme", ("---\nmax_length: 7\n---\n",)),
    Setting("saving:chat_template.jinja", ("{{ messages }}",)),
    Setting("saving:adapter", ("config only", "lora"), ("bert", "roberta", "xlm-roberta"), ("LoRA", "peft")),
    *_file("sentence_bert_config.json", max_seq_length=(20, 300, None), do_lower_case=(True, False)),
    *_file("config_sentence_transformers.json", **{
        "prompts": ({"query": "red: "},), "default_prompt_name": ("query", None),
        "activation_fn": ("torch.nn.modules.activation.Sigmoid",), "model_type": ("CrossEncoder", "SentenceTransformer"),
    }),
    Setting("saving:modules.json", ("transformer", "dense"), also=("modules.json", "modules")),
]  # fmt: skip

SETTINGS = [*CONFIG, *CONFIG_FILE, *TOKENIZER, *SAVING]
NAMED = {setting.name: setting for setting in SETTINGS}
LISTED = {setting.name: [one for one in SETTINGS if one.name == setting.name] for setting in SETTINGS}


def head(draw: random.Random, family: str) -> dict[str, Any]:
    """A decoder is a causal model or a classifier."""
    return {"head": "classifier"} if family in DECODERS and draw.random() < 0.4 else {}


def drawn(seed: int) -> dict[str, Any]:
    """The random combination of a number: up to six settings of a family."""
    draw = random.Random(seed)
    family = FAMILIES[seed % len(FAMILIES)]
    own = [one for one in SETTINGS if family in one.families]
    groups = [[one for one in own if one in group] for group in (CONFIG, CONFIG_FILE, TOKENIZER, SAVING)]
    chosen: dict[str, Any] = {"family": family, **head(draw, family)}
    for _ in range(draw.randint(1, 6)):
        (group,) = draw.choices(groups, (5, 2, 5, 2))
        setting = draw.choice(group)
        chosen[setting.name] = draw.choice(setting.values)
    return chosen


def alone(everywhere: bool = False) -> list[dict[str, Any]]:
    """Every setting alone at each of its values, in one of its families or in all."""
    out = []
    for number, setting in enumerate(SETTINGS):
        for place, value in enumerate(setting.values):
            at = (number + place) % len(setting.families)
            some = setting.families if everywhere else setting.families[at : at + 1]
            draw = random.Random(number)
            out += [{"family": one, **head(draw, one), setting.name: value} for one in some]
    return out


# --- building


class Impossible(Exception):
    """The library itself cannot build or save such a model."""


def words_of(combination: Combination) -> set[str]:
    """Words by which an error may name what a combination sets."""
    out = set()
    for name, value in combination.items():
        for setting in LISTED.get(name, []):
            out |= {setting.key, *setting.also}
        kind, _, rest = name.partition(":")
        if kind == "file":
            out |= {rest.partition(":")[0]}
        if isinstance(value, str) and kind != "family" and len(value) > 3:
            out.add(value)
        if isinstance(value, dict):
            out |= {str(one) for one in value.values() if len(str(one)) > 3}
        if isinstance(value, list | tuple):
            out |= {str(one) for one in value if len(str(one)) > 2}
    return out - {"model", ""}


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
            _tokenizer(combination).save_pretrained(
                folder, **({"legacy_format": True} if combination.get("saving:tokenizer") == "legacy" else {})
            )
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
        backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(special)}, unk_token=unk))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=list(special), show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return backend.to_str()


def _tokenizer(combination: Combination) -> PreTrainedTokenizerFast:
    family, given = combination["family"], settings_of(combination, "tokenizer")
    sound = (tiny_decoders if family in DECODERS else tiny).tokenizer(family)
    backend = sound.backend_tokenizer
    named = {name: getattr(sound, name) for name in sound.SPECIAL_TOKENS_ATTRIBUTES if getattr(sound, name)}
    kind = given.pop("model", None)
    if kind:
        special = [named[f"{one}_token"] for one in ("pad", "unk", "cls", "sep", "mask")]
        template = backend.post_processor
        backend = Tokenizer.from_str(_trained(kind, tuple(special)))
        ids = {one: backend.token_to_id(one) for one in special}
        backend.post_processor = _template(family, named, "sound", ids) or template
    if "lowercase" in given or "strip_accents" in given:
        backend.normalizer = normalizers.BertNormalizer(
            lowercase=given.pop("lowercase", True), strip_accents=given.pop("strip_accents", None)
        )
    if (how := given.pop("normalizer", None)) is not None:
        more: Any = {"nfkc": [normalizers.NFKC()], "replace": [normalizers.Replace("dog", "cat")], "none": []}[how]
        before = [] if how == "none" or backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([*more, *before])
    if (template := given.pop("template", None)) is not None:
        ids = {one: backend.token_to_id(one) for one in named.values()}
        backend.post_processor = _template(family, named, template, ids)
    padding, cut = given.pop("padding", None), given.pop("truncation", None)
    if padding:
        backend.enable_padding(direction="left", length=48, pad_id=backend.token_to_id(named["pad_token"]))
    if cut:
        backend.enable_truncation(cut)
    added = given.pop("added", [])
    settings = {
        "model_max_length": sound.model_max_length, "padding_side": sound.padding_side,
        "model_input_names": sound.model_input_names, **named, **given,
    }  # fmt: skip
    if family == "qwen3":
        settings.setdefault("extra_special_tokens", ["<|im_start|>"])
    out = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{key: one for key, one in settings.items() if one is not None}
    )
    for one in added:
        word, how = one if isinstance(one, tuple) else (one, "")
        out.add_tokens([AddedToken(word, lstrip=how == "strip", rstrip=how == "strip", single_word=how == "word")])
    return out


def _template(family: str, named: dict[str, str], kind: str, ids: dict[str, int]) -> Any:
    """What the tokenizer puts around a pair."""
    if family in DECODERS:
        first, last = named.get("bos_token", named["eos_token"]), named["eos_token"]
    else:
        first, last = named["cls_token"], named["sep_token"]
    middle = f"{last} {last}" if family in tiny.ROBERTAS else last
    pair = {
        "sound": f"{first} $A {middle} $B {last}" if family in tiny.ROBERTAS else f"{first} $A {middle} $B:1 {last}:1",
        "flat": f"{first} $A {middle} $B {last}",
        "typed": f"{first} $A {middle} $B:1 {last}:1",
        "query typed": f"{first}:1 $A:1 {middle} $B {last}" if middle == last else f"{first} $A:1 {last} {last} $B {last}",
        "doubled": f"{first} $A {last} {last} $B:1 {last}:1",
        "single": f"{first} $A {last} $B:1 {last}:1",
        "plain": "$A $B:1",
        "bos": f"{first} $A $B:1",
        "swapped": f"{first} $B {middle} $A:1 {last}:1",
        "no end": f"{first} $A {middle} $B:1",
        "eos": f"$A {middle} $B:1 {last}:1",
    }[kind]  # fmt: skip
    single = {"plain": "$A", "bos": f"{first} $A", "eos": f"$A {last}"}.get(kind, f"{first} $A {last}")
    return processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(one, ids[one]) for one in {first, last}]
    )


ENCODER_NAMES = {
    "distilbert": {"num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
}


def _model(combination: Combination, vocabulary: int) -> Any:
    family, given = combination["family"], settings_of(combination, "config")
    decoder = family in DECODERS
    size = given.pop("vocab_size", "+0")
    given["vocab_size"] = max(8, vocabulary + int(size))
    labels = given.pop("num_labels", 1)
    if "id2label" in given:
        labels = len(given["id2label"])
    given = {ENCODER_NAMES.get(family, {}).get(key, key): value for key, value in given.items()}
    layers = given.pop("num_hidden_layers", 2)
    heads = given.pop("num_attention_heads", 4)
    if "layer_types" in given:
        given["layer_types"] = (given["layer_types"] * 2)[:layers]
    elif family == "modernbert" and "global_attn_every_n_layers" in given:
        given["layer_types"] = None
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
            content["weight_map"] = {name: _pickle(file) for name, file in content["weight_map"].items()}
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
        again = {name.replace(".1.", ".7."): one.clone() for name, one in weights.items() if ".1." in name}
        weights.update(again or {"deep.7.weight": torch.ones(2)})
    elif how == "module.":
        weights = {f"module.{name}": one for name, one in weights.items()}
    elif how == "gamma":
        weights = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): one
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
    if how in ("tokenizer.json only", "no tokenizer_config.json"):
        (folder / "tokenizer_config.json").unlink()
    if how == "vocab only":
        known = json.loads((folder / "tokenizer.json").read_text())["model"]
        (folder / "tokenizer.json").unlink()
        order = sorted(known["vocab"], key=known["vocab"].get) if isinstance(known["vocab"], dict) else [
            word for word, _ in known["vocab"]
        ]  # fmt: skip
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
        (folder / "modules.json").write_text(json.dumps(listed))
    for name, value in settings_of(combination, "file").items():
        file, _, key = name.partition(":")
        _edit(folder / file, key, value)


def _edit(path: Path, key: str, value: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    if key == "defaults":
        sound = AutoConfig.for_model(content["model_type"]).to_dict()
        content = {
            name: one for name, one in content.items()
            if name == "model_type" or name not in sound or json.loads(json.dumps(sound[name])) != one
        }  # fmt: skip
    elif key == "renamed":
        old, new = value
        if old in content:
            content[new] = content.pop(old)
    elif value == GONE:
        content.pop(key, None)
    else:
        content[key] = 999 if value == "next" else value
    path.write_text(json.dumps(content))


# --- the library's own scores

LONG = " ".join([*tiny.WORDS, *tiny.WORDS[::-1]] * 20)
PAIRS = (
    ("cat sat", "red dog ran far"),
    ("warm tea", LONG),
    ("cat [SEP] sat </s>", "the [CLS] dog </s> ran <s> <|im_end|> far [MASK] <eos> {query} sun"),
    ("na\u00efve Caf\u00e9 \u6771\u4eac", "\ufb01 \u2167 zero\u00a0width \u00df \u0130 \t\n  x \U0001f600 e\u0301"),
    ("?", "."),
)
"""Queries and passages: short, over-long, with special tokens as text, odd characters, no words."""

SENTENCE_TRANSFORMERS = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")


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
            if any((folder / name).exists() for name in SENTENCE_TRANSFORMERS) and _classifies(combination):
                scores = _sentence_transformers(folder)
            else:
                tokenizer = AutoTokenizer.from_pretrained(folder)
                scores = [_each(module, tokenizer, pair, combination) for pair in PAIRS]
        except Exception as error:  # whatever it raises, it is the library that refuses
            return Expected(nothing, f"{type(error).__name__}: {str(error).splitlines()[:1]}")
    scores = np.array(scores, dtype=float)
    return Expected(scores, "" if np.isfinite(scores).any() else "no pair can be scored")


def _classifies(combination: Combination) -> bool:
    return combination["family"] in ENCODERS or combination.get("head") == "classifier"


def _loaded(folder: Path, combination: Combination) -> tuple[Any, dict[str, Any]]:
    auto = AutoModelForSequenceClassification if _classifies(combination) else AutoModelForCausalLM
    module, report = auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True,
        ignore_mismatched_sizes=True, local_files_only=True,
    )  # fmt: skip
    return module.eval(), report


def _limit(module: Any, tokenizer: Any) -> int:
    """Most tokens: the tokenizer's limit, or the places of the position table."""
    table = next(
        (one for name, one in module.named_modules() if name.endswith("position_embeddings")), None
    )
    places = module.config.max_position_embeddings
    if table is not None:
        places = table.num_embeddings
        if module.config.model_type in tiny.ROBERTAS:
            places -= table.padding_idx + 1
    return min(tokenizer.model_max_length, places)


def _each(module: Any, tokenizer: Any, pair: tuple[str, str], combination: Combination) -> float:
    try:
        limit = _limit(module, tokenizer)
        if combination["family"] in DECODERS:
            inputs = _prompted(tokenizer, pair, limit, combination)
        else:
            inputs = tokenizer(*pair, truncation=True, max_length=limit, return_tensors="pt")
        with torch.inference_mode():
            out = module(**inputs)
        logits = (out[0] if isinstance(out, tuple) else out.logits).double()
        if _classifies(combination):
            (row,) = logits
            return float(row[0] if len(row) == 1 else row[1] - row[0])
        prompt = tiny_decoders.PROMPTS[combination["family"]]
        row = logits[0, -1]
        yes, no = (
            None if word is None else tokenizer(word, add_special_tokens=False)["input_ids"]
            for word in (prompt.yes, prompt.no)
        )
        for answer in (yes, no):
            if answer is not None and len(answer) != 1:
                return np.nan
        return float(row[yes[0]] - (0 if no is None else row[no[0]]))
    except Exception:
        return np.nan


def _prompted(tokenizer: Any, pair: tuple[str, str], limit: int, combination: Combination) -> dict[str, Any]:
    """Token ids as the models' own code makes them, texts as text."""
    prompt, (query, text) = tiny_decoders.PROMPTS[combination["family"]], pair
    control: Callable[[str], list[int]] = lambda one: tokenizer(one, add_special_tokens=False)["input_ids"]  # noqa: E731
    if combination["family"] == "qwen3":
        before, after = control(prompt.pieces[0]), control(prompt.pieces[2])
        middle = f"<Instruct>: {prompt.instruction}\n<Query>: {query}\n<Document>: {text}"
        room = limit - len(before) - len(after)
        row = tokenizer(middle, split_special_tokens=True, truncation=True, max_length=room)["input_ids"]
        ids = [*before, *row, *after]
    else:
        begin = tokenizer.bos_token_id
        before = [] if begin in (None, tokenizer.pad_token_id) else [begin]
        plain: Any = {"add_special_tokens": False, "split_special_tokens": True}
        before += tokenizer(f"A: {query}", **plain)["input_ids"] + control("\n")
        after = control("\n") + control(prompt.instruction)
        room = limit - len(before) - len(after)
        ids = [*before, *tokenizer(f"B: {text}", **plain, truncation=True, max_length=room)["input_ids"], *after]
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}


def _sentence_transformers(folder: Path) -> list[float]:
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})
    out = []
    for pair in PAIRS:
        try:
            (row,) = encoder.predict([pair], activation_fn=torch.nn.Identity(), show_progress_bar=False)
            row = np.atleast_1d(np.asarray(row, dtype=float))
            out.append(float(row[0] if len(row) == 1 else row[1] - row[0]))
        except Exception:
            out.append(np.nan)
    return out
