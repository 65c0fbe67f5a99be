"""Families that add to the logits what depends on the distance of two tokens, and MPNet.

The library's layers of these families compute attention themselves and ask no interface. The walk
therefore computes queries, keys and values with the library's modules, hands the family's bias to
matchlens's attention function, and goes on with the library's modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from operator import attrgetter

from jaxtyping import Float
from torch import Tensor
from transformers import MPNetForSequenceClassification, PreTrainedModel

from matchlens.batching import EncodedBatch
from matchlens.models.attend import Call, attend
from matchlens.models.family import Context, Family, PartNumbers, RowStates, States
from matchlens.models.qk import QK

MPNET_BESIDE = (
    "to each logit MPNet adds a bias that depends on the distance of the two tokens and on the "
    "head, not on what the tokens are; it is not in these numbers"
)


class Biased(Family, ABC):
    """Walks a model whose attention has a bias; a family says which."""

    splittable = False  # the bias needs the rows in their order

    def ask_attention(self, name: str) -> None:
        """Nothing: the library's layers have their own attention, which the walk never calls."""

    @abstractmethod
    def bias(
        self,
        index: int,
        query: Float[Tensor, "batch head row d_h"],
        key: Float[Tensor, "batch head column d_h"],
        rows: slice | None,
    ) -> Float[Tensor, "batch_or_1 head row column"] | None:
        """What a layer adds to the scaled product of queries and keys; of all rows where None."""

    def scaling(self, index: int, query: Tensor) -> float:
        """Factor of the product of queries and keys."""
        return query.shape[-1] ** -0.5

    def layer(self, index: int, states: States, call: Call) -> RowStates:
        """One layer, by the library's modules around matchlens's attention function."""
        asking, *reading = self.projections(index)
        key, value = (self.by_head(linear(states)) for linear in reading)
        rows = slice(None) if call.rows is None else call.rows
        if call.rows is not None and call.probe is not None:
            every = self.by_head(asking(states))  # the probe also measures rows that go no further
            query = every[:, :, rows]
            call = replace(call, asking=every, bias=self.bias(index, every, key, None))
        else:
            query = self.by_head(asking(states[:, rows]))
            call = replace(call, bias=self.bias(index, query, key, call.rows))
        scaling = self.scaling(index, query)
        context, _ = attend(
            self.layers[index], query, key, value, None, scaling=scaling, matchlens=call
        )
        return self.after_attention(index, context.flatten(2), states[:, rows])


class MPNet(Biased):
    """Walks an ``MPNetForSequenceClassification``: one bias by distance for all layers."""

    library = MPNetForSequenceClassification
    template = "<s> query </s></s> passage </s>"
    separators = 2
    token_types = 0
    query_key_value = attrgetter("attention.attn.q", "attention.attn.k", "attention.attn.v")
    context_output = attrgetter("attention.attn.o")

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__(module)
        self._biases: dict[int, Tensor] = {}

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """The embeddings; a new batch gets a new bias."""
        self._biases.clear()
        return super().embed(batch)

    def bias(
        self, index: int, query: Tensor, key: Tensor, rows: slice | None
    ) -> Float[Tensor, "1 head row column"]:
        """The library's bias, kept for the other layers of the batch."""
        tokens = key.shape[2]
        if tokens not in self._biases:
            like = key[:1, 0]  # the library takes the number of tokens and the device from it
            self._biases[tokens] = self.body.encoder.compute_position_bias(like)
        whole = self._biases[tokens]
        return whole if rows is None else whole[:, :, rows]

    def after_attention(self, index: int, context: Context, states: RowStates) -> RowStates:
        """The output of attention with its norm, and the feed-forward network."""
        layer = self.layers[index]
        mixed = layer.attention.LayerNorm(layer.attention.attn.o(context) + states)
        return layer.output(layer.intermediate(mixed), mixed)

    def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
        """The classification head, which reads the ``<s>`` row."""
        return self.module.classifier(states)

    def qk(self, layer: int) -> QK:
        """The query and key weights of the layer; the bias is beside them."""
        return replace(super().qk(layer), beside=MPNET_BESIDE)
