"""Types and shapes are checked while tests run: the first call in each test, then ever rarer."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest
from jaxtyping import TypeCheckError

import type_checks
from matchlens.ranking.ties import rank


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that stands under matchlens, imported as all of its modules are."""
    import matchlens

    (tmp_path / "toy.py").write_text(
        textwrap.dedent("""
            from __future__ import annotations
            from dataclasses import dataclass
            import numpy as np
            from jaxtyping import Float

            def total(left: Float[np.ndarray, "n"], right: Float[np.ndarray, "n"]) -> Later:
                return Later(len(left))

            def half(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
                return values[::2]

            def outer():
                def inner(number: int) -> int:
                    return number
                return inner

            @dataclass
            class Later:
                number: int
        """)
    )
    monkeypatch.setattr(matchlens, "__path__", [*matchlens.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "matchlens.toy", raising=False)
    import matchlens.toy

    yield matchlens.toy
    del sys.modules["matchlens.toy"], matchlens.toy


def test_the_source_is_checked():
    with pytest.raises(TypeCheckError):
        rank([], np.zeros((2, 2)))


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_first_call_of_every_test_is_checked(module, attempt):
    with pytest.raises(TypeCheckError):
        module.total(np.zeros(2), np.zeros(3))
    with pytest.raises(TypeCheckError):
        module.half(np.zeros(4))
    with pytest.raises(TypeCheckError):
        module.Later("two")


def test_a_closure_is_checked_too(module):
    with pytest.raises(TypeCheckError):
        module.outer()("two")


def test_later_calls_are_checked_rarely(module):
    refused = []
    for call in range(1, 513):
        try:
            module.half(np.zeros(4))
        except TypeCheckError:
            refused.append(call)
    assert refused == sorted(type_checks.CHECKED_CALLS)[:4] == [1, 8, 64, 512]
