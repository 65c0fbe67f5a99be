"""The one loop that runs batches of pairs through a plan of cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from matchlens.corpora.pairs import Pair
from matchlens.directions import How, hows_but
from matchlens.errors import InputError
from matchlens.meters.meter import Meter
from matchlens.meters.scores import Scores
from matchlens.models.layer_mask import LayerMask
from matchlens.models.load import Reranker
from matchlens.models.packed import refresh
from matchlens.models.part_layout import PartLayout
from matchlens.models.random_edges import TAKEN, RandomEdges
from matchlens.models.replacements import ReplacementMeans, Replacements
from matchlens.models.shared_layer import Counts
from matchlens.parts import PADDING, Part
from matchlens.plan import Condition, Plan
from matchlens.standins import (
    CHUNK_PAIRS,
    collated,
    in_batches,
    other_pairs,
    term_means,
    watch_terms,
)
from matchlens.walk import Walk

Progress = Callable[[int, int], None]
"""Called with pairs done and pairs in all."""


@dataclass(frozen=True)
class Run:
    """What a run yields.

    Args:
        scores: relevance logits by condition and pair.
        tokens: tokens of each pair after the length limit.
        truncated: whether the pair was longer than the limit.
        plan: the plan that was run.
        batches: pairs of each batch, in the order in which they ran.
        batch_tokens: the budget that set the batches' boundaries.
        reach: whether, in a layer, a token of the row part may read one of the column part in some
            pair.
        causal: whether some layer lets tokens read only what stands before them.
        device: kind of the device that ran it; several, joined by ``+``, where workers had others.
        taken: what each control of the plan took in all layers and heads, as
            :data:`matchlens.models.random_edges.TAKEN` names it.
        counts: token rows that were computed.
    """

    scores: Scores
    tokens: Int[np.ndarray, " pair"]
    truncated: Bool[np.ndarray, " pair"]
    plan: Plan
    batches: tuple[int, ...]
    batch_tokens: int
    reach: Bool[np.ndarray, "layer row_part column_part"]
    causal: bool
    device: str
    taken: Float[np.ndarray, "control pair amount"]
    counts: Counts = field(default_factory=Counts)

    def only(self, conditions: Mapping[str, Condition], model: Reranker) -> Run:
        """What a run of some of the conditions would have yielded.

        Args:
            conditions: those that are kept.
            model: the model that was run.

        Raises:
            ValueError: if one was not run.
        """
        if lacking := [name for name in conditions if name not in self.scores.conditions]:
            raise ValueError(f"the shared run has no condition {lacking[0]!r}")
        family = model.family
        plan = Plan.build(conditions, family.n_layers, family.n_heads, family.score_parts)
        values = np.stack([self.scores.of(name) for name in conditions])
        taken = self.taken[[self.plan.controls.index(name) for name in plan.controls]]
        return replace(self, scores=Scores(tuple(conditions), values), plan=plan, taken=taken)


def run(
    model: Reranker,
    pairs: Sequence[Pair],
    conditions: Mapping[str, Condition],
    *,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    meters: Sequence[Meter] = (),
) -> Run:
    """Score pairs under every condition; conditions share the layers in which they agree.

    Args:
        model: a loaded reranker.
        pairs: queries with passages; results keep their order. They are also what ``mean`` takes
            its means over and ``resample`` its other pairs from.
        conditions: name to the cuts that hold together under it, or to one control; no cuts: the
            untouched model.
        seed: of the choice of the other pair (``resample``) and of the draws of controls.
        batch_tokens: most places of one layer call (pairs times padded length times conditions
            side by side); the model's default where None. Changes speed and memory only.
        progress: called as pairs are done.
        meters: watch the untouched model, which must be among the conditions.

    Raises:
        InputError: if a cut does not fit the model, a pair cannot be encoded, or a score is not
            finite.
        ValueError: if there are meters and no untouched model to watch.
    """
    budget = checked_budget(model, batch_tokens)
    plan = planned(model, pairs, conditions)
    others = None
    if plan.uses(How.RESAMPLE):
        others = [pairs[number] for number in other_pairs(pairs, seed).tolist()]
    means = term_means(model, pairs, plan, budget) if plan.uses(How.MEAN) else None
    return run_part(
        model,
        pairs,
        plan,
        seed=seed,
        budget=budget,
        means=means,
        others=others,
        progress=progress,
        meters=meters,
    )


def checked_budget(model: Reranker, batch_tokens: int | None) -> int:
    """Most places of one layer call; the model's default where None.

    Raises:
        InputError: if it is below 1.
    """
    budget = model.batch_tokens if batch_tokens is None else batch_tokens
    if budget < 1:
        raise InputError(f"batch_tokens is {budget}; expected at least 1 token, for example 4096")
    return budget


def planned(model: Reranker, pairs: Sequence[Pair], conditions: Mapping[str, Condition]) -> Plan:
    """The conditions as a plan that the model and the pairs allow.

    Raises:
        InputError: if a cut does not fit the model, or its input.
    """
    family = model.family
    plan = Plan.build(conditions, family.n_layers, family.n_heads, family.score_parts)
    if plan.uses(How.SINK) and pairs:
        _check_sink(model, pairs, plan, _bands(model))
    return plan


def run_part(
    model: Reranker,
    pairs: Sequence[Pair],
    plan: Plan,
    *,
    seed: int,
    budget: int,
    numbers: Int[np.ndarray, " pair"] | None = None,
    means: ReplacementMeans | None = None,
    others: Sequence[Pair] | None = None,
    progress: Progress | None = None,
    meters: Sequence[Meter] = (),
) -> Run:
    """Run some of the pairs of a run, with what the others give to them.

    Args:
        model: a loaded reranker.
        pairs: the pairs.
        plan: what :func:`planned` made.
        seed: of the draws of controls.
        budget: most places of one layer call.
        numbers: the pairs' places in the whole run, by which meters and errors know them; 0, 1, ...
            where None.
        means: what ``mean`` puts in, over the whole run (:func:`term_means`).
        others: for each pair the other one that ``resample`` takes (:func:`other_pairs`).
        progress: called as pairs are done.
        meters: watch the untouched model.

    Raises:
        InputError: if a pair cannot be encoded, or a score is not finite.
        ValueError: if there are meters and no untouched model to watch.
    """
    family = model.family
    if meters and plan.untouched is None:
        raise ValueError("meters watch the untouched model; expected a condition without cuts")
    places = np.arange(len(pairs)) if numbers is None else numbers
    bands = _bands(model)
    reached = {band: np.zeros((PADDING, PADDING), dtype=bool) for band in bands}
    scores = Scores.empty(plan.conditions, len(pairs), model.score_dtype)
    tokens = np.zeros(len(pairs), dtype=np.int64)
    truncated = np.zeros(len(pairs), dtype=bool)
    taken = np.zeros((len(plan.controls), len(pairs), len(TAKEN)))
    sizes: list[int] = []
    counts = Counts()
    refresh(model.family.module)
    for start, encoded, batch in in_batches(model, pairs, budget):
        rows: np.ndarray = batch.pairs + start
        tokens[rows] = encoded.lengths[batch.pairs]
        truncated[rows] = encoded.truncated[batch.pairs]
        grid = PartLayout(batch.parts)
        for band in reached:
            reached[band] |= grid.reach(band)
        terms = Replacements(means)
        if others is not None:
            theirs = [others[row] for row in rows.tolist()]
            watch_terms(model, collated(model, theirs), plan, others=terms.others)
        walk = Walk(
            model,
            plan,
            grid,
            terms,
            max(1, budget // batch.tokens),
            partial(scores.observe, rows, named=[_called(pairs[row]) for row in rows.tolist()]),
            partial(
                RandomEdges.of,
                pairs=[pairs[row] for row in rows.tolist()],
                lengths=tokens[rows],
                firsts=batch.firsts,
                seed=seed,
                device=model.device,
            ),
            partial(_took, taken, rows, {name: at for at, name in enumerate(plan.controls)}),
            meters,
            counts,
        )
        for meter in meters:
            meter.begin(family, batch, places[rows])
        with torch.inference_mode(), _without_cudnn():
            walk.descend(0, [0], family.embed(batch).unsqueeze(0))
        for meter in meters:
            meter.end()
        sizes.append(len(batch.pairs))
        if progress is not None:
            progress(sum(sizes), len(pairs))
    reach = np.stack([reached[band] for band in bands])
    causal = any(band.causal for band in bands)
    device = model.device.type
    return Run(
        scores,
        tokens,
        truncated,
        plan,
        tuple(sizes),
        budget,
        reach,
        causal,
        device,
        taken,
        counts,
    )


@contextmanager
def _without_cudnn() -> Iterator[None]:
    """Keep cuDNN's attention off meanwhile: it plans every new shape of a batch anew.

    The switch is the process's, and the process may be somebody else's: it is put back.
    """
    cuda = torch.backends.cuda
    before = cuda.cudnn_sdp_enabled()
    cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(before)


def _took(
    taken: np.ndarray,
    rows: np.ndarray,
    places: Mapping[str, int],
    conditions: Sequence[Sequence[str]],
    amounts: torch.Tensor,
) -> None:
    """Add what the controls of a layer's nodes took to what they took in the layers below."""
    by_node = amounts.double().cpu().numpy().reshape(len(conditions), len(rows), -1)
    for names, found in zip(conditions, by_node, strict=True):
        for name in names:
            taken[places[name], rows] += found


