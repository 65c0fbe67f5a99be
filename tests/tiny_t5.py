"""A tiny T5 reranker with a tokenizer like T5's, built in code."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import tiny

LENGTH = 96
CLASSES = {
    "t5": (T5Config, T5ForConditionalGeneration),
    "mt5": (MT5Config, MT5ForConditionalGeneration),
}


@cache
def _backend() -> Tokenizer:
    own = ["Query:", "Document:", "Relevant:", "true", "false", "yes", "no", *tiny.WORDS]
    letters = [chr(code) for code in range(33, 127)] + ["\u00e9", "\u00e8", "\u2019", "\u00bd"]
    words = ["<pad>", "</s>", "<unk>", "\u2581"]
    pieces = [(word, 0.0) for word in words]
    pieces += [("\u2581" + word, -2.0) for word in own] + [(letter, -9.0) for letter in letters]
    backend = Tokenizer(models.Unigram(pieces, unk_id=2))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\t", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return backend


def tokenizer() -> PreTrainedTokenizerFast:
    """Unigram over a few words and all letters, with T5's template and two of its extra words."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend().to_str()),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=["<extra_id_10>", "<extra_id_11>"],
        model_max_length=LENGTH,
    )


def model(kind: str = "t5", seed: int = 0, **config):
    """A random model whose weights are large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    config_class, model_class = CLASSES[kind]
    settings = {
        "vocab_size": len(tokenizer()),
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
        "decoder_start_token_id": 0,
        **config,
    }
    module = model_class(config_class(**settings))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "layer_norm" in name:
                parameter.normal_(1.0, 0.3)
            elif "shared" in name:
                parameter.normal_(0.0, 1.0)
            else:
                parameter.normal_(0.0, 0.5 if "relative" in name else 0.15)
    return module.eval()


def save(folder: Path, kind: str = "t5", **settings) -> Path:
    """Save a tiny model with its tokenizer."""
    return tiny.put(folder, model(kind, **settings), tokenizer())
