"""Figures for a paper: a table in, a matplotlib figure out; nothing else is read or changed.

matplotlib is used through its objects only: no pyplot, no global settings, no window. The page of a
results folder draws the same figures (``svg.py``); a table's column ``tip`` holds what it says of
each row's mark. A table that cannot be drawn, or an unknown width, is an :class:`InputError`.

>>> import pandas as pd
>>> from matchlens import figures
>>> heads = pd.DataFrame(
...     {"layer": [0, 0], "head": [0, 1], "diff": [-0.02, 0.0], "q": [0.01, 1.0],
...      "significant": [True, False]}
... )
>>> sorted(figures.render(figures.head_map(heads, measure="nDCG@10")))
['pdf', 'png', 'svg']
"""

from __future__ import annotations

from matchlens.figures.distributions import class_distributions
from matchlens.figures.files import render, save
from matchlens.figures.heads import head_map, head_scatter
from matchlens.figures.lines import layer_curves, layer_profile
from matchlens.figures.page import Drawing, Look
from matchlens.figures.rows import comparison, set_effects, shares

__all__ = [
    "Drawing",
    "Look",
    "class_distributions",
    "comparison",
    "head_map",
    "head_scatter",
    "layer_curves",
    "layer_profile",
    "render",
    "save",
    "set_effects",
    "shares",
]
