"""The studies that have a command. A new one is a line here."""

from __future__ import annotations

from typing import Any

from matchlens.studies.spec import StudySpec
from matchlens.studies.specs.ablation import Ablation
from matchlens.studies.specs.attention import Attention
from matchlens.studies.specs.circuits import Circuits
from matchlens.studies.specs.look import Look
from matchlens.studies.specs.screen import Screen
from matchlens.studies.specs.sweep import Sweep

STUDIES: dict[str, StudySpec[Any]] = {
    "ablation": Ablation(),
    "sweep": Sweep(),
    "screen": Screen(),
    "attention": Attention(),
    "circuits": Circuits(),
    "look": Look(),
}
"""The studies by the names of their commands."""
