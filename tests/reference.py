"""The slow, obvious reference: one pair at a time, unpadded, attention written out by row."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch.nn.functional import gelu

import reference_rotary
import tiny
from matchlens.directions import Cut, How
from matchlens.engine import other_pairs
from matchlens.models.random_edges import edge_order
from matchlens.parts import OwnPart, Part


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
    encoded = reranker.encode([pair])
    module = reranker.family.module
    parts = labelled(reranker, pair, encoded.parts[0].tolist())
    if module.config.model_type in reference_rotary.FAMILIES:
        with torch.inference_mode():
            states = reference_rotary.forward(reranker, parts, encoded.ids[0], cuts, instead, terms)
            logits = reference_rotary.score(reranker, parts, states)
        return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])
    with torch.inference_mode():
        first = states = embeddings(module, encoded.ids[0], encoded.types[0])
        for number, layer in enumerate(layers(module)):
            logits = written_logits(module, layer, states)
            value = projections(layer)[2](states)
            context = attention(logits, value, parts, number, cuts, instead, terms)
            states = above_attention(layer, context, states)
            if number == 0 and has_convolution(module):
                states = convolved(module.base_model.encoder.conv, first, states)
        logits = head(module, states[0])
    return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])


def labelled(reranker, pair, parts) -> list:
    """The parts of the tokens; (part, own part) where a token is of both.

    A token is of the own part that has its first character, white space aside.
    """
    if not pair.parts:
        return parts
    spans, out = reranker.spans(pair), []
    for token, part in enumerate(parts):
        text = {Part.Q: pair.query, Part.D: pair.text}.get(part, "")
        characters = range(spans.starts[token], spans.ends[token])
        first = next((n for n in characters if text and text[n] != " "), None)
        own = [
            OwnPart(name)
            for name, of, start, end in pair.parts
            if first is not None and of == str(Part(part)) and start <= first < end
        ]
        out.append((Part(part), *own) if own else part)
    return out


def _names(label) -> tuple:
    return label if isinstance(label, tuple) else (label,)


def embeddings(module, ids, types):
    """Word, position and token type embeddings, added by hand."""
    table = module.base_model.embeddings
    first = module.config.pad_token_id + 1 if module.config.model_type in tiny.ROBERTAS else 0
    states = table.word_embeddings(torch.tensor(ids).long())
    if table.position_embeddings is not None:
        states = states + table.position_embeddings(torch.arange(first, first + len(ids)))
    if getattr(table, "token_type_embeddings", None) is not None:
        states = states + table.token_type_embeddings(torch.tensor(types).long())
    if getattr(table, "embed_proj", None) is not None:  # DeBERTa's
        states = table.embed_proj(states)
    states = table.LayerNorm(states)
    if module.config.model_type == "albert":
        return module.base_model.encoder.embedding_hidden_mapping_in(states)
    widen = getattr(module.base_model, "embeddings_project", None)  # ELECTRA's
    return states if widen is None else widen(states)


def layers(module):
    """The layers, from the first."""
    base, config = module.base_model, module.config
    if config.model_type == "albert":
        groups = config.num_hidden_groups
        each = [groups * n // config.num_hidden_layers for n in range(config.num_hidden_layers)]
        found = [base.encoder.albert_layer_groups[group].albert_layers for group in each]
        return [layer for group in found for layer in group]
    return (base.transformer if config.model_type == "distilbert" else base.encoder).layer


def projections(layer):
    """The linear modules of queries, keys and values."""
    place = layer.attention
    for inside in ("self", "attn"):
        place = getattr(place, inside, place)
    for names in (
        ("q_lin", "k_lin", "v_lin"),
        ("q", "k", "v"),
        ("query_proj", "key_proj", "value_proj"),
        ("query", "key", "value"),
    ):
        if hasattr(place, names[0]):
            return tuple(getattr(place, name) for name in names)
    raise AssertionError("no projections found")


def above_attention(layer, context, states):
    """What a layer makes of the context vectors and its input."""
    attention = layer.attention
    if hasattr(layer, "full_layer_layer_norm"):  # ALBERT
        mixed = attention.LayerNorm(attention.dense(context) + states)
        fed = layer.ffn_output(gelu(layer.ffn(mixed), approximate="tanh"))
        return layer.full_layer_layer_norm(fed + mixed)
    if hasattr(layer, "ffn"):  # DistilBERT
        mixed = layer.sa_layer_norm(attention.out_lin(context) + states)
        return layer.output_layer_norm(layer.ffn.lin2(gelu(layer.ffn.lin1(mixed))) + mixed)
    if hasattr(attention, "attn"):  # MPNet
        mixed = attention.LayerNorm(attention.attn.o(context) + states)
    else:
        mixed = attention.output(context, states)
    return layer.output(layer.intermediate(mixed), mixed)


def has_convolution(module) -> bool:
    """Whether DeBERTa has a convolution beside its first layer."""
    return getattr(getattr(module.base_model, "encoder", None), "conv", None) is not None


def convolved(conv, first, states):
    """DeBERTa's convolution of the embeddings, token by token, and the first layer's outcome."""
    weight, reach = conv.conv.weight, conv.conv.kernel_size[0] // 2
    out = []
    for token in range(len(first)):
        total = conv.conv.bias.clone()
        for step in range(-reach, reach + 1):
            if 0 <= token + step < len(first):
                total += weight[:, :, step + reach] @ first[token + step]
        out.append(conv.LayerNorm(states[token] + torch.tanh(total)))
    return torch.stack(out)


def head(module, first):
    """The logits, of the first token's outcome."""
    classifier = module.classifier
    match module.config.model_type:
        case "albert":
            return classifier(torch.tanh(module.albert.pooler(first)))
        case "bert":
            return classifier(torch.tanh(module.bert.pooler.dense(first)))
        case "deberta-v2":
            return classifier(gelu(module.pooler.dense(first)))
        case "distilbert":
            return classifier(module.pre_classifier(first).clamp(min=0))
        case "electra":
            return classifier.out_proj(gelu(classifier.dense(first)))
        case _:
            return classifier.out_proj(torch.tanh(classifier.dense(first)))


