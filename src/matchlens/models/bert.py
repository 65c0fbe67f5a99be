"""BERT sequence classifiers with one or two labels (MiniLM rerankers, MonoBERT)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import BertForSequenceClassification

from matchlens.batching import EncodedBatch
from matchlens.models.attend import Call
from matchlens.parts import Part

ATTENTION = "matchlens"
LIBRARY_ATTENTION = "eager"


class Bert:
    """Walks a ``BertForSequenceClassification`` through its own layers.

    Args:
        module: the model, in evaluation mode.
    """

    score_parts = (Part.CLS,)
    score_rows = slice(0, 1)

    def __init__(self, module: BertForSequenceClassification) -> None:
        self.module: Any = module
        self.module.set_attn_implementation(ATTENTION)
        self.layers = self.module.bert.encoder.layer
        self.n_layers = len(self.layers)
        self.n_heads = self.module.config.num_attention_heads

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """Word, position and token type embeddings, normalised."""
        return self.module.bert.embeddings(
            input_ids=batch.input_ids, token_type_ids=batch.token_type_ids
        )

    def layer(
        self, index: int, states: Float[Tensor, "batch token width"], call: Call
    ) -> Float[Tensor, "batch row width"]:
        """One ``BertLayer``; with ``call.rows``, keys and values come from all tokens."""
        layer = self.layers[index]
        if call.rows is not None:
            attention = layer.attention.self
            shape = (*states.shape[:-1], -1, attention.attention_head_size)
            key = attention.key(states).view(shape).transpose(1, 2)
            value = attention.value(states).view(shape).transpose(1, 2)
            call = replace(call, memory=(key, value))
            states = states[:, call.rows]
        out = layer(states, None, matchlens=call)
        return out[0] if isinstance(out, tuple) else out

    def score(self, states: Float[Tensor, "batch row width"]) -> Float[Tensor, " batch"]:
        """Pooler and classifier on the CLS row."""
        return relevance(self.module.classifier(self.module.bert.pooler(states)))

    def library_score(self, batch: EncodedBatch) -> Float[Tensor, " pair"]:
        """The library's own forward pass with its eager attention."""
        self.module.set_attn_implementation(LIBRARY_ATTENTION)
        try:
            out = self.module(
                input_ids=batch.input_ids,
                token_type_ids=batch.token_type_ids,
                attention_mask=batch.mask.long(),
            )
        finally:
            self.module.set_attn_implementation(ATTENTION)
        return relevance(out.logits)


def relevance(logits: Float[Tensor, "batch label"]) -> Float[Tensor, " batch"]:
    """The relevance logit: the logit of one label, ``z1 - z0`` of two.

    The difference has the order of the log softmax of label 1, without its saturation.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
