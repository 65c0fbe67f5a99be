"""ALBERT sequence classifiers: layers that share their weights, on narrow embeddings."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AlbertForSequenceClassification

from matchlens.models.bert import Bert, relevance
from matchlens.models.packed import activated


class Albert(Bert):
    """Walks an ``AlbertForSequenceClassification`` through its own layers.

    A layer is counted as often as it is passed; a cut in one pass leaves the others alone.

    Args:
        module: the model, in evaluation mode.
    """

    library = AlbertForSequenceClassification

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
        """The embeddings are narrower than the layers."""
        return self.body.encoder.embedding_hidden_mapping_in(states)

    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The linear modules of a layer that make queries, keys and values."""
        attention = self.layers[index].attention
        return attention.query, attention.key, attention.value

    def output(self, index: int) -> nn.Linear:
        """The linear module that writes a layer's context into the states."""
        return self.layers[index].attention.dense

    def after_attention(
        self,
        index: int,
        context: Float[Tensor, "batch row context"],
        states: Float[Tensor, "batch row width"],
    ) -> Float[Tensor, "batch row width"]:
        """What a layer makes of the context and its input, by the library's modules."""
        layer = self.layers[index]
        mixed = layer.attention.LayerNorm(layer.attention.dense(context) + states)
        wide = activated(layer.ffn, layer.activation, mixed, layer.ffn_output)
        return layer.full_layer_layer_norm(layer.ffn_output(wide) + mixed)

    def score(
        self, states: Float[Tensor, "batch row width"], parts: Int[Tensor, "batch row"]
    ) -> Float[Tensor, " batch"]:
        """Pooler and classifier on the CLS row."""
        pooled = self.body.pooler_activation(self.body.pooler(states[:, 0]))
        return relevance(self.module.classifier(pooled), self.label)
