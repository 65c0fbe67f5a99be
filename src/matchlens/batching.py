"""Pairs become batches: encoded, labelled with parts, cut to length, sorted, budgeted by tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerFast

from matchlens.corpora.pairs import Pair
from matchlens.errors import InputError
from matchlens.parts import PADDING, Part, label

TOGETHER = 64
"""Pairs tokenized at once: the tokenizer's own record of a pair is a hundred times its ids."""


@dataclass(frozen=True)
class Encoded:
    """Pairs as ragged lists of tokens; position in the lists is the pair's number.

    Args:
        ids: token ids of each pair.
        types: token type ids of each pair.
        parts: part numbers of each pair's tokens.
        truncated: whether the pair was longer than the limit.
        left: whether padding stands before the tokens, so that the last ones are in one column.
    """

    ids: list[Int[np.ndarray, " _"]]
    types: list[Int[np.ndarray, " _"]]
    parts: list[Int[np.ndarray, " _"]]
    truncated: Bool[np.ndarray, " pair"]
    left: bool = False

    @property
    def lengths(self) -> Int[np.ndarray, " pair"]:
        """Tokens of each pair, special ones included."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)


def encode(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair], max_length: int) -> Encoded:
    """Encode pairs and label every token with its part.

    The passage is cut first, from its end; the query only if it alone is too long; the passage
    keeps at least one token.

    Args:
        tokenizer: a fast tokenizer that knows pairs.
        pairs: queries with passages.
        max_length: most tokens of a pair, special ones included.

    Raises:
        InputError: if a query or passage has no tokens, or one passage token does not fit; it
            names the pair by its ids.
    """
    if not pairs:
        return Encoded([], [], [], np.zeros(0, dtype=bool))
    ids, types, parts = [], [], []
    truncated = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), TOGETHER):
        some = pairs[start : start + TOGETHER]
        encoding = _tokenized(tokenizer, some)
        for i, pair in enumerate(some):
            labels, keep = _kept(encoding.sequence_ids(i), pair, max_length)
            truncated[start + i] = len(keep) < len(labels)
            ids.append(np.array(encoding["input_ids"][i], dtype=np.int32)[keep])
            types.append(np.array(encoding["token_type_ids"][i], dtype=np.int8)[keep])
            parts.append(labels[keep])
    return Encoded(ids, types, parts, truncated)


@dataclass(frozen=True)
class Spans:
    """Where the tokens of one encoded pair come from; position in the arrays is the place.

    Args:
        tokens: the tokens as the tokenizer writes them.
        parts: part numbers.
        starts: first character of each token, in the query or in the passage; -1 where the
            tokenizer added the token.
        ends: one past its last character, -1 likewise.
    """

    tokens: list[str]
    parts: Int[np.ndarray, " place"]
    starts: Int[np.ndarray, " place"]
    ends: Int[np.ndarray, " place"]


def spans(tokenizer: PreTrainedTokenizerFast, pair: Pair, max_length: int) -> Spans:
    """The tokens of one pair as :func:`encode` makes them, with their places in the texts.

    Args:
        tokenizer: a fast tokenizer that knows pairs.
        pair: a query with a passage.
        max_length: most tokens of a pair, special ones included.

    Raises:
        InputError: where :func:`encode` raises it.
    """
    encoding = _tokenized(tokenizer, [pair], offsets=True)
    sequences = encoding.sequence_ids(0)
    labels, keep = _kept(sequences, pair, max_length)
    offsets = np.array(encoding["offset_mapping"][0], dtype=np.int64)
    offsets[[sequence is None for sequence in sequences]] = -1
    ids = np.array(encoding["input_ids"][0])[keep].tolist()
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    return Spans(tokens, labels[keep], offsets[keep, 0], offsets[keep, 1])


def _tokenized(
    tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair], *, offsets: bool = False
) -> BatchEncoding:
    return tokenizer(
        [pair.query for pair in pairs],
        [pair.text for pair in pairs],
        truncation=False,
        padding=False,
        return_token_type_ids=True,
        return_attention_mask=False,
        verbose=False,
        return_offsets_mapping=offsets,
    )


def _kept(
    sequence_ids: Sequence[int | None], pair: Pair, max_length: int
) -> tuple[Int[np.ndarray, " token"], Int[np.ndarray, " kept"]]:
    """The parts of a pair's tokens, and the positions that stay within the length limit."""
    try:
        labels = np.array(label(sequence_ids), dtype=np.int8)
        return labels, fit(labels, max_length)
    except InputError as error:
        raise InputError(
            f"pair of query {pair.qid!r} and passage {pair.docid!r}: {error}"
        ) from None


