"""The fast way through a layer against the library's own layer, condition by condition."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from transformers.activations import GELUActivation, NewGELUActivation

import matchlens
import reference
import tiny as tiny_models
from matchlens import InputError
from matchlens.batching import collate
from matchlens.directions import Cut, How
from matchlens.models.attend import Call
from matchlens.models.packed import Packed, activated, as_the_library, pack, usable
from matchlens.models.part_layout import PartLayout, Rows
from matchlens.models.shared_layer import Counts, SharedLayer, sparse, touched
from matchlens.parts import PADDING, Part
from matchlens.plan import LayerCut
from matchlens.runners import run
from test_directions import cuts as any_cuts

APART = ("bert", "distilbert", "electra", "albert", "roberta", "xlm-roberta", "camembert")
CUTS = ["", "Q->D", "D->Q", "CLS->All~mask", "Q->{Q,D}~sink", "D->D#0.1", "{Q,SEP1}->All#0.0,0.3"]


@pytest.fixture(scope="module", params=APART)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tiny_models.save(folder, request.param, layers=2, seed=5)
    return matchlens.load(folder, dtype="float64", device="cpu")


def entering(model, pairs):
    batch = collate(model.encode(pairs), np.arange(len(pairs)), pad_id=model.pad_id)
    return PartLayout(batch.parts), model.family.embed(batch)


def layer_cuts(texts, heads):
    return [LayerCut.of([Cut.parse(text)] if text else [], 0, heads, tuple(Part)) for text in texts]


@torch.inference_mode()
def test_rows_whole_and_score_are_the_library_s_layer(model, tiny_pairs):
    family = model.family
    grid, states = entering(model, tiny_pairs[:7])
    assert grid.padding is not None
    real = (grid.parts != PADDING)[..., None]
    cuts = layer_cuts(CUTS, family.n_heads)
    second = states.flip(0).contiguous()  # two parents, in another order than their children
    slots = [0, 1, 1, 0, 1, 0, 0]
    parents = torch.cat([states, second])
    counts = Counts()
    siblings = SharedLayer(family, 0, parents, grid, counts)
    own = [
        family.layer(0, (states, second)[slot], Call(grid, [cut]))
        for slot, cut in zip(slots, cuts, strict=True)
    ]
    whole = siblings.whole(slots, cuts).unflatten(0, (len(cuts), -1))
    few = siblings.whole([1], cuts[1:2])  # the rows of the query alone get weights of their own
    bases = [family.layer(0, each, Call(grid, cuts[:1])) for each in (states, second)]
    laid = siblings.rows(slots[1:], cuts[1:], [bases[slot] for slot in slots[1:]])
    laid = laid.unflatten(0, (len(cuts) - 1, -1))
    for place, expected in enumerate(own):
        torch.testing.assert_close(whole[place] * real, expected * real, atol=1e-12, rtol=0)
        if place:
            torch.testing.assert_close(laid[place - 1] * real, expected * real, atol=1e-12, rtol=0)
    torch.testing.assert_close(few * real, own[1] * real, atol=1e-12, rtol=0)
    score = siblings.score(slots, cuts)
    one = [
        family.layer(0, (states, second)[slot], Call(grid, [cut], slice(0, 1)))
        for slot, cut in zip(slots, cuts, strict=True)
    ]
    torch.testing.assert_close(score, torch.cat(one), atol=1e-12, rtol=0)


@torch.inference_mode()
def test_only_what_is_cut_is_computed(model, tiny_pairs):
    grid, states = entering(model, tiny_pairs[:5])
    counts = Counts()
    siblings = SharedLayer(model.family, 0, states, grid, counts)
    cuts = layer_cuts(["Q->D", "CLS->All"], model.family.n_heads)
    siblings.rows([0, 0], cuts, [states, states])
    assert counts.rows == int((grid.parts == Part.Q).sum()) + 5
    assert counts.projected == grid.parts.numel()
    siblings.whole([0], cuts[:1])
    assert counts.projected == grid.parts.numel()  # made once
    before = counts.rows
    SharedLayer(model.family, 1, states, grid, counts).score([0, 0], cuts)
    assert counts.projected == grid.parts.numel()  # no keys and values for the score's row
    assert counts.rows == before + 2 * 5


def test_rows_are_picked_out_once_and_where_they_stand():
    parts = torch.tensor([[0, 1, 1, 2, 3, 4], [0, 1, 2, 3, 3, 4], [0, 2, 3, 3, 4, PADDING]])
    grid = PartLayout(parts)
    rows = grid.rows_of(frozenset({Part.Q, Part.SEP2}))
    assert rows is grid.rows_of(frozenset({Part.SEP2, Part.Q}))
    assert rows.flat.tolist() == [1, 2, 5, 7, 11, 16]
    assert rows.labels.tolist() == [[1, 1, 4], [1, 4, PADDING], [4, PADDING, PADDING]]
    assert not rows.full
    assert Rows.of(frozenset({Part.CLS}), parts).full
    none = Rows.of(frozenset({Part.OTHER}), parts)
    assert none.flat.numel() == 0
    assert none.padded.shape == (3, 0)


def test_rows_that_are_not_worth_it():
    parts = torch.tensor([[0, 1, 2, 3, 3, 3, 3, 3, 3, 4]])
    query, passage = layer_cuts(["Q->D", "{CLS,Q,SEP1,D}->All"], 4)
    assert touched(query) == {Part.Q}
    assert sparse([query], PartLayout(parts), 0.1)
    assert not sparse([query], PartLayout(parts), 0.09)
    assert not sparse([passage], PartLayout(parts), 0.5)


@settings(max_examples=15)
@given(first=any_cuts, second=any_cuts)
def test_any_cuts_beside_the_uncut_one(tiny, tiny_pairs, first, second):
    """With the uncut condition there, rows are laid over it; without it, all are computed."""
    pairs = tiny_pairs[3:12:4]
    conditions = {}
    for name, cut in (("a", first), ("b", second)):
        layers = None if cut.layers is None else tuple(n % 3 for n in cut.layers)
        heads = None if cut.heads is None else tuple((n % 3, h % 4) for n, h in cut.heads)
        conditions[name] = [Cut(cut.directions, layers, heads, cut.how)]
    together = run(tiny, pairs, {"": [], **conditions})
    for name, cuts in conditions.items():
        alone = run(tiny, pairs, {name: cuts})
        np.testing.assert_allclose(together.scores.of(name), alone.scores.of(name), atol=1e-10)


@pytest.mark.parametrize("how", [how for how in How if how is not How.ZERO])
def test_half_precision_stays_near(tiny_folder, tiny, tiny_pairs, how):
    half = matchlens.load(tiny_folder, dtype="bfloat16", device="cpu")
    pairs = tiny_pairs[3:12:4]
    conditions = {"": [], "x": [Cut.parse(f"Q->D~{how}")], "y": [Cut.parse(f"D->Q@1~{how}")]}
    near, exact = run(half, pairs, conditions), run(tiny, pairs, conditions)
    np.testing.assert_allclose(near.scores.values, exact.scores.values, atol=0.1)


@pytest.mark.slow
def test_rows_that_read_nothing_any_more_go_on_alone(tiny, tiny_pairs):
    """The score's rows cut from all up to the top: no other row is computed for them."""
    pairs = tiny_pairs[:6]
    cuts = ["CLS->All", "CLS->All~mask", "CLS->All@1:3", "{CLS,Q}->All@2", "CLS->All@0:2"]
    conditions = {name: [Cut.parse(name)] for name in cuts}
    plain = run(tiny, pairs, {"": []}, batch_tokens=10**6)
    out = run(tiny, pairs, {"": [], **conditions}, batch_tokens=10**6)
    for name in cuts:
        expected = [reference.score(tiny, pair, [name]) for pair in pairs]
        np.testing.assert_allclose(out.scores.of(name), expected, atol=1e-10, err_msg=name)
    both = run(tiny, pairs, {"": [], **dict(list(conditions.items())[:2])}, batch_tokens=10**6)
    assert both.counts.rows == plain.counts.rows + 2 * 3 * len(pairs)
    assert both.counts.projected == plain.counts.projected
    by_mean = run(tiny, pairs, {"": [], "x": [Cut.parse("CLS->All~mean")]}, batch_tokens=10**6)
    assert by_mean.counts.rows > both.counts.rows  # something stands in: it is no such cut


