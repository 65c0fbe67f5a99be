"""Every public function refuses ten kinds or more of wrong argument and says what it expected."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import matchlens
import tiny
from matchlens import (
    InputError,
    PairSet,
    Reranker,
    Result,
    Study,
    beir,
    demo,
    frame,
    irds,
    pyterrier,
    trec,
)
from matchlens.reading import to_json
from test_own_parts import graded

KINDS = {
    "None": None,
    "True": True,
    "whole number": 3,
    "number": 2.5,
    "text": "nonsense",
    "bytes": b"nonsense",
    "list": [object()],
    "dict": {"a": object()},
    "object": object(),
    "function": lambda: None,
    "class": set,
    "set": {1.5},
    "complex": 1j,
    "array": np.zeros((2, 2)),
    "error": ValueError("nonsense"),
    "module": re,
}
ACCEPTED = {
    "None": ("None",),
    "bool": ("True",),
    "int": ("whole number",),
    "float": ("number", "whole number"),
    "str": ("text",),
    "Path": ("text",),
    "Progress": ("function", "True", "class"),
    "Stage": ("function", "True", "class"),
    "Runner": ("function", "class"),
    "Callable": ("function", "class"),
    "Thresholds": (),
    "Any": tuple(KINDS),
}
"""What a name in an annotation lets through: the kinds are refused elsewhere, or are right."""
LATER = ("Mapping", "Iterable", "Sequence")
"""Annotations of containers: an item may be looked at later than the container."""


def functions() -> dict[str, Callable]:
    found: dict[str, Callable] = {}
    for name in matchlens.__all__:
        thing = getattr(matchlens, name)
        if inspect.isfunction(thing):
            found[name] = thing
    for module in (beir, frame, irds, trec):
        found[f"{module.__name__.rpartition('.')[2]}.load"] = module.load
    found["demo.load"] = demo.load
    for kind in (PairSet, Result, Study, Reranker, matchlens.Cut, matchlens.Direction):
        for name, member in inspect.getmembers(kind):
            public = not name.startswith("_") and callable(member)
            if public and getattr(member, "__module__", "").startswith("matchlens"):
                found[f"{kind.__name__}.{name}"] = member
    found["pyterrier.Reranker"] = pyterrier.Reranker
    for name in ("transform", "explain"):
        found[f"pyterrier.Reranker.{name}"] = getattr(pyterrier.Reranker, name)
    for name in ("Pair", "PairSet", "Cut", "Direction"):
        found[name] = getattr(matchlens, name)
    found["Part.parse"] = matchlens.Part.parse
    return found


OTHERS = {"How", "InputError", "MatchlensWarning", "Prompt", "Reranker", "Result", "Study"}
"""Public names that a user does not call: what functions return, raise or name."""


def test_every_public_name_is_called_here():
    called = {name.partition(".")[0] for name in FUNCTIONS}
    assert set(matchlens.__all__) - called - OTHERS - {"__version__", "Part"} == set()


SELVES = ("PairSet", "Reranker", "Cut", "Direction", "Result", "Study", "pyterrier")
"""Classes, and a module of one, whose methods are called."""
FUNCTIONS, COLLECTION = functions(), demo.load()


def cases() -> Iterator[tuple[str, str]]:
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                yield name, parameter.name


def wrong_kinds(annotation: str) -> list[str]:
    """The kinds that an annotation does not allow."""
    words = re.findall(r"\w+", annotation)
    right = {kind for word in words for kind in ACCEPTED.get(word, ())}
    if any(word in LATER for word in words):
        right |= {"list"} if "Mapping" not in words else {"dict"}
    if "PairSet" in words or "DataFrame" in words:
        right -= {"list"}
    if "Reranker" in words:
        right |= {"text"}  # a folder or an id, which is refused where it is looked for
    return [kind for kind in KINDS if kind not in right]


def terrier(model: Reranker) -> object:
    """A transformer; where PyTerrier is missing, one that nobody could make."""
    kind: Any = pyterrier.Reranker
    return kind.__new__(kind) if pyterrier.pt is None else kind(model)


class _Instance:
    """Public objects for methods, by their class."""

    @staticmethod
    def of(name: str, model: Reranker) -> object:
        pairs = graded()
        return {
            "PairSet": lambda: pairs,
            "Reranker": lambda: model,
            "Cut": lambda: matchlens.Cut.parse("Q->D"),
            "Direction": lambda: matchlens.Direction.parse("Q->D"),
            "Result": lambda: matchlens.ablation(model, pairs, cuts=["Q->D"], rel=1),
            "Study": lambda: Study({}, {}),
            "pyterrier": lambda: terrier(model),
        }[name]()


@pytest.fixture(scope="module")
def objects(tiny) -> dict[str, object]:
    names = {name.partition(".")[0] for name in FUNCTIONS if "." in name}
    return {name: _Instance.of(name, tiny) for name in names & {*SELVES}}


@pytest.mark.parametrize(("name", "parameter"), list(cases()))
def test_a_wrong_argument_is_refused_with_a_remedy(name, parameter, objects):
    function = FUNCTIONS[name]
    signature = inspect.signature(function)
    annotation = str(signature.parameters[parameter].annotation)
    bad = wrong_kinds(annotation)
    assert len(bad) >= 10 or "Any" in annotation, annotation
    for kind in bad:
        arguments = _good(name, signature, objects)
        arguments[parameter] = KINDS[kind]
        with pytest.raises(InputError) as caught:
            _call(function, signature, arguments)
        message = str(caught.value)
        assert "expected" in message, (kind, message)
        assert "Any" in annotation or parameter.rstrip("s") in message, (kind, message)
        assert len(message) < 400
        assert "\n" not in message


def _good(name: str, signature: inspect.Signature, objects: dict) -> dict[str, object]:
    """Arguments of the right types, so that it is the wrong one that is refused."""
    right = {
        "model": objects["Reranker"],
        "pairs": objects["PairSet"] if name != "PairSet" else objects["PairSet"].pairs,
        "result": objects["Result"],
        "collection": COLLECTION,
        "self": objects.get(name.partition(".")[0]),
        "most": 5,
        "pair": objects["PairSet"][0],
        **{key: {} for key in ("results", "ideals", "sampling", "counts", "parts")},
        **dict.fromkeys(("first", "second"), objects["Result"]),
        **dict.fromkeys(("layers", "heads", "layer", "grade"), 1),
        **{key: ["cat", "dog"] for key in ("passages", "fields", "folders", "directions")},
        **dict.fromkeys(("kind", "folder", "dataset_id", "topics", "qrels", "name", "study"), "x"),
        **dict.fromkeys(("query", "qid", "docid", "text"), "x"),
        "sets": {"top": "0.1"},
        "sources": (),
        "left": (matchlens.Part.Q,),
        "inp": pd.DataFrame({"qid": ["x"]}),
    }
    return {
        key: right.get(key)
        for key, parameter in signature.parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }


def _call(function: Callable, signature: inspect.Signature, arguments: dict) -> None:
    positional = [
        key
        for key, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and key in arguments
        and parameter.default is parameter.empty
    ]
    left = {key: value for key, value in arguments.items() if key not in positional}
    function(*(arguments[key] for key in positional), **left)


def test_pairs_model_result_and_study_show_themselves_in_a_notebook(objects):
    for name in ("PairSet", "Reranker", "Result", "Study"):
        html = objects[name]._repr_html_()
        assert html == "" or html.lstrip().startswith("<"), name
        assert "<script" not in html
    shown = PairSet((matchlens.Pair("q", "d", "<b>bad</b>", "<i>", 1),), {}, {}, {}, ())
    assert "<b>bad" not in shown._repr_html_()
    assert "&lt;b&gt;bad" in shown._repr_html_()


def test_pairs_have_a_length_and_slices(objects):
    pairs = objects["PairSet"]
    assert len(pairs) == len(list(pairs)) == 12
    assert len(pairs[2:5]) == 3
    assert pairs[-1] == pairs.pairs[-1]
    assert np.shape(pairs.pairs) == (12,)


ORDERED = {
    "passages to explain": lambda m, made: matchlens.explain(m, "cat", made(["mat", "sun"])),
    "passages to rank": lambda m, made: matchlens.rank(m, "cat", made(["mat", "sun"])),
    "pairs": lambda m, made: matchlens.score(m, made([("cat", "mat")])),
    "cuts": lambda m, made: matchlens.score(m, [("cat", "mat")], made(["Q->D", "D->Q"])),
    "folders": lambda m, made: matchlens.compare(made(["a", "b"])),
    "measures": lambda m, made: matchlens.ablation(
        m, tiny.graded_by_cats(3), cuts=["Q->D"], measure=made(["nDCG@10", "RR@10"])
    ),
}


@pytest.mark.parametrize("made", [set, frozenset])
@pytest.mark.parametrize("call", ORDERED.values(), ids=ORDERED)
def test_a_set_is_no_list_since_its_order_changes_from_run_to_run(call, made, tiny32):
    with pytest.raises(InputError, match=r"(is a set|since a set).* order.*sorted"):
        call(tiny32, made)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model, pairs: matchlens.look(model, pairs, chosen=iter([(1, 2)])), "chosen is"),
        (
            lambda model, pairs: matchlens.head_sets(
                model, pairs, {"top": pd.DataFrame({"layer": [0], "head": [1]}).itertuples()}
            ),
            "sets is",
        ),
        (lambda model, pairs: matchlens.circuits(model, pairs, heads=iter([8])), "heads is"),
        (lambda model, pairs: matchlens.circuits(model, pairs, heads={8: 1}.keys()), "heads is"),
    ],
)
def test_items_of_what_is_walked_once_are_checked(call, said, tiny32, tiny_pairs):
    with pytest.raises(InputError, match=f"{said} .*; expected "):
        call(tiny32, list(tiny_pairs))


def test_a_transformer_of_pyterrier_is_its_model_unless_it_cuts(tiny32):
    """It has the name of matchlens's own class, and would fail far inside."""
    transformer = object.__new__(pyterrier.Reranker)  # without PyTerrier itself
    transformer.model, transformer.cut = tiny32, matchlens.Cut.parse("")
    pairs = [("warm tea", "tea")]
    assert matchlens.score(transformer, pairs).equals(matchlens.score(tiny32, pairs))
    transformer.cut = matchlens.Cut.parse("Q->D")
    with pytest.raises(InputError, match=r"the cut 'Q->D', .* give its \.model, and the cut"):
        matchlens.score(transformer, pairs)


