"""Several measures at once: one run of the pairs, a column for each."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, P, nDCG

import matchlens
from matchlens import InputError
from matchlens.report.views import files_of, text_of
from test_own_parts import graded

CUTS = ["Q->D", "D->D"]
STUDIES = {
    "ablation": lambda model, pairs, **options: matchlens.ablation(
        model, pairs, cuts=CUTS, **options
    ),
    "sweep": lambda model, pairs, **options: matchlens.sweep(
        model, pairs, kind="only", directions=["Q->D"], **options
    ),
    "controls": lambda model, pairs, **options: matchlens.controls(
        model, pairs, ["Q->D"], draws=1, **options
    ),
}


@pytest.mark.parametrize("study", list(STUDIES))
def test_each_measure_has_the_numbers_of_a_run_of_its_own(tiny, study):
    run, pairs = STUDIES[study], graded(6)
    several = run(tiny, pairs, measure=[nDCG @ 10, "RR@10", P(rel=1) @ 1])
    table = several.to_frame("measures")
    assert list(dict.fromkeys(table["measure"])) == several.options["measures"]
    for name in ("nDCG@10", "RR@10", "P(rel=1)@1"):
        alone = run(tiny, pairs, measure=name)
        mine = table[table["measure"] == alone.options["measure"]].set_index("cut")
        whole = several.to_frame("measure_queries")
        theirs = alone.tables["queries"]
        own = whole[whole["measure"] == alone.options["measure"]]
        for cut in theirs["cut"].unique():
            np.testing.assert_allclose(
                own[own["cut"] == cut]["value"], theirs[theirs["cut"] == cut]["value"]
            )
            assert mine.loc[cut, "mean"] == pytest.approx(
                theirs[theirs["cut"] == cut]["value"].mean()
            )
    for name, first in run(tiny, pairs).tables.items():
        assert first.equals(several.tables[name]), name
    assert several.options["layer_passes"] == run(tiny, pairs).options["layer_passes"]


def test_a_column_for_each_measure_is_printed_and_written(tiny):
    result = STUDIES["ablation"](tiny, graded(6), measure=["nDCG@10", "RR@10"])
    heading = next(line for line in text_of(result).splitlines() if line.split()[:1] == ["cut"]
                   and "RR" in line)  # fmt: skip
    assert heading.split() == ["cut", "nDCG@10", "RR(rel=2)@10"]
    assert "RR(rel=2)@10" in str(files_of(result)["ablation/measures.tex"])
    assert "measures" not in STUDIES["ablation"](tiny, graded(6)).tables


def test_measures_that_cannot_be_used_are_refused(tiny):
    pairs = graded()
    for measure, words in (
        (["RR@10", RR @ 10], "given twice"),
        ([], "no measure came"),
        (["RR@10", 3], "measure is"),
        (["nonsense"], "nonsense"),
    ):
        with pytest.raises(InputError, match=words):
            matchlens.ablation(tiny, pairs, cuts=CUTS, measure=measure)


def test_rr_on_grades_of_0_and_1_works_without_rel(tiny):
    """Where no grade reaches 2, 1 is relevant."""
    rows = [
        {"query": f"cat dog {n}", "text": f"cat {word}", "grade": grade}
        for n in range(3)
        for grade, word in ((1, "tree"), (0, "house"))
    ]
    result = matchlens.ablation(
        tiny, matchlens.PairSet.from_frame(rows), cuts=CUTS, measure=ir_measures.RR @ 10
    )
    assert (result.options["measure"], result.options["rel"]) == ("RR(rel=1)@10", 1)
