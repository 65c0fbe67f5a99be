"""sentence-transformers: ``CrossEncoder.predict`` at its best batch size.

Runs in an environment of its own.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.job import Job
from benchmarks.trying import best, few, sizes

BATCHES = (2, 4, 8, 16, 32, 64)
TRIED_PAIRS = 64


class Predict:
    """Makes the untouched scores of a job.

    Args:
        job: the job; it has no cut.
    """

    def __init__(self, job: Job) -> None:
        import sentence_transformers

        torch.set_num_threads(job.threads)
        self.job = job
        self.model = sentence_transformers.CrossEncoder(
            job.model, device="cpu", max_length=job.max_length, local_files_only=True
        )
        some = few(job, TRIED_PAIRS)
        self.size = best(sizes(some, BATCHES), lambda size: self._scores(some, size))
        self.facts = {
            "batch size": self.size,
            "sentence-transformers": sentence_transformers.__version__,
        }

    def work(self) -> np.ndarray:
        """Scores of all pairs."""
        return self._scores(self.job, self.size)

    def results(self, raw: np.ndarray) -> dict[str, np.ndarray]:
        """By condition."""
        return {"": np.asarray(raw, dtype=np.float64).reshape(len(self.job.pairs), -1)[:, -1]}

    def _scores(self, job: Job, size: int) -> np.ndarray:
        return self.model.predict(
            [tuple(pair) for pair in job.pairs],
            batch_size=size,
            show_progress_bar=False,
            activation_fn=torch.nn.Identity(),
        )


def make(job: Job) -> Predict:
    """The contender."""
    return Predict(job)
