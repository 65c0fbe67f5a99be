"""The attention function: the one place where attention is computed and cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.directions import How
from matchlens.models.attention_probe import AttentionProbe, squeezed
from matchlens.models.part_layout import OPEN, Edges, LayerMask, PartLayout, Rows
from matchlens.models.random_edges import RandomEdges
from matchlens.parts import PADDING, Part
from matchlens.plan import LayerCut

Watch = Callable[[Tensor, Tensor], None]
"""Called with the attention weights before they are cut, and the values."""


@dataclass(frozen=True, eq=False)
class Gate:
    """The gates of one layer: factors that broadcast to [condition * pair, head, row, column].

    ``collect`` is called in the backward pass with the derivatives of the scores by the gates of
    the rows that are computed, [condition * pair, head, row, column].
    """

    values: Tensor
    collect: Callable[[Tensor], None] | None = None

    def through(
        self, weights: Float[Tensor, "batch head row column"], rows: slice | None
    ) -> Float[Tensor, "batch head row column"]:
        """The gated weights of the rows that are computed, all of them where ``rows`` is None."""
        values = (
            self.values if self.values.shape[2] == 1 or rows is None else self.values[:, :, rows]
        )
        gated = weights * values.to(weights.dtype)
        collect = self.collect
        if collect is not None:
            if not gated.requires_grad:  # the lowest layer: nothing below it is differentiated
                gated.requires_grad_()
            plain = weights.detach()
            gated.register_hook(lambda slope: collect(plain * slope))
        return gated


@dataclass(frozen=True)
class Call:
    """What travels with one layer call to the attention function.

    Args:
        cuts: one :class:`LayerCut` a condition; the layer's input stacks the conditions'
            batches, condition first.
        rows: the tokens whose rows are computed, all of them where None.
        memory: keys and values of all tokens, where only some rows go through the layer.
        added: [condition * pair, head, row part, head width], added to the context of the part's
            rows in the place of what was removed (``mean``, ``resample``).
        chance: removes what controls remove, in the place of the edges of ``cuts``; all rows are
            computed.
        probe: measures the attention of all rows; nothing is cut in such a call.
        asking: queries of all tokens, where only some rows are computed and a probe measures all.
        band: the token pairs that the layer allows at all; the family gives it.
        bias: [condition * pair or 1, head, row, column], what the family adds to the logits
            (positions); of the rows that are computed, or of all where there is ``asking``.
        picked: the rows of some parts, which alone are computed (:func:`attend_again`).
    """

    grid: PartLayout
    cuts: Sequence[LayerCut]
    rows: slice | None = None
    memory: tuple[Tensor, Tensor] | None = None
    added: Tensor | None = None
    watch: Watch | None = None
    chance: RandomEdges | None = None
    probe: AttentionProbe | None = None
    asking: Tensor | None = None
    band: LayerMask = OPEN
    bias: Tensor | None = None
    picked: Rows | None = None
    gate: Gate | None = None

    def __post_init__(self) -> None:
        if self.rows == slice(None):  # all rows by name: mean pooling
            object.__setattr__(self, "rows", None)

    def emptied(self, rows: Float[Tensor, "batch head row any"]) -> Tensor:
        """Weights or contexts, zero in rows that the layer lets read nothing."""
        reads = self.band.reading(self.grid.parts.shape[1], self.rows, rows.device)
        return rows if reads is None else rows * reads.to(rows.dtype)

    def biased(self, other: Tensor | None, rows: slice | None = None) -> Tensor | None:
        """The family's own bias, of some rows or all, and another, such as that of padding."""
        own = self.bias if self.bias is None or rows is None else self.bias[:, :, rows]
        if own is None or other is None:
            return other if own is None else own
        return own + other


class _Counter(threading.local):
    """Calls of the attention function in a thread."""

    calls = 0


Counter = _Counter()
"""Counts calls of the attention function; the check at load reads it."""


