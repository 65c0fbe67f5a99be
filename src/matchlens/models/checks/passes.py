"""The passes that the check looks at: the library's own, watched from outside, and ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from matchlens.batching import EncodedBatch, collate
from matchlens.corpora.pair import Pair
from matchlens.directions import Cut, Direction, How
from matchlens.errors import InputError
from matchlens.models.attend import Call, Counter, Watch
from matchlens.models.attention_probe import AttentionProbe
from matchlens.models.family import Family
from matchlens.models.packed import as_the_library
from matchlens.models.part_layout import PartLayout
from matchlens.parts import Part
from matchlens.plan import HOWS, LayerCut

_LATE = "A tax return is due in spring, and a late one is fined."
PAIRS = (  # both begin with one word: a convolution may let CLS read it beside the attention
    Pair("check", "a", "how long do tortoises live", "Many tortoises live for over a century.", 1),
    Pair("check", "b", "how hot is boiling water", _LATE, 0),
)


@dataclass(frozen=True)
class Removal:
    """Parts whose rows no longer read some parts' columns; unlike a cut's text, also ``OTHER``."""

    rows: tuple[Part, ...] = ()
    columns: tuple[Part, ...] | None = None
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        sides = [self.rows, ("All",) if self.columns is None else self.columns]
        left, right = (",".join(map(str, side)) for side in sides)
        return f"{{{left}}}->{right}" if len(self.rows) > 1 else f"{left}->{right}"

    def at(self, layer: int, heads: int, rows: Collection[Part]) -> LayerCut:
        """What it removes in a layer, as the plan says it."""
        named = tuple(part for part in self.rows if part is not Part.OTHER)
        cuts = []
        if named and self.layer in (None, layer):
            at = None if self.head is None else ((layer, self.head),)
            layers = None if self.layer is None or at else (self.layer,)
            cuts.append(Cut((Direction(named, self.columns),), layers, at))
        cut = LayerCut.of(cuts, layer, heads, rows)
        if Part.OTHER not in self.rows or Part.OTHER not in rows or self.layer not in (None, layer):
            return cut
        table = cut.table.copy()
        which = slice(None) if self.head is None else self.head
        columns = tuple(Part) if self.columns is None else self.columns
        table[which, Part.OTHER, list(columns)] = HOWS.index(How.ZERO) + 1
        return LayerCut(table.tobytes(), heads)

    def spread(self, batch: EncodedBatch) -> Bool[Tensor, "pair row column"]:
        """The token pairs, straight from the parts."""
        sides = (self.rows, tuple(Part) if self.columns is None else self.columns)
        rows, columns = (
            torch.isin(batch.parts, torch.tensor([*side], device=batch.parts.device).long())
            for side in sides
        )
        return rows[:, :, None] & columns[:, None, :]


NOTHING = Removal()
"""Nothing is cut."""


@dataclass(frozen=True)
class Library:
    """What the library's own pass yields; ``logits`` is None where its model did not run.

    ``maps`` are the attention by layer, ``calls`` counts calls of matchlens's attention function.
    """

    scores: Float[Tensor, " pair"]
    logits: Tensor | None
    maps: tuple[Tensor, ...]
    calls: int


def library(family: Family, batch: EncodedBatch) -> Library:
    """Run ``family.library_score``, and see from outside what the library's model returns."""
    outputs: list[Any] = []

    def ask(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "output_attentions": True}

    hooks = [
        family.module.register_forward_pre_hook(ask, with_kwargs=True),
        family.module.register_forward_hook(lambda module, args, out: outputs.append(out)),
    ]
    before = Counter.calls
    try:
        with as_the_library():
            scores = family.library_score(batch)
    except Exception as error:
        if outputs or isinstance(error, InputError):  # the library's model ran: the fault is ours
            raise
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise InputError(
            f"transformers cannot run this model on a short text ({type(error).__name__}: "
            f"{reason:.150}); its config.json asks for what its weights or the library do not "
            "allow: correct config.json"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    out = outputs[-1] if outputs else None
    maps = () if out is None else family.library_maps(out)
    kept = tuple(weights for weights in maps if weights is not None)
    return Library(scores, getattr(out, "logits", None), kept, Counter.calls - before)


def step(
    family: Family,
    layer: int,
    states: Float[Tensor, "pair token width"],
    layout: PartLayout,
    removal: Removal = NOTHING,
    *,
    watch: Watch | None = None,
    probe: AttentionProbe | None = None,
    all_rows: bool = False,
) -> Float[Tensor, "pair row width"]:
    """One layer: of the last one the score's rows, unless ``all_rows`` are wanted."""
    short = layer == family.n_layers - 1 and not all_rows
    cut = removal.at(layer, family.n_heads, family.score_parts if short else tuple(Part))
    rows = family.score_rows if short else None
    return family.layer(layer, states, Call(layout, [cut], rows, watch=watch, probe=probe))


def walk(
    family: Family,
    batch: EncodedBatch,
    removal: Removal = NOTHING,
    *,
    watch: Callable[[int], Watch] | None = None,
    probe: Callable[[int], AttentionProbe] | None = None,
    all_rows: bool = False,
) -> Float[Tensor, "pair row width"]:
    """Our way through the layers: the last one's outcome in the score's rows, or in all."""
    layout, states = PartLayout(batch.parts), family.embed(batch)
    for layer in range(family.n_layers):
        looks = None if watch is None else watch(layer)
        measures = None if probe is None else probe(layer)
        states = step(
            family, layer, states, layout, removal, watch=looks, probe=measures, all_rows=all_rows
        )
    return states


def score(
    family: Family, batch: EncodedBatch, states: Float[Tensor, "pair row width"]
) -> Float[Tensor, " pair"]:
    """Relevance logits of the last layer's outcome."""
    return family.score(states, PartLayout(batch.parts).row_parts(family.score_rows))


def scored(
    family: Family, batch: EncodedBatch, removal: Removal = NOTHING
) -> Float[Tensor, " pair"]:
    """Our relevance logits under a cut."""
    return score(family, batch, walk(family, batch, removal))


def look_on(weights: Tensor, values: Tensor) -> None:
    """A watch that does nothing: a watched layer forms its weights, as one that is cut does."""


def weighing(take: Callable[[Tensor, Tensor], None]) -> AttentionProbe:
    """A probe that hands on the weights [pair, head, row, column] and values: a column a token."""
    values: list[Tensor] = []

    def columns(value: Tensor) -> Tensor:
        values.append(value)
        tokens = value.shape[2]
        identity = torch.eye(tokens, dtype=value.dtype, device=value.device)
        return identity.expand(*value.shape[:2], tokens, tokens)

    return AttentionProbe(columns, lambda sums: take(sums, values[-1]))


@dataclass
class Trial:
    """A loaded model on the built-in pairs; what several questions need is run once."""

    reranker: Any
    both: EncodedBatch
    turned: EncodedBatch
    alone: tuple[EncodedBatch, ...]

    @classmethod
    def of(cls, reranker: Any) -> Trial:
        """Encode the built-in pairs as the model takes them."""
        encoded = reranker.encode(PAIRS)

        def batch(rows: Sequence[int]) -> EncodedBatch:
            numbers = np.array(rows)
            return collate(encoded, numbers, pad_id=reranker.pad_id, device=reranker.device)

        return cls(reranker, batch([0, 1]), batch([1, 0]), (batch([0]), batch([1])))

    @property
    def family(self) -> Family:
        """The model's family."""
        return self.reranker.family

    @cached_property
    def library(self) -> Library:
        """The library's pass over both pairs."""
        return library(self.family, self.both)

    @cached_property
    def entering(self) -> tuple[list[Tensor], int]:
        """Uncut states of both pairs below each layer and above the last; attention calls made."""
        before, layout = Counter.calls, PartLayout(self.both.parts)
        states = [self.family.embed(self.both)]
        for layer in range(self.family.n_layers):
            states.append(step(self.family, layer, states[-1], layout))
        return states, Counter.calls - before

    @cached_property
    def plain(self) -> Float[Tensor, " pair"]:
        """Our scores of both pairs without a cut."""
        return score(self.family, self.both, self.entering[0][-1])

    def onwards(
        self, layer: int, removal: Removal = NOTHING, watch: Watch | None = None
    ) -> Float[Tensor, "pair row width"]:
        """The last layer's outcome of both pairs, where one layer is cut or watched."""
        states, layout = self.entering[0][layer], PartLayout(self.both.parts)
        states = step(self.family, layer, states, layout, removal, watch=watch)
        for above in range(layer + 1, self.family.n_layers):
            states = step(self.family, above, states, layout)
        return states

    @property
    def scale(self) -> float:
        """Differences of scores are relative to the largest one, above 1."""
        return max(1.0, float(self.library.scores.abs().max()))
