"""How each study's result is shown on a terminal and drawn into its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matchlens.results import Result


def table_of(result: Result) -> str:
    """The table that a terminal shows."""
    from matchlens.report.attention import attention_text
    from matchlens.report.circuits import circuits_text
    from matchlens.report.drawing import study_text
    from matchlens.report.looking import looking_text
    from matchlens.report.tables import text

    if result.study == "ablation":
        return text(result, bold=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    if result.study == "looking":
        return looking_text(result, None if result.options["chosen"] else [0])
    tables = {"attention": attention_text, "circuits": circuits_text}
    return tables.get(result.study, study_text)(result)


def files_of(result: Result) -> Mapping[str, str | bytes]:
    """The texts and figures of a results folder, file name to content."""
    from matchlens.report.attention_figures import attention_files
    from matchlens.report.circuits_figures import circuits_files
    from matchlens.report.drawing import ablation_files, study_files
    from matchlens.report.looking import looking_files

    files = {
        "ablation": ablation_files,
        "evidence": lambda result: {},  # it has tables only
        "attention": attention_files,
        "circuits": circuits_files,
        "looking": looking_files,
    }
    return files.get(result.study, study_files)(result)
