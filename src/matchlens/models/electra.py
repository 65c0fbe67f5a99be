"""ELECTRA sequence classifiers: BERT's layers below a head of their own."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from transformers import ElectraForSequenceClassification

from matchlens.batching import EncodedBatch
from matchlens.models.bert import Bert, relevance


class Electra(Bert):
    """Walks an ``ElectraForSequenceClassification`` through its own layers.

    Args:
        module: the model, in evaluation mode.
    """

    library = ElectraForSequenceClassification

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """The embeddings, widened where they are narrower than the layers."""
        states = super().embed(batch)
        widen = getattr(self.body, "embeddings_project", None)
        return states if widen is None else widen(states)

    def score(
        self, states: Float[Tensor, "batch row width"], parts: Int[Tensor, "batch row"]
    ) -> Float[Tensor, " batch"]:
        """The classification head, which reads the CLS row."""
        return relevance(self.module.classifier(states))
