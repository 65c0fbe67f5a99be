"""The interface in Python: wrong arguments, short texts of objects, what stands for what."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

import ir_measures
import pandas as pd
import pytest

import matchlens
from matchlens import Cut, Direction, How, InputError, Pair, PairSet, Part, arguments
from matchlens.prompts import BGE, QWEN3
from test_looking import graded
from test_wrap import CrossEncoder

KINDS = {
    "nothing": None,
    "a number": 3,
    "a fraction": 2.5,
    "a yes": True,
    "a text": "no such thing",
    "bytes": b"\xff\x00",
    "a list": ["a", 3, None],
    "a dict": {"a": object()},
    "an object": object(),
    "a frame": pd.DataFrame({"a": [1]}),
    "a function": len,
    "a class": int,
}
METHODS = (
    *("Cut", "Cut.parse", "Cut.of", "Direction", "Direction.parse", "Pair", "Part.parse"),
    *("PairSet.join", "PairSet.from_frame", "Result.load", "trec.load", "irds.load"),
    *("beir.load", "frame.load", "pyterrier.Reranker"),
)


def public(name: str):
    found = matchlens
    for part in name.split("."):
        found = getattr(found, part)
    return found


def typed_parameters() -> Iterator[tuple[str, str, ast.expr]]:
    """Every public function with each parameter whose annotation says a type."""
    import matchlens.pyterrier

    assert matchlens.pyterrier
    functions = (n for n in matchlens.__all__ if inspect.isfunction(getattr(matchlens, n)))
    for name in (*functions, *METHODS):
        for given in inspect.signature(public(name)).parameters.values():
            if given.name != "self" and isinstance(given.annotation, str):
                hint = ast.parse(given.annotation, mode="eval").body
                if not arguments.fits(object(), hint):
                    yield name, given.name, hint


ALL = list(typed_parameters())


@pytest.mark.parametrize(("name", "wrong", "hint"), ALL, ids=[f"{n} {p}" for n, p, _ in ALL])
def test_each_kind_of_wrong_argument_is_refused_in_one_line(name, wrong, hint, monkeypatch):
    """Before anything is done with the other arguments, which count as right here."""
    fits, right = arguments.fits, object()
    monkeypatch.setattr(arguments, "fits", lambda value, hint: value is right or fits(value, hint))
    function = public(name)
    needed = [
        given.name
        for given in inspect.signature(function).parameters.values()
        if given.default is inspect.Parameter.empty and given.name != wrong
    ]
    kinds = {kind: value for kind, value in KINDS.items() if not fits(value, hint)}
    if wrong == "progress":
        del kinds["a yes"]  # it shows a bar
    assert len(kinds) >= 7
    for value in kinds.values():
        with pytest.raises(InputError) as error:
            function(**{wrong: value, **dict.fromkeys(needed, right)})
        message = str(error.value)
        assert "expected" in message
        assert message.isprintable()
        assert len(message) <= 400


def test_every_public_function_holds_its_types():
    functions = {n for n in matchlens.__all__ if inspect.isfunction(getattr(matchlens, n))}
    assert functions - {name for name, *_ in ALL} == {"table1"}  # it has no arguments


LONG = "long words " * 500


def objects(tiny) -> Iterator[object]:
    """Public objects, some of them with much in them."""
    pairs = graded()
    yield from (tiny, pairs, pairs[0], pairs[:0], matchlens.demo.load(), BGE, QWEN3)
    yield Pair(LONG, LONG, LONG, LONG, 1)
    yield Pair(*["\N{RIGHT-TO-LEFT OVERRIDE}" * 999] * 4, 1)
    yield PairSet.from_frame(
        pd.DataFrame({"query": [LONG], "text": [LONG], "grade": [1]}), name=LONG.replace(" ", "-")
    )
    yield matchlens.frame.load({"q": LONG}, {"q": {"d": 1}}, {"d": LONG}, name=LONG)
    yield Cut.parse("Q->D#" + ",".join(f"{layer}.0" for layer in range(500)))
    yield from (Cut.parse("Q->D@0:8~mask"), Direction.parse("{D,Q}->All"), How.MASK, Part.Q)
    yield matchlens.ablation(tiny, pairs, cuts=["Q->D", "D->Q"])
    yield matchlens.study(tiny, pairs, studies=["ablation"])


def test_the_repr_of_a_public_object_is_a_short_line(tiny):
    for one in objects(tiny):
        assert len(repr(one)) <= 200, repr(one)
        assert repr(one).isprintable()
    for text in ("Q->D", "Q->D+{Q,D}->D@0:8~mask", ""):
        assert eval(repr(Cut.parse(text)), {"Cut": Cut}) == Cut.parse(text)


# --- what stands for a model, a measure, an arrow


def test_a_folder_and_a_cross_encoder_stand_for_a_model(tiny_folder, tiny32):
    pairs = graded()
    expected = matchlens.score(tiny32, pairs, ["Q->D"])
    for model in (str(tiny_folder), tiny_folder, CrossEncoder(tiny_folder)):
        found = matchlens.score(model, pairs, ["Q->D"])
        assert found.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-5)
    with pytest.raises(InputError, match="no-such-model"):
        matchlens.score("no-such-model", pairs)


MEASURES = [  # no dict: two of them are equal to their library
    (ir_measures.nDCG @ 10, "nDCG@10"),
    (ir_measures.P(rel=1) @ 3, "P(rel=1)@3"),
    (ir_measures.P @ 3, "P(rel=2)@3"),
    (ir_measures.nDCG(dcg="exp-log2") @ 5, "nDCG(dcg='exp-log2')@5"),
    (ir_measures.AP(rel=3), "AP(rel=3)"),
]


@pytest.mark.parametrize(("measure", "name"), MEASURES, ids=[name for _, name in MEASURES])
def test_a_measure_may_be_an_object_of_ir_measures(tiny, measure, name):
    """Its rel=1 is kept, which the library's own text leaves out."""
    pairs = graded()
    by_object = matchlens.ablation(tiny, pairs, cuts=["Q->D"], measure=measure)
    assert by_object.options["measure"] == name
    by_text = matchlens.ablation(tiny, pairs, cuts=["Q->D"], measure=name)
    assert by_object.to_frame().equals(by_text.to_frame())


def test_judgements_of_0_and_1_count_1_as_relevant_where_nothing_is_said(tiny):
    rows = [("q", "warm tea", f"{'cat ' * (n + 1)}", n % 3 == 0) for n in range(9)]
    frame = pd.DataFrame(rows, columns=["qid", "query", "text", "label"])
    result = matchlens.ablation(tiny, frame, cuts=["Q->D"], measure="RR@10")
    assert result.options["measure"] == "RR(rel=1)@10"


def test_an_arrow_is_read_as_the_grammar_s():
    assert Cut.parse("Q\N{RIGHTWARDS ARROW}D @0:3") == Cut.parse("Q->D@0:3")
    assert str(Cut.parse("{Q,D}\N{RIGHTWARDS ARROW}All")) == "{Q,D}->All"
    with pytest.raises(InputError, match="at character 3, 'X'"):
        Cut.parse("Q\N{RIGHTWARDS ARROW}X")
