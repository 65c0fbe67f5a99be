"""Every type of model that matchlens supports, through every study, screen and explain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.gated import gated_scores

import matchlens
import tiny
import tiny_decoders
import tiny_t5
from matchlens import InputError
from matchlens.corpora import Pair, PairSet
from matchlens.models.folder import FAMILIES
from matchlens.models.load import Reranker
from matchlens.parts import Part
from matchlens.studies import screening
from matchlens.studies.sizes import STUDIES

QUICK = ("bert", "llama")
HEADS = 2
NORMALISED = ("gemma2", "gemma3_text")
"""Types that normalise what attention writes: half a contribution is as good as a whole one."""
WITHOUT_CIRCUITS = {
    **dict.fromkeys(("t5", "mt5"), "not computed for an encoder-decoder"),
    **dict.fromkeys(("qwen3", "gemma3_text"), "normalises each query and key"),
}
"""Types whose circuits are refused, and the reason."""


def saved(folder: Path, family: str) -> Path:
    if family in tiny_t5.CLASSES:
        return tiny_t5.save(folder, family, num_heads=HEADS, num_layers=2)
    if family in tiny_decoders.FAMILIES:
        return tiny_decoders.save(folder, family, heads=HEADS, keys=1, max_position_embeddings=400)
    return tiny.save(folder, family, layers=2, heads=HEADS)


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in FAMILIES],
)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family, tmp_path_factory) -> Reranker:
    prompt = tiny_decoders.PLAIN if family in tiny_decoders.FAMILIES else None
    folder = saved(tmp_path_factory.mktemp(family), family)
    return matchlens.load(folder, device="cpu", prompt=prompt)


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    return matchlens.choose(matchlens.demo.load(), queries=3, per_grade=1, easy=1)


def test_every_study(model, family, pairs):
    """The parts of a whole study, each asked for by its name: what cannot be run is an error."""
    names = [study for study in STUDIES if study not in ("circuits", "screen")]
    done = matchlens.study(model, pairs, size="quick", studies=names)
    assert len(done.results) == len(names)
    plain = matchlens.score(model, pairs.pairs)[""].to_numpy()
    for result in done.results.values():
        frame = result.scores
        if frame is not None and "" in set(frame["cut"]):
            untouched = frame.loc[frame["cut"] == ""]
            apart = np.abs(untouched["score"] - plain[untouched["pair"]])
            assert apart.max() <= 1e-5 * max(1, np.abs(plain).max())
    if family in WITHOUT_CIRCUITS:
        with pytest.raises(InputError, match=WITHOUT_CIRCUITS[family]):
            matchlens.circuits(model, pairs, top=1)
        return
    circuits = matchlens.circuits(model, pairs, top=1, matches=3)
    assert len(circuits.to_frame("heads")) == model.family.n_layers * HEADS


def test_screen(model, pairs):
    result = matchlens.screen(model, pairs, others=6)
    assert len(result.to_frame("check")) >= 10
    gates = result.to_frame("gates")
    cut = gates[gates["status"] == screening.CUT]
    ranked = [pair for pair in pairs.pairs if pair.grade >= 0]
    exact = matchlens.score(model, ranked, cut["cut"].tolist())
    for row in cut.to_dict("records"):
        change = (exact[row["cut"]] - exact[""]).mean()
        assert row["exact"] == pytest.approx(
            change, abs=1e-5 * max(1, float(np.abs(exact[""]).max()))
        )
    slopes = result.array("slopes")[:3]
    draw = np.random.default_rng(0)
    for _ in range(6):  # a slope is what a small change of its gate does
        at = tuple(int(draw.integers(size)) for size in slopes.shape[1:])
        changed = []
        for step in (0.01, -0.01):
            gates = np.ones((*slopes.shape[1:3], len(Part), len(Part)))
            gates[at] += step
            changed.append(np.array(gated_scores(model, pairs.pairs[:3], gates)))
        expected = (changed[0] - changed[1]) / 0.02
        np.testing.assert_allclose(slopes[(slice(None), *at)], expected, atol=2e-3)


def test_explain_shares_out_the_margin(model, family):
    texts = ["the tea is warm and the cat sat", "a dog ran far in cold rain"]
    both = [Pair("q", str(number), "warm tea", text, 0) for number, text in enumerate(texts)]
    first, second = matchlens.score(model, both)[""]
    result = matchlens.explain(model, "warm tea", texts, points=64)
    units = result.to_frame("margin")
    if any("share" in note and "contributions miss" in note for note in result.notes):
        assert family in NORMALISED
        return
    whole = units.loc[units["kind"].isin(("direction", "outside attention"))]
    assert abs(whole["contribution"].sum() - (first - second)) < 0.05 * abs(first - second) + 0.01
    assert whole["margin_cut"].notna().sum() > 3
