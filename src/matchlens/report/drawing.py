"""The figures and texts of a study's results folder, file name to content."""

from __future__ import annotations

import pandas as pd

from matchlens import figures
from matchlens.report.tables import sweep_text
from matchlens.results import Result


def sweep_files(result: Result) -> dict[str, str | bytes]:
    """The table of a sweep as text, and its figures as SVG, PDF and PNG.

    Args:
        result: what :func:`matchlens.sweep` returned.

    Returns:
        For ``heads`` a map for each direction and how; else Figure 1a, one for each how.
    """
    table = result.to_frame("points")
    kind, measure = str(result.options["kind"]), str(result.options["measure"])
    table["significant"] = stars(result)
    files: dict[str, str | bytes] = {f"{result.study}/points.txt": sweep_text(result)}
    by = ["direction", "how"] if kind == "heads" else ["how"]
    for number, (key, group) in enumerate(table.groupby(by, sort=False)):
        named = ", ".join(str(part) for part in (key if isinstance(key, tuple) else (key,)))
        frame = pd.DataFrame(group)
        if kind == "heads":
            frame["layer"] = frame["n"]
            figure = figures.head_map(frame, measure=measure, title=named)
        else:
            random = result.options["random"]
            figure = figures.layer_curves(
                frame,
                measure=measure,
                random=float(str(random)),
                kind=kind,
                title="" if named == "zero" else named,
            )
        for ending, content in figures.render(figure).items():
            files[f"{result.study}/figures/{number:02d}.{ending}"] = content
    return files


def stars(result: Result) -> list[bool]:
    """Which points have a star, by the test that the preset names."""
    table = result.to_frame("points")
    test = {"q": table["q"] <= 0.05, "unpaired": table["significant_paper"]}
    chosen = test.get(str(result.options["stars"]), table["significant"])
    return [bool(star) for star in chosen]
