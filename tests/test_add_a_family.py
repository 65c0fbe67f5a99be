"""The page "add a family": its code runs as it stands there, and its family keeps the contract."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import matchlens
import tiny as tiny_models
from matchlens.models.check import CheckError
from matchlens.models.family import Family
from matchlens.models.folder import FAMILIES, FamilyEntry
from test_families import library_logits, relevance

PAGE = (Path(__file__).parents[1] / "docs" / "add-a-family.md").read_text(encoding="utf-8")
FAMILY, LINE, CARELESS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PLACE = "matchlens.models.ernie"


@pytest.fixture
def ernie(monkeypatch) -> types.ModuleType:
    """The page's file and its line of the table, for one test."""
    module = types.ModuleType(PLACE)
    monkeypatch.setitem(sys.modules, PLACE, module)
    exec(compile(FAMILY, "docs/add-a-family.md", "exec"), module.__dict__)
    line = eval("{" + LINE + "}", {"FamilyEntry": FamilyEntry})
    for name, entry in line.items():
        monkeypatch.setitem(FAMILIES, name, entry)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("ernie"), "ernie", layers=2, heads=2, seed=3)


def test_the_page_s_family_is_new(folder):
    with pytest.raises(matchlens.InputError, match="is of type 'ernie'; expected one of: "):
        matchlens.load(folder)


def test_its_scores_are_the_library_s(ernie, folder, tiny_pairs):
    model = matchlens.load(folder, dtype="float64", device="cpu")
    assert type(model.family) is ernie.Ernie
    assert isinstance(model.family, Family)
    assert all(one["ok"] for one in model.checks.values())
    expected = relevance(library_logits(folder, tiny_pairs, batch=24))
    assert np.ptp(expected) > 0.1
    for tokens in (1, 130, 10**6):
        got = matchlens.score(model, tiny_pairs, batch_tokens=tokens)[""]
        np.testing.assert_allclose(got, expected, atol=1e-10, rtol=0)


def test_its_cuts_are_those_of_bert_with_its_weights(ernie, folder, tmp_path, tiny_pairs):
    """ERNIE without tasks is BERT by another name, so that BERT is its reference."""
    tiny_models.save(tmp_path, "bert", layers=2, heads=2)
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("ernie.", "bert."): one for name, one in weights.items()}
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    first, second = (
        matchlens.load(place, dtype="float64", device="cpu") for place in (folder, tmp_path)
    )
    cuts = ["Q->D", "D->{Q,SEP1}@0~mask", "CLS->D#0.1,1.0", "D->Q~mean", "SEP1->D~sink"]
    got, expected = (matchlens.score(model, tiny_pairs[:8], cuts) for model in (first, second))
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert (np.ptp(got.to_numpy(), axis=1) > 0).all()


def test_the_page_s_mistake_is_caught_as_the_page_says(ernie, folder, monkeypatch):
    exec(compile(CARELESS, "docs/add-a-family.md", "exec"), ernie.__dict__)
    monkeypatch.setitem(FAMILIES, "ernie", FamilyEntry(f"{PLACE}:Careless"))
    with pytest.raises(CheckError) as refused:
        matchlens.load(folder, device="cpu")
    said = PAGE.split(CARELESS)[1].split("```\n")[2].strip()
    assert f"fails the check at load: {said}; its cuts could not be trusted" in str(refused.value)


def test_the_page_names_all_that_is_asked_of_a_family():
    asked = {name for name in (*vars(Family), *Family.__annotations__) if not name.startswith("_")}
    assert {"layer", "score", "library"} <= asked
    missing = {name for name in asked if not re.search(rf"`{name}`", PAGE)}
    assert missing == set()


def test_the_files_that_the_page_names_are_there():
    root = Path(__file__).parents[1]
    named = set(re.findall(r"`((?:src|tests)/[\w/.]+|[\w/]+\.py)`", PAGE))
    assert len(named) >= 8
    for name in named:
        places = (root / name, root / "src/matchlens" / name, root / "src/matchlens/models" / name)
        assert any(place.exists() for place in places), name
