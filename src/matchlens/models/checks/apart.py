"""What the check asks of the fast way through a layer: it is the library's layer, cut by cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch

from matchlens.models.attend import Call
from matchlens.models.checks.item import OUTPUTS, Item
from matchlens.models.checks.passes import NOTHING, Removal, Trial
from matchlens.models.part_layout import PartLayout
from matchlens.models.shared_layer import Counts, SharedLayer
from matchlens.parts import Part

CUTS = (
    Removal((Part.Q,), (Part.D,)),
    Removal((Part.D,), (Part.Q,)),
    Removal((Part.Q,), (Part.Q,), head=0),
    Removal((Part.CLS,)),
)


def apart(trial: Trial) -> Iterator[Item]:
    """Where layers come apart: what conditions share is computed once, and is what the library's
    own layer makes of each."""
    family, batch = trial.family, trial.both
    if not family.splittable:
        return
    most, grid, last = OUTPUTS[trial.reranker.dtype], PartLayout(batch.parts), family.n_layers - 1
    worst, said = 0.0, ""
    for layer, states in enumerate(trial.entering[0][: family.n_layers]):
        parts = family.score_parts if layer == last else tuple(Part)
        cuts = [removal.at(layer, family.n_heads, parts) for removal in (NOTHING, *CUTS)]
        slots = [0] * len(cuts)
        rows = family.score_rows if layer == last else None
        own = family.layer(layer, states.repeat(len(cuts), 1, 1), Call(grid, cuts, rows))
        real = (grid.row_parts(rows).repeat(len(cuts), 1) < len(Part))[..., None]
        siblings = SharedLayer(cast(Any, family), layer, states, grid, Counts())
        if layer == last:
            ways = {"the score's row alone": siblings.score(slots, cuts)}
        else:
            whole = siblings.whole(slots, cuts)
            base = whole[: len(states)]
            laid = siblings.rows(slots[1:], cuts[1:], [base] * len(cuts[1:]))
            ways = {"all rows": whole, "the rows that are cut": torch.cat([base, laid])}
        size = max(1.0, float((own * real).abs().max()))
        for way, found in ways.items():
            seen = float(((found - own) * real).abs().max()) / size
            if not said and not seen <= most:
                said = (
                    f"in layer {layer}, {way} computed apart differ from the layer's by {seen:.2g}"
                )
            worst = worst if seen <= worst else seen
    yield Item("apart", worst, most=most, said=f"{said} (at most {most:.2g} of it expected)")
