"""What the engine asks of a meter: it watches the untouched model and keeps numbers, no maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from matchlens.batching import EncodedBatch
from matchlens.models.attention_probe import AttentionProbe
from matchlens.models.family import Family


@runtime_checkable
class Meter(Protocol):
    """Sees every batch of the untouched model once, layer by layer."""

    def begin(self, family: Family, batch: EncodedBatch, numbers: Int[np.ndarray, " pair"]) -> None:
        """A batch comes; ``numbers`` are the pairs' places in the run."""
        ...

    def states(self, layer: int, states: Float[Tensor, "pair token width"]) -> None:
        """The input of a layer."""
        ...

    def gauge(self, layer: int) -> AttentionProbe | None:
        """What to measure in the attention of a layer, if anything."""
        ...

    def end(self) -> None:
        """The batch is through."""
        ...


def gauge_of(meters: Sequence[Meter], layer: int) -> AttentionProbe | None:
    """The one gauge that the meters ask for."""
    asked: list[Any] = [gauge for meter in meters if (gauge := meter.gauge(layer)) is not None]
    if len(asked) > 1:
        raise ValueError(f"{len(asked)} meters measure one attention call; expected one at most")
    return asked[0] if asked else None
