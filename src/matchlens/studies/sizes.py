"""How much of the whole study is run: quick, default, full; here, so that torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matchlens.errors import InputError
from matchlens.studies.presets import COSTLY_PAIRS, preset

STUDIES: Mapping[str, str] = {
    "ablation": "Table 1: each direction cut in all layers",
    "evidence": "the cuts that the claims rest on",
    "sweep": "Figure 1a: cut up to each layer, and CLS from each layer on",
    "heads": "every head alone",
    "controls": "directions beside their controls",
    "screen": "every head in every direction, screened at once",
    "attention": "Figures 1b and 1c: where attention goes, the matching heads",
    "circuits": "Figure 2: query-key matrices",
    "looking": "a few pairs to look into, token by token",
}
"""The studies of the whole, by the names that ``--studies`` takes."""

CUTTING = ("ablation", "evidence", "sweep", "heads", "controls")
"""The studies that cut and rank, whose conditions are known before anything runs."""
GATHERING = "CLS->{Q,D}"
"""The cut whose effect from and up to each layer shows when CLS gathers relevance."""
FROM = ("CLS->Q", "CLS->D", GATHERING)
"""What is cut from each layer on."""

SAMPLES = 3
"""Draws of the sample on which the claims that rest on few cuts are decided."""
SCREENED = "all heads screened"
"""What the screen is called in the progress and the costs."""
CHECKED = "cuts that check the screen"
"""What its exact cuts are called in the costs; in the progress they are a part of the screen."""
REDRAWN = "cuts for the claims, other draws"
"""What the cuts on the other draws are called."""


@dataclass(frozen=True)
class Size:
    """How much is run."""

    name: str  # quick, default or full
    studies: tuple[str, ...]  # names of `STUDIES`
    # the directions of Figure 1a; the preset's, and `GATHERING`, where None
    directions: tuple[str, ...] | None
    late: tuple[str, ...]  # what is cut from each layer on
    swept: int | None  # pairs of Figure 1a; all where None
    # pairs of the costly parts (heads, controls, the screen, terms of the logits); all where None
    pairs: int | None
    causal: bool  # whether matching heads are cut, beside random sets
    # pairs of that, from one half of the queries; all of the half where None
    causal_pairs: int | None
    draws: int  # random draws of each control
    looks: int  # pairs to look into
    queries: int | None = None  # queries that are drawn by default; all where None

    def fewest(self, names: Sequence[str]) -> int | None:
        """The pairs of that one of some studies that cuts the fewest; all where None."""
        costly = {"heads", "controls", "screen"} & set(names)
        limits = [self.swept] * ("sweep" in names) + [self.pairs] * len(costly)
        return min((limit for limit in limits if limit is not None), default=None)

    def figure_1a(self, preset_name: str) -> tuple[str, ...]:
        """The directions that are cut up to each layer."""
        if self.directions is not None:
            return self.directions
        return tuple(dict.fromkeys((*preset(preset_name).directions, GATHERING)))


SIZES: Mapping[str, Size] = {
    "quick": Size(
        "quick",
        ("ablation", "evidence", "sweep", "attention", "circuits", "looking"),
        ("Q->D", "D->D", "CLS->All"),
        late=(),
        swept=None,
        pairs=COSTLY_PAIRS,
        causal=False,
        causal_pairs=None,
        draws=1,
        looks=6,
        queries=16,
    ),
    "default": Size(
        "default",
        tuple(STUDIES),
        None,
        late=FROM,
        swept=700,
        pairs=COSTLY_PAIRS,
        causal=True,
        causal_pairs=COSTLY_PAIRS,
        draws=2,
        looks=12,
    ),
    "full": Size(
        "full",
        tuple(STUDIES),
        None,
        late=FROM,
        swept=None,
        pairs=None,
        causal=True,
        causal_pairs=None,
        draws=3,
        looks=24,
    ),
}


def size(name: str) -> Size:
    """The size of that name.

    >>> size("quick").queries
    16
    """
    if name not in SIZES:
        raise InputError(f"size {name!r} is not known; expected one of {', '.join(SIZES)}")
    return SIZES[name]


def chosen_studies(names: Sequence[str] | None, of: Size) -> tuple[str, ...]:
    """The studies that are run, in the order of :data:`STUDIES`.

    >>> chosen_studies(["sweep", "ablation"], size("quick"))
    ('ablation', 'sweep')
    """
    wanted = of.studies if names is None else tuple(names)
    for name in wanted:
        if name not in STUDIES:
            raise InputError(f"study {name!r} is not known; expected some of {', '.join(STUDIES)}")
    if not wanted:
        raise InputError(f"no study to run; expected some of {', '.join(STUDIES)}")
    return tuple(name for name in STUDIES if name in wanted)
