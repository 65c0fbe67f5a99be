"""The attention function: the one place where attention is computed and cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.directions import How
from matchlens.models.band import OPEN, Band
from matchlens.models.chance import Chance
from matchlens.models.gauge import Gauge, squeezed
from matchlens.parts import PADDING, Part
from matchlens.plan import LayerCut

KEPT_TABLES = 64
"""Spread tables that one batch keeps for its other layers."""


@dataclass(frozen=True)
class Edges:
    """What happens to each pair of tokens, [condition * pair, head or 1, row, column].

    Args:
        bias: added to the logits: -inf where attention is masked, the layer allows none, or there
            is padding.
        keep: factor of the weights: 0 where they are removed after the softmax.
        sink: 1 where removed weight moves to the last SEP.
    """

    bias: Tensor | None
    keep: Tensor | None
    sink: Tensor | None


@dataclass
class Grid:
    """The parts of a batch, and part tables spread over its token pairs.

    Args:
        parts: [pair, token] part numbers, ``PADDING`` where there is no token.
    """

    parts: Int[Tensor, "pair token"]
    padding: Tensor | None = field(init=False)
    _spread: dict[object, Edges] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        padded = self.parts == PADDING
        self.padding = padded[:, None, None, :] if bool(padded.any()) else None

    def row_parts(self, rows: slice | None) -> Int[Tensor, "pair row"]:
        """Part numbers of the rows that are computed."""
        return self.parts if rows is None else self.parts[:, rows]

    def edges(
        self,
        cuts: Sequence[LayerCut],
        rows: slice | None,
        dtype: torch.dtype,
        band: Band = OPEN,
    ) -> Edges:
        """What the conditions do to each pair of tokens.

        Args:
            cuts: the conditions that go through the layer side by side, in order.
            rows: the tokens whose rows are computed, all of them where None.
            dtype: type of the weights.
            band: the token pairs that the layer allows at all.
        """
        key = (str(rows), dtype, band, tuple(cut.key for cut in cuts))
        found = self._spread.get(key)
        if found is None:
            found = self._edges(cuts, rows, dtype, band)
            if all(cut.same_heads for cut in cuts) and len(self._spread) < KEPT_TABLES:
                self._spread[key] = found
        return found

    def _edges(
        self, cuts: Sequence[LayerCut], rows: slice | None, dtype: torch.dtype, band: Band
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
        bias = None
        if gone is not None:
            bias = torch.zeros(gone.shape, dtype=dtype, device=gone.device)
            bias.masked_fill_(gone, -torch.inf)
        keep = None if removed is None else (~removed).to(dtype)
        return Edges(bias, keep, None if sunk is None else sunk.to(dtype))

    def padding_bias(self, conditions: int, dtype: torch.dtype, band: Band = OPEN) -> Tensor | None:
        """What keeps attention off the padding, and off what the layer forbids, in all rows where
        nothing else is cut before the softmax."""
        gone = self._unseen(conditions, None, band)
        if gone is None:
            return None
        return torch.zeros(gone.shape, dtype=dtype, device=gone.device).masked_fill_(
            gone, -torch.inf
        )

    def _unseen(self, conditions: int, rows: slice | None, band: Band) -> Tensor | None:
        """What no row may read: padding, and what the layer forbids; None if there is neither.

        Rows of padding read everything there: nothing might be left to them, and nobody reads them.
        """
        if band.everything:
            return None if self.padding is None else self.padding.repeat(conditions, 1, 1, 1)
        forbidden = band.forbidden(self.parts.shape[1], rows, self.parts.device)
        if self.padding is None:
            return forbidden[None, None]
        real = (self.row_parts(rows) != PADDING)[:, None, :, None]
        return ((self.padding | forbidden) & real).repeat(conditions, 1, 1, 1)

    def reach(self, band: Band = OPEN) -> Bool[np.ndarray, "row_part column_part"]:
        """Whether in some pair a token of the row part may read one of the column part at all."""
        one_hot = torch.nn.functional.one_hot(self.parts, PADDING + 1)[..., :PADDING].float()
        tokens = self.parts.shape[1]
        allowed = (~band.forbidden(tokens, device=self.parts.device)).float()
        return (torch.einsum("nix,ij,njy->xy", one_hot, allowed, one_hot) > 0).cpu().numpy()

    def removed(self, cuts: Sequence[LayerCut]) -> Tensor:
        """Whether a condition removes an edge, [condition * pair, head or 1, row, column]."""
        spread = self._spread_tables([cut.removed(*How) for cut in cuts], None)
        if spread is None:
            shape = (len(cuts) * len(self.parts), 1, *2 * self.parts.shape[1:])
            return torch.zeros(shape, dtype=torch.bool, device=self.parts.device)
        return spread

    def _spread_tables(self, tables: Sequence[np.ndarray], rows: slice | None) -> Tensor | None:
        """Part tables [head, row part, column part], one a condition, spread over the tokens."""
        stacked = np.stack(tables)
        if not stacked.any():
            return None
        if (stacked == stacked[:, :1]).all():
            stacked = stacked[:, :1]
        flat = torch.from_numpy(stacked.reshape(*stacked.shape[:2], -1)).to(self.parts.device)
        edges = self.row_parts(rows)[:, :, None] * stacked.shape[-1] + self.parts[:, None, :]
        return flat[:, :, edges].transpose(1, 2).flatten(0, 1)


Watch = Callable[[Tensor, Tensor], None]
"""Called with the attention weights before they are cut, and the values."""


@dataclass(frozen=True)
class Call:
    """What travels with one layer call to the attention function.

    Args:
        grid: the parts of the batch.
        cuts: one :class:`LayerCut` a condition; the layer's input stacks the conditions'
            batches, condition first.
        rows: the tokens whose rows are computed, all of them where None.
        memory: keys and values of all tokens, [condition * pair, head, token, head width], where
            only some rows go through the layer.
        added: [condition * pair, head, row part, head width], added to the context of the part's
            rows in the place of what was removed (``mean``, ``resample``).
        watch: sees the weights of all heads as they are before any cut.
        chance: random edges are cut in the place of those of ``cuts``; all rows are computed.
        gauge: measures the attention of all rows; nothing is cut in such a call.
        asking: queries of all tokens, where only some rows go through the layer and a gauge
            measures all.
        band: the token pairs that the layer allows at all; the family gives it.
        bias: [condition * pair or 1, head, row, column], what the family adds to the logits
            beside the product of queries and keys (positions); of the rows that are computed, or
            of all where there is ``asking``.
    """

    grid: Grid
    cuts: Sequence[LayerCut]
    rows: slice | None = None
    memory: tuple[Tensor, Tensor] | None = None
    added: Tensor | None = None
    watch: Watch | None = None
    chance: Chance | None = None
    gauge: Gauge | None = None
    asking: Tensor | None = None
    band: Band = OPEN
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.rows == slice(None):  # all rows by name: mean pooling
            object.__setattr__(self, "rows", None)

    def biased(self, other: Tensor | None, rows: slice | None = None) -> Tensor | None:
        """The family's own bias and another, together.

        Args:
            other: such as what keeps attention off the padding.
            rows: the rows that are wanted, all that the bias has where None.
        """
        own = self.bias if self.bias is None or rows is None else self.bias[:, :, rows]
        if own is None or other is None:
            return other if own is None else own
        return own + other


class Counter:
    """Counts calls of the attention function; the check at load reads it."""

    calls = 0


def attend(
    module: torch.nn.Module,
    query: Float[Tensor, "batch head row width"],
    key: Float[Tensor, "batch key_head column width"],
    value: Float[Tensor, "batch key_head column width"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    matchlens: Call | None = None,
    **kwargs: object,
) -> tuple[Float[Tensor, "batch row head width"], None]:
    """Softmax attention, cut as ``matchlens`` says; the library's layers call it by name.

    Args:
        module: the attention module, as the library passes it.
        query: [batch, head, row, width]; the batch is condition * pair.
        key: [batch, key head, column, width]; where key heads are fewer, neighbouring heads share
            one (grouped-query attention).
        value: [batch, key head, column, width].
        attention_mask: the library's own mask, used only where the library's own forward calls
            (``matchlens`` is None); otherwise padding is read from the parts, and what the layer
            allows from the call's band.
        scaling: factor of the logits; 1 / sqrt(width) where None.
        dropout: not used: models are in evaluation mode.
        softcap: logits are squeezed into (-softcap, softcap) by a tanh (Gemma 2).
        matchlens: parts and cuts.

    Returns:
        The context [batch, row, head, width] and None (attention maps are not kept).
    """
    Counter.calls += 1
    call = matchlens
    if call is not None and call.memory is not None:
        key, value = call.memory
    key, value = (_for_each_head(each, query.shape[1]) for each in (key, value))
    if call is None:
        bias = _library_bias(module, attention_mask, query, key)
        return _context(query, key, value, bias, scaling, softcap).transpose(1, 2), None
    half = query.dtype in (torch.bfloat16, torch.float16)
    if call.chance is not None:
        logits = _logits(query, key, scaling, softcap)
        logits = logits.float() if half else logits
        bias = call.grid.padding_bias(len(call.cuts), logits.dtype, call.band)
        bias = call.biased(bias)
        weights = torch.softmax(logits if bias is None else logits + bias, -1)
        weights = call.chance.cut(weights, call.grid.removed(call.cuts), call.band)
        return torch.matmul(weights.to(query.dtype), value).transpose(1, 2), None
    if call.gauge is not None:
        bias = call.biased(call.grid.padding_bias(len(call.cuts), query.dtype, call.band))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        asking = query if call.asking is None else call.asking
        context = call.gauge.measure(
            asking, key, value, bias, scale, context=call.rows is None, softcap=softcap
        )
        if context is not None:
            return context.transpose(1, 2), None
    edges = call.grid.edges(call.cuts, call.rows, torch.float32 if half else query.dtype, call.band)
    bias = call.biased(edges.bias, None if call.asking is None else call.rows)
    if edges.keep is None and call.watch is None:
        bias = None if bias is None else bias.to(query.dtype)
        return _context(query, key, value, bias, scaling, softcap).transpose(1, 2), None
    logits = _logits(query, key, scaling, softcap)
    weights = _cut(logits.float() if half else logits, bias, edges, call, value)
    context = torch.matmul(weights.to(query.dtype), value)
    if call.added is not None:
        rows = call.grid.row_parts(call.rows).repeat(len(call.cuts), 1)[:, None, :, None]
        shape = (-1, call.added.shape[1], -1, call.added.shape[-1])
        context += call.added.gather(2, rows.expand(shape)).to(context.dtype)
    return context.transpose(1, 2), None


def _for_each_head(states: Tensor, heads: int) -> Tensor:
    """Keys or values of each query head; neighbouring heads may share theirs."""
    shared = heads // states.shape[1]
    return states if shared == 1 else states.repeat_interleave(shared, dim=1)


def _library_bias(
    module: torch.nn.Module, mask: Tensor | None, query: Tensor, key: Tensor
) -> Tensor | None:
    """The library's own mask as a bias; where a decoder gives none, the causal one is meant."""
    rows, columns = query.shape[2], key.shape[2]
    if mask is None and getattr(module, "is_causal", False) and rows > 1:
        mask = ~Band(causal=True).forbidden(columns, slice(columns - rows, None), query.device)
    if mask is None or mask.dtype != torch.bool:
        return mask
    bias = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
    return bias.masked_fill_(~mask, -torch.inf)


