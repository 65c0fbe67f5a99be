"""Docstrings of the public API: every name says what it is, takes and raises, and shows it."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator

import pytest

import matchlens

DOCUMENTED = ("matchlens.qk",)
"""Packages beside ``matchlens`` itself whose public names the reference shows."""


def public() -> Iterator[tuple[str, object, bool]]:
    """Dotted name, value, and whether it stands for itself (methods belong to their class)."""
    for name in matchlens.__all__:
        if name != "__version__":
            yield from entries(f"matchlens.{name}", getattr(matchlens, name))
    for place in DOCUMENTED:
        module = importlib.import_module(place)
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):  # a constant's words stand beside it
                yield from entries(f"{place}.{name}", value)


def entries(name: str, value: object) -> Iterator[tuple[str, object, bool]]:
    """The value and what it holds: a module its functions and classes, a class its methods."""
    if inspect.ismodule(value):
        assert value.__doc__, name
        for one, held in vars(value).items():
            own = getattr(held, "__module__", None) == value.__name__
            if not one.startswith("_") and own and (callable(held)):
                yield from entries(f"{name}.{one}", held)
        return
    yield name, value, True
    if inspect.isclass(value):
        for one, held in vars(value).items():
            own = held.__func__ if isinstance(held, classmethod | staticmethod) else held
            if one[0] != "_" and (inspect.isfunction(own) or isinstance(own, property)):
                yield f"{name}.{one}", own, False


ALL = list(public())
NAMES = [name for name, _, _ in ALL]


def words(value: object) -> str:
    """The value's own docstring, not an inherited or generated one."""
    own = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    return inspect.cleandoc(own or "")


def section(text: str, name: str) -> str:
    """What stands under ``Args:``, ``Raises:`` or another heading."""
    found = re.search(rf"^{name}:\n((?:[ ]+\S.*\n?|\n(?=[ ]))+)", text, re.MULTILINE)
    return textwrap.dedent(found[1]) if found else ""


def arguments(value: object) -> list[str]:
    """The names that its ``Args`` must have."""
    if isinstance(value, property) or (inspect.isclass(value) and issubclass(value, enum.Enum)):
        return []
    if inspect.isclass(value):
        if dataclasses.is_dataclass(value):
            return [one.name for one in dataclasses.fields(value) if one.name[0] != "_"]
        if issubclass(value, Exception | Warning) or "__init__" not in vars(value):
            return []
    names = [n for n in inspect.signature(value).parameters if n not in {"self", "cls"}]
    return [name for name in names if not name.startswith("_")]


def shared(text: str) -> tuple[list[str], object]:
    """The arguments that another public function documents, and that function."""
    pattern = r"^The arguments ([^.]+)\s+are\s+those\s+of\s+:func:`matchlens\.(\w+)`"
    found = re.search(pattern, text, re.MULTILINE)
    return (
        (re.findall(r"``(\w+)``", found[1]), getattr(matchlens, found[2])) if found else ([], None)
    )


def inherits_fields(value: object) -> bool:
    """Whether it is a dataclass that adds fields to another one's."""
    return inspect.isclass(value) and any(map(dataclasses.is_dataclass, value.__mro__[1:]))


def raises(value: object) -> bool:
    """Whether its own body raises InputError."""
    value = value.fget if isinstance(value, property) else value
    if inspect.isclass(value):
        return False
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    return any(
        isinstance(node, ast.Raise) and node.exc is not None and "InputError" in ast.dump(node.exc)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(("name", "value", "alone"), ALL, ids=NAMES)
def test_a_public_name_is_documented_in_full(name, value, alone):
    text = words(value)
    assert text, "no docstring"
    lines = text.splitlines()
    assert lines[0][-1] in ".:;", "the first line is no sentence"
    assert lines[1:2] in ([], [""]), "the first line goes on"
    listed = re.findall(r"^(\w+):", section(text, "Args"), re.MULTILINE)
    if inherits_fields(value):  # the base's may be told where the base tells them
        assert set(vars(value)["__annotations__"]) <= set(listed) <= set(arguments(value)), "Args"
    elif alone or listed:
        elsewhere, other = shared(text)
        assert listed == [one for one in arguments(value) if one not in elsewhere], "Args"
        assert set(elsewhere) <= set(arguments(value)), "Args that it does not take"
        assert not elsewhere or set(elsewhere) <= set(
            re.findall(r"^(\w+):", section(words(other), "Args"), re.MULTILINE)
        ), "Args that are documented nowhere"
    else:
        told = set(re.findall(r"``?(\w+)``?", text))
        untold = set(arguments(value)) - told
        assert not untold or len(arguments(value)) <= 1, f"Args: {untold}"
    if raises(value):
        assert section(text, "Raises"), "Raises"
    if alone:
        assert ">>> " in text, "no example"


def test_everything_public_is_looked_at():
    assert {f"matchlens.{name}" for name in matchlens.__all__} - set(NAMES) == {
        "matchlens.__version__",
        "matchlens.demo",
        "matchlens.irds",
        "matchlens.trec",
    }
    assert {"matchlens.trec.load", "matchlens.Result.save", "matchlens.qk.alignment"} <= set(NAMES)
