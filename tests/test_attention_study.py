"""The attention study and its command; models that know nothing have no matching heads."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import matchlens
import tiny as tiny_models
from matchlens.corpora import choose, demo
from matchlens.meters.attention import (
    PARTS,
)
from matchlens.report.views import text_of
from matchlens.saving import Save
from matchlens.studies.attention.contrasts import (
    Thresholds,
    places,
)
from matchlens.studies.attention.watching import watch
from matchlens.studies.common import half
from test_cli import call, files_of, refused, without_long_queries

LOOSE = Thresholds(q=1.0, auc=0.4, length=1.0)
"""A tiny model with drawn weights has heads that pass these."""


@pytest.fixture(scope="module")
def few():
    return choose(demo.load(), queries=10, per_grade=2, easy=3)


@pytest.fixture(scope="module")
def found(tiny, few):
    return matchlens.attention(tiny, few, thresholds=LOOSE, most_pairs=30, seed=1)


def test_the_study_ties_attention_to_what_cutting_does(tiny, few, found):
    table = found.to_frame("matching")
    assert table["matching"].any()
    cut = table[table["matching"]]
    assert cut["effect"].notna().all()
    assert table.loc[~table["matching"], "effect"].isna().all()
    other = tuple(pair for pair in few.pairs if half(pair.qid, 1) == 1)
    used, _ = matchlens.thin(replace(few, pairs=other), 30, seed=1)
    row = cut.iloc[0]
    alone = matchlens.ablation(tiny, used, cuts=[row["cut"]], seed=1).to_frame()
    assert row["effect"] == pytest.approx(alone["diff"].iloc[2])
    assert found.options["pairs_cut"] == len(used.pairs)
    sets, points = found.to_frame("sets"), found.to_frame("set_points")
    watched = watch(tiny, used, ["mass"])
    for one in sets.itertuples():
        members = cut[cut["direction"] == one.direction]
        assert one.size == len(members)
        at = (PARTS.index(part) for part in places(one.direction))
        mass = watched.arrays["mass"].mapped()[..., *at]
        heads = members[["layer", "head"]].to_numpy().T
        assert one.mass == pytest.approx(mass.mean(0)[*heads].sum())
        random = points[(points["set"] == one.set) & (points["draw"] >= 0)]
        assert one.p_random == (1 + (random["diff"] <= one.diff + 1e-12).sum()) / (1 + len(random))
        assert one.random_mass == pytest.approx(random["mass"].mean())
    shown = text_of(found)
    for words in ("random mass", "p measure (uncorrected)", "p order (uncorrected)", "(Holm)"):
        assert words in shown


def test_the_cuts_of_matching_heads_have_the_tie_tolerance_and_say_which_queries_are_left_out(
    tiny, few
):
    flat = next(pair.qid for pair in few.pairs if half(pair.qid, 1) == 1)
    pairs = tuple(
        replace(pair, grade=1) if pair.qid == flat and pair.grade >= 0 else pair
        for pair in few.pairs
    )
    options = {"meters": ["mass"], "contrasts": ["relevant-easy"], "directions": ["Q->D"]}
    result = matchlens.attention(
        tiny, replace(few, pairs=pairs), thresholds=LOOSE, tie_tol=1e6, seed=1, **options
    )
    assert result.options["tie_tol"] == 1e6
    table = result.to_frame("matching")
    assert (table.loc[table["matching"], "effect"] == 0).all()  # all candidates are tied
    assert any(
        note.startswith("in half 1 of the queries, on which matching heads are cut, 1 of ")
        for note in result.notes
    )


def test_the_study_keeps_its_arrays_and_comes_back_from_disk(found, few, tmp_path):
    folder = found.save(tmp_path / "out")
    again = matchlens.Result.load(folder, "attention")
    for name in ("mass", "entropy"):
        kept = np.load(folder / f"meters/{name}.npy", mmap_mode="r")
        assert kept.shape == (len(few.pairs), 3, 4, 5, 5)
        np.testing.assert_array_equal(again.array(name), found.array(name))
    with pytest.raises(matchlens.InputError, match="no meter 'luck' was kept"):
        found.array("luck")
    assert set(again.tables) == set(found.tables)


def test_derived_masses_add_up(found):
    table = found.to_frame("contrasts")
    wide = table[(table["contrast"] == "hard-easy") & (table["direction"] == "Q->D")].pivot(
        index=["layer", "head"], columns="meter", values="diff"
    )
    np.testing.assert_allclose(
        wide["lexical_mass"] + wide["semantic_mass"], wide["mass"], atol=1e-6
    )


def test_a_study_without_what_it_needs_says_so(tiny, few):
    plain = choose(demo.load(), queries=4, per_grade=1)
    with pytest.raises(matchlens.InputError, match="no easy passage"):
        matchlens.attention(tiny, plain)
    only = matchlens.attention(
        tiny, plain, contrasts=["relevant-hard"], meters=["mass"], causal=False
    )
    assert "lexical" not in only.tables
    assert any("no matching heads are looked for" in note for note in only.notes)
    for wrong, fragment in [
        ({"meters": ["luck"]}, "meter 'luck' is not known"),
        ({"directions": ["Q->All"]}, "not between two single parts"),
        ({"directions": ["{Q,D}->D"]}, "not between two single parts"),
        ({"aggregate": "mode"}, "expected one of mean, median"),
        ({"random": 20}, "random is 20"),
        ({"most_pairs": 1}, "fewer than one query has"),
        ({"measure": "luck"}, "luck"),
        ({"contrasts": ["easy"]}, "contrast 'easy' is not known"),
    ]:
        with pytest.raises(matchlens.InputError, match=fragment):
            matchlens.attention(tiny, few, **wrong)
    with pytest.raises(matchlens.InputError, match="threshold auc is 2"):
        Thresholds(auc=2.0)


@pytest.mark.usefixtures("svg_alone")
def test_the_command_writes_tables_figures_and_arrays(tiny_folder, tmp_path, monkeypatch):
    out, copied, add = tmp_path / "out", [], Save.add

    def counted(self, name, content):
        copied.append(name)
        return add(self, name, content)

    monkeypatch.setattr(Save, "add", counted)
    given = ["attention", "--model", tiny_folder, "--demo", "--queries", 8, "--per-grade", 2,
             "--easy", 2, "--q", 1.0, "--auc", 0.4, "--length", 1.0, "--pairs", 30, "--quiet",
             "--contrast", "relevant-easy", "--contrast", "hard-easy"]  # fmt: skip
    done = call(*given, "--out", out)
    assert (done.status, without_long_queries(done.err)) == (0, "")
    held = files_of(out)
    assert held["attention/attention.txt"].decode() == done.out
    for word in (
        "Matching heads",
        "No-op",
        "Same-stem share",
        "Heads left after each condition",
        "Semantic mass",
        "Exact words",
    ):
        assert word in done.out
    names = ("1b", "1b-Q-D", "1c-Q-D", "1c-distributions-Q-D", "no-op", "lexical", "sets")
    for name in names:
        assert f"attention/figures/{name}.svg" in held
    assert "meters/norm_mass.npy" in held
    arrays = [name for name in copied if name.endswith(".npy")]  # large files: each once
    assert sorted(arrays) == sorted(set(arrays))
    assert len(arrays) == 8
    options = json.loads(held["manifest.json"])["studies"]["attention"]["options"]
    assert options["thresholds"] == {
        "q": 1.0, "auc": 0.4, "length": 1.0, "lexical": 2.0, "query_words": 2.0, "semantic": 1.5
    }  # fmt: skip
    done = call(*given, "--dry-run")
    assert done.status == 0
    assert "entropy: looks at one layer's weights" in done.out


@pytest.mark.parametrize(
    ("bad", "fragment"),
    [
        (["--meter", "luck"], "meter 'luck' is not known"),
        (["--contrast", "luck"], "contrast 'luck' is not known"),
        (["--direction", "Q->All"], "not between two single parts"),
        (["--q", "2"], "threshold q is 2.0"),
        (["--lexical", "0.5"], "threshold lexical is 0.5; expected a number from 1 on"),
        (["--aggregate", "mode"], "expected one of mean, median"),
        (["--easy", "0"], "has no easy passage"),
        (["--random", "20"], "random is 20"),
        (["--rel", "9"], "the highest grade of these judgements is 3"),
    ],
)
def test_bad_attention_options_are_one_line(tiny_folder, tmp_path, bad, fragment):
    words = ["--model", tiny_folder, "--demo", "--queries", 3, *bad, "--out", tmp_path / "out"]
    assert fragment in refused("attention", *words)


def test_the_authors_preset_needs_pairs_that_are_classified_rightly(tiny, few):
    """The tiny model calls nothing relevant."""
    with pytest.raises(matchlens.InputError, match="classifies rightly"):
        matchlens.attention(tiny, few, preset="authors", contrasts=["relevant-easy"], causal=False)


@pytest.mark.real
def test_the_authors_preset_takes_the_peak_and_the_median(demo_model):
    pairs = choose(demo.load(), queries=2, per_grade=1, easy=1)
    result = matchlens.attention(
        demo_model, pairs, preset="authors", contrasts=["relevant-easy"], causal=False
    )
    assert result.options["meters"] == ["mass", "peak"]
    assert (result.options["aggregate"], result.options["per_class"]) == ("median", 20)
    table = result.to_frame("contrasts")
    mine = table[(table["meter"] == "peak") & (table["contrast"] == "relevant-easy")]
    assert (mine["queries"] <= 2).all()


def test_lists_of_heads_are_compared_against_chance(found, tiny, few):
    other = matchlens.attention(tiny, few, meters=["mass"], thresholds=LOOSE, causal=False, seed=2)
    table = matchlens.compare_heads(found, other).set_index("direction")
    for direction in ("Q->D", "D->Q"):
        sides = [one.to_frame("matching") for one in (found, other)]
        lists = [
            {
                (r.layer, r.head)
                for r in side.itertuples()
                if r.matching and r.direction == direction
            }
            for side in sides
        ]
        row = table.loc[direction]
        assert row["both"] == len(lists[0] & lists[1])
        assert (row["first"], row["second"]) == (len(lists[0]), len(lists[1]))
        p = stats.hypergeom(12, len(lists[0]), len(lists[1])).sf(row["both"] - 1)
        assert row["p"] == pytest.approx(p)
        aucs = [side[side["direction"] == direction]["auc"] for side in sides]
        assert row["rho"] == pytest.approx(stats.spearmanr(*aucs).statistic)
    same = matchlens.compare_heads(found, found)
    assert (same["both"] == same["first"]).all()
    empty = matchlens.attention(
        tiny, choose(demo.load(), queries=1, easy=1), meters=["mass"], causal=False
    )
    with pytest.raises(matchlens.InputError, match="no list of heads"):
        matchlens.compare_heads(found, empty)


def shares(model, pairs) -> dict[str, float]:
    """The share of heads that match, by direction, beside those that match without the controls."""
    result = matchlens.attention(
        model, pairs, meters=["mass"], contrasts=["relevant-easy"], causal=False
    )
    table = result.to_frame("matching")
    return table.groupby("direction")["matching"].mean().to_dict()


def wrapped_again(model):
    """A model whose weights have changed, as it may be run."""
    return matchlens.wrap(model.family.module, model.tokenizer)


def untrained(module, seed: int) -> None:
    """Draw the weights anew, as the library does before training."""
    torch.manual_seed(seed)
    fresh = type(module)._from_config(module.config)
    module.load_state_dict(fresh.state_dict())


def shuffled(module, seed: int) -> None:
    """Shuffle every weight matrix's numbers among themselves."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            order = torch.randperm(weight.numel(), generator=draw)
            weight.copy_(weight.flatten()[order].view(weight.shape))


@pytest.mark.parametrize(("change", "seed"), [
    (untrained, 0), (shuffled, 1),
    pytest.param(untrained, 1, marks=pytest.mark.slow),
    pytest.param(shuffled, 0, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_tiny_model_that_knows_nothing_has_no_matching_heads(tmp_path, few, change, seed):
    model = matchlens.load(tiny_models.save(tmp_path, seed=seed), device="cpu")
    change(model.family.module, seed)
    assert max(shares(wrapped_again(model), few).values()) <= 0.05


@pytest.mark.real
@pytest.mark.slow
def test_a_model_that_knows_nothing_has_no_matching_heads():
    """Passage length alone tells relevant from easy passages of the demo collection."""
    model, pairs = matchlens.load("demo"), choose(demo.load(), per_grade=2, easy=4)
    assert min(shares(model, pairs).values()) > 0.1
    for seed, change in enumerate((shuffled, untrained)):  # it draws all weights anew
        change(model.family.module, seed)
        assert max(shares(wrapped_again(model), pairs).values()) <= 0.05
