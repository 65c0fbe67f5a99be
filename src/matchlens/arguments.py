"""Arguments of public functions are held against their annotations."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import numbers
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView, Sequence
from typing import Any, TypeVar

from matchlens.errors import InputError, one_line

F = TypeVar("F", bound=Callable[..., Any])

PLAIN: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (numbers.Integral,),
    "float": (numbers.Real,),
    "Path": (os.PathLike,),
}
WORDS: Mapping[str, str] = {
    "str": "a text",
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "Path": "a path",
    "None": "None",
    "Reranker": "a model: what matchlens.load returns, its folder or id, or a CrossEncoder",
    "PairSet": "a PairSet: what matchlens.choose returns, or a list or DataFrame of pairs",
    "Result": "a result: what a study such as matchlens.ablation returns",
    "DataFrame": "a pandas DataFrame",
    "Pair": "a matchlens.Pair",
    "Cut": "a matchlens.Cut",
    "Direction": "a matchlens.Direction",
    "Part": "a matchlens.Part",
    "OwnPart": "an own part",
    "Study": "what matchlens.study returns",
    "Prompt": "a matchlens.Prompt",
    "ModelFolder": "a ModelFolder",
    "Mapping": "a dict",
    "Thresholds": "Thresholds",
    "Base": "what matchlens.models.base.load_base returns",
    "Watched": "what matchlens.studies.attention.watching.watch returns",
    "Collection": "a collection: what matchlens.demo.load, trec.load or irds.load returns",
    "Progress": "True (a progress bar), False or a function",
    "Stage": "True (a progress bar), False or a function",
    "Runner": "a function",
    "Callable": "a function",
}
"""What an annotation means, in words; names that are not here are not typed."""
CONVERTED: Mapping[str, tuple[str, str]] = {
    "Reranker": ("matchlens.models.wrap", "as_model"),
    "PairSet": ("matchlens.corpora.pairs", "as_pairs"),
    "str": ("matchlens.ranking.measures", "measure_text"),
    "Progress": ("matchlens.showing", "progress_of"),
    "Stage": ("matchlens.showing", "stage_of"),
}
"""What makes the right thing of what people have instead, by module and name: these stand above."""
HOMES: Mapping[str, str] = {"DataFrame": "pandas", "Reranker": "matchlens.models"}
"""Where a class stands that an annotation names, if not anywhere in matchlens."""
LISTS = ("Sequence", "list")
ONCE = (Iterator, MappingView)
"""What is made a list before its items are looked at: most of these can be walked once."""
MANY = {
    "Sequence": "a list",
    "Iterable": "a list",
    "list": "a list",
    "tuple": "a tuple",
    "Mapping": "a dict",
}
NUMBERS = ("int", "float", "bool")
LONGEST = 60


def typed(function: F) -> F:
    """Let a public function or class refuse arguments that its annotations do not allow.

    A folder, an id or a CrossEncoder becomes a model, a list or DataFrame becomes pairs, a measure
    of ir_measures becomes its text, and a number of NumPy becomes Python's, which JSON knows.

    Annotations are read as text, so that nothing is imported for them.

    >>> @typed
    ... def cut(texts: Sequence[str], layers: int | None = None) -> None: ...
    >>> try:
    ...     cut("Q->D")
    ... except InputError as error:
    ...     print(error)
    texts is 'Q->D'; expected a list, each item a text: write ['Q->D']
    """
    if isinstance(function, type):
        function.__init__ = typed(function.__init__)  # type: ignore[misc]
        return function  # type: ignore[return-value]
    inner = inspect.unwrap(function)
    signature = inspect.signature(inner)
    hints = {
        name: ast.parse(parameter.annotation, mode="eval").body
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, str)
    }

    numeric = {
        name: hint
        for name, hint in hints.items()
        if any(isinstance(node, ast.Name) and node.id in NUMBERS for node in ast.walk(hint))
    }

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in hints and not fits(value, hints[name]):
                usable = converted(value, hints[name])
                if not fits(usable, hints[name]):
                    told = usable if isinstance(value, ONCE) else value
                    raise InputError(wrong(name, told, hints[name]))
                bound.arguments[name] = usable
        for name, hint in numeric.items():
            if name in bound.arguments:
                bound.arguments[name] = as_python(bound.arguments[name], hint)
        return function(*bound.args, **bound.kwargs)

    checked.__typed__ = True  # type: ignore[attr-defined]
    return checked  # type: ignore[return-value]


def check_order(given: object, what: str) -> None:
    """Refuse a set: ids are made up and ties broken by an order that changes from run to run."""
    if isinstance(given, set | frozenset):
        raise InputError(
            f"{what} is a set, whose order is another one in each run; expected them in an order: "
            "give a list, such as sorted(...)"
        )


def fits(value: object, hint: ast.expr) -> bool:  # noqa: PLR0911
    """Whether a value is what an annotation says, and so are the items of lists and dicts."""
    if isinstance(hint, ast.BinOp):
        return fits(value, hint.left) or fits(value, hint.right)
    if isinstance(hint, ast.Subscript):
        return _items_fit(value, _name(hint.value), hint.slice)
    name = _name(hint)
    if name in PLAIN:
        return isinstance(value, PLAIN[name]) and not _yes_no(value)
    if name == "bool":
        return _yes_no(value)
    if name == "None":
        return value is None
    if WORDS.get(name, "").endswith("a function"):
        return callable(value)
    return name not in WORDS or any(_is_class(kind, name) for kind in type(value).__mro__)


def converted(value: object, hint: ast.expr) -> object:
    """What a value is made into where a model or pairs are wanted; else the value as it came."""
    if isinstance(hint, ast.BinOp):
        left = converted(value, hint.left)
        return converted(value, hint.right) if left is value else left
    if isinstance(hint, ast.Subscript):
        base = _name(hint.value)
        if base == "Mapping" and isinstance(value, Mapping) and isinstance(hint.slice, ast.Tuple):
            return {key: converted(item, hint.slice.elts[-1]) for key, item in value.items()}
        is_list = base in LISTS or (base == "Iterable" and isinstance(value, ONCE))
        is_list = is_list and not _is_one(value)
        # A set is no list: in its order, another one in each run, A and B would change places.
        if is_list and isinstance(value, Iterable) and not isinstance(value, set | frozenset):
            return [converted(item, hint.slice) for item in value]
        return value
    if _name(hint) not in CONVERTED:
        return value
    module, name = CONVERTED[_name(hint)]
    return getattr(importlib.import_module(module), name)(value)


def as_python(value: Any, hint: ast.expr) -> Any:
    """A value that fits, with Python's own numbers for those of NumPy; the same one elsewhere."""
    if isinstance(hint, ast.BinOp):
        return as_python(value, hint.left if fits(value, hint.left) else hint.right)
    if isinstance(hint, ast.Subscript):
        return _python_items(value, hint.slice)
    name = _name(hint)
    if name not in NUMBERS or type(value) in (int, float, bool):
        return value
    if name == "bool":
        return bool(value)
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def wrong(name: str, value: object, hint: ast.expr) -> str:
    """The message for an argument that does not fit."""
    text = f"{name} is {shown(value)}; expected {words(hint)}"
    if isinstance(value, str) and fits([value], hint):
        return f"{text}: write [{shown(value)}]"
    if isinstance(value, set | frozenset):
        return f"{text}, since a set has another order in each run: give one, such as sorted(...)"
    return text