def fit(labels: Int[np.ndarray, " token"], max_length: int) -> Int[np.ndarray, " kept"]:
    """The positions that stay within the length limit.

    Args:
        labels: part numbers of a pair's tokens.
        max_length: most tokens.

    Raises:
        InputError: if one token of the query and one of the passage do not fit.
    """
    excess = len(labels) - max_length
    keep = np.ones(len(labels), dtype=bool)
    for part, least in ((Part.D, 1), (Part.Q, 1)):
        if excess > 0:
            places = np.flatnonzero(labels == part)
            drop = min(excess, len(places) - least)
            keep[places[len(places) - drop :]] = False
            excess -= drop
    if excess > 0:
        raise InputError(
            f"the length limit of {max_length} tokens leaves no room for one query token and one "
            "passage token; raise the limit (--max-length)"
        )
    return np.flatnonzero(keep)


@dataclass(frozen=True)
class EncodedBatch:
    """Pairs padded to one length.

    Args:
        pairs: the pairs' numbers.
        input_ids: [pair, token].
        token_type_ids: [pair, token].
        parts: [pair, token] part numbers, ``PADDING`` on padding.
    """

    pairs: Int[np.ndarray, " pair"]
    input_ids: Tensor
    token_type_ids: Tensor
    parts: Tensor

    @property
    def mask(self) -> Tensor:
        """True on real tokens."""
        return self.parts != PADDING

    @property
    def firsts(self) -> Int[np.ndarray, " pair"]:
        """The place of each pair's first token."""
        return self.mask.int().argmax(1).cpu().numpy()

    @property
    def tokens(self) -> int:
        """Places in the batch, padding included."""
        return self.parts.numel()


def split(lengths: Int[np.ndarray, " pair"], batch_tokens: int) -> list[Int[np.ndarray, " _"]]:
    """Split pairs into length-sorted batches of at most ``batch_tokens`` places, padding included.

    Args:
        lengths: tokens of each pair.
        batch_tokens: budget of a batch; a pair longer than it goes alone.

    >>> [batch.tolist() for batch in split(np.array([3, 9, 4, 2]), 9)]
    [[1], [2, 0], [3]]
    """
    batches: list[list[int]] = []
    longest = 0
    for pair in np.argsort(-lengths, kind="stable").tolist():
        if not batches or (len(batches[-1]) + 1) * longest > batch_tokens:
            batches.append([])
            longest = int(lengths[pair])
        batches[-1].append(pair)
    return [np.array(batch, dtype=np.int64) for batch in batches]


def batches(
    encoded: Encoded, batch_tokens: int, *, pad_id: int = 0, device: torch.device | str = "cpu"
) -> Iterator[EncodedBatch]:
    """Padded batches on a device, longest pairs first (so that memory runs out at once or never).

    Args:
        encoded: the pairs.
        batch_tokens: most places of a batch, padding included.
        pad_id: token id of padding.
        device: where the tensors go.
    """
    for rows in split(encoded.lengths, batch_tokens):
        yield collate(encoded, rows, pad_id=pad_id, device=device)


def collate(
    encoded: Encoded,
    rows: Int[np.ndarray, " pair"],
    *,
    pad_id: int = 0,
    device: torch.device | str = "cpu",
) -> EncodedBatch:
    """The pairs of one batch, padded to the longest.

    Args:
        encoded: the pairs.
        rows: which of them, in the order of the batch.
        pad_id: token id of padding.
        device: where the tensors go.
    """
    shape = (len(rows), max(len(encoded.ids[row]) for row in rows))
    ids = np.full(shape, pad_id, dtype=np.int64)
    types = np.zeros(shape, dtype=np.int64)
    parts = np.full(shape, PADDING, dtype=np.int64)
    for place, row in enumerate(rows):
        n = len(encoded.ids[row])
        at = slice(shape[1] - n, None) if encoded.left else slice(0, n)
        ids[place, at] = encoded.ids[row]
        types[place, at] = encoded.types[row]
        parts[place, at] = encoded.parts[row]
    tensors = (torch.from_numpy(array).to(device) for array in (ids, types, parts))
    return EncodedBatch(rows, *tensors)
