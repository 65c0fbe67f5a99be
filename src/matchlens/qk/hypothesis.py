"""The hypothesis: which terms of the logits make up their variance, head by head.

The paper takes the cross terms for 0; the shares say for which heads they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from matchlens.errors import InputError
from matchlens.models.qk import QK
from matchlens.parts import Part
from matchlens.qk.algebra import factors, refuse_rope, share
from matchlens.qk.mean_logits import DIRECTIONS, check_means
from matchlens.qk.mean_states import in_parts


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the tokens of one side: how many, of the vectors, of their outer products."""

    count: Float[Tensor, " pair"]
    total: Float[Tensor, "pair head d_h"]
    gram: Float[Tensor, "pair head d_h d_h"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "pair token head d_h"], mask: Tensor) -> Sums:
        """Sums, in float64, over the tokens that the mask [pair, token] keeps."""
        places = mask.any(0).nonzero()
        span = slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
        kept = vectors[:, span].transpose(1, 2)
        kept = kept.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
        kept.masked_fill_(~mask[:, None, span, None], 0)
        return cls(mask.sum(1).double(), kept.sum(2), kept.mT @ kept)

    def heads(self, group: Tensor) -> Sums:
        """Key heads, repeated for the heads that they serve."""
        return Sums(self.count, self.total[:, group], self.gram[:, group])


def project(
    states: Float[Tensor, "pair token d"], weights: Float[Tensor, "head d_h d"]
) -> Float[Tensor, "pair token head d_h"]:
    """`W x` of every token and head, in the states' type."""
    flat = weights.to(states.device, states.dtype).flatten(0, 1)
    return (states @ flat.mT).unflatten(-1, weights.shape[:2])


def moments(
    x: Sums, y: Sums, rows: Float[Tensor, "head two d_h"], columns: Float[Tensor, "head two d_h"]
) -> tuple[Float[Tensor, "head term"], Float[Tensor, "head term term"]]:
    """Sums over token pairs of the five terms and of their products, less each term's constant.

    The terms of token pair (i, j) are `rows . x_i` (two), `columns . y_j` (two) and `x_i . y_j`.
    """
    by_row, by_column = x.count[:, None, None], y.count[:, None, None]
    of_rows = torch.einsum("hak,phk->pha", rows, x.total)
    of_columns = torch.einsum("hak,phk->pha", columns, y.total)
    of_both = (x.total * y.total).sum(-1)
    first = torch.cat([of_rows * by_column, of_columns * by_row, of_both[..., None]], -1).sum(0)

    x_gram = (x.gram * by_column[..., None]).sum(0)
    y_gram = (y.gram * by_row[..., None]).sum(0)
    second = first.new_zeros(*first.shape, first.shape[-1])
    second[:, :2, :2] = rows @ x_gram @ rows.mT
    second[:, 2:4, 2:4] = columns @ y_gram @ columns.mT
    second[:, :2, 2:4] = torch.einsum("pha,phb->hab", of_rows, of_columns)
    second[:, :2, 4] = torch.einsum("hak,phkl,phl->ha", rows, x.gram, y.total)
    second[:, 2:4, 4] = torch.einsum("hak,phkl,phl->ha", columns, y.gram, x.total)
    second[:, 4, 4] = (x.gram * y.gram).sum((0, 2, 3))
    return first, second.triu() + second.triu(1).mT


TERMS: Mapping[str, str] = {
    "cross_reader": "what is the reader's own, on the mean of the tokens it reads: (x, d)",
    "bias_key": "the reader, on b_K: the same for all tokens of a row",
    "cross_read": "the mean reader, on what is the read token's own: (q, y)",
    "bias_query": "b_Q, on the read token",
    "matching": "what is the reader's own, on what is the read token's own: (x, y)",
}
"""Terms of a logit that vary over token pairs, in words; symbols as for a query token that reads
a document token. `bias_key` and `bias_query` are the bias terms (b_Q . b_K is in `bias_query`)."""

ORDER = tuple(DIRECTIONS)


