"""Test collections, and the pairs of query and passage that are chosen from them."""

from . import demo, irds, trec
from .collection import Collection
from .pairs import EASY_GRADE, EASY_KIND, Pair, PairSet, choose, thin

__all__ = [
    "EASY_GRADE",
    "EASY_KIND",
    "Collection",
    "Pair",
    "PairSet",
    "choose",
    "demo",
    "irds",
    "thin",
    "trec",
]
