"""The check at load: a model is accepted because something was caused in it, not for its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from matchlens.errors import InputError
from matchlens.models.adapters import merged
from matchlens.models.checks import attention, scores
from matchlens.models.checks.attention import apart
from matchlens.models.checks.item import Item
from matchlens.models.checks.passes import Trial
from matchlens.models.checks.scores import ASKED, relevant_above
from matchlens.models.checks.tokens import tokens

Checks = Mapping[str, Mapping[str, object]]
"""Name of each question to what was asked, seen and expected, and whether they agree."""


class CheckError(InputError):
    """A model failed its check."""

    def __init__(self, message: str, checks: Checks) -> None:
        super().__init__(message)
        self.checks = checks


def check(reranker: Any) -> Checks:
    """Cause changes in a loaded model and see that they happen; returns what was seen."""
    items = examine(reranker)
    checks = {item.name: item.record() for item in items}
    if problems := [item.problem for item in items if not item.ok]:
        raise CheckError(
            f"model {reranker.name!r} fails the check at load: {'; '.join(problems)}; its cuts "
            "could not be trusted, so it is refused (all that was asked: matchlens check)",
            checks,
        )
    return checks


def examine(reranker: Any) -> list[Item]:
    """Ask all questions of a loaded model, on two built-in pairs."""
    trial = Trial.of(reranker)
    with torch.inference_mode():
        if not torch.isfinite(own := trial.library.scores).all():
            values = ", ".join(f"{score:g}" for score in own.tolist())
            raise InputError(
                f"model {reranker.name!r}: the library's own scores of two built-in pairs are "
                f"{values}: its weights hold NaN, or overflow in {reranker.dtype}; expected the "
                "weights as they were saved, in float32 (--dtype)"
            )
        return [
            *tokens(reranker),
            *merged(reranker),
            *scores.scores(trial),
            *attention.calls(trial),
            *attention.maps(trial),
            *attention.outputs(trial),
            *apart(trial),
            *scores.bites(trial),
            *scores.token_types(trial),
            *relevant_above(reranker),
        ]


def reversed_order(checks: Checks, negated: bool, labels: Mapping[object, object]) -> str:
    """What to say where every built-in pair is the wrong way round; empty where not."""
    if checks.get("relevant_above", {}).get("seen") != 0:
        return ""
    names = ", ".join(repr(str(name))[:40] for name in labels.values())
    turn = (
        "leave out negate=True (--negate)"
        if negated
        else "give negate=True (--negate), which negates the score"
    )
    return (
        f"the relevant one of two passages scores lower in all {len(ASKED)} built-in pairs, so the "
        f"order looks reversed: if a lower score of this model means more relevant, {turn} (the "
        f"model calls its labels {names})"
    )