@dataclass(frozen=True, eq=False)
class Shares:
    """Shares of the variance of the logits, and what they are shares of.

    The axes are layers, `directions` (QD, DQ, QQ, DD; reader first), heads and `terms`.

    Args:
        share: Cov(term, logit) / Var(logit); they sum to 1 over the terms and may be negative.
            NaN where the logit does not vary.
        constant: constant^2 / mean(logit^2), the constant being the weights' logit of the means.
        mean: mean logit, divided by sqrt(d_h) as the model does.
        variance: variance of the logit (divisor n), likewise.
        token_pairs: number of token pairs pooled.
        directions: names of the second axis.
        terms: names of the last axis.

    >>> share = np.tile([0.25, 0.0, 0.25, 0.0, 0.5], (1, 4, 1, 1))
    >>> one = np.ones((1, 4, 1))
    >>> shares = Shares(share, one, one, one, np.ones((1, 4), dtype=int))
    >>> shares.share.shape
    (1, 4, 1, 5)
    """

    share: Float[np.ndarray, "layer direction head term"]
    constant: Float[np.ndarray, "layer direction head"]
    mean: Float[np.ndarray, "layer direction head"]
    variance: Float[np.ndarray, "layer direction head"]
    token_pairs: Int[np.ndarray, "layer direction"]
    directions: tuple[str, ...] = ORDER
    terms: tuple[str, ...] = tuple(TERMS)


