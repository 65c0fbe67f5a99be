"""Passes with gates on the attention: scores, and derivatives of scores by the gates.

A gate at 0 is a ``zero`` cut, a gate at 1 leaves the model untouched. The derivative by the gate of
a token pair is its weight times the score's derivative by the gated weight, so that one backward
pass gives it for all token pairs at once and no array of gates need exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.batching import EncodedBatch, collate, split
from matchlens.corpora.pair import Pair
from matchlens.engine import (
    batches_of,
    collated,
    encode_all,
    free_memory,
    full_precision,
    out_of_memory,
)
from matchlens.errors import InputError
from matchlens.models.attend import Call, Gate, Watch
from matchlens.models.check import CheckError
from matchlens.models.checks.attention import weights_and_values, written
from matchlens.models.checks.item import HALF, OUTPUTS, Item, Worst, within
from matchlens.models.checks.passes import PAIRS, look_on
from matchlens.models.load import Reranker
from matchlens.models.part_layout import PartLayout
from matchlens.parts import PADDING, OwnPart, Part
from matchlens.plan import Condition, LayerCut, own_parts
from matchlens.signals import check_cancelled

PARTS = int(PADDING)
"""Parts that rows and columns of a table of gates stand for."""
POINT_TOKENS, SLOPE_TOKENS = 2048, 8192
"""Places of a batch that holds one pair at several gates, and most of one whose layers are all kept
for the backward pass."""

GateOf = Callable[[int], Gate]
"""The gates of a layer, by its number."""


def spread(
    tables: Float[Tensor, "condition head row_part column_part"], grid: PartLayout
) -> Float[Tensor, "batch head row column"]:
    """Gates by condition, head and direction, spread over a batch's token pairs; 1 on padding."""
    padded = torch.nn.functional.pad(tables, (0, 1, 0, 1), value=1.0)
    parts = grid.parts if grid.base is None else grid.base
    edges = parts[:, :, None] * (PARTS + 1) + parts[:, None, :]
    return padded.flatten(2)[:, :, edges].transpose(1, 2).flatten(0, 1)


def by_parts(
    slopes: Float[Tensor, "batch head row column"], grid: PartLayout, rows: slice | None
) -> Float[Tensor, "batch head row_part column_part"]:
    """Derivatives by the gates of token pairs, summed to those by head and direction.

    Own parts stand behind the six others, which lack their tokens: see :func:`united`.
    """
    conditions = len(slopes) // len(grid.parts)
    labels = [label for label in range(grid.size) if label != PADDING]
    left, right = (
        torch.nn.functional.one_hot(parts, grid.size)[..., labels]
        .to(slopes.dtype)
        .repeat(conditions, 1, 1)[:, None]
        for parts in (grid.row_parts(rows), grid.parts)
    )
    return left.mT @ (slopes @ right)


def united(
    slopes: Float[np.ndarray, "... row_part column_part"], own: Sequence[OwnPart]
) -> Float[np.ndarray, "... row_part column_part"]:
    """Derivatives by direction in which Q and D have the tokens of their own parts again.

    >>> from matchlens.parts import Part
    >>> united(np.eye(7), [OwnPart("TITLE", Part.D)])[3:7:3, 3:7:3].tolist()
    [[2.0, 1.0], [1.0, 1.0]]
    """
    members = np.eye(PARTS + len(own))
    for at, part in enumerate(own, start=PARTS):
        members[at, int(part.of or 0)] = 1
    return (members.T @ slopes @ members).astype(slopes.dtype) if own else slopes


@contextmanager
def differentiable(model: Reranker) -> Iterator[None]:
    """Record operations for a backward pass to the gates, and to no weight of the model."""
    weights = list(model.family.module.parameters())
    if any(weight.is_inference() for weight in weights):
        raise InputError(
            f"model {model.name!r} was loaded under torch.inference_mode(), whose tensors have no "
            "derivatives; expected a model that was loaded outside of it"
        )
    trained = [weight for weight in weights if weight.requires_grad]
    try:
        for weight in trained:
            weight.requires_grad_(False)
        plain = full_precision(model.device)
        with torch.inference_mode(False), torch.enable_grad(), plain:
            yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)


