"""Decoder rerankers: the answer's logit is the score, read off the last token.

Of the Qwen3-Reranker and bge-reranker-gemma kind: a causal language model is asked, in a prompt,
whether the passage answers the query; the score is the logit of yes, less that of no where the
prompt has one. Sequence classifiers over the same layers read the last token, too.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any, ClassVar

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.qwen3 import modeling_qwen3

from matchlens.batching import EncodedBatch
from matchlens.errors import InputError
from matchlens.models.family import PartNumbers, RowStates, States
from matchlens.models.packed import imitates_the_library
from matchlens.models.part_layout import LayerMask
from matchlens.models.qk import QK
from matchlens.models.rotary import Rotary, Turn, turned
from matchlens.parts import PADDING


class Decoder(Rotary):
    """Walks a decoder through its own layers; pairs are padded on the left.

    Attention is causal unless the config says otherwise (``is_causal``).
    """

    template = "a prompt around query and passage"
    reads = "the last row"
    relevance = "the logit of yes, less that of no where the prompt has one; a classifier's label"
    classifier: ClassVar[Any]
    """The library's class of a sequence classifier over the same layers."""
    score_rows = slice(-1, None)
    query_key_value = attrgetter("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    context_output = attrgetter("self_attn.o_proj")

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__(module)
        self.classifies = isinstance(module, self.classifier)
        self.causal = self.reads_backwards()
        if self.causal and not all(layer.self_attn.is_causal for layer in self.layers):
            raise InputError(
                "the model's attention is not causal (use_bidirectional_attention in config.json); "
                "expected a decoder, or a model with is_causal false, whose tokens all read both "
                "sides"
            )
        for layer in self.layers:
            layer.self_attn.is_causal = self.causal
        if self.classifies and self.module.config.pad_token_id is None:
            # the library reads the last token then, and refuses batches; no token has this id
            self.module.config.pad_token_id = -1

    def reads_backwards(self) -> bool:
        """Whether the library's masks let a token read only itself and those before it."""
        return bool(getattr(self.module.config, "is_causal", True))

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """Word embeddings; positions come in every layer."""
        return self.body.embed_tokens(batch.input_ids)

    def band(self, index: int) -> LayerMask:
        """A token reads itself and those before it, in some layers the nearest only."""
        window = self.window(index)
        if window is not None and self.causal:
            window -= 1  # the library counts the token itself, where it looks to one side only
        return LayerMask(self.causal, window)

    def window(self, index: int) -> int | None:
        """The window of a layer, as the library counts it; None: it has none."""
        return getattr(self.layers[index].self_attn, "sliding_window", None)

    def attention_input(self, index: int, states: States) -> States:
        """The layer's input, normalised."""
        return self.layers[index].input_layernorm(states)

    def turn(self, index: int, states: Tensor, positions: Int[Tensor, "pair token"]) -> Turn:
        """All layers turn by the same angles."""
        return self.body.rotary_emb(states, positions)

    def heads(self, index: int, states: States, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of all heads, keys and values of all key heads, of all tokens."""
        own: Any = self.layers[index].self_attn
        normed = self.attention_input(index, states)
        query, key, value = (
            linear(normed).unflatten(-1, (-1, own.head_dim)) for linear in self.projections(index)
        )
        if hasattr(own, "q_norm"):
            query, key = own.q_norm(query), own.k_norm(key)
        query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        rotate = sys.modules[self.library.__module__].apply_rotary_pos_emb  # each type has its own
        query, key = rotate(query, key, *turn)
        return query, key, value

    def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
        """The labels' logits of the last token, or the answers'."""
        last = self.body.norm(states[:, -1])
        if self.classifies:
            return self.module.score(last)
        logits = self.answer_logits(last)
        cap = getattr(self.module.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def library_inputs(self, batch: EncodedBatch) -> dict[str, Any]:
        """Positions are counted in each pair, from its first real token."""
        real = (batch.parts != PADDING).long()
        return {
            "input_ids": batch.input_ids,
            "attention_mask": real,
            "position_ids": (real.cumsum(1) - 1).clamp(min=0),
            "use_cache": False,
        }

    def library_logits(self, out: Any) -> Tensor:
        """The labels' logits, or the answers' at the last token."""
        return out.logits if self.classifies else out.logits[:, -1, self.answers]

    def qk(self, layer: int) -> QK:
        """The query and key weights of the layer."""
        own = self.layers[layer].self_attn
        if hasattr(own, "q_norm"):
            raise InputError(
                f"circuits are not computed for {self.module.config.model_type}: it normalises "
                "each query and key behind the weights, so that no matrix says how a token reads "
                "another; expected a model that does not, such as BERT, ModernBERT or Llama"
            )
        query, key, _ = self.projections(layer)
        biases = (query.bias, key.bias)
        return turned(query.weight, key.weight, biases, self.n_heads, own.scaling)


class Qwen3(Decoder):
    """Walks a ``Qwen3ForCausalLM`` or a ``Qwen3ForSequenceClassification``."""

    library = transformers.Qwen3ForCausalLM
    classifier = transformers.Qwen3ForSequenceClassification


class FusedNorm(modeling_qwen3.Qwen3RMSNorm):
    """The library's norm with the same roundings, in two kernels of a GPU in place of six."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The states, normalised and weighted."""
        if imitates_the_library():
            return super().forward(hidden_states)
        width = hidden_states.shape[-1:]
        return self.weight * torch.nn.functional.rms_norm(
            hidden_states, width, eps=self.variance_epsilon
        )


def fuse_norms(module: torch.nn.Module) -> None:
    """Let a Qwen3's norms run as :class:`FusedNorm`, but for the reference of a check."""
    for part in module.modules():
        if type(part) is modeling_qwen3.Qwen3RMSNorm:
            part.__class__ = FusedNorm


class Gemma(Decoder):
    """Walks a ``GemmaForCausalLM`` or a ``GemmaForSequenceClassification``."""

    library = transformers.GemmaForCausalLM
    classifier = transformers.GemmaForSequenceClassification


class Gemma3(Decoder):
    """Walks a ``Gemma3ForCausalLM`` of text: near and far layers turn by angles of their own."""

    library = transformers.Gemma3ForCausalLM
    classifier = transformers.Gemma3TextForSequenceClassification

    def reads_backwards(self) -> bool:
        """Its config has another word for it than other decoders'."""
        return not self.module.config.use_bidirectional_attention

    def band(self, index: int) -> LayerMask:
        """The library's window counts the token itself in both directions."""
        window = self.window(index)
        return LayerMask(self.causal, None if window is None else window - 1)

    def turn(self, index: int, states: Tensor, positions: Int[Tensor, "pair token"]) -> Turn:
        """The angles of the layer's type."""
        return self.body.rotary_emb(states, positions, self.module.config.layer_types[index])


class Gemma2(Decoder):
    """Walks a ``Gemma2ForCausalLM``: windows in every second layer, logits squeezed."""

    library = transformers.Gemma2ForCausalLM
    classifier = transformers.Gemma2ForSequenceClassification


class Llama(Decoder):
    """Walks a ``LlamaForCausalLM`` or a ``LlamaForSequenceClassification``."""

    library = transformers.LlamaForCausalLM
    classifier = transformers.LlamaForSequenceClassification


class Mistral(Decoder):
    """Walks a ``MistralForCausalLM``: one window for all layers, where its config has one."""

    library = transformers.MistralForCausalLM
    classifier = transformers.MistralForSequenceClassification

    def window(self, index: int) -> int | None:
        """Tokens that a token may read, itself included; None: all."""
        return self.module.config.sliding_window


class Qwen2(Decoder):
    """Walks a ``Qwen2ForCausalLM`` or a ``Qwen2ForSequenceClassification``."""

    library = transformers.Qwen2ForCausalLM
    classifier = transformers.Qwen2ForSequenceClassification
