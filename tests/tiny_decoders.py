"""Tiny decoder rerankers with byte-pair tokenizers like those of Qwen3 and Gemma, built in code."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from tokenizers import (
    AddedToken,
    Regex,
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
    PreTrainedTokenizerFast,
)

import tiny
from matchlens.prompts import KNOWN, Prompt

FAMILIES = ("qwen3", "gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2")
QWEN3, BGE, MXBAI = (
    next(entry.prompt for entry in KNOWN if entry.name == name)
    for name in ("Qwen3-Reranker", "bge-reranker-v2-gemma", "mxbai-rerank-v2")
)
PLAIN = Prompt(("query: {query}\n", "passage: {passage}", "\nRelevant:"), "yes", "no", begin=True)
"""A prompt for types that have none of their own."""
PROMPTS = {
    "qwen3": QWEN3,
    "gemma": BGE,
    "gemma2": BGE,
    "gemma3_text": PLAIN,
    "llama": PLAIN,
    "mistral": PLAIN,
    "qwen2": MXBAI,
}
QWENS = ("qwen2", "qwen3")
LENGTH = 320

_WORDS = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen3's tokenizer splits a text before it joins bytes."""

CONFIGS: dict[str, dict[str, object]] = {
    "qwen3": {
        "layer_types": ["full_attention", "sliding_attention"],
        "use_sliding_window": True,
        "sliding_window": 48,
    },
    "qwen2": {
        "layer_types": ["sliding_attention", "full_attention"],
        "use_sliding_window": True,
        "sliding_window": 48,
    },
    "llama": {"attention_bias": True},
    "mistral": {"sliding_window": 60},
    "gemma": {"hidden_activation": "gelu_pytorch_tanh"},
    "gemma3_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 40,
        "query_pre_attn_scalar": 12,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.0},
        },
    },
    "gemma2": {
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 24,
        "query_pre_attn_scalar": 12,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 5.0,
    },
}


@cache
def _backend(family: str) -> Tokenizer:
    corpus = [*QWEN3.pieces, QWEN3.instruction, "A: B: yes no Yes No"]
    corpus += [" ".join(tiny.WORDS)] * 3 + ["Yes", "No", "yes", "no"] * 50
    if family in QWENS:
        backend = Tokenizer(models.BPE())
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(_WORDS, "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    else:
        backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        backend.normalizer = normalizers.Replace(" ", "\u2581")
        backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        alphabet = [chr(code) for code in range(33, 127)] + ["\n", "\u2581", "\u00e9"]
        special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{n:02X}>" for n in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(corpus, trainer)
    if family in QWENS:
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
        backend.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    else:
        known = json.loads(backend.to_str())  # bytes are words of its vocabulary, no control tokens
        known["added_tokens"] = [
            one for one in known["added_tokens"] if not one["content"].startswith("<0x")
        ]
        backend = Tokenizer.from_str(json.dumps(known))
        backend.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        bos = backend.token_to_id("<bos>")
        backend.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", bos)]
        )
    return backend


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Byte-pair encoding, learnt from the prompts and a few words."""
    names = (
        {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
        if family in QWENS
        else {
            "pad_token": "<pad>",
            "eos_token": "<eos>",
            "bos_token": "<bos>",
            "unk_token": "<unk>",
        }
    )
    more = {"extra_special_tokens": ["<|im_start|>"]} if family in QWENS else {}
    copy = Tokenizer.from_str(_backend(family).to_str())
    return PreTrainedTokenizerFast(
        tokenizer_object=copy, model_max_length=LENGTH, padding_side="left", **names, **more
    )


def model(
    family: str,
    layers: int = 2,
    heads: int = 4,
    keys: int = 2,
    labels: int | None = None,
    seed: int = 0,
    **config,
):
    """A random model; a classifier where there are labels."""
    torch.manual_seed(seed)
    known = tokenizer(family)
    settings = {
        "vocab_size": len(known),
        "hidden_size": 32,
        "head_dim": 12,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "max_position_embeddings": LENGTH,
        "initializer_range": 0.3,
        "pad_token_id": known.pad_token_id,
        "bos_token_id": known.bos_token_id,
        "eos_token_id": known.eos_token_id,
        "tie_word_embeddings": False,
        **CONFIGS[family],
        **({} if labels is None else {"num_labels": labels}),
        **config,
    }
    if "layer_types" in settings:
        kinds = settings["layer_types"]
        settings["layer_types"] = [kinds[n % len(kinds)] for n in range(layers)]
    auto = AutoModelForCausalLM if labels is None else AutoModelForSequenceClassification
    made = auto.from_config(AutoConfig.for_model(family, **settings), dtype=torch.float32)
    for name, parameter in made.named_parameters():
        if "norm" in name:  # ones or zeros would hide a norm that is left out
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.3)
    return made.eval()


def save(folder: Path, family: str, **settings) -> Path:
    """Save a tiny model with its tokenizer."""
    return tiny.put(folder, model(family, **settings), tokenizer(family))
