"""The command ``look`` (pairs, token by token): its options, its costs, its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matchlens.directions import Cut
from matchlens.options import Cuts, MostPairs, StudySettings
from matchlens.settings import option, settings
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.spec import Inputs, StudySpec, check_cuts

if TYPE_CHECKING:
    import pandas as pd


@settings
class LookSettings(StudySettings, Cuts, MostPairs):
    """Options of ``look``."""

    looks: int = option(default=12, metavar="N", help="How many pairs are chosen.")
    pair: list[str] | None = option(
        default=None,
        metavar="'QID DOCID'",
        help="This pair instead, with the collection's name before it where there are several. "
        "Repeatable.",
    )


class Look(StudySpec[LookSettings]):
    """A few pairs, token by token."""

    help = """Look into a few pairs: what each token receives from every head, and what cuts do.

Of a few queries it takes a relevant passage that ranks high, one that ranks low, a hard negative
that ranks high and a random passage, or the pairs that --pair names. Where --out has studies of the
same model and pairs, their scores under cuts and their matching heads are used; else Table 1's cuts
are run on these queries' candidates.

\b
Examples:
  matchlens look --demo --out out/demo
  matchlens look --demo --pair 'd01 d01-01' --cut 'Q->D' --cut 'D->Q' --out out/demo
  matchlens look -m my/model --dataset msmarco-passage/trec-dl-2019/judged --looks 4 --out out/dl19
"""
    settings = LookSettings
    function = "matchlens.studies.looking:look"
    easy = True
    most = COSTLY_PAIRS

    def check(self, settings: LookSettings) -> None:
        """Check the number of pairs and their names."""
        from matchlens.studies.looking import checked_looks

        checked_looks(settings.looks)
        self._chosen(settings)

    def ready(self, inputs: Inputs[LookSettings]) -> None:
        """Check the cuts against the model, and that the named pairs are there."""
        check_cuts(inputs.settings.cut or (), inputs.folder, inputs.settings.sets)
        self._rows(inputs)

    def _chosen(self, settings: LookSettings) -> list[Any]:
        from matchlens.studies.looking import ids_of

        return [ids_of(text) for text in settings.pair or ()]

    def _rows(self, inputs: Inputs[LookSettings]) -> list[int]:
        from matchlens.studies.looking import named

        chosen = self._chosen(inputs.settings)
        return named(inputs.pairs.pairs, chosen) if chosen else []

    def cost(self, inputs: Inputs[LookSettings]) -> str:
        """The cuts on the queries' candidates."""
        from matchlens.studies.cost import looks_cost
        from matchlens.studies.looking import candidates_to_run

        settings, named = inputs.settings, self._rows(inputs)
        rows = candidates_to_run(
            inputs.pairs,
            named,
            len(named) or settings.looks,
            inputs.rel,
            settings.seed,
            self.most_pairs(settings),
        )
        sets = settings.sets
        chosen = preset_of(settings.preset, inputs.folder.decodes)
        names = settings.cut or ([] if sets else chosen.cuts)
        conditions = {"": [], **{name: [Cut.parse(name)] for name in names}, **sets}
        return looks_cost(inputs.folder, inputs.pairs, rows, conditions)

    def stages(self, inputs: Inputs[LookSettings]) -> list[tuple[str, float]]:
        """The cuts, where no scores are stored, and the untouched pass."""
        scored, _ = _stored(inputs.settings.out)
        return [("look", 20.0)] * (scored is None) + [("look", 1.0)]

    def arguments(self, inputs: Inputs[LookSettings]) -> dict[str, Any]:
        """The pairs, the cuts, and what the results folder has already."""
        settings = inputs.settings
        scored, matching = _stored(settings.out)
        return {
            "looks": settings.looks,
            "chosen": self._chosen(settings) or None,
            "scored": scored,
            "matching": matching,
            "cuts": settings.cut,
            "sets": settings.sets,
            "most_pairs": self.most_pairs(settings),
            **inputs.common,
        }


def _stored(out: Path | None) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The scores of a results folder under Table 1's and Figure 1a's cuts, and its matching heads.

    Its identity has been compared. Scores that an earlier ``look`` left are not used: they are of
    few queries, and the same command would then choose among these.
    """
    from matchlens.reading import MANIFEST, read_back, read_manifest

    if out is None or not (out / MANIFEST).exists():
        return None, None
    import pandas as pd

    from matchlens.results import Result

    with read_back(out):
        studies = read_manifest(out)["studies"]
        cuts: set[str] = set()
        scored = matching = None
        for study, main in (("ablation", "table1"), ("sweep-up-to", "points")):
            if study in studies:
                result = Result.load(out, study)
                cuts |= {"", *result.to_frame(main)["cut"]}
                scored = pd.DataFrame(result.scores[result.scores["cut"].isin(list(cuts))])
        if "attention" in studies:
            matching = Result.load(out, "attention").tables.get("matching")
    return scored, matching
