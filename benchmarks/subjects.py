"""Models and pairs that the work is done on; made here, so that contenders only read folders."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np

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


def random_model(shape: str, folder: Path, labels: int = 1) -> str:
    """Folder of a BERT of random weights with the built-in model's tokenizer.

    Weights are large enough that attention is far from uniform, so that every cut moves scores.

    Args:
        shape: one of ``SHAPES``.
        folder: where it is made.
        labels: one (relevance) or two (not relevant, relevant).
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
        num_labels=labels,
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

    folder = os.environ.get("MATCHLENS_TREC_DL")
    if folder:
        files = [f"{folder}/dl19.{end}" for end in ("topics.tsv", "qrels", "passages.jsonl.gz")]
        collection = matchlens.trec.load(files[0], files[1], [files[2]], None)
    else:
        collection = matchlens.demo.load()
    chosen = matchlens.choose(collection)
    if len(chosen.pairs) > number:
        chosen = matchlens.thin(chosen, number)[0]
    name = "TREC DL 2019" if folder else "the built-in collection"
    return name, [[pair.query, pair.text] for pair in chosen.pairs]


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
