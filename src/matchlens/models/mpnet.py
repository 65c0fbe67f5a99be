"""MPNet sequence classifiers: a bias by the distance of two tokens, the same in all layers."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import MPNetForSequenceClassification, PreTrainedModel

from matchlens.batching import EncodedBatch
from matchlens.models.bert import relevance
from matchlens.models.biased import Biased
from matchlens.models.qk import QK

BESIDE = (
    "to each logit MPNet adds a bias that depends on the distance of the two tokens and on the "
    "head, not on what the tokens are; it is not in these numbers"
)


class MPNet(Biased):
    """Walks an ``MPNetForSequenceClassification`` through its own modules.

    Args:
        module: the model, in evaluation mode.
    """

    library = MPNetForSequenceClassification
    template = "<s> query </s></s> passage </s>"
    separators = 2
    token_types = 0

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__(module)
        self._known: dict[object, Tensor] = {}

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """Word and position embeddings, normalised; a batch begins, with a bias of its own."""
        self._known.clear()
        return super().embed(batch)

    def bias(
        self,
        index: int,
        query: Float[Tensor, "batch head row d_h"],
        key: Float[Tensor, "batch head column d_h"],
        rows: slice | None,
    ) -> Float[Tensor, "1 head row column"]:
        """The library's bias, kept for the other layers of the batch."""
        tokens = key.shape[2]
        if tokens not in self._known:
            one = key[:1, 0]  # the library reads the number of tokens off it, and the device
            self._known[tokens] = self.body.encoder.compute_position_bias(one)
        whole = self._known[tokens]
        return whole if rows is None else whole[:, :, rows]

    def after_attention(
        self,
        index: int,
        context: Float[Tensor, "batch row context"],
        states: Float[Tensor, "batch row width"],
    ) -> Float[Tensor, "batch row width"]:
        """What a layer makes of the context and its input."""
        layer = self.layers[index]
        mixed = layer.attention.LayerNorm(layer.attention.attn.o(context) + states)
        return layer.output(layer.intermediate(mixed), mixed)

    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The linear modules of a layer that make queries, keys and values."""
        attention = self.layers[index].attention.attn
        return attention.q, attention.k, attention.v

    def output(self, index: int) -> nn.Linear:
        """The linear module that writes a layer's context into the states."""
        return self.layers[index].attention.attn.o

    def score(
        self, states: Float[Tensor, "batch row width"], parts: Int[Tensor, "batch row"]
    ) -> Float[Tensor, " batch"]:
        """The classification head, which reads the ``<s>`` row."""
        return relevance(self.module.classifier(states), self.label)

    def qk(self, layer: int) -> QK:
        """The query and key weights of the layer; the bias is beside them."""
        return replace(super().qk(layer), beside=BESIDE)
