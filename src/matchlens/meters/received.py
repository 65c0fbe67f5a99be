"""What each token receives: the attention of CLS, the query and the document, token by token."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from matchlens.batching import EncodedBatch
from matchlens.meters.arrays import Keeps
from matchlens.meters.meter import Meter
from matchlens.meters.names import READERS
from matchlens.models.attention_probe import AttentionProbe
from matchlens.models.family import Family
from matchlens.parts import PADDING


class ReceivedMeter(Meter):
    """Keeps, for few pairs, how much attention every place receives from each reader.

    For layer l, head h and reader X: the mean over rows i in X of a_ij, for every place j. Summed
    over the places of a part Y it is the mass X->Y (:class:`~matchlens.meters.attention
    .AttentionMeter`). It is kept token by token, so it is for pairs to look into, not for all.

    Args:
        array: where it is kept, [pair, layer, head, reader, place]; places that a pair does not
            have stay NaN.

    Source: science 4, the mass before it is summed over a part's columns.
    """

    def __init__(self, array: Keeps) -> None:
        self.array = array

    def begin(self, family: Family, batch: EncodedBatch, numbers: Int[np.ndarray, " pair"]) -> None:
        """Take a batch."""
        self._numbers = numbers
        self._absent = batch.parts == PADDING
        self._firsts = batch.firsts.tolist()
        is_reader = torch.stack([batch.parts == part for part in READERS], -1)
        self._rows = is_reader / is_reader.sum(1, keepdim=True).clamp(min=1)
        self._kept: list[Float[Tensor, "pair head reader place"]] = []

    def probe(self, layer: int) -> AttentionProbe:
        """No value columns: the weights are looked at."""
        return AttentionProbe(lambda value: value[..., :0], lambda sums: None, self._look)

    def end(self) -> None:
        """Write the batch's pairs."""
        stacked = torch.stack(self._kept, 1)
        stacked = stacked.masked_fill(self._absent[:, None, None, None, :], torch.nan)
        for pair, first in enumerate(self._firsts):  # places are the pair's own, without padding
            stacked[pair] = stacked[pair].roll(-first, dims=-1)
        more = self.array.shape[-1] - stacked.shape[-1]
        padded = torch.nn.functional.pad(stacked, (0, more), value=torch.nan)
        self.array.write(self._numbers, padded.float().cpu().numpy())

    def _look(self, weights: Float[Tensor, "pair head row column"]) -> None:
        rows = self._rows.to(weights.dtype)
        self._kept.append(torch.einsum("nix,nhij->nhxj", rows, weights))
