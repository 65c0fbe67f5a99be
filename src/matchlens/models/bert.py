"""BERT's sequence classifiers (MiniLM rerankers, MonoBERT) and families with layers like theirs."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor

from matchlens.models.family import Context, Family, PartNumbers, RowStates
from matchlens.models.packed import activated


class Bert(Family):
    """Walks a ``BertForSequenceClassification``: one or two labels, or a chosen one."""

    library = transformers.BertForSequenceClassification


class Roberta(Family):
    """Walks a ``RobertaForSequenceClassification``; both of its separators are SEP1.

    The library's own embeddings count positions from ``pad_token_id + 1``; padding has none.
    """

    library = transformers.RobertaForSequenceClassification
    template = "<s> query </s></s> passage </s>"
    separators = 2
    token_types = 1

    def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
        """The classification head, which reads the first row."""
        return self.module.classifier(states)


class XlmRoberta(Roberta):
    """Walks an ``XLMRobertaForSequenceClassification``."""

    library = transformers.XLMRobertaForSequenceClassification


class Camembert(Roberta):
    """Walks a ``CamembertForSequenceClassification``."""

    library = transformers.CamembertForSequenceClassification


class Electra(Family):
    """Walks an ``ElectraForSequenceClassification``; its embeddings may be narrower."""

    library = transformers.ElectraForSequenceClassification

    def widen(self, states: Float[Tensor, "... narrow"]) -> Float[Tensor, "... width"]:
        """The projection of narrow embeddings, where there is one."""
        project = getattr(self.body, "embeddings_project", None)
        return states if project is None else project(states)

    logits = Roberta.logits


class Albert(Family):
    """Walks an ``AlbertForSequenceClassification``; a shared layer counts each time it is used."""

    library = transformers.AlbertForSequenceClassification
    query_key_value = attrgetter("attention.query", "attention.key", "attention.value")
    context_output = attrgetter("attention.dense")

    def stacked(self) -> list[Any]:
        """The layers in the order in which they are passed: groups in turn, each several times."""
        config, groups = self.module.config, self.body.encoder.albert_layer_groups
        passes = config.num_hidden_layers / config.num_hidden_groups
        return [
            layer
            for number in range(config.num_hidden_layers)
            for layer in groups[int(number / passes)].albert_layers
        ]

    def widen(self, states: Float[Tensor, "... narrow"]) -> Float[Tensor, "... width"]:
        """The projection of the narrow embeddings."""
        return self.body.encoder.embedding_hidden_mapping_in(states)

    def after_attention(self, index: int, context: Context, states: RowStates) -> RowStates:
        """The output of attention and the feed-forward network, each with its norm."""
        layer = self.layers[index]
        mixed = layer.attention.LayerNorm(layer.attention.dense(context) + states)
        wide = activated(layer.ffn, layer.activation, mixed, layer.ffn_output)
        return layer.full_layer_layer_norm(layer.ffn_output(wide) + mixed)

    def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
        """Pooler and classifier on the CLS row."""
        pooled = self.body.pooler_activation(self.body.pooler(states[:, 0]))
        return self.module.classifier(pooled)


class DistilBert(Family):
    """Walks a ``DistilBertForSequenceClassification``: no token types, no pooler."""

    library = transformers.DistilBertForSequenceClassification
    token_types = 0
    stack = "transformer.layer"
    query_key_value = attrgetter("attention.q_lin", "attention.k_lin", "attention.v_lin")
    context_output = attrgetter("attention.out_lin")

    def after_attention(self, index: int, context: Context, states: RowStates) -> RowStates:
        """The output of attention and the feed-forward network, each with its norm."""
        layer = self.layers[index]
        mixed = layer.sa_layer_norm(layer.attention.out_lin(context) + states)
        ffn = layer.ffn
        wide = activated(ffn.lin1, ffn.activation, mixed, ffn.lin2)
        return layer.output_layer_norm(ffn.lin2(wide) + mixed)

    def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
        """``pre_classifier``, ReLU and classifier on the CLS row."""
        return self.module.classifier(torch.relu(self.module.pre_classifier(states[:, 0])))