def test_a_namesake_of_a_class_is_not_taken_for_it(tiny32):
    class Cut:
        pass

    with pytest.raises(InputError, match="item"):
        matchlens.score(tiny32, [("warm tea", "tea")], [Cut()])


def test_what_has_an_order_is_a_list(tiny32):
    for made in (iter, tuple, lambda texts: dict.fromkeys(texts).keys()):
        ranked = matchlens.rank(tiny32, "cat", made(["mat", "sun"]))
        assert {row["corpus_id"] for row in ranked} == {0, 1}


def test_numbers_of_numpy_and_pandas_are_python_s(tiny32, tmp_path):
    grades = pd.Series([0, 2, 1])
    pair = matchlens.Pair("q", "d", "cat", "mat", grades.max(), judged=np.True_)
    assert (type(pair.grade), type(pair.judged)) == (int, bool)
    cut = matchlens.Cut(matchlens.Cut.parse("Q->D").directions, heads=((np.int64(1), np.int8(0)),))
    assert {type(number) for couple in cut.heads or () for number in couple} == {int}
    options = {"seed": np.int64(3), "queries": np.uint8(2), "easy": np.int32(1)}
    plain = {name: int(value) for name, value in options.items()}
    assert matchlens.choose(COLLECTION, **options) == matchlens.choose(COLLECTION, **plain)
    chosen = {"rel": grades.max(), "tie_tol": np.float32(0.5), "rank_easy": np.False_}
    result = matchlens.ablation(tiny32, graded(), cuts=["Q->D"], **chosen)
    result.save(tmp_path / "out")
    assert Result.load(tmp_path / "out", "ablation").options["rel"] == 2
    few, _ = matchlens.thin(graded(), np.int64(5), seed=np.int64(1))
    assert len(few) <= 5
    with pytest.raises(InputError, match=r"rel is .*; expected a whole number"):
        matchlens.ablation(tiny32, graded(), cuts=["Q->D"], rel=np.True_)


def test_a_number_of_numpy_in_a_manifest_is_json():
    assert to_json({"seed": np.int64(3), "q": np.float32(0.5)}) == to_json({"seed": 3, "q": 0.5})
    with pytest.raises(TypeError, match="object is no JSON"):
        to_json({"seed": object()})
