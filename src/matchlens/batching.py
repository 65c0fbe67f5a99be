"""Turn pairs into batches: encode, label parts, cut to the length limit, sort, pad."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerFast

from matchlens.corpora.pair import Pair
from matchlens.errors import Brief, InputError
from matchlens.parts import PADDING, Part, label
from matchlens.tokenizing import Piece, guarded, named, usable

EVEN = 8
"""On a GPU, pairs are padded to a multiple of this: the fast kernels read whole lines of memory."""
TOGETHER = 64
"""Pairs tokenized at once: the tokenizer's own record of a pair is a hundred times its ids."""


OwnTokens = Mapping[str, Int[np.ndarray, " _"]]
"""The places of one pair's tokens that belong to each own part."""


@dataclass(frozen=True, repr=False)
class Encoded(Brief):
    """Pairs as ragged lists of token ids, types and part numbers; a pair's number is its place.

    Where ``left``, padding stands before the tokens, so that the last ones are in one column;
    ``own`` has by pair the places of each own part's tokens, and is empty where no pair has any.
    """

    ids: list[Int[np.ndarray, " _"]]
    types: list[Int[np.ndarray, " _"]]
    parts: list[Int[np.ndarray, " _"]]
    truncated: Bool[np.ndarray, " pair"]
    left: bool = False
    own: Sequence[OwnTokens] = ()

    @property
    def lengths(self) -> Int[np.ndarray, " pair"]:
        """Tokens of each pair, special ones included."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    @classmethod
    def joined(cls, chunks: Sequence[Encoded]) -> Encoded:
        """The pairs of several, in order."""
        return cls(
            [ids for chunk in chunks for ids in chunk.ids],
            [types for chunk in chunks for types in chunk.types],
            [parts for chunk in chunks for parts in chunk.parts],
            np.concatenate([chunk.truncated for chunk in chunks]),
            chunks[0].left,
            [own for chunk in chunks for own in chunk.own or [{}] * len(chunk.ids)],
        )

    def of(self, pairs: Int[np.ndarray, " pair"]) -> Encoded:
        """Some of the pairs, in another order."""
        ids, types, parts = (
            [column[pair] for pair in pairs.tolist()]
            for column in (self.ids, self.types, self.parts)
        )
        own = [self.own[pair] for pair in pairs.tolist()] if self.own else ()
        return Encoded(ids, types, parts, self.truncated[pairs], self.left, own)


@dataclass(frozen=True, repr=False)
class Pairing(Brief):
    """How a folder's own library pairs two texts; the defaults are a plain call of the tokenizer.

    Args:
        prefix: text that stands before each query; its tokens are ``OTHER``.
        options: arguments of the tokenizer's call, such as ``add_special_tokens``.
        start: whether an over-long text loses its start, not its end.
        last: whether the score reads the last token, which is CLS then (decoders).
        pad: token id of padding, where the library finds the last token by it.
        causal: whether no token reads what stands behind it.
    """

    prefix: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    start: bool = False
    last: bool = False
    pad: int | None = None
    causal: bool = False


PLAIN = Pairing()


def encode(
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    max_length: int,
    pairing: Pairing = PLAIN,
) -> Encoded:
    """Encode pairs and label every token with its part.

    The passage is cut first, from its end; the query only if it alone is too long; the passage
    keeps at least one token. Token types are those that the tokenizer returns, 0 where it returns
    none.
    """
    return gathered(pairs, _rows(tokenizer, pairs, max_length, pairing), pairing.last)


class Row(NamedTuple):
    """The tokens of one pair before the length limit, and which of them stay.

    ``starts`` and ``ends`` are their characters' places in the query or the passage, -1 for none.
    """

    ids: np.ndarray
    types: np.ndarray
    labels: np.ndarray
    keep: np.ndarray
    starts: np.ndarray | None = None
    ends: np.ndarray | None = None


def gathered(pairs: Sequence[Pair], rows: Iterable[Row], left: bool) -> Encoded:
    """The pairs' rows without what the length limit takes."""
    ids, types, parts, own = [], [], [], []
    truncated = np.zeros(len(pairs), dtype=bool)
    for number, (pair, row) in enumerate(zip(pairs, rows, strict=True)):
        keep = row.keep
        truncated[number] = len(keep) < len(row.labels)
        ids.append(row.ids[keep].astype(np.int32))
        types.append(row.types[keep].astype(np.int8))
        parts.append(row.labels[keep].astype(np.int8))
        if pair.parts and row.starts is not None and row.ends is not None:
            own.append(own_tokens(pair, row.labels[keep], row.starts[keep], row.ends[keep]))
        else:
            own.append({})
    return Encoded(ids, types, parts, truncated, left, own if any(own) else ())


