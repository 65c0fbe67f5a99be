"""Families that add to the logits what depends on the distance of two tokens.

The library's layers of these families hold an attention of their own and ask no interface, so
that the walk computes queries, keys and values with the library's modules, hands the family's
bias to matchlens's attention function, and goes on with the library's modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from matchlens.models.attend import Call, attend
from matchlens.models.bert import Bert


class Biased(Bert, ABC):
    """Walks a model whose attention has a bias; a family says which.

    Args:
        module: the model, in evaluation mode.
    """

    splittable = False  # the bias knows of rows in their order only

    def ask_attention(self, name: str) -> None:
        """The library's layers ask for none: its own forward pass is untouched by the walk's."""

    @abstractmethod
    def bias(
        self,
        index: int,
        query: Float[Tensor, "batch head row d_h"],
        key: Float[Tensor, "batch head column d_h"],
        rows: slice | None,
    ) -> Float[Tensor, "batch_or_1 head row column"] | None:
        """What a layer adds to the scaled product of queries and keys.

        Args:
            rows: which tokens the rows are, all where None.
        """

    def scaling(self, index: int, query: Tensor) -> float:
        """Factor of the product of queries and keys."""
        return query.shape[-1] ** -0.5

    def layer(
        self, index: int, states: Float[Tensor, "batch token width"], call: Call
    ) -> Float[Tensor, "batch row width"]:
        """One layer, by the library's modules around matchlens's attention function."""
        asking, *reading = self.projections(index)
        key, value = (self._heads(linear(states)) for linear in reading)
        rows = slice(None) if call.rows is None else call.rows
        if call.rows is not None and call.probe is not None:
            every = self._heads(asking(states))  # it measures the rows that go no further, too
            query = every[:, :, rows]
            call = replace(call, asking=every, bias=self.bias(index, every, key, None))
        else:
            query = self._heads(asking(states[:, rows]))
            call = replace(call, bias=self.bias(index, query, key, call.rows))
        scaling = self.scaling(index, query)
        context, _ = attend(
            self.layers[index], query, key, value, None, scaling=scaling, matchlens=call
        )
        return self.after_attention(index, context.flatten(2), states[:, rows])

    def _heads(self, states: Float[Tensor, "batch token width"]) -> Tensor:
        return states.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