# --- packed weights


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 3, bias=False))


needs_packing = pytest.mark.skipif(not usable(), reason="this build of torch packs no weights")


@needs_packing
def test_packed_layers_multiply_as_plain_ones(linear):
    states = torch.randn(5, 7, 24)
    expected = linear(states)
    names = list(linear.state_dict())
    weight = linear[0].weight
    assert pack(linear) == 2
    assert type(linear[0]) is Packed
    assert linear[0].weight is weight
    assert list(linear.state_dict()) == names
    found = linear(states)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    with as_the_library():
        assert torch.equal(linear(states), expected)
    assert torch.equal(linear(states), found)
    assert linear(states[:0]).shape == (0, 7, 3)
    assert pack(linear) == 0  # nothing is left to pack


@needs_packing
def test_a_weight_that_changes_is_packed_anew(linear):
    pack(linear)
    states = torch.randn(5, 24)
    packed = linear[0]

    def check() -> None:
        with torch.no_grad():
            torch.testing.assert_close(
                packed(states),
                nn.functional.linear(states, packed.weight, packed.bias),
                atol=1e-5,
                rtol=0,
            )

    check()
    with torch.no_grad():
        packed.weight.mul_(2)
    check()
    packed.load_state_dict({"weight": torch.randn(40, 24), "bias": torch.zeros(40)})
    check()
    packed.weight = nn.Parameter(torch.randn(40, 24))
    check()
    assert packed(states.double() if packed.double() else states).dtype == torch.float64


