"""matchlens shows how cross-encoder rerankers match a query with a document.

>>> import matchlens
>>> pairs = matchlens.choose(matchlens.demo.load(), queries=2)
>>> result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["Q->D"])
>>> print(matchlens.table_text(result).splitlines()[2])
nDCG@10 of demo on demo: 2 queries, 24 pairs (at most 10 a grade, seed 0)
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import TYPE_CHECKING

from matchlens._version import __version__

if sys.platform == "win32":  # no file locks by flock, no signals as here
    raise ImportError("matchlens runs on Linux and macOS; on Windows run it in WSL")

if TYPE_CHECKING:
    from matchlens.corpora import Pair, PairSet, beir, choose, demo, frame, irds, thin, trec
    from matchlens.directions import Cut, Direction, How
    from matchlens.errors import InputError, MatchlensWarning
    from matchlens.live.server import serve
    from matchlens.models.load import Reranker, load
    from matchlens.models.wrap import wrap
    from matchlens.parts import Part
    from matchlens.prompts import Prompt
    from matchlens.report.conclusions import write_report
    from matchlens.report.views.ablation import latex as table_latex
    from matchlens.report.views.ablation import text as table_text
    from matchlens.results import Result
    from matchlens.studies.attention.attention import attention
    from matchlens.studies.circuits.circuits import circuits
    from matchlens.studies.claims.claims import claims
    from matchlens.studies.comparing import compare, compare_heads
    from matchlens.studies.cuts.controls import controls
    from matchlens.studies.cuts.cut_study import ablation
    from matchlens.studies.cuts.head_sets import head_sets
    from matchlens.studies.cuts.sweeps import sweep, sweep_points
    from matchlens.studies.explaining import explain
    from matchlens.studies.looking import look
    from matchlens.studies.presets import table1
    from matchlens.studies.scoring import rank, score
    from matchlens.studies.screening import screen
    from matchlens.studies.study import Study, study

_PLACES = {
    "Cut": "matchlens.directions",
    "Direction": "matchlens.directions",
    "How": "matchlens.directions",
    "InputError": "matchlens.errors",
    "MatchlensWarning": "matchlens.errors",
    "Pair": "matchlens.corpora",
    "PairSet": "matchlens.corpora",
    "Part": "matchlens.parts",
    "Prompt": "matchlens.prompts",
    "Reranker": "matchlens.models.load",
    "Result": "matchlens.results",
    "Study": "matchlens.studies.study",
    "ablation": "matchlens.studies.cuts.cut_study",
    "attention": "matchlens.studies.attention.attention",
    "beir": "matchlens.corpora",
    "choose": "matchlens.corpora",
    "circuits": "matchlens.studies.circuits.circuits",
    "claims": "matchlens.studies.claims.claims",
    "compare": "matchlens.studies.comparing",
    "compare_heads": "matchlens.studies.comparing",
    "controls": "matchlens.studies.cuts.controls",
    "demo": "matchlens.corpora",
    "explain": "matchlens.studies.explaining",
    "frame": "matchlens.corpora",
    "head_sets": "matchlens.studies.cuts.head_sets",
    "irds": "matchlens.corpora",
    "load": "matchlens.models.load",
    "look": "matchlens.studies.looking",
    "rank": "matchlens.studies.scoring",
    "score": "matchlens.studies.scoring",
    "screen": "matchlens.studies.screening",
    "serve": "matchlens.live.server",
    "study": "matchlens.studies.study",
    "sweep": "matchlens.studies.cuts.sweeps",
    "sweep_points": "matchlens.studies.cuts.sweeps",
    "table1": "matchlens.studies.presets",
    "table_latex": "matchlens.report.views.ablation:latex",
    "table_text": "matchlens.report.views.ablation:text",
    "thin": "matchlens.corpora",
    "trec": "matchlens.corpora",
    "wrap": "matchlens.models.wrap",
    "write_report": "matchlens.report.conclusions",
}

_RENAMED = {"looking": "look", "query_key": "circuits"}
"""Old public names."""

__all__ = [
    "Cut",
    "Direction",
    "How",
    "InputError",
    "MatchlensWarning",
    "Pair",
    "PairSet",
    "Part",
    "Prompt",
    "Reranker",
    "Result",
    "Study",
    "__version__",
    "ablation",
    "attention",
    "beir",
    "choose",
    "circuits",
    "claims",
    "compare",
    "compare_heads",
    "controls",
    "demo",
    "explain",
    "frame",
    "head_sets",
    "irds",
    "load",
    "look",
    "rank",
    "score",
    "screen",
    "serve",
    "study",
    "sweep",
    "sweep_points",
    "table1",
    "table_latex",
    "table_text",
    "thin",
    "trec",
    "wrap",
    "write_report",
]


class _Package(types.ModuleType):
    """The package; a submodule never takes the place of a public function of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        # `import matchlens.circuits` sets the module as an attribute of the package
        if not (name in _PLACES and getattr(value, "__name__", "") == f"{__name__}.{name}"):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    """Import public names on first use: torch and transformers cost seconds."""
    if name in _RENAMED:
        words = f"matchlens.{name} is now matchlens.{_RENAMED[name]}"
        warnings.warn(words, DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[__name__], _RENAMED[name])
    if name not in _PLACES:
        raise AttributeError(f"module 'matchlens' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
