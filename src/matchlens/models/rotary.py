"""Families whose positions turn queries and keys (RoPE), such as ModernBERT.

The library's layers call the attention interface. Where a layer is computed for some rows only,
the keys and values of all tokens come from the library's modules, called beside the layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import ModernBertForSequenceClassification, PreTrainedModel
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from matchlens.batching import EncodedBatch
from matchlens.errors import InputError
from matchlens.models.attend import Call
from matchlens.models.family import Family, PartNumbers, RowStates, States
from matchlens.models.part_layout import OPEN, LayerMask, PartLayout
from matchlens.models.qk import QK
from matchlens.parts import PADDING, Part

STEADY = ("default", "linear", "llama3", "proportional", "yarn")
"""Kinds of rotary positions that do not depend on the longest text of a batch."""

Turn = tuple[Tensor, Tensor]
"""Cosines and sines by which queries and keys are turned, each [batch, token, head width]."""


class Rotary(Family, ABC):
    """Walks a model with rotary positions through its own layers."""

    token_types = 0
    rotary = True
    rounded = True
    splittable = False
    stack = "layers"

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__(module)
        for kind in sorted(_kinds(self.module.config.rope_parameters)):
            if kind not in STEADY:
                raise InputError(
                    f"rotary positions of type {kind!r} (rope_parameters in config.json) change "
                    "with the longest text of a batch, so that a pair has no score of its own; "
                    f"expected one of {', '.join(STEADY)}"
                )

    @abstractmethod
    def turn(self, index: int, states: Tensor, positions: Int[Tensor, "pair token"]) -> Turn:
        """By what a layer turns the queries and keys of tokens at these positions."""

    @abstractmethod
    def heads(self, index: int, states: States, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all tokens, turned, each [batch, head, token, head width]."""

    def turns(self, index: int, longest: int) -> Turn:
        """By what a layer turns a token at positions 0 to ``longest``, each [position, d_h]."""
        weight = self.output(index).weight
        place = torch.arange(longest + 1, device=weight.device)[None]
        cos, sin = self.turn(index, weight.new_zeros(1, 1, 1), place)
        return cos[0], sin[0]

    def layer(self, index: int, states: States, call: Call) -> RowStates:
        """One layer of the library's; with ``call.rows``, keys and values come from all tokens."""
        cos, sin = (
            each.repeat(len(call.cuts), 1, 1)
            for each in self.turn(index, states, positions(call.grid))
        )
        call = replace(call, band=self.band(index))
        if call.rows is not None:
            query, key, value = self.heads(index, states, (cos, sin))
            call = replace(call, memory=(key, value))
            if call.probe is not None:  # it also measures the rows that go no further
                call = replace(call, asking=query)
            states = states[:, call.rows]
            cos, sin = cos[:, call.rows], sin[:, call.rows]
        return self.layers[index](
            states, attention_mask=None, position_embeddings=(cos, sin), matchlens=call
        )


def turned(
    query: Tensor,
    key: Tensor,
    biases: tuple[Tensor | None, ...],
    heads: int,
    scale: float | None = None,
) -> QK:
    """Query and key weights marked as turned by positions, so that the algebra refuses them."""
    width = len(query) // heads
    each = (
        None if weight is None else weight.detach().unflatten(0, (-1, width))
        for weight in (query, key, *biases)
    )
    return QK.of(*each, scale=scale, rope=True)  # pyright: ignore[reportArgumentType]


def positions(grid: PartLayout) -> Int[Tensor, "pair token"]:
    """Each token's position in its own pair, from 0, on whichever side the padding is."""
    real = grid.parts != PADDING
    return (real.long().cumsum(1) - 1).clamp(min=0)


def _kinds(parameters: Mapping[str, Any]) -> set[str]:
    """The kinds of rotary positions that a config names, in one or for each kind of layer."""
    if "rope_type" in parameters:
        return {str(parameters["rope_type"])}
    return {str(entry["rope_type"]) for entry in parameters.values() if entry is not None}


class ModernBert(Rotary):
    """Walks a ``ModernBertForSequenceClassification`` through its own layers.

    Its score reads the CLS row, or the mean of all rows (``classifier_pooling``).
    """

    library = ModernBertForSequenceClassification
    reads = "the CLS row, or the mean of all rows (classifier_pooling)"
    context_output = attrgetter("attn.Wo")

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__(module)
        self.pooled = self.module.config.classifier_pooling == "mean"  # the library knows no third
        if self.pooled:
            self.score_parts, self.score_rows = tuple(Part), slice(None)

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """Word embeddings, normalised; positions come in every layer."""
        return self.body.embeddings(input_ids=batch.input_ids)

    def band(self, index: int) -> LayerMask:
        """Layers are global or see a window, as the config says."""
        if self.layers[index].attention_type == "full_attention":
            return OPEN
        return LayerMask(window=self.module.config.sliding_window)

    def turn(self, index: int, states: Tensor, positions: Int[Tensor, "pair token"]) -> Turn:
        """Global and local layers turn by angles of their own."""
        return self.body.rotary_emb(states, positions, self.layers[index].attention_type)

    def attention_input(self, index: int, states: States) -> States:
        """The layer's input, normalised."""
        return self.layers[index].attn_norm(states)

    def heads(self, index: int, states: States, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all tokens, from one matrix."""
        layer: Any = self.layers[index]
        mixed = layer.attn.Wqkv(self.attention_input(index, states))
        mixed = mixed.unflatten(-1, (3, self.n_heads, -1))
        query, key, value = (each.transpose(1, 2) for each in mixed.unbind(dim=-3))
        query, key = apply_rotary_pos_emb(query, key, *turn, unsqueeze_dim=1)
        return query, key, value

    def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
        """The last normalisation, the pooling, the head and the classifier."""
        states = self.body.final_norm(states)
        if self.pooled:
            real = (parts != PADDING)[..., None]
            pooled = (states * real).sum(1) / real.sum(1)
        else:
            pooled = states[:, 0]
        return self.module.classifier(self.module.head(pooled))

    def qk(self, layer: int) -> QK:
        """The query and key weights of the layer: two thirds of one matrix."""
        matrix = self.layers[layer].attn.Wqkv
        query, key, _ = matrix.weight.chunk(3)
        biases = (None, None) if matrix.bias is None else matrix.bias.chunk(3)[:2]
        return turned(query, key, tuple(biases), self.n_heads)
