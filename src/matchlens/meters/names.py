"""The names of the attention meters; here, so that they can be checked without torch."""

NAMES = ("mass", "norm_mass", "same_token", "peak", "entropy")
COLUMNS = ("mass", "norm_mass")
"""Meters that are value columns of the attention call; the others look at the weights."""
