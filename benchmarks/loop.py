"""The strong opponent: a well-written loop over transformers with SDPA and value zeroing.

One whole forward pass a condition over length-sorted batches, in inference mode, without a mask
where a batch has no padding. Where a layer is cut there are two ways to the same numbers, and the
faster one is chosen by trying: ``two`` subtracts from the SDPA output a second SDPA over the cut
columns' values alone, of no more rows and heads than the cut has (none is needed where all columns
go); ``written`` writes the softmax out and zeroes the weights. The batch size is tried, too.
Compiled, each of the library's layers is given to ``torch.compile`` with dynamic shapes and frozen
weights (``torch._inductor.config.freezing``), which then are packed for oneDNN's kernels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch._dynamo.config
import torch._inductor.config
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from benchmarks.cuts import Cut, parse
from benchmarks.encoding import Batch, batches, belongs, encode, load, relevance
from benchmarks.job import Job, UnavailableError
from benchmarks.trying import best, few, sizes

BATCHES = (2, 4, 8, 16, 32)
TRIED_FIRST = 4
WAYS = ("two", "written")
GRAPHS = 1024
"""Most compiled graphs: each layer has its own, cut and not cut."""
TRIED_PAIRS = 16


@dataclass(frozen=True)
class Zeroing:
    """What is cut in a layer.

    Args:
        way: ``two`` or ``written``.
        rows: [pair, 1, row, 1], 1 on rows that are cut.
        columns: [pair, 1, column, 1], 1 on columns that are cut; None where all are.
        keep: [pair, 1, row, column], 0 where weights are cut; None unless ``written``.
        span: the rows between the first and the last one cut.
        heads: the heads that are cut.
    """

    way: str
    rows: Tensor
    columns: Tensor | None
    keep: Tensor | None
    span: slice
    heads: slice

    @classmethod
    def of(cls, cut: Cut, batch: Batch, way: str) -> Zeroing:
        """The cut, spread over the tokens of a batch."""
        rows, columns = belongs(batch.parts, cut.rows), belongs(batch.parts, cut.columns)
        some = rows.any(0).nonzero()[:, 0]
        span = slice(int(some[0]), int(some[-1]) + 1)
        heads = slice(None) if cut.head is None else slice(cut.head, cut.head + 1)
        keep = None
        if way == "written":
            keep = (~(rows[:, None, :, None] & columns[:, None, None, :])).float()
        return cls(
            way,
            rows[:, None, span, None].float(),
            None if cut.everything else columns[:, None, :, None].float(),
            keep,
            span,
            heads,
        )


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    zeroing: Zeroing | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The library's layers call it; without ``zeroing`` it is plain SDPA."""
    if zeroing is not None and zeroing.way == "written":
        return _written(query, key, value, attention_mask, zeroing).transpose(1, 2), None
    out = sdpa(query, key, value, attn_mask=attention_mask)
    if zeroing is not None:
        heads, span = zeroing.heads, zeroing.span
        if zeroing.columns is None:
            out[:, heads, span] *= 1 - zeroing.rows
        else:
            cut = value[:, heads] * zeroing.columns
            taken = sdpa(query[:, heads, span], key[:, heads], cut, attn_mask=attention_mask)
            out[:, heads, span] -= zeroing.rows * taken
    return out.transpose(1, 2), None


def _written(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, zeroing: Zeroing
) -> Tensor:
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    weights = torch.softmax(logits if mask is None else logits + mask, -1)
    assert zeroing.keep is not None
    weights[:, zeroing.heads] *= zeroing.keep
    return weights @ value


AttentionInterface.register("benchmark-loop", attend)
AttentionMaskInterface.register("benchmark-loop", sdpa_mask)


class Loop:
    """Makes the scores of a job.

    Args:
        job: the job.
        compiled: whether the layers are compiled.
    """

    def __init__(self, job: Job, compiled: bool = False) -> None:
        self.job = job
        self.module, self.tokenizer = load(job, "benchmark-loop")
        self.layers = self.module.bert.encoder.layer
        self.facts: dict[str, Any] = {}
        self.run: list[Any] = [partial(_run_layer, layer) for layer in self.layers]
        self.always_masked = compiled  # one graph fewer a layer
        self.size = min(TRIED_FIRST, len(job.pairs))
        self.way = self._best_way() if any(job.conditions) else "two"
        if compiled:
            self._compile()
        self.size = self._best_size()
        if compiled:
            self.work()  # a batch of one pair is compiled apart
        self.facts.update({"batch size": self.size, "way": self.way})

    def work(self) -> dict[str, np.ndarray]:
        """Scores of all pairs under all conditions."""
        return self._scores(self.job, self.size, self.way)

    def results(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As they are."""
        return raw

    def _scores(self, job: Job, size: int, way: str) -> dict[str, np.ndarray]:
        tokens = encode(self.tokenizer, job)
        out = {text: np.zeros(len(tokens)) for text in job.conditions}
        cuts = {text: parse(text, len(self.layers)) for text in job.conditions}
        with torch.inference_mode():
            for batch in batches(tokens, size):
                bias = batch.bias_of_all if self.always_masked else batch.bias
                first = self.module.bert.embeddings(batch.ids, batch.types)
                for text, cut in cuts.items():
                    out[text][batch.pairs] = self._forward(first, bias, batch, cut, way).numpy()
        return out

    def _forward(
        self, states: Tensor, bias: Tensor | None, batch: Batch, cut: Cut | None, way: str
    ) -> Tensor:
        zeroing = None if cut is None or not cut.layers else Zeroing.of(cut, batch, way)
        for number, run in enumerate(self.run):
            here = zeroing if cut is not None and number in cut.layers else None
            states = run(states, bias, here)
        return relevance(self.module.classifier(self.module.bert.pooler(states)))

    def _best_way(self) -> str:
        """The way that takes least CPU seconds on some of the work."""
        some = few(self.job, TRIED_PAIRS)
        return best(WAYS, lambda way: self._scores(some, self.size, way))

    def _best_size(self) -> int:
        """The batch size that takes least."""
        some = few(self.job, TRIED_PAIRS)
        return best(sizes(some, BATCHES), lambda size: self._scores(some, size, self.way))

    def _compile(self) -> None:
        """Compile a layer, cut and not cut, on the job itself, in the way that is faster before.

        Raises:
            UnavailableError: if it cannot be compiled here.
        """
        torch._inductor.config.freezing = True
        torch._dynamo.config.cache_size_limit = GRAPHS
        torch._dynamo.config.accumulated_cache_size_limit = GRAPHS
        self.run = [torch.compile(_own(layer), dynamic=True) for layer in self.layers]
        started = time.perf_counter()
        try:
            self.work()
        except Exception as error:  # the compiler raises anything; whatever it is, it is no peer
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnavailableError(f"torch.compile fails: {reason}") from error
        self.facts["compile seconds"] = time.perf_counter() - started


def _own(layer: Any) -> Any:
    """A function of one layer's own, whose weights are constants to the compiler."""

    def run(states: Tensor, bias: Tensor | None, zeroing: Any) -> Tensor:
        return _run_layer(layer, states, bias, zeroing)

    return run


def _run_layer(layer: Any, states: Tensor, bias: Tensor | None, zeroing: Any) -> Tensor:
    out = layer(states, bias, zeroing=zeroing)
    return out[0] if isinstance(out, tuple) else out


def make(job: Job, compiled: bool = False) -> Loop:
    """The contender.

    Raises:
        UnavailableError: if it is to be compiled and cannot be.
    """
    return Loop(job, compiled)