def _called(pair: Pair) -> str:
    return f"query {pair.qid!r} and passage {pair.docid!r}"


def _bands(model: Reranker) -> list[LayerMask]:
    return [model.family.band(layer) for layer in range(model.family.n_layers)]


def _check_sink(
    model: Reranker, pairs: Sequence[Pair], plan: Plan, bands: Sequence[LayerMask]
) -> None:
    """The removed mass must have a place to go to, in every row.

    Raises:
        InputError: if it has none.
    """
    others = f"expected another how: {hows_but(How.SINK)}"
    if not (model.encode(pairs[:1]).parts[0] == Part.SEP2).any():
        raise InputError(
            f"'sink' moves the removed mass to SEP2, and the input of model {model.name!r} has no "
            f"SEP2 (it is a prompt); {others}"
        )
    for layer, band in enumerate(bands):
        if plan.uses(How.SINK, layer) and not band.everything:
            all_read = ",".join(str(at) for at, one in enumerate(bands) if one.everything)
            raise InputError(
                f"'sink' moves the removed mass to SEP2, and in layer {layer} of model "
                f"{model.name!r} not every token may read SEP2; {others}"
                + (f"; or a cut in other layers: '@{all_read}'" if all_read else "")
            )


def lengths(
    model: Reranker, pairs: Sequence[Pair]
) -> tuple[Int[np.ndarray, " pair"], Bool[np.ndarray, " pair"]]:
    """Tokens of each pair after the length limit, and whether it was longer; nothing is run.

    Raises:
        InputError: if a pair cannot be encoded.
    """
    tokens = np.zeros(len(pairs), dtype=np.int64)
    truncated = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), CHUNK_PAIRS):
        here = slice(start, start + CHUNK_PAIRS)
        encoded = model.encode(pairs[here])
        tokens[here], truncated[here] = encoded.lengths, encoded.truncated
    return tokens, truncated
