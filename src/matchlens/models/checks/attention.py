"""What the check asks of attention: asked once a layer, the library's head by head, and cut."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.batching import EncodedBatch
from matchlens.models.attend import Call, Watch
from matchlens.models.checks.item import HALF, MAPS, OUTPUTS, Item, Worst
from matchlens.models.checks.passes import NOTHING, Removal, Trial, walk, weighing
from matchlens.models.family import Family
from matchlens.models.part_layout import PartLayout
from matchlens.models.shared_layer import Counts, SharedLayer
from matchlens.parts import NAMED, Part
from matchlens.plan import LayerCut

CARRIED = (Removal((Part.D,), (Part.Q,)), Removal((Part.Q,), (Part.D,)))
"""Directions that are cut in every layer; a causal model has one of them, and 0 comes of both."""


def calls(trial: Trial) -> Iterator[Item]:
    """The attention function is called once a layer."""
    layers, (_, count) = trial.family.n_layers, trial.entering
    text = f"the attention function was called {count} times in {layers} layers"
    yield Item("attention_calls", count, exactly=layers, problem=text)


Shown = dict[int, list[Tensor]]
"""Attention weights by layer, as often as they were shown."""


def _keep(shown: Shown, layer: int) -> Watch:
    """A watch that keeps a layer's weights."""
    return lambda weights, values: shown.setdefault(layer, []).append(weights.float().cpu())


def maps(trial: Trial) -> Iterator[Item]:
    """Each head's rows are the library's, head by head, where they are cut and where measured."""
    family, batch = trial.family, trial.both
    watched, measured = Shown(), Shown()
    walk(family, batch, watch=partial(_keep, watched))
    walk(family, batch, probe=lambda layer: weighing(_keep(measured, layer)))
    yield from _ahead(trial)
    last = family.n_layers - 1
    rows = [family.score_rows if layer == last else slice(None) for layer in range(last + 1)]
    yield _shapes(watched, family, batch, rows)
    yield _maps("maps", trial, watched, rows)
    yield _maps("maps_measured", trial, measured, [slice(None)] * (last + 1))


def _ahead(trial: Trial) -> Iterator[Item]:
    """Whether the library's tokens read later ones, as the config says."""
    maps = trial.library.maps
    if not maps:
        return
    real = trial.both.mask[:, None, :, None] & trial.both.mask[:, None, None, :]
    seen = max(float((weights * real).triu(1).max()) for weights in maps)
    both_sides = getattr(trial.family.module.config, "is_causal", None) is False
    if both_sides or not trial.family.band(0).causal:
        text = "no token reads a later one, and the model's tokens should read both sides"
        yield Item("ahead", seen, above=0, problem=f"{text} (is_causal in config.json)")
    else:
        text = f"tokens of a causal model read later ones (weights up to {seen:.2g})"
        yield Item("ahead", seen, exactly=0, problem=text)


def _shapes(shown: Shown, family: Family, batch: EncodedBatch, rows: Sequence[slice]) -> Item:
    pairs, tokens = batch.parts.shape
    wrong = []
    for layer, at in enumerate(rows):
        expected = (pairs, family.n_heads, len(range(*at.indices(tokens))), tokens)
        shapes = [tuple(weights.shape) for weights in shown.get(layer, ())]
        if shapes != [expected]:
            wrong.append(f"in layer {layer} {shapes} (expected {[expected]})")
    text = f"attention of pairs, heads, rows, columns was shown {wrong[0]}" if wrong else ""
    return Item("attention_shapes", len(wrong), exactly=0, problem=text)