def written_logits(module, layer, states):
    """The logits [head, row, column], head by head."""
    heads = module.config.num_attention_heads
    query, key, _ = (linear(states).unflatten(-1, (heads, -1)) for linear in projections(layer))
    tokens, _, width = query.shape
    out = torch.zeros(heads, tokens, tokens, dtype=states.dtype)
    for h in range(heads):
        out[h] = query[:, h] @ key[:, h].T / math.sqrt(width)
    if module.config.model_type == "mpnet":
        table = module.base_model.encoder.relative_attention_bias.weight
        for i, j in itertools.product(range(tokens), range(tokens)):
            out[:, i, j] += table[mpnet_place(i - j)]
    if module.config.model_type == "deberta-v2":
        return _disentangled(module, layer, query, key, out)
    return out


def mpnet_place(distance: int) -> int:
    """Where in MPNet's table the bias of a distance (row less column) stands."""
    side, far = (16 if distance < 0 else 0), abs(distance)
    if far < 8:
        return side + far
    return side + min(15, 8 + int(math.log(far / 8) / math.log(128 / 8) * 8))


def _disentangled(module, layer, query, key, logits):
    """DeBERTa's three terms, one logit at a time."""
    config, encoder, own = module.config, module.base_model.encoder, layer.attention.self
    kinds = config.pos_att_type or []
    # the library rounds the root to float32, whatever the model's type
    root = float(np.float32(math.sqrt(query.shape[2] * (1 + len(kinds)))))
    logits = logits * math.sqrt(query.shape[2]) / root
    if not config.relative_attention:
        return logits
    table = encoder.rel_embeddings.weight
    if "layer_norm" in encoder.norm_rel_ebd:
        table = encoder.LayerNorm(table)
    shared = getattr(config, "share_att_key", False)
    vectors = {}
    if "c2p" in kinds:
        vectors["c2p"] = (own.key_proj if shared else own.pos_key_proj)(table)
    if "p2c" in kinds:
        vectors["p2c"] = (own.query_proj if shared else own.pos_query_proj)(table)
    heads, tokens, _ = logits.shape
    for kind, found in vectors.items():
        by_head = found.unflatten(-1, (heads, -1))
        for h, i, j in itertools.product(range(heads), range(tokens), range(tokens)):
            content = query[i, h] if kind == "c2p" else key[j, h]
            logits[h, i, j] += content @ by_head[deberta_place(config, i - j), h] / root
    return logits


def deberta_place(config, distance: int) -> int:
    """Where in DeBERTa's table the vector of a distance (row less column) stands."""
    longest = config.max_relative_positions
    longest = config.max_position_embeddings if longest < 1 else longest
    buckets = getattr(config, "position_buckets", -1)
    span = buckets if buckets > 0 else longest
    middle, far = buckets // 2, abs(distance)
    if buckets > 0 and far > middle:
        steps = math.log(far / middle) / math.log((longest - 1) / middle) * (middle - 1)
        distance = int(math.copysign(math.ceil(round(steps, 6)) + middle, distance))
    return min(max(distance + span, 0), 2 * span - 1)


def attention(logits, value, parts, layer, cuts, instead, terms):
    """Context vectors [token, width], written out head by head and row by row."""
    heads = len(logits)
    width = value.shape[1] // heads
    context = torch.zeros_like(value)
    places = {part: [j for j, p in enumerate(parts) if p == part] for part in set(parts)}
    for head in range(heads):
        at = slice(head * width, (head + 1) * width)
        hows = {
            row: {part: _how(cuts, layer, head, row, part) for part in places} for row in places
        }
        seen = (logits[head] > -math.inf).tolist()
        for i, row in enumerate(parts):
            how = hows[row]
            left = [j for j, part in enumerate(parts) if how[part] is not How.MASK and seen[i][j]]
            weights = np.zeros(len(parts))
            if left:
                weights[left] = torch.softmax(logits[head, i, left], dim=0)
            for part, columns in places.items():
                term = torch.from_numpy(weights[columns]) @ value[columns, at]
                if terms is not None:
                    for name in _names(row):
                        terms.setdefault((layer, head, name, part), []).append(term)
                if how[part] in (None, How.MASK):
                    context[i, at] += term
                elif how[part] in (How.MEAN, How.RESAMPLE):
                    whose = _reader(cuts, row, part)
                    context[i, at] += instead[how[part]].get((layer, head, whose, part), 0)
                elif how[part] is How.SINK:
                    (last,) = places[Part.SEP2]
                    context[i, at] += weights[columns].sum() * value[last, at]
    return context


