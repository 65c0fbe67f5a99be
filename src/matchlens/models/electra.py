"""ELECTRA sequence classifiers: BERT's layers below a head of their own."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from transformers import ElectraForSequenceClassification

from matchlens.models.bert import Bert, relevance


class Electra(Bert):
    """Walks an ``ElectraForSequenceClassification`` through its own layers.

    Args:
        module: the model, in evaluation mode.
    """

    library = ElectraForSequenceClassification

    def widen(self, states: Float[Tensor, "... narrow"]) -> Float[Tensor, "... width"]:
        """The embeddings may be narrower than the layers."""
        project = getattr(self.body, "embeddings_project", None)
        return states if project is None else project(states)

    def score(
        self, states: Float[Tensor, "batch row width"], parts: Int[Tensor, "batch row"]
    ) -> Float[Tensor, " batch"]:
        """The classification head, which reads the CLS row."""
        return relevance(self.module.classifier(states), self.label)