def shown(value: object) -> str:
    """A value for a message: short ones as they are, else the type."""
    if isinstance(value, (list, tuple)) and len(value) > 0 and len(repr(value)) > LONGEST:
        return f"a {type(value).__name__} of {len(value)} items"
    if value is None or isinstance(value, (str, bytes, bool, numbers.Number, list, tuple, dict)):
        text = one_line(repr(value))
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]}...{text[-1]}"
    return f"of the type {type(value).__name__}"


def words(hint: ast.expr) -> str:
    """An annotation in words.

    >>> words(ast.parse("Sequence[str | Cut] | None", mode="eval").body)
    'a list, each item a text or a matchlens.Cut; or None'
    """
    if isinstance(hint, ast.BinOp):
        left, right = words(hint.left), words(hint.right)
        return f"{left}{'; or' if left.startswith(('a list', 'a dict')) else ' or'} {right}"
    if isinstance(hint, ast.Subscript):
        base, inner = _name(hint.value), hint.slice
        if base in ("Callable", "Float", "Int", "Bool"):
            return "a function" if base == "Callable" else "an array of numbers"
        kinds = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if base == "tuple" and not isinstance(kinds[-1], ast.Constant):
            return f"a tuple ({', '.join(map(words, kinds))})"
        return f"{MANY.get(base, base)}, each item {words(kinds[base == 'Mapping'])}"
    name = _name(hint)
    return WORDS.get(name, f"a {name}")


def _items_fit(value: object, base: str, inner: ast.expr) -> bool:
    kinds = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if base == "Mapping":
        return isinstance(value, Mapping) and all(fits(item, kinds[-1]) for item in value.values())
    if base == "tuple" and not isinstance(kinds[-1], ast.Constant):
        if not isinstance(value, (tuple, list)) or len(value) != len(kinds):
            return False
        return all(map(fits, value, kinds))
    if base in MANY:
        # What can be walked once, or an array, is no Sequence: it is made a list.
        kind = (tuple, list) if base == "tuple" else Sequence if base in LISTS else Iterable
        if _is_one(value) or not isinstance(value, kind) or isinstance(value, ONCE):
            return False
        array = hasattr(value, "tolist")
        known = value if array or isinstance(value, (list, tuple, set, frozenset)) else ()
        return all(fits(item, kinds[0]) for item in known)
    return base != "Callable" or callable(value)


def _python_items(value: Any, inner: ast.expr) -> Any:
    kinds = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if isinstance(value, Mapping):
        items = [as_python(item, kinds[-1]) for item in value.values()]
        same = all(map(operator.is_, items, value.values()))
        return value if same else dict(zip(value, items, strict=True))
    if not isinstance(value, (list, tuple)):
        return value
    each = len(kinds) == 1 or isinstance(kinds[-1], ast.Constant)
    items = list(map(as_python, value, kinds[:1] * len(value) if each else kinds))
    if all(map(operator.is_, items, value)):
        return value
    return tuple(items) if isinstance(value, tuple) else items


def _is_class(kind: type, name: str) -> bool:
    """Whether a class is the one that an annotation names, not a namesake of another module."""
    home = HOMES.get(name, "matchlens")
    return kind.__name__ == name and f"{kind.__module__}.".startswith(f"{home}.")


def _is_one(value: object) -> bool:
    """Whether a value is one thing, although it can be walked."""
    # A frame would give the names of its columns.
    return isinstance(value, (str, bytes, Mapping, type)) or hasattr(value, "columns")


def _yes_no(value: object) -> bool:
    return type(value).__name__ in ("bool", "bool_")


@functools.cache  # by the node itself: there are as many as annotations
def _name(hint: ast.expr) -> str:
    if isinstance(hint, ast.Constant):
        return str(hint.value)
    return hint.attr if isinstance(hint, ast.Attribute) else ast.unparse(hint)
