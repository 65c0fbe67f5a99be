"""T5 and mT5 rerankers (monoT5, RankT5): an encoder reads the pair, one decoder step answers.

The layers of the encoder come first, those of the decoder behind them. The decoder's one token goes
along in place 0 from the start: no layer of the encoder touches it, and the decoder's layers touch
it alone. Its self-attention has one column, whose weight is 1 whatever the pair is: a part of the
layer, not a direction that could be cut. Its cross-attention is the row ``DEC``.

The library's layers ask its attention interface in every supported version, but with one position
bias for all heads and no way to compute some rows; the walk goes through the library's modules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from matchlens.batching import EncodedBatch
from matchlens.errors import InputError
from matchlens.models.attend import Call, attend
from matchlens.models.family import (
    LIBRARY_ATTENTION,
    Family,
    Linears,
    PartNumbers,
    RowStates,
    States,
)
from matchlens.models.part_layout import LayerMask
from matchlens.models.qk import QK

DECODER_ROW = slice(0, 1)


class T5(Family):
    """Walks a ``T5ForConditionalGeneration`` through its own modules."""

    library = transformers.T5ForConditionalGeneration
    template = "a prompt around query and passage; the decoder's first token"
    reads = "the decoder's row"
    relevance = "the logit of yes, less that of no where the prompt has one"
    token_types = 0
    rounded = True
    splittable = False
    classifies = False
    scales: ClassVar[bool] = True
    """Whether the library follows ``scale_decoder_outputs``."""

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__(module)
        self.start = getattr(self.module.config, "decoder_start_token_id", None)
        if self.start is None:
            raise InputError(
                "config.json has no decoder_start_token_id, so that nothing says what the decoder "
                "begins with; write the token's id into it (of T5 models that of padding)"
            )
        self._bias: dict[int, Tensor] = {}

    def ask_attention(self, name: str) -> None:
        """The walk goes between the library's modules: its own forward pass stays its own."""
        self.module.set_attn_implementation(LIBRARY_ATTENTION)

    def stacked(self) -> list[Any]:
        """The encoder's layers, and the decoder's behind them."""
        self.n_encoder = len(self.module.encoder.block)
        return [*self.module.encoder.block, *self.module.decoder.block]

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """Word embeddings, the decoder's token first; a batch begins, with a bias of its own."""
        self._bias.clear()
        own = self.module.decoder.embed_tokens(batch.input_ids[:, DECODER_ROW])
        return torch.cat([own, self.module.encoder.embed_tokens(batch.input_ids[:, 1:])], 1)

    def band(self, index: int) -> LayerMask:
        """The encoder's tokens read each other; the decoder's reads them."""
        return LayerMask(stage="encoder" if index < self.n_encoder else "decoder")

    def layer(self, index: int, states: States, call: Call) -> RowStates:
        """One layer, by the library's modules around matchlens's attention function."""
        call = replace(call, band=self.band(index))
        if index < self.n_encoder:
            return self._encoded(index, states, call)
        return self._decoded(index, states, call)

    def _encoded(self, index: int, states: Tensor, call: Call) -> Tensor:
        block = self.layers[index]
        normed = block.layer[0].layer_norm(states)
        query, key, value = (self.by_head(each(normed)) for each in self.projections(index))
        context = self._attended(query, key, value, replace(call, bias=self._positions(query)))
        out = block.layer[-1](states + self.output(index)(context))
        if index == self.n_encoder - 1:
            out = self.module.encoder.final_layer_norm(out)
        return torch.cat([states[:, DECODER_ROW], out[:, 1:]], 1)

    def _decoded(self, index: int, states: Tensor, call: Call) -> Tensor:
        block, row = self.layers[index], states[:, DECODER_ROW]
        itself = block.layer[0].SelfAttention
        row = row + itself.o(itself.v(block.layer[0].layer_norm(row)))  # one column: weight 1
        asking, *reading = self.projections(index)
        query = self.by_head(asking(block.layer[1].layer_norm(row)))
        key, value = (self.by_head(each(states)) for each in reading)
        every = pad(query, (0, 0, 0, states.shape[1] - 1))  # the others ask nothing
        seen = (call.probe, call.watch, call.chance, call.gate)
        if call.rows is None and any(each is not None for each in seen):
            context = self._attended(every, key, value, call)
        else:
            alone = replace(call, rows=DECODER_ROW)
            if call.probe is not None:
                alone = replace(alone, asking=every)
            context = self._attended(query, key, value, alone)
            if call.rows is None:
                context = pad(context, (0, 0, 0, states.shape[1] - 1))
        written = self.output(index)(context)
        row = block.layer[-1](row + written[:, DECODER_ROW])
        return row if call.rows is not None else torch.cat([row, states[:, 1:]], 1)

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, call: Call) -> Tensor:
        context, _ = attend(
            torch.nn.Identity(), query, key, value, None, scaling=1.0, matchlens=call
        )
        return context.flatten(2)

    def _positions(self, query: Tensor) -> Float[Tensor, "1 head row column"]:
        """The bias of the first layer, which all of the encoder's share, kept for the batch."""
        tokens = query.shape[2] - 1
        if tokens not in self._bias:
            own = self.layers[0].layer[0].SelfAttention
            place = torch.arange(tokens, device=query.device)
            buckets = own._relative_position_bucket(
                place[None, :] - place[:, None],
                num_buckets=own.relative_attention_num_buckets,
                max_distance=own.relative_attention_max_distance,
            )
            bias = own.relative_attention_bias(buckets).permute(2, 0, 1)[None]
            self._bias[tokens] = pad(bias, (1, 0, 1, 0))
        return self._bias[tokens]

    def projections(self, index: int) -> Linears:
        """The linear modules that make queries, keys and values."""
        own = self._attention(index)
        return own.q, own.k, own.v

    def output(self, index: int) -> nn.Linear:
        """The linear module that writes a layer's context into the states."""
        return self._attention(index).o

    def _attention(self, index: int) -> Any:
        layers = self.layers[index].layer
        return layers[0].SelfAttention if index < self.n_encoder else layers[1].EncDecAttention

    def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
        """The answers' logits of the decoder's row, normalised."""
        last = self.module.decoder.final_layer_norm(states[:, 0])
        if self.scales and getattr(self.module.config, "scale_decoder_outputs", False):
            last = last * self.module.config.d_model**-0.5
        return self.answer_logits(last)

    def library_inputs(self, batch: EncodedBatch) -> dict[str, Any]:
        """One step of the decoder."""
        return {
            "input_ids": batch.input_ids[:, 1:],
            "attention_mask": batch.mask[:, 1:].long(),
            "decoder_input_ids": batch.input_ids[:, DECODER_ROW],
            "use_cache": False,
        }

    def library_logits(self, out: Any) -> Tensor:
        """The answers' logits."""
        return out.logits[:, -1, self.answers]

    def library_maps(self, out: Any) -> tuple[Float[Tensor, "pair head row column"], ...]:
        """The encoder's maps and the decoder's cross-attention, with the decoder's token first."""
        own, cross = out.encoder_attentions or (), out.cross_attentions or ()
        return (
            *(pad(each, (1, 0, 1, 0)) for each in own),
            *(pad(each, (1, 0, 0, each.shape[-1])) for each in cross),
        )

    def qk(self, layer: int) -> QK:
        """The query and key weights of the layer."""
        raise InputError(
            "circuits are not computed for an encoder-decoder: T5's query-key logits take "
            "normalised states and a position bias, and the decoder's row reads other states than "
            "it is made of; expected an encoder such as BERT or a decoder such as Llama"
        )


class MT5(T5):
    """Walks an ``MT5ForConditionalGeneration``."""

    library = transformers.MT5ForConditionalGeneration
    scales = False
