"""Presets: the named sets of choices under which a study can be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from matchlens.directions import Direction
from matchlens.errors import InputError
from matchlens.meters.names import NAMES
from matchlens.parts import DECODER, NAMED, Part

FIGURE_1A = ("Q->D", "D->Q", "D->D", "Q->Q", "CLS->Q", "CLS->D", "CLS->All", "Q->All", "D->All")
"""The directions of the paper's Figure 1a."""


def table1() -> tuple[str, ...]:
    """The 30 cuts of the paper's Table 1: 25 directions and five ``X->All``, in reading order.

    >>> table1()[:7]
    ('CLS->CLS', 'CLS->Q', 'CLS->SEP1', 'CLS->D', 'CLS->SEP2', 'CLS->All', 'Q->CLS')
    """
    return tuple(
        str(Direction((x,), None if y is None else (y,))) for x in NAMED for y in (*NAMED, None)
    )


COSTLY_PAIRS = 450
"""Most pairs of a costly study by default.

Whole queries of TREC DL at ten passages a grade: at least ten, without which nothing is decided.
"""
LARGEST, OTHERS, CHECK_PAIRS = 10, 30, 100
"""The check of a screen: gates of the largest effect, others that are drawn over the layers, and
the pairs, of whole queries, on which they are really cut."""

GROUPS = (
    "CLS->All",
    "CLS->{Q,D}",
    "CLS->{Q,SEP1,D}",
    "CLS->{Q,SEP1,D,SEP2}",
    "D->D",
    "{Q,D}->{Q,D}",
    "{Q,SEP1,D,SEP2}->{Q,SEP1,D,SEP2}",
)
"""The groups of the authors' code, whose ablations cut them up to each layer."""

SEGMENTS = (
    "{CLS,Q,SEP1}->{D,SEP2}",
    "{Q,SEP1}->{D,SEP2}",
    "{D,SEP2}->{CLS,Q,SEP1}",
    "{D,SEP2}->{Q,SEP1}",
)
"""Whole segments instead of parts, after Zhan et al. 2020, who test whether the query's side reads
the document's and vice versa: special tokens go with their segment, with CLS as part of the query's
and without it. The paper does not define the edges of its masks; this is our reading."""


@dataclass(frozen=True)
class Preset:
    """Choices that belong together; every one can be overridden by its own argument."""

    name: str  # the preset's name, recorded with the result
    per_grade: int = 10  # most candidates a grade and query, where `depth` is None
    depth: int | None = None  # the candidates are the first so many passages of the run
    max_length: int | None = None  # most tokens of a pair; the model's own limit where None
    cuts: tuple[str, ...] = table1()  # the cuts of an ablation
    directions: tuple[str, ...] = FIGURE_1A  # the directions of a sweep over layers
    how: str = "zero"  # the mode of the cuts
    # which test puts the star: `holm` (paired t-test, Holm-corrected over the table's cells) or
    # `unpaired` (Student's t-test, uncorrected)
    stars: str = "holm"
    digits: int = 3  # decimals printed
    meters: tuple[str, ...] = NAMES  # what is measured of attention
    aggregate: str = "mean"  # how contrasts of attention are taken over queries
    # of attention's pairs only those that are classified rightly, at most so many a class and
    # query; all where None
    per_class: int | None = None
    easy: int = 10  # easy negatives a query, for attention
    whose: str = ""  # whose choices they are, in words; empty for the default ones


PRESETS: Mapping[str, Preset] = {
    "default": Preset("default"),
    "paper": Preset(
        "paper",
        max_length=512,
        stars="unpaired",
        digits=2,
        meters=("mass",),
        whose="the paper's (Vast et al. 2025)",
    ),
    "authors": Preset(
        "authors",
        depth=100,
        max_length=128,
        cuts=GROUPS,
        directions=GROUPS,
        stars="unpaired",
        meters=("peak",),
        aggregate="median",
        per_class=20,
        easy=20,
        whose="those of its authors' research code",
    ),
    "zhan2020": Preset(
        "zhan2020", cuts=SEGMENTS, directions=SEGMENTS, how="mask", whose="after Zhan et al. 2020"
    ),
}


def preset(name: str, decoder: bool = False) -> Preset:
    """The preset of that name.

    Args:
        name: a key of :data:`PRESETS`.
        decoder: whether its cuts are for an encoder-decoder, in which ``DEC`` is in CLS's place.

    >>> preset("paper").stars, preset("paper", decoder=True).cuts[0]
    ('unpaired', 'DEC->DEC')
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is not known; expected one of {', '.join(PRESETS)}")
    chosen = PRESETS[name]
    if not decoder:
        return chosen
    cuts, directions = (
        tuple(text.replace(str(Part.CLS), DECODER) for text in texts)
        for texts in (chosen.cuts, chosen.directions)
    )
    return replace(chosen, cuts=cuts, directions=directions)
