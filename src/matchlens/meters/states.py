"""Layer inputs, handed on while the untouched model runs: for the mean states, for the logits."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from matchlens.batching import EncodedBatch
from matchlens.meters.meter import Meter
from matchlens.models.family import Family


class MeanStatesMeter(Meter):
    """Hands on the layer inputs of the pairs that are in a class, with their queries.

    ``target``, a :class:`matchlens.qk.MeanStates`, takes them; a pair of class None is passed over.

    Source: science 5, the mean states.
    """

    def __init__(
        self, target: Any, queries: Sequence[Hashable], classes: Sequence[str | None]
    ) -> None:
        if len(queries) != len(classes):
            raise ValueError(f"{len(queries)} queries and {len(classes)} classes; expected as many")
        self.target, self.queries, self.classes = target, tuple(queries), tuple(classes)

    def begin(self, family: Family, batch: EncodedBatch, numbers: Int[np.ndarray, " pair"]) -> None:
        """Take a batch."""
        places = [
            (row, number)
            for row, number in enumerate(numbers.tolist())
            if self.classes[number] is not None
        ]
        self._rows = torch.tensor([row for row, _ in places], dtype=torch.long)
        self._rows = self._rows.to(batch.parts.device)
        self._queries = [self.queries[number] for _, number in places]
        self._classes = [self.classes[number] for _, number in places]
        self._parts = batch.parts[self._rows]
        self._family = family

    def states(self, layer: int, states: Tensor) -> None:
        """Hand on the rows whose pairs are in a class, as attention takes them."""
        if self._queries:
            kept = self._family.attention_input(layer, states[self._rows])
            self.target.observe(layer, self._queries, self._classes, kept, self._parts)


class StatesMeter(Meter):
    """Hands on the layer inputs of all pairs to a :class:`matchlens.qk.Hypothesis`.

    Source: science 5, the hypothesis.
    """

    def __init__(self, target: Any) -> None:
        self.target = target

    def begin(self, family: Family, batch: EncodedBatch, numbers: Int[np.ndarray, " pair"]) -> None:
        """Take a batch."""
        self._parts = batch.parts

    def states(self, layer: int, states: Tensor) -> None:
        """Hand on the layer's input."""
        self.target.observe(layer, states, self._parts)
