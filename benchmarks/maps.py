"""Part masses from eager attention maps: reduced on the fly, or stored to disk and reduced then."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.encoding import Batch, batches, encode, load, part_means, relevance
from benchmarks.job import Job
from benchmarks.trying import best, few, sizes

BATCHES = (4, 8, 16)
TRIED_PAIRS = 16


class Maps:
    """Makes the masses of a job from ``output_attentions``.

    Args:
        job: the job.
        stored: whether all maps are written to disk first.
    """

    def __init__(self, job: Job, stored: bool = False) -> None:
        self.job, self.stored = job, stored
        self.module, self.tokenizer = load(job, "eager")
        some = few(job, TRIED_PAIRS)
        self.size = best(sizes(some, BATCHES), lambda size: self._masses(some, size))
        self.facts = {"batch size": self.size}

    def work(self) -> dict[str, np.ndarray]:
        """Masses and untouched scores of all pairs."""
        return self._masses(self.job, self.size)

    def results(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As they are."""
        return raw

    def _masses(self, job: Job, size: int) -> dict[str, np.ndarray]:
        tokens = encode(self.tokenizer, job)
        config = self.module.config
        shape = (len(tokens), config.num_hidden_layers, config.num_attention_heads, 5, 5)
        masses, scores = np.zeros(shape, np.float32), np.zeros(len(tokens))
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            made = batches(tokens, size)
            for number, batch in enumerate(made):
                out = self.module(batch.ids, batch.mask, batch.types, output_attentions=True)
                scores[batch.pairs] = relevance(out.logits).numpy()
                if self.stored:
                    np.save(Path(folder, f"{number}.npy"), torch.stack(out.attentions).numpy())
                else:
                    self._reduce(out.attentions, batch, masses)
            for number, batch in enumerate(made if self.stored else ()):
                held = torch.from_numpy(np.load(Path(folder, f"{number}.npy")))
                self._reduce(tuple(held), batch, masses)
        return {"": scores, "mass": masses}

    def _reduce(self, maps: tuple[torch.Tensor, ...], batch: Batch, masses: np.ndarray) -> None:
        for layer, weights in enumerate(maps):
            masses[batch.pairs, layer] = part_means(weights, batch.parts).numpy()


def make(job: Job, stored: bool = False) -> Maps:
    """The contender."""
    return Maps(job, stored)
