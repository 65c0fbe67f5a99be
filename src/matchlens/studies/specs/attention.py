"""The command ``attention`` (Figures 1b and 1c): its options, its costs, its arguments."""

from __future__ import annotations

from typing import Any

from matchlens.options import MostPairs, RandomSets, StudySettings
from matchlens.settings import one_of, option, settings
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.spec import Inputs, StudySpec, stages_of


@settings
class AttentionSettings(StudySettings, MostPairs, RandomSets):
    """Options of ``attention``."""

    meter: list[str] | None = option(
        default=None, metavar="METER", help="A meter. Repeatable [those of the preset: all]."
    )
    contrast: list[str] | None = option(
        default=None,
        metavar="CONTRAST",
        help="relevant-easy, relevant-hard or hard-easy. Repeatable [all].",
    )
    direction: list[str] | None = option(
        default=None,
        metavar="DIR",
        help="A direction, in quotes, in which matching heads are looked for. Repeatable ['Q->D', "
        "'D->Q'].",
    )
    aggregate: str | None = option(
        default=None, help="mean or median over queries [mean].", check=one_of("mean", "median")
    )
    q: float = option(default=0.05, help="Matching heads: largest corrected p.")
    auc: float = option(default=0.75, help="Matching heads: smallest mean AUC over queries.")
    length: float = option(
        default=0.1, help="Matching heads: compared passages differ in length by at most this."
    )
    lexical: float = option(
        default=2.0, help="Lexical heads: smallest multiple of the expected same-stem mass."
    )
    query_words: float = option(
        default=2.0, help="Query-word readers: smallest multiple of the words' share of columns."
    )
    semantic: float = option(
        default=1.5, help="Semantic heads: smallest multiple of near words' share of columns."
    )
    cutting: bool = option("--cut/--no-cut", default=True, help="Cut the matching heads.")


class Attention(StudySpec[AttentionSettings]):
    """Figures 1b and 1c."""

    help = """Measure attention between the input's parts and find the matching heads (Figures 1b, \
1c).

Relevant passages are compared with hard negatives (judged 0) and easy ones (random passages). The
matching heads are found on one half of the queries, described on the other, and cut there, beside
random sets of heads of the same layers.

\b
Meters:
  mass        share of a row's attention that goes to the columns (always measured)
  norm_mass   the same, weighted by what is written: a_ij |W_O v_j|
  same_token  share of the mass on the row's own token
  same_stem   share of the mass on words of the row's own stem, and what tells kinds of heads
  peak        the largest single attention
  entropy     of the attention inside the columns, in nats

\b
Examples:
  matchlens attention --demo --out out/demo
  matchlens attention -m my/model --dataset msmarco-passage/trec-dl-2019/judged --out out/dl19
  matchlens attention --demo --meter mass --meter same_stem --no-cut --out out/demo
"""
    settings = AttentionSettings
    function = "matchlens.studies.attention.attention:attention"
    easy = True
    most = COSTLY_PAIRS  # cutting the matching heads is costly

    def check(self, settings: AttentionSettings) -> None:
        """Check meters, directions and thresholds."""
        from matchlens.studies.attention.contrasts import checked_directions, checked_names
        from matchlens.studies.cuts.head_sets import checked_random

        if settings.meter is not None:
            checked_names(settings.meter)
        checked_directions(settings.direction)
        self._thresholds(settings)
        if settings.cutting:
            checked_random(settings.random)

    def ready(self, inputs: Inputs[AttentionSettings]) -> None:
        """Check that the contrasts have passages."""
        from matchlens.studies.attention.contrasts import Classes

        Classes.of(inputs.pairs.pairs, inputs.rel).check(self._contrasts(inputs.settings))

    def _thresholds(self, settings: AttentionSettings) -> Any:
        from matchlens.studies.attention.contrasts import Thresholds

        names = ("q", "auc", "length", "lexical", "query_words", "semantic")
        return Thresholds(**{name: getattr(settings, name) for name in names})

    def _contrasts(self, settings: AttentionSettings) -> list[str]:
        from matchlens.studies.attention.contrasts import CONTRASTS

        return settings.contrast or list(CONTRASTS)

    def cost(self, inputs: Inputs[AttentionSettings]) -> str:
        """The untouched pass, and what the meters add."""
        from matchlens.studies.attention.contrasts import checked_names
        from matchlens.studies.cost import meters_cost

        meters = inputs.settings.meter or preset_of(inputs.settings.preset).meters
        return meters_cost(checked_names(["mass", *meters]), inputs.folder, inputs.pairs)

    def stages(self, inputs: Inputs[AttentionSettings]) -> list[tuple[str, float]]:
        """The untouched pass, and the cuts of the matching heads."""
        return stages_of("attention", inputs, 2 if inputs.settings.cutting else 1)

    def arguments(self, inputs: Inputs[AttentionSettings]) -> dict[str, Any]:
        """Meters, contrasts, and how matching heads are found and cut."""
        settings = inputs.settings
        return {
            **({"directions": settings.direction} if settings.direction else {}),
            "meters": settings.meter,
            "contrasts": self._contrasts(settings),
            "aggregate": settings.aggregate,
            "thresholds": self._thresholds(settings),
            "causal": settings.cutting,
            "random": settings.random,
            "measure": settings.only_measure,
            "most_pairs": self.most_pairs(settings),
            **inputs.common,
        }