def attend(
    module: torch.nn.Module,
    query: Float[Tensor, "batch head row width"],
    key: Float[Tensor, "batch key_head column width"],
    value: Float[Tensor, "batch key_head column width"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    matchlens: Call | None = None,
    **kwargs: object,
) -> tuple[Float[Tensor, "batch row head width"], None]:
    """Softmax attention, cut as ``matchlens`` says; the library's layers call it by name.

    Args:
        key: where key heads are fewer, neighbouring heads share one (grouped-query attention).
        attention_mask: the library's own, used only where ``matchlens`` is None; otherwise padding
            is read from the parts, and what the layer allows from the call's band.
        scaling: factor of the logits; 1 / sqrt(width) where None.
        softcap: logits are squeezed into (-softcap, softcap) by a tanh (Gemma 2).
    """
    Counter.calls += 1
    call = matchlens
    if call is not None and call.memory is not None:
        key, value = call.memory
    key, value = (_for_each_head(each, query.shape[1]) for each in (key, value))
    if call is None:
        bias = _library_bias(module, attention_mask, query, key)
        return _context(query, key, value, bias, scaling, softcap).transpose(1, 2), None
    exact = torch.promote_types(query.dtype, torch.float32)
    if call.chance is not None:
        bias = call.biased(call.grid.padding_bias(len(call.cuts), exact, call.band))
        logits = _logits(query, key, scaling, softcap).to(exact)
        weights = call.emptied(_softmax(logits, bias))
        weights = call.chance.cut(weights, call.grid.removed(call.cuts), call.band)
        return torch.matmul(weights.to(query.dtype), value).transpose(1, 2), None
    if call.probe is not None:
        bias = call.biased(call.grid.padding_bias(len(call.cuts), query.dtype, call.band))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        asking = query if call.asking is None else call.asking
        context = call.probe.measure(
            asking,
            key,
            value,
            bias,
            scale,
            context=call.rows is None,
            softcap=softcap,
            reads=call.band.reading(asking.shape[2], None, asking.device),
        )
        if context is not None:
            return context.transpose(1, 2), None
    edges = call.grid.edges(call.cuts, call.rows, exact, call.band)
    bias = call.biased(edges.bias, None if call.asking is None else call.rows)
    if edges.keep is None and call.watch is None and call.gate is None:
        bias = None if bias is None else bias.to(query.dtype)
        context = _context(query, key, value, bias, scaling, softcap)
        return call.emptied(context).transpose(1, 2), None
    weights = call.emptied(_softmax(_logits(query, key, scaling, softcap).to(exact), bias))
    if call.watch is not None:
        call.watch(weights, value)
    weights = _cut(weights, edges, call.grid, len(call.cuts), kept=call.gate is not None)
    if call.gate is not None:
        weights = call.gate.through(weights, call.rows)
    context = torch.matmul(weights.to(query.dtype), value)
    return _replaced(context, call).transpose(1, 2), None


def attend_again(
    query: Float[Tensor, "pair head row width"],
    key: Float[Tensor, "pair head column width"],
    value: Float[Tensor, "pair head column width"],
    call: Call,
) -> list[Float[Tensor, "pair row head width"]]:
    """The attention of the same rows of the same states under several cuts, one by one.

    The weights are formed once for all cuts that remove nothing before the softmax.
    """
    Counter.calls += 1
    exact = torch.promote_types(query.dtype, torch.float32)
    logits = _logits(query, key, None, None).to(exact)
    shared: Tensor | None = None
    out = []
    for place, cut in enumerate(call.cuts):
        edges = call.grid.edges([cut], call.picked, exact, call.band)
        masks = bool(cut.removed(How.MASK).any())
        weights = None if masks else shared
        if weights is None:
            weights = torch.softmax(logits if edges.bias is None else logits + edges.bias, -1)
            shared = shared if masks else weights
        weights = _cut(weights, edges, call.grid, 1, kept=True).to(query.dtype)
        added = None if call.added is None else call.added.unflatten(0, (len(call.cuts), -1))[place]
        alone = Call(call.grid, [cut], added=added, picked=call.picked)
        out.append(_replaced(torch.matmul(weights, value), alone).transpose(1, 2))
    return out


def attend_absorbed(
    query: Float[Tensor, "batch head width"],
    states: Float[Tensor, "batch column model"],
    key: tuple[Float[Tensor, "head width model"], Float[Tensor, "head width"]],
    value: tuple[Float[Tensor, "head width model"], Float[Tensor, "head width"]],
    call: Call,
) -> Float[Tensor, "batch 1 head width"]:
    """The attention of one row for each pair, without keys and values of the other tokens.

    ``q . (W_K x + b_K) = (W_K' q) . x + q . b_K``, and the context is linear in the values, so
    that the states themselves are read, and multiplied by W_V afterwards.
    """
    Counter.calls += 1
    exact = torch.promote_types(query.dtype, torch.float32)
    scaled = query * query.shape[-1] ** -0.5
    asking = torch.matmul(scaled.transpose(0, 1), key[0]).transpose(0, 1)
    logits = torch.matmul(asking, states.transpose(1, 2)) + (scaled * key[1]).sum(-1, keepdim=True)
    edges = call.grid.edges(call.cuts, call.rows, exact, call.band)
    weights = _softmax(logits[:, :, None].to(exact), edges.bias)
    weights = _cut(weights, edges, call.grid, len(call.cuts)).to(query.dtype)[:, :, 0]
    read = torch.matmul(weights, states)
    context = torch.matmul(read.transpose(0, 1), value[0].transpose(1, 2)).transpose(0, 1)
    context = context + weights.sum(-1, keepdim=True) * value[1]
    return _replaced(context[:, :, None], call).transpose(1, 2)


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
        mask = ~LayerMask(causal=True).forbidden(columns, slice(columns - rows, None), query.device)
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
    """Attention without a cut after the softmax: fused, unless the logits are squeezed first."""
    if softcap is None:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scaling
        )
    return torch.matmul(_softmax(_logits(query, key, scaling, softcap), bias), value)


