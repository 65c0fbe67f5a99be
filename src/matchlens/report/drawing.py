"""The figures and texts of a study's results folder, file name to content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pandas as pd
from matplotlib.figure import Figure

from matchlens import figures
from matchlens.directions import Cut
from matchlens.plan import CONTROLS
from matchlens.report.main_tables import main_table
from matchlens.report.robustness_text import controls_of, controls_text, head_sets_text
from matchlens.report.sections import section_latex
from matchlens.report.tables import latex, sweep_text, text
from matchlens.results import Result, records
from matchlens.studies.cut_modes import feasible, starred

SETS = 12
"""Sets of heads in one figure."""


def sweep_files(result: Result) -> dict[str, str | bytes]:
    """The points of a sweep as text and LaTeX, and its figures as SVG, PDF and PNG.

    Args:
        result: what :func:`matchlens.sweep` returned.

    Returns:
        For ``heads`` a map for each direction and how; else Figure 1a, one for each how.
    """
    files: dict[str, str | bytes] = {
        f"{result.study}/points.txt": sweep_text(result),
        f"{result.study}/points.tex": section_latex(main_table(result)),
    }
    for number, (_, figure) in enumerate(sweep_figures(result)):
        files |= _figure(result, number, figure)
    return files


def sweep_figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """The figures of a sweep by the way of cutting, for ``heads`` by direction and way.

    Args:
        result: what :func:`matchlens.sweep` returned.
    """
    table = result.to_frame("points")
    kind, measure = str(result.options["kind"]), str(result.options["measure"])
    table["significant"] = starred(table, str(result.options["stars"]))
    by = ["direction", "how"] if kind == "heads" else ["how"]
    for key, group in table.groupby(by, sort=False):
        named = ", ".join(str(part) for part in (key if isinstance(key, tuple) else (key,)))
        frame = feasible(pd.DataFrame(group))
        if frame.empty:
            continue
        if kind == "heads":
            frame["layer"] = frame["n"]
            yield named, figures.head_map(frame, measure=measure, title=named)
            continue
        random = result.options["random"]
        figure = figures.layer_curves(
            frame,
            measure=measure,
            random=float(str(random)),
            kind=kind,
            title="" if named == "zero" else named,
            impossible=list(dict.fromkeys(group["direction"][group["impossible"].notna()])),
        )
        yield named, figure


def ablation_files(result: Result) -> dict[str, str | bytes]:
    """Table 1 as text and LaTeX, and where several hows were asked for what they say.

    Args:
        result: what :func:`matchlens.ablation` returned.
    """
    files: dict[str, str | bytes] = {
        "ablation/table1.txt": text(result),
        "ablation/table1.tex": latex(result),
    }
    if "agreement" in result.tables:
        for number, (_, figure) in enumerate(ablation_figures(result)):
            files |= _figure(result, number, figure)
    return files


def ablation_figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """Table 1 as a figure: the change under each cut, under each way of cutting.

    Args:
        result: what :func:`matchlens.ablation` returned.
    """
    table = result.to_frame("table1")
    table = feasible(pd.DataFrame(table[~table["cut"].isin(["", "random"])]))
    table["significant"] = starred(table, str(result.options["stars"]))
    table["how"] = [str(Cut.parse(cut).how) for cut in table["cut"]]
    table["cut"] = [cut.partition("~")[0] for cut in table["cut"]]
    yield "table1", figures.comparison(table, measure=_measure(result))


def study_text(result: Result) -> str:
    """The table of a sweep, of sets of heads or of controls, as text.

    Args:
        result: the study's result.
    """
    show = {"head-sets": head_sets_text, "controls": controls_text}.get(result.study, sweep_text)
    return show(result)


def study_files(result: Result) -> dict[str, str | bytes]:
    """The texts and figures of a sweep, of sets of heads or of controls.

    Args:
        result: the study's result.
    """
    draw = {"head-sets": head_sets_files, "controls": controls_files}
    return draw.get(result.study, sweep_files)(result)


def head_sets_files(result: Result) -> dict[str, str | bytes]:
    """The sets' table as text, and a figure for each direction and how.

    Args:
        result: what :func:`matchlens.head_sets` returned.
    """
    files: dict[str, str | bytes] = {"head-sets/sets.txt": head_sets_text(result)}
    for name, figure in head_sets_figures(result):
        files |= _figure(result, int(name), figure)
    return files


def head_sets_figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """The figures by number: of each direction and how, at most so many sets in each.

    Args:
        result: what :func:`matchlens.head_sets` returned.
    """
    points, sets = result.to_frame("points"), result.to_frame("sets")
    for number, (key, group) in enumerate(points.groupby(["direction", "how"], sort=False)):
        direction, how = (str(part) for part in cast(tuple[object, ...], key))
        mine = sets[(sets["direction"] == direction) & (sets["how"] == how)]
        p = dict(zip(mine["set"], mine["p_random"], strict=True))
        table = group.assign(p_random=[p[name] for name in group["set"]])
        title = f"{direction} ({how})"
        for start in range(0, len(p), SETS):
            shown = list(p)[start : start + SETS]
            part = pd.DataFrame(table[table["set"].isin(shown)])
            figure = figures.set_effects(part, measure=_measure(result), title=title)
            yield f"{number * 100 + start // SETS:02d}", figure


def controls_files(result: Result) -> dict[str, str | bytes]:
    """The controls' table as text, and a figure: each cut beside its controls.

    Args:
        result: what :func:`matchlens.controls` returned.
    """
    files: dict[str, str | bytes] = {"controls/controls.txt": controls_text(result)}
    for _, figure in controls_figures(result):
        files |= _figure(result, 0, figure)
    return files


def controls_figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """Each cut beside its controls.

    Args:
        result: what :func:`matchlens.controls` returned.
    """
    table = result.to_frame("controls")
    rows = []
    for row in records(table):
        rows.append({**row, "cut": row["cut"], "how": "the cut", "significant": row["significant"]})
        for kind in controls_of(row):
            rows.append(
                {
                    "cut": row["cut"],
                    "how": CONTROLS[kind],
                    "diff": row[f"{kind}_diff"],
                    "ci_low": row[f"{kind}_ci_low"],
                    "ci_high": row[f"{kind}_ci_high"],
                    "significant": (row[f"{kind}_diff_p_holm"] or 1.0) <= 0.05,  # type: ignore[operator]
                }
            )
    yield "controls", figures.comparison(pd.DataFrame(rows), measure=_measure(result))


def _figure(result: Result, number: int, figure: Figure) -> dict[str, bytes]:
    return {
        f"{result.study}/figures/{number:02d}.{ending}": content
        for ending, content in figures.render(figure).items()
    }


def _measure(result: Result) -> str:
    return str(result.options["measure"])
