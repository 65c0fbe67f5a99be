"""Where attention goes: mass, norm mass, same-token share, peak and entropy between parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.batching import EncodedBatch
from matchlens.errors import InputError
from matchlens.meters.arrays import Keeps
from matchlens.meters.names import COLUMNS, NAMES
from matchlens.models.family import Family
from matchlens.models.gauge import Gauge
from matchlens.parts import NAMED, Part

PARTS = NAMED
"""The row and column parts of a meter's array, in order."""
TOKENS = (Part.Q, Part.D)
"""Parts between which a token can meet itself."""


class AttentionMeter:
    """Measures every layer and head of the untouched model, pair by pair.

    For layer l, head h and attention a of a pair, ``X`` a row part and ``Y`` a column part:

    - ``mass``: mean over rows i in X of the sum over j in Y of a_ij (probability);
    - ``norm_mass``: the same with a_ij |W_O v_j| for a_ij (length of a state's change);
    - ``same_token``, X and Y in {Q, D}: share of the X->Y mass on columns with the row's own
      token id, the row itself excluded where X = Y (NaN where there is no mass);
    - ``peak``: the largest a_ij (probability);
    - ``entropy``: of a row's attention renormalised over Y (nats), mass-weighted mean over rows.

    Mass and norm mass are value columns of the one attention call, so that no weights are formed
    for them. The others read one layer's weights, which are dropped with the layer. (Same-token
    could be value columns, too; the row itself, which is to be left out, needs a column for every
    token that a passage repeats, and that was slower than the weights.)

    A part that a pair does not have is NaN.

    Args:
        names: which of :data:`NAMES`.
        arrays: where each is kept, [pair, layer, head, row part, column part], by name.

    Raises:
        InputError: if a name is not known.

    Source: science 4; Kobayashi et al. 2020 (norms).
    """

    def __init__(self, names: Sequence[str], arrays: Mapping[str, Keeps]) -> None:
        wrong = [name for name in names if name not in NAMES]
        if wrong:
            raise InputError(
                f"meter {wrong[0]!r} is not known; expected some of {', '.join(NAMES)}"
            )
        self.names = tuple(name for name in NAMES if name in names)
        self.arrays = arrays
        self._kept: dict[str, list[Tensor]] = {}
        self._tiles = any(name not in COLUMNS for name in self.names)

    def begin(self, family: Family, batch: EncodedBatch, numbers: Int[np.ndarray, " pair"]) -> None:
        """Take a batch."""
        self._family, self._numbers, self._ids = family, numbers, batch.input_ids
        self._is = torch.stack([batch.parts == part for part in PARTS], -1)
        self._kept = {name: [] for name in self.names}
        self._same: Tensor | None = None

    def states(self, layer: int, states: Tensor) -> None:
        """Not needed."""

    def gauge(self, layer: int) -> Gauge:
        """The value columns of a layer, and what looks at its weights."""
        norms = "norm_mass" in self.names

        def columns(value: Tensor) -> Tensor:
            one_hot = self._is.to(value.dtype)[:, None].expand(-1, value.shape[1], -1, -1)
            if not norms:
                return one_hot
            length = written(value, self._family.output_weight(layer))
            return torch.cat([one_hot, one_hot * length[..., None]], -1)

        def take(sums: Tensor) -> None:
            parts = len(PARTS)
            wide = torch.promote_types(sums.dtype, torch.float32)
            rows = self._rows(wide)
            mass = torch.einsum("nix,nhij->nhxj", rows, sums.to(wide))
            self._keep("mass", mass[..., :parts])
            if norms:
                self._keep("norm_mass", mass[..., parts:])

        return Gauge(columns, take, self._look if self._tiles else None)

    def end(self) -> None:
        """Write the batch's pairs."""
        there = self._is.any(1)
        both = (there[:, :, None] & there[:, None, :])[:, None, None]
        for name, layers in self._kept.items():
            stacked = torch.stack(layers, 1)
            values = stacked.masked_fill(~both, torch.nan)
            self.arrays[name].write(self._numbers, values.float().cpu().numpy())

    def _keep(self, name: str, values: Tensor) -> None:
        if name in self._kept:
            self._kept[name].append(values)

    def _rows(self, dtype: torch.dtype) -> Float[Tensor, "pair row part"]:
        """One-hot row parts, divided by the number of rows: a product with them is a mean."""
        rows = self._is.to(dtype)
        return rows / rows.sum(1, keepdim=True).clamp(min=1)

    def _look(self, weights: Float[Tensor, "pair head row column"]) -> None:
        one_hot = self._is.to(weights.dtype)
        if "peak" in self.names:
            self._keep("peak", peaks(weights, self._is))
        if not {"same_token", "entropy"} & set(self.names):
            return
        mass = torch.einsum("nhij,njy->nhiy", weights, one_hot)
        total = torch.einsum("nix,nhiy->nhxy", one_hot, mass)
        if "same_token" in self.names:
            if self._same is None:
                self._same = same_tokens(self._ids, self._is).to(weights.dtype)
            same = torch.einsum("nhij,njy->nhiy", weights * self._same[:, None], one_hot)
            share = torch.einsum("nix,nhiy->nhxy", one_hot, same) / total
            among = torch.tensor([part in TOKENS for part in PARTS], device=share.device)
            outside = ~(among[:, None] & among[None, :])
            self._keep("same_token", share.masked_fill(outside | (total <= 0), torch.nan))
        if "entropy" in self.names:
            surprise = torch.einsum("nhij,njy->nhiy", torch.xlogy(weights, weights), one_hot)
            row = torch.xlogy(mass, mass) - surprise  # m_i times the entropy of row i
            nats = torch.einsum("nix,nhiy->nhxy", one_hot, row) / total
            self._keep("entropy", nats.clamp(min=0).masked_fill(total <= 0, torch.nan))


