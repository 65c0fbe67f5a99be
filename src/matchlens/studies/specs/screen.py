"""The command ``screen`` (all heads in all directions at once): its options and arguments."""

from __future__ import annotations

from typing import Any

from matchlens.corpora import thin
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.options import MostPairs, StudySettings
from matchlens.settings import option, settings
from matchlens.studies.spec import Inputs, StudySpec, stages_of

OTHERS, CHECK_PAIRS = 30, 100
"""Gates drawn for the check, and pairs that they are cut on; see :mod:`..screening`."""


@settings
class ScreenSettings(StudySettings, MostPairs):
    """Options of ``screen``."""

    others: int = option(
        default=OTHERS,
        metavar="N",
        help="Heads in a direction, drawn over the layers, that are really cut to check the "
        "screen, beside the ten of the largest effect.",
    )


class Screen(StudySpec[ScreenSettings]):
    """The first-order effect of every head in every direction."""

    help = """Screen every head in every direction at once, and check the screen by exact cuts.

One forward and one backward pass give what cutting a head in a direction would do to a score, to
first order. Each number is an estimate of that cut alone: do not add them up. Some cuts are always
made exactly; where screen and cuts disagree, the measure is not predicted.

\b
Examples:
  matchlens screen --demo --out out/screen
  matchlens sweep heads --demo --direction 'Q->D' --screen 20 --out out/heads
"""
    settings = ScreenSettings
    function = "matchlens.studies.screening:screen"
    ranks = True

    def check(self, settings: ScreenSettings) -> None:
        """Check the number of gates."""
        if settings.others < 1:
            raise InputError(f"--others is {settings.others}; expected 1 or more")

    def cost(self, inputs: Inputs[ScreenSettings]) -> str:
        """The exact cuts dominate; the screen itself costs about three forward passes."""
        from matchlens.studies.cost import cost

        layers, heads = inputs.folder.shape
        cuts = [
            f"Q->D#{number % layers}.{number % heads}" for number in range(inputs.settings.others)
        ]
        few, _ = thin(inputs.pairs, CHECK_PAIRS, seed=inputs.settings.seed)
        most = self.most_pairs(inputs.settings)
        used = inputs.pairs if most is None else thin(inputs.pairs, most, seed=0)[0]
        conditions = {"": [], **{cut: [Cut.parse(cut)] for cut in dict.fromkeys(cuts)}}
        return "\n".join(
            [
                f"the screen: {len(used.pairs)} pairs, about {3 * layers} layer passes a pair",
                "the exact cuts that check it:",
                cost(conditions, inputs.folder, few),
            ]
        )

    def stages(self, inputs: Inputs[ScreenSettings]) -> list[tuple[str, float]]:
        """The screen, and the cuts that check it."""
        return stages_of("screen", inputs, 2)

    def arguments(self, inputs: Inputs[ScreenSettings]) -> dict[str, Any]:
        """The gates that are cut, the measure and the pairs."""
        settings = inputs.settings
        return {
            "others": settings.others,
            "measure": settings.only_measure,
            "rel": inputs.rel,
            "most_pairs": self.most_pairs(settings),
            "seed": settings.seed,
        }
