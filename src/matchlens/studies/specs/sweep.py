"""The command ``sweep`` (Figure 1a, heads, controls): options, conditions, arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.options import Hows, MostPairs, RandomSets, StudySettings
from matchlens.plan import Condition
from matchlens.settings import argument, one_of, option, settings
from matchlens.studies.presets import COSTLY_PAIRS, Preset
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.spec import Inputs, StudySpec, imported

if TYPE_CHECKING:
    from matchlens.results import Result

OF_ONE_KIND = {
    "head-sets": "matchlens.studies.cuts.head_sets:head_sets",
    "controls": "matchlens.studies.cuts.controls:controls",
}
"""Kinds that have a function of their own."""
SWEEPS = ("up-to", "from", "only", "window", "heads", "head-sets", "controls")


@settings
class SweepSettings(StudySettings, Hows, MostPairs, RandomSets):
    """Options of ``sweep``."""

    kind: str = argument("KIND", help=", ".join(SWEEPS), check=one_of(*SWEEPS))
    direction: list[str] | None = option(
        default=None,
        metavar="DIR",
        help="A direction, in quotes: 'Q->D'. Repeatable [those of Figure 1a, or of the preset; "
        "for heads and head-sets the whole head].",
    )
    screen: int | None = option(
        default=None,
        metavar="N",
        help="For heads: cut only the N heads of each direction that have the largest first-order "
        "effect on the scores (see matchlens screen).",
    )
    window: int = option(default=3, help="Layers of a window.")
    sets: list[str] | None = option(
        "--set", default=None, metavar="NAME=HEADS", help="Heads: 'top=8.1,4.9'. Repeatable."
    )
    draws: int = option(default=3, metavar="N", help="Random draws of each control.")


class Sweep(StudySpec[SweepSettings]):
    """Figure 1a, single heads, sets of heads and controls."""

    help = """Cut directions layer by layer or head by head and measure the ranking (Figure 1a).

\b
KIND says where a direction is cut:
  up-to      layers 0 to n-1, for n = 0 to all (Figure 1a)
  from       layers n to the top
  only       one layer
  window     --window layers from n on
  heads      each head alone
  head-sets  each --set of heads, beside --random sets with as many heads in each layer and
             as much attention
  controls   in all layers, beside the same loss of the same rows elsewhere, and random edges

What conditions share is computed once; --dry-run prints what a sweep costs. heads, head-sets and
controls run on at most 450 pairs unless --pairs says otherwise.

\b
Examples:
  matchlens sweep up-to --demo --direction 'Q->D' --direction 'D->D' --out out/demo
  matchlens sweep heads --demo --how zero --how mean --out out/demo
  matchlens sweep heads --demo --direction 'Q->D' --screen 20 --out out/demo
  matchlens sweep head-sets --demo --set 'top=8.1,4.9' --direction 'Q->D' --out out/demo
  matchlens sweep controls --demo --direction 'D->D' --out out/demo
"""
    settings = SweepSettings
    function = "matchlens.studies.cuts.sweeps:sweep"
    ranks = True

    def check(self, settings: SweepSettings) -> None:
        """Check the options on a shape that allows every layer and head."""
        from matchlens.models.files import MOST_LAYERS

        if settings.screen is not None and (settings.kind != "heads" or settings.screen < 1):
            raise InputError(
                f"--screen is {settings.screen} for KIND {settings.kind!r}; expected 1 or more "
                "heads for each direction, with the sweep heads"
            )
        if bool(settings.sets) != (settings.kind == "head-sets"):
            raise InputError(
                "--set NAME=HEADS and the sweep head-sets go together; give both or neither"
            )
        if settings.kind == "head-sets":
            from matchlens.studies.cuts.cut_modes import expand_modes, plain_directions
            from matchlens.studies.cuts.head_sets import checked_sets

            checked_sets(_sets(settings), 10**6, 10**6, settings.random)
            expand_modes(
                plain_directions(self._directions(settings, preset_of("default"))),
                settings.how or ["zero"],
            )
        else:
            layers = max(1, min(settings.window, MOST_LAYERS))
            self._conditions(settings, preset_of("default"), layers, heads=1)

    def ready(self, inputs: Inputs[SweepSettings]) -> None:
        """Check the options against the model's shape."""
        self.conditions(inputs)

    def most_pairs(self, settings: SweepSettings) -> int | None:
        """The costly kinds take fewer pairs."""
        costly = settings.kind in ("heads", "head-sets", "controls")
        return settings.most(COSTLY_PAIRS if costly else None)

    def conditions(self, inputs: Inputs[SweepSettings]) -> Mapping[str, Condition]:
        """The conditions of the chosen kind."""
        settings = inputs.settings
        preset = preset_of(settings.preset, inputs.folder.decodes)
        return self._conditions(settings, preset, *inputs.folder.shape)

    def _directions(self, settings: SweepSettings, preset: Preset) -> Sequence[str]:
        from matchlens.studies.cuts.sweeps import WHOLE_HEAD

        whole = settings.kind in ("heads", "head-sets")
        return settings.direction or ((WHOLE_HEAD,) if whole else preset.directions)

    def _conditions(
        self, settings: SweepSettings, preset: Preset, layers: int, heads: int
    ) -> Mapping[str, Condition]:
        directions = self._directions(settings, preset)
        hows = settings.how or [preset.how]
        if settings.kind == "controls":
            from matchlens.studies.cuts.controls import control_conditions

            return control_conditions(directions, hows, settings.draws)[0]
        if settings.kind == "head-sets":
            from matchlens.studies.cuts.head_sets import set_conditions

            hows, random = settings.how or ["zero"], settings.random
            named = _sets(settings)
            return set_conditions(named, directions, hows, random, settings.seed, layers, heads)[0]
        from matchlens.studies.cuts.sweeps import sweep_points

        points, _ = sweep_points(
            settings.kind, directions, layers=layers, heads=heads, window=settings.window, hows=hows
        )
        return {"": [], **{point.cut: [Cut.parse(point.cut)] for point in points}}

    def study(self, settings: SweepSettings) -> Callable[..., Result]:
        """The function of the chosen kind."""
        return imported(OF_ONE_KIND.get(settings.kind, self.function))

    def arguments(self, inputs: Inputs[SweepSettings]) -> dict[str, Any]:
        """The options of the chosen kind."""
        settings = inputs.settings
        shared = {
            "hows": settings.how,
            "measure": settings.measures,
            "rank_easy": inputs.rank_easy,
            "most_pairs": self.most_pairs(settings),
            **inputs.common,
        }
        if settings.kind == "controls":
            return {**shared, "cuts": settings.direction, "draws": settings.draws}
        shared["directions"] = settings.direction
        if settings.kind == "head-sets":
            shared["hows"] = settings.how or ["zero"]
            return {**shared, "sets": _sets(settings), "random": settings.random}
        layers = {"kind": settings.kind, "window": settings.window, "screened": settings.screen}
        return {**shared, **layers}


def _sets(settings: SweepSettings) -> dict[str, str]:
    """The sets of heads by name."""
    sets: dict[str, str] = {}
    for text in settings.sets or []:
        name, equals, heads = (part.strip() for part in text.partition("="))
        if not (name and equals and heads) or not name.isprintable():
            raise InputError(f"--set {text!r}: expected NAME=HEADS, for example 'top=8.1,4.9'")
        if name in sets:
            raise InputError(f"--set {name!r} is given twice; give each set a name of its own")
        sets[name] = heads
    return sets
