"""Random edges in the place of a direction's, against a reference that removes them one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import matchlens
import reference
import tiny as tiny_models
from matchlens.batching import encode
from matchlens.directions import Cut
from matchlens.engine import run
from matchlens.models.chance import edge_order
from matchlens.plan import Control, Plan


def slow_score(reranker, pair, control: Control, seed: int) -> float:
    """One pair, unpadded; edges leave one by one, head by head."""
    encoded = encode(reranker.tokenizer, [pair], reranker.max_length)
    parts = encoded.parts[0].tolist()
    module = reranker.family.module
    with torch.inference_mode():
        states = reference.embeddings(module, encoded.ids[0], encoded.types[0])
        for number, layer in enumerate(reference.layers(module)):
            logits = reference.written_logits(module, layer, states)
            value = reference.projections(layer)[2](states)
            context = slow_attention(logits, value, parts, number, pair, control, seed)
            states = reference.above_attention(layer, context, states)
        return float(reference.head(module, states[0])[0])


def slow_attention(logits, value, parts, layer, pair, control, seed):
    size, heads = len(parts), len(logits)
    width = value.shape[1] // heads
    context = torch.zeros_like(value)
    order = edge_order(pair, size, size, layer, control.draw, seed)
    edges = control.cut.edges(layer)
    cut_heads = control.cut.heads_at(layer)
    for head in range(heads):
        at = slice(head * width, (head + 1) * width)
        weights = torch.softmax(logits[head], -1)
        own = [
            (i, j)
            for i in range(size)
            for j in range(size)
            if (parts[i], parts[j]) in edges and (cut_heads is None or head in cut_heads)
        ]
        if control.kind == "edges":
            gone = order[: len(own)]
        else:
            mass = float(sum(weights[i, j] for i, j in own))
            sums, total = [0.0], 0.0
            for edge in order:
                total += float(weights[edge // size, edge % size])
                sums.append(total)
            gone = order[: int(np.argmin([abs(one - mass) for one in sums]))]
        for edge in gone:
            weights[edge // size, edge % size] = 0
        if control.cut.how == "mask":
            for i in range(size):
                left = float(weights[i].sum())
                weights[i] = weights[i] / left if left > 0 else 0
        context[:, at] = weights @ value[:, at]
    return context


@pytest.mark.parametrize("kind", ["edges", "mass"])
@pytest.mark.parametrize("text", ["D->D", "Q->D~mask", "Q->D@0:2", "D->Q#0.1,2.3"])
def test_controls_equal_the_slow_reference(tiny, tiny_pairs, kind, text):
    control = Control(Cut.parse(text), kind, draw=1)
    out = run(tiny, tiny_pairs[:8], {"": [], "x": [control]}, seed=5, batch_tokens=120)
    slow = [slow_score(tiny, pair, control, 5) for pair in tiny_pairs[:8]]
    np.testing.assert_allclose(out.scores.of("x"), slow, atol=1e-10)
    assert np.abs(out.scores.of("x") - out.scores.of("")).max() > 1e-4


@pytest.mark.parametrize("family", ["albert", "deberta-v2", "mpnet"])
@pytest.mark.parametrize("kind", ["edges", "mass"])
def test_controls_know_what_a_family_adds_to_the_logits(family, kind, tiny_pairs, tmp_path):
    folder = tiny_models.save(tmp_path, family, layers=2, heads=2)
    model = matchlens.load(folder, dtype="float64", device="cpu")
    control = Control(Cut.parse("D->D~mask"), kind, draw=0)
    out = run(model, tiny_pairs[:4], {"": [], "x": [control]}, seed=2, batch_tokens=70)
    slow = [slow_score(model, pair, control, 2) for pair in tiny_pairs[:4]]
    np.testing.assert_allclose(out.scores.of("x"), slow, atol=1e-10)
    assert np.abs(out.scores.of("x") - out.scores.of("")).max() > 1e-4


def test_controls_do_not_hang_on_batches_or_neighbours(tiny, tiny_pairs):
    controls = {
        f"{kind} {draw}": [Control(Cut.parse(text), kind, draw)]
        for kind in ("edges", "mass")
        for draw in (0, 1)
        for text in ("D->D",)
    }
    cuts = {"D->D": [Cut.parse("D->D")], **controls}
    whole = run(tiny, tiny_pairs, cuts, batch_tokens=4096)
    small = run(tiny, tiny_pairs, cuts, batch_tokens=60)
    back = run(tiny, tiny_pairs[::-1], cuts)
    for name in cuts:
        np.testing.assert_allclose(small.scores.of(name), whole.scores.of(name), atol=1e-10)
        np.testing.assert_allclose(back.scores.of(name)[::-1], whole.scores.of(name), atol=1e-10)
    draws = [whole.scores.of(f"edges {draw}") for draw in (0, 1)]
    assert np.abs(draws[0] - draws[1]).max() > 1e-3
    other = run(tiny, tiny_pairs, cuts, seed=1)
    assert np.abs(other.scores.of("mass 0") - whole.scores.of("mass 0")).max() > 1e-3


def test_a_control_of_everything_is_everything(tiny, tiny_pairs):
    """All edges are as many as there are: the control and the cut are then the same."""
    every = "{CLS,Q,SEP1,D,SEP2}->All"
    out = run(
        tiny,
        tiny_pairs[:6],
        {"cut": [Cut.parse(every)]}
        | {kind: [Control(Cut.parse(every), kind, 0)] for kind in ("edges", "mass")},
    )
    for kind in ("edges", "mass"):
        np.testing.assert_allclose(out.scores.of(kind), out.scores.of("cut"), atol=1e-10)


def test_controls_share_what_lies_below_the_cut():
    late = Cut.parse("D->D@2")
    plan = Plan.build({"": [], "a": [Control(late, "edges", 0)], "b": [late]}, layers=4, heads=2)
    assert plan.passes == 4 + 2 + 2
    none = Plan.build({"": [], "a": [Control(Cut.parse("D->D@0:0"), "mass", 0)]}, 4, 2)
    assert none.passes == 4


def test_what_cannot_be_controlled_is_refused():
    with pytest.raises(matchlens.InputError, match="control 'luck' is not known"):
        Control(Cut.parse("Q->D"), "luck", 0)
    with pytest.raises(matchlens.InputError, match="expected how zero or mask"):
        Control(Cut.parse("Q->D~mean"), "edges", 0)
    both = [Control(Cut.parse("Q->D"), "edges", 0), Cut.parse("D->D")]
    with pytest.raises(matchlens.InputError, match="alone"):
        Plan.build({"x": both}, 3, 4)


def test_edge_order_puts_padding_last():
    pair = tiny_models.pairs(1)[0]
    order = edge_order(pair, 3, 5, layer=0, draw=0, seed=0)
    assert sorted(order) == list(range(25))
    rows, columns = order[:9] // 5, order[:9] % 5
    assert max(rows) < 3
    assert max(columns) < 3
    alone = edge_order(pair, 3, 3, layer=0, draw=0, seed=0)
    assert [(e // 3, e % 3) for e in alone] == list(zip(rows, columns, strict=True))