def walk_gated(
    model: Reranker,
    grid: PartLayout,
    states: Float[Tensor, "pair token width"],
    conditions: int,
    gate: GateOf | None,
    cuts: Condition = (),
    watch: Watch | None = None,
) -> Float[Tensor, "condition pair"]:
    """Scores under gates, through the library's own layers.

    The batch stands side by side as often as there are ``conditions``, each with its own gates;
    ``cuts`` by ``zero``, ``mask`` or ``sink`` are made before the gates, and are not yet made in
    what ``watch`` sees.
    """
    family = model.family
    states = states.repeat(conditions, 1, 1)
    for layer in range(family.n_layers):
        check_cancelled()
        short = layer == family.n_layers - 1 and watch is None  # who watches sees all rows
        rows = family.score_rows if short else None
        cut = LayerCut.of(cuts, layer, family.n_heads, tuple(Part), grid.own)
        at_layer = None if gate is None else gate(layer)
        call = Call(grid, [cut] * conditions, rows, gate=at_layer, watch=watch)
        states = family.layer(layer, states, call)
    states = states if watch is None else states[:, family.score_rows]
    logits = family.score(states, grid.row_parts(family.score_rows).repeat(conditions, 1))
    return (-logits if model.negate else logits).unflatten(0, (conditions, -1))


def scores_under(
    model: Reranker, pairs: Sequence[Pair], tables: Tensor, batch_tokens: int | None = None
) -> Float[np.ndarray, " pair"]:
    """Scores under gates, ``tables`` by layer, head and direction, for all pairs alike."""
    out = np.zeros(len(pairs), dtype=model.score_dtype)
    budget = batch_tokens or model.batch_tokens
    model.check_unchanged()
    with torch.inference_mode(), full_precision(model.device):
        for chunk, encoded in encode_all(model, pairs):
            for batch in batches_of(model, encoded, budget):
                grid = PartLayout(batch.parts)

                def gate(layer: int, grid: PartLayout = grid) -> Gate:
                    return Gate(spread(tables[layer][None], grid))

                scores = walk_gated(model, grid, model.family.embed(batch), 1, gate)
                out[batch.pairs + chunk.start] = scores[0].cpu().numpy()
    return out


def stream_slopes(
    model: Reranker,
    pairs: Sequence[Pair],
    keep: Callable[[np.ndarray, np.ndarray], None],
    tables: Tensor | None = None,
    batch_tokens: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    cuts: Condition = (),
    own: Sequence[OwnPart] = (),
) -> Float[np.ndarray, " pair"]:
    """The scores of pairs; ``keep`` takes their places and derivatives batch by batch.

    Derivatives by own parts stand behind the six others, which lack their tokens. Where ``tables``
    is None, all gates are 1.
    """
    out = np.zeros(len(pairs), model.score_dtype)
    model.check_unchanged()
    done = 0
    with differentiable(model):
        budget = batch_tokens or min(model.batch_tokens, SLOPE_TOKENS)
        differentiated = partial(_differentiated, model, tables=tables, cuts=cuts, own=own)
        for rows, scores, slopes in _in_smaller_batches(model, pairs, differentiated, budget):
            check_finite(model, scores, [pairs[row] for row in rows.tolist()])
            out[rows] = scores
            keep(rows, slopes)
            done += len(rows)
            if progress is not None:
                progress(done, len(pairs))
    return out