def _context(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """Attention without a cut behind the softmax: fused, unless the logits are squeezed first."""
    if softcap is None:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scaling
        )
    logits = _logits(query, key, scaling, softcap)
    weights = torch.softmax(logits if bias is None else logits + bias, -1)
    return torch.matmul(weights, value)


def _logits(query: Tensor, key: Tensor, scaling: float | None, softcap: float | None) -> Tensor:
    scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    return squeezed(torch.matmul(scaled, key.transpose(-1, -2)), softcap)


def _cut(logits: Tensor, bias: Tensor | None, edges: Edges, call: Call, value: Tensor) -> Tensor:
    """Attention weights after all ways of cutting; overwrites ``logits``."""
    if bias is not None:
        logits += bias
    weights = torch.softmax(logits, -1)
    if call.watch is not None:
        call.watch(weights, value)
    moved = None if edges.sink is None else (weights * edges.sink).sum(-1, keepdim=True)
    if edges.keep is not None:
        weights *= edges.keep
    if moved is not None:
        last = (call.grid.parts == Part.SEP2).to(weights.dtype)
        share = last / last.sum(-1, keepdim=True).clamp(min=1)
        weights += moved * share.repeat(len(call.cuts), 1)[:, None, None, :]
    return weights


def part_terms(
    weights: Float[Tensor, "batch head row column"],
    value: Float[Tensor, "batch head column width"],
    row_parts: Int[Tensor, "batch row"],
    parts: Int[Tensor, "batch column"],
) -> Float[Tensor, "batch head row_part column_part width"]:
    """What each part's rows read from each part's columns, meant over the rows.

    The term of row i and part Y is ``sum_{j in Y} a_ij v_j``; it is linear in Y, so that the term
    of several parts is the sum of theirs. Zero where a part is absent.
    """
    one_hot = torch.nn.functional.one_hot
    labels = int(PADDING)
    rows = one_hot(row_parts, labels + 1)[..., :labels].to(weights.dtype)
    columns = one_hot(parts, labels + 1)[..., :labels].to(weights.dtype)
    rows = rows / rows.sum(1, keepdim=True).clamp(min=1)
    meant = torch.einsum("nix,nhij->nhxj", rows, weights)
    terms = torch.einsum("nhxj,njy,nhjd->nhxyd", meant, columns, value.to(weights.dtype))
    return torch.nn.functional.pad(terms, (0, 0, 0, 1, 0, 1))
