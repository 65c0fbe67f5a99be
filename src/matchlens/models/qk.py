"""The query and key weights of one layer, head by head, as the model's attention uses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class QK:
    """Query and key weights of a layer, for column vectors.

    Token i reads token j with the logit
    `scale * (W_Q x_i + b_Q) . (W_K x_j + b_K)`.

    Args:
        query: [head, d_h, d], W_Q of each head.
        key: [key_head, d_h, d], W_K of each key head.
        query_bias: [head, d_h], b_Q; zeros where the model has none.
        key_bias: [key_head, d_h], b_K; zeros where the model has none.
        scale: factor of the logits, 1 / sqrt(d_h).
        group: for each head its key head (grouped-query attention); 0, 1, 2, ... where each head
            has a key head of its own.
        rope: whether rotary position embeddings turn queries and keys before the product.
        beside: what the model adds to the logits that is not in these weights, in words; empty
            where they are all there is.

    Raises:
        ValueError: if the shapes or the group do not fit each other.

    Reference: the science page, section 5.

    >>> weights = QK.of(torch.ones(2, 1, 3), torch.ones(1, 1, 3), group=(0, 0))
    >>> weights.n_heads, weights.d_h, weights.width, weights.keys.shape
    (2, 1, 3, torch.Size([2, 1, 3]))
    """

    query: Float[Tensor, "head d_h d"]
    key: Float[Tensor, "key_head d_h d"]
    query_bias: Float[Tensor, "head d_h"]
    key_bias: Float[Tensor, "key_head d_h"]
    scale: float
    group: tuple[int, ...]
    rope: bool = False
    beside: str = ""

    def __post_init__(self) -> None:
        shapes = [tuple(x.shape) for x in (self.query, self.key, self.query_bias, self.key_bias)]
        heads, *each = shapes[0]
        keys = shapes[1][0]
        if shapes[1:] != [(keys, *each), (heads, each[0]), (keys, each[0])]:
            raise ValueError(f"query, key and their biases have shapes {shapes}, which do not fit")
        if len(self.group) != heads or not all(0 <= head < keys for head in self.group):
            raise ValueError(
                f"the group is {self.group}; expected one of {keys} key heads for each of "
                f"{heads} heads"
            )

    @classmethod
    def of(
        cls,
        query: Float[Tensor, "head d_h d"],
        key: Float[Tensor, "key_head d_h d"],
        query_bias: Float[Tensor, "head d_h"] | None = None,
        key_bias: Float[Tensor, "key_head d_h"] | None = None,
        *,
        scale: float | None = None,
        group: Sequence[int] | None = None,
        rope: bool = False,
    ) -> QK:
        """Fill in what most models share: no bias, 1 / sqrt(d_h), key heads in equal groups."""
        heads, keys = len(query), len(key)
        if group is None:
            group = [head * keys // heads for head in range(heads)]
        return cls(
            query=query.detach(),
            key=key.detach(),
            query_bias=query.new_zeros(query.shape[:2]) if query_bias is None else query_bias,
            key_bias=key.new_zeros(key.shape[:2]) if key_bias is None else key_bias,
            scale=query.shape[1] ** -0.5 if scale is None else scale,
            group=tuple(group),
            rope=rope,
        )

    @property
    def n_heads(self) -> int:
        """Number of (query) heads."""
        return len(self.query)

    @property
    def d_h(self) -> int:
        """Width of a head."""
        return self.query.shape[1]

    @property
    def width(self) -> int:
        """Width of the layer's input, d."""
        return self.query.shape[2]

    @property
    def keys(self) -> Float[Tensor, "head d_h d"]:
        """W_K of each head's own key head."""
        return self.key[self._own]

    @property
    def key_biases(self) -> Float[Tensor, "head d_h"]:
        """b_K of each head's own key head."""
        return self.key_bias[self._own]

    @property
    def _own(self) -> Tensor:
        return torch.tensor(self.group, dtype=torch.long, device=self.key.device)
