"""The dense reference of the attention meters: the library's own eager maps, and plain loops."""

from __future__ import annotations

import math

import numpy as np
import torch

import reference_rotary
from matchlens.models import words as words_module
from matchlens.models.words import STOP, stem
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
    """Every meter of one pair, [layer, head, part, part], NaN where a part is absent.

    Beside them ``kinds`` [layer, head, direction, quantity] and ``surface`` [quantity].
    """
    encoded, attention, states = maps(reranker, pair)
    layers, heads, _, _ = attention.shape
    names = ("mass", "norm_mass", "same_token", "same_stem", "peak", "entropy")
    out = {name: np.full((layers, heads, 5, 5), np.nan) for name in names}
    out["kinds"] = np.full((layers, heads, 2, 6), np.nan)
    ids, parts = encoded.ids[0], encoded.parts[0]
    words = words_by_characters(reranker, pair)
    vectors = word_vectors(reranker, ids, words)
    near = near_cosine(reranker)
    query, document = (
        [i for i, p in enumerate(parts) if p == one and words[i]] for one in (Part.Q, Part.D)
    )
    stems = {one: {stem(words[i][2]) for i in some} for one, some in ((1, query), (3, document))}
    content = [i for i in query if words[i][2].lower() not in STOP]
    found = [stem(words[i][2]) in stems[3] for i in content]
    best = [max([vectors[i] @ vectors[j] for j in document] or [-1]) for i in content]
    out["surface"] = np.array([np.mean(found), np.mean(best)]) if content else np.full(2, np.nan)
    places = {part: [i for i, p in enumerate(parts) if p == part] for part in NAMED}
    with torch.inference_mode():
        lengths = [written_lengths(reranker, layer, states[layer]) for layer in range(layers)]
    for layer in range(layers):
        for head in range(heads):
            a = attention[layer, head]
            for x, rows in places.items():
                for y, columns in places.items():
                    if rows and columns:
                        one = _cell(a, rows, columns, x, y, ids, lengths[layer][head], words)
                        for name, value in one.items():
                            out[name][layer, head, x, y] = value
            for place, (x, y) in enumerate([(Part.Q, Part.D), (Part.D, Part.Q)]):
                out["kinds"][layer, head, place] = _kinds(
                    a, places[x], places[y], x is Part.Q, ids, words, stems, vectors, near
                )
    return out


def words_by_characters(reranker, pair):
    """For each token its part, number and text of its word in that part, None for no word."""
    spans = reranker.spans(pair)
    texts = {Part.Q: pair.query, Part.D: pair.text}
    out = []
    for part, start, end in zip(spans.parts, spans.starts, spans.ends, strict=True):
        out.append(None)
        text = texts.get(Part(int(part)))
        if text is None:
            continue
        number = 0
        for place in range(end):
            begins = text[place].isalnum() and (place == 0 or not text[place - 1].isalnum())
            number += begins
            if place >= start and text[place].isalnum():
                first, last = place, place
                while first > 0 and text[first - 1].isalnum():
                    first -= 1
                while last < len(text) and text[last].isalnum():
                    last += 1
                out[-1] = (int(part), number, text[first:last])
                break
    return out


def word_vectors(reranker, ids, words):
    """For each token the mean of its word's embeddings, centred and of length 1."""
    table = reranker.family.module.get_input_embeddings().weight.detach().double().cpu().numpy()
    centre = np.mean([table[i] for i in _whole_words(reranker)], axis=0)
    out = np.zeros((len(ids), table.shape[1]))
    for place, word in enumerate(words):
        if word:
            mine = [j for j, other in enumerate(words) if other == word]
            vector = np.mean([table[ids[j]] - centre for j in mine], axis=0)
            out[place] = vector / np.linalg.norm(vector)
    return out


def _whole_words(reranker):
    """Token ids of the tiny vocabulary's words of two letters or more."""
    return sorted(
        number
        for token, number in reranker.tokenizer.get_vocab().items()
        if token.isalnum() and len(token) > 1
    )


def near_cosine(reranker):
    """The cosine that one in a hundred random word pairs reaches, pair by pair."""
    table = reranker.family.module.get_input_embeddings().weight.detach().double().cpu().numpy()
    ids = _whole_words(reranker)
    vectors = table[ids] - table[ids].mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    draw = np.random.default_rng([7, 0, 0])
    first = draw.integers(len(ids), size=100_000)
    second = (first + draw.integers(1, len(ids), size=100_000)) % len(ids)
    cosines = (vectors[first] * vectors[second]).sum(1)
    share = 1 - words_module.NEAR
    return np.quantile(cosines, share) - 1e-6  # of few words many pairs have this cosine exactly


def _kinds(a, rows, columns, reads_document, ids, words, stems, vectors, near):
    """Observed and expected masses of one direction of one head, by plain loops."""
    name = {i: stem(words[i][2]) for i in (*rows, *columns) if words[i]}
    query = {stem(word[2]) for word in words if word and word[0] == 1 and word[2] not in STOP}
    row = {i: sum(a[i, j] for j in columns) for i in rows}
    column = {j: sum(a[i, j] for i in rows) for j in columns}
    total = sum(row.values())
    out = np.zeros(6)
    asked = [j for j in columns if name.get(j) in query]
    out[2] = sum(column[j] for j in asked)
    out[3] = total * len(asked) / len(columns)
    for i in rows:
        close = 0
        for j in columns:
            if i in name and name[i] == name.get(j):
                out[0] += a[i, j]
                out[1] += row[i] * column[j] / total if total > 0 else 0
            q, d = (i, j) if reads_document else (j, i)
            if (
                q in name
                and d in name
                and words[q][2] not in STOP
                and name[q] not in stems[3]
                and name[d] not in stems[1]
                and vectors[q] @ vectors[d] >= near
                and ids[q] != ids[d]
            ):
                out[4] += a[i, j]
                close += 1
        out[5] += row[i] * close / len(columns)
    return out / len(rows)


def _cell(a, rows, columns, x, y, ids, length, words) -> dict[str, float]:
    mass = [sum(a[i, j] for j in columns) for i in rows]
    norm = [sum(a[i, j] * length[j] for j in columns) for i in rows]
    entropy, same, stems = [], [], []
    for i, m in zip(rows, mass, strict=True):
        shares = [a[i, j] / m for j in columns if a[i, j] > 0]
        entropy.append(-sum(share * math.log(share) for share in shares))
        met = sum(a[i, j] for j in columns if ids[j] == ids[i] and i != j)
        same.append(met / m if m > 0 else 0.0)  # a row without mass has no weight
        like = [j for j in columns if words[i] and words[j] and words[j][:2] != words[i][:2]]
        met = sum(a[i, j] for j in like if stem(words[j][2]) == stem(words[i][2]))
        stems.append(met / m if m > 0 else 0.0)
    total = sum(mass) or math.nan
    out = {
        "mass": sum(mass) / len(rows),
        "norm_mass": sum(norm) / len(rows),
        "peak": max(a[i, j] for i in rows for j in columns),
        "entropy": sum(m * e for m, e in zip(mass, entropy, strict=True)) / total,
    }
    if {x, y} <= {Part.Q, Part.D}:
        out["same_token"] = sum(m * s for m, s in zip(mass, same, strict=True)) / total
        out["same_stem"] = sum(m * s for m, s in zip(mass, stems, strict=True)) / total
    return out
