"""The names and shapes of the attention meters; here, so that options are checked without torch."""

from __future__ import annotations

from matchlens.parts import NAMED, Part

NAMES = ("mass", "norm_mass", "same_token", "same_stem", "peak", "entropy")
COLUMNS = ("mass", "norm_mass")
"""Meters that are value columns of the attention call; the others look at the weights."""
COMPANIONS = ("kinds", "surface")
"""What is measured beside ``same_stem``, and tells the kinds of heads; not between all parts."""
KINDS = ("stem", "stem_expected", "query_words", "query_words_expected", "near", "near_expected")
"""The masses of ``kinds``, in order: observed, and expected of a head that does not care."""
SURFACE = ("overlap", "similarity")
"""The numbers of ``surface``, in order: what the two texts alone say."""
PARTS = NAMED
"""The row and column parts of a meter's array, in order."""
ACROSS = ((Part.Q, Part.D), (Part.D, Part.Q))
"""The directions of ``kinds``, in order."""
READERS = (Part.CLS, Part.Q, Part.D)
"""The parts that read in the meter of received attention, in the order of its array."""


def shape_of(name: str, layers: int, heads: int, parts: int = len(PARTS)) -> tuple[int, ...]:
    """The shape of one pair's numbers, of so many parts.

    >>> shape_of("mass", 12, 12), shape_of("kinds", 12, 12)
    ((12, 12, 5, 5), (12, 12, 2, 6))
    """
    if name == "surface":
        return (len(SURFACE),)
    ends = (len(ACROSS), len(KINDS)) if name == "kinds" else (parts, parts)
    return (layers, heads, *ends)
