"""BERT sequence classifiers with one or two labels (MiniLM rerankers, MonoBERT)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BertForSequenceClassification,
    PreTrainedModel,
)
from transformers.masking_utils import sdpa_mask

from matchlens.batching import EncodedBatch
from matchlens.errors import InputError
from matchlens.models.attend import Call, attend
from matchlens.models.labels import Label
from matchlens.models.layer_mask import OPEN, LayerMask
from matchlens.models.packed import activated
from matchlens.models.qk import QK
from matchlens.parts import Part

ATTENTION = "matchlens"
LIBRARY_ATTENTION = "eager"

AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class Bert:
    """Walks a ``BertForSequenceClassification`` through its own layers.

    Families whose layers are BERT's but for a few names derive from it and say what differs.

    Args:
        module: the model, in evaluation mode.
    """

    library: ClassVar[Any] = BertForSequenceClassification
    template = "[CLS] query [SEP] passage [SEP]"
    separators = 1
    token_types = 2
    reads = "the CLS row"
    relevance = "z of one label, z1 - z0 of two, or a chosen label's"
    label: Label | None = None
    beside = ""
    rounded = False
    stack = "encoder.layer"
    splittable = True
    start: int | None = None
    score_parts: tuple[Part, ...] = (Part.CLS,)
    score_rows = slice(0, 1)

    def __init__(self, module: PreTrainedModel) -> None:
        self.module: Any = module
        self.ask_attention(ATTENTION)
        self.body = self.module.base_model
        self.layers: Any = self.stacked()
        self.n_layers = len(self.layers)
        self.n_heads = self.module.config.num_attention_heads

    def ask_attention(self, name: str) -> None:
        """Say which attention function the library's layers call."""
        self.module.set_attn_implementation(name)

    def stacked(self) -> Any:
        """The library's layers, in the order in which they are passed."""
        return self.body.get_submodule(self.stack)

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """Word, position and token type embeddings, normalised, and widened where need be."""
        return self.widen(self.body.embeddings(**self.inputs(batch)))

    def widen(self, states: Float[Tensor, "... narrow"]) -> Float[Tensor, "... width"]:
        """Normalised embeddings as the layers take them."""
        return states

    def inputs(self, batch: EncodedBatch) -> dict[str, Tensor]:
        """What the library's embeddings are fed: token types only where the family knows them."""
        fed = {"input_ids": batch.input_ids}
        return {**fed, "token_type_ids": batch.token_type_ids} if self.token_types else fed

    def layer(
        self, index: int, states: Float[Tensor, "batch token width"], call: Call
    ) -> Float[Tensor, "batch row width"]:
        """One layer of the library's; with ``call.rows``, keys and values come from all tokens."""
        if call.rows is not None:
            asking, *linears = self.projections(index)
            shape = (*states.shape[:-1], self.n_heads, -1)
            key, value = (linear(states).view(shape).transpose(1, 2) for linear in linears)
            call = replace(call, memory=(key, value))
            if call.probe is not None:  # it measures the rows that go no further, too
                call = replace(call, asking=asking(states).view(shape).transpose(1, 2))
            states = states[:, call.rows]
        out = self.layers[index](states, None, matchlens=call)
        return out[0] if isinstance(out, tuple) else out

    def after_attention(
        self,
        index: int,
        context: Float[Tensor, "batch row context"],
        states: Float[Tensor, "batch row width"],
    ) -> Float[Tensor, "batch row width"]:
        """What a layer makes of the context and its input, by the library's modules."""
        layer: Any = self.layers[index]
        mixed = layer.attention.output(context, states)
        wide = layer.intermediate
        out = layer.output
        return out(activated(wide.dense, wide.intermediate_act_fn, mixed, out.dense), mixed)

    def attention_input(
        self, index: int, states: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        """What a layer's queries and keys are made of: its input itself."""
        return states

    def band(self, index: int) -> LayerMask:
        """The token pairs that a layer allows at all."""
        return OPEN

    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The linear modules of a layer that make queries, keys and values."""
        attention = self.layers[index].attention.self
        return attention.query, attention.key, attention.value

    def output_weight(self, index: int) -> Float[Tensor, "head width model"]:
        """Each head's slice of the matrix that writes a layer's context into the states."""
        weight = self.output(index).weight
        return weight.T.unflatten(0, (self.n_heads, -1))

    def output(self, index: int) -> nn.Linear:
        """The linear module that writes a layer's context into the states."""
        return self.layers[index].attention.output.dense

    def score(
        self, states: Float[Tensor, "batch row width"], parts: Int[Tensor, "batch row"]
    ) -> Float[Tensor, " batch"]:
        """Pooler and classifier on the CLS row."""
        return relevance(self.module.classifier(self.body.pooler(states)), self.label)

    def library_score(self, batch: EncodedBatch) -> Float[Tensor, " pair"]:
        """The library's own forward pass with its eager attention."""
        self.ask_attention(LIBRARY_ATTENTION)
        try:
            out = self.module(**self.inputs(batch), attention_mask=batch.mask.long())
        finally:
            self.ask_attention(ATTENTION)
        return relevance(out.logits, self.label)

    def library_maps(self, out: Any) -> tuple[Tensor, ...]:
        """The attention of each layer in what the library's model returned; empty without any."""
        return tuple(getattr(out, "attentions", None) or ())

    def qk(self, layer: int) -> QK:
        """The query and key weights of the layer."""
        query, key, _ = self.projections(layer)
        shape = (self.n_heads, -1)
        return QK.of(
            query.weight.detach().unflatten(0, shape),
            key.weight.detach().unflatten(0, shape),
            query.bias.detach().unflatten(0, shape),
            key.bias.detach().unflatten(0, shape),
            scale=(query.out_features // self.n_heads) ** -0.5,
        )


def relevance(
    logits: Float[Tensor, "batch label"], label: Label | None = None
) -> Float[Tensor, " batch"]:
    """The relevance logit: the logit of one label, ``z1 - z0`` of two, or a chosen label's.

    The difference has the order of the log softmax of label 1, without its saturation. A chosen
    label's score is its log-odds against the others, or its logit alone where labels are
    independent.
    """
    count = logits.shape[1]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if label is not None and count == label.count:
        if label.alone:
            return logits[:, label.number]
        others = [number for number in range(count) if number != label.number]
        return logits[:, label.number] - logits[:, others].logsumexp(1)
    if label is not None or count not in (1, 2):
        expected = "one or two" if label is None else label.count
        raise InputError(
            f"the model returns {count} logits a pair; expected {expected}, as its config says: "
            "give it the head that it was trained with, or the right id2label in its config"
        )
    return logits[:, 0] if count == 1 else logits[:, 1] - logits[:, 0]
