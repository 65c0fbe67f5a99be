"""Families that add to the logits what depends on the distance of two tokens: MPNet, DeBERTa.

The library's layers of these families compute attention themselves and ask no interface. The walk
therefore computes queries, keys and values with the library's modules, hands the family's bias to
matchlens's attention function, and goes on with the library's modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import (
    make_log_bucket_position,
    scaled_size_sqrt,
)

from matchlens.batching import EncodedBatch
from matchlens.models.attend import Call, attend
from matchlens.models.bert import Roberta
from matchlens.models.family import Context, Family, PartNumbers, RowStates, States
from matchlens.models.qk import QK
from matchlens.parts import PADDING

Query = Float[Tensor, "batch head row d_h"]
Key = Float[Tensor, "batch head column d_h"]
Bias = Float[Tensor, "batch_or_1 head row column"]

MPNET_BESIDE = (
    "to each logit MPNet adds a bias that depends on the distance of the two tokens and on the "
    "head, not on what the tokens are; it is not in these numbers"
)
DEBERTA_BESIDE = (
    "to each logit DeBERTa adds terms of one token's content with the distance of the two ({}); "
    "these numbers are of the content-to-content term alone, divided by sqrt({} d_h) where they "
    "are divided"
)
CONVOLUTION = (
    "a convolution beside layer 0 lets each token read what stands up to {} places from it, "
    "whatever attention is cut"
)


class Biased(Family, ABC):
    """Walks a model whose attention has a bias; a family says which."""

    splittable = False  # the bias needs the rows in their order

    def ask_attention(self, name: str) -> None:
        """Nothing: the library's layers have their own attention, which the walk never calls."""

    @abstractmethod
    def bias(self, index: int, query: Query, key: Key, rows: slice | None) -> Bias | None:
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

    library = transformers.MPNetForSequenceClassification
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

    def bias(self, index: int, query: Query, key: Key, rows: slice | None) -> Bias:
        """The library's bias, kept for the other layers of the batch."""
        tokens = key.shape[2]
        if tokens not in self._biases:
            like = key[:1, 0]  # the library takes the number of tokens and the device from it
            self._biases[tokens] = self.body.encoder.compute_position_bias(like)
        bias = self._biases[tokens]
        return bias if rows is None else bias[:, :, rows]

    def after_attention(self, index: int, context: Context, states: RowStates) -> RowStates:
        """The output of attention with its norm, and the feed-forward network."""
        layer = self.layers[index]
        mixed = layer.attention.LayerNorm(layer.attention.attn.o(context) + states)
        return layer.output(layer.intermediate(mixed), mixed)

    logits = Roberta.logits

    def qk(self, layer: int) -> QK:
        """The query and key weights of the layer; the bias is beside them."""
        return replace(super().qk(layer), beside=MPNET_BESIDE)


