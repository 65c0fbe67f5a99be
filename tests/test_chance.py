"""Controls of a cut, against a reference that removes edge by edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import matchlens
import reference
import tiny as tiny_models
from matchlens.directions import Cut
from matchlens.models.random_edges import RandomEdges, edge_order
from matchlens.plan import CONTROLS, OF_ROWS, Control, Plan
from matchlens.runners import run

TEXTS = ["D->D", "Q->D@0:2", "D->Q#0.1,2.3", "Q->D+{D,SEP1}->All"]
CASES = [(kind, text) for kind in CONTROLS for text in TEXTS]
CASES += [("edges", "Q->D~mask"), ("mass", "Q->D~mask")]


@pytest.mark.parametrize(("kind", "text"), CASES)
def test_controls_equal_the_slow_reference(tiny, tiny_pairs, kind, text):
    """The scores, and what each control took."""
    control = Control(Cut.parse(text), kind, draw=1)
    out = run(tiny, tiny_pairs[:6], {"": [], "x": [control]}, seed=5, batch_tokens=120)
    slow = [reference.controlled(tiny, pair, control, 5) for pair in tiny_pairs[:6]]
    np.testing.assert_allclose(out.scores.of("x"), [score for score, _ in slow], atol=1e-10)
    assert np.abs(out.scores.of("x") - out.scores.of("")).max() > 1e-4
    if kind in OF_ROWS:  # elsewhere edges count in the last layer that no score depends on
        np.testing.assert_allclose(out.taken[0], [taken for _, taken in slow], atol=1e-9)


@pytest.mark.parametrize("family", [
    "deberta-v2", *(pytest.param(one, marks=pytest.mark.slow) for one in ("albert", "mpnet")),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["edges", "mass", "rows"])
def test_controls_know_what_a_family_adds_to_the_logits(family, kind, tiny_pairs, tmp_path):
    folder = tiny_models.save(tmp_path, family, layers=2, heads=2)
    model = matchlens.load(folder, dtype="float64", device="cpu")
    text = "D->D" if kind == "rows" else "D->D~mask"
    control = Control(Cut.parse(text), kind, draw=0)
    out = run(model, tiny_pairs[:4], {"": [], "x": [control]}, seed=2, batch_tokens=70)
    slow = [reference.controlled(model, pair, control, 2)[0] for pair in tiny_pairs[:4]]
    np.testing.assert_allclose(out.scores.of("x"), slow, atol=1e-10)
    assert np.abs(out.scores.of("x") - out.scores.of("")).max() > 1e-4


def test_controls_do_not_hang_on_batches_or_neighbours(tiny, tiny_pairs):
    controls = {
        f"{kind} {draw}": [Control(Cut.parse(text), kind, draw)]
        for kind in CONTROLS
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
    np.testing.assert_allclose(small.taken, whole.taken, atol=1e-9)
    np.testing.assert_allclose(back.taken[:, ::-1], whole.taken, atol=1e-9)
    for kind in ("edges", "mass", "rows"):
        draws = [whole.scores.of(f"{kind} {draw}") for draw in (0, 1)]
        assert np.abs(draws[0] - draws[1]).max() > 1e-3
    assert np.array_equal(whole.scores.of("scaled 0"), whole.scores.of("scaled 1"))  # no draw
    other = run(tiny, tiny_pairs, cuts, seed=1)
    for name in ("mass 0", "rows 0"):
        assert np.abs(other.scores.of(name) - whole.scores.of(name)).max() > 1e-3


def test_a_control_in_a_shared_run_is_that_of_a_run_of_its_own(tiny, tiny_pairs):
    """Layers below the cut are shared; what is taken is still counted for each condition."""
    late = {text: [Cut.parse(text)] for text in ("D->D@1", "Q->D@2", "")}
    late |= {
        f"{text} {kind}": [Control(Cut.parse(text), kind, 0)]
        for text in ("D->D@1:3", "D->D@1:2", "Q->D@2")
        for kind in CONTROLS
    }
    together = run(tiny, tiny_pairs[:6], late)
    assert together.plan.passes < together.plan.passes_unshared
    for name, condition in late.items():
        alone = run(tiny, tiny_pairs[:6], {name: condition})
        np.testing.assert_allclose(
            together.scores.of(name), alone.scores.of(name), atol=1e-10, err_msg=name
        )
        if name in together.plan.controls:
            at = together.plan.controls.index(name)
            np.testing.assert_allclose(together.taken[at], alone.taken[0], atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_each_row_loses_what_the_cut_takes_on_other_columns_first(seed):
    """One row has enough elsewhere, one has not: only that one touches the cut's own columns."""
    weights = torch.full((4, 4), 0.25, dtype=torch.float64)
    weights[0] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    weights[1] = torch.tensor([0.1, 0.1, 0.4, 0.4])
    direction = torch.zeros(4, 4, dtype=torch.bool)
    direction[0, :2] = direction[1, 2:] = True
    order = torch.from_numpy(np.random.default_rng(seed).permutation(16))
    chance = RandomEdges(order[None], ("rows",), torch.zeros(1, dtype=torch.bool))
    lost = weights - chance.cut(weights[None, None], direction[None, None])[0, 0]
    np.testing.assert_allclose(lost.sum(1), (weights * direction).sum(1), atol=1e-8)
    assert not lost[0, :2].any()
    np.testing.assert_allclose(lost[1, :2], [0.1, 0.1], atol=1e-8)  # all there is elsewhere
    assert not lost[2:].any()
    edges, inside, mass, mass_inside = chance.taken[0][0].tolist()
    assert mass == pytest.approx(1.1)
    assert mass_inside == pytest.approx(0.6)
    assert inside < edges


def test_a_control_of_everything_is_everything(tiny, tiny_pairs):
    """All edges are as many as there are: the control and the cut are then the same."""
    every = "{CLS,Q,SEP1,D,SEP2}->All"
    out = run(
        tiny,
        tiny_pairs[:6],
        {"cut": [Cut.parse(every)]}
        | {kind: [Control(Cut.parse(every), kind, 0)] for kind in CONTROLS},
    )
    for kind in CONTROLS:
        np.testing.assert_allclose(out.scores.of(kind), out.scores.of("cut"), atol=1e-10)
        place = out.plan.controls.index(kind)
        np.testing.assert_allclose(out.taken[place, :, 2], out.taken[place, :, 3], rtol=1e-9)


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
    for kind in OF_ROWS:
        with pytest.raises(matchlens.InputError, match="no row loses any; expected how zero"):
            Control(Cut.parse("Q->D~mask"), kind, 0)
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
