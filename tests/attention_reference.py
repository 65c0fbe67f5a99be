"""The dense reference of the attention meters: the library's own eager maps, and plain loops."""

from __future__ import annotations

import math

import numpy as np
import torch

import reference_rotary
from matchlens.parts import NAMED, Part


def maps(reranker, pair):
    """Attention [layer, head, row, column] and the layers' inputs, by the library's eager code."""
    encoded = reranker.encode([pair])
    family = reranker.family
    fed = {"input_ids": torch.tensor(encoded.ids[0])[None].long()}
    if family.token_types:
        fed["token_type_ids"] = torch.tensor(encoded.types[0])[None].long()
    family.ask_attention("eager")
    try:
        with torch.inference_mode():
            out = family.module(**fed, output_attentions=True, output_hidden_states=True)
    finally:
        family.ask_attention("matchlens")
    attention = np.stack([layer[0].double().cpu().numpy() for layer in out.attentions])
    return encoded, attention, out.hidden_states


def written_lengths(reranker, layer, states):
    """|W_O v_j| by head and token, from the whole matrices."""
    family = reranker.family
    config = family.module.config
    if config.model_type in reference_rotary.FAMILIES:
        value = reference_rotary.projected(config, family.layers[layer], states[0])[2]
        value = value.repeat_interleave(family.n_heads // value.shape[1], dim=1).flatten(1)
    else:
        value = family.projections(layer)[2](states)[0]
    value = value.double()
    matrix = family.output(layer).weight.double()
    width = value.shape[1] // family.n_heads
    lengths = np.zeros((family.n_heads, len(value)))
    for head in range(family.n_heads):
        at = slice(head * width, (head + 1) * width)
        for token in range(len(value)):
            lengths[head, token] = float((matrix[:, at] @ value[token, at]).norm())
    return lengths


def meters(reranker, pair) -> dict[str, np.ndarray]:
    """Every meter of one pair, [layer, head, part, part], NaN where a part is absent."""
    encoded, attention, states = maps(reranker, pair)
    layers, heads, _, _ = attention.shape
    names = ("mass", "norm_mass", "same_token", "peak", "entropy")
    out = {name: np.full((layers, heads, 5, 5), np.nan) for name in names}
    ids, parts = encoded.ids[0], encoded.parts[0]
    places = {part: [i for i, p in enumerate(parts) if p == part] for part in NAMED}
    with torch.inference_mode():
        lengths = [written_lengths(reranker, layer, states[layer]) for layer in range(layers)]
    for layer in range(layers):
        for head in range(heads):
            a = attention[layer, head]
            for x, rows in places.items():
                for y, columns in places.items():
                    if rows and columns:
                        one = _cell(a, rows, columns, x, y, ids, lengths[layer][head])
                        for name, value in one.items():
                            out[name][layer, head, x, y] = value
    return out


def _cell(a, rows, columns, x, y, ids, length) -> dict[str, float]:
    mass = [sum(a[i, j] for j in columns) for i in rows]
    norm = [sum(a[i, j] * length[j] for j in columns) for i in rows]
    entropy, same = [], []
    for i, m in zip(rows, mass, strict=True):
        shares = [a[i, j] / m for j in columns if a[i, j] > 0]
        entropy.append(-sum(share * math.log(share) for share in shares))
        met = sum(a[i, j] for j in columns if ids[j] == ids[i] and i != j)
        same.append(met / m if m > 0 else 0.0)  # a row without mass has no weight
    total = sum(mass) or math.nan
    out = {
        "mass": sum(mass) / len(rows),
        "norm_mass": sum(norm) / len(rows),
        "peak": max(a[i, j] for i in rows for j in columns),
        "entropy": sum(m * e for m, e in zip(mass, entropy, strict=True)) / total,
    }
    if {x, y} <= {Part.Q, Part.D}:
        out["same_token"] = sum(m * s for m, s in zip(mass, same, strict=True)) / total
    return out
