"""The check at load: a model is accepted because something was caused in it, not for its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from matchlens.batching import EncodedBatch, batches, encode
from matchlens.corpora.pairs import Pair
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.models.attend import Call, Counter, Grid
from matchlens.models.family import Family
from matchlens.parts import NAMED, Part
from matchlens.plan import LayerCut

PAIRS = (  # both begin with one word: a convolution (DeBERTa) lets CLS read it beside the attention
    Pair("check", "a", "how long do tortoises live", "Many tortoises live for over a century.", 1),
    Pair(
        "check",
        "b",
        "how hot is boiling water",
        "A tax return is due in spring, and a late one is fined.",
        0,
    ),
)
TOLERANCE = {"float32": 1e-4, "float64": 1e-9, "bfloat16": 0.15, "float16": 0.02}
"""Largest difference to the library's own score, in logits, relative above 1."""


def check(reranker: Any) -> dict[str, object]:
    """Cause changes in a loaded model and see that they happen.

    Args:
        reranker: the model.

    Returns:
        What was seen, for the manifest.

    Raises:
        InputError: if a score without a cut differs from the library's own, the attention
            function was not called once a layer, cutting what the score reads leaves it depending
            on the pair, or cutting one direction in one layer changes nothing.
    """
    encoded = encode(reranker.tokenizer, PAIRS, reranker.max_length)
    (batch,) = batches(encoded, 10**6, pad_id=reranker.pad_id, device=reranker.device)
    family = reranker.family
    tolerance = TOLERANCE[reranker.dtype]
    with torch.inference_mode():
        library = family.library_score(batch)
        before = Counter.calls
        plain = _score(reranker, batch, "")
        calls = Counter.calls - before
        rows = ",".join(str(part) for part in family.score_parts if part in NAMED)
        side = "{" + rows + "}" if "," in rows else rows
        blind = _score(reranker, batch, f"{side}->All")
        last = _last_reading(family, batch)
        bitten = _score(reranker, batch, f"{side}->D@{last}")
        if {Part.Q, Part.D} & set(family.score_parts):  # a mean still knows the words, but not
            turned = replace(batch, input_ids=_turned(batch))  # in which order they stood
            blind = torch.stack([blind[0], _score(reranker, turned, f"{side}->All")[0]])
    scale = max(1.0, float(library.abs().max()))
    difference = float((plain - library).abs().max())
    spread = float((blind[0] - blind[1]).abs())
    change = float((bitten - plain).abs().max())
    problems = []
    if not difference <= tolerance * scale:
        problems.append(
            f"scores without a cut differ from the library's own by {difference:.2g} logits "
            f"(at most {tolerance * scale:.2g} expected)"
        )
    if calls != family.n_layers:
        problems.append(
            f"the attention function was called {calls} times in {family.n_layers} layers"
        )
    if not spread <= tolerance * scale:
        problems.append(
            f"with {side}->All cut, two different pairs still differ by {spread:.2g} logits"
        )
    if not change > 0:
        problems.append(f"cutting {side}->D in layer {last} changes no score")
    if problems:
        raise InputError(
            f"model {reranker.name!r} fails the check at load: {'; '.join(problems)}; its cuts "
            "could not be trusted, so it is refused"
        )
    return {
        "library_difference": difference,
        "attention_calls": calls,
        "blind_spread": spread,
        "one_cut_change": change,
        "tolerance": tolerance * scale,
    }


def _last_reading(family: Family, batch: EncodedBatch) -> int:
    """The last layer in which rows that the score reads may read the passage: windows are short."""
    rows, grid = list(family.score_parts), Grid(batch.parts)
    reads = [
        layer
        for layer in range(family.n_layers)
        if grid.reach(family.band(layer))[rows, Part.D].any()
    ]
    return reads[-1] if reads else family.n_layers - 1


def _turned(batch: EncodedBatch) -> torch.Tensor:
    """The token ids with every passage read backwards."""
    ids = batch.input_ids.clone()
    for row, parts in zip(ids, batch.parts, strict=True):
        row[parts == Part.D] = row[parts == Part.D].flip(0)
    return ids


def _score(reranker: Any, batch: EncodedBatch, text: str) -> torch.Tensor:
    family = reranker.family
    cuts = [Cut.parse(text)]
    states, grid = family.embed(batch), Grid(batch.parts)
    for layer in range(family.n_layers):
        last = layer == family.n_layers - 1
        rows = tuple(family.score_parts) if last else tuple(Part)
        cut = LayerCut.of(cuts, layer, family.n_heads, rows)
        states = family.layer(layer, states, Call(grid, [cut], family.score_rows if last else None))
    return family.score(states, grid.row_parts(family.score_rows))
