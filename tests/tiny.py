"""Tiny models and tokenizers built in code, and pairs to run them on."""

from __future__ import annotations

import json
import random
import string
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

import matchlens
from matchlens.corpora import Pair, PairSet

WORDS = ("cat", "sat", "mat", "dog", "ran", "far", "sun", "rain", "cold", "warm", "tea", "ship")
ROBERTAS = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Families with two separators in the middle and positions behind the padding's."""

FEED_FORWARD = {"distilbert": "hidden_dim"}
DEBERTA_V3 = {
    "position_biased_input": False,
    "type_vocab_size": 0,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
}
"""What is different in DeBERTa-v3's config from the one below."""

CONFIGS: dict[str, dict[str, object]] = {
    "albert": {"embedding_size": 16, "num_hidden_groups": 1},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "type_vocab_size": 2,
        "pooler_hidden_size": 32,
    },
    "electra": {"embedding_size": 16},
    "modernbert": {
        "global_attn_every_n_layers": 2,
        "local_attention": 20,
        "attention_bias": True,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
    },
    **{family: {"max_position_embeddings": 66, "type_vocab_size": 1} for family in ROBERTAS},
}
ROTARY = ("modernbert",)
"""Families with rotary positions, inside which the library rounds to float32."""

FAMILIES = ("albert", "bert", "deberta-v2", "distilbert", "electra", *ROTARY, *ROBERTAS)
"""Families that score by a classifier."""


def tokenizer(family: str = "bert", template: str = "") -> PreTrainedTokenizerFast:
    """WordPiece over a few words and all letters, with the family's template for pairs."""
    if family in ROBERTAS:
        cls, pad, sep, unk, mask = special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        pair = f"{cls} $A {sep} {sep} $B {sep}"
        types = []
    else:
        pad, unk, cls, sep, mask = special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        pair = f"{cls} $A {sep} $B:1 {sep}:1"
        types = [] if family in ("distilbert", *ROTARY) else ["token_type_ids"]
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    words = special + list(WORDS) + letters + [f"##{letter}" for letter in letters]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token=unk))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=template or pair,
        special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        unk_token=unk,
        cls_token=cls,
        sep_token=sep,
        mask_token=mask,
        model_max_length=64,
        model_input_names=["input_ids", *types, "attention_mask"],
    )


def model(
    labels: int = 1,
    layers: int = 3,
    heads: int = 4,
    seed: int = 0,
    family: str = "bert",
    **config,
):
    """A random model whose weights are large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(tokenizer(family)),
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        FEED_FORWARD.get(family, "intermediate_size"): 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "num_labels": labels,
        **CONFIGS.get(family, {}),
        **config,
    }
    module = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(family, **settings), dtype=torch.float32
    )
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def leaving(layer) -> torch.nn.Module:
    """The module whose outcome is the layer's, in any family."""
    ends = ("output_layer_norm", "full_layer_layer_norm", "mlp", "output")
    return getattr(layer, next(name for name in ends if hasattr(layer, name)))


def save(folder: Path, family: str = "bert", **settings) -> Path:
    """Save a tiny model with its tokenizer."""
    return put(folder, model(family=family, **settings), tokenizer(family))


def edit(path: Path, **change: object) -> Path:
    """Change keys of a JSON file, a folder's config.json by default; None takes one out."""
    file = path / "config.json" if path.is_dir() else path
    known = json.loads(file.read_text()) if file.exists() else {}
    kept = {key: value for key, value in {**known, **change}.items() if value is not None}
    file.write_text(json.dumps(kept))
    return path


def put(folder: Path, module, tokens: PreTrainedTokenizerFast) -> Path:
    """Save a model with a tokenizer, as any model is saved."""
    logging.disable_progress_bar()
    module.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def save_copying(folder: Path, layers: int = 4) -> Path:
    """Save a BERT whose separators do what CLS does, and hand it on to CLS.

    Attention is uniform, and only the upper half of the layers carries anything: how much of the
    input is the word "cat". CLS, SEP1 and SEP2 gather it alike, and CLS reads SEP1 and SEP2, so
    that CLS may as well be blind to query and document.
    """
    module = model(layers=layers, heads=2, initializer_range=0.0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        words = module.bert.embeddings.word_embeddings.weight
        words[:, 2::2] = torch.randn(len(words), words.shape[1] // 2 - 1)
        words[:, 3::2] = -words[:, 2::2]
        cat = tokenizer().convert_tokens_to_ids("cat")
        words[:, 0] = 0.02 * torch.randn(len(words))  # that each word shows in the score a little
        words[cat, 0] = 2.0
        words[:, 1] = -words[:, 0]
        one = torch.zeros(words.shape[1], words.shape[1])
        one[0, 0] = one[1, 1] = 1.0
        for layer in module.bert.encoder.layer[layers // 2 :]:
            layer.attention.self.value.weight.copy_(one)
            layer.attention.output.dense.weight.copy_(one)
        module.bert.pooler.dense.weight.copy_(one)
        module.classifier.weight[0, 0] = 1.0
    return put(folder, module, tokenizer())


def graded_by_cats(queries: int, passages: int = 6) -> PairSet:
    """Candidates of one length whose grade is how often the word "cat" stands in them."""
    draw = random.Random(0)
    rows, ideals = [], {}
    for number in range(queries):
        grades = [3, 0, *(draw.randint(0, 3) for _ in range(passages - 2))]
        ideals["tiny", f"q{number}"] = tuple(sorted(grades, reverse=True))
        for place, grade in enumerate(grades):
            words = ["cat"] * grade + draw.choices(WORDS[1:], k=8 - grade)
            text = " ".join(draw.sample(words, k=len(words)))
            query = " ".join(draw.choices(WORDS[1:], k=2))
            rows.append(Pair(f"q{number}", f"p{place}", query, text, grade, collection="tiny"))
    return PairSet(tuple(rows), ideals, {}, {}, ())


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


def scores(model, pairs, *cuts, **options) -> dict[str, np.ndarray]:
    """The scores of pairs, by the cut's text."""
    table = matchlens.score(model, pairs, cuts, **options)
    return {name: table[name].to_numpy() for name in table.columns}


def watched_by(*meters) -> list:
    """What a run is asked for, so that meters of this process watch its untouched model."""
    from matchlens.runners.measures import InProcess, MeasurementRequest

    return [MeasurementRequest(InProcess(meter)) for meter in meters]


def at_once(call: Callable[[], object], count: int = 4) -> list[object]:
    """What so many threads get that call this at once: outcomes, or the errors raised."""
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(call())
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
