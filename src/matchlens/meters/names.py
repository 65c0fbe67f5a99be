"""The names of the attention meters; here, so that they can be checked without torch."""

NAMES = ("mass", "norm_mass", "same_token", "same_stem", "peak", "entropy")
COLUMNS = ("mass", "norm_mass")
"""Meters that are value columns of the attention call; the others look at the weights."""
COMPANIONS = ("kinds", "surface")
"""What is measured beside ``same_stem``, and tells the kinds of heads; not between all parts."""
KINDS = ("stem", "stem_expected", "query_words", "query_words_expected", "near", "near_expected")
"""The masses of ``kinds``, in order: observed, and expected of a head that does not care."""
SURFACE = ("overlap", "similarity")
"""The numbers of ``surface``, in order: what the two texts alone say."""
