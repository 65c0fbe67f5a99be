"""The machine's own rate of matrix products, measured between the rounds of the work."""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.job import Job

SQUARE = 1536
REPEATS = 3
SECONDS = 0.1


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
        self.work()

    def work(self) -> list[float]:
        """Operations a CPU second of each shape, the best of some tries."""
        return [max(self._rate(a, b) for _ in range(REPEATS)) for a, b in self.factors]

    def results(self, raw: list[float]) -> dict[str, np.ndarray]:
        """The rates under ``rates``."""
        return {"rates": np.array(raw)}

    def _rate(self, a: torch.Tensor, b: torch.Tensor) -> float:
        out = torch.empty(len(a), b.shape[1])
        done, start = 0, time.process_time()
        while time.process_time() - start < SECONDS:
            torch.mm(a, b, out=out)
            done += 1
        return done * 2 * a.shape[0] * a.shape[1] * b.shape[1] / (time.process_time() - start)


def make(job: Job, sizes: list[int]) -> Peak:
    """The meter."""
    return Peak(job, sizes)
