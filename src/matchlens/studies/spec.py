"""What the command line, ``rerun`` and the estimate of costs know of a study.

A new study is a subclass of :class:`StudySpec` and a line in :mod:`matchlens.studies.registry`. A
spec names its study's function, which is imported when the study runs: torch takes seconds, and a
wrong option should be refused before that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from matchlens.corpora import PairSet, thin
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.models.folder import ModelFolder
from matchlens.options import MostPairs, StudySettings
from matchlens.plan import Condition
from matchlens.sets import Sets

if TYPE_CHECKING:
    from matchlens.results import Result

S = TypeVar("S", bound=StudySettings)


@dataclass(frozen=True)
class Inputs(Generic[S]):
    """What a study is run on; the model is not loaded yet."""

    settings: S  # the options, with the study's own defaults filled in
    folder: ModelFolder  # the model's folder
    pairs: PairSet  # the chosen pairs
    rel: int  # lowest relevant grade

    @property
    def rank_easy(self) -> bool:
        """Whether easy negatives stand in the rankings."""
        return bool(self.settings.easy)

    @property
    def ranking(self) -> dict[str, Any]:
        """The arguments of studies that take several measures."""
        return {"measure": self.settings.measures, "rank_easy": self.rank_easy}

    @property
    def common(self) -> dict[str, Any]:
        """The arguments that the functions of all studies take."""
        settings = self.settings
        return {
            "preset": settings.preset,
            "rel": self.rel,
            "seed": settings.seed,
            "batch_tokens": settings.batch_tokens,
        }


class StudySpec(Generic[S]):
    """A study as the command line, ``rerun`` and the estimate of costs know it."""

    help: ClassVar[str]  # what `--help` prints
    settings: ClassVar[type[StudySettings]]  # the class of its options
    # `module:name` of the study's function, which takes a model, pairs, `runner=` and `progress=`,
    # and returns a result
    function: ClassVar[str]
    # whether it takes easy negatives where the options do not say how many
    easy: ClassVar[bool] = False
    # whether it measures rankings, so that some query must be able to move the measure
    ranks: ClassVar[bool] = False
    # how many measures it takes; None for any number
    measures: ClassVar[int | None] = None
    # pairs that are cut at most where `--pairs` does not say; None for all
    most: ClassVar[int | None] = None

    def check(self, settings: S) -> None:
        """Check the options alone, before any file is read; InputError where one is unusable."""

    def ready(self, inputs: Inputs[S]) -> None:
        """Check the options against the model's shape and the pairs, likewise."""

    def most_pairs(self, settings: S) -> int | None:
        """The largest number of pairs that are cut; None for all."""
        return settings.most(self.most) if isinstance(settings, MostPairs) else None

    def conditions(self, inputs: Inputs[S]) -> Mapping[str, Condition]:
        """The conditions by name, the untouched model ("") among them."""
        return {"": []}

    def used(self, inputs: Inputs[S]) -> PairSet:
        """The pairs that are cut."""
        if (most := self.most_pairs(inputs.settings)) is None:
            return inputs.pairs
        return thin(inputs.pairs, most, seed=inputs.settings.seed, easy=inputs.rank_easy)[0]

    def stored(self, inputs: Inputs[S]) -> bool:
        """Whether the folder has the scores under the cuts, so that none is made."""
        return False

    def cost(self, inputs: Inputs[S]) -> str:
        """An estimate of the costs, in words."""
        from matchlens.studies.cost import cost

        return cost(self.conditions(inputs), inputs.folder, self.used(inputs))

    def stages(self, inputs: Inputs[S]) -> list[tuple[str, float]]:
        """The passes over the pairs, each with its share of the work; empty where there is one."""
        return []

    def arguments(self, inputs: Inputs[S]) -> dict[str, Any]:
        """The keywords of the study's function, beside ``runner`` and ``progress``."""
        most = self.most_pairs(inputs.settings)
        own = {"most_pairs": most} if isinstance(inputs.settings, MostPairs) else {}
        return {**inputs.common, **own}

    def study(self, settings: S) -> Callable[..., Result]:
        """The study's function; torch is imported here."""
        return imported(self.function)


def imported(place: str) -> Callable[..., Result]:
    """A function by its place, ``module:name``."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def check_cuts(texts: Sequence[str], folder: ModelFolder, sets: Sets | None = None) -> None:
    """Check cuts and sets of cuts against a model's shape, before it is loaded."""
    layers, heads = folder.shape
    for name, cuts in (sets or {}).items():
        for cut in cuts:
            cut.check(layers, heads, f"model {folder.name!r} (set {name!r})")
    for place, text in enumerate(texts):
        Cut.parse(text).check(layers, heads, f"model {folder.name!r}", decoder=folder.decodes)
        if not text.isprintable():  # results are keyed by the text, in TSV files and tables too
            raise InputError(
                f"cut {text!r} holds a tab, a line break or an odd space; write plain spaces or "
                "none"
            )
        if text in texts[:place]:
            raise InputError(f"cut {text!r} is given twice; give each cut once")


def stages_of(study: str, inputs: Inputs[Any], number: int) -> list[tuple[str, float]]:
    """The first passes of a study, as the whole study's estimate has them."""
    from matchlens.studies.cost import WholeWork
    from matchlens.studies.sizes import size

    preset = inputs.settings.preset
    work = WholeWork([study], size("default"), preset, inputs.folder, inputs.pairs)
    return [(study, operations) for _, operations in work.progress_parts()][:number]


def check_base(folder: ModelFolder, name: str | None) -> ModelFolder | None:
    """The folder of the model before fine-tuning, checked against the model's shape."""
    if name is None:
        return None
    from matchlens.models.folder import find
    from matchlens.studies.circuits.circuits import check_base as check

    base = find(name, scores=False)
    check(folder, base)
    return base
