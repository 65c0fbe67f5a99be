"""DistilBERT sequence classifiers: BERT's layers by other names, no token types, no pooler."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DistilBertForSequenceClassification

from matchlens.models.bert import Bert, relevance
from matchlens.models.packed import activated


class DistilBert(Bert):
    """Walks a ``DistilBertForSequenceClassification`` through its own layers.

    Args:
        module: the model, in evaluation mode.
    """

    library = DistilBertForSequenceClassification
    token_types = 0
    stack = "transformer.layer"

    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The linear modules of a layer that make queries, keys and values."""
        attention = self.layers[index].attention
        return attention.q_lin, attention.k_lin, attention.v_lin

    def output(self, index: int) -> nn.Linear:
        """The linear module that writes a layer's context into the states."""
        return self.layers[index].attention.out_lin

    def after_attention(
        self,
        index: int,
        context: Float[Tensor, "batch row context"],
        states: Float[Tensor, "batch row width"],
    ) -> Float[Tensor, "batch row width"]:
        """What a layer makes of the context and its input, by the library's modules."""
        layer = self.layers[index]
        mixed = layer.sa_layer_norm(layer.attention.out_lin(context) + states)
        ffn = layer.ffn
        wide = activated(ffn.lin1, ffn.activation, mixed, ffn.lin2)
        return layer.output_layer_norm(ffn.lin2(wide) + mixed)

    def score(
        self, states: Float[Tensor, "batch row width"], parts: Int[Tensor, "batch row"]
    ) -> Float[Tensor, " batch"]:
        """``pre_classifier``, ReLU and classifier on the CLS row."""
        wide = torch.relu(self.module.pre_classifier(states[:, 0]))
        return relevance(self.module.classifier(wide), self.label)