def _maps(name: str, trial: Trial, shown: Shown, rows: Sequence[slice]) -> Item:
    """The largest difference to the library's maps, on rows of tokens, in all columns."""
    dtype = trial.reranker.dtype
    limit = MAPS[dtype]
    own = [map_.float().cpu() for map_ in trial.library.maps]
    if not own or sorted(shown) != list(range(len(own))):
        text = (
            f"the attention of {len(shown)} layers was seen, the library shows that of {len(own)}"
        )
        return Item(name, None, most=limit, problem=text)
    real, worst = trial.both.mask.cpu(), Worst(limit)
    for layer, expected in enumerate(own):
        weights, wanted = shown[layer][0], expected[:, :, rows[layer]]
        if weights.shape != wanted.shape:
            shapes = f"{tuple(weights.shape)}, the library's {tuple(wanted.shape)}"
            text = f"the attention of layer {layer} has pairs, heads, rows, columns {shapes}"
            return Item(name, None, most=limit, problem=text)
        at = real[:, rows[layer]]
        ours, library = (map_.transpose(1, 2)[at].transpose(0, 1) for map_ in (weights, wanted))
        differences = _apart(ours, library, dtype)
        head = int(differences.nan_to_num(torch.inf).argmax())
        if worst.grows(float(differences[head])):
            worst.problem = _told(layer, head, _apart(ours[head], library, dtype), limit)
            worst.problem += _padding(weights, trial.both, at, limit)
    return worst.item(name)


def _apart(
    ours: Float[Tensor, "... row column"], library: Float[Tensor, "head row column"], dtype: str
) -> Float[Tensor, " head"]:
    """How far two attentions are from each other, head by head."""
    # The largest difference of two weights; in half precision, where single rows go astray in deep
    # models, the share of a row's attention that lies elsewhere, mean over rows.
    difference = (ours - library).abs()
    return difference.sum(-1).mean(-1) / 2 if dtype in HALF else difference.amax((1, 2))


def _told(layer: int, head: int, apart: Float[Tensor, " head"], limit: float) -> str:
    """How one head's attention differs from the library's, and whether it is another head's."""
    nearest = int(apart.argmin())
    text = f"head {layer}.{head} attends otherwise than the library's by {float(apart[head]):.2g}"
    if nearest != head and float(apart[nearest]) <= limit:
        text += f": as the library's head {layer}.{nearest} does"
    return text


def _padding(weights: Tensor, batch: EncodedBatch, rows: Tensor, limit: float) -> str:
    """What goes to padding, where anything does."""
    gone = weights.transpose(1, 2) * ~batch.mask.cpu()[:, None, None, :]
    lost = float(gone[rows].sum(-1).max())
    return f", with {lost:.2g} of a row on padding" if lost > limit else ""


def outputs(trial: Trial) -> Iterator[Item]:
    """What attention writes loses what was cut, to the number, and nothing else.

    Every direction of :data:`CARRIED` is cut in each layer, each head in the middle one. The loss
    is written out by hand: the removed weights times the head's values, times its slice of W_O.
    """
    family, batch = trial.family, trial.alone[0]
    layout, states = PartLayout(batch.parts), family.embed(batch)
    middle, limit = family.n_layers // 2, OUTPUTS[trial.reranker.dtype]
    worst = {name: Worst(limit) for name in ("head_output", "direction_output")}
    for layer in range(family.n_layers):
        heads = [Removal(NAMED, None, layer, head) for head in range(family.n_heads)]
        tried = [*CARRIED, *(heads if layer == middle else ())]
        carried = weights_and_values(family, layer, states, layout)
        cuts = [cut.at(layer, family.n_heads, tuple(Part)) for cut in (NOTHING, *tried)]
        below = states.repeat(len(cuts), 1, 1)
        outputs, out = written(family, layer, below, Call(layout, cuts))
        if not carried or not outputs:
            what = "head's attention" if not carried else "output of attention"
            text = f"no {what} was seen in layer {layer}"
            yield from (Item(name, None, most=limit, problem=text) for name in worst)
            return
        states = out[: len(states)]
        weights, values = carried[0]
        out = outputs[0].double().unflatten(0, (len(cuts), -1))
        size = max(float(out[0].abs().max()), torch.finfo(torch.float32).tiny)
        each = _slices(family, layer, weights, values, batch, Removal(NAMED))
        for removal, after in zip(tried, out[1:], strict=True):
            is_head = removal.head is not None
            if is_head:
                expected = each[:, removal.head]
            else:
                expected = _slices(family, layer, weights, values, batch, removal).sum(1)
            lost = out[0] - after
            off = float((lost - expected).abs().max()) / size
            name = "head_output" if is_head else "direction_output"
            if worst[name].grows(off):
                worst[name].problem = _lost(removal, layer, lost, each, size, limit, off)
    yield from (largest.item(name, "of it ") for name, largest in worst.items())


