"""Figures for a paper: a table in, a matplotlib figure out; nothing else is read or changed.

matplotlib is used through its objects only: no pyplot, no global settings, no window.

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

from matchlens.figures.curves import layer_curves
from matchlens.figures.files import render, save
from matchlens.figures.heads import head_map
from matchlens.figures.hows import comparison

__all__ = ["comparison", "head_map", "layer_curves", "render", "save"]
