"""The types and shapes that the source declares are checked while the tests run it, sparingly.

jaxtyping's import hook checks every call of every function, which takes half of the suite's time,
most of it for calls that differ in nothing from the call before.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import CodeType

import jaxtyping

CHECKED_CALLS = frozenset(8**power for power in range(8))

calls: list[list[int]] = []
"""How often each function ran in this test: its first call is checked, the 8th, the 64th ..."""
calls_of_closures: dict[CodeType, list[int]] = {}
"""The same over all tests: a closure is a new function each time, and to wrap it takes long."""


def begin_test() -> None:
    """Count calls from 0 again."""
    for count in calls:
        count[0] = 0


def install() -> None:
    """Check the functions of matchlens; call it before its modules are imported."""
    thorough = jaxtyping.jaxtyped

    def jaxtyped(*, typechecker: Callable) -> Callable:
        """What the import hook decorates every function and class with."""
        return functools.partial(_sparing, check=thorough(typechecker=typechecker))

    jaxtyping.jaxtyped = jaxtyped
    jaxtyping.install_import_hook("matchlens", "beartype.beartype")


def _sparing(target: Callable, check: Callable) -> Callable:
    """The function, of whose calls some are checked; of a class, its dataclass ``__init__``."""
    if inspect.isclass(target):
        wrapped = getattr(target.__init__, "__globals__", {}).get("__name__") == __name__
        if dataclasses.is_dataclass(target) and not wrapped:
            target.__init__ = _sparing(target.__init__, check)
        return target
    count, checked = [0], None  # a list, since a Counter would hash the code at each call
    if "<locals>" in target.__qualname__:
        count = calls_of_closures.setdefault(target.__code__, count)
    else:
        calls.append(count)

    @functools.wraps(target)
    def function(*args, **kwargs):
        nonlocal checked
        count[0] += 1
        if count[0] not in CHECKED_CALLS:
            return target(*args, **kwargs)
        # At the first call, since a test calls few functions of a module and wrapping takes long.
        checked = checked or check(target)
        return checked(*args, **kwargs)

    return function