def controlled(reranker, pair, control, seed: int) -> tuple[float, list[float]]:
    """One pair, unpadded, under a control whose edges leave one by one, head by head.

    Returns:
        The score, and what was taken: edges, those inside the direction, mass, that inside.
    """
    encoded = reranker.encode([pair])
    parts = encoded.parts[0].tolist()
    module = reranker.family.module
    taken = np.zeros(4)
    with torch.inference_mode():
        states = embeddings(module, encoded.ids[0], encoded.types[0])
        for number, layer in enumerate(layers(module)):
            logits = written_logits(module, layer, states)
            value = projections(layer)[2](states)
            heads, width = len(logits), value.shape[1] // len(logits)
            order = edge_order(pair, len(parts), len(parts), number, control.draw, seed)
            context = torch.zeros_like(value)
            last = number == len(layers(module)) - 1
            for one in range(heads):
                at = slice(one * width, (one + 1) * width)
                weights = torch.softmax(logits[one], -1)
                own = _own_edges(control.cut, number, one, parts)
                if last and control.kind in ("rows", "scaled"):  # the score reads the first row
                    own = {(i, j) for i, j in own if i == 0}
                gone = _gone(
                    control.kind, weights, own, [divmod(int(e), len(parts)) for e in order]
                )
                for (i, j), share in gone.items():
                    inside = (i, j) in own
                    mass = share * float(weights[i, j])
                    taken += [share, share * inside, mass, mass * inside]
                    weights[i, j] *= 1 - share
                if control.cut.how is How.MASK:
                    total = weights.sum(-1, keepdim=True)
                    weights = torch.where(total > 0, weights / total, weights)
                context[:, at] = weights @ value[:, at]
            states = above_attention(layer, context, states)
        return float(head(module, states[0])[0]), taken.tolist()


def _own_edges(cut, layer, head, parts) -> set:
    heads = cut.heads_at(layer)
    if heads is not None and head not in heads:
        return set()
    edges, places = cut.edges(layer), range(len(parts))
    return {(i, j) for i in places for j in places if (parts[i], parts[j]) in edges}


def _gone(kind, weights, own, order) -> dict:
    """What share of which edge a control removes."""
    if kind == "edges":
        return dict.fromkeys(order[: len(own)], 1.0)
    if kind == "mass":
        mass = float(sum(weights[edge] for edge in own))
        sums = np.cumsum([0.0, *(float(weights[edge]) for edge in order)])
        return dict.fromkeys(order[: int(np.argmin(np.abs(sums - mass)))], 1.0)
    gone = {}
    for i, row in enumerate(weights):
        missing = float(sum(row[j] for j in range(len(row)) if (i, j) in own))
        columns = [j for at, j in order if at == i]
        if kind == "scaled":
            gone |= {(i, j): missing for j in columns if missing}
            continue
        for j in sorted(columns, key=lambda j: (i, j) in own):
            share = min(1.0, missing / float(row[j]))
            if share > 1e-12:
                gone[i, j] = share
            missing -= share * float(row[j])
    return gone


def _named(direction, row, column) -> list:
    """Which of a row's parts the direction names, the widest first, where it names the column."""
    edges = set(direction.edges())
    return [x for x in _names(row) if any((x, y) in edges for y in _names(column))]


def _reader(cuts, row, column):
    """Whose rows' mean takes the place of a term: the widest part that a cut names."""
    found = [x for cut in cuts for one in cut.directions for x in _named(one, row, column)]
    return min(found, key=_names(row).index)


def _how(cuts, layer, head, row, column):
    for cut in cuts:
        if (
            (cut.layers is None or layer in cut.layers)
            and (cut.heads is None or (layer, head) in cut.heads)
            and any(_named(direction, row, column) for direction in cut.directions)
        ):
            return cut.how
    return None


def assert_equal(model, few, names, got) -> None:
    """The scores of these cuts are those of the slow reference, and none is the untouched score."""
    others = other_pairs(few, 0)
    for name in names:
        expected = [
            score(model, pair, [name], run=few, other=few[others[place]])
            for place, pair in enumerate(few)
        ]
        np.testing.assert_allclose(got[name], expected, atol=1e-10, rtol=0, err_msg=name)
        assert np.abs(got[name] - got[""]).max() > 1e-4, name