def spans_of(tokenizer: PreTrainedTokenizerFast, row: Row) -> Spans:
    """The places of a pair's tokens in its texts."""
    assert row.starts is not None and row.ends is not None  # noqa: S101, PT018
    keep = row.keep
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(row.ids[keep].tolist())]
    return Spans(tokens, row.labels[keep].astype(np.int8), row.starts[keep], row.ends[keep])


def _rows(
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    max_length: int,
    pairing: Pairing,
    places: bool = False,
) -> Iterator[Row]:
    """The pairs' tokens; their places in the texts where wanted, or where a pair has own parts."""
    for start in range(0, len(pairs), TOGETHER):
        some = pairs[start : start + TOGETHER]
        offsets = places or any(pair.parts for pair in some)
        encoding, pieces = _tokenized(tokenizer, some, max_length, pairing, offsets=offsets)
        for i, pair in enumerate(some):
            ids = np.array(encoding["input_ids"][i])
            with named(pair):
                labels, keep = _kept(encoding, i, pieces[i][0], max_length, pairing)
                if pairing.last:
                    labels[labels == Part.CLS] = Part.OTHER
                    labels, keep = read_last(tokenizer, ids, labels, keep, pairing)
            ids = ids[: len(labels)]
            marked = encoding.get("token_type_ids")
            types = np.zeros(len(ids)) if marked is None else np.array(marked[i])[: len(ids)]
            characters = (None, None)
            if places or pair.parts:
                characters = _offsets(encoding, i, pieces[i], labels, pairing)
            yield Row(ids, types, labels, keep, *characters)


def long_query(encoded: Encoded, pairs: Sequence[Pair], limit: int, library: str) -> str:
    """What to warn of where a library, which cuts the longer text first, would have cut a query."""
    for number in np.flatnonzero(encoded.truncated).tolist():
        parts, pair = encoded.parts[number], pairs[number]
        if (parts == Part.D).sum() < np.isin(parts, (Part.Q, Part.OTHER)).sum():
            return (
                f"query {pair.qid!r:.40} is longer than what the limit of {limit} tokens leaves of "
                f"passage {pair.docid!r:.40}: here passages are cut first, {library} cuts the "
                "longer text first and scores such pairs otherwise"
            )
    return ""


def own_tokens(
    pair: Pair,
    parts: Int[np.ndarray, " place"],
    starts: Int[np.ndarray, " place"],
    ends: Int[np.ndarray, " place"],
) -> OwnTokens:
    """By own part the tokens whose first character, white space aside, is in it."""
    out: dict[str, Int[np.ndarray, " _"]] = {}
    for part, text in ((Part.Q, pair.query), (Part.D, pair.text)):
        spans = [span for span in pair.parts if span.of == str(part)]
        places = np.flatnonzero((parts == part) & (ends > starts) & (starts >= 0))
        firsts = starts[places].copy()
        for at, (first, end) in enumerate(zip(firsts.tolist(), ends[places].tolist(), strict=True)):
            firsts[at] = next((n for n in range(first, end) if not text[n].isspace()), first)
        for name in dict.fromkeys(span.name for span in spans):
            inside = np.zeros(len(places), dtype=bool)
            for span in spans:
                if span.name == name:
                    inside |= (firsts >= span.start) & (firsts < span.end)
            if inside.any():
                out[name] = places[inside]
    return out


@dataclass(frozen=True, repr=False)
class Spans(Brief):
    """The tokens of one encoded pair, their parts, and the places of their characters in the texts.

    ``ends`` is one past the last character; both are -1 where the tokenizer added the token.
    """

    tokens: list[str]
    parts: Int[np.ndarray, " place"]
    starts: Int[np.ndarray, " place"]
    ends: Int[np.ndarray, " place"]


def spans(
    tokenizer: PreTrainedTokenizerFast, pair: Pair, max_length: int, pairing: Pairing = PLAIN
) -> Spans:
    """The tokens of one pair as :func:`encode` makes them, with their places in the texts."""
    (row,) = _rows(tokenizer, [pair], max_length, pairing, places=True)
    return spans_of(tokenizer, row)