class Hypothesis:
    """Streams the moments of the logits' terms, pooled over the token pairs of all pairs.

    With x = reader - its mean and y = read token - its mean, each term is a function of the row
    (x), of the column (y) or their product, so that all moments of a pair follow from the sums
    and the d_h x d_h Gram matrices of the projected x and y: no matrix of token pairs is kept.
    States are projected in their own type (float32 at least) and summed in float64.

    Args:
        layers: the weights of each layer.
        query: [layer, d], mean input over query tokens, from other queries.
        document: [layer, d], mean input over document tokens.
        query_parts: parts whose tokens are the query's.
        document_parts: parts whose tokens are the document's.

    Raises:
        InputError: if the means do not fit the weights, or a layer uses rotary position
            embeddings.

    Reference: the science page, section 5, "The hypothesis".

    >>> qk = QK.of(torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    >>> meter = Hypothesis([qk], query=np.array([[1.0]]), document=np.array([[2.0]]))
    >>> states, parts = torch.tensor([[[1.0], [1.0], [4.0]]]), torch.tensor([[1, 3, 3]])
    >>> meter.observe(0, states, parts)
    >>> shares = meter.result()  # q = 1 is the one query token: only the cross term (q, y) varies
    >>> dict(zip(shares.terms, shares.share[0, 0, 0].tolist()))["cross_read"]
    1.0
    """

    def __init__(
        self,
        layers: Sequence[QK],
        query: Float[np.ndarray, "layer d"],
        document: Float[np.ndarray, "layer d"],
        *,
        query_parts: tuple[Part, ...] = (Part.Q,),
        document_parts: tuple[Part, ...] = (Part.D,),
    ) -> None:
        for qk in layers:
            refuse_rope(qk)
        check_means(layers, query, document)
        self.layers = tuple(layers)
        self.sides = {"Q": query_parts, "D": document_parts}
        self.means = torch.from_numpy(np.stack([query, document], 1).astype(np.float64))
        # [layer, side (Q, D), head, d_h]: the means projected, by W_Q and by W_K
        pairs = [factors(qk) for qk in layers]
        both = list(zip(pairs, self.means, strict=True))
        self.readers = torch.stack([torch.einsum("hkd,sd->shk", p.query, m) for p, m in both])
        self.reads = torch.stack([torch.einsum("hkd,sd->shk", p.key, m) for p, m in both])
        self.query_biases = torch.stack([p.query_bias for p in pairs])
        self.key_biases = torch.stack([p.key_bias for p in pairs])
        shape = (len(layers), len(ORDER), layers[0].n_heads, len(TERMS))
        self.counts = np.zeros(shape[:2], dtype=np.int64)
        self.first = np.zeros(shape)
        self.second = np.zeros((*shape, len(TERMS)))

    def observe(
        self, layer: int, states: Float[Tensor, "pair token d"], parts: Int[Tensor, "pair token"]
    ) -> None:
        """Take the inputs of one layer for a batch of pairs.

        Args:
            layer: number of the layer, from 0.
            states: [pair, token, d], the layer's input.
            parts: [pair, token], part numbers; padding is in no part.
        """
        qk, device = self.layers[layer], states.device
        kept = states.to(torch.promote_types(states.dtype, torch.float32))
        inside = [in_parts(parts, chosen) for chosen in self.sides.values()]
        own = torch.zeros_like(kept)
        for mask, mean in zip(inside, self.means[layer].to(device, kept.dtype), strict=True):
            own = torch.where(mask[..., None], kept - mean, own)
        queries, keys = project(own, qk.query), project(own, qk.key)
        group = torch.tensor(qk.group, device=device)
        x = [Sums.of(queries, mask) for mask in inside]
        y = [Sums.of(keys, mask).heads(group) for mask in inside]
        readers, reads = self.readers[layer].to(device), self.reads[layer].to(device)
        query_bias = self.query_biases[layer].to(device)
        key_bias = self.key_biases[layer].to(device)
        for number, direction in enumerate(ORDER):
            reader, read = ("QD".index(side) for side in direction)
            rows = torch.stack([reads[read], key_bias], 1)
            columns = torch.stack([readers[reader], query_bias], 1)
            first, second = moments(x[reader], y[read], rows, columns)
            self.counts[layer, number] += int((x[reader].count * y[read].count).sum())
            self.first[layer, number] += first.cpu().numpy()
            self.second[layer, number] += second.cpu().numpy()

    def fresh(self) -> Hypothesis:
        """The same, with nothing observed."""
        out = copy.copy(self)
        out.counts, out.first, out.second = (
            np.zeros_like(sums) for sums in (self.counts, self.first, self.second)
        )
        return out

    def add(
        self,
        counts: Int[np.ndarray, "layer direction"],
        first: Float[np.ndarray, "layer direction head term"],
        second: Float[np.ndarray, "layer direction head term term_too"],
    ) -> None:
        """Take the sums of other pairs.

        Args:
            counts: token pairs observed.
            first: sums of the terms.
            second: sums of the terms' products.
        """
        self.counts = self.counts + counts
        self.first = self.first + first
        self.second = self.second + second

    def result(self) -> Shares:
        """The shares over all token pairs observed.

        Raises:
            InputError: if a layer has observed no token pair, or a state was not finite.
        """
        if not self.counts.all():
            raise InputError(
                "no token pair is left to share the variance of; expected at least one pair with "
                "query and document tokens: give more pairs"
            )
        if not np.isfinite(self.second).all():
            raise InputError(
                "a state of the model is NaN or infinite; expected finite states: load the model "
                "with dtype float32"
            )
        means = self.first / self.counts[..., None, None]
        covariances = self.second / self.counts[..., None, None, None]
        covariances -= means[..., :, None] * means[..., None, :]
        with_logit = covariances.sum(-1)
        variance = with_logit.sum(-1)
        # what rounding leaves of squares of this size is no variance
        varies = variance > 1e-14 * np.abs(self.second).sum((-1, -2)) / self.counts[..., None]
        shares = share(with_logit, np.where(varies, variance, 0)[..., None])

        at = [["QD".index(side) for side in direction] for direction in ORDER]
        reader, read = np.array(at).T
        readers, reads = self.readers[:, reader], self.reads[:, read]
        constant = (readers * reads).sum(-1).numpy()
        biases = (readers * self.key_biases[:, None]).sum(-1)
        biases = biases + (self.query_biases[:, None] * (reads + self.key_biases[:, None])).sum(-1)
        mean = means.sum(-1) + constant + biases.numpy()
        square = variance.clip(0) + mean**2
        scale = np.array([qk.scale for qk in self.layers])[:, None, None]
        return Shares(
            shares,
            share(constant**2, square),
            mean * scale,
            variance.clip(0) * scale**2,
            self.counts.copy(),
        )