def written(
    value: Float[Tensor, "pair head token width"], output: Float[Tensor, "head width model"]
) -> Float[Tensor, "pair head token"]:
    """|W_O v_j|: the length of what a token's value would write, head by head.

    Computed as sqrt(v' G v) with G = W_O' W_O of the head, which is head width squared.

    Args:
        value: v_j, with its bias.
        output: the head's slice of the output matrix, without its bias.
    """
    exact = torch.promote_types(value.dtype, torch.float32)
    weight = output.to(exact)
    gram = torch.matmul(weight, weight.transpose(-1, -2))
    wide = value.to(exact)
    squared = (torch.matmul(wide, gram) * wide).sum(-1)
    return squared.clamp(min=0).sqrt().to(value.dtype)


def same_tokens(
    ids: Int[Tensor, "pair token"], parts: Bool[Tensor, "pair token part"]
) -> Bool[Tensor, "pair row column"]:
    """Whether row and column are different places in Q or D with the same token id."""
    among = parts[..., [PARTS.index(part) for part in TOKENS]].any(-1)
    same = (ids[:, :, None] == ids[:, None, :]) & among[:, :, None] & among[:, None, :]
    return same & ~torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)


def peaks(
    weights: Float[Tensor, "pair head row column"], parts: Bool[Tensor, "pair token part"]
) -> Float[Tensor, "pair head part part"]:
    """The largest weight between each two parts; 0 where one is absent."""
    columns = []
    for place in range(parts.shape[-1]):
        here = parts[..., place]
        if int(here.sum(1).max()) == 1:  # one token: its column, and 0 where there is none
            at = here.int().argmax(1)[:, None, None, None].expand(*weights.shape[:3], 1)
            found = weights.gather(-1, at)[..., 0] * here.any(1)[:, None, None]
        else:
            found = (weights * here[:, None, None, :]).amax(-1)
        columns.append(found)
    by_column = torch.stack(columns, -1)
    rows = [
        (by_column * parts[:, None, :, place, None]).amax(2) for place in range(parts.shape[-1])
    ]
    return torch.stack(rows, 2)
