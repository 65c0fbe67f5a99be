"""The slow, obvious reference: float64, one pair at a time, no padding, attention written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cuts import PARTS, Cut, parse
from benchmarks.encoding import Tokens, encode, load
from benchmarks.job import Job

Results = dict[str, np.ndarray]


def reference(job: Job, places: list[int], said: Callable[[str], None] = lambda _: None) -> Results:
    """What the job's results must be.

    Args:
        job: the job; of kind ``triplets``, ``places`` is not looked at.
        places: the pairs that are computed; the others' numbers are NaN.
        said: told how far it is.

    Returns:
        For scores an array [pair] a condition; for masses [pair, layer, head, row part, column
        part] under ``mass`` and the untouched scores under the empty text; for triplets singular
        values and u . v, [head, k], both.
    """
    if job.kind == "triplets":
        return _triplets(job)
    module, tokenizer = load(job, "eager", torch.float64)
    tokens = encode(tokenizer, job)
    config = module.config
    shape = (len(tokens), config.num_hidden_layers, config.num_attention_heads)
    masses = np.full((*shape, len(PARTS), len(PARTS)), np.nan)
    out: Results = {}
    for text in job.conditions:
        cut = parse(text, config.num_hidden_layers)
        scores = np.full(len(tokens), np.nan)
        for place in places:
            scores[place] = _score(module, tokens[place], cut, masses[place])
        out[text] = scores
        said(f"reference {len(out)}/{len(job.conditions)}")
    if job.kind == "masses":
        out["mass"] = masses
    return out


def _score(module: Any, tokens: Tokens, cut: Cut | None, masses: np.ndarray) -> float:
    """The score of one pair under one cut; the untouched model's part masses are written down."""
    base, heads = module.bert, module.config.num_attention_heads
    parts = np.array(tokens.parts)
    with torch.inference_mode():
        states = base.embeddings(torch.tensor([tokens.ids]), torch.tensor([tokens.types]))[0]
        for number, layer in enumerate(base.encoder.layer):
            own = layer.attention.self
            query, key, value = (
                linear(states).unflatten(-1, (heads, -1))
                for linear in (own.query, own.key, own.value)
            )
            contexts = []
            for head in range(heads):
                logits = query[:, head] @ key[:, head].T / math.sqrt(query.shape[-1])
                weights = torch.softmax(logits, -1)
                if cut is None:
                    masses[number, head] = _masses(weights, parts)
                elif number in cut.layers and cut.head in (None, head):
                    rows, columns = (np.isin(parts, list(p)) for p in (cut.rows, cut.columns))
                    weights[torch.from_numpy(np.outer(rows, columns))] = 0.0
                contexts.append(weights @ value[:, head])
            mixed = layer.attention.output(torch.cat(contexts, -1), states)
            states = layer.output(layer.intermediate(mixed), mixed)
        logits = module.classifier(base.pooler(states[None]))[0]
    return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])


def _masses(weights: Tensor, parts: np.ndarray) -> np.ndarray:
    whole = weights.numpy()
    out = np.zeros((len(PARTS), len(PARTS)))
    for x in range(len(PARTS)):
        for y in range(len(PARTS)):
            out[x, y] = whole[parts == x][:, parts == y].sum(1).mean()
    return out


def factors(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Random query and key weights [head, head width, width] for the triplets."""
    heads, narrow, width = job.sizes
    draw = np.random.default_rng(0)
    query, key = draw.normal(0, 0.05, (2, heads, narrow, width)).astype(np.float32)
    return query, key


def _triplets(job: Job) -> Results:
    """NumPy's dense decomposition, one head at a time."""
    values, cosines = [], []
    for query, key in zip(*factors(job), strict=True):
        u, s, vh = np.linalg.svd(key.T.astype(np.float64) @ query.astype(np.float64))
        values.append(s[: job.sizes[1]])
        cosines.append((u * vh.T).sum(0)[: job.sizes[1]])
    return {"values": np.stack(values), "cosines": np.stack(cosines)}