def _logits(query: Tensor, key: Tensor, scaling: float | None, softcap: float | None) -> Tensor:
    scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    return squeezed(torch.matmul(scaled, key.transpose(-1, -2)), softcap)


def _softmax(logits: Tensor, bias: Tensor | None) -> Tensor:
    """Attention weights; overwrites ``logits``."""
    if bias is not None:
        logits += bias
    return torch.softmax(logits, -1)


def _cut(
    weights: Tensor, edges: Edges, grid: PartLayout, conditions: int, *, kept: bool = False
) -> Tensor:
    """The weights with what is cut after the softmax removed; overwrites them unless ``kept``."""
    moved = None if edges.sink is None else (weights * edges.sink).sum(-1, keepdim=True)
    if edges.keep is not None:
        weights = weights * edges.keep if kept else weights.mul_(edges.keep)
    if moved is not None:
        last = (grid.parts == Part.SEP2).to(weights.dtype)
        share = last / last.sum(-1, keepdim=True).clamp(min=1)
        weights = weights + moved * share.repeat(conditions, 1)[:, None, None, :]
    return weights


def _replaced(context: Float[Tensor, "batch head row width"], call: Call) -> Tensor:
    """The context, with what replaces the removed term."""
    if call.added is None:
        return context
    at = call.rows if call.picked is None else call.picked
    rows = call.grid.row_parts(at).repeat(len(call.cuts), 1)[:, None, :, None]
    shape = (-1, call.added.shape[1], -1, call.added.shape[-1])
    return context + call.added.gather(2, rows.expand(shape)).to(context.dtype)


def part_terms(
    weights: Float[Tensor, "batch head row column"],
    value: Float[Tensor, "batch head column width"],
    members: Float[Tensor, "batch row part"],
    layout: PartLayout,
) -> Float[Tensor, "batch head row_part column_part width"]:
    """What each part's rows read from each label's columns, meant over the rows.

    The term of row i and columns Y is ``sum_{j in Y} a_ij v_j``; it is linear in Y, so that the
    term of several labels is the sum of theirs. Zero where a part is absent. A column has one
    label, whereas a row of an own part is also one of Q or D, whose mean is over all rows.
    """
    real = [label for label in range(layout.size) if label != PADDING]
    columns = torch.nn.functional.one_hot(layout.parts, layout.size)[..., real].to(weights.dtype)
    rows = members[..., real]
    rows = rows / rows.sum(1, keepdim=True).clamp(min=1)
    meant = torch.einsum("nix,nhij->nhxj", rows, weights)
    terms = torch.einsum("nhxj,njy,nhjd->nhxyd", meant, columns, value.to(weights.dtype))
    out = terms.new_zeros(*terms.shape[:2], layout.size, layout.size, terms.shape[-1])
    out[:, :, torch.tensor(real)[:, None], real] = terms
    return out
