"""What bfloat16 does to a run, measured on some of the run's own queries."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from matchlens.corpora import Pair
from matchlens.directions import Cut, How
from matchlens.errors import MatchlensWarning, counted
from matchlens.plan import Condition
from matchlens.ranking import Candidates, Measure, evaluate
from matchlens.studies.common import TIE_TOL, Execution

if TYPE_CHECKING:
    from matchlens.engine import Run

MOST = 0.002
"""Largest change of a measure's mean that is no cause for concern."""
FEWEST, SAMPLED = 8, 16
"""A sample is a tenth of the queries, so many at least and at most."""
HALF = ("bfloat16", "float16")


@dataclass(frozen=True)
class Sample:
    """Some of a run's queries, whole."""

    rows: Sequence[int]  # the places of their pairs in the run
    pairs: Sequence[Pair]  # those pairs
    queries: Sequence[Candidates]  # their candidates, as rows of `pairs`
    measure: Measure  # the run's measure
    tie_tol: float | None  # what the person gave; by the type of the products where None
    seed: int  # of permutations

    @classmethod
    def of(
        cls,
        pairs: Sequence[Pair],
        queries: Sequence[Candidates],
        measure: Measure,
        tie_tol: float | None,
        seed: int,
    ) -> Sample:
        """A tenth of the queries, drawn by a hash of their ids and the seed."""

        def draw(query: Candidates) -> bytes:
            return hashlib.sha256(f"{seed}\0{query.qid}".encode()).digest()

        chosen = sorted(queries, key=draw)[: min(SAMPLED, max(FEWEST, len(queries) // 10))]
        rows = [row for query in chosen for row in query.rows.tolist()]
        place = {row: at for at, row in enumerate(rows)}
        own = [
            replace(query, rows=np.array([place[row] for row in query.rows])) for query in chosen
        ]
        return cls(rows, [pairs[row] for row in rows], own, measure, tie_tol, seed)

    def mean(self, scores: np.ndarray, dtype: str) -> float:
        """The measure's mean, with ties as products of this type make them."""
        tol = TIE_TOL[dtype] if self.tie_tol is None else self.tie_tol
        marks = evaluate(self.measure, self.queries, scores, tie_tol=tol, seed=self.seed)
        return float(marks.values.mean())

    def __str__(self) -> str:
        return f"{counted(len(self.queries), 'query')} ({counted(len(self.pairs), 'pair')})"


def compared(
    execution: Execution, out: Run, sample: Sample, conditions: Mapping[str, Condition]
) -> list[str]:
    """What a run in half precision says of itself; nothing for other runs.

    The untouched model and the condition that moves the sample's scores most are run again in
    float32; not a condition with ``mean``, which puts in means over all pairs of the run, and those
    of the sample are others.

    Warns:
        MatchlensWarning: if a measure's mean differs by more than :data:`MOST`.
    """
    import torch

    from matchlens.models.packed import products_in

    model = execution.model
    if model.dtype not in HALF:
        return []
    layers = model.rounded_layers
    if not layers:
        return [
            f"its weights are in {model.dtype}, so that its scores were not compared with those in "
            "float32: compare a run of some queries with --dtype float32"
        ]
    alike = [name for name, condition in conditions.items() if not _takes_means(condition)]
    scores = {name: out.scores.of(name)[sample.rows] for name in alike}
    moved = {name: float(abs(scores[name] - scores[""]).mean()) for name in alike}
    chosen = dict.fromkeys(["", max(moved, key=lambda name: moved[name])])
    with products_in(torch.float32, layers):
        exact = replace(execution, progress=None, runner=None)(
            sample.pairs, {name: conditions[name] for name in chosen}, seed=sample.seed
        )
    rounded = {name: (scores[name], exact.scores.of(name)) for name in chosen}
    off = max(float(abs(plain - stored).max()) for stored, plain in rounded.values())
    differences = {
        name: sample.mean(stored, model.dtype) - sample.mean(plain, "float32")
        for name, (stored, plain) in rounded.items()
    }
    listed = ", ".join(
        f"{difference:+.4f} ({name or 'untouched'})" for name, difference in differences.items()
    )
    text = (
        f"bfloat16 against float32 on {sample} of this run: {sample.measure} {listed}, scores off "
        f"by {off:.2g} at most"
    )
    if len(alike) < len(conditions):
        text += "; cuts by mean are not compared: the sample has other means than the run"
    if max(map(abs, differences.values())) > MOST:
        text += f"; more than {MOST} was not expected: use --dtype float32"
        warnings.warn(f"bfloat16 moves the measure: {text}", MatchlensWarning, stacklevel=2)
    return [text]


def _takes_means(condition: Condition) -> bool:
    return any(isinstance(cut, Cut) and cut.how == How.MEAN for cut in condition)


def offered(execution: Execution, sample: Sample) -> None:
    """Say what bfloat16 would gain and cost where the person left the type open.

    Warns:
        MatchlensWarning: always; it is one line.
    """
    import torch

    from matchlens.models.packed import multiplies_bfloat16, products_in, rounds_products

    model = execution.model
    numbers = sum(each.numel() for each in model.family.module.parameters())
    if not rounds_products(model.device, numbers):
        warnings.warn(
            f"--dtype auto: it is run in float32; on {model.device} nothing else is measured for "
            "this model",
            MatchlensWarning,
            stacklevel=2,
        )
        return
    layers, scores, seconds = list(model.family.layers), {}, {}
    plain = replace(execution, progress=None, runner=None)
    for name in ("float32", "bfloat16"):
        with products_in(getattr(torch, name), layers):
            plain(sample.pairs[:1])  # packs
            before = time.process_time()
            scores[name] = plain(sample.pairs).scores.of("")
            seconds[name] = time.process_time() - before
    means = {name: sample.mean(values, name) for name, values in scores.items()}
    off = float(abs(scores["bfloat16"] - scores["float32"]).max())
    slow = "" if multiplies_bfloat16() else " (this processor has no instructions for it)"
    warnings.warn(
        f"--dtype auto: it is run in float32; bfloat16{slow} takes {seconds['bfloat16']:.2g} CPU s "
        f"for {seconds['float32']:.2g} on {sample} of this run, {sample.measure} "
        f"{means['bfloat16'] - means['float32']:+.4f}, scores off by {off:.2g} at most",
        MatchlensWarning,
        stacklevel=2,
    )
