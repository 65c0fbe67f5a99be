"""Models and pairs that the work is done on; made here, so that contenders only read folders."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from matchlens.corpora import PairSet

SHAPES: dict[str, dict[str, int]] = {
    "bert-base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "bert-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "small": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
    },
}
"""BERT shapes whose weights are drawn at random."""
DECODERS: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 3072,
    },
    "small-decoder": {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
    },
}
"""Qwen3 shapes, likewise."""
WORDS, LENGTH = 8000, 512
"""Size of a trained vocabulary, and most tokens of a pair."""


def model(shape: str, folder: Path) -> str:
    """Folder of a model.

    Args:
        shape: ``demo`` for the built-in model, or one of ``SHAPES``.
        folder: where one of random weights is made.
    """
    return demo_model() if shape == "demo" else random_model(shape, folder)


def demo_model() -> str:
    """Folder of the built-in model (ms-marco-MiniLM-L-12-v2)."""
    from matchlens.models.folder import find

    return str(find("demo").path)


def random_model(shape: str, folder: Path) -> str:
    """Folder of a BERT of random weights with the built-in model's tokenizer.

    Weights are large enough that attention is far from uniform, so that every cut moves scores.

    Args:
        shape: one of ``SHAPES``.
        folder: where it is made.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    demo = Path(demo_model())
    held = json.loads((demo / "config.json").read_text())
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=held["vocab_size"],
        num_labels=1,
        initializer_range=SHAPES[shape]["hidden_size"] ** -0.5,
        **SHAPES[shape],
    )
    place = folder / shape
    BertForSequenceClassification(config).eval().save_pretrained(place)
    for file in demo.glob("*token*"):
        shutil.copy(file, place / file.name)
    for file in demo.glob("vocab.txt"):
        shutil.copy(file, place / file.name)
    return str(place)


def pairs(number: int) -> tuple[str, list[list[str]]]:
    """Where the pairs are from, and at most so many real ones, spread over the queries.

    From TREC DL 2019 where MATCHLENS_TREC_DL names a folder with its files, else built-in ones.

    Args:
        number: at most so many.
    """
    import matchlens

    name, chosen = judged()
    if len(chosen.pairs) > number:
        chosen = matchlens.thin(chosen, number)[0]
    return name, [[pair.query, pair.text] for pair in chosen.pairs]


def judged(most: int = 10, year: int = 2019) -> tuple[str, PairSet]:
    """The name of a collection, and its judged pairs: :func:`pairs` says which.

    Args:
        most: pairs of each query and grade.
        year: of TREC DL, 2019 or 2020.
    """
    import matchlens

    folder = os.environ.get("MATCHLENS_TREC_DL")
    if not folder:
        return "the built-in collection", matchlens.choose(matchlens.demo.load(), per_grade=most)
    ends = ("topics.tsv", "qrels", "passages.jsonl.gz")
    files = [f"{folder}/dl{year % 100}.{end}" for end in ends]
    collection = matchlens.trec.load(files[0], files[1], [files[2]], None)
    return f"TREC DL {year}", matchlens.choose(collection, per_grade=most)


def self_contained(shape: str, texts: Sequence[str], folder: Path, device: str) -> str:
    """Folder of a reranker of random weights, with a tokenizer that is trained on the texts.

    Args:
        shape: one of ``SHAPES`` (a MonoBERT: two labels) or ``DECODERS`` (answers yes or no).
        texts: what the tokenizer is trained on.
        folder: where it is made.
        device: where the weights are drawn.
    """
    import torch
    from transformers import AutoConfig, BertForSequenceClassification, Qwen3ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    bert = shape in SHAPES
    tokenizer = _wordpiece(texts) if bert else _byte_pairs(texts)
    settings = (SHAPES if bert else DECODERS)[shape]
    config = AutoConfig.for_model(
        "bert" if bert else "qwen3",
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=settings["hidden_size"] ** -0.5,
        **({"num_labels": 2} if bert else {"max_position_embeddings": LENGTH}),
        **settings,
    )
    place = folder / shape
    torch.manual_seed(0)
    with torch.device(device):
        made = (BertForSequenceClassification if bert else Qwen3ForCausalLM)(config).eval()
    made.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


def _wordpiece(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """BERT's kind of tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=WORDS, special_tokens=special, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(one, backend.token_to_id(one)) for one in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=LENGTH,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name[1:-1].lower()}_token": name for name in special},
    )


def _byte_pairs(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Qwen3's kind of tokenizer, which knows the prompt's control tokens and its answers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from matchlens.prompts import KNOWN

    qwen3 = next(entry.prompt for entry in KNOWN if entry.name == "Qwen3-Reranker")

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompt = [*qwen3.pieces, qwen3.instruction] * 100
    answers = [str(qwen3.yes), str(qwen3.no)] * 10_000
    backend.train_from_iterator([*texts, *prompt, *answers], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=LENGTH,
        padding_side="left",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
    )


def drawn_pairs(number: int) -> list[list[str]]:
    """Random texts of common words, for growth: queries of 3 to 8 words, passages of 10 to 40.

    Args:
        number: how many.
    """
    words = "the cold sea rain over an old town where people walk to market for bread and news"
    draw = random.Random(0)

    def text(least: int, most: int) -> str:
        return " ".join(draw.choices(words.split(), k=draw.randint(least, most)))

    return [[text(3, 8), text(10, 40)] for _ in range(number)]


def spread(lengths: list[int], number: int) -> list[int]:
    """Places of at most so many items, spread over their lengths.

    Args:
        lengths: of all items.
        number: at most so many.

    >>> spread([5, 9, 7, 1], 2)
    [1, 3]
    """
    order = np.argsort(lengths, kind="stable")
    chosen = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    return sorted(int(order[place]) for place in set(chosen.tolist()))
