"""The parts of a batch, what layers allow, and what cuts do to its pairs of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.directions import How
from matchlens.parts import LABELS, PADDING, OwnPart
from matchlens.plan import LayerCut

if TYPE_CHECKING:
    from matchlens.batching import EncodedBatch


@dataclass(frozen=True)
class LayerMask:
    """The structural mask of a layer; what it forbids is no attention that could be cut.

    Args:
        causal: whether a token reads only itself and those before it.
        window: the largest distance of two tokens of which one reads the other; None: any.
        stage: of an encoder-decoder, whose decoder has one token, in place 0: in an "encoder" layer
            all others read each other, in a "decoder" layer that one reads all others.

    >>> LayerMask(causal=True, window=1).forbidden(3)
    tensor([[False,  True,  True],
            [False, False,  True],
            [ True, False, False]])
    """

    causal: bool = False
    window: int | None = None
    stage: Literal["", "encoder", "decoder"] = ""

    @property
    def everything(self) -> bool:
        """Whether every token may read every other."""
        return not self.causal and self.window is None and not self.stage

    def reading(
        self, tokens: int, rows: slice | None = None, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "row 1"] | None:
        """1 for rows that may read something, 0 for the others; None where all may.

        A softmax cannot give a row the weights 0, so that they are multiplied by this.
        """
        if not self.stage:
            return None
        place = torch.arange(tokens, device=device)
        place = place if rows is None else place[rows]
        return ((place == 0) == (self.stage == "decoder")).float()[:, None]

    def forbidden(
        self, tokens: int, rows: slice | None = None, device: torch.device | str = "cpu"
    ) -> Bool[Tensor, "row column"]:
        """The token pairs that are not allowed; padding on one side shifts all places alike."""
        place = torch.arange(tokens, device=device)
        ahead = place[None, :] - (place if rows is None else place[rows])[:, None]
        gone = ahead > 0 if self.causal else torch.zeros_like(ahead, dtype=torch.bool)
        if self.stage:
            reads = self.reading(tokens, rows, device)
            return (place == 0)[None, :] | (reads == 0)
        return gone if self.window is None else gone | (ahead.abs() > self.window)


OPEN = LayerMask()
"""The mask of an encoder: every token reads every other."""


KEPT_TABLES = 64
"""Spread tables that one batch keeps for its other layers."""


@dataclass(frozen=True)
class Edges:
    """What happens to each pair of tokens, [condition * pair, head or 1, row, column].

    ``bias`` is added to the logits, ``keep`` multiplies the weights; where ``sink`` is 1, removed
    weight moves to the last SEP.
    """

    bias: Tensor | None
    keep: Tensor | None
    sink: Tensor | None


@dataclass(frozen=True, eq=False)
class Rows:
    """The tokens of some parts, picked out of a batch whose pairs have them in different places.

    Args:
        padded: [pair, row] places in the batch's flat list of tokens, any place where a pair has
            fewer rows.
        labels: [pair, row] part numbers, ``PADDING`` where there is no row.
        flat: the places of the rows that there are, in order.
        valid: which of all padded rows those are, as a flat list.
    """

    parts: frozenset[int]
    padded: Int[Tensor, "pair row"]
    labels: Int[Tensor, "pair row"]
    flat: Int[Tensor, " place"]
    valid: Int[Tensor, " place"]

    @classmethod
    def of(
        cls, chosen: frozenset[int], parts: Int[Tensor, "pair token"], size: int = LABELS
    ) -> Rows:
        """Pick the rows out.

        >>> from matchlens.parts import Part
        >>> rows = Rows.of(frozenset({Part.Q}), torch.tensor([[0, 1, 1, 2], [0, 1, 2, 3]]))
        >>> rows.flat.tolist(), rows.labels.tolist()
        ([1, 2, 5], [[1, 1], [1, 6]])
        """
        wanted = torch.zeros(size, dtype=torch.bool, device=parts.device)
        wanted[list(chosen)] = True
        inside = wanted[parts]
        # A stable sort brings the chosen tokens to the front and keeps their order.
        order = torch.argsort(inside.int(), dim=1, descending=True, stable=True)
        order = order[:, : int(inside.sum(1).max())]
        real = inside.gather(1, order)
        labels = parts.gather(1, order).masked_fill(~real, PADDING)
        start = torch.arange(len(parts), device=parts.device)[:, None] * parts.shape[1]
        padded = order + start
        valid = real.flatten().nonzero()[:, 0]
        return cls(chosen, padded, labels, padded.flatten()[valid], valid)

    @property
    def full(self) -> bool:
        """Whether every pair has as many rows."""
        return len(self.valid) == self.padded.numel()


@dataclass
class PartLayout:
    """The parts of a batch, and part tables spread over its token pairs.

    Tokens of own parts have labels of their own in ``parts``, from ``LABELS`` on, and none in
    ``base``, which is None where ``parts`` has none either.
    """

    parts: Int[Tensor, "pair token"]
    base: Int[Tensor, "pair token"] | None = None
    own: tuple[OwnPart, ...] = ()
    padding: Tensor | None = field(init=False)
    _spread: dict[object, Edges] = field(init=False, default_factory=dict)
    _rows: dict[frozenset[int], Rows] = field(init=False, default_factory=dict)

    @classmethod
    def of(cls, batch: EncodedBatch, own: Sequence[OwnPart] = ()) -> PartLayout:
        """The layout of a batch in which these own parts have labels."""
        if not own:
            return cls(batch.parts)
        labels = batch.parts.clone()
        for at, part in enumerate(own):
            if part.name in batch.own:
                labels[batch.own[part.name]] = LABELS + at
        return cls(labels, batch.parts, tuple(own))

    @property
    def size(self) -> int:
        """The number of labels."""
        return LABELS + len(self.own)

    def __post_init__(self) -> None:
        padded = self.parts == PADDING
        self.padding = padded[:, None, None, :] if bool(padded.any()) else None

    def row_parts(self, rows: slice | Rows | None) -> Int[Tensor, "pair row"]:
        """Part numbers of the rows that are computed."""
        if isinstance(rows, Rows):
            return rows.labels
        return self.parts if rows is None else self.parts[:, rows]

    def members(self, rows: slice | None, dtype: torch.dtype) -> Tensor:
        """[pair, row, label] 1 where a row is of a part; an own part's token is also of Q or D."""
        one_hot = torch.nn.functional.one_hot
        labels = one_hot(self.row_parts(rows), self.size)
        if self.base is not None:
            base = self.base if rows is None else self.base[:, rows]
            labels = labels | one_hot(base, self.size)
        labels[..., PADDING] = 0
        return labels.to(dtype)

    def rows_of(self, parts: frozenset[int]) -> Rows:
        """The rows of some parts, picked out once a batch."""
        if parts not in self._rows:
            self._rows[parts] = Rows.of(parts, self.parts, self.size)
        return self._rows[parts]

    def edges(
        self,
        cuts: Sequence[LayerCut],
        rows: slice | Rows | None,
        dtype: torch.dtype,
        band: LayerMask = OPEN,
    ) -> Edges:
        """What the conditions that go through a layer side by side do to each pair of tokens."""
        named = rows.parts if isinstance(rows, Rows) else str(rows)
        key = (named, dtype, band, tuple(cut.key for cut in cuts))
        edges = self._spread.get(key)
        if edges is None:
            edges = self._edges(cuts, rows, dtype, band)
            # Tables that differ by head are as large as the attention itself: they are not kept.
            if all(cut.same_heads for cut in cuts) and len(self._spread) < KEPT_TABLES:
                self._spread[key] = edges
        return edges

    def _edges(
        self,
        cuts: Sequence[LayerCut],
        rows: slice | Rows | None,
        dtype: torch.dtype,
        band: LayerMask,
    ) -> Edges:
        masked = self._spread_tables([cut.removed(How.MASK) for cut in cuts], rows)
        after = [cut.removed(How.ZERO, How.MEAN, How.RESAMPLE, How.SINK) for cut in cuts]
        removed = self._spread_tables(after, rows)
        sunk = self._spread_tables([cut.removed(How.SINK) for cut in cuts], rows)
        gone = self._unseen(len(cuts), rows, band)
        if masked is not None:
            gone = masked if gone is None else masked | gone
            # A row with nothing left would be NaN after the softmax: it is let through there and
            # its weights are removed afterwards, so that its context is the zero vector.
            empty = gone.all(-1, keepdim=True)
            gone = gone & ~empty
            removed = empty.expand_as(gone) if removed is None else removed | empty
        keep = None if removed is None else (~removed).to(dtype)
        return Edges(_forbidding(gone, dtype), keep, None if sunk is None else sunk.to(dtype))

    def padding_bias(
        self, conditions: int, dtype: torch.dtype, band: LayerMask = OPEN
    ) -> Tensor | None:
        """What keeps all rows off the padding and off what the layer forbids; nothing is cut."""
        return _forbidding(self._unseen(conditions, None, band), dtype)

    def _unseen(self, conditions: int, rows: slice | Rows | None, band: LayerMask) -> Tensor | None:
        """What no row may read: padding, and what the layer forbids; None if there is neither."""
        # Within a window nothing might be left to rows of padding, which would give NaN: these rows
        # may read everything, since nobody reads them.
        if band.everything:
            return None if self.padding is None else self.padding.repeat(conditions, 1, 1, 1)
        if isinstance(rows, Rows):
            raise ValueError("rows are picked out only where every token may read every other")
        tokens, device = self.parts.shape[1], self.parts.device
        forbidden = band.forbidden(tokens, rows, device)
        reads = band.reading(tokens, rows, device)
        if reads is not None:  # rows that read nothing are let through, and emptied afterwards
            forbidden = forbidden & (reads > 0)
        if self.padding is None:
            return forbidden[None, None]
        real = (self.row_parts(rows) != PADDING)[:, None, :, None]
        real = real if reads is None else real & (reads > 0)
        return ((self.padding | forbidden) & real).repeat(conditions, 1, 1, 1)

    def reach(self, band: LayerMask = OPEN) -> Bool[np.ndarray, "row_part column_part"]:
        """Whether in some pair a token of the row part may read one of the column part at all."""
        base = self.parts if self.base is None else self.base
        one_hot = torch.nn.functional.one_hot(base, LABELS)[..., :PADDING].float()
        tokens = self.parts.shape[1]
        allowed = (~band.forbidden(tokens, device=self.parts.device)).float()
        return (torch.einsum("nix,ij,njy->xy", one_hot, allowed, one_hot) > 0).cpu().numpy()

    def removed(self, cuts: Sequence[LayerCut]) -> Tensor:
        """Whether a condition removes an edge, [condition * pair, head or 1, row, column]."""
        spread = self._spread_tables([cut.removed(*How) for cut in cuts], None)
        if spread is not None:
            return spread
        shape = (len(cuts) * len(self.parts), 1, *2 * self.parts.shape[1:])
        return torch.zeros(shape, dtype=torch.bool, device=self.parts.device)

    def _spread_tables(
        self, tables: Sequence[np.ndarray], rows: slice | Rows | None
    ) -> Tensor | None:
        """Part tables [head, row part, column part], one a condition, spread over the tokens."""
        stacked = np.stack(tables)
        if not stacked.any():
            return None
        if (stacked == stacked[:, :1]).all():  # one head stands for all: a broadcast, not a copy
            stacked = stacked[:, :1]
        # A token pair's place in a flattened table is row part * size + column part, so that one
        # lookup spreads the table over all token pairs.
        flat = torch.from_numpy(stacked.reshape(*stacked.shape[:2], -1)).to(self.parts.device)
        edges = self.row_parts(rows)[:, :, None] * stacked.shape[-1] + self.parts[:, None, :]
        return flat[:, :, edges].transpose(1, 2).flatten(0, 1)


def _forbidding(gone: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A bias of the logits: -inf where nothing may be read, 0 elsewhere."""
    if gone is None:
        return None
    return torch.zeros(gone.shape, dtype=dtype, device=gone.device).masked_fill_(gone, -torch.inf)
