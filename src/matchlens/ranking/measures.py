"""Measures of ranking quality: a name with parameters, checked, with one canonical text."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from matchlens.errors import InputError

EXAMPLE = "e.g. nDCG@10, P(rel=2)@10, AP or RR@10"
LINEAR = frozenset({"nDCG", "DCG", "P", "R", "Rprec", "RBP"})
ORDER_FREE = frozenset({"SetP", "SetR", "SetF", "SetAP"})
OWN = LINEAR | {"ERR"}

_SUBTOPICS = "it needs judgments by subtopic, which the collections here do not have"
_JUDGED = "it needs to know which candidates were judged, and an unjudged one has grade 0 here"
_COUNT = "it counts queries or passages and says nothing about their order"
_REFUSED = {
    **dict.fromkeys(
        ("alpha_DCG", "alpha_nDCG", "ERR_IA", "nERR_IA", "NRBP", "nNRBP", "AP_IA", "P_IA"),
        _SUBTOPICS,
    ),
    "StRecall": _SUBTOPICS,
    **dict.fromkeys(("Bpref", "infAP", "Judged"), _JUDGED),
    **dict.fromkeys(("NumQ", "NumRel", "NumRet"), _COUNT),
    "Accuracy": "it has no value for a query whose candidates are all relevant, or all not",
}

Option = bool | int | float | str | tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Measure:
    """A measure of ranking quality with its parameters; made by `parse_measure`.

    Two measures are equal where their canonical texts are. The text names `rel` even where
    ir_measures would leave it out, so that it means the same wherever it is read.

    Args:
        name: ir_measures' name (or DCG).
        at: the value after `@`: the cutoff (ranks), or the recall of IPrec.
        options: the other parameters that differ from their defaults, and `rel`, by name.

    >>> str(parse_measure("MAP@100"))
    'AP(rel=2)@100'
    """

    name: str
    at: int | float | None = None
    options: tuple[tuple[str, Option], ...] = ()

    def __str__(self) -> str:
        inside = ",".join(f"{key}={_text(value)}" for key, value in self.options)
        text = f"{self.name}({inside})" if inside else self.name
        return text if self.at is None else f"{text}@{self.at}"

    def option(self, name: str, default: Any = None) -> Any:
        """The value of one option, or `default` where it is at its default."""
        return dict(self.options).get(name, default)

    @property
    def rel(self) -> int | None:
        """The lowest grade that counts as relevant; None for a measure of graded relevance."""
        return self.option("rel")

    @property
    def cutoff(self) -> int | None:
        """The number of ranks that count; None where all do."""
        return self.at if isinstance(self.at, int) else None

    @property
    def linear(self) -> bool:
        """Whether the value is a sum over ranks of gain times a weight of the rank."""
        return self.name in LINEAR

    def gains(self, grades: Int[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
        """What each grade earns; negative grades earn what 0 does."""
        if self.rel is not None:
            return (grades >= self.rel).astype(np.float64)
        gain = grades.astype(np.float64)
        for grade, value in self.option("gains", ()):
            gain[grades == grade] = value
        gain = np.maximum(gain, 0)
        return np.exp2(gain) - 1 if self.option("dcg") == "exp-log2" else gain

    def build(self) -> Any:
        """The measure as an object of ir_measures (DCG has none)."""
        from ir_measures.measures import registry

        kind = registry[self.name]
        options = {key: dict(v) if isinstance(v, tuple) else v for key, v in self.options}
        return kind(**options) if self.at is None else kind(**options) @ self.at


def parse_measure(text: str, rel: int = 2) -> Measure:
    """Read a measure in ir_measures' notation, `Name(option=value, ...)@cutoff`.

    Names and options are those of ir_measures, aliases included (MAP, MRR, NDCG, Recall, ...),
    and DCG with the options of nDCG. A measure of binary relevance that does not say what is
    relevant takes `rel`, where ir_measures would take 1; RBP is such a measure here.

    Args:
        text: the measure.
        rel: the lowest grade that counts as relevant (2 for TREC DL).

    Raises:
        InputError: the text is no measure, a parameter is missing or wrong, or the measure
            cannot be had per query from rankings and grades.

    Source: MacAvaney, Macdonald & Ounis 2022 (ir_measures).

    >>> [str(parse_measure(text)) for text in ("P@10", "RR(rel=1)@10", "nDCG@10")]
    ['P(rel=2)@10', 'RR(rel=1)@10', 'nDCG@10']
    >>> parse_measure(str(parse_measure("RBP(p=0.5)"))) == parse_measure("RBP(p=.5, rel=2)")
    True
    """
    if rel < 1:
        raise InputError(f"rel is {rel}; expected a grade of at least 1, e.g. 2 for TREC DL")
    name, written, at = _split(text)
    name, known, at_name, preset = _kind(text, name)
    written = preset | written
    if at is not None:
        if at_name in written:
            raise _wrong(text, f"it gives {at_name} twice", "write it once, behind @")
        written[at_name] = at
    if unknown := sorted(written.keys() - known.keys()):
        expected = f"expected {', '.join(known)}" if known else "expected none"
        raise _wrong(text, f"{name} has no option {unknown[0]!r}", expected)
    if written.pop("judged_only", False):
        raise _wrong(text, f"judged_only is refused: {_JUDGED}", "leave it out")
    if "rel" in known:
        written.setdefault("rel", rel)
    options = {key: _checked(text, name, key, value, known[key]) for key, value in written.items()}
    for key, info in known.items():
        if info.required and key not in options:
            shape = f"{name}@{'0.5' if key == 'recall' else '10'}"
            if key != at_name:
                shape = f"{name}({key}=3)" + ("@10" if at_name in known else "")
            raise _wrong(text, f"{name} needs {key}", f"write {shape}")
    at = options.pop(at_name, None)
    measure = Measure(
        name=name,
        at=at if isinstance(at, int | float) else None,
        options=tuple(
            (key, value)
            for key, value in sorted(options.items())
            if key == "rel" or (value != known[key].default and value != ())
        ),
    )
    _check_whole(text, measure)
    return measure


def measure_text(measure: Any) -> Any:
    """A measure of ir_measures as text, with all its options; anything else as it came.

    The library's own text leaves out ``rel=1``, which here is another measure than none.
    """
    if not type(measure).__module__.startswith("ir_measures."):
        return measure
    options = dict(measure.params)
    at = options.pop(measure.AT_PARAM, None)
    inside = ",".join(f"{name}={value!r}" for name, value in options.items())
    return measure.NAME + (f"({inside})" if inside else "") + ("" if at is None else f"@{at}")


def _wrong(text: str, what: str, remedy: str) -> InputError:
    return InputError(f"measure {text!r}: {what}; {remedy} ({EXAMPLE})")


def _split(text: str) -> tuple[str, dict[str, Any], Any]:
    """Name, options and the value after `@`, as written."""
    match = re.fullmatch(r"\s*([^\W\d]\w*)\s*(?:\((.*)\))?\s*(?:@\s*(.+?))?\s*", text, re.DOTALL)
    try:
        if match is None:
            raise ValueError
        call = ast.parse(f"f({match[2] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not all(k.arg for k in call.keywords):
            raise ValueError
        options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        grades = [ast.unparse(one) for k in call.keywords for one in getattr(k.value, "keys", ())]
        at = None if match[3] is None else ast.literal_eval(match[3])
    except (ValueError, TypeError, SyntaxError):
        remedy = "expected Name(option=value, ...)@cutoff"
        raise _wrong(text, "it cannot be read", remedy) from None
    for keys in ([str(k.arg) for k in call.keywords], grades):
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise _wrong(text, f"it gives {twice[0]} twice", "write it once")
    return match[1], options, at


def _kind(text: str, name: str) -> tuple[str, Mapping[str, Any], str, dict[str, Any]]:
    """Canonical name, known parameters, the one that `@` sets, and an alias's own parameters."""
    from ir_measures.measures import registry

    if name == "DCG":
        return "DCG", registry["nDCG"].SUPPORTED_PARAMS, "cutoff", {}
    if name not in registry:
        names = {n.lower(): kind.NAME for n, kind in registry.items() if kind.NAME not in _REFUSED}
        near = [names[name.lower()]] if name.lower() in names else _of_trec(name)
        close = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
        near = near or sorted({names[n] for n in close})
        choice = near or sorted({"DCG", *names.values()})
        expected = f"expected {' or '.join(choice) if near else 'one of ' + ', '.join(choice)}"
        raise _wrong(text, f"no measure is called {name!r}", f"{expected}, spelt so")
    kind = registry[name]
    if kind.NAME in _REFUSED:
        raise _wrong(text, f"{name} is refused: {_REFUSED[kind.NAME]}", "take another measure")
    return kind.NAME, kind.SUPPORTED_PARAMS, kind.AT_PARAM, dict(kind.params)


