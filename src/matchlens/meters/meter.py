"""What the engine asks of a meter: it watches the untouched model and keeps numbers, no maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from matchlens.batching import EncodedBatch
from matchlens.models.attention_probe import AttentionProbe
from matchlens.models.family import Family


@runtime_checkable
class Meter(Protocol):
    """Sees every batch of the untouched model once, layer by layer.

    A class that derives from it leaves out what it does not need.
    """

    def begin(self, family: Family, batch: EncodedBatch, numbers: Int[np.ndarray, " pair"]) -> None:
        """Called before the first layer; ``numbers`` are the pairs' places in the run."""
        ...

    def states(self, layer: int, states: Float[Tensor, "pair token width"]) -> None:
        """Called before each layer with its input."""
        return

    def probe(self, layer: int) -> AttentionProbe | None:
        """What to measure in the attention of a layer, if anything."""
        return None

    def end(self) -> None:
        """Called after the last layer of a batch."""
        return


def probe_of(meters: Sequence[Meter], layer: int) -> AttentionProbe | None:
    """The one probe that the meters ask for."""
    probes = [probe for meter in meters if (probe := meter.probe(layer)) is not None]
    if len(probes) > 1:
        raise ValueError(f"{len(probes)} meters measure one attention call; expected one at most")
    return probes[0] if probes else None
