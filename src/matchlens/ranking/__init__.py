"""Quality of rankings: measures, tie groups, tests, and how far a ranking moved.

The only package that knows ir_measures.
"""

from matchlens.ranking.evaluation import Evaluation, evaluate, movable, random_expectation
from matchlens.ranking.measures import Measure, parse_measure
from matchlens.ranking.shifts import Shift, shift
from matchlens.ranking.significance import benjamini_hochberg, bootstrap_t, compare, holm, sign_flip
from matchlens.ranking.ties import Candidates, has_gain

__all__ = [
    "Candidates",
    "Evaluation",
    "Measure",
    "Shift",
    "benjamini_hochberg",
    "bootstrap_t",
    "compare",
    "evaluate",
    "has_gain",
    "holm",
    "movable",
    "parse_measure",
    "random_expectation",
    "shift",
    "sign_flip",
]
