"""Llama, Mistral and Qwen2: causal models whose layers are Llama's but for biases and windows."""

from __future__ import annotations

from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralForCausalLM,
    MistralForSequenceClassification,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2

from matchlens.models.decoder import Decoder


class Llama(Decoder):
    """Walks a ``LlamaForCausalLM`` or a ``LlamaForSequenceClassification``."""

    library = LlamaForCausalLM
    classifier = LlamaForSequenceClassification
    rotate = staticmethod(modeling_llama.apply_rotary_pos_emb)


class Mistral(Decoder):
    """Walks a ``MistralForCausalLM``: one window for all layers, where its config has one."""

    library = MistralForCausalLM
    classifier = MistralForSequenceClassification
    rotate = staticmethod(modeling_mistral.apply_rotary_pos_emb)

    def window(self, index: int) -> int | None:
        """Tokens that a token may read, itself included; None: all."""
        return self.module.config.sliding_window


class Qwen2(Decoder):
    """Walks a ``Qwen2ForCausalLM`` or a ``Qwen2ForSequenceClassification``."""

    library = Qwen2ForCausalLM
    classifier = Qwen2ForSequenceClassification
    rotate = staticmethod(modeling_qwen2.apply_rotary_pos_emb)
