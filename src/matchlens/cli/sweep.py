"""``matchlens sweep``: Figure 1a, and what each layer and head does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from matchlens.cli import options as o
from matchlens.cli.job import Job, command

if TYPE_CHECKING:
    from matchlens.results import Result

HELP = """Cut directions layer by layer or head by head and measure the ranking (Figure 1a).

\b
KIND says where a direction is cut:
  up-to   layers 0 to n-1, for n = 0 to all (Figure 1a)
  from    layers n to the top
  only    one layer
  window  --window layers from n on
  heads   each head alone

What conditions share is computed once; --explain says what a sweep costs and stops.

\b
Examples:
  matchlens sweep up-to --demo --direction 'Q->D' --direction 'D->D' --out out/demo
  matchlens sweep heads --demo --per-grade 1 --how zero --how mean --out out/demo
"""

Kind = Annotated[str, typer.Argument(metavar="KIND", help="up-to, from, only, window or heads.")]
Directions = Annotated[
    list[str] | None,
    typer.Option(
        "--direction",
        metavar="DIR",
        help="A direction, in quotes: 'Q->D'. Repeatable [those of Figure 1a; for heads the "
        "whole head].",
    ),
]
Window = Annotated[int, typer.Option(help="Layers of a window.")]
Hows = Annotated[
    list[str] | None,
    typer.Option(
        "--how", metavar="HOW", help="zero, mask, mean, resample or sink. Repeatable [zero]."
    ),
]
Explain = Annotated[bool, typer.Option("--explain", help="Say what it costs, and stop.")]


@command
def sweep(
    job_of: Callable[[], Job],
    kind: Kind,
    direction: Directions = None,
    window: Window = 3,
    how: Hows = None,
    explain: Explain = False,
) -> None:
    """Sweep cuts over layers or heads."""
    from matchlens.studies.presets import FIGURE_1A
    from matchlens.studies.sweep_points import WHOLE_HEAD, sweep_points

    directions = direction or ([WHOLE_HEAD] if kind == "heads" else list(FIGURE_1A))
    hows = how or ["zero"]
    # Checked on a shape of its own first: a slip is found before any file is read.
    sweep_points(kind, directions, layers=max(1, window), heads=1, window=window, hows=hows)
    job = job_of()
    layers, heads = job.folder.shape
    points = sweep_points(kind, directions, layers=layers, heads=heads, window=window, hows=hows)
    if explain:
        from matchlens.studies.cost import cost

        typer.echo(cost([point.cut for point in points], job.folder, job.pairs))
        return
    model = job.load()
    from matchlens.studies.sweeps import sweep as study

    with o.progress(f"sweep {kind}", job.quiet) as bar:
        result = study(
            model,
            job.pairs,
            kind,
            directions=directions,
            window=window,
            hows=hows,
            progress=bar,
            **job.study,
        )
    job.finish(result, _table, _figures)


def _table(result: Result) -> str:
    from matchlens.report.tables import sweep_text

    return sweep_text(result)


def _figures(result: Result) -> dict[str, str | bytes]:
    from matchlens.report.drawing import sweep_files

    return sweep_files(result)