@needs_packing
def test_packed_layers_are_trained_and_copied_as_plain_ones(linear):
    pack(linear)
    twin = copy.deepcopy(linear)
    states = torch.randn(5, 24)
    linear(states).sum().backward()
    assert linear[0].weight.grad.abs().sum() > 0
    with torch.no_grad():
        torch.optim.SGD(linear.parameters(), 0.1).step()
        assert not torch.allclose(linear(states), twin(states))
        expected = nn.functional.linear(states, linear[0].weight, linear[0].bias)
        torch.testing.assert_close(linear[0](states), expected, atol=1e-5, rtol=0)
    assert type(twin[0]) is Packed
    assert twin[0].weight is not linear[0].weight
    with pytest.raises(TypeError, match="save_pretrained"):
        copy.copy(linear[0])


@needs_packing
def test_an_edited_model_is_refused_and_run_as_it_is_once_it_is_wrapped(tiny_folder, tiny_pairs):
    """A head's values zeroed behind torch's back: scores are the library's of the edited model."""
    model = matchlens.load(tiny_folder, device="cpu")
    before = matchlens.score(model, tiny_pairs[:4])[""]
    family = model.family
    family.projections(1)[2].weight.data[:8] = 0
    family.projections(1)[2].bias.data[:8] = 0
    with pytest.raises(InputError, match="a weight has changed since it was loaded or wrapped"):
        matchlens.score(model, tiny_pairs[:4])
    digest, model = model.identity["sha256"], matchlens.wrap(family.module, model.tokenizer)
    family = model.family
    assert model.identity["sha256"] != digest
    after = matchlens.score(model, tiny_pairs[:4])[""]
    batch = collate(model.encode(tiny_pairs[:4]), np.arange(4), pad_id=model.pad_id)
    with as_the_library(), torch.inference_mode():
        own = family.library_score(batch).numpy()
    np.testing.assert_allclose(after, own, atol=1e-4)
    assert np.abs(after - before).max() > 1e-3


@needs_packing
@pytest.mark.parametrize(
    "activation", [nn.GELU(), GELUActivation(), nn.GELU("tanh"), NewGELUActivation(), nn.ReLU()]
)
def test_what_follows_a_layer_is_what_the_library_says(linear, activation):
    states = 3 * torch.randn(5, 24)
    expected = activation(linear[0](states))
    torch.testing.assert_close(activated(linear[0], activation, states), expected)
    pack(linear)
    found = activated(linear[0], activation, states)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    by_erf = activated(linear[0], nn.GELU(), states)
    assert torch.allclose(by_erf, found, atol=1e-5) == (
        isinstance(activation, GELUActivation) or getattr(activation, "approximate", "") == "none"
    )


def test_only_float32_is_packed(tiny, tiny32):
    kinds = {type(module) for module in tiny.family.module.modules()}
    assert Packed not in kinds
    assert usable() == (Packed in {type(module) for module in tiny32.family.module.modules()})


def test_a_shared_layer_is_packed_once():
    one = nn.Linear(4, 4)
    both = nn.ModuleList([nn.Sequential(one), nn.Sequential(one)])
    packed = pack(both)
    assert packed == (1 if usable() else 0)
    assert both[0][0] is both[1][0]
