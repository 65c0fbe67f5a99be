"""Where the package raises errors, and how a test provokes one and does what it says."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

import matchlens.cli
from matchlens import InputError, MatchlensWarning
from matchlens.files import OddFileError

MOST = 400
"""Characters of a message, at most."""
SOURCE = Path(matchlens.__file__).parent
ERRORS = ("InputError", "ChangedError", "CheckError", "OddFileError", "Interrupted")
"""Errors whose message a person reads."""
RAISERS = {
    "directions.py": ("self.fail",),
    "ranking/measures.py": ("_wrong",),
    "cli/scoring.py": ("_wrong",),
}
"""Functions that make an error of what their callers say: each call is a site of its own."""


@dataclass(frozen=True)
class Site:
    """A place that raises an error that a person meets.

    Args:
        place: module and function, as "plan.py:Plan.build".
        text: the message as the source has it, with each value in braces.
        lines: the lines of the call, or of several with one text.
        warns: whether it is a warning.
    """

    place: str
    text: str
    lines: tuple[int, ...]
    warns: bool = False

    def makes(self, message: str) -> bool:
        """Whether a message can be this one."""
        pieces = (re.escape(one) for one in re.split(r"\{[^{}]*\}", self.text))
        return re.search(".*".join(pieces), message) is not None


def text_of(node: ast.expr) -> str:
    """The text of a message in the source, with each value in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            text_of(one) if isinstance(one, ast.Constant) else "{value}" for one in node.values
        )
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "{value}"


def sites_of(module: str) -> Iterator[Site]:
    """Every place of a module that makes an error."""
    raisers = (*ERRORS, "warnings.warn", *RAISERS.get(module, ()))

    def inside(node: ast.AST, names: tuple[str, ...]) -> Iterator[Site]:
        for child in ast.iter_child_nodes(node):
            scope = isinstance(child, (ast.FunctionDef, ast.ClassDef))
            here = (*names, child.name) if scope else names
            if isinstance(child, ast.Call) and ast.unparse(child.func) in raisers:
                within = f"self.{names[-1]}" in raisers or names[-1] in raisers
                if not within:  # a function that raises what it is told
                    warns = ast.unparse(child.func) == "warnings.warn"
                    text = "{}".join(text_of(one) for one in child.args[: 1 if warns else None])
                    place = f"{module}:{'.'.join(names)}"
                    lines = range(child.lineno, (child.end_lineno or child.lineno) + 1)
                    yield Site(place, " ".join(text.split()), tuple(lines), warns)
            yield from inside(child, here)

    yield from inside(ast.parse((SOURCE / module).read_text("utf-8")), ())


@cache
def sites() -> tuple[Site, ...]:
    """Every place of the package that makes an error that a person meets."""
    modules = (path.relative_to(SOURCE).as_posix() for path in sorted(SOURCE.rglob("*.py")))
    found: dict[tuple[str, str], Site] = {}
    for site in (site for module in modules for site in sites_of(module)):
        old = found.get((site.place, site.text))
        found[site.place, site.text] = (
            site if old is None else replace(site, lines=old.lines + site.lines)
        )
    return tuple(found.values())


def found(place: str, words: str) -> list[Site]:
    """The errors of a function whose messages are these words, or else hold them."""
    held = [one for one in sites() if one.place == place and words in one.text]
    return [one for one in held if one.text == words] or held


@contextmanager
def raised() -> Iterator[set[tuple[str, int]]]:
    """The lines of the package, as (module, line), from which errors are made meanwhile."""
    seen: set[tuple[str, int]] = set()

    def watched(real: Callable[..., None]) -> Callable[..., None]:
        def made(self: Exception, message: str) -> None:
            frame = sys._getframe(1)
            while frame is not None:
                path = Path(frame.f_code.co_filename)
                if path.is_relative_to(SOURCE):
                    seen.add((path.relative_to(SOURCE).as_posix(), frame.f_lineno))
                frame = frame.f_back
            real(self, message)

        return made

    with pytest.MonkeyPatch.context() as patch:
        for kind in (InputError, OddFileError):
            patch.setattr(kind, "__init__", watched(kind.__init__))
        yield seen


# What a message names


def listed(message: str) -> list[str]:
    """The values that a message lists as expected."""
    rest = re.split(r"expected (?:exactly one of:|one of:?|some of:?|of)?", message)[-1]
    words = re.split(r", | or | and ", re.split(r"[;:(]", rest)[0])
    return [word.strip(" '.") for word in words]


def after(words: str, message: str, between: str = ", ") -> list[str]:
    """The values that stand behind some words of a message, up to the next sign."""
    rest = re.split(r"[;:()]", message.partition(words)[2])[0]
    return [one.strip(" '.") for one in rest.split(between)]


def example(message: str) -> list[str]:
    """The value that a message gives as an example."""
    found = re.search(r"(?:for example,?|e\.g\.|such as|as in) ('[^']*'|[^\s;:]+)", message)
    assert found, message
    return [found[1].strip("',")]


def numbers(message: str) -> list[int]:
    """The numbers that a message names after what it expected: both ends of a range."""
    rest = message.rpartition("expected")[2]
    return [
        int(one.replace(",", ""))
        for one in re.findall(r"\d[\d,]*", re.split("[;:]|, since", rest)[0])
    ]


def least(message: str) -> list[int]:
    """The first number that a message expects."""
    return numbers(message)[:1]


# Provoking it


@dataclass(frozen=True)
class C:
    """An error, and what its message says to do.

    Args:
        place: module and function of the error, as "plan.py:Plan.build".
        words: part of its message by which no other error of the function is meant.
        call: what a person does, with the world of the test and a value.
        wrong: the value that is refused.
        right: values that the message names instead, each of which works; or a function that reads
            them off the message.
        slow: whether it takes long.
    """

    place: str
    words: str
    call: Callable[[object, object], object]
    wrong: object
    right: list[object] | Callable[[str], list[object]]
    slow: bool = False

    @property
    def found(self) -> list[Site]:
        """The places in the source that the case can mean."""
        return found(self.place, self.words)


def provoke(case: C, world: object) -> str:
    """Do what is refused or warned of, and see that it is this message: one printable line.

    Returns:
        The message.
    """
    (site,) = case.found
    if site.warns:
        message = next(one for one in warned(case, world, case.wrong) if site.makes(one))
    else:
        with raised() as lines, pytest.raises(InputError) as error:
            case.call(world, case.wrong)
        message = str(error.value)
        module = site.place.partition(":")[0]
        assert any((module, line) in lines for line in site.lines), message
    assert message.isprintable(), message
    assert len(message) <= MOST, message
    assert site.makes(message), message
    return message


def warned(case: C, world: object, value: object) -> list[str]:
    """Do something, and hear what is warned of."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", MatchlensWarning)
        case.call(world, value)
    return [str(one.message) for one in heard if issubclass(one.category, MatchlensWarning)]
