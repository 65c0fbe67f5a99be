"""Scores: the meter that every run has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from matchlens.corpora.pair import Pair
from matchlens.errors import InputError


@dataclass
class Scores:
    """Relevance logits by condition and pair, NaN until observed, filled batch by batch."""

    conditions: tuple[str, ...]
    values: Float[np.ndarray, "condition pair"]

    @classmethod
    def empty(cls, conditions: Sequence[str], pairs: int, dtype: str = "float32") -> Scores:
        """Room for ``pairs`` pairs, nothing observed."""
        return cls(tuple(conditions), np.full((len(conditions), pairs), np.nan, dtype=dtype))

    def observe(
        self,
        numbers: Int[np.ndarray, " batch"],
        conditions: Sequence[str],
        scores: Float[np.ndarray, " batch"],
        pairs: Sequence[Pair] | None = None,
    ) -> None:
        """Take the scores of some pairs of the run under the conditions that share them."""
        wrong = ~np.isfinite(scores)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            pair = f"pair {int(numbers[place])}"
            if pairs is not None:
                pair = f"query {pairs[place].qid!r} and passage {pairs[place].docid!r}"
            raise InputError(
                f"the model's score of {pair} under cut {conditions[0]!r} is "
                f"{scores[wrong][0]} ({int(wrong.sum())} such in its batch); expected a finite "
                "logit: load the model with dtype float32 (weights that hold NaN in that are "
                "damaged: download or save them again)"
            )
        for name in conditions:
            self.values[self.conditions.index(name), numbers] = scores

    def of(self, condition: str) -> Float[np.ndarray, " pair"]:
        """The scores under one condition."""
        return self.values[self.conditions.index(condition)]
