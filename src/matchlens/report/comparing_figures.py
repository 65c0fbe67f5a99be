"""The figures of a comparison: Table 1's changes, and Figure 1a with a line for each folder."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from matchlens import figures
from matchlens.results import Result

PANELS = 3
"""Directions in one figure."""
CURVE = (
    "X→Y cut: X no longer reads Y. Line: mean over queries; band: 95% interval of the change from "
    "the folder's own original."
)


def caption_of(name: str) -> str:
    """What a figure of that name shows."""
    if name == "table1":
        return "Table 1: the change under each cut"
    return f"Figure 1a, a line for each folder ({int(name.rpartition('-')[2]) + 1})"


def comparison_figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """The figures by name; those that the folders have no numbers for are left out.

    Args:
        result: what :func:`matchlens.compare` returned.
    """
    measures = dict.fromkeys(result.to_frame("folders")["measure"])
    measure = " / ".join(str(name) for name in measures)
    if "table1" in result.tables:
        table = result.to_frame("table1").rename(columns={"folder": "how"})
        table = pd.DataFrame(table[~table["cut"].isin(["", "random"])])
        if len(table):
            yield "table1", figures.comparison(table, measure=measure)
    if "curves" in result.tables:
        table = _points(result.to_frame("curves"))
        panels = list(dict.fromkeys(table["panel"]))
        for start in range(0, len(panels), PANELS):
            shown = panels[start : start + PANELS]
            part = pd.DataFrame(table[table["panel"].isin(shown)])
            figure = figures.layer_profile(
                part,
                quantity=measure,
                note=CURVE,
                label="n: layers 0 to n\N{MINUS SIGN}1 are cut (at 0: none)",
            )
            yield f"curves-{start // PANELS}", figure


def _points(table: pd.DataFrame) -> pd.DataFrame:
    """The curves as a panel for each direction and way of cutting, a series for each folder."""
    named = zip(table["direction"], table["how"], strict=True)
    return pd.DataFrame(
        {
            "panel": [str(name) if how == "zero" else f"{name} ({how})" for name, how in named],
            "series": table["folder"],
            "layer": table["n"],
            "value": table["mean"],
            "low": table["original"] + table["ci_low"],
            "high": table["original"] + table["ci_high"],
        }
    )
