"""How each study's result is shown on a terminal and drawn into its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matchlens.results import Result


def text_of(result: Result) -> str:
    """What a terminal shows of a result."""
    from matchlens.report import views

    if result.study == "ablation":
        bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        return views.ablation.text(result, bold=bold)
    if result.study == "looking":
        from matchlens.report.looking import looking_text

        return looking_text(result, None if result.options["chosen"] else [0])
    if views.view_of(result).text is None:  # it has tables only
        return f"{result.to_frame()}\n"
    return views.text_of(result)


def files_of(result: Result) -> Mapping[str, str | bytes]:
    """The texts and figures of a results folder, file name to content."""
    from matchlens.report import views

    return views.files_of(result)
