"""What a head matches: the vocabulary's token pairs with the largest weight logit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.errors import InputError
from matchlens.models.qk import QK
from matchlens.qk.algebra import check_head, factors

BLOCK = 1 << 23  # logits in memory at a time


@dataclass(frozen=True, eq=False)
class Matches:
    """A head's strongest token pairs and every reader's best match.

    Args:
        readers: [pair], rows of the readers' vectors, the strongest pair first.
        read: [pair], rows of the read tokens' vectors.
        logits: [pair], `x_j^T A x_i`, not divided by sqrt(d_h).
        best: [token], for each reader the row of the token with the largest logit.
        is_self: [token], whether no token has a larger logit than the reader's own.

    >>> qk = QK.of(torch.eye(2)[None], torch.eye(2)[None])
    >>> strongest_matches(qk, 0, torch.eye(2), torch.eye(2)).self_rate
    1.0
    """

    readers: Int[np.ndarray, " pair"]
    read: Int[np.ndarray, " pair"]
    logits: Float[np.ndarray, " pair"]
    best: Int[np.ndarray, " token"]
    is_self: Bool[np.ndarray, " token"]

    @property
    def self_rate(self) -> float:
        """Share of the tokens whose best match is themselves; lexical matching has it near 1."""
        return float(self.is_self.mean())


def strongest_matches(
    qk: QK,
    head: int,
    readers: Float[Tensor, "token d"],
    read: Float[Tensor, "token d"],
    *,
    top: int = 50,
    biases: bool = False,
) -> Matches:
    """The token pairs that a head's weights match best, under static vectors.

    The vocabulary x vocabulary matrix is never formed: readers go through in blocks.

    Args:
        qk: the weights of a layer.
        head: number of the head, from 0.
        readers: [token, d], vectors of the tokens as readers: what the embedding layer's
            normalisation gives for the word embedding with a mean position and, say, the query's
            token type.
        read: [token, d], vectors of the same tokens as read ones (with, say, the document's token
            type).
        top: number of pairs wanted, at most; there are no more than tokens times tokens.
        biases: whether b_Q and b_K take part.

    Raises:
        InputError: if the layer has no such head or uses rotary position embeddings, shapes do
            not fit, a number is not finite, or top is below 1.

    >>> qk = QK.of(torch.eye(2)[None], torch.eye(2)[None])
    >>> tokens = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    >>> matches = strongest_matches(qk, 0, tokens, tokens, top=2)
    >>> matches.readers.tolist(), matches.read.tolist(), matches.logits.tolist(), matches.self_rate
    ([1, 0], [1, 1], [5.0, 2.0], 0.5)
    """
    check_head(qk, head)
    _check(qk, readers, read, top)
    pair = factors(qk)
    rows = readers.detach().to("cpu", torch.float64) @ pair.query[head].mT
    columns = read.detach().to("cpu", torch.float64) @ pair.key[head].mT
    if biases:
        rows, columns = rows + pair.query_bias[head], columns + pair.key_bias[head]

    tokens = len(rows)
    best = torch.empty(tokens, dtype=torch.long)
    is_self = torch.empty(tokens, dtype=torch.bool)
    strongest = torch.empty(0, dtype=torch.float64)
    places = torch.empty(0, dtype=torch.long)
    step = max(1, BLOCK // tokens)
    for start in range(0, tokens, step):
        numbers = torch.arange(start, min(start + step, tokens))
        logits = rows[numbers] @ columns.mT
        own = logits[numbers - start, numbers]
        largest, best[numbers] = logits.max(1)
        is_self[numbers] = own >= largest
        # the block's `top` pairs are in the `top` rows with the largest maxima
        some = largest.topk(min(top, len(numbers))).indices
        values, at = logits[some].flatten().topk(min(top, len(some) * tokens))
        here = numbers[some][at // tokens] * tokens + at % tokens
        strongest, places = torch.cat([strongest, values]), torch.cat([places, here])
        strongest, order = strongest.topk(min(top, len(strongest)))
        places = places[order]
    return Matches(
        readers=(places // tokens).numpy(),
        read=(places % tokens).numpy(),
        logits=strongest.numpy(),
        best=best.numpy(),
        is_self=is_self.numpy(),
    )


def _check(qk: QK, readers: Tensor, read: Tensor, top: int) -> None:
    if top < 1:
        raise InputError(f"top is {top}; expected at least 1 token pair, for example 50")
    for name, vectors in (("readers", readers), ("read tokens", read)):
        expected = (len(readers), qk.width)
        if tuple(vectors.shape) != expected or not len(vectors):
            raise InputError(
                f"the vectors of the {name} have shape {tuple(vectors.shape)}; expected "
                f"{expected} (tokens, width), and at least one token"
            )
        if not vectors.isfinite().all():
            raise InputError(
                f"a vector of the {name} is NaN or infinite; expected finite vectors: take them "
                "from the model in float32"
            )
