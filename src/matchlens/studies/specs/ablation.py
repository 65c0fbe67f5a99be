"""The command ``ablation`` (Table 1): its options, its conditions, its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.options import Cuts, Hows, MostPairs, StudySettings
from matchlens.plan import Condition
from matchlens.settings import settings
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.spec import Inputs, StudySpec, check_cuts


@settings
class AblationSettings(StudySettings, Cuts, Hows, MostPairs):
    """Options of ``ablation``."""


class Ablation(StudySpec[AblationSettings]):
    """Table 1."""

    help = """Cut attention in every direction and measure the ranking (Table 1).

Each cut keeps some parts of the input from reading others, in all layers unless it says otherwise.
The table shows the measure under each cut, beside the original and a random ranking.

\b
Examples:
  matchlens ablation --demo --out out/demo
  matchlens ablation -m cross-encoder/ms-marco-MiniLM-L-12-v2 \\
      --dataset msmarco-passage/trec-dl-2019/judged --out out/dl19
  matchlens ablation -m my/model --topics t.tsv --qrels q.txt \\
      --passages p.jsonl.gz --cut 'Q->D' --cut 'D->D@0:6' \\
      --cut 'Q->D#8.1,4.9~mask' --out out/mine
"""
    settings = AblationSettings
    function = "matchlens.studies.cuts.cut_study:ablation"
    ranks = True

    def check(self, settings: AblationSettings) -> None:
        """Check cuts and their modes."""
        from matchlens.studies.cuts.cut_modes import expand_modes

        if settings.cut or settings.how:
            expand_modes(settings.cut or ["Q->D"], settings.how)
        if settings.cut and not any(settings.cut) and not settings.sets:
            raise InputError("no cut given but ''; expected at least one more, for example 'Q->D'")

    def ready(self, inputs: Inputs[AblationSettings]) -> None:
        """Check the cuts against the model."""
        check_cuts(inputs.settings.cut or (), inputs.folder, inputs.settings.sets)

    def conditions(self, inputs: Inputs[AblationSettings]) -> Mapping[str, Condition]:
        """A condition for each cut and mode, and for each set of cuts."""
        from matchlens.studies.cuts.cut_modes import expand_modes

        chosen = preset_of(inputs.settings.preset, inputs.folder.decodes)
        cuts, sets = inputs.settings.cut, inputs.settings.sets
        hows = inputs.settings.how or (None if cuts or sets else [chosen.how])
        modes, _ = expand_modes(cuts or ([] if sets else list(chosen.cuts)), hows)
        return {"": [], **{moded.cut: [Cut.parse(moded.cut)] for moded in modes}, **sets}

    def arguments(self, inputs: Inputs[AblationSettings]) -> dict[str, Any]:
        """Cuts and their modes, measures and pairs."""
        settings = inputs.settings
        return {
            "cuts": settings.cut,
            "sets": settings.sets,
            "hows": settings.how,
            "measure": settings.measures,
            "rank_easy": inputs.rank_easy,
            "most_pairs": self.most_pairs(settings),
            **inputs.common,
        }