class DebertaV2(Biased):
    """Walks a ``DebertaV2ForSequenceClassification``: disentangled attention, written as a bias.

    A logit is the sum of up to three products, each divided by sqrt(number of terms * d_h): content
    with content, the reader's content with the distance (c2p), and the read token's (p2c).
    """

    library = transformers.DebertaV2ForSequenceClassification
    token_types = 0
    query_key_value = attrgetter(
        "attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"
    )

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__(module)
        self.token_types = 2 if self.module.config.type_vocab_size > 0 else 0
        if self.body.encoder.conv is not None:
            reach = self.body.encoder.conv.conv.kernel_size[0] // 2
            self.beside = CONVOLUTION.format(reach)

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """The embeddings, zero on padding."""
        return self.body.embeddings(**self.inputs(batch), mask=batch.mask)

    def layer(self, index: int, states: States, call: Call) -> RowStates:
        """One layer; above the first a convolution over the embeddings, where there is one."""
        out = super().layer(index, states, call)
        convolution = self.body.encoder.conv
        if index > 0 or convolution is None:
            return out
        rows = slice(None) if call.rows is None else call.rows
        beside = torch.zeros_like(states)
        beside[:, rows] = out
        mask = (call.grid.parts != PADDING).long().repeat(len(call.cuts), 1)
        return convolution(states, beside, mask)[:, rows]

    def bias(self, index: int, query: Query, key: Key, rows: slice | None) -> Bias | None:
        """The c2p and p2c terms.

        The vector of a distance is looked up before the product, in the order of the distances,
        so that row i, column j of a term lies at a fixed step behind row i, column j - 1: a view
        takes the place of the library's gathering of single elements.
        """
        attention, kinds = self.layers[index].attention.self, self._kinds(index)
        if not attention.relative_attention or not kinds:
            return None
        count, tokens = query.shape[2], key.shape[2]
        last = (tokens if rows is None else rows.indices(tokens)[1]) - 1
        # rows less columns: from the last row with the first column to the first with the last
        distances = last - torch.arange(tokens + count - 1)
        scale = self.scaling(index, query)
        terms = []
        for kind in kinds:
            forwards = kind == "c2p"
            content = (query if forwards else key).transpose(0, 1)
            order = distances if forwards else distances.flip(0)
            vectors = self._vectors(attention, order, keys=forwards) * scale
            products = torch.bmm(content.flatten(1, 2), vectors.mT)
            heads, batch, wide = len(products), query.shape[0], products.shape[2]
            steps, start = ((wide - 1, 1), count - 1) if forwards else ((1, wide - 1), tokens - 1)
            strides = (products.stride(0), products.stride(0) // batch, *steps)
            terms.append(products.as_strided((heads, batch, count, tokens), strides, start))
        total = terms[0] + terms[1] if len(terms) == 2 else terms[0].contiguous()
        return total.transpose(0, 1)

    def places(self, distances: Int[Tensor, " distance"]) -> Int[Tensor, " distance"]:
        """Where in the table of distances each stands: far ones share a place."""
        encoder, attention = self.body.encoder, self.layers[0].attention.self
        buckets, longest = encoder.position_buckets, encoder.max_relative_positions
        if buckets > 0 and longest > 0:
            distances = make_log_bucket_position(distances, buckets, longest).long()
        span = attention.pos_ebd_size
        return (distances + span).clamp(0, 2 * span - 1)

    def _vectors(self, attention: Any, distances: Tensor, keys: bool) -> Tensor:
        """[head, distance, d_h]: what queries (``keys``) or keys meet, distance by distance."""
        places = self.places(distances)
        first = int(places.min())
        table = self.body.encoder.get_rel_embedding()[first : int(places.max()) + 1]
        name = "key_proj" if keys else "query_proj"
        linear = getattr(attention, name if attention.share_att_key else f"pos_{name}")
        projected = linear(table)[(places - first).to(table.device)]
        return projected.unflatten(-1, (self.n_heads, -1)).transpose(0, 1)

    def scaling(self, index: int, query: Tensor) -> float:
        """1 / sqrt(d_h times the number of terms), rounded as the library rounds it."""
        terms = 1 + len(self._kinds(index))
        return 1 / float(scaled_size_sqrt(query, terms).to(query.dtype))

    def _kinds(self, index: int) -> list[str]:
        """The terms with distances that a layer's logits have."""
        kinds = self.layers[index].attention.self.pos_att_type
        return [kind for kind in ("c2p", "p2c") if kind in kinds]

    def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
        """Pooler and classifier on the CLS row."""
        return self.module.classifier(self.module.pooler(states))

    def qk(self, layer: int) -> QK:
        """The content-to-content weights of the layer; the terms with distances are beside them."""
        plain, kinds, beside = super().qk(layer), self._kinds(layer), ""
        if self.layers[layer].attention.self.relative_attention and kinds:
            beside = DEBERTA_BESIDE.format(" and ".join(kinds), 1 + len(kinds))
        return replace(plain, scale=self.scaling(layer, plain.query[0].mT), beside=beside)
