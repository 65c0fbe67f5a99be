"""The untouched pass: scores, meters and mean states, run once for all studies that need them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from matchlens.corpora import PairSet
from matchlens.corpora.own import named_parts, own_parts
from matchlens.meters.arrays import PairArray
from matchlens.meters.names import ACROSS, COMPANIONS, KINDS, NAMES, PARTS, SURFACE, shape_of
from matchlens.parts import AnyPart, OwnPart, Part
from matchlens.studies.attention.contrasts import CLASSES, Classes
from matchlens.studies.common import Execution, on_disk

if TYPE_CHECKING:
    from matchlens.engine import Progress, Run
    from matchlens.models.load import Reranker
    from matchlens.qk import Means
    from matchlens.runners import Runner


DERIVED = ("lexical_mass", "semantic_mass")
Values = Float[np.ndarray, "pair layer head"]


@dataclass(frozen=True)
class Watched:
    """The numbers of one pass of the untouched model over all pairs."""

    out: Run  # the run
    # a meter's numbers [pair, layer, head, row part, column part], by its name
    arrays: Mapping[str, PairArray]
    means: Means | None  # the mean states, where they were requested
    folder: object  # the temporary folder that holds the arrays
    seconds: float  # wall time
    # the row and column parts of the arrays: the five, and user-defined ones
    parts: tuple[AnyPart, ...] = PARTS

    def only(self, names: Sequence[str]) -> dict[str, PairArray]:
        """Some of the meters, with the companions of ``same_stem``."""
        if lacking := [name for name in names if name not in self.arrays]:
            raise ValueError(f"the shared pass did not measure {', '.join(lacking)}")
        return {name: self.arrays[name] for name in measured(names)}


def measured(names: Sequence[str]) -> tuple[str, ...]:
    """The meters in their order, with the companions of ``same_stem``.

    >>> measured(["same_stem", "mass"])
    ('mass', 'same_stem', 'kinds', 'surface')
    """
    every = tuple(name for name in NAMES if name in names)
    return (*every, *COMPANIONS) if "same_stem" in names else every


def watch(
    model: Reranker,
    pairs: PairSet,
    names: Sequence[str],
    *,
    means_of: Classes | None = None,
    document: Sequence[Part] = (Part.D,),
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> Watched:
    """Run the untouched model once over all pairs; its meters are kept on disk."""
    from matchlens.runners import MeasurementRequest
    from matchlens.runners.measures import Attention, States, rows_into, states_into

    started = time.perf_counter()
    execution = Execution(model, batch_tokens, progress, runner)
    states, more = None, []
    if means_of is not None:
        measure = States(
            tuple((pair.collection, pair.qid) for pair in pairs.pairs),
            tuple(None if place < 0 else CLASSES[place] for place in means_of.of_pair.tolist()),
            tuple(document),
        )
        states = measure.empty(model)
        more = [MeasurementRequest(measure, states_into(states))]
    folder = execution.temporary_folder()
    own, family = tuple(own_parts(pairs.pairs)), model.family
    shape = (family.n_layers, family.n_heads, len(PARTS) + len(own))
    shapes = {name: (len(pairs.pairs), *shape_of(name, *shape)) for name in measured(names)}
    place = Path(folder.name)
    with on_disk("the meters", place, shapes.values()):
        arrays = {name: PairArray(place / f"{name}.npy", shape) for name, shape in shapes.items()}
        request = MeasurementRequest(Attention(tuple(shapes), own), rows_into(arrays))
        out = execution(pairs.pairs, asked=[request, *more])
    means = None if states is None else states.result()
    parts = (*PARTS, *named_parts(pairs.pairs))
    return Watched(out, arrays, means, folder, time.perf_counter() - started, parts)


class Reader:
    """Reads a meter between two parts from its array; what was read last is cached."""

    def __init__(self, arrays: Mapping[str, PairArray], parts: Sequence[AnyPart] = PARTS) -> None:
        self.arrays, self.parts = arrays, tuple(parts)

    def containing(self, part: AnyPart) -> AnyPart | None:
        """The part of the input that a part is, or lies in."""
        known = self.parts[self.parts.index(part)]
        return known.of if isinstance(known, OwnPart) else known

    def of(self, name: str, x: AnyPart, y: AnyPart) -> Values:
        """[pair, layer, head] of a meter, or of lexical mass (mass times same-stem share) and
        semantic mass (the rest of the mass)."""
        if name in DERIVED:
            mass, share = self.of("mass", x, y), self.of("same_stem", x, y)
            return mass * (share if name == "lexical_mass" else 1 - share)
        every = slice(None)
        return self.arrays[name].of((every, every, self.parts.index(x), self.parts.index(y)))

    def kinds(self, x: AnyPart, y: AnyPart) -> dict[str, Values]:
        """The masses that distinguish the kinds of heads, each [pair, layer, head]; empty where
        they were not measured in this direction."""
        if "kinds" not in self.arrays or (x, y) not in ACROSS:
            return {}
        every = slice(None)
        values = self.arrays["kinds"].of((every, every, ACROSS.index((x, y))))
        return {name: values[..., place] for place, name in enumerate(KINDS)}

    def surface(self) -> dict[str, Float[np.ndarray, " pair"]]:
        """Numbers of each pair that need the texts alone; empty where they were not measured."""
        if "surface" not in self.arrays:
            return {}
        return {name: self.arrays["surface"].of((at,)) for at, name in enumerate(SURFACE)}