def _offsets(
    encoding: BatchEncoding,
    row: int,
    pieces: tuple[Piece, Piece],
    labels: Int[np.ndarray, " token"],
    pairing: Pairing,
) -> tuple[Int[np.ndarray, " token"], Int[np.ndarray, " token"]]:
    """The first character of each token in its text, and one past the last; -1 where none."""
    offsets = np.array(encoding["offset_mapping"][row], dtype=np.int64)[: len(labels)]
    numbers = encoding.sequence_ids(row)[: len(labels)]
    sequences = np.array([-1 if number is None else number for number in numbers])
    for sequence, piece in enumerate(pieces):
        offsets[sequences == sequence] = piece.places(offsets[sequences == sequence])
    offsets[sequences == 0] = np.maximum(offsets[sequences == 0] - len(pairing.prefix), 0)
    offsets[(sequences == -1) | (labels == Part.OTHER)] = -1
    return offsets[:, 0], offsets[:, 1]


def _tokenized(
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    max_length: int,
    pairing: Pairing,
    *,
    offsets: bool = False,
) -> tuple[BatchEncoding, list[tuple[Piece, Piece]]]:
    """The tokenizer's record of the pairs, and the pieces of query and passage that it is of."""
    queries, passages, pieces = [], [], []
    for pair in pairs:
        with named(pair):
            query, passage = (
                usable(tokenizer, text, max_length, start=pairing.start, options=pairing.options)
                for text in (pairing.prefix + pair.query, pair.text)
            )
        queries.append(query.text)
        passages.append(passage.text)
        pieces.append((query, passage))
    offsets = offsets or bool(pairing.prefix)

    def call(some: slice) -> BatchEncoding:
        return tokenizer(
            queries[some],
            passages[some],
            truncation=False,
            padding=False,
            return_attention_mask=False,
            verbose=False,
            return_offsets_mapping=offsets,
            **pairing.options,
        )

    return guarded(tokenizer, call, pairs), pieces


def _kept(
    encoding: BatchEncoding, row: int, query: Piece, max_length: int, pairing: Pairing
) -> tuple[Int[np.ndarray, " token"], Int[np.ndarray, " kept"]]:
    """The parts of a pair's tokens, and the positions that stay within the length limit."""
    sequences = encoding.sequence_ids(row)
    labels = np.array(label(sequences), dtype=np.int8)
    if pairing.prefix:
        ends = query.places(np.array([end for _, end in encoding["offset_mapping"][row]]))
        labels[(labels == Part.Q) & (ends <= len(pairing.prefix))] = Part.OTHER
        if not (labels == Part.Q).any():
            raise InputError("the query has no tokens; expected at least one; give it some text")
    return labels, fit(labels, max_length, start=pairing.start)


def read_last(
    tokenizer: PreTrainedTokenizerFast,
    ids: Int[np.ndarray, " token"],
    labels: Int[np.ndarray, " token"],
    keep: Int[np.ndarray, " kept"],
    pairing: Pairing,
) -> tuple[Int[np.ndarray, " read"], Int[np.ndarray, " stays"]]:
    """Make CLS of the last token, whose state the score reads; the labels end with it.

    A classifier of the library's takes the tokens of padding at the end of a pair for padding,
    too, and reads the token before them. Those that stand behind both texts are left out, where no
    other token reads them.
    """
    end, texts = len(labels), (Part.Q, Part.D)
    while pairing.causal and labels[end - 1] not in texts and ids[end - 1] == pairing.pad:
        end -= 1
    labels, keep = labels[:end], keep[keep < end]
    part = labels[keep[-1]]
    if part in texts and (labels[keep] == part).sum() < 2:
        raise InputError(
            f"the {'query' if part == Part.Q else 'passage'} has one token, which is the last one, "
            "whose state the score reads; expected two or more: give it more text or raise the "
            "limit (--max-length)"
        )
    if ids[keep[-1]] == pairing.pad:
        token = tokenizer.convert_ids_to_tokens(int(ids[keep[-1]]))
        raise InputError(
            f"it ends in {token!r:.40}, the token of padding, so that the library would read the "
            "token before it; expected another end of the passage, or another token of padding "
            "(pad_token_id in config.json)"
        )
    labels[keep[-1]] = Part.CLS
    return labels, keep


