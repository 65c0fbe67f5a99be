"""Tiny models and tokenizers built in code, and pairs to run them on."""

from __future__ import annotations

import random
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from transformers.utils import logging

from matchlens.corpora import Pair

WORDS = ("cat", "sat", "mat", "dog", "ran", "far", "sun", "rain", "cold", "warm", "tea", "ship")


def tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over a few words and all letters, with BERT's template for pairs."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    words = special + list(WORDS) + letters + [f"##{letter}" for letter in letters]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def model(labels: int = 1, layers: int = 3, heads: int = 4, seed: int = 0, **config):
    """A random BERT whose weights are large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(tokenizer()),
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "num_labels": labels,
        **config,
    }
    module = BertForSequenceClassification(BertConfig(**settings))
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def save(folder: Path, **settings) -> Path:
    """Save a tiny model with its tokenizer, as any model is saved."""
    logging.disable_progress_bar()
    model(**settings).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def pairs(count: int, seed: int = 0, queries: int = 4) -> list[Pair]:
    """Random pairs; passages of 1 to 24 words, grades 0 to 3."""
    draw = random.Random(seed)
    out = []
    for number in range(count):
        qid = number % queries
        draw_query = random.Random(f"{seed} {qid}")
        query = " ".join(draw_query.choices(WORDS, k=draw_query.randint(1, 6)))
        text = " ".join(draw.choices(WORDS, k=draw.randint(1, 24)))
        grade = (number // queries) % 4
        out.append(Pair(f"q{qid}", f"p{number}", query, text, grade, collection="tiny"))
    return out
