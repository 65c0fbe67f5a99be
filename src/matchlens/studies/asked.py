"""What each study of the whole asks for: its conditions, and of how many pairs at most."""

from __future__ import annotations

from matchlens.directions import Cut
from matchlens.plan import Condition
from matchlens.studies.control_points import conditions_of as control_conditions
from matchlens.studies.cut_modes import expand_modes
from matchlens.studies.evidence import evidence_cuts
from matchlens.studies.measuring import conditions_of
from matchlens.studies.presets import Preset
from matchlens.studies.sizes import Size
from matchlens.studies.sweep_points import WHOLE_HEAD, sweep_points


def sweeps(size: Size, preset: Preset) -> list[tuple[str, tuple[str, ...]]]:
    """The sweeps over layers, each a kind with its directions.

    Args:
        size: how much is run.
        preset: the study's preset.
    """
    late = [("from", size.late)] if size.late else []
    return [("up-to", size.figure_1a(preset.name)), *late]


def asked(
    name: str, size: Size, preset: Preset, layers: int, heads: int
) -> tuple[dict[str, Condition], int | None]:
    """The conditions of a study that cuts, and its most pairs (None: all that are ranked).

    Args:
        name: one of :data:`~matchlens.studies.sizes.CUTTING`.
        size: how much is run.
        preset: the study's preset.
        layers: layers of the model.
        heads: heads a layer.

    >>> from matchlens.studies.presets import preset
    >>> from matchlens.studies.sizes import size
    >>> conditions, most = asked("sweep", size("quick"), preset("default"), 2, 2)
    >>> len(conditions), most
    (10, None)
    """
    how = preset.how
    if name == "ablation":
        made, _ = expand_modes(preset.cuts, None if how == "zero" else [how])
        return dict(conditions_of([way.cut for way in made])), None
    if name == "evidence":
        return dict(conditions_of(evidence_cuts(layers))), None
    if name == "controls":
        conditions, _, _ = control_conditions(preset.directions, [how], size.draws)
        return conditions, size.pairs
    kinds = sweeps(size, preset) if name == "sweep" else [("heads", (WHOLE_HEAD,))]
    points = [
        point
        for kind, directions in kinds
        for point in sweep_points(kind, directions, layers=layers, heads=heads, hows=(how,))[0]
    ]
    conditions = {"": [], **{point.cut: [Cut.parse(point.cut)] for point in points}}
    return conditions, size.swept if name == "sweep" else size.pairs
