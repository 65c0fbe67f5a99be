"""Measures by name: canonical text, defaults, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import matchlens
from matchlens.errors import InputError
from matchlens.ranking import parse_measure


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("nDCG@10", "nDCG@10"),
        ("NDCG", "nDCG"),
        (" nDCG ( dcg = 'exp-log2' ) @ 10 ", "nDCG(dcg='exp-log2')@10"),
        ("nDCG(dcg='log2', judged_only=False)@10", "nDCG@10"),
        ("nDCG(gains={3: 10, 2: 2})@5", "nDCG(gains={3:10})@5"),
        ("DCG@10", "DCG@10"),
        ("P@10", "P(rel=2)@10"),
        ("P(rel=1)@10", "P(rel=1)@10"),
        ("Precision(cutoff=3)", "P(rel=2)@3"),
        ("R@100", "R(rel=2)@100"),
        ("MAP", "AP(rel=2)"),
        ("MRR@10", "RR(rel=2)@10"),
        ("RBP", "RBP(rel=2)"),
        ("RBP(rel=1, p=0.5)", "RBP(p=0.5,rel=1)"),
        ("RBP(p=0.8)@20", "RBP(rel=2)@20"),
        ("Success@5", "Success(rel=2)@5"),
        ("Rprec", "Rprec(rel=2)"),
        ("SetP", "SetP(rel=2)"),
        ("SetRelP", "SetP(rel=2,relative=True)"),
        ("SetF(beta=2)", "SetF(beta=2.0,rel=2)"),
        ("IPrec@.1", "IPrec(rel=2)@0.1"),
        ("ERR@10", "ERR@10"),
        ("Compat", "Compat"),
    ],
)
def test_text_becomes_canonical_and_parses_back(text, canonical):
    measure = parse_measure(text)
    assert str(measure) == canonical
    assert parse_measure(canonical, rel=3) == measure


@given(
    name=st.sampled_from(["P", "R", "AP", "RR", "RBP", "Success", "nDCG", "ERR", "DCG"]),
    rel=st.none() | st.integers(1, 5),
    cutoff=st.integers(1, 1000),
    default=st.integers(1, 4),
)
def test_the_canonical_text_means_the_same_under_any_default(name, rel, cutoff, default):
    graded = name in ("nDCG", "ERR", "DCG")
    inside = f"(rel={rel})" if rel is not None and not graded else ""
    measure = parse_measure(f"{name}{inside}@{cutoff}", rel=default)
    assert measure.rel == (None if graded else rel or default)
    assert parse_measure(str(measure), rel=default + 1) == measure


@pytest.mark.parametrize(
    "text", ["nDCG@10", "P(rel=3)@5", "AP(rel=2)@7", "nDCG(gains={3:9})@4", "IPrec(rel=2)@0.25"]
)
def test_the_object_of_ir_measures_is_the_one_its_own_parser_makes(text):
    assert parse_measure(text).build() == ir_measures.parse_measure(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ndcg@10", ["'ndcg'", "nDCG"]),
        ("map", ["'map'", "AP"]),
        ("ndcg_cut_10", ["'ndcg_cut_10'", "nDCG"]),
        ("zzz", ["'zzz'", "one of", "DCG", "RBP"]),
        ("", ["cannot be read", "@cutoff"]),
        ("P(10)", ["cannot be read"]),
        ("P@10@5", ["cannot be read"]),
        ("nDCG@ten", ["cannot be read"]),
        ("P", ["needs cutoff", "P@10"]),
        ("IPrec", ["needs recall", "IPrec@0.5"]),
        ("SDCG@5", ["needs max_rel", "max_rel=3"]),
        ("P@0", ["cutoff is 0", "at least 1"]),
        ("P@True", ["cutoff is True"]),
        ("nDCG@10.0", ["cutoff is 10.0"]),
        ("P(cutoff=5)@10", ["cutoff twice"]),
        ("P(rel=0)@10", ["rel is 0"]),
        ("RR(rel=1,rel=2)@10", ["rel twice"]),
        ("nDCG(cutoff=5,cutoff=10)", ["cutoff twice"]),
        ("nDCG(gains={3:9,3:7})@4", ["3 twice"]),
        ("SDCG(max_rel=0)@10", ["min_rel is 0 and max_rel is 0"]),
        ("INST(min_rel=3,max_rel=3)", ["as max_rel, above min_rel"]),
        ("RBP(p=1.0)", ["p is 1.0", "between 0 and 1"]),
        ("IPrec@0.125", ["0.125", "two decimals"]),
        ("nDCG(dcg='log10')@10", ["'log10'", "'exp-log2'"]),
        ("nDCG(rel=2)@10", ["no option 'rel'", "cutoff"]),
        ("nDCG(gains={0:1})@10", ["gains"]),
        ("nDCG(gains={3:9},dcg='exp-log2')@10", ["gains", "exp-log2"]),
        ("nDCG(judged_only=True)@10", ["judged"]),
        ("alpha_nDCG@10", ["subtopic"]),
        ("ERR_IA@10", ["subtopic"]),
        ("MAP_IA", ["subtopic"]),
        ("Judged@10", ["judged"]),
        ("Bpref", ["judged"]),
        ("infAP", ["judged"]),
        ("NumRet", ["counts"]),
        ("NumRelRet", ["counts"]),
        ("NumQ", ["counts"]),
        ("Accuracy", ["no value"]),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(text, parts):
    with pytest.raises(InputError) as error:
        parse_measure(text)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"measure {text!r}: ")
    assert "nDCG@10" in message  # an example of what would do
    for part in parts:
        assert part in message


def test_every_name_of_ir_measures_is_read_or_refused():
    for name in ir_measures.measures.registry:
        for form in (
            name,
            f"{name}@5",
            f"{name}@0.5",
            f"{name}(max_rel=3)",
            f"{name}(max_rel=3)@5",
        ):
            try:
                measure = parse_measure(form)
            except InputError:
                continue
            assert parse_measure(str(measure)) == measure


def test_gains_of_grades():
    grades = np.array([-1, 0, 1, 2, 3])
    assert parse_measure("nDCG@10").gains(grades).tolist() == [0, 0, 1, 2, 3]
    assert parse_measure("nDCG(gains={3:7})@10").gains(grades).tolist() == [0, 0, 1, 2, 7]
    assert parse_measure("nDCG(dcg='exp-log2')").gains(grades).tolist() == [0, 0, 1, 3, 7]
    assert parse_measure("P@10").gains(grades).tolist() == [0, 0, 0, 1, 1]
    assert parse_measure("P(rel=3)@10").gains(grades).tolist() == [0, 0, 0, 0, 1]


def test_checking_a_measure_loads_no_heavy_library():
    program = (
        "import sys; from matchlens.ranking import parse_measure; parse_measure('AP@10');"
        "print(sorted({'torch', 'pandas', 'scipy', 'statsmodels'} & set(sys.modules)))"
    )
    source = Path(matchlens.__path__[0]).parent
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("other", "here"),
    [
        ("ndcg_cut_10", "nDCG@10"),
        ("recip_rank", "RR"),
        ("P_10", "P@10"),
        ("recall_100", "R@100"),
        ("map", "AP"),
        ("hit@5", "Success"),
        ("hit_rate@5", "Success"),
        ("mrr@10", "RR"),
    ],
)
def test_a_measure_s_name_in_another_tool_is_translated(other, here):
    with pytest.raises(InputError, match=f"; expected {here}, spelt so"):
        parse_measure(other)
    parse_measure(here if "@" in here or here in ("RR", "AP") else f"{here}@5")
