"""nnsight: attention weights edited inside a trace, batched and length-sorted.

It needs the library's eager attention: the softmax is an operation of its source there, and
``.source`` reaches it. Runs in an environment of its own.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from benchmarks.cuts import Cut, parse
from benchmarks.encoding import Batch, batches, belongs, encode, load, relevance
from benchmarks.job import Job
from benchmarks.trying import best, few, sizes

BATCHES = (4, 8, 16, 32)
TRIED_PAIRS = 16


class NNsightPeer:
    """Makes the scores of a job.

    Args:
        job: the job.
    """

    def __init__(self, job: Job) -> None:
        import nnsight

        self.job = job
        module, self.tokenizer = load(job, "eager")
        self.n_layers = module.config.num_hidden_layers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # modules named 'output' are renamed: none is used
            self.model: Any = nnsight.NNsight(module)
        some = few(job, TRIED_PAIRS)
        self.size = best(sizes(some, BATCHES), lambda size: self._scores(some, size))
        self.facts = {"batch size": self.size, "nnsight": nnsight.__version__}

    def work(self) -> dict[str, np.ndarray]:
        """Scores of all pairs under all conditions."""
        return self._scores(self.job, self.size)

    def results(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As they are."""
        return raw

    def _scores(self, job: Job, size: int) -> dict[str, np.ndarray]:
        tokens = encode(self.tokenizer, job)
        out = {text: np.zeros(len(tokens)) for text in job.conditions}
        with torch.inference_mode():
            for batch in batches(tokens, size):
                for text in job.conditions:
                    found = self._forward(batch, parse(text, self.n_layers))
                    out[text][batch.pairs] = relevance(found).numpy()
        return out

    def _forward(self, batch: Batch, cut: Cut | None) -> torch.Tensor:
        inputs = {
            "input_ids": batch.ids,
            "attention_mask": batch.mask,
            "token_type_ids": batch.types,
        }
        model, n_layers = self.model, self.n_layers
        if cut is None:
            with model.trace(**inputs):
                logits = model.classifier.output.save()
            return logits
        rows, columns = belongs(batch.parts, cut.rows), belongs(batch.parts, cut.columns)
        keep = (~(rows[:, None, :, None] & columns[:, None, None, :])).float()
        heads = slice(None) if cut.head is None else slice(cut.head, cut.head + 1)
        layers = [number for number in range(n_layers) if number in cut.layers]
        with model.trace(**inputs):
            for number in layers:
                own = model.bert.encoder.layer[number].attention.self
                eager = own.source.attention_interface_1.source
                weights = eager.nn_functional_softmax_0.output
                weights[:, heads] *= keep
            logits = model.classifier.output.save()
        return logits


def make(job: Job) -> NNsightPeer:
    """The contender."""
    return NNsightPeer(job)