_OTHERS = {"hit": "Success", "hits": "Success", "hit_rate": "Success"}
"""Measures by ranx's and BEIR's names."""


def _of_trec(name: str) -> list[str]:
    """What a measure of trec_eval or ranx is called here; empty where it is none of theirs."""
    import ir_measures

    if name.lower() in _OTHERS:
        return [_OTHERS[name.lower()]]
    try:
        measures = ir_measures.parse_trec_measure(name)
    except (ValueError, KeyError):
        return []
    return [str(measure) for measure in measures[:2] if measure.NAME not in _REFUSED]


def _checked(text: str, name: str, key: str, value: Any, info: Any) -> Option:
    """One option's value, of the right type and inside its range."""
    if info.dtype is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    right = info.validate(value) and (info.dtype is bool or not isinstance(value, bool))
    expected = info.desc or "another value"
    if key in ("cutoff", "rel"):
        right, expected = right and value >= 1, "a whole number of at least 1"
    elif key == "p" and name == "RBP":
        right, expected = right and 0 < value < 1, "a number between 0 and 1, such as 0.8"
    elif key == "recall":
        right = right and 0 <= value <= 1 and round(value, 2) == value
        expected = "a recall of 0 to 1 with at most two decimals"
    elif key == "dcg":
        expected = " or ".join(map(repr, info.choices))
    elif key == "gains":
        pairs = list(value.items()) if isinstance(value, dict) else []
        right = right and all(type(k) is int and type(v) is int for k, v in pairs)
        right = right and all(k > 0 or v <= 0 for k, v in pairs)
        expected = "whole numbers by grade, and no gain for grades up to 0, which unjudged have"
    if not right:
        raise _wrong(text, f"{key} is {value!r}", f"expected {expected}")
    if isinstance(value, dict):
        return tuple(sorted((k, v) for k, v in value.items() if k != v and k > 0))
    return value


def _check_whole(text: str, measure: Measure) -> None:
    """Refuse what cannot be evaluated, before any model is run."""
    if measure.option("gains") and measure.option("dcg") == "exp-log2":
        raise _wrong(text, "it gives both gains and dcg='exp-log2'", "give one of them")
    lowest, highest = measure.option("min_rel", 0), measure.option("max_rel")
    if highest is not None and lowest >= highest:
        remedy = "expected the highest grade as max_rel, above min_rel"
        raise _wrong(text, f"min_rel is {lowest} and max_rel is {highest}", remedy)
    if measure.name in OWN:
        return
    import ir_measures

    if not ir_measures.DefaultPipeline.supports(measure.build()):
        remedy = "pip install cwl-eval for the C/W/L measures, or take another"
        raise _wrong(text, f"no installed library computes {measure}", remedy)


def _text(value: Option) -> str:
    if isinstance(value, tuple):
        return "{" + ",".join(f"{grade}:{gain}" for grade, gain in value) + "}"
    return repr(value)
