"""RoBERTa sequence classifiers, and XLM-RoBERTa's and CamemBERT's, which share their shape.

Both separators between query and passage are SEP1. Positions are counted by the library's own
embeddings from ``pad_token_id + 1``; padding, which stands at the end, has none.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    CamembertForSequenceClassification,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from matchlens.models.bert import Bert, relevance


class Roberta(Bert):
    """Walks a ``RobertaForSequenceClassification`` through its own layers.

    Args:
        module: the model, in evaluation mode.
    """

    library = RobertaForSequenceClassification
    template = "<s> query </s></s> passage </s>"
    separators = 2
    token_types = 1

    def score(
        self, states: Float[Tensor, "batch row width"], parts: Int[Tensor, "batch row"]
    ) -> Float[Tensor, " batch"]:
        """The classification head, which reads the ``<s>`` row."""
        return relevance(self.module.classifier(states), self.label)


class XlmRoberta(Roberta):
    """Walks an ``XLMRobertaForSequenceClassification``."""

    library = XLMRobertaForSequenceClassification


class Camembert(Roberta):
    """Walks a ``CamembertForSequenceClassification``."""

    library = CamembertForSequenceClassification