def fit(
    labels: Int[np.ndarray, " token"], max_length: int, *, start: bool = False
) -> Int[np.ndarray, " kept"]:
    """The positions that stay within the length limit; a text loses its end, or its ``start``."""
    excess = len(labels) - max_length
    keep = np.ones(len(labels), dtype=bool)
    for part in (Part.D, Part.Q):
        if excess > 0:
            places = np.flatnonzero(labels == part)
            drop = min(excess, len(places) - 1)  # one token stays
            keep[places[:drop] if start else places[len(places) - drop :]] = False
            excess -= drop
    if excess > 0:
        raise InputError(
            f"the length limit of {max_length} tokens leaves no room for one query token and one "
            "passage token; raise the limit (--max-length)"
        )
    return np.flatnonzero(keep)


@dataclass(frozen=True)
class EncodedBatch:
    """Pairs padded to one length, [pair, token]; ``own`` marks the tokens of own parts."""

    pairs: Int[np.ndarray, " pair"]
    input_ids: Tensor
    token_type_ids: Tensor
    parts: Tensor
    own: Mapping[str, Tensor] = field(default_factory=dict)

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


def split(
    lengths: Int[np.ndarray, " pair"], batch_tokens: int, overhead: int | None = None
) -> list[Int[np.ndarray, " _"]]:
    """Split pairs into length-sorted batches of at most ``batch_tokens`` places, padding included.

    Of all such splits it takes one with the least places in all, where each batch counts
    ``overhead`` more; None: the fewest batches, and of these the least padding. A pair longer than
    ``batch_tokens`` goes alone.

    >>> [batch.tolist() for batch in split(np.array([3, 9, 4, 2]), 9)]
    [[1], [2], [0, 3]]
    >>> [batch.tolist() for batch in split(np.array([9, 2, 2]), 30, overhead=4)]
    [[0], [1, 2]]
    """
    # Longest first: little is padded, and memory runs out early or never.
    order = np.argsort(-lengths, kind="stable")
    longest, count = lengths[order], len(order)
    each = batch_tokens * count if overhead is None else overhead
    cost, start, first = np.zeros(count + 1, dtype=np.int64), np.zeros(count + 1, dtype=int), 0
    for end in range(1, count + 1):
        while longest[first] * (end - first) > batch_tokens and first < end - 1:
            first += 1
        costs = cost[first:end] + longest[first:end] * np.arange(end - first, 0, -1)
        best = int(costs.argmin())
        start[end], cost[end] = first + best, costs[best] + each
    batches = []
    while count:
        batches.append(order[start[count] : count])
        count = start[count]
    return batches[::-1]


def batches(
    encoded: Encoded,
    batch_tokens: int,
    *,
    overhead: int | None = None,
    pad_id: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[EncodedBatch]:
    """Padded batches on a device, as :func:`split` makes them."""
    for rows in split(encoded.lengths, batch_tokens, overhead):
        yield collate(encoded, rows, pad_id=pad_id, device=device)


def padded(longest: int, device: torch.device) -> int:
    """Places of each pair of a batch whose longest has so many tokens."""
    return longest + (0 if device.type == "cpu" else -longest % EVEN)


def collate(
    encoded: Encoded,
    rows: Int[np.ndarray, " pair"],
    *,
    pad_id: int = 0,
    device: torch.device | str = "cpu",
) -> EncodedBatch:
    """The pairs of one batch, padded to the longest; on a GPU, to a multiple of :data:`EVEN`."""
    longest = max(len(encoded.ids[row]) for row in rows)
    shape = (len(rows), padded(longest, torch.device(device)))
    ids = np.full(shape, pad_id, dtype=np.int64)
    types = np.zeros(shape, dtype=np.int64)
    parts = np.full(shape, PADDING, dtype=np.int64)
    own: dict[str, np.ndarray] = {}
    for place, row in enumerate(rows):
        n = len(encoded.ids[row])
        at = slice(shape[1] - n, None) if encoded.left else slice(0, n)
        ids[place, at] = encoded.ids[row]
        types[place, at] = encoded.types[row]
        parts[place, at] = encoded.parts[row]
        for name, tokens in encoded.own[row].items() if encoded.own else ():
            first = shape[1] - n if encoded.left else 0
            own.setdefault(name, np.zeros(shape, dtype=bool))[place, first + tokens] = True
    tensors = (torch.from_numpy(array).to(device) for array in (ids, types, parts))
    masks = {name: torch.from_numpy(mask).to(device) for name, mask in own.items()}
    return EncodedBatch(rows, *tensors, own=masks)
