"""The slow, obvious reference: one pair at a time, unpadded, attention written out by row."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import gelu

import tiny
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
        states = embeddings(module, encoded.ids[0], encoded.types[0])
        for number, layer in enumerate(layers(module)):
            heads = module.config.num_attention_heads
            linears = projections(layer)
            context = attention(linears, heads, states, parts, number, cuts, instead, terms)
            states = above_attention(layer, context, states)
        logits = head(module, states[0])
    return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])


def embeddings(module, ids, types):
    """Word, position and token type embeddings, added by hand."""
    table = module.base_model.embeddings
    first = module.config.pad_token_id + 1 if module.config.model_type in tiny.ROBERTAS else 0
    states = table.word_embeddings(torch.tensor(ids).long())
    states = states + table.position_embeddings(torch.arange(first, first + len(ids)))
    if module.config.model_type != "distilbert":
        states = states + table.token_type_embeddings(torch.tensor(types).long())
    states = table.LayerNorm(states)
    widen = getattr(module.base_model, "embeddings_project", None)  # ELECTRA's
    return states if widen is None else widen(states)


def layers(module):
    """The layers, from the first."""
    base = module.base_model
    return (base.transformer if module.config.model_type == "distilbert" else base.encoder).layer


def projections(layer):
    """The linear modules of queries, keys and values."""
    if hasattr(layer.attention, "q_lin"):
        return layer.attention.q_lin, layer.attention.k_lin, layer.attention.v_lin
    own = layer.attention.self
    return own.query, own.key, own.value


def above_attention(layer, context, states):
    """What a layer makes of the context vectors and its input."""
    if hasattr(layer, "ffn"):
        mixed = layer.sa_layer_norm(layer.attention.out_lin(context) + states)
        return layer.output_layer_norm(layer.ffn.lin2(gelu(layer.ffn.lin1(mixed))) + mixed)
    mixed = layer.attention.output(context, states)
    return layer.output(layer.intermediate(mixed), mixed)


def head(module, first):
    """The logits, of the first token's outcome."""
    classifier = module.classifier
    match module.config.model_type:
        case "bert":
            return classifier(torch.tanh(module.bert.pooler.dense(first)))
        case "distilbert":
            return classifier(module.pre_classifier(first).clamp(min=0))
        case "electra":
            return classifier.out_proj(gelu(classifier.dense(first)))
        case _:
            return classifier.out_proj(torch.tanh(classifier.dense(first)))


def attention(linears, heads, states, parts, layer, cuts, instead, terms):
    """Context vectors [token, width], written out head by head and row by row."""
    query, key, value = (linear(states) for linear in linears)
    width = query.shape[1] // heads
    context = torch.zeros_like(query)
    places = {part: [j for j, p in enumerate(parts) if p == part] for part in set(parts)}
    for head in range(heads):
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
