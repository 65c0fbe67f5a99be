"""What the walk asks of a model family; the answers given here are BERT's.

A family says how the models of one type are walked, layer by layer, through the library's own
modules. Most encoders are BERT's layers by other names, so they derive from :class:`Family` and
name what differs.
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from matchlens.batching import EncodedBatch
from matchlens.errors import InputError
from matchlens.models.attend import Call, attend
from matchlens.models.labels import Label
from matchlens.models.packed import activated
from matchlens.models.part_layout import OPEN, LayerMask
from matchlens.models.qk import QK
from matchlens.parts import Part

ATTENTION = "matchlens"
LIBRARY_ATTENTION = "eager"

AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)

States = Float[Tensor, "batch token width"]
RowStates = Float[Tensor, "batch row width"]
Context = Float[Tensor, "batch row context"]
PartNumbers = Int[Tensor, "batch row"]
Linears = tuple[nn.Linear, nn.Linear, nn.Linear]


class Family:
    """A cross-encoder that can be walked layer by layer through the library's own modules."""

    library: ClassVar[Any]
    """The library's class, which loads the weights."""
    template = "[CLS] query [SEP] passage [SEP]"
    """How its tokenizers encode a pair, for messages."""
    separators = 1
    """Tokens between query and passage."""
    token_types = 2
    """Token types of a pair: 2 where the passage has type 1, 1 where all tokens have the same, 0
    where the family knows none and is fed none."""
    reads = "the CLS row"
    """Which rows of the last layer the score reads, in words."""
    relevance = "z of one label, z1 - z0 of two, or a chosen label's"
    """How the score comes from the logits, in words."""
    label: Label | None = None
    """The label that was chosen for relevance, where one was; :func:`load` sets it."""
    yes: int | None = None
    no: int | None = None
    """Tokens of the prompt's answers, where the model is asked in a prompt; the check sets them."""
    classifies = True
    """Whether the model is a classifier; the others are asked in a prompt."""
    beside = ""
    """What lets tokens read each other beside the attention, whatever is cut, in words; empty for
    most."""
    rotary = False
    """Whether rotary positions turn queries and keys, so that their matrix depends on distance."""
    rounded = False
    """Whether the library computes some steps in float32 even where the weights are float64."""
    splittable = True
    """Whether a layer splits into projections, attention and :meth:`after_attention`."""
    start: int | None = None
    """Token id with which the decoder of an encoder-decoder begins; None for other models."""
    score_parts: tuple[Part, ...] = (Part.CLS,)
    """Parts whose rows of the last layer the score reads."""
    score_rows = slice(0, 1)
    """The tokens of those rows: the first, the last, or all of them (mean pooling)."""
    stack = "encoder.layer"
    """The library's name of the list of layers."""
    query_key_value: ClassVar[Any] = attrgetter(
        "attention.self.query", "attention.self.key", "attention.self.value"
    )
    """The linear modules of a layer that make queries, keys and values."""
    context_output: ClassVar[Any] = attrgetter("attention.output.dense")
    """The linear module of a layer that writes its context into the states."""

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
        """The library's layers, in the order in which states pass them."""
        return self.body.get_submodule(self.stack)

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """The input of layer 0."""
        return self.widen(self.body.embeddings(**self.inputs(batch)))

    def widen(self, states: Float[Tensor, "... narrow"]) -> Float[Tensor, "... width"]:
        """Normalised embeddings as the layers take them."""
        return states

    def inputs(self, batch: EncodedBatch) -> dict[str, Tensor]:
        """What the library's embeddings are fed: token types only where the family knows them."""
        fed = {"input_ids": batch.input_ids}
        return {**fed, "token_type_ids": batch.token_type_ids} if self.token_types else fed

    def by_head(self, states: States) -> Float[Tensor, "batch head token d_h"]:
        """Queries, keys or values, head by head."""
        return states.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def layer(self, index: int, states: States, call: Call) -> RowStates:
        """Layer ``index`` from the states of all tokens, computed for the rows in ``call.rows``."""
        if call.rows is not None:
            asking, *reading = self.projections(index)
            key, value = (self.by_head(linear(states)) for linear in reading)
            call = replace(call, memory=(key, value))
            if call.probe is not None:  # it also measures the rows that go no further
                call = replace(call, asking=self.by_head(asking(states)))
            states = states[:, call.rows]
        out = self.layers[index](states, None, matchlens=call)
        return out[0] if isinstance(out, tuple) else out

    def after_attention(self, index: int, context: Context, states: RowStates) -> RowStates:
        """What a layer makes of the rows' contexts and states, by the library's modules."""
        layer: Any = self.layers[index]
        mixed = layer.attention.output(context, states)
        wide, out = layer.intermediate, layer.output
        return out(activated(wide.dense, wide.intermediate_act_fn, mixed, out.dense), mixed)

    def attention_input(self, index: int, states: States) -> States:
        """What a layer's queries and keys are made of, from the layer's input."""
        return states

    def band(self, index: int) -> LayerMask:
        """The token pairs that a layer allows at all; :meth:`layer` hands it on with the call."""
        return OPEN

    def projections(self, index: int) -> Linears:
        """The linear modules of a layer that make queries, keys and values."""
        return self.query_key_value(self.layers[index])

    def output(self, index: int) -> nn.Linear:
        """The module that writes a layer's context into the states; W_O is its weight."""
        return self.context_output(self.layers[index])

    def output_weight(self, index: int) -> Float[Tensor, "head width model"]:
        """Each head's slice of W_O."""
        return self.output(index).weight.T.unflatten(0, (self.n_heads, -1))

    def score(self, states: RowStates, parts: PartNumbers) -> Float[Tensor, " batch"]:
        """The relevance logit of the last layer's rows; a row of ``PADDING`` is no token."""
        return relevance(self.logits(states, parts), self.label)

    def logits(self, states: RowStates, parts: PartNumbers) -> Float[Tensor, "batch label"]:
        """What the model's head makes of the score's rows."""
        return self.module.classifier(self.body.pooler(states))

    @property
    def answers(self) -> list[int]:
        """Tokens of the prompt's answers: that against relevance first, where there is one."""
        return [token for token in (self.no, self.yes) if token is not None]

    def answer_logits(self, last: Float[Tensor, "batch width"]) -> Float[Tensor, "batch label"]:
        """The answers' logits: their rows of the vocabulary's head, in float32 or wider."""
        wide = torch.promote_types(last.dtype, torch.float32)
        head = self.module.lm_head.weight[self.answers]
        return nn.functional.linear(last.to(wide), head.to(wide))

    def library_score(self, batch: EncodedBatch) -> Float[Tensor, " pair"]:
        """The relevance logit by the library's own forward pass and eager attention."""
        self.ask_attention(LIBRARY_ATTENTION)
        try:
            out = self.module(**self.library_inputs(batch))
        finally:
            self.ask_attention(ATTENTION)
        return relevance(self.library_logits(out), self.label)

    def library_inputs(self, batch: EncodedBatch) -> dict[str, Any]:
        """What the library's whole model is fed."""
        return {**self.inputs(batch), "attention_mask": batch.mask.long()}

    def library_logits(self, out: Any) -> Float[Tensor, "pair label"]:
        """The logits in what the library's model returned."""
        return out.logits

    def library_maps(self, out: Any) -> tuple[Float[Tensor, "pair head row column"], ...]:
        """The attention of each layer in what the library's model returned; empty without any."""
        return tuple(getattr(out, "attentions", None) or ())

    def qk(self, layer: int) -> QK:
        """The query and key weights of a layer's heads."""
        query, key, _ = self.projections(layer)
        factors = (query.weight, key.weight, query.bias, key.bias)
        scale = (query.out_features // self.n_heads) ** -0.5
        return QK.of(*(x.detach().unflatten(0, (self.n_heads, -1)) for x in factors), scale=scale)


def relevance(
    logits: Float[Tensor, "batch label"], label: Label | None = None
) -> Float[Tensor, " batch"]:
    """The logit of one label, ``z1 - z0`` of two, or a chosen label's log-odds or logit.

    The difference has the order of the log softmax of label 1, without its saturation.
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
