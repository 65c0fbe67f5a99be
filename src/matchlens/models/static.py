"""Static vectors of the vocabulary: what the embeddings give for a token without its context."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matchlens.models.load import Reranker

UNUSED = re.compile(r"[\[<]unused_?\d+[\]>]")
"""Places that a vocabulary keeps free; their vectors were never trained."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens that stand for words, with their static vectors.

    Args:
        tokens: their texts, as the tokenizer writes them.
        ids: [token], token ids.
        query: [token, d], as tokens of a query.
        document: [token, d], as tokens of a passage; they differ where there are token types.
        left_out: how many special and unused tokens are not among them.
    """

    tokens: tuple[str, ...]
    ids: Int[Tensor, " token"]
    query: Float[Tensor, "token d"]
    document: Float[Tensor, "token d"]
    left_out: int


def vocabulary(model: Reranker) -> Vocabulary:
    """The static vectors of a model's vocabulary: what layer 0 would read without the positions.

    Word embedding + mean position embedding + token type embedding (the query's or the passage's,
    where the family has types), through the embeddings' normalisation, and widened where the
    family widens. In layers above 0 they stand in for inputs that the context has changed.

    Args:
        model: a loaded reranker.

    >>> import matchlens
    >>> found = vocabulary(matchlens.load("demo"))
    >>> found.query.shape, found.left_out, found.tokens.index("in")
    (torch.Size([29523, 384]), 999, 1000)
    """
    every = model.tokenizer.get_vocab()
    special = set(model.tokenizer.all_special_ids)
    kept = sorted(
        (number, token)
        for token, number in every.items()
        if number not in special and not UNUSED.fullmatch(token)
    )
    ids = torch.tensor([number for number, _ in kept], dtype=torch.long)
    types = model.family.token_types
    return Vocabulary(
        tokens=tuple(token for _, token in kept),
        ids=ids,
        query=_vectors(model, ids, 0),
        document=_vectors(model, ids, 1 if types > 1 else 0),
        left_out=len(every) - len(kept),
    )


@torch.inference_mode()
def _vectors(model: Reranker, ids: Tensor, kind: int) -> Tensor:
    family: Any = model.family
    embeddings = family.module.base_model.embeddings
    positions = embeddings.position_embeddings
    vectors = embeddings.word_embeddings.weight[ids.to(model.device)]
    if positions is not None:  # DeBERTa may have distances only
        first = 0 if positions.padding_idx is None else positions.padding_idx + 1
        vectors = vectors + positions.weight[first:].mean(0)
    if model.family.token_types:
        vectors = vectors + embeddings.token_type_embeddings.weight[kind]
    project = getattr(embeddings, "embed_proj", None)  # DeBERTa's, before it normalises
    vectors = embeddings.LayerNorm(vectors if project is None else project(vectors))
    return family.widen(vectors).float().cpu()
