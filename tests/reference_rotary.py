"""The slow reference of families with rotary positions: bands, shared keys, squeezed logits."""

from __future__ import annotations

import functools
import math

import torch
from torch.nn.functional import gelu, silu

import reference

FAMILIES = ("modernbert", "qwen3", "gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2")
SILU = ("llama", "mistral", "qwen2", "qwen3")


def forward(reranker, parts, ids, cuts, instead, terms=None) -> torch.Tensor:
    """What the last layer leaves, normalised: [token, width]."""
    module = reranker.family.module
    base, config = module.base_model, module.config
    ids = torch.tensor(ids).long()
    if config.model_type == "modernbert":
        states = base.embeddings.norm(base.embeddings.tok_embeddings.weight[ids])
    else:
        states = base.embed_tokens.weight[ids]
        if config.model_type not in SILU:
            states = states * config.hidden_size**0.5
    for number, layer in enumerate(base.layers):
        query, key, value = projected(config, layer, states)
        logits = written_logits(module, number, query, key)
        shared = logits.shape[0] // value.shape[1]
        value = value.repeat_interleave(shared, dim=1).flatten(1)
        context = reference.attention(logits, value, parts, number, cuts, instead, terms)
        states = above_attention(config, layer, context, states)
    return (base.final_norm if config.model_type == "modernbert" else base.norm)(states)


def score(reranker, parts, states) -> torch.Tensor:
    """The logits of the classifier, or of the two answers."""
    module = reranker.family.module
    if module.config.model_type == "modernbert":
        pooled = states.mean(0) if module.config.classifier_pooling == "mean" else states[0]
        return module.classifier(module.head(pooled))
    if hasattr(module, "score"):
        return module.score(states[-1])
    logits = module.lm_head.weight @ states[-1]
    cap = getattr(module.config, "final_logit_softcapping", None)
    logits = logits if cap is None else torch.tanh(logits / cap) * cap
    family = reranker.family
    return logits[[token for token in (family.no, family.yes) if token is not None]]


def projected(config, layer, states):
    """Queries, keys and values [token, head, head width], not yet turned."""
    heads = config.num_attention_heads
    if config.model_type == "modernbert":
        mixed = layer.attn.Wqkv(layer.attn_norm(states))
        return tuple(each.unflatten(1, (heads, -1)) for each in mixed.chunk(3, dim=1))
    own, normed = layer.self_attn, layer.input_layernorm(states)
    query, key, value = (
        linear(normed).unflatten(1, (-1, config.head_dim))
        for linear in (own.q_proj, own.k_proj, own.v_proj)
    )
    if config.model_type in ("qwen3", "gemma3_text"):
        query, key = own.q_norm(query), own.k_norm(key)
    return query, key, value


def written_logits(module, number, query, key):
    """The logits [head, row, column], head by head; -inf where the layer allows none."""
    config, angles = module.config, frequencies(module, number)
    tokens, heads, width = query.shape
    query, key = turned(query, angles), turned(key, angles)
    out = torch.full((heads, tokens, tokens), -torch.inf, dtype=query.dtype)
    root = math.sqrt(getattr(config, "query_pre_attn_scalar", width))
    cap = getattr(config, "attn_logit_softcapping", None)
    seen = edges(module, number, tokens)
    for h in range(heads):
        logits = query[:, h] @ key[:, h * key.shape[1] // heads].T / root
        logits = logits if cap is None else torch.tanh(logits / cap) * cap
        out[h][seen] = logits[seen]
    return out


def frequencies(module, number):
    """The angles per position by which a layer turns the planes of a head."""
    rotary = module.base_model.rotary_emb
    if module.config.model_type in ("modernbert", "gemma3_text"):
        return getattr(rotary, f"{module.config.layer_types[number]}_inv_freq").double()
    return rotary.inv_freq.double()


def turned(vectors, angles):
    """Queries or keys [token, head, width], plane by plane: n and n + half make a plane."""
    half = vectors.shape[-1] // 2
    out = torch.empty_like(vectors)
    places = torch.arange(len(vectors), dtype=vectors.dtype)[:, None]
    for n in range(half):
        one, other = vectors[..., n], vectors[..., n + half]
        cos, sin = torch.cos(places * angles[n]), torch.sin(places * angles[n])
        out[..., n] = one * cos - other * sin
        out[..., n + half] = other * cos + one * sin
    return out


@functools.lru_cache(maxsize=64)
def edges(module, number, tokens):
    """Whether each token may read each other one in a layer; a config takes long to ask."""
    return torch.tensor(
        [[allowed(module.config, number, i, j) for j in range(tokens)] for i in range(tokens)]
    )


def allowed(config, number, i, j) -> bool:
    """Whether token i may read token j in a layer, by what the config says."""
    kinds = getattr(config, "layer_types", None)
    local = kinds is not None and kinds[number] == "sliding_attention"
    if config.model_type == "mistral":
        local = config.sliding_window is not None
    if config.model_type == "modernbert":
        return not local or abs(i - j) <= config.local_attention // 2
    if getattr(config, "use_bidirectional_attention", False):
        return not local or abs(i - j) < config.sliding_window
    if not getattr(config, "is_causal", True):
        return not local or abs(i - j) <= config.sliding_window
    return j <= i and (not local or i - j < config.sliding_window)


def above_attention(config, layer, context, states):
    """What a layer makes of the context vectors and its input."""
    if config.model_type == "modernbert":
        states = states + layer.attn.Wo(context)
        wide, gate = layer.mlp.Wi(layer.mlp_norm(states)).chunk(2, dim=-1)
        return states + layer.mlp.Wo(gelu(wide) * gate)
    written = layer.self_attn.o_proj(context)
    mlp = layer.mlp

    def fed(normed):
        gate = mlp.gate_proj(normed)
        gate = silu(gate) if config.model_type in SILU else gelu(gate, approximate="tanh")
        return mlp.down_proj(gate * mlp.up_proj(normed))

    if config.model_type in ("gemma2", "gemma3_text"):
        states = states + layer.post_attention_layernorm(written)
        return states + layer.post_feedforward_layernorm(
            fed(layer.pre_feedforward_layernorm(states))
        )
    states = states + written
    return states + fed(layer.post_attention_layernorm(states))
