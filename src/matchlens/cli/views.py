"""How each study's result is shown on a terminal and drawn into its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matchlens.results import Result

VIEWS: dict[str, tuple[str, str]] = {
    "ablation": ("tables:text", "drawing:ablation_files"),
    "attention": ("attention:attention_text", "attention_figures:attention_files"),
    "circuits": ("circuits:circuits_text", "circuits_figures:circuits_files"),
    "looking": ("looking:looking_text", "looking:looking_files"),
}
"""The functions of :mod:`matchlens.report` that make a study's text and its files."""
SWEEPS = ("sweep-", "head-sets", "controls")


def text_of(result: Result) -> str:
    """What a terminal shows of a result."""
    if result.study == "ablation":
        return _view(result, 0)(result, bold=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    if result.study == "looking":
        return _view(result, 0)(result, None if result.options["chosen"] else [0])
    return _view(result, 0)(result)


def files_of(result: Result) -> Mapping[str, str | bytes]:
    """The texts and figures of a results folder, file name to content."""
    return _view(result, 1)(result)


def _view(result: Result, which: int) -> Callable[..., Any]:
    if result.study.startswith(SWEEPS):
        names = ("drawing:study_text", "drawing:study_files")
    elif result.study in VIEWS:
        names = VIEWS[result.study]
    else:  # it has tables only
        return (lambda result: f"{result.to_frame()}\n", lambda result: {})[which]
    module, _, name = names[which].partition(":")
    return getattr(import_module(f"matchlens.report.{module}"), name)
