"""What a layer allows at all: causal and sliding-window masks, shared keys, squeezed logits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from matchlens.corpora import Pair
from matchlens.directions import Cut, How
from matchlens.models.attend import Call, attend
from matchlens.models.attention_probe import AttentionProbe
from matchlens.models.part_layout import LayerMask, PartLayout
from matchlens.models.random_edges import RandomEdges, edge_order
from matchlens.parts import PADDING, Part
from matchlens.plan import Control, LayerCut

BANDS = (LayerMask(), LayerMask(causal=True), LayerMask(window=1), LayerMask(causal=True, window=2))
HEADS, KEYS, WIDTH = 4, 2, 8
LONG = [Part.OTHER, Part.Q, Part.Q, Part.SEP1, Part.D, Part.D, Part.CLS]
SHORT = [Part.Q, Part.D, Part.D, Part.CLS]


def allowed(band: LayerMask, i: int, j: int) -> bool:
    return not (band.causal and j > i) and (band.window is None or abs(i - j) <= band.window)


def grid(left: bool) -> tuple[PartLayout, list[slice]]:
    pad = [PADDING] * (len(LONG) - len(SHORT))
    rows = [LONG, pad + SHORT if left else SHORT + pad]
    spans = [slice(0, 7), slice(3, 7) if left else slice(0, 4)]
    return PartLayout(torch.tensor([[int(part) for part in row] for row in rows])), spans


def states(conditions: int = 1, seed: int = 0):
    torch.manual_seed(seed)
    shape = (2 * conditions, 7, WIDTH)
    query = torch.randn(shape[0], HEADS, *shape[1:], dtype=torch.float64)
    key, value = (torch.randn(shape[0], KEYS, *shape[1:], dtype=torch.float64) for _ in range(2))
    return query, key, value


def slow(query, key, value, parts, band, cut, softcap) -> torch.Tensor:
    """One unpadded pair, head by head and row by row: context [row, head, width]."""
    size = len(parts)
    out = torch.zeros(size, HEADS, WIDTH, dtype=torch.float64)
    edges = cut.edges(0)
    for head, i in itertools.product(range(HEADS), range(size)):
        own = head * KEYS // HEADS
        seen = [j for j in range(size) if allowed(band, i, j)]
        if cut.how is How.MASK:
            seen = [j for j in seen if (parts[i], parts[j]) not in edges]
        if not seen:
            continue
        logits = key[own, seen] @ query[head, i] / math.sqrt(WIDTH)
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        for weight, j in zip(torch.softmax(logits, 0), seen, strict=True):
            if (parts[i], parts[j]) not in edges:
                out[i, head] += weight * value[own, j]
    return out


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("cut", ["", "Q->D", "D->{Q,D}~mask", "CLS->All~mask", "D->SEP1"])
def test_attention_equals_loops_in_every_band(band, left, softcap, cut):
    on, spans = grid(left)
    query, key, value = states()
    value = value.clone()
    parsed = Cut.parse(cut)
    layer_cut = LayerCut.of([parsed] if cut else [], 0, HEADS, tuple(Part))
    for rows in (None, slice(-1, None), slice(0, 1)):
        asked = query if rows is None else query[:, :, rows]
        call = Call(on, [layer_cut], rows, memory=(key, value), band=band)
        found, _ = attend(
            torch.nn.Module(), asked, key, value, None, softcap=softcap, matchlens=call
        )
        assert found.isfinite().all()
        for pair, span in enumerate(spans):
            parts = on.parts[pair, span].tolist()
            pieces = (each[pair, :, span] for each in (query, key, value))
            expected = torch.zeros(7, HEADS, WIDTH, dtype=torch.float64)
            expected[span] = slow(*pieces, parts, band, parsed, softcap)
            real = on.parts[pair] != PADDING
            if rows is not None:
                expected, real = expected[rows], real[rows]
            assert_close(found[pair][real], expected[real], atol=1e-12, rtol=0)


def test_tables_of_several_bands_do_not_mix():
    """The cache of spread tables knows the band."""
    on, _ = grid(left=True)
    query, key, value = states()
    none = LayerCut.of([], 0, HEADS, ())
    found = [
        attend(torch.nn.Module(), query, key, value, None, matchlens=Call(on, [none], band=band))[0]
        for band in (*BANDS, *BANDS)
    ]
    for one, again in zip(found[:4], found[4:], strict=True):
        assert_close(one, again, atol=0, rtol=0)
    for one, other in itertools.combinations(found[:4], 2):
        assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_a_gauge_sees_what_the_layer_allows(band, softcap):
    """By value columns and by weights, the same attention, each query head with its own keys."""
    on, spans = grid(left=True)
    query, key, value = states()
    eye = torch.eye(7, dtype=torch.float64).expand(2, HEADS, -1, -1)
    kept: dict[str, torch.Tensor] = {}
    none = LayerCut.of([], 0, HEADS, ())
    for name, look in (("columns", None), ("weights", lambda w: kept.update(seen=w))):
        probe = AttentionProbe(
            lambda _: eye, lambda sums, name=name: kept.update({name: sums}), look
        )
        call = Call(on, [none], band=band, probe=probe)
        found, _ = attend(
            torch.nn.Module(), query, key, value, None, softcap=softcap, matchlens=call
        )
        plain = Call(on, [none], band=band)
        same, _ = attend(
            torch.nn.Module(), query, key, value, None, softcap=softcap, matchlens=plain
        )
        assert_close(found, same, atol=1e-12, rtol=0)
    for pair, span in enumerate(spans):
        for name in ("columns", "weights", "seen"):
            own = kept[name][pair, :, span, span]
            assert_close(own.sum(-1), torch.ones_like(own.sum(-1)), atol=1e-12, rtol=0)
            assert_close(own, kept["seen"][pair, :, span, span], atol=1e-12, rtol=0)
            for i, j in itertools.product(range(own.shape[1]), repeat=2):
                assert (own[:, i, j] > 0).all() == allowed(band, i, j)


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("kind", ["edges", "mass"])
def test_random_edges_are_drawn_among_the_allowed(band, left, kind):
    on, spans = grid(left)
    query, key, value = states()
    pairs = [Pair("q", str(n), "a", "b", 0) for n in range(2)]
    cut = LayerCut.of([Control(Cut.parse("CLS->D+D->{Q,D}"), kind, 0)], 0, HEADS, tuple(Part))
    lengths, firsts = np.array([7, 4]), np.array([spans[0].start, spans[1].start])
    chance = RandomEdges.of([cut], pairs, lengths, firsts, 7, 0, 5, torch.device("cpu"))
    kept = {}
    none = LayerCut.of([], 0, HEADS, ())
    probe = AttentionProbe(lambda v: v, lambda _: None, lambda w: kept.update(w=w))
    attend(
        torch.nn.Module(),
        query,
        key,
        value,
        None,
        matchlens=Call(on, [none], band=band, probe=probe),
    )
    left_over = chance.cut(kept["w"], on.removed([cut]), band)
    gone = (left_over == 0) & (kept["w"] > 0)
    for pair, span in enumerate(spans):
        size = span.stop - span.start
        parts = on.parts[pair, span].tolist()
        can = [(i, j) for i in range(size) for j in range(size) if allowed(band, i, j)]
        own = [
            (i, j) for i, j in can if (parts[i], parts[j]) in Cut.parse("CLS->D+D->{Q,D}").edges(0)
        ]
        order = [(e // size, e % size) for e in edge_order(pairs[pair], size, size, 0, 0, 5)]
        order = [edge for edge in order if edge in can]
        for head in range(HEADS):
            w = kept["w"][pair, head, span, span]
            number = len(own)
            if kind == "mass":
                mass = sum(float(w[e]) for e in own)
                sums = np.cumsum([0.0, *(float(w[e]) for e in order)])
                number = int(np.abs(sums - mass).argmin())
            found = {tuple(e) for e in gone[pair, head, span, span].nonzero().tolist()}
            assert found == set(order[:number])
