"""The loop shape of the authors' code: one pair at a time, padded to the limit, eager attention.

Their research code runs the untouched model beside each ablated one and keeps whole attention maps
for the statistics. This is that shape, written anew and without its other costs (no data frames, no
printing, tokens made once): what is left is what the shape costs. Since every pair is padded to one
length, all cost the same: a share of the pairs may be run and the time multiplied, which is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from benchmarks.cuts import parse
from benchmarks.encoding import batches, belongs, encode, load, part_means, relevance
from benchmarks.job import Job


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    zeroed: dict[int, tuple[slice, Tensor]] | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """The library's eager attention; weights are set to 0 behind the softmax."""
    logits = torch.matmul(query, key.transpose(2, 3)) * module.scaling
    logits = logits if attention_mask is None else logits + attention_mask
    weights = torch.softmax(logits, -1)
    if zeroed and module.layer_idx in zeroed:
        heads, edges = zeroed[module.layer_idx]
        weights[:, heads].masked_fill_(edges, 0.0)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


AttentionInterface.register("benchmark-authors", attend)
AttentionMaskInterface.register("benchmark-authors", eager_mask)


class Authors:
    """Makes scores or masses of a job.

    Args:
        job: the job.
        every: every so-manieth pair is run; times count for all.
    """

    def __init__(self, job: Job, every: int = 1) -> None:
        self.job, self.every = job, every
        self.module, self.tokenizer = load(job, "benchmark-authors")
        self.config = self.module.config
        run = len(range(0, len(job.pairs), every))
        self.facts = {"batch size": 1, "padded to": job.max_length, "scale": len(job.pairs) / run}
        if every > 1:
            self.facts["pairs run"] = run

    def work(self) -> dict[str, np.ndarray]:
        """Scores under all conditions, or part masses, of the pairs that are run."""
        tokens = encode(self.tokenizer, self.job)
        made = batches(tokens, 1, self.job.max_length)[:: self.every]
        with torch.inference_mode():
            if self.job.kind == "masses":
                return self._masses(made, len(tokens))
            return {text: self._scores(made, text, len(tokens)) for text in self.job.conditions}

    def results(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As they are."""
        return raw

    def _scores(self, made: list, text: str, number: int) -> np.ndarray:
        out = np.full(number, np.nan)
        cut = parse(text, self.config.num_hidden_layers)
        for batch in made:
            score = self._forward(batch)
            if cut is not None:
                rows, columns = (belongs(batch.parts, p) for p in (cut.rows, cut.columns))
                edges = rows[:, None, :, None] & columns[:, None, None, :]
                heads = slice(None) if cut.head is None else slice(cut.head, cut.head + 1)
                score = self._forward(batch, zeroed=dict.fromkeys(cut.layers, (heads, edges)))
            out[batch.pairs] = score.numpy()
        return out

    def _masses(self, made: list, number: int) -> dict[str, np.ndarray]:
        shape = (number, self.config.num_hidden_layers, self.config.num_attention_heads, 5, 5)
        masses, scores = np.full(shape, np.nan, np.float32), np.full(number, np.nan)
        for batch in made:
            out = self.module(
                batch.ids, batch.mask, batch.types, output_attentions=True, return_dict=True
            )
            maps = torch.stack([one[0] for one in out.attentions])
            for layer, weights in enumerate(maps):
                masses[batch.pairs, layer] = part_means(weights[None], batch.parts).numpy()
            scores[batch.pairs] = relevance(out.logits).numpy()
        return {"": scores, "mass": masses}

    def _forward(self, batch: Any, **cut: Any) -> Tensor:
        return relevance(self.module(batch.ids, batch.mask, batch.types, **cut).logits)


def make(job: Job, every: int = 1) -> Authors:
    """The contender."""
    return Authors(job, every)