def weights_and_values(
    family: Family, layer: int, states: Tensor, layout: PartLayout
) -> list[tuple[Tensor, Tensor]]:
    """Attention weights and values of a layer's heads without a cut, as often as they are shown."""
    shown: list[tuple[Tensor, Tensor]] = []
    probe = weighing(lambda weights, values: shown.append((weights, values)))
    uncut = LayerCut.of([], layer, family.n_heads, ())
    family.layer(layer, states, Call(layout, [uncut], probe=probe))
    return shown


def written(family: Family, layer: int, states: Tensor, call: Call) -> tuple[list[Tensor], Tensor]:
    """What a layer's attention writes, as often as it does, and the layer's outcome."""
    outputs: list[Tensor] = []

    def keep(module: object, args: object, out: Tensor) -> None:
        outputs.append(out)

    hook = family.output(layer).register_forward_hook(keep)
    try:
        return outputs, family.layer(layer, states, call)
    finally:
        hook.remove()


def _slices(
    family: Family,
    layer: int,
    weights: Float[Tensor, "pair head row column"],
    values: Float[Tensor, "pair head column width"],
    batch: EncodedBatch,
    removal: Removal,
) -> Float[Tensor, "pair head row model"]:
    """What each head would write of what a cut removes, through its own slice of W_O."""
    gone = weights.double() * removal.spread(batch)[:, None]
    context = torch.matmul(gone, values.double())
    return torch.matmul(context, family.output_weight(layer).double())


def _lost(
    removal: Removal,
    layer: int,
    lost: Float[Tensor, "pair row model"],
    each: Float[Tensor, "pair head row model"],
    size: float,
    limit: float,
    difference: float,
) -> str:
    """What went when something was cut, in words."""
    who = str(removal) if removal.head is None else f"head {layer}.{removal.head}"
    if float(lost.abs().max()) <= limit * size:
        return f"with {who} cut in layer {layer}, its attention writes what it wrote before"
    text = (
        f"with {who} cut in layer {layer}, what its attention writes changes otherwise than by "
        f"what was cut: off by {difference:.2g} of the largest number in it"
    )
    if removal.head is not None:
        apart = (lost[:, None] - each).abs().amax((0, 2, 3)) / size
        nearest = int(apart.argmin())
        if nearest != removal.head and float(apart[nearest]) <= limit:
            text += f", as if head {layer}.{nearest} had been cut"
    return text


CUTS = (
    Removal((Part.Q,), (Part.D,)),
    Removal((Part.D,), (Part.Q,)),
    Removal((Part.Q,), (Part.Q,), head=0),
    Removal((Part.CLS,)),
)


def apart(trial: Trial) -> Iterator[Item]:
    """What conditions share, computed once, is what the library's own layer makes of each."""
    family, batch = trial.family, trial.both
    if not family.splittable:
        return
    layout, last = PartLayout(batch.parts), family.n_layers - 1
    worst = Worst(OUTPUTS[trial.reranker.dtype])
    for layer, (states, uncut) in enumerate(itertools.pairwise(trial.entering[0])):
        parts = family.score_parts if layer == last else tuple(Part)
        cuts = [removal.at(layer, family.n_heads, parts) for removal in (NOTHING, *CUTS)]
        slots = [0] * len(cuts)
        rows = family.score_rows if layer == last else None
        below = states.repeat(len(CUTS), 1, 1)
        own = torch.cat([uncut, family.layer(layer, below, Call(layout, cuts[1:], rows))])
        real = (layout.row_parts(rows).repeat(len(cuts), 1) < len(Part))[..., None]
        shared = SharedLayer(family, layer, states, layout, Counts())
        if layer == last:
            outcomes = {"the score's row alone": shared.score(slots, cuts)}
        else:
            rows_all = shared.whole(slots, cuts)
            base = rows_all[: len(states)]
            rows_cut = torch.cat([base, shared.rows(slots[1:], cuts[1:], [base] * len(cuts[1:]))])
            outcomes = {"all rows": rows_all, "the rows that are cut": rows_cut}
        size = max(1.0, float((own * real).abs().max()))
        for which, outcome in outcomes.items():
            difference = float(((outcome - own) * real).abs().max()) / size
            if worst.grows(difference):
                text = f"in layer {layer}, {which} computed apart differ from the layer's by"
                worst.problem = f"{text} {difference:.2g}"
    yield worst.item("apart", "of it ")
