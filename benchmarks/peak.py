"""The machine's own rate of matrix products, measured between the rounds of the work.

Both of torch's ways are tried: the BLAS that it was built with, and oneDNN with a packed weight,
where this build has it. On some processors the one knows half of the vector unit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.job import Job

SQUARE = 1536
REPEATS = 3
SECONDS = 0.05


class Peak:
    """Multiplies matrices of the shapes that the model's layers use, and a big square.

    Args:
        job: gives the number of threads.
        sizes: places of a layer call, width of the states, width inside the feed-forward.
    """

    def __init__(self, job: Job, sizes: list[int]) -> None:
        torch.set_num_threads(job.threads)
        rows, wide, inner = sizes
        shapes = [
            (rows, wide, wide),
            (rows, wide, 3 * wide),
            (rows, wide, inner),
            (rows, inner, wide),
            (SQUARE, SQUARE, SQUARE),
        ]
        self.factors = [(torch.randn(n, k), torch.randn(k, m)) for n, k, m in shapes]
        self.facts: dict[str, object] = {"shapes": [list(shape) for shape in shapes]}
        self.ways = _usable()
        self.facts["ways"] = self.ways
        self.work()

    def work(self) -> list[float]:
        """Operations a CPU second of each shape and way, the best of some tries."""
        return [
            max(_rate(way, a, b) for _ in range(REPEATS))
            for a, b in self.factors
            for way in self.ways
        ]

    def results(self, raw: list[float]) -> dict[str, np.ndarray]:
        """The rates under ``rates``."""
        return {"rates": np.array(raw)}


def _blas(a: torch.Tensor, b: torch.Tensor) -> Callable[[], object]:
    out = torch.empty(len(a), b.shape[1])
    return lambda: torch.mm(a, b, out=out)


def _packed(a: torch.Tensor, b: torch.Tensor) -> Callable[[], object]:
    operations: Any = torch.ops.mkldnn
    weight = operations._reorder_linear_weight(b.T.contiguous())
    return lambda: operations._linear_pointwise(a, weight, None, "none", [], "")


WAYS = {"BLAS": _blas, "oneDNN": _packed}


def _usable() -> list[str]:
    """The ways that this build of torch has."""
    found = []
    for name, way in WAYS.items():
        try:
            way(torch.ones(2, 2), torch.ones(2, 2))()
        except (AttributeError, RuntimeError, TypeError):  # private to torch: another version's
            continue
        found.append(name)
    return found


def _rate(way: str, a: torch.Tensor, b: torch.Tensor) -> float:
    multiply = WAYS[way](a, b)
    with torch.inference_mode():
        done, start = 0, time.process_time()
        while time.process_time() - start < SECONDS:
            multiply()
            done += 1
    return done * 2 * a.shape[0] * a.shape[1] * b.shape[1] / (time.process_time() - start)


def make(job: Job, sizes: list[int]) -> Peak:
    """The meter."""
    return Peak(job, sizes)
