"""Settings of a model's folder, and random combinations of them.

A combination names a family and a few settings; every setting that it leaves out has the value of
the sound tiny models. :mod:`combined` builds its folder.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tiny
import tiny_decoders
import tiny_t5

Combination = Mapping[str, Any]
"""``family`` and, by name, the settings that differ from a sound tiny model's."""

GONE = "(left out)"
"""The value of a ``file:`` setting that takes a key out of the file."""

BERTS = ("bert", "electra", "roberta", "xlm-roberta", "camembert")
WITH_TYPES = (*BERTS, "albert", "deberta-v2")
ENCODERS = tiny.FAMILIES
DECODERS = tiny_decoders.FAMILIES
T5S = tuple(tiny_t5.CLASSES)
PROMPTED = ("llama", "mistral", "gemma3_text")
"""Types without a prompt of their own: their causal models are asked in one that a person gives."""
FAMILIES = (*ENCODERS, *DECODERS, *T5S)
ROTARY = ("modernbert", *(one for one in DECODERS if one != "gemma3_text"))
ACTIVATIONS = ("relu", "gelu_new", "silu", "tanh", "quick_gelu", "gelu_pytorch_tanh", "mish")
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}
LLAMA = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
STEADY = (
    {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
    {**YARN, "rope_theta": 1e4},
    {**LLAMA, "rope_theta": 1e4},
)
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}


@dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        name: ``config:``, ``tokenizer:``, ``file:FILE:`` or ``saving:``, then its key.
        values: what it may be.
        families: which families it is for.
        also: other words by which an error may name it.
        may: whether matchlens may refuse it where the library scores.
    """

    name: str
    values: tuple[Any, ...]
    families: tuple[str, ...] = FAMILIES
    also: tuple[str, ...] = ()
    may: bool = False

    @property
    def key(self) -> str:
        return self.name.rpartition(":")[2]


def _some(
    before: str,
    families: Iterable[str] = FAMILIES,
    also: tuple[str, ...] = (),
    may: bool = False,
    **values: tuple,
) -> list[Setting]:
    families = tuple(families)
    return [Setting(f"{before}:{key}", some, families, also, may) for key, some in values.items()]


def _config(*about: Any, **values: tuple) -> list[Setting]:
    return _some("config", *about, **values)


def _tokens(*about: Any, **values: tuple) -> list[Setting]:
    return _some("tokenizer", *about, **values)


def _file(name: str, *about: Any, **values: tuple) -> list[Setting]:
    return _some(f"file:{name}", *about, **values)


def _saved(*about: Any, **values: tuple) -> list[Setting]:
    return _some("saving", *about, **values)


OTHERS = tuple(one for one in FAMILIES if one not in BERTS)
LABELS, TYPES = ("label",), ("token type", "token_type", "segment")
PARTS = (
    "encode a pair",
    "encodes a pair",
    "token ids up to",
    "weights know",
    "before the query",
    "cannot load its tokenizer",
)

CONFIG = [
    *_config(
        output_hidden_states=(True,), output_attentions=(True,), return_dict=(False,),
        is_encoder_decoder=(True,), torchscript=(True,), gradient_checkpointing=(True,),
        chunk_size_feed_forward=(1,), initializer_range=(0.2,), unknown_key=("x", None, [1]),
        tie_word_embeddings=(True, False), task_specific_params=({"a": 1},), temperature=(0.6,),
        num_beams=(4,), max_length=(12,), do_sample=(True,), finetuning_task=("mrpc",),
        problem_type=("regression", "single_label_classification"), num_labels=(2,),
        num_hidden_layers=(1, 3), num_attention_heads=(1, 2), vocab_size=("+8",),
        bos_token_id=(None, 0, 7), eos_token_id=(None, 5, [1, 3]), pad_token_id=(0, 1),
        max_position_embeddings=(300, 512), pruned_heads=({},), per_layer_config=({},),
        tie_last_hidden_states=(True, False), name_or_path=("/nowhere",), use_cache=(True, False),
        sentence_transformers=({"activation_fn": "torch.nn.modules.linear.Identity"},),
        sbert_ce_default_activation_function=("torch.nn.modules.activation.Sigmoid",),
        cross_attention_hidden_size=(32,), decoder_start_token_id=(1,),
        id2label=({0: "toxic", 1: "relevant"}, {0: "score"}),
    ),
    *_config(
        FAMILIES, LABELS, True,
        problem_type=("multi_label_classification",), num_labels=(3,),
        id2label=({0: "a", 1: "b", 2: "c"}, {0: "yes", 1: "no"}),
    ),
    *_config(
        FAMILIES, ("token ids up to", "padding"), True,
        vocab_size=("-9",), pad_token_id=(None, 9, -1), chunk_size_feed_forward=(2, 5),
        pruned_heads=({"0": [1]},), per_layer_config=({"1": {"intermediate_size": 24}},),
    ),
    *_config(BERTS, ("decoder",), True, is_decoder=(True,), add_cross_attention=(True,)),
    *_config(OTHERS, is_decoder=(True,), add_cross_attention=(True,)),
    *_config(
        (*WITH_TYPES, "mpnet", "gemma", "llama", "mistral", "qwen2", "qwen3"),
        hidden_act=ACTIVATIONS,
    ),
    *_config(("modernbert", "gemma2", "gemma3_text"), hidden_activation=ACTIVATIONS),
    *_config(
        (*WITH_TYPES, "mpnet"),
        hidden_dropout_prob=(0, 0.5), attention_probs_dropout_prob=(0.5,), layer_norm_eps=(1e-3,),
        position_embedding_type=("absolute",),
    ),
    *_config(
        (*WITH_TYPES, "mpnet"), ("position embeddings",), True,
        position_embedding_type=("relative_key", "relative_key_query"),
    ),
    *_config(WITH_TYPES, type_vocab_size=(2,)),
    *_config(WITH_TYPES, TYPES, True, type_vocab_size=(0, 1, 3)),
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
        legacy=(False,), cls_dropout=(0.5,),
    ),
    *_config(
        ("deberta-v2",), ("shapes",), True, pooler_hidden_size=(16,), attention_head_size=(4,)
    ),
    *_config(
        ("distilbert",),
        sinusoidal_pos_embds=(True,), activation=("relu", "silu"), dropout=(0.5,),
        attention_dropout=(0.5,), qa_dropout=(0.5,), seq_classif_dropout=(0.5,),
        tie_weights_=(True,),
    ),
    *_config(("mpnet",), relative_attention_num_buckets=(4, 8, 64)),
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
            {"full_attention": one, "sliding_attention": STEADY[0]} for one in STEADY
        ),
        position_embedding_type=("sans_pos",), cls_token_id=(7,), sep_token_id=(None, 7),
    ),
    *_config(
        ("modernbert",), ("rotary",), True,
        rope_parameters=({"full_attention": DYNAMIC, "sliding_attention": STEADY[0]},),
    ),
    *_config(
        ROTARY[1:],
        rope_parameters=STEADY, rope_theta=(1e3,), rope_scaling=({"type": "linear",
        "factor": 2.0},),
    ),
    *_config(
        DECODERS,
        head_dim=(8, 16), num_key_value_heads=(1, 4), rms_norm_eps=(1e-3,), attention_bias=(True,),
        attention_dropout=(0.5,), pretraining_tp=(2,),
    ),
    *_config(
        ROTARY[1:], ("rotary",), True,
        rope_parameters=(DYNAMIC,), rope_scaling=({"type": "dynamic", "factor": 2.0},),
    ),
    *_config(
        ("qwen2", "qwen3"), ("sliding_window",),
        use_sliding_window=(False, True), sliding_window=(None, 24, 400), max_window_layers=(0, 1),
        layer_types=(["full_attention"] * 2, ["sliding_attention"] * 2),
    ),
    *_config(("llama",), mlp_bias=(True,)),
    *_config(("mistral",), sliding_window=(None, 24, 400)),
    *_config(("gemma", "gemma2"), ("causal",), True, use_bidirectional_attention=(True,)),
    *_config(("gemma", "gemma2"), use_bidirectional_attention=(False,)),
    *_config(
        ("gemma2",),
        query_pre_attn_scalar=(64,), attn_logit_softcapping=(None, 30.0),
        final_logit_softcapping=(None, 30.0), sliding_window=(8, 400),
        layer_types=(["full_attention"] * 2,), cache_implementation=("hybrid",),
    ),
    *_config(  # windows may hide both texts from the last token: then all have one score
        ("gemma2", "gemma3_text"), ("one score",), True, layer_types=(["sliding_attention"] * 2,)
    ),
    *_config(
        ("gemma3_text",),
        query_pre_attn_scalar=(64,), attn_logit_softcapping=(None, 30.0),
        final_logit_softcapping=(None, 30.0), sliding_window=(8, 400),
        layer_types=(["full_attention"] * 2,), use_bidirectional_attention=(False, True),
        rope_parameters=tuple(
            {"full_attention": one, "sliding_attention": STEADY[0]} for one in STEADY
        ),
        rope_local_base_freq=(1e3,),
    ),
    *_config(
        ("gemma3_text",), ("rotary",), True,
        rope_parameters=({"full_attention": DYNAMIC, "sliding_attention": STEADY[0]},),
    ),
    *_config(
        T5S,
        d_kv=(4, 16), d_ff=(24,), relative_attention_num_buckets=(4, 32),
        relative_attention_max_distance=(12, 128), num_decoder_layers=(1, 3), dropout_rate=(0.5,),
        layer_norm_epsilon=(1e-3,), initializer_factor=(0.5,), classifier_dropout=(0.5,),
        feed_forward_proj=("relu", "gated-gelu", "gated-silu"), scale_decoder_outputs=(True, False),
        dense_act_fn=("relu",), is_gated_act=(True, False),
    ),
]  # fmt: skip

CONFIG_FILE = [
    *_file(
        "config.json",
        return_dict=(None,), torch_dtype=("float16",), dtype=("bfloat16", "float64", GONE, None),
        attn_implementation=("sdpa", "flash_attention_2", "flex_attention"),
        _attn_implementation_autoset=(True,), transformers_version=("2.1.0", GONE),
        auto_map=({},), _name_or_path=("/nowhere",), num_labels=(1,), label2id=(GONE, {"x": 7},
        None),
        max_position_embeddings=(GONE,), type_vocab_size=(GONE,), pad_token_id=(GONE,),
        layer_norm_eps=(GONE,), hidden_dropout_prob=(GONE,), defaults=(GONE,),
        _commit_hash=("abc",),
        bos_token_id=(GONE,), problem_type=(GONE,), is_decoder=(GONE,), _num_labels=(1,),
        experts_implementation=("eager",), generation_config=({},), chunk_size_feed_forward=(-1,),
    ),
    *_file("config.json", ENCODERS, architectures=(GONE, None, [])),
    *_file(
        "config.json", FAMILIES, ("weight", "of type"), True,
        _attn_implementation=("flash_attention_2",), model_type=("no-such", GONE, "bert"),
        attn_implementation=("no_such",), architectures=(["BertForMaskedLM"], ["NoSuch"]),
        auto_map=({"AutoModel": "modeling.Model"},), use_return_dict=(False,), num_labels=(2, 5),
        vocab_size=(50, GONE), num_hidden_layers=(1, 3, GONE), layer_norm_eps=("1e-5",),
        pad_token_id=("0",), hidden_dropout_prob=(None,), num_attention_heads=(0, 8),
        quantization_config=({"quant_method": "no_such"},), problem_type=("no_such",),
        chunk_size_feed_forward=(None,),
    ),
    *_file(
        "config.json", FAMILIES, LABELS, True, _num_labels=(3,),
        id2label=(GONE, None, {"0": "a", "1": "b", "2": "c"}, {"x": "a"}),
    ),
    *_file(
        "config.json", FAMILIES, ("length limit", "position table", "weight"), True,
        max_position_embeddings=(20,),
    ),
    *_file("config.json", DECODERS, (), True, architectures=(GONE, None, [])),
    *_file(
        "config.json", ("distilbert",),
        renamed=(("dim", "hidden_size"), ("n_layers", "num_hidden_layers")),
    ),
    *_file("config.json", ROTARY, renamed=(("rope_parameters", "rope_scaling"),),
    rope_parameters=(GONE,)),
]  # fmt: skip

TOKENIZER = [
    *_tokens(ENCODERS, model=("bpe", "unigram", "wordlevel"), lowercase=(False,),
    strip_accents=(False,)),
    *_tokens(
        normalizer=("nfkc", "replace", "none"), padding_side=("left", "right"),
        truncation_side=("right",),
        model_max_length=(None, 10**30, 24, 40, 300, 512), clean_up_tokenization_spaces=(True,
        False),
        split_special_tokens=(True,), add_prefix_space=(True, False), do_lower_case=(True, False),
        chat_template=("{{ messages }}", "{% for m in messages %}{{ m.content }}{% endfor %}"),
        extra_special_tokens=(["red"], ["sun", "<x>"], {"image_token": "cold"}),
        added=(["dog ran"], ["ver"], ["<new>"], [("cat", "strip")], ["yes"], [("sat", "word")]),
        return_token_type_ids=(True,), padding=("left 48",), truncation=(12, 30),
    ),
    *_tokens(ENCODERS, pad_token=(None, "cat", "<none>"), unk_token=(None, "cat")),
    *_tokens(ENCODERS, sep_token=(None, "mat"), mask_token=(None,)),
    *_tokens(
        ENCODERS, (*PARTS, *TYPES), True,
        template=("flat", "typed", "query typed", "doubled", "single", "plain", "bos", "swapped",
        "no end", "eos"),
    ),
    *_tokens(DECODERS, (*PARTS, "special token"), True, template=("flat", "plain", "eos"),
    pad_token=(None, "cat")),
    *_tokens(FAMILIES, PARTS, True, add_bos_token=(True, False), add_eos_token=(True, False)),
    *_tokens(
        WITH_TYPES, TYPES, True,
        model_input_names=(["input_ids", "attention_mask"], ["input_ids"], ["attention_mask",
        "input_ids"]),
    ),
    *_tokens(OTHERS, model_input_names=(["input_ids"],)),
    *_tokens(
        OTHERS, TYPES, True, model_input_names=(["input_ids", "token_type_ids", "attention_mask"],)
    ),
    *_tokens(FAMILIES, ("length limit",), True, truncation_side=("left",), model_max_length=(6,
    16)),
    *_tokens(DECODERS, ("length limit",), True, model_max_length=(24,)),
    *_file(
        "tokenizer_config.json",
        max_len=(24, 300), model_max_length=(GONE, None, 10**9 + 1), use_fast=(False,),
        tokenizer_class=(GONE, "PreTrainedTokenizerFast", "TokenizersBackend"), backend=(GONE, "x"),
        truncation=(True,), max_length=(16,), stride=(2,), truncation_strategy=("only_first",),
        init_inputs=([],), name_or_path=("/nowhere",), special_tokens_map_file=("/nowhere",),
        tokenizer_file=("/nowhere",), padding=("max_length",), pad_to_multiple_of=(8,),
        pad_token_type_id=(1,), processor_class=("NoSuchProcessor",), is_local=(GONE,),
        do_basic_tokenize=(False,), tokenize_chinese_chars=(False,), strip_accents=(True,),
        wordpieces_prefix=("@@",), legacy=(True, False), errors=("strict",), unknown=({"a": [1]},),
    ),
    *_file(
        "tokenizer_config.json", FAMILIES, PARTS, True,
        model_max_length=(20.0, "24", -1, 0), additional_special_tokens=(["tea"],),
        tokenizer_class=(
            None, "BertTokenizer", "BertTokenizerFast", "RobertaTokenizer", "NoSuchTokenizer",
            "PreTrainedTokenizer", "XLMRobertaTokenizerFast", "Qwen2Tokenizer", "GemmaTokenizer",
        ),
        auto_map=({"AutoTokenizer": ["tok.T", None]},),
        added_tokens_decoder=({"5": {"content": "cat", "special": True}},
        {"400": {"content": "[N]"}}),
        cls_token=({"__type": "AddedToken", "content": "[CLS]", "lstrip": True},),
    ),
    *_file(
        "tokenizer.json",
        truncation=({"direction": "Right", "max_length": 12, "strategy": "LongestFirst",
        "stride": 0},),
        padding=({
            "strategy": {"Fixed": 48}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0,
            "pad_type_id": 1, "pad_token": "[PAD]",
        },),
    ),
    *_file(
        "tokenizer.json", FAMILIES, ("truncation_side",), True,
        truncation=({"direction": "Left", "max_length": 12, "strategy": "LongestFirst",
        "stride": 0},),
    ),
    *_file(
        "special_tokens_map.json", FAMILIES, PARTS, True,
        pad_token=("cat",), sep_token=("mat",), extra_special_tokens=(["sun"],),
    ),
    *_file("added_tokens.json", FAMILIES, PARTS, True, river=("next", 3)),
    *_file("generation_config.json", max_length=(7,)),
]  # fmt: skip

STORED = (
    "prompt",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
)
SAVING = [
    *_saved(
        weights=("sharded", "bin", "sharded bin", "bin beside"),
        dtype=("bfloat16", "float16", "float64"), readme=("---\nmax_length: 7\n---\n",),
        names=("gamma",),
        **{"chat_template.jinja": ("{{ messages }}",)},
    ),
    *_saved(
        FAMILIES, ("tokenizer_class",), False, tokenizer=("tokenizer.json only", "legacy")
    ),
    *_saved(FAMILIES, ("vocab", "slow", *PARTS), True, tokenizer=("vocab only",)),
    *_saved(  # the library's MPNetTokenizer then brings an [UNK], which the tiny vocabulary lacks
        ("mpnet",), ("MPNetTokenizer",), True, tokenizer=("tokenizer.json only",)
    ),
    *_saved(
        FAMILIES, ("weight",), True,
        names=("extra", "position_ids", "no head", "no norm", "layer more", "module.", "old name"),
    ),
    *_saved(
        ("bert", "roberta", "xlm-roberta"), ("LoRA", "adapter_config.json", "adapter_model"), True,
        adapter=("config only", "lora"),
    ),
    *_file(
        "sentence_bert_config.json", ENCODERS,
        max_seq_length=(20, 300, None), do_lower_case=(True, False),
    ),
    *_file("sentence_bert_config.json", DECODERS, STORED, True, max_seq_length=(300,)),
    *_file(
        "config_sentence_transformers.json", FAMILIES, STORED, True,
        prompts=({"query": "red: "},), default_prompt_name=("query", None),
        activation_fn=("torch.nn.modules.activation.Sigmoid",),
        model_type=("CrossEncoder", "SentenceTransformer"),
    ),
    *_saved(FAMILIES, STORED, True, **{"modules.json": ("transformer", "dense", "lower",
    "prompted")}),
]  # fmt: skip

SETTINGS = [*CONFIG, *CONFIG_FILE, *TOKENIZER, *SAVING]
SHARES = {"config": 3.0, "file:config.json": 1.0, "tokenizer": 2.0, "saving": 1.0}


def _head(draw: random.Random, family: str) -> dict[str, Any]:
    """A decoder is a causal model or a classifier."""
    return {"head": "classifier"} if family in DECODERS and draw.random() < 0.4 else {}


def prompted(combination: Combination) -> bool:
    """Whether a person must give the prompt; what sentence-transformers does is then no measure."""
    return combination["family"] in PROMPTED and "head" not in combination


def _fits(setting: Setting, combination: Combination) -> bool:
    served = STORED[1:]
    return combination["family"] in setting.families and not (
        prompted(combination) and any(file in setting.name for file in served)
    )


def alone() -> list[dict[str, Any]]:
    """Every setting alone at each of its values, in one of its families, each in turn."""
    out = []
    for number, setting in enumerate(SETTINGS):
        for place, value in enumerate(setting.values):
            family = setting.families[(number + place) % len(setting.families)]
            head = _head(random.Random(number), family)
            if not _fits(setting, {"family": family, **head}):
                head = {"head": "classifier"}
            out.append({"family": family, **head, setting.name: value})
    return out


def dealt(seed: int) -> Iterator[dict[str, Any]]:
    """Random combinations without end: one to six settings of a family.

    All values of all settings are dealt like cards, so that each comes up in a few hundred
    combinations. In about half of the combinations no setting may be refused, in the others one: a
    refusal hides the rest.
    """
    draw, deck, turn = random.Random(seed), [], 0
    while True:
        family = FAMILIES[turn % len(FAMILIES)]
        turn += 1
        chosen: dict[str, Any] = {"family": family, **_head(draw, family)}
        may = draw.random() < 0.45
        wanted = draw.randint(2, 7) + len(chosen) - 1
        if len(deck) < 60:
            fresh = [(one, value) for one in SETTINGS for value in one.values]
            draw.shuffle(fresh)
            deck += fresh
        for card in list(deck):
            setting, value = card
            if len(chosen) == wanted:
                break
            if not _fits(setting, chosen) or setting.name in chosen or (may and setting.may):
                continue
            chosen[setting.name] = value
            may = may or setting.may
            deck.remove(card)
        yield chosen


def refusable(combination: Combination) -> bool:
    """Whether matchlens may refuse it where the library scores."""
    # a lone file of sentence-transformers beside a chat template can be read in two ways
    lone = any(name.startswith("file:sentence_bert_config.json") for name in combination)
    if lone and {"saving:chat_template.jinja", "tokenizer:chat_template"} & set(combination):
        return True
    return any(one.may for one in _settings(combination))


def words_of(combination: Combination) -> set[str]:
    """Words by which an error may name what a combination sets."""
    out = set()
    for setting in _settings(combination):
        value = combination[setting.name]
        kind, _, rest = setting.name.partition(":")
        out |= {setting.key, *setting.also} | (
            {rest.partition(":")[0]} if kind == "file" else set()
        )
        inside = value.values() if isinstance(value, dict) else value
        inside = [inside] if isinstance(inside, str) or not isinstance(inside, Iterable) else inside
        out |= {str(one) for one in inside if len(str(one)) > 3}
    return out - {"model", "names", "weights", "tokenizer", "config.json", "tokenizer_config.json"}


def _settings(combination: Combination) -> list[Setting]:
    return [
        one
        for one in SETTINGS
        if one.name in combination
        and combination["family"] in one.families
        and any(
            type(value) is type(combination[one.name]) and value == combination[one.name]
            for value in one.values
        )
    ]
