"""The errors of gates, of screen and explain, and of sets of cuts, and what their messages say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import matchlens
import tiny as tiny_models
from matchlens import gating
from matchlens.options import Cuts
from matchlens.sets import SET_EXAMPLE, cut_sets
from remedies import C, least, numbers

LISTED = "sets.py:_sets"
PLACE = "options.py:CutSets.__post_init__"
MANY_HEADS = "Q->D#" + ",".join(f"{n // 2}.{n % 2}" for n in range(20_000))
RIGHT = json.loads(SET_EXAMPLE)


def behind(words: str, message: str) -> str:
    """All that stands behind some words of a message."""
    return message.rpartition(words)[2]


def sets(w, content: object) -> object:
    path = Path(f"cuts{next(w.outs)}.json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return cut_sets(path)


def named(w, cuts: list[str]) -> object:
    """Files with a set of one name, each with one of the cuts."""
    files = [Path(f"set{at}.json") for at in range(len(cuts))]
    for file, cut in zip(files, cuts, strict=True):
        file.write_text(json.dumps([{"name": "a", "cuts": [cut]}]))
    return Cuts(cut_file=files)


def explains(w, value: dict) -> object:
    given = {"passages": ["warm tea", "far rain"], "points": 2, "swap": False, **value}
    return matchlens.explain(w.model, "tea", given.pop("passages"), **given)


def screens(w, value: dict) -> object:
    return matchlens.screen(w.model, w.pairs, **{"others": 1, **value})


def sweeps(w, value: dict) -> object:
    given = {"kind": "heads", "directions": ["Q->D"], "screened": 1, **value}
    return matchlens.sweep(w.model, w.pairs, given.pop("kind"), **given)


def wrapped(w, inside: bool) -> object:
    with torch.inference_mode(inside):
        model = matchlens.wrap(tiny_models.model(), tiny_models.tokenizer(), name="mine")
    return gating.stream_slopes(model, w.pairs.pairs[:1], lambda rows, values: None)


def finite(w, dtype: str) -> object:
    scores = np.array([w.overflows(dtype)])
    return gating.check_finite(replace(w.model, dtype=dtype), scores, w.pairs.pairs[:1])


GATES = [
    C("files.py:read_json", "", sets, "[", lambda m: [behind("such as ", m)]),
    C(LISTED, "holds no list", sets, {}, lambda m: [behind("such as ", m)]),
    C(
        LISTED,
        "with name and cuts alone",
        sets,
        [{"name": "a"}],
        lambda m: [f"[{behind('for example, ', m)}]"],
    ),
    C(LISTED, "has the name", sets, [{**RIGHT[0], "name": ""}], [RIGHT]),
    C(LISTED, "two sets called", sets, RIGHT * 2, [[*RIGHT, {**RIGHT[0], "name": "another"}]]),
    C(
        LISTED,
        "texts for cuts",
        sets,
        [{"name": "a", "cuts": []}],
        lambda m: [[{"name": "a", "cuts": json.loads(behind("such as ", m))}]],
    ),
    C(LISTED, "{value}, set {value}: {value}", sets, [{"name": "a", "cuts": ["Q>D"]}], [RIGHT]),
    C(PLACE, "another set has that name", named, ["Q->D", "D->Q"], [["Q->D", "Q->D"]]),
    C(
        PLACE,
        "characters; expected at most",
        named,
        [MANY_HEADS],
        [["Q->D@0"]],
    ),
    C("gating.py:differentiable", "", wrapped, True, [False]),
    C("gating.py:check_finite", "", finite, "float16", lambda m: [example_dtype(m)]),
    C(
        "studies/explaining.py:check_points",
        "",
        explains,
        {"points": 0},
        lambda m: [{"points": one} for one in least(m)],
    ),
    C(
        "studies/explaining.py:_pairs",
        "came; expected two or more",
        explains,
        {"passages": ["warm tea"]},
        [{"passages": ["warm tea", "far rain"]}],
    ),
    C(
        "studies/explaining.py:_pairs",
        "have the id",
        explains,
        {"passages": [("a", "warm tea"), ("a", "far rain")]},
        [{"passages": [("a", "warm tea"), ("b", "far rain")]}],
    ),
    C(
        "studies/explaining.py:compared",
        "",
        explains,
        {"compare": (0, 2)},
        lambda m: [{"compare": tuple(numbers(m)[-2:])}],
    ),
    C(
        "studies/screening.py:screen",
        "others is",
        screens,
        {"others": 0},
        lambda m: [{"others": one} for one in least(m)],
    ),
    C(
        "studies/common.py:on_disk",
        "",
        lambda w, v: w.with_tmpdir(
            "matchlens.studies.screening.PairArray", v, lambda: screens(w, {})
        ),
        "full",
        ["room"],
    ),
    C(
        "studies/cuts/sweeps.py:put_forward",
        "heads to cut",
        sweeps,
        {"screened": 0},
        lambda m: [{"screened": one} for one in least(m)],
    ),
    C(
        "studies/cuts/sweeps.py:check_screened",
        "",
        sweeps,
        {"hows": ["mask"]},
        [{"screened": None, "hows": ["mask"]}, {"hows": ["zero"]}],
    ),
]

ELSEWHERE = {
    ("studies/explaining.py:_within_memory", ""): (
        "test_explain.py:test_memory_that_runs_out_is_one_line"
    ),
    ("gating.py:_in_smaller_batches", ""): (
        "test_gates.py:test_a_batch_that_memory_is_short_for_is_halved"
    ),
    ("gating.py:check_gates", ""): "test_gates.py:test_a_saboteur_is_caught",
}


def example_dtype(message: str) -> str:
    """The type that is named in quotes behind ``dtype=``."""
    return message.partition("dtype='")[2].partition("'")[0]
