"""The slow, obvious reference: one pair at a time, unpadded, attention written out by row."""

from __future__ import annotations

import math

import numpy as np
import torch

from matchlens.batching import encode
from matchlens.directions import Cut, How
from matchlens.parts import Part


def score(reranker, pair, cuts=(), *, run=(), other=None) -> float:
    """The relevance logit of one pair under some cuts, in the model's own type.

    ``run`` holds the pairs that ``mean`` takes its means over, ``other`` is the pair from which
    ``resample`` takes what it puts in.
    """
    cuts = [Cut.of(cut) for cut in cuts]
    instead = {}
    if any(cut.how is How.MEAN for cut in cuts):
        instead[How.MEAN] = _means([untouched(reranker, one) for one in run])
    if any(cut.how is How.RESAMPLE for cut in cuts):
        instead[How.RESAMPLE] = untouched(reranker, other)
    return _forward(reranker, pair, cuts, instead)


def untouched(reranker, pair) -> dict:
    """(layer, head, row part, column part) -> mean over the rows of the part's term."""
    terms: dict = {}
    _forward(reranker, pair, [], {}, terms)
    return {key: torch.stack(rows).mean(0) for key, rows in terms.items()}


def _means(runs) -> dict:
    keys = {key for terms in runs for key in terms}
    return {
        key: torch.stack([terms[key] for terms in runs if key in terms]).mean(0) for key in keys
    }


def _forward(reranker, pair, cuts, instead, terms=None) -> float:
    encoded = encode(reranker.tokenizer, [pair], reranker.max_length)
    module = reranker.family.module
    parts = encoded.parts[0].tolist()
    with torch.inference_mode():
        states = module.bert.embeddings(
            input_ids=torch.tensor(encoded.ids[0])[None].long(),
            token_type_ids=torch.tensor(encoded.types[0])[None].long(),
        )[0]
        for number, layer in enumerate(module.bert.encoder.layer):
            context = attention(layer.attention.self, states, parts, number, cuts, instead, terms)
            mixed = layer.attention.output(context, states)
            states = layer.output(layer.intermediate(mixed), mixed)
        logits = module.classifier(torch.tanh(module.bert.pooler.dense(states[0])))
    return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])


def attention(module, states, parts, layer, cuts, instead, terms):
    """Context vectors [token, width], written out head by head and row by row."""
    width = module.attention_head_size
    query, key, value = (linear(states) for linear in (module.query, module.key, module.value))
    context = torch.zeros_like(query)
    places = {part: [j for j, p in enumerate(parts) if p == part] for part in set(parts)}
    for head in range(module.num_attention_heads):
        at = slice(head * width, (head + 1) * width)
        for i, row in enumerate(parts):
            how = {part: _how(cuts, layer, head, row, part) for part in places}
            left = [j for j, part in enumerate(parts) if how[part] is not How.MASK]
            weights = np.zeros(len(parts))
            if left:
                logits = key[left, at] @ query[i, at] / math.sqrt(width)
                weights[left] = torch.softmax(logits, dim=0)
            for part, columns in places.items():
                term = torch.from_numpy(weights[columns]) @ value[columns, at]
                if terms is not None:
                    terms.setdefault((layer, head, row, part), []).append(term)
                if how[part] in (None, How.MASK):
                    context[i, at] += term
                elif how[part] in (How.MEAN, How.RESAMPLE):
                    context[i, at] += instead[how[part]].get((layer, head, row, part), 0)
                elif how[part] is How.SINK:
                    (last,) = places[Part.SEP2]
                    context[i, at] += weights[columns].sum() * value[last, at]
    return context


def _how(cuts, layer, head, row, column):
    for cut in cuts:
        if (
            (cut.layers is None or layer in cut.layers)
            and (cut.heads is None or (layer, head) in cut.heads)
            and any((row, column) in direction.edges() for direction in cut.directions)
        ):
            return cut.how
    return None
