"""ModernBERT sequence classifiers: pre-norm layers, most of which see a window only."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from transformers import ModernBertForSequenceClassification, PreTrainedModel
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from matchlens.batching import EncodedBatch
from matchlens.models.family import PartNumbers, RowStates, States
from matchlens.models.part_layout import OPEN, LayerMask
from matchlens.models.qk import QK
from matchlens.models.rotary import Rotary, Turn, turned
from matchlens.parts import PADDING, Part


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
        whole = self.layers[layer].attn.Wqkv
        query, key, _ = whole.weight.chunk(3)
        biases = (None, None) if whole.bias is None else whole.bias.chunk(3)[:2]
        return turned(query, key, tuple(biases), self.n_heads)
