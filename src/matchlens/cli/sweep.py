"""``matchlens sweep``: Figure 1a, what each layer and head does, and what luck would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from matchlens.cli import options as o
from matchlens.cli.job import Job, command
from matchlens.errors import InputError

if TYPE_CHECKING:
    from matchlens.plan import Condition
    from matchlens.results import Result

HELP = """Cut directions layer by layer or head by head and measure the ranking (Figure 1a).

\b
KIND says where a direction is cut:
  up-to      layers 0 to n-1, for n = 0 to all (Figure 1a)
  from       layers n to the top
  only       one layer
  window     --window layers from n on
  heads      each head alone
  head-sets  each --set of heads, beside --random sets like it in layers and attention
  controls   in all layers, beside the same loss of the same rows elsewhere, and random edges

What conditions share is computed once; --explain says what a sweep costs and stops. heads,
head-sets and controls run on at most --pairs 450 unless told otherwise.

\b
Examples:
  matchlens sweep up-to --demo --direction 'Q->D' --direction 'D->D' --out out/demo
  matchlens sweep heads --demo --how zero --how mean --out out/demo
  matchlens sweep head-sets --demo --set 'top=8.1,4.9' --direction 'Q->D' --out out/demo
  matchlens sweep controls --demo --direction 'D->D' --out out/demo
"""

LAYERED = ("up-to", "from", "only", "window", "heads")
COSTLY = ("heads", "head-sets", "controls")
KINDS = (*LAYERED, "head-sets", "controls")

Kind = Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))]
Directions = Annotated[
    list[str] | None,
    typer.Option(
        "--direction",
        metavar="DIR",
        help="A direction, in quotes: 'Q->D'. Repeatable [those of Figure 1a, or the preset's; "
        "for heads and head-sets the whole head].",
    ),
]
Window = Annotated[int, typer.Option(help="Layers of a window.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=HEADS", help="A set of heads: 'top=8.1,4.9'. Repeatable."),
]
Random = Annotated[int, typer.Option(metavar="N", help="Random sets beside each named one.")]
Draws = Annotated[int, typer.Option(metavar="N", help="Random draws of each control.")]


@command
def sweep(
    job_of: Callable[[], Job],
    kind: Kind,
    direction: Directions = None,
    window: Window = 3,
    how: o.Hows = None,
    sets: Sets = None,
    random: Random = 100,
    draws: Draws = 3,
    pairs: o.MostPairs = None,
    explain: o.Explain = False,
) -> None:
    """Sweep cuts over layers or heads."""
    from matchlens.models.files import MOST_LAYERS
    from matchlens.studies.presets import COSTLY_PAIRS

    if kind not in KINDS:
        raise InputError(f"sweep {kind!r} is not known; expected one of {', '.join(KINDS)}")
    if bool(sets) != (kind == "head-sets"):
        raise InputError(
            "--set NAME=HEADS and the sweep head-sets go together; give both or neither"
        )
    own: dict[str, Any] = {"hows": how}
    if kind in LAYERED:
        own |= {"kind": kind, "directions": direction, "window": window}
    elif kind == "head-sets":
        own |= {"sets": _sets(sets or []), "directions": direction, "random": random}
        own["hows"] = how or ["zero"]
    else:
        own |= {"cuts": direction, "draws": draws}
    most = o.most_pairs(pairs, COSTLY_PAIRS if kind in COSTLY else None)
    # Checked on a shape of its own first: a slip is found before any file is read.
    _conditions(
        kind,
        own,
        "default",
        layers=10**6 if kind == "head-sets" else max(1, min(window, MOST_LAYERS)),
    )
    job = job_of()
    job.check_ranking()
    layers, heads = job.folder.shape
    preset, seed = str(job.study["preset"]), int(job.study["seed"])
    conditions = _conditions(kind, own, preset, layers=layers, heads=heads, seed=seed)
    if explain:
        from matchlens.corpora import thin
        from matchlens.studies.cost import cost

        easy = bool(job.study["rank_easy"])
        used = thin(job.pairs, most, seed=seed, easy=easy)[0] if most else job.pairs
        typer.echo(cost(conditions, job.folder, used))
        return
    with (
        job.running() as at,
        o.progress(f"sweep {kind}, {len(conditions)} conditions", job.quiet) as bar,
    ):
        result = _study(kind)(
            at.model, job.pairs, most_pairs=most, progress=bar, runner=at.runner, **own, **job.study
        )
        job.finish(result, _table, _files)


def _sets(given: list[str]) -> dict[str, str]:
    """``NAME=HEADS`` texts as a mapping."""
    sets: dict[str, str] = {}
    for text in given:
        name, equals, heads = (part.strip() for part in text.partition("="))
        if not (name and equals and heads) or not name.isprintable():
            raise InputError(f"--set {text!r}: expected NAME=HEADS, for example 'top=8.1,4.9'")
        if name in sets:
            raise InputError(f"--set {name!r} is given twice; give each set a name of its own")
        sets[name] = heads
    return sets


def _conditions(
    kind: str,
    own: Mapping[str, Any],
    preset: str,
    *,
    layers: int,
    heads: int | None = None,
    seed: int = 0,
) -> Mapping[str, Condition]:
    """The conditions of a sweep for a model of that shape; nothing is loaded.

    Raises:
        InputError: if an option cannot be used.
    """
    from matchlens.directions import Cut
    from matchlens.studies.presets import preset as preset_of
    from matchlens.studies.sweeps import WHOLE_HEAD, sweep_points

    chosen = preset_of(preset)
    hows = own["hows"]
    if kind in LAYERED:
        default = (WHOLE_HEAD,) if kind == "heads" else chosen.directions
        points, _ = sweep_points(
            kind,
            own["directions"] or default,
            layers=layers,
            heads=heads or 1,
            window=own["window"],
            hows=hows or (chosen.how,),
        )
        return {"": [], **{point.cut: [Cut.parse(point.cut)] for point in points}}
    if kind == "head-sets":
        from matchlens.studies.cut_modes import expand_modes
        from matchlens.studies.head_sets import checked_sets, plain, set_conditions

        if heads is None:
            checked_sets(own["sets"], layers, 10**6, own["random"])
            expand_modes(plain(own["directions"] or (WHOLE_HEAD,)), hows)
            return {}
        return set_conditions(
            own["sets"], own["directions"] or None, hows, own["random"], seed, layers, heads
        )[0]

    from matchlens.studies.controls import control_conditions

    cuts = own["cuts"] or chosen.directions
    return control_conditions(cuts, hows or [chosen.how], own["draws"])[0]


def _study(kind: str) -> Callable[..., Result]:
    if kind == "head-sets":
        from matchlens.studies.head_sets import head_sets

        return head_sets
    if kind == "controls":
        from matchlens.studies.controls import controls

        return controls
    from matchlens.studies.sweeps import sweep

    return sweep


def _table(result: Result) -> str:
    from matchlens.report.views import text_of

    return text_of(result)


def _files(result: Result) -> dict[str, str | bytes]:
    from matchlens.report.views import files_of

    return files_of(result)