def _in_smaller_batches(
    model: Reranker,
    pairs: Sequence[Pair],
    differentiated: Callable[[EncodedBatch], tuple[np.ndarray, np.ndarray]],
    budget: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Places of pairs, their scores and derivatives; a batch that memory is short for is halved."""
    for chunk, encoded in encode_all(model, pairs):
        waiting = split(encoded.lengths, budget, model.batch_overhead)[::-1]
        while waiting:
            rows = waiting.pop()
            batch = collate(encoded, rows, pad_id=model.pad_id, device=model.device)
            try:
                outcome = differentiated(batch)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                outcome = None  # what the error's frames hold is freed only after this block
            if outcome is None:
                free_memory()
                if len(rows) == 1:
                    raise InputError(
                        f"out of memory with one pair of {batch.tokens} tokens, whose layers are "
                        "all kept for the way back; give a smaller max_length (--max-length) or "
                        "another device (--device)"
                    )
                waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                continue
            yield rows + chunk.start, *outcome


def _differentiated(
    model: Reranker,
    batch: EncodedBatch,
    tables: Tensor | None,
    cuts: Condition,
    own: Sequence[OwnPart],
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of a batch, and their derivatives by the gates."""
    family, grid = model.family, PartLayout.of(batch, own)
    last = family.n_layers - 1
    ones = torch.ones((1, 1, 1, 1), device=model.device)
    by_layer: list[np.ndarray] = [np.empty(0)] * family.n_layers

    def gate(layer: int) -> Gate:
        at = family.score_rows if layer == last else None

        def collect(slopes: Tensor) -> None:
            by_layer[layer] = by_parts(slopes, grid, at).double().cpu().numpy()

        return Gate(ones if tables is None else spread(tables[layer][None], grid), collect)

    scores = walk_gated(model, grid, family.embed(batch), 1, gate, cuts)
    scores.sum().backward()
    return scores[0].detach().cpu().numpy(), np.stack(by_layer, axis=1)


def check_finite(model: Reranker, scores: np.ndarray, pairs: Sequence[Pair]) -> None:
    """Refuse scores that are not finite."""
    if not np.isfinite(scores).all():
        pair = pairs[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise InputError(
            f"the score of query {pair.qid!r} and passage {pair.docid!r} by model {model.name!r} "
            f"is not finite in {model.dtype}; expected a number: load it with dtype='float32' "
            "(--dtype float32); weights that hold NaN in it are damaged: download them again"
        )


def as_tables(model: Reranker, gates: np.ndarray) -> Tensor:
    """Gates by layer, head and direction, as the model takes them."""
    kind = torch.float64 if model.dtype == "float64" else torch.float32
    return torch.as_tensor(gates, dtype=kind, device=model.device)


@dataclass(frozen=True)
class Integral:
    """What attention between words adds to a score, and that score with and without it: logits."""

    score: float
    without: float
    contributions: Float[np.ndarray, "layer head row_word column_word"]

    @property
    def missed(self) -> float:
        """The score, less the score without attention, less all contributions, logits."""
        total = float(self.contributions.sum(dtype=np.float64))
        return self.score - self.without - total


def integrate(
    model: Reranker, pair: Pair, words: np.ndarray, points: int, cuts: Condition = ()
) -> Integral:
    """Share a score out over who reads whom: the integral over all gates from 0 to 1.

    The contribution of a token pair is the integral over t of the score's derivative by its gate
    where all gates are t, by the midpoint rule of ``points``; attention is computed anew at each t.
    Tokens of one of the ``words`` are summed; what is shared out is the score that ``cuts`` leave.

    Source: science 9; Sundararajan et al. 2017 (integrated gradients).
    """
    check_gates(model)
    family = model.family
    batch = collated(model, [pair])
    grid, last = PartLayout.of(batch, own_parts({"": cuts})), family.n_layers - 1
    one_hot = _one_hot(model, batch, words)
    kind, count = one_hot.dtype, one_hot.shape[1]
    shape = (family.n_layers, family.n_heads, count, count)
    sums = torch.zeros(shape, dtype=kind, device=model.device)

    def gate_at(values: Tensor, collects: bool) -> GateOf:
        def gate(layer: int) -> Gate:
            rows = one_hot[family.score_rows] if layer == last else one_hot

            def collect(slopes: Tensor) -> None:
                sums[layer] += rows.mT @ (slopes.sum(0).to(kind) @ one_hot)

            return Gate(values, collect if collects else None)

        return gate

    model.check_unchanged()
    with torch.inference_mode(), full_precision(model.device):
        ends = torch.tensor([1.0, 0.0], dtype=kind, device=model.device)[:, None, None, None]
        both = walk_gated(model, grid, family.embed(batch), 2, gate_at(ends, False), cuts)
        both = both[:, 0].double().cpu().numpy()
    check_finite(model, both, [pair, pair])
    middles = (torch.arange(points, dtype=kind, device=model.device) + 0.5) / points
    budget = min(max(model.batch_tokens, POINT_TOKENS), SLOPE_TOKENS)
    together = max(1, budget // batch.tokens)
    with differentiable(model):
        states = family.embed(batch)
        for some in middles.split(together):
            gates = gate_at(some[:, None, None, None], True)
            walk_gated(model, grid, states, len(some), gates, cuts).sum().backward()
    shared = (sums / points).cpu().numpy()
    return Integral(float(both[0]), float(both[1]), shared)


def word_attention(
    model: Reranker, pair: Pair, words: np.ndarray, cuts: Condition = ()
) -> Float[np.ndarray, "layer head row_word column_word"]:
    """Attention between words: mean over the row word's tokens of the sum over the column word's.

    What ``zero`` removes is still there, and so is what rows of the last layer read that the score
    does not read.
    """
    family = model.family
    batch = collated(model, [pair])
    grid = PartLayout.of(batch, own_parts({"": cuts}))
    one_hot = _one_hot(model, batch, words)
    mean = one_hot / one_hot.sum(0)
    out: list[np.ndarray] = []

    def watch(weights: Tensor, values: Tensor) -> None:
        out.append((mean.mT @ (weights[0].to(mean.dtype) @ one_hot)).cpu().numpy())

    model.check_unchanged()
    with torch.inference_mode(), full_precision(model.device):
        walk_gated(model, grid, family.embed(batch), 1, None, cuts, watch)
    return np.stack(out)


def _one_hot(
    model: Reranker, batch: EncodedBatch, words: np.ndarray
) -> Float[Tensor, "token word"]:
    """Which word each token of a batch of one pair belongs to; none for padding."""
    kind = torch.float64 if model.dtype == "float64" else torch.float32
    shape = (batch.parts.shape[1], int(words.max()) + 1)
    one_hot = torch.zeros(shape, dtype=kind, device=model.device)
    one_hot[batch.mask[0].nonzero()[:, 0], torch.as_tensor(words, device=model.device)] = 1
    return one_hot


STEPS, NEAR = (0.01, 0.001), 0.02
"""Steps of the differences that derivatives are held against, and how far these may lie apart,
relative above 1. Where scores bend, differences need the smaller step; where they are rounded, the
larger one: a wrong derivative agrees with neither."""


def check_gates(model: Reranker) -> None:
    """Cause a change by gates in two built-in pairs and see that it is theirs, once a model."""
    if "gates" in model.checks:
        return
    draw = np.random.default_rng(0)
    shape = (model.family.n_layers, model.family.n_heads, PARTS, PARTS)
    tables = as_tables(model, draw.uniform(size=shape))
    items = [_written_by_hand(model, tables)]
    if items[0].ok:
        items += _differences(model, tables)
    model.checks = {**model.checks, **{item.name: item.record() for item in items}}
    if problems := [item.problem for item in items if not item.ok]:
        raise CheckError(
            f"model {model.name!r} fails the check of gates: {'; '.join(problems)}; what is "
            "screened or explained could not be trusted, so it is refused; its cuts do not depend "
            "on gates",
            model.checks,
        )


def _written_by_hand(model: Reranker, tables: Tensor) -> Item:
    """What a layer's attention writes loses what the gates take away, written out by hand."""
    family, batch = model.family, collated(model, PAIRS)
    grid, uncut = PartLayout(batch.parts), LayerCut.of([], 0, model.family.n_heads, ())
    worst, real = Worst(OUTPUTS[model.dtype]), batch.mask[..., None]
    with torch.inference_mode(), full_precision(model.device):
        states = family.embed(batch)
        for layer in range(family.n_layers):
            ((weights, values),) = weights_and_values(family, layer, states, grid)
            gates = spread(tables[layer][None], grid)
            context = (weights.double() * (1 - gates.double())) @ values.double()
            expected = (context @ family.output_weight(layer).double()).sum(1)
            gated, _ = written(family, layer, states, Call(grid, [uncut], gate=Gate(gates)))
            plain, states = written(family, layer, states, Call(grid, [uncut], watch=look_on))
            before, after = (
                outputs[0].double().reshape(expected.shape) * real for outputs in (plain, gated)
            )
            size = max(float(before.abs().max()), torch.finfo(torch.float32).tiny)
            off = float((before - after - expected * real).abs().max()) / size
            if worst.grows(off):
                worst.problem = (
                    f"with gates in layer {layer}, what its attention writes changes otherwise "
                    f"than by what they take away: off by {off:.2g} of the largest number in it"
                )
    return worst.item("gates", "of it ")


def _differences(model: Reranker, tables: Tensor) -> Iterator[Item]:
    """The derivatives along some gates are the differences of the scores; not in half precision."""
    if model.dtype in HALF:
        yield Item("slopes", None)
        return
    ones = torch.ones_like(tables)
    slopes = np.zeros((len(PAIRS), *tables.shape))
    stream_slopes(model, PAIRS, slopes.__setitem__, None, 10**6)
    along = (slopes * tables.double().cpu().numpy()).sum((1, 2, 3, 4))
    off = np.inf
    for step in STEPS:
        gates = (ones + step * tables, ones - step * tables)
        above, below = (scores_under(model, PAIRS, each).astype(np.float64) for each in gates)
        expected = (above - below) / (2 * step)
        off = min(off, float((np.abs(along - expected) / np.maximum(1, np.abs(expected))).max()))
        if off <= NEAR:
            break
    text = f"derivatives by the gates differ from the scores' differences by {off:.2g} of them"
    yield within("slopes", off, NEAR, text)
