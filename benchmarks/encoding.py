"""What every contender but matchlens shares: texts to tokens with parts, and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from benchmarks.cuts import CLS, PADDING, SEP1, SEP2, D, Q
from benchmarks.job import Job


def load(job: Job, attention: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """The model, ready for inference, and its tokenizer.

    Args:
        job: names the folder and the number of threads.
        attention: the library's name of the attention function.
        dtype: type of the weights.
    """
    torch.set_num_threads(job.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    module = AutoModelForSequenceClassification.from_pretrained(
        job.model, attn_implementation=attention, dtype=dtype, local_files_only=True
    )
    return module.eval().requires_grad_(False), AutoTokenizer.from_pretrained(job.model)


@dataclass(frozen=True)
class Tokens:
    """One pair.

    Args:
        ids: token ids.
        types: token type ids.
        parts: part numbers.
    """

    ids: list[int]
    types: list[int]
    parts: list[int]


def encode(tokenizer: Any, job: Job) -> list[Tokens]:
    """All pairs, the passage cut where a pair is too long."""
    found = tokenizer(
        [pair[0] for pair in job.pairs],
        [pair[1] for pair in job.pairs],
        truncation="only_second",
        max_length=job.max_length,
        padding=False,
        return_token_type_ids=True,
    )
    out = []
    for number, ids in enumerate(found["input_ids"]):
        parts = [{None: SEP1, 0: Q, 1: D}[side] for side in found.sequence_ids(number)]
        parts[0], parts[-1] = CLS, SEP2
        out.append(Tokens(ids, found["token_type_ids"][number], parts))
    return out


@dataclass(frozen=True)
class Batch:
    """Pairs padded to one length.

    Args:
        pairs: the pairs' places.
        ids: [pair, token].
        types: [pair, token].
        parts: [pair, token], ``PADDING`` on padding.
    """

    pairs: np.ndarray
    ids: Tensor
    types: Tensor
    parts: Tensor

    @property
    def mask(self) -> Tensor:
        """1 on real tokens, 0 on padding, as the library takes it."""
        return (self.parts != PADDING).long()

    @property
    def bias(self) -> Tensor | None:
        """What is added to the logits, [pair, 1, 1, token]; None where nothing is padded."""
        return self.bias_of_all if bool((self.parts == PADDING).any()) else None

    @property
    def bias_of_all(self) -> Tensor:
        """The same, zeros where nothing is padded."""
        padded = self.parts == PADDING
        bias = torch.zeros(padded.shape).masked_fill_(padded, -torch.inf)
        return bias[:, None, None, :]


def batches(tokens: list[Tokens], size: int, width: int | None = None) -> list[Batch]:
    """Length-sorted batches, longest first, each padded to its longest pair.

    Args:
        tokens: the pairs.
        size: pairs a batch.
        width: pad all to this length instead.
    """
    order = sorted(range(len(tokens)), key=lambda place: -len(tokens[place].ids))
    return [collate(tokens, order[at : at + size], width) for at in range(0, len(order), size)]


def collate(tokens: list[Tokens], places: list[int], width: int | None = None) -> Batch:
    """Some pairs, padded to the longest of them or to ``width``."""
    width = width or max(len(tokens[place].ids) for place in places)

    def padded(lists: list[list[int]], filler: int) -> Tensor:
        return torch.tensor([one + [filler] * (width - len(one)) for one in lists])

    chosen = [tokens[place] for place in places]
    return Batch(
        np.array(places),
        padded([one.ids for one in chosen], 0),
        padded([one.types for one in chosen], 0),
        padded([one.parts for one in chosen], PADDING),
    )


def belongs(parts: Tensor, names: frozenset[int]) -> Tensor:
    """Whether each token is of one of the parts."""
    return torch.isin(parts, torch.tensor(sorted(names)))


def relevance(logits: Tensor) -> Tensor:
    """The relevance logit: that of one label, z1 - z0 of two."""
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def part_means(weights: Tensor, parts: Tensor) -> Tensor:
    """Part masses of attention maps.

    Args:
        weights: [pair, head, row, column].
        parts: [pair, token].

    Returns:
        [pair, head, row part, column part], mean over the part's rows.
    """
    one_hot = torch.nn.functional.one_hot(parts, PADDING + 1)[..., :PADDING].to(weights.dtype)
    read = torch.matmul(weights, one_hot[:, None])
    rows = one_hot / one_hot.sum(1, keepdim=True)
    return torch.matmul(rows.transpose(1, 2)[:, None], read)
